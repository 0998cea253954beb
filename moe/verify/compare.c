/* compare.c - against the source: what was to stay is the same to the byte, what was quantized is
 * as near as rounding explains.
 *
 * Two signs tell damage from rounding.  A tensor's error is held against plain rounding of the
 * source to the same format; and in four-bit formats no value may be further off than half of its
 * block's largest magnitude, which no plain scale does, but a swapped nibble or row does.  Scales
 * that were searched by the error of the output may do both, and are told by grid.c. */
#include "config.h"
#include "moe/model/weight.h"
#include "moe/verify/verify_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SLACK_DB 1.5 /* what a scale search or a shared scale may cost against plain rounding */
enum { CHUNK = 1 << 20 };

typedef enum tmb_match {
    MATCH_FINE,
    MATCH_MISSING, /* not in the source */
    MATCH_SHAPE,
    MATCH_BYTES,  /* a copy that is none */
    MATCH_BROKEN, /* cannot be read */
} tmb_match;

typedef struct tmb_compared {
    tmb_match match;
    uint64_t stray;
    double floor_db; /* of plain rounding; -inf when there is none */
} tmb_compared;

/* What one thread needs. */
typedef struct tmb_bench {
    tmb_reader *ours, *theirs;
    float *x, *y, *z, *work;
    uint8_t *codes, *scales;
    size_t cols;
} tmb_bench;

static void bench_close(tmb_bench *b)
{
    tmb_reader_close(b->ours);
    tmb_reader_close(b->theirs);
    free(b->x);
    free(b->y);
    free(b->z);
    free(b->work);
    free(b->codes);
    free(b->scales);
}

static tmb_status bench_open(tmb_bench *b, const tmb_verifier *v, size_t cols, tmb_err *err)
{
    size_t tile = (size_t)TMB_TILE_ROWS * (cols > 16 ? cols : 16);
    TRY(tmb_reader_open(&b->ours, v->model, v->ops, err));
    TRY(tmb_reader_open(&b->theirs, v->options->against, v->ops, err));
    b->cols = cols;
    b->x = malloc(tile * sizeof *b->x);
    b->y = malloc(tile * sizeof *b->y);
    b->z = malloc(tile * sizeof *b->z);
    b->work = malloc(tmb_format_work(cols) * sizeof *b->work);
    b->codes = malloc(tile > CHUNK ? tile : CHUNK);
    b->scales = malloc(tile * sizeof(float) > CHUNK ? tile * sizeof(float) : CHUNK);
    if (!b->x || !b->y || !b->z || !b->work || !b->codes || !b->scales)
        return tmb_fail_memory(err, tile * 4 * sizeof(float), "comparing tiles");
    return TMB_OK;
}

static bool same_geometry(const tmb_tensor *a, const tmb_tensor *b)
{
    return a->dtype == b->dtype && a->rank == b->rank && a->bytes == b->bytes &&
           (a->rank == 0 || memcmp(a->shape, b->shape, a->rank * sizeof *a->shape) == 0);
}

static tmb_status compare_bytes(const tmb_verifier *v, tmb_bench *b, const tmb_tensor *ours,
                                const tmb_tensor *theirs, bool *same, tmb_err *err)
{
    *same = false;
    if (!same_geometry(ours, theirs)) return TMB_OK;
    for (uint64_t at = 0; at < ours->bytes; at += CHUNK) {
        size_t n = ours->bytes - at < CHUNK ? (size_t)(ours->bytes - at) : CHUNK;
        TRY(tmb_checkpoint_read(v->ckpt, ours, at, b->codes, n, err));
        TRY(tmb_checkpoint_read(v->options->against->ckpt, theirs, at, b->scales, n, err));
        if (memcmp(b->codes, b->scales, n) != 0) return TMB_OK;
    }
    *same = true;
    return TMB_OK;
}

/* Columns that share a block scale, for the formats in which stray values are told; else 0. */
static size_t block_of(const tmb_unit *u)
{
    const char *name = u->stored.format->name;
    if (strncmp(name, "nvfp4", 5) == 0) return 16;
    if (strcmp(name, "mxfp4") == 0) return 32;
    if (strcmp(name, "int4") == 0) return u->stored.group ? u->stored.group : 128;
    return 0;
}

