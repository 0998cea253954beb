/* codec.h - one number at a time: bits to float32 and back.
 *
 * These few functions are the definition of every element type; the tables of ops.h, plain or
 * vector, must agree with them to the bit.  E4M3 is the finite-only variant (no Inf, 0x7f is NaN,
 * largest 448) and E8M0 the bare exponent of OCP Microscaling Formats v1.0; E2M1 has the
 * magnitudes 0, 0.5, 1, 1.5, 2, 3, 4, 6.
 *
 * The encoders round to nearest, ties to even, by two observations: where the target has a
 * mantissa, adding half of the dropped part (less one when the kept part is even) to the bits of
 * the float carries correctly into the exponent; where the target is subnormal its steps are
 * equal, and adding a power of two whose unit in the last place is that step lets the FPU
 * round. */
#ifndef TMB_BASE_CODEC_H
#define TMB_BASE_CODEC_H

#include <stdint.h>
#include <string.h>

static inline uint32_t tmb_f32_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline float tmb_f32_from_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

#define TMB_F32_SIGN 0x80000000u
#define TMB_F32_MAG  0x7fffffffu
#define TMB_F32_INF  0x7f800000u
#define TMB_F32_NAN  0x7fc00000u

static inline float tmb_bf16_to_f32(uint16_t h)
{
    return tmb_f32_from_bits((uint32_t)h << 16);
}

/* NaN stays NaN: quiet, with its sign and the upper payload. */
static inline uint16_t tmb_f32_to_bf16(float x)
{
    uint32_t u = tmb_f32_bits(x);
    if ((u & TMB_F32_MAG) > TMB_F32_INF) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* As the F16C instructions do it: NaN becomes quiet and keeps sign and payload. */
static inline float tmb_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, mag = h & 0x7fff;
    if (mag > 0x7c00) return tmb_f32_from_bits(sign | 0x7fc00000u | mag << 13);
    if (mag == 0x7c00) return tmb_f32_from_bits(sign | TMB_F32_INF);
    if (mag < 0x400) { /* mag * 2^-24 exactly, in the range where float32 is normal */
        float v = (float)mag * 0x1p-24f;
        return tmb_f32_from_bits(sign | tmb_f32_bits(v));
    }
    return tmb_f32_from_bits(sign | ((mag << 13) + (112u << 23)));
}

static inline uint16_t tmb_f32_to_f16(float x)
{
    uint32_t u = tmb_f32_bits(x), mag = u & TMB_F32_MAG;
    uint16_t sign = (uint16_t)(u >> 16 & 0x8000);
    if (mag > TMB_F32_INF) return (uint16_t)(sign | 0x7e00 | (mag >> 13 & 0x3ff));
    if (mag >= 0x477ff000u) return (uint16_t)(sign | 0x7c00); /* 65520 and more round to Inf */
    if (mag < 0x38800000u) {                                  /* below 2^-14: steps of 2^-24 */
        float shifted = tmb_f32_from_bits(mag) + 0.5f;
        return (uint16_t)(sign | (tmb_f32_bits(shifted) - 0x3f000000u));
    }
    return (uint16_t)(sign | ((mag + 0xfff + (mag >> 13 & 1) - (112u << 23)) >> 13));
}

static inline float tmb_e4m3_to_f32(uint8_t c)
{
    uint32_t sign = (uint32_t)(c & 0x80) << 24, mag = c & 0x7f;
    if (mag == 0x7f) return tmb_f32_from_bits(sign | TMB_F32_NAN);
    if (mag < 8) return tmb_f32_from_bits(sign | tmb_f32_bits((float)mag * 0x1p-9f));
    return tmb_f32_from_bits(sign | ((mag << 20) + (120u << 23)));
}

/* Saturating: what is larger than 448, Inf and NaN too, becomes 448 with its sign. */
static inline uint8_t tmb_f32_to_e4m3(float x)
{
    uint32_t u = tmb_f32_bits(x), mag = u & TMB_F32_MAG, sign = u >> 24 & 0x80;
    if (mag > 0x43e00000u) mag = 0x43e00000u; /* 448 */
    if (mag < 0x3c800000u)                    /* below 2^-6: steps of 2^-9 */
        mag = tmb_f32_bits(tmb_f32_from_bits(mag) + 16384.0f) - 0x46800000u;
    else
        mag = ((mag + 0x7ffff + (mag >> 20 & 1)) >> 20) - (120u << 3);
    return (uint8_t)(sign | mag);
}

static inline float tmb_e2m1_to_f32(uint8_t c)
{
    uint32_t sign = (uint32_t)(c & 8) << 28, mag = c & 7;
    if (mag < 2) return tmb_f32_from_bits(sign | mag * 0x3f000000u); /* 0, 0.5 */
    return tmb_f32_from_bits(sign | ((mag << 22) + (126u << 23)));
}

/* Saturating.  The sign bit says x < 0: -0.0 and NaN have none. */
static inline uint8_t tmb_f32_to_e2m1(float x)
{
    uint32_t mag = tmb_f32_bits(x) & TMB_F32_MAG, sign = x < 0.0f ? 8 : 0;
    if (mag > 0x40c00000u) mag = 0x40c00000u; /* 6 */
    if (mag < 0x3f800000u)                    /* below 1: steps of 0.5 */
        mag = tmb_f32_bits(tmb_f32_from_bits(mag) + 0x1p22f) - 0x4a800000u;
    else
        mag = ((mag + 0x1fffff + (mag >> 22 & 1)) >> 22) - (126u << 1);
    return (uint8_t)(sign | mag);
}

/* 2^(c - 127); 0xff is NaN. */
static inline float tmb_e8m0_to_f32(uint8_t c)
{
    if (c == 0) return 0x1p-127f;
    return tmb_f32_from_bits(c == 0xff ? TMB_F32_NAN : (uint32_t)c << 23);
}

/* Offset binary: the integer -8..7 plus 8. */
static inline float tmb_int4_to_f32(uint8_t c)
{
    return (float)((int)(c & 15) - 8);
}

/* round(clamp(x, -8, 7)) + 8, ties to even; NaN counts as -8. */
static inline uint8_t tmb_f32_to_int4(float x)
{
    float v = x > -8.0f ? x : -8.0f;
    v = v < 7.0f ? v : 7.0f;
    /* 1.5 * 2^23 has unit steps on both sides; its last bits are the integer. */
    return (uint8_t)(tmb_f32_bits(v + 0x1.8p23f) - 0x4b400000u + 8u);
}

#endif
