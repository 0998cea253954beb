/* nn_avx512.c - the network operations with sixteen lanes in one register. */
#include "config.h"

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

typedef __m512 v16;

#define v_load(p)      _mm512_loadu_ps(p)
#define v_store(p, a)  _mm512_storeu_ps(p, a)
#define v_set(x)       _mm512_set1_ps(x)
#define v_add(a, b)    _mm512_add_ps(a, b)
#define v_sub(a, b)    _mm512_sub_ps(a, b)
#define v_mul(a, b)    _mm512_mul_ps(a, b)
#define v_div(a, b)    _mm512_div_ps(a, b)
#define v_min(a, b)    _mm512_min_ps(a, b)
#define v_max(a, b)    _mm512_max_ps(a, b)
#define v_fma(a, b, c) _mm512_fmadd_ps(a, b, c)
#define v_load_bf16(p)                                                                             \
    _mm512_castsi512_ps(_mm512_slli_epi32(                                                         \
        _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)(p))), 16))
/* The bits of x and bias, moved to where a float32 has its exponent. */
#define v_power(x, bias)                                                                           \
    _mm512_castsi512_ps(                                                                           \
        _mm512_slli_epi32(_mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(bias)), 23))

/* sum [rows, 32] = x [depth, 12] turned * w [depth, 32], for R of the twelve rows.  Twenty-four
 * sums, a line of w and one element of x fill 27 of the 32 registers. */
#define FOR_ROWS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define BEGIN(r)    __m512 a##r = _mm512_setzero_ps(), b##r = a##r;
#define STEP(r)                                                                                    \
    if (rows > r) {                                                                                \
        __m512 e = _mm512_set1_ps(x[r]);                                                           \
        a##r = _mm512_fmadd_ps(e, low, a##r);                                                      \
        b##r = _mm512_fmadd_ps(e, high, b##r);                                                     \
    }
#define END(r)                                                                                     \
    if (rows > r) {                                                                                \
        _mm512_store_ps(sum + r * 32, a##r);                                                       \
        _mm512_store_ps(sum + r * 32 + 16, b##r);                                                  \
    }
static inline __attribute__((always_inline)) void
tile_of(float *sum, const float *x, const float *w, size_t depth, const int rows)
{
    FOR_ROWS(BEGIN)
    for (size_t k = 0; k < depth; k++, x += 12, w += 32) {
        __m512 low = _mm512_loadu_ps(w), high = _mm512_loadu_ps(w + 16);
        FOR_ROWS(STEP)
    }
    FOR_ROWS(END)
}

static void tile(float *sum, const float *x, const float *w, size_t depth, size_t rows)
{
    if (rows <= 2)
        tile_of(sum, x, w, depth, 2);
    else if (rows <= 4)
        tile_of(sum, x, w, depth, 4);
    else if (rows <= 8)
        tile_of(sum, x, w, depth, 8);
    else
        tile_of(sum, x, w, depth, 12);
}

/* Four columns of four rows at a time: in each quarter of a register rows 4q … 4q+3 of one column.
 */
static inline void turn4(__m512 out[4], const float *x, size_t stride)
{
    __m512 row[4];
    for (int i = 0; i < 4; i++)
        row[i] = _mm512_loadu_ps(x + (size_t)i * stride);
    __m512 a = _mm512_unpacklo_ps(row[0], row[1]), b = _mm512_unpackhi_ps(row[0], row[1]);
    __m512 c = _mm512_unpacklo_ps(row[2], row[3]), d = _mm512_unpackhi_ps(row[2], row[3]);
    out[0] = _mm512_shuffle_ps(a, c, 0x44);
    out[1] = _mm512_shuffle_ps(a, c, 0xee);
    out[2] = _mm512_shuffle_ps(b, d, 0x44);
    out[3] = _mm512_shuffle_ps(b, d, 0xee);
}

/* The quarter q of a register to p. */
#define QUARTER(p, x, q) _mm_storeu_ps(p, _mm512_extractf32x4_ps(x, q))

static inline void turn12(float *to, const float *x, size_t stride)
{
    for (int g = 0; g < 3; g++) {
        __m512 column[4]; /* column j of each quarter: columns j, j+4, j+8, j+12 of the block */
        turn4(column, x + 4 * (size_t)g * stride, stride);
        for (int j = 0; j < 4; j++) {
            float *at = to + 12 * j + 4 * g;
            QUARTER(at, column[j], 0);
            QUARTER(at + 48, column[j], 1);
            QUARTER(at + 96, column[j], 2);
            QUARTER(at + 144, column[j], 3);
        }
    }
}

#define TABLE tmb_nn_avx512
#define NAME  "avx512"
#include "kernels/cpu/nn_vector.h"
