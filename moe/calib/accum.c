/* accum.c - rows of activations into counters, histograms and exact sums. */
#include "config.h"
#include "moe/calib/accum.h"

#include "kernels/base/mem.h"
#include "kernels/base/team.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    ROW_BITS = 44, /* a row adds at most 2^44 to a sum */
    ROWS_A_CALL = 1 << 16,
    BLOCKS_NEAR = 64,         /* rows and sums of these fit a second-level cache */
    WORTH_A_THREAD = 1 << 13, /* blocks of rows: about a tenth of a millisecond */
};
static const uint64_t full = (uint64_t)1 << 61;

/* ------------------------------------------------------------------------------ room */

tmb_status tmb_accum_need_bins(tmb_accum *a, tmb_err *err)
{
    if (!a->values) a->values = calloc(TMB_STAT_BINS, sizeof *a->values);
    if (!a->blocks) a->blocks = calloc(TMB_STAT_BINS, sizeof *a->blocks);
    if (a->values && a->blocks) return TMB_OK;
    return tmb_fail_memory(err, TMB_STAT_BINS * sizeof *a->values, "histograms");
}

tmb_status tmb_accum_need_class(tmb_accum *a, const tmb_accum_shape *shape, int c, tmb_err *err)
{
    uint64_t n = tmb_accum_blocks(shape) * tmb_accum_per(shape);
    if (a->sums[c]) return TMB_OK;
    int64_t *sums = calloc(n, sizeof *sums);
    if (!sums) return tmb_fail_memory(err, n * sizeof *sums, "sums of activations");
    a->bound[c] = 0;
    __atomic_store_n(&a->sums[c], sums, __ATOMIC_RELEASE); /* read without the lock by sums_of() */
    return TMB_OK;
}

/* Leave 0 … 2^16 - 1 in class c and give the rest to the next. */
static tmb_status carry(tmb_accum *a, const tmb_accum_shape *shape, int c, tmb_err *err)
{
    uint64_t n = tmb_accum_blocks(shape) * tmb_accum_per(shape);
    if (c + 1 == TMB_CLASSES)
        return tmb_fail(err, TMB_EDATA, "sums of activations near 2^121 overflow");
    TRY(tmb_accum_need_class(a, shape, c + 1, err));
    int64_t *low = a->sums[c], *high = a->sums[c + 1];
    for (uint64_t i = 0; i < n; i++) {
        high[i] += low[i] >> TMB_CLASS_BITS;
        low[i] &= (1 << TMB_CLASS_BITS) - 1;
    }
    a->bound[c + 1] += (a->bound[c] >> TMB_CLASS_BITS) + 1;
    a->bound[c] = 1 << TMB_CLASS_BITS;
    return TMB_OK;
}

/* A class that is carried into has room for it: bounds are at most 2^61 here and what comes up is
 * below 2^47; so one walk upwards is enough. */
tmb_status tmb_accum_make_room(tmb_accum *a, const tmb_accum_shape *shape, uint64_t more,
                               tmb_err *err)
{
    for (int c = 0; c < TMB_CLASSES; c++)
        if (a->sums[c] && a->bound[c] > full - more) TRY(carry(a, shape, c, err));
    return TMB_OK;
}

void tmb_accum_free(tmb_accum *a)
{
    free(a->values);
    free(a->blocks);
    for (int c = 0; c < TMB_CLASSES; c++)
        free(a->sums[c]);
    memset(a, 0, sizeof *a);
}

/* ------------------------------------------------------------------------------ feeding */

/* One call's work, shared by threads that take ranges of blocks. */
typedef struct feed {
    tmb_accum *a;
    const tmb_accum_shape *shape;
    const float *x;
    size_t n, stride;
    uint64_t next, step; /* blocks */
    pthread_mutex_t lock;
    tmb_status status;
    tmb_err err;
} feed;

/* What one thread finds, merged when it is through. */
typedef struct found {
    uint32_t values[4 * TMB_STAT_BINS];
    uint32_t blocks[TMB_STAT_BINS];
    uint64_t nonfinite;
    uint32_t amax, seen;
} found;

