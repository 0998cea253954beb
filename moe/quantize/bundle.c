/* bundle.c - quantizes the units of a bundle.  See bundle.h. */
#include "config.h"
#include "moe/quantize/bundle.h"

#include "moe/quantize/slab.h"
#include "moe/quantize/slot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The largest buffers that any bundle of a plan wants. */
typedef struct tmb_need {
    uint64_t reader, cols, codes, scales, work, copy, slab[2], units;
} tmb_need;

struct tmb_worker {
    const tmb_plan *plan;
    const tmb_ops *ops;
    tmb_pulse pulse;
    tmb_reader *reader;
    float *x, *y, *work; /* tiles [TMB_TILE_ROWS, cols]; scratch of the format */
    uint8_t *codes, *scales;
    uint8_t *copy; /* [TMB_COPY_BYTES], or what the largest copy needs */
    uint64_t copy_bytes;
    tmb_slab slab[2]; /* of codes, of scales */
    float *amax;      /* [units of the largest bundle] */
};

static void raise(uint64_t *a, uint64_t b)
{
    if (b > *a) *a = b;
}

static uint64_t tile_bytes(const tmb_unit *unit, const tmb_format *format, tmb_part part)
{
    tmb_part_dims dims;
    if (!tmb_part_dims_of(unit, format, part, &dims)) return 0;
    uint64_t rows = tmb_part_row(unit, format, &dims, part, TMB_TILE_ROWS);
    return (rows ? rows : 1) * dims.cols * dims.element_bytes;
}

static tmb_need need_of(const tmb_plan *plan)
{
    const tmb_model *model = plan->job.model;
    tmb_need need = {0};
    for (uint32_t b = 0; b < plan->n_bundles; b++)
        raise(&need.units, plan->bundles[b].n_units);
    for (uint32_t u = 0; u < model->n_units; u++) {
        if (!plan->n_slots[u]) continue;
        const tmb_unit *unit = &model->units[u];
        const tmb_format *format = plan->job.assignment->choices[u].spec->format;
        raise(&need.reader, tmb_reader_bytes(model, unit));
        raise(&need.cols, unit->in);
        raise(&need.work, tmb_format_work(unit->in));
        raise(&need.codes, tile_bytes(unit, format, TMB_PART_CODES));
        raise(&need.scales, tile_bytes(unit, format, TMB_PART_SCALE));
        for (uint32_t s = plan->slot_first[u]; s < plan->slot_first[u] + plan->n_slots[u]; s++) {
            const tmb_slot *slot = &plan->slots[s];
            tmb_part_dims dims;
            if (!slot->slab_elements || !tmb_part_dims_of(unit, format, slot->part, &dims))
                continue;
            raise(&need.slab[slot->part == TMB_PART_SCALE],
                  slot->slab_elements * dims.element_bytes);
        }
    }
    for (uint32_t i = 0; i < plan->n_outs; i++)
        if (plan->outs[i].kind == TMB_OUT_COPY)
            raise(&need.copy,
                  plan->outs[i].bytes < TMB_COPY_BYTES ? plan->outs[i].bytes : TMB_COPY_BYTES);
    return need;
}

uint64_t tmb_worker_bytes(const tmb_plan *plan)
{
    tmb_need need = need_of(plan);
    return need.reader + 2 * TMB_TILE_ROWS * need.cols * 4 + need.work * 4 + need.codes +
           need.scales + need.copy + need.slab[0] + need.slab[1] + need.units * 4;
}

/* calloc would touch nothing either; malloc says that nobody reads before writing. */
static void *room(uint64_t bytes, bool *good)
{
    void *p = malloc(bytes ? bytes : 1);
    *good = *good && p;
    return p;
}

