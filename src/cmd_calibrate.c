/* cmd_calibrate.c - tombac calibrate: run the model over its calibration data, keep statistics. */
#include "config.h"
#include "src/commands.h"
#include "src/data_args.h"
#include "src/emit.h"
#include "src/needs.h"
#include "src/progress.h"
#include "src/stop.h"
#include "src/table.h"
#include "src/text.h"

#include "kernels/comm/comm.h"
#include "moe/calib/calibrate.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct options {
    tmb_common common;
    const char *recipe, *out, *comm, *ids_type;
    tmb_texts data;
    int ranks, ways, timeout;
    uint64_t max_ram;
    bool restart;
} options;

static tmb_status print_coverage(const tmb_calibrate_result *r, const tmb_calibrate_options *o,
                                 tmb_err *err)
{
    char time[TMB_HUMAN_BYTES], tokens[TMB_HUMAN_BYTES], safe[TMB_ERR_BYTES];
    tmb_table t;
    printf("%s: %" PRIu64 " sequences, %s tokens in %u round%s, %s%s\n",
           tmb_safe(safe, sizeof safe, o->out), r->sequences, tmb_human_count(tokens, r->tokens),
           r->rounds, r->rounds == 1 ? "" : "s", tmb_human_seconds(time, r->seconds),
           r->resumed ? "; resumed" : "");
    printf("content %s\n\n", r->digest);
    tmb_table_open(&t, ">layer|>experts|>least tokens|>mean|>below gate|>native|>shadow|>peers|"
                       ">weight-only");
    for (size_t i = 0; i < r->n_coverage; i++) {
        const tmb_coverage *c = &r->coverage[i];
        tmb_table_row(&t,
                      "%d\t%u\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64
                      "\t%" PRIu64 "\t%" PRIu64,
                      c->layer, c->experts, c->least, c->mean, c->starved,
                      c->rungs[TMB_RUNG_NATIVE], c->rungs[TMB_RUNG_SHADOW],
                      c->rungs[TMB_RUNG_PEERS], c->rungs[TMB_RUNG_WEIGHT_ONLY]);
    }
    bool fine = !r->n_coverage || tmb_table_close(&t, 0, stdout);
    printf("\nnext\n  tombac quantize CKPT --recipe R --stats %s -o OUT\n", safe);
    return fine ? TMB_OK : tmb_fail_memory(err, 0, "the coverage");
}

static tmb_status json_coverage(const tmb_calibrate_result *r, const tmb_calibrate_options *o,
                                tmb_err *err)
{
    tmb_emit e;
    tmb_emit_open(&e);
    tmb_emit_text(&e, e.root, "out", o->out);
    tmb_emit_text(&e, e.root, "content_sha256", r->digest);
    tmb_emit_int(&e, e.root, "sequences", r->sequences);
    tmb_emit_int(&e, e.root, "tokens", r->tokens);
    tmb_emit_int(&e, e.root, "rounds", r->rounds);
    tmb_emit_bool(&e, e.root, "resumed", r->resumed);
    tmb_emit_num(&e, e.root, "seconds", r->seconds);
    tmb_json *parts = tmb_emit_object(&e, e.root, "seconds_by_part");
    tmb_emit_num(&e, parts, "read", r->spent.read);
    tmb_emit_num(&e, parts, "attention", r->spent.attention);
    tmb_emit_num(&e, parts, "mlp", r->spent.mlp);
    tmb_emit_num(&e, parts, "counting", r->spent.counting);
    tmb_emit_num(&e, parts, "hidden", r->spent.hidden);
    tmb_emit_num(&e, parts, "adding", r->spent.adding);
    tmb_emit_num(&e, parts, "publishing", r->spent.publishing);
    tmb_json *list = tmb_emit_array(&e, e.root, "coverage");
    for (size_t i = 0; i < r->n_coverage; i++) {
        const tmb_coverage *c = &r->coverage[i];
        tmb_json *o1 = tmb_emit_item(&e, list);
        tmb_emit_int(&e, o1, "layer", (uint64_t)c->layer);
        tmb_emit_int(&e, o1, "experts", c->experts);
        tmb_emit_int(&e, o1, "least_tokens", c->least);
        tmb_emit_int(&e, o1, "mean_tokens", c->mean);
        tmb_emit_int(&e, o1, "starved", c->starved);
        tmb_json *rungs = tmb_emit_object(&e, o1, "rungs");
        for (int k = 0; k < TMB_RUNGS; k++)
            tmb_emit_int(&e, rungs, tmb_rung_name((tmb_rung)k), c->rungs[k]);
    }
    return tmb_emit_print(&e, err);
}

