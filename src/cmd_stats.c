/* cmd_stats.c - tombac stats: the list of its parts, and merge. */
#include "config.h"
#include "src/commands.h"
#include "src/stats.h"
#include "src/text.h"

#include <stdlib.h>
#include <string.h>

const char *tmb_layer_label(char out[TMB_LAYER_LABEL], int32_t layer)
{
    if (layer == TMB_STATS_HEAD)
        snprintf(out, TMB_LAYER_LABEL, "head");
    else
        snprintf(out, TMB_LAYER_LABEL, "%d", layer);
    return out;
}

void tmb_stats_emit(tmb_emit *e, tmb_json *object, const tmb_stats_file *f)
{
    const tmb_stats_identity *id = &f->identity;
    tmb_json *manifest = NULL;
    tmb_emit_text(e, object, "path", f->path);
    tmb_emit_text(e, object, "content_sha256", f->digest);
    tmb_emit_text(e, object, "model_type", id->model_type);
    tmb_emit_text(e, object, "model_sha256", id->model_sha256);
    tmb_emit_text(e, object, "hessian", id->moments ? "block16" : "none");
    tmb_emit_int(e, object, "min_tokens", id->min_tokens);
    tmb_emit_int(e, object, "sequences", id->n_sequences);
    tmb_json *sources = tmb_emit_array(e, object, "sources");
    for (uint32_t i = 0; i < id->n_sources; i++) {
        tmb_json *item = tmb_emit_item(e, sources);
        tmb_emit_text(e, item, "name", id->sources[i].name);
        tmb_emit_int(e, item, "sequences", id->sources[i].sequences);
        tmb_emit_int(e, item, "tokens", id->sources[i].tokens);
    }
    if (tmb_json_parse(&manifest, f->manifest, strlen(f->manifest), f->path, true, NULL))
        manifest = tmb_json_new_string(f->manifest);
    if (!tmb_json_set(object, "manifest", manifest)) e->failed = true;
}

/* ------------------------------------------------------------------------------ merge */

typedef struct options {
    tmb_common common;
    const char *out;
} options;

/* The manifests of all parts, and who put them together. */
static char *merged_manifest(tmb_stats_file *const *files, uint32_t n)
{
    tmb_json *root = tmb_json_new_object(), *parts = tmb_json_new_array();
    bool fine = root && parts;
    for (uint32_t i = 0; i < n && fine; i++) {
        tmb_json *one = NULL;
        if (tmb_json_parse(&one, files[i]->manifest, strlen(files[i]->manifest), files[i]->path,
                           true, NULL))
            one = tmb_json_new_string(files[i]->manifest);
        fine = tmb_json_append(parts, one);
    }
    fine = fine && tmb_json_set(root, "tool", tmb_json_new_string(PACKAGE_STRING));
    if (fine)
        fine = tmb_json_set(root, "merged", parts);
    else
        tmb_json_free(parts);
    char *text = fine ? tmb_json_dump(root, 0) : NULL;
    tmb_json_free(root);
    return text;
}

static tmb_status report(const options *o, const tmb_stats_file *f, uint32_t n, tmb_err *err)
{
    char tokens[TMB_HUMAN_BYTES], sequences[TMB_HUMAN_BYTES];
    uint64_t sum = 0;
    if (o->common.json) {
        tmb_emit e;
        tmb_emit_open(&e);
        tmb_stats_emit(&e, e.root, f);
        return tmb_emit_print(&e, err);
    }
    for (uint32_t i = 0; i < f->identity.n_sources; i++)
        sum += f->identity.sources[i].tokens;
    if (!o->common.quiet)
        printf("%s: %u files, %s sequences, %s tokens; content SHA-256 %s\n", f->path, n,
               tmb_human_integer(sequences, f->identity.n_sequences),
               tmb_human_integer(tokens, sum), f->digest);
    return TMB_OK;
}

static tmb_status run_merge(const tmb_command *self, int argc, char **argv, tmb_err *err)
{
    options o = {0};
    const char *operands[TMB_OPERANDS] = {NULL};
    tmb_stats_file *files[TMB_OPERANDS] = {NULL}, *result = NULL;
    TRY(tmb_args_parse(self, &o, argc, argv, operands, err));
    if (o.common.help) return TMB_OK;
    if (!o.out) return tmb_fail(err, TMB_EUSAGE, "-o FILE is missing: where the sum goes");
    uint32_t n = 0;
    tmb_status status = TMB_OK;
    for (; n < TMB_OPERANDS && operands[n] && !status; n++)
        status = tmb_stats_open(&files[n], operands[n], err);
    char *manifest = status ? NULL : merged_manifest(files, n);
    if (!status && !manifest) status = tmb_fail_memory(err, 0, "the manifest");
    if (!status) status = tmb_stats_merge(o.out, files, n, manifest, err);
    if (!status) status = tmb_stats_open(&result, o.out, err);
    if (!status) status = report(&o, result, n, err);
    tmb_stats_close(result);
    for (uint32_t i = 0; i < n; i++)
        tmb_stats_close(files[i]);
    free(manifest);
    return status;
}

static const tmb_arg merge_args[] = {
    {"output", 'o', TMB_ARG_TEXT, offsetof(options, out), "FILE", "the file to write", NULL},
    {0},
};

static const tmb_command merge = {
    .name = "stats merge",
    .synopsis = "-o FILE A B...",
    .about = "Add statistics of different data: what one run over all of it had written",
    .help = "The files must be of one checkpoint and share no sequence.\n"
            "  tombac stats merge -o all.h5 web.h5 code.h5\n",
    .operand = "statistics file",
    .least = 2,
    .most = TMB_OPERANDS,
    .args = merge_args,
    .run = run_merge,
};

/* ------------------------------------------------------------------------------ the parts */

extern const tmb_command tmb_stats_show, tmb_stats_diff;
static const tmb_command *const parts[] = {&tmb_stats_show, &merge, &tmb_stats_diff, NULL};

const tmb_command tmb_command_stats = {
    .name = "stats",
    .synopsis = "show|merge|diff FILE... [options]",
    .about = "Show, add and compare the statistics that calibrate writes",
    .help = "The format is described in doc/statistics.md; h5py reads it.\n"
            "  tombac stats show stats.h5\n"
            "  tombac stats merge -o all.h5 web.h5 code.h5\n"
            "  tombac stats diff calibration.h5 production.h5\n",
    .parts = parts,
};
