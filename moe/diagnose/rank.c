/* rank.c - the two lists of causes, and what differs without harm. */
#include "config.h"
#include "moe/diagnose/rank.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Weights that moved by a per cent while what the part gives moved by far less: the function is the
 * same.  2^-9 is half a step of BF16. */
enum { MANY = 8 };                          /* times the noise */
static const double SEVERAL_STEPS = 0x1p-5; /* of BF16 */
static const double MOVED = 0.01, SAME_FUNCTION = 0x1p-9, LESS = 16;
/* Weights under another norm that differ by no more than rounding them to BF16 does. */
static const double ROUNDED = 0x1p-8;

static tmb_interval flips_of(tmb_interval match)
{
    return (tmb_interval){1 - match.value, 1 - match.hi, 1 - match.lo};
}

/* ---- effects ----------------------------------------------------------------------------------
 */

static tmb_interval effect_of(const tmb_inquest *q, int run, tmb_scale scale)
{
    const tmb_scores *s = &q->runs[run].scores;
    if (scale == TMB_SCALE_OUTPUT) return tmb_scores_kl(s, &q->boot);
    return flips_of(tmb_scores_set_match(s, -1, &q->boot));
}

/* The diagnosis itself is of all that differs. */
static tmb_interval effect_of_all(const tmb_inquest *q, tmb_scale scale)
{
    if (scale == TMB_SCALE_OUTPUT) return q->d->overall[TMB_M_KL];
    return flips_of(q->d->overall[TMB_M_SET_MATCH]);
}

tmb_interval tmb_cause_effect(const tmb_inquest *q, const tmb_suspect *s, tmb_scale scale)
{
    if (s->whole) return effect_of_all(q, scale); /* of all sequences, not of some */
    return s->alone >= 0 ? effect_of(q, s->alone, scale) : tmb_interval_none();
}

/* Numerator and denominator of an effect, a sequence each. */
static void parts_of(const tmb_scores *s, tmb_scale scale, size_t sequence, double *num,
                     double *den)
{
    size_t sparse = 0;
    uint64_t same = 0;
    if (scale == TMB_SCALE_OUTPUT) {
        *num = s->kl[sequence];
        *den = s->scored[sequence];
        return;
    }
    for (size_t l = 0; l < s->layers; l++) {
        sparse += s->sparse[l];
        same += s->sparse[l] ? s->same[sequence * s->layers + l] : 0;
    }
    *num = (double)sparse * s->positions[sequence] - (double)same;
    *den = (double)sparse * s->positions[sequence];
}

/* The effect of run a less that of run b over the same draws of sequences. */
static tmb_interval difference(const tmb_inquest *q, int a, int b, tmb_scale scale)
{
    size_t n = q->some.n_sequences;
    double *num = calloc(2 * n + 1, sizeof *num), *den = num + n;
    if (!num) return tmb_interval_none();
    for (size_t s = 0; s < n; s++) {
        double less, unused;
        parts_of(&q->runs[a].scores, scale, s, &num[s], &den[s]);
        parts_of(&q->runs[b].scores, scale, s, &less, &unused);
        num[s] -= less;
    }
    tmb_interval i = tmb_boot_ratio(&q->boot, num, den, 1);
    free(num);
    return i;
}

tmb_interval tmb_cause_restored(const tmb_inquest *q, const tmb_suspect *s, tmb_scale scale)
{
    if (s->whole) return tmb_cause_effect(q, s, scale);
    return s->restored < 0 ? tmb_interval_none() : difference(q, 0, s->restored, scale);
}

/* ---- noise ------------------------------------------------------------------------------------
 */

/* The intervals are apart, and by more than a hair; or, of few sequences, the effect is many times
 * the noise. */
static bool more(tmb_interval effect, tmb_interval noise)
{
    double floor = isnan(noise.value) ? 0 : noise.value,
           top = isnan(noise.hi) ? 2 * floor : noise.hi,
           low = isnan(effect.lo) ? effect.value / 2 : effect.lo;
    bool apart = low > top && effect.value > 1.5 * floor;
    return effect.value > 0 && (apart || (low > floor && effect.value > MANY * floor));
}

