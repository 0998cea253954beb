/* plan_report.c - a plan as a page for people and as JSON. */
#include "config.h"
#include "src/plan_report.h"

#include "src/emit.h"
#include "src/estimate.h"
#include "src/job.h"
#include "src/machine.h"
#include "src/table.h"
#include "src/text.h"

#include <stdio.h>
#include <string.h>

enum { FILES_SHOWN = 8 };

const char *tmb_plan_format(const tmb_plan_row *row)
{
    return row->spec && row->spec->format ? row->spec->name : "kept";
}

static bool quantized(const tmb_plan_row *row)
{
    return row->spec && row->spec->format;
}

/* Why a unit of this row is kept; all units of a row share the rule. */
static const char *why(const tmb_plan *plan, const tmb_plan_row *row)
{
    uint32_t r = (uint32_t)(row - plan->rows);
    for (uint32_t u = 0; u < plan->job.model->n_units; u++)
        if (plan->row_of[u] == r && plan->job.assignment->choices[u].why)
            return plan->job.assignment->choices[u].why;
    return NULL;
}

const char *tmb_plan_decided(const tmb_plan *plan, const tmb_plan_row *row, char *out, size_t size)
{
    const char *reason = quantized(row) ? NULL : why(plan, row);
    const char *role = tmb_role_name(row->role);
    size_t n = strlen(role);
    if (reason && !strncmp(reason, role, n) && !strncmp(reason + n, ": ", 2)) reason += n + 2;
    if (row->rule >= 0 && !reason) {
        const tmb_rule *rule = &plan->job.recipe->rules[row->rule];
        snprintf(out, size, "line %d: %s = %s", rule->line, rule->left, rule->spec->name);
    } else {
        snprintf(out, size, "%s", reason ? reason : "no rule");
    }
    return out;
}

static double bits(const tmb_plan_row *row)
{
    return row->parameters ? 8.0 * (double)row->bytes_out / (double)row->parameters : 0;
}

/* The row at *i with those behind it that read the same: kept for one reason, whatever rule would
 * have moved them.  *i ends at the last of them. */
static tmb_plan_row joined(const tmb_plan *plan, uint32_t *i, char *decided, size_t size)
{
    char next[512];
    tmb_plan_row sum = plan->rows[*i];
    tmb_plan_decided(plan, &plan->rows[*i], decided, size);
    for (; *i + 1 < plan->n_rows; ++*i) {
        const tmb_plan_row *row = &plan->rows[*i + 1];
        if (quantized(&sum) || quantized(row) || row->role != sum.role ||
            strcmp(tmb_plan_decided(plan, row, next, sizeof next), decided) != 0)
            break;
        sum.tensors_in += row->tensors_in;
        sum.parameters += row->parameters;
        sum.bytes_in += row->bytes_in;
        sum.bytes_out += row->bytes_out;
    }
    return sum;
}

static void print_groups(const tmb_plan *plan, tmb_table *t)
{
    char in[TMB_HUMAN_BYTES], out[TMB_HUMAN_BYTES], decided[512];
    uint64_t tensors_in = 0;
    tmb_table_open(t, "role|format|>tensors|>in|>out|>bits|<decided by");
    for (uint32_t i = 0; i < plan->n_rows; i++) {
        tmb_plan_row row = joined(plan, &i, decided, sizeof decided);
        tensors_in += row.tensors_in;
        tmb_table_row(t, "%s\t%s\t%llu\t%s\t%s\t%.2f\t%s", tmb_role_name(row.role),
                      tmb_plan_format(&row), (unsigned long long)row.tensors_in,
                      tmb_human_bytes(in, row.bytes_in), tmb_human_bytes(out, row.bytes_out),
                      bits(&row), decided);
    }
    tmb_table_rule(t);
    tmb_table_row(t, "total\t\t%llu\t%s\t%s\t%.2f\t%s", (unsigned long long)tensors_in,
                  tmb_human_bytes(in, plan->bytes_in), tmb_human_bytes(out, plan->bytes_out),
                  plan->bits_effective, "bits of what a glob may move");
}

