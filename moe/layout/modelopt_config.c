/* modelopt_config.c - hf_quant_config.json and quantization_config of the ModelOpt layout, written
 * from one structure: vLLM and SGLang read the one, TensorRT-LLM the other.
 *
 * Uniform ("quant_algo": "NVFP4", everything but exclude_modules) when one format is in use, else
 * MIXED_PRECISION with a key for every quantized module.  What each loader does with the names
 * (vLLM 0.33, SGLang 0.5.23; doc/engines.md):
 *   - vLLM leaves a module out when an excluded name is a substring of its name, or matches it as
 *     a glob; SGLang when it matches the whole name or one dotted part.  So: full names only, and
 *     none that occurs inside a quantized name.
 *   - SGLang leaves out every layer's latent attention when an excluded name *ends* in one of
 *     four projections, whatever stands before.  A final * hides the ending from that rule.
 *   - SGLang renames the beginning of plain names by the model class's table, and for one class
 * asks by the old beginning: a second entry begins with a *, which no table knows.
 *   - keys are looked up by the engine's own module names: the fused ones, the experts as one. */
#include "config.h"
#include "moe/layout/modelopt.h"
#include "moe/layout/modules.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Which release's form of the export this is. */
#define PRODUCER_VERSION "0.47.0"

typedef struct key {
    const char *name;
    const tmb_modelopt_format *format;
} key;

/* The one structure both files are written from. */
typedef struct plan {
    const tmb_job_view *job;
    tmb_engine_modules modules;
    tmb_arena arena;
    key *keys; /* quantized_layers */
    size_t n_keys, key_capacity;
    const char **excluded;
    size_t n_excluded;
    bool mixed;
} plan;

static bool put_key(plan *p, const char *name, const tmb_format *format)
{
    if (p->n_keys == p->key_capacity) {
        size_t capacity = p->key_capacity ? 2 * p->key_capacity : 256;
        key *grown = realloc(p->keys, capacity * sizeof *grown);
        if (!grown) return false;
        p->keys = grown;
        p->key_capacity = capacity;
    }
    if (name) p->keys[p->n_keys++] = (key){name, tmb_modelopt_format_of(format)};
    return name != NULL;
}

static bool collect_keys(plan *p)
{
    unsigned quirks = p->job->model->arch->quirks;
    static const char block[] = ".block_sparse_moe.";
    static const char wrapper[] = "language_model.";
    bool good = true;
    for (size_t i = 0; i < p->modules.n && good; i++) {
        const tmb_engine_module *m = &p->modules.list[i];
        if (!m->format || m->kind == TMB_MODULE_STACK) continue;
        /* one key for all experts of a layer is looked for where they are called so */
        if (m->kind == TMB_MODULE_EXPERT && !(quirks & TMB_QUIRK_PER_EXPERT_KEYS) &&
            strstr(m->name, ".experts."))
            continue;
        good = put_key(p, m->name, m->format);
        const char *at = strstr(m->name, block);
        if (good && at && m->kind == TMB_MODULE_EXPERTS && (quirks & TMB_QUIRK_EXPERT_ALIAS_MLP))
            good = put_key(p,
                           tmb_arena_printf(&p->arena, "%.*s.mlp.%s", (int)(at - m->name), m->name,
                                            at + strlen(block)),
                           m->format);
        /* SGLang builds some wrapped text models as if they stood alone */
        if (good && strncmp(m->name, wrapper, strlen(wrapper)) == 0)
            good = put_key(p, m->name + strlen(wrapper), m->format);
    }
    return good;
}

/* SGLang's four names (see above). */
static bool ends_in_latent_part(const char *name)
{
    static const char *const parts[] = {"q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj"};
    const char *leaf = tmb_leaf(name);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (strcmp(leaf, parts[i]) == 0) return true;
    return false;
}

static bool hidden_in_key(const plan *p, const char *name, size_t length)
{
    for (size_t k = 0; k < p->n_keys; k++)
        if (strlen(p->keys[k].name) >= length && strstr(p->keys[k].name, name)) return true;
    return false;
}

