/* modules.h - the modules engines build for a job, and what becomes of each: the one list from
 * which every layout writes its configuration.
 *
 * Engines know three kinds of names: Linears by their hub names; Linears that they run as one
 * GEMM, by a name of their own (qkv_proj); and the routed experts of a layer as one module. */
#ifndef TMB_LAYOUT_MODULES_H
#define TMB_LAYOUT_MODULES_H

#include "moe/layout/layout.h"

typedef enum tmb_engine_module_kind {
    TMB_MODULE_LINEAR,  /* a Linear outside the routed experts, or a tensor engines take for one */
    TMB_MODULE_EXPERT,  /* a Linear of one routed expert */
    TMB_MODULE_EXPERTS, /* "model.layers.0.mlp.experts" */
    TMB_MODULE_FUSED,   /* engines' name of several Linears */
    TMB_MODULE_STACK,   /* a 3-D tensor of the source: "model.layers.0.mlp.experts.down_proj" */
} tmb_engine_module_kind;

typedef struct tmb_engine_module {
    const char *name;
    const tmb_format *format; /* NULL: stays in high precision */
    uint32_t unit;            /* one of the units it stands for */
    tmb_engine_module_kind kind;
} tmb_engine_module;

typedef struct tmb_engine_modules {
    tmb_engine_module *list; /* by name, each name once */
    size_t n;
    const tmb_format *formats[16]; /* in use, in the registry's order */
    int n_formats;
    tmb_arena names; /* of those that are not the model's */
} tmb_engine_modules;

/* keeps_stacks: of the layout (see tmb_stays_stacked).  Free with tmb_engine_modules_free(). */
tmb_status tmb_engine_modules_open(tmb_engine_modules *modules, const tmb_job_view *job,
                                   bool keeps_stacks, tmb_err *err) TMB_CHECKED;
void tmb_engine_modules_free(tmb_engine_modules *modules);

/* Put a value into an object or array, taking it; *good becomes false where memory lacks, so that
 * callers write a whole document and look once. */
void tmb_put(tmb_json *object, const char *name, tmb_json *value, bool *good);
void tmb_push(tmb_json *array, tmb_json *value, bool *good);

/* The last part of a dotted name. */
const char *tmb_leaf(const char *name);

/* Whether the output declares an FP8 KV cache: asked for, and no engine breaks on it. */
bool tmb_kv_fp8(const tmb_job_view *job);
/* Whether the scales of a layer's cache stand beside this Linear: layers without it, those of a
 * recurrence, have no cache. */
bool tmb_takes_kv_scales(const tmb_unit *unit);

/* KV scales of value 1, for k and v of each attention layer that has a k_proj: "….k_proj.k_scale"
 * when by_projection, else "….k_scale"; none where engines break on them. */
tmb_status tmb_kv_scales(const tmb_job_view *job, bool by_projection, int rank, tmb_arena *arena,
                         tmb_extra **out, size_t *n, tmb_err *err) TMB_CHECKED;

/* Notes that hold in every layout, and the architecture's cautions for this one; list has room for
 * TMB_NOTES_MAX. */
enum { TMB_NOTES_MAX = 16 };
void tmb_common_notes(const tmb_job_view *job, const char *layout, const char **list, size_t *n);

/* Whether a quantized unit stays in the 3-D tensor it came in, in a layout that can keep stacks. */
bool tmb_stays_stacked(const tmb_job_view *job, const tmb_unit *unit);

/* The part's tensor as [rows, columns] of the unit alone. */
void tmb_spell_plain(tmb_spelled *spelled, tmb_part part, const tmb_geometry *g, const char *name);

#endif
