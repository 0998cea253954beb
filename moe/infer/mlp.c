/* mlp.c - gate, up and down for all tokens: a dense layer's MLP, or the shared experts. */
#include "config.h"
#include "moe/infer/decoder.h"

#include <math.h>
#include <stdlib.h>

typedef struct gating {
    const tmb_decoder *d;
    float *gate, *up;
    size_t width;
} gating;

static void swiglu_limited(const tmb_decoder *d, float *gate, float *up, size_t n)
{
    float limit = d->config.swiglu_limit;
    for (size_t i = 0; i < n; i++) {
        gate[i] = fminf(gate[i], limit);
        up[i] = fmaxf(fminf(up[i], limit), -limit);
    }
    d->nn->swiglu(gate, up, n);
}

static void gate_row(void *ctx, size_t i)
{
    const gating *g = ctx;
    const tmb_decoder *d = g->d;
    tmb_activation act = d->config.rules->activation;
    if (act == TMB_ACTIVATION_RELU2)
        d->nn->relu2(g->gate + i * g->width, g->width);
    else if (act == TMB_ACTIVATION_CLAMPED)
        d->nn->swiglu_clamped(g->gate + i * g->width, g->up + i * g->width, g->width,
                              d->config.swiglu_alpha, d->config.swiglu_limit);
    else if (act == TMB_ACTIVATION_LIMITED)
        swiglu_limited(d, g->gate + i * g->width, g->up + i * g->width, g->width);
    else
        d->nn->swiglu(g->gate + i * g->width, g->up + i * g->width, g->width);
}

void tmb_gate_rows(const tmb_decoder *d, float *gate, float *up, size_t rows, size_t width)
{
    gating g = {d, gate, up, width};
    tmb_each_row(d, rows, gate_row, &g);
}

tmb_status tmb_run_whole(tmb_run *run, float *y)
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
    tmb_product p[] = {tmb_product_of(&w[TMB_GATE], use, n, gate),
                       tmb_product_of(&w[TMB_UP], use, n, up)};
    for (int i = 0; !status && i < (w[TMB_UP].out ? 2 : 1); i++)
        status = tmb_multiply_long(d, &p[i], run->err);
    free(owned);
    owned = NULL;
    if (!status) {
        tmb_gate_rows(d, gate, up, n, width);
        seen.x = gate;
        seen.in = width;
        status = tmb_enter(run, down, 1, &seen, &use, &owned);
    }
    p[0] = tmb_product_of(&w[TMB_DOWN], use, n, y);
    if (!status) status = tmb_multiply_long(d, &p[0], run->err);
    free(owned);
    free(up);
    free(gate);
    return status;
}