static void print_files(const tmb_plan *plan, tmb_table *t)
{
    char n[TMB_HUMAN_BYTES];
    tmb_table_open(t, "file|>bytes|>tensors");
    for (uint32_t i = 0; i < plan->n_files; i++) {
        const tmb_out_file *f = &plan->files[i];
        if (plan->n_files > FILES_SHOWN && i == FILES_SHOWN / 2) {
            uint32_t hidden = plan->n_files - FILES_SHOWN;
            tmb_table_row(t, ".. %u more, all in --json ..", hidden);
            i += hidden;
            f = &plan->files[i];
        }
        tmb_table_row(t, "%s\t%s\t%u", f->name,
                      tmb_human_integer(n, f->header_bytes + f->data_bytes), f->n_outs);
    }
    uint32_t n_carried = 0;
    uint64_t carried = 0;
    for (uint32_t i = 0; i < plan->n_others; i++) {
        const tmb_other_file *f = &plan->others[i];
        bool summed = f->kind == TMB_OTHER_CARRIED;
        n_carried += summed;
        carried += summed ? f->bytes : 0;
        if (!summed) tmb_table_row(t, "%s\t%s", f->name, tmb_human_integer(n, f->bytes));
    }
    if (n_carried)
        tmb_table_row(t, "%u carried over\t%s", n_carried, tmb_human_integer(n, carried));
}

/* The first row of a spec, among those of quantized Linears, stands for all. */
static bool first_of_spec(const tmb_plan *plan, uint32_t i)
{
    for (uint32_t k = 0; k < i; k++)
        if (plan->rows[k].spec == plan->rows[i].spec) return false;
    return quantized(&plan->rows[i]);
}

/* How a spec's block scales are chosen, when not by the largest magnitude. */
static void print_scales(const tmb_plan *plan, const tmb_spec *spec)
{
    uint64_t units = 0, unweighed = 0;
    for (uint32_t i = 0; i < plan->n_rows; i++) {
        if (plan->rows[i].spec != spec) continue;
        units += plan->rows[i].units;
        unweighed += plan->rows[i].unweighed;
    }
    printf("scales       %s: %s", spec->name, tmb_plan_scales(plan, spec));
    if (unweighed)
        printf("; plain mse for %llu of %llu Linears, which saw no token",
               (unsigned long long)unweighed, (unsigned long long)units);
    fputs("\n", stdout);
}

const char *tmb_plan_scales(const tmb_plan *plan, const tmb_spec *spec)
{
    if (spec->scale == TMB_SCALE_HESSIAN)
        return "least error of the output, by 16x16 second moments of the input";
    if (spec->scale != TMB_SCALE_MSE) return "largest magnitude";
    return plan->weigh ? "least squared error, weighted by the second moments of the input"
                       : "least squared error";
}

void tmb_plan_print_activations(const tmb_plan *plan)
{
    for (uint32_t i = 0; i < plan->n_rows; i++) {
        const tmb_spec *spec = plan->rows[i].spec;
        if (!first_of_spec(plan, i) || !plan->layout->activations) continue;
        const char *text = plan->layout->activations(spec, plan->job.measured);
        if (text) printf("activations  %s: %s\n", spec->name, text);
    }
    for (uint32_t i = 0; i < plan->n_rows; i++)
        if (first_of_spec(plan, i) && plan->rows[i].spec->scale != TMB_SCALE_MAX)
            print_scales(plan, plan->rows[i].spec);
}

static void print_fact(const char *head, const char *text)
{
    printf("%-13s", head);
    tmb_print_wrapped(stdout, 13, text);
}

static void print_sentences(const char *head, const char *const *texts, uint32_t n)
{
    char safe[TMB_ERR_BYTES];
    for (uint32_t i = 0; i < n; i++)
        printf("%s%s: %s\n", i ? "" : "\n", head, tmb_safe(safe, sizeof safe, texts[i]));
}

void tmb_plan_print_warnings(const tmb_plan *plan)
{
    print_sentences("warning", plan->warnings, plan->n_warnings);
}

