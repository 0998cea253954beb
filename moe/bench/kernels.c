#include "config.h"
#include "moe/bench/kernels.h"

#include "kernels/base/clock.h"
#include "moe/bench/random.h"
#include "moe/calib/weigh.h"
#include "moe/format/formats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { COLS = 2048, TILE = TMB_TILE_ROWS * COLS, TILES = 48, ROUNDS = 3, ROWS = 16 };
#define LONG_ENOUGH 0.15 /* seconds a row is measured */

typedef struct bench {
    const tmb_ops *ops;
    uint16_t *source; /* [TILES * TILE] */
    float *x, *y, *work;
    uint8_t *codes, *scales;
    volatile float *largest; /* what nobody looks at */
    float *lanes;            /* second moments of COLS channels, as searches take them */
} bench;

typedef struct task {
    const tmb_format *format;
    tmb_scale_rule rule;
    bool amax, encode, check;
} task;

/* Neighbours that go together, of sizes that differ: as inputs of Linears are. */
static void fill_lanes(float *lanes)
{
    float s[COLS / 16][TMB_MOMENT_FULL];
    for (int b = 0; b < COLS / 16; b++)
        for (int i = 0, k = 0; i < 16; i++)
            for (int j = i; j < 16; j++)
                s[b][k++] = (float)(pow(0.6, j - i) * (1 + (b + i) % 5) * (1 + (b + j) % 5));
    tmb_weigh_table(s[0], COLS / 16, true, 1e4, lanes);
}

/* A job takes as many rows of a tile at once as the second cache holds, or all of them where scales
 * stand for several rows. */
static size_t rows_at_once(const tmb_format *f)
{
    tmb_geometry g = {0};
    bool tall = f->part(f, TMB_PART_SCALE, TMB_TILE_ROWS, COLS, &g) && g.shape[0] != TMB_TILE_ROWS;
    return tall ? TMB_TILE_ROWS : ROWS;
}

static void some_rows(const bench *b, const task *t, const uint16_t *source, size_t rows)
{
    const tmb_format *f = t->format;
    size_t n = rows * COLS;
    float global = f->global_scale ? f->global_scale(0.1f) : 1;
    if (t->encode) {
        b->ops->decode(b->x, source, TMB_BF16, n);
        const tmb_moments moments = {true, b->lanes};
        if (t->rule == TMB_SCALE_HESSIAN)
            f->encode_weighted(f, b->ops, &moments, b->x, rows, COLS, global, b->codes, b->scales,
                               b->work);
        else
            f->encode(f, b->ops, t->rule, b->x, rows, COLS, global, b->codes, b->scales, b->work);
    }
    if (t->check) {
        tmb_sums sums = {0};
        f->decode(f, b->ops, b->y, rows, COLS, b->codes, b->scales, global, b->work);
        b->ops->compare(&sums, b->x, b->y, n);
    }
}

static void one_tile(const bench *b, const task *t, size_t tile)
{
    const uint16_t *source = b->source + tile * TILE;
    size_t rows = rows_at_once(t->format);
    for (size_t r = 0; t->amax && r < TMB_TILE_ROWS; r += rows) {
        b->ops->decode(b->x, source + r * COLS, TMB_BF16, rows * COLS);
        *b->largest = b->ops->amax(b->x, rows * COLS);
    }
    for (size_t r = 0; r < TMB_TILE_ROWS; r += rows)
        some_rows(b, t, source + r * COLS, rows);
}

/* Bytes of BF16 a second. */
static double rate(const bench *b, const task *t)
{
    double best = 0, began = tmb_seconds();
    size_t tiles = t->rule != TMB_SCALE_MAX && t->encode ? TILES / 8 : TILES;
    for (int i = 0; i < ROUNDS || tmb_seconds() - began < LONG_ENOUGH; i++) {
        double from = tmb_thread_seconds();
        for (size_t k = 0; k < tiles; k++)
            one_tile(b, t, k);
        double took = tmb_thread_seconds() - from;
        double now = took > 0 ? (double)tiles * TILE * 2 / took : 0;
        if (now > best) best = now;
    }
    return best;
}

