/* verify_internal.h - what the files of moe/verify share.
 *
 * The unit of this module is the *stored module*: everything in the files whose names differ only
 * in the last part ("weight", "weight_scale", "input_scale" …).  It is built from raw names, not
 * from tmb_model's units, because a damaged checkpoint is exactly one whose parts do not form a
 * unit; the model lends roles, fused groups and its architecture's quirks.
 *
 * Three questions are asked of each module and held against one another: what does the
 * configuration mean (`meant`), what is stored (`part`), what will each engine make of it. */
#ifndef TMB_VERIFY_INTERNAL_H
#define TMB_VERIFY_INTERNAL_H

#include "kernels/cpu/cpu.h"
#include "moe/io/match.h"
#include "moe/verify/nameset.h"
#include "moe/verify/verify.h"

#include <pthread.h>

/* Every check: its constant and its stable word. */
#define TMB_CHECKS(X)                                                                              \
    X(CONFIG_METHOD, "config-method")                                                              \
    X(CONFIG_KEY, "config-key")                                                                    \
    X(CONFIG_VALUE, "config-value")                                                                \
    X(CONFIG_ALGO, "config-algo")                                                                  \
    X(CONFIG_FILES, "config-files")                                                                \
    X(CONFIG_UNUSED, "config-unused")                                                              \
    X(ALIAS_CONFLICT, "alias-conflict")                                                            \
    X(ALIAS_MISSING, "alias-missing")                                                              \
    X(EXCLUDE_WIDE, "exclude-wide")                                                                \
    X(UNLISTED, "unlisted-linear")                                                                 \
    X(LOADER_VLLM, "loader-vllm")                                                                  \
    X(LOADER_SGLANG, "loader-sglang")                                                              \
    X(LOADER_TRT, "loader-trt")                                                                    \
    X(TARGET_AMBIGUOUS, "target-ambiguous")                                                        \
    X(MIXED_EXPERTS, "mixed-experts")                                                              \
    X(FUSED_FORMATS, "fused-formats")                                                              \
    X(STORED_PLAIN, "stored-plain")                                                                \
    X(STORED_CODES, "stored-codes")                                                                \
    X(ROUTER_QUANTIZED, "router-quantized")                                                        \
    X(HEAD_QUANTIZED, "head-quantized")                                                            \
    X(PART_MISSING, "part-missing")                                                                \
    X(INPUT_MISSING, "input-missing")                                                              \
    X(PART_UNEXPECTED, "part-unexpected")                                                          \
    X(PART_DTYPE, "part-dtype")                                                                    \
    X(PART_SHAPE, "part-shape")                                                                    \
    X(WEIGHT_SHAPE, "weight-shape")                                                                \
    X(TENSOR_UNKNOWN, "tensor-unknown")                                                            \
    X(SCALE_ZERO, "scale-zero")                                                                    \
    X(SCALE_NAN, "scale-nan")                                                                      \
    X(SCALE_NEGATIVE, "scale-negative")                                                            \
    X(SCALE_INVERTED, "scale-inverted")                                                            \
    X(SCALE_TINY, "scale-tiny")                                                                    \
    X(CODE_NAN, "code-nan")                                                                        \
    X(VALUE_NAN, "value-nan")                                                                      \
    X(GATE_UP_GLOBAL, "gate-up-global")                                                            \
    X(GATE_UP_INPUT, "gate-up-input")                                                              \
    X(FUSED_GLOBAL, "fused-global")                                                                \
    X(FUSED_SCALE, "fused-scale")                                                                  \
    X(FUSED_INPUT, "fused-input")                                                                  \
    X(EXPERT_MISSING, "expert-missing")                                                            \
    X(EXPERT_EXTRA, "expert-extra")                                                                \
    X(EXPERT_INCOMPLETE, "expert-incomplete")                                                      \
    X(EXPERT_NAMES, "expert-names")                                                                \
    X(FUSED_NAMES, "fused-names")                                                                  \
    X(LAYER_MISSING, "layer-missing")                                                              \
    X(ROUTER_MISSING, "router-missing")                                                            \
    X(KV_MISSING, "kv-missing")                                                                    \
    X(KV_HALF, "kv-half")                                                                          \
    X(KV_VALUE, "kv-value")                                                                        \
    X(KV_UNDECLARED, "kv-undeclared")                                                              \
    X(KV_MLA, "kv-mla")                                                                            \
    X(UNREADABLE, "unreadable")                                                                    \
    X(FILE_CHANGED, "file-changed")                                                                \
    X(FILE_MISSING, "file-missing")                                                                \
    X(FILE_UNKNOWN, "file-unknown")                                                                \
    X(NO_CHECKSUMS, "no-checksums")                                                                \
    X(SOURCE_MISSING, "source-missing")                                                            \
    X(SOURCE_NEW, "source-new")                                                                    \
    X(SOURCE_SHAPE, "source-shape")                                                                \
    X(COPY_DIFFERS, "copy-differs")                                                                \
    X(STRAY_VALUES, "stray-values")                                                                \
    X(SQNR_LOW, "sqnr-low")

