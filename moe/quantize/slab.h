/* slab.h - a range of an output that is put together in memory, because the rows of a unit do not
 * follow each other there: one expert's part of a stacked tensor, gate and up interleaved or the
 * matrix transposed. */
#ifndef TMB_QUANTIZE_SLAB_H
#define TMB_QUANTIZE_SLAB_H

#include "moe/quantize/shard_writer.h"
#include "moe/quantize/slot.h"

/* Holds one range at a time; zero-initialised but for data it is empty. */
typedef struct tmb_slab {
    uint8_t *data; /* [the largest slab of the plan], the owner's */
    uint32_t out;
    uint64_t begin, elements; /* elements 0: empty */
    unsigned element_bytes;
} tmb_slab;

/* Make the slab that of the slot (none when the slot has none), after writing what it held. */
tmb_status tmb_slab_take(tmb_slab *slab, const tmb_plan *plan, const tmb_slot *slot,
                         const tmb_part_dims *dims, tmb_shard_writer *w, tmb_err *err) TMB_CHECKED;
/* data [rows, dims->cols]: rows `row` .. of the slot's part. */
void tmb_slab_scatter(tmb_slab *slab, const tmb_slot *slot, const tmb_part_dims *dims, uint64_t row,
                      uint64_t rows, const uint8_t *data);
tmb_status tmb_slab_flush(tmb_slab *slab, const tmb_plan *plan, tmb_shard_writer *w,
                          tmb_err *err) TMB_CHECKED;

#endif
