/* bundle_gpu.c - the work of bundle.c on a GPU.
 *
 * A worker has a lane of its own: the weight goes up from where it was read to, or decoded to
 * float32 where it is stored coded; codes, scales and error sums come down into pinned memory and
 * from there to the shard.  Workers overlap, so one copies while another computes.  Every number
 * has the bits of the processor's way. */
#include "config.h"
#include "moe/quantize/bundle_internal.h"

#include "kernels/cuda/lane.h"
#include "kernels/cuda/quantize.h"
#include "moe/quantize/stage.h"

#include <math.h>
#include <stdlib.h>

#define MIB        (UINT64_C(1) << 20)
#define CHUNK_MOST (64 * MIB)  /* of float32: what is on the device at once */
#define TILE_MOST  (256 * MIB) /* a tile above this stays on the processor */
#define PLACE      UINT64_C(256)
enum { NUMBERS = 256 };

/* The largest of each that a plan wants, in bytes. */
typedef struct room_of {
    uint64_t x, codes, scales, sums, rows, units;
} room_of;

/* Where a unit's values are on the device. */
typedef struct place {
    uint64_t at;
    tmb_dtype dtype;
    bool there;
} place;

struct tmb_gpu_side {
    tmb_lane *lane;
    room_of room;
    uint8_t *x, *codes, *scales, *sums, *numbers; /* on the device */
    uint8_t *host_codes, *host_scales, *host_rows[2];
    tmb_sums *host_sums;
    float *host_numbers; /* [0] largest magnitude, [1] global scale */
    const tmb_bundle *kept;
    place *places; /* [units of the largest bundle] */
};

static void raise(uint64_t *a, uint64_t b)
{
    if (b > *a) *a = b;
}

static uint64_t rounded(uint64_t bytes)
{
    return (bytes + PLACE - 1) / PLACE * PLACE;
}

static const tmb_spec *spec_of(const tmb_plan *plan, uint32_t unit)
{
    return plan->job.assignment->choices[unit].spec;
}

static tmb_encoder encoder_of(const tmb_spec *spec)
{
    if (!spec->format) return TMB_ENCODERS;
    tmb_encoder e = tmb_encoder_find(spec->format->name);
    if (spec->scale == TMB_SCALE_MAX || !spec->format->can_mse) return e;
    bool searched = spec->scale == TMB_SCALE_MSE && e == TMB_ENC_NVFP4;
    return searched ? TMB_ENC_NVFP4_MSE : TMB_ENCODERS;
}

static uint64_t float_bytes(const tmb_unit *unit, uint64_t rows)
{
    return rounded((rows < unit->out ? rows : unit->out) * unit->in * sizeof(float));
}

static bool fits_gpu(const tmb_plan *plan, uint32_t u)
{
    return encoder_of(spec_of(plan, u)) != TMB_ENCODERS &&
           float_bytes(&plan->job.model->units[u], TMB_TILE_ROWS) <= TILE_MOST;
}

bool tmb_worker_on_gpu(const tmb_worker *k, uint32_t unit)
{
    return k->gpu && fits_gpu(k->plan, unit) && !tmb_weighing_of(k->plan, unit);
}

/* ---- memory ------------------------------------------------------------------------------------
 */

/* Rows that are on the device at once, where they do not stay. */
static uint64_t chunk_rows(const tmb_unit *unit, uint64_t room)
{
    if (float_bytes(unit, unit->out) <= room) return unit->out;
    uint64_t rows = room / (TMB_TILE_ROWS * unit->in * sizeof(float)) * TMB_TILE_ROWS;
    return rows ? rows : TMB_TILE_ROWS < unit->out ? TMB_TILE_ROWS : unit->out;
}

static uint64_t part_bytes(const tmb_unit *unit, const tmb_format *format, tmb_part part,
                           uint64_t rows)
{
    tmb_part_dims dims;
    if (!tmb_part_dims_of(unit, format, part, &dims)) return 0;
    return tmb_part_row(unit, format, &dims, part, rows) * dims.cols * dims.element_bytes;
}

