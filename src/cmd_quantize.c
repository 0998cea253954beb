/* cmd_quantize.c - tombac quantize: execute a plan, and say what came out of it. */
#include "config.h"
#include "src/commands.h"
#include "src/device.h"
#include "src/emit.h"
#include "src/job.h"
#include "src/plan_report.h"
#include "src/progress.h"
#include "src/table.h"
#include "src/text.h"

#include "moe/quantize/quantize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct options {
    tmb_common common;
    const char *recipe, *out, *layout, *stats, *device;
    uint64_t shard_size, max_ram;
    bool restart, copy_code;
} options;

/* 10 log10(signal / noise); a group without any error is shown as "exact". */
static double sqnr(const tmb_sums *s)
{
    return s->noise > 0 ? 10 * log10(s->signal / s->noise) : INFINITY;
}

static void print_errors(const tmb_plan *plan, const tmb_quantize_result *r, tmb_table *t)
{
    char out[TMB_HUMAN_BYTES], mean[32], worst[32];
    tmb_table_open(t, "role|format|>Linears|>written|>SQNR dB|>worst|<worst Linear");
    for (uint32_t i = 0; i < r->n_groups; i++) {
        const tmb_group_error *g = &r->groups[i];
        const tmb_plan_row *row = &plan->rows[g->row];
        double db = sqnr(&g->sums);
        snprintf(mean, sizeof mean, isfinite(db) ? "%.2f" : "exact", db);
        snprintf(worst, sizeof worst, isfinite(g->worst_sqnr_db) ? "%.2f" : "exact",
                 g->worst_sqnr_db);
        tmb_table_row(t, "%s\t%s\t%llu\t%s\t%s\t%s\t%s", tmb_role_name(row->role),
                      tmb_plan_format(row), (unsigned long long)row->units,
                      tmb_human_bytes(out, row->bytes_out), mean, worst,
                      g->worst && isfinite(g->worst_sqnr_db) ? g->worst : "");
    }
}

static void print_next(const tmb_plan *plan, const char *out)
{
    char safe[TMB_ERR_BYTES], source[TMB_ERR_BYTES];
    tmb_safe(safe, sizeof safe, out);
    const tmb_arch *arch = plan->job.model->arch;
    const char *flag =
        arch->quirks & TMB_QUIRK_NO_SHARED_FUSION ? " --disable-shared-experts-fusion" : "";
    printf("\nnext\n  tombac verify %s --against %s\n", safe,
           tmb_safe(source, sizeof source, plan->job.model->ckpt->path));
    printf("  vllm serve %s\n", safe);
    printf("  python -m sglang.launch_server --model-path %s%s\n", safe, flag);
    if (arch->engines_note) printf("note: %s\n", arch->engines_note);
}

static tmb_status print_summary(const tmb_plan *plan, const tmb_quantize_result *r, const char *out,
                                tmb_err *err)
{
    char written[TMB_HUMAN_BYTES], in[TMB_HUMAN_BYTES], time[TMB_HUMAN_BYTES];
    char safe[TMB_ERR_BYTES];
    printf("%s: %u shard%s and %u other files, %s (%.1f times smaller than %s) in %s",
           tmb_safe(safe, sizeof safe, out), plan->n_files, plan->n_files == 1 ? "" : "s",
           plan->n_others, tmb_human_bytes(written, plan->disk_bytes),
           plan->bytes_out ? (double)plan->bytes_in / (double)plan->bytes_out : 0,
           tmb_human_bytes(in, plan->bytes_in), tmb_human_seconds(time, r->seconds));
    if (r->resumed)
        printf("; resumed, %u shards and %s of others were done before", r->shards_reused,
               tmb_human_bytes(written, r->bytes_kept));
    fputs("\n", stdout);
    if (plan->options.gpu)
        printf("%u Linears were quantized on the GPU, %u on the processor\n", r->units_gpu,
               r->units_cpu);
    fputs("\n", stdout);
    tmb_table t;
    print_errors(plan, r, &t);
    bool fine = tmb_table_close(&t, 0, stdout);
    fputs("\n", stdout);
    tmb_plan_print_activations(plan);
    tmb_plan_print_warnings(plan);
    print_next(plan, out);
    return fine ? TMB_OK : tmb_fail_memory(err, 0, "the summary");
}

