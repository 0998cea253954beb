/* plan_rows.c - the table of a plan: what each rule does to each role, and what that adds up to. */
#include "config.h"
#include "moe/quantize/plan_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

tmb_status tmb_plan_warn(tmb_plan *plan, const char *text, tmb_err *err)
{
    for (uint32_t i = 0; i < plan->n_warnings; i++)
        if (strcmp(plan->warnings[i], text) == 0) return TMB_OK;
    /* room doubles at every power of two */
    if ((plan->n_warnings & (plan->n_warnings - 1)) == 0) {
        size_t room = plan->n_warnings ? 2 * (size_t)plan->n_warnings : 1;
        const char **more = tmb_arena_alloc(&plan->arena, room * sizeof *more);
        if (!more) return tmb_fail_memory(err, room * sizeof *more, "warnings");
        if (plan->n_warnings) memcpy(more, plan->warnings, plan->n_warnings * sizeof *more);
        plan->warnings = more;
    }
    const char *own = tmb_arena_text(&plan->arena, text, strlen(text));
    if (!own) return tmb_fail_memory(err, strlen(text), "a warning");
    plan->warnings[plan->n_warnings++] = own;
    return TMB_OK;
}

/* Ask the layout; what it says gets the place of the rule that decided. */
static tmb_status accept(tmb_planner *p, uint32_t u, tmb_err *err)
{
    tmb_plan *plan = p->plan;
    const tmb_recipe *recipe = plan->job.recipe;
    const tmb_choice *choice = &plan->job.assignment->choices[u];
    const char *warning = NULL;
    tmb_err inner = {0};
    tmb_status status =
        plan->layout->accepts(choice->spec, &p->model->units[u], p->mixed, &warning, &inner);
    if (!status && !warning) return TMB_OK;
    int line = choice->rule >= 0 ? recipe->rules[choice->rule].line : choice->spec->line;
    if (status) return tmb_fail(err, status, "%s:%d: %s", recipe->path, line, inner.message);
    char text[TMB_ERR_BYTES];
    snprintf(text, sizeof text, "%s:%d: %s", recipe->path, line, warning);
    return tmb_plan_warn(plan, text, err);
}

/* What engines need to be told, or do wrong. */
static tmb_status add_notes(tmb_plan *plan, tmb_err *err)
{
    const char **notes = NULL;
    size_t n = 0;
    if (plan->layout->notes) TRY(plan->layout->notes(&plan->job, &plan->arena, &notes, &n, err));
    for (size_t i = 0; i < n; i++)
        TRY(tmb_plan_warn(plan, notes[i], err));
    return TMB_OK;
}

static tmb_status refuse_broken(const tmb_planner *p, const tmb_unit *unit, tmb_err *err)
{
    uint32_t t = unit->stored.part[TMB_PART_CODES];
    const char *file = p->ckpt->path;
    if (t != TMB_NO_TENSOR) file = p->ckpt->shards[p->ckpt->tensors[t].shard].name;
    return tmb_fail(err, TMB_EDATA, "%s: %s: %s; download the checkpoint again, or ask who made it",
                    file, unit->name, unit->broken);
}

tmb_status tmb_plan_choose(tmb_planner *p, tmb_err *err)
{
    tmb_plan *plan = p->plan;
    const tmb_model *model = p->model;
    const tmb_assignment *assignment = plan->job.assignment;
    size_t n_rules = (size_t)plan->job.recipe->n_rules + 1;
    size_t keys = (size_t)TMB_ROLES * n_rules * 2;
    plan->row_of = tmb_arena_alloc(&plan->arena, (model->n_units + 1) * sizeof *plan->row_of);
    plan->rows = tmb_arena_alloc(&plan->arena, keys * sizeof *plan->rows);
    if (!plan->row_of || !plan->rows)
        return tmb_fail_memory(err, model->n_units * 4 + keys * sizeof *plan->rows, "the table");

    for (uint32_t i = 0; i < assignment->n_warnings; i++)
        TRY(tmb_plan_warn(plan, assignment->warnings[i], err));
    const tmb_format *first = NULL;
    for (uint32_t u = 0; u < model->n_units; u++) {
        const tmb_choice *choice = &assignment->choices[u];
        const tmb_unit *unit = &model->units[u];
        if (unit->broken) return refuse_broken(p, unit, err);
        if (choice->spec->format && first && choice->spec->format != first) p->mixed = true;
        if (choice->spec->format) first = choice->spec->format;
        size_t key = ((size_t)unit->role * n_rules + (size_t)(choice->rule + 1)) * 2 +
                     (choice->spec->format != NULL);
        plan->row_of[u] = (uint32_t)key;
        tmb_plan_row *row = &plan->rows[key];
        row->role = unit->role;
        row->spec = choice->spec;
        row->rule = choice->rule;
        row->units++;
    }
    /* close the ranks: rows are in the order of role, then rule */
    uint32_t *now = calloc(keys, sizeof *now);
    if (!now) return tmb_fail_memory(err, keys * sizeof *now, "the table");
    for (size_t key = 0; key < keys; key++) {
        if (!plan->rows[key].units) continue;
        now[key] = plan->n_rows;
        plan->rows[plan->n_rows++] = plan->rows[key];
    }
    for (uint32_t u = 0; u < model->n_units; u++)
        plan->row_of[u] = now[plan->row_of[u]];
    free(now);

    for (uint32_t u = 0; u < model->n_units; u++)
        if (assignment->choices[u].spec->format) TRY(accept(p, u, err));
    return add_notes(plan, err);
}

