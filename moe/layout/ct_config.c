/* ct_config.c - quantization_config of the compressed-tensors layout (schema of the library's 0.17:
 * a key it does not know makes engines refuse the file).
 *
 * `ignore` wins over every target, and SGLang stops at a Linear that neither names: so it holds
 * every unquantized one by its full name, and by expressions for what engines call otherwise; the
 * experts that stay by expressions alone. */
#include "config.h"
#include "moe/layout/ct.h"

#include "moe/io/match.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCHEMA_VERSION "0.17.0"
enum { GROUPS_MAX = 16 };

static tmb_json *text_or_null(const char *text)
{
    return text ? tmb_json_new_string(text) : tmb_json_new_null();
}

static tmb_json *dynamic_of(const char *dynamic)
{
    if (strcmp(dynamic, "local") == 0) return tmb_json_new_string(dynamic);
    return tmb_json_new_bool(strcmp(dynamic, "true") == 0);
}

/* observer: the library's name of how the scale was found; NULL where none was. */
static tmb_json *args_json(const tmb_ct_args *args, const char *observer, bool *good)
{
    if (!args->bits) return tmb_json_new_null();
    tmb_json *j = tmb_json_new_object(), *block = NULL;
    if (args->block) {
        block = tmb_json_new_array();
        tmb_push(block, tmb_json_new_integer(args->block), good);
        tmb_push(block, tmb_json_new_integer(args->block), good);
    }
    tmb_put(j, "num_bits", tmb_json_new_integer(args->bits), good);
    tmb_put(j, "type", tmb_json_new_string(args->type), good);
    tmb_put(j, "strategy", tmb_json_new_string(args->strategy), good);
    tmb_put(j, "symmetric", tmb_json_new_bool(true), good);
    tmb_put(j, "dynamic", dynamic_of(args->dynamic), good);
    tmb_put(j, "group_size", args->group ? tmb_json_new_integer(args->group) : tmb_json_new_null(),
            good);
    tmb_put(j, "block_structure", block ? block : tmb_json_new_null(), good);
    tmb_put(j, "actorder", tmb_json_new_null(), good);
    tmb_put(j, "scale_dtype", text_or_null(args->scale_dtype), good);
    tmb_put(j, "zp_dtype", tmb_json_new_null(), good);
    tmb_put(j, "observer", text_or_null(observer), good);
    tmb_put(j, "observer_kwargs", tmb_json_new_object(), good);
    return j;
}

static tmb_json *group_json(const tmb_ct_group *group, bool *good)
{
    const tmb_ct_format *f = tmb_ct_format_of(group->format);
    const tmb_ct_args *inputs =
        group->experts && f->expert_inputs.bits ? &f->expert_inputs : &f->inputs;
    bool local = inputs->bits && strcmp(inputs->dynamic, "local") == 0;
    tmb_ct_args weights = f->weights;
    if (group->format->group) weights.group = (int)group->format->group;
    tmb_json *j = tmb_json_new_object(), *targets = tmb_json_new_array();
    for (size_t t = 0; t < group->n_targets; t++)
        tmb_push(targets, tmb_json_new_string(group->targets[t]), good);
    tmb_put(j, "targets", targets, good);
    tmb_put(j, "format", tmb_json_new_string(f->format), good);
    tmb_put(j, "weights", args_json(&weights, "memoryless_minmax", good), good);
    tmb_put(j, "input_activations", args_json(inputs, local ? "static_minmax" : NULL, good), good);
    tmb_put(j, "output_activations", tmb_json_new_null(), good);
    return j;
}

/* A format is one group, or two where experts and others take different activations. */
static int make_groups(const tmb_engine_modules *modules, tmb_ct_group groups[GROUPS_MAX])
{
    int n = 0;
    for (int i = 0; i < modules->n_formats && n + 1 < GROUPS_MAX; i++) {
        const tmb_format *format = modules->formats[i];
        tmb_ct_group experts = {.format = format, .experts = true};
        tmb_ct_group others = {.format = format, .others = true};
        bool some_experts = false, some_others = false;
        for (size_t m = 0; m < modules->n; m++) {
            some_experts = some_experts || tmb_ct_in_group(&experts, &modules->list[m]);
            some_others = some_others || tmb_ct_in_group(&others, &modules->list[m]);
        }
        if (tmb_ct_format_of(format)->expert_inputs.bits && some_experts && some_others) {
            groups[n++] = experts;
            groups[n++] = others;
        } else {
            groups[n++] =
                (tmb_ct_group){.format = format, .experts = some_experts, .others = some_others};
        }
    }
    return n;
}

