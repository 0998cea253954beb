/* router.c - a layer's router for all tokens of a run: its logits, and which expert gets what. */
#include "config.h"
#include "moe/infer/dispatch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct routing {
    tmb_run *run;
    tmb_routed *r;
    size_t ties; /* atomic */
    int failed;  /* atomic */
} routing;

static void route_row(void *ctx, size_t i)
{
    routing *t = ctx;
    const tmb_routed *r = t->r;
    const tmb_decoder *d = t->run->d;
    size_t n = d->config.n_experts, k = d->config.top_k;
    const int64_t *hash = t->run->layer->hash;
    if (hash) {
        size_t id = (size_t)tmb_handed_id(d, t->run->batch->x + i * d->width);
        tmb_route_hashed(&d->config, d->nn, r->logits + i * n, hash + id * k, r->choice + i * n,
                         r->chosen + i * k, r->weight + i * k);
        return;
    }
    float *score = tmb_floats(2 * n, 1, NULL);
    if (!score) {
        __atomic_store_n(&t->failed, 1, __ATOMIC_RELAXED);
        return;
    }
    if (tmb_route(&d->config, d->nn, r->logits + i * n, t->run->layer->correction.values,
                  r->choice + i * n, score, r->chosen + i * k, r->weight + i * k))
        __atomic_fetch_add(&t->ties, 1, __ATOMIC_RELAXED);
    free(score);
}

/* The weights of experts that a hook chose. */
static void weigh_row(void *ctx, size_t i)
{
    routing *t = ctx;
    const tmb_decoder *d = t->run->d;
    size_t n = d->config.n_experts, k = d->config.top_k;
    float *score = tmb_floats(n, 1, NULL);
    if (score)
        tmb_route_again(&d->config, d->nn, t->r->logits + i * n, score, t->r->chosen + i * k,
                        t->r->weight + i * k);
    else
        __atomic_store_n(&t->failed, 1, __ATOMIC_RELAXED);
    free(score);
}

/* Let the hook choose. */
static tmb_status choose_again(routing *t, const tmb_router_seen *seen)
{
    const tmb_hooks *hooks = &t->run->d->hooks;
    const uint32_t *chosen = t->r->chosen;
    size_t k = seen->top_k;
    bool changed = false;
    TRY(hooks->route(hooks->ctx, seen, t->r->chosen, &changed, t->run->err));
    if (!changed) return TMB_OK;
    for (size_t i = 0; i < seen->tokens * k; i++)
        if (chosen[i] >= seen->n_experts || (i % k && chosen[i] <= chosen[i - 1]))
            return tmb_fail(t->run->err, TMB_EINTERNAL, "layer %d: a hook chose no set of experts",
                            seen->layer);
    tmb_each_row(t->run->d, seen->tokens, weigh_row, t);
    return t->failed ? tmb_fail_memory(t->run->err, seen->n_experts, "routing") : TMB_OK;
}

static tmb_status make_room(const tmb_run *run, tmb_routed *r, tmb_sent *sent)
{
    const tmb_config *c = &run->d->config;
    size_t tokens = run->tokens, pairs = tokens * c->top_k;
    r->logits = tmb_floats(tokens, c->n_experts, run->err);
    r->choice = tmb_floats(tokens, c->n_experts, run->err);
    r->weight = tmb_floats(tokens, c->top_k, run->err);
    r->chosen = malloc((pairs + 1) * sizeof *r->chosen);
    sent->gate = tmb_floats(tokens, c->top_k, run->err);
    sent->token = malloc((pairs + 1) * sizeof *sent->token);
    sent->begin = calloc(c->n_experts + 2, sizeof *sent->begin);
    if (r->logits && r->choice && r->weight && r->chosen && sent->gate && sent->token &&
        sent->begin)
        return TMB_OK;
    return tmb_fail_memory(run->err, tokens * c->n_experts, "routing");
}

