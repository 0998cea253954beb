/* stats.c - one layer's statistics: feeding, adding, giving back. */
#include "config.h"
#include "moe/calib/stats_internal.h"

#include "kernels/cpu/stat.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------ Linears, k and v
 */

tmb_status tmb_stats_feed(tmb_stats_layer *l, uint32_t site, uint32_t entry, bool shadow,
                          const float *x, size_t n, size_t stride, const float *gate, tmb_err *err)
{
    if (site >= l->n_sites || entry >= l->sites[site].n || (shadow && !l->sites[site].expert))
        return tmb_fail(err, TMB_EINTERNAL, "statistics of layer %d have no site %u, entry %u",
                        l->index, site, entry);
    tmb_site *s = &l->sites[site];
    tmb_accum_shape shape = tmb_site_shape(l, s);
    shape.stat = tmb_cpu_stat();
    return tmb_accum_feed(shadow ? &s->shadow[entry] : &s->native[entry], &shape, s->linears[0], x,
                          n, stride, gate, err);
}

static uint32_t largest(const float *x, size_t n, uint32_t most, uint64_t *nonfinite)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], 4);
        bits &= 0x7fffffff;
        if (bits >= TMB_STAT_LIMIT)
            ++*nonfinite;
        else if (bits > most)
            most = bits;
    }
    return most;
}

void tmb_stats_feed_kv(tmb_stats_layer *l, const float *k, size_t k_n, const float *v, size_t v_n)
{
    l->has_kv = true;
    l->k_amax = largest(k, k_n, l->k_amax, &l->kv_nonfinite);
    if (!v) return;
    l->has_v = true;
    l->v_amax = largest(v, v_n, l->v_amax, &l->kv_nonfinite);
}

/* ------------------------------------------------------------------------------ routers */

tmb_status tmb_router_room(tmb_stats_layer *l, uint32_t experts, uint32_t top_k, uint32_t sources,
                           tmb_err *err)
{
    tmb_router_stats *r = tmb_arena_alloc(&l->arena, sizeof *r);
    if (!r) return tmb_fail_memory(err, sizeof *r, "statistics of a router");
    r->experts = experts;
    r->top_k = top_k;
    r->sources = sources;
    r->load = tmb_arena_alloc(&l->arena, experts * sizeof *r->load);
    r->pairs = tmb_arena_alloc(&l->arena, tmb_router_pairs(experts) * sizeof *r->pairs);
    r->positive = tmb_arena_alloc(&l->arena, TMB_HIST_BINS * sizeof *r->positive);
    r->negative = tmb_arena_alloc(&l->arena, TMB_HIST_BINS * sizeof *r->negative);
    r->margin = tmb_arena_alloc(&l->arena, TMB_HIST_BINS * sizeof *r->margin);
    r->by_source = tmb_arena_alloc(&l->arena, (size_t)sources * experts * sizeof *r->by_source);
    if (!r->load || !r->pairs || !r->positive || !r->negative || !r->margin || !r->by_source)
        return tmb_fail_memory(err, tmb_router_pairs(experts) * 8, "statistics of a router");
    l->router = r;
    return TMB_OK;
}

static void feed_logits(tmb_router_stats *r, const float *logits)
{
    for (uint32_t e = 0; e < r->experts; e++) {
        uint32_t bits;
        memcpy(&bits, &logits[e], 4);
        uint32_t a = bits & 0x7fffffff;
        if (a >= TMB_STAT_LIMIT)
            r->nonfinite++;
        else if (bits >> 31 && a)
            r->negative[a >> 20]++;
        else
            r->positive[a >> 20]++;
    }
}

/* What separates the last chosen from the best of the others. */
static void feed_margin(tmb_router_stats *r, const float *choice, const uint8_t *is_chosen)
{
    float last = INFINITY, best = -INFINITY;
    for (uint32_t e = 0; e < r->experts; e++) {
        if (is_chosen[e])
            last = choice[e] < last ? choice[e] : last;
        else
            best = choice[e] > best ? choice[e] : best;
    }
    float margin = last - best;
    uint32_t bits;
    if (best == -INFINITY) {
        r->unrivalled++;
        return;
    }
    if (!(margin > 0)) margin = 0; /* equal, or a tie that rounding turned round */
    memcpy(&bits, &margin, 4);
    r->margin[bits >> 20]++;
    r->ties += margin == 0;
}

