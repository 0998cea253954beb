/* nn_avx2.c - the network operations with sixteen lanes in a pair of registers: AVX2 and FMA. */
#include "config.h"

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

typedef struct v16 {
    __m256 a, b;
} v16;

#define V2(name, call)                                                                             \
    static inline v16 name(v16 x, v16 y)                                                           \
    {                                                                                              \
        return (v16){call(x.a, y.a), call(x.b, y.b)};                                              \
    }
V2(v_add, _mm256_add_ps)
V2(v_sub, _mm256_sub_ps)
V2(v_mul, _mm256_mul_ps)
V2(v_div, _mm256_div_ps)
V2(v_min, _mm256_min_ps)
V2(v_max, _mm256_max_ps)

static inline v16 v_set(float x)
{
    return (v16){_mm256_set1_ps(x), _mm256_set1_ps(x)};
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

static inline v16 v_fma(v16 x, v16 y, v16 z)
{
    return (v16){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}

static inline __m256 widen8(const uint16_t *p)
{
    __m256i half = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(half, 16));
}

static inline v16 v_load_bf16(const uint16_t *p)
{
    return (v16){widen8(p), widen8(p + 8)};
}

/* The bits of x and bias, moved to where a float32 has its exponent. */
static inline __m256 power8(__m256 x, int bias)
{
    __m256i bits = _mm256_add_epi32(_mm256_castps_si256(x), _mm256_set1_epi32(bias));
    return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 23));
}

static inline v16 v_power(v16 x, int bias)
{
    return (v16){power8(x.a, bias), power8(x.b, bias)};
}

/* sum [6, 32], half the columns of it, = x [depth, 12] turned * w [depth, 32], for six of the
 * twelve rows: twelve sums, half a line of w and one element of x fill 15 of the 16 registers. */
#define FOR_ROWS(X) X(0) X(1) X(2) X(3) X(4) X(5)
#define BEGIN(r)    __m256 a##r = _mm256_setzero_ps(), b##r = a##r;
#define STEP(r)                                                                                    \
    if (rows > r) {                                                                                \
        __m256 e = _mm256_broadcast_ss(x + r);                                                     \
        a##r = _mm256_fmadd_ps(e, low, a##r);                                                      \
        b##r = _mm256_fmadd_ps(e, high, b##r);                                                     \
    }
#define END(r)                                                                                     \
    if (rows > r) {                                                                                \
        _mm256_store_ps(sum + r * 32, a##r);                                                       \
        _mm256_store_ps(sum + r * 32 + 8, b##r);                                                   \
    }
static inline __attribute__((always_inline)) void
tile_of(float *sum, const float *x, const float *w, size_t depth, const int rows)
{
    FOR_ROWS(BEGIN)
    for (size_t k = 0; k < depth; k++, x += 12, w += 32) {
        __m256 low = _mm256_loadu_ps(w), high = _mm256_loadu_ps(w + 8);
        FOR_ROWS(STEP)
    }
    FOR_ROWS(END)
}

static void tile(float *sum, const float *x, const float *w, size_t depth, size_t rows)
{
    for (size_t r = 0; r < rows; r += 6)
        for (size_t half = 0; half < 32; half += 16) {
            if (rows - r <= 2)
                tile_of(sum + r * 32 + half, x + r, w + half, depth, 2);
            else
                tile_of(sum + r * 32 + half, x + r, w + half, depth, 6);
        }
}

/* Four columns of four rows at a time, as _MM_TRANSPOSE4_PS does it. */
static inline void turn12(float *to, const float *x, size_t stride)
{
    for (size_t g = 0; g < 12; g += 4)
        for (size_t k = 0; k < 16; k += 4) {
            const float *from = x + g * stride + k;
            __m128 a = _mm_loadu_ps(from), b = _mm_loadu_ps(from + stride);
            __m128 c = _mm_loadu_ps(from + 2 * stride), d = _mm_loadu_ps(from + 3 * stride);
            _MM_TRANSPOSE4_PS(a, b, c, d);
            _mm_storeu_ps(to + 12 * k + g, a);
            _mm_storeu_ps(to + 12 * (k + 1) + g, b);
            _mm_storeu_ps(to + 12 * (k + 2) + g, c);
            _mm_storeu_ps(to + 12 * (k + 3) + g, d);
        }
}

#define TABLE tmb_nn_avx2
#define NAME  "avx2"
#include "kernels/cpu/nn_vector.h"
