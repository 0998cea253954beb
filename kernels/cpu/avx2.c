/* avx2.c - sixteen lanes in a pair of registers: AVX2 and F16C.  The operations themselves are in
 * vector.h. */
#include "config.h"

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

typedef struct v16 {
    __m256 a, b;
} v16;
typedef struct i16 {
    __m256i a, b;
} i16;
typedef i16 m16; /* all ones or all zeros in a lane */

#define V2(name, call)                                                                             \
    static inline v16 name(v16 x, v16 y)                                                           \
    {                                                                                              \
        return (v16){call(x.a, y.a), call(x.b, y.b)};                                              \
    }
#define I2(name, call)                                                                             \
    static inline i16 name(i16 x, i16 y)                                                           \
    {                                                                                              \
        return (i16){call(x.a, y.a), call(x.b, y.b)};                                              \
    }
V2(v_add, _mm256_add_ps)
V2(v_sub, _mm256_sub_ps)
V2(v_mul, _mm256_mul_ps)
V2(v_div, _mm256_div_ps)
V2(v_min, _mm256_min_ps)
V2(v_max, _mm256_max_ps)
I2(i_add, _mm256_add_epi32)
I2(i_sub, _mm256_sub_epi32)
I2(i_and, _mm256_and_si256)
I2(i_or, _mm256_or_si256)
I2(i_xor, _mm256_xor_si256)
I2(i_min, _mm256_min_epi32)
I2(i_max, _mm256_max_epi32)
I2(m_and, _mm256_and_si256)
I2(m_and_not, _mm256_andnot_si256)

#define i_shl(x, n) ((i16){_mm256_slli_epi32((x).a, n), _mm256_slli_epi32((x).b, n)})
#define i_shr(x, n) ((i16){_mm256_srli_epi32((x).a, n), _mm256_srli_epi32((x).b, n)})

static inline v16 v_set(float x)
{
    return (v16){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}

static inline i16 i_set(int x)
{
    return (i16){_mm256_set1_epi32(x), _mm256_set1_epi32(x)};
}

static inline v16 v_load(const float *p)
{
    return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}

static inline void v_store(float *p, v16 x)
{
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}

static inline v16 v_of(i16 x)
{
    return (v16){_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)};
}

static inline i16 i_of(v16 x)
{
    return (i16){_mm256_castps_si256(x.a), _mm256_castps_si256(x.b)};
}

static inline v16 v_convert(i16 x)
{
    return (v16){_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)};
}

static inline m16 v_less(v16 x, v16 y)
{
    return i_of((v16){_mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ)});
}

static inline m16 v_less_equal(v16 x, v16 y)
{
    return i_of((v16){_mm256_cmp_ps(x.a, y.a, _CMP_LE_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_LE_OQ)});
}

static inline m16 i_less(i16 x, i16 y)
{
    return (m16){_mm256_cmpgt_epi32(y.a, x.a), _mm256_cmpgt_epi32(y.b, x.b)};
}

/* m ? x : y */
static inline v16 v_select(m16 m, v16 x, v16 y)
{
    return (v16){_mm256_blendv_ps(y.a, x.a, _mm256_castsi256_ps(m.a)),
                 _mm256_blendv_ps(y.b, x.b, _mm256_castsi256_ps(m.b))};
}

static inline i16 i_select(m16 m, i16 x, i16 y)
{
    return (i16){_mm256_blendv_epi8(y.a, x.a, m.a), _mm256_blendv_epi8(y.b, x.b, m.b)};
}

static inline int m_any(m16 m)
{
    return !_mm256_testz_si256(_mm256_or_si256(m.a, m.b), _mm256_set1_epi32(-1));
}

static inline int i_reduce_max(i16 x)
{
    __m256i m = _mm256_max_epi32(x.a, x.b);
    __m128i h = _mm_max_epi32(_mm256_castsi256_si128(m), _mm256_extracti128_si256(m, 1));
    h = _mm_max_epi32(h, _mm_shuffle_epi32(h, 0x4e));
    h = _mm_max_epi32(h, _mm_shuffle_epi32(h, 0xb1));
    return _mm_cvtsi128_si32(h);
}

static inline v16 v_load_f16(const uint16_t *p)
{
    return (v16){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
                 _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8)))};
}

