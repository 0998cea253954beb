/* cmd_trace.c - tombac trace: run a model over some tokens and write what it computes. */
#include "config.h"
#include "src/commands.h"
#include "src/data_args.h"
#include "src/emit.h"
#include "src/job.h"
#include "src/progress.h"
#include "src/text.h"

#include "kernels/cpu/cpu.h"
#include "moe/eval/acts.h"
#include "moe/infer/trace.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct options {
    tmb_common common;
    tmb_data_args data;
    tmb_job_recipe apply;
    const char *out, *what;
    uint64_t max_ram;
    bool round;
} options;

/* "logits,router" as bits. */
static tmb_status parse_what(const char *text, unsigned *what, tmb_err *err)
{
    static const char *const words[] = {"logits", "router", "hidden"};
    *what = text ? 0 : TMB_TRACE_LOGITS | TMB_TRACE_ROUTER | TMB_TRACE_HIDDEN;
    for (const char *at = text; at;) {
        size_t n = strcspn(at, ",");
        unsigned bit = 0;
        for (unsigned i = 0; i < 3; i++)
            if (strlen(words[i]) == n && !memcmp(words[i], at, n)) bit = 1u << i;
        if (!bit)
            return tmb_fail(err, TMB_EUSAGE,
                            "--what: unknown word '%.*s'; it takes logits, router and hidden with "
                            "commas between them",
                            (int)(n < 80 ? n : 80), at);
        *what |= bit;
        at = at[n] ? at + n + 1 : NULL;
    }
    return TMB_OK;
}

/* The sequences one behind another. */
static tmb_status join(const tmb_data *data, int32_t **ids, size_t **begin, tmb_err *err)
{
    *ids = malloc((size_t)data->tokens * sizeof **ids);
    *begin = malloc((data->n_sequences + 1) * sizeof **begin);
    if (!*ids || !*begin) return tmb_fail_memory(err, data->tokens * sizeof **ids, "token ids");
    size_t at = 0;
    for (size_t i = 0; i < data->n_sequences; i++) {
        const tmb_sequence *s = &data->sequences[i];
        (*begin)[i] = at;
        memcpy(*ids + at, s->ids, s->n * sizeof **ids);
        at += s->n;
    }
    (*begin)[data->n_sequences] = at;
    return TMB_OK;
}

static tmb_status print(const options *o, const tmb_data *data, const tmb_trace_result *r,
                        tmb_err *err)
{
    if (o->common.json) {
        tmb_emit e;
        tmb_emit_open(&e);
        tmb_emit_text(&e, e.root, "output", o->out);
        tmb_emit_int(&e, e.root, "sequences", data->n_sequences);
        tmb_emit_int(&e, e.root, "tokens", r->tokens);
        tmb_emit_int(&e, e.root, "bytes", r->bytes);
        tmb_emit_int(&e, e.root, "ties", r->ties);
        tmb_emit_text(&e, e.root, "data_sha256", data->sha256);
        return tmb_emit_print(&e, err);
    }
    char size[TMB_HUMAN_BYTES];
    if (o->common.quiet) return TMB_OK;
    printf("%s: %zu sequences, %" PRIu64 " tokens, %s\n", o->out, data->n_sequences, r->tokens,
           tmb_human_bytes(size, r->bytes));
    if (r->ties)
        printf("%" PRIu64
               " times the last chosen expert and the best other one were exactly level\n",
               r->ties);
    return TMB_OK;
}

/* Weights as they are stored, or by the recipe; inputs rounded when that was asked for. */
static tmb_status hook(const options *o, tmb_job *job, tmb_acts **acts, tmb_hooks *hooks,
                       tmb_err *err)
{
    TRY(tmb_job_apply(job, &o->apply, o->common.threads, err));
    if (job->fly) {
        *hooks = o->round ? tmb_fly_hooks(job->fly) : tmb_fly_weights(job->fly);
    } else if (o->round) {
        TRY(tmb_acts_open(acts, job->model, tmb_cpu_ops(), err));
        *hooks = tmb_acts_hooks(*acts);
    }
    return TMB_OK;
}