tmb_status tmb_worker_open(tmb_worker **out, const tmb_plan *plan, const tmb_ops *ops,
                           const tmb_pulse *pulse, tmb_err *err)
{
    tmb_need need = need_of(plan);
    bool good = true;
    tmb_worker *k = calloc(1, sizeof *k);
    *out = NULL;
    if (!k) return tmb_fail_memory(err, sizeof *k, "a worker");
    k->plan = plan;
    k->ops = ops;
    k->pulse = *pulse;
    k->x = room(TMB_TILE_ROWS * need.cols * 4, &good);
    k->y = room(TMB_TILE_ROWS * need.cols * 4, &good);
    k->work = room(need.work * 4, &good);
    k->codes = room(need.codes, &good);
    k->scales = room(need.scales, &good);
    k->copy = room(need.copy, &good);
    k->copy_bytes = need.copy;
    k->amax = room(need.units * 4, &good);
    for (int i = 0; i < 2; i++)
        k->slab[i].data = room(need.slab[i], &good);
    tmb_status status = TMB_OK;
    if (!good)
        status = tmb_fail_memory(err, plan->thread_bytes, "a worker; fewer threads need less");
    else if (plan->n_bundles)
        status = tmb_reader_open(&k->reader, plan->job.model, ops, err);
    if (status) {
        tmb_worker_close(k);
        k = NULL;
    }
    *out = k;
    return status;
}

void tmb_worker_close(tmb_worker *k)
{
    if (!k) return;
    if (k->reader) tmb_reader_close(k->reader);
    free(k->x);
    free(k->y);
    free(k->work);
    free(k->codes);
    free(k->scales);
    free(k->copy);
    free(k->amax);
    for (int i = 0; i < 2; i++)
        free(k->slab[i].data);
    free(k);
}

/* ---- one unit ---------------------------------------------------------------------------------
 */

/* A unit at work: where its parts go in this shard. */
typedef struct tmb_task {
    const tmb_unit *unit;
    const tmb_spec *spec;
    const tmb_slot *slot[TMB_PARTS]; /* NULL: not in this shard */
    tmb_part_dims dims[TMB_PARTS];
    float global;
} tmb_task;

static bool task_of(const tmb_plan *plan, uint32_t u, const tmb_shard_writer *w, tmb_task *task)
{
    bool any = false;
    *task = (tmb_task){.unit = &plan->job.model->units[u],
                       .spec = plan->job.assignment->choices[u].spec,
                       .global = 1};
    for (uint32_t s = plan->slot_first[u]; s < plan->slot_first[u] + plan->n_slots[u]; s++) {
        const tmb_slot *slot = &plan->slots[s];
        if (slot->repeated || &plan->files[plan->outs[slot->out].file] != w->file) continue;
        task->slot[slot->part] = slot;
        any =
            tmb_part_dims_of(task->unit, task->spec->format, slot->part, &task->dims[slot->part]) ||
            any;
    }
    return any;
}

static tmb_status write_scalar(const tmb_worker *k, const tmb_task *task, tmb_part part,
                               tmb_shard_writer *w, tmb_err *err)
{
    const tmb_slot *slot = task->slot[part];
    if (!slot) return TMB_OK;
    const tmb_out *out = &k->plan->outs[slot->out];
    uint64_t at = out->begin + slot->base * task->dims[part].element_bytes;
    if (part == TMB_PART_SHAPE) {
        int64_t shape[2] = {(int64_t)task->unit->out, (int64_t)task->unit->in};
        return tmb_shard_write(w, shape, sizeof shape, at, err);
    }
    /* Without calibration activations are cast: their scale is 1. */
    float value = part == TMB_PART_GLOBAL ? task->global : 1.0f;
    if (slot->reciprocal) value = 1.0f / value;
    return tmb_shard_write(w, &value, sizeof value, at, err);
}

/* data: rows `row` .. of a part, as the format lays them. */
static tmb_status write_rows(tmb_worker *k, const tmb_task *task, tmb_part part, uint64_t row,
                             size_t rows, const uint8_t *data, tmb_shard_writer *w, tmb_err *err)
{
    const tmb_slot *slot = task->slot[part];
    if (!slot) return TMB_OK;
    const tmb_part_dims *dims = &task->dims[part];
    const tmb_out *out = &k->plan->outs[slot->out];
    uint64_t first = tmb_part_row(task->unit, task->spec->format, dims, part, row);
    uint64_t end = tmb_part_row(task->unit, task->spec->format, dims, part, row + rows);
    if (slot->slab_elements) {
        tmb_slab_scatter(&k->slab[part == TMB_PART_SCALE], slot, dims, first, end - first, data);
        return TMB_OK;
    }
    uint64_t line = dims->cols * dims->element_bytes;
    return tmb_shard_write(w, data, (end - first) * line,
                           out->begin + slot->base * dims->element_bytes + first * line, err);
}

