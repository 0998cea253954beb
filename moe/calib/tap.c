/* tap.c - what the forward pass shows, given to the statistics; padding left out. */
#include "config.h"
#include "moe/calib/tap.h"

#include <stdlib.h>
#include <string.h>

static tmb_status right_layer(const tmb_tap *t, int32_t layer, tmb_err *err)
{
    int32_t want = t->layer->index == TMB_STATS_HEAD ? -1 : t->layer->index;
    if (layer == want) return TMB_OK;
    return tmb_fail(err, TMB_EINTERNAL, "statistics of layer %d are shown layer %d", want, layer);
}

static tmb_status scratch(tmb_tap *t, size_t floats, tmb_err *err)
{
    if (floats <= t->rows_floats) return TMB_OK;
    free(t->rows);
    t->rows_floats = 0;
    t->rows = malloc(floats * sizeof *t->rows);
    if (!t->rows) return tmb_fail_memory(err, floats * sizeof *t->rows, "rows of activations");
    t->rows_floats = floats;
    return TMB_OK;
}

static bool counts(const tmb_tap *t, size_t token)
{
    return !t->counted || t->counted[token];
}

/* The rows of tokens that count, and their gates, packed into scratch. */
static tmb_status pack(tmb_tap *t, const tmb_linear_seen *seen, const float **x, const float **gate,
                       size_t *n, tmb_err *err)
{
    size_t in = (size_t)seen->in, k = 0;
    *x = seen->x;
    *gate = seen->gate;
    *n = seen->rows;
    if (!t->counted) return TMB_OK;
    TRY(scratch(t, seen->rows * (in + 1), err));
    float *gates = t->rows + seen->rows * in;
    for (size_t r = 0; r < seen->rows; r++) {
        if (!counts(t, seen->token ? seen->token[r] : r)) continue;
        memcpy(t->rows + k * in, seen->x + r * in, in * sizeof *t->rows);
        if (seen->gate) gates[k] = seen->gate[r];
        k++;
    }
    *x = t->rows;
    if (seen->gate) *gate = gates;
    *n = k;
    return TMB_OK;
}

static tmb_status on_linear(void *ctx, const tmb_linear_seen *seen, tmb_err *err)
{
    tmb_tap *t = ctx;
    const float *x, *gate;
    size_t n;
    TRY(right_layer(t, seen->layer, err));
    TRY(pack(t, seen, &x, &gate, &n, err));
    if (!n) return TMB_OK;
    for (uint32_t i = 0; i < seen->n_units; i++) {
        tmb_site_ref ref;
        if (!tmb_stats_find(t->layer, seen->units[i], &ref) || !ref.leader) continue;
        if (seen->in != t->layer->sites[ref.site].in)
            return tmb_fail(err, TMB_EINTERNAL, "%s: rows of %llu channels are shown",
                            t->layer->sites[ref.site].linears[0], (unsigned long long)seen->in);
        TRY(tmb_stats_feed(t->layer, ref.site, ref.entry, seen->shadow, x, n, (size_t)seen->in,
                           gate, err));
    }
    return TMB_OK;
}

static tmb_status on_router(void *ctx, const tmb_router_seen *seen, tmb_err *err)
{
    tmb_tap *t = ctx;
    const tmb_router_stats *r = t->layer->router;
    TRY(right_layer(t, seen->layer, err));
    if (!r || r->experts != seen->n_experts || r->top_k != seen->top_k)
        return tmb_fail(err, TMB_EINTERNAL, "layer %d: a router of %zu experts, top %zu is shown",
                        seen->layer, seen->n_experts, seen->top_k);
    /* Runs of tokens that count. */
    for (size_t at = 0; at < seen->tokens;) {
        size_t n = 0;
        while (at + n < seen->tokens && counts(t, at + n))
            n++;
        TRY(tmb_stats_feed_router(t->layer, seen->logits + at * seen->n_experts,
                                  seen->choice ? seen->choice + at * seen->n_experts : NULL,
                                  seen->chosen + at * seen->top_k,
                                  t->source ? t->source + at : NULL, n, err));
        at += n + 1;
    }
    return TMB_OK;
}

static tmb_status on_kv(void *ctx, const tmb_kv_seen *seen, tmb_err *err)
{
    tmb_tap *t = ctx;
    TRY(right_layer(t, seen->layer, err));
    for (size_t at = 0; at < seen->tokens;) {
        size_t n = 0;
        while (at + n < seen->tokens && counts(t, at + n))
            n++;
        tmb_stats_feed_kv(t->layer, seen->k + at * seen->k_width, n * seen->k_width,
                          seen->v ? seen->v + at * seen->v_width : NULL, n * seen->v_width);
        at += n + 1;
    }
    return TMB_OK;
}

tmb_observer tmb_tap_observer(tmb_tap *tap)
{
    return (tmb_observer){.linear = on_linear, .router = on_router, .kv = on_kv, .ctx = tap};
}

void tmb_tap_close(tmb_tap *tap)
{
    free(tap->rows);
    tap->rows = NULL;
    tap->rows_floats = 0;
}
