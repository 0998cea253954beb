/* diagnosis.c - making and giving back a diagnosis; bins of margins. */
#include "config.h"
#include "moe/diagnose/diagnosis.h"

#include <math.h>
#include <stdlib.h>

enum { LEAST = -16, STEPS = 4 }; /* the first octave, bins an octave */

double tmb_margin_edge(size_t bin)
{
    return bin < 2 ? 0.0 : exp2((double)(bin - 1) / STEPS + LEAST);
}

size_t tmb_margin_bin(double margin)
{
    if (!(margin > 0)) return 0;
    double at = floor((log2(margin) - LEAST) * STEPS) + 1;
    if (at < 1) at = 1;
    if (at > TMB_MARGIN_BINS - 1) at = TMB_MARGIN_BINS - 1;
    size_t bin = (size_t)at; /* log2 may be off by one ulp at an edge */
    if (bin + 1 < TMB_MARGIN_BINS && margin >= tmb_margin_edge(bin + 1)) return bin + 1;
    return bin > 1 && margin < tmb_margin_edge(bin) ? bin - 1 : bin;
}

tmb_diagnosis *tmb_diagnosis_new(size_t layers)
{
    tmb_diagnosis *d = calloc(1, sizeof *d);
    if (!d) return NULL;
    d->layers = tmb_arena_alloc(&d->arena, (layers + 1) * sizeof *d->layers);
    if (!d->layers) {
        free(d);
        return NULL;
    }
    d->n_layers = layers;
    tmb_interval none = tmb_interval_none();
    for (size_t l = 0; l < layers; l++) {
        d->layers[l].layer = (int)l;
        d->layers[l].noise_margin = none.value;
        for (int m = 0; m < TMB_METRICS; m++)
            d->layers[l].metrics[m] = none;
    }
    for (int m = 0; m < TMB_METRICS; m++)
        d->overall[m] = none;
    d->noise.set_match = d->noise.kl = none;
    d->verdict.advised_set_match = d->verdict.advised_kl = none;
    d->replay.value = d->replay.selection = d->replay.interaction = none;
    for (int i = 0; i < 4; i++)
        d->replay.kl[i / 2][i % 2] = none;
    return d;
}

tmb_status tmb_diagnosis_sparse(tmb_diagnosis *d, size_t l, size_t n_experts, size_t top_k,
                                tmb_err *err)
{
    tmb_diag_layer *layer = &d->layers[l];
    layer->margins = tmb_arena_alloc(&d->arena, sizeof *layer->margins);
    layer->experts = tmb_arena_alloc(&d->arena, n_experts * sizeof *layer->experts);
    if (!layer->margins || !layer->experts)
        return tmb_fail_memory(err, n_experts * sizeof *layer->experts, "a layer's experts");
    for (size_t e = 0; e < n_experts; e++)
        layer->experts[e].weight_error = (double)NAN;
    d->n_sparse += !layer->sparse;
    layer->sparse = true;
    layer->n_experts = n_experts;
    layer->top_k = top_k;
    return TMB_OK;
}

void tmb_diagnosis_free(tmb_diagnosis *d)
{
    if (!d) return;
    tmb_arena_free(&d->arena);
    free(d);
}
