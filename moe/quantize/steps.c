/* steps.c - from the list of work to steps, and from steps to items.  See stage.h. */
#include "config.h"
#include "moe/quantize/stage.h"

#include "moe/io/direct.h"
#include "moe/model/weight.h"
#include "moe/quantize/bundle.h"

#include <stdlib.h>
#include <string.h>

#define MIB          (UINT64_C(1) << 20)
#define ALONE_BYTES  (16 * MIB) /* a bundle up to this, or an eighth of the ring, is not shared */
#define ITEM_BYTES   MIB        /* of input, at least: what a thread takes at once */
#define STREAM_BYTES (32 * MIB) /* a step of a streamed bundle */

/* ---- sizes ------------------------------------------------------------------------------------
 */

/* Upper bound of what tmb_reader_stage() asks for. */
static uint64_t span_of(const tmb_plan *plan, uint32_t unit, uint64_t rows)
{
    return tmb_reader_span(plan->job.model, &plan->job.model->units[unit], rows);
}

static bool has_slab(const tmb_plan *plan, uint32_t u)
{
    for (uint32_t s = plan->slot_first[u]; s < plan->slot_first[u] + plan->n_slots[u]; s++)
        if (plan->slots[s].slab_elements) return true;
    return false;
}

static uint64_t bundle_span(const tmb_plan *plan, const tmb_bundle *bundle)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < bundle->n_units; i++)
        bytes += span_of(plan, bundle->units[i], plan->job.model->units[bundle->units[i]].out);
    return bytes;
}

tmb_way tmb_way_of(const tmb_plan *plan, const tmb_bundle *bundle, uint64_t stage_bytes)
{
    uint64_t all = bundle_span(plan, bundle), tile = 0;
    uint64_t alone = stage_bytes / 8 < ALONE_BYTES ? stage_bytes / 8 : ALONE_BYTES;
    bool slab = false;
    for (uint32_t i = 0; i < bundle->n_units; i++) {
        const tmb_unit *unit = &plan->job.model->units[bundle->units[i]];
        uint64_t rows = unit->out < TMB_TILE_ROWS ? unit->out : TMB_TILE_ROWS;
        uint64_t span = span_of(plan, bundle->units[i], rows);
        if (span > tile) tile = span;
        slab = slab || has_slab(plan, bundle->units[i]);
    }
    if (all <= stage_bytes / 2) return slab || all <= alone ? TMB_WAY_ALONE : TMB_WAY_SHARED;
    return slab || tile > stage_bytes / 2 ? TMB_WAY_UNSTAGED : TMB_WAY_STREAM;
}

uint64_t tmb_stage_wanted(const tmb_plan *plan)
{
    uint64_t largest = 0, all = 0, threads = (uint64_t)plan->options.threads;
    for (uint32_t b = 0; b < plan->n_bundles; b++) {
        uint64_t bytes = bundle_span(plan, &plan->bundles[b]);
        if (bytes > largest) largest = bytes;
        all += bytes;
    }
    for (uint32_t i = 0; i < plan->n_outs; i++)
        if (plan->outs[i].kind == TMB_OUT_COPY) all += plan->outs[i].bytes + 2 * TMB_DIRECT_ALIGN;
    uint64_t want = 3 * largest, floor = 64 * MIB;
    if (want < 8 * MIB * threads) want = 8 * MIB * threads;
    if (want > 512 * MIB) want = 512 * MIB;
    if (want < floor) want = floor;
    if (want > 2 * all + MIB) want = 2 * all + MIB;
    return want / TMB_DIRECT_ALIGN * TMB_DIRECT_ALIGN;
}

uint64_t tmb_stage_least(const tmb_plan *plan)
{
    uint64_t want = tmb_stage_wanted(plan), least = 2 * TMB_PIECE_BYTES + MIB;
    return want < least ? want : least;
}

static uint64_t tiles_of(const tmb_unit *unit)
{
    return tmb_ceil_div(unit->out, TMB_TILE_ROWS);
}

uint64_t tmb_stage_overhead(const tmb_plan *plan)
{
    uint64_t most = 0;
    for (uint32_t b = 0; b < plan->n_bundles; b++) {
        uint64_t tiles = 0;
        for (uint32_t i = 0; i < plan->bundles[b].n_units; i++)
            tiles += tiles_of(&plan->job.model->units[plan->bundles[b].units[i]]);
        uint64_t bytes = tiles * sizeof(tmb_sums) + plan->bundles[b].n_units * 64;
        if (bytes > most) most = bytes;
    }
    return 2 * most + TMB_STEPS * (sizeof(tmb_step) + 1024);
}