static room_of room_for(const tmb_plan *plan)
{
    const tmb_unit *units = plan->job.model->units;
    room_of r = {0};
    for (uint32_t b = 0; b < plan->n_bundles; b++) {
        const tmb_bundle *bundle = &plan->bundles[b];
        uint64_t all = 0;
        raise(&r.units, bundle->n_units);
        for (uint32_t i = 0; i < bundle->n_units; i++) {
            uint32_t u = bundle->units[i];
            if (!fits_gpu(plan, u)) continue;
            all += float_bytes(&units[u], units[u].out);
            raise(&r.x, float_bytes(&units[u], TMB_TILE_ROWS));
        }
        raise(&r.x, all < CHUNK_MOST ? all : CHUNK_MOST);
    }
    for (uint32_t u = 0; u < plan->job.model->n_units; u++) {
        const tmb_unit *unit = &units[u];
        const tmb_format *format = spec_of(plan, u)->format;
        if (!fits_gpu(plan, u)) continue;
        uint64_t at_once = tmb_rows_at_once(unit, format), rows = chunk_rows(unit, r.x);
        uint64_t pieces = tmb_ceil_div(rows, TMB_TILE_ROWS) * tmb_ceil_div(TMB_TILE_ROWS, at_once);
        raise(&r.codes, rounded(part_bytes(unit, format, TMB_PART_CODES, rows)));
        raise(&r.scales, rounded(part_bytes(unit, format, TMB_PART_SCALE, rows)));
        raise(&r.sums, rounded(pieces * sizeof(tmb_sums)));
        raise(&r.rows, float_bytes(unit, at_once));
    }
    return r;
}

static tmb_gpu_room total(const room_of *r)
{
    uint64_t both = r->codes + r->scales + r->sums + NUMBERS;
    return (tmb_gpu_room){.device_bytes = r->x + both, .host_bytes = both + 2 * r->rows};
}

tmb_gpu_room tmb_gpu_need(const tmb_plan *plan)
{
    room_of r = room_for(plan);
    return total(&r);
}

tmb_status tmb_worker_use_gpu(tmb_worker *k, tmb_cuda *device, tmb_err *err)
{
    tmb_gpu_side *g = calloc(1, sizeof *g);
    if (!g) return tmb_fail_memory(err, sizeof *g, "a worker's side on the GPU");
    g->room = room_for(k->plan);
    tmb_gpu_room all = total(&g->room);
    g->places = calloc(g->room.units + 1, sizeof *g->places);
    tmb_status status = g->places ? TMB_OK : tmb_fail_memory(err, g->room.units, "places");
    if (!status) status = tmb_lane_open(&g->lane, device, all.device_bytes, all.host_bytes, err);
    if (status) {
        tmb_gpu_side_close(g);
        return status;
    }
    g->x = tmb_lane_memory(g->lane);
    g->codes = g->x + g->room.x;
    g->scales = g->codes + g->room.codes;
    g->sums = g->scales + g->room.scales;
    g->numbers = g->sums + g->room.sums;
    g->host_codes = tmb_lane_host(g->lane);
    g->host_scales = g->host_codes + g->room.codes;
    g->host_sums = (tmb_sums *)(void *)(g->host_scales + g->room.scales);
    g->host_numbers = (float *)(void *)(g->host_scales + g->room.scales + g->room.sums);
    g->host_rows[0] = (uint8_t *)g->host_numbers + NUMBERS;
    g->host_rows[1] = g->host_rows[0] + g->room.rows;
    k->gpu = g;
    return TMB_OK;
}

void tmb_gpu_side_close(tmb_gpu_side *g)
{
    if (!g) return;
    tmb_lane_close(g->lane);
    free(g->places);
    free(g);
}

void tmb_gpu_keep(tmb_worker *k, const tmb_bundle *bundle)
{
    tmb_gpu_side *g = k->gpu;
    uint64_t at = 0;
    if (!g) return;
    for (uint32_t i = 0; bundle && i < bundle->n_units; i++) {
        const tmb_unit *unit = &k->plan->job.model->units[bundle->units[i]];
        g->places[i] = (place){.at = at};
        if (fits_gpu(k->plan, bundle->units[i])) at += float_bytes(unit, unit->out);
    }
    g->kept = at <= g->room.x ? bundle : NULL;
}

/* The place that is kept for a unit, or NULL. */
static place *place_of(const tmb_gpu_side *g, uint32_t unit)
{
    for (uint32_t i = 0; g->kept && i < g->kept->n_units; i++)
        if (g->kept->units[i] == unit) return &g->places[i];
    return NULL;
}

