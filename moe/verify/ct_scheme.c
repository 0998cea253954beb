/* ct_scheme.c - what a compressed-tensors configuration means.
 *
 * ignore wins; then targets: exact names, then regular expressions in lexicographic order (Python's
 * re.match: anchored at the start only), then the class name "Linear".  The schema forbids unknown
 * keys inside a group, so one typing error makes every engine refuse the file.
 * (compressed-tensors, utils/match.py and quantization/quant_scheme.py, quant_args.py.) */
#include "config.h"
#include "moe/verify/verify_internal.h"

#include <stdlib.h>
#include <string.h>

static const char *text_of(const tmb_json *object, const char *key)
{
    const char *text = tmb_json_string(tmb_json_get(object, key));
    return text ? text : "";
}

static bool among(const char *word, const char *const *list)
{
    for (; *list; list++)
        if (strcmp(word, *list) == 0) return true;
    return false;
}

static void check_keys(tmb_verifier *v, const tmb_json *object, const char *const *known,
                       const char *group)
{
    void *it = NULL;
    const char *key;
    const tmb_json *value;
    tmb_ran(v, TMB_CHECK_CONFIG_KEY);
    while (tmb_json_next(object, &it, &key, &value))
        if (!among(key, known))
            tmb_find(v, TMB_CHECK_CONFIG_KEY, TMB_ERROR, 0, group,
                     "key \"%s\" is not in the schema of compressed-tensors: vLLM and SGLang "
                     "refuse the whole "
                     "checkpoint; remove it",
                     key);
}

static tmb_act activation(const tmb_json *a)
{
    if (!tmb_json_is_object(a)) return TMB_ACT_NONE;
    int64_t group = tmb_json_int_or(a, "group_size", 0);
    if (tmb_json_int_or(a, "num_bits", 0) == 4) return group == 32 ? TMB_ACT_MX : TMB_ACT_NVFP4;
    if (strcmp(text_of(a, "strategy"), "token") == 0) return TMB_ACT_TOKEN;
    if (strcmp(text_of(a, "strategy"), "group") == 0)
        return group == 32 ? TMB_ACT_MX : TMB_ACT_GROUP128;
    return tmb_json_bool(tmb_json_get(a, "dynamic"), false) ? TMB_ACT_TOKEN : TMB_ACT_STATIC;
}

static bool kind_of(const tmb_json *w, const char *format, tmb_scheme *s)
{
    int64_t bits = tmb_json_int_or(w, "num_bits", 0), group = tmb_json_int_or(w, "group_size", 0);
    const char *strategy = text_of(w, "strategy"), *type = text_of(w, "type");
    s->group = group > 0 && group < 1 << 20 ? (unsigned)group : 0;
    if (strcmp(type, "int") == 0) {
        s->kind =
            bits == 4 && strcmp(strategy, "group") == 0 && s->group ? TMB_VK_INT4 : TMB_VK_OTHER;
        s->name = bits == 4 ? "INT4" : "integer";
        return bits >= 2 && bits <= 8;
    }
    if (strcmp(type, "float") != 0) return false;
    if (bits == 4) {
        bool mx = strstr(format, "mxfp4") || (!strstr(format, "nvfp4") && group == 32);
        s->kind = mx ? TMB_VK_MXFP4 : TMB_VK_NVFP4;
        s->name = mx ? "MXFP4" : "NVFP4";
        return true;
    }
    if (bits != 8) return false;
    s->name = "FP8";
    if (strcmp(strategy, "tensor") == 0)
        s->kind = TMB_VK_FP8;
    else if (strcmp(strategy, "channel") == 0)
        s->kind = TMB_VK_FP8_CHANNEL, s->name = "per-channel FP8";
    else if (strcmp(strategy, "block") == 0)
        s->kind = TMB_VK_FP8_BLOCK, s->group = 128, s->name = "block FP8";
    else if (strcmp(strategy, "group") == 0)
        s->kind = TMB_VK_MXFP8, s->name = "MXFP8";
    else
        return false;
    return true;
}