static bool more_in_a_layer(const tmb_inquest *q, const tmb_suspect *s)
{
    const tmb_diagnosis *d = q->d;
    const tmb_cause_run *run = s->alone >= 0 && !s->whole ? &q->runs[s->alone] : NULL;
    for (int l = 0; l < (int)d->n_layers; l++) {
        if (!d->layers[l].sparse) continue;
        tmb_interval noise = flips_of(d->layers[l].metrics[TMB_M_NOISE_MATCH]);
        tmb_interval here = run ? tmb_scores_set_match(&run->scores, l, &q->boot)
                                : d->layers[l].metrics[TMB_M_SET_MATCH];
        if (more(flips_of(here), noise)) return true;
    }
    return false;
}

/* Error that the suspect makes in the layer it harms most, on exact inputs: no matter of luck. */
static double worst_error(const tmb_inquest *q, const tmb_suspect *s)
{
    double most = 0;
    for (size_t i = 0; i < q->d->n_sensitivities; i++) {
        const tmb_sensitivity *x = &q->d->sensitivities[i];
        bool here = (s->layer < 0 || x->layer == s->layer) && x->expert == s->expert;
        if (here && !strcmp(x->component, tmb_mix_part_name(s->part)) && x->error > most)
            most = x->error;
    }
    return most;
}

bool tmb_cause_exceeds(const tmb_inquest *q, const tmb_suspect *s, tmb_scale scale)
{
    const tmb_diagnosis *d = q->d;
    tmb_interval effect = tmb_cause_effect(q, s, scale);
    if (isnan(effect.value)) return false;
    if (scale == TMB_SCALE_OUTPUT) {
        double noise = d->overall[TMB_M_NOISE_KL].value;
        return more(effect, d->overall[TMB_M_NOISE_KL]) ||
               (effect.value > MANY * noise && worst_error(q, s) > SEVERAL_STEPS);
    }
    return d->n_sparse &&
           (more(effect, flips_of(d->overall[TMB_M_NOISE_MATCH])) || more_in_a_layer(q, s));
}

/* ---- the lists --------------------------------------------------------------------------------
 */

static tmb_status copy_numbers(tmb_inquest *q, const int *from, size_t n, const int **to,
                               tmb_err *err)
{
    *to = NULL;
    if (!n) return TMB_OK;
    int *own = tmb_arena_alloc(&q->d->arena, n * sizeof *own);
    if (!own) return tmb_fail_memory(err, n * sizeof *own, "a cause");
    memcpy(own, from, n * sizeof *own);
    *to = own;
    return TMB_OK;
}

static tmb_status fill(tmb_inquest *q, const tmb_suspect *s, const tmb_nature *n, tmb_scale scale,
                       tmb_cause *c, tmb_err *err)
{
    tmb_interval effect = tmb_cause_effect(q, s, scale), won = tmb_cause_restored(q, s, scale);
    *c = (tmb_cause){.cause = n->word,
                     .role = n->norm ? TMB_ROLE_NORM : tmb_mix_part_role(s->part),
                     .n_layers = n->n_layers,
                     .n_experts = n->n_experts,
                     .recipe_line = n->line_text,
                     .recipe_line_number = n->line,
                     .effect = effect.value,
                     .ci95 = {effect.lo, effect.hi},
                     .restored = won.value,
                     .restored_ci95 = {won.lo, won.hi}};
    TRY(copy_numbers(q, n->layers, n->n_layers, &c->layers, err));
    TRY(copy_numbers(q, n->experts, n->n_experts, &c->experts, err));
    c->text = tmb_cause_sentence(q, s, n, scale, effect, won);
    return c->text ? TMB_OK : tmb_fail_memory(err, 256, "a sentence");
}

static int by_effect(const void *a, const void *b)
{
    const tmb_cause *x = a, *y = b;
    if (x->effect != y->effect) return x->effect < y->effect ? 1 : -1;
    return strcmp(x->cause, y->cause);
}

