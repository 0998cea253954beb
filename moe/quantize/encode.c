/* encode.c - rows of one unit in the format that its rule gave it.  See encode.h. */
#include "config.h"
#include "moe/quantize/encode.h"

#include "moe/format/parts.h"

static const tmb_format *format_of(const tmb_plan *plan, uint32_t unit)
{
    return plan->job.assignment->choices[unit].spec->format;
}

bool tmb_unit_scanned(const tmb_plan *plan, uint32_t unit)
{
    const tmb_format *format = format_of(plan, unit);
    return format && format->global_scale;
}

tmb_encoding tmb_encoding_of(const tmb_plan *plan, uint32_t u, float amax)
{
    tmb_encoding e = {.unit = &plan->job.model->units[u],
                      .spec = plan->job.assignment->choices[u].spec,
                      .global = 1,
                      .weigh = tmb_weighing_of(plan, u)};
    if (tmb_unit_scanned(plan, u)) e.global = e.spec->format->global_scale(amax);
    for (uint32_t s = plan->slot_first[u]; s < plan->slot_first[u] + plan->n_slots[u]; s++)
        if (plan->slots[s].part == TMB_PART_GLOBAL) e.divides = plan->slots[s].reciprocal;
    return e;
}

void tmb_encode_rows(const tmb_encoding *e, const tmb_ops *ops, const float *x, size_t rows,
                     void *codes, void *scales, float *work)
{
    const tmb_format *f = e->spec->format;
    size_t cols = (size_t)e->unit->in;
    const tmb_moments moments = {e->weigh && e->weigh->full, e->lanes};
    if (e->weigh)
        f->encode_weighted(f, ops, &moments, x, rows, cols, e->global, codes, scales, work);
    else if (f)
        f->encode(f, ops, e->spec->scale, x, rows, cols, e->global, codes, scales, work);
    else
        ops->to_bf16(codes, x, rows * cols);
}

/* E2M1 in blocks of 16 whose E4M3 scales are divided by the number stored, 1 / global. */
static void read_divided(const tmb_ops *ops, float global, const uint8_t *code,
                         const uint8_t *scale, size_t blocks, float *y, float *work)
{
    enum { BLOCK = 16 };
    float stored = 1.0f / global;
    for (size_t n; blocks; blocks -= n) {
        n = blocks < TMB_CHUNK ? blocks : TMB_CHUNK;
        ops->decode(work, scale, TMB_F8_E4M3, n);
        for (size_t i = 0; i < n; i++)
            work[i] = work[i] / stored;
        ops->decode_e2m1(y, code, work, n, BLOCK);
        scale += n;
        code += n * BLOCK / 2;
        y += n * BLOCK;
    }
}

void tmb_read_back(const tmb_encoding *e, const tmb_ops *ops, const void *codes, const void *scales,
                   size_t rows, float *y, float *work)
{
    const tmb_format *f = e->spec->format;
    size_t cols = (size_t)e->unit->in;
    if (!f)
        ops->decode(y, codes, TMB_BF16, rows * cols);
    else if (e->divides)
        read_divided(ops, e->global, codes, scales, rows * (cols / 16), y, work);
    else
        f->decode(f, ops, y, rows, cols, codes, scales, e->global, work);
}
