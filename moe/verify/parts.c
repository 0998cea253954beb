/* parts.c - is stored what the configuration calls for: the parts of each Linear, their types,
 * their shapes, and nothing else.
 *
 * wants[] is the whole of it: for each scheme and layout the tensors a loader allocates.  Loaders
 * copy what they find into what they allocated, and most copies convert in silence: a BF16 tensor
 * into FP8 codes, one number into a row; so a wrong type is as bad as a missing part. */
#include "config.h"
#include "moe/verify/verify_internal.h"

#include <stdio.h>
#include <string.h>

/* Shapes, by the weight's [out, in]. */
typedef enum tmb_want_shape {
    WANT_OUT_IN,
    WANT_OUT_HALF,  /* [out, in/2] */
    WANT_OUT_WORDS, /* [out, ceil(in/8)] */
    WANT_GROUPS,    /* [out, ceil(in/group)] */
    WANT_TILES,     /* [ceil(out/128), ceil(in/128)], or that with ones between */
    WANT_ROWS,      /* [out], [out, 1] */
    WANT_ONE,       /* [], [1]; [E] of a stack */
    WANT_TWO,       /* [2] */
    WANT_BLOCKS,    /* [E, out, in/32, 16] */
} tmb_want_shape;

enum { BIT_F8 = 1 << TMB_F8_E4M3, BIT_F32 = 1 << TMB_F32, BIT_U8 = 1 << TMB_U8 };
enum {
    BIT_FLOAT = 1 << TMB_F32 | 1 << TMB_BF16 | 1 << TMB_F16,
    BIT_E8M0 = 1 << TMB_U8 | 1 << TMB_F8_E8M0
};
enum { BIT_BYTE = 1 << TMB_U8 | 1 << TMB_I8, BIT_INT = 1 << TMB_I64 | 1 << TMB_I32 };

typedef struct tmb_want {
    uint8_t kind, layout, part, shape;
    uint32_t dtypes;
} tmb_want;

