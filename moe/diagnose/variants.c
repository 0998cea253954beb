/* variants.c - models to compare: a checkpoint as it is stored, a source under a recipe. */
#include "config.h"
#include "moe/diagnose/run.h"

#include "kernels/cpu/cpu.h"
#include "moe/eval/acts.h"
#include "moe/fly/fly.h"

static tmb_status open_stored(const tmb_variant *self, tmb_hooks *hooks, void **own, tmb_err *err)
{
    tmb_acts *acts = NULL;
    TRY(tmb_acts_open(&acts, self->model, tmb_cpu_ops(), err));
    *own = acts;
    if (tmb_acts_any(acts)) *hooks = tmb_acts_hooks(acts);
    return TMB_OK;
}

static void close_stored(void *own)
{
    tmb_acts_close(own);
}

tmb_variant tmb_variant_stored(const char *name, const tmb_model *model)
{
    return (tmb_variant){.name = name, .model = model, .open = open_stored, .close = close_stored};
}

static tmb_status open_planned(const tmb_variant *self, tmb_hooks *hooks, void **own, tmb_err *err)
{
    tmb_fly *fly = NULL;
    TRY(tmb_fly_open(&fly, self->plan, tmb_cpu_ops(), err));
    *own = fly;
    *hooks = tmb_fly_hooks(fly);
    return TMB_OK;
}

static void close_planned(void *own)
{
    tmb_fly_close(own);
}

tmb_variant tmb_variant_planned(const char *name, const tmb_plan *plan)
{
    return (tmb_variant){.name = name,
                         .model = plan->job.model,
                         .open = open_planned,
                         .close = close_planned,
                         .plan = plan};
}
