/* plan.c - the order of planning, and the life of a plan. */
#include "config.h"
#include "moe/quantize/plan.h"

#include "kernels/base/team.h"
#include "moe/layout/layouts.h"
#include "moe/quantize/measured.h"
#include "moe/quantize/plan_internal.h"
#include "moe/quantize/weighing.h"

#include <stdlib.h>

static tmb_status defaults(tmb_plan *plan, const tmb_plan_options *options, tmb_err *err)
{
    const tmb_recipe *recipe = plan->job.recipe;
    if (options) plan->options = *options;
    tmb_plan_options *o = &plan->options;
    if (!o->layout) o->layout = recipe->layout ? recipe->layout : "modelopt";
    if (!o->shard_size) o->shard_size = recipe->shard_size;
    if (!o->shard_size) o->shard_size = TMB_SHARD_BYTES;
    if (o->threads <= 0) o->threads = tmb_team_size();
    if (o->threads < 1) o->threads = 1;
    plan->layout = tmb_layout_find(o->layout);
    if (!plan->layout)
        return tmb_fail(err, TMB_EUSAGE,
                        "%s: there is no such layout; modelopt and "
                        "compressed-tensors are",
                        o->layout);
    o->layout = plan->layout->name;
    return TMB_OK;
}

/* For each tensor the units whose values lie in it: several when it is a stack of experts. */
static tmb_status views(tmb_planner *p, tmb_err *err)
{
    const tmb_model *model = p->model;
    size_t n = p->ckpt->n_tensors;
    p->view_first = calloc(n + 2, sizeof *p->view_first);
    p->views = malloc((model->n_units + 1) * sizeof *p->views);
    p->owned = calloc(n + 1, 1);
    if (!p->view_first || !p->views || !p->owned)
        return tmb_fail_memory(err, n * 5 + model->n_units * 4, "the order of the outputs");
    for (uint32_t u = 0; u < model->n_units; u++) {
        const uint32_t *part = model->units[u].stored.part;
        for (int i = 0; i < TMB_PARTS; i++)
            if (part[i] != TMB_NO_TENSOR) p->owned[part[i]] = 1;
        if (part[TMB_PART_CODES] != TMB_NO_TENSOR) p->view_first[part[TMB_PART_CODES] + 2]++;
    }
    for (size_t t = 1; t <= n; t++)
        p->view_first[t + 1] += p->view_first[t];
    for (uint32_t u = 0; u < model->n_units; u++) {
        uint32_t t = model->units[u].stored.part[TMB_PART_CODES];
        if (t != TMB_NO_TENSOR) p->views[p->view_first[t + 1]++] = u;
    }
    return TMB_OK;
}

tmb_status tmb_plan_build(tmb_plan **out, const tmb_model *model, const tmb_recipe *recipe,
                          const tmb_assignment *assignment, const tmb_plan_options *options,
                          tmb_err *err)
{
    tmb_status status = TMB_OK;
    tmb_plan *plan = calloc(1, sizeof *plan);
    if (!plan) return tmb_fail_memory(err, sizeof *plan, "a plan");
    plan->job = (tmb_job_view){.model = model, .recipe = recipe, .assignment = assignment};
    tmb_planner p = {.plan = plan, .ckpt = model->ckpt, .model = model};

    if ((status = defaults(plan, options, err))) goto out;
    if ((status = views(&p, err))) goto out;
    if ((status = tmb_plan_choose(&p, err))) goto out;
    if ((status = tmb_model_complete(model, err))) goto out;
    if ((status = tmb_weighing_needs(plan, err))) goto out;
    if (plan->options.stats && (status = tmb_measure(plan, err))) goto out;
    if ((status = tmb_plan_outs(&p, err))) goto out;
    if ((status = tmb_plan_bundles(&p, err))) goto out;
    if ((status = tmb_plan_files(&p, err))) goto out;
    if ((status = tmb_plan_totals(&p, err))) goto out;
    if ((status = tmb_plan_texts(&p, err))) goto out;
    status = tmb_plan_memory(&p, err);
out:
    free(p.view_first);
    free(p.views);
    free(p.owned);
    tmb_names_free(&p.names);
    if (status) {
        tmb_plan_close(plan);
        plan = NULL;
    }
    *out = plan;
    return status;
}

void tmb_plan_close(tmb_plan *plan)
{
    if (!plan) return;
    free(plan->outs);
    free(plan->slots);
    free(plan->config_text);
    free(plan->file_text);
    free(plan->resolved);
    tmb_arena_free(&plan->arena);
    free(plan);
}