static const tmb_want wants[] = {
    {TMB_VK_NVFP4, TMB_VL_MODELOPT, TMB_VP_WEIGHT, WANT_OUT_HALF, BIT_U8},
    {TMB_VK_NVFP4, TMB_VL_MODELOPT, TMB_VP_SCALE, WANT_GROUPS, BIT_F8},
    {TMB_VK_NVFP4, TMB_VL_MODELOPT, TMB_VP_SCALE_2, WANT_ONE, BIT_F32},
    {TMB_VK_NVFP4, TMB_VL_CT, TMB_VP_PACKED, WANT_OUT_HALF, BIT_U8},
    {TMB_VK_NVFP4, TMB_VL_CT, TMB_VP_SCALE, WANT_GROUPS, BIT_F8},
    {TMB_VK_NVFP4, TMB_VL_CT, TMB_VP_GLOBAL, WANT_ONE, BIT_F32},
    {TMB_VK_FP8, TMB_VL_MODELOPT, TMB_VP_WEIGHT, WANT_OUT_IN, BIT_F8},
    {TMB_VK_FP8, TMB_VL_MODELOPT, TMB_VP_SCALE, WANT_ONE, BIT_FLOAT},
    {TMB_VK_FP8, TMB_VL_CT, TMB_VP_WEIGHT, WANT_OUT_IN, BIT_F8},
    {TMB_VK_FP8, TMB_VL_CT, TMB_VP_SCALE, WANT_ONE, BIT_FLOAT},
    {TMB_VK_FP8_CHANNEL, TMB_VL_MODELOPT, TMB_VP_WEIGHT, WANT_OUT_IN, BIT_F8},
    {TMB_VK_FP8_CHANNEL, TMB_VL_MODELOPT, TMB_VP_SCALE, WANT_ROWS, BIT_FLOAT},
    {TMB_VK_FP8_CHANNEL, TMB_VL_CT, TMB_VP_WEIGHT, WANT_OUT_IN, BIT_F8},
    {TMB_VK_FP8_CHANNEL, TMB_VL_CT, TMB_VP_SCALE, WANT_ROWS, BIT_FLOAT},
    {TMB_VK_FP8_BLOCK, TMB_VL_MODELOPT, TMB_VP_WEIGHT, WANT_OUT_IN, BIT_F8},
    {TMB_VK_FP8_BLOCK, TMB_VL_MODELOPT, TMB_VP_SCALE, WANT_TILES, BIT_FLOAT},
    {TMB_VK_FP8_BLOCK, TMB_VL_CT, TMB_VP_WEIGHT, WANT_OUT_IN, BIT_F8},
    {TMB_VK_FP8_BLOCK, TMB_VL_CT, TMB_VP_SCALE, WANT_TILES, BIT_FLOAT},
    {TMB_VK_MXFP4, TMB_VL_MODELOPT, TMB_VP_WEIGHT, WANT_OUT_HALF, BIT_U8},
    {TMB_VK_MXFP4, TMB_VL_MODELOPT, TMB_VP_SCALE, WANT_GROUPS, BIT_E8M0},
    {TMB_VK_MXFP4, TMB_VL_CT, TMB_VP_PACKED, WANT_OUT_HALF, BIT_U8},
    {TMB_VK_MXFP4, TMB_VL_CT, TMB_VP_SCALE, WANT_GROUPS, BIT_E8M0},
    {TMB_VK_MXFP8, TMB_VL_MODELOPT, TMB_VP_WEIGHT, WANT_OUT_IN, BIT_F8},
    {TMB_VK_MXFP8, TMB_VL_MODELOPT, TMB_VP_SCALE, WANT_GROUPS, BIT_E8M0},
    {TMB_VK_MXFP8, TMB_VL_CT, TMB_VP_WEIGHT, WANT_OUT_IN, BIT_F8},
    {TMB_VK_MXFP8, TMB_VL_CT, TMB_VP_SCALE, WANT_GROUPS, BIT_E8M0},
    {TMB_VK_INT4, TMB_VL_CT, TMB_VP_PACKED, WANT_OUT_WORDS, 1 << TMB_I32},
    {TMB_VK_INT4, TMB_VL_CT, TMB_VP_SCALE, WANT_GROUPS, BIT_FLOAT},
    {TMB_VK_INT4, TMB_VL_CT, TMB_VP_SHAPE, WANT_TWO, BIT_INT},
};

/* The same for native sources, whose names depend on what is there. */
static const tmb_want native_wants[] = {
    {TMB_VK_FP8, TMB_VL_NATIVE, TMB_VP_WEIGHT, WANT_OUT_IN, BIT_F8},
    {TMB_VK_FP8, TMB_VL_NATIVE, TMB_VP_SCALE, WANT_ONE, BIT_FLOAT},
    {TMB_VK_FP8_BLOCK, TMB_VL_NATIVE, TMB_VP_WEIGHT, WANT_OUT_IN, BIT_F8},
    {TMB_VK_FP8_BLOCK, TMB_VL_NATIVE, TMB_VP_SCALE_INV, WANT_TILES, BIT_FLOAT},
};
static const tmb_want e8m0_wants[] = {
    {TMB_VK_FP8_BLOCK, TMB_VL_NATIVE, TMB_VP_WEIGHT, WANT_OUT_IN, BIT_F8},
    {TMB_VK_FP8_BLOCK, TMB_VL_NATIVE, TMB_VP_E8M0, WANT_TILES, BIT_E8M0},
    {TMB_VK_MXFP4, TMB_VL_NATIVE, TMB_VP_WEIGHT, WANT_OUT_HALF, BIT_BYTE},
    {TMB_VK_MXFP4, TMB_VL_NATIVE, TMB_VP_E8M0, WANT_GROUPS, BIT_E8M0},
};
static const tmb_want stack_wants[] = {
    {TMB_VK_MXFP4, TMB_VL_NATIVE, TMB_VP_BLOCKS, WANT_BLOCKS, BIT_U8},
    {TMB_VK_MXFP4, TMB_VL_NATIVE, TMB_VP_SCALES, WANT_GROUPS, BIT_E8M0},
};
#define COUNT(a) (sizeof(a) / sizeof *(a))

