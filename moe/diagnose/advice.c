/* advice.c - the smallest change of the recipe that takes away what harms most.
 *
 * For the first cause on the routing scale, those level with it, and the first on the output scale
 * where that is no routed expert (they are what a recipe is there to shrink): a router goes back to
 * BF16; other parts in fewer than 8 bits go to FP8, those in 8 bits to BF16; the KV cache is left
 * alone; of routed experts the one layer that they harm most goes to FP8.  A rule that decides
 * about nothing else gets another right side; otherwise a rule is put in front of all others.  The
 * result is parsed and assigned like any recipe; what does not pass is not advised. */
#include "config.h"
#include "moe/diagnose/rank.h"

#include "moe/format/formats.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct edit {
    char *text;      /* malloc'ed */
    char lines[256]; /* "@router = bf16, @attention = fp8" */
} edit;

/* ---- editing ----------------------------------------------------------------------------------
 */

/* Where line number n (from 1) of a text begins; NULL behind its end. */
static const char *line_at(const char *text, int n)
{
    while (--n > 0 && text) {
        text = strchr(text, '\n');
        if (text) text++;
    }
    return text;
}

/* text with [at, end) replaced. */
static char *splice(const char *text, const char *at, const char *end, const char *by)
{
    size_t head = (size_t)(at - text), n = strlen(by), tail = strlen(end);
    char *out = malloc(head + n + tail + 1);
    if (!out) return NULL;
    memcpy(out, text, head);
    memcpy(out + head, by, n);
    memcpy(out + head + n, end, tail + 1);
    return out;
}

/* The right side of "key = value ; comment" on a line becomes `value`. */
static char *set_value(const char *text, int line, const char *value)
{
    const char *at = line_at(text, line), *end = at ? at + strcspn(at, "\n") : NULL,
               *equal = at ? memchr(at, '=', (size_t)(end - at)) : NULL;
    if (!equal) return NULL;
    const char *from = equal + 1;
    while (from < end && (*from == ' ' || *from == '\t'))
        from++;
    const char *to = from;
    while (to < end && *to != ' ' && *to != '\t' && *to != ';' && *to != '\r')
        to++;
    return splice(text, from, to, value);
}

static char *put_before(const char *text, int line, const char *rule)
{
    const char *at = line_at(text, line);
    char row[256];
    if (!at || snprintf(row, sizeof row, "%s\n", rule) >= (int)sizeof row) return NULL;
    return splice(text, at, at, row);
}

/* ---- what to change ---------------------------------------------------------------------------
 */

static bool passes(const tmb_inquest *q, const char *text)
{
    tmb_recipe *recipe = NULL;
    tmb_assignment *assignment = NULL;
    tmb_err err = {0};
    bool good = !tmb_recipe_parse(&recipe, text, strlen(text), "advice", &err) &&
                !tmb_assign(&assignment, q->mixer.model[TMB_SIDE_REF], recipe, &err);
    tmb_assignment_close(assignment);
    tmb_recipe_close(recipe);
    return good;
}

static const char *better(const tmb_cause *c, const tmb_format *now)
{
    if (c->role == TMB_ROLE_ROUTER || !now || now->bits >= 8) return "bf16";
    return "fp8";
}

/* The rule that decides about a unit of the role (in the layer), and its format. */
static const tmb_rule *rule_of(const tmb_inquest *q, tmb_role role, int layer, uint32_t *unit)
{
    const tmb_model *m = q->mixer.model[TMB_SIDE_REF];
    const tmb_assignment *a = q->options->assignment;
    for (uint32_t u = 0; u < m->n_units; u++) {
        if (m->units[u].role != role || !m->units[u].linear || !a->choices[u].spec->format)
            continue;
        if (a->choices[u].rule < 0 || (layer >= 0 && m->units[u].layer != layer)) continue;
        *unit = u;
        return &q->options->recipe->rules[a->choices[u].rule];
    }
    return NULL;
}

/* Whether a rule moves units of this role alone. */
static bool decides_only(const tmb_inquest *q, const tmb_rule *rule, tmb_role role)
{
    const tmb_model *m = q->mixer.model[TMB_SIDE_REF];
    const tmb_assignment *a = q->options->assignment;
    int index = (int)(rule - q->options->recipe->rules);
    for (uint32_t u = 0; u < m->n_units; u++)
        if (a->choices[u].rule == index && m->units[u].linear && m->units[u].role != role)
            return false;
    return true;
}

