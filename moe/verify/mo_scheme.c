/* mo_scheme.c - what a ModelOpt configuration means.
 *
 * config.json's quantization_config (flat, or nested under "quantization") and hf_quant_config.json
 * say the same thing twice, and different engines read different ones, so first they are held
 * against each other.  The meaning of a module: excluded by an exact name or a glob; else, when the
 * algorithm is MIXED_PRECISION, the entry of its own name or of a module above it; else the one
 * algorithm. (TensorRT Model Optimizer, modelopt/torch/export/quant_utils.py: get_quant_config.) */
#include "config.h"
#include "moe/verify/verify_internal.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const tmb_scheme algos[] = {
    {TMB_VK_NVFP4, TMB_VL_MODELOPT, TMB_ACT_NVFP4, 16, "NVFP4"},
    {TMB_VK_NVFP4, TMB_VL_MODELOPT, TMB_ACT_NONE, 16, "W4A16_NVFP4"},
    {TMB_VK_FP8, TMB_VL_MODELOPT, TMB_ACT_STATIC, 0, "FP8"},
    {TMB_VK_FP8_CHANNEL, TMB_VL_MODELOPT, TMB_ACT_TOKEN, 0, "FP8_PER_CHANNEL_PER_TOKEN"},
    {TMB_VK_FP8_BLOCK, TMB_VL_MODELOPT, TMB_ACT_GROUP128, 128, "FP8_PB_WO"},
    {TMB_VK_FP8_BLOCK, TMB_VL_MODELOPT, TMB_ACT_GROUP128, 128, "FP8_BLOCK_SCALES"},
    {TMB_VK_MXFP8, TMB_VL_MODELOPT, TMB_ACT_MX, 32, "MXFP8"},
    {TMB_VK_MXFP4, TMB_VL_MODELOPT, TMB_ACT_MX, 32, "MXFP4"},
    {TMB_VK_OTHER, TMB_VL_MODELOPT, TMB_ACT_NONE, 0, "W4A16_AWQ"},
    {TMB_VK_OTHER, TMB_VL_MODELOPT, TMB_ACT_NONE, 0, "W4A8_AWQ"},
    {TMB_VK_OTHER, TMB_VL_MODELOPT, TMB_ACT_NONE, 0, "NVFP4_AWQ"},
    {TMB_VK_OTHER, TMB_VL_MODELOPT, TMB_ACT_NONE, 0, "NVFP4_SVD"},
    {TMB_VK_OTHER, TMB_VL_MODELOPT, TMB_ACT_NONE, 0, "W4A8_NVFP4_FP8"},
    {TMB_VK_OTHER, TMB_VL_MODELOPT, TMB_ACT_NONE, 0, "W4A8_MXFP4_FP8"},
    {TMB_VK_OTHER, TMB_VL_MODELOPT, TMB_ACT_NONE, 0, "W8A16"},
    {TMB_VK_OTHER, TMB_VL_MODELOPT, TMB_ACT_NONE, 0, "INT8_SQ"},
};

static const tmb_scheme *find_algo(const char *name)
{
    for (size_t i = 0; name && i < sizeof algos / sizeof *algos; i++)
        if (strcasecmp(algos[i].name, name) == 0) return &algos[i];
    return NULL;
}

/* What both spellings of the configuration come down to. */
typedef struct tmb_flat {
    const char *algo;
    const tmb_json *exclude, *layers, *group_size, *groups;
    bool kv, has_kv_key;
} tmb_flat;

static tmb_flat flatten(const tmb_json *config)
{
    const tmb_json *q = tmb_json_get(config, "quantization");
    if (!tmb_json_is_object(q)) q = config;
    tmb_flat f = {.algo = tmb_json_string(tmb_json_get(q, "quant_algo")),
                  .exclude = tmb_json_get(q, "exclude_modules"),
                  .layers = tmb_json_get(q, "quantized_layers"),
                  .group_size = tmb_json_get(q, "group_size"),
                  .groups = tmb_json_get(q, "config_groups")};
    if (!f.exclude) f.exclude = tmb_json_get(q, "ignore");
    const tmb_json *algo = tmb_json_get(q, "kv_cache_quant_algo");
    const tmb_json *scheme = tmb_json_get(q, "kv_cache_scheme");
    f.has_kv_key = algo || scheme;
    const char *text = tmb_json_string(algo ? algo : scheme);
    f.kv = tmb_json_is_object(scheme) || (text && strcasecmp(text, "FP8") == 0);
    return f;
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcasecmp(a, b) == 0);
}

