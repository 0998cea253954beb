#include "config.h"
#include "moe/format/mx.h"

#include "moe/format/parts.h"

bool tmb_mx_part(const tmb_mx *mx, tmb_part part, uint64_t out, uint64_t in, tmb_geometry *g)
{
    if (part == TMB_PART_CODES)
        return mx->bits == 4 ? tmb_part_matrix(g, TMB_U8, out, in / 2)
                             : tmb_part_matrix(g, TMB_F8_E4M3, out, in);
    return part == TMB_PART_SCALE && tmb_part_matrix(g, TMB_U8, out, in / TMB_MX_BLOCK);
}

void tmb_mx_encode(const tmb_mx *mx, const tmb_ops *ops, const float *x, size_t rows, size_t cols,
                   void *codes, void *scales, float *work)
{
    uint8_t *s = scales, *code = codes;
    for (size_t blocks = rows * (cols / TMB_MX_BLOCK), n; blocks; blocks -= n) {
        n = blocks < TMB_CHUNK ? blocks : TMB_CHUNK;
        ops->block_amax(work, x, n, TMB_MX_BLOCK);
        tmb_scales_e8m0(s, work, n, mx->carry, mx->top_exponent);
        ops->decode(work, s, TMB_F8_E8M0, n);
        (mx->bits == 4 ? ops->encode_e2m1 : ops->encode_e4m3)(code, x, work, n, TMB_MX_BLOCK);
        s += n;
        x += n * TMB_MX_BLOCK;
        code += n * TMB_MX_BLOCK * mx->bits / 8;
    }
}

void tmb_mx_decode(const tmb_mx *mx, const tmb_ops *ops, float *x, size_t rows, size_t cols,
                   const void *codes, const void *scales, float *work)
{
    const uint8_t *s = scales, *code = codes;
    for (size_t blocks = rows * (cols / TMB_MX_BLOCK), n; blocks; blocks -= n) {
        n = blocks < TMB_CHUNK ? blocks : TMB_CHUNK;
        ops->decode(work, s, TMB_F8_E8M0, n);
        (mx->bits == 4 ? ops->decode_e2m1 : ops->decode_e4m3)(x, code, work, n, TMB_MX_BLOCK);
        s += n;
        x += n * TMB_MX_BLOCK;
        code += n * TMB_MX_BLOCK * mx->bits / 8;
    }
}
