/* encode.cuh - float32 to codes on the GPU, to the bit as kernels/base/codec.h has it.
 *
 * Sixteen values share a divisor, so the quotient is not a division each: with r = 1 / d rounded to
 * nearest, q0 = x r is within one unit of the quotient, the remainder x - q0 d is exact in a fused
 * multiply-add, and q0 + remainder * r is the quotient rounded to nearest (Markstein, IBM Journal
 * of Research and Development 34-1, 1990).  That needs exponents away from the ends: outside 2^-60
 * <= d <= 2^15, |x| < 2^60 the divider divides. */
#ifndef TMB_CUDA_ENCODE_CUH
#define TMB_CUDA_ENCODE_CUH

#include <cuda_fp8.h>
#include <cuda_runtime.h>
#include <stdint.h>

struct divider {
    float d, r;
    bool fast;
    /* top: largest magnitude that will be divided. */
    __device__ __forceinline__ divider(float by, float top)
    {
        d = by;
        r = __frcp_rn(by);
        fast = by >= 0x1p-60f && by <= 0x1p15f && top < 0x1p60f;
    }
    /* FAST: the caller has seen that `fast` is set. */
    template <bool FAST> __device__ __forceinline__ float quotient(float x) const
    {
        if (!FAST) return __fdiv_rn(x, d);
        const float q = __fmul_rn(x, r);
        return __fmaf_rn(__fmaf_rn(-q, d, x), r, q);
    }
    __device__ __forceinline__ float quotient(float x) const
    {
        return fast ? quotient<true>(x) : quotient<false>(x);
    }
};

/* E2M1 of |q| <= 7 in the low four bits.  Adding 2^22, 2^23 or 2^24 by q's binade leaves q in units
 * of the binade's step (0.5, 1, 2) in the last bits, rounded to even by the adder; each binade
 * begins two codes after the one below.  The 6 makes the sum of both a multiple of 8 apart from
 * that. */
__device__ __forceinline__ uint32_t e2m1_small(float q)
{
    const uint32_t bits = __float_as_uint(q);
    const uint32_t binade = max(bits & 0x7f800000u, 0x3f800000u);
    const uint32_t r =
        __float_as_uint(__fadd_rn(fabsf(q), __uint_as_float(binade + (22u << 23) + 6u)));
    return ((r + (r >> 22)) & 7u) | (bits >> 28 & 8u);
}

/* codes of 16 values, the first in the lowest bits; v holds no -0.  PLAIN: no quotient is above 7,
 * and none vanishes. */
template <bool PLAIN> __device__ __forceinline__ uint2 e2m1_16(const float *v, const divider &by)
{
    uint32_t word[2] = {0, 0};
#pragma unroll
    for (int i = 0; i < 16; i++) {
        float q = PLAIN ? by.quotient<true>(v[i]) : by.quotient<false>(v[i]);
        if (!PLAIN) q = __fadd_rn(fminf(fmaxf(q, -6.0f), 6.0f), 0.0f);
        word[i / 8] += e2m1_small(q) << (4 * (i % 8));
    }
    return make_uint2(word[0], word[1]);
}
__device__ __forceinline__ uint2 e2m1_16(const float *v, const divider &by, float top)
{
    return by.fast && top < 6.9f * by.d ? e2m1_16<true>(v, by) : e2m1_16<false>(v, by);
}

__device__ __forceinline__ uint8_t e4m3_of(float q)
{
    return (uint8_t)__nv_cvt_float_to_fp8(q, __NV_SATFINITE, __NV_E4M3);
}

/* The quotient with x's sign: the steps of a fast one lose that of -0. */
__device__ __forceinline__ float signed_quotient(const divider &by, float x)
{
    return copysignf(by.quotient(x), x);
}

template <bool FAST> __device__ __forceinline__ uint4 e4m3_16_by(const float *v, const divider &by)
{
    uint32_t word[4] = {0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const float2 two = make_float2(copysignf(by.quotient<FAST>(v[2 * i]), v[2 * i]),
                                       copysignf(by.quotient<FAST>(v[2 * i + 1]), v[2 * i + 1]));
        word[i / 2] |= (uint32_t)__nv_cvt_float2_to_fp8x2(two, __NV_SATFINITE, __NV_E4M3)
                       << (16 * (i % 2));
    }
    return make_uint4(word[0], word[1], word[2], word[3]);
}
__device__ __forceinline__ uint4 e4m3_16(const float *v, const divider &by)
{
    return by.fast ? e4m3_16_by<true>(v, by) : e4m3_16_by<false>(v, by);
}

/* round(clamp(q, -8, 7)) + 8, as tmb_f32_to_int4(). */
template <bool FAST> __device__ __forceinline__ uint2 int4_16_by(const float *v, const divider &by)
{
    uint32_t word[2] = {0, 0};
#pragma unroll
    for (int i = 0; i < 16; i++) {
        const float q = fminf(fmaxf(by.quotient<FAST>(v[i]), -8.0f), 7.0f);
        const uint32_t code = __float_as_uint(__fadd_rn(q, 0x1.8p23f)) - 0x4b400000u + 8u;
        word[i / 8] += code << (4 * (i % 8));
    }
    return make_uint2(word[0], word[1]);
}
__device__ __forceinline__ uint2 int4_16(const float *v, const divider &by)
{
    return by.fast ? int4_16_by<true>(v, by) : int4_16_by<false>(v, by);
}

/* Positive E4M3, NaN excluded. */
__device__ __forceinline__ float e4m3_value(uint32_t c)
{
    return c < 8 ? (float)c * 0x1p-9f : __uint_as_float((c << 20) + (120u << 23));
}
__device__ __forceinline__ float e8m0_value(uint32_t c)
{
    return c == 0 ? 0x1p-127f : __uint_as_float(c << 23);
}

#endif