static const tmb_want *table_of(const tmb_module *m, size_t *n)
{
    if (m->meant->layout != TMB_VL_NATIVE) return *n = COUNT(wants), wants;
    if (m->part[TMB_VP_BLOCKS] != TMB_NO_TENSOR || m->part[TMB_VP_SCALES] != TMB_NO_TENSOR)
        return *n = COUNT(stack_wants), stack_wants;
    if (m->part[TMB_VP_E8M0] != TMB_NO_TENSOR) return *n = COUNT(e8m0_wants), e8m0_wants;
    return *n = COUNT(native_wants), native_wants;
}

/* Whether the scheme's static activations need a stored scale, and under which name. */
static bool input_part(const tmb_scheme *s, tmb_vpart *part)
{
    if (s->act != TMB_ACT_STATIC && s->act != TMB_ACT_NVFP4) return false;
    *part = s->layout == TMB_VL_CT && s->act == TMB_ACT_NVFP4 ? TMB_VP_INPUT_GLOBAL : TMB_VP_INPUT;
    return true;
}

/* The weight's geometry as its own tensors tell it. */
typedef struct tmb_seen {
    uint64_t experts, out, in; /* experts 0: no stack */
    bool io;                   /* a stack that lies [E, in, out] */
} tmb_seen;

static bool shape_of_int4(const tmb_verifier *v, const tmb_module *m, tmb_seen *g)
{
    const tmb_tensor *t = tmb_module_part(v, m, TMB_VP_SHAPE);
    int64_t wide[2];
    int32_t narrow[2];
    if (!t || (t->bytes != 16 && t->bytes != 8)) return false;
    bool is_wide = t->bytes == 16;
    if (tmb_checkpoint_read(v->ckpt, t, 0, is_wide ? (void *)wide : (void *)narrow, t->bytes,
                            NULL) != TMB_OK)
        return false;
    int64_t out = is_wide ? wide[0] : narrow[0], in = is_wide ? wide[1] : narrow[1];
    if (out <= 0 || in <= 0 || in > INT64_MAX / 8) return false;
    g->out = (uint64_t)out;
    g->in = (uint64_t)in;
    return true;
}

static bool see(const tmb_verifier *v, const tmb_module *m, tmb_seen *g)
{
    const tmb_scheme *s = m->meant;
    *g = (tmb_seen){0};
    if (s->kind == TMB_VK_INT4 && shape_of_int4(v, m, g)) return true;
    tmb_vpart from = m->part[TMB_VP_BLOCKS] != TMB_NO_TENSOR   ? TMB_VP_BLOCKS
                     : m->part[TMB_VP_PACKED] != TMB_NO_TENSOR ? TMB_VP_PACKED
                                                               : TMB_VP_WEIGHT;
    const tmb_tensor *t = tmb_module_part(v, m, from);
    if (!t || t->rank < 2) return false;
    unsigned per = s->kind == TMB_VK_NVFP4 || s->kind == TMB_VK_MXFP4 ? 2
                   : s->kind == TMB_VK_INT4                           ? 8
                                                                      : 1;
    uint64_t rows = t->shape[t->rank - 2], cols = t->shape[t->rank - 1];
    if (t->rank == 4) {
        g->experts = t->shape[0];
        g->out = t->shape[1];
        return tmb_mul(t->shape[2], 32, &g->in);
    }
    if (t->rank == 3) {
        const tmb_tensor *scale = tmb_module_part(v, m, TMB_VP_SCALE);
        g->experts = t->shape[0];
        g->io = !(scale && scale->rank == 3 && scale->shape[1] == rows);
    } else if (t->rank != 2) {
        return false;
    }
    g->out = g->io ? cols : rows;
    return tmb_mul(g->io ? rows : cols, per, &g->in);
}

