/* bundle.c - quantizes the units of a bundle.  See bundle.h. */
#include "config.h"
#include "moe/quantize/bundle_internal.h"

#include "moe/quantize/stage.h"

#include <stdlib.h>
#include <string.h>

/* Floats of a tile that stay in the second cache of every processor of today, with what is decoded
 * again beside them. */
enum { TILE_FLOATS = 32 << 10 };

/* The largest buffers that any bundle of a plan wants. */
typedef struct tmb_need {
    uint64_t reader, floats, codes, scales, work, slab[2], units;
} tmb_need;

static void raise(uint64_t *a, uint64_t b)
{
    if (b > *a) *a = b;
}

static const tmb_format *format_of(const tmb_plan *plan, uint32_t unit)
{
    return plan->job.assignment->choices[unit].spec->format;
}

/* What fits the cache, or a whole tile where the format has scales for several rows, or the rows
 * lie across the stored matrix. */
size_t tmb_rows_at_once(const tmb_unit *unit, const tmb_format *format)
{
    tmb_part_dims dims;
    bool tall =
        format && tmb_part_dims_of(unit, format, TMB_PART_SCALE, &dims) && dims.rows != unit->out;
    if (tall || unit->stored.transposed || unit->in * TMB_TILE_ROWS <= TILE_FLOATS)
        return TMB_TILE_ROWS;
    return unit->in < TILE_FLOATS ? TILE_FLOATS / (size_t)unit->in : 1;
}

static void need_slabs(const tmb_plan *plan, uint32_t u, tmb_need *need)
{
    const tmb_unit *unit = &plan->job.model->units[u];
    for (uint32_t s = plan->slot_first[u]; s < plan->slot_first[u] + plan->n_slots[u]; s++) {
        const tmb_slot *slot = &plan->slots[s];
        tmb_part_dims dims;
        if (!slot->slab_elements || !tmb_part_dims_of(unit, format_of(plan, u), slot->part, &dims))
            continue;
        raise(&need->slab[slot->part == TMB_PART_SCALE], slot->slab_elements * dims.element_bytes);
    }
}

/* stage_bytes UINT64_MAX: everything is staged. */
static tmb_need need_of(const tmb_plan *plan, uint64_t stage_bytes)
{
    const tmb_model *model = plan->job.model;
    tmb_need need = {0};
    for (uint32_t b = 0; b < plan->n_bundles; b++) {
        const tmb_bundle *bundle = &plan->bundles[b];
        bool staged = tmb_way_of(plan, bundle, stage_bytes) != TMB_WAY_UNSTAGED;
        raise(&need.units, bundle->n_units);
        for (uint32_t i = 0; i < bundle->n_units; i++) {
            uint32_t u = bundle->units[i];
            const tmb_unit *unit = &model->units[u];
            const tmb_format *format = format_of(plan, u);
            uint64_t rows = tmb_rows_at_once(unit, format);
            raise(&need.reader, staged ? tmb_reader_staged_bytes(model, unit, rows)
                                       : tmb_reader_bytes(model, unit));
            raise(&need.floats, rows * unit->in);
            raise(&need.work, tmb_format_work(unit->in));
            raise(&need.codes, tmb_part_tile_bytes(unit, format, TMB_PART_CODES));
            raise(&need.scales, tmb_part_tile_bytes(unit, format, TMB_PART_SCALE));
            need_slabs(plan, u, &need);
        }
    }
    return need;
}

static uint64_t lanes_bytes(const tmb_plan *plan)
{
    return plan->weigh ? plan->weigh->table_floats * sizeof(float) : 0;
}

uint64_t tmb_worker_bytes(const tmb_plan *plan, uint64_t stage_bytes)
{
    tmb_need need = need_of(plan, stage_bytes);
    uint64_t gpu = plan->options.gpu ? tmb_gpu_need(plan).host_bytes : 0;
    return need.reader + 2 * need.floats * 4 + need.work * 4 + need.codes + need.scales +
           need.slab[0] + need.slab[1] + need.units * 4 + lanes_bytes(plan) + gpu;
}

/* calloc would touch nothing either; malloc says that nobody reads before writing. */
static void *room(uint64_t bytes, bool *good)
{
    void *p = malloc(bytes ? bytes : 1);
    *good = *good && p;
    return p;
}

