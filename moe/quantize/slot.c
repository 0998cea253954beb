#include "config.h"
#include "moe/quantize/slot.h"

#include "moe/format/formats.h"

bool tmb_part_dims_of(const tmb_unit *unit, const tmb_format *format, tmb_part part,
                      tmb_part_dims *dims)
{
    tmb_geometry g = {0};
    *dims = (tmb_part_dims){.dtype = TMB_F32, .rows = 1, .cols = 1};
    switch (part) {
    case TMB_PART_INPUT:
        break;
    case TMB_PART_SHAPE:
        *dims = (tmb_part_dims){.dtype = TMB_I64, .rows = 1, .cols = 2};
        break;
    default:
        if (!format) {
            if (part != TMB_PART_CODES) return false;
            *dims = (tmb_part_dims){.dtype = TMB_BF16, .rows = unit->out, .cols = unit->in};
            break;
        }
        if (!format->part(format, part, unit->out, unit->in, &g)) return false;
        dims->dtype = g.dtype;
        if (g.rank == 2) {
            dims->rows = g.shape[0];
            dims->cols = g.shape[1];
        }
    }
    dims->element_bytes = tmb_dtype_bits(dims->dtype) / 8;
    return dims->element_bytes > 0;
}

uint64_t tmb_part_row(const tmb_unit *unit, const tmb_format *format, const tmb_part_dims *dims,
                      tmb_part part, uint64_t row)
{
    if (row >= unit->out) return dims->rows;
    if (!format) return row;
    tmb_geometry g = {0};
    if (!format->part(format, part, unit->out, unit->in, &g)) return 0;
    return tmb_format_row_offset(&g, unit->out, row) / (dims->cols * dims->element_bytes);
}

uint64_t tmb_part_tile_bytes(const tmb_unit *unit, const tmb_format *format, tmb_part part)
{
    tmb_part_dims dims;
    if (!tmb_part_dims_of(unit, format, part, &dims)) return 0;
    uint64_t rows = tmb_part_row(unit, format, &dims, part, TMB_TILE_ROWS);
    return (rows ? rows : 1) * dims.cols * dims.element_bytes;
}

bool tmb_slot_contiguous(const tmb_slot *slot, const tmb_part_dims *dims)
{
    return (dims->cols <= 1 || slot->col_stride == 1) &&
           (dims->rows <= 1 || slot->row_stride == dims->cols);
}