/* Formats with a joint scale saw every value in the first pass; the others have not. */
static tmb_status check_finite(const tmb_worker *k, const tmb_unit *unit, uint64_t row, size_t rows,
                               tmb_err *err)
{
    for (size_t r = 0; r < rows; r++) {
        if (isfinite(k->ops->amax(k->x + r * unit->in, unit->in))) continue;
        uint32_t t = unit->stored.part[TMB_PART_CODES];
        const tmb_checkpoint *ckpt = k->plan->job.model->ckpt;
        return tmb_fail(err, TMB_EDATA,
                        "%s: %s: row %llu holds a NaN or an infinity; keep this tensor with a rule "
                        "\"%s = bf16\", or download it again",
                        ckpt->shards[ckpt->tensors[t].shard].name, unit->name,
                        (unsigned long long)(row + r), unit->name);
    }
    return TMB_OK;
}

static tmb_status encode_tile(tmb_worker *k, const tmb_task *task, uint64_t row, size_t rows,
                              tmb_shard_writer *w, tmb_sums *sums, tmb_err *err)
{
    const tmb_unit *unit = task->unit;
    const tmb_format *format = task->spec->format;
    TRY(tmb_reader_rows(k->reader, unit, row, rows, k->x, err));
    if (!format) {
        k->ops->to_bf16((uint16_t *)(void *)k->codes, k->x, rows * unit->in);
        return write_rows(k, task, TMB_PART_CODES, row, rows, k->codes, w, err);
    }
    if (!format->global_scale) TRY(check_finite(k, unit, row, rows, err));
    format->encode(format, k->ops, task->spec->scale, k->x, rows, unit->in, task->global, k->codes,
                   k->scales, k->work);
    if (task->slot[TMB_PART_CODES]) {
        format->decode(format, k->ops, k->y, rows, unit->in, k->codes, k->scales, task->global,
                       k->work);
        k->ops->compare(sums, k->x, k->y, rows * unit->in);
    }
    TRY(write_rows(k, task, TMB_PART_CODES, row, rows, k->codes, w, err));
    return write_rows(k, task, TMB_PART_SCALE, row, rows, k->scales, w, err);
}

static tmb_status encode_unit(tmb_worker *k, const tmb_task *task, tmb_shard_writer *w,
                              tmb_sums *sums, tmb_err *err)
{
    const tmb_unit *unit = task->unit;
    tmb_slab *slab[2] = {&k->slab[0], &k->slab[1]};
    const tmb_part parts[2] = {TMB_PART_CODES, TMB_PART_SCALE};
    for (int i = 0; i < 2; i++)
        if (task->slot[parts[i]])
            TRY(tmb_slab_take(slab[i], k->plan, task->slot[parts[i]], &task->dims[parts[i]], w,
                              err));
    *sums = (tmb_sums){0};
    TRY(write_scalar(k, task, TMB_PART_GLOBAL, w, err));
    TRY(write_scalar(k, task, TMB_PART_INPUT, w, err));
    TRY(write_scalar(k, task, TMB_PART_SHAPE, w, err));
    uint64_t bytes = tmb_unit_source_bytes(k->plan, unit), done = 0;
    bool body = task->slot[TMB_PART_CODES] || task->slot[TMB_PART_SCALE];
    for (uint64_t row = 0; body && row < unit->out; row += TMB_TILE_ROWS) {
        uint64_t left = unit->out - row;
        size_t rows = left < TMB_TILE_ROWS ? (size_t)left : TMB_TILE_ROWS;
        TRY(encode_tile(k, task, row, rows, w, sums, err));
        if (!task->slot[TMB_PART_CODES]) continue;
        uint64_t upto = (uint64_t)((double)bytes * ((double)(row + rows) / (double)unit->out));
        TRY(k->pulse.beat(k->pulse.ctx, upto - done, unit->name, err));
        done = upto;
    }
    return TMB_OK;
}