/* The first name that is in one list only; NULL. */
static const char *list_difference(const tmb_json *a, const tmb_json *b, bool *no_memory)
{
    tmb_nameset names = {0};
    const char *found = NULL;
    for (size_t i = 0; i < tmb_json_size(b); i++) {
        const char *text = tmb_json_string(tmb_json_at(b, i));
        if (text && !tmb_nameset_add(&names, text, 0)) *no_memory = true;
    }
    tmb_nameset_sort(&names);
    for (size_t i = 0; i < tmb_json_size(a) && !found; i++) {
        const char *text = tmb_json_string(tmb_json_at(a, i));
        if (text && tmb_nameset_find(&names, text) == TMB_NO_NAME) found = text;
    }
    tmb_nameset_free(&names);
    return found;
}

static const char *map_difference(const tmb_json *a, const tmb_json *b)
{
    void *it = NULL;
    const char *key;
    const tmb_json *entry;
    while (tmb_json_next(a, &it, &key, &entry)) {
        const tmb_json *other = tmb_json_get(b, key);
        if (!other || !same_text(tmb_json_string(tmb_json_get(entry, "quant_algo")),
                                 tmb_json_string(tmb_json_get(other, "quant_algo"))))
            return key;
    }
    return NULL;
}

/* vLLM and SGLang read config.json, TensorRT-LLM (and old exports) hf_quant_config.json. */
static void compare_files(tmb_verifier *v, const tmb_flat *a, const tmb_flat *b)
{
    static const char said[] =
        "config.json and hf_quant_config.json disagree about %s: vLLM reads the first, "
        "TensorRT-LLM the "
        "second, and they build different models; write both from one structure";
    tmb_ran(v, TMB_CHECK_CONFIG_FILES);
    if (!same_text(a->algo, b->algo))
        tmb_find(v, TMB_CHECK_CONFIG_FILES, TMB_ERROR, 0, "quant_algo", said, "quant_algo");
    if (a->kv != b->kv)
        tmb_find(v, TMB_CHECK_CONFIG_FILES, TMB_ERROR, 1, "kv_cache_quant_algo", said,
                 "the KV cache");
    const char *name = list_difference(a->exclude, b->exclude, &v->no_memory);
    if (!name) name = list_difference(b->exclude, a->exclude, &v->no_memory);
    if (name) tmb_find(v, TMB_CHECK_CONFIG_FILES, TMB_ERROR, 2, name, said, "the exclusion list");
    if (a->layers && b->layers) {
        name = map_difference(a->layers, b->layers);
        if (!name) name = map_difference(b->layers, a->layers);
        if (name) tmb_find(v, TMB_CHECK_CONFIG_FILES, TMB_ERROR, 3, name, said, "quantized_layers");
    }
}

static void check_group(tmb_verifier *v, const tmb_scheme *scheme, const tmb_json *size,
                        const char *where)
{
    int64_t value;
    if (!scheme || !scheme->group || !tmb_json_integer(size, &value)) return;
    tmb_ran(v, TMB_CHECK_CONFIG_VALUE);
    if (value != (int64_t)scheme->group)
        tmb_find(v, TMB_CHECK_CONFIG_VALUE, TMB_ERROR, 10 + scheme->kind, where,
                 "group_size is %lld, but a block scale of %s covers %u columns: engines allocate "
                 "scales of "
                 "another shape and refuse the file or cut it; set it to %u",
                 (long long)value, scheme->name, scheme->group, scheme->group);
}

/* config_groups repeats the algorithms in other words; only sizes can contradict them. */
static void check_groups(tmb_verifier *v, const tmb_json *groups)
{
    void *it = NULL;
    const char *key;
    const tmb_json *group;
    while (tmb_json_next(groups, &it, &key, &group)) {
        const tmb_json *w = tmb_json_get(group, "weights");
        const char *type = tmb_json_string(tmb_json_get(w, "type"));
        if (tmb_json_int_or(w, "num_bits", 0) == 4 && type && strcmp(type, "float") == 0)
            check_group(v, &algos[0], tmb_json_get(w, "group_size"), key);
    }
}

static bool has_wildcard(const char *text)
{
    return strpbrk(text, "*?[") != NULL;
}