static tmb_status sums_of(feed *f, int c, int64_t **out)
{
    *out = __atomic_load_n(&f->a->sums[c], __ATOMIC_ACQUIRE);
    if (*out) return TMB_OK;
    pthread_mutex_lock(&f->lock);
    tmb_status status = tmb_accum_need_class(f->a, f->shape, c, &f->err);
    *out = f->a->sums[c];
    pthread_mutex_unlock(&f->lock);
    return status;
}

static tmb_status add_rows(feed *f, int c, uint64_t block, const float *x, size_t n, size_t stride,
                           int width)
{
    int64_t *sums;
    TRY(sums_of(f, c, &sums));
    sums += block * tmb_accum_per(f->shape);
    double scale = ldexp(1.0, 141 - 8 * c);
    if (f->shape->moments)
        f->shape->stat->moments(sums, x, n, stride, width, scale);
    else
        f->shape->stat->squares(sums, x, n, stride, width, scale);
    return TMB_OK;
}

/* Rows of several classes: each class's, gathered. */
static tmb_status add_mixed(feed *f, uint32_t classes, const uint32_t *amax, uint64_t block,
                            const float *x, size_t n, int width)
{
    float rows[TMB_STAT_ROWS][TMB_STAT_BLOCK];
    for (int c = 0; c < TMB_CLASSES; c++) {
        size_t k = 0;
        if (!(classes >> c & 1)) continue;
        for (size_t r = 0; r < n; r++)
            if (amax[r] && (int)(amax[r] >> 26) == c)
                memcpy(rows[k++], x + r * f->stride, (size_t)width * sizeof *x);
        TRY(add_rows(f, c, block, rows[0], k, TMB_STAT_BLOCK, width));
    }
    return TMB_OK;
}

/* One block of at most TMB_STAT_ROWS rows, from row `at` on. */
static tmb_status feed_tile(feed *f, found *o, uint64_t block, size_t at)
{
    uint64_t left = f->shape->in - block * TMB_STAT_BLOCK;
    int width = left < TMB_STAT_BLOCK ? (int)left : TMB_STAT_BLOCK;
    size_t n = f->n - at < TMB_STAT_ROWS ? f->n - at : TMB_STAT_ROWS;
    const float *x = f->x + at * f->stride + block * TMB_STAT_BLOCK;
    uint32_t amax[TMB_STAT_ROWS], classes = 0;
    o->nonfinite += f->shape->stat->look(x, n, f->stride, width, amax, o->values);
    for (size_t r = 0; r < n; r++) {
        o->blocks[amax[r] >> 20]++;
        o->amax = amax[r] > o->amax ? amax[r] : o->amax;
        if (amax[r]) classes |= 1u << (amax[r] >> 26);
    }
    o->seen |= classes;
    if (!classes) return TMB_OK; /* all zero */
    if (classes & (classes - 1)) return add_mixed(f, classes, amax, block, x, n, width);
    return add_rows(f, __builtin_ctz(classes), block, x, n, f->stride, width);
}

/* Tiles of rows outside, blocks inside: a row is then read from its beginning to its end, which
 * caches foresee, and the sums of the blocks stay near. */
static tmb_status feed_blocks(feed *f, found *o, uint64_t first, uint64_t end)
{
    for (size_t at = 0; at < f->n; at += TMB_STAT_ROWS)
        for (uint64_t b = first; b < end; b++)
            TRY(feed_tile(f, o, b, at));
    return TMB_OK;
}

static void give(feed *f, const found *o)
{
    tmb_accum *a = f->a;
    for (int i = 0; i < TMB_STAT_BINS; i++) {
        a->values[i] += (uint64_t)o->values[i] + o->values[i + TMB_STAT_BINS] +
                        o->values[i + 2 * TMB_STAT_BINS] + o->values[i + 3 * TMB_STAT_BINS];
        a->blocks[i] += o->blocks[i];
    }
    a->nonfinite += o->nonfinite;
    a->amax = o->amax > a->amax ? o->amax : a->amax;
    a->seen |= o->seen;
}

