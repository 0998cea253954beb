/* mxfp8.c - MXFP8 (OCP Microscaling Formats v1.0): E4M3 codes, one E8M0 scale for 32 columns.
 *
 * The scale is 2^ceil(log2(amax / 448)), as ModelOpt has it: nothing saturates. */
#include "config.h"
#include "moe/format/parts.h"

enum { BLOCK = 32, TOP_EXPONENT = 8 }; /* 448 = 1.75 * 2^8 */

static bool part(const tmb_format *f, tmb_part part, uint64_t out, uint64_t in, tmb_geometry *g)
{
    (void)f;
    if (part == TMB_PART_CODES) return tmb_part_matrix(g, TMB_F8_E4M3, out, in);
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
        tmb_scales_e8m0(s, work, n, 0x1fffff, TOP_EXPONENT); /* up when above 1.75 */
        ops->decode(work, s, TMB_F8_E8M0, n);
        ops->encode_e4m3(code, x, work, n, BLOCK);
        s += n;
        x += n * BLOCK;
        code += n * BLOCK;
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
        ops->decode_e4m3(x, code, work, n, BLOCK);
        s += n;
        x += n * BLOCK;
        code += n * BLOCK;
    }
}

const tmb_format tmb_format_mxfp8 = {
    .name = "mxfp8",
    .summary = "8-bit E4M3, power-of-two scale for 32, activations alike",
    .col_multiple = BLOCK,
    .act = TMB_ACT_MX,
    .bits = 8.25,
    .part = part,
    .encode = encode,
    .decode = decode,
};