static bool is_e2m1(const tmb_unit *u)
{
    return strcmp(u->stored.format->name, "int4") != 0;
}

/* Below it a block of a tensor this large rounds to nothing. */
static float least_of(float amax)
{
    return amax / 2688 / 64;
}

static uint64_t count_stray(const float *ref, const float *got, size_t rows, size_t cols,
                            size_t block, float amax, bool e2m1)
{
    uint64_t stray = 0;
    float least = least_of(amax);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c += block) {
            size_t n = cols - c < block ? cols - c : block;
            const float *a = ref + r * cols + c, *b = got + r * cols + c;
            float top = least;
            for (size_t i = 0; i < n; i++)
                top = fmaxf(top, fabsf(a[i]));
            uint64_t here = 0;
            for (size_t i = 0; i < n; i++)
                here += fabsf(a[i] - b[i]) > 0.5f * top;
            if (here && !(e2m1 && tmb_on_own_grid(a, b, n, least))) stray += here;
        }
    return stray;
}

/* A kept weight of another stored form: equal but for the rounding of its own type. */
static uint64_t count_unequal(const float *ref, const float *got, size_t n)
{
    uint64_t unequal = 0;
    for (size_t i = 0; i < n; i++)
        unequal += !(fabsf(ref[i] - got[i]) <= fabsf(ref[i]) / 128);
    return unequal;
}

/* The format's own geometry has no choice of group; other groups have no floor here. */
static bool has_floor(const tmb_unit *u)
{
    return u->stored.format && !(u->stored.group && strcmp(u->stored.format->name, "int4") == 0 &&
                                 u->stored.group != 128);
}

/* A fused layer, or a stack, shares its largest member's scale, which moves where this one's values
 * fall among the codes: round with what is stored, unless that is no scale such a weight could
 * share. */
static float shared_global(const tmb_verifier *v, const tmb_unit *u, float own)
{
    const tmb_module *m = tmb_module_find(v, u->disk ? u->disk : u->name);
    if (!m || !m->meant) return own;
    bool divisor = m->meant->kind == TMB_VK_NVFP4 && m->meant->layout == TMB_VL_CT;
    float stored = divisor ? 1 / m->global : m->global;
    return stored >= own && stored <= own * 256 ? stored : own;
}

/* Whether the whole unit is what its own scales make of the source: asked only where the error is
 * more than plain rounding has. */
static tmb_status all_on_grid(tmb_bench *b, const tmb_unit *u, const tmb_unit *r, size_t block,
                              float amax, bool *all, tmb_err *err)
{
    *all = is_e2m1(u);
    for (uint64_t row = 0; *all && row < u->out; row += TMB_TILE_ROWS) {
        size_t rows = u->out - row < TMB_TILE_ROWS ? (size_t)(u->out - row) : TMB_TILE_ROWS;
        TRY(tmb_reader_rows(b->theirs, r, row, rows, b->x, err));
        TRY(tmb_reader_rows(b->ours, u, row, rows, b->y, err));
        for (size_t i = 0; *all && i < rows * u->in; i += block)
            *all = tmb_on_own_grid(b->x + i, b->y + i, block, least_of(amax));
    }
    return TMB_OK;
}

