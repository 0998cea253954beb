/* bench_quantize.c - tombac bench quantize: kernels alone, then whole jobs on a checkpoint made for
 * it, against what memory and disk do in the same run. */
#include "config.h"
#include "src/bench_place.h"
#include "src/bench_report.h"
#include "src/commands.h"
#include "src/device.h"
#include "src/job.h"
#include "src/progress.h"

#include "kernels/cpu/cpu.h"
#include "kernels/base/clock.h"
#include "moe/quantize/quantize.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct options {
    tmb_common common;
    const char *model, *recipe, *dir, *only, *device;
    uint64_t size, max_ram;
    int rounds;
    bool holes, cached, keep;
} options;

/* Source, output and a floor's file beside the output. */
static uint64_t room_for(const options *o, const tmb_shape *shape)
{
    return o->holes ? 0 : 2 * tmb_shape_bytes(shape) + tmb_shape_bytes(shape) / 2;
}

static tmb_status one_job(tmb_bench_figures *f, tmb_job_figures *to, const tmb_plan *plan,
                          const options *o, const tmb_bench_place *p, const tmb_watch *watch,
                          tmb_err *err)
{
    tmb_quantize_options q = {.out = p->out, .cached = o->cached, .watch = *watch};
    tmb_quantize_result *result = NULL;
    TRY(tmb_device_parse(o->device, &q.device, err));
    tmb_floor_cool(p->source);
    tmb_bench_peak_reset();
    double began = tmb_seconds(), cpu = tmb_bench_processor();
    tmb_status status = tmb_quantize(plan, &q, &result, err);
    double seconds = tmb_seconds() - began;
    uint64_t peak = tmb_bench_peak();
    to->peak_planned = plan->peak_bytes;
    to->device_bytes = plan->device_bytes;
    if (peak > to->peak_measured) to->peak_measured = peak;
    if (!status && (!to->seconds || seconds < to->seconds)) {
        to->seconds = seconds;
        to->cpu = tmb_bench_processor() - cpu;
        to->units_gpu = result->units_gpu;
        to->units_cpu = result->units_cpu;
        f->written = result->bytes_written;
    }
    tmb_quantize_result_close(result);
    tmb_synthetic_remove(p->out);
    return status;
}

static bool direct_here(const tmb_bench_place *p)
{
    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/config.json", p->source);
    int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (fd >= 0) close(fd);
    return fd >= 0;
}

/* Floors and jobs in turns, so that what else the machine does hits all.  gpu: the plan with one,
 * or NULL. */
static tmb_status one_round(tmb_bench_figures *f, const tmb_plan *plan, const tmb_plan *gpu,
                            const options *o, const tmb_bench_place *p, const tmb_watch *watch,
                            tmb_err *err)
{
    unsigned what = f->rounds ? TMB_FLOOR_BOTH : TMB_FLOOR_READ | TMB_FLOOR_WRITE | TMB_FLOOR_BOTH;
    if (direct_here(p))
        TRY(tmb_floor_measure(&f->direct, what, p->source, p->root, plan->disk_bytes, false, watch,
                              err));
    TRY(one_job(f, &f->job, plan, o, p, watch, err));
    if (gpu) TRY(one_job(f, &f->gpu, gpu, o, p, watch, err));
    TRY(tmb_floor_measure(&f->plain, what, p->source, p->root, plan->disk_bytes, true, watch, err));
    f->rounds++;
    return TMB_OK;
}

static tmb_status run_jobs(tmb_bench_figures *f, const options *o, const tmb_bench_place *p,
                           const tmb_watch *watch, tmb_err *err)
{
    tmb_plan_options want = {.threads = o->common.threads, .max_ram = o->max_ram};
    tmb_job job = {0}, gpu = {0};
    double began = tmb_seconds();
    tmb_status status = tmb_job_open(&job, p->source, err);
    if (!status) status = tmb_job_plan(&job, f->recipe, &want, err);
    f->plan_seconds = tmb_seconds() - began;
    want.gpu = true;
    if (!status && o->device) status = tmb_job_open(&gpu, p->source, err);
    if (!status && o->device) status = tmb_job_plan(&gpu, f->recipe, &want, err);
    if (!status) {
        f->job.peak_planned = job.plan->peak_bytes;
        f->threads = job.plan->options.threads;
        int rounds = o->holes ? 0 : o->rounds ? o->rounds : 1;
        while (!status && f->rounds < rounds)
            status = one_round(f, job.plan, gpu.plan, o, p, watch, err);
    }
    tmb_job_close(&gpu);
    tmb_job_close(&job);
    return status;
}