/* ---- rows to the device ------------------------------------------------------------------------
 */

/* Decoded to float32 here, by the two buffers in turns. */
static tmb_status upload_decoded(tmb_worker *k, const tmb_unit *unit, size_t at_once, uint64_t row,
                                 uint64_t rows, uint8_t *to, tmb_err *err)
{
    tmb_gpu_side *g = k->gpu;
    uint64_t line = unit->in * sizeof(float);
    unsigned turn = 0;
    for (uint64_t at = 0; at < rows; at += at_once, turn++) {
        size_t n = rows - at < at_once ? (size_t)(rows - at) : at_once;
        float *buffer = (float *)(void *)g->host_rows[turn % 2];
        if (turn >= 2) TRY(tmb_lane_wait(g->lane, err));
        TRY(tmb_reader_rows_again(k->reader, unit, row + at, n, buffer, err));
        TRY(tmb_lane_upload(g->lane, to + at * line, buffer, n, line, line, err));
    }
    return tmb_lane_wait(g->lane, err);
}

/* Rows row .. of the unit are at *x, as *dtype. */
static tmb_status upload(tmb_worker *k, const tmb_unit *unit, size_t at_once, uint64_t row,
                         uint64_t rows, const void **x, tmb_dtype *dtype, tmb_err *err)
{
    tmb_gpu_side *g = k->gpu;
    place *kept = place_of(g, (uint32_t)(unit - k->plan->job.model->units));
    uint8_t *to = g->x + (kept ? kept->at : 0);
    const void *from;
    uint64_t stride;
    *x = to;
    if (kept && kept->there) {
        *dtype = kept->dtype;
        return TMB_OK;
    }
    if (tmb_reader_plain(k->reader, unit, row, rows, &from, dtype, &stride)) {
        uint64_t line = unit->in * (*dtype == TMB_BF16 ? 2 : 4);
        TRY(tmb_lane_upload(g->lane, to, from, rows, line, stride, err));
    } else {
        *dtype = TMB_F32;
        TRY(upload_decoded(k, unit, at_once, row, rows, to, err));
    }
    if (kept) *kept = (place){.at = kept->at, .dtype = *dtype, .there = true};
    return TMB_OK;
}

/* ---- the two rounds ----------------------------------------------------------------------------
 */

/* All of it where it stays, so that a place holds a whole unit. */
static uint64_t rows_now(const tmb_gpu_side *g, const tmb_unit *unit, bool stays, uint64_t left)
{
    uint64_t rows = stays ? unit->out : chunk_rows(unit, g->room.x);
    return rows < left ? rows : left;
}

tmb_status tmb_gpu_scan(tmb_worker *k, uint32_t u, uint64_t begin, uint64_t end, float *amax,
                        bool *done, tmb_err *err)
{
    tmb_gpu_side *g = k->gpu;
    const tmb_unit *unit = &k->plan->job.model->units[u];
    size_t at_once = tmb_rows_at_once(unit, spec_of(k->plan, u)->format);
    void *stream = tmb_lane_stream(g->lane);
    TRY(tmb_lane_enter(g->lane, err));
    TRY(tmb_lane_zero(g->lane, g->numbers, sizeof(float), err));
    for (uint64_t row = begin, rows; row < end; row += rows) {
        const void *x;
        tmb_dtype dtype;
        rows = rows_now(g, unit, place_of(g, u) != NULL, end - row);
        TRY(upload(k, unit, at_once, row, rows, &x, &dtype, err));
        TRY(tmb_cuda_amax((float *)(void *)g->numbers, x, dtype, rows * unit->in, stream, err));
        TRY(k->pulse.beat(k->pulse.ctx, 0, unit->name, err));
    }
    TRY(tmb_lane_download(g->lane, g->host_numbers, g->numbers, sizeof(float), err));
    TRY(tmb_lane_wait(g->lane, err));
    *amax = g->host_numbers[0];
    *done = isfinite(*amax);
    return TMB_OK;
}