tmb_status tmb_worker_open(tmb_worker **out, const tmb_plan *plan, const tmb_ops *ops,
                           tmb_weighing *weighing, const tmb_pulse *pulse, tmb_err *err)
{
    tmb_need need = need_of(plan, plan->stage_bytes);
    bool good = true;
    tmb_worker *k = calloc(1, sizeof *k);
    *out = NULL;
    if (!k) return tmb_fail_memory(err, sizeof *k, "a worker");
    k->plan = plan;
    k->ops = ops;
    k->pulse = *pulse;
    k->weighing = weighing;
    k->weighed.layer = TMB_NONE;
    k->lanes = room(lanes_bytes(plan), &good);
    k->x = room(need.floats * 4, &good);
    k->y = room(need.floats * 4, &good);
    k->work = room(need.work * 4, &good);
    k->codes = room(need.codes, &good);
    k->scales = room(need.scales, &good);
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
    tmb_gpu_side_close(k->gpu);
    if (k->reader) tmb_reader_close(k->reader);
    free(k->x);
    free(k->y);
    free(k->work);
    free(k->codes);
    free(k->scales);
    free(k->amax);
    free(k->lanes);
    for (int i = 0; i < 2; i++)
        free(k->slab[i].data);
    free(k);
}

/* ---- one unit ---------------------------------------------------------------------------------
 */

static uint64_t line_of(const tmb_unit *unit, const tmb_format *format, tmb_part part)
{
    tmb_part_dims dims;
    return tmb_part_dims_of(unit, format, part, &dims) ? dims.cols * dims.element_bytes : 0;
}

static bool task_of(const tmb_plan *plan, uint32_t u, float amax, const tmb_shard_writer *w,
                    tmb_task *task)
{
    const tmb_unit *unit = &plan->job.model->units[u];
    const tmb_spec *spec = plan->job.assignment->choices[u].spec;
    bool any = false;
    *task = (tmb_task){.unit = unit,
                       .spec = spec,
                       .encoding = tmb_encoding_of(plan, u, amax),
                       .code_line = line_of(unit, spec->format, TMB_PART_CODES),
                       .scale_line = line_of(unit, spec->format, TMB_PART_SCALE),
                       .rows = tmb_rows_at_once(unit, spec->format)};
    for (uint32_t s = plan->slot_first[u]; s < plan->slot_first[u] + plan->n_slots[u]; s++) {
        const tmb_slot *slot = &plan->slots[s];
        if (slot->repeated || &plan->files[plan->outs[slot->out].file] != w->file) continue;
        task->slot[slot->part] = slot;
        any = tmb_part_dims_of(unit, spec->format, slot->part, &task->dims[slot->part]) || any;
    }
    return any;
}

static bool has_body(const tmb_task *task)
{
    return task->slot[TMB_PART_CODES] || task->slot[TMB_PART_SCALE];
}

bool tmb_unit_written(const tmb_plan *plan, uint32_t unit, const tmb_shard_writer *w)
{
    tmb_task task;
    return task_of(plan, unit, 0, w, &task) && has_body(&task);
}

bool tmb_unit_measured(const tmb_plan *plan, uint32_t unit, const tmb_shard_writer *w)
{
    tmb_task task;
    return task_of(plan, unit, 0, w, &task) && task.slot[TMB_PART_CODES];
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
    const tmb_measured *measured = k->plan->job.measured;
    float value = part == TMB_PART_GLOBAL ? task->encoding.global
                  : measured              ? measured->input[task->unit - k->plan->job.model->units]
                                          : 1.0f;
    if (slot->reciprocal) value = 1.0f / value;
    return tmb_shard_write(w, &value, sizeof value, at, err);
}

tmb_status tmb_task_write(tmb_worker *k, const tmb_task *task, tmb_part part, uint64_t row,
                          uint64_t rows, const uint8_t *data, tmb_shard_writer *w, tmb_err *err)
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

/* The worker's table becomes that of the task's unit. */
static tmb_status weigh(tmb_worker *k, tmb_task *task, tmb_err *err)
{
    const tmb_weigh_place *place = task->encoding.weigh, *has = &k->weighed;
    if (!place) return TMB_OK;
    task->encoding.lanes = k->lanes;
    if (has->layer == place->layer && has->site == place->site && has->entry == place->entry &&
        has->full == place->full)
        return TMB_OK;
    k->weighed.layer = TMB_NONE;
    TRY(tmb_weighing_make(k->weighing, place, k->lanes, err));
    k->weighed = *place;
    return TMB_OK;
}

