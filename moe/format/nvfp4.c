/* nvfp4.c - NVFP4: E2M1 codes, one E4M3 scale for 16 columns, one float32 (ws2) for the tensor.
 *
 *   ws2   = amax / 2688                      2688 = 6 * 448
 *   s     = amax of the block / (6 * ws2)    0 -> 1, else within 2^-9 and 448
 *   s     = e4m3(s)
 *   code  = e2m1(x / (s * ws2))              value = E2M1[code] * (s * ws2)
 *
 * each operation rounded once in float32, in this order: these are ModelOpt's bytes.  Layouts that
 * speak of a divisor store 1 / ws2. */
#include "config.h"
#include "moe/format/nvfp4.h"

#include "moe/format/parts.h"

#include <float.h>

enum { BLOCK = 16, E4M3_ONE = 0x38, E4M3_LEAST = 0x01 };

bool tmb_nvfp4_part(const tmb_format *f, tmb_part part, uint64_t out, uint64_t in, tmb_geometry *g)
{
    switch (part) {
    case TMB_PART_CODES:
        return tmb_part_matrix(g, TMB_U8, out, in / 2);
    case TMB_PART_SCALE:
        return tmb_part_matrix(g, TMB_F8_E4M3, out, in / BLOCK);
    case TMB_PART_GLOBAL:
        return tmb_part_number(g, TMB_F32);
    case TMB_PART_INPUT:
        return f->act == TMB_ACT_NVFP4 && tmb_part_number(g, TMB_F32);
    default:
        return false;
    }
}

float tmb_nvfp4_global(float amax)
{
    return tmb_scale_by(amax, 2688.0f);
}

/* What a block is divided by.  Where s * ws2 is too small for a float, the smallest one makes
 * zeros stay zero and everything else saturate, instead of 0 / 0. */
static void block_divisors(const tmb_ops *ops, float *divisor, const uint8_t *s, size_t n,
                           float ws2)
{
    ops->decode_e4m3(divisor, s, &ws2, 1, n);
    for (size_t i = 0; i < n; i++)
        divisor[i] = divisor[i] > FLT_TRUE_MIN ? divisor[i] : FLT_TRUE_MIN;
}

static void choose_scales(const tmb_ops *ops, uint8_t *s, const float *x, size_t n, float ws2,
                          float *work)
{
    float six = 6.0f * ws2;
    ops->block_amax(work, x, n, BLOCK);
    ops->encode_e4m3(s, work, &six, 1, n); /* saturates at 448 */
    for (size_t i = 0; i < n; i++)
        if (s[i] == 0) s[i] = work[i] / six == 0.0f ? E4M3_ONE : E4M3_LEAST;
}

/* n blocks under their scales. */
static void encode_blocks(const tmb_ops *ops, const float *x, size_t n, float ws2, uint8_t *code,
                          const uint8_t *s, float *work)
{
    block_divisors(ops, work, s, n, ws2);
    ops->encode_e2m1(code, x, work, n, BLOCK);
}

void tmb_nvfp4_encode(const tmb_format *f, const tmb_ops *ops, tmb_scale_rule rule, const float *x,
                      size_t rows, size_t cols, float global, void *codes, void *scales,
                      float *work)
{
    (void)f;
    uint8_t *s = scales, *code = codes;
    for (size_t blocks = rows * (cols / BLOCK), n; blocks; blocks -= n) {
        n = blocks < TMB_CHUNK ? blocks : TMB_CHUNK;
        if (rule == TMB_SCALE_MAX)
            choose_scales(ops, s, x, n, global, work);
        else
            ops->search_nvfp4(s, x, global, n);
        encode_blocks(ops, x, n, global, code, s, work);
        s += n;
        x += n * BLOCK;
        code += n * BLOCK / 2;
    }
}

void tmb_nvfp4_encode_weighted(const tmb_format *f, const tmb_ops *ops, const tmb_moments *moments,
                               const float *x, size_t rows, size_t cols, float global, void *codes,
                               void *scales, float *work)
{
    (void)f;
    uint8_t *s = scales, *code = codes;
    size_t line = cols / BLOCK, lanes = (size_t)TMB_MOMENT_ROWS(moments->full);
    for (size_t r = 0; r < rows; r++)
        for (size_t b = 0, n; b < line; b += n) {
            /* a whole number of groups, so that the table can be entered here */
            const tmb_moments here = {moments->full, moments->lanes + b * lanes};
            n = line - b < TMB_CHUNK ? line - b : TMB_CHUNK;
            ops->search_nvfp4_weighted(s, x, global, &here, n);
            encode_blocks(ops, x, n, global, code, s, work);
            s += n;
            x += n * BLOCK;
            code += n * BLOCK / 2;
        }
}

void tmb_nvfp4_decode(const tmb_format *f, const tmb_ops *ops, float *x, size_t rows, size_t cols,
                      const void *codes, const void *scales, float global, float *work)
{
    (void)f;
    const uint8_t *s = scales, *code = codes;
    for (size_t blocks = rows * (cols / BLOCK), n; blocks; blocks -= n) {
        n = blocks < TMB_CHUNK ? blocks : TMB_CHUNK;
        ops->decode_e4m3(work, s, &global, 1, n);
        ops->decode_e2m1(x, code, work, n, BLOCK);
        s += n;
        x += n * BLOCK;
        code += n * BLOCK / 2;
    }
}

const tmb_format tmb_format_nvfp4 = {
    .name = "nvfp4",
    .summary = "4-bit E2M1 weights and activations, E4M3 scale for 16, float32 for the tensor",
    .col_multiple = BLOCK,
    .act = TMB_ACT_NVFP4,
    .sharing = TMB_SHARE_FUSED,
    .can_mse = true,
    .bits = 4.5,
    .part = tmb_nvfp4_part,
    .global_scale = tmb_nvfp4_global,
    .encode = tmb_nvfp4_encode,
    .encode_weighted = tmb_nvfp4_encode_weighted,
    .decode = tmb_nvfp4_decode,
};
