/* int4.c - symmetric 4-bit integers, one float32 scale for a group of columns, weight
 * only.  int4-g32 shares what is here.
 *
 *   scale = amax / 7.5, code = round(clamp(x / scale, -8, 7)) + 8
 *
 * Eight codes make a little-endian 32-bit word, the first in the lowest bits: the same bytes as
 * two codes a byte, the even one low. */
#include "config.h"
#include "moe/format/int4.h"

#include "moe/format/parts.h"

bool tmb_int4_part(const tmb_format *f, tmb_part part, uint64_t out, uint64_t in, tmb_geometry *g)
{
    switch (part) {
    case TMB_PART_CODES:
        return tmb_part_matrix(g, TMB_I32, out, in / 8);
    case TMB_PART_SCALE:
        return tmb_part_matrix(g, TMB_F32, out, in / f->group);
    case TMB_PART_SHAPE:
        *g = (tmb_geometry){.dtype = TMB_I64, .rank = 1, .shape = {2}, .bytes = 16};
        return true;
    default:
        return false;
    }
}

void tmb_int4_encode(const tmb_format *f, const tmb_ops *ops, tmb_scale_rule rule, const float *x,
                     size_t rows, size_t cols, float global, void *codes, void *scales, float *work)
{
    (void)rule, (void)global, (void)work;
    float *scale = scales;
    size_t groups = rows * (cols / f->group);
    ops->block_amax(scale, x, groups, f->group);
    for (size_t i = 0; i < groups; i++)
        scale[i] = tmb_scale_by(scale[i], 7.5f);
    ops->encode_int4(codes, x, scale, groups, f->group);
}

void tmb_int4_decode(const tmb_format *f, const tmb_ops *ops, float *x, size_t rows, size_t cols,
                     const void *codes, const void *scales, float global, float *work)
{
    (void)global, (void)work;
    ops->decode_int4(x, codes, scales, rows * (cols / f->group), f->group);
}

const tmb_format tmb_format_int4 = {
    .name = "int4",
    .summary = "4-bit integers, one scale for 128, activations untouched",
    .group = 128,
    .col_multiple = 128,
    .act = TMB_ACT_NONE,
    .bits = 4.25,
    .part = tmb_int4_part,
    .encode = tmb_int4_encode,
    .decode = tmb_int4_decode,
};