/* Some rows of a tile, from row `row` of the unit on: at + rows is at most TMB_TILE_ROWS. */
static tmb_status encode_rows(tmb_worker *k, const tmb_task *task, uint64_t row, size_t at,
                              size_t rows, tmb_sums *sums, tmb_err *err)
{
    const tmb_unit *unit = task->unit;
    const tmb_format *format = task->spec->format;
    uint8_t *codes = k->codes + at * task->code_line, *scales = k->scales + at * task->scale_line;
    /* formats with a joint scale saw every value in the first pass */
    if (format && format->global_scale)
        TRY(tmb_reader_rows_again(k->reader, unit, row + at, rows, k->x, err));
    else
        TRY(tmb_reader_rows(k->reader, unit, row + at, rows, k->x, err));
    tmb_encode_rows(&task->encoding, k->ops, k->x, rows, codes, scales, k->work);
    if (!format || !task->slot[TMB_PART_CODES]) return TMB_OK;
    format->decode(format, k->ops, k->y, rows, unit->in, codes, scales, task->encoding.global,
                   k->work);
    k->ops->compare(sums, k->x, k->y, rows * unit->in);
    return TMB_OK;
}

tmb_status tmb_task_beat(const tmb_worker *k, const tmb_task *task, uint64_t row, uint64_t rows,
                         tmb_err *err)
{
    double bytes = (double)tmb_unit_source_bytes(k->plan, task->unit),
           out = (double)task->unit->out;
    uint64_t before = (uint64_t)(bytes * ((double)row / out));
    uint64_t upto = (uint64_t)(bytes * ((double)(row + rows) / out));
    return k->pulse.beat(k->pulse.ctx, upto - before, task->unit->name, err);
}

/* Rows begin .. end-1; the error of each tile to tiles[0], tiles[1] … */
static tmb_status encode_tiles(tmb_worker *k, tmb_task *task, uint64_t begin, uint64_t end,
                               tmb_shard_writer *w, tmb_sums *tiles, tmb_err *err)
{
    TRY(weigh(k, task, err));
    for (uint64_t row = begin; row < end; row += TMB_TILE_ROWS) {
        size_t rows = end - row < TMB_TILE_ROWS ? (size_t)(end - row) : TMB_TILE_ROWS;
        *tiles = (tmb_sums){0};
        for (size_t at = 0; at < rows; at += task->rows)
            TRY(encode_rows(k, task, row, at, rows - at < task->rows ? rows - at : task->rows,
                            tiles, err));
        tiles++;
        TRY(tmb_task_write(k, task, TMB_PART_CODES, row, rows, k->codes, w, err));
        TRY(tmb_task_write(k, task, TMB_PART_SCALE, row, rows, k->scales, w, err));
        if (task->slot[TMB_PART_CODES]) TRY(tmb_task_beat(k, task, row, rows, err));
    }
    return TMB_OK;
}

void tmb_sums_add(tmb_sums *to, const tmb_sums *from)
{
    to->signal += from->signal;
    to->noise += from->noise;
    to->dot += from->dot;
    to->power += from->power;
    if (from->max_error > to->max_error) to->max_error = from->max_error;
}

static tmb_status write_numbers(tmb_worker *k, const tmb_task *task, tmb_shard_writer *w,
                                tmb_err *err)
{
    TRY(write_scalar(k, task, TMB_PART_GLOBAL, w, err));
    TRY(write_scalar(k, task, TMB_PART_INPUT, w, err));
    return write_scalar(k, task, TMB_PART_SHAPE, w, err);
}

tmb_status tmb_worker_numbers(tmb_worker *k, uint32_t unit, float amax, tmb_shard_writer *w,
                              tmb_err *err)
{
    tmb_task task;
    return task_of(k->plan, unit, amax, w, &task) ? write_numbers(k, &task, w, err) : TMB_OK;
}

tmb_status tmb_worker_encode(tmb_worker *k, const tmb_staged *staged, uint32_t unit, float amax,
                             uint64_t begin, uint64_t end, tmb_shard_writer *w, tmb_sums *tiles,
                             tmb_err *err)
{
    tmb_task task;
    tmb_reader_use(k->reader, staged);
    if (!task_of(k->plan, unit, amax, w, &task)) return TMB_OK;
    bool done = false;
    if (tmb_worker_on_gpu(k, unit))
        TRY(tmb_gpu_encode(k, &task, begin, end, w, tiles, false, &done, err));
    return done ? TMB_OK : encode_tiles(k, &task, begin, end, w, tiles, err);
}

