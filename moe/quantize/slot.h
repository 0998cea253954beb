/* slot.h - the geometry of one part of a unit, shared by the plan and by the work. */
#ifndef TMB_QUANTIZE_SLOT_H
#define TMB_QUANTIZE_SLOT_H

#include "moe/quantize/plan.h"

/* The part matrix [rows, cols] of elements of dtype.  Scalars are [1, 1], TMB_PART_SHAPE [1, 2]. */
typedef struct tmb_part_dims {
    tmb_dtype dtype;
    uint64_t rows, cols;
    unsigned element_bytes;
} tmb_part_dims;

/* format NULL: the unit is decoded to BF16.  false: there is no such part. */
bool tmb_part_dims_of(const tmb_unit *unit, const tmb_format *format, tmb_part part,
                      tmb_part_dims *dims);
/* Rows of the part matrix that lie before row `row` of the weight; row a multiple of
 * TMB_TILE_ROWS or unit->out. */
uint64_t tmb_part_row(const tmb_unit *unit, const tmb_format *format, const tmb_part_dims *dims,
                      tmb_part part, uint64_t row);
/* Bytes of the part that TMB_TILE_ROWS rows of the weight have; 0: there is no such part. */
uint64_t tmb_part_tile_bytes(const tmb_unit *unit, const tmb_format *format, tmb_part part);
/* Whether the whole part is one run of elements in the out. */
bool tmb_slot_contiguous(const tmb_slot *slot, const tmb_part_dims *dims);

#endif
