/* stats_diff.c - tombac stats diff: whether two sets of data look alike to the model. */
#include "config.h"
#include "src/commands.h"
#include "src/stats.h"
#include "src/table.h"
#include "src/text.h"

#include "moe/calib/compare.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

typedef struct options {
    tmb_common common;
} options;

typedef struct shifts {
    tmb_layer_shift *of; /* [n] */
    char (*sites)[64];   /* names, cut */
    uint32_t n, matter;
    double amax;
} shifts;

static tmb_status compare(shifts *s, tmb_stats_file *a, tmb_stats_file *b, tmb_err *err)
{
    if (a->n_layers != b->n_layers ||
        memcmp(a->layers, b->layers, a->n_layers * sizeof *a->layers) != 0)
        return tmb_fail(err, TMB_EDATA, "%s and %s have different layers and cannot be compared",
                        a->path, b->path);
    s->of = calloc(a->n_layers, sizeof *s->of);
    s->sites = calloc(a->n_layers, sizeof *s->sites);
    if (!s->of || !s->sites) return tmb_fail_memory(err, a->n_layers * sizeof *s->of, "a report");
    for (; s->n < a->n_layers; s->n++) {
        tmb_stats_layer *x = NULL, *y = NULL;
        tmb_layer_shift *shift = &s->of[s->n];
        tmb_status status = tmb_stats_read(a, s->n, false, &x, err);
        if (!status) status = tmb_stats_read(b, s->n, false, &y, err);
        if (!status) status = tmb_layer_compare(x, y, a->identity.min_tokens, shift, err);
        if (!status) {
            snprintf(s->sites[s->n], sizeof s->sites[0], "%s", shift->site ? shift->site : "");
            s->matter += shift->matters;
            s->amax = shift->amax > s->amax ? shift->amax : s->amax;
        }
        tmb_stats_layer_free(x);
        tmb_stats_layer_free(y);
        if (status) return status;
    }
    return TMB_OK;
}

static void cell(char out[24], bool there, tmb_divergence d)
{
    snprintf(out, 24, "-");
    if (there) snprintf(out, 24, "%.4f%s", d.j, tmb_divergence_matters(d) ? " *" : "");
}

/* A sentence, wrapped. */
__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    char text[4 * TMB_ERR_BYTES], safe[4 * TMB_ERR_BYTES];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    tmb_print_wrapped(stdout, 0, tmb_safe(safe, sizeof safe, text));
}

static tmb_status print(const shifts *s, const tmb_stats_file *a, const tmb_stats_file *b,
                        bool quiet, tmb_err *err)
{
    char load[24], logits[24], values[24], label[TMB_LAYER_LABEL], starved[32];
    tmb_table t;
    bool fine = true;
    if (!quiet) {
        printf("Symmetric KL in nats between %s and %s; * marks what is no noise\n\n", a->path,
               b->path);
        tmb_table_open(&t, ">layer|>tokens|>tokens|>load|>logits|>inputs|>starved|>amax|<widest");
        for (uint32_t i = 0; i < s->n; i++) {
            const tmb_layer_shift *l = &s->of[i];
            cell(load, l->router, l->load);
            cell(logits, l->router, l->logits);
            cell(values, true, l->values);
            snprintf(starved, sizeof starved, "%u, %u", l->starved[0], l->starved[1]);
            tmb_table_row(&t, "%s\t%llu\t%llu\t%s\t%s\t%s\t%s\tx %.2f\t%s",
                          tmb_layer_label(label, l->layer), (unsigned long long)l->tokens[0],
                          (unsigned long long)l->tokens[1], load, logits, values,
                          l->router ? starved : "-", l->amax, s->sites[i]);
        }
        fine = tmb_table_close(&t, 0, stdout);
        fputs("\n", stdout);
    }
    if (strcmp(a->identity.model_sha256, b->identity.model_sha256) != 0)
        say("note: the two files are of different checkpoints (%.8s, %.8s)",
            a->identity.model_sha256, b->identity.model_sha256);
    if (s->amax > 1.001)
        say("note: the second set reaches %.2f times the range of the first; act_scale = headroom "
            "leaves room",
            s->amax);
    if (s->matter)
        say("warning: %s does not look like %s in %u of %u layers; calibrate on data like it, or "
            "merge the two",
            a->path, b->path, s->matter, s->n);
    else
        say("%s and %s differ by no more than samples of one source do", a->path, b->path);
    return fine ? TMB_OK : tmb_fail_memory(err, 0, "the report");
}