/* amax [n_units]: of each unit, then of all that share with it. */
static tmb_status joint_amax(tmb_worker *k, const tmb_bundle *bundle, tmb_err *err)
{
    const tmb_plan *plan = k->plan;
    for (uint32_t i = 0; i < bundle->n_units; i++) {
        const tmb_unit *unit = &plan->job.model->units[bundle->units[i]];
        const tmb_format *format = plan->job.assignment->choices[bundle->units[i]].spec->format;
        k->amax[i] = 0;
        if (!format || !format->global_scale) continue;
        TRY(tmb_reader_amax(k->reader, unit, k->x, &k->amax[i], err));
        TRY(k->pulse.beat(k->pulse.ctx, 0, unit->name, err));
    }
    /* the first of those that share comes first, and gathers */
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t i = 0, root = 0; i < bundle->n_units; i++) {
            uint32_t share = plan->share[bundle->units[i]];
            if (bundle->units[root] != share)
                for (root = 0; bundle->units[root] != share; root++) {
                }
            if (pass == 0 && k->amax[i] > k->amax[root]) k->amax[root] = k->amax[i];
            if (pass == 1) k->amax[i] = k->amax[root];
        }
    return TMB_OK;
}

tmb_status tmb_worker_bundle(tmb_worker *k, const tmb_bundle *bundle, tmb_shard_writer *w,
                             tmb_sums *sums, tmb_err *err)
{
    const tmb_plan *plan = k->plan;
    tmb_task task;
    TRY(joint_amax(k, bundle, err));
    for (uint32_t i = 0; i < bundle->n_units; i++) {
        uint32_t u = bundle->units[i];
        tmb_sums unused;
        if (!task_of(plan, u, w, &task)) continue;
        const tmb_format *format = task.spec->format;
        if (format && format->global_scale) task.global = format->global_scale(k->amax[i]);
        TRY(encode_unit(k, &task, w, task.slot[TMB_PART_CODES] ? &sums[u] : &unused, err));
    }
    for (int i = 0; i < 2; i++)
        TRY(tmb_slab_flush(&k->slab[i], plan, w, err));
    return TMB_OK;
}

tmb_status tmb_worker_copy(tmb_worker *k, const tmb_out *out, uint64_t begin, uint64_t bytes,
                           tmb_shard_writer *w, tmb_err *err)
{
    const tmb_checkpoint *ckpt = k->plan->job.model->ckpt;
    const tmb_tensor *tensor = &ckpt->tensors[out->source];
    for (uint64_t end = begin + bytes; begin < end;) {
        size_t n = end - begin < k->copy_bytes ? (size_t)(end - begin) : (size_t)k->copy_bytes;
        TRY(tmb_checkpoint_read(ckpt, tensor, begin, k->copy, n, err));
        TRY(tmb_shard_write(w, k->copy, n, out->begin + begin, err));
        TRY(k->pulse.beat(k->pulse.ctx, n, out->name, err));
        begin += n;
    }
    return TMB_OK;
}

/* ---- what the kernel is told ------------------------------------------------------------------
 */

uint64_t tmb_unit_source_bytes(const tmb_plan *plan, const tmb_unit *unit)
{
    const tmb_checkpoint *ckpt = plan->job.model->ckpt;
    uint64_t bytes = 0;
    for (int i = 0; i < TMB_PARTS; i++) {
        uint32_t t = unit->stored.part[i];
        if (t == TMB_NO_TENSOR) continue;
        uint64_t whole = ckpt->tensors[t].bytes;
        uint64_t share = unit->stored.n_experts ? whole / unit->stored.n_experts : whole;
        /* gate and up of a stack lie in the same tensor: each is its half */
        if (unit->stored.n_experts && unit->stored.step > 1) share /= unit->stored.step;
        bytes += share;
    }
    return bytes;
}

void tmb_bundle_advise(const tmb_plan *plan, const tmb_bundle *bundle, bool soon)
{
    const tmb_checkpoint *ckpt = plan->job.model->ckpt;
    for (uint32_t i = 0; i < bundle->n_units; i++) {
        const tmb_stored *stored = &plan->job.model->units[bundle->units[i]].stored;
        for (int j = 0; j < TMB_PARTS; j++) {
            if (stored->part[j] == TMB_NO_TENSOR) continue;
            const tmb_tensor *tensor = &ckpt->tensors[stored->part[j]];
            uint64_t slice = stored->n_experts ? tensor->bytes / stored->n_experts : tensor->bytes;
            tmb_checkpoint_advise(ckpt, tensor, stored->n_experts ? stored->index * slice : 0,
                                  slice, soon);
        }
    }
}
