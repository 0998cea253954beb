/* warn.c - what is odd about a result that works: one sentence each, for plan to print. */
#include "config.h"
#include "moe/recipe/decide.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef struct list {
    tmb_decider *d;
    uint32_t room;
    tmb_status status;
} list;

__attribute__((format(printf, 3, 4))) static void warn(list *w, int32_t rule, const char *format,
                                                       ...)
{
    tmb_assignment *a = w->d->a;
    char what[TMB_ERR_BYTES];
    va_list ap;
    va_start(ap, format);
    vsnprintf(what, sizeof what, format, ap);
    va_end(ap);
    const char *path = w->d->recipe->path;
    const char *line = rule < 0 ? tmb_arena_printf(&a->arena, "%s: %s", path, what)
                                : tmb_arena_printf(&a->arena, "%s:%d: %s", path,
                                                   w->d->recipe->rules[rule].line, what);
    if (a->n_warnings == w->room) { /* the arena keeps the shorter lists; there are few */
        w->room = w->room ? 2 * w->room : 8;
        const char **more = tmb_arena_alloc(&a->arena, w->room * sizeof *more);
        if (more && a->n_warnings) memcpy(more, a->warnings, a->n_warnings * sizeof *more);
        a->warnings = more;
    }
    if (!line || !a->warnings) {
        w->status = tmb_fail_memory(w->d->err, a->arena.bytes, "warnings");
        a->n_warnings = w->room = 0;
        return;
    }
    a->warnings[a->n_warnings++] = line;
}

static const char *plural(uint32_t n)
{
    return n == 1 ? "" : "s";
}

/* What happened to the units of one rule against its word. */
static void about_rule(list *w, int32_t r)
{
    const tmb_decider *d = w->d;
    const tmb_rule *rule = &d->recipe->rules[r];
    const tmb_unit *units = d->model->units;
    const tmb_tally *t = d->tally[r];
    const char *format = rule->spec->name;

    const tmb_tally *moved = &t[TMB_REASON_MOVED];
    if (moved->n) {
        const tmb_unit *u = &units[moved->first];
        const char *why = tmb_role_protected(u->role) ? tmb_role_protected(u->role) : u->keep_why;
        warn(w, r, "'%s = %s' quantizes %" PRIu32 " module%s that better stay%s as %s (%s): %s",
             rule->left, format, moved->n, plural(moved->n), moved->n == 1 ? "s" : "",
             moved->n == 1 ? "it is" : "they are", u->name, why ? why : "small and sensitive");
    }

    const tmb_tally *kept = &t[TMB_REASON_KEPT];
    if (kept->n && kept->n == d->a->matched[r] && !d->left[r].any) {
        const tmb_unit *u = &units[kept->first];
        const char *why = d->a->choices[kept->first].why;
        if (u->linear && !rule->by_role)
            warn(w, r,
                 "'%s' changes nothing: all it decides stays as it is (%s, %s); if that is "
                 "meant to change, write @%s = %s",
                 rule->left, u->name, why, tmb_role_name(u->role), format);
        else
            warn(w, r, "'%s' changes nothing: all it decides stays as it is (%s, %s)", rule->left,
                 u->name, why);
    }

    const tmb_tally *columns = &t[TMB_REASON_COLUMNS];
    if (columns->n)
        warn(w, r, "'%s' leaves %" PRIu32 " module%s as %s: %s, and %s has %" PRIu64, rule->left,
             columns->n, plural(columns->n), columns->n == 1 ? "it is" : "they are",
             d->a->choices[columns->first].why, units[columns->first].name,
             units[columns->first].in);

    const tmb_tally *absorbed = &t[TMB_REASON_ABSORBED];
    if (absorbed->n)
        warn(w, r,
             "'%s' leaves %" PRIu32 " kv_b_proj as %s: engines multiply it into other "
             "matrices at load and cannot decode %s for that; fp8 is possible",
             rule->left, absorbed->n, absorbed->n == 1 ? "it is" : "they are", format);

    const tmb_tally *partner = &t[TMB_REASON_PARTNER];
    if (partner->n)
        warn(w, r, "'%s' leaves %" PRIu32 " more module%s as %s (%s): %s", rule->left, partner->n,
             plural(partner->n), partner->n == 1 ? "it is" : "they are", units[partner->first].name,
             d->a->choices[partner->first].why);
}