static inline i16 i_load16(const uint16_t *p)
{
    return (i16){_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)),
                 _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(p + 8)))};
}

static inline i16 widen8(__m128i b)
{
    return (i16){_mm256_cvtepu8_epi32(b), _mm256_cvtepu8_epi32(_mm_srli_si128(b, 8))};
}

static inline i16 i_load8(const uint8_t *p)
{
    return widen8(_mm_loadu_si128((const __m128i *)p));
}

/* Sixteen nibbles of 8 bytes, the low one first. */
static inline i16 i_load4(const uint8_t *p)
{
    __m128i b = _mm_loadl_epi64((const __m128i *)p), low = _mm_set1_epi8(15);
    return widen8(
        _mm_unpacklo_epi8(_mm_and_si128(b, low), _mm_and_si128(_mm_srli_epi16(b, 4), low)));
}

/* Lanes of 0 to 65535 as sixteen words, in order. */
static inline __m256i narrow16(i16 x)
{
    return _mm256_permute4x64_epi64(_mm256_packus_epi32(x.a, x.b), 0xd8);
}

/* Lanes of 0 to 255 as sixteen bytes, in order. */
static inline __m128i narrow8(i16 x)
{
    __m256i w = narrow16(x);
    return _mm_packus_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1));
}

static inline void i_store16(uint16_t *p, i16 x)
{
    _mm256_storeu_si256((__m256i *)p, narrow16(x));
}

static inline void i_store8(uint8_t *p, i16 x)
{
    _mm_storeu_si128((__m128i *)p, narrow8(x));
}

static inline void i_store4(uint8_t *p, i16 x)
{
    /* Per pair of bytes: even + 16 * odd, in 16 bits, of which the low byte is kept. */
    __m128i pairs = _mm_maddubs_epi16(narrow8(x), _mm_set1_epi16(0x1001));
    _mm_storel_epi64((__m128i *)p, _mm_packus_epi16(pairs, pairs));
}

static inline __m256 e2m1_value8(__m256i c)
{
    const __m256 values = _mm256_setr_ps(0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f);
    __m256i sign = _mm256_slli_epi32(_mm256_and_si256(c, _mm256_set1_epi32(8)), 28);
    return _mm256_or_ps(_mm256_permutevar8x32_ps(values, c), _mm256_castsi256_ps(sign));
}

static inline v16 e2m1_value(i16 c)
{
    return (v16){e2m1_value8(c.a), e2m1_value8(c.b)};
}

typedef struct lanes_of_sums {
    double signal[16], noise[16], dot[16], power[16], worst[16];
} lanes_of_sums;

/* n is a multiple of 16. */
static void sum_lanes(lanes_of_sums *out, const float *ref, const float *got, size_t n)
{
    const __m256d sign = _mm256_set1_pd(-0.0);
    for (int h = 0; h < 16; h += 4) {
        __m256d signal = _mm256_setzero_pd(), noise = signal, dot = signal, power = signal,
                worst = signal;
        for (size_t i = (size_t)h; i < n; i += 16) {
            __m256d r = _mm256_cvtps_pd(_mm_loadu_ps(ref + i));
            __m256d g = _mm256_cvtps_pd(_mm_loadu_ps(got + i));
            __m256d d = _mm256_sub_pd(r, g);
            signal = _mm256_add_pd(signal, _mm256_mul_pd(r, r));
            noise = _mm256_add_pd(noise, _mm256_mul_pd(d, d));
            dot = _mm256_add_pd(dot, _mm256_mul_pd(r, g));
            power = _mm256_add_pd(power, _mm256_mul_pd(g, g));
            worst = _mm256_max_pd(_mm256_andnot_pd(sign, d), worst); /* NaN leaves it as it is */
        }
        _mm256_storeu_pd(out->signal + h, signal);
        _mm256_storeu_pd(out->noise + h, noise);
        _mm256_storeu_pd(out->dot + h, dot);
        _mm256_storeu_pd(out->power + h, power);
        _mm256_storeu_pd(out->worst + h, worst);
    }
}

#define TABLE tmb_ops_avx2
#define NAME  "avx2"
#include "kernels/cpu/vector.h"