static tmb_status trace(const options *o, const char *path, tmb_meter *meter, tmb_trace_result *r,
                        tmb_data **data, tmb_err *err)
{
    tmb_job job = {0};
    tmb_decoder *d = NULL;
    tmb_acts *acts = NULL;
    int32_t *ids = NULL;
    size_t *begin = NULL;
    unsigned what;
    TRY(parse_what(o->what, &what, err));
    tmb_decoder_options want = {.threads = o->common.threads, .layer_bytes = o->max_ram};
    tmb_status status = tmb_job_open(&job, path, err);
    if (!status) status = hook(o, &job, &acts, &want.hooks, err);
    if (!status) status = tmb_decoder_open(&d, job.model, &want, err);
    if (!status)
        status = tmb_data_args_open(data, &o->data, job.model, tmb_decoder_config(d)->vocab, err);
    if (!status) status = join(*data, &ids, &begin, err);
    if (!status) {
        tmb_trace_input in = {.ids = ids, .begin = begin, .sequences = (*data)->n_sequences};
        tmb_watch watch = tmb_meter_watch(meter);
        status = tmb_trace(d, &in, what, o->out, &watch, r, err);
    }
    free(begin);
    free(ids);
    tmb_decoder_close(d);
    tmb_acts_close(acts);
    tmb_job_close(&job);
    return status;
}

static tmb_status run(const tmb_command *self, int argc, char **argv, tmb_err *err)
{
    options o = {0};
    const char *operands[TMB_OPERANDS];
    TRY(tmb_args_parse(self, &o, argc, argv, operands, err));
    if (o.common.help) return TMB_OK;
    if (!o.data.data.n)
        return tmb_fail(err, TMB_EUSAGE, "no data given; add --data with a file of tokens or text");
    if (!o.out)
        return tmb_fail(err, TMB_EUSAGE,
                        "no output given; add -o with the name of a .safetensors file");
    tmb_trace_result result = {0};
    tmb_data *data = NULL;
    tmb_meter meter;
    tmb_meter_open(&meter, &o.common);
    tmb_status status = trace(&o, operands[0], &meter, &result, &data, err);
    tmb_meter_close(&meter);
    if (!status) status = print(&o, data, &result, err);
    tmb_data_close(data);
    return status;
}

static const tmb_arg args[] = {
    {"data", 0, TMB_ARG_LIST, offsetof(options, data.data), "D",
     "tokens or text: .jsonl .txt .npy .bin .safetensors; may be repeated", NULL},
    {"ids-type", 0, TMB_ARG_CHOICE, offsetof(options, data.ids_type), "T",
     "of .bin files: uint16 or uint32 [uint16]", "uint16|uint32"},
    {"length", 0, TMB_ARG_COUNT, offsetof(options, data.length), "N",
     "tokens a sequence; longer documents end there [as they stand]", NULL},
    {"samples", 0, TMB_ARG_COUNT, offsetof(options, data.samples), "N",
     "take that many sequences, mixed by weight [all]", NULL},
    {"out", 'o', TMB_ARG_TEXT, offsetof(options, out), "T", "the .safetensors file to write", NULL},
    {"what", 0, TMB_ARG_TEXT, offsetof(options, what), "LIST",
     "of logits, router, hidden, with commas between them [all]", NULL},
    {"round-inputs", 0, TMB_ARG_FLAG, offsetof(options, round), NULL,
     "inputs of Linears and the KV cache rounded as the formats say", NULL},
    {"recipe", 0, TMB_ARG_TEXT, offsetof(options, apply.recipe), "R",
     "what quantize would make of CKPT by it, without writing anything", NULL},
    {"stats", 0, TMB_ARG_TEXT, offsetof(options, apply.stats), "F",
     "with --recipe: what calibrate measured [inputs are cast]", NULL},
    {"layout", 0, TMB_ARG_TEXT, offsetof(options, apply.layout), "L",
     "with --recipe: modelopt or compressed-tensors [as it says]", NULL},
    {"max-ram", 0, TMB_ARG_SIZE, offsetof(options, max_ram), "SIZE",
     "weights to hold at a time; at least a layer without its experts [a layer]", NULL},
    {0},
};

const tmb_command tmb_command_trace = {
    .name = "trace",
    .synopsis = "CKPT --data D -o T.safetensors [options]",
    .about = "Run a model over some tokens and write logits, routing and hidden states",
    .help =
        "Tensors: input_ids, logits, hidden.I, router_logits.I, router_topk.I, router_weight.I "
        "for\n"
        "layer I. A token's numbers depend on its own sequence alone, not on threads or memory.\n"
        "  tombac trace models/OLMoE-1B-7B --data text.jsonl -o trace.safetensors\n"
        "  tombac trace models/Qwen3-NVFP4 --data ids.npy --what router -o routing.safetensors\n",
    .operand = "checkpoint folder",
    .least = 1,
    .most = 1,
    .args = args,
    .run = run,
};