/* What one pass over all choices tells. */
typedef struct totals {
    uint64_t quantized; /* units */
    uint64_t experts, experts_quantized, experts_refused;
    uint64_t parameters, expert_parameters; /* of all Linears, of routed experts */
} totals;

/* A glob meant for the routed experts that also catches the shared ones, which every token
 * passes and which are few: people rarely mean that. */
static void about_shared(list *w, const uint32_t *shared, const uint32_t *first_shared,
                         const uint32_t *routed)
{
    const tmb_recipe *recipe = w->d->recipe;
    for (int32_t r = 0; r < recipe->n_rules; r++) {
        const tmb_rule *rule = &recipe->rules[r];
        if (rule->by_role || !rule->spec->format || !strstr(rule->left, "expert")) continue;
        if (!shared[r] || !routed[r]) continue;
        warn(w, r,
             "'%s' also takes %" PRIu32 " shared-expert module%s (%s), which every token "
             "passes; to treat them apart put '@shared_expert = fp8' above it",
             rule->left, shared[r], plural(shared[r]), w->d->model->units[first_shared[r]].name);
    }
}

/* A recipe that asked for a format and gets it nowhere does not fit the model: an error, or
 * somebody writes hundreds of gigabytes that differ in nothing. */
static bool refused_by_shape(const tmb_decider *d, tmb_status *status)
{
    for (int r = 0; r < d->recipe->n_rules; r++) {
        const tmb_tally *tally = &d->tally[r][TMB_REASON_COLUMNS];
        const tmb_rule *rule = &d->recipe->rules[r];
        if (!tally->n || !rule->spec->format) continue;
        const tmb_unit *unit = &d->model->units[tally->first];
        *status =
            tmb_fail(d->err, TMB_EUSAGE,
                     "%s:%d: no module would be quantized: %s wants a multiple of %u columns, and "
                     "%s has %" PRIu64 "; take a format that suits this model, like fp8 or nvfp4",
                     d->recipe->path, rule->line, rule->spec->name,
                     rule->spec->format->col_multiple, unit->name, unit->in);
        return true;
    }
    return false;
}

static void about_all(list *w, const totals *t)
{
    if (!t->quantized) {
        if (!w->status && !refused_by_shape(w->d, &w->status))
            warn(w, -1,
                 "no module would be quantized: every rule says bf16 or matches only what "
                 "stays as it is");
        return;
    }
    if (!t->experts || t->experts_quantized) return;
    warn(w, -1, "the routed experts stay as they are, and they are %.0f %% of the parameters; %s",
         100.0 * (double)t->expert_parameters / (double)t->parameters,
         t->experts_refused ? "take a format that their width allows, like fp8"
                            : "to quantize them add *experts* = nvfp4 to [rules]");
}

tmb_status tmb_warn(tmb_decider *d)
{
    const tmb_model *m = d->model;
    size_t n_rules = (size_t)d->recipe->n_rules;
    tmb_arena scratch = {0};
    uint32_t *counts = tmb_arena_alloc(&scratch, 3 * n_rules * sizeof *counts);
    if (!counts) return tmb_fail_memory(d->err, 3 * n_rules * sizeof *counts, "warnings");
    uint32_t *shared = counts, *first_shared = counts + n_rules, *routed = counts + 2 * n_rules;

    totals t = {0};
    for (uint32_t i = 0; i < m->n_units; i++) {
        const tmb_unit *u = &m->units[i];
        const tmb_choice *c = &d->a->choices[i];
        if (!u->linear) continue;
        bool quantized = c->spec->format != NULL;
        t.quantized += quantized;
        t.parameters += u->out * u->in;
        if (u->role == TMB_ROLE_EXPERT) {
            t.experts++;
            t.experts_quantized += quantized;
            t.experts_refused += c->why != NULL;
            t.expert_parameters += u->out * u->in;
        }
        if (!quantized) continue;
        if (u->role == TMB_ROLE_EXPERT) routed[c->rule]++;
        if (u->role == TMB_ROLE_SHARED_EXPERT && !shared[c->rule]++) first_shared[c->rule] = i;
    }

    list w = {.d = d};
    for (int32_t r = 0; r < d->recipe->n_rules; r++)
        about_rule(&w, r);
    about_shared(&w, shared, first_shared, routed);
    about_all(&w, &t);
    tmb_arena_free(&scratch);
    return w.status;
}
