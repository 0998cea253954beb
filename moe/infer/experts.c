/* experts.c - the second half of a layer: a dense MLP, or a router with shared and routed experts.
 *
 * Each expert takes all of its tokens of the batch at once, and several experts make one step of
 * the matrix product.  A token's experts are added in ascending order, then the shared ones. */
#include "config.h"
#include "moe/infer/decoder.h"

#include "kernels/base/team.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const float ALPHA = 1.702f; /* of gpt-oss */

/* ------------------------------------------------------------------ gate, up and down */

typedef struct gating {
    const tmb_decoder *d;
    float *gate, *up;
    size_t width;
} gating;

static void gate_row(void *ctx, size_t i)
{
    const gating *g = ctx;
    const tmb_decoder *d = g->d;
    if (d->config.rules->clamped)
        d->nn->swiglu_clamped(g->gate + i * g->width, g->up + i * g->width, g->width, ALPHA,
                              d->config.swiglu_limit);
    else
        d->nn->swiglu(g->gate + i * g->width, g->up + i * g->width, g->width);
}

static tmb_product product(const tmb_weight *w, const float *x, size_t rows, float *y)
{
    return (tmb_product){
        .w = w, .x = x, .rows = rows, .x_stride = w->in, .y = y, .y_stride = w->out};
}

/* y [tokens, hidden] = the MLP of all tokens: a dense layer's, or the shared experts'. */
static tmb_status run_whole(tmb_run *run, float *y)
{
    const tmb_weight *w = run->layer->mlp;
    size_t width = w[TMB_GATE].out, n = run->tokens;
    tmb_decoder *d = run->d;
    const float *use = NULL;
    float *owned = NULL, *gate = tmb_floats(n, width, run->err),
          *up = tmb_floats(n, width, run->err);
    tmb_status status = gate && up ? TMB_OK : TMB_ESYSTEM;
    tmb_linear_seen seen = {
        .layer = run->layer->index, .expert = -1, .x = run->h, .rows = n, .in = d->config.hidden};
    const tmb_weight *entered[] = {&w[TMB_GATE], &w[TMB_UP]}, *down[] = {&w[TMB_DOWN]};
    if (!status) status = tmb_enter(run, entered, 2, &seen, &use, &owned);
    tmb_product p[] = {product(&w[TMB_GATE], use, n, gate), product(&w[TMB_UP], use, n, up)};
    for (int i = 0; !status && i < 2; i++)
        status = tmb_multiply_long(d, &p[i], run->err);
    free(owned);
    owned = NULL;
    if (!status) {
        gating g = {d, gate, up, width};
        tmb_each_row(d, n, gate_row, &g);
        seen.x = gate;
        seen.in = width;
        status = tmb_enter(run, down, 1, &seen, &use, &owned);
    }
    p[0] = product(&w[TMB_DOWN], use, n, y);
    if (!status) status = tmb_multiply_long(d, &p[0], run->err);
    free(owned);
    free(up);
    free(gate);
    return status;
}

/* ------------------------------------------------------------------ routing */

typedef struct routing {
    tmb_run *run;
    float *logits, *choice, *weight; /* [tokens, E], [tokens, E], [tokens, K] */
    uint32_t *chosen;                /* [tokens, K] */
    size_t *begin;                   /* [E + 1]: places of an expert in the next two */
    uint32_t *token;                 /* [tokens * K] ascending within an expert */
    float *gate;                     /* [tokens * K] */
    size_t ties;                     /* atomic */
    int failed;                      /* atomic */
} routing;

static void route_row(void *ctx, size_t i)
{
    routing *r = ctx;
    const tmb_decoder *d = r->run->d;
    size_t n = d->config.n_experts, k = d->config.top_k;
    float *score = tmb_floats(2 * n, 1, NULL);
    if (!score) {
        __atomic_store_n(&r->failed, 1, __ATOMIC_RELAXED);
        return;
    }
    if (tmb_route(&d->config, d->nn, r->logits + i * n, r->run->layer->correction.values,
                  r->choice + i * n, score, r->chosen + i * k, r->weight + i * k))
        __atomic_fetch_add(&r->ties, 1, __ATOMIC_RELAXED);
    free(score);
}

