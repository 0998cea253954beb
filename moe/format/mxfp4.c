/* mxfp4.c - MXFP4 (OCP Microscaling Formats v1.0): E2M1 codes, one E8M0 scale for 32 columns.
 *
 * Two scale rules are in use.  This is the one of compressed-tensors, the only layout in which
 * engines load MXFP4: the exponent of the largest magnitude, one more from mantissa 1.75 on (so
 * 1.5 to 1.75 is cut to 6), less 2.  The format is weight-only: an engine that has MXFP4 kernels
 * rounds its input to MXFP4 on its own whatever the checkpoint says, and without them it runs
 * such weights in 16 bits; asking for quantized input would bar the second. */
#include "config.h"
#include "moe/format/parts.h"

enum { BLOCK = 32, TOP_EXPONENT = 2 }; /* 6 = 1.5 * 2^2 */

static bool part(const tmb_format *f, tmb_part part, uint64_t out, uint64_t in, tmb_geometry *g)
{
    (void)f;
    if (part == TMB_PART_CODES) return tmb_part_matrix(g, TMB_U8, out, in / 2);
    return part == TMB_PART_SCALE && tmb_part_matrix(g, TMB_U8, out, in / BLOCK);
}

static void encode(const tmb_format *f, const tmb_ops *ops, tmb_scale_rule rule, const float *x,
                   size_t rows, size_t cols, float global, void *codes, void *scales, float *work)
{
    (void)f, (void)rule, (void)global;
    uint8_t *s = scales, *code = codes;
    for (size_t blocks = rows * (cols / BLOCK), n; blocks; blocks -= n) {
        n = blocks < TMB_CHUNK ? blocks : TMB_CHUNK;
        ops->block_amax(work, x, n, BLOCK);
        tmb_scales_e8m0(s, work, n, 0x200000, TOP_EXPONENT); /* a quarter of the mantissa */
        ops->decode(work, s, TMB_F8_E8M0, n);
        ops->encode_e2m1(code, x, work, n, BLOCK);
        s += n;
        x += n * BLOCK;
        code += n * BLOCK / 2;
    }
}

static void decode(const tmb_format *f, const tmb_ops *ops, float *x, size_t rows, size_t cols,
                   const void *codes, const void *scales, float global, float *work)
{
    (void)f, (void)global;
    const uint8_t *s = scales, *code = codes;
    for (size_t blocks = rows * (cols / BLOCK), n; blocks; blocks -= n) {
        n = blocks < TMB_CHUNK ? blocks : TMB_CHUNK;
        ops->decode(work, s, TMB_F8_E8M0, n);
        ops->decode_e2m1(x, code, work, n, BLOCK);
        s += n;
        x += n * BLOCK;
        code += n * BLOCK / 2;
    }
}

const tmb_format tmb_format_mxfp4 = {
    .name = "mxfp4",
    .summary = "4-bit E2M1 weights, power-of-two scale for 32, activations untouched",
    .col_multiple = BLOCK,
    .act = TMB_ACT_NONE,
    .bits = 4.25,
    .part = part,
    .encode = encode,
    .decode = decode,
};
