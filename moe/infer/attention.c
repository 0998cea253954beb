/* attention.c - the first half of a layer: projections, norms, rotation, attention, output.
 *
 * Keys and values (of MLA the latent) are made for the whole batch, so that an observer sees them
 * at once; queries, and what MLA expands the latent to, for some sequences at a time. */
#include "config.h"
#include "moe/infer/decoder.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Heads of rows that are normed and turned in place. */
typedef struct turning {
    const tmb_run *run;
    float *x; /* [tokens, heads, dim], tokens `stride` apart; row i is token first + i */
    size_t first, heads, dim, stride;
    size_t at; /* where in a head the rotating part begins */
    const tmb_vector *norm;
    bool rope, temper;
    const size_t *position; /* [tokens of the batch] */
} turning;

static float temperature(const tmb_config *c, size_t position)
{
    return log1pf(floorf(((float)position + 1.0f) / c->floor_scale)) * c->attn_scale + 1.0f;
}

static void turn_row(void *ctx, size_t i)
{
    const turning *t = ctx;
    const tmb_decoder *d = t->run->d;
    const tmb_config *c = &d->config;
    size_t position = t->position[t->first + i], half = c->rope.dims / 2;
    float *row = t->x + i * t->stride;
    const float *cosines = d->cosines + position * half, *sines = d->sines + position * half;
    bool whole = t->norm && t->norm->tensor && t->norm->n != t->dim;
    if (whole) d->nn->rms_norm(row, row, t->norm->values, t->norm->n, c->eps);
    for (size_t h = 0; h < t->heads; h++) {
        float *head = row + h * t->dim;
        if (t->norm && t->norm->tensor && !whole)
            d->nn->rms_norm(head, head, t->norm->values, t->dim, c->eps);
        for (size_t k = 0; c->clip_qkv > 0 && k < t->dim; k++)
            head[k] = fminf(fmaxf(head[k], -c->clip_qkv), c->clip_qkv);
        if (t->rope) d->nn->rotate(head + t->at, cosines, sines, half, c->rope.paired);
        if (t->rope && t->norm && c->qk_norm && c->rules->qk_norm == TMB_QK_NORM_L2)
            d->nn->rms_norm(head, head, NULL, t->dim, c->eps);
        if (t->temper) d->nn->scale(head, head, temperature(c, position), t->dim);
    }
}

/* What both kinds of attention hold during a run. */
typedef struct heads {
    tmb_run *run;
    size_t *position; /* [tokens] */
    float *k, *v;     /* [tokens, k_width], [tokens, v_width] */
    size_t k_width, v_width;
    float *latent;             /* MLA: what kv_b reads [tokens, kv_rank] */
    float *q_latent;           /* MLA: what q_b reads [tokens, q_rank] */
    const float *q_in, *kv_in; /* rows that enter q (and of MLA kv_b) */
    float *owned[3];           /* of hooks */
    float *out;                /* [tokens, heads, v_dim] */
} heads;

static tmb_status project(const heads *s, const tmb_weight *w, const float *x, size_t rows,
                          float *y)
{
    tmb_product p = {.w = w, .x = x, .rows = rows, .x_stride = w->in, .y = y, .y_stride = w->out};
    return tmb_multiply_long(s->run->d, &p, s->run->err);
}

static tmb_linear_seen seen_of(const heads *s, const float *x, size_t in)
{
    return (tmb_linear_seen){
        .layer = s->run->layer->index, .expert = -1, .x = x, .rows = s->run->tokens, .in = in};
}

static bool rotates(const tmb_run *run)
{
    return run->d->config.layer[run->layer->index].rope;
}

static tmb_status show_kv(heads *s)
{
    const tmb_run *run = s->run;
    tmb_kv_seen seen = {.layer = run->layer->index,
                        .tokens = run->tokens,
                        .k = s->k,
                        .v = s->v,
                        .k_width = s->k_width,
                        .v_width = s->v_width};
    if (run->observer->kv) TRY(run->observer->kv(run->observer->ctx, &seen, run->err));
    const tmb_hooks *hooks = &run->d->hooks;
    return hooks->kv ? hooks->kv(hooks->ctx, &seen, s->k, s->v, run->err) : TMB_OK;
}

