/* mxfp8.c - MXFP8 (OCP Microscaling Formats v1.0): E4M3 codes, one E8M0 scale for 32 columns.
 *
 * The scale is 2^ceil(log2(amax / 448)), as ModelOpt has it: nothing saturates. */
#include "config.h"
#include "moe/format/mx.h"

static const tmb_mx mx = {
    .bits = 8,
    .carry = 0x1fffff, /* up when above 1.75 */
    .top_exponent = 8, /* 448 = 1.75 * 2^8 */
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

const tmb_format tmb_format_mxfp8 = {
    .name = "mxfp8",
    .summary = "8-bit E4M3, power-of-two scale for 32, activations alike",
    .col_multiple = TMB_MX_BLOCK,
    .act = TMB_ACT_MX,
    .bits = 8.25,
    .part = part,
    .encode = encode,
    .decode = decode,
};