/* "model.layers.3.mlp.experts.*" for the routed experts of a layer. */
static bool experts_glob(const tmb_inquest *q, int layer, char *out, size_t size)
{
    const tmb_model *m = q->mixer.model[TMB_SIDE_REF];
    for (uint32_t i = 0; i < m->n_experts_groups; i++)
        if (m->experts[i].layer == layer)
            return snprintf(out, size, "%s.*", m->experts[i].name) < (int)size;
    return false;
}

/* The layer whose output the part of the other harms most on exact inputs. */
static int worst_layer(const tmb_inquest *q, const char *component)
{
    int worst = -1;
    double most = 0;
    for (size_t i = 0; i < q->d->n_sensitivities; i++) {
        const tmb_sensitivity *s = &q->d->sensitivities[i];
        if (s->expert >= 0 || strcmp(s->component, component) != 0 || !(s->error > most)) continue;
        most = s->error;
        worst = s->layer;
    }
    return worst;
}

/* Try one text; keep it when it passes. */
static bool take(const tmb_inquest *q, edit *e, char *text, const char *line)
{
    size_t n = strlen(e->lines);
    if (!text || !passes(q, text)) {
        free(text);
        return false;
    }
    free(e->text);
    e->text = text;
    snprintf(e->lines + n, sizeof e->lines - n, "%s%s", n ? ", " : "", line);
    return true;
}

static int first_rule_line(const char *text)
{
    int line = 1;
    for (const char *at = text; at && *at; line++) {
        if (!strncmp(at, "[rules]", 7)) return line + 1;
        at = strchr(at, '\n');
        if (at) at++;
    }
    return 0;
}

/* Rules' lines move when one is put in front, so those are put last and counted. */
static void change(tmb_inquest *q, edit *e, const tmb_cause *c, int *shift)
{
    char left[160], row[192];
    uint32_t unit = 0;
    if (!strcmp(c->cause, "kv-cache")) {
        if (c->recipe_line_number)
            take(q, e, set_value(e->text, c->recipe_line_number + *shift, "none"),
                 "[kv_cache] format = none");
        return;
    }
    if (c->role == TMB_ROLES || !c->recipe_line) return;
    int layer = c->n_layers ? c->layers[0] : -1;
    if (c->role == TMB_ROLE_EXPERT && layer < 0) layer = worst_layer(q, "expert");
    const tmb_rule *rule = rule_of(q, c->role, layer, &unit);
    if (!rule) return;
    const char *format = better(c, rule->spec->format);
    snprintf(left, sizeof left, "@%s", tmb_role_name(c->role));
    if (c->role == TMB_ROLE_EXPERT) {
        if (!experts_glob(q, layer, left, sizeof left)) return;
    } else if (decides_only(q, rule, c->role)) {
        snprintf(row, sizeof row, "%s = %s", rule->left, format);
        if (take(q, e, set_value(e->text, rule->line + *shift, format), row)) return;
    }
    snprintf(row, sizeof row, "%s = %s", left, format);
    if (take(q, e, put_before(e->text, first_rule_line(e->text), row), row)) ++*shift;
}

tmb_status tmb_cause_advise(tmb_inquest *q, tmb_err *err)
{
    const tmb_recipe *recipe = q->options->recipe;
    if (!q->d || !recipe || !q->options->assignment || !recipe->text) return TMB_OK;
    const tmb_causes *routing = &q->d->verdict.scales[TMB_SCALE_ROUTING],
                     *output = &q->d->verdict.scales[TMB_SCALE_OUTPUT];
    edit e = {.text = strdup(recipe->text)};
    int shift = 0;
    if (!e.text) return tmb_fail_memory(err, strlen(recipe->text), "advice");
    for (size_t i = 0; i < routing->n; i++)
        if (tmb_cause_level(routing, i)) change(q, &e, &routing->list[i], &shift);
    bool said = output->n && routing->n && output->list[0].role == routing->list[0].role;
    bool shrinks = output->n && output->list[0].role == TMB_ROLE_EXPERT && routing->n;
    if (output->n && !said && !shrinks) change(q, &e, &output->list[0], &shift);
    if (*e.lines) {
        q->d->verdict.advice = tmb_arena_text(&q->d->arena, e.text, strlen(e.text));
        q->d->verdict.advice_line = tmb_arena_text(&q->d->arena, e.lines, strlen(e.lines));
    }
    bool kept = !*e.lines || (q->d->verdict.advice && q->d->verdict.advice_line);
    free(e.text);
    return kept ? TMB_OK : tmb_fail_memory(err, strlen(recipe->text), "advice");
}