static bool is_shape(const tmb_tensor *t, int rank, const uint64_t *dims)
{
    if (t->rank != rank) return false;
    for (int i = 0; i < rank; i++)
        if (t->shape[i] != dims[i]) return false;
    return true;
}

/* Matrix [rows, cols], in front of it the experts of a stack. */
static bool is_matrix(const tmb_tensor *t, const tmb_seen *g, uint64_t rows, uint64_t cols)
{
    if (!g->experts) return is_shape(t, 2, (uint64_t[]){rows, cols});
    return is_shape(
        t, 3, g->io ? (uint64_t[]){g->experts, cols, rows} : (uint64_t[]){g->experts, rows, cols});
}

static bool shape_fits(const tmb_tensor *t, tmb_want_shape shape, const tmb_seen *g, unsigned group)
{
    uint64_t tall = tmb_ceil_div(g->out, 128), wide = tmb_ceil_div(g->in, 128);
    switch (shape) {
    case WANT_OUT_IN:
        return is_matrix(t, g, g->out, g->in);
    case WANT_OUT_HALF:
        return g->in % 2 == 0 && is_matrix(t, g, g->out, g->in / 2);
    case WANT_OUT_WORDS:
        return is_matrix(t, g, g->out, tmb_ceil_div(g->in, 8));
    case WANT_GROUPS:
        return group && is_matrix(t, g, g->out, tmb_ceil_div(g->in, group));
    case WANT_TILES:
        return is_matrix(t, g, tall, wide) || is_shape(t, 4, (uint64_t[]){tall, 1, wide, 1});
    case WANT_ROWS:
        return is_shape(t, 1, (uint64_t[]){g->out}) || is_matrix(t, g, g->out, 1);
    case WANT_ONE:
        return t->rank == 0 || is_shape(t, 1, (uint64_t[]){1}) ||
               (g->experts && t->shape[0] == g->experts &&
                t->bytes * 8 / tmb_dtype_bits((tmb_dtype)t->dtype) == g->experts);
    case WANT_TWO:
        return is_shape(t, 1, (uint64_t[]){2});
    case WANT_BLOCKS:
        return t->rank == 4 && t->shape[3] == 16;
    }
    return false;
}

static void shape_text(const tmb_tensor *t, char *out, size_t n)
{
    size_t used = (size_t)snprintf(out, n, "[");
    for (int i = 0; i < t->rank && used < n; i++)
        used += (size_t)snprintf(out + used, n - used, i ? ", %llu" : "%llu",
                                 (unsigned long long)t->shape[i]);
    if (used < n) snprintf(out + used, n - used, "]");
}

static const char *first_dtype(uint32_t mask)
{
    return mask ? tmb_dtype_name((tmb_dtype)(31 - __builtin_clz(mask & -mask))) : "?";
}

static void report_missing(tmb_verifier *v, tmb_module *m, tmb_vpart part)
{
    bool input = part == TMB_VP_INPUT || part == TMB_VP_INPUT_GLOBAL;
    if (input)
        TMB_FIND_MODULE(
            v, m, TMB_CHECK_INPUT_MISSING, TMB_ERROR, part,
            "%s is missing, but %s quantizes activations by it: vLLM multiplies by "
            "uninitialised memory, SGLang takes another expert's; quantize this layer again",
            tmb_vpart_name(part), m->meant->name);
    else
        TMB_FIND_MODULE(
            v, m, TMB_CHECK_PART_MISSING, TMB_ERROR, part,
            "%s is missing, but %s is decoded with it: vLLM and SGLang leave uninitialised "
            "memory in its place and say nothing; quantize this layer again",
            tmb_vpart_name(part), m->meant->name);
}

