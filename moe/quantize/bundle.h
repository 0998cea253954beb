/* bundle.h - the work of one thread: read a bundle tile by tile, quantize, write, measure.
 *
 * A worker holds all memory it will ever need from the start; tmb_worker_bytes() is that amount,
 * and part of the memory formula. */
#ifndef TMB_QUANTIZE_BUNDLE_H
#define TMB_QUANTIZE_BUNDLE_H

#include "moe/model/weight.h"
#include "moe/quantize/shard_writer.h"

enum { TMB_COPY_BYTES = 8 << 20 };

/* Called after every tile and every copied piece with the input bytes it stands for; a status
 * other than TMB_OK stops the work and is returned. */
typedef struct tmb_pulse {
    tmb_status (*beat)(void *ctx, uint64_t bytes, const char *name, tmb_err *err);
    void *ctx;
} tmb_pulse;

typedef struct tmb_worker tmb_worker;

tmb_status tmb_worker_open(tmb_worker **out, const tmb_plan *plan, const tmb_ops *ops,
                           const tmb_pulse *pulse, tmb_err *err) TMB_CHECKED;
void tmb_worker_close(tmb_worker *worker);
uint64_t tmb_worker_bytes(const tmb_plan *plan);

/* Write what the bundle has in w's shard; sums [n_units of the model] gets the error of each unit
 * whose codes lie there.  A bundle that lies in two shards is worked on once for each. */
tmb_status tmb_worker_bundle(tmb_worker *worker, const tmb_bundle *bundle, tmb_shard_writer *w,
                             tmb_sums *sums, tmb_err *err) TMB_CHECKED;
/* Write bytes begin .. begin+bytes-1 of a copied output. */
tmb_status tmb_worker_copy(tmb_worker *worker, const tmb_out *out, uint64_t begin, uint64_t bytes,
                           tmb_shard_writer *w, tmb_err *err) TMB_CHECKED;
/* Tell the kernel that a bundle's input is wanted soon, or no more. */
void tmb_bundle_advise(const tmb_plan *plan, const tmb_bundle *bundle, bool soon);
/* Bytes of the source that a unit's values lie in. */
uint64_t tmb_unit_source_bytes(const tmb_plan *plan, const tmb_unit *unit);

#endif