tmb_status tmb_worker_scan(tmb_worker *k, const tmb_staged *staged, uint32_t u, uint64_t begin,
                           uint64_t end, float *amax, tmb_err *err)
{
    const tmb_unit *unit = &k->plan->job.model->units[u];
    size_t at_once = tmb_rows_at_once(unit, format_of(k->plan, u));
    tmb_reader_use(k->reader, staged);
    bool done = false;
    if (tmb_worker_on_gpu(k, u)) TRY(tmb_gpu_scan(k, u, begin, end, amax, &done, err));
    if (done) return TMB_OK;
    *amax = 0;
    for (uint64_t row = begin; row < end;) {
        size_t rows = end - row < at_once ? (size_t)(end - row) : at_once;
        float top;
        TRY(tmb_reader_rows_amax(k->reader, unit, row, rows, k->x, &top, err));
        if (top > *amax) *amax = top;
        row += rows;
        if (row % TMB_TILE_ROWS == 0) TRY(k->pulse.beat(k->pulse.ctx, 0, unit->name, err));
    }
    return TMB_OK;
}

void tmb_bundle_join(const tmb_plan *plan, const tmb_bundle *bundle, float *amax)
{
    /* the first of those that share comes first, and gathers */
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t i = 0, root = 0; i < bundle->n_units; i++) {
            uint32_t share = plan->share[bundle->units[i]];
            if (bundle->units[root] != share)
                for (root = 0; bundle->units[root] != share; root++) {
                }
            if (pass == 0 && amax[i] > amax[root]) amax[root] = amax[i];
            if (pass == 1) amax[i] = amax[root];
        }
}

static tmb_status encode_unit(tmb_worker *k, tmb_task *task, tmb_shard_writer *w, tmb_sums *sums,
                              tmb_err *err)
{
    const tmb_unit *unit = task->unit;
    const tmb_part parts[2] = {TMB_PART_CODES, TMB_PART_SCALE};
    for (int i = 0; i < 2; i++)
        if (task->slot[parts[i]])
            TRY(tmb_slab_take(&k->slab[i], k->plan, task->slot[parts[i]], &task->dims[parts[i]], w,
                              err));
    *sums = (tmb_sums){0};
    TRY(write_numbers(k, task, w, err));
    bool done = !has_body(task);
    if (!done && tmb_worker_on_gpu(k, (uint32_t)(unit - k->plan->job.model->units)))
        TRY(tmb_gpu_encode(k, task, 0, unit->out, w, sums, true, &done, err));
    for (uint64_t row = 0; !done && row < unit->out; row += TMB_TILE_ROWS) {
        uint64_t end = unit->out - row < TMB_TILE_ROWS ? unit->out : row + TMB_TILE_ROWS;
        tmb_sums tile;
        TRY(encode_tiles(k, task, row, end, w, &tile, err));
        tmb_sums_add(sums, &tile);
    }
    return TMB_OK;
}

tmb_status tmb_worker_bundle(tmb_worker *k, const tmb_staged *staged, const tmb_bundle *bundle,
                             tmb_shard_writer *w, tmb_sums *sums, tmb_err *err)
{
    const tmb_plan *plan = k->plan;
    tmb_gpu_keep(k, bundle);
    for (uint32_t i = 0; i < bundle->n_units; i++) {
        k->amax[i] = 0;
        if (tmb_unit_scanned(plan, bundle->units[i]))
            TRY(tmb_worker_scan(k, staged, bundle->units[i], 0,
                                plan->job.model->units[bundle->units[i]].out, &k->amax[i], err));
    }
    tmb_bundle_join(plan, bundle, k->amax);
    tmb_reader_use(k->reader, staged);
    for (uint32_t i = 0; i < bundle->n_units; i++) {
        uint32_t u = bundle->units[i];
        tmb_task task;
        tmb_sums unused;
        if (!task_of(plan, u, k->amax[i], w, &task)) continue;
        TRY(encode_unit(k, &task, w, task.slot[TMB_PART_CODES] ? &sums[u] : &unused, err));
    }
    tmb_gpu_keep(k, NULL);
    for (int i = 0; i < 2; i++)
        TRY(tmb_slab_flush(&k->slab[i], plan, w, err));
    return TMB_OK;
}

tmb_status tmb_worker_copy(tmb_worker *k, const tmb_staged *staged, const tmb_out *out,
                           uint64_t begin, uint64_t bytes, tmb_shard_writer *w, tmb_err *err)
{
    const tmb_checkpoint *ckpt = k->plan->job.model->ckpt;
    const uint8_t *from = tmb_staged_find(staged, ckpt, &ckpt->tensors[out->source], begin, bytes);
    if (!from) return tmb_fail(err, TMB_EINTERNAL, "%s: was not read", out->name);
    TRY(tmb_shard_write(w, from, bytes, out->begin + begin, err));
    return k->pulse.beat(k->pulse.ctx, bytes, out->name, err);
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
