/* synthetic.h - checkpoints with the proportions of a known model and random weights.
 *
 * A table of normal numbers is drawn once and every tensor is a run of it from some place, so making
 * a checkpoint is as fast as writing it.  With holes the files have their full size and no data: a
 * model of any size on a small disk. */
#ifndef TMB_BENCH_SYNTHETIC_H
#define TMB_BENCH_SYNTHETIC_H

#include "kernels/base/err.h"
#include "kernels/base/progress.h"
#include "moe/bench/shapes.h"

typedef struct tmb_synthetic {
    uint64_t tensors, bytes; /* of data */
    uint32_t shards;
} tmb_synthetic;

/* Write it into the folder, which exists and is empty. */
tmb_status tmb_synthetic_make(tmb_synthetic *out, const char *folder, const tmb_shape *shape,
                              bool holes, const tmb_watch *watch, tmb_err *err) TMB_CHECKED;
/* Remove what was made there, and the folder. */
void tmb_synthetic_remove(const char *folder);

#endif