/* Which tokens each expert has. */
static void deal(const tmb_config *c, const tmb_routed *r, size_t tokens, tmb_sent *sent)
{
    size_t n = tokens * c->top_k;
    for (size_t i = 0; i < n; i++)
        sent->begin[r->chosen[i] + 1]++;
    for (size_t e = 0; e < c->n_experts; e++)
        sent->begin[e + 1] += sent->begin[e];
    for (size_t i = 0; i < n; i++) {
        size_t at = sent->begin[r->chosen[i]]++;
        sent->token[at] = (uint32_t)(i / c->top_k);
        sent->gate[at] = r->weight[i];
    }
    memmove(sent->begin + 1, sent->begin, c->n_experts * sizeof *sent->begin);
    sent->begin[0] = 0;
}

static tmb_status compute_logits(tmb_run *run, float *logits)
{
    tmb_decoder *d = run->d;
    const tmb_weight *w = &run->layer->router, *entered[] = {w};
    size_t tokens = run->tokens, n = d->config.n_experts;
    tmb_linear_seen seen = {.layer = run->layer->index,
                            .expert = -1,
                            .x = run->h,
                            .rows = tokens,
                            .in = d->config.hidden};
    const float *use;
    float *owned;
    TRY(tmb_enter(run, entered, 1, &seen, &use, &owned));
    tmb_product p = tmb_product_of(w, use, tokens, logits);
    tmb_status status = tmb_multiply_long(d, &p, run->err);
    free(owned);
    if (status || isfinite(d->ops->amax(logits, tokens * n))) return status;
    return tmb_fail(run->err, TMB_EDATA,
                    "%s: layer %d: a router logit is no finite number; the weights or the "
                    "inputs are damaged",
                    d->model->ckpt->path, run->layer->index);
}

tmb_status tmb_route_all(tmb_run *run, tmb_routed *r, tmb_sent *sent)
{
    tmb_decoder *d = run->d;
    const tmb_config *c = &d->config;
    routing t = {.run = run, .r = r};
    sent->routing = r;
    TRY(make_room(run, r, sent));
    if (!run->tokens) return TMB_OK;
    TRY(compute_logits(run, r->logits));
    tmb_each_row(d, run->tokens, route_row, &t);
    if (t.failed) return tmb_fail_memory(run->err, c->n_experts, "routing");
    r->ties = t.ties;
    tmb_router_seen shown = {.unit = run->layer->router.index,
                             .layer = run->layer->index,
                             .tokens = run->tokens,
                             .n_experts = c->n_experts,
                             .top_k = c->top_k,
                             .logits = r->logits,
                             .choice = r->choice,
                             .chosen = r->chosen,
                             .weight = r->weight,
                             .ties = r->ties};
    TRY(tmb_show_router(run, &shown));
    if (d->hooks.route) TRY(choose_again(&t, &shown));
    deal(c, r, run->tokens, sent);
    return TMB_OK;
}

void tmb_routed_free(tmb_routed *r, tmb_sent *sent)
{
    void *all[] = {r->logits,  r->choice,   r->weight,  r->chosen,
                   sent->gate, sent->token, sent->begin};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

tmb_status tmb_decoder_route(tmb_decoder *d, const float *h, size_t rows,
                             const tmb_observer *observer, tmb_err *err)
{
    static const tmb_observer nobody;
    tmb_routed routed = {.logits = NULL};
    tmb_sent sent = {.begin = NULL};
    if (!d->loaded || !d->loaded->sparse)
        return tmb_fail(err, TMB_EINTERNAL, "no layer with a router is loaded");
    if (d->loaded->hash)
        return tmb_fail(err, TMB_EUNAVAILABLE,
                        "layer %d sends tokens to experts by their ids, which a router alone does "
                        "not see",
                        d->loaded->index);
    float *x = tmb_floats(rows, d->config.hidden, err);
    if (!x) return TMB_ESYSTEM;
    memcpy(x, h, rows * d->config.hidden * sizeof *x);
    tmb_run run = {.d = d, .layer = d->loaded, .tokens = rows, .h = x, .err = err};
    run.observer = observer ? observer : &nobody;
    tmb_status status = tmb_route_all(&run, &routed, &sent);
    tmb_routed_free(&routed, &sent);
    free(x);
    return status;
}
