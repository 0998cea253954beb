/* search.cuh - the block scale of NVFP4 with the least squared error, as tmb_ops.search_nvfp4 has
 * it: all 126 candidates, each thread for a block of its own.
 *
 * The walk and the reasons why it may stop early are those of kernels/cpu/vector.h: no division is
 * needed to know a code, and a scale that no longer can win ends its direction. */
#ifndef TMB_CUDA_SEARCH_CUH
#define TMB_CUDA_SEARCH_CUH

#include "kernels/cuda/encode.cuh"

#include <float.h>

/* The error of magnitudes a [16] under scale c; *zeroed: the same over elements whose code is 0. */
__device__ __forceinline__ float search_error(const float *a, float c, float *zeroed)
{
    const float value[7] = {__fmul_rn(c, 0.5f), c,
                            __fmul_rn(c, 1.5f), __fmul_rn(c, 2.0f),
                            __fmul_rn(c, 3.0f), __fmul_rn(c, 4.0f),
                            __fmul_rn(c, 6.0f)};
    const float over[7] = {__fmul_rn(c, 0.25f), __fmul_rn(c, 0.75f), __fmul_rn(c, 1.25f),
                           __fmul_rn(c, 1.75f), __fmul_rn(c, 2.5f),  __fmul_rn(c, 3.5f),
                           __fmul_rn(c, 5.0f)};
    float e[16], z[16];
#pragma unroll
    for (int i = 0; i < 16; i++) {
        float v = 0.0f;
#pragma unroll
        for (int k = 0; k < 7; k++)
            v = over[k] < a[i] ? value[k] : v;
        const float d = __fsub_rn(a[i], v);
        e[i] = __fmul_rn(d, d);
        z[i] = over[0] < a[i] ? 0.0f : e[i];
    }
#pragma unroll
    for (int n = 8; n; n /= 2)
#pragma unroll
        for (int i = 0; i < n; i++) {
            e[i] = __fadd_rn(e[i], e[i + n]);
            z[i] = __fadd_rn(z[i], z[i + n]);
        }
    *zeroed = z[0];
    return e[0];
}

/* x [16], not all zero. */
__device__ __forceinline__ uint32_t search_scale(const float *x, float ws2)
{
    float a[16], top = 0.0f, least = FLT_MAX, zeroed;
#pragma unroll
    for (int i = 0; i < 16; i++) {
        a[i] = fabsf(__fdiv_rn(x[i], ws2));
        top = fmaxf(top, a[i]);
    }
    const uint32_t start = min(max((uint32_t)e4m3_of(__fdiv_rn(top, 6.0f)), 1u), 0x7eu);
    uint32_t best = 0x7e;
    for (uint32_t code = start; code < 0x7f; code++) {
        const float error = search_error(a, e4m3_value(code), &zeroed);
        if (error <= least) {
            least = error;
            best = code;
        }
        if (least < zeroed) break;
    }
    for (uint32_t code = start - 1; code; code--) {
        const float c = e4m3_value(code), cut = __fsub_rn(top, __fmul_rn(c, 6.0f));
        if (0.0f <= cut && least <= __fmul_rn(cut, cut)) break;
        const float error = search_error(a, c, &zeroed);
        if (error < least) {
            least = error;
            best = code;
        }
    }
    return best;
}

#endif
