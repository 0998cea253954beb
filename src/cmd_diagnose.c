/* cmd_diagnose.c - tombac diagnose: what quantization did to the routing, and to the output. */
#include "config.h"
#include "src/commands.h"
#include "src/data_args.h"
#include "src/diagnose.h"
#include "src/job.h"
#include "src/progress.h"
#include "src/stop.h"

#include "moe/diagnose/cause.h"
#include "moe/diagnose/manifest.h"
#include "moe/diagnose/report.h"
#include "moe/diagnose/run.h"
#include "moe/diagnose/traces.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct options {
    tmb_common common;
    tmb_data_args data;
    tmb_job_recipe apply;
    const char *out, *comm;
    tmb_texts gates;
    const char *ablate;
    int ranks, ep_ranks;
    bool traces, apply_advice;
} options;

/* REF, QUANT and what is between them. */
typedef struct pair {
    tmb_job ref, other; /* with a recipe other stays closed, and ref is planned */
    tmb_variant of_ref, of_other;
    tmb_data *data;
    tmb_gates gates;
} pair;

/* "roles", "layers:64K". */
static tmb_status parse_ablate(const char *text, tmb_cause_options *out, tmb_err *err)
{
    static const char *const words[] = {"none", "roles", "layers"};
    size_t n = text ? strcspn(text, ":") : 0;
    out->depth = TMB_CAUSE_ROLES;
    if (!text) return TMB_OK;
    for (int i = 0; i < 3; i++) {
        if (strlen(words[i]) != n || memcmp(words[i], text, n) != 0) continue;
        out->depth = (tmb_cause_depth)i;
        if (!text[n] || (tmb_size_parse(text + n + 1, &out->tokens) && out->tokens)) return TMB_OK;
    }
    return tmb_fail(err, TMB_EUSAGE,
                    "--ablate: '%s' is unknown; it takes none, roles or layers, and :TOKENS behind "
                    "that",
                    text);
}

static tmb_status check(const options *o, int operands, tmb_err *err)
{
    tmb_cause_options causes;
    TRY(parse_ablate(o->ablate, &causes, err));
    if (!o->data.data.n)
        return tmb_fail(err, TMB_EUSAGE,
                        "no data given; add --data FILE: text or ids that the model was not "
                        "calibrated on");
    if (operands < 2 && !o->apply.recipe)
        return tmb_fail(err, TMB_EUSAGE,
                        "nothing to compare with; give the quantized checkpoint behind REF, or "
                        "--recipe R");
    if (operands == 2 && o->apply.recipe)
        return tmb_fail(err, TMB_EUSAGE,
                        "a quantized checkpoint and --recipe are two answers to one question; "
                        "leave one out");
    if (o->traces && !o->out)
        return tmb_fail(err, TMB_EUSAGE, "--traces go into routing.h5; add -o DIR");
    if (o->comm && strcmp(o->comm, "threads") != 0 && o->ranks > 1)
        return tmb_fail(err, TMB_EUSAGE,
                        "--ranks %d: with --comm %s the launcher gives the number of ranks; leave "
                        "--ranks out",
                        o->ranks, o->comm);
    return TMB_OK;
}

static tmb_status open_pair(pair *p, const options *o, const char *const *operands, tmb_err *err)
{
    tmb_data_args data = o->data;
    for (size_t i = 0; i < o->gates.n; i++)
        TRY(tmb_gates_add(&p->gates, o->gates.at[i], err));
    if (o->out) TRY(tmb_diagnose_folder(o->out, err));
    TRY(tmb_job_open(&p->ref, operands[0], err));
    p->of_ref = tmb_variant_stored("reference", p->ref.model);
    if (o->apply.recipe) {
        TRY(tmb_job_apply(&p->ref, &o->apply, o->common.threads, err));
        p->of_other = tmb_variant_planned("recipe", p->ref.plan);
    } else {
        TRY(tmb_job_open(&p->other, operands[1], err));
        p->of_other = tmb_variant_stored("quantized", p->other.model);
    }
    data.windows = true;
    return tmb_data_args_open(&p->data, &data, p->ref.model, 0, err);
}

static void close_pair(pair *p)
{
    tmb_data_close(p->data);
    tmb_job_close(&p->other);
    tmb_job_close(&p->ref);
}

static tmb_status print_json(const tmb_diagnosis *d, tmb_err *err)
{
    tmb_json *root = tmb_report_json(d);
    char *text = root ? tmb_json_dump(root, 2) : NULL;
    if (text) fputs(text, stdout);
    tmb_status status = text ? TMB_OK : tmb_fail_memory(err, 0, "the report");
    free(text);
    tmb_json_free(root);
    return status;
}

/* ---- causes -----------------------------------------------------------------------------------
 */

/* The recipe that a checkpoint tells it was made by; none where it does not fit the reference. */
static void recall(pair *p, const tmb_diagnosis *d)
{
    tmb_err err = {0};
    const char *text = d ? d->manifest.recipe_text : NULL;
    if (!text || p->ref.recipe) return;
    if (!tmb_recipe_parse(&p->ref.recipe, text, strlen(text), "tombac.json", &err) &&
        !tmb_assign(&p->ref.assignment, p->ref.model, p->ref.recipe, &err))
        return;
    tmb_job_unplan(&p->ref);
}

