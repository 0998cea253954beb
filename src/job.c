/* job.c - what the commands open. */
#include "config.h"
#include "src/job.h"

#include "kernels/cpu/cpu.h"
#include "src/recipe_dirs.h"
#include "src/text.h"

#include <stdio.h>
#include <string.h>

tmb_status tmb_job_open(tmb_job *job, const char *path, tmb_err *err)
{
    TRY(tmb_checkpoint_open(&job->ckpt, path, err));
    return tmb_model_open(&job->model, job->ckpt, err);
}

tmb_status tmb_job_need_recipe(const char *recipe, tmb_err *err)
{
    if (recipe) return TMB_OK;
    return tmb_fail(err, TMB_EUSAGE,
                    "no recipe given; add --recipe with a file or a shipped name such as "
                    "nvfp4-experts");
}

tmb_status tmb_job_plan(tmb_job *job, const char *recipe, const tmb_plan_options *options,
                        tmb_err *err)
{
    tmb_recipe_dirs dirs;
    tmb_recipe_dirs_find(&dirs);
    TRY(tmb_recipe_load(&job->recipe, recipe, dirs.at, err));
    TRY(tmb_assign(&job->assignment, job->model, job->recipe, err));
    return tmb_plan_build(&job->plan, job->model, job->recipe, job->assignment, options, err);
}

tmb_status tmb_job_apply(tmb_job *job, const tmb_job_recipe *r, int threads, tmb_err *err)
{
    const char *other = r->stats ? "--stats" : r->layout ? "--layout" : NULL;
    if (!r->recipe && other)
        return tmb_fail(err, TMB_EUSAGE,
                        "%s says how a recipe is applied, and no recipe is given; add --recipe",
                        other);
    if (!r->recipe) return TMB_OK;
    tmb_plan_options want = {.layout = r->layout, .threads = threads, .stats = r->stats};
    TRY(tmb_job_plan(job, r->recipe, &want, err));
    return tmb_fly_open(&job->fly, job->plan, tmb_cpu_ops(), err);
}

void tmb_job_unplan(tmb_job *job)
{
    tmb_fly_close(job->fly);
    job->fly = NULL;
    tmb_plan_close(job->plan);
    tmb_assignment_close(job->assignment);
    tmb_recipe_close(job->recipe);
    job->plan = NULL;
    job->assignment = NULL;
    job->recipe = NULL;
}

void tmb_job_close(tmb_job *job)
{
    tmb_job_unplan(job);
    tmb_model_close(job->model);
    tmb_checkpoint_close(job->ckpt);
    memset(job, 0, sizeof *job);
}

const char *tmb_job_about(const tmb_model *m, char *out, size_t size)
{
    char all[TMB_HUMAN_BYTES], active[TMB_HUMAN_BYTES], type[128];
    size_t o = (size_t)snprintf(out, size, "%s%s",
                                tmb_safe(type, sizeof type, *m->model_type ? m->model_type : "?"),
                                m->guessed ? " (unknown architecture, roles are guessed)" : "");
    if (m->n_layers && o < size)
        o += (size_t)snprintf(out + o, size - o, ", %d layers", m->n_layers);
    if (m->n_experts && o < size)
        o += (size_t)snprintf(out + o, size - o, ", %d experts", m->n_experts);
    if (m->n_experts && m->top_k && o < size)
        o += (size_t)snprintf(out + o, size - o, " (top-%d)", m->top_k);
    if (o < size)
        o += (size_t)snprintf(out + o, size - o, ", %s parameters",
                              tmb_human_count(all, m->parameters));
    if (m->active_parameters && m->active_parameters < m->parameters && o < size)
        snprintf(out + o, size - o, " (%s active)", tmb_human_count(active, m->active_parameters));
    return out;
}
