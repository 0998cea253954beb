/* bench_place.h - a folder of its own for a measurement on a checkpoint made for it, and what the
 * system says of the process. */
#ifndef TMB_SRC_BENCH_PLACE_H
#define TMB_SRC_BENCH_PLACE_H

#include "kernels/base/err.h"
#include "moe/bench/shapes.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct tmb_bench_place {
    char root[PATH_MAX], source[PATH_MAX + 8], out[PATH_MAX + 8];
} tmb_bench_place;

/* A new folder in dir (NULL: here), with `source` in it and `out` not yet.  place comes zeroed. */
tmb_status tmb_bench_place_make(tmb_bench_place *place, const char *dir, tmb_err *err) TMB_CHECKED;
/* Everything, or all but the source. */
void tmb_bench_place_remove(const tmb_bench_place *place, bool keep);
/* TMB_ECREATE when the disk of dir has less than `need` bytes free. */
tmb_status tmb_bench_place_room(const char *dir, uint64_t need, tmb_err *err) TMB_CHECKED;

/* The shape of --model M; NULL: the first.  TMB_EUSAGE with the names there are. */
tmb_status tmb_bench_shape(const tmb_shape **out, const char *name, tmb_err *err) TMB_CHECKED;

/* Processor seconds of this process, and its peak of resident bytes since the last reset. */
double tmb_bench_processor(void);
uint64_t tmb_bench_peak(void);
void tmb_bench_peak_reset(void);

#endif