/* Which tokens each expert has. */
static void deal(routing *r)
{
    const tmb_config *c = &r->run->d->config;
    size_t n = r->run->tokens * c->top_k;
    for (size_t i = 0; i < n; i++)
        r->begin[r->chosen[i] + 1]++;
    for (size_t e = 0; e < c->n_experts; e++)
        r->begin[e + 1] += r->begin[e];
    for (size_t i = 0; i < n; i++) {
        size_t at = r->begin[r->chosen[i]]++;
        r->token[at] = (uint32_t)(i / c->top_k);
        r->gate[at] = r->weight[i];
    }
    memmove(r->begin + 1, r->begin, c->n_experts * sizeof *r->begin);
    r->begin[0] = 0;
}

static tmb_status route_all(routing *r)
{
    tmb_run *run = r->run;
    tmb_decoder *d = run->d;
    const tmb_config *c = &d->config;
    const tmb_weight *w = &run->layer->router, *entered[] = {w};
    size_t tokens = run->tokens;
    r->logits = tmb_floats(tokens, c->n_experts, run->err);
    r->choice = tmb_floats(tokens, c->n_experts, run->err);
    r->weight = tmb_floats(tokens, c->top_k, run->err);
    r->gate = tmb_floats(tokens, c->top_k, run->err);
    r->chosen = malloc(tokens * c->top_k * sizeof *r->chosen);
    r->token = malloc(tokens * c->top_k * sizeof *r->token);
    r->begin = calloc(c->n_experts + 2, sizeof *r->begin);
    if (!r->logits || !r->choice || !r->weight || !r->gate || !r->chosen || !r->token || !r->begin)
        return tmb_fail_memory(run->err, tokens * c->n_experts, "routing");
    tmb_linear_seen seen = {
        .layer = run->layer->index, .expert = -1, .x = run->h, .rows = tokens, .in = c->hidden};
    const float *use;
    float *owned;
    TRY(tmb_enter(run, entered, 1, &seen, &use, &owned));
    tmb_product p = product(w, use, tokens, r->logits);
    tmb_status status = tmb_multiply_long(d, &p, run->err);
    free(owned);
    if (status) return status;
    if (!isfinite(d->ops->amax(r->logits, tokens * c->n_experts)))
        return tmb_fail(run->err, TMB_EDATA,
                        "%s: layer %d: a router logit is no finite number; the weights or the "
                        "inputs are damaged",
                        d->model->ckpt->path, run->layer->index);
    tmb_each_row(d, tokens, route_row, r);
    if (r->failed) return tmb_fail_memory(run->err, c->n_experts, "routing");
    deal(r);
    tmb_router_seen shown = {.unit = w->index,
                             .layer = run->layer->index,
                             .tokens = tokens,
                             .n_experts = c->n_experts,
                             .top_k = c->top_k,
                             .logits = r->logits,
                             .choice = r->choice,
                             .chosen = r->chosen,
                             .weight = r->weight,
                             .ties = r->ties};
    const tmb_observer *o = run->observer;
    return o->router ? o->router(o->ctx, &shown, run->err) : TMB_OK;
}

