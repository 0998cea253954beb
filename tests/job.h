/* job.h - a whole job in one struct, for tests: checkpoint, inventory, recipe, rules, plan. */
#ifndef TMB_TESTS_JOB_H
#define TMB_TESTS_JOB_H

#include "moe/quantize/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct job {
    tmb_checkpoint *ckpt;
    tmb_model *model;
    tmb_recipe *recipe;
    tmb_assignment *assignment;
    tmb_plan *plan;
    tmb_err err;
} job;

/* rules: the lines under [rules]. */
static inline tmb_status job_open(job *j, const char *path, const char *rules,
                                  const tmb_plan_options *options)
{
    char text[4096];
    memset(j, 0, sizeof *j);
    int n = snprintf(text, sizeof text, "[recipe]\nversion = 1\n[rules]\n%s", rules);
    tmb_status status = tmb_checkpoint_open(&j->ckpt, path, &j->err);
    if (!status) status = tmb_model_open(&j->model, j->ckpt, &j->err);
    if (!status) status = tmb_recipe_parse(&j->recipe, text, (size_t)n, "test.ini", &j->err);
    if (!status) status = tmb_assign(&j->assignment, j->model, j->recipe, &j->err);
    if (!status)
        status = tmb_plan_build(&j->plan, j->model, j->recipe, j->assignment, options, &j->err);
    return status;
}

static inline void job_close(job *j)
{
    tmb_plan_close(j->plan);
    if (j->assignment) tmb_assignment_close(j->assignment);
    if (j->recipe) tmb_recipe_close(j->recipe);
    if (j->model) tmb_model_close(j->model);
    if (j->ckpt) tmb_checkpoint_close(j->ckpt);
    memset(j, 0, sizeof *j);
}

/* "$srcdir/tests/data/NAME" in one of four rotating buffers. */
static inline const char *data_path(const char *name)
{
    static char paths[4][1024];
    static int next;
    const char *srcdir = getenv("srcdir");
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/tests/data/%s", srcdir ? srcdir : ".", name);
    return path;
}

#endif
