/* cmd_verify.c - tombac verify: findings, errors by group, the worst Linears, one verdict. */
#include "config.h"
#include "src/commands.h"
#include "src/emit.h"
#include "src/job.h"
#include "src/progress.h"
#include "src/table.h"
#include "src/text.h"

#include "moe/verify/verify.h"

#include <math.h>
#include <string.h>

typedef struct options {
    tmb_common common;
    const char *against;
    bool no_checksums;
} options;

static const char *const severities[] = {"note", "warning", "error"};

static void print_findings(const tmb_verify_report *r)
{
    char where[TMB_ERR_BYTES], text[2 * TMB_ERR_BYTES];
    for (int s = TMB_ERROR; s >= TMB_NOTE; s--)
        for (uint32_t i = 0; i < r->n_findings; i++) {
            const tmb_finding *f = &r->findings[i];
            if ((int)f->severity != s) continue;
            printf("%s: %s: ", severities[s], f->check);
            if (f->where && *f->where) printf("%s: ", tmb_safe(where, sizeof where, f->where));
            printf("%s", tmb_safe(text, sizeof text, f->text));
            if (f->count > 1) printf(" (and %u more of this kind)", f->count - 1);
            fputs("\n", stdout);
        }
    if (r->n_findings) fputs("\n", stdout);
}

static void decibel(char out[32], double db)
{
    snprintf(out, 32, isfinite(db) ? "%.2f" : "exact", db);
}

static bool print_tables(const tmb_verify_report *r, bool compared)
{
    tmb_table t;
    char db[32];
    tmb_table_open(&t, compared ? "role|format|>units|>SQNR dB|>cosine|>largest error"
                                : "role|format|>units");
    for (uint32_t i = 0; i < r->n_groups; i++) {
        const tmb_verify_group *g = &r->groups[i];
        decibel(db, g->sqnr_db);
        if (compared)
            tmb_table_row(&t, "%s\t%s\t%llu\t%s\t%.6f\t%.3g", tmb_role_name(g->role), g->format,
                          (unsigned long long)g->units, db, g->cosine, g->sums.max_error);
        else
            tmb_table_row(&t, "%s\t%s\t%llu", tmb_role_name(g->role), g->format,
                          (unsigned long long)g->units);
    }
    bool fine = tmb_table_close(&t, 0, stdout);
    if (!compared || !r->n_worst) return fine;
    fputs("\n", stdout);
    tmb_table_open(&t, "<the worst|>SQNR dB|>cosine|>largest error");
    for (uint32_t i = 0; i < r->n_worst; i++) {
        decibel(db, r->worst[i].sqnr_db);
        tmb_table_row(&t, "%s\t%s\t%.6f\t%.3g", r->worst[i].name, db, r->worst[i].cosine,
                      r->worst[i].max_error);
    }
    return tmb_table_close(&t, 0, stdout) && fine;
}

static const char *verdict(const tmb_verify_report *r)
{
    return r->n_errors ? "FAILED" : r->n_warnings ? "passed with warnings" : "passed";
}

static tmb_status print_report(const tmb_verify_report *r, const char *path, const options *o,
                               tmb_err *err)
{
    char safe[TMB_ERR_BYTES];
    print_findings(r);
    bool fine = o->common.quiet || print_tables(r, o->against != NULL);
    if (!o->common.quiet) fputs("\n", stdout);
    printf("%s: %s: %u kinds of checks, %u error%s, %u warning%s; layout %s",
           tmb_safe(safe, sizeof safe, path), verdict(r), r->n_checks, r->n_errors,
           r->n_errors == 1 ? "" : "s", r->n_warnings, r->n_warnings == 1 ? "" : "s", r->layout);
    if (r->files_known)
        printf("; SHA-256 of %u of %u files compared", r->files_checked, r->files_known);
    fputs("\n", stdout);
    return fine ? TMB_OK : tmb_fail_memory(err, 0, "the report");
}