static void free_routing(const routing *r)
{
    void *all[] = {r->logits, r->choice, r->weight, r->gate, r->chosen, r->token, r->begin};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

tmb_status tmb_decoder_route(tmb_decoder *d, const float *h, size_t rows,
                             const tmb_observer *observer, tmb_err *err)
{
    static const tmb_observer nobody;
    if (!d->loaded || !d->loaded->sparse)
        return tmb_fail(err, TMB_EINTERNAL, "no layer with a router is loaded");
    float *x = tmb_floats(rows, d->config.hidden, err);
    if (!x) return TMB_ESYSTEM;
    memcpy(x, h, rows * d->config.hidden * sizeof *x);
    tmb_run run = {.d = d, .layer = d->loaded, .tokens = rows, .h = x, .err = err};
    run.observer = observer ? observer : &nobody;
    routing r = {.run = &run};
    tmb_status status = rows ? route_all(&r) : TMB_OK;
    free_routing(&r);
    free(x);
    return status;
}

/* ------------------------------------------------------------------ a step of several experts */

typedef struct step {
    tmb_run *run;
    routing *r;
    size_t first, end;     /* experts */
    size_t base, rows;     /* their places in r->token */
    float *in, *gate, *up; /* [rows, hidden], then their outputs; [rows, width] */
    float *out;            /* [tokens, hidden] */
    float **owned;         /* [experts]: of hooks */
    const float **use;     /* [experts] */
    tmb_product *products; /* [2 * experts] */
} step;

static void gather_row(void *ctx, size_t i)
{
    const step *s = ctx;
    const tmb_config *c = &s->run->d->config;
    size_t at = s->base + i;
    const float *from = s->run->h + s->r->token[at] * c->hidden;
    float *to = s->in + i * c->hidden;
    if (c->rules->routing == TMB_ROUTING_INPUT_SIGMOID)
        s->run->d->nn->scale(to, from, s->r->gate[at], c->hidden);
    else
        memcpy(to, from, c->hidden * sizeof *to);
}

/* The rows of one token in this step, ascending: chosen lists are sorted, so they come in order. */
static void scatter_row(void *ctx, size_t token)
{
    const step *s = ctx;
    const tmb_config *c = &s->run->d->config;
    bool scaled = c->rules->routing == TMB_ROUTING_INPUT_SIGMOID;
    for (size_t j = 0; j < c->top_k; j++) {
        size_t e = s->r->chosen[token * c->top_k + j];
        if (e < s->first || e >= s->end) continue;
        size_t low = s->r->begin[e], high = s->r->begin[e + 1];
        while (high - low > 1) {
            size_t mid = low + (high - low) / 2;
            if (s->r->token[mid] <= token)
                low = mid;
            else
                high = mid;
        }
        s->run->d->nn->add_scaled(s->out + token * c->hidden, s->in + (low - s->base) * c->hidden,
                                  scaled ? 1.0f : s->r->gate[low], c->hidden);
    }
}

/* What enters the experts' Linears from `which` on: rows of x, `in` numbers each. */
static tmb_status enter_all(step *s, int which, const float *x, size_t in)
{
    for (size_t e = s->first; e < s->end; e++) {
        const tmb_weight *w = &s->run->layer->experts[e * TMB_MLP];
        const tmb_weight *both[] = {&w[which], &w[TMB_UP]};
        size_t at = s->r->begin[e], n = s->r->begin[e + 1] - at;
        tmb_linear_seen seen = {.layer = s->run->layer->index,
                                .expert = (int32_t)e,
                                .x = x + (at - s->base) * in,
                                .rows = n,
                                .in = in,
                                .token = s->r->token + at,
                                .gate = s->r->gate + at};
        free(s->owned[e - s->first]);
        s->owned[e - s->first] = NULL;
        TRY(tmb_enter(s->run, both, which == TMB_GATE ? 2 : 1, &seen, &s->use[e - s->first],
                      &s->owned[e - s->first]));
    }
    return TMB_OK;
}

static tmb_status compute(step *s)
{
    tmb_run *run = s->run;
    tmb_decoder *d = run->d;
    size_t hidden = d->config.hidden, width = run->layer->experts[s->first * TMB_MLP].out, n = 0;
    tmb_team_each(d->threads, s->rows, 16, gather_row, s);
    TRY(enter_all(s, TMB_GATE, s->in, hidden));
    for (size_t e = s->first; e < s->end; e++) {
        const tmb_weight *w = &run->layer->experts[e * TMB_MLP];
        size_t at = s->r->begin[e] - s->base, rows = s->r->begin[e + 1] - s->r->begin[e];
        if (!rows) continue;
        s->products[n++] = product(&w[TMB_GATE], s->use[e - s->first], rows, s->gate + at * width);
        s->products[n++] = product(&w[TMB_UP], s->use[e - s->first], rows, s->up + at * width);
    }
    TRY(tmb_multiply(d, s->products, n, run->err));
    gating g = {d, s->gate, s->up, width};
    tmb_each_row(d, s->rows, gate_row, &g);
    TRY(enter_all(s, TMB_DOWN, s->gate, width));
    n = 0;
    for (size_t e = s->first; e < s->end; e++) {
        size_t at = s->r->begin[e] - s->base, rows = s->r->begin[e + 1] - s->r->begin[e];
        if (rows)
            s->products[n++] = product(&run->layer->experts[e * TMB_MLP + TMB_DOWN],
                                       s->use[e - s->first], rows, s->in + at * hidden);
    }
    TRY(tmb_multiply(d, s->products, n, run->err));
    tmb_team_each(d->threads, run->tokens, 16, scatter_row, s);
    return TMB_OK;
}

/* Experts from … end-1 in one step; nothing when none of them has a token. */
static tmb_status run_step(tmb_run *run, routing *r, float *out, size_t first, size_t end)
{
    step s = {.run = run, .r = r, .first = first, .end = end, .base = r->begin[first], .out = out};
    s.rows = r->begin[end] - s.base;
    if (!s.rows) return TMB_OK;
    size_t width = run->layer->experts[first * TMB_MLP].out, n = end - first;
    s.in = tmb_floats(s.rows, run->d->config.hidden, run->err);
    s.gate = tmb_floats(s.rows, width, run->err);
    s.up = tmb_floats(s.rows, width, run->err);
    s.owned = calloc(n, sizeof(float *));
    s.use = calloc(n, sizeof(float *));
    s.products = malloc(2 * n * sizeof *s.products);
    tmb_status status = s.in && s.gate && s.up && s.owned && s.use && s.products
                            ? compute(&s)
                            : tmb_fail_memory(run->err, s.rows * width, "a step of experts");
    for (size_t i = 0; s.owned && i < n; i++)
        free(s.owned[i]);
    free(s.products);
    free(s.use);
    free(s.owned);
    free(s.up);
    free(s.gate);
    free(s.in);
    return status;
}

/* The end of the step that begins with expert `first`: no more rows than TMB_STEP_ROWS but for a
 * single expert, and all of one width. */
static size_t step_end(const tmb_run *run, const routing *r, size_t first, size_t end)
{
    const tmb_weight *w = run->layer->experts;
    size_t e = first + 1;
    while (e < end && r->begin[e + 1] - r->begin[first] <= TMB_STEP_ROWS &&
           w[e * TMB_MLP].out == w[first * TMB_MLP].out)
        e++;
    return e;
}

/* An expert that is shown all tokens; what it gives is thrown away, so down is not computed. */
static tmb_status run_shadow(tmb_run *run, const routing *r, size_t expert)
{
    tmb_decoder *d = run->d;
    const tmb_weight *w = &run->layer->experts[expert * TMB_MLP];
    const tmb_weight *entered[] = {&w[TMB_GATE], &w[TMB_UP]}, *down[] = {&w[TMB_DOWN]};
    size_t n = run->tokens, hidden = d->config.hidden, width = w->out;
    bool scaled = d->config.rules->routing == TMB_ROUTING_INPUT_SIGMOID;
    float *in = scaled ? tmb_floats(n, hidden, run->err) : NULL;
    float *gate = tmb_floats(n, width, run->err), *up = tmb_floats(n, width, run->err),
          *owned = NULL;
    const float *use;
    tmb_status status = gate && up && (in || !scaled) ? TMB_OK : TMB_ESYSTEM;
    for (size_t i = 0; !status && scaled && i < n; i++) {
        float by;
        d->nn->sigmoid(&by, r->logits + i * d->config.n_experts + expert, 1);
        d->nn->scale(in + i * hidden, run->h + i * hidden, by, hidden);
    }
    tmb_linear_seen seen = {.layer = run->layer->index,
                            .expert = (int32_t)expert,
                            .x = scaled ? in : run->h,
                            .rows = n,
                            .in = hidden,
                            .shadow = true};
    if (!status) status = tmb_enter(run, entered, 2, &seen, &use, &owned);
    tmb_product p[] = {product(&w[TMB_GATE], seen.x, n, gate), product(&w[TMB_UP], seen.x, n, up)};
    for (int i = 0; !status && i < 2; i++)
        status = tmb_multiply_long(d, &p[i], run->err);
    if (!status) {
        gating g = {d, gate, up, width};
        tmb_each_row(d, n, gate_row, &g);
        seen.x = gate;
        seen.in = width;
        status = tmb_enter(run, down, 1, &seen, &use, &owned);
    }
    free(up);
    free(gate);
    free(in);
    return status;
}

static tmb_status run_groups(tmb_run *run, routing *r, float *out)
{
    tmb_decoder *d = run->d;
    const uint8_t *shadow = run->batch->shadow;
    size_t n = d->config.n_experts;
    for (size_t first = 0; first < n; first += d->group) {
        size_t end = n - first < d->group ? n : first + d->group;
        bool wanted = r->begin[end] > r->begin[first];
        for (size_t e = first; shadow && e < end; e++)
            wanted |= shadow[e] != 0;
        if (!wanted) continue;
        TRY(tmb_experts_load(d, first, end, run->err));
        for (size_t e = first; e < end; e = step_end(run, r, e, end))
            TRY(run_step(run, r, out, e, step_end(run, r, e, end)));
        for (size_t e = first; shadow && run->observer->linear && e < end; e++)
            if (shadow[e]) TRY(run_shadow(run, r, e));
    }
    return TMB_OK;
}

/* ------------------------------------------------------------------ the whole half */

/* out [tokens, hidden] = the shared experts' output, each row by its gate when there is one. */
static tmb_status run_shared(tmb_run *run, float *out)
{
    tmb_decoder *d = run->d;
    const tmb_weight *w = &run->layer->shared_gate, *entered[] = {w};
    size_t n = run->tokens, hidden = d->config.hidden;
    TRY(run_whole(run, out));
    if (!w->out) return TMB_OK;
    float *gate = tmb_floats(n, 1, run->err), *owned = NULL;
    const float *use;
    tmb_linear_seen seen = {
        .layer = run->layer->index, .expert = -1, .x = run->h, .rows = n, .in = hidden};
    tmb_status status = gate ? tmb_enter(run, entered, 1, &seen, &use, &owned) : TMB_ESYSTEM;
    if (!status) {
        tmb_product p = product(w, use, n, gate);
        status = tmb_multiply_long(d, &p, run->err);
    }
    if (!status) d->nn->sigmoid(gate, gate, n);
    for (size_t i = 0; !status && i < n; i++)
        d->nn->scale(out + i * hidden, out + i * hidden, gate[i], hidden);
    free(owned);
    free(gate);
    return status;
}

static tmb_status run_sparse(tmb_run *run, float *out)
{
    routing r = {.run = run};
    size_t n = run->tokens, hidden = run->d->config.hidden;
    bool has_shared = run->layer->mlp[TMB_GATE].out;
    float *shared = has_shared ? tmb_floats(n, hidden, run->err) : NULL;
    tmb_status status = shared || !has_shared ? route_all(&r) : TMB_ESYSTEM;
    if (!status && shared) status = run_shared(run, shared);
    memset(out, 0, n * hidden * sizeof *out);
    if (!status) status = run_groups(run, &r, out);
    if (!status && shared) run->d->nn->add_scaled(out, shared, 1.0f, n * hidden);
    free_routing(&r);
    free(shared);
    return status;
}

tmb_status tmb_run_mlp(tmb_run *run, float *out)
{
    return run->layer->sparse ? run_sparse(run, out) : run_whole(run, out);
}
