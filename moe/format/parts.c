#include "config.h"
#include "moe/format/parts.h"

#include "kernels/base/codec.h"
#include "kernels/base/mem.h"

#include <float.h>

bool tmb_part_matrix(tmb_geometry *g, tmb_dtype dtype, uint64_t rows, uint64_t cols)
{
    *g = (tmb_geometry){.dtype = dtype, .rank = 2, .shape = {rows, cols}};
    /* No weight that fits a file comes near this; one that would is refused by its size. */
    if (!tmb_mul(rows, cols, &g->bytes) || !tmb_mul(g->bytes, tmb_dtype_bits(dtype) / 8, &g->bytes))
        g->bytes = UINT64_MAX;
    return true;
}

bool tmb_part_number(tmb_geometry *g, tmb_dtype dtype)
{
    *g = (tmb_geometry){.dtype = dtype, .bytes = tmb_dtype_bits(dtype) / 8};
    return true;
}

float tmb_scale_by(float amax, float top)
{
    if (amax == 0.0f) return 1.0f;
    float scale = amax / top;
    return scale > 0.0f ? scale : FLT_TRUE_MIN;
}

float tmb_scale_fp8(float amax)
{
    if (amax == 0.0f) return 1.0f;
    return (amax > FLT_MIN ? amax : FLT_MIN) / 448.0f;
}

void tmb_scales_e8m0(uint8_t *codes, const float *amax, size_t n, uint32_t carry, int down)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = tmb_f32_bits(amax[i]);
        int exponent = (int)((bits + carry) >> 23) - down;
        codes[i] = (uint8_t)(bits == 0 ? 127 : exponent < 0 ? 0 : exponent);
    }
}
