/* experts.c - the second half of a layer: a dense MLP, or a router with shared and routed experts.
 *
 * Each expert takes all of its rows of a step at once, and several experts make one matrix product.
 * A token's experts are added in ascending order, then the shared ones. */
#include "config.h"
#include "moe/infer/dispatch.h"

#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ the rows of a step */

/* What computing a step takes. */
typedef struct step {
    tmb_run *run;
    const tmb_rows *rows;
    bool shadow;
    size_t n, width;       /* slots; outputs of gate and up, the same in all of them */
    float *gate, *up;      /* [rows, width] */
    float **owned;         /* [n]: of hooks */
    const float **use;     /* [n] */
    tmb_product *products; /* [2 * n] */
} step;

static const tmb_weight *weights_of(const step *s, size_t i)
{
    return &s->run->layer->experts[tmb_slot_expert(s->run->d, s->rows->first + i) * TMB_MLP];
}

static size_t rows_of(const step *s, size_t i)
{
    return s->rows->begin[i + 1] - s->rows->begin[i];
}

/* What enters the experts' Linears from `which` on: rows of x, `in` numbers each. */
static tmb_status enter_all(step *s, int which, const float *x, size_t in)
{
    const tmb_rows *rows = s->rows;
    for (size_t i = 0; i < s->n; i++) {
        size_t at = rows->begin[i];
        if (!rows_of(s, i)) continue;
        const tmb_weight *w = weights_of(s, i), *both[] = {&w[which], &w[TMB_UP]};
        tmb_linear_seen seen = {.layer = s->run->layer->index,
                                .expert = (int32_t)tmb_slot_expert(s->run->d, rows->first + i),
                                .x = x + at * in,
                                .rows = rows_of(s, i),
                                .in = in,
                                .token = rows->token ? rows->token + at : NULL,
                                .gate = rows->gate ? rows->gate + at : NULL,
                                .shadow = s->shadow};
        free(s->owned[i]);
        s->owned[i] = NULL;
        TRY(tmb_enter(s->run, both, which == TMB_GATE ? 2 : 1, &seen, &s->use[i], &s->owned[i]));
    }
    return TMB_OK;
}

/* x becomes what the experts give; of a shadow it is not computed. */
static tmb_status compute(step *s, float *x)
{
    tmb_run *run = s->run;
    tmb_decoder *d = run->d;
    size_t hidden = d->config.expert_in, n = 0;
    TRY(enter_all(s, TMB_GATE, x, hidden));
    for (size_t i = 0; i < s->n; i++) {
        size_t rows = rows_of(s, i), at = s->rows->begin[i] * s->width;
        if (!rows) continue;
        const tmb_weight *w = weights_of(s, i);
        s->products[n++] = tmb_product_of(&w[TMB_GATE], s->use[i], rows, s->gate + at);
        if (w[TMB_UP].out)
            s->products[n++] = tmb_product_of(&w[TMB_UP], s->use[i], rows, s->up + at);
    }
    TRY(tmb_multiply(d, s->products, n, run->err));
    tmb_gate_rows(d, s->gate, s->up, s->rows->begin[s->n], s->width);
    TRY(enter_all(s, TMB_DOWN, s->gate, s->width));
    if (s->shadow) return TMB_OK;
    n = 0;
    for (size_t i = 0; i < s->n; i++)
        if (rows_of(s, i))
            s->products[n++] = tmb_product_of(&weights_of(s, i)[TMB_DOWN], s->use[i], rows_of(s, i),
                                              x + s->rows->begin[i] * hidden);
    return tmb_multiply(d, s->products, n, run->err);
}

static tmb_status run_rows(tmb_run *run, tmb_rows *rows, bool shadow)
{
    step s = {.run = run, .rows = rows, .shadow = shadow, .n = rows->end - rows->first};
    size_t n = rows->begin[s.n];
    if (!n) return TMB_OK;
    s.width = weights_of(&s, 0)->out;
    s.gate = tmb_floats(n, s.width, run->err);
    s.up = tmb_floats(n, s.width, run->err);
    s.owned = calloc(s.n, sizeof(float *));
    s.use = calloc(s.n, sizeof(float *));
    s.products = malloc(2 * s.n * sizeof *s.products);
    tmb_status status = s.gate && s.up && s.owned && s.use && s.products
                            ? compute(&s, rows->x)
                            : tmb_fail_memory(run->err, n * s.width, "a step of experts");
    for (size_t i = 0; s.owned && i < s.n; i++)
        free(s.owned[i]);
    free(s.products);
    free(s.use);
    free(s.owned);
    free(s.up);
    free(s.gate);
    return status;
}

/* ------------------------------------------------------------------ routed experts */

/* Routed rows, and the rows that shadow experts are shown. */
enum { ROUTED, SHADOW, FLOWS };

static tmb_status run_flow(tmb_flow *flow, size_t end, float *out, bool shadow)
{
    while (tmb_flow_next(flow, end)) {
        tmb_rows rows = {.x = NULL};
        TRY(tmb_flow_there(flow, &rows));
        TRY(run_rows(flow->run, &rows, shadow));
        TRY(tmb_flow_back(flow, &rows, out));
    }
    return TMB_OK;
}

