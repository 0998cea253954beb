/* pass.c - all models through one layer. */
#include "config.h"
#include "moe/diagnose/lockstep.h"

#include "kernels/base/team.h"

#include <math.h>
#include <string.h>

static tmb_status tick(tmb_lock_rank *r, tmb_err *err)
{
    const tmb_watch *w = &r->job->options->watch;
    if (w->stop && *w->stop) return tmb_fail(err, TMB_ESYSTEM, "stopped");
    r->done += r->rows;
    if (!r->leads || !w->progress) return TMB_OK;
    tmb_progress p = {.phase = r->job->full ? "diagnose" : "compare",
                      .counted = "tokens",
                      .units = "layers",
                      .done_bytes = r->done,
                      .total_bytes = r->total,
                      .done_units = (uint32_t)r->layer,
                      .total_units = (uint32_t)r->job->layers,
                      .current = r->model->variant->name};
    w->progress(w->ctx, &p);
    return TMB_OK;
}

static tmb_status tell(tmb_lock_rank *r, tmb_err *err)
{
    const tmb_variant *v = r->model->variant;
    if (!v->batch || r->variant < 0) return TMB_OK;
    size_t k = r->shape.top_k;
    for (size_t m = 0; m <= r->job->n; m++) {
        const tmb_lock_model *of = m ? &r->variants[m - 1] : &r->ref;
        bool there = r->sparse && of->chosen && (int)m <= r->variant;
        r->routes[m] = there ? (tmb_routes){of->chosen + r->row * k, of->weight + r->row * k}
                             : (tmb_routes){NULL, NULL};
    }
    tmb_variant_batch b = {.layer = r->layer, .first = r->row, .tokens = r->rows};
    b.routes = r->routes;
    return v->batch(r->model->own, &b, err);
}

tmb_status tmb_lock_pass(tmb_lock_rank *r, const tmb_lock_model *m, int variant, float *x,
                         const tmb_observer *observer,
                         tmb_status (*after)(tmb_lock_rank *r, const float *x, tmb_err *err),
                         tmb_err *err)
{
    const tmb_lock_set *set = r->set = m->set;
    r->model = m;
    r->variant = variant;
    for (r->at = 0; r->at < set->n; r->at += r->count) {
        r->row = set->begin[r->at];
        for (r->count = 0; r->at + r->count < set->n; r->count++) {
            if (r->count && set->begin[r->at + r->count + 1] - r->row > r->room) break;
            r->begin[r->count] = set->begin[r->at + r->count] - r->row;
        }
        r->rows = r->begin[r->count] = set->begin[r->at + r->count] - r->row;
        /* A local run works on a copy: the reference's input is wanted again. */
        float *rows = x + r->row * r->job->width;
        if (x == r->input) {
            memcpy(r->batch_x, rows, r->rows * r->job->width * sizeof *rows);
            rows = r->batch_x;
        }
        tmb_batch batch = {
            .x = rows, .begin = r->begin, .sequences = r->count, .observer = observer};
        TRY(tell(r, err));
        TRY(tmb_decoder_run(m->decoder, &batch, err));
        if (after) TRY(after(r, rows, err));
        TRY(tick(r, err));
    }
    return TMB_OK;
}

/* --- hidden states -------------------------------------------------------------------------- */

typedef struct values {
    tmb_lock_rank *r;
    const float *x; /* rows of the batch */
    bool local;
} values;

static void compare_values(void *ctx, size_t i)
{
    const values *v = ctx;
    tmb_lock_rank *r = v->r;
    size_t width = r->job->width, layers = r->job->layers, s = r->set->sequence[r->at + i];
    size_t at = s * layers + (size_t)r->layer, of = (size_t)r->variant * r->all.n * layers + at;
    size_t row = r->set->begin[r->at + i] - r->row;
    double *error = v->local ? &r->local_error[of] : &r->error[of];
    double *norm = v->local || r->variant ? NULL : &r->norm[at];
    for (size_t p = r->all.begin[s]; p < r->all.begin[s + 1]; p++, row++)
        tmb_tally_values(error, norm, r->ref.x + p * width, v->x + row * width, r->job->state);
}

static tmb_status after_variant(tmb_lock_rank *r, const float *x, tmb_err *err)
{
    values v = {r, x, false};
    tmb_team_each(r->threads, r->count, 1, compare_values, &v);
    return r->job->full && r->sparse ? tmb_lock_routers(r, err) : TMB_OK;
}

static tmb_status after_local(tmb_lock_rank *r, const float *x, tmb_err *err)
{
    (void)err;
    values v = {r, x, true};
    tmb_team_each(r->threads, r->count, 1, compare_values, &v);
    return TMB_OK;
}

/* --- a layer -------------------------------------------------------------------------------- */

static tmb_status run_variant(tmb_lock_rank *r, size_t v, tmb_err *err)
{
    tmb_lock_model *m = &r->variants[v];
    tmb_observer watch = tmb_lock_watch_variant(r), local = tmb_lock_watch_local(r);
    TRY(tmb_decoder_load(m->decoder, r->layer, err));
    TRY(tmb_lock_pass(r, m, (int)v, m->x, &watch, after_variant, err));
    if (r->job->local) TRY(tmb_lock_pass(r, m, (int)v, r->input, &local, after_local, err));
    tmb_decoder_drop(m->decoder);
    return TMB_OK;
}

tmb_status tmb_lock_layer(tmb_lock_rank *r, tmb_err *err)
{
    const tmb_lock_job *job = r->job;
    size_t tokens = r->all.begin[r->all.n];
    r->sparse = tmb_decoder_is_sparse(r->ref.decoder, r->layer);
    r->has_h = false;
    memset(&r->margins, 0, sizeof r->margins);
    memset(r->moved, 0, sizeof r->moved);
    if (job->full) {
        memset(r->sums, 0, r->all.n * TMB_TALLY * sizeof *r->sums);
        memset(r->load, 0, r->all.n * 2 * r->shape.n_experts * sizeof *r->load);
        memset(r->experts, 0, r->shape.n_experts * sizeof *r->experts);
    }
    if (r->input) memcpy(r->input, r->ref.x, tokens * job->width * sizeof *r->input);
    tmb_observer keep = tmb_lock_watch_reference(r);
    TRY(tmb_decoder_load(r->ref.decoder, r->layer, err));
    TRY(tmb_lock_pass(r, &r->ref, -1, r->ref.x, &keep, NULL, err));
    if (r->noise.decoder) {
        tmb_observer rerun = tmb_lock_watch_rerun(r);
        TRY(tmb_decoder_load(r->noise.decoder, r->layer, err));
        TRY(tmb_lock_pass(r, &r->noise, -1, r->noise.x, &rerun, NULL, err));
        tmb_decoder_drop(r->noise.decoder);
    }
    if (job->full) TRY(tmb_lock_noise_margin(r, err));
    for (size_t v = 0; v < job->n; v++)
        TRY(run_variant(r, v, err));
    return job->full ? tmb_lock_finish_layer(r, err) : TMB_OK;
}
