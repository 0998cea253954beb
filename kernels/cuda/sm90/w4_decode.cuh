/* w4_decode.cuh - bit-sliced E2M1 codes and E5M3 scales into BF16 pairs (the layout is w4a16.h's).
 *
 * A code's two exponent bits and its mantissa bit are put where BF16 has its lowest exponent bits
 * and its highest mantissa bit: that value is the code's times 2^-126, code 0.5 being a subnormal.
 * The scale comes out as s * 2^100; the missing 2^26 joins the global scale in the epilogue. */
#ifndef TMB_CUDA_SM90_W4_DECODE_CUH
#define TMB_CUDA_SM90_W4_DECODE_CUH

#include "kernels/cuda/sm90/ptx.cuh"

#define W4_REBASE 0x1p26f

/* Byte j of word as two equal BF16 values. */
__device__ __forceinline__ uint32_t w4_scale(uint32_t word, int j)
{
    return __byte_perm(word, 0, 0x4040 | j << 8 | j) * 16u + 0x6c806c80u;
}

/* a [4]: the A fragment of m16n8k16: rows g, g + 8 and the two column pairs. */
__device__ __forceinline__ void w4_decode(uint32_t word, uint32_t scale, uint32_t scale8,
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

#endif