static tmb_status find_causes(pair *p, tmb_diagnosis *d, const tmb_run_options *run,
                              const options *o, tmb_err *err)
{
    tmb_cause_options want = {.run = *run, .seed = TMB_BOOT_SEED};
    TRY(parse_ablate(o->ablate, &want, err));
    if (d)
        TRY(tmb_diagnosis_name(d, p->ref.model, o->apply.recipe ? p->ref.model : p->other.model,
                               o->apply.recipe ? p->ref.plan : NULL, err));
    recall(p, d);
    want.recipe = p->ref.recipe;
    want.assignment = p->ref.assignment;
    TRY(tmb_causes_find(d, &p->of_ref, &p->of_other, p->data, &want, err));
    if (!d || !o->apply_advice) return TMB_OK;
    tmb_run_options alone = *run;
    alone.comm = NULL;
    return tmb_causes_apply(d, &p->of_ref, p->data, p->ref.plan ? &p->ref.plan->options : NULL,
                            &alone, err);
}

/* Files, tables, and what the gate says. */
static tmb_status deliver(pair *p, tmb_diagnosis *d, tmb_store *store, const options *o,
                          tmb_err *err)
{
    bool met = tmb_gates_check(&p->gates, d);
    if (store) TRY(tmb_diagnose_publish(d, o->out, store, err));
    if (o->common.json) {
        TRY(print_json(d, err));
    } else if (!o->common.quiet) {
        TRY(tmb_diagnose_print(d, err));
        if (p->gates.n) printf("\n");
        tmb_diagnose_print_gates(&p->gates);
        if (store) printf("\nnext\n  open %s/report.html\n", o->out);
    }
    return met ? TMB_OK : TMB_EDIFFER;
}

static tmb_status diagnose(pair *p, const options *o, tmb_err *err)
{
    tmb_meter meter;
    tmb_store *store = NULL;
    tmb_diagnosis *d = NULL;
    tmb_diagnose_options want = {
        .seed = TMB_BOOT_SEED, .ep_ranks = (uint32_t)o->ep_ranks, .traces = o->traces};
    want.run = (tmb_run_options){.comm = o->comm,
                                 .ranks = o->ranks ? o->ranks : 1,
                                 .threads = o->common.threads,
                                 .scratch = o->out};
    char *routing = NULL;
    if (o->out && asprintf(&routing, "%s/routing.h5", o->out) < 0)
        return tmb_fail_memory(err, 0, "a path");
    want.routing = routing;
    want.store = &store;
    tmb_stop_install();
    tmb_meter_open(&meter, &o->common);
    want.run.watch = tmb_meter_watch(&meter);
    tmb_status status = tmb_diagnose(&d, &p->of_ref, &p->of_other, p->data, &want, err);
    if (!status) status = find_causes(p, d, &want.run, o, err);
    tmb_meter_close(&meter);
    if (!status && d) status = deliver(p, d, store, o, err);
    tmb_store_close(store);
    free(routing);
    tmb_diagnosis_free(d);
    return status;
}

static tmb_status run(const tmb_command *self, int argc, char **argv, tmb_err *err)
{
    options o = {0};
    const char *operands[TMB_OPERANDS] = {NULL};
    if (argc > 1 && !strcmp(argv[1], "diff"))
        return tmb_command_diagnose_diff.run(&tmb_command_diagnose_diff, argc - 1, argv + 1, err);
    TRY(tmb_args_parse(self, &o, argc, argv, operands, err));
    if (o.common.help) return TMB_OK;
    TRY(check(&o, operands[1] ? 2 : 1, err));
    pair p = {0};
    tmb_status status = open_pair(&p, &o, operands, err);
    if (!status) status = diagnose(&p, &o, err);
    close_pair(&p);
    return status;
}

static const tmb_arg args[] = {
    {"data", 0, TMB_ARG_LIST, offsetof(options, data.data), "D",
     "[NAME=]PATH[:WEIGHT]: text or ids; may be repeated", NULL},
    {"out", 'o', TMB_ARG_TEXT, offsetof(options, out), "DIR",
     "folder for report.html, report.json and routing.h5", NULL},
    {"recipe", 0, TMB_ARG_TEXT, offsetof(options, apply.recipe), "R",
     "instead of QUANT: what quantize would make of REF by it", NULL},
    {"stats", 0, TMB_ARG_TEXT, offsetof(options, apply.stats), "F",
     "with --recipe: what calibrate measured [inputs are cast]", NULL},
    {"gate", 0, TMB_ARG_LIST, offsetof(options, gates), "E",
     "conditions such as 'set_match>=0.97, min_layer_set_match>0.9'; else exit 1", NULL},
    TMB_WINDOW_ARGS(options, data),
    {"ablate", 0, TMB_ARG_TEXT, offsetof(options, ablate), "HOW[:N]",
     "none, roles or layers: how causes are found, on N tokens [roles:8192]", NULL},
    {"apply-advice", 0, TMB_ARG_FLAG, offsetof(options, apply_advice), NULL,
     "run the advised recipe too, and show what it wins", NULL},
    {"traces", 0, TMB_ARG_FLAG, offsetof(options, traces), NULL,
     "every token's routing in both models into routing.h5", NULL},
    {"ep-ranks", 0, TMB_ARG_COUNT, offsetof(options, ep_ranks), "N",
     "expert-parallel ranks whose balance is told [8]", NULL},
    {"ranks", 0, TMB_ARG_COUNT, offsetof(options, ranks), "N",
     "ranks in this process, each with sequences of its own [1]", NULL},
    {"comm", 0, TMB_ARG_CHOICE, offsetof(options, comm), "C",
     "threads of this process, or mpi (under mpirun) [threads]", "threads|mpi"},
    {0},
};

const tmb_command tmb_command_diagnose = {
    .name = "diagnose",
    .synopsis = "REF QUANT|--recipe R --data D... [-o DIR] [options]",
    .about =
        "What quantization did to the routing, and why; diagnose diff A B compares two reports",
    .help =
        "  tombac diagnose Qwen3-30B-A3B OUT --data held.txt -o report --gate 'set_match>=0.97'\n",
    .operand = "checkpoint folder",
    .least = 1,
    .most = 2,
    .args = args,
    .run = run,
};