static bool matched(tmb_regex *const *expressions, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (tmb_regex_match(expressions[i], name)) return true;
    return false;
}

/* A kept expert is named only where no expression takes it: there may be very many. */
static tmb_status ignore_json(tmb_json **out, const tmb_engine_modules *modules,
                              const tmb_ct_group *ignored, bool *good, tmb_err *err)
{
    const size_t n = ignored->n_targets;
    tmb_regex **expressions = calloc(n + 1, sizeof(tmb_regex *));
    tmb_status status =
        expressions ? TMB_OK : tmb_fail_memory(err, n * sizeof *expressions, "ignore");
    *out = tmb_json_new_array();
    for (size_t t = 0; t < n && !status; t++)
        status = tmb_regex_open(&expressions[t], ignored->targets[t] + 3, err);
    for (size_t i = 0; i < modules->n && !status; i++) {
        const tmb_engine_module *m = &modules->list[i];
        if (m->format) continue;
        if (m->kind != TMB_MODULE_EXPERT || !matched(expressions, n, m->name))
            tmb_push(*out, tmb_json_new_string(m->name), good);
    }
    for (size_t t = 0; t < n; t++) {
        tmb_push(*out, tmb_json_new_string(ignored->targets[t]), good);
        if (expressions && expressions[t]) tmb_regex_close(expressions[t]);
    }
    free(expressions);
    return status;
}

static const char *top_format(const tmb_ct_group *groups, int n)
{
    const char *format = tmb_ct_format_of(groups[0].format)->format;
    for (int g = 1; g < n; g++)
        if (strcmp(tmb_ct_format_of(groups[g].format)->format, format) != 0)
            return "mixed-precision";
    return format;
}

static void write_config(tmb_json *config, const tmb_ct_group *groups, int n, tmb_json *ignore,
                         bool kv, bool *good)
{
    static const tmb_ct_args kv_args = {
        .bits = 8, .type = "float", .strategy = "tensor", .dynamic = "false"};
    tmb_json *q = tmb_json_new_object(), *list = tmb_json_new_object();
    for (int g = 0; g < n; g++) {
        char name[32];
        snprintf(name, sizeof name, "group_%d", g);
        tmb_put(list, name, group_json(&groups[g], good), good);
    }
    tmb_put(q, "quant_method", tmb_json_new_string("compressed-tensors"), good);
    tmb_put(q, "format", tmb_json_new_string(top_format(groups, n)), good);
    tmb_put(q, "quantization_status", tmb_json_new_string("compressed"), good);
    tmb_put(q, "global_compression_ratio", tmb_json_new_null(), good);
    tmb_put(q, "version", tmb_json_new_string(SCHEMA_VERSION), good);
    tmb_put(q, "sparsity_config", tmb_json_new_object(), good);
    tmb_put(q, "transform_config", tmb_json_new_object(), good);
    tmb_put(q, "config_groups", list, good);
    tmb_put(q, "ignore", ignore, good);
    tmb_put(q, "kv_cache_scheme",
            kv ? args_json(&kv_args, "static_minmax", good) : tmb_json_new_null(), good);
    tmb_put(config, "quantization_config", q, good);
}

tmb_status tmb_ct_config(const tmb_job_view *job, tmb_json *config, const char **file,
                         tmb_json **file_json, tmb_err *err)
{
    tmb_engine_modules modules;
    tmb_arena arena = {0};
    tmb_ct_group groups[GROUPS_MAX], ignored = {0};
    tmb_json *ignore = NULL;
    bool good = true;
    *file = NULL;
    *file_json = NULL;
    tmb_status status = tmb_engine_modules_open(&modules, job, false, err);
    if (status) return status;
    int n = make_groups(&modules, groups);
    if (n) {
        status = tmb_ct_targets(groups, n, &ignored, &modules, job, &arena, err);
        if (!status) status = ignore_json(&ignore, &modules, &ignored, &good, err);
        if (!status) write_config(config, groups, n, ignore, tmb_kv_fp8(job), &good);
        if (status) tmb_json_free(ignore);
        if (!status && !good)
            status = tmb_fail_memory(err, modules.n * sizeof *modules.list, "the configuration");
    }
    tmb_engine_modules_free(&modules);
    tmb_arena_free(&arena);
    return status;
}
