/* ct.h - between the files of the compressed-tensors layout. */
#ifndef TMB_LAYOUT_CT_H
#define TMB_LAYOUT_CT_H

#include "moe/layout/modules.h"

/* What a group says of its weights or activations; fields left 0 are written as null. */
typedef struct tmb_ct_args {
    int bits;         /* 0: no such entry */
    const char *type; /* "float", "int" */
    const char *strategy;
    int group;
    int block;           /* block_structure [block, block] */
    const char *dynamic; /* "true", "false", "local" */
    const char *scale_dtype;
} tmb_ct_args;

typedef struct tmb_ct_format {
    const char *name;                           /* ours */
    const char *format;                         /* theirs: "nvfp4-pack-quantized" */
    const char *codes, *scale, *global, *input; /* suffixes; NULL: no such tensor */
    tmb_ct_args weights, inputs;
    tmb_ct_args expert_inputs; /* bits 0: as inputs */
} tmb_ct_format;

/* NULL: no loader reads the format in this layout. */
const tmb_ct_format *tmb_ct_format_of(const tmb_format *format);

/* A config group: one format, of experts or not, where the two have different activations. */
typedef struct tmb_ct_group {
    const tmb_format *format;
    bool experts, others; /* which modules of the format */
    const char **targets; /* in the arena */
    size_t n_targets;
} tmb_ct_group;

/* Whether a module's group is this one. */
bool tmb_ct_in_group(const tmb_ct_group *group, const tmb_engine_module *module);

/* Fill groups[g].targets so that every quantized module, under each name engines ask for, finds
 * its group and nothing else does; the result is checked by the loaders' own rules.  ignored gets
 * expressions for what stays unquantized inside the layers: engines may ask for it under another
 * prefix, or by its fused name. */
tmb_status tmb_ct_targets(tmb_ct_group *groups, int n_groups, tmb_ct_group *ignored,
                          const tmb_engine_modules *modules, const tmb_job_view *job,
                          tmb_arena *arena, tmb_err *err) TMB_CHECKED;

tmb_status tmb_ct_config(const tmb_job_view *job, tmb_json *config, const char **file,
                         tmb_json **file_json, tmb_err *err) TMB_CHECKED;

#endif
