/* rounded.c - the reference's weight through each format, against the other's. */
#include "config.h"
#include "moe/diagnose/rounded.h"

#include "kernels/cpu/cpu.h"
#include "moe/format/formats.h"

#include <math.h>
#include <stdlib.h>

/* One tile of both, and scratch. */
typedef struct tile {
    float *ref, *other, *back, *work;
    uint16_t *bf16;
    uint8_t *codes, *scales;
    size_t rows, cols;
    float amax; /* of the whole weight of the reference */
} tile;

/* Values that differ after both were rounded to BF16. */
static size_t mismatches(const tile *t)
{
    const tmb_ops *ops = tmb_cpu_ops();
    size_t n = t->rows * t->cols, bad = 0;
    ops->to_bf16(t->bf16, t->back, n);
    ops->decode(t->back, t->bf16, TMB_BF16, n);
    ops->to_bf16(t->bf16, t->other, n);
    ops->decode(t->other, t->bf16, TMB_BF16, n);
    for (size_t i = 0; i < n; i++)
        bad += t->back[i] != t->other[i];
    return bad;
}

static bool is_this(const tile *t, const tmb_format *f)
{
    const tmb_ops *ops = tmb_cpu_ops();
    size_t n = t->rows * t->cols;
    if (t->cols % f->col_multiple) return false;
    float global = f->global_scale ? f->global_scale(t->amax) : 1;
    f->encode(f, ops, TMB_SCALE_MAX, t->ref, t->rows, t->cols, global, t->codes, t->scales,
              t->work);
    f->decode(f, ops, t->back, t->rows, t->cols, t->codes, t->scales, global, t->work);
    return mismatches(t) * 100 <= n;
}

static bool make(tile *t, size_t cols)
{
    size_t n = TMB_TILE_ROWS * cols;
    *t = (tile){.cols = cols};
    t->ref = malloc(n * sizeof *t->ref);
    t->other = malloc(n * sizeof *t->other);
    t->back = malloc(n * sizeof *t->back);
    t->bf16 = malloc(n * sizeof *t->bf16);
    t->codes = malloc(n * 4);
    t->scales = malloc(n * 4);
    t->work = malloc(tmb_format_work(cols) * sizeof *t->work);
    return t->ref && t->other && t->back && t->bf16 && t->codes && t->scales && t->work;
}

static void drop(tile *t)
{
    void *all[] = {t->ref, t->other, t->back, t->bf16, t->codes, t->scales, t->work};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static tmb_status largest(void *own, tmb_reader *reader, const tmb_unit *unit, tile *t,
                          tmb_err *err)
{
    for (uint64_t row = 0; row < unit->out; row += TMB_TILE_ROWS) {
        uint64_t left = unit->out - row;
        size_t rows = left < TMB_TILE_ROWS ? (size_t)left : TMB_TILE_ROWS;
        TRY(tmb_mix_rows(own, TMB_SIDE_REF, reader, unit, row, rows, t->back, err));
        t->amax = fmaxf(t->amax, tmb_cpu_ops()->amax(t->back, rows * t->cols));
    }
    return TMB_OK;
}

tmb_status tmb_looks_rounded(void *own, tmb_reader *reader, const tmb_unit *unit,
                             const tmb_format **format, tmb_err *err)
{
    tile t;
    *format = NULL;
    tmb_status status = make(&t, (size_t)unit->in)
                            ? TMB_OK
                            : tmb_fail_memory(err, TMB_TILE_ROWS * unit->in * 24, unit->name);
    t.rows = unit->out < TMB_TILE_ROWS ? (size_t)unit->out : TMB_TILE_ROWS;
    if (!status) status = largest(own, reader, unit, &t, err);
    if (!status) status = tmb_mix_rows(own, TMB_SIDE_REF, reader, unit, 0, t.rows, t.ref, err);
    if (!status) status = tmb_mix_rows(own, TMB_SIDE_OTHER, reader, unit, 0, t.rows, t.other, err);
    for (int i = 0; !status && tmb_format_at(i); i++)
        if ((!*format || tmb_format_at(i)->bits < (*format)->bits) && is_this(&t, tmb_format_at(i)))
            *format = tmb_format_at(i);
    drop(&t);
    return status;
}
