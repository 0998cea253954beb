#include "config.h"
#include "moe/quantize/summary.h"

#include "moe/quantize/text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

double tmb_sqnr_db(double signal, double noise)
{
    if (noise > 0) return signal > 0 ? 10 * log10(signal / noise) : -INFINITY;
    return INFINITY;
}

/* Always ten characters; JSON has no infinity, so that is null. */
static void decibel(tmb_text *t, double value)
{
    if (isfinite(value))
        tmb_text_printf(t, "%10.4f", value);
    else
        tmb_text_puts(t, "      null");
}

/* Always sixteen characters. */
static void magnitude(tmb_text *t, double value)
{
    if (isfinite(value))
        tmb_text_printf(t, "%16.9e", value);
    else
        tmb_text_puts(t, "            null");
}

static void field(tmb_text *t, const char *indent, const char *key, const char *value)
{
    tmb_text_puts(t, indent);
    tmb_text_json(t, key);
    tmb_text_puts(t, ": ");
    tmb_text_json(t, value);
    tmb_text_puts(t, ",\n");
}

/* The command without paths: what in it decides the bytes. */
static void command(const tmb_plan *plan, tmb_text *t)
{
    char line[512];
    snprintf(line, sizeof line,
             "tombac quantize CKPT --recipe %s --layout %s --shard-size %llu%s%s -o OUT",
             plan->job.recipe->name, plan->layout->name,
             (unsigned long long)plan->options.shard_size,
             plan->options.copy_code ? " --copy-code" : "",
             plan->job.measured ? " --stats STATS.h5" : "");
    field(t, "  ", "command", line);
}

static void recipe(const tmb_plan *plan, tmb_text *t)
{
    const tmb_recipe *r = plan->job.recipe;
    tmb_text_puts(t, "  \"recipe\": {\n");
    field(t, "    ", "name", r->name);
    field(t, "    ", "sha256", r->sha256);
    field(t, "    ", "text", r->text);
    field(t, "    ", "resolved_sha256", plan->resolved_sha256);
    tmb_text_puts(t, "    \"resolved\": ");
    tmb_text_json(t, plan->resolved);
    tmb_text_puts(t, "\n  },\n");
}

static void source(const tmb_plan *plan, tmb_text *t)
{
    const tmb_checkpoint *ckpt = plan->job.model->ckpt;
    tmb_text_puts(t, "  \"source\": {\n");
    field(t, "    ", "model_type", plan->job.model->model_type);
    tmb_text_printf(t, "    \"tensors\": %zu,\n    \"bytes\": %llu,\n    \"files\": {",
                    ckpt->n_tensors, (unsigned long long)ckpt->total_bytes);
    for (size_t i = 0; i < ckpt->n_shards; i++) {
        tmb_text_puts(t, i ? ",\n      " : "\n      ");
        tmb_text_json(t, ckpt->shards[i].name);
        tmb_text_printf(t, ": {\"bytes\": %llu}", (unsigned long long)ckpt->shards[i].file_bytes);
    }
    tmb_text_puts(t, "\n    }\n  },\n");
}

/* The statistics that activation scales come from. */
static void statistics(const tmb_plan *plan, tmb_text *t)
{
    if (plan->job.measured) field(t, "  ", "statistics_sha256", plan->job.measured->content);
}

/* Each format once, in the order of the table. */
static void activations(const tmb_plan *plan, tmb_text *t)
{
    const char *comma = "";
    tmb_text_puts(t, "  \"activations\": {");
    for (uint32_t i = 0; i < plan->n_rows; i++) {
        const tmb_spec *spec = plan->rows[i].spec;
        bool seen = !spec->format;
        for (uint32_t j = 0; j < i && !seen; j++)
            seen = plan->rows[j].spec->format && strcmp(plan->rows[j].spec->name, spec->name) == 0;
        if (seen) continue;
        tmb_text_printf(t, "%s\n    ", comma);
        tmb_text_json(t, spec->name);
        tmb_text_puts(t, ": ");
        tmb_text_json(t, plan->layout->activations ? plan->layout->activations(spec, plan->job.measured) : NULL);
        comma = ",";
    }
    tmb_text_puts(t, "\n  },\n");
}

/* The longest name among a row's units, as JSON: the width of "worst". */
static void widths(const tmb_plan *plan, uint32_t row, size_t *width)
{
    *width = 4; /* null */
    for (uint32_t u = 0; u < plan->job.model->n_units; u++) {
        if (plan->row_of[u] != row) continue;
        tmb_text t = {.measure = true};
        tmb_text_json(&t, plan->job.model->units[u].name);
        if (t.n > *width) *width = t.n;
    }
}