typedef enum tmb_check {
#define X(id, word) TMB_CHECK_##id,
    TMB_CHECKS(X)
#undef X
        TMB_CHECK_COUNT
} tmb_check;

/* The parts a module can have, by the last part of the tensor's name. */
typedef enum tmb_vpart {
    TMB_VP_WEIGHT,
    TMB_VP_PACKED,       /* weight_packed */
    TMB_VP_SCALE,        /* weight_scale */
    TMB_VP_SCALE_2,      /* weight_scale_2 */
    TMB_VP_GLOBAL,       /* weight_global_scale */
    TMB_VP_SCALE_INV,    /* weight_scale_inv */
    TMB_VP_INPUT,        /* input_scale */
    TMB_VP_INPUT_GLOBAL, /* input_global_scale */
    TMB_VP_SHAPE,        /* weight_shape */
    TMB_VP_ZERO_POINT,   /* weight_zero_point */
    TMB_VP_G_IDX,        /* weight_g_idx */
    TMB_VP_PRE_QUANT,    /* pre_quant_scale */
    TMB_VP_BLOCKS,       /* _blocks of gpt-oss */
    TMB_VP_SCALES,       /* _scales of gpt-oss */
    TMB_VP_E8M0,         /* scale of DeepSeek-V4 */
    TMB_VP_K_SCALE,
    TMB_VP_V_SCALE,
    TMB_VP_BIAS,
    TMB_VP_BARE, /* a tensor whose whole name is the module's */
    TMB_VPARTS
} tmb_vpart;

typedef enum tmb_vlayout { TMB_VL_NONE, TMB_VL_MODELOPT, TMB_VL_CT, TMB_VL_NATIVE } tmb_vlayout;

typedef enum tmb_vkind {
    TMB_VK_NVFP4,
    TMB_VK_FP8, /* per tensor */
    TMB_VK_FP8_CHANNEL,
    TMB_VK_FP8_BLOCK,
    TMB_VK_MXFP4,
    TMB_VK_MXFP8,
    TMB_VK_INT4,
    TMB_VK_OTHER, /* named by the configuration, not checked part by part */
} tmb_vkind;

/* What the configuration says about a module; a NULL pointer stands for unquantized. */
typedef struct tmb_scheme {
    tmb_vkind kind;
    tmb_vlayout layout;
    tmb_act act;
    unsigned group;   /* columns of a block scale, for kinds that have one */
    const char *name; /* "NVFP4", "FP8", as the configuration or this file spells it */
} tmb_scheme;

static inline bool tmb_same_scheme(const tmb_scheme *a, const tmb_scheme *b)
{
    if (a == b || !a || !b) return a == b;
    return a->kind == b->kind && a->layout == b->layout && a->act == b->act && a->group == b->group;
}

/* Kinds of bad numbers in one part. */
enum { TMB_BAD_ZERO = 1, TMB_BAD_NAN = 2, TMB_BAD_NEGATIVE = 4 };

typedef struct tmb_module {
    const char *name;
    const tmb_unit *unit;      /* that the model made of it; NULL when none has this name */
    uint32_t part[TMB_VPARTS]; /* tensor index or TMB_NO_TENSOR */
    uint8_t bad[TMB_VPARTS];   /* TMB_BAD_…, filled by the value scan */
    tmb_role role;
    tmb_proj proj;
    int32_t layer, expert; /* -1: none */
    uint32_t parent;       /* bytes of the name before ".<expert>.<leaf>", or before ".<leaf>" */
    bool linear, stacked;
    uint64_t out, in; /* of the weight as its own tensors tell it; 0 unknown */
    const tmb_scheme *meant;
    const char *entry;              /* of the configuration that decided; NULL for none */
    bool listed;                    /* some entry speaks of it, be it to exclude it */
    bool damaged;                   /* an error was found that already names it */
    float global, input, scale_max; /* from the scan; NaN when absent */
} tmb_module;

/* The quantization configuration; opaque halves live in mo_scheme.c and ct_scheme.c. */
typedef struct tmb_vconfig {
    const tmb_json *quant; /* quantization_config, NULL when there is none */
    tmb_json *hf;          /* hf_quant_config.json, NULL */
    const char *method;    /* "modelopt", "compressed-tensors", "fp8", "mxfp4", "" */
    tmb_vlayout layout;
    bool kv; /* an FP8 KV cache is declared */
    struct tmb_mo_config *mo;
    struct tmb_ct_config *ct;
} tmb_vconfig;