/* ---- a bundle that is shared ------------------------------------------------------------------
 */

void tmb_shared_free(tmb_shared *s)
{
    if (!s) return;
    free(s->amax);
    free(s->tile_first);
    free(s->tiles);
    free(s);
}

static const tmb_shard_writer *no_writer(const tmb_out_file *file, tmb_shard_writer *w)
{
    *w = (tmb_shard_writer){.file = file};
    return w;
}

static tmb_status share(const tmb_plan *plan, const tmb_piece *piece, tmb_shared **out,
                        tmb_err *err)
{
    const tmb_bundle *bundle = &plan->bundles[piece->bundle];
    tmb_shard_writer w;
    no_writer(&plan->files[piece->file], &w);
    tmb_shared *s = calloc(1, sizeof *s);
    uint64_t tiles = 0;
    *out = s;
    if (s) s->amax = calloc(bundle->n_units, sizeof *s->amax);
    if (s) s->tile_first = calloc(bundle->n_units, sizeof *s->tile_first);
    if (!s || !s->amax || !s->tile_first) {
        tmb_shared_free(s);
        *out = NULL;
        return tmb_fail_memory(err, bundle->n_units * 12, "a bundle");
    }
    s->bundle = bundle;
    for (uint32_t i = 0; i < bundle->n_units; i++) {
        uint64_t n = tiles_of(&plan->job.model->units[bundle->units[i]]);
        s->tile_first[i] = tiles;
        tiles += n;
        if (tmb_unit_scanned(plan, bundle->units[i])) s->scan_left += n;
        if (tmb_unit_written(plan, bundle->units[i], &w)) s->write_left += n;
    }
    s->joined = !s->scan_left;
    s->tiles = calloc(tiles + 1, sizeof *s->tiles);
    if (s->tiles) return TMB_OK;
    tmb_shared_free(s);
    *out = NULL;
    return tmb_fail_memory(err, tiles * sizeof *s->tiles, "a bundle");
}

/* ---- making steps -----------------------------------------------------------------------------
 */

static tmb_status stage_rows(const tmb_stage *s, tmb_step *step, uint32_t unit, uint64_t row,
                             uint64_t rows, tmb_err *err)
{
    const tmb_model *model = s->plan->job.model;
    return tmb_reader_stage(&step->staged, model, &model->units[unit], row, rows, err);
}

static tmb_status stage_bundle(const tmb_stage *s, tmb_step *step, const tmb_bundle *bundle,
                               tmb_err *err)
{
    for (uint32_t i = 0; i < bundle->n_units; i++)
        TRY(stage_rows(s, step, bundle->units[i], 0,
                       s->plan->job.model->units[bundle->units[i]].out, err));
    return TMB_OK;
}

/* Whether the rows of a streamed unit are wanted in this round. */
static bool wanted(const tmb_stage *s, const tmb_piece *piece, uint32_t unit)
{
    tmb_shard_writer w;
    if (s->scanning) return tmb_unit_scanned(s->plan, unit);
    return tmb_unit_written(s->plan, unit, no_writer(&s->plan->files[piece->file], &w));
}

/* Move the cursor of a streamed bundle to the next rows that are wanted; false at its end. */
static bool stream_next(tmb_stage *s, const tmb_piece *piece)
{
    const tmb_bundle *bundle = s->shared->bundle;
    for (;;) {
        if (s->unit == bundle->n_units) {
            if (!s->scanning) return false;
            s->scanning = false;
            s->unit = 0;
        } else if (s->row < s->plan->job.model->units[bundle->units[s->unit]].out &&
                   wanted(s, piece, bundle->units[s->unit])) {
            return true;
        } else {
            s->unit++;
        }
        s->row = 0;
    }
}

/* Rows of a step: as many tiles as STREAM_BYTES, or a quarter of the ring, hold; all of a slab that
 * is stored the other way round. */