static tmb_status keys_gqa(heads *s)
{
    tmb_run *run = s->run;
    const tmb_config *c = &run->d->config;
    const tmb_decoder_layer *l = run->layer;
    s->k_width = s->v_width = c->kv_heads * c->head_dim;
    s->k = tmb_floats(run->tokens, s->k_width, run->err);
    s->v = tmb_floats(run->tokens, s->v_width, run->err);
    if (!s->k || !s->v) return TMB_ESYSTEM;
    tmb_linear_seen seen = seen_of(s, run->h, c->hidden);
    const tmb_weight *entered[] = {&l->q, &l->k, &l->v};
    TRY(tmb_enter(run, entered, 3, &seen, &s->q_in, &s->owned[0]));
    TRY(project(s, &l->k, s->q_in, run->tokens, s->k));
    TRY(project(s, &l->v, s->q_in, run->tokens, s->v));
    turning t = {.run = run,
                 .x = s->k,
                 .heads = c->kv_heads,
                 .dim = c->head_dim,
                 .stride = s->k_width,
                 .norm = &l->k_norm,
                 .rope = rotates(run),
                 .position = s->position};
    tmb_each_row(run->d, run->tokens, turn_row, &t);
    if (c->clip_qkv > 0) {
        t = (turning){.run = run,
                      .x = s->v,
                      .heads = c->kv_heads,
                      .dim = c->head_dim,
                      .stride = s->v_width,
                      .position = s->position};
        tmb_each_row(run->d, run->tokens, turn_row, &t);
    }
    return show_kv(s);
}

static tmb_status keys_mla(heads *s)
{
    tmb_run *run = s->run;
    const tmb_config *c = &run->d->config;
    const tmb_decoder_layer *l = run->layer;
    size_t n = run->tokens;
    s->k_width = c->kv_rank + c->rope_dim;
    s->k = tmb_floats(n, s->k_width, run->err);
    s->latent = tmb_floats(n, c->kv_rank, run->err);
    if (c->q_rank) s->q_latent = tmb_floats(n, c->q_rank, run->err);
    if (!s->k || !s->latent || (c->q_rank && !s->q_latent)) return TMB_ESYSTEM;
    tmb_linear_seen seen = seen_of(s, run->h, c->hidden);
    const tmb_weight *entered[] = {c->q_rank ? &l->q_a : &l->q, &l->kv_a};
    TRY(tmb_enter(run, entered, 2, &seen, &s->q_in, &s->owned[0]));
    TRY(project(s, &l->kv_a, s->q_in, n, s->k));
    tmb_norm_rows(run->d, s->k, s->k, &l->k_norm, n, c->kv_rank, s->k_width, c->latent_eps);
    turning t = {.run = run,
                 .x = s->k + c->kv_rank,
                 .heads = 1,
                 .dim = c->rope_dim,
                 .stride = s->k_width,
                 .rope = rotates(run),
                 .position = s->position};
    tmb_each_row(run->d, n, turn_row, &t);
    TRY(show_kv(s));
    for (size_t i = 0; i < n; i++)
        memcpy(s->latent + i * c->kv_rank, s->k + i * s->k_width, c->kv_rank * sizeof(float));
    seen = seen_of(s, s->latent, c->kv_rank);
    const tmb_weight *up[] = {&l->kv_b};
    TRY(tmb_enter(run, up, 1, &seen, &s->kv_in, &s->owned[1]));
    if (!c->q_rank) return TMB_OK;
    TRY(project(s, &l->q_a, s->q_in, n, s->q_latent));
    tmb_norm_rows(run->d, s->q_latent, s->q_latent, &l->q_norm, n, c->q_rank, c->q_rank,
                  c->latent_eps);
    seen = seen_of(s, s->q_latent, c->q_rank);
    const tmb_weight *q[] = {&l->q};
    return tmb_enter(run, q, 1, &seen, &s->q_in, &s->owned[2]);
}