static void check_part(tmb_verifier *v, tmb_module *m, tmb_vpart part, uint32_t dtypes,
                       tmb_want_shape shape, const tmb_seen *g)
{
    const tmb_tensor *t = tmb_module_part(v, m, part);
    if (!t) {
        report_missing(v, m, part);
        return;
    }
    tmb_ran(v, TMB_CHECK_PART_DTYPE);
    tmb_ran(v, TMB_CHECK_PART_SHAPE);
    if (!(dtypes >> t->dtype & 1)) {
        TMB_FIND_MODULE(
            v, m, TMB_CHECK_PART_DTYPE, TMB_ERROR, part * 32u + t->dtype,
            "%s is stored as %s, %s wants %s: vLLM and SGLang convert it in silence and read "
            "other numbers; quantize this layer again",
            tmb_vpart_name(part), tmb_dtype_name((tmb_dtype)t->dtype), m->meant->name,
            first_dtype(dtypes));
        return;
    }
    if (shape_fits(t, shape, g, m->meant->group)) return;
    char text[160];
    shape_text(t, text, sizeof text);
    TMB_FIND_MODULE(
        v, m, TMB_CHECK_PART_SHAPE, TMB_ERROR, part,
        "%s has shape %s, which does not fit %s of a weight [%llu, %llu]: loaders refuse it, or "
        "vLLM copies the part that fits and leaves the rest uninitialised; quantize this layer "
        "again",
        tmb_vpart_name(part), text, m->meant->name, (unsigned long long)g->out,
        (unsigned long long)g->in);
}

/* Parts beyond those of the scheme. */
static void check_extra(tmb_verifier *v, tmb_module *m, uint32_t wanted)
{
    tmb_ran(v, TMB_CHECK_PART_UNEXPECTED);
    for (int p = 0; p < TMB_VP_K_SCALE; p++) {
        if (m->part[p] == TMB_NO_TENSOR || wanted >> p & 1) continue;
        bool idle =
            (p == TMB_VP_INPUT || p == TMB_VP_INPUT_GLOBAL) && m->meant->act == TMB_ACT_NONE;
        TMB_FIND_MODULE(
            v, m, TMB_CHECK_PART_UNEXPECTED, idle ? TMB_WARNING : TMB_ERROR, (unsigned)p,
            "%s is stored, but is no part of %s in this layout: vLLM finds no parameter for it "
            "and stops, or drops it; remove it or name the scheme it belongs to",
            tmb_vpart_name((tmb_vpart)p), m->meant->name);
    }
}

static void check_quantized(tmb_verifier *v, tmb_module *m)
{
    size_t n = 0;
    const tmb_want *table = table_of(m, &n);
    tmb_seen g;
    bool seen = see(v, m, &g);
    m->out = g.out;
    m->in = g.in;
    uint32_t wanted = 0;
    tmb_ran(v, TMB_CHECK_PART_MISSING);
    for (size_t i = 0; i < n; i++) {
        const tmb_want *w = &table[i];
        if (w->kind != m->meant->kind || w->layout != m->meant->layout) continue;
        wanted |= 1u << w->part;
        if (!seen && m->part[w->part] != TMB_NO_TENSOR) continue;
        check_part(v, m, (tmb_vpart)w->part, w->dtypes, (tmb_want_shape)w->shape, &g);
    }
    tmb_vpart input;
    if (input_part(m->meant, &input)) {
        tmb_ran(v, TMB_CHECK_INPUT_MISSING);
        wanted |= 1u << input;
        if (seen || m->part[input] == TMB_NO_TENSOR)
            check_part(v, m, input, m->meant->act == TMB_ACT_NVFP4 ? BIT_F32 : BIT_FLOAT, WANT_ONE,
                       &g);
    }
    if (m->meant->layout == TMB_VL_NATIVE) wanted |= 1u << TMB_VP_INPUT;
    check_extra(v, m, wanted);
}

/* Only a plain weight where the configuration promises codes. */
static bool stored_plain(const tmb_verifier *v, const tmb_module *m)
{
    const tmb_tensor *w = tmb_module_part(v, m, TMB_VP_WEIGHT);
    return w && tmb_is_plain((tmb_dtype)w->dtype) && m->part[TMB_VP_SCALE] == TMB_NO_TENSOR &&
           m->part[TMB_VP_SCALE_INV] == TMB_NO_TENSOR && m->part[TMB_VP_E8M0] == TMB_NO_TENSOR &&
           m->part[TMB_VP_PACKED] == TMB_NO_TENSOR;
}