/* Codes, scales and sums of rows row .. to the host's buffers; *good: all values are finite. */
static tmb_status encode_chunk(tmb_worker *k, const tmb_task *task, uint64_t row, uint64_t rows,
                               bool *good, tmb_err *err)
{
    tmb_gpu_side *g = k->gpu;
    const tmb_unit *unit = task->unit;
    const tmb_format *format = task->spec->format;
    tmb_encoder encoder = encoder_of(task->spec);
    float *numbers = (float *)(void *)g->numbers;
    void *stream = tmb_lane_stream(g->lane);
    const void *x;
    tmb_dtype dtype;
    TRY(upload(k, unit, task->rows, row, rows, &x, &dtype, err));
    g->host_numbers[0] = 0;
    g->host_numbers[1] = task->encoding.global;
    uint64_t two = 2 * sizeof(float);
    TRY(tmb_lane_upload(g->lane, numbers, g->host_numbers, 1, two, two, err));
    if (!format->global_scale) TRY(tmb_cuda_amax(numbers, x, dtype, rows * unit->in, stream, err));
    TRY(tmb_cuda_encode(encoder, g->codes, g->scales, x, dtype, rows, unit->in, numbers + 1,
                        stream, err));
    if (task->slot[TMB_PART_CODES]) {
        TRY(tmb_cuda_compare(encoder, (tmb_sums *)(void *)g->sums, g->codes, g->scales, x, dtype,
                             rows, unit->in, task->rows, numbers + 1, stream, err));
        uint64_t pieces = tmb_cuda_pieces(rows, task->rows);
        TRY(tmb_lane_download(g->lane, g->host_codes, g->codes,
                              part_bytes(unit, format, TMB_PART_CODES, row + rows) -
                                  part_bytes(unit, format, TMB_PART_CODES, row),
                              err));
        TRY(tmb_lane_download(g->lane, g->host_sums, g->sums, pieces * sizeof(tmb_sums), err));
    }
    if (task->slot[TMB_PART_SCALE])
        TRY(tmb_lane_download(g->lane, g->host_scales, g->scales,
                              part_bytes(unit, format, TMB_PART_SCALE, row + rows) -
                                  part_bytes(unit, format, TMB_PART_SCALE, row),
                              err));
    TRY(tmb_lane_download(g->lane, g->host_numbers, numbers, sizeof(float), err));
    TRY(tmb_lane_wait(g->lane, err));
    *good = isfinite(g->host_numbers[0]);
    return TMB_OK;
}

/* The pieces of a chunk, added up in the order in which the processor would make them. */
static void add_up(const tmb_gpu_side *g, const tmb_task *task, uint64_t rows, tmb_sums *tiles,
                   bool one)
{
    const tmb_sums *from = g->host_sums;
    for (uint64_t row = 0; row < rows; row += TMB_TILE_ROWS) {
        uint64_t n = rows - row < TMB_TILE_ROWS ? rows - row : TMB_TILE_ROWS;
        tmb_sums tile = {0};
        for (uint64_t at = 0; task->slot[TMB_PART_CODES] && at < n; at += task->rows)
            tmb_sums_add(&tile, from++);
        if (one)
            tmb_sums_add(tiles, &tile);
        else
            *tiles++ = tile;
    }
}

tmb_status tmb_gpu_encode(tmb_worker *k, const tmb_task *task, uint64_t begin, uint64_t end,
                          tmb_shard_writer *w, tmb_sums *tiles, bool one, bool *done, tmb_err *err)
{
    tmb_gpu_side *g = k->gpu;
    bool stays = place_of(g, (uint32_t)(task->unit - k->plan->job.model->units)) != NULL;
    TRY(tmb_lane_enter(g->lane, err));
    for (uint64_t row = begin, rows; row < end; row += rows) {
        rows = rows_now(g, task->unit, stays, end - row);
        TRY(encode_chunk(k, task, row, rows, done, err));
        if (!*done) return TMB_OK;
        add_up(g, task, rows, tiles, one);
        if (!one) tiles += tmb_ceil_div(rows, TMB_TILE_ROWS);
        TRY(tmb_task_write(k, task, TMB_PART_CODES, row, rows, g->host_codes, w, err));
        TRY(tmb_task_write(k, task, TMB_PART_SCALE, row, rows, g->host_scales, w, err));
        if (task->slot[TMB_PART_CODES]) TRY(tmb_task_beat(k, task, row, rows, err));
    }
    *done = true;
    return TMB_OK;
}