/* Queries of sequences first … end-1 and their attention. */
static tmb_status attend_some(heads *s, size_t first, size_t end, float *q, float *expanded,
                              size_t *begin)
{
    tmb_run *run = s->run;
    const tmb_config *c = &run->d->config;
    const tmb_decoder_layer *l = run->layer;
    bool mla = c->rules->attention == TMB_ATTENTION_MLA;
    size_t row = run->batch->begin[first], n = run->batch->begin[end] - row,
           kv = c->nope_dim + c->v_dim;
    for (size_t i = first; i <= end; i++)
        begin[i - first] = run->batch->begin[i] - row;
    TRY(project(s, &l->q, s->q_in + row * l->q.in, n, q));
    turning t = {.run = run,
                 .x = q,
                 .first = row,
                 .heads = c->heads,
                 .dim = c->head_dim,
                 .stride = c->heads * c->head_dim,
                 .at = mla ? c->nope_dim : 0,
                 .norm = mla ? NULL : &l->q_norm,
                 .rope = rotates(run),
                 .position = s->position};
    t.temper = c->temperature && !t.rope;
    tmb_each_row(run->d, n, turn_row, &t);
    tmb_attend a = {.q = q,
                    .k = s->k + row * s->k_width,
                    .v = mla ? NULL : s->v + row * s->v_width,
                    .k_step = c->head_dim,
                    .k_stride = s->k_width,
                    .v_step = c->v_dim,
                    .v_stride = s->v_width,
                    .k_dim = c->head_dim,
                    .heads = c->heads,
                    .kv_heads = c->kv_heads,
                    .head_dim = c->head_dim,
                    .v_dim = c->v_dim,
                    .begin = begin,
                    .sequences = end - first,
                    .sinks = l->sinks.values,
                    .view = c->layer[l->index].view,
                    .scale = (float)(c->rope.softmax_factor / sqrt((double)c->head_dim)),
                    .out = s->out + row * c->heads * c->v_dim};
    a.reach = a.view == TMB_VIEW_WINDOW ? c->window : c->chunk;
    if (mla) {
        TRY(project(s, &l->kv_b, s->kv_in + row * c->kv_rank, n, expanded));
        a.k_tail = a.k + c->kv_rank;
        a.tail_dim = c->rope_dim;
        a.tail_stride = s->k_width;
        a.k = expanded;
        a.v = expanded + c->nope_dim;
        a.k_dim = c->nope_dim;
        a.k_step = a.v_step = kv;
        a.k_stride = a.v_stride = c->heads * kv;
    }
    return tmb_attend_run(run->d, &a, run->err);
}

/* The end of a part that begins with sequence `first`. */
static size_t part_end(const tmb_batch *b, size_t first)
{
    size_t end = first + 1;
    while (end < b->sequences && b->begin[end + 1] - b->begin[first] <= TMB_PART_TOKENS)
        end++;
    return end;
}

static tmb_status attend_all(heads *s)
{
    tmb_run *run = s->run;
    const tmb_batch *b = run->batch;
    const tmb_config *c = &run->d->config;
    size_t most = 0;
    for (size_t i = 0; i < b->sequences; i = part_end(b, i)) {
        size_t n = b->begin[part_end(b, i)] - b->begin[i];
        most = n > most ? n : most;
    }
    bool mla = c->rules->attention == TMB_ATTENTION_MLA;
    float *q = tmb_floats(most, c->heads * c->head_dim, run->err);
    float *expanded = mla ? tmb_floats(most, c->heads * (c->nope_dim + c->v_dim), run->err) : NULL;
    size_t *begin = malloc((b->sequences + 1) * sizeof *begin);
    tmb_status status =
        q && begin && (expanded || !mla) ? TMB_OK : tmb_fail_memory(run->err, most, "queries");
    for (size_t i = 0; !status && i < b->sequences; i = part_end(b, i))
        status = attend_some(s, i, part_end(b, i), q, expanded, begin);
    free(begin);
    free(expanded);
    free(q);
    return status;
}

/* y = o_proj of what attention gave. */
static tmb_status leave(heads *s, float *y)
{
    tmb_run *run = s->run;
    const tmb_weight *o = &run->layer->o, *entered[] = {o};
    tmb_linear_seen seen = seen_of(s, s->out, o->in);
    const float *use;
    float *owned;
    TRY(tmb_enter(run, entered, 1, &seen, &use, &owned));
    tmb_status status = project(s, o, use, run->tokens, y);
    free(owned);
    return status;
}

tmb_status tmb_run_attention(tmb_run *run, float *out)
{
    const tmb_config *c = &run->d->config;
    const tmb_batch *b = run->batch;
    heads s = {.run = run};
    s.position = malloc(run->tokens * sizeof *s.position);
    s.out = tmb_floats(run->tokens, c->heads * c->v_dim, run->err);
    tmb_status status =
        s.position && s.out ? TMB_OK : tmb_fail_memory(run->err, run->tokens, "attention");
    for (size_t i = 0; !status && i < b->sequences; i++)
        for (size_t t = b->begin[i]; t < b->begin[i + 1]; t++)
            s.position[t] = t - b->begin[i];
    if (!status) status = c->rules->attention == TMB_ATTENTION_MLA ? keys_mla(&s) : keys_gqa(&s);
    if (!status) status = attend_all(&s);
    if (!status) status = leave(&s, out);
    void *all[] = {s.position, s.k,        s.v,        s.latent,  s.q_latent,
                   s.out,      s.owned[0], s.owned[1], s.owned[2]};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    return status;
}
