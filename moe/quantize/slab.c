#include "config.h"
#include "moe/quantize/slab.h"

#include <string.h>

tmb_status tmb_slab_flush(tmb_slab *slab, const tmb_plan *plan, tmb_shard_writer *w, tmb_err *err)
{
    if (!slab->elements) return TMB_OK;
    uint64_t bytes = slab->elements * slab->element_bytes;
    uint64_t at = plan->outs[slab->out].begin + slab->begin * slab->element_bytes;
    slab->elements = 0;
    return tmb_shard_write(w, slab->data, bytes, at, err);
}

tmb_status tmb_slab_take(tmb_slab *slab, const tmb_plan *plan, const tmb_slot *slot,
                         const tmb_part_dims *dims, tmb_shard_writer *w, tmb_err *err)
{
    if (slab->elements && slot->slab_elements && slab->out == slot->out &&
        slab->begin == slot->slab_begin)
        return TMB_OK;
    TRY(tmb_slab_flush(slab, plan, w, err));
    slab->out = slot->out;
    slab->begin = slot->slab_begin;
    slab->elements = slot->slab_elements;
    slab->element_bytes = dims->element_bytes;
    return TMB_OK;
}

/* The loops go along the shorter stride inside, so that writes stay close together. */
#define SCATTER(type)                                                                              \
    do {                                                                                           \
        type *to = (type *)(void *)slab->data + (slot->base - slab->begin);                        \
        const type *from = (const type *)(const void *)data;                                       \
        if (slot->col_stride <= slot->row_stride)                                                  \
            for (uint64_t r = 0; r < rows; r++)                                                    \
                for (uint64_t c = 0; c < dims->cols; c++)                                          \
                    to[(row + r) * slot->row_stride + c * slot->col_stride] =                      \
                        from[r * dims->cols + c];                                                  \
        else                                                                                       \
            for (uint64_t c = 0; c < dims->cols; c++)                                              \
                for (uint64_t r = 0; r < rows; r++)                                                \
                    to[(row + r) * slot->row_stride + c * slot->col_stride] =                      \
                        from[r * dims->cols + c];                                                  \
    } while (0)

void tmb_slab_scatter(tmb_slab *slab, const tmb_slot *slot, const tmb_part_dims *dims, uint64_t row,
                      uint64_t rows, const uint8_t *data)
{
    switch (dims->element_bytes) {
    case 1:
        SCATTER(uint8_t);
        break;
    case 2:
        SCATTER(uint16_t);
        break;
    case 4:
        SCATTER(uint32_t);
        break;
    default:
        SCATTER(uint64_t);
        break;
    }
}