static bool is_router(const tmb_module *m)
{
    return m->role == TMB_ROLE_ROUTER || m->role == TMB_ROLE_SHARED_GATE;
}

static void check_meant(tmb_verifier *v, tmb_module *m)
{
    if (v->config.layout == TMB_VL_NONE)
        tmb_find(v, TMB_CHECK_CONFIG_METHOD, TMB_ERROR, 1, m->name,
                 "stored as codes, but config.json has no quantization_config: engines read them "
                 "as numbers; put "
                 "it back");
    tmb_ran(v, TMB_CHECK_STORED_PLAIN);
    if (stored_plain(v, m)) {
        const char *who = is_router(m) ? "router" : m->expert >= 0 ? "expert" : "layer";
        tmb_severity severity =
            m->role == TMB_ROLE_VISION || m->role == TMB_ROLE_MTP ? TMB_WARNING : TMB_ERROR;
        TMB_FIND_MODULE(
            v, m, TMB_CHECK_STORED_PLAIN, severity, is_router(m) + 2u * (m->expert >= 0),
            "the configuration (%s) says %s, but the %s is stored as %s without scales: vLLM casts "
            "it to codes in silence or stops; exclude it by its full name, or quantize it",
            m->entry ? m->entry : "quant_algo", m->meant->name, who,
            tmb_dtype_name((tmb_dtype)tmb_module_part(v, m, TMB_VP_WEIGHT)->dtype));
        return;
    }
    if (is_router(m))
        TMB_FIND_MODULE(
            v, m, TMB_CHECK_ROUTER_QUANTIZED, TMB_ERROR, 0,
            "the router is stored as %s: most engines build routers unquantized (vLLM: all but "
            "Qwen3-MoE's), cast the codes in silence and route at random; keep it in BF16",
            m->meant->name);
    if (m->role == TMB_ROLE_LM_HEAD) {
        bool tied = tmb_json_bool(tmb_json_get(v->ckpt->config, "tie_word_embeddings"), false);
        TMB_FIND_MODULE(
            v, m, TMB_CHECK_HEAD_QUANTIZED, tied ? TMB_ERROR : TMB_WARNING, tied,
            tied ? "lm_head is quantized though config.json ties it to the embedding: engines use "
                   "the embedding and drop it; keep it in BF16 or untie them (stored: %s)"
                 : "lm_head is quantized (%s): vLLM loads it, SGLang only for some classes, and "
                   "every "
                   "token's logits pass through it; prefer BF16",
            m->meant->name);
    }
    if (m->meant->kind != TMB_VK_OTHER) check_quantized(v, m);
}

static void check_unquantized(tmb_verifier *v, tmb_module *m)
{
    const tmb_tensor *w = tmb_module_part(v, m, TMB_VP_WEIGHT);
    tmb_ran(v, TMB_CHECK_STORED_CODES);
    bool codes =
        m->part[TMB_VP_PACKED] != TMB_NO_TENSOR || (w && !tmb_is_plain((tmb_dtype)w->dtype));
    uint32_t parts = 0;
    for (int p = TMB_VP_PACKED; p < TMB_VP_K_SCALE; p++)
        parts += m->part[p] != TMB_NO_TENSOR;
    if (!codes && !parts) {
        if (w && w->rank == 2) {
            m->out = w->shape[0];
            m->in = w->shape[1];
        }
        return;
    }
    if (v->config.layout == TMB_VL_NONE)
        TMB_FIND_MODULE(v, m, TMB_CHECK_CONFIG_METHOD, TMB_ERROR, 2,
                        "stored as codes or with scales, but config.json has no "
                        "quantization_config: engines read "
                        "codes as numbers or stop at the scales; put it back");
    else if (codes && is_router(m))
        TMB_FIND_MODULE(
            v, m, TMB_CHECK_ROUTER_QUANTIZED, TMB_ERROR, 1,
            "the router is stored as codes (%s) but the configuration leaves it unquantized: "
            "engines cast the codes to numbers in silence and route at random; store it in BF16",
            w ? tmb_dtype_name((tmb_dtype)w->dtype) : "packed");
    else if (codes)
        TMB_FIND_MODULE(
            v, m, TMB_CHECK_STORED_CODES, TMB_ERROR, 0,
            "stored as codes, but %s leaves it unquantized: engines read the codes as numbers or "
            "stop at its scales; name its scheme, or drop the entry that excludes it",
            m->entry ? m->entry : "the configuration");
    else
        TMB_FIND_MODULE(
            v, m, TMB_CHECK_PART_UNEXPECTED, TMB_ERROR, 99,
            "scales are stored beside an unquantized weight: vLLM finds no parameter for them and "
            "stops; remove them");
}