/* Whether a suspect is one of its own: not a layer that was only asked about, and not an expert
 * whose whole part is already named by its experts. */
static bool is_candidate(const tmb_inquest *q, const tmb_suspect *s, const tmb_nature *whole)
{
    if (s->layer < 0) return true;
    if (!s->outlier) return false;
    (void)q;
    return !(s->expert >= 0 && whole[s->part].n_experts);
}

static tmb_status list_causes(tmb_inquest *q, tmb_scale scale, const tmb_nature *natures,
                              const tmb_nature *whole, tmb_err *err)
{
    tmb_causes *to = &q->d->verdict.scales[scale];
    to->list = tmb_arena_alloc(&q->d->arena, (q->n_suspects + 1) * sizeof *to->list);
    if (!to->list) return tmb_fail_memory(err, q->n_suspects * sizeof *to->list, "causes");
    for (size_t i = 0; i < q->n_suspects; i++) {
        const tmb_suspect *s = &q->suspects[i];
        if (!is_candidate(q, s, whole) || !tmb_cause_exceeds(q, s, scale)) continue;
        TRY(fill(q, s, &natures[i], scale, &to->list[to->n++], err));
    }
    qsort(to->list, to->n, sizeof *to->list, by_effect);
    for (size_t i = 1; i < to->n; i++)
        to->list[i].level_with_previous = to->list[i].ci95[1] >= to->list[i - 1].ci95[0];
    return TMB_OK;
}

/* ---- what does no harm ------------------------------------------------------------------------
 */

static tmb_status note(tmb_inquest *q, const char *kind, int layer, double share, const char *text,
                       tmb_err *err)
{
    if (!text) return tmb_fail_memory(err, 256, "a note");
    q->d->harmless[q->d->n_harmless++] =
        (tmb_harmless){.kind = kind, .layer = layer, .share = share, .text = text};
    return TMB_OK;
}

/* Error of the layer with this part of the other; -1: not measured. */
static double measured(const tmb_inquest *q, tmb_mix_part part, int layer)
{
    for (size_t i = 0; i < q->d->n_sensitivities; i++) {
        const tmb_sensitivity *s = &q->d->sensitivities[i];
        if (s->layer == layer && s->expert < 0 && !strcmp(s->component, tmb_mix_part_name(part)))
            return s->error;
    }
    return -1;
}

/* Whether the norm in front of a part is another one. */
static bool norm_moved(const tmb_inquest *q, tmb_mix_part part, int layer)
{
    return q->mixer.scaled[2 * layer + (part != TMB_MIX_ATTENTION)];
}

static tmb_status equal_functions(tmb_inquest *q, int layer, tmb_err *err)
{
    tmb_arena *arena = &q->d->arena;
    for (int p = 0; p < TMB_MIX_PARTS; p++) {
        const tmb_screened *s = tmb_screen_at(&q->screen, layer, (tmb_mix_part)p);
        double error = tmb_screen_error(s->error2, s->norm2),
               output = measured(q, (tmb_mix_part)p, layer);
        bool moved = s->stored && norm_moved(q, (tmb_mix_part)p, layer) && error < ROUNDED,
             kept = s->weight && !s->input && output >= 0 && error > MOVED &&
                    output < SAME_FUNCTION && output < error / LESS;
        if (!moved && !kept) continue;
        const char *how = moved ? "the norm in front takes back what its weights were scaled by"
                                : "its weights differ, and what it gives does not";
        TRY(note(q, "equal-function", layer, 1,
                 tmb_arena_printf(arena,
                                  "Layer %d: %s is stored otherwise and computes the same: %s.",
                                  layer, tmb_mix_part_title((tmb_mix_part)p), how),
                 err));
    }
    return TMB_OK;
}