static uint64_t stream_rows(const tmb_stage *s, uint32_t u)
{
    const tmb_unit *unit = &s->plan->job.model->units[u];
    uint64_t limit = s->bytes / 4 < STREAM_BYTES ? s->bytes / 4 : STREAM_BYTES;
    uint64_t one = span_of(s->plan, u, TMB_TILE_ROWS < unit->out ? TMB_TILE_ROWS : unit->out);
    if (unit->stored.transposed) return unit->out;
    return (limit / one ? limit / one : 1) * TMB_TILE_ROWS;
}

static tmb_status stream_step(tmb_stage *s, tmb_step *step, const tmb_piece *piece, tmb_err *err)
{
    const tmb_bundle *bundle = &s->plan->bundles[piece->bundle];
    if (!s->shared) {
        TRY(share(s->plan, piece, &s->shared, err));
        s->scanning = true;
        s->unit = 0;
        s->row = 0;
    }
    step->kind = TMB_STEP_TILES;
    step->shared = s->shared;
    if (stream_next(s, piece)) {
        uint32_t u = bundle->units[s->unit];
        uint64_t out = s->plan->job.model->units[u].out, rows = stream_rows(s, u);
        step->row = s->row;
        step->row_end = out - s->row < rows ? out : s->row + rows;
        step->unit = step->scanned.unit = step->written.unit = s->unit;
        step->unit_end = s->unit + 1;
        step->scan = s->scanning;
        step->write = !s->scanning;
        TRY(stage_rows(s, step, u, step->row, step->row_end - step->row, err));
        s->row = step->row_end;
    }
    if (!stream_next(s, piece)) {
        step->last = true;
        s->shared = NULL;
    }
    return TMB_OK;
}

static tmb_status shared_step(tmb_stage *s, tmb_step *step, const tmb_piece *piece, tmb_err *err)
{
    const tmb_bundle *bundle = &s->plan->bundles[piece->bundle];
    TRY(share(s->plan, piece, &step->shared, err));
    step->kind = TMB_STEP_TILES;
    step->unit_end = bundle->n_units;
    step->row_end = UINT64_MAX;
    step->scan = step->write = step->last = true;
    return stage_bundle(s, step, bundle, err);
}

tmb_status tmb_step_make(tmb_stage *s, tmb_step *step, bool *made, tmb_err *err)
{
    *made = s->piece < s->work->n_pieces;
    if (!*made) return TMB_OK;
    const tmb_piece *piece = &s->work->pieces[s->piece];
    step->piece = s->piece;
    if (piece->bundle == TMB_NONE) {
        const tmb_checkpoint *ckpt = s->plan->job.model->ckpt;
        step->kind = TMB_STEP_COPY;
        s->piece++;
        return tmb_staged_add(&step->staged, ckpt, &ckpt->tensors[s->plan->outs[piece->out].source],
                              piece->begin, piece->bytes, err);
    }
    const tmb_bundle *bundle = &s->plan->bundles[piece->bundle];
    tmb_way way = tmb_way_of(s->plan, bundle, s->bytes);
    if (way == TMB_WAY_STREAM) {
        TRY(stream_step(s, step, piece, err));
        s->piece += !s->shared;
        return TMB_OK;
    }
    s->piece++;
    if (way == TMB_WAY_SHARED) return shared_step(s, step, piece, err);
    step->kind = TMB_STEP_ALONE;
    return way == TMB_WAY_ALONE ? stage_bundle(s, step, bundle, err) : TMB_OK;
}

/* ---- items ------------------------------------------------------------------------------------
 */

/* The next rows behind *unit, *row of those units of the step that count; false: there are none. */
static bool next_rows(const tmb_stage *s, const tmb_step *step, bool scan, uint32_t *unit,
                      uint64_t *row, tmb_item *item)
{
    const tmb_plan *plan = s->plan;
    const tmb_bundle *bundle = step->shared->bundle;
    tmb_shard_writer w;
    no_writer(&plan->files[s->work->pieces[step->piece].file], &w);
    for (; *unit < step->unit_end; (*unit)++, *row = 0) {
        uint32_t u = bundle->units[*unit];
        const tmb_unit *of = &plan->job.model->units[u];
        uint64_t end = step->row_end < of->out ? step->row_end : of->out;
        if (*row < step->row) *row = step->row;
        if (*row >= end || !(scan ? tmb_unit_scanned(plan, u) : tmb_unit_written(plan, u, &w)))
            continue;
        uint64_t tile = TMB_TILE_ROWS * of->in * 2;
        uint64_t rows = TMB_TILE_ROWS * (tile < ITEM_BYTES ? ITEM_BYTES / tile : 1);
        *item = (tmb_item){.kind = scan ? TMB_ITEM_SCAN : TMB_ITEM_WRITE, .unit = *unit};
        item->begin = *row;
        item->end = end - *row < rows ? end : *row + rows;
        *row = item->end;
        return true;
    }
    return false;
}

