/* lockstep.c - opening a comparison: its sequences, its models, its ranks. */
#include "config.h"
#include "moe/diagnose/lockstep.h"

#include "kernels/base/team.h"
#include "kernels/cpu/cpu.h"
#include "moe/diagnose/noise.h"

#include <stdlib.h>
#include <string.h>

enum { BATCH_TOKENS = 8192 };

/* --- sequences ------------------------------------------------------------------------------ */

/* Sequences in runs, so that every rank has about as many tokens. */
static void deal(tmb_lock_rank *r)
{
    const tmb_data *data = r->job->data;
    uint64_t ranks = (uint64_t)tmb_comm_size(r->comm), me = (uint64_t)tmb_comm_rank(r->comm);
    uint64_t before = 0;
    r->first = r->end = 0;
    for (size_t s = 0; s < data->n_sequences; s++) {
        uint64_t n = data->sequences[s].n, owner = (before + n / 2) * ranks / data->tokens;
        if (owner < me) r->first = s + 1;
        if (owner <= me) r->end = s + 1;
        before += n;
    }
    if (r->end < r->first) r->end = r->first;
}

/* The rank's sequences, every `step` of the data's. */
static tmb_status open_set(const tmb_lock_rank *r, tmb_lock_set *set, size_t step, tmb_err *err)
{
    size_t n = r->end - r->first;
    set->sequence = calloc(n + 1, sizeof *set->sequence);
    set->begin = calloc(n + 1, sizeof *set->begin);
    if (!set->sequence || !set->begin) return tmb_fail_memory(err, n * 12, "the sequences");
    for (size_t s = 0; s < n; s++) {
        if ((r->first + s) % step) continue;
        set->sequence[set->n] = (uint32_t)s;
        set->begin[set->n + 1] = set->begin[set->n] + tmb_lock_sequence(r, s)->n;
        set->n++;
    }
    return TMB_OK;
}

static void close_set(tmb_lock_set *set)
{
    free(set->sequence);
    free(set->begin);
}

/* --- models --------------------------------------------------------------------------------- */

static tmb_status embed(tmb_lock_rank *r, tmb_lock_model *m, tmb_err *err)
{
    for (size_t i = 0; i < m->set->n; i++) {
        const tmb_sequence *s = tmb_lock_sequence(r, m->set->sequence[i]);
        TRY(tmb_decoder_embed(m->decoder, s->ids, s->n, m->x + m->set->begin[i] * r->job->width,
                              err));
    }
    return TMB_OK;
}

static tmb_status open_model(tmb_lock_rank *r, tmb_lock_model *m, const tmb_variant *v,
                             const tmb_lock_set *set, const tmb_nn *nn, tmb_err *err)
{
    tmb_decoder_options o = {.threads = r->threads,
                             .layer_bytes = r->job->options->layer_bytes,
                             .ops = tmb_cpu_ops(),
                             .nn = nn};
    m->variant = v;
    m->set = set;
    if (v->open) TRY(v->open(v, &m->hooks, &m->own, err));
    o.hooks = nn ? tmb_noise_hooks(&m->hooks) : m->hooks;
    TRY(tmb_decoder_open(&m->decoder, v->model, &o, err));
    tmb_decoder_reach(m->decoder, r->job->data->longest);
    return TMB_OK;
}

static void close_model(tmb_lock_model *m)
{
    tmb_decoder_close(m->decoder);
    if (m->own && m->variant->close) m->variant->close(m->own);
    *m = (tmb_lock_model){0};
}

/* A pair must agree in all that is compared element by element. */
static tmb_status check_pair(const tmb_lock_rank *r, const tmb_lock_model *m, tmb_err *err)
{
    const tmb_config *a = tmb_decoder_config(r->ref.decoder), *b = tmb_decoder_config(m->decoder);
    const char *what = NULL;
    if (a->hidden != b->hidden) what = "hidden size";
    if (a->layers != b->layers) what = "number of layers";
    if (a->vocab != b->vocab) what = "vocabulary";
    if (a->n_experts != b->n_experts) what = "number of experts";
    if (a->top_k != b->top_k) what = "number of experts a token";
    for (int l = 0; !what && l < a->layers; l++)
        if (tmb_decoder_is_sparse(r->ref.decoder, l) != tmb_decoder_is_sparse(m->decoder, l))
            what = "choice of layers with experts";
    if (!what) return TMB_OK;
    return tmb_fail(err, TMB_EUSAGE, "%s and %s are no pair: they differ in their %s",
                    r->ref.variant->model->ckpt->path, m->variant->model->ckpt->path, what);
}