static tmb_status bench_job(tmb_bench_figures *f, const options *o, const tmb_watch *watch,
                            tmb_err *err)
{
    const tmb_shape *shape;
    tmb_bench_place p = {{0}, {0}, {0}};
    TRY(tmb_bench_shape(&shape, o->model, err));
    uint64_t size = o->size ? o->size : o->holes ? UINT64_MAX : UINT64_C(2) << 30;
    f->shape = tmb_shape_scaled(shape, size);
    f->whole = f->shape.layers == shape->layers && f->shape.experts == shape->experts &&
               f->shape.hidden == shape->hidden && f->shape.vocab == shape->vocab;
    f->holes = o->holes;
    TRY(tmb_bench_place_room(o->dir, room_for(o, &f->shape), err));
    tmb_status status = tmb_bench_place_make(&p, o->dir, err);
    if (!status)
        status = tmb_synthetic_make(&f->source, p.source, &f->shape,
                                    o->holes ? TMB_FILL_NOTHING : TMB_FILL_ALL, watch, err);
    if (!status) status = run_jobs(f, o, &p, watch, err);
    tmb_bench_place_remove(&p, o->keep);
    if (!status && o->keep) fprintf(stderr, "tombac: kept %s\n", p.source);
    return status;
}

static tmb_status run(const tmb_command *self, int argc, char **argv, tmb_err *err)
{
    options o = {.only = "all"};
    tmb_bench_figures *f = calloc(1, sizeof *f);
    const char *operands[TMB_OPERANDS];
    if (!f) return tmb_fail_memory(err, sizeof *f, "the figures");
    tmb_status status = tmb_args_parse(self, &o, argc, argv, operands, err);
    if (status || o.common.help) {
        free(f);
        return status;
    }
    tmb_meter meter;
    tmb_meter_open(&meter, &o.common);
    tmb_watch watch = tmb_meter_watch(&meter);
    f->ops = tmb_cpu_ops()->name;
    f->recipe = o.recipe ? o.recipe : "nvfp4-experts";
    if (strcmp(o.only, "job") != 0) {
        status = tmb_bench_memory(&f->read, &f->copy, err);
        if (!status)
            status = tmb_bench_kernels(tmb_cpu_ops(), &watch, f->kernels, &f->n_kernels, err);
    }
    if (!status && strcmp(o.only, "kernels") != 0) status = bench_job(f, &o, &watch, err);
    tmb_meter_close(&meter);
    if (!status && o.common.json)
        status = tmb_bench_json(f, err);
    else if (!status && !o.common.quiet)
        status = tmb_bench_print(f, err);
    free(f);
    return status;
}

static const tmb_arg args[] = {
    {"model", 0, TMB_ARG_TEXT, offsetof(options, model), "M",
     "qwen3-30b-a3b, mixtral-8x7b, deepseek-v3 or kimi-k2 [the first]", NULL},
    {"size", 0, TMB_ARG_SIZE, offsetof(options, size), "SIZE",
     "of the checkpoint: its proportions in miniature [2G, with --holes all of it]", NULL},
    {"recipe", 0, TMB_ARG_TEXT, offsetof(options, recipe), "R", "of the job [nvfp4-experts]", NULL},
    {"dir", 0, TMB_ARG_TEXT, offsetof(options, dir), "DIR",
     "where everything is made: its disk is what is measured [.]", NULL},
    {"only", 0, TMB_ARG_CHOICE, offsetof(options, only), "WHAT", "all, kernels or job [all]",
     "all|kernels|job"},
    {"rounds", 0, TMB_ARG_COUNT, offsetof(options, rounds), "N",
     "floors and job this often, the best of each counts [1]", NULL},
    {"device", 0, TMB_ARG_TEXT, offsetof(options, device), "cuda:N",
     "do the job on this GPU too, in turns [on the processor alone]", NULL},
    {"cached", 0, TMB_ARG_FLAG, offsetof(options, cached), NULL,
     "the job goes through the page cache even where it need not", NULL},
    {"holes", 0, TMB_ARG_FLAG, offsetof(options, holes), NULL,
     "files of full size without data: what planning takes; no job", NULL},
    {"keep", 0, TMB_ARG_FLAG, offsetof(options, keep), NULL, "keep the checkpoint", NULL},
    {"max-ram", 0, TMB_ARG_SIZE, offsetof(options, max_ram), "SIZE", "limit of the job [none]",
     NULL},
    {0},
};

const tmb_command tmb_bench_quantize = {
    .name = "bench quantize",
    .synopsis = "[options]",
    .about = "Kernels on one core, jobs on a made-up checkpoint, the floors under both",
    .help = "  tombac bench quantize --model deepseek-v3 --size 8G --dir /big/disk --rounds 3\n"
            "TOMBAC_CPU=avx2 or ref in the environment measures other vector code.\n",
    .operand = "",
    .args = args,
    .run = run,
};