/* A head that shares the embedding's weights has no tensor, but engines build it all the same, and
 * quantized unless told not to. */
static bool has_head(const tmb_model *model)
{
    for (uint32_t u = 0; u < model->n_units; u++)
        if (model->units[u].role == TMB_ROLE_LM_HEAD) return true;
    return false;
}

/* false: out of memory.  A name that would take quantized layers with it can only be left out,
 * and only MIXED_PRECISION can do without it. */
static bool collect_excluded(plan *p)
{
    bool by_glob = p->job->model->arch->quirks & TMB_QUIRK_EXCLUDE_BY_GLOB;
    p->excluded = tmb_arena_alloc(&p->arena, (2 * p->modules.n + 2) * sizeof *p->excluded);
    if (!p->excluded) return false;
    if (!has_head(p->job->model)) p->excluded[p->n_excluded++] = "lm_head";
    for (size_t i = 0; i < p->modules.n; i++) {
        const tmb_engine_module *m = &p->modules.list[i];
        const char *name = m->name;
        if (m->format) continue;
        if (hidden_in_key(p, name, strlen(name))) {
            p->mixed = true;
            continue;
        }
        if (ends_in_latent_part(name)) name = tmb_arena_printf(&p->arena, "%s*", name);
        if (!name) return false;
        p->excluded[p->n_excluded++] = name;
        if (!by_glob) continue;
        name = tmb_arena_printf(&p->arena, "*%s", name);
        if (!name) return false;
        p->excluded[p->n_excluded++] = name;
    }
    return true;
}

/* ---- JSON -------------------------------------------------------------------------------------
 */

static tmb_json *producer(bool *good)
{
    tmb_json *j = tmb_json_new_object();
    tmb_put(j, "name", tmb_json_new_string("modelopt"), good);
    tmb_put(j, "version", tmb_json_new_string(PRODUCER_VERSION), good);
    return j;
}

static tmb_json *excluded(const plan *p, bool *good)
{
    tmb_json *j = tmb_json_new_array();
    for (size_t i = 0; i < p->n_excluded; i++)
        tmb_push(j, tmb_json_new_string(p->excluded[i]), good);
    return j;
}

static tmb_json *quantized_layers(const plan *p, bool *good)
{
    tmb_json *j = tmb_json_new_object();
    for (size_t i = 0; i < p->n_keys; i++) {
        tmb_json *layer = tmb_json_new_object();
        tmb_put(layer, "quant_algo", tmb_json_new_string(p->keys[i].format->algo), good);
        if (p->keys[i].format->group)
            tmb_put(layer, "group_size", tmb_json_new_integer(p->keys[i].format->group), good);
        tmb_put(j, p->keys[i].name, layer, good);
    }
    return j;
}

static tmb_json *number(int bits, int group, bool *good)
{
    tmb_json *j = tmb_json_new_object();
    tmb_put(j, "dynamic", tmb_json_new_bool(false), good);
    tmb_put(j, "num_bits", tmb_json_new_integer(bits), good);
    tmb_put(j, "type", tmb_json_new_string("float"), good);
    if (group) tmb_put(j, "group_size", tmb_json_new_integer(group), good);
    return j;
}

static tmb_json *config_groups(const plan *p, bool *good)
{
    tmb_json *groups = tmb_json_new_object();
    for (int i = 0; i < p->modules.n_formats; i++) {
        const tmb_modelopt_format *f = tmb_modelopt_format_of(p->modules.formats[i]);
        tmb_json *group = tmb_json_new_object(), *targets = tmb_json_new_array();
        char name[32];
        snprintf(name, sizeof name, "group_%d", i);
        tmb_put(group, "weights", number(f->weight_bits, f->group, good), good);
        if (f->act_bits)
            tmb_put(group, "input_activations", number(f->act_bits, f->group, good), good);
        if (!p->mixed) tmb_push(targets, tmb_json_new_string("Linear"), good);
        for (size_t k = 0; p->mixed && k < p->n_keys; k++)
            if (p->keys[k].format == f)
                tmb_push(targets, tmb_json_new_string(p->keys[k].name), good);
        tmb_put(group, "targets", targets, good);
        tmb_put(groups, name, group, good);
    }
    return groups;
}