static tmb_status open_models(tmb_lock_rank *r, tmb_err *err)
{
    tmb_lock_job *job = r->job;
    TRY(open_model(r, &r->ref, job->ref, &r->all, NULL, err));
    if (job->noise) {
        r->noise_nn = tmb_noise_nn(tmb_cpu_nn());
        TRY(open_model(r, &r->noise, job->ref, &r->rerun, &r->noise_nn, err));
    }
    r->variants = calloc(job->n + 1, sizeof *r->variants);
    r->routes = calloc(job->n + 2, sizeof *r->routes);
    if (!r->variants || !r->routes) return tmb_fail_memory(err, 0, "variants");
    for (size_t v = 0; v < job->n; v++) {
        TRY(open_model(r, &r->variants[v], &job->variants[v], &r->all, NULL, err));
        TRY(check_pair(r, &r->variants[v], err));
    }
    const tmb_config *c = tmb_decoder_config(r->ref.decoder);
    bool logits = c->rules->routing != TMB_ROUTING_SIGMOID && !c->rules->correction;
    r->shape = (tmb_router_shape){.n_experts = c->n_experts,
                                  .top_k = c->top_k,
                                  .groups = c->groups,
                                  .space = logits ? TMB_MARGIN_LOGIT : TMB_MARGIN_CHOICE};
    return TMB_OK;
}

/* --- arrays --------------------------------------------------------------------------------- */

#define ROOM(n, width, field)                                                                      \
    TRY(tmb_spill_array(&r->spill, (n), (width), sizeof *(field), (void **)&(field), err))

static tmb_status open_arrays(tmb_lock_rank *r, tmb_err *err)
{
    const tmb_lock_job *job = r->job;
    size_t tokens = r->all.begin[r->all.n], n = r->all.n, e = r->shape.n_experts,
           k = r->shape.top_k, h = job->hidden, w = job->width, layers = job->layers;
    r->room = BATCH_TOKENS > job->data->longest ? BATCH_TOKENS : job->data->longest;
    if (r->room > tokens) r->room = tokens;
    ROOM(tokens, w, r->ref.x);
    if (r->noise.decoder) ROOM(r->rerun.begin[r->rerun.n], w, r->noise.x);
    for (size_t v = 0; v < job->n; v++) {
        ROOM(tokens, w, r->variants[v].x);
        if (!job->variants[v].keep_routes && !job->traces) continue;
        ROOM(tokens, k, r->variants[v].chosen);
        ROOM(tokens, k, r->variants[v].weight);
    }
    if (job->local) ROOM(tokens, w, r->input);
    ROOM(job->local ? r->room : 0, w, r->batch_x);
    ROOM(tokens, k, r->ref.chosen);
    ROOM(tokens, k, r->ref.weight);
    ROOM(n + 1, 1, r->begin);
    ROOM(n * layers, job->n, r->error);
    ROOM(n * layers, job->n, r->local_error);
    ROOM(n * layers, 1, r->norm);
    ROOM(n, TMB_P_KL + job->n, r->predicted);
    if (!job->full) {
        ROOM(n * layers, job->n, r->same);
        ROOM(n * layers, job->n, r->local_same);
        return TMB_OK;
    }
    ROOM(tokens, h, r->h);
    ROOM(tokens, e, r->logits);
    ROOM(tokens, e, r->choice);
    ROOM(job->traces ? tokens : r->room, e, r->other_logits);
    ROOM(r->room, h, r->batch_h);
    ROOM(r->room, e, r->crossed);
    ROOM(n, TMB_TALLY, r->sums);
    ROOM(n * 2, e, r->load);
    ROOM(e, 1, r->experts);
    if (job->traces) ROOM(tokens, 1, r->trace_kl);
    return TMB_OK;
}

/* --- ranks ---------------------------------------------------------------------------------- */

static int threads_of(const tmb_run_options *o)
{
    int all = o->threads > 0 ? o->threads : tmb_team_size(), ranks = o->ranks > 0 ? o->ranks : 1;
    return all / ranks > 0 ? all / ranks : 1;
}

static tmb_status open_rank(tmb_lock_rank *r, tmb_err *err)
{
    tmb_lock_job *job = r->job;
    r->spill.folder = job->options->scratch;
    deal(r);
    TRY(open_set(r, &r->all, 1, err));
    TRY(open_set(r, &r->rerun, job->noise_step ? job->noise_step : 1, err));
    TRY(open_models(r, err));
    TRY(open_arrays(r, err));
    uint64_t passes = 1 + (uint64_t)job->n * (job->local ? 2 : 1);
    r->total =
        (passes * r->all.begin[r->all.n] + (r->noise.decoder ? r->rerun.begin[r->rerun.n] : 0)) *
        job->layers;
    return job->full ? tmb_lock_sum_open(r, err) : TMB_OK;
}