static const tmb_scheme *read_scheme(tmb_verifier *v, const tmb_json *group, const char *key,
                                     const char *format)
{
    static const char *const formats[] = {"dense",
                                          "int-quantized",
                                          "float-quantized",
                                          "naive-quantized",
                                          "pack-quantized",
                                          "nvfp4-pack-quantized",
                                          "mxfp4-pack-quantized",
                                          "mxfp8-quantized",
                                          "",
                                          NULL};
    static const char *const group_keys[] = {
        "targets", "weights", "input_activations", "output_activations", "format", NULL};
    static const char *const arg_keys[] = {
        "num_bits", "type",     "symmetric",   "group_size", "strategy", "block_structure",
        "dynamic",  "actorder", "scale_dtype", "zp_dtype",   "observer", "observer_kwargs",
        NULL};
    const tmb_json *w = tmb_json_get(group, "weights"),
                   *a = tmb_json_get(group, "input_activations");
    check_keys(v, group, group_keys, key);
    check_keys(v, w, arg_keys, key);
    check_keys(v, a, arg_keys, key);
    tmb_scheme *s = tmb_arena_alloc(&v->scratch, sizeof *s);
    if (!s) {
        v->no_memory = true;
        return NULL;
    }
    *s = (tmb_scheme){
        .kind = TMB_VK_OTHER, .layout = TMB_VL_CT, .act = activation(a), .name = "unknown"};
    tmb_ran(v, TMB_CHECK_CONFIG_ALGO);
    if (!among(format, formats) || !kind_of(w, format, s))
        tmb_find(v, TMB_CHECK_CONFIG_ALGO, TMB_ERROR, 2, key,
                 "the group's weights (format \"%s\", type \"%s\", %lld bits, strategy \"%s\") are "
                 "no scheme "
                 "that a loader knows: vLLM and SGLang stop here; use one of the library's presets",
                 format, text_of(w, "type"), (long long)tmb_json_int_or(w, "num_bits", 0),
                 text_of(w, "strategy"));
    unsigned size = s->kind == TMB_VK_NVFP4                              ? 16
                    : s->kind == TMB_VK_MXFP4 || s->kind == TMB_VK_MXFP8 ? 32
                                                                         : 0;
    if (size && s->group != size)
        tmb_find(v, TMB_CHECK_CONFIG_VALUE, TMB_ERROR, 20 + s->kind, key,
                 "group_size is %u, but a block scale of %s covers %u columns: engines allocate "
                 "scales of "
                 "another shape and refuse the file or cut it; set it to %u",
                 s->group, s->name, size, size);
    if (size) s->group = size;
    return s;
}

enum { EXPRESSIONS_MAX = 1024 };

static bool add_rule(tmb_verifier *v, tmb_ct_rule *rule, const char *text, const tmb_scheme *scheme,
                     tmb_nameset *exact, uint32_t index)
{
    *rule = (tmb_ct_rule){.text = text, .scheme = scheme};
    if (strncmp(text, "re:", 3) == 0) {
        tmb_err why = {0};
        if (v->config.ct->n_expressions++ >= EXPRESSIONS_MAX) {
            tmb_find(v, TMB_CHECK_CONFIG_VALUE, TMB_ERROR, 4, text,
                     "one regular expression more than the %d that are read; write fewer",
                     EXPRESSIONS_MAX);
            return true;
        }
        if (tmb_regex_open(&rule->re, text + 3, &why) != TMB_OK)
            tmb_find(v, TMB_CHECK_CONFIG_VALUE, TMB_ERROR, 3, text,
                     "not a regular expression (%s): engines stop here; mend it", why.message);
        return true;
    }
    rule->class_name = strchr(text, '.') == NULL && strcmp(text, "Linear") == 0;
    return rule->class_name || tmb_nameset_add(exact, text, index);
}

static bool load_targets(tmb_verifier *v, tmb_ct_config *ct, const tmb_json *groups,
                         const char *top)
{
    void *it = NULL;
    const char *key, *first = NULL;
    const tmb_json *group;
    size_t room = 0;
    while (tmb_json_next(groups, &it, &key, &group))
        room += tmb_json_size(tmb_json_get(group, "targets"));
    ct->targets = tmb_arena_alloc(&v->scratch, (room + 1) * sizeof *ct->targets);
    if (!ct->targets) return false;
    it = NULL;
    bool several = false;
    while (tmb_json_next(groups, &it, &key, &group)) {
        const char *format = tmb_json_string(tmb_json_get(group, "format"));
        if (!format) format = strcmp(top, "mixed-precision") == 0 ? "" : top;
        several |= first && strcmp(first, format) != 0;
        first = format;
        const tmb_scheme *scheme = read_scheme(v, group, key, format);
        const tmb_json *targets = tmb_json_get(group, "targets");
        for (size_t i = 0; i < tmb_json_size(targets); i++) {
            const char *text = tmb_json_string(tmb_json_at(targets, i));
            if (!text) continue;
            uint32_t k = ct->n_targets++;
            if (!add_rule(v, &ct->targets[k], text, scheme, &ct->target_names, k)) return false;
        }
    }
    tmb_ran(v, TMB_CHECK_CONFIG_VALUE);
    if (several && strcmp(top, "mixed-precision") != 0)
        tmb_find(v, TMB_CHECK_CONFIG_VALUE, TMB_ERROR, 4, "format",
                 "groups have several formats but the top-level format is \"%s\": loaders "
                 "decompress all "
                 "with that one; write \"mixed-precision\"",
                 top);
    return true;
}