/* In a configuration that speaks of layers by name, each Linear should be spoken of. */
static void check_listed(tmb_verifier *v, tmb_module *m)
{
    if (m->listed || m->role == TMB_ROLE_VISION || m->stacked) return;
    const tmb_tensor *w = tmb_module_part(v, m, TMB_VP_WEIGHT);
    tmb_ran(v, TMB_CHECK_UNLISTED);
    if (!w || w->rank != 2) return;
    if (v->config.mo && v->config.mo->mixed)
        tmb_find(v, TMB_CHECK_UNLISTED, TMB_WARNING, 0, m->name,
                 "neither in quantized_layers nor excluded: engines leave it unquantized today, "
                 "but vLLM's "
                 "search by prefix may one day answer otherwise; name it in exclude_modules");
    else if (v->config.ct && m->role == TMB_ROLE_MTP)
        tmb_find(v, TMB_CHECK_UNLISTED, TMB_WARNING, 1, m->name,
                 "matches no target and no ignore entry: SGLang stops when it builds this layer "
                 "(here only for "
                 "speculative decoding); add its full name to ignore");
    else if (v->config.ct)
        tmb_find(v, TMB_CHECK_UNLISTED,
                 is_router(m) || m->role == TMB_ROLE_OTHER ? TMB_WARNING : TMB_ERROR, 2, m->name,
                 "matches no target and no ignore entry: SGLang and TensorRT-LLM stop here; add "
                 "its full "
                 "name to ignore");
}

/* Left-overs of a quantization tool beside a Linear. */
static void check_bare(tmb_verifier *v, const tmb_module *m)
{
    static const char *const marks[] = {"amax",       "quantizer", "observer",
                                        "zero_point", "qweight",   "qzeros"};
    const char *leaf = strrchr(m->name, '.');
    leaf = leaf ? leaf + 1 : m->name;
    tmb_ran(v, TMB_CHECK_TENSOR_UNKNOWN);
    bool odd = strstr(m->name, "_quantizer") != NULL;
    for (size_t i = 0; i < COUNT(marks); i++)
        odd |= strstr(leaf, marks[i]) != NULL;
    if (!odd && strstr(leaf, "scale") && m->parent) {
        uint32_t i = tmb_nameset_find_n(&v->by_name, m->name, m->parent);
        odd = i != TMB_NO_NAME && v->modules[i].linear;
    }
    if (odd)
        tmb_find(v, TMB_CHECK_TENSOR_UNKNOWN, TMB_ERROR, 0, m->name,
                 "no loader knows this tensor, a left-over of calibration: vLLM stops at it, "
                 "SGLang ignores "
                 "it; remove it");
}

void tmb_check_parts(tmb_verifier *v)
{
    for (uint32_t i = 0; i < v->n_modules; i++) {
        tmb_module *m = &v->modules[i];
        if (m->part[TMB_VP_BARE] != TMB_NO_TENSOR) check_bare(v, m);
        if (m->linear && m->meant)
            check_meant(v, m);
        else if (v->config.layout != TMB_VL_NONE || *v->config.method == 0)
            check_unquantized(v, m);
        if (m->linear) check_listed(v, m);
    }
}
