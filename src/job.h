/* job.h - what the commands open: checkpoint, inventory, recipe, plan. */
#ifndef TMB_SRC_JOB_H
#define TMB_SRC_JOB_H

#include "moe/fly/fly.h"
#include "moe/quantize/plan.h"

typedef struct tmb_job {
    tmb_checkpoint *ckpt;
    tmb_model *model;
    tmb_recipe *recipe;
    tmb_assignment *assignment;
    tmb_plan *plan;
    tmb_fly *fly; /* the recipe applied while the model runs; NULL: it runs as it is */
} tmb_job;

/* --recipe and what goes with it, of commands that run a model. */
typedef struct tmb_job_recipe {
    const char *recipe, *stats, *layout; /* NULL: not given */
} tmb_job_recipe;

/* Checkpoint and inventory.  Zero the job before; close it also after a failure. */
tmb_status tmb_job_open(tmb_job *job, const char *path, tmb_err *err) TMB_CHECKED;
/* TMB_EUSAGE when --recipe was not given. */
tmb_status tmb_job_need_recipe(const char *recipe, tmb_err *err) TMB_CHECKED;
/* Recipe, assignment and plan on top. */
tmb_status tmb_job_plan(tmb_job *job, const char *recipe, const tmb_plan_options *options,
                        tmb_err *err) TMB_CHECKED;
/* Recipe, assignment, plan and job->fly when a recipe was given; TMB_EUSAGE for the others without
 * one. */
tmb_status tmb_job_apply(tmb_job *job, const tmb_job_recipe *recipe, int threads,
                         tmb_err *err) TMB_CHECKED;
/* Give back recipe, assignment, plan and fly, so that another recipe can be planned. */
void tmb_job_unplan(tmb_job *job);
void tmb_job_close(tmb_job *job);

/* "qwen3_moe, 6 layers, 16 experts (top-4), 2.74 M parameters (1.00 M active)". */
const char *tmb_job_about(const tmb_model *model, char *out, size_t size);

#endif
