/* advice.c - which shipped recipe suits a GPU and a checkpoint, and why.
 *
 * What a generation computes: CUDA C++ Programming Guide, "Compute Capabilities", and PTX ISA,
 * mma and tcgen05.mma: FP8 from 8.9 on, block-scaled FP4 from 10.0 on.  Below these, engines keep
 * the weight small and compute in BF16 (weight-only kernels, from 8.0 on). */
#include "config.h"
#include "src/advice.h"

#include "src/text.h"

#include <stdio.h>
#include <string.h>

static const struct generation {
    int from; /* 10 * major + minor */
    const char *name, *cores;
    const char *recipes[4]; /* in the order of preference */
    const char *why;
} generations[] = {
    {100,
     "Blackwell",
     "FP4 and FP8 tensor cores",
     {"nvfp4-experts", "nvfp4-all", NULL},
     "its tensor cores multiply FP4 (NVFP4 W4A4) for the experts and FP8 for the rest"},
    {90,
     "Hopper",
     "FP8 tensor cores, no FP4",
     {"fp8-all", "nvfp4-weight-only", "int4-experts", NULL},
     "FP8 is computed natively; FP4 is only a smaller way to store weights here"},
    {89,
     "Ada",
     "FP8 tensor cores, no FP4",
     {"fp8-all", "nvfp4-weight-only", "int4-experts", NULL},
     "FP8 is computed natively; FP4 is only a smaller way to store weights here"},
    {80,
     "Ampere",
     "BF16 and INT8 tensor cores, no FP8, no FP4",
     {"int4-experts", "nvfp4-weight-only", NULL},
     "it has no FP8 or FP4 arithmetic: INT4 weights with BF16 arithmetic are what engines have "
     "fast kernels for"},
    {0,
     "older than Ampere",
     "no BF16 tensor cores",
     {"int4-experts", NULL},
     "engines' expert kernels start at sm_80: try it before relying on it"},
};

static const char *const all_recipes[] = {
    "nvfp4-experts", "nvfp4-experts-only", "nvfp4-all", "nvfp4-weight-only", "fp8-all", "fp8-block",
    "mxfp4-experts", "int4-experts",       NULL};

static const struct generation *generation_of(const tmb_gpu *g)
{
    const struct generation *gen = generations;
    while (10 * g->major + g->minor < gen->from)
        gen++;
    return gen;
}

/* How a GPU of this capability computes a Linear of this format. */
static const char *computes(const tmb_format *f, int capability)
{
    bool four_bits = f->act == TMB_ACT_NVFP4 || f->act == TMB_ACT_MX;
    int native = f->act == TMB_ACT_NONE ? 0 : four_bits ? 100 : 89;
    if (native && capability >= native) return "native";
    return capability >= 80 ? "weight-only" : "no kernel";
}

/* "nvfp4 native, fp8 native". */
static void describe(tmb_candidate *c, const tmb_plan *plan, int capability)
{
    size_t o = 0;
    for (uint32_t i = 0; i < plan->n_rows; i++) {
        const tmb_spec *spec = plan->rows[i].spec;
        bool said = !spec || !spec->format;
        for (uint32_t k = 0; k < i && !said; k++)
            said = plan->rows[k].spec == spec;
        if (said || o >= sizeof c->runs) continue;
        o += (size_t)snprintf(c->runs + o, sizeof c->runs - o, "%s%s %s", o ? ", " : "",
                              spec->format->name, computes(spec->format, capability));
    }
}

static void try_recipe(tmb_advice *a, tmb_job *job, const char *recipe, int capability)
{
    tmb_candidate *c = &a->candidates[a->n_candidates++];
    tmb_err err = {0};
    tmb_plan_options options = {0};
    c->recipe = recipe;
    c->possible = !tmb_job_plan(job, recipe, &options, &err);
    if (c->possible) {
        c->bytes = job->plan->bytes_out;
        c->bits = job->plan->bits_effective;
        c->fits = !a->budget || c->bytes <= a->budget;
        describe(c, job->plan, capability);
        if (!*c->runs) {
            c->possible = false;
            snprintf(c->why, sizeof c->why, "no Linear has a shape that its format takes");
        }
    } else {
        /* the table's row names the recipe already */
        size_t path = job->recipe ? strlen(job->recipe->path) : 0;
        const char *why = err.message;
        if (path && strncmp(why, job->recipe->path, path) == 0 && strstr(why + path, ": "))
            why = strstr(why + path, ": ") + 2;
        snprintf(c->why, sizeof c->why, "%.250s", why);
    }
    tmb_job_unplan(job);
}

