/* modelopt.h - between modelopt.c (tensors) and modelopt_config.c (JSON). */
#ifndef TMB_LAYOUT_MODELOPT_H
#define TMB_LAYOUT_MODELOPT_H

#include "moe/layout/layout.h"

typedef struct tmb_modelopt_format {
    const char *name; /* ours */
    const char *algo; /* theirs */
    int weight_bits;
    int group;          /* group_size, 0: none is written */
    int act_bits;       /* 0: no activation entry */
    const char *global; /* suffix of TMB_PART_GLOBAL; NULL: there is none */
} tmb_modelopt_format;

/* NULL: no loader reads the format in this layout. */
const tmb_modelopt_format *tmb_modelopt_format_of(const tmb_format *format);

tmb_status tmb_modelopt_config(const tmb_job_view *job, tmb_json *config, const char **file,
                               tmb_json **file_json, tmb_err *err) TMB_CHECKED;

#endif
