/* words.c - what was found, in plain sentences. */
#include "config.h"
#include "moe/diagnose/rank.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { PHRASE = 320 };

/* "25.4 % (24.8 to 26.0)" or "0.0213 nats (0.0202 to 0.0225)". */
static const char *figure(char *out, size_t size, tmb_scale scale, tmb_interval v)
{
    bool share = scale == TMB_SCALE_ROUTING;
    double times = share ? 100 : 1;
    int digits = share ? 1 : 4;
    const char *unit = share ? " %" : " nats";
    if (isnan(v.lo))
        snprintf(out, size, "%.*f%s", digits, times * v.value, unit);
    else
        snprintf(out, size, "%.*f%s (%.*f to %.*f)", digits, times * v.value, unit, digits,
                 times * v.lo, digits, times * v.hi);
    return out;
}

static const char *numbers(char *out, size_t size, const int *of, size_t n)
{
    size_t at = 0;
    *out = '\0';
    for (size_t i = 0; i < n && at < size; i++)
        at += (size_t)snprintf(out + at, size - at, "%s%d",
                               !i           ? ""
                               : i + 1 == n ? " and "
                                            : ", ",
                               of[i]);
    return out;
}

/* "Layer 3: " or "Layers 3 and 5: "; "" when it is everywhere. */
static const char *place(char *out, size_t size, const tmb_nature *n)
{
    char list[PHRASE / 2];
    *out = '\0';
    if (n->n_layers)
        snprintf(out, size, "layer%s %s: ", n->n_layers == 1 ? "" : "s",
                 numbers(list, sizeof list, n->layers, n->n_layers));
    return out;
}

/* What was done: "the router is in nvfp4". */
static const char *deed(char *out, size_t size, const tmb_suspect *s, const tmb_nature *n)
{
    char list[PHRASE / 2];
    const char *title = tmb_mix_part_title(s->part);
    bool many = s->part == TMB_MIX_EXPERT;
    numbers(list, sizeof list, n->experts, n->n_experts);
    const char *plural = n->n_experts == 1 ? "" : "s";
    if (!strcmp(n->word, "ties"))
        snprintf(out, size,
                 "experts %s have one and the same row in the router now, so that their logits are "
                 "exactly level and their order alone decides between them",
                 list);
    else if (!strcmp(n->word, "dead-expert") && s->part == TMB_MIX_ROUTER)
        snprintf(out, size,
                 "expert%s %s, used by the reference, get%s hardly a token any more: the router "
                 "differs",
                 plural, list, n->n_experts == 1 ? "s" : "");
    else if (!strcmp(n->word, "dead-expert"))
        snprintf(out, size, "expert%s %s give%s nothing any more: all weights of down are zero",
                 plural, list, n->n_experts == 1 ? "s" : "");
    else if (!strcmp(n->word, "poisoned-expert"))
        snprintf(out, size,
                 "weights of expert%s %s are changed by %.0f %% of their norm, unlike those of "
                 "the others",
                 plural, list, 100 * n->weight_error);
    else if (n->norm)
        snprintf(out, size, "the norm in front of %s is another one", title);
    else if (s->part == TMB_MIX_ROUTER && n->n_experts)
        snprintf(out, size, "the router's row%s of expert%s %s differ%s", plural, plural, list,
                 n->n_experts == 1 ? "s" : "");
    else if (n->disguised)
        snprintf(out, size, "%s %s rounded to %s, whatever %s stored as", title,
                 many ? "are" : "is", n->format, many ? "they are" : "it is");
    else if (s->part == TMB_MIX_KV)
        snprintf(out, size, "the KV cache is in FP8");
    else if (n->format)
        snprintf(out, size, "%s %s in %s", title, many ? "are" : "is", n->format);
    else if (n->inputs_alone)
        snprintf(out, size, "inputs of %s are rounded", title);
    else
        snprintf(out, size, "weights of %s differ by %.2g %% of their norm", title,
                 100 * n->weight_error);
    return out;
}

const char *tmb_cause_sentence(tmb_inquest *q, const tmb_suspect *s, const tmb_nature *n,
                               tmb_scale scale, tmb_interval effect, tmb_interval won)
{
    char where[PHRASE], what[PHRASE], size[96], back[96], line[PHRASE] = "";
    tmb_arena *arena = &q->d->arena;
    place(where, sizeof where, n);
    deed(what, sizeof what, s, n);
    figure(size, sizeof size, scale, effect);
    if (n->line_text) snprintf(line, sizeof line, " Recipe line %d: %s.", n->line, n->line_text);
    const char *does = scale == TMB_SCALE_ROUTING ? "changes" : "costs",
               *of = scale == TMB_SCALE_ROUTING ? " of the expert sets" : " of KL";
    char *text;
    if (isnan(won.value) || s->whole)
        text = tmb_arena_printf(arena, "%s%s; that alone %s %s%s.%s", where, what, does, size, of,
                                line);
    else
        text = tmb_arena_printf(arena, "%s%s; that alone %s %s%s, and restoring it wins back %s.%s",
                                where, what, does, size, of, figure(back, sizeof back, scale, won),
                                line);
    if (text && *text >= 'a' && *text <= 'z') *text = (char)(*text - 'a' + 'A');
    return text;
}

