/* cmd_eval.c - tombac eval: perplexity, and the distance to a reference, a row a source. */
#include "config.h"
#include "src/commands.h"
#include "src/data_args.h"
#include "src/emit.h"
#include "src/job.h"
#include "src/progress.h"
#include "src/stop.h"
#include "src/table.h"
#include "src/text.h"

#include "moe/eval/eval.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

typedef struct options {
    tmb_common common;
    const char *against;
    tmb_data_args data;
    tmb_job_recipe apply;
    bool exact_inputs;
} options;

/* "1.4280 ± 0.0112". */
static const char *with_error(char *out, size_t size, tmb_mean m, double times, int digits)
{
    if (isnan(m.error))
        snprintf(out, size, "%.*f", digits, times * m.mean);
    else
        snprintf(out, size, "%.*f \xc2\xb1 %.*f", digits, times * m.mean, digits, times * m.error);
    return out;
}

/* exp of a mean: its error by the delta method. */
static tmb_mean perplexity(tmb_mean nll)
{
    double p = exp(nll.mean);
    return (tmb_mean){p, p * nll.error};
}

static tmb_status print(const tmb_eval_row *rows, size_t n, bool pair, tmb_err *err)
{
    char a[48], b[48], c[48], d[48], f[48];
    tmb_table t;
    tmb_table_open(&t,
                   pair ? "source|>scored|>perplexity|>reference|>KL, nats|>same top-1 %|>flips %"
                        : "source|>sequences|>scored|>nll, nats|>perplexity");
    for (size_t i = 0; i < n; i++) {
        const tmb_eval_row *r = &rows[i];
        if (!r->source && n <= 2) break; /* one source is all there is */
        if (!r->source) tmb_table_rule(&t);
        const char *name = r->source ? r->source : "all";
        with_error(a, sizeof a, perplexity(r->nll), 1, 4);
        if (!pair) {
            tmb_table_row(&t, "%s\t%" PRIu64 "\t%" PRIu64 "\t%s\t%s", name, r->sequences, r->scored,
                          with_error(b, sizeof b, r->nll, 1, 5), a);
            continue;
        }
        tmb_table_row(&t, "%s\t%" PRIu64 "\t%s\t%s\t%s\t%s\t%s", name, r->scored, a,
                      with_error(b, sizeof b, perplexity(r->ref_nll), 1, 4),
                      with_error(c, sizeof c, r->kl, 1, 5),
                      with_error(d, sizeof d, r->same, 100, 2),
                      with_error(f, sizeof f, r->flips, 100, 2));
    }
    if (!tmb_table_close(&t, 0, stdout)) return tmb_fail_memory(err, 0, "the table");
    printf("\n\xc2\xb1 one standard error over sequences\n");
    return TMB_OK;
}

static void emit_mean(tmb_emit *e, tmb_json *row, const char *key, tmb_mean m)
{
    tmb_json *o = tmb_emit_object(e, row, key);
    tmb_emit_num(e, o, "mean", m.mean);
    tmb_emit_num(e, o, "standard_error", m.error);
}

static tmb_status json(const tmb_eval_row *rows, size_t n, bool pair, tmb_err *err)
{
    tmb_emit e;
    tmb_emit_open(&e);
    tmb_json *list = tmb_emit_array(&e, e.root, "rows");
    for (size_t i = 0; i < n; i++) {
        const tmb_eval_row *r = &rows[i];
        tmb_json *o = tmb_emit_item(&e, list);
        tmb_emit_text(&e, o, "source", r->source);
        tmb_emit_int(&e, o, "sequences", r->sequences);
        tmb_emit_int(&e, o, "scored", r->scored);
        emit_mean(&e, o, "nll", r->nll);
        emit_mean(&e, o, "perplexity", perplexity(r->nll));
        if (!pair) continue;
        emit_mean(&e, o, "reference_nll", r->ref_nll);
        emit_mean(&e, o, "kl", r->kl);
        emit_mean(&e, o, "same_top1", r->same);
        emit_mean(&e, o, "flips", r->flips);
    }
    return tmb_emit_print(&e, err);
}