static bool load_exclude(tmb_verifier *v, tmb_mo_config *mo, const tmb_json *list)
{
    size_t n = tmb_json_size(list);
    mo->wild = tmb_arena_alloc(&v->scratch, (n + 1) * sizeof *mo->wild);
    if (!mo->wild) return false;
    for (size_t i = 0; i < n; i++) {
        const char *text = tmb_json_string(tmb_json_at(list, i));
        if (!text) continue;
        if (has_wildcard(text))
            mo->wild[mo->n_wild++] = text;
        else if (*text && !tmb_nameset_add(&mo->exclude, text, (uint32_t)i))
            return false;
    }
    tmb_nameset_sort(&mo->exclude);
    return true;
}

static bool load_layers(tmb_verifier *v, tmb_mo_config *mo, const tmb_json *layers)
{
    size_t n = tmb_json_size(layers);
    mo->algo = tmb_arena_alloc(&v->scratch, (n + 1) * sizeof *mo->algo);
    mo->used = tmb_arena_alloc(&v->scratch, n + 1);
    if (!mo->algo || !mo->used) return false;
    void *it = NULL;
    const char *key;
    const tmb_json *entry;
    uint32_t i = 0;
    tmb_ran(v, TMB_CHECK_CONFIG_ALGO);
    for (; tmb_json_next(layers, &it, &key, &entry); i++) {
        const char *algo = tmb_json_string(tmb_json_get(entry, "quant_algo"));
        mo->algo[i] = find_algo(algo);
        if (!mo->algo[i])
            tmb_find(
                v, TMB_CHECK_CONFIG_ALGO, TMB_ERROR, 0, key,
                "quant_algo \"%s\" is none that a loader knows: vLLM and SGLang leave the layer "
                "unquantized or stop; write NVFP4, W4A16_NVFP4, FP8 or MXFP8",
                algo ? algo : "(none)");
        check_group(v, mo->algo[i], tmb_json_get(entry, "group_size"), key);
        if (!tmb_nameset_add(&mo->layers, key, i)) return false;
    }
    tmb_nameset_sort(&mo->layers);
    return true;
}

static bool load_hf_layers(tmb_mo_config *mo, const tmb_json *layers)
{
    void *it = NULL;
    const char *key;
    const tmb_json *entry;
    for (uint32_t i = 0; tmb_json_next(layers, &it, &key, &entry); i++)
        if (!tmb_nameset_add(&mo->hf_layers, key, i)) return false;
    tmb_nameset_sort(&mo->hf_layers);
    return true;
}

tmb_status tmb_mo_load(tmb_verifier *v, tmb_err *err)
{
    tmb_mo_config *mo = tmb_arena_alloc(&v->scratch, sizeof *mo);
    if (!mo) return tmb_fail_memory(err, sizeof *mo, "the configuration");
    v->config.mo = mo;
    tmb_flat hf = flatten(v->config.hf);
    tmb_flat f = v->config.quant ? flatten(v->config.quant) : hf;
    if (v->config.quant && v->config.hf) compare_files(v, &f, &hf);
    mo->has_hf = v->config.hf != NULL;
    if (!mo->has_hf)
        tmb_find(v, TMB_CHECK_CONFIG_FILES, TMB_WARNING, 9, "hf_quant_config.json",
                 "there is no hf_quant_config.json: TensorRT-LLM reads only that and takes the "
                 "model for "
                 "unquantized; write it beside config.json");
    v->config.kv = f.kv;
    if (!f.layers) f.layers = hf.layers;
    mo->mixed = f.algo && strcasecmp(f.algo, "MIXED_PRECISION") == 0;
    mo->uniform = find_algo(f.algo);
    if (!mo->mixed && !mo->uniform)
        tmb_find(v, TMB_CHECK_CONFIG_ALGO, TMB_ERROR, 1, "quantization_config",
                 "quant_algo \"%s\" is none that a loader knows: every engine stops here; write "
                 "NVFP4, FP8 "
                 "or MIXED_PRECISION",
                 f.algo ? f.algo : "(none)");
    check_group(v, mo->uniform, f.group_size, "quantization_config");
    check_groups(v, f.groups);
    if (mo->mixed && tmb_json_size(f.layers) == 0)
        tmb_find(v, TMB_CHECK_CONFIG_VALUE, TMB_ERROR, 1, "quantized_layers",
                 "MIXED_PRECISION without quantized_layers: vLLM refuses it and SGLang reads every "
                 "layer "
                 "as unquantized; write the map");
    if (mo->mixed && v->config.quant && !f.has_kv_key && !v->config.hf)
        tmb_find(
            v, TMB_CHECK_CONFIG_VALUE, TMB_WARNING, 2, "kv_cache_quant_algo",
            "config.json has neither kv_cache_scheme nor kv_cache_quant_algo: SGLang takes it for "
            "incomplete and asks for hf_quant_config.json; write \"kv_cache_quant_algo\": null");
    if (!load_exclude(v, mo, f.exclude) || (mo->mixed && !load_layers(v, mo, f.layers)) ||
        !load_hf_layers(mo, hf.layers))
        return tmb_fail_memory(err, 0, "the configuration");
    return TMB_OK;
}

