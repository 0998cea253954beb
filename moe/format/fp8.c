/* fp8.c - FP8 per tensor: code = e4m3(x / scale), scale = amax / 448, activations by one stored
 * scale as well.
 *
 * NOTE: the quotient is float32.  ModelOpt's export of a BF16 weight rounds it to BF16 first and
 * so differs by one step in about 3 % of the codes; ours is the nearer one. */
#include "config.h"
#include "moe/format/parts.h"

static bool part(const tmb_format *f, tmb_part part, uint64_t out, uint64_t in, tmb_geometry *g)
{
    (void)f;
    switch (part) {
    case TMB_PART_CODES:
        return tmb_part_matrix(g, TMB_F8_E4M3, out, in);
    case TMB_PART_GLOBAL:
    case TMB_PART_INPUT:
        return tmb_part_number(g, TMB_F32);
    default:
        return false;
    }
}

static float global_scale(float amax)
{
    return tmb_scale_by(amax, 448.0f);
}

static void encode(const tmb_format *f, const tmb_ops *ops, tmb_scale_rule rule, const float *x,
                   size_t rows, size_t cols, float global, void *codes, void *scales, float *work)
{
    (void)f, (void)rule, (void)scales, (void)work;
    ops->encode_e4m3(codes, x, &global, 1, rows * cols);
}

static void decode(const tmb_format *f, const tmb_ops *ops, float *x, size_t rows, size_t cols,
                   const void *codes, const void *scales, float global, float *work)
{
    (void)f, (void)scales, (void)work;
    ops->decode_e4m3(x, codes, &global, 1, rows * cols);
}

const tmb_format tmb_format_fp8 = {
    .name = "fp8",
    .summary = "8-bit E4M3, one scale a tensor, static activation scale",
    .col_multiple = 1,
    .act = TMB_ACT_STATIC,
    .sharing = TMB_SHARE_OUTSIDE_EXPERTS,
    .bits = 8.0,
    .part = part,
    .global_scale = global_scale,
    .encode = encode,
    .decode = decode,
};