const char *tmb_cause_quiet(tmb_inquest *q, const tmb_suspect *s, const tmb_nature *n)
{
    char where[PHRASE], what[PHRASE];
    place(where, sizeof where, n);
    deed(what, sizeof what, s, n);
    char *text = tmb_arena_printf(
        &q->d->arena, "%s%s; on this text its effect stays below the noise.", where, what);
    if (text && *text >= 'a' && *text <= 'z') *text = (char)(*text - 'a' + 'A');
    return text;
}

/* ---- the verdict ------------------------------------------------------------------------------
 */

static void say(tmb_verdict *v, const char *line)
{
    if (line && v->n_lines < TMB_VERDICT_LINES) v->lines[v->n_lines++] = line;
}

static void say_totals(tmb_inquest *q)
{
    tmb_diagnosis *d = q->d;
    tmb_verdict *v = &d->verdict;
    tmb_interval match = d->overall[TMB_M_SET_MATCH], kl = d->overall[TMB_M_KL],
                 noise = d->overall[TMB_M_NOISE_MATCH], noise_kl = d->overall[TMB_M_NOISE_KL];
    if (d->identical) {
        say(v, "The two are the same: every hidden state, every route and every logit is equal to "
               "the bit.");
        return;
    }
    if (d->n_sparse && !isnan(noise.value))
        say(v, tmb_arena_printf(&d->arena,
                                "Routing: %.1f %% of the expert sets are the reference's; a rerun "
                                "of the reference in BF16 keeps %.1f %%.",
                                100 * match.value, 100 * noise.value));
    else if (d->n_sparse)
        say(v,
            tmb_arena_printf(&d->arena, "Routing: %.1f %% of the expert sets are the reference's.",
                             100 * match.value));
    if (!isnan(noise_kl.value))
        say(v, tmb_arena_printf(&d->arena,
                                "Output: KL is %.4f nats, that of the rerun %.4f; perplexity goes "
                                "from %.4f to %.4f.",
                                kl.value, noise_kl.value, d->overall[TMB_M_PPL_REF].value,
                                d->overall[TMB_M_PPL].value));
    else
        say(v, tmb_arena_printf(
                   &d->arena, "Output: KL is %.4f nats; perplexity goes from %.4f to %.4f.",
                   kl.value, d->overall[TMB_M_PPL_REF].value, d->overall[TMB_M_PPL].value));
}

/* Whether a cause's interval reaches that of the first. */
bool tmb_cause_level(const tmb_causes *c, size_t i)
{
    return !i || c->list[i].ci95[1] >= c->list[0].ci95[0];
}

static const char *title_of(const tmb_cause *c)
{
    for (int p = 0; p < TMB_MIX_PARTS; p++)
        if (tmb_mix_part_role((tmb_mix_part)p) == c->role)
            return tmb_mix_part_title((tmb_mix_part)p);
    return c->cause;
}

/* The first cause of a scale and those level with it. */
static void say_causes(tmb_inquest *q, tmb_scale scale)
{
    tmb_diagnosis *d = q->d;
    const tmb_causes *c = &d->verdict.scales[scale];
    const char *name = scale == TMB_SCALE_ROUTING ? "routing" : "the output";
    char level[PHRASE] = "", size[96];
    size_t at = 0;
    if (!c->n) {
        say(&d->verdict, tmb_arena_printf(&d->arena, "Nothing harms %s beyond the noise.", name));
        return;
    }
    for (size_t i = 1; i < c->n && at < sizeof level; i++) {
        if (!tmb_cause_level(c, i)) continue;
        tmb_interval v = {c->list[i].effect, (double)NAN, (double)NAN};
        at += (size_t)snprintf(level + at, sizeof level - at, "%s%s (%s)", at ? ", " : "",
                               title_of(&c->list[i]), figure(size, sizeof size, scale, v));
    }
    say(&d->verdict, tmb_arena_printf(&d->arena, "What harms %s most: %s", name, c->list[0].text));
    if (at)
        say(&d->verdict,
            tmb_arena_printf(&d->arena, "Level with it, within the intervals: %s.", level));
}

static void say_replay(tmb_inquest *q)
{
    const tmb_replay *r = &q->d->replay;
    if (!r->there || !(r->kl[1][1].value > 0)) return;
    say(&q->d->verdict,
        tmb_arena_printf(&q->d->arena,
                         "Of a KL of %.4f nats, other weights on the reference's routes give %.4f, "
                         "and the reference's weights on the other routes %.4f.",
                         r->kl[1][1].value, r->value.value, r->selection.value));
}

