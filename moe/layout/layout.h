/* layout.h - how a loader spells a quantized checkpoint: tensor names, shapes, config entries.
 *
 * A layout knows names and JSON, never arithmetic: the bytes of a part come from the format, and
 * the only change a layout may ask for is a reciprocal of a scalar, a transposition, or a
 * reshape.  A new layout is one file and one word in moe/local.mk. */
#ifndef TMB_LAYOUT_LAYOUT_H
#define TMB_LAYOUT_LAYOUT_H

#include "kernels/base/err.h"
#include "moe/io/json.h"
#include "moe/recipe/assign.h"

#include <stdbool.h>

/* One tensor of the output that holds a part of a unit, or of all units of a stack. */
typedef struct tmb_spelled {
    tmb_part part;
    const char *name; /* in the arena given */
    tmb_dtype dtype;
    int rank;
    uint64_t shape[4];
    bool reciprocal; /* the stored number is 1 / the part (compressed-tensors' global scales) */
    /* Where this unit's part matrix [R, C] (format geometry, elements) goes in the tensor:
     * element (r, c) at base + r * row_stride + c * col_stride, in elements. */
    uint64_t base, row_stride, col_stride;
} tmb_spelled;

/* A constant the layout adds: a KV scale. */
typedef struct tmb_extra {
    const char *name;
    int rank; /* 0: [], 1: [1] */
    float value;
} tmb_extra;

/* What calibration learnt about the activations of this model (moe/quantize/measured.c). */
typedef struct tmb_measured {
    const char *content;      /* SHA-256 of the statistics */
    const float *input;       /* [model->n_units] scale of the Linear's input; 0: it needs none */
    const float *k, *v;       /* [layers] scales of the KV cache; 0: not measured */
    int layers;
} tmb_measured;

/* What the whole job is, for functions that need to see all of it. */
typedef struct tmb_job_view {
    const tmb_model *model;
    const tmb_recipe *recipe;
    const tmb_assignment *assignment;
    const tmb_measured *measured; /* NULL: activations are cast, their scales are 1 */
} tmb_job_view;

typedef struct tmb_layout {
    const char *name;    /* "modelopt" */
    const char *summary; /* one line: who loads it */

    /* TMB_EUSAGE, without FILE:LINE (the caller puts it in front), when no loader reads this
     * format in this layout; *warning (may be NULL) gets a sentence when some do not. */
    tmb_status (*accepts)(const tmb_spec *spec, const tmb_unit *unit, bool mixed,
                          const char **warning, tmb_err *err);

    /* The activation scheme used in this layout, with calibration or without, for the summary:
     * "static FP8, input_scale 1.0 (cast)". */
    const char *(*activations)(const tmb_spec *spec, bool measured);

    /* Whether activations need TMB_PART_INPUT stored in this layout. */
    bool (*stores_input)(const tmb_spec *spec);

    /* out [TMB_PARTS]: the tensors of a quantized unit; returns how many, 0 without memory.  Units
     * of one stack that is kept 3-D give the same names with different bases; units that give
     * the same name and base for TMB_PART_GLOBAL share that number, so their amax is joint. */
    int (*spell)(const tmb_job_view *job, const tmb_unit *unit, const tmb_spec *spec,
                 tmb_arena *arena, tmb_spelled out[TMB_PARTS]);

    /* KV-scale tensors of the whole model; *out in the arena. */
    tmb_status (*extras)(const tmb_job_view *job, tmb_arena *arena, tmb_extra **out, size_t *n,
                         tmb_err *err);

    /* What the user of the engines must know about this job in this layout: flags to pass, engines
     * that refuse it or read it wrongly.  Sentences in the arena, each once. */
    tmb_status (*notes)(const tmb_job_view *job, tmb_arena *arena, const char ***out, size_t *n,
                        tmb_err *err);

    /* Put quantization_config into config (the source's config.json, any older one already
     * removed), and give the further JSON files to write: name, value (the caller's) pairs. */
    tmb_status (*config)(const tmb_job_view *job, tmb_json *config, const char **file,
                         tmb_json **file_json, tmb_err *err);
} tmb_layout;

#endif
