/* ablate.c - runs suspects alone and restored, and replays routes. */
#include "config.h"
#include "moe/diagnose/cause_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the list of mixtures ---------------------------------------------------------------------
 */

static int add_run(tmb_inquest *q, int base, unsigned guest, const tmb_suspect *s, int routes,
                   bool local, const char *what)
{
    tmb_cause_run *r = &q->runs[q->n_runs];
    *r = (tmb_cause_run){.local = local,
                         .mix = {.mixer = &q->mixer,
                                 .base = base,
                                 .guest = guest,
                                 .layer = s ? s->layer : -1,
                                 .expert = s ? s->expert : -1,
                                 .routes = routes}};
    snprintf(r->name, sizeof r->name, "%s %s", s ? tmb_mix_part_name(s->part) : "all", what);
    return (int)q->n_runs++;
}

static void list_suspect(tmb_inquest *q, tmb_suspect *s)
{
    unsigned bit = 1u << s->part;
    if (s->whole) {
        s->alone = 0;
        return;
    }
    if (s->part == TMB_MIX_BASE) { /* no hook reaches it: everything else changes sides */
        s->alone = add_run(q, TMB_SIDE_OTHER, ~bit, s, TMB_MIX_OWN_ROUTES, true, "alone");
        s->restored = add_run(q, TMB_SIDE_REF, ~0u, s, TMB_MIX_OWN_ROUTES, false, "restored");
        return;
    }
    s->alone = add_run(q, TMB_SIDE_REF, bit, s, TMB_MIX_OWN_ROUTES, true, "alone");
    s->restored = add_run(q, TMB_SIDE_OTHER, bit, s, TMB_MIX_OWN_ROUTES, false, "restored");
}

/* Runs with or without `local`, in the order of q->runs; where keep is set the other comes first in
 * any case, so that its routes are there. */
static tmb_status run_some(tmb_inquest *q, bool local, tmb_err *err)
{
    size_t n = 0;
    tmb_variant *list = calloc(q->n_runs + 1, sizeof *list);
    tmb_scores *scores = calloc(q->n_runs + 1, sizeof *scores);
    size_t *of = calloc(q->n_runs + 1, sizeof *of);
    tmb_score_options options = {.run = q->options->run, .local = local};
    tmb_status status = list && scores && of ? TMB_OK : tmb_fail_memory(err, 0, "mixtures");
    for (size_t i = 0; !status && i < q->n_runs; i++) {
        tmb_cause_run *r = &q->runs[i];
        if (r->local != local && i) continue;
        list[n] = tmb_mix_variant(r->name, &r->mix);
        list[n].keep_routes = i == 0 && !local;
        of[n++] = i;
    }
    bool needed = n > 1 || local;
    if (!status && needed)
        status = tmb_score(q->mixer.side[TMB_SIDE_REF], list, n, &q->some, &options, scores, err);
    for (size_t i = 0; !status && needed && i < n; i++) {
        if (of[i] == 0 && !local)
            tmb_scores_free(&scores[i], 1);
        else
            q->runs[of[i]].scores = scores[i];
    }
    free(of);
    free(scores);
    free(list);
    return status;
}

/* ---- what they say ----------------------------------------------------------------------------
 */

static bool is_sparse(const tmb_scores *s, int layer)
{
    return s->sparse[layer];
}

static bool any_sparse(const tmb_scores *s)
{
    for (size_t l = 0; l < s->layers; l++)
        if (s->sparse[l]) return true;
    return false;
}

static tmb_status fill_ablation(tmb_inquest *q, const tmb_suspect *s, int run, bool alone,
                                tmb_err *err)
{
    tmb_diagnosis *d = q->d;
    const tmb_scores *scores = &q->runs[run].scores;
    tmb_ablation *a = &d->ablations[d->n_ablations++];
    *a = (tmb_ablation){.component = s ? tmb_mix_part_name(s->part) : "all",
                        .role = s ? tmb_mix_part_role(s->part) : TMB_ROLES,
                        .alone = alone,
                        .layer = s ? s->layer : -1,
                        .set_match = tmb_interval_none(),
                        .kl = tmb_scores_kl(scores, &q->boot),
                        .hidden_error = tmb_scores_hidden_error(scores, -1, &q->boot)};
    if (!any_sparse(scores)) return TMB_OK;
    a->set_match = tmb_scores_set_match(scores, -1, &q->boot);
    a->layer_set_match = tmb_arena_alloc(&d->arena, scores->layers * sizeof *a->layer_set_match);
    if (!a->layer_set_match) return tmb_fail_memory(err, scores->layers * 8, "ablations");
    for (int l = 0; l < (int)scores->layers; l++)
        a->layer_set_match[l] =
            is_sparse(scores, l) ? tmb_scores_set_match(scores, l, &q->boot).value : (double)NAN;
    return TMB_OK;
}

