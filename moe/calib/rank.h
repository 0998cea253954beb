/* rank.h - what the ranks of a calibration share, and what each has.  For moe/calib/ alone.
 *
 * calibrate.c opens and deals, round.c takes a round through the layers, layer.c one layer. */
#ifndef TMB_CALIB_RANK_H
#define TMB_CALIB_RANK_H

#include "kernels/base/clock.h"
#include "moe/calib/calibrate.h"
#include "moe/calib/file.h"
#include "moe/calib/hidden.h"
#include "moe/calib/resume.h"
#include "moe/calib/stats.h"
#include "moe/infer/forward.h"

/* Read-only while ranks run, but for result, which rank 0 fills. */
typedef struct tmb_calib_job {
    const tmb_model *model;
    const tmb_data *data;
    const tmb_calibrate_options *options;
    tmb_calibrate_result *result;
    tmb_calibrate_needs needs;
    tmb_calib_identity identity;
    char *folder;     /* path of the partial folder */
    uint32_t *use;    /* [n_use] indices of the sequences to run, in order */
    size_t n_use;     /* those of later rounds that were seen before are left out */
    uint8_t *digests; /* [n_use][TMB_SEQUENCE_BYTES] */
    size_t per_round; /* sequences */
    char fingerprint[TMB_SHA256_HEX];
    char settings[256];
    double began;
} tmb_calib_job;

typedef struct tmb_calib_rank {
    const tmb_calib_job *job;
    tmb_comm *comm;
    bool leads; /* rank 0 */
    int threads;
    tmb_decoder *decoder;
    tmb_calib_folder folder;
    tmb_calib_state state;
    size_t first, end;              /* of job->use: the round */
    size_t mine_first, mine_end;    /* of it, this rank's */
    size_t batches;                 /* of the round that this rank takes through a layer: empty ones
                                       too, where ranks share experts */
    size_t batch_tokens;            /* at most in one, but for a longer sequence */
    uint64_t round_tokens, mine_at; /* tokens of the round; row of hidden of mine_first */
    tmb_hidden hidden;
    uint64_t *native, *shadow; /* [layers * experts] tokens seen in all rounds so far */
    size_t experts;            /* a layer; 0 where none is sparse */
    float *x;                  /* [batch tokens, width] */
    size_t width;              /* floats of a row: a hidden state, and what layers hand on */
    uint32_t *source;          /* [batch tokens] */
    size_t *begin;             /* [batch sequences + 1] */
    int32_t *ids;              /* [batch tokens] */
    size_t room_tokens;
    tmb_calibrate_spent spent;
} tmb_calib_rank;

/* layer.c: the next layer of rank->state, with the statistics published when this returns.
 * layer = number of decoder layers: the head. */
tmb_status tmb_calib_layer(tmb_calib_rank *rank, int layer, tmb_err *err) TMB_CHECKED;
/* The embeddings of this rank's sequences into hidden-0. */
tmb_status tmb_calib_embed(tmb_calib_rank *rank, tmb_err *err) TMB_CHECKED;

/* How many of the sequences at … end-1 one batch takes, and *tokens of them; 0 of none. */
size_t tmb_calib_batch(const tmb_calib_rank *rank, size_t at, size_t end, size_t *tokens);

/* round.c: all rounds, from where state says; publishes the file. */
tmb_status tmb_calib_rounds(tmb_calib_rank *rank, tmb_err *err) TMB_CHECKED;

/* manifest.c: JSON, malloc'ed; NULL without memory. */
char *tmb_calib_manifest(const tmb_calib_rank *rank);

/* Add what was spent since `began` to *part; returns the time it is now. */
static inline double tmb_calib_spend(double *part, double began)
{
    double now = tmb_seconds();
    *part += now - began;
    return now;
}

static inline const tmb_sequence *tmb_calib_sequence(const tmb_calib_job *job, size_t i)
{
    return &job->data->sequences[job->use[i]];
}

#endif