tmb_status tmb_plan_print(const tmb_plan *plan, tmb_err *err)
{
    const tmb_model *model = plan->job.model;
    const tmb_recipe *recipe = plan->job.recipe;
    char page[2 * TMB_ERR_BYTES], line[1024], safe[TMB_ERR_BYTES], a[TMB_HUMAN_BYTES],
        b[TMB_HUMAN_BYTES];
    printf("model        %s\n", tmb_safe(safe, sizeof safe, model->ckpt->path));
    print_fact("", tmb_job_about(model, line, sizeof line));
    snprintf(page, sizeof page, "%s: %s", recipe->name,
             recipe->description ? recipe->description : "no description");
    print_fact("recipe", tmb_safe(safe, sizeof safe, page));
    snprintf(page, sizeof page, "%s: %s", plan->layout->name, plan->layout->summary);
    print_fact("layout", page);
    fputs("\n", stdout);

    tmb_table t;
    print_groups(plan, &t);
    bool fine = tmb_table_close(&t, 0, stdout);
    fputs("\n", stdout);
    print_files(plan, &t);
    fine = tmb_table_close(&t, 0, stdout) && fine;
    fputs("\n", stdout);

    tmb_plan_print_activations(plan);
    uint64_t disk_free = tmb_machine_disk_free();
    printf("disk         %s to write, %s free here%s\n", tmb_human_bytes(a, plan->disk_bytes),
           tmb_human_bytes(b, disk_free),
           disk_free < plan->disk_bytes ? ": write to another disk" : "");
    printf("memory       %s at most with %d thread%s\n", tmb_human_bytes(a, plan->peak_bytes),
           plan->options.threads, plan->options.threads == 1 ? "" : "s");
    if (plan->options.gpu)
        printf("GPU          %s of its memory\n", tmb_human_bytes(a, plan->device_bytes));
    double seconds = tmb_estimate_seconds(plan);
    if (seconds >= 0)
        printf("time         %s of arithmetic, as measured here; reading %s may take longer\n",
               tmb_human_seconds(a, seconds), tmb_human_bytes(b, plan->bytes_in));
    fine = fine && seconds >= 0;
    print_sentences("note", model->notes, model->n_notes);
    tmb_plan_print_warnings(plan);
    return fine ? TMB_OK : tmb_fail_memory(err, 0, "the plan's page");
}

static void json_groups(tmb_emit *e, const tmb_plan *plan)
{
    char decided[512];
    tmb_json *array = tmb_emit_array(e, e->root, "groups");
    for (uint32_t i = 0; i < plan->n_rows; i++) {
        const tmb_plan_row *row = &plan->rows[i];
        tmb_json *o = tmb_emit_item(e, array);
        tmb_emit_text(e, o, "role", tmb_role_name(row->role));
        tmb_emit_text(e, o, "format", quantized(row) ? row->spec->format->name : NULL);
        tmb_emit_text(e, o, "spec", row->spec ? row->spec->name : NULL);
        if (row->rule >= 0) {
            tmb_emit_text(e, o, "rule", plan->job.recipe->rules[row->rule].left);
            tmb_emit_int(e, o, "line", (uint64_t)plan->job.recipe->rules[row->rule].line);
        }
        tmb_emit_text(e, o, "decided_by", tmb_plan_decided(plan, row, decided, sizeof decided));
        tmb_emit_int(e, o, "units", row->units);
        tmb_emit_int(e, o, "tensors_in", row->tensors_in);
        tmb_emit_int(e, o, "tensors_out", row->tensors_out);
        tmb_emit_int(e, o, "parameters", row->parameters);
        tmb_emit_int(e, o, "bytes_in", row->bytes_in);
        tmb_emit_int(e, o, "bytes_out", row->bytes_out);
        tmb_emit_num(e, o, "bits_per_weight", bits(row));
        if (quantized(row)) {
            tmb_emit_text(e, o, "scale", tmb_scale_name((int)row->spec->scale));
            tmb_emit_int(e, o, "unweighed", row->unweighed);
        }
        if (quantized(row) && plan->layout->activations)
            tmb_emit_text(e, o, "activations",
                          plan->layout->activations(row->spec, plan->job.measured));
    }
}

