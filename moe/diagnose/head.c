/* head.c - what the models predict, sequence by sequence. */
#include "config.h"
#include "moe/diagnose/lockstep.h"

#include "kernels/base/team.h"
#include "moe/eval/predict.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_LEAST = 64, ROWS_MOST = 1024, LOGITS = 1 << 23 };

/* Some rows of one sequence. */
typedef struct chunk {
    tmb_lock_rank *r;
    float *ref, *other;        /* [rows, vocab] */
    tmb_prediction *of_ref;    /* [rows] */
    double (*found)[TMB_P_KL]; /* [rows] what a row adds, but for the KL */
    double *kl;                /* [rows] */
    const int32_t *next;       /* [rows] the id that comes */
    bool first;                /* the first variant */
} chunk;

static void predict_reference(void *ctx, size_t i)
{
    const chunk *c = ctx;
    size_t vocab = c->r->job->vocab;
    c->of_ref[i] = tmb_predict(c->ref + i * vocab, vocab);
    memset(c->found[i], 0, sizeof c->found[i]);
    c->found[i][TMB_P_SCORED] = 1;
    c->found[i][TMB_P_NLL_REF] =
        c->of_ref[i].log_sum - (double)c->ref[i * vocab + (size_t)c->next[i]];
}

static void predict_other(void *ctx, size_t i)
{
    const chunk *c = ctx;
    size_t vocab = c->r->job->vocab;
    const float *y = c->other + i * vocab;
    tmb_prediction p = tmb_predict(y, vocab);
    c->kl[i] = tmb_prediction_kl(c->ref + i * vocab, &c->of_ref[i], y, &p, vocab);
    if (c->kl[i] < 0) c->kl[i] = 0; /* by rounding alone */
    if (!c->first) return;
    c->found[i][TMB_P_NLL] = p.log_sum - (double)y[c->next[i]];
    c->found[i][TMB_P_SAME] = p.top == c->of_ref[i].top;
}

/* Rows at … at+n-1 of one sequence through a model that has them at `row` of its x. */
static tmb_status other(chunk *c, const tmb_lock_model *m, size_t row, size_t n, tmb_err *err)
{
    TRY(tmb_decoder_head(m->decoder, m->x + row * c->r->job->width, n, c->other, NULL, err));
    tmb_team_each(c->r->threads, n, 4, predict_other, c);
    return TMB_OK;
}

static tmb_status run_chunk(chunk *c, size_t s, size_t at, size_t n, size_t rerun, double *to,
                            tmb_err *err)
{
    tmb_lock_rank *r = c->r;
    size_t row = r->all.begin[s] + at;
    c->next = tmb_lock_sequence(r, s)->ids + at + 1;
    TRY(tmb_decoder_head(r->ref.decoder, r->ref.x + row * r->job->width, n, c->ref, NULL, err));
    tmb_team_each(r->threads, n, 4, predict_reference, c);
    for (size_t v = 0; v < r->job->n; v++) {
        c->first = v == 0;
        TRY(other(c, &r->variants[v], row, n, err));
        for (size_t i = 0; i < n; i++) /* in order: the sum does not depend on threads */
            to[TMB_P_KL + v] += c->kl[i];
        for (size_t i = 0; v == 0 && r->trace_kl && i < n; i++)
            r->trace_kl[row + i] = (float)c->kl[i];
    }
    if (rerun != SIZE_MAX) {
        c->first = false;
        TRY(other(c, &r->noise, r->rerun.begin[rerun] + at, n, err));
        for (size_t i = 0; i < n; i++)
            to[TMB_P_NOISE_KL] += c->kl[i];
        to[TMB_P_NOISE_SCORED] += (double)n;
    }
    for (size_t i = 0; i < n; i++)
        for (int k = 0; k < TMB_P_NOISE_SCORED; k++)
            to[k] += c->found[i][k];
    return TMB_OK;
}

tmb_status tmb_lock_head(tmb_lock_rank *r, tmb_err *err)
{
    size_t vocab = r->job->vocab, rows = LOGITS / (vocab ? vocab : 1), rerun = 0;
    if (rows < ROWS_LEAST) rows = ROWS_LEAST;
    if (rows > ROWS_MOST) rows = ROWS_MOST;
    chunk c = {.r = r};
    c.ref = malloc(rows * vocab * sizeof *c.ref);
    c.other = malloc(rows * vocab * sizeof *c.other);
    c.of_ref = malloc(rows * sizeof *c.of_ref);
    c.found = malloc(rows * sizeof *c.found);
    c.kl = malloc(rows * sizeof *c.kl);
    tmb_status status = c.ref && c.other && c.of_ref && c.found && c.kl
                            ? TMB_OK
                            : tmb_fail_memory(err, rows * vocab * 8, "logits");
    for (size_t s = 0; !status && s < r->all.n; s++) {
        size_t scored = tmb_lock_sequence(r, s)->n - 1;
        bool again = r->noise.decoder && rerun < r->rerun.n && r->rerun.sequence[rerun] == s;
        for (size_t at = 0; !status && at < scored; at += rows)
            status =
                run_chunk(&c, s, at, scored - at < rows ? scored - at : rows,
                          again ? rerun : SIZE_MAX, r->predicted + s * (TMB_P_KL + r->job->n), err);
        rerun += again;
    }
    free(c.ref);
    free(c.other);
    free(c.of_ref);
    free(c.found);
    free(c.kl);
    return status;
}
