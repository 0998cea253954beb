/* mxfp4.c - MXFP4 (OCP Microscaling Formats v1.0): E2M1 codes, one E8M0 scale for 32 columns.
 *
 * Two scale rules are in use.  This is the one of compressed-tensors, the only layout in which
 * engines load MXFP4: the exponent of the largest magnitude, one more from mantissa 1.75 on (so
 * 1.5 to 1.75 is cut to 6), less 2.  The format is weight-only: an engine that has MXFP4 kernels
 * rounds its input to MXFP4 on its own whatever the checkpoint says, and without them it runs
 * such weights in 16 bits; asking for quantized input would bar the second. */
#include "config.h"
#include "moe/format/mx.h"

static const tmb_mx mx = {
    .bits = 4,
    .carry = 0x200000, /* a quarter of the mantissa */
    .top_exponent = 2, /* 6 = 1.5 * 2^2 */
};

static bool part(const tmb_format *f, tmb_part part, uint64_t out, uint64_t in, tmb_geometry *g)
{
    (void)f;
    return tmb_mx_part(&mx, part, out, in, g);
}

static void encode(const tmb_format *f, const tmb_ops *ops, tmb_scale_rule rule, const float *x,
                   size_t rows, size_t cols, float global, void *codes, void *scales, float *work)
{
    (void)f, (void)rule, (void)global;
    tmb_mx_encode(&mx, ops, x, rows, cols, codes, scales, work);
}

static void decode(const tmb_format *f, const tmb_ops *ops, float *x, size_t rows, size_t cols,
                   const void *codes, const void *scales, float global, float *work)
{
    (void)f, (void)global;
    tmb_mx_decode(&mx, ops, x, rows, cols, codes, scales, work);
}

const tmb_format tmb_format_mxfp4 = {
    .name = "mxfp4",
    .summary = "4-bit E2M1 weights, power-of-two scale for 32, activations untouched",
    .col_multiple = TMB_MX_BLOCK,
    .act = TMB_ACT_NONE,
    .bits = 4.25,
    .part = part,
    .encode = encode,
    .decode = decode,
};