static tmb_status compare_rows(const tmb_verifier *v, tmb_bench *b, const tmb_unit *u,
                               const tmb_unit *r, tmb_sums *sums, tmb_compared *out, tmb_err *err)
{
    const tmb_format *f = u->stored.format;
    size_t cols = (size_t)u->in, block = f ? block_of(u) : 0;
    float amax = 0;
    tmb_sums rounded = {0};
    if (f) TRY(tmb_reader_amax(b->theirs, r, b->x, &amax, err));
    float global = f && f->global_scale ? shared_global(v, u, f->global_scale(amax)) : 1;
    for (uint64_t row = 0; row < u->out; row += TMB_TILE_ROWS) {
        size_t rows = u->out - row < TMB_TILE_ROWS ? (size_t)(u->out - row) : TMB_TILE_ROWS;
        TRY(tmb_reader_rows(b->theirs, r, row, rows, b->x, err));
        TRY(tmb_reader_rows(b->ours, u, row, rows, b->y, err));
        v->ops->compare(sums, b->x, b->y, rows * cols);
        if (!f) out->stray += count_unequal(b->x, b->y, rows * cols);
        if (block) out->stray += count_stray(b->x, b->y, rows, cols, block, amax, is_e2m1(u));
        if (!has_floor(u)) continue;
        f->encode(f, v->ops, TMB_SCALE_MAX, b->x, rows, cols, global, b->codes, b->scales, b->work);
        f->decode(f, v->ops, b->z, rows, cols, b->codes, b->scales, global, b->work);
        v->ops->compare(&rounded, b->x, b->z, rows * cols);
    }
    if (has_floor(u) && rounded.signal > 0 && rounded.noise > 0)
        out->floor_db = tmb_decibel(&rounded);
    if (block && tmb_decibel(sums) < out->floor_db - SLACK_DB) {
        bool all;
        TRY(all_on_grid(b, u, r, block, amax, &all, err));
        if (all) out->floor_db = -INFINITY;
    }
    return TMB_OK;
}

static tmb_status compare_unit(const tmb_verifier *v, tmb_bench *b, const tmb_unit *u,
                               tmb_sums *sums, tmb_compared *out, tmb_err *err)
{
    const tmb_unit *r = tmb_model_find(v->options->against, u->name);
    *out = (tmb_compared){.match = r ? MATCH_FINE : MATCH_MISSING, .floor_db = -INFINITY};
    if (!r) return TMB_OK;
    if (u->broken || r->broken) {
        out->match = MATCH_BROKEN;
        return TMB_OK;
    }
    uint32_t ours = u->stored.part[TMB_PART_CODES], theirs = r->stored.part[TMB_PART_CODES];
    if (ours == TMB_NO_TENSOR || theirs == TMB_NO_TENSOR) return TMB_OK;
    const tmb_tensor *a = &v->ckpt->tensors[ours], *t = &v->options->against->ckpt->tensors[theirs];
    bool whole = !u->stored.n_experts && !r->stored.n_experts;
    if (!u->linear || !r->linear ||
        (whole && !u->stored.format && !r->stored.format && a->dtype == t->dtype)) {
        bool same;
        TRY(compare_bytes(v, b, a, t, &same, err));
        if (!same) out->match = same_geometry(a, t) ? MATCH_BYTES : MATCH_SHAPE;
        return TMB_OK;
    }
    if (u->out != r->out || u->in != r->in) {
        out->match = MATCH_SHAPE;
        return TMB_OK;
    }
    TRY(compare_rows(v, b, u, r, sums, out, err));
    if (!u->stored.format && out->stray) out->match = MATCH_BYTES;
    return TMB_OK;
}

static void report_unit(tmb_verifier *v, const tmb_unit *u, const tmb_sums *sums,
                        const tmb_compared *c)
{
    double db = tmb_decibel(sums);
    switch (c->match) {
    case MATCH_MISSING:
        if (!tmb_is_kv_scale(u->name))
            tmb_find(v, TMB_CHECK_SOURCE_NEW, TMB_ERROR, 0, u->name,
                     "the source has no tensor of this name: engines find no parameter for it, or "
                     "it was renamed; "
                     "keep the source's names");
        return;
    case MATCH_SHAPE:
        tmb_find(v, TMB_CHECK_SOURCE_SHAPE, TMB_ERROR, 0, u->name,
                 "type or shape differ from the source's: it is another model's, or was stored "
                 "transposed; "
                 "quantize it again");
        return;
    case MATCH_BYTES:
        tmb_find(v, TMB_CHECK_COPY_DIFFERS, TMB_ERROR, u->linear, u->name,
                 "the tensor is not quantized, so it should equal the source to the byte, and does "
                 "not: copy it "
                 "again");
        return;
    case MATCH_BROKEN:
        return;
    case MATCH_FINE:
        break;
    }
    if (!u->stored.format) return;
    if (c->stray)
        tmb_find(
            v, TMB_CHECK_STRAY_VALUES, TMB_ERROR, 0, u->name,
            "%llu values are further from the source than half of their block's largest, which no "
            "rounding "
            "explains: codes or scales were damaged or stand in another order; quantize it again",
            (unsigned long long)c->stray);
    if (db < c->floor_db - SLACK_DB)
        tmb_find(v, TMB_CHECK_SQNR_LOW, TMB_ERROR, 0, u->name,
                 "SQNR against the source is %.2f dB, plain rounding to %s gives %.2f: scales or "
                 "codes are wrong; "
                 "quantize it again",
                 db, u->stored.format->name, c->floor_db);
}