static tmb_status calibrate(const options *o, tmb_job *job, const tmb_data *data,
                            const char *command, tmb_err *err)
{
    tmb_meter meter;
    tmb_calibrate_result result = {0};
    tmb_calibrate_needs needs;
    tmb_calibrate_options want = tmb_calibrate_wanted(job, o->common.threads, o->max_ram);
    want.out = o->out;
    want.command = command;
    want.restart = o->restart;
    want.comm = o->comm;
    want.ranks = o->ranks ? o->ranks : 1;
    want.ways = o->ways;
    want.timeout_s = o->timeout;
    TRY(tmb_calibrate_plan(&needs, job->model, data, &want, err));
    if (!o->common.quiet) {
        for (size_t i = 0; i < data->n_notes; i++)
            fprintf(stderr, "note: %s\n", data->notes[i]);
        tmb_needs_print(&needs, want.ranks, want.out, stderr);
    }
    tmb_stop_install();
    tmb_meter_open(&meter, &o->common);
    want.watch = tmb_meter_watch(&meter);
    tmb_status status = tmb_calibrate(job->model, data, &want, &result, err);
    tmb_meter_close(&meter);
    if (!status && *result.digest) { /* rank 0 */
        if (o->common.json)
            status = json_coverage(&result, &want, err);
        else if (!o->common.quiet)
            status = print_coverage(&result, &want, err);
    }
    tmb_calibrate_result_free(&result);
    return status;
}

static tmb_status check(const options *o, tmb_err *err)
{
    TRY(tmb_job_need_recipe(o->recipe, err));
    if (!o->out) return tmb_fail(err, TMB_EUSAGE, "no output given; add -o STATS.h5");
    TRY(tmb_calibrate_out_free(o->out, err));
    bool threads = !o->comm || strcmp(o->comm, "threads") == 0;
    if (!threads && o->ranks > 1 && (strcmp(o->comm, "mpi") == 0 || tmb_comm_launched()))
        return tmb_fail(err, TMB_EUSAGE,
                        "--ranks %d: with --comm %s the launcher gives the number of ranks; leave "
                        "--ranks out",
                        o->ranks, o->comm);
    return TMB_OK;
}

static tmb_status run(const tmb_command *self, int argc, char **argv, tmb_err *err)
{
    options o = {0};
    const char *operands[TMB_OPERANDS];
    TRY(tmb_args_parse(self, &o, argc, argv, operands, err));
    if (o.common.help) return TMB_OK;
    TRY(check(&o, err));
    tmb_job job = {0};
    tmb_data *data = NULL;
    char *command = tmb_command_line(argc, argv);
    tmb_plan_options plan = {.threads = o.common.threads, .unmeasured = true};
    tmb_status status = tmb_job_open(&job, operands[0], err);
    if (!status) status = tmb_job_plan(&job, o.recipe, &plan, err);
    if (!status) status = tmb_calibration_data(&data, &job, &o.data, o.ids_type, err);
    if (!status) status = calibrate(&o, &job, data, command, err);
    tmb_data_close(data);
    tmb_job_close(&job);
    free(command);
    return status;
}

static const tmb_arg args[] = {
    {"recipe", 0, TMB_ARG_TEXT, offsetof(options, recipe), "R",
     "a recipe file, or the name of a shipped one; [calibration] says how much", NULL},
    {"data", 0, TMB_ARG_LIST, offsetof(options, data), "D",
     "[NAME=]PATH[:WEIGHT], may be repeated; instead of the recipe's sources", NULL},
    {"ids-type", 0, TMB_ARG_CHOICE, offsetof(options, ids_type), "T",
     "of .bin files: uint16 or uint32 [uint16]", "uint16|uint32"},
    {"out", 'o', TMB_ARG_TEXT, offsetof(options, out), "STATS.h5", "the statistics file to make",
     NULL},
    {"comm", 0, TMB_ARG_CHOICE, offsetof(options, comm), "C",
     "threads, mpi (under mpirun), or nccl (a GPU each, of either) [threads]", "threads|mpi|nccl"},
    {"ranks", 0, TMB_ARG_COUNT, offsetof(options, ranks), "N",
     "ranks in this process, each holds a layer of its own [1]", NULL},
    {"expert-parallel", 0, TMB_ARG_COUNT, offsetof(options, ways), "N",
     "groups of N ranks share the experts: each holds its own, rows travel [1]", NULL},
    {"comm-timeout", 0, TMB_ARG_COUNT, offsetof(options, timeout), "SECONDS",
     "how long a rank waits for another before all give up [600]", NULL},
    {"max-ram", 0, TMB_ARG_SIZE, offsetof(options, max_ram), "SIZE",
     "memory of this process at most [no limit]", NULL},
    {"restart", 0, TMB_ARG_FLAG, offsetof(options, restart), NULL,
     "discard what an unfinished run left", NULL},
    {0},
};

const tmb_command tmb_command_calibrate = {
    .name = "calibrate",
    .synopsis = "CKPT --recipe R -o STATS.h5 [--data D]... [options]",
    .about = "Run the model over calibration data and keep statistics for quantize --stats",
    .help = "The statistics are the same for any number of ranks, threads and restarts. A run that "
            "was\nstopped goes on at the layer it was in when the same command is given again.\n"
            "  tombac calibrate models/Qwen3-30B-A3B --recipe my.ini --data chat.jsonl -o "
            "stats.h5\n"
            "  mpirun -n 8 tombac calibrate models/Qwen3-30B-A3B --recipe my.ini --comm mpi -o "
            "stats.h5\n",
    .operand = "checkpoint folder",
    .least = 1,
    .most = 1,
    .args = args,
    .run = run,
};