static void emit_divergence(tmb_emit *e, tmb_json *object, const char *key, tmb_divergence d)
{
    tmb_json *o = tmb_emit_object(e, object, key);
    tmb_emit_num(e, o, "nats", d.j);
    tmb_emit_num(e, o, "noise", d.noise);
    tmb_emit_bool(e, o, "matters", tmb_divergence_matters(d));
}

static tmb_status print_json(const shifts *s, const tmb_stats_file *a, const tmb_stats_file *b,
                             bool same, tmb_err *err)
{
    char label[TMB_LAYER_LABEL];
    tmb_emit e;
    tmb_emit_open(&e);
    tmb_emit_bool(&e, e.root, "same", same);
    tmb_emit_bool(&e, e.root, "alike", !s->matter);
    tmb_stats_emit(&e, tmb_emit_object(&e, e.root, "a"), a);
    tmb_stats_emit(&e, tmb_emit_object(&e, e.root, "b"), b);
    tmb_json *layers = tmb_emit_array(&e, e.root, "layers");
    for (uint32_t i = 0; i < s->n; i++) {
        const tmb_layer_shift *l = &s->of[i];
        tmb_json *item = tmb_emit_item(&e, layers);
        tmb_emit_text(&e, item, "layer", tmb_layer_label(label, l->layer));
        tmb_emit_int(&e, item, "tokens_a", l->tokens[0]);
        tmb_emit_int(&e, item, "tokens_b", l->tokens[1]);
        if (l->router) {
            emit_divergence(&e, item, "load", l->load);
            emit_divergence(&e, item, "logits", l->logits);
            emit_divergence(&e, item, "margin", l->margin);
            tmb_emit_int(&e, item, "starved_a", l->starved[0]);
            tmb_emit_int(&e, item, "starved_b", l->starved[1]);
        }
        emit_divergence(&e, item, "inputs", l->values);
        tmb_emit_text(&e, item, "widest", s->sites[i]);
        tmb_emit_num(&e, item, "amax_ratio", l->amax);
        tmb_emit_bool(&e, item, "matters", l->matters);
    }
    return tmb_emit_print(&e, err);
}

static tmb_status run(const tmb_command *self, int argc, char **argv, tmb_err *err)
{
    options o = {0};
    const char *operands[TMB_OPERANDS];
    tmb_stats_file *a = NULL, *b = NULL;
    shifts s = {0};
    TRY(tmb_args_parse(self, &o, argc, argv, operands, err));
    if (o.common.help) return TMB_OK;
    tmb_status status = tmb_stats_open(&a, operands[0], err);
    if (!status) status = tmb_stats_open(&b, operands[1], err);
    bool same = !status && !strcmp(a->digest, b->digest);
    if (!status && !same) status = compare(&s, a, b, err);
    if (!status && o.common.json)
        status = print_json(&s, a, b, same, err);
    else if (!status && same)
        printf("same content, SHA-256 %s\n", a->digest);
    else if (!status)
        status = print(&s, a, b, o.common.quiet, err);
    free(s.of);
    free(s.sites);
    tmb_stats_close(a);
    tmb_stats_close(b);
    return status || same ? status : TMB_EDIFFER;
}

static const tmb_arg args[] = {{0}};

const tmb_command tmb_stats_diff = {
    .name = "stats diff",
    .synopsis = "A B",
    .about = "Whether the data of B looks to the model like that of A",
    .help = "Exit status 0 when the content is the same, 1 when it differs.\n"
            "  tombac stats diff calibration.h5 production.h5\n",
    .operand = "statistics file",
    .least = 2,
    .most = 2,
    .args = args,
    .run = run,
};