static tmb_status common_mode(tmb_inquest *q, int layer, tmb_err *err)
{
    const tmb_diag_layer *l = &q->d->layers[layer];
    double share = l->metrics[TMB_M_COMMON_MODE].value;
    if (!l->sparse || !(share > 0.5)) return TMB_OK;
    return note(q, "common-mode", layer, share,
                tmb_arena_printf(&q->d->arena,
                                 "Layer %d: %.0f %% of the change of its router logits is the same "
                                 "for all experts, which chooses nobody else.",
                                 layer, 100 * share),
                err);
}

/* Flips at a reference margin of exactly 0. */
static tmb_status exact_ties(tmb_inquest *q, int layer, tmb_err *err)
{
    const tmb_margins *m = q->d->layers[layer].margins;
    uint64_t all = 0;
    for (int b = 0; m && b < TMB_MARGIN_BINS; b++)
        all += m->flips[b];
    if (!m || !all || !m->flips[0]) return TMB_OK;
    double share = (double)m->flips[0] / (double)all;
    return note(q, "exact-ties", layer, share,
                tmb_arena_printf(&q->d->arena,
                                 "Layer %d: %.0f %% of the changed sets stood exactly level in the "
                                 "reference, where any rounding decides.",
                                 layer, 100 * share),
                err);
}

/* One layer or expert that was changed, has an effect, and exceeds the noise on neither scale. */
static bool is_quiet(const tmb_inquest *q, const tmb_suspect *s, const tmb_nature *n,
                     const tmb_nature *whole)
{
    if (!n->n_layers || !(n->weight_error > 0) || !is_candidate(q, s, whole)) return false;
    tmb_interval sets = tmb_cause_effect(q, s, TMB_SCALE_ROUTING),
                 kl = tmb_cause_effect(q, s, TMB_SCALE_OUTPUT);
    bool any = sets.value > 0 || kl.value > 0;
    return any && !tmb_cause_exceeds(q, s, TMB_SCALE_ROUTING) &&
           !tmb_cause_exceeds(q, s, TMB_SCALE_OUTPUT);
}

static tmb_status find_harmless(tmb_inquest *q, const tmb_nature *natures, const tmb_nature *whole,
                                tmb_err *err)
{
    tmb_diagnosis *d = q->d;
    size_t most = d->n_layers * (TMB_MIX_PARTS + 2) + q->n_suspects + 1;
    d->harmless = tmb_arena_alloc(&d->arena, most * sizeof *d->harmless);
    if (!d->harmless) return tmb_fail_memory(err, most * sizeof *d->harmless, "notes");
    for (int l = 0; l < (int)d->n_layers && l < q->screen.layers; l++) {
        TRY(equal_functions(q, l, err));
        TRY(common_mode(q, l, err));
        TRY(exact_ties(q, l, err));
    }
    for (size_t i = 0; i < q->n_suspects; i++) {
        const tmb_suspect *s = &q->suspects[i];
        const tmb_nature *n = &natures[i];
        if (!is_quiet(q, s, n, whole)) continue;
        TRY(note(q, "below-noise", n->layers[0], n->weight_error, tmb_cause_quiet(q, s, n), err));
    }
    return TMB_OK;
}

tmb_status tmb_cause_rank(tmb_inquest *q, tmb_err *err)
{
    if (!q->d) return TMB_OK;
    tmb_nature *natures = calloc(q->n_suspects + 1, sizeof *natures);
    tmb_nature *whole = calloc(TMB_MIX_PARTS, sizeof *whole);
    tmb_status status =
        natures && whole ? TMB_OK : tmb_fail_memory(err, q->n_suspects * sizeof *natures, "causes");
    for (size_t i = 0; !status && i < q->n_suspects; i++) {
        status = tmb_cause_nature(q, &q->suspects[i], &natures[i], err);
        if (q->suspects[i].layer < 0) whole[q->suspects[i].part] = natures[i];
    }
    for (int s = 0; !status && s < TMB_SCALES; s++)
        status = list_causes(q, (tmb_scale)s, natures, whole, err);
    if (!status) status = find_harmless(q, natures, whole, err);
    free(whole);
    free(natures);
    return status;
}
