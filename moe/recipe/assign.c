/* assign.c - which rule decides about each unit. */
#include "config.h"
#include "moe/io/match.h"
#include "moe/recipe/decide.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- left sides ---------------------------------------------------------------------------- */

tmb_left tmb_left_of(const tmb_rule *rule)
{
    const char *glob = rule->left;
    size_t n = strlen(glob);
    tmb_left l = {.glob = glob, .n = n, .by_role = rule->by_role, .role = rule->role};
    if (rule->by_role) return l;

    l.prefix = strcspn(glob, "*?[");
    l.exact = l.prefix == n;
    l.any = n == 1 && *glob == '*';
    while (l.suffix < n && !strchr("*?[]", glob[n - 1 - l.suffix]))
        l.suffix++;
    if (n > 2 && *glob == '*' && glob[n - 1] == '*' && strcspn(glob + 1, "*?[") == n - 2) {
        l.inner = glob + 1;
        l.inner_n = n - 2;
    }
    return l;
}

static bool name_matches(const tmb_left *l, const char *name)
{
    if (l->any) return true;
    if (l->exact) return strcmp(l->glob, name) == 0;
    size_t n = strlen(name);
    if (l->inner) return memmem(name, n, l->inner, l->inner_n) != NULL;
    if (n < l->prefix || n < l->suffix) return false;
    if (memcmp(name, l->glob, l->prefix) != 0) return false;
    if (memcmp(name + n - l->suffix, l->glob + l->n - l->suffix, l->suffix) != 0) return false;
    return tmb_glob(l->glob, name);
}

bool tmb_left_matches(const tmb_left *l, const tmb_unit *u)
{
    if (l->by_role) return u->role == l->role;
    return name_matches(l, u->name) || (u->stacked && name_matches(l, u->disk));
}

/* --- deciding ------------------------------------------------------------------------------ */

tmb_status tmb_decider_fail(tmb_decider *d, int32_t rule, const char *format, ...)
{
    char what[TMB_ERR_BYTES];
    va_list ap;
    va_start(ap, format);
    vsnprintf(what, sizeof what, format, ap);
    va_end(ap);
    return tmb_fail(d->err, TMB_EUSAGE, "%s:%d: %s", d->recipe->path, d->recipe->rules[rule].line,
                    what);
}

void tmb_decider_count(tmb_decider *d, uint32_t unit, tmb_reason reason)
{
    tmb_tally *t = &d->tally[d->a->choices[unit].rule][reason];
    if (!t->n++) t->first = unit;
}

/* First match wins.  matched[] counts what each rule decided; seen[] whether its left side
 * matches anything at all, which is only asked until it is known. */
static void match_all(tmb_decider *d, bool *seen)
{
    const tmb_model *m = d->model;
    int n_rules = d->recipe->n_rules;
    int unseen = n_rules;
    for (uint32_t i = 0; i < m->n_units; i++) {
        tmb_choice *c = &d->a->choices[i];
        c->rule = -1;
        c->spec = &d->recipe->specs[0];
        for (int r = 0; r < n_rules; r++) {
            bool decided = c->rule >= 0;
            if (decided && unseen == 0) break;
            if (decided && seen[r]) continue;
            if (!tmb_left_matches(&d->left[r], &m->units[i])) continue;
            if (!seen[r]) unseen--;
            seen[r] = true;
            if (decided) continue;
            c->rule = r;
            c->spec = d->recipe->rules[r].spec;
            d->a->matched[r]++;
        }
    }
}

/* A rule that matches units, all of them taken by rules above it. */
static tmb_status shadowed(tmb_decider *d, int rule)
{
    int32_t taker = -1;
    bool alone = true;
    for (uint32_t i = 0; i < d->model->n_units; i++) {
        if (!tmb_left_matches(&d->left[rule], &d->model->units[i])) continue;
        int32_t by = d->a->choices[i].rule;
        alone = alone && (taker < 0 || by == taker);
        if (taker < 0 || by < taker) taker = by;
    }
    const tmb_rule *above = &d->recipe->rules[taker];
    const char *left = d->recipe->rules[rule].left;
    if (alone)
        return tmb_decider_fail(d, rule,
                                "'%s' decides nothing: '%s' in line %d takes all that it matches; "
                                "move it above line %d or remove it",
                                left, above->left, above->line, above->line);
    return tmb_decider_fail(d, rule,
                            "'%s' decides nothing: rules above it take all that it matches, first "
                            "'%s' in line %d; move it above line %d or remove it",
                            left, above->left, above->line, above->line);
}

static tmb_status check_rules(tmb_decider *d, const bool *seen)
{
    for (int r = 0; r < d->recipe->n_rules; r++) {
        const tmb_left *l = &d->left[r];
        if (d->a->matched[r] || l->any) continue; /* "*" says: whatever is left, be it nothing */
        if (seen[r]) return shadowed(d, r);
        if (!l->by_role) return tmb_hint(d, r);
    }
    return TMB_OK;
}

tmb_status tmb_assign(tmb_assignment **out, const tmb_model *model, const tmb_recipe *recipe,
                      tmb_err *err)
{
    *out = NULL;
    size_t n_rules = (size_t)recipe->n_rules;
    tmb_assignment *a = calloc(1, sizeof *a);
    if (!a) return tmb_fail_memory(err, sizeof *a, "the choices of a recipe");
    tmb_arena scratch = {0};
    tmb_decider d = {.model = model, .recipe = recipe, .a = a, .err = err};
    bool *seen = tmb_arena_alloc(&scratch, n_rules * sizeof *seen);
    d.left = tmb_arena_alloc(&scratch, n_rules * sizeof *d.left);
    d.tally = tmb_arena_alloc(&scratch, n_rules * sizeof *d.tally);
    a->choices = tmb_arena_alloc(&a->arena, model->n_units * sizeof *a->choices);
    a->matched = tmb_arena_alloc(&a->arena, n_rules * sizeof *a->matched);
    tmb_status status;
    if (!seen || !d.left || !d.tally || !a->choices || !a->matched) {
        status =
            tmb_fail_memory(err, model->n_units * sizeof *a->choices, "the choices of a recipe");
        goto out;
    }
    for (size_t r = 0; r < n_rules; r++)
        d.left[r] = tmb_left_of(&recipe->rules[r]);

    match_all(&d, seen);
    status = check_rules(&d, seen);
    if (!status) status = tmb_settle(&d);
    if (!status) status = tmb_warn(&d);
out:
    tmb_arena_free(&scratch);
    if (status) {
        tmb_assignment_close(a);
        return status;
    }
    *out = a;
    return TMB_OK;
}

void tmb_assignment_close(tmb_assignment *assignment)
{
    if (!assignment) return;
    tmb_arena_free(&assignment->arena);
    free(assignment);
}
