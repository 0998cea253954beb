/* run.h - a reference and one or several variants of it, layer by layer over the same tokens.
 *
 * The reference goes through a layer first, then each variant, all sequences of a rank; one layer
 * of the reference and one of a variant are in memory.  Hidden states of all tokens, and what the
 * reference's router saw and said in the layer at hand, lie in memory or, when they are large, in a
 * file that the kernel pages (spill.h).  Ranks take runs of sequences; what is found is kept by
 * sequence and put together in their order, or is an integer, so the result has the same bytes for
 * any number of ranks and threads. */
#ifndef TMB_DIAGNOSE_RUN_H
#define TMB_DIAGNOSE_RUN_H

#include "kernels/base/progress.h"
#include "moe/diagnose/boot.h"
#include "moe/diagnose/diagnosis.h"
#include "moe/infer/forward.h"
#include "moe/io/store.h"
#include "moe/quantize/plan.h"
#include "moe/tokens/data.h"

/* A model with its hooks.  Hooks have scratch of their own, so each rank opens them for itself. */
typedef struct tmb_variant tmb_variant;

/* The routes of a batch; NULL where they were not kept or the model has not run in this layer. */
typedef struct tmb_routes {
    const uint32_t *chosen; /* [tokens, top_k] ascending */
    const float *weight;    /* [tokens, top_k] */
} tmb_routes;

/* What a variant is told before it runs a layer over a batch. */
typedef struct tmb_variant_batch {
    int layer;
    size_t first, tokens;     /* rows of this rank's tokens */
    const tmb_routes *routes; /* [1 + variants] of the same tokens: the reference, each variant */
} tmb_variant_batch;

struct tmb_variant {
    const char *name;
    const tmb_model *model;
    /* Once a rank, before anything runs: hooks of the decoder; *own comes NULL and is given back
     * with close.  NULL: no hooks. */
    tmb_status (*open)(const tmb_variant *self, tmb_hooks *hooks, void **own, tmb_err *err);
    void (*close)(void *own);
    /* Before each batch of each layer; NULL: need not know. */
    tmb_status (*batch)(void *own, const tmb_variant_batch *batch, tmb_err *err);
    void *ctx;            /* of open */
    const tmb_plan *plan; /* of a planned variant */
    bool keep_routes;     /* for variants that come later in the list */
};

/* A variant of a checkpoint as stored, activations rounded as its formats say (moe/eval/acts.h). */
tmb_variant tmb_variant_stored(const char *name, const tmb_model *model);
/* What quantize would make by a plan, nothing written (moe/fly/fly.h); the plan must outlive it. */
tmb_variant tmb_variant_planned(const char *name, const tmb_plan *plan);

typedef struct tmb_run_options {
    const char *comm;     /* "threads" (or NULL), "mpi" */
    int ranks;            /* of this process, a thread each; with mpi 1 */
    double timeout_s;     /* 0: TMB_COMM_TIMEOUT_S */
    int threads;          /* of this process, shared by its ranks; 0: one a processor */
    uint64_t layer_bytes; /* that a loaded layer may hold; 0: no limit */
    const char *scratch;  /* folder of the files that large states go to; NULL: "." */
    tmb_watch watch;
} tmb_run_options;

/* --- figures of many variants ------------------------------------------------------------------
 */

/* Of one variant against the reference, by sequence. */
typedef struct tmb_scores {
    size_t sequences, layers;
    uint32_t *positions; /* [sequences] tokens */
    uint32_t *scored;    /* [sequences] positions whose next token is known */
    uint32_t *same;      /* [sequences, layers] positions with the same set of experts; dense: 0 */
    uint32_t *local;     /* the same, the layer given the reference's input; with `local` alone */
    double *error;       /* [sequences, layers] sum (other - reference)^2 of hidden states */
    double *norm;        /* [sequences, layers] sum reference^2 */
    double *local_error; /* as error, the layer given the reference's input; with `local` alone */
    double *kl;          /* [sequences] sum over scored positions, nats */
    const bool *sparse;  /* [layers] borrowed from the first of the list */
    void *memory;        /* of all of the above */
} tmb_scores;

typedef struct tmb_score_options {
    tmb_run_options run;
    bool local;   /* also each layer alone, on the reference's input */
    bool no_head; /* leave kl out: it stays 0 */
} tmb_score_options;

/* out [n]: the caller's, tmb_scores_free().  Collective for mpi; every process has the result. */
tmb_status tmb_score(const tmb_variant *ref, const tmb_variant *variants, size_t n,
                     const tmb_data *data, const tmb_score_options *options, tmb_scores *out,
                     tmb_err *err) TMB_CHECKED;
void tmb_scores_free(tmb_scores *scores, size_t n);

/* Intervals of them; boot has as many sequences.  layer -1: the mean over sparse layers (set match)
 * or the last layer (errors). */
tmb_interval tmb_scores_set_match(const tmb_scores *s, int layer, const tmb_boot *boot);
tmb_interval tmb_scores_local_match(const tmb_scores *s, int layer, const tmb_boot *boot);
tmb_interval tmb_scores_hidden_error(const tmb_scores *s, int layer, const tmb_boot *boot);
tmb_interval tmb_scores_local_error(const tmb_scores *s, int layer, const tmb_boot *boot);
tmb_interval tmb_scores_kl(const tmb_scores *s, const tmb_boot *boot);

/* --- the diagnosis itself -----------------------------------------------------------------------
 */

typedef struct tmb_diagnose_options {
    tmb_run_options run;
    uint64_t seed;       /* of the bootstrap */
    uint32_t replicates; /* 0: TMB_BOOT_REPLICATES */
    uint32_t ep_ranks;   /* 0: 8, or as many as there are experts */
    bool no_noise;       /* no rerun of the reference */
    const char *routing; /* routing.h5 to begin, at rank 0; NULL: none */
    tmb_store *
        *store;  /* with routing: gets the open file, the caller's; NULL where rank 0 is not */
    bool traces; /* every token's routing goes into it (traces.h) */
} tmb_diagnose_options;

/* Everything of a diagnosis but its causes, verdict, and the manifest's models and recipe.
 * Collective for mpi; *out is NULL where rank 0 is not. */
tmb_status tmb_diagnose(tmb_diagnosis **out, const tmb_variant *ref, const tmb_variant *other,
                        const tmb_data *data, const tmb_diagnose_options *options,
                        tmb_err *err) TMB_CHECKED;

#endif
