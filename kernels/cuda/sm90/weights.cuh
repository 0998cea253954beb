/* weights.cuh - packed weights into A fragments of the matrix units (the layouts are grouped.h's).
 *
 * A format has blob_bytes, and a fragment: what a lane holds of 64 columns of one row tile.  load()
 * reads it from a blob in shared memory, step(half, j, a) gives the four registers of the j-th
 * 16-wide step: rows g, g + 8 and two pairs of columns.  as_loaded: step() computes nothing, so the
 * registers load() fills are those the matrix unit reads, and must be free of it by then. */
#ifndef TMB_CUDA_SM90_WEIGHTS_CUH
#define TMB_CUDA_SM90_WEIGHTS_CUH

#include "kernels/cuda/grouped.h"
#include "kernels/cuda/sm90/ptx.cuh"

/* Byte j of word in the low byte of both halves. */
__device__ __forceinline__ uint32_t twice(uint32_t word, int j)
{
    return __byte_perm(word, 0, 0x4040 | j << 8 | j);
}

/* Bit-sliced E2M1: a code's two exponent bits and its mantissa bit are put where BF16 has its
 * lowest exponent bits and its highest mantissa bit: that value is the code's times 2^-126, code
 * 0.5 being a subnormal.  The scales hold the missing exponent, or the factor does. */
__device__ __forceinline__ void e2m1_step(uint32_t word, uint32_t scale, uint32_t scale8,
                                          uint32_t *a)
{
    const uint32_t mask = 0x81c081c0u;
    uint32_t d =
        ((word * 2u) & 0x80008000u) | ((word >> 5) & 0x01000100u) | ((word >> 4) & 0x00c000c0u);
    a[0] = mul_bf16x2(word & mask, scale);
    a[1] = mul_bf16x2((word * 8u) & mask, scale8);
    a[2] = mul_bf16x2((word * 64u) & mask, scale);
    a[3] = mul_bf16x2(d, scale8);
}

struct four_bits {
    static constexpr int blob_bytes = TMB_BLOB_BYTES_4;
    static constexpr bool as_loaded = false;
    uint4 codes;
    uint32_t scales;
    __device__ __forceinline__ void load_codes(const uint8_t *blob, int half, int tile, int lane)
    {
        codes = *(const uint4 *)(blob + ((half * 4 + tile) * 32 + lane) * 16);
    }
    __device__ __forceinline__ uint32_t word(int j) const
    {
        return j == 0 ? codes.x : j == 1 ? codes.y : j == 2 ? codes.z : codes.w;
    }
};

struct weights_nvfp4 : four_bits {
    __device__ __forceinline__ void load(const uint8_t *blob, int half, int tile, int lane)
    {
        load_codes(blob, half, tile, lane);
        scales = *(const uint32_t *)(blob + TMB_BLOB_CODES + (tile * 32 + lane) * 4);
    }
    /* s * 2^100 as two equal BF16 values */
    static __device__ __forceinline__ uint32_t scale(uint32_t word, int j)
    {
        return twice(word, j) * 16u + 0x6c806c80u;
    }
    __device__ __forceinline__ void step(int half, int j, uint32_t *a) const
    {
        e2m1_step(word(j), scale(scales, 2 * half), scale(scales, 2 * half + 1), a);
    }
};

struct weights_mxfp4 : weights_nvfp4 {
    static __device__ __forceinline__ uint32_t scale(uint32_t word, int j)
    {
        return twice(word, j) * 128u;
    }
    __device__ __forceinline__ void step(int half, int j, uint32_t *a) const
    {
        e2m1_step(word(j), scale(scales, 2 * half), scale(scales, 2 * half + 1), a);
    }
};

/* 0x4300 | code is 128 + code in BF16; less 136 it is exact, times the scale it is rounded once. */
struct weights_int4 : four_bits {
    __device__ __forceinline__ void load(const uint8_t *blob, int half, int tile, int lane)
    {
        load_codes(blob, half, tile, lane);
        const int word = ((tile * 2 + half) * 8 + (lane >> 2)) * 2 + ((lane & 3) >> 1);
        scales = *(const uint32_t *)(blob + TMB_BLOB_CODES + word * 4);
    }
    static __device__ __forceinline__ uint32_t value(uint32_t codes, uint32_t scale)
    {
        return mul_bf16x2(sub_bf16x2((codes & 0x000f000fu) | 0x43004300u, 0x43084308u), scale);
    }
    __device__ __forceinline__ void step(int, int j, uint32_t *a) const
    {
        const uint32_t w = word(j), s = __byte_perm(scales, 0, 0x1010),
                       s8 = __byte_perm(scales, 0, 0x3232);
        a[0] = value(w, s);
        a[1] = value(w >> 4, s8);
        a[2] = value(w >> 8, s);
        a[3] = value(w >> 12, s8);
    }
};

struct weights_bf16 {
    static constexpr int blob_bytes = TMB_BLOB_BYTES_16;
    static constexpr bool as_loaded = true;
    uint4 pairs[4];
    __device__ __forceinline__ void load(const uint8_t *blob, int half, int tile, int lane)
    {
#pragma unroll
        for (int j = 0; j < 4; j++)
            pairs[j] = *(const uint4 *)(blob + (((half * 4 + tile) * 4 + j) * 32 + lane) * 16);
    }
    __device__ __forceinline__ void step(int, int j, uint32_t *a) const
    {
        a[0] = pairs[j].x;
        a[1] = pairs[j].y;
        a[2] = pairs[j].z;
        a[3] = pairs[j].w;
    }
};

#endif