static bool take_tiles(const tmb_stage *s, tmb_step *step, tmb_item *item)
{
    tmb_shared *shared = step->shared;
    if (!shared) return false;
    if (step->scan && next_rows(s, step, true, &step->scanned.unit, &step->scanned.row, item))
        return true;
    if (!shared->joined) return false;
    if (step->write && next_rows(s, step, false, &step->written.unit, &step->written.row, item))
        return true;
    if (!step->last || shared->write_left || shared->finishing) return false;
    shared->finishing = true;
    *item = (tmb_item){.kind = TMB_ITEM_FINISH};
    return true;
}

bool tmb_stage_take(tmb_stage *s, tmb_item *item)
{
    for (size_t i = 0; i < s->n; i++) {
        tmb_step *step = &s->steps[(s->first + i) % TMB_STEPS];
        if (!step->ready) continue;
        bool got = false;
        if (step->kind == TMB_STEP_TILES) {
            got = take_tiles(s, step, item);
        } else if (!step->handed) {
            got = step->handed = true;
            *item =
                (tmb_item){.kind = step->kind == TMB_STEP_COPY ? TMB_ITEM_COPY : TMB_ITEM_ALONE};
        }
        if (!got) continue;
        item->step = step;
        step->out++;
        return true;
    }
    return false;
}

/* Nothing of it is out, nothing is left to take. */
static bool over(const tmb_stage *s, const tmb_step *step)
{
    if (!step->ready || step->out) return false;
    if (step->kind != TMB_STEP_TILES) return step->handed;
    if (!step->shared) return true;
    if (step->last) return false; /* until it is finished, which forgets shared */
    tmb_step copy = *step;
    tmb_item item;
    return !(step->scan &&
             next_rows(s, step, true, &copy.scanned.unit, &copy.scanned.row, &item)) &&
           !(step->write &&
             next_rows(s, step, false, &copy.written.unit, &copy.written.row, &item));
}

/* Memory goes back in the order in which it was taken. */
static void retire(tmb_stage *s)
{
    while (s->n && over(s, &s->steps[s->first])) {
        tmb_step *step = &s->steps[s->first];
        s->used -= step->bytes;
        step->bytes = 0;
        step->shared = NULL;
        tmb_staged_clear(&step->staged);
        s->first = (s->first + 1) % TMB_STEPS;
        s->n--;
    }
}

static void finish(tmb_stage *s, tmb_shared *shared)
{
    for (size_t i = 0; i < TMB_STEPS; i++)
        if (s->steps[i].shared == shared) s->steps[i].shared = NULL;
    tmb_shared_free(shared);
}

bool tmb_stage_give(tmb_stage *s, const tmb_item *item, float amax)
{
    tmb_step *step = item->step;
    tmb_shared *shared = step->shared;
    uint64_t tiles = tmb_ceil_div(item->end - item->begin, TMB_TILE_ROWS);
    bool done = item->kind == TMB_ITEM_COPY || item->kind == TMB_ITEM_ALONE;
    step->out--;
    if (item->kind == TMB_ITEM_SCAN) {
        if (amax > shared->amax[item->unit]) shared->amax[item->unit] = amax;
        shared->scan_left -= tiles;
        if (!shared->scan_left) {
            tmb_bundle_join(s->plan, shared->bundle, shared->amax);
            shared->joined = true;
        }
    } else if (item->kind == TMB_ITEM_WRITE) {
        shared->write_left -= tiles;
    } else if (item->kind == TMB_ITEM_FINISH) {
        finish(s, shared);
        done = true;
    }
    retire(s);
    tmb_changed(s->monitor);
    return done;
}

bool tmb_stage_finished(const tmb_stage *s)
{
    return s->piece == s->work->n_pieces && !s->n && !s->shared && !s->steps[s->first].staged.n;
}
