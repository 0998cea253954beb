/* bundle.h - the work of one thread: read a bundle tile by tile, quantize, write, measure.
 *
 * A worker holds all memory it will ever need from the start; tmb_worker_bytes() is that amount,
 * and part of the memory formula. */
#ifndef TMB_QUANTIZE_BUNDLE_H
#define TMB_QUANTIZE_BUNDLE_H

#include "kernels/cuda/device.h"
#include "moe/model/weight.h"
#include "moe/quantize/encode.h"
#include "moe/quantize/shard_writer.h"
#include "moe/quantize/weighing.h"

/* Called after every tile and every copied piece with the input bytes it stands for; a status
 * other than TMB_OK stops the work and is returned. */
typedef struct tmb_pulse {
    tmb_status (*beat)(void *ctx, uint64_t bytes, const char *name, tmb_err *err);
    void *ctx;
} tmb_pulse;

typedef struct tmb_worker tmb_worker;

/* weighing: what tmb_weighing_open() gave for the plan, borrowed. */
tmb_status tmb_worker_open(tmb_worker **out, const tmb_plan *plan, const tmb_ops *ops,
                           tmb_weighing *weighing, const tmb_pulse *pulse,
                           tmb_err *err) TMB_CHECKED;
void tmb_worker_close(tmb_worker *worker);
/* stage_bytes: of the ring that bundles are read into (moe/quantize/stage.h). */
uint64_t tmb_worker_bytes(const tmb_plan *plan, uint64_t stage_bytes);

/* What a worker takes of a GPU, and of pinned host memory for it (counted in tmb_worker_bytes()). */
typedef struct tmb_gpu_room {
    uint64_t device_bytes, host_bytes;
} tmb_gpu_room;
tmb_gpu_room tmb_gpu_need(const tmb_plan *plan);
/* From now on the worker encodes on the device what it can; the bytes are the same. */
tmb_status tmb_worker_use_gpu(tmb_worker *worker, tmb_cuda *device, tmb_err *err) TMB_CHECKED;
/* Whether this worker takes the unit there: a format with a GPU encoder whose tile fits. */
bool tmb_worker_on_gpu(const tmb_worker *worker, uint32_t unit);

/* In all that follows `staged` is what was read ahead; bytes that are not there are read. */

/* One worker does it all: write what the bundle has in w's shard; sums [n_units of the model] gets
 * the error of each unit whose codes lie there.  A bundle that lies in two shards is worked on once
 * for each. */
tmb_status tmb_worker_bundle(tmb_worker *worker, const tmb_staged *staged, const tmb_bundle *bundle,
                             tmb_shard_writer *w, tmb_sums *sums, tmb_err *err) TMB_CHECKED;

/* Or several share it, each taking rows begin .. end-1 of a unit; begin is a multiple of
 * TMB_TILE_ROWS, and end too, or the unit's last.  First the largest magnitude of every unit that
 * tmb_unit_scanned(), then tmb_bundle_join() once, then the codes. */
bool tmb_unit_written(const tmb_plan *plan, uint32_t unit, const tmb_shard_writer *w);
bool tmb_unit_measured(const tmb_plan *plan, uint32_t unit, const tmb_shard_writer *w); /* codes */
tmb_status tmb_worker_scan(tmb_worker *worker, const tmb_staged *staged, uint32_t unit,
                           uint64_t begin, uint64_t end, float *amax, tmb_err *err) TMB_CHECKED;
/* amax [n_units of the bundle]: of each unit, and then of all that share with it. */
void tmb_bundle_join(const tmb_plan *plan, const tmb_bundle *bundle, float *amax);
/* tiles: the error of each TMB_TILE_ROWS, from row begin on. */
tmb_status tmb_worker_encode(tmb_worker *worker, const tmb_staged *staged, uint32_t unit,
                             float amax, uint64_t begin, uint64_t end, tmb_shard_writer *w,
                             tmb_sums *tiles, tmb_err *err) TMB_CHECKED;
/* Global and activation scales and the shape; once a unit. */
tmb_status tmb_worker_numbers(tmb_worker *worker, uint32_t unit, float amax, tmb_shard_writer *w,
                              tmb_err *err) TMB_CHECKED;

/* Write bytes begin .. begin+bytes-1 of a copied output, which are staged. */
tmb_status tmb_worker_copy(tmb_worker *worker, const tmb_staged *staged, const tmb_out *out,
                           uint64_t begin, uint64_t bytes, tmb_shard_writer *w,
                           tmb_err *err) TMB_CHECKED;

/* to += from, field by field: tiles in their order, units in theirs. */
void tmb_sums_add(tmb_sums *to, const tmb_sums *from);
/* Tell the kernel that a bundle's input is wanted soon, or no more. */
void tmb_bundle_advise(const tmb_plan *plan, const tmb_bundle *bundle, bool soon);
/* Bytes of the source that a unit's values lie in. */
uint64_t tmb_unit_source_bytes(const tmb_plan *plan, const tmb_unit *unit);

#endif
