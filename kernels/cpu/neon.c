/* neon.c - sixteen lanes in four registers: the Advanced SIMD of every 64-bit ARM.  The operations
 * themselves are in vector.h. */
#include "config.h"

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>

typedef float32x4x4_t v16;
typedef int32x4x4_t i16;
typedef uint32x4x4_t m16; /* all ones or all zeros in a lane */

/* One line of four: f(q) for the quarters q. */
#define QUARTERS(type, f) ((type){{f(0), f(1), f(2), f(3)}})

#define V2(name, call)                                                                             \
    static inline v16 name(v16 x, v16 y)                                                           \
    {                                                                                              \
        return (v16){{call(x.val[0], y.val[0]), call(x.val[1], y.val[1]),                          \
                      call(x.val[2], y.val[2]), call(x.val[3], y.val[3])}};                        \
    }
#define I2(name, call)                                                                             \
    static inline i16 name(i16 x, i16 y)                                                           \
    {                                                                                              \
        return (i16){{call(x.val[0], y.val[0]), call(x.val[1], y.val[1]),                          \
                      call(x.val[2], y.val[2]), call(x.val[3], y.val[3])}};                        \
    }
#define M2(name, call, type)                                                                       \
    static inline m16 name(type x, type y)                                                         \
    {                                                                                              \
        return (m16){{call(x.val[0], y.val[0]), call(x.val[1], y.val[1]),                          \
                      call(x.val[2], y.val[2]), call(x.val[3], y.val[3])}};                        \
    }

/* As on the other processors a NaN gives the second operand. */
static inline float32x4_t least(float32x4_t x, float32x4_t y)
{
    return vbslq_f32(vcltq_f32(x, y), x, y);
}
static inline float32x4_t most(float32x4_t x, float32x4_t y)
{
    return vbslq_f32(vcgtq_f32(x, y), x, y);
}
/* and, but not where `not_` is */
static inline uint32x4_t without(uint32x4_t not_, uint32x4_t and)
{
    return vbicq_u32(and, not_);
}

V2(v_add, vaddq_f32)
V2(v_sub, vsubq_f32)
V2(v_mul, vmulq_f32)
V2(v_div, vdivq_f32)
V2(v_min, least)
V2(v_max, most)
I2(i_add, vaddq_s32)
I2(i_sub, vsubq_s32)
I2(i_and, vandq_s32)
I2(i_or, vorrq_s32)
I2(i_xor, veorq_s32)
I2(i_min, vminq_s32)
I2(i_max, vmaxq_s32)
M2(m_and, vandq_u32, m16)
M2(m_and_not, without, m16)
M2(v_less, vcltq_f32, v16)
M2(v_less_equal, vcleq_f32, v16)
M2(i_less, vcltq_s32, i16)

static inline i16 i_shl(i16 x, int n)
{
#define Q(q) vshlq_s32(x.val[q], vdupq_n_s32(n))
    return QUARTERS(i16, Q);
#undef Q
}

static inline i16 i_shr(i16 x, int n)
{
#define Q(q)                                                                                       \
    vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(x.val[q]), vdupq_n_s32(-n)))
    return QUARTERS(i16, Q);
#undef Q
}

static inline v16 v_set(float x)
{
    float32x4_t q = vdupq_n_f32(x);
    return (v16){{q, q, q, q}};
}

static inline i16 i_set(int x)
{
    int32x4_t q = vdupq_n_s32(x);
    return (i16){{q, q, q, q}};
}

static inline v16 v_load(const float *p)
{
#define Q(q) vld1q_f32(p + 4 * (q))
    return QUARTERS(v16, Q);
#undef Q
}

static inline void v_store(float *p, v16 x)
{
    for (int q = 0; q < 4; q++)
        vst1q_f32(p + 4 * q, x.val[q]);
}

static inline v16 v_of(i16 x)
{
#define Q(q) vreinterpretq_f32_s32(x.val[q])
    return QUARTERS(v16, Q);
#undef Q
}

static inline i16 i_of(v16 x)
{
#define Q(q) vreinterpretq_s32_f32(x.val[q])
    return QUARTERS(i16, Q);
#undef Q
}

static inline v16 v_convert(i16 x)
{
#define Q(q) vcvtq_f32_s32(x.val[q])
    return QUARTERS(v16, Q);
#undef Q
}

/* m ? x : y */
static inline v16 v_select(m16 m, v16 x, v16 y)
{
#define Q(q) vbslq_f32(m.val[q], x.val[q], y.val[q])
    return QUARTERS(v16, Q);
#undef Q
}

static inline i16 i_select(m16 m, i16 x, i16 y)
{
#define Q(q) vbslq_s32(m.val[q], x.val[q], y.val[q])
    return QUARTERS(i16, Q);
#undef Q
}