typedef struct tmb_verifier {
    const tmb_model *model;
    const tmb_checkpoint *ckpt;
    const tmb_verify_options *options;
    const tmb_ops *ops;
    int threads;
    tmb_vconfig config;
    tmb_module *modules;
    uint32_t n_modules;
    tmb_nameset by_name; /* module name -> index */
    tmb_verify_report *report;
    tmb_arena scratch;  /* dies with the run; what the report keeps is in report->arena */
    const void **kinds; /* fold key of each finding */
    uint32_t room;
    uint64_t ran; /* bit set of tmb_check: the checks that had something to look at */
    bool no_memory;
    pthread_mutex_t lock;             /* of the next four, and of a loop's failure */
    uint64_t done_bytes, total_bytes; /* for the watcher */
    uint32_t done_units, total_units;
} tmb_verifier;

_Static_assert(TMB_CHECK_COUNT <= 64, "tmb_verifier.ran is one word");

/* --- findings.c --- */

/* Report; later ones with the same check, severity, format and kind only raise the count of the
 * first. */
void tmb_find(tmb_verifier *v, tmb_check check, tmb_severity severity, unsigned kind,
              const char *where, const char *format, ...) __attribute__((format(printf, 6, 7)));
/* The same, and mark the module so that general checks do not repeat what a special one said. */
#define TMB_FIND_MODULE(v, m, check, severity, kind, ...)                                          \
    do {                                                                                           \
        if ((severity) == TMB_ERROR) (m)->damaged = true;                                          \
        tmb_find((v), (check), (severity), (kind), (m)->name, __VA_ARGS__);                        \
    } while (0)
static inline void tmb_ran(tmb_verifier *v, tmb_check check)
{
    v->ran |= UINT64_C(1) << check;
}
void tmb_findings_finish(tmb_verifier *v);
const char *tmb_check_word(tmb_check check);

/* --- inventory.c --- */
tmb_status tmb_inventory(tmb_verifier *v, tmb_err *err) TMB_CHECKED;
tmb_module *tmb_module_find(const tmb_verifier *v, const char *name);
const char *tmb_vpart_name(tmb_vpart part);
static inline const tmb_tensor *tmb_module_part(const tmb_verifier *v, const tmb_module *m,
                                                tmb_vpart part)
{
    return m->part[part] == TMB_NO_TENSOR ? NULL : &v->ckpt->tensors[m->part[part]];
}
static inline bool tmb_is_plain(tmb_dtype d)
{
    return d == TMB_F32 || d == TMB_BF16 || d == TMB_F16 || d == TMB_F64;
}

/* --- config.c --- */
tmb_status tmb_vconfig_load(tmb_verifier *v, tmb_err *err) TMB_CHECKED;
void tmb_vconfig_close(tmb_vconfig *c);
/* Fill meant, entry, listed of every module. */
void tmb_vconfig_resolve(tmb_verifier *v);

/* --- mo_scheme.c --- */
typedef struct tmb_mo_config {
    bool mixed;
    const tmb_scheme *uniform;
    tmb_nameset exclude; /* entries, value: index in the list */
    const char **wild;   /* those with * ? [ */
    uint32_t n_wild;
    tmb_nameset layers; /* key -> index into algo */
    const tmb_scheme **algo;
    uint8_t *used;         /* of layers' keys */
    tmb_nameset hf_layers; /* the keys of hf_quant_config.json, for TensorRT-LLM */
    bool has_hf;
} tmb_mo_config;
tmb_status tmb_mo_load(tmb_verifier *v, tmb_err *err) TMB_CHECKED;
void tmb_mo_close(tmb_mo_config *mo);
const tmb_scheme *tmb_mo_meant(const tmb_mo_config *mo, const tmb_module *m, const char **entry,
                               bool *listed);
void tmb_mo_unused(tmb_verifier *v);

/* --- ct_scheme.c --- */
typedef struct tmb_ct_rule {
    const char *text;         /* as written */
    tmb_regex *re;            /* of "re:…" */
    const tmb_scheme *scheme; /* NULL: an ignore entry */
    bool class_name;          /* "Linear" */
    uint8_t used;
} tmb_ct_rule;
typedef struct tmb_ct_config {
    tmb_ct_rule *targets; /* in file order */
    uint32_t n_targets;
    tmb_ct_rule *ignore;
    uint32_t n_ignore;
    tmb_nameset target_names, ignore_names; /* the exact ones -> index */
    const uint32_t *sorted;                 /* regex targets, lexicographic */
    uint32_t n_sorted;
    const uint32_t *ignore_res; /* regex or class entries of ignore */
    uint32_t n_ignore_res;
    uint32_t n_expressions; /* of both lists together */
} tmb_ct_config;
tmb_status tmb_ct_load(tmb_verifier *v, tmb_err *err) TMB_CHECKED;
void tmb_ct_close(tmb_ct_config *ct);
const tmb_scheme *tmb_ct_meant(tmb_ct_config *ct, const tmb_module *m, const char **entry,
                               bool *listed);
