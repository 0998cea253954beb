/* synthetic.h - checkpoints with the proportions of a known model and random weights.
 *
 * A table of normal numbers is drawn once and every tensor is a run of it from some place, so making
 * a checkpoint is as fast as writing it.  Vectors (norms, biases of routers) are ones.  Files may also
 * have their full size and little or no data: a model of any size on a small disk. */
#ifndef TMB_BENCH_SYNTHETIC_H
#define TMB_BENCH_SYNTHETIC_H

#include "kernels/base/err.h"
#include "kernels/base/progress.h"
#include "moe/bench/shapes.h"

typedef struct tmb_synthetic {
    uint64_t tensors, bytes; /* of data */
    uint32_t shards;
} tmb_synthetic;

typedef enum tmb_fill {
    TMB_FILL_ALL,
    TMB_FILL_ROUTES,  /* vectors, routers and the first TMB_ROUTED_IDS rows of the embedding; the
                         rest is holes, which read as zeros: a forward pass routes its tokens as one
                         through random weights does */
    TMB_FILL_NOTHING, /* all holes */
} tmb_fill;
enum { TMB_ROUTED_IDS = 1024 };

/* Write it into the folder, which exists and is empty. */
tmb_status tmb_synthetic_make(tmb_synthetic *out, const char *folder, const tmb_shape *shape,
                              tmb_fill fill, const tmb_watch *watch, tmb_err *err) TMB_CHECKED;
/* Remove what was made there, and the folder. */
void tmb_synthetic_remove(const char *folder);

#endif