static void group(const tmb_plan *plan, uint32_t i, const tmb_group_error *error, tmb_text *t)
{
    const tmb_plan_row *row = &plan->rows[i];
    const tmb_recipe *r = plan->job.recipe;
    size_t width, before;
    tmb_text_puts(t, "{\"role\": ");
    tmb_text_json(t, tmb_role_name(row->role));
    tmb_text_puts(t, ", \"format\": ");
    tmb_text_json(t, row->spec->format ? row->spec->name : "bf16");
    tmb_text_puts(t, ", \"rule\": ");
    tmb_text_json(t, row->rule >= 0 ? r->rules[row->rule].left : NULL);
    tmb_text_printf(
        t, ",\n     \"units\": %llu, \"parameters\": %llu, \"bytes_in\": %llu, \"bytes_out\": %llu",
        (unsigned long long)row->units, (unsigned long long)row->parameters,
        (unsigned long long)row->bytes_in, (unsigned long long)row->bytes_out);
    if (row->spec->format) {
        tmb_text_puts(t, ",\n     \"scale\": ");
        tmb_text_json(t, tmb_scale_name((int)row->spec->scale));
        tmb_text_printf(t, ", \"unweighed\": %llu", (unsigned long long)row->unweighed);
        tmb_text_puts(t, ",\n     \"sqnr_db\": ");
        decibel(t, error ? tmb_sqnr_db(error->sums.signal, error->sums.noise) : 0);
        tmb_text_puts(t, ", \"max_error\": ");
        magnitude(t, error ? error->sums.max_error : 0);
        tmb_text_puts(t, ", \"worst_sqnr_db\": ");
        decibel(t, error ? error->worst_sqnr_db : 0);
        tmb_text_puts(t, ", \"worst\": ");
        widths(plan, i, &width);
        before = t->n;
        tmb_text_json(t, error ? error->worst : NULL);
        tmb_text_spaces(t, width - (t->n - before));
    }
    tmb_text_puts(t, "}");
}

static void file(tmb_text *t, bool first, const char *name, uint64_t bytes, const char *sha256)
{
    static const char unknown[TMB_SHA256_HEX] =
        "0000000000000000000000000000000000000000000000000000000000000000";
    tmb_text_puts(t, first ? "\n    " : ",\n    ");
    tmb_text_json(t, name);
    tmb_text_printf(t, ": {\"bytes\": %llu, \"sha256\": \"%s\"}", (unsigned long long)bytes,
                    sha256 ? sha256 : unknown);
}

static void write_summary(const tmb_plan *plan, const char (*sha256)[TMB_SHA256_HEX],
                          const tmb_group_error *errors, tmb_text *t)
{
    tmb_text_puts(t, "{\n");
    field(t, "  ", "tombac", PACKAGE_VERSION);
    command(plan, t);
    field(t, "  ", "layout", plan->layout->name);
    recipe(plan, t);
    source(plan, t);
    statistics(plan, t);
    activations(plan, t);
    tmb_text_printf(t, "  \"bits_effective\": %.4f,\n  \"groups\": [", plan->bits_effective);
    for (uint32_t i = 0; i < plan->n_rows; i++) {
        tmb_text_puts(t, i ? ",\n    " : "\n    ");
        group(plan, i, errors ? &errors[i] : NULL, t);
    }
    tmb_text_puts(t, "\n  ],\n  \"files\": {");
    uint32_t n = 0;
    for (uint32_t i = 0; i < plan->n_files; i++, n++)
        file(t, n == 0, plan->files[i].name,
             plan->files[i].header_bytes + plan->files[i].data_bytes, sha256 ? sha256[n] : NULL);
    for (uint32_t i = 0; i + 1 < plan->n_others; i++, n++)
        file(t, n == 0, plan->others[i].name, plan->others[i].bytes, sha256 ? sha256[n] : NULL);
    tmb_text_puts(t, "\n  },\n");
}

/* The last member: the SHA-256 of every byte before it. */
static void seal(tmb_text *t, const char *sha256)
{
    static const char unknown[TMB_SHA256_HEX] =
        "0000000000000000000000000000000000000000000000000000000000000000";
    tmb_text_printf(t, "  \"sha256\": \"%s\"\n}\n", sha256 ? sha256 : unknown);
}

uint64_t tmb_summary_bytes(const tmb_plan *plan)
{
    tmb_text t = {.measure = true};
    write_summary(plan, NULL, NULL, &t);
    seal(&t, NULL);
    return t.n;
}

tmb_status tmb_summary_text(const tmb_plan *plan, const char (*sha256)[TMB_SHA256_HEX],
                            const tmb_group_error *errors, char **text, size_t *n, tmb_err *err)
{
    tmb_text t = {0};
    char own[TMB_SHA256_HEX] = "";
    write_summary(plan, sha256, errors, &t);
    tmb_status status = t.failed ? TMB_OK : tmb_sha256(t.data, t.n, own, err);
    if (status) {
        tmb_text_free(&t);
        return status;
    }
    seal(&t, own);
    return tmb_text_take(&t, text, n, TMB_SUMMARY_NAME, err);
}