static void json_file(tmb_emit *e, tmb_json *array, const char *name, uint64_t bytes, uint32_t outs)
{
    tmb_json *o = tmb_emit_item(e, array);
    tmb_emit_text(e, o, "name", name);
    tmb_emit_int(e, o, "bytes", bytes);
    if (outs) tmb_emit_int(e, o, "tensors", outs);
}

static void json_files(tmb_emit *e, const tmb_plan *plan)
{
    tmb_json *array = tmb_emit_array(e, e->root, "files");
    for (uint32_t i = 0; i < plan->n_files; i++)
        json_file(e, array, plan->files[i].name,
                  plan->files[i].header_bytes + plan->files[i].data_bytes, plan->files[i].n_outs);
    for (uint32_t i = 0; i < plan->n_others; i++)
        json_file(e, array, plan->others[i].name, plan->others[i].bytes, 0);
}

static void json_model(tmb_emit *e, const tmb_model *m)
{
    tmb_json *o = tmb_emit_object(e, e->root, "model");
    tmb_emit_text(e, o, "path", m->ckpt->path);
    tmb_emit_text(e, o, "model_type", m->model_type);
    tmb_emit_text(e, o, "architecture", m->arch->name);
    tmb_emit_bool(e, o, "guessed", m->guessed);
    tmb_emit_int(e, o, "layers", (uint64_t)m->n_layers);
    tmb_emit_int(e, o, "experts", (uint64_t)m->n_experts);
    tmb_emit_int(e, o, "top_k", (uint64_t)m->top_k);
    tmb_emit_int(e, o, "parameters", m->parameters);
    tmb_emit_int(e, o, "active_parameters", m->active_parameters);
}

tmb_status tmb_plan_json(const tmb_plan *plan, tmb_err *err)
{
    tmb_emit e;
    tmb_emit_open(&e);
    json_model(&e, plan->job.model);
    tmb_json *o = tmb_emit_object(&e, e.root, "recipe");
    tmb_emit_text(&e, o, "name", plan->job.recipe->name);
    tmb_emit_text(&e, o, "path", plan->job.recipe->path);
    tmb_emit_text(&e, o, "sha256", plan->job.recipe->sha256);
    tmb_emit_text(&e, o, "resolved", plan->resolved);
    tmb_emit_text(&e, o, "resolved_sha256", plan->resolved_sha256);
    tmb_emit_text(&e, e.root, "layout", plan->layout->name);
    json_groups(&e, plan);
    tmb_emit_int(&e, e.root, "bytes_in", plan->bytes_in);
    tmb_emit_int(&e, e.root, "bytes_out", plan->bytes_out);
    tmb_emit_num(&e, e.root, "bits_effective", plan->bits_effective);
    json_files(&e, plan);
    tmb_emit_int(&e, e.root, "disk_bytes", plan->disk_bytes);
    tmb_emit_int(&e, e.root, "disk_free_bytes", tmb_machine_disk_free());
    tmb_emit_int(&e, e.root, "peak_memory_bytes", plan->peak_bytes);
    if (plan->options.gpu) tmb_emit_int(&e, e.root, "device_memory_bytes", plan->device_bytes);
    tmb_emit_int(&e, e.root, "threads", (uint64_t)plan->options.threads);
    double seconds = tmb_estimate_seconds(plan);
    if (seconds >= 0)
        tmb_emit_num(&e, e.root, "arithmetic_seconds", seconds);
    else
        e.failed = true;
    tmb_emit_append(&e, tmb_emit_array(&e, e.root, "notes"), plan->job.model->notes,
                    plan->job.model->n_notes);
    tmb_json *warnings = tmb_emit_array(&e, e.root, "warnings");
    tmb_emit_append(&e, warnings, plan->warnings, plan->n_warnings);
    return tmb_emit_print(&e, err);
}
