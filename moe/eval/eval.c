/* eval.c - running one or two models over sequences, and comparing what they predict. */
#include "config.h"
#include "moe/eval/eval.h"

#include "kernels/base/team.h"
#include "kernels/cpu/cpu.h"
#include "moe/eval/acts.h"
#include "moe/eval/predict.h"
#include "moe/infer/forward.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH_TOKENS = 8192, HEAD_ROWS = 64, MODELS = 2 };

/* What one sequence adds up to. */
typedef struct tally {
    uint64_t scored;
    double nll, ref_nll, kl, same, flips;
} tally;

typedef struct runner {
    const tmb_model *model;
    tmb_acts *acts;
    tmb_decoder *decoder;
    float *x; /* [tokens of the data, width] */
    size_t width;
} runner;

typedef struct evaluation {
    const tmb_data *data;
    const tmb_eval_options *options;
    runner models[MODELS]; /* the model, the reference */
    int n_models, threads;
    size_t vocab;
    size_t *begin; /* [sequences + 1] first row of each */
    tally *tallies;
    float *logits[MODELS]; /* [HEAD_ROWS, vocab] */
} evaluation;

/* --- through the layers --------------------------------------------------------------------- */

static tmb_status open_runner(evaluation *e, runner *r, tmb_err *err)
{
    const tmb_ops *ops = tmb_cpu_ops();
    tmb_decoder_options options = {.threads = e->threads, .ops = ops};
    TRY(tmb_acts_open(&r->acts, r->model, ops, err));
    if (r == e->models && e->options->hooks)
        options.hooks = *e->options->hooks;
    else if (tmb_acts_any(r->acts) && !e->options->exact_inputs)
        options.hooks = tmb_acts_hooks(r->acts);
    TRY(tmb_decoder_open(&r->decoder, r->model, &options, err));
    const tmb_config *c = tmb_decoder_config(r->decoder);
    r->width = tmb_decoder_reach(r->decoder, e->data->longest);
    if (e->vocab && e->vocab != c->vocab)
        return tmb_fail(err, TMB_EUSAGE,
                        "%s has a vocabulary of %zu, the reference one of %zu; they are no pair",
                        e->models[0].model->ckpt->path, e->vocab, c->vocab);
    e->vocab = c->vocab;
    uint64_t bytes;
    if (!tmb_mul(e->data->tokens, r->width * sizeof(float), &bytes) || !(r->x = malloc(bytes)))
        return tmb_fail_memory(err, e->data->tokens * r->width * 4,
                               "hidden states; take fewer --samples");
    return TMB_OK;
}

static tmb_status step(const evaluation *e, int model, int layer, tmb_err *err)
{
    const tmb_watch *w = &e->options->watch;
    uint64_t layers = (uint64_t)tmb_decoder_layers(e->models[0].decoder);
    if (w->stop && *w->stop) return tmb_fail(err, TMB_ESYSTEM, "stopped");
    uint64_t done = (uint64_t)model * layers + (uint64_t)layer;
    tmb_progress p = {.phase = "eval",
                      .counted = "tokens",
                      .units = "layers",
                      .done_bytes = done * e->data->tokens,
                      .total_bytes = (uint64_t)e->n_models * layers * e->data->tokens,
                      .done_units = (uint32_t)done,
                      .total_units = (uint32_t)((uint64_t)e->n_models * layers)};
    if (w->progress) w->progress(w->ctx, &p);
    return TMB_OK;
}

/* All sequences through the loaded layer, some at a time. */
static tmb_status run_layer(const evaluation *e, const runner *r, size_t *begin, tmb_err *err)
{
    for (size_t s = 0, n; s < e->data->n_sequences; s += n) {
        size_t row = e->begin[s];
        for (n = 0; s + n < e->data->n_sequences; n++) {
            if (n && e->begin[s + n + 1] - row > BATCH_TOKENS) break;
            begin[n] = e->begin[s + n] - row;
        }
        begin[n] = e->begin[s + n] - row;
        tmb_batch batch = {.x = r->x + row * r->width, .begin = begin, .sequences = n};
        TRY(tmb_decoder_run(r->decoder, &batch, err));
    }
    return TMB_OK;
}

static tmb_status run_model(const evaluation *e, int model, tmb_err *err)
{
    const runner *r = &e->models[model];
    size_t *begin = malloc((e->data->n_sequences + 1) * sizeof *begin);
    if (!begin) return tmb_fail_memory(err, 0, "a batch");
    tmb_status status = TMB_OK;
    for (size_t s = 0; !status && s < e->data->n_sequences; s++)
        status = tmb_decoder_embed(r->decoder, e->data->sequences[s].ids, e->data->sequences[s].n,
                                   r->x + e->begin[s] * r->width, err);
    for (int l = 0; !status && l < tmb_decoder_layers(r->decoder); l++) {
        status = step(e, model, l, err);
        if (!status) status = tmb_decoder_load(r->decoder, l, err);
        if (!status) status = run_layer(e, r, begin, err);
    }
    free(begin);
    return status;
}

/* --- what is predicted ---------------------------------------------------------------------- */

/* Rows of the head, shared by threads: each writes its own tally. */
typedef struct rows {
    const evaluation *e;
    const int32_t *next; /* [n] the id that comes */
    tally of[HEAD_ROWS];
} rows;

static void score_row(void *ctx, size_t i)
{
    rows *r = ctx;
    const evaluation *e = r->e;
    const float *x = e->logits[0] + i * e->vocab;
    size_t next = (size_t)r->next[i];
    tmb_prediction s = tmb_predict(x, e->vocab);
    r->of[i] = (tally){.scored = 1, .nll = s.log_sum - (double)x[next]};
    if (e->n_models == 1) return;
    const float *y = e->logits[1] + i * e->vocab;
    tmb_prediction t = tmb_predict(y, e->vocab);
    r->of[i].ref_nll = t.log_sum - (double)y[next];
    r->of[i].kl = tmb_prediction_kl(y, &t, x, &s, e->vocab);
    r->of[i].same = s.top == t.top;
    r->of[i].flips = (s.top == next) != (t.top == next);
}

