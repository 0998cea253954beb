/* suspects.c - from what differs to what is worth running alone.
 *
 * Every part that differs anywhere is a suspect.  So is a layer, or a routed expert, whose weights
 * are changed far more than those of its peers: over FAR times the median of the layers (experts)
 * that are changed at all, or changed where its peers are not. */
#include "config.h"
#include "moe/diagnose/cause_internal.h"

#include <stdlib.h>
#include <string.h>

enum { FAR = 4, OUTLIERS = 8, DEEP_LAYERS = 16 };

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The median of x [n], which is sorted; 0 of nothing. */
static double median(double *x, size_t n)
{
    qsort(x, n, sizeof *x, ascending);
    return n ? x[(n - 1) / 2] : 0;
}

int tmb_cause_layers(const tmb_inquest *q, tmb_mix_part part, int *list)
{
    int n = 0;
    for (int l = 0; l < q->screen.layers; l++)
        if (tmb_screen_differs(tmb_screen_at(&q->screen, l, part))) list[n++] = l;
    return n;
}

static void add(tmb_inquest *q, tmb_mix_part part, int layer, int expert, bool outlier)
{
    if (q->n_suspects < TMB_SUSPECTS)
        q->suspects[q->n_suspects++] = (tmb_suspect){.part = part,
                                                     .layer = layer,
                                                     .expert = expert,
                                                     .outlier = outlier,
                                                     .alone = -1,
                                                     .restored = -1};
}

static double error_of(const tmb_inquest *q, tmb_mix_part part, int layer)
{
    const tmb_screened *s = tmb_screen_at(&q->screen, layer, part);
    return tmb_screen_error(s->error2, s->norm2);
}

/* Layers far from their peers; with deep the most changed ones whatever their peers. */
static void add_layers(tmb_inquest *q, tmb_mix_part part, const int *layers, int n, double *errors,
                       bool deep)
{
    bool taken[TMB_SUSPECTS] = {false};
    for (int i = 0; i < n; i++)
        errors[i] = error_of(q, part, layers[i]);
    double typical = median(errors, (size_t)n);
    for (int k = 0; n > 1 && k < (deep ? DEEP_LAYERS : OUTLIERS); k++) {
        int best = -1;
        double most = deep ? -1 : FAR * typical;
        for (int i = 0; i < n; i++) {
            double e = error_of(q, part, layers[i]);
            if (i < TMB_SUSPECTS && !taken[i] && e > most) {
                best = i;
                most = e;
            }
        }
        if (best < 0) break;
        taken[best] = true;
        add(q, part, layers[best], -1, error_of(q, part, layers[best]) > FAR * typical);
    }
}

static size_t changed_experts(const tmb_inquest *q, int layer)
{
    size_t changed = 0;
    for (size_t i = 0; i < q->screen.n_experts; i++)
        changed += q->screen.experts[(size_t)layer * q->screen.n_experts + i].error2 > 0;
    return changed;
}

/* Experts of one layer that are far from their peers. */
static void add_experts(tmb_inquest *q, int layer, double *errors)
{
    const tmb_screened_expert *e = &q->screen.experts[(size_t)layer * q->screen.n_experts];
    size_t changed = 0, n = q->screen.n_experts;
    for (size_t i = 0; i < n; i++)
        if (e[i].error2 > 0) errors[changed++] = tmb_screen_error(e[i].error2, e[i].norm2);
    size_t quiet = n - changed;
    double typical = quiet >= changed ? 0 : median(errors, changed);
    for (size_t i = 0, found = 0; i < n && found < OUTLIERS; i++) {
        double own = tmb_screen_error(e[i].error2, e[i].norm2);
        if (!(own > FAR * typical) && !e[i].dead) continue;
        add(q, TMB_MIX_EXPERT, layer, (int)i, true);
        found++;
    }
}

static bool outside_differs(const tmb_inquest *q, tmb_mix_part part)
{
    return tmb_screen_differs(tmb_screen_at(&q->screen, -1, part));
}

tmb_status tmb_cause_suspect(tmb_inquest *q, tmb_err *err)
{
    size_t layers = (size_t)q->screen.layers, experts = q->screen.n_experts;
    int *list = malloc((layers + 1) * sizeof *list);
    double *errors = malloc((layers + experts + 1) * sizeof *errors);
    tmb_status status = TMB_OK;
    if (!list || !errors) status = tmb_fail_memory(err, (layers + experts) * 8, "suspects");
    for (int p = 0; !status && p < TMB_MIX_PARTS; p++)
        if (tmb_cause_layers(q, (tmb_mix_part)p, list) || outside_differs(q, (tmb_mix_part)p))
            add(q, (tmb_mix_part)p, -1, -1, false);
    size_t parts = q->n_suspects;
    for (size_t i = 0; !status && i < parts; i++) {
        tmb_mix_part part = q->suspects[i].part;
        int n = tmb_cause_layers(q, part, list);
        q->suspects[i].whole = parts == 1;
        add_layers(q, part, list, n, errors, q->options->depth == TMB_CAUSE_LAYERS);
        for (int l = 0; part == TMB_MIX_EXPERT && l < n; l++)
            if (n > 1 || changed_experts(q, list[l]) > OUTLIERS) add_experts(q, list[l], errors);
    }
    free(errors);
    free(list);
    return status;
}