static void measure(const bench *b, tmb_kernel_rate *r)
{
    task t = {.format = r->format, .rule = r->rule, .encode = true};
    r->encode = rate(b, &t);
    t.check = true;
    t.amax = r->format->global_scale != NULL;
    r->job = rate(b, &t);
    t.encode = t.amax = false;
    r->check = rate(b, &t);
}

static tmb_status stopped(const tmb_watch *watch, tmb_err *err)
{
    if (watch->stop && *watch->stop) return tmb_fail(err, TMB_ESYSTEM, "bench: stopped");
    return TMB_OK;
}

tmb_status tmb_bench_kernels(const tmb_ops *ops, const tmb_watch *watch, tmb_kernel_rate *rates,
                             int *n, tmb_err *err)
{
    bench b = {
        .ops = ops,
        .source = malloc((size_t)TILES * TILE * sizeof(uint16_t)),
        .x = malloc(TILE * sizeof(float)),
        .y = malloc(TILE * sizeof(float)),
        .work = malloc(tmb_format_work(COLS) * sizeof(float)),
        .codes = malloc(TILE),
        .scales = malloc(TILE * sizeof(float)),
        .lanes = malloc(tmb_weigh_floats(COLS / 16, true) * sizeof(float)),
    };
    tmb_status status = TMB_OK;
    volatile float largest = 0;
    b.largest = &largest;
    *n = 0;
    if (!b.source || !b.x || !b.y || !b.work || !b.codes || !b.scales || !b.lanes)
        status = tmb_fail_memory(err, (uint64_t)TILES * TILE * 2, "the kernels' input");
    else
        fill_lanes(b.lanes);
    if (!status) tmb_random_bf16(b.source, (size_t)TILES * TILE, 1, 0.02f);
    const tmb_format *f;
    for (int i = 0; !status && (f = tmb_format_at(i)); i++)
        for (int rule = TMB_SCALE_MAX; !status && rule <= TMB_SCALE_HESSIAN; rule++) {
            if (*n == TMB_KERNEL_RATES || !tmb_format_scales(f, (tmb_scale_rule)rule)) continue;
            status = stopped(watch, err);
            if (status) break;
            if (watch->progress) {
                tmb_progress p = {
                    .phase = "kernels", .current = f->name, .done_units = (uint32_t)*n};
                watch->progress(watch->ctx, &p);
            }
            rates[*n] = (tmb_kernel_rate){.format = f, .rule = (tmb_scale_rule)rule};
            measure(&b, &rates[(*n)++]);
        }
    free(b.source);
    free(b.x);
    free(b.y);
    free(b.work);
    free(b.codes);
    free(b.scales);
    free(b.lanes);
    return status;
}

/* Eight sums, so that the loads and not the additions are what is waited for. */
static uint64_t read_all(const uint64_t *p, size_t n)
{
    uint64_t s[8] = {0};
    for (size_t i = 0; i + 8 <= n; i += 8)
        for (int k = 0; k < 8; k++)
            s[k] += p[i + (size_t)k];
    return s[0] ^ s[1] ^ s[2] ^ s[3] ^ s[4] ^ s[5] ^ s[6] ^ s[7];
}

tmb_status tmb_bench_memory(double *read, double *copy, tmb_err *err)
{
    size_t bytes = (size_t)128 << 20;
    uint64_t *from = malloc(bytes), *to = malloc(bytes);
    uint64_t sum = 0;
    *read = *copy = 0;
    if (!from || !to) {
        free(from);
        free(to);
        return tmb_fail_memory(err, 2 * bytes, "the memory test");
    }
    memset(from, 1, bytes);
    memset(to, 2, bytes);
    for (int i = 0; i < 5; i++) {
        double t = tmb_seconds();
        sum += read_all(from, bytes / 8);
        t = tmb_seconds() - t;
        if ((double)bytes / t > *read) *read = (double)bytes / t;
        t = tmb_seconds();
        memcpy(to, from, bytes);
        t = tmb_seconds() - t;
        sum += to[i];
        __asm__ volatile("" : : "r"(sum)); /* what was read counts as used */
        if ((double)bytes / t > *copy) *copy = (double)bytes / t;
    }
    free(from);
    free(to);
    return TMB_OK;
}