static tmb_status evaluate(const options *o, const tmb_job *job, const tmb_model *ref,
                           const tmb_data *data, tmb_err *err)
{
    tmb_meter meter;
    tmb_hooks hooks = {0};
    if (job->fly) hooks = o->exact_inputs ? tmb_fly_weights(job->fly) : tmb_fly_hooks(job->fly);
    tmb_eval_options want = {.threads = o->common.threads, .exact_inputs = o->exact_inputs};
    tmb_eval_row *rows = calloc(data->n_sources + 1, sizeof *rows);
    if (!rows) return tmb_fail_memory(err, 0, "the table");
    tmb_stop_install();
    tmb_meter_open(&meter, &o->common);
    want.watch = tmb_meter_watch(&meter);
    if (job->fly) want.hooks = &hooks;
    tmb_status status = tmb_eval(job->model, ref, data, &want, rows, err);
    tmb_meter_close(&meter);
    if (!status && o->common.json)
        status = json(rows, data->n_sources + 1, ref, err);
    else if (!status && !o->common.quiet)
        status = print(rows, data->n_sources + 1, ref, err);
    free(rows);
    return status;
}

static tmb_status run(const tmb_command *self, int argc, char **argv, tmb_err *err)
{
    options o = {0};
    const char *operands[TMB_OPERANDS];
    TRY(tmb_args_parse(self, &o, argc, argv, operands, err));
    if (o.common.help) return TMB_OK;
    if (!o.data.data.n)
        return tmb_fail(err, TMB_EUSAGE,
                        "no data given; add --data FILE: text or ids that the "
                        "model was not calibrated on");
    tmb_job job = {0}, ref = {0};
    tmb_data *data = NULL;
    o.data.windows = true;
    tmb_status status = tmb_job_open(&job, operands[0], err);
    if (!status) status = tmb_job_apply(&job, &o.apply, o.common.threads, err);
    if (!status && o.against) status = tmb_job_open(&ref, o.against, err);
    if (!status) status = tmb_data_args_open(&data, &o.data, job.model, 0, err);
    if (!status) status = evaluate(&o, &job, ref.model, data, err);
    tmb_data_close(data);
    tmb_job_close(&ref);
    tmb_job_close(&job);
    return status;
}

static const tmb_arg args[] = {
    {"data", 0, TMB_ARG_LIST, offsetof(options, data.data), "D",
     "[NAME=]PATH[:WEIGHT]: text or ids; may be repeated", NULL},
    {"against", 0, TMB_ARG_TEXT, offsetof(options, against), "REF",
     "the checkpoint it was made from: KL, same top-1, flips", NULL},
    TMB_WINDOW_ARGS(options, data),
    {"recipe", 0, TMB_ARG_TEXT, offsetof(options, apply.recipe), "R",
     "what quantize would make of CKPT by it, without writing anything", NULL},
    {"stats", 0, TMB_ARG_TEXT, offsetof(options, apply.stats), "F",
     "with --recipe: what calibrate measured [inputs are cast]", NULL},
    {"layout", 0, TMB_ARG_TEXT, offsetof(options, apply.layout), "L",
     "with --recipe: modelopt or compressed-tensors [as it says]", NULL},
    {"exact-inputs", 0, TMB_ARG_FLAG, offsetof(options, exact_inputs), NULL,
     "weights as stored, but activations and KV cache not rounded", NULL},
    {0},
};

const tmb_command tmb_command_eval = {
    .name = "eval",
    .synopsis = "CKPT --data D... [--against REF] [options]",
    .about = "Perplexity, and the distance to a reference, with error bars, a row a source",
    .help = "A quantized checkpoint runs with its real weights, and activations and KV cache "
            "rounded as\nits formats say. Each window is run alone; its first token is not "
            "scored.\n"
            "  tombac eval Qwen3-30B-A3B-NVFP4 --against Qwen3-30B-A3B --data code=held.txt\n"
            "  tombac eval a --recipe nvfp4-experts --against a --data held.txt\n",
    .operand = "checkpoint folder",
    .least = 1,
    .most = 1,
    .args = args,
    .run = run,
};
