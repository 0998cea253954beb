/* lockstep.h - what the ranks of a comparison share, and what each has.  For moe/diagnose/ alone.
 *
 * lockstep.c deals sequences and opens models, pass.c takes them through a layer, watch.c looks at
 * their routers, head.c at what they predict; finish.c makes a diagnosis of it, score.c scores. */
#ifndef TMB_DIAGNOSE_LOCKSTEP_H
#define TMB_DIAGNOSE_LOCKSTEP_H

#include "kernels/comm/comm.h"
#include "moe/diagnose/run.h"
#include "moe/diagnose/spill.h"
#include "moe/diagnose/tally.h"

/* What a sequence's predictions add up to. */
enum {
    TMB_P_SCORED,
    TMB_P_NLL_REF,
    TMB_P_NLL, /* of the first variant */
    TMB_P_SAME,
    TMB_P_NOISE_SCORED,
    TMB_P_NOISE_KL,
    TMB_P_KL, /* of variant v: TMB_P_KL + v */
};

/* Read-only while ranks run, but for what their rank 0 fills. */
typedef struct tmb_lock_job {
    const tmb_variant *ref, *variants; /* [n] */
    size_t n;
    const tmb_data *data;
    const tmb_run_options *options;
    bool full;  /* a diagnosis of the one variant: tallies, rerun */
    bool local; /* each layer also on the reference's input */
    bool head;
    bool noise;
    const tmb_diagnose_options *diagnose; /* with full */
    bool traces;                          /* into the file of diagnose->store */
    size_t noise_step;                    /* every so manyth sequence is rerun */
    tmb_boot boot;                        /* with full */
    size_t layers, hidden, vocab;
    size_t width, state;      /* floats of a token between layers, of them hidden state */
    tmb_diagnosis *diagnosis; /* with full: made by rank 0 */
    tmb_scores *scores;       /* [n] without full: rank 0 of this process fills them */
} tmb_lock_job;

/* Some sequences in a row of packed hidden states. */
typedef struct tmb_lock_set {
    uint32_t *sequence; /* [n] of this rank's */
    size_t n;
    size_t *begin; /* [n + 1] rows of x */
} tmb_lock_set;

/* A model of a rank. */
typedef struct tmb_lock_model {
    const tmb_variant *variant;
    tmb_decoder *decoder;
    tmb_hooks hooks; /* the variant's */
    void *own;       /* of its hooks */
    float *x;        /* [tokens of its set, width] */
    const tmb_lock_set *set;
    uint32_t *chosen; /* [tokens, top_k] of this layer, when kept */
    float *weight;
} tmb_lock_model;

typedef struct tmb_lock_rank {
    tmb_lock_job *job;
    tmb_comm *comm;
    bool leads;
    int threads;
    size_t first, end;         /* sequences of data */
    tmb_lock_set all, rerun;   /* this rank's, and those of them that are rerun */
    tmb_lock_model ref, noise; /* noise.decoder NULL: none */
    tmb_lock_model *variants;  /* [n] */
    tmb_nn noise_nn;
    tmb_router_shape shape; /* top_k 0: no layer is sparse */
    tmb_spill spill;
    tmb_routes *routes; /* [1 + n] for tmb_variant_batch */

    /* The layer at hand. */
    int layer;
    bool sparse;
    float *input;               /* [tokens, width] what the reference's layer was given */
    float *h, *logits, *choice; /* of the reference's router */
    bool has_h;                 /* h was shown */
    float *other_logits;        /* [tokens, E] of the first variant, for traces */
    double *sums;               /* [sequences, TMB_TALLY] */
    uint32_t *load;             /* [sequences, 2, E] */
    tmb_expert_counts *experts; /* [E] */
    tmb_margins margins;
    uint64_t moved[TMB_MARGIN_BINS];
    double noise_margin;

    /* Scores, [n variants, sequences, layers] each. */
    uint32_t *same, *local_same;
    double *error, *local_error, *norm; /* norm [sequences, layers] */
    double *predicted;                  /* [sequences, TMB_P_KL + n] */
    float *trace_kl;                    /* [tokens] of the first variant; NULL without traces */

    /* The batch at hand. */
    const tmb_lock_model *model;
    const tmb_lock_set *set;
    size_t at, count, row, rows; /* sequences of the set, rows of its x */
    int variant;                 /* -1: the reference, or its rerun */
    float *batch_x;              /* [room, width] local run */
    float *batch_h;              /* [room, hidden] of the variant's router */
    float *crossed;              /* [room, E] */
    size_t room;                 /* tokens of a batch */
    size_t *begin;               /* [sequences + 1] */
    tmb_status failed;

    uint64_t done, total; /* tokens, for progress */

    /* Of rank 0, with full. */
    struct tmb_lock_sum *sum;
} tmb_lock_rank;

/* pass.c: every model through layer rank->layer. */
tmb_status tmb_lock_layer(tmb_lock_rank *r, tmb_err *err) TMB_CHECKED;
/* A model over its set, `x` packed as the set is. */
tmb_status tmb_lock_pass(tmb_lock_rank *r, const tmb_lock_model *m, int variant, float *x,
                         const tmb_observer *observer,
                         tmb_status (*after)(tmb_lock_rank *r, const float *x, tmb_err *err),
                         tmb_err *err) TMB_CHECKED;

/* watch.c: observers whose ctx is the rank; and the router's part of the local comparison. */
tmb_observer tmb_lock_watch_reference(tmb_lock_rank *r);
tmb_observer tmb_lock_watch_rerun(tmb_lock_rank *r);
tmb_observer tmb_lock_watch_variant(tmb_lock_rank *r);
tmb_observer tmb_lock_watch_local(tmb_lock_rank *r);
tmb_status tmb_lock_routers(tmb_lock_rank *r, tmb_err *err) TMB_CHECKED;

/* head.c: predictions of all models. */
tmb_status tmb_lock_head(tmb_lock_rank *r, tmb_err *err) TMB_CHECKED;

/* finish.c: after the noise pass; after a layer; at the end.  Collective. */
tmb_status tmb_lock_noise_margin(tmb_lock_rank *r, tmb_err *err) TMB_CHECKED;
tmb_status tmb_lock_finish_layer(tmb_lock_rank *r, tmb_err *err) TMB_CHECKED;
tmb_status tmb_lock_finish(tmb_lock_rank *r, tmb_err *err) TMB_CHECKED;
tmb_status tmb_lock_sum_open(tmb_lock_rank *r, tmb_err *err) TMB_CHECKED;
void tmb_lock_sum_close(tmb_lock_rank *r);

/* score.c: gather the scores; collective. */
tmb_status tmb_lock_scores(tmb_lock_rank *r, tmb_err *err) TMB_CHECKED;

/* out = every rank's rows, in the order of sequences: `bytes` each.  Collective. */
tmb_status tmb_lock_gather(const tmb_lock_rank *r, void *out, const void *mine, size_t bytes,
                           tmb_err *err) TMB_CHECKED;
/* As gather, of rows of tokens. */
tmb_status tmb_lock_gather_tokens(const tmb_lock_rank *r, void *out, const void *mine, size_t bytes,
                                  tmb_err *err) TMB_CHECKED;

tmb_status tmb_lock_run(tmb_lock_job *job, tmb_err *err) TMB_CHECKED;

static inline const tmb_sequence *tmb_lock_sequence(const tmb_lock_rank *r, size_t mine)
{
    return &r->job->data->sequences[r->first + mine];
}

#endif
