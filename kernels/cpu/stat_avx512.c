/* stat_avx512.c - statistics operations for AVX-512: 24 registers hold the sums of a block. */
#include "config.h"
#include "kernels/cpu/stat.h"

#include <immintrin.h>

static inline __mmask16 of_width(int width)
{
    return (__mmask16)((1u << width) - 1);
}

static uint32_t look(const float *x, size_t n, size_t stride, int width, uint32_t *amax,
                     uint32_t *bins)
{
    const __m512i sign = _mm512_set1_epi32(0x7fffffff), limit = _mm512_set1_epi32(TMB_STAT_LIMIT);
    const __mmask16 wide = of_width(width);
    uint32_t unsound = 0;
    for (size_t r = 0; r < n; r++) {
        /* The block after the next, for a later call: 64 rows apart the hardware loses the thread.
         */
        _mm_prefetch((const char *)(x + r * stride + 2 * TMB_STAT_BLOCK), _MM_HINT_T0);
        __m512i a = _mm512_and_si512(
            _mm512_castps_si512(_mm512_maskz_loadu_ps(wide, x + r * stride)), sign);
        __mmask16 sound = _mm512_mask_cmplt_epu32_mask(wide, a, limit);
        amax[r] = _mm512_mask_reduce_max_epu32(sound, a);
        /* The table of lane i begins at (i & 3) * TMB_STAT_BINS: neighbours often share a bin, and
         * an addition to it would wait for the one before. */
        uint16_t at[16];
        _mm256_storeu_si256((__m256i *)at, _mm512_cvtepi32_epi16(_mm512_srli_epi32(a, 20)));
        if (sound == 0xffff) {
            for (int i = 0; i < 16; i += 4) {
                bins[at[i]]++;
                bins[TMB_STAT_BINS + at[i + 1]]++;
                bins[2 * TMB_STAT_BINS + at[i + 2]]++;
                bins[3 * TMB_STAT_BINS + at[i + 3]]++;
            }
            continue;
        }
        unsound += (uint32_t)__builtin_popcount(wide & ~sound);
        for (int i = 0; i < 16; i++)
            if (sound >> i & 1) bins[(i & 3) * TMB_STAT_BINS + at[i]]++;
    }
    return unsound;
}

/* q [n][16] of sound values. */
static inline void codes(double *q, const float *x, size_t n, size_t stride, int width,
                         double scale)
{
    const __m512i sign = _mm512_set1_epi32(0x7fffffff), limit = _mm512_set1_epi32(TMB_STAT_LIMIT);
    const __m512d by = _mm512_set1_pd(scale);
    const __mmask16 wide = of_width(width);
    for (size_t r = 0; r < n; r++) {
        __m512 v = _mm512_maskz_loadu_ps(wide, x + r * stride);
        __mmask16 sound =
            _mm512_cmplt_epu32_mask(_mm512_and_si512(_mm512_castps_si512(v), sign), limit);
        v = _mm512_maskz_mov_ps(sound, v);
        __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(v));
        __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));
        _mm512_store_pd(q + 16 * r, _mm512_roundscale_pd(_mm512_mul_pd(low, by), 0));
        _mm512_store_pd(q + 16 * r + 8, _mm512_roundscale_pd(_mm512_mul_pd(high, by), 0));
    }
}

static inline void add(int64_t *sums, __m512d v)
{
    __m512i old = _mm512_loadu_si512(sums);
    _mm512_storeu_si512(sums, _mm512_add_epi64(old, _mm512_cvtpd_epi64(v)));
}

static void moments(int64_t *sums, const float *x, size_t n, size_t stride, int width, double scale)
{
    _Alignas(64) double q[TMB_STAT_ROWS * TMB_STAT_BLOCK];
    codes(q, x, n, stride, width, scale);
#define EACH(X)    X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#define DECLARE(i) __m512d l##i = _mm512_setzero_pd(), h##i = l##i, b##i = l##i;
    EACH(DECLARE)
    for (const double *p = q, *end = q + 16 * n; p < end; p += 16) {
        const __m512d low = _mm512_load_pd(p), high = _mm512_load_pd(p + 8);
#define STEP(i)                                                                                    \
    l##i = _mm512_fmadd_pd(low, _mm512_set1_pd(p[i]), l##i);                                       \
    h##i = _mm512_fmadd_pd(high, _mm512_set1_pd(p[i]), h##i);                                      \
    b##i = _mm512_fmadd_pd(high, _mm512_set1_pd(p[8 + i]), b##i);
        EACH(STEP)
    }
#define STORE(i)                                                                                   \
    add(sums + 16 * i, l##i), add(sums + 16 * i + 8, h##i), add(sums + 128 + 8 * i, b##i);
    EACH(STORE)
}

static void squares(int64_t *sums, const float *x, size_t n, size_t stride, int width, double scale)
{
    _Alignas(64) double q[TMB_STAT_ROWS * TMB_STAT_BLOCK];
    codes(q, x, n, stride, width, scale);
    __m512d low = _mm512_setzero_pd(), high = low;
    for (const double *p = q, *end = q + 16 * n; p < end; p += 16) {
        __m512d a = _mm512_load_pd(p), b = _mm512_load_pd(p + 8);
        low = _mm512_fmadd_pd(a, a, low);
        high = _mm512_fmadd_pd(b, b, high);
    }
    add(sums, low);
    add(sums + 8, high);
}

const tmb_stat tmb_stat_avx512 = {
    .name = "avx512", .look = look, .moments = moments, .squares = squares};