typedef struct tmb_order {
    const char *text;
    uint32_t index;
} tmb_order;

static int by_pattern(const void *a, const void *b)
{
    return strcmp(((const tmb_order *)a)->text, ((const tmb_order *)b)->text);
}

/* The regular expressions among the targets, in the order the library tries them. */
static bool sort_patterns(tmb_verifier *v, tmb_ct_config *ct)
{
    tmb_order *order = calloc(ct->n_targets + 1, sizeof *order);
    uint32_t *sorted = tmb_arena_alloc(&v->scratch, (ct->n_targets + 1) * sizeof *sorted);
    if (order && sorted) {
        for (uint32_t i = 0; i < ct->n_targets; i++)
            if (ct->targets[i].re) order[ct->n_sorted++] = (tmb_order){ct->targets[i].text, i};
        if (ct->n_sorted) qsort(order, ct->n_sorted, sizeof *order, by_pattern);
        for (uint32_t i = 0; i < ct->n_sorted; i++)
            sorted[i] = order[i].index;
        ct->sorted = sorted;
    }
    free(order);
    return ct->sorted != NULL;
}

static bool load_ignore(tmb_verifier *v, tmb_ct_config *ct, const tmb_json *list)
{
    size_t n = tmb_json_size(list);
    ct->ignore = tmb_arena_alloc(&v->scratch, (n + 1) * sizeof *ct->ignore);
    uint32_t *res = tmb_arena_alloc(&v->scratch, (n + 1) * sizeof *res);
    if (!ct->ignore || !res) return false;
    ct->ignore_res = res;
    for (size_t i = 0; i < n; i++) {
        const char *text = tmb_json_string(tmb_json_at(list, i));
        if (!text) continue;
        uint32_t k = ct->n_ignore++;
        if (!add_rule(v, &ct->ignore[k], text, NULL, &ct->ignore_names, k)) return false;
        if (ct->ignore[k].re) res[ct->n_ignore_res++] = k;
    }
    return true;
}

tmb_status tmb_ct_load(tmb_verifier *v, tmb_err *err)
{
    const tmb_json *q = v->config.quant;
    tmb_ct_config *ct = tmb_arena_alloc(&v->scratch, sizeof *ct);
    if (!ct) return tmb_fail_memory(err, sizeof *ct, "the configuration");
    v->config.ct = ct;
    const tmb_json *kv = tmb_json_get(q, "kv_cache_scheme");
    v->config.kv = tmb_json_is_object(kv);
    const char *status = tmb_json_string(tmb_json_get(q, "quantization_status"));
    if (status && strcmp(status, "compressed") != 0)
        tmb_find(v, TMB_CHECK_CONFIG_VALUE, TMB_ERROR, 5, "quantization_status",
                 "quantization_status is \"%s\": loaders take the weights for uncompressed and "
                 "read codes "
                 "as numbers; write \"compressed\"",
                 status);
    const tmb_json *groups = tmb_json_get(q, "config_groups");
    if (tmb_json_size(groups) == 0)
        tmb_find(v, TMB_CHECK_CONFIG_VALUE, TMB_ERROR, 6, "config_groups",
                 "there are no config_groups: engines read every layer as unquantized; write the "
                 "groups");
    if (!load_targets(v, ct, groups, text_of(q, "format")) || !sort_patterns(v, ct) ||
        !load_ignore(v, ct, tmb_json_get(q, "ignore")))
        return tmb_fail_memory(err, 0, "the configuration");
    tmb_nameset_sort(&ct->target_names);
    tmb_nameset_sort(&ct->ignore_names);
    return TMB_OK;
}