static tmb_status feed_chosen(tmb_stats_layer *l, const uint32_t *chosen, uint32_t source,
                              uint8_t *is_chosen, tmb_err *err)
{
    tmb_router_stats *r = l->router;
    for (uint32_t i = 0; i < r->top_k; i++) {
        uint32_t e = chosen[i];
        if (e >= r->experts || is_chosen[e] || source >= r->sources)
            return tmb_fail(err, TMB_EINTERNAL,
                            "layer %d: a token of source %u chose expert %u of %u%s", l->index,
                            source, e, r->experts, e < r->experts && is_chosen[e] ? " twice" : "");
        is_chosen[e] = 1;
        r->load[e]++;
        r->by_source[(size_t)source * r->experts + e]++;
        for (uint32_t j = 0; j <= i; j++) {
            uint32_t a = chosen[j] < e ? chosen[j] : e, b = chosen[j] < e ? e : chosen[j];
            r->pairs[tmb_router_pair(r->experts, a, b)]++;
        }
    }
    return TMB_OK;
}

tmb_status tmb_stats_feed_router(tmb_stats_layer *l, const float *logits, const float *choice,
                                 const uint32_t *chosen, const uint32_t *source, size_t n,
                                 tmb_err *err)
{
    tmb_router_stats *r = l->router;
    if (!r) return tmb_fail(err, TMB_EINTERNAL, "layer %d has no router to measure", l->index);
    uint8_t *is_chosen = malloc(r->experts);
    if (!is_chosen) return tmb_fail_memory(err, r->experts, "statistics of a router");
    tmb_status status = TMB_OK;
    if (!choice) choice = logits;
    for (size_t t = 0; t < n && !status; t++) {
        memset(is_chosen, 0, r->experts);
        status = feed_chosen(l, chosen + t * r->top_k, source ? source[t] : 0, is_chosen, err);
        if (status) break;
        feed_logits(r, logits + t * r->experts);
        feed_margin(r, choice + t * r->experts, is_chosen);
        r->tokens++;
    }
    free(is_chosen);
    return status;
}

/* ------------------------------------------------------------------------------ adding */

static tmb_status differ(const tmb_stats_layer *l, const char *what, tmb_err *err)
{
    return tmb_fail(err, TMB_EDATA,
                    "layer %d: the two statistics differ in %s; both must come from "
                    "one model and one kind of statistics",
                    l->index, what);
}

static void add_counts(uint64_t *into, const uint64_t *from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        into[i] += from[i];
}

static tmb_status add_router(tmb_stats_layer *l, const tmb_router_stats *from, tmb_err *err)
{
    tmb_router_stats *r = l->router;
    if (!r != !from) return differ(l, "having a router", err);
    if (!r) return TMB_OK;
    if (r->experts != from->experts || r->top_k != from->top_k || r->sources != from->sources)
        return differ(l, "experts, top-k or sources of data", err);
    r->tokens += from->tokens;
    r->ties += from->ties;
    r->unrivalled += from->unrivalled;
    r->nonfinite += from->nonfinite;
    add_counts(r->load, from->load, r->experts);
    add_counts(r->pairs, from->pairs, tmb_router_pairs(r->experts));
    add_counts(r->positive, from->positive, TMB_HIST_BINS);
    add_counts(r->negative, from->negative, TMB_HIST_BINS);
    add_counts(r->margin, from->margin, TMB_HIST_BINS);
    add_counts(r->by_source, from->by_source, (size_t)r->sources * r->experts);
    return TMB_OK;
}

tmb_status tmb_stats_layer_add(tmb_stats_layer *into, const tmb_stats_layer *from, tmb_err *err)
{
    if (into->index != from->index || into->n_sites != from->n_sites)
        return differ(into, "their Linears", err);
    if (into->moments != from->moments) return differ(into, "second moments (hessian)", err);
    for (uint32_t s = 0; s < into->n_sites; s++) {
        tmb_site *a = &into->sites[s];
        const tmb_site *b = &from->sites[s];
        tmb_accum_shape shape = tmb_site_shape(into, a);
        if (strcmp(a->name, b->name) || a->n != b->n || a->in != b->in || a->expert != b->expert)
            return differ(into, "their Linears", err);
        for (uint32_t e = 0; e < a->n; e++) {
            TRY(tmb_accum_add(&a->native[e], &b->native[e], &shape, a->linears[0], err));
            if (a->expert)
                TRY(tmb_accum_add(&a->shadow[e], &b->shadow[e], &shape, a->linears[0], err));
        }
    }
    into->has_kv |= from->has_kv;
    into->has_v |= from->has_v;
    into->k_amax = from->k_amax > into->k_amax ? from->k_amax : into->k_amax;
    into->v_amax = from->v_amax > into->v_amax ? from->v_amax : into->v_amax;
    into->kv_nonfinite += from->kv_nonfinite;
    return add_router(into, from->router, err);
}

void tmb_stats_layer_free(tmb_stats_layer *l)
{
    if (!l) return;
    for (uint32_t s = 0; s < l->n_sites; s++)
        for (uint32_t e = 0; e < l->sites[s].n; e++) {
            if (l->sites[s].native) tmb_accum_free(&l->sites[s].native[e]);
            if (l->sites[s].shadow) tmb_accum_free(&l->sites[s].shadow[e]);
        }
    tmb_arena_free(&l->arena);
    free(l);
}