void tmb_mo_close(tmb_mo_config *mo)
{
    if (!mo) return;
    tmb_nameset_free(&mo->exclude);
    tmb_nameset_free(&mo->layers);
    tmb_nameset_free(&mo->hf_layers);
}

/* The entry of the nearest module above name; TMB_NO_NAME. */
static uint32_t above(const tmb_nameset *names, const char *name)
{
    for (size_t n = strlen(name); n > 0; n--) {
        if (name[n - 1] != '.') continue;
        uint32_t found = tmb_nameset_find_n(names, name, n - 1);
        if (found != TMB_NO_NAME) return found;
    }
    return TMB_NO_NAME;
}

const tmb_scheme *tmb_mo_meant(const tmb_mo_config *mo, const tmb_module *m, const char **entry,
                               bool *listed)
{
    *listed = true;
    *entry = m->name;
    if (tmb_nameset_find(&mo->exclude, m->name) != TMB_NO_NAME) return NULL;
    for (uint32_t i = 0; i < mo->n_wild; i++)
        if (tmb_glob(mo->wild[i], m->name)) {
            *entry = mo->wild[i];
            return NULL;
        }
    /* A bare parent's name is no glob, yet engines let it exclude what is below; that is taken for
     * the meaning only where the weights agree. */
    bool coded = m->part[TMB_VP_SCALE] != TMB_NO_TENSOR;
    if (!coded && above(&mo->exclude, m->name) != TMB_NO_NAME) return NULL;
    if (!mo->mixed) return mo->uniform;
    uint32_t i = tmb_nameset_find(&mo->layers, m->name);
    if (i == TMB_NO_NAME) i = above(&mo->layers, m->name);
    if (i != TMB_NO_NAME) {
        __atomic_store_n(&mo->used[i], 1, __ATOMIC_RELAXED);
        return mo->algo[i];
    }
    *entry = NULL;
    *listed = false;
    return NULL;
}

/* The name without what wrappers put in front: files, exporters and engines each have their own. */
static const char *unwrapped(const char *name)
{
    static const char *const wraps[] = {"model.language_model.", "language_model.model.",
                                        "language_model.", "model."};
    for (size_t i = 0; i < sizeof wraps / sizeof *wraps; i++)
        if (strncmp(name, wraps[i], strlen(wraps[i])) == 0) return name + strlen(wraps[i]);
    return name;
}

/* Every name that engines may ask for. */
static bool known_names(const tmb_verifier *v, tmb_nameset *names)
{
    bool good = true;
    for (uint32_t i = 0; good && i < v->n_modules; i++)
        if (v->modules[i].linear) good = tmb_nameset_add(names, unwrapped(v->modules[i].name), i);
    for (uint32_t i = 0; good && i < v->model->n_fuses; i++)
        for (int k = 0; good && k < 3 && v->model->fuses[i].alias[k]; k++)
            good = tmb_nameset_add(names, unwrapped(v->model->fuses[i].alias[k]), i);
    tmb_nameset_sort(names);
    return good;
}

void tmb_mo_unused(tmb_verifier *v)
{
    const tmb_mo_config *mo = v->config.mo;
    tmb_nameset known = {0};
    tmb_ran(v, TMB_CHECK_CONFIG_UNUSED);
    if (!known_names(v, &known)) v->no_memory = true;
    for (uint32_t i = 0; i < mo->layers.n; i++) {
        const tmb_name *key = &mo->layers.items[i];
        size_t n = strlen(key->text);
        bool experts = n > 8 && strcmp(key->text + n - 8, ".experts") == 0;
        if (mo->used[key->value] || experts) continue;
        if (tmb_nameset_find(&known, unwrapped(key->text)) != TMB_NO_NAME) continue;
        tmb_find(v, TMB_CHECK_CONFIG_UNUSED, TMB_WARNING, 0, key->text,
                 "quantized_layers names a module that is not in the files and is no fused layer's "
                 "name: it decides nothing, or was meant for another; mend or remove it");
    }
    tmb_nameset_free(&known);
}
