/* needs.h - what a calibration will take: of calibrate before it starts, of plan --calibrate. */
#ifndef TMB_SRC_NEEDS_H
#define TMB_SRC_NEEDS_H

#include "src/data_args.h"
#include "src/job.h"

#include "moe/calib/calibrate.h"

/* The job that the recipe's [calibration] asks for; what only calibrate knows is left zero. */
tmb_calibrate_options tmb_calibrate_wanted(const tmb_job *job, int threads, uint64_t max_ram);

/* "64 sequences, 32.77 K tokens; up to 90 MiB of memory, 32 MiB of disk in STATS.partial"; of
 * several ranks also what each takes. */
void tmb_needs_print(const tmb_calibrate_needs *needs, int ranks, const char *out, FILE *to);

/* What plan --calibrate is told of the run. */
typedef struct tmb_needs_wanted {
    uint64_t max_ram;
    int ranks, ways;
} tmb_needs_wanted;

/* plan --calibrate: the needs on standard output.  Without any source of data, those of as many
 * sequences as the recipe asks for. */
tmb_status tmb_needs_plan(const tmb_job *job, const tmb_texts *data, const tmb_common *common,
                          const tmb_needs_wanted *wanted, tmb_err *err) TMB_CHECKED;

#endif
