/* enter.c - what the observer is shown, and the door of a Linear: its rows may be changed by the
 * hook. */
#include "config.h"
#include "moe/infer/decoder.h"

#include "kernels/base/clock.h"

#include <stdlib.h>

enum { SHARED_MAX = 6 }; /* Linears that one input enters */

static tmb_status count(const tmb_run *run, double began, tmb_status status)
{
    run->d->spent.shown += tmb_seconds() - began;
    return status;
}

static tmb_status show_linear(const tmb_run *run, const tmb_linear_seen *seen)
{
    const tmb_observer *o = run->observer;
    double began = tmb_seconds();
    return o->linear ? count(run, began, o->linear(o->ctx, seen, run->err)) : TMB_OK;
}

tmb_status tmb_show_router(const tmb_run *run, const tmb_router_seen *seen)
{
    const tmb_observer *o = run->observer;
    double began = tmb_seconds();
    return o->router ? count(run, began, o->router(o->ctx, seen, run->err)) : TMB_OK;
}

tmb_status tmb_show_kv(const tmb_run *run, const tmb_kv_seen *seen)
{
    const tmb_observer *o = run->observer;
    double began = tmb_seconds();
    return o->kv ? count(run, began, o->kv(o->ctx, seen, run->err)) : TMB_OK;
}

tmb_status tmb_enter(const tmb_run *run, const tmb_weight *const *weights, size_t n,
                     const tmb_linear_seen *entering, const float **use, float **owned)
{
    const tmb_observer *o = run->observer;
    const tmb_hooks *hooks = &run->d->hooks;
    uint32_t units[SHARED_MAX];
    tmb_linear_seen seen = *entering;
    *use = seen.x;
    *owned = NULL;
    if (!o->linear && !hooks->activation) return TMB_OK;
    seen.n_units = 0;
    for (size_t i = 0; i < n && i < SHARED_MAX; i++)
        if (weights[i]->out && weights[i]->index != TMB_NONE)
            units[seen.n_units++] = weights[i]->index;
    seen.units = units;
    if (!seen.n_units || !seen.rows) return TMB_OK;
    TRY(show_linear(run, &seen));
    if (!hooks->activation || seen.shadow) return TMB_OK;
    float *y = tmb_floats(seen.rows, seen.in, run->err);
    bool changed = false;
    if (!y) return TMB_ESYSTEM;
    tmb_status status = hooks->activation(hooks->ctx, &seen, y, &changed, run->err);
    if (!status && changed) {
        *use = *owned = y;
        return TMB_OK;
    }
    free(y);
    return status;
}

tmb_linear_seen tmb_seen_of(const tmb_run *run, const float *x, size_t in)
{
    return (tmb_linear_seen){
        .layer = run->layer->index, .expert = -1, .x = x, .rows = run->tokens, .in = in};
}

tmb_status tmb_enter_one(tmb_run *run, const tmb_weight *w, const float *x, float *y)
{
    const tmb_weight *entered[] = {w};
    tmb_linear_seen seen = tmb_seen_of(run, x, w->in);
    const float *use;
    float *owned;
    TRY(tmb_enter(run, entered, 1, &seen, &use, &owned));
    tmb_status status = tmb_project(run, w, use, run->tokens, y);
    free(owned);
    return status;
}
