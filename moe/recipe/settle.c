/* settle.c - from "this rule decides" to what is done: protection, what a format can take, and
 * the Linears that engines run as one, which must end with one format. */
#include "config.h"
#include "moe/recipe/decide.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *leaf(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot ? dot + 1 : name;
}

/* Whether the rule names this unit, which is what moves a kept one: its role, or, where the
 * role is not protected, its whole name. */
static bool names(const tmb_left *l, const tmb_unit *u)
{
    return l->by_role || (l->exact && !tmb_role_protected(u->role));
}

/* Multi-head latent attention: engines multiply kv_b_proj into the query and output projections
 * at load, and know how to decode FP8 for that, but no 4-bit format. */
static bool absorbed(const tmb_unit *u, const tmb_format *f)
{
    return f->bits < 8 && strcmp(leaf(u->name), "kv_b_proj") == 0;
}

static void keep(tmb_decider *d, uint32_t unit, tmb_reason reason, const char *why)
{
    tmb_choice *c = &d->a->choices[unit];
    c->spec = &d->recipe->specs[0];
    c->why = why;
    tmb_decider_count(d, unit, reason);
}

/* "nvfp4 wants a multiple of 16 columns", one text for each format. */
static const char *columns_why(tmb_decider *d, const tmb_format *f)
{
    return tmb_arena_printf(&d->a->arena, "%s wants a multiple of %u columns", f->name,
                            f->col_multiple);
}

static tmb_status settle_unit(tmb_decider *d, uint32_t i, const char **columns)
{
    const tmb_unit *u = &d->model->units[i];
    tmb_choice *c = &d->a->choices[i];
    const tmb_format *f = c->spec->format;
    if (!f) return TMB_OK;

    const tmb_left *l = &d->left[c->rule];
    if (!u->linear) {
        keep(d, i, TMB_REASON_KEPT, u->keep_why ? u->keep_why : "no Linear: formats take matrices");
        return TMB_OK;
    }
    if ((u->keep || tmb_role_protected(u->role)) && !names(l, u)) {
        keep(d, i, TMB_REASON_KEPT, u->keep_why ? u->keep_why : tmb_role_protected(u->role));
        return TMB_OK;
    }
    if (f->col_multiple > 1 && u->in % f->col_multiple != 0) {
        if (l->exact || l->by_role)
            return tmb_decider_fail(d, c->rule,
                                    "%s cannot take %s: it has %" PRIu64 " columns, no multiple of "
                                    "%u; give it fp8 or bf16",
                                    c->spec->name, u->name, u->in, f->col_multiple);
        if (!*columns && !(*columns = columns_why(d, f)))
            return tmb_fail_memory(d->err, d->a->arena.bytes, "the choices of a recipe");
        keep(d, i, TMB_REASON_COLUMNS, *columns);
        return TMB_OK;
    }
    if (absorbed(u, f) && !l->exact) {
        keep(d, i, TMB_REASON_ABSORBED, "engines multiply it into other matrices at load");
        return TMB_OK;
    }
    if (u->keep || tmb_role_protected(u->role)) tmb_decider_count(d, i, TMB_REASON_MOVED);
    return TMB_OK;
}

/* --- what must agree ------------------------------------------------------------------------ */

/* A group of which some could not be quantized stays as it is, unless a rule names one of the
 * others exactly. */
static tmb_status spread(tmb_decider *d, const uint32_t *units, uint32_t n, const char *why)
{
    uint32_t stuck = TMB_NONE;
    for (uint32_t k = 0; k < n && stuck == TMB_NONE; k++)
        if (d->a->choices[units[k]].why) stuck = units[k];
    if (stuck == TMB_NONE) return TMB_OK;

    for (uint32_t k = 0; k < n; k++) {
        const tmb_choice *c = &d->a->choices[units[k]];
        if (!c->spec->format) continue;
        if (d->left[c->rule].exact)
            return tmb_decider_fail(d, c->rule,
                                    "%s cannot be %s alone: engines run it as one with %s, which "
                                    "stays as it is (%s); give both fp8 or bf16",
                                    d->model->units[units[k]].name, c->spec->name,
                                    d->model->units[stuck].name, d->a->choices[stuck].why);
        keep(d, units[k], TMB_REASON_PARTNER, why);
    }
    return TMB_OK;
}

static const char *rule_of(const tmb_decider *d, const tmb_choice *c, char *buffer, size_t size)
{
    if (c->rule < 0) return "no rule";
    const tmb_rule *r = &d->recipe->rules[c->rule];
    snprintf(buffer, size, "'%s' in line %d", r->left, r->line);
    return buffer;
}

/* One format for all of a group.  `what`: why they belong together. */
static tmb_status agree(tmb_decider *d, const uint32_t *units, uint32_t n, const char *what,
                        const char *remedy)
{
    for (uint32_t k = 1; k < n; k++) {
        const tmb_choice *a = &d->a->choices[units[0]], *b = &d->a->choices[units[k]];
        if (a->spec->format == b->spec->format) continue;
        char by_a[256], by_b[256];
        return tmb_decider_fail(d, b->rule > a->rule ? b->rule : a->rule,
                                "%s is %s (%s) but %s is %s (%s), and %s; %s",
                                d->model->units[units[0]].name, a->spec->name,
                                rule_of(d, a, by_a, sizeof by_a), d->model->units[units[k]].name,
                                b->spec->name, rule_of(d, b, by_b, sizeof by_b), what, remedy);
    }
    return TMB_OK;
}

tmb_status tmb_settle(tmb_decider *d)
{
    const tmb_model *m = d->model;
    const char *columns[64] = {NULL}; /* by spec; recipes with more variants repeat the text */
    for (uint32_t i = 0; i < m->n_units; i++) {
        size_t spec = (size_t)(d->a->choices[i].spec - d->recipe->specs);
        const char *own = NULL;
        TRY(settle_unit(d, i, spec < 64 ? &columns[spec] : &own));
    }

    for (uint32_t g = 0; g < m->n_fuses; g++)
        TRY(spread(d, m->fuses[g].units, m->fuses[g].n_units,
                   "a Linear that engines fuse with it stays as it is"));
    for (uint32_t g = 0; g < m->n_experts_groups; g++)
        TRY(spread(d, m->experts[g].units, m->experts[g].n_units,
                   "another Linear of its layer's experts stays as it is"));

    for (uint32_t g = 0; g < m->n_fuses; g++)
        TRY(agree(d, m->fuses[g].units, m->fuses[g].n_units, "engines run them as one Linear",
                  "let one rule decide both"));
    for (uint32_t g = 0; g < m->n_experts_groups; g++)
        TRY(agree(d, m->experts[g].units, m->experts[g].n_units,
                  "the experts of a layer run as one kernel",
                  "let one rule decide all experts of a layer, like *experts* = nvfp4"));
    return TMB_OK;
}
