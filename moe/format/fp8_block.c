/* fp8_block.c - FP8 by tiles of 128 x 128, the DeepSeek way; tiles at the right and lower edge
 * may be smaller.  Activations by token and 128 columns at run time. */
#include "config.h"
#include "moe/format/parts.h"

#include "kernels/base/mem.h"

enum { SIDE = 128 };
_Static_assert(TMB_TILE_ROWS % SIDE == 0, "a row of tiles must not be cut");

static bool part(const tmb_format *f, tmb_part part, uint64_t out, uint64_t in, tmb_geometry *g)
{
    (void)f;
    if (part == TMB_PART_CODES) return tmb_part_matrix(g, TMB_F8_E4M3, out, in);
    return part == TMB_PART_SCALE &&
           tmb_part_matrix(g, TMB_F32, tmb_ceil_div(out, SIDE), tmb_ceil_div(in, SIDE));
}

/* scale [tiles] from x [rows <= 128, cols]; row_amax: tiles floats of scratch. */
static void choose_scales(const tmb_ops *ops, float *scale, const float *x, size_t rows,
                          size_t cols, float *row_amax)
{
    size_t whole = cols / SIDE, rest = cols % SIDE, tiles = whole + (rest != 0);
    for (size_t t = 0; t < tiles; t++)
        scale[t] = 0.0f;
    for (size_t r = 0; r < rows; r++, x += cols) {
        ops->block_amax(row_amax, x, whole, SIDE);
        if (rest) row_amax[whole] = ops->amax(x + whole * SIDE, rest);
        for (size_t t = 0; t < tiles; t++)
            scale[t] = row_amax[t] > scale[t] ? row_amax[t] : scale[t];
    }
    for (size_t t = 0; t < tiles; t++)
        scale[t] = tmb_scale_fp8(scale[t]);
}

static void encode(const tmb_format *f, const tmb_ops *ops, tmb_scale_rule rule, const float *x,
                   size_t rows, size_t cols, float global, void *codes, void *scales, float *work)
{
    (void)f, (void)rule, (void)global;
    size_t whole = cols / SIDE, rest = cols % SIDE;
    float *scale = scales;
    uint8_t *code = codes;
    for (size_t r = 0; r < rows; r++, x += cols, code += cols) {
        if (r % SIDE == 0) {
            if (r) scale += whole + (rest != 0);
            choose_scales(ops, scale, x, rows - r < SIDE ? rows - r : SIDE, cols, work);
        }
        ops->encode_e4m3(code, x, scale, whole, SIDE);
        if (rest) ops->encode_e4m3(code + whole * SIDE, x + whole * SIDE, scale + whole, 1, rest);
    }
}

static void decode(const tmb_format *f, const tmb_ops *ops, float *x, size_t rows, size_t cols,
                   const void *codes, const void *scales, float global, float *work)
{
    (void)f, (void)global, (void)work;
    size_t whole = cols / SIDE, rest = cols % SIDE;
    const float *scale = scales;
    const uint8_t *code = codes;
    for (size_t r = 0; r < rows; r++, x += cols, code += cols) {
        if (r && r % SIDE == 0) scale += whole + (rest != 0);
        ops->decode_e4m3(x, code, scale, whole, SIDE);
        if (rest) ops->decode_e4m3(x + whole * SIDE, code + whole * SIDE, scale + whole, 1, rest);
    }
}

const tmb_format tmb_format_fp8_block = {
    .name = "fp8-block",
    .summary = "8-bit E4M3, one scale for 128 x 128, activations by 128 columns at run time",
    .col_multiple = 1,
    .act = TMB_ACT_GROUP128,
    .bits = 8.0 + 32.0 / (SIDE * SIDE),
    .part = part,
    .encode = encode,
    .decode = decode,
};