static void close_rank(tmb_lock_rank *r)
{
    tmb_lock_sum_close(r);
    close_model(&r->ref);
    close_model(&r->noise);
    for (size_t v = 0; r->variants && v < r->job->n; v++)
        close_model(&r->variants[v]);
    free(r->variants);
    free(r->routes);
    close_set(&r->all);
    close_set(&r->rerun);
    tmb_spill_close(&r->spill);
}

static tmb_status go(tmb_lock_rank *r, tmb_err *err)
{
    TRY(open_rank(r, err));
    TRY(embed(r, &r->ref, err));
    if (r->noise.decoder) TRY(embed(r, &r->noise, err));
    for (size_t v = 0; v < r->job->n; v++)
        TRY(embed(r, &r->variants[v], err));
    for (r->layer = 0; (size_t)r->layer < r->job->layers; r->layer++)
        TRY(tmb_lock_layer(r, err));
    if (r->job->head) TRY(tmb_lock_head(r, err));
    return r->job->full ? tmb_lock_finish(r, err) : tmb_lock_scores(r, err);
}

static tmb_status work(tmb_comm *comm, void *ctx, tmb_err *err)
{
    tmb_lock_job *job = ctx;
    tmb_lock_rank *r = calloc(1, sizeof *r);
    if (!r) return tmb_fail_memory(err, sizeof *r, "a rank");
    r->job = job;
    r->comm = comm;
    r->threads = threads_of(job->options);
    r->leads = tmb_comm_rank(comm) == 0;
    tmb_status status = go(r, err);
    if (status) tmb_comm_abort(comm, err);
    close_rank(r);
    free(r);
    return status;
}

/* --- gathering ------------------------------------------------------------------------------ */

static tmb_status gather(const tmb_lock_rank *r, void *out, const void *mine, size_t bytes,
                         size_t rows, tmb_err *err)
{
    size_t ranks = (size_t)tmb_comm_size(r->comm), own = rows * bytes;
    size_t *sizes = calloc(ranks, sizeof *sizes);
    if (!sizes) return tmb_fail_memory(err, ranks * sizeof *sizes, "ranks");
    tmb_status status = tmb_comm_allgather(r->comm, sizes, &own, sizeof own, err);
    if (!status) status = tmb_comm_allgatherv(r->comm, out, mine, sizes, err);
    free(sizes);
    return status;
}

tmb_status tmb_lock_gather(const tmb_lock_rank *r, void *out, const void *mine, size_t bytes,
                           tmb_err *err)
{
    return gather(r, out, mine, bytes, r->all.n, err);
}

tmb_status tmb_lock_gather_tokens(const tmb_lock_rank *r, void *out, const void *mine, size_t bytes,
                                  tmb_err *err)
{
    return gather(r, out, mine, bytes, r->all.begin[r->all.n], err);
}

/* --- the job -------------------------------------------------------------------------------- */

/* What ranks need to know before their own decoders are open. */
static tmb_status look(tmb_lock_job *job, tmb_err *err)
{
    tmb_decoder *d = NULL;
    tmb_decoder_options o = {.threads = 1};
    if (!job->data->n_sequences) return tmb_fail(err, TMB_EDATA, "the data has no sequence");
    TRY(tmb_decoder_open(&d, job->ref->model, &o, err));
    const tmb_config *c = tmb_decoder_config(d);
    job->hidden = c->hidden;
    job->width = tmb_decoder_reach(d, job->data->longest);
    job->state = tmb_decoder_state(d);
    job->layers = (size_t)c->layers;
    job->vocab = c->vocab;
    tmb_decoder_close(d);
    return TMB_OK;
}

tmb_status tmb_lock_run(tmb_lock_job *job, tmb_err *err)
{
    const tmb_run_options *o = job->options;
    tmb_comm_options copt = {.timeout_s = o->timeout_s};
    tmb_comm *comm = NULL;
    TRY(look(job, err));
    if (!o->comm || strcmp(o->comm, "threads") == 0)
        return tmb_comm_threads_run(o->ranks > 0 ? o->ranks : 1, &copt, work, job, err);
    tmb_status status = tmb_comm_open(&comm, o->comm, &copt, err);
    if (!status) status = work(comm, job, err);
    tmb_comm_close(comm);
    return status;
}
