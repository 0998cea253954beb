/* compare.c - the distance of two sets of data, layer by layer. */
#include "config.h"
#include "moe/calib/compare.h"

#include "moe/calib/coverage.h"
#include "moe/calib/scales.h"

#include <math.h>
#include <string.h>

tmb_divergence tmb_divergence_of(const uint64_t *a, const uint64_t *b, size_t n,
                                 const uint64_t observed[2])
{
    double na = 0, nb = 0, cells = 0, j = 0;
    for (size_t i = 0; i < n; i++) {
        na += (double)a[i];
        nb += (double)b[i];
        cells += a[i] || b[i];
    }
    if (!(na > 0) || !(nb > 0) || !observed[0] || !observed[1]) return (tmb_divergence){0, 0};
    for (size_t i = 0; i < n; i++) {
        if (!a[i] && !b[i]) continue;
        double p = ((double)a[i] + 0.5) / (na + 0.5 * cells);
        double q = ((double)b[i] + 0.5) / (nb + 0.5 * cells);
        j += (p - q) * log(p / q);
    }
    return (tmb_divergence){j, (cells - 1) * (1 / (double)observed[0] + 1 / (double)observed[1])};
}

bool tmb_divergence_matters(tmb_divergence d)
{
    return d.j > 0.02 && d.j > 4 * d.noise;
}

static tmb_status differ(const tmb_stats_layer *a, const char *what, tmb_err *err)
{
    return tmb_fail(err, TMB_EDATA, "layer %d: the statistics differ in %s and cannot be compared",
                    a->index, what);
}

enum { OCTAVES = TMB_HIST_BINS / 8 };

static void add_octaves(uint64_t *octaves, const uint64_t *bins)
{
    for (int i = 0; bins && i < TMB_HIST_BINS; i++)
        octaves[i / 8] += bins[i];
}

/* All entries of a site in one histogram; the largest amax. */
static uint32_t pool(const tmb_site *site, uint64_t octaves[OCTAVES], uint64_t *tokens)
{
    uint32_t amax = 0;
    memset(octaves, 0, OCTAVES * sizeof *octaves);
    *tokens = 0;
    for (uint32_t e = 0; e < site->n; e++) {
        const tmb_accum *a = &site->native[e];
        amax = a->amax > amax ? a->amax : amax;
        *tokens += a->tokens;
        add_octaves(octaves, a->values);
    }
    return amax;
}

static tmb_status compare_sites(const tmb_stats_layer *a, const tmb_stats_layer *b,
                                tmb_layer_shift *out, tmb_err *err)
{
    uint64_t x[OCTAVES], y[OCTAVES], observed[2];
    if (a->n_sites != b->n_sites) return differ(a, "their Linears", err);
    for (uint32_t s = 0; s < a->n_sites; s++) {
        const tmb_site *p = &a->sites[s], *q = &b->sites[s];
        if (strcmp(p->name, q->name) || p->n != q->n || p->in != q->in)
            return differ(a, "their Linears", err);
        float u = tmb_bits_float(pool(p, x, &observed[0]));
        float v = tmb_bits_float(pool(q, y, &observed[1]));
        tmb_divergence d = tmb_divergence_of(x, y, OCTAVES, observed);
        if (!out->site || d.j > out->values.j) {
            out->values = d;
            out->site = p->name;
        }
        if (u > 0 && (double)v / (double)u > out->amax) out->amax = (double)v / (double)u;
        if (!s) {
            out->tokens[0] = p->native[0].tokens;
            out->tokens[1] = q->native[0].tokens;
        }
    }
    return TMB_OK;
}

tmb_status tmb_layer_compare(const tmb_stats_layer *a, const tmb_stats_layer *b,
                             uint64_t min_tokens, tmb_layer_shift *out, tmb_err *err)
{
    memset(out, 0, sizeof *out);
    out->layer = a->index;
    TRY(compare_sites(a, b, out, err));
    const tmb_router_stats *p = a->router, *q = b->router;
    if (!p != !q || (p && (p->experts != q->experts || p->top_k != q->top_k)))
        return differ(a, "their routers", err);
    if (p) {
        uint64_t x[3 * OCTAVES] = {0}, y[3 * OCTAVES] = {0};
        out->router = true;
        out->tokens[0] = p->tokens;
        out->tokens[1] = q->tokens;
        add_octaves(x, p->positive);
        add_octaves(x + OCTAVES, p->negative);
        add_octaves(x + 2 * OCTAVES, p->margin);
        add_octaves(y, q->positive);
        add_octaves(y + OCTAVES, q->negative);
        add_octaves(y + 2 * OCTAVES, q->margin);
        out->load = tmb_divergence_of(p->load, q->load, p->experts, out->tokens);
        out->logits = tmb_divergence_of(x, y, 2 * OCTAVES, out->tokens);
        out->margin = tmb_divergence_of(x + 2 * OCTAVES, y + 2 * OCTAVES, OCTAVES, out->tokens);
        out->starved[0] = (uint32_t)tmb_starved(p->load, p->experts, min_tokens, NULL);
        out->starved[1] = (uint32_t)tmb_starved(q->load, q->experts, min_tokens, NULL);
    }
    out->matters = tmb_divergence_matters(out->load) || tmb_divergence_matters(out->logits) ||
                   tmb_divergence_matters(out->values);
    return TMB_OK;
}