static const char *algo(const plan *p)
{
    return p->mixed ? "MIXED_PRECISION" : tmb_modelopt_format_of(p->modules.formats[0])->algo;
}

static int group_size(const plan *p)
{
    return p->mixed ? 0 : tmb_modelopt_format_of(p->modules.formats[0])->group;
}

/* Whether the one format in use must be written as if it were not the only one. */
static bool needs_keys(const plan *p)
{
    const char *only = algo(p);
    bool by_keys = p->job->model->arch->quirks & TMB_QUIRK_NVFP4_BY_KEYS;
    /* SGLang reads W4A16_NVFP4 as one layer's format only */
    return strcmp(only, "W4A16_NVFP4") == 0 || (by_keys && strcmp(only, "NVFP4") == 0);
}

/* hf_quant_config.json */
static tmb_json *file_form(const plan *p, bool kv, bool *good)
{
    tmb_json *file = tmb_json_new_object(), *q = tmb_json_new_object();
    tmb_put(file, "producer", producer(good), good);
    tmb_put(q, "quant_algo", tmb_json_new_string(algo(p)), good);
    tmb_put(q, "kv_cache_quant_algo", kv ? tmb_json_new_string("FP8") : tmb_json_new_null(), good);
    if (group_size(p)) tmb_put(q, "group_size", tmb_json_new_integer(group_size(p)), good);
    tmb_put(q, "exclude_modules", excluded(p, good), good);
    if (p->mixed) tmb_put(q, "quantized_layers", quantized_layers(p, good), good);
    tmb_put(file, "quantization", q, good);
    return file;
}

/* quantization_config in config.json */
static tmb_json *config_form(const plan *p, bool kv, bool *good)
{
    tmb_json *q = tmb_json_new_object();
    tmb_put(q, "quant_method", tmb_json_new_string("modelopt"), good);
    tmb_put(q, "quant_algo", tmb_json_new_string(algo(p)), good);
    if (group_size(p)) tmb_put(q, "group_size", tmb_json_new_integer(group_size(p)), good);
    tmb_put(q, "config_groups", config_groups(p, good), good);
    if (p->mixed) tmb_put(q, "quantized_layers", quantized_layers(p, good), good);
    tmb_put(q, "ignore", excluded(p, good), good);
    /* one of the two must be there, or SGLang goes by the file alone */
    if (kv)
        tmb_put(q, "kv_cache_scheme", number(8, 0, good), good);
    else
        tmb_put(q, "kv_cache_quant_algo", tmb_json_new_null(), good);
    tmb_put(q, "producer", producer(good), good);
    return q;
}

tmb_status tmb_modelopt_config(const tmb_job_view *job, tmb_json *config, const char **file,
                               tmb_json **file_json, tmb_err *err)
{
    plan p = {.job = job};
    bool good = true, kv = tmb_kv_fp8(job);
    *file = "hf_quant_config.json";
    *file_json = NULL;
    tmb_status status = tmb_engine_modules_open(&p.modules, job, true, err);
    if (status) return status;
    p.mixed = p.modules.n_formats > 1 || (p.modules.n_formats == 1 && needs_keys(&p));
    if (!p.modules.n_formats) {
        *file = NULL; /* nothing is quantized: no loader should think otherwise */
    } else if (collect_keys(&p) && collect_excluded(&p)) {
        *file_json = file_form(&p, kv, &good);
        tmb_put(config, "quantization_config", config_form(&p, kv, &good), &good);
    } else {
        good = false;
    }
    if (!good) {
        tmb_json_free(*file_json);
        *file_json = NULL;
        status = tmb_fail_memory(err, p.modules.n * sizeof *p.keys, "the configuration");
    }
    free(p.keys);
    tmb_engine_modules_free(&p.modules);
    tmb_arena_free(&p.arena);
    return status;
}
