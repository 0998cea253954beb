/* run_internal.h - one run of quantize: what its threads share. */
#ifndef TMB_QUANTIZE_RUN_INTERNAL_H
#define TMB_QUANTIZE_RUN_INTERNAL_H

#include "moe/quantize/bundle.h"
#include "moe/quantize/output.h"
#include "moe/quantize/stage.h"

typedef struct tmb_run {
    const tmb_plan *plan;
    const tmb_quantize_options *options;
    const tmb_ops *ops;
    tmb_output output;
    tmb_work work;
    tmb_sums *sums;                 /* [n_units] */
    char (*sha256)[TMB_SHA256_HEX]; /* [n_files + n_others - 1] */
    tmb_shard_writer *shards;       /* [n_files] */
    bool *open;                     /* [n_files]: shards[f] has a temporary file */
    tmb_blocks_kept *kept;          /* [n_files]: of an earlier run */
    uint64_t *kept_bytes;           /* [n_files] */
    uint64_t written;               /* bytes published by this run */
    uint32_t reused, finished;      /* shards of an earlier run, and of this one */

    /* threads */
    tmb_monitor monitor;
    tmb_stage stage;
    tmb_blocks blocks;
    tmb_weighing *weighing; /* NULL: no search is weighted */
    tmb_worker **idle;      /* workers that nobody uses */
    int n_idle;
    unsigned busy, readers; /* threads at a job; how many may read at a time */
    bool *publishing;       /* [n_files]: somebody publishes it, or has */
    uint64_t done_bytes;    /* atomic */
    uint32_t done_pieces;   /* atomic */
    bool stopped;           /* told to stop */
    tmb_cuda *gpu;          /* NULL: none */
    bool pinned;            /* stage.ring is */
    uint32_t units[2];      /* atomic: quantized on the processor, and on the GPU */
    pthread_mutex_t files, journal, watch;
} tmb_run;

/* run_shards.c: all shards that are not finished yet. */
tmb_status tmb_run_shards(tmb_run *run, tmb_err *err) TMB_CHECKED;
/* Believe the journal only where the bytes are still there; the others are worked on again. */
tmb_status tmb_run_reuse(tmb_run *run, tmb_err *err) TMB_CHECKED;
/* run_parts.c: what an earlier run left of shard f, into run->kept; nothing when it is not
 * believed. */
void tmb_run_keep(tmb_run *run, uint32_t f);
void tmb_run_keep_free(tmb_run *run);
/* Flush a shard up to its cut, and put it into the journal. */
tmb_status tmb_run_part(tmb_run *run, tmb_blocks_file *b, tmb_err *err) TMB_CHECKED;
/* The shard of these blocks. */
uint32_t tmb_run_file_of(const tmb_run *run, const tmb_blocks_file *b);
/* run_others.c: everything besides the shards, tombac.json last. */
tmb_status tmb_run_others(tmb_run *run, const tmb_group_error *errors, tmb_err *err) TMB_CHECKED;

#endif