static int find(const tmb_advice *a, const char *recipe)
{
    for (int i = 0; i < a->n_candidates; i++)
        if (!strcmp(a->candidates[i].recipe, recipe)) return i;
    return 0; /* generations[] names nothing that all_recipes[] has not */
}

/* Nothing that suits this generation can be had: say what would have to change. */
static void refuse(tmb_advice *a, const struct generation *gen, const tmb_machine *m)
{
    char need[TMB_HUMAN_BYTES], have[TMB_HUMAN_BYTES];
    uint64_t least = 0;
    for (int i = 0; gen->recipes[i]; i++) {
        const tmb_candidate *c = &a->candidates[find(a, gen->recipes[i])];
        if (c->possible && (!least || c->bytes < least)) least = c->bytes;
    }
    if (!least) {
        snprintf(
            a->reason, sizeof a->reason,
            "%s, which suits this GPU, does not work with this checkpoint (see above); a recipe "
            "of your own may",
            gen->recipes[0]);
        return;
    }
    uint64_t one = a->budget / (uint64_t)m->n_gpus;
    snprintf(
        a->reason, sizeof a->reason,
        "the smallest that suits this GPU, %s, is more than the %s that %d of them leave%s for "
        "weights; %llu would do",
        tmb_human_bytes(need, least), tmb_human_bytes(have, a->budget), m->n_gpus,
        m->n_gpus == 1 ? "s" : "", (unsigned long long)tmb_ceil_div(least, one ? one : 1));
}

static void choose(tmb_advice *a, const struct generation *gen, const tmb_machine *m)
{
    char skipped[256] = "";
    size_t o = 0;
    a->chosen = -1;
    for (int i = 0; gen->recipes[i] && a->chosen < 0; i++) {
        int c = find(a, gen->recipes[i]);
        if (a->candidates[c].possible && a->candidates[c].fits)
            a->chosen = c;
        else if (o < sizeof skipped)
            o += (size_t)snprintf(skipped + o, sizeof skipped - o, "; %s %s", gen->recipes[i],
                                  a->candidates[c].possible ? "would not fit" : "is not possible");
    }
    if (a->chosen >= 0)
        snprintf(a->reason, sizeof a->reason, "%s%s", gen->why, skipped);
    else
        refuse(a, gen, m);
}

void tmb_advise(tmb_advice *a, const tmb_machine *m, tmb_job *job)
{
    memset(a, 0, sizeof *a);
    const tmb_gpu *gpu = &m->gpus[0];
    const struct generation *gen = generation_of(gpu);
    int capability = 10 * gpu->major + gpu->minor;
    a->generation = gen->name;
    a->cores = gen->cores;
    uint64_t total = 0;
    for (int i = 0; i < m->n_gpus; i++)
        total += m->gpus[i].bytes;
    a->budget = (uint64_t)((double)total * TMB_WEIGHT_SHARE);
    if (!job) {
        for (int i = 0; gen->recipes[i]; i++)
            a->candidates[a->n_candidates++] =
                (tmb_candidate){.recipe = gen->recipes[i], .possible = true, .fits = true};
        snprintf(a->reason, sizeof a->reason, "%s", gen->why);
        return;
    }
    for (int i = 0; all_recipes[i]; i++)
        try_recipe(a, job, all_recipes[i], capability);
    choose(a, gen, m);
    if (a->chosen < 0) return;
    tmb_plan_options options = {0};
    if (!tmb_job_plan(job, a->candidates[a->chosen].recipe, &options, NULL))
        a->peak_bytes = job->plan->peak_bytes;
    tmb_job_unplan(job);
}
