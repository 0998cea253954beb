/* calibrate.h - the job: run a model layer by layer over its calibration data, and keep what the
 * inputs of its Linears were like.
 *
 * Sequences are dealt to ranks; each rank takes its own through a layer, then the layer's
 * statistics are added up over the ranks, exactly, and published.  Between layers the hidden states
 * of all tokens lie in two files (hidden.h), so a run that was stopped goes on at the layer it was
 * in, with any number of ranks, and ends with the same statistics.
 *
 * Experts.  With `ways` above 1, groups of as many neighbouring ranks share the routed experts of a
 * layer: each reads and holds its own, and rows travel to where their experts live
 * (moe/infer/dispatch.h).  Hidden states, and so statistics, are the same to the bit.
 *
 * Coverage.  The first `samples` sequences are one round.  While an expert has seen fewer than
 * min_tokens tokens and there are sequences left, a further round of as many is run.  With
 * TMB_STARVED_SHADOW an expert that is below min_tokens when its layer was run is then shown all
 * tokens of the round, apart from its own.  What stands in for an expert's figures in the end is
 * the ladder of coverage.h. */
#ifndef TMB_CALIB_CALIBRATE_H
#define TMB_CALIB_CALIBRATE_H

#include "kernels/base/progress.h"
#include "moe/calib/coverage.h"
#include "moe/model/model.h"
#include "moe/recipe/recipe.h"
#include "moe/tokens/data.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct tmb_calibrate_options {
    const char *out;     /* file to make; an existing one is refused */
    const char *command; /* for the message of a run that was stopped; may be NULL */
    bool restart;        /* discard an unfinished run */
    const char *comm;    /* "threads" (or NULL), "mpi", "nccl" */
    int ranks;           /* of this process, a thread each; under a launcher 1 */
    int ways;            /* ranks that share the experts; 0 or 1: each has all; divides the ranks */
    double timeout_s;    /* 0: TMB_COMM_TIMEOUT_S */
    int threads;         /* of this process, shared by its ranks; 0: one a processor */
    uint64_t max_ram;    /* of this process; 0: no limit */
    uint64_t samples;    /* sequences of a round; 0: all */
    uint64_t min_tokens; /* an expert should see; 0: no gate */
    tmb_starved_policy starved;
    bool moments; /* keep block-16 second moments */
    bool head;    /* also the input of lm_head */
    tmb_watch watch;
} tmb_calibrate_options;

/* What a run takes; printed before it starts. */
typedef struct tmb_calibrate_needs {
    uint64_t tokens, sequences; /* of a round */
    size_t batch_tokens;        /* of one run of a layer */
    uint64_t layer_bytes;       /* limit of a loaded layer; 0: none */
    uint64_t peak_bytes;        /* of memory, all ranks of this process */
    uint64_t rank_bytes;        /* of it, what each rank has for itself */
    uint64_t disk_bytes;        /* hidden states */
} tmb_calibrate_needs;

/* Experts of one layer, after the last round. */
typedef struct tmb_coverage {
    int layer;
    uint32_t experts;
    uint64_t least, mean, starved; /* tokens seen natively; experts below min_tokens */
    uint64_t rungs[TMB_RUNGS];
} tmb_coverage;

/* Seconds on the clock of rank 0, by what was done. */
typedef struct tmb_calibrate_spent {
    double read, attention, mlp; /* of the forward pass (moe/infer/forward.h) */
    double counting;             /* rows into statistics */
    double hidden;               /* hidden states from and to the disk */
    double adding;               /* statistics over ranks, waiting for them included */
    double publishing;           /* a layer's statistics, the state of the run, the file */
} tmb_calibrate_spent;

typedef struct tmb_calibrate_result {
    tmb_coverage *coverage; /* [n_coverage]: sparse layers */
    size_t n_coverage;
    uint32_t rounds;
    uint64_t sequences, tokens;
    bool resumed;
    double seconds;
    tmb_calibrate_spent spent;
    char digest[TMB_SHA256_HEX]; /* of the statistics */
} tmb_calibrate_result;

/* TMB_EUSAGE when max_ram cannot hold one expert and one sequence; says what would do.  Also when
 * ranks and experts cannot be shared as options->ways says.
 * TMB_EUNAVAILABLE for a model without a forward pass (moe/infer/forward.h). */
tmb_status tmb_calibrate_plan(tmb_calibrate_needs *out, const tmb_model *model,
                              const tmb_data *data, const tmb_calibrate_options *options,
                              tmb_err *err) TMB_CHECKED;

/* TMB_ECREATE when there is something under the name of the file to make; tmb_calibrate() asks too.
 */
tmb_status tmb_calibrate_out_free(const char *out, tmb_err *err) TMB_CHECKED;

/* Collective over all processes for mpi and nccl; result is filled where rank 0 is, and is to be
 * zeroed before.  A stop (options->watch.stop) is TMB_ESYSTEM with how to go on. */
tmb_status tmb_calibrate(const tmb_model *model, const tmb_data *data,
                         const tmb_calibrate_options *options, tmb_calibrate_result *result,
                         tmb_err *err) TMB_CHECKED;
void tmb_calibrate_result_free(tmb_calibrate_result *result);

#endif