void tmb_ct_close(tmb_ct_config *ct)
{
    if (!ct) return;
    for (uint32_t i = 0; i < ct->n_targets; i++)
        tmb_regex_close(ct->targets[i].re);
    for (uint32_t i = 0; i < ct->n_ignore; i++)
        tmb_regex_close(ct->ignore[i].re);
    tmb_nameset_free(&ct->target_names);
    tmb_nameset_free(&ct->ignore_names);
}

bool tmb_ct_hits(const tmb_ct_rule *rule, const char *name)
{
    if (rule->re) return tmb_regex_match(rule->re, name);
    return !rule->class_name && strcmp(rule->text, name) == 0;
}

static void mark(tmb_ct_rule *rule)
{
    __atomic_store_n(&rule->used, 1, __ATOMIC_RELAXED);
}

uint32_t tmb_ct_ignored(const tmb_ct_config *ct, const char *name)
{
    static const char wrapper[] = "language_model.";
    uint32_t i = tmb_nameset_find(&ct->ignore_names, name);
    for (uint32_t k = 0; i == TMB_NO_NAME && k < ct->n_ignore_res; k++)
        if (tmb_ct_hits(&ct->ignore[ct->ignore_res[k]], name)) i = ct->ignore_res[k];
    /* Multimodal wrappers: engines' mappers make the files' names and the list's meet. */
    if (i == TMB_NO_NAME && strncmp(name, wrapper, sizeof wrapper - 1) == 0)
        return tmb_ct_ignored(ct, name + sizeof wrapper - 1);
    return i;
}

static bool ignored(tmb_ct_config *ct, const tmb_module *m, const char **entry)
{
    uint32_t i = tmb_ct_ignored(ct, m->name);
    if (i == TMB_NO_NAME) return false;
    *entry = ct->ignore[i].text;
    mark(&ct->ignore[i]);
    return true;
}

/* Routers, gates and towers are no plain Linear in the model's code, so the class name passes them
 * by. */
static bool passed_by_class(const tmb_module *m)
{
    switch (m->role) {
    case TMB_ROLE_ROUTER:
    case TMB_ROLE_SHARED_GATE:
    case TMB_ROLE_VISION:
    case TMB_ROLE_MTP:
    case TMB_ROLE_OTHER:
        return m->part[TMB_VP_SCALE] == TMB_NO_TENSOR;
    default:
        return false;
    }
}

const tmb_scheme *tmb_ct_meant(tmb_ct_config *ct, const tmb_module *m, const char **entry,
                               bool *listed)
{
    *listed = true;
    if (ignored(ct, m, entry)) return NULL;
    uint32_t i = tmb_nameset_find(&ct->target_names, m->name);
    for (uint32_t k = 0; i == TMB_NO_NAME && k < ct->n_sorted; k++)
        if (tmb_ct_hits(&ct->targets[ct->sorted[k]], m->name)) i = ct->sorted[k];
    for (uint32_t k = 0; i == TMB_NO_NAME && k < ct->n_targets && !passed_by_class(m); k++)
        if (ct->targets[k].class_name) i = k;
    *listed = i != TMB_NO_NAME;
    if (!*listed) return NULL;
    *entry = ct->targets[i].text;
    mark(&ct->targets[i]);
    return ct->targets[i].scheme;
}

static void report_endless(tmb_verifier *v, const tmb_ct_rule *rules, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (rules[i].re && tmb_regex_endless(rules[i].re))
            tmb_find(v, TMB_CHECK_CONFIG_VALUE, TMB_ERROR, 5, rules[i].text,
                     "a regular expression that does not end on the names of this model: Python "
                     "engines hang on it; write it without repeats inside repeats");
}

void tmb_ct_unused(tmb_verifier *v)
{
    const tmb_ct_config *ct = v->config.ct;
    report_endless(v, ct->targets, ct->n_targets);
    report_endless(v, ct->ignore, ct->n_ignore);
    tmb_ran(v, TMB_CHECK_CONFIG_UNUSED);
    for (uint32_t i = 0; i < ct->n_ignore; i++)
        if (!ct->ignore[i].used && ct->ignore[i].text[0] && !ct->ignore[i].class_name)
            tmb_find(v, TMB_CHECK_CONFIG_UNUSED, TMB_NOTE, 1, ct->ignore[i].text,
                     "the ignore entry matches no Linear of the files");
}
