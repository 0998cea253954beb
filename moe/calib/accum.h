/* accum.h - the statistics of one entry of a site: counters, histograms and exact sums.
 *
 * Sums are kept by class (stats.h): class c counts in units of 2^(16 c - 282), so class c + 1 is
 * 2^16 times as coarse and what overflows one class is carried to the next.  bound[c] is a proven
 * limit of |sums[c]|: a row adds at most 2^44. */
#ifndef TMB_CALIB_ACCUM_H
#define TMB_CALIB_ACCUM_H

#include "kernels/base/err.h"
#include "kernels/base/stat.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TMB_CLASSES = 32, TMB_CLASS_BITS = 16, TMB_UNIT_EXPONENT = -282 };

typedef struct tmb_accum {
    uint64_t tokens;            /* rows seen */
    uint64_t nonfinite;         /* values taken as zero */
    int64_t gate;               /* sum of rint(gate * 2^32) */
    int64_t gate2;              /* sum of rint(gate^2 * 2^32) */
    uint32_t amax;              /* bits of the largest |x| */
    uint32_t seen;              /* bit c: some block of a row had class c */
    uint64_t *values;           /* [TMB_STAT_BINS] of |x|; NULL before the first row */
    uint64_t *blocks;           /* [TMB_STAT_BINS] of the largest |x| of each block of 16 */
    int64_t *sums[TMB_CLASSES]; /* [blocks][per], NULL: all zero */
    uint64_t bound[TMB_CLASSES];
} tmb_accum;

/* What all entries of a site have in common. */
typedef struct tmb_accum_shape {
    uint64_t in;          /* channels */
    bool moments;         /* else squares */
    int threads;          /* for one call, when it is worth it */
    const tmb_stat *stat; /* needed to feed */
} tmb_accum_shape;

/* Blocks of 16 channels, and sums of each: TMB_STAT_SUMS or TMB_STAT_BLOCK. */
static inline uint64_t tmb_accum_blocks(const tmb_accum_shape *shape)
{
    return shape->in / TMB_STAT_BLOCK + (shape->in % TMB_STAT_BLOCK != 0);
}
static inline uint64_t tmb_accum_per(const tmb_accum_shape *shape)
{
    return shape->moments ? TMB_STAT_SUMS : TMB_STAT_BLOCK;
}

/* As tmb_stats_feed() (stats.h).  name is for messages. */
tmb_status tmb_accum_feed(tmb_accum *a, const tmb_accum_shape *shape, const char *name,
                          const float *x, size_t n, size_t stride, const float *gate,
                          tmb_err *err) TMB_CHECKED;

/* Room for histograms, and for the sums of a class. */
tmb_status tmb_accum_need_bins(tmb_accum *a, tmb_err *err) TMB_CHECKED;
tmb_status tmb_accum_need_class(tmb_accum *a, const tmb_accum_shape *shape, int c,
                                tmb_err *err) TMB_CHECKED;
/* Carry until `more` can be added to every bound without passing 2^61. */
tmb_status tmb_accum_make_room(tmb_accum *a, const tmb_accum_shape *shape, uint64_t more,
                               tmb_err *err) TMB_CHECKED;
/* into += from, of the same shape. */
tmb_status tmb_accum_add(tmb_accum *into, const tmb_accum *from, const tmb_accum_shape *shape,
                         const char *name, tmb_err *err) TMB_CHECKED;
void tmb_accum_free(tmb_accum *a);

/* ---- the canonical form of sums: what files hold.
 *
 * A sum is an integer in units of 2^(16 c0 - 282), c0 the lowest class seen, written as `planes`
 * digits of 48 bits, the lowest first; the last is signed and holds the rest.  Which classes the
 * accumulator happened to use, and when it carried, does not show. */
enum { TMB_PLANE_BITS = 48 };

/* The lowest class seen; 0 without any. */
int tmb_accum_lowest(const tmb_accum *a);
/* Planes that the sum at `at` (block * per + place) needs; at least 1. */
int tmb_accum_planes(const tmb_accum *a, uint64_t at);
void tmb_accum_digits(const tmb_accum *a, uint64_t at, int planes, int64_t *digits);
/* Put a sum, given by its digits above class c0, into a place that is still zero.  TMB_EDATA, with
 * a message that does not say where, when a digit is out of range. */
tmb_status tmb_accum_take(tmb_accum *a, const tmb_accum_shape *shape, int c0, uint64_t at,
                          int planes, const int64_t *digits, tmb_err *err) TMB_CHECKED;
/* The value itself, rounded. */
double tmb_accum_value(const tmb_accum *a, uint64_t at);

#endif
