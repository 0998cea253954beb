/* cmd_plan.c - tombac plan: what quantize would do, without doing it. */
#include "config.h"
#include "src/commands.h"
#include "src/device.h"
#include "src/job.h"
#include "src/needs.h"
#include "src/plan_report.h"

typedef struct options {
    tmb_common common;
    const char *recipe, *layout, *stats, *device;
    uint64_t shard_size, max_ram;
    int ranks, ways;
    tmb_texts data;
    bool resolved, copy_code, calibrate;
} options;

static tmb_status run(const tmb_command *self, int argc, char **argv, tmb_err *err)
{
    options o = {0};
    const char *operands[TMB_OPERANDS];
    TRY(tmb_args_parse(self, &o, argc, argv, operands, err));
    if (o.common.help) return TMB_OK;
    TRY(tmb_job_need_recipe(o.recipe, err));
    tmb_plan_options want = {.layout = o.layout,
                             .shard_size = o.shard_size,
                             .max_ram = o.calibrate ? 0 : o.max_ram,
                             .threads = o.common.threads,
                             .copy_code = o.copy_code,
                             .gpu = o.device != NULL,
                             .stats = o.stats,
                             .unmeasured = o.calibrate};
    int device;
    TRY(tmb_device_parse(o.device, &device, err));
    tmb_needs_wanted needs = {.max_ram = o.max_ram, .ranks = o.ranks, .ways = o.ways};
    tmb_job job = {0};
    tmb_status status = tmb_job_open(&job, operands[0], err);
    if (!status) status = tmb_job_plan(&job, o.recipe, &want, err);
    if (!status && o.calibrate) {
        status = tmb_needs_plan(&job, &o.data, &o.common, &needs, err);
    } else if (!status) {
        if (o.common.json)
            status = tmb_plan_json(job.plan, err);
        else if (o.resolved)
            fputs(job.plan->resolved, stdout);
        else if (!o.common.quiet)
            status = tmb_plan_print(job.plan, err);
    }
    tmb_job_close(&job);
    return status;
}

static const tmb_arg args[] = {
    {"recipe", 0, TMB_ARG_TEXT, offsetof(options, recipe), "R",
     "a recipe file, or the name of a shipped one: nvfp4-experts, fp8-all ...", NULL},
    {"resolved", 0, TMB_ARG_FLAG, offsetof(options, resolved), NULL,
     "print the complete recipe with every default, and nothing else", NULL},
    {"calibrate", 0, TMB_ARG_FLAG, offsetof(options, calibrate), NULL,
     "say what calibrate would take, and nothing else", NULL},
    {"data", 0, TMB_ARG_LIST, offsetof(options, data), "D",
     "with --calibrate: the data, as calibrate takes it", NULL},
    {"ranks", 0, TMB_ARG_COUNT, offsetof(options, ranks), "N",
     "with --calibrate: ranks of a process [1]", NULL},
    {"expert-parallel", 0, TMB_ARG_COUNT, offsetof(options, ways), "N",
     "with --calibrate: ranks that share the experts [1]", NULL},
    {"layout", 0, TMB_ARG_TEXT, offsetof(options, layout), "L",
     "modelopt or compressed-tensors [as the recipe says]", NULL},
    {"stats", 0, TMB_ARG_TEXT, offsetof(options, stats), "F",
     "what calibrate measured: scales of activations [cast]", NULL},
    {"shard-size", 0, TMB_ARG_SIZE, offsetof(options, shard_size), "SIZE",
     "largest output shard [as the recipe says, else 5 GB]", NULL},
    {"max-ram", 0, TMB_ARG_SIZE, offsetof(options, max_ram), "SIZE",
     "plan for at most this much memory [no limit]", NULL},
    {"device", 0, TMB_ARG_TEXT, offsetof(options, device), "cuda:N",
     "plan for quantize with this GPU, which need not be here", NULL},
    {"copy-code", 0, TMB_ARG_FLAG, offsetof(options, copy_code), NULL, "carry *.py files over too",
     NULL},
    {0},
};

const tmb_command tmb_command_plan = {
    .name = "plan",
    .synopsis = "CKPT --recipe R [options]",
    .about = "Say what quantize would write, to the byte, and everything that looks wrong",
    .help = "Nothing is written. Exit status 64 when recipe and checkpoint cannot work together.\n"
            "  tombac plan models/Qwen3-30B-A3B --recipe nvfp4-experts\n"
            "  tombac plan models/Qwen3-30B-A3B --recipe my.ini --resolved > complete.ini\n",
    .operand = "checkpoint folder",
    .least = 1,
    .most = 1,
    .args = args,
    .run = run,
};
