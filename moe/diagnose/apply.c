/* apply.c - the advised recipe, run over the same tokens. */
#include "config.h"
#include "moe/diagnose/cause_internal.h"

#include <string.h>

static tmb_status score(tmb_diagnosis *d, const tmb_variant *ref, const tmb_plan *plan,
                        const tmb_data *data, const tmb_run_options *run, tmb_err *err)
{
    tmb_variant advised = tmb_variant_planned("advice", plan);
    tmb_score_options options = {.run = *run};
    tmb_scores scores = {.memory = NULL};
    tmb_boot boot = {.times = NULL};
    tmb_status status = tmb_score(ref, &advised, 1, data, &options, &scores, err);
    if (!status)
        status =
            tmb_boot_open(&boot, data->n_sequences, d->manifest.replicates, d->manifest.seed, err);
    if (!status && d->n_sparse)
        d->verdict.advised_set_match = tmb_scores_set_match(&scores, -1, &boot);
    if (!status) d->verdict.advised_kl = tmb_scores_kl(&scores, &boot);
    tmb_boot_close(&boot);
    tmb_scores_free(&scores, 1);
    return status;
}

tmb_status tmb_causes_apply(tmb_diagnosis *d, const tmb_variant *ref, const tmb_data *data,
                            const tmb_plan_options *like, const tmb_run_options *run, tmb_err *err)
{
    tmb_recipe *recipe = NULL;
    tmb_assignment *assignment = NULL;
    tmb_plan *plan = NULL;
    const char *text = d->verdict.advice;
    if (!text) return TMB_OK;
    tmb_status status = tmb_recipe_parse(&recipe, text, strlen(text), "advice", err);
    if (!status) status = tmb_assign(&assignment, ref->model, recipe, err);
    if (!status) status = tmb_plan_build(&plan, ref->model, recipe, assignment, like, err);
    if (!status) status = score(d, ref, plan, data, run, err);
    if (!status) status = tmb_cause_say_advised(d, err);
    tmb_plan_close(plan);
    tmb_assignment_close(assignment);
    tmb_recipe_close(recipe);
    return status;
}