static void feed_worker(void *ctx)
{
    feed *f = ctx;
    found o;
    memset(&o, 0, sizeof o);
    uint64_t blocks = tmb_accum_blocks(f->shape);
    tmb_status status = TMB_OK;
    while (!status) {
        pthread_mutex_lock(&f->lock);
        uint64_t first = f->next, end = first + f->step < blocks ? first + f->step : blocks;
        f->next = end;
        if (f->status) end = first;
        pthread_mutex_unlock(&f->lock);
        if (first == end) break;
        status = feed_blocks(f, &o, first, end);
    }
    pthread_mutex_lock(&f->lock);
    if (status) f->status = status;
    give(f, &o);
    pthread_mutex_unlock(&f->lock);
}

static tmb_status feed_gates(tmb_accum *a, const char *name, const float *gate, size_t n,
                             tmb_err *err)
{
    for (size_t r = 0; r < n; r++) {
        double g = gate[r];
        if (!(fabs(g) <= 1024))
            return tmb_fail(err, TMB_EDATA, "%s: gate weight %g; a router's lie within 1024", name,
                            g);
        bool full_up = __builtin_add_overflow(a->gate, (int64_t)rint(g * 0x1p32), &a->gate);
        full_up |= __builtin_add_overflow(a->gate2, (int64_t)rint(g * g * 0x1p32), &a->gate2);
        if (full_up) return tmb_fail(err, TMB_EDATA, "%s: the sum of gate weights overflows", name);
    }
    return TMB_OK;
}

tmb_status tmb_accum_feed(tmb_accum *a, const tmb_accum_shape *shape, const char *name,
                          const float *x, size_t n, size_t stride, const float *gate, tmb_err *err)
{
    TRY(tmb_accum_need_bins(a, err));
    if (gate) TRY(feed_gates(a, name, gate, n, err));
    uint64_t blocks = tmb_accum_blocks(shape);
    size_t most = ROWS_A_CALL; /* and no more than 32-bit bins hold */
    if (shape->in > UINT32_MAX / ROWS_A_CALL) most = (size_t)(UINT32_MAX / shape->in) + 1;
    for (size_t at = 0; at < n; at += most) {
        size_t rows = n - at < most ? n - at : most;
        uint64_t more = (uint64_t)rows << ROW_BITS;
        TRY(tmb_accum_make_room(a, shape, more, err));
        feed f = {.a = a,
                  .shape = shape,
                  .x = x + at * stride,
                  .n = rows,
                  .stride = stride,
                  .step = 8,
                  .lock = PTHREAD_MUTEX_INITIALIZER};
        if (shape->threads > 1 && rows * blocks >= WORTH_A_THREAD)
            tmb_team_run(shape->threads, feed_worker, &f);
        else {
            f.step = BLOCKS_NEAR;
            feed_worker(&f);
        }
        if (f.status) {
            if (err) *err = f.err;
            return f.status;
        }
        for (int c = 0; c < TMB_CLASSES; c++)
            if (a->sums[c]) a->bound[c] += more;
    }
    a->tokens += n;
    return TMB_OK;
}

/* ------------------------------------------------------------------------------ adding */

tmb_status tmb_accum_add(tmb_accum *into, const tmb_accum *from, const tmb_accum_shape *shape,
                         const char *name, tmb_err *err)
{
    uint64_t n = tmb_accum_blocks(shape) * tmb_accum_per(shape);
    if (!from->tokens && !from->nonfinite) return TMB_OK;
    TRY(tmb_accum_need_bins(into, err));
    for (int i = 0; from->values && i < TMB_STAT_BINS; i++) {
        into->values[i] += from->values[i];
        into->blocks[i] += from->blocks[i];
    }
    into->tokens += from->tokens;
    into->nonfinite += from->nonfinite;
    into->amax = from->amax > into->amax ? from->amax : into->amax;
    into->seen |= from->seen;
    if (__builtin_add_overflow(into->gate, from->gate, &into->gate) ||
        __builtin_add_overflow(into->gate2, from->gate2, &into->gate2))
        return tmb_fail(err, TMB_EDATA, "%s: the sum of gate weights overflows", name);
    for (int c = 0; c < TMB_CLASSES; c++) {
        if (!from->sums[c]) continue;
        TRY(tmb_accum_need_class(into, shape, c, err));
        if (into->bound[c] > full) TRY(carry(into, shape, c, err));
        for (uint64_t i = 0; i < n; i++)
            into->sums[c][i] += from->sums[c][i];
        into->bound[c] += from->bound[c];
    }
    return TMB_OK;
}