static void say_split(tmb_inquest *q)
{
    const tmb_diagnosis *d = q->d;
    double input = 0, weight = 0, total = 0;
    for (size_t i = 0; i < d->n_splits; i++) {
        input += d->splits[i].input * d->splits[i].total;
        weight += d->splits[i].weight * d->splits[i].total;
        total += d->splits[i].total;
    }
    tmb_interval exact = d->overall[TMB_M_LOCAL_LAYER];
    if (!(total > 0) || !d->verdict.scales[TMB_SCALE_ROUTING].n) return;
    if (isnan(exact.value))
        say(&q->d->verdict,
            tmb_arena_printf(&q->d->arena,
                             "Router logits moved by what reaches the routers (%.0f %%) and by the "
                             "routers themselves (%.0f %%).",
                             100 * input / total, 100 * weight / total));
    else
        say(&q->d->verdict,
            tmb_arena_printf(
                &q->d->arena,
                "Router logits moved by what reaches the routers (%.0f %%) and by the "
                "routers themselves (%.0f %%); on exact inputs a layer changes %.1f %% "
                "of its sets, the rest arrives from the layers below.",
                100 * input / total, 100 * weight / total, 100 * (1 - exact.value)));
}

static void say_harmless(tmb_inquest *q)
{
    const tmb_diagnosis *d = q->d;
    size_t equal = 0, last = 0;
    for (size_t i = 0; i < d->n_harmless; i++) {
        bool this = !strcmp(d->harmless[i].kind, "equal-function");
        equal += this;
        if (this) last = i;
        bool told = !strcmp(d->harmless[i].kind, "below-noise") ||
                    (!strcmp(d->harmless[i].kind, "exact-ties") && d->harmless[i].share > 0.2);
        if (told) say(&q->d->verdict, d->harmless[i].text);
    }
    if (equal == 1)
        say(&q->d->verdict, tmb_arena_printf(&q->d->arena, "Harmless: %s", d->harmless[last].text));
    else if (equal)
        say(&q->d->verdict,
            tmb_arena_printf(&q->d->arena,
                             "Harmless: %zu parts of layers are stored otherwise and compute the "
                             "same.",
                             equal));
}

static void say_cost(tmb_inquest *q)
{
    size_t alone = 0, again = 0;
    for (size_t i = 0; i < q->n_runs; i++) {
        if (!q->runs[i].scores.memory) continue;
        alone += q->runs[i].local;
        again += !q->runs[i].local;
    }
    if (!q->n_runs) return;
    size_t passes = 1 + 2 * alone + (again ? 2 + again : 0);
    say(&q->d->verdict,
        tmb_arena_printf(&q->d->arena,
                         "Causes come from %zu mixtures of the two over %zu sequences, %" PRIu64
                         " tokens: %zu forward passes of them.",
                         alone + again, q->some.n_sequences, q->some.tokens, passes));
}

tmb_status tmb_cause_words(tmb_inquest *q, tmb_err *err)
{
    if (!q->d) return TMB_OK;
    tmb_verdict *v = &q->d->verdict;
    v->lines = tmb_arena_alloc(&q->d->arena, TMB_VERDICT_LINES * sizeof *v->lines);
    if (!v->lines) return tmb_fail_memory(err, TMB_VERDICT_LINES * sizeof *v->lines, "the verdict");
    say_totals(q);
    if (q->d->identical) return TMB_OK;
    size_t parts = 0;
    for (size_t i = 0; i < q->n_suspects; i++)
        parts += q->suspects[i].layer < 0;
    if (q->options->depth == TMB_CAUSE_NONE && parts > 1)
        say(v, "Several parts differ; which of them harms is found with --ablate roles.");
    else
        for (int s = q->d->n_sparse ? 0 : 1; s < TMB_SCALES; s++)
            say_causes(q, (tmb_scale)s);
    say_replay(q);
    say_split(q);
    say_harmless(q);
    if (v->advice_line) say(v, tmb_arena_printf(&q->d->arena, "Advice: %s.", v->advice_line));
    say_cost(q);
    return TMB_OK;
}

tmb_status tmb_cause_say_advised(tmb_diagnosis *d, tmb_err *err)
{
    tmb_verdict *v = &d->verdict;
    tmb_interval match = v->advised_set_match, kl = v->advised_kl;
    char routing[PHRASE] = "";
    if (!isnan(match.value))
        snprintf(routing, sizeof routing, "%.1f %% of the expert sets instead of %.1f %%, ",
                 100 * match.value, 100 * d->overall[TMB_M_SET_MATCH].value);
    char *text = tmb_arena_printf(&d->arena, "With the advice: %sKL %.4f nats instead of %.4f.",
                                  routing, kl.value, d->overall[TMB_M_KL].value);
    if (!text) return tmb_fail_memory(err, PHRASE, "the verdict");
    say(v, text);
    return TMB_OK;
}
