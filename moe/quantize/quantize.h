/* quantize.h - execute a plan.
 *
 * Output shards have their final size and header from the start; worker threads read a bundle,
 * quantize it tile by tile and pwrite at known offsets, so the bytes do not depend on the number
 * of threads.  A shard is written under a temporary name, checked, hashed, fsynced, renamed; then
 * carried-over files, config.json, the index, and last tombac.json.  A stop at any moment leaves
 * no folder that looks complete; the same command again goes on behind the last finished shard. */
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
    tmb_arena arena;
} tmb_quantize_result;

tmb_status tmb_quantize(const tmb_plan *plan, const tmb_quantize_options *options,
                        tmb_quantize_result **result, tmb_err *err) TMB_CHECKED;
void tmb_quantize_result_close(tmb_quantize_result *result);

#endif