static void add(tally *to, const tally *from)
{
    to->scored += from->scored;
    to->nll += from->nll;
    to->ref_nll += from->ref_nll;
    to->kl += from->kl;
    to->same += from->same;
    to->flips += from->flips;
}

static tmb_status score_sequence(evaluation *e, size_t s, tmb_err *err)
{
    const tmb_sequence *q = &e->data->sequences[s];
    rows r = {.e = e};
    for (size_t at = 0; at + 1 < q->n; at += HEAD_ROWS) {
        size_t n = q->n - 1 - at < HEAD_ROWS ? q->n - 1 - at : HEAD_ROWS;
        for (int m = 0; m < e->n_models; m++) {
            const runner *k = &e->models[m];
            TRY(tmb_decoder_head(k->decoder, k->x + (e->begin[s] + at) * k->width, n, e->logits[m],
                                 NULL, err));
        }
        r.next = q->ids + at + 1;
        tmb_team_each(e->threads, n, 4, score_row, &r);
        for (size_t i = 0; i < n; i++) /* in order: the sum does not depend on threads */
            add(&e->tallies[s], &r.of[i]);
    }
    return TMB_OK;
}

/* --- means ---------------------------------------------------------------------------------- */

typedef double (*field)(const tally *t);
static double field_nll(const tally *t)
{
    return t->nll;
}
static double field_ref_nll(const tally *t)
{
    return t->ref_nll;
}
static double field_kl(const tally *t)
{
    return t->kl;
}
static double field_same(const tally *t)
{
    return t->same;
}
static double field_flips(const tally *t)
{
    return t->flips;
}

/* Over the sequences of a source; source n_sources: over all. */
static tmb_mean mean_of(const evaluation *e, size_t source, field get)
{
    double sum = 0, square = 0;
    uint64_t n = 0, sequences = 0;
    for (int pass = 0; pass < 2; pass++)
        for (size_t s = 0; s < e->data->n_sequences; s++) {
            const tally *t = &e->tallies[s];
            bool here = source == e->data->n_sources || e->data->sequences[s].source == source;
            if (!here || !t->scored) continue;
            if (pass) {
                double d = get(t) - sum / (double)n * (double)t->scored;
                square += d * d;
            } else {
                sum += get(t);
                n += t->scored;
                sequences++;
            }
        }
    if (!n) return (tmb_mean){NAN, NAN};
    double error = sequences > 1
                       ? sqrt((double)sequences / (double)(sequences - 1) * square) / (double)n
                       : (double)NAN;
    return (tmb_mean){sum / (double)n, error};
}

static void fill_row(const evaluation *e, size_t source, tmb_eval_row *row)
{
    bool all = source == e->data->n_sources;
    *row = (tmb_eval_row){.source = all ? NULL : e->data->sources[source].name};
    for (size_t s = 0; s < e->data->n_sequences; s++) {
        if (!all && e->data->sequences[s].source != source) continue;
        row->sequences++;
        row->scored += e->tallies[s].scored;
    }
    row->nll = mean_of(e, source, field_nll);
    if (e->n_models == 1) return;
    row->ref_nll = mean_of(e, source, field_ref_nll);
    row->kl = mean_of(e, source, field_kl);
    row->same = mean_of(e, source, field_same);
    row->flips = mean_of(e, source, field_flips);
}

/* --- the job -------------------------------------------------------------------------------- */

static tmb_status open_all(evaluation *e, tmb_err *err)
{
    size_t n = e->data->n_sequences;
    e->begin = calloc(n + 1, sizeof *e->begin);
    e->tallies = calloc(n + 1, sizeof *e->tallies);
    if (!e->begin || !e->tallies) return tmb_fail_memory(err, n * 64, "sequences");
    for (size_t s = 0; s < n; s++)
        e->begin[s + 1] = e->begin[s] + e->data->sequences[s].n;
    for (int m = 0; m < e->n_models; m++)
        TRY(open_runner(e, &e->models[m], err));
    for (int m = 0; m < e->n_models; m++) {
        e->logits[m] = malloc(HEAD_ROWS * e->vocab * sizeof(float));
        if (!e->logits[m]) return tmb_fail_memory(err, HEAD_ROWS * e->vocab * 4, "logits");
    }
    return TMB_OK;
}

static void close_all(evaluation *e)
{
    for (int m = 0; m < e->n_models; m++) {
        tmb_decoder_close(e->models[m].decoder);
        tmb_acts_close(e->models[m].acts);
        free(e->models[m].x);
        free(e->logits[m]);
    }
    free(e->begin);
    free(e->tallies);
}

tmb_status tmb_eval(const tmb_model *model, const tmb_model *ref, const tmb_data *data,
                    const tmb_eval_options *options, tmb_eval_row *out, tmb_err *err)
{
    evaluation e = {.data = data, .options = options, .n_models = ref ? 2 : 1};
    e.models[0].model = model;
    e.models[1].model = ref;
    e.threads = options->threads > 0 ? options->threads : tmb_team_size();
    tmb_status status = open_all(&e, err);
    for (int m = 0; !status && m < e.n_models; m++)
        status = run_model(&e, m, err);
    for (size_t s = 0; !status && s < data->n_sequences; s++)
        status = score_sequence(&e, s, err);
    for (size_t i = 0; !status && i <= data->n_sources; i++)
        fill_row(&e, i, &out[i]);
    close_all(&e);
    return status;
}