static inline int m_any(m16 m)
{
    return vmaxvq_u32(vorrq_u32(vorrq_u32(m.val[0], m.val[1]), vorrq_u32(m.val[2], m.val[3]))) != 0;
}

static inline int i_reduce_max(i16 x)
{
    return vmaxvq_s32(vmaxq_s32(vmaxq_s32(x.val[0], x.val[1]), vmaxq_s32(x.val[2], x.val[3])));
}

static inline v16 v_load_f16(const uint16_t *p)
{
#define Q(q) vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * (q))))
    return QUARTERS(v16, Q);
#undef Q
}

static inline i16 i_load16(const uint16_t *p)
{
#define Q(q) vreinterpretq_s32_u32(vmovl_u16(vld1_u16(p + 4 * (q))))
    return QUARTERS(i16, Q);
#undef Q
}

static inline i16 widen8(uint8x16_t b)
{
    uint16x8_t low = vmovl_u8(vget_low_u8(b)), high = vmovl_u8(vget_high_u8(b));
    return (i16){{vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(low))),
                  vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(low))),
                  vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(high))),
                  vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(high)))}};
}

static inline i16 i_load8(const uint8_t *p)
{
    return widen8(vld1q_u8(p));
}

/* Sixteen nibbles of 8 bytes, the low one first. */
static inline i16 i_load4(const uint8_t *p)
{
    uint8x8_t b = vld1_u8(p);
    uint8x8x2_t both = vzip_u8(vand_u8(b, vdup_n_u8(15)), vshr_n_u8(b, 4));
    return widen8(vcombine_u8(both.val[0], both.val[1]));
}

/* Lanes of 0 to 65535 as words, in order: the first or the second half. */
static inline uint16x8_t narrow16(i16 x, int half)
{
    return vcombine_u16(vmovn_u32(vreinterpretq_u32_s32(x.val[2 * half])),
                        vmovn_u32(vreinterpretq_u32_s32(x.val[2 * half + 1])));
}

/* Lanes of 0 to 255 as sixteen bytes, in order. */
static inline uint8x16_t narrow8(i16 x)
{
    return vcombine_u8(vmovn_u16(narrow16(x, 0)), vmovn_u16(narrow16(x, 1)));
}

static inline void i_store16(uint16_t *p, i16 x)
{
    vst1q_u16(p, narrow16(x, 0));
    vst1q_u16(p + 8, narrow16(x, 1));
}

static inline void i_store8(uint8_t *p, i16 x)
{
    vst1q_u8(p, narrow8(x));
}

static inline void i_store4(uint8_t *p, i16 x)
{
    uint8x16_t b = narrow8(x);
    uint8x8x2_t apart = vuzp_u8(vget_low_u8(b), vget_high_u8(b)); /* even lanes, odd lanes */
    vst1_u8(p, vorr_u8(apart.val[0], vshl_n_u8(apart.val[1], 4)));
}

static inline v16 e2m1_value(i16 c)
{
    i16 mag = i_and(c, i_set(7));
    i16 low = i_and(i_shl(mag, 24), i_set(0x01000000)); /* 1 is 0.5, whose bits are 63 times that */
    i16 half = i_sub(i_shl(low, 6), low);
    i16 high = i_add(i_shl(mag, 22), i_set(126 << 23));
    i16 bits = i_select(i_less(mag, i_set(2)), half, high);
    return v_of(i_or(bits, i_shl(i_and(c, i_set(8)), 28)));
}

typedef struct lanes_of_sums {
    double signal[16], noise[16], dot[16], power[16], worst[16];
} lanes_of_sums;

/* n is a multiple of 16. */
static void sum_lanes(lanes_of_sums *out, const float *ref, const float *got, size_t n)
{
    for (int h = 0; h < 16; h += 2) {
        float64x2_t signal = vdupq_n_f64(0), noise = signal, dot = signal, power = signal,
                    worst = signal;
        for (size_t i = (size_t)h; i < n; i += 16) {
            float64x2_t r = vcvt_f64_f32(vld1_f32(ref + i)), g = vcvt_f64_f32(vld1_f32(got + i));
            float64x2_t d = vsubq_f64(r, g), size = vabsq_f64(d);
            signal = vaddq_f64(signal, vmulq_f64(r, r));
            noise = vaddq_f64(noise, vmulq_f64(d, d));
            dot = vaddq_f64(dot, vmulq_f64(r, g));
            power = vaddq_f64(power, vmulq_f64(g, g));
            worst = vbslq_f64(vcgtq_f64(size, worst), size, worst); /* a NaN leaves it as it is */
        }
        vst1q_f64(out->signal + h, signal);
        vst1q_f64(out->noise + h, noise);
        vst1q_f64(out->dot + h, dot);
        vst1q_f64(out->power + h, power);
        vst1q_f64(out->worst + h, worst);
    }
}

#define TABLE tmb_ops_neon
#define NAME  "neon"
#include "kernels/cpu/vector.h"