static size_t widest(const tmb_verifier *v)
{
    size_t cols = 16;
    for (uint32_t i = 0; i < v->model->n_units; i++) {
        const tmb_unit *u = &v->model->units[i];
        if (u->linear && !u->broken && u->in > cols) cols = (size_t)u->in;
    }
    for (uint32_t i = 0; i < v->options->against->n_units; i++) {
        const tmb_unit *u = &v->options->against->units[i];
        if (u->linear && !u->broken && u->in > cols) cols = (size_t)u->in;
    }
    return cols;
}

typedef struct tmb_comparison {
    size_t cols;
    tmb_sums *sums;      /* [n_units] */
    tmb_compared *found; /* [n_units] */
} tmb_comparison;

static void compare_some(void *arg)
{
    tmb_loop *loop = arg;
    const tmb_comparison *c = loop->ctx;
    tmb_bench bench = {0};
    tmb_err err;
    tmb_status status = bench_open(&bench, loop->v, c->cols, &err);
    for (uint32_t i; !status && tmb_next(loop, &i);) {
        const tmb_unit *u = &loop->v->model->units[i];
        status = compare_unit(loop->v, &bench, u, &c->sums[i], &c->found[i], &err);
        if (status == TMB_EDATA) { /* a NaN in it: found by the scan of values */
            c->found[i].match = MATCH_BROKEN;
            status = TMB_OK;
        }
        tmb_tick(loop->v, u->linear ? u->out * u->in * 2 : 0, u->name);
    }
    if (status) tmb_loop_fail(loop, &err);
    bench_close(&bench);
}

tmb_status tmb_compare_source(tmb_verifier *v, tmb_err *err)
{
    const tmb_model *against = v->options->against;
    uint32_t n = v->model->n_units;
    if (!against) return tmb_count_groups(v, NULL, err);
    tmb_sums *sums = calloc((size_t)n + 1, sizeof *sums);
    tmb_compared *found = calloc((size_t)n + 1, sizeof *found);
    tmb_status status = TMB_OK;
    if (!sums || !found) {
        status = tmb_fail_memory(err, n * sizeof *sums, "comparing with the source");
        goto out;
    }
    tmb_comparison all = {.cols = widest(v), .sums = sums, .found = found};
    tmb_loop loop = {.v = v, .n = n, .ctx = &all};
    if ((status = tmb_loop_run(&loop, compare_some, err))) goto out;
    for (tmb_check c = TMB_CHECK_SOURCE_MISSING; c <= TMB_CHECK_SQNR_LOW; c++)
        tmb_ran(v, c);
    for (uint32_t i = 0; i < n; i++)
        report_unit(v, &v->model->units[i], &sums[i], &found[i]);
    for (uint32_t i = 0; i < against->n_units; i++)
        if (!tmb_model_find(v->model, against->units[i].name))
            tmb_find(v, TMB_CHECK_SOURCE_MISSING, TMB_ERROR, 0, against->units[i].name,
                     "the source has it, this checkpoint does not: engines leave it uninitialised; "
                     "quantize again, "
                     "or copy it");
    tmb_count_worst(v, sums);
    status = tmb_count_groups(v, sums, err);
out:
    free(sums);
    free(found);
    return status;
}
