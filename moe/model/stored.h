/* stored.h - where the parts of one Linear lie, in bytes: what weight.c reads and decodes. */
#ifndef TMB_MODEL_STORED_H
#define TMB_MODEL_STORED_H

#include "moe/model/model.h"

/* Block scales, as float32 multipliers of a row: how many and how wide. */
typedef enum tmb_scaling {
    TMB_SCALING_NONE,   /* plain */
    TMB_SCALING_TENSOR, /* one number, TMB_PART_GLOBAL */
    TMB_SCALING_ROW,    /* one a row */
    TMB_SCALING_TILE,   /* one for 128 rows and 128 columns */
    TMB_SCALING_GROUP,  /* one for `width` columns of a row */
} tmb_scaling;

typedef enum tmb_element { TMB_ELEMENT_PLAIN, TMB_ELEMENT_E4M3, TMB_ELEMENT_E2M1, TMB_ELEMENT_INT4 } tmb_element;

/* One part of one expert's slab (of the whole tensor when it is no stack): a matrix of elements
 * of `size` bytes, [rows, cols], or [cols, rows] when turned. */
typedef struct tmb_matrix {
    const tmb_tensor *tensor;
    uint64_t begin; /* of the slab in the tensor */
    uint64_t rows, cols;
    size_t size;
    bool turned;
} tmb_matrix;

typedef struct tmb_stored_view {
    tmb_element element;
    tmb_scaling scaling;
    uint64_t width;     /* columns a scale covers; TILE: 128; ROW, TENSOR: in */
    uint64_t scales;    /* multipliers a row */
    tmb_matrix codes;   /* rows as stored: of a stack also those of the other projection */
    tmb_matrix scale;   /* ROW: [rows, 1], TILE: [tiles, tiles], GROUP: [rows, in / width] */
} tmb_stored_view;

/* unit->linear and not broken. */
tmb_stored_view tmb_stored_view_of(const tmb_model *model, const tmb_unit *unit);

#endif