/* Of a tensor that several units view, each answers for its share of the elements. */
static uint64_t bytes_of_unit(const tmb_planner *p, const tmb_unit *unit, uint64_t *tensors)
{
    uint64_t bytes = 0;
    for (int i = 0; i < TMB_PARTS; i++) {
        uint32_t t = unit->stored.part[i];
        if (t == TMB_NO_TENSOR) continue;
        uint64_t total = p->ckpt->tensors[t].bytes;
        uint32_t codes = unit->stored.part[TMB_PART_CODES];
        uint32_t n = codes == TMB_NO_TENSOR ? 1 : p->view_first[codes + 1] - p->view_first[codes];
        bool first = n <= 1 || &p->model->units[p->views[p->view_first[codes]]] == unit;
        if (first) *tensors += 1;
        /* the first also takes what does not divide */
        bytes += n <= 1 ? total : total / n + (first ? total % n : 0);
    }
    return bytes;
}

static uint64_t parameters_of(const tmb_planner *p, const tmb_unit *unit)
{
    uint64_t n = 1;
    if (unit->linear) return unit->out * unit->in;
    const uint32_t t = unit->stored.part[TMB_PART_CODES];
    if (t == TMB_NO_TENSOR) return 0;
    for (int i = 0; i < p->ckpt->tensors[t].rank; i++)
        n *= p->ckpt->tensors[t].shape[i];
    return n;
}

tmb_status tmb_plan_totals(tmb_planner *p, tmb_err *err)
{
    tmb_plan *plan = p->plan;
    uint64_t linear_bytes = 0, linear_parameters = 0;
    uint64_t *bytes_out = calloc(p->model->n_units + 1, sizeof *bytes_out);
    if (!bytes_out) return tmb_fail_memory(err, p->model->n_units * 8, "the table");

    for (uint32_t i = 0; i < plan->n_outs; i++) {
        const tmb_out *out = &plan->outs[i];
        plan->bytes_out += out->bytes;
        if (out->kind == TMB_OUT_CONST) continue;
        /* who answers for it: the unit whose tensor it copies, or the first that writes it */
        uint32_t u = out->source;
        if (out->kind == TMB_OUT_COPY) {
            if (p->view_first[u] == p->view_first[u + 1]) continue;
            u = p->views[p->view_first[u]];
        }
        plan->rows[plan->row_of[u]].tensors_out++;
        plan->rows[plan->row_of[u]].bytes_out += out->bytes;
        bytes_out[u] += out->bytes;
    }
    for (uint32_t u = 0; u < p->model->n_units; u++) {
        const tmb_unit *unit = &p->model->units[u];
        tmb_plan_row *row = &plan->rows[plan->row_of[u]];
        uint64_t parameters = parameters_of(p, unit);
        row->bytes_in += bytes_of_unit(p, unit, &row->tensors_in);
        row->parameters += parameters;
        if (!unit->linear || (unit->keep && !row->spec->format)) continue;
        linear_bytes += bytes_out[u];
        linear_parameters += parameters;
    }
    plan->bytes_in = p->ckpt->total_bytes;
    if (linear_parameters)
        plan->bits_effective = 8.0 * (double)linear_bytes / (double)linear_parameters;
    free(bytes_out);
    return TMB_OK;
}