/* Index of an ignore entry that takes the name, or TMB_NO_NAME. */
uint32_t tmb_ct_ignored(const tmb_ct_config *ct, const char *name);
bool tmb_ct_hits(const tmb_ct_rule *rule, const char *name);
void tmb_ct_unused(tmb_verifier *v);

/* --- native.c --- */
const tmb_scheme *tmb_native_meant(const tmb_verifier *v, const tmb_module *m);

/* --- threads.c --- */

/* A loop over [0, n) in v->threads threads: each calls work(loop), which takes numbers with
 * tmb_next() until it says false. */
typedef struct tmb_loop {
    tmb_verifier *v;
    uint32_t n;
    void *ctx;     /* of work */
    uint32_t next; /* atomic */
    bool failed;   /* atomic */
    tmb_err err;   /* of the first that failed */
} tmb_loop;
tmb_status tmb_loop_run(tmb_loop *loop, void (*work)(void *loop), tmb_err *err) TMB_CHECKED;
/* False at the end, and when a thread failed or somebody asked for the end. */
bool tmb_next(tmb_loop *loop, uint32_t *i);
void tmb_loop_fail(tmb_loop *loop, const tmb_err *err);
/* One module or unit is done; from any thread. */
void tmb_tick(tmb_verifier *v, uint64_t bytes, const char *name);

/* --- parts.c, values.c, structure.c, pairs.c, kv.c --- */
void tmb_check_parts(tmb_verifier *v);
tmb_status tmb_check_values(tmb_verifier *v, tmb_err *err) TMB_CHECKED;
void tmb_check_structure(tmb_verifier *v);
void tmb_check_pairs(tmb_verifier *v);
void tmb_check_kv(tmb_verifier *v);

/* --- loaders.c, resolve_*.c --- */

/* A layer as an engine builds it. */
typedef struct tmb_engine_layer {
    const char *name;        /* "model.layers.0.self_attn.qkv_proj", "….mlp.experts" */
    const char *alias[3];    /* every name it is asked for under; the first is `name` */
    const char *other;       /* the name vLLM uses, where it differs; NULL */
    const uint32_t *modules; /* shards; of experts all Linears */
    uint32_t n;
    bool experts;
} tmb_engine_layer;
/* What an engine makes of a layer. */
typedef struct tmb_answer {
    const tmb_scheme *scheme; /* NULL: unquantized */
    const char *excluded_by;  /* the entry, when an exclusion made it unquantized */
    const char *refused;      /* why the engine stops; NULL */
} tmb_answer;
void tmb_check_loaders(tmb_verifier *v);
tmb_answer tmb_vllm_modelopt(const tmb_verifier *v, const tmb_engine_layer *l);
tmb_answer tmb_vllm_ct(const tmb_verifier *v, const tmb_engine_layer *l);
tmb_answer tmb_sglang_modelopt(const tmb_verifier *v, const tmb_engine_layer *l);
tmb_answer tmb_sglang_ct(const tmb_verifier *v, const tmb_engine_layer *l);
tmb_answer tmb_trt_modelopt(const tmb_verifier *v, const tmb_engine_layer *l);
/* Index of the first target in file order that names it; of the class target; or TMB_NO_NAME. */
uint32_t tmb_ct_first(const tmb_ct_config *ct, const char *name);
uint32_t tmb_ct_class(const tmb_ct_config *ct);
/* SGLang's classes that know which shards a fused layer is made of. */
bool tmb_sglang_packs(const tmb_model *model, const char *leaf);

/* --- groups.c, compare.c, files.c --- */
double tmb_decibel(const tmb_sums *s); /* 10 log10(signal / noise) */
double tmb_cosine(const tmb_sums *s);
bool tmb_is_kv_scale(const char *name); /* a tensor, not a module */
/* sums [n_units] or NULL. */
tmb_status tmb_count_groups(tmb_verifier *v, const tmb_sums *sums, tmb_err *err) TMB_CHECKED;
void tmb_count_worst(tmb_verifier *v, const tmb_sums *sums);
/* Fills the groups in any case. */
/* grid.c: whether each value of an E2M1 block [n] is the nearest to the source's under the one scale
 * that they have; a block of zeros, whether the source is nowhere above least. */
bool tmb_on_own_grid(const float *source, const float *got, size_t n, float least);
tmb_status tmb_compare_source(tmb_verifier *v, tmb_err *err) TMB_CHECKED;
tmb_status tmb_check_files(tmb_verifier *v, tmb_err *err) TMB_CHECKED;
/* text [n] of tombac.json */
tmb_status tmb_check_summary(tmb_verifier *v, const char *text, size_t n, tmb_err *err) TMB_CHECKED;

#endif