/* Slots that are held at a time; of them those that anybody sends something to are read. */
static tmb_status run_groups(tmb_run *run, tmb_flow flows[FLOWS], int n_flows, float *out)
{
    tmb_decoder *d = run->d;
    size_t slots = tmb_slots(d);
    for (size_t first = 0; first < slots; first += d->group) {
        size_t end = slots - first < d->group ? slots : first + d->group;
        bool *wanted = calloc(end - first, sizeof *wanted);
        if (!wanted) return tmb_fail_memory(run->err, end - first, "a group of experts");
        for (int f = 0; f < n_flows; f++)
            for (size_t s = first; s < end; s++)
                wanted[s - first] |= tmb_flow_load(&flows[f], s) > 0;
        tmb_status status = tmb_experts_load(d, first, end, wanted, run->err);
        free(wanted);
        for (int f = 0; !status && f < n_flows; f++)
            status = run_flow(&flows[f], end, f == SHADOW ? NULL : out, f == SHADOW);
        TRY(status);
    }
    return TMB_OK;
}

/* Every shadow expert has all tokens. */
static tmb_status cast_shadows(const tmb_run *run, tmb_sent *shadow)
{
    size_t n = run->d->config.n_experts;
    shadow->begin = calloc(n + 1, sizeof *shadow->begin);
    if (!shadow->begin) return tmb_fail_memory(run->err, n * sizeof *shadow->begin, "shadows");
    for (size_t e = 0; e < n; e++)
        shadow->begin[e + 1] = shadow->begin[e] + (run->batch->shadow[e] ? run->tokens : 0);
    return TMB_OK;
}

/* out [tokens, hidden] += what the routed experts give; other ranks' rows too pass through ours. */
static tmb_status run_routed(tmb_run *run, const tmb_sent *sent, float *out)
{
    tmb_flow flows[FLOWS] = {{.run = NULL}, {.run = NULL}};
    tmb_sent shadow = {.routing = sent->routing};
    int n = run->batch->shadow ? FLOWS : ROUTED + 1;
    tmb_status status = tmb_flow_open(&flows[ROUTED], run, sent);
    if (!status && n > SHADOW) status = cast_shadows(run, &shadow);
    if (!status && n > SHADOW) status = tmb_flow_open(&flows[SHADOW], run, &shadow);
    if (!status) status = run_groups(run, flows, n, out);
    for (int f = 0; f < n; f++)
        tmb_flow_close(&flows[f]);
    free(shadow.begin);
    return status;
}

/* ------------------------------------------------------------------ the whole half */

/* out [tokens, hidden] = the shared experts' output, each row by its gate when there is one. */
static tmb_status run_shared(tmb_run *run, float *out)
{
    tmb_decoder *d = run->d;
    const tmb_weight *w = &run->layer->shared_gate, *entered[] = {w};
    size_t n = run->tokens, hidden = d->config.hidden;
    TRY(tmb_run_whole(run, out));
    if (!w->out) return TMB_OK;
    float *gate = tmb_floats(n, 1, run->err), *owned = NULL;
    const float *use;
    tmb_linear_seen seen = {
        .layer = run->layer->index, .expert = -1, .x = run->h, .rows = n, .in = hidden};
    tmb_status status = gate ? tmb_enter(run, entered, 1, &seen, &use, &owned) : TMB_ESYSTEM;
    if (!status) {
        tmb_product p = tmb_product_of(w, use, n, gate);
        status = tmb_multiply_long(d, &p, run->err);
    }
    if (!status) d->nn->sigmoid(gate, gate, n);
    for (size_t i = 0; !status && i < n; i++)
        d->nn->scale(out + i * hidden, out + i * hidden, gate[i], hidden);
    free(owned);
    free(gate);
    return status;
}

/* out [tokens, hidden] = what routed experts give, between the latent projections when there are.
 */
static tmb_status run_experts(tmb_run *run, const tmb_sent *sent, float *out)
{
    const tmb_config *c = &run->d->config;
    const tmb_weight *latent = run->layer->latent;
    size_t n = run->tokens;
    run->expert_x = run->h;
    if (!c->latent) {
        memset(out, 0, n * c->hidden * sizeof *out);
        return run_routed(run, sent, out);
    }
    float *in = tmb_floats(n, c->latent, run->err), *sum = tmb_floats(n, c->latent, run->err);
    tmb_status status = in && sum ? TMB_OK : TMB_ESYSTEM;
    if (!status && n) status = tmb_enter_one(run, &latent[0], run->h, in);
    if (!status) {
        memset(sum, 0, n * c->latent * sizeof *sum);
        run->expert_x = in;
        status = run_routed(run, sent, sum);
    }
    if (!status && n) status = tmb_enter_one(run, &latent[1], sum, out);
    free(in);
    free(sum);
    return status;
}

static tmb_status run_sparse(tmb_run *run, float *out)
{
    tmb_routed routing = {.logits = NULL};
    tmb_sent sent = {.begin = NULL};
    size_t n = run->tokens, hidden = run->d->config.hidden;
    bool has_shared = run->layer->mlp[TMB_GATE].out && n;
    float *shared = has_shared ? tmb_floats(n, hidden, run->err) : NULL;
    tmb_status status = shared || !has_shared ? tmb_route_all(run, &routing, &sent) : TMB_ESYSTEM;
    if (!status && shared) status = run_shared(run, shared);
    if (!status) status = run_experts(run, &sent, out);
    if (!status && shared) run->d->nn->add_scaled(out, shared, 1.0f, n * hidden);
    tmb_routed_free(&routing, &sent);
    free(shared);
    return status;
}

tmb_status tmb_run_mlp(tmb_run *run, float *out)
{
    return run->layer->sparse ? run_sparse(run, out) : tmb_run_whole(run, out);
}
