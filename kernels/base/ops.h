/* ops.h - the table of numeric operations a backend fills.
 *
 * The reference (kernels/cpu/ref.c) is plain C and complete.  Vector versions fill the same
 * table and must give the same bytes for every input, so a result never depends on the machine.
 * For that all arithmetic is IEEE float32, one rounding per operation, no fused multiply-add,
 * subnormals kept; sums run in the lane order given below.
 *
 * All pointers are host memory, borrowed, not overlapping; alignment is that of the type. */
#ifndef TMB_BASE_OPS_H
#define TMB_BASE_OPS_H

#include "kernels/base/dtype.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a pair of vectors differs by.  Each sum has 16 double lanes, lane i taking elements
 * i, i+16, i+32 …, folded at the end as 8+8, 4+4, 2+2, 1+1.  Add structs field by field. */
typedef struct tmb_sums {
    double signal;    /* sum of ref^2 */
    double noise;     /* sum of (ref - got)^2 */
    double dot;       /* sum of ref * got */
    double power;     /* sum of got^2 */
    double max_error; /* largest |ref - got| */
} tmb_sums;

/* How much an error in each of 16 columns costs, for blocks of 16: the second moments of the input
 * that meets them.  Blocks come sixteen to a group, side by side as lanes; the last group is whole,
 * whatever its further lanes hold.
 *
 * lanes [groups][rows][16] f32, finite, rows = TMB_MOMENT_ROWS of `full`:
 *   full:  136 rows h(i, j) of i <= j, the upper triangle by rows, those off the diagonal doubled;
 *          then 16 rows f(i)
 *   else:  16 rows h(i, i), then 16 rows f(i)
 * The matrix is positive semidefinite, and f(i) >= 0 is a floor, as a square root: the error of a
 * block is at least (f(i) d(i))^2 for every d.  It only tells how soon a search may stop; 0 is
 * always right. */
typedef struct tmb_moments {
    bool full;
    const float *lanes;
} tmb_moments;

enum { TMB_MOMENT_LANES = 16, TMB_MOMENT_FULL = 136 };
#define TMB_MOMENT_ROWS(full) (((full) ? TMB_MOMENT_FULL : 16) + 16)

typedef struct tmb_ops {
    const char *name; /* "ref", "avx2", "avx512" */

    /* y [n] f32 = x [n] of dtype F32, F16, BF16, F8_E4M3, F8_E8M0. */
    void (*decode)(float *y, const void *x, tmb_dtype dtype, size_t n);
    /* y [n] bf16 = x [n] f32, to nearest even. */
    void (*to_bf16)(uint16_t *y, const float *x, size_t n);

    /* Largest |x| over x [n] f32; Inf if any is Inf; NaN if any is NaN (which wins). */
    float (*amax)(const float *x, size_t n);
    /* out [blocks] f32: amax of each block of x [blocks, block] f32. */
    void (*block_amax)(float *out, const float *x, size_t blocks, size_t block);

    /* codes = element(x / scale[b]) for x [blocks, block] f32, scale [blocks] f32 > 0, to nearest,
     * ties to even, saturating.  Two codes a byte, even index in the low nibble.
     *   e2m1: codes u8 [blocks*block/2], sign bit = (x < 0): a tiny negative is code 8, -0.0 code 0
     *   e4m3: codes u8 [blocks*block], sign of -0.0 kept; |x/scale| > 448 saturates, never NaN
     *   int4: codes u8 [blocks*block/2]: round(clamp(x/scale, -8, 7)) + 8
     * block is even for e2m1 and int4. */
    void (*encode_e2m1)(uint8_t *codes, const float *x, const float *scale, size_t blocks,
                        size_t block);
    void (*encode_e4m3)(uint8_t *codes, const float *x, const float *scale, size_t blocks,
                        size_t block);
    void (*encode_int4)(uint8_t *codes, const float *x, const float *scale, size_t blocks,
                        size_t block);

    /* y [blocks, block] f32 = value(code) * scale[b], one multiplication. */
    void (*decode_e2m1)(float *y, const uint8_t *codes, const float *scale, size_t blocks,
                        size_t block);
    void (*decode_e4m3)(float *y, const uint8_t *codes, const float *scale, size_t blocks,
                        size_t block);
    void (*decode_int4)(float *y, const uint8_t *codes, const float *scale, size_t blocks,
                        size_t block);

    /* codes [blocks] E4M3: for each 16-block of x [blocks, 16] f32 the block scale that
     * minimises the squared error under the global scale ws2 > 0, over all 126 positive finite
     * E4M3 values.  With y = x / ws2: error(c) = sum over 16 of (y - e2m1(y / c) * c)^2 in float32,
     * folded 8+8, 4+4, 2+2, 1+1.  A tie takes the larger scale; an all-zero block 1.0 (0x38). */
    void (*search_nvfp4)(uint8_t *codes, const float *x, float ws2, size_t blocks);
    /* The same with an error that moments weigh: with d = y - e2m1(y / c) * c,
     *   t(i) = d(i) * (h(i, i) d(i) + h(i, i+1) d(i+1) + … + h(i, 15) d(15))
     * products first, sums from the left, then folded as above: d' H d.  y is finite.  With ones on
     * the diagonal and zeros elsewhere this is search_nvfp4. */
    void (*search_nvfp4_weighted)(uint8_t *codes, const float *x, float ws2,
                                  const tmb_moments *moments, size_t blocks);

    /* sums += what got [n] f32 differs from ref [n] f32 by. */
    void (*compare)(tmb_sums *sums, const float *ref, const float *got, size_t n);
} tmb_ops;

#endif