static tmb_status fill_ablations(tmb_inquest *q, tmb_err *err)
{
    tmb_diagnosis *d = q->d;
    d->ablations = tmb_arena_alloc(&d->arena, (2 * q->n_suspects + 1) * sizeof *d->ablations);
    if (!d->ablations) return tmb_fail_memory(err, q->n_suspects * 256, "ablations");
    TRY(fill_ablation(q, NULL, 0, true, err));
    for (size_t i = 0; i < q->n_suspects; i++) {
        const tmb_suspect *s = &q->suspects[i];
        if (s->expert >= 0) continue;
        if (s->alone >= 0) TRY(fill_ablation(q, s, s->alone, true, err));
        if (s->restored >= 0) TRY(fill_ablation(q, s, s->restored, false, err));
    }
    return TMB_OK;
}

static tmb_interval minus(tmb_interval a, tmb_interval b, tmb_interval c)
{
    /* point estimates: the three share their sequences, so no interval follows from theirs */
    return (tmb_interval){a.value - b.value - c.value, (double)NAN, (double)NAN};
}

static void fill_replay(tmb_inquest *q)
{
    tmb_replay *r = &q->d->replay;
    if (q->replay[0] < 0) return;
    r->there = true;
    r->kl[0][0] = (tmb_interval){0, 0, 0};
    r->kl[0][1] = tmb_scores_kl(&q->runs[q->replay[0]].scores, &q->boot);
    r->kl[1][0] = tmb_scores_kl(&q->runs[q->replay[1]].scores, &q->boot);
    r->kl[1][1] = tmb_scores_kl(&q->runs[0].scores, &q->boot);
    r->value = r->kl[1][0];
    r->selection = r->kl[0][1];
    r->interaction = minus(r->kl[1][1], r->kl[1][0], r->kl[0][1]);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Three times the median error of the part's layers, and not by a hair: what is beyond stands out.
 */
static void mark(tmb_sensitivity *list, size_t n, double *errors)
{
    for (size_t i = 0; i < n; i++)
        errors[i] = list[i].error;
    qsort(errors, n, sizeof *errors, ascending);
    for (size_t i = 0; n > 2 && i < n; i++)
        list[i].stands_out = list[i].error > 3 * errors[(n - 1) / 2] && list[i].error > 1e-3;
}

static void fill_layers(tmb_inquest *q, const tmb_suspect *s, const int *layers, int n,
                        double *errors)
{
    tmb_diagnosis *d = q->d;
    const tmb_scores *scores = &q->runs[s->alone].scores;
    tmb_sensitivity *first = &d->sensitivities[d->n_sensitivities];
    for (int i = 0; i < n; i++) {
        int l = layers[i];
        d->sensitivities[d->n_sensitivities++] = (tmb_sensitivity){
            .layer = l,
            .expert = s->expert,
            .component = tmb_mix_part_name(s->part),
            .set_match = is_sparse(scores, l) ? tmb_scores_local_match(scores, l, &q->boot)
                                              : tmb_interval_none(),
            .error = tmb_scores_local_error(scores, l, &q->boot).value,
            .stands_out = s->layer >= 0};
    }
    if (s->layer < 0) mark(first, (size_t)n, errors);
}

static tmb_status fill_sensitivities(tmb_inquest *q, tmb_err *err)
{
    tmb_diagnosis *d = q->d;
    size_t layers = (size_t)q->screen.layers;
    int *list = malloc((layers + 1) * sizeof *list);
    double *errors = malloc((layers + 1) * sizeof *errors);
    d->sensitivities = tmb_arena_alloc(&d->arena, (TMB_MIX_PARTS * layers + q->n_suspects + 1) *
                                                      sizeof *d->sensitivities);
    tmb_status status =
        list && errors && d->sensitivities ? TMB_OK : tmb_fail_memory(err, layers * 64, "layers");
    for (size_t i = 0; !status && i < q->n_suspects; i++) {
        const tmb_suspect *s = &q->suspects[i];
        int n = tmb_cause_layers(q, s->part, list);
        if (s->alone < 0) continue;
        if (s->layer < 0)
            fill_layers(q, s, list, n, errors);
        else if (s->expert >= 0)
            fill_layers(q, s, &s->layer, 1, errors);
    }
    free(errors);
    free(list);
    return status;
}

tmb_status tmb_cause_ablate(tmb_inquest *q, tmb_err *err)
{
    q->replay[0] = q->replay[1] = -1;
    if (!q->n_suspects || q->options->depth == TMB_CAUSE_NONE) return TMB_OK;
    q->runs = calloc(TMB_CAUSE_RUNS, sizeof *q->runs);
    if (!q->runs) return tmb_fail_memory(err, TMB_CAUSE_RUNS * sizeof *q->runs, "mixtures");
    add_run(q, TMB_SIDE_OTHER, 0, NULL, TMB_MIX_OWN_ROUTES, true, "of the other");
    for (size_t i = 0; i < q->n_suspects; i++)
        list_suspect(q, &q->suspects[i]);
    TRY(run_some(q, true, err));
    if (any_sparse(&q->runs[0].scores)) {
        /* routes: 0 the reference's, 1 those of the first variant, which is the other */
        q->replay[0] = add_run(q, TMB_SIDE_REF, 0, NULL, 1, false, "on other routes");
        q->replay[1] = add_run(q, TMB_SIDE_OTHER, 0, NULL, 0, false, "on its routes");
    }
    TRY(run_some(q, false, err));
    if (!q->d) return TMB_OK;
    TRY(fill_ablations(q, err));
    fill_replay(q);
    return fill_sensitivities(q, err);
}
