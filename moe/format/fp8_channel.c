/* fp8_channel.c - FP8 by output row: code = e4m3(x / scale of the row), activations by token at
 * run time. */
#include "config.h"
#include "moe/format/parts.h"

static bool part(const tmb_format *f, tmb_part part, uint64_t out, uint64_t in, tmb_geometry *g)
{
    (void)f;
    if (part == TMB_PART_CODES) return tmb_part_matrix(g, TMB_F8_E4M3, out, in);
    return part == TMB_PART_SCALE && tmb_part_matrix(g, TMB_F32, out, 1);
}

static void encode(const tmb_format *f, const tmb_ops *ops, tmb_scale_rule rule, const float *x,
                   size_t rows, size_t cols, float global, void *codes, void *scales, float *work)
{
    (void)f, (void)rule, (void)global, (void)work;
    float *scale = scales;
    uint8_t *code = codes;
    for (size_t r = 0; r < rows; r++, x += cols, code += cols) {
        scale[r] = tmb_scale_fp8(ops->amax(x, cols));
        ops->encode_e4m3(code, x, &scale[r], 1, cols);
    }
}

static void decode(const tmb_format *f, const tmb_ops *ops, float *x, size_t rows, size_t cols,
                   const void *codes, const void *scales, float global, float *work)
{
    (void)f, (void)global, (void)work;
    ops->decode_e4m3(x, codes, scales, rows, cols);
}

const tmb_format tmb_format_fp8_channel = {
    .name = "fp8-channel",
    .summary = "8-bit E4M3, one scale an output row, activations by token at run time",
    .col_multiple = 1,
    .act = TMB_ACT_TOKEN,
    .bits = 8.0,
    .part = part,
    .encode = encode,
    .decode = decode,
};
