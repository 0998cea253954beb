/* quantize.h - execute a plan.
 *
 * The input is read ahead into a ring, threads quantize it tile by tile, and what they make has a
 * known place in a shard, so the bytes do not depend on the number of threads.  A shard goes to the
 * disk in blocks, in any order, under a temporary name, and through SHA-256 in its own; then it is
 * fsynced and renamed.  Then come carried-over files, config.json, the index, and last tombac.json.
 * A stop at any moment leaves no folder that looks complete; the same command again goes on where
 * it stopped. */
#ifndef TMB_QUANTIZE_QUANTIZE_H
#define TMB_QUANTIZE_QUANTIZE_H

#include "kernels/base/progress.h"
#include "moe/quantize/plan.h"

typedef struct tmb_quantize_options {
    const char *out;     /* folder to make */
    bool restart;        /* discard what an earlier run left */
    const char *command; /* the command line, for the message of a run that was stopped; may be
                            NULL.  tombac.json holds a command without paths instead, so that the
                            same input gives the same bytes anywhere */
    bool cached; /* read and write through the page cache, dropping behind; else past it, where the
                    file system can */
    int device;     /* which GPU, where the plan was made for one (tmb_plan_options.gpu) */
    tmb_watch watch;
} tmb_quantize_options;

/* Error of a group of units: one row of the plan. */
typedef struct tmb_group_error {
    uint32_t row;
    tmb_sums sums;
    double worst_sqnr_db;
    const char *worst; /* unit */
} tmb_group_error;

typedef struct tmb_quantize_result {
    tmb_group_error *groups; /* quantized rows only */
    uint32_t n_groups;
    uint64_t bytes_read, bytes_written;
    double seconds;
    bool resumed;
    uint32_t shards_reused;
    uint64_t bytes_kept; /* of shards that an earlier run had begun */
    uint32_t units_gpu, units_cpu; /* quantized by this run, and where */
    tmb_arena arena;
} tmb_quantize_result;

tmb_status tmb_quantize(const tmb_plan *plan, const tmb_quantize_options *options,
                        tmb_quantize_result **result, tmb_err *err) TMB_CHECKED;
void tmb_quantize_result_close(tmb_quantize_result *result);

#endif