static tmb_status json_report(const tmb_verify_report *r, const char *path, const options *o,
                              tmb_err *err)
{
    tmb_emit e;
    tmb_emit_open(&e);
    tmb_emit_text(&e, e.root, "path", path);
    tmb_emit_text(&e, e.root, "against", o->against);
    tmb_emit_text(&e, e.root, "verdict", verdict(r));
    tmb_emit_text(&e, e.root, "layout", r->layout);
    tmb_emit_int(&e, e.root, "checks", r->n_checks);
    tmb_emit_int(&e, e.root, "errors", r->n_errors);
    tmb_emit_int(&e, e.root, "warnings", r->n_warnings);
    tmb_emit_int(&e, e.root, "files_checked", r->files_checked);
    tmb_emit_int(&e, e.root, "files_known", r->files_known);
    tmb_json *array = tmb_emit_array(&e, e.root, "findings");
    for (uint32_t i = 0; i < r->n_findings; i++) {
        const tmb_finding *f = &r->findings[i];
        tmb_json *item = tmb_emit_item(&e, array);
        tmb_emit_text(&e, item, "severity", severities[f->severity]);
        tmb_emit_text(&e, item, "check", f->check);
        tmb_emit_text(&e, item, "where", f->where);
        tmb_emit_text(&e, item, "text", f->text);
        tmb_emit_int(&e, item, "count", f->count);
    }
    array = tmb_emit_array(&e, e.root, "groups");
    for (uint32_t i = 0; i < r->n_groups; i++) {
        const tmb_verify_group *g = &r->groups[i];
        tmb_json *item = tmb_emit_item(&e, array);
        tmb_emit_text(&e, item, "role", tmb_role_name(g->role));
        tmb_emit_text(&e, item, "format", g->format);
        tmb_emit_int(&e, item, "units", g->units);
        if (!o->against) continue;
        tmb_emit_num(&e, item, "sqnr_db", g->sqnr_db);
        tmb_emit_num(&e, item, "cosine", g->cosine);
        tmb_emit_num(&e, item, "max_error", g->sums.max_error);
    }
    array = tmb_emit_array(&e, e.root, "worst");
    for (uint32_t i = 0; i < r->n_worst; i++) {
        tmb_json *item = tmb_emit_item(&e, array);
        tmb_emit_text(&e, item, "name", r->worst[i].name);
        tmb_emit_num(&e, item, "sqnr_db", r->worst[i].sqnr_db);
        tmb_emit_num(&e, item, "cosine", r->worst[i].cosine);
        tmb_emit_num(&e, item, "max_error", r->worst[i].max_error);
    }
    return tmb_emit_print(&e, err);
}

static tmb_status run(const tmb_command *self, int argc, char **argv, tmb_err *err)
{
    options o = {0};
    const char *operands[TMB_OPERANDS];
    TRY(tmb_args_parse(self, &o, argc, argv, operands, err));
    if (o.common.help) return TMB_OK;
    tmb_job got = {0}, source = {0};
    tmb_verify_report *report = NULL;
    tmb_meter meter;
    tmb_meter_open(&meter, &o.common);
    tmb_status status = tmb_job_open(&got, operands[0], err);
    if (!status && o.against) status = tmb_job_open(&source, o.against, err);
    if (!status) {
        tmb_verify_options v = {.against = source.model,
                                .threads = o.common.threads,
                                .checksums = !o.no_checksums,
                                .watch = tmb_meter_watch(&meter)};
        status = tmb_verify(&report, got.model, &v, err);
    }
    tmb_meter_close(&meter);
    if (!status)
        status = o.common.json ? json_report(report, operands[0], &o, err)
                               : print_report(report, operands[0], &o, err);
    if (!status && report->n_errors)
        status =
            tmb_fail(err, TMB_EDATA, "%s: verification failed with %u error%s; do not serve it",
                     operands[0], report->n_errors, report->n_errors == 1 ? "" : "s");
    tmb_verify_report_close(report);
    tmb_job_close(&source);
    tmb_job_close(&got);
    return status;
}

static const tmb_arg args[] = {
    {"against", 0, TMB_ARG_TEXT, offsetof(options, against), "CKPT",
     "the source: measure SQNR, cosine and largest error of every Linear", NULL},
    {"no-checksums", 0, TMB_ARG_FLAG, offsetof(options, no_checksums), NULL,
     "do not read every file to compare it with tombac.json", NULL},
    {0},
};

const tmb_command tmb_command_verify = {
    .name = "verify",
    .synopsis = "OUT [--against CKPT] [options]",
    .about = "Check a quantized checkpoint, ours or another tool's, the way engines will read it",
    .help = "Exit status 65 when there is a finding of severity error.\n"
            "  tombac verify Qwen3-NVFP4\n"
            "  tombac verify Qwen3-NVFP4 --against models/Qwen3-30B-A3B --json > report.json\n",
    .operand = "checkpoint folder",
    .least = 1,
    .most = 1,
    .args = args,
    .run = run,
};
