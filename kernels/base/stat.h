/* stat.h - the table of operations that statistics of activations are made of.
 *
 * Everything is counts, maxima and exact integers: a vector version has the same result as the
 * reference for every input because there is nothing to round differently.
 *
 * A block is TMB_STAT_BLOCK channels of at most TMB_STAT_ROWS rows: x[r * stride + i] f32 for row r
 * and channel i < width; width < TMB_STAT_BLOCK in the last block of an input, whose missing
 * channels count as zeros in sums and not at all elsewhere.  A value is *sound* when its bits
 * without the sign are below TMB_STAT_LIMIT: neither NaN nor Inf and |x| < 2^121; others are taken
 * as zeros.  Pointers are host memory, borrowed, not overlapping. */
#ifndef TMB_BASE_STAT_H
#define TMB_BASE_STAT_H

#include <stddef.h>
#include <stdint.h>

enum {
    TMB_STAT_BLOCK = 16,
    TMB_STAT_ROWS = 64,
    TMB_STAT_BINS = 2048,           /* of |x|: its bits >> 20, eight bins an octave */
    TMB_STAT_LIMIT = 248 << 23,     /* bits of 2^121 */
    TMB_STAT_SUMS = 8 * 16 + 8 * 8, /* of moments, see tmb_stat_sum */
};

/* Where the sum of q_i q_j, i <= j, lies in the sums of moments: rows 0..7 have all 16 columns,
 * rows 8..15 the upper 8. */
static inline int tmb_stat_sum(int i, int j)
{
    return i < 8 ? i * 16 + j : 128 + (i - 8) * 8 + (j - 8);
}

typedef struct tmb_stat {
    const char *name; /* "ref", "avx2", "avx512" */

    /* amax [n] bits of each row's largest sound |x| (0: all zero); bins [4][TMB_STAT_BINS] += sound
     * values (their sum over the four is what counts).  Returns how many values are not sound. */
    uint32_t (*look)(const float *x, size_t n, size_t stride, int width, uint32_t *amax,
                     uint32_t *bins);
    /* sums [TMB_STAT_SUMS] += q_i q_j over the rows, q = rint(x * scale) of sound x.  scale is a
     * power of two by which every |q| <= 2^22; the sums are the caller's to keep within int64. */
    void (*moments)(int64_t *sums, const float *x, size_t n, size_t stride, int width,
                    double scale);
    /* sums [TMB_STAT_BLOCK] += q_i^2 over the rows, likewise. */
    void (*squares)(int64_t *sums, const float *x, size_t n, size_t stride, int width,
                    double scale);
} tmb_stat;

#endif
