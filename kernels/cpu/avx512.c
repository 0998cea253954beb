/* avx512.c - sixteen lanes in one register: AVX-512 F, BW, VL, DQ.  The operations themselves are
 * in vector.h. */
#include "config.h"

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

typedef __m512 v16;
typedef __m512i i16;
typedef __mmask16 m16;

#define v_load(p)            _mm512_loadu_ps(p)
#define v_store(p, a)        _mm512_storeu_ps(p, a)
#define v_set(x)             _mm512_set1_ps(x)
#define v_add(a, b)          _mm512_add_ps(a, b)
#define v_sub(a, b)          _mm512_sub_ps(a, b)
#define v_mul(a, b)          _mm512_mul_ps(a, b)
#define v_div(a, b)          _mm512_div_ps(a, b)
#define v_min(a, b)          _mm512_min_ps(a, b)
#define v_max(a, b)          _mm512_max_ps(a, b)
#define v_less(a, b)         _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ)
#define v_less_equal(a, b)   _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ)
#define v_select(m, a, b)    _mm512_mask_blend_ps(m, b, a) /* m ? a : b */
#define v_convert(a)         _mm512_cvtepi32_ps(a)
#define v_of(a)              _mm512_castsi512_ps(a)
#define v_load_f16(p)        _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p)))
#define i_of(a)              _mm512_castps_si512(a)
#define i_set(x)             _mm512_set1_epi32(x)
#define i_add(a, b)          _mm512_add_epi32(a, b)
#define i_sub(a, b)          _mm512_sub_epi32(a, b)
#define i_and(a, b)          _mm512_and_si512(a, b)
#define i_or(a, b)           _mm512_or_si512(a, b)
#define i_xor(a, b)          _mm512_xor_si512(a, b)
#define i_shl(a, n)          _mm512_slli_epi32(a, n)
#define i_shr(a, n)          _mm512_srli_epi32(a, n)
#define i_min(a, b)          _mm512_min_epi32(a, b)
#define i_max(a, b)          _mm512_max_epi32(a, b)
#define i_less(a, b)         _mm512_cmplt_epi32_mask(a, b)
#define i_select(m, a, b)    _mm512_mask_blend_epi32(m, b, a)
#define i_reduce_max(a)      _mm512_reduce_max_epi32(a)
#define i_load8(p)           _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(p)))
#define i_load16(p)          _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(p)))
#define i_store8(p, a)       _mm_storeu_si128((__m128i *)(p), _mm512_cvtepi32_epi8(a))
#define i_store16(p, a)      _mm256_storeu_si256((__m256i *)(p), _mm512_cvtepi32_epi16(a))
#define m_any(m)             ((m) != 0)
#define m_and(a, b)          ((m16)((a) & (b)))
#define m_and_not(not_, and) ((m16)(~(not_) & (and)))

/* Sixteen nibbles of 8 bytes, the low one first. */
static inline i16 i_load4(const uint8_t *p)
{
    __m128i b = _mm_loadl_epi64((const __m128i *)p), low = _mm_set1_epi8(15);
    return _mm512_cvtepu8_epi32(
        _mm_unpacklo_epi8(_mm_and_si128(b, low), _mm_and_si128(_mm_srli_epi16(b, 4), low)));
}

static inline void i_store4(uint8_t *p, i16 a)
{
    /* Per pair of bytes: even + 16 * odd, in 16 bits, of which the low byte is kept. */
    __m128i pairs = _mm_maddubs_epi16(_mm512_cvtepi32_epi8(a), _mm_set1_epi16(0x1001));
    _mm_storel_epi64((__m128i *)p, _mm_packus_epi16(pairs, pairs));
}

static inline v16 e2m1_value(i16 c)
{
    const v16 values = _mm512_setr_ps(0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f, -0.0f, -0.5f,
                                      -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f);
    return _mm512_permutexvar_ps(c, values);
}

typedef struct lanes_of_sums {
    double signal[16], noise[16], dot[16], power[16], worst[16];
} lanes_of_sums;

/* n is a multiple of 16. */
static void sum_lanes(lanes_of_sums *out, const float *ref, const float *got, size_t n)
{
    for (int h = 0; h < 16; h += 8) {
        __m512d signal = _mm512_setzero_pd(), noise = signal, dot = signal, power = signal,
                worst = signal;
        for (size_t i = (size_t)h; i < n; i += 16) {
            __m512d r = _mm512_cvtps_pd(_mm256_loadu_ps(ref + i));
            __m512d g = _mm512_cvtps_pd(_mm256_loadu_ps(got + i));
            __m512d d = _mm512_sub_pd(r, g);
            signal = _mm512_add_pd(signal, _mm512_mul_pd(r, r));
            noise = _mm512_add_pd(noise, _mm512_mul_pd(d, d));
            dot = _mm512_add_pd(dot, _mm512_mul_pd(r, g));
            power = _mm512_add_pd(power, _mm512_mul_pd(g, g));
            worst = _mm512_max_pd(_mm512_abs_pd(d), worst); /* a NaN leaves worst as it is */
        }
        _mm512_storeu_pd(out->signal + h, signal);
        _mm512_storeu_pd(out->noise + h, noise);
        _mm512_storeu_pd(out->dot + h, dot);
        _mm512_storeu_pd(out->power + h, power);
        _mm512_storeu_pd(out->worst + h, worst);
    }
}

#define TABLE tmb_ops_avx512
#define NAME  "avx512"
#include "kernels/cpu/vector.h"