static tmb_status json_summary(const tmb_plan *plan, const tmb_quantize_result *r, const char *out,
                               tmb_err *err)
{
    tmb_emit e;
    tmb_emit_open(&e);
    tmb_emit_text(&e, e.root, "out", out);
    tmb_emit_text(&e, e.root, "layout", plan->layout->name);
    tmb_emit_text(&e, e.root, "recipe_sha256", plan->resolved_sha256);
    tmb_emit_int(&e, e.root, "bytes_read", r->bytes_read);
    tmb_emit_int(&e, e.root, "bytes_written", r->bytes_written);
    tmb_emit_int(&e, e.root, "disk_bytes", plan->disk_bytes);
    tmb_emit_num(&e, e.root, "seconds", r->seconds);
    tmb_emit_bool(&e, e.root, "resumed", r->resumed);
    tmb_emit_int(&e, e.root, "shards_reused", r->shards_reused);
    tmb_emit_int(&e, e.root, "bytes_kept", r->bytes_kept);
    if (plan->options.gpu) {
        tmb_emit_int(&e, e.root, "units_gpu", r->units_gpu);
        tmb_emit_int(&e, e.root, "units_cpu", r->units_cpu);
    }
    tmb_json *array = tmb_emit_array(&e, e.root, "groups");
    for (uint32_t i = 0; i < r->n_groups; i++) {
        const tmb_group_error *g = &r->groups[i];
        const tmb_plan_row *row = &plan->rows[g->row];
        tmb_json *o = tmb_emit_item(&e, array);
        tmb_emit_text(&e, o, "role", tmb_role_name(row->role));
        tmb_emit_text(&e, o, "format", tmb_plan_format(row));
        tmb_emit_int(&e, o, "units", row->units);
        tmb_emit_int(&e, o, "bytes_out", row->bytes_out);
        tmb_emit_num(&e, o, "sqnr_db", sqnr(&g->sums));
        tmb_emit_num(&e, o, "max_error", g->sums.max_error);
        tmb_emit_num(&e, o, "worst_sqnr_db", g->worst_sqnr_db);
        tmb_emit_text(&e, o, "worst", g->worst);
    }
    return tmb_emit_print(&e, err);
}

static tmb_status check_options(const options *o, tmb_err *err)
{
    TRY(tmb_job_need_recipe(o->recipe, err));
    if (!o->out)
        return tmb_fail(err, TMB_EUSAGE,
                        "no output folder given; add -o with the name of a folder "
                        "that does not exist yet");
    return TMB_OK;
}

static tmb_status run(const tmb_command *self, int argc, char **argv, tmb_err *err)
{
    options o = {0};
    const char *operands[TMB_OPERANDS];
    TRY(tmb_args_parse(self, &o, argc, argv, operands, err));
    if (o.common.help) return TMB_OK;
    TRY(check_options(&o, err));
    tmb_plan_options want = {.layout = o.layout,
                             .shard_size = o.shard_size,
                             .max_ram = o.max_ram,
                             .threads = o.common.threads,
                             .copy_code = o.copy_code,
                             .gpu = o.device != NULL,
                             .stats = o.stats};
    int device = 0;
    TRY(tmb_device_parse(o.device, &device, err));
    tmb_job job = {0};
    tmb_quantize_result *result = NULL;
    tmb_meter meter;
    char *line = tmb_command_line(argc, argv);
    tmb_meter_open(&meter, &o.common);
    tmb_status status = line ? TMB_OK : tmb_fail_memory(err, 0, "the command line");
    if (!status) status = tmb_job_open(&job, operands[0], err);
    if (!status) status = tmb_job_plan(&job, o.recipe, &want, err);
    if (!status) {
        tmb_quantize_options q = {
            .out = o.out, .restart = o.restart, .command = line, .device = device,
            .watch = tmb_meter_watch(&meter)};
        status = tmb_quantize(job.plan, &q, &result, err);
    }
    tmb_meter_close(&meter);
    if (!status && o.common.json)
        status = json_summary(job.plan, result, o.out, err);
    else if (!status && !o.common.quiet)
        status = print_summary(job.plan, result, o.out, err);
    tmb_quantize_result_close(result);
    tmb_job_close(&job);
    free(line);
    return status;
}

static const tmb_arg args[] = {
    {"recipe", 0, TMB_ARG_TEXT, offsetof(options, recipe), "R",
     "a recipe file, or the name of a shipped one: nvfp4-experts, fp8-all ...", NULL},
    {"out", 'o', TMB_ARG_TEXT, offsetof(options, out), "OUT",
     "the folder to make; an unfinished one is gone on with", NULL},
    {"layout", 0, TMB_ARG_TEXT, offsetof(options, layout), "L",
     "modelopt or compressed-tensors [as the recipe says]", NULL},
    {"stats", 0, TMB_ARG_TEXT, offsetof(options, stats), "F",
     "what calibrate measured: scales of activations [cast]", NULL},
    {"max-ram", 0, TMB_ARG_SIZE, offsetof(options, max_ram), "SIZE",
     "hard limit of memory, checked before the start [none]", NULL},
    {"device", 0, TMB_ARG_TEXT, offsetof(options, device), "cuda:N",
     "encode on this GPU; the bytes are the same [on the processor]", NULL},
    {"shard-size", 0, TMB_ARG_SIZE, offsetof(options, shard_size), "SIZE",
     "largest output shard [as the recipe says, else 5 GB]", NULL},
    {"restart", 0, TMB_ARG_FLAG, offsetof(options, restart), NULL,
     "discard what an earlier, unfinished run left in OUT", NULL},
    {"copy-code", 0, TMB_ARG_FLAG, offsetof(options, copy_code), NULL, "carry *.py files over too",
     NULL},
    {0},
};

const tmb_command tmb_command_quantize = {
    .name = "quantize",
    .synopsis = "CKPT --recipe R -o OUT [options]",
    .about = "Quantize a checkpoint by a recipe; the same command again goes on where it stopped",
    .help = "The bytes written do not depend on threads, memory or interruptions.\n"
            "  tombac quantize models/Qwen3-30B-A3B --recipe nvfp4-experts -o Qwen3-NVFP4\n"
            "  tombac quantize models/Qwen3-30B-A3B --recipe my.ini -o OUT --max-ram 4G\n",
    .operand = "checkpoint folder",
    .least = 1,
    .most = 1,
    .args = args,
    .run = run,
};
