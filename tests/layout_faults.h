/* layout_faults.h - for tests: everything a planned job says, held against what every loader makes
 * of it.  A fault is a sentence, NULL stands for none. */
#ifndef TMB_TESTS_LAYOUT_FAULTS_H
#define TMB_TESTS_LAYOUT_FAULTS_H

#include "tests/layout_parts.h"
#include "tests/loader_rules.h"
#include "tests/run_job.h"

static char fault_text[1024];

static inline const char *fault(const char *what, const char *name, const char *got)
{
    snprintf(fault_text, sizeof fault_text, "%s: %s (%s)", name, what, got ? got : "unquantized");
    return fault_text;
}

static inline const tmb_spec *spec_of(const job *j, uint32_t u)
{
    return j->plan->job.assignment->choices[u].spec;
}

static inline const char *format_name(const job *j, uint32_t u)
{
    const tmb_format *format = spec_of(j, u)->format;
    return format ? format->name : NULL;
}

static inline bool same(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

/* Several units' one format; REFUSED when they differ. */
static inline const char *joint(const job *j, const uint32_t *units, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++)
        if (!same(format_name(j, units[0]), format_name(j, units[i]))) return REFUSED;
    return format_name(j, units[0]);
}

static inline bool stays_stacked(const job *j, const tmb_unit *unit, const tmb_spelled *s)
{
    bool whole =
        strcmp(j->model->arch->name, "gpt_oss") == 0 || strcmp(j->model->arch->name, "llama4") == 0;
    return unit->stacked && whole && strcmp(j->plan->layout->name, "modelopt") == 0 &&
           !strstr(s->name, ".experts.0.");
}

static inline const char *all_parts_fault(const job *j)
{
    tmb_arena arena = {0};
    const char *found = NULL;
    for (uint32_t u = 0; u < j->model->n_units && !found; u++) {
        const tmb_unit *unit = &j->model->units[u];
        tmb_spelled parts[TMB_PARTS];
        if (!format_name(j, u)) continue;
        int n = j->plan->layout->spell(&j->plan->job, unit, spec_of(j, u), &arena, parts);
        if (n && stays_stacked(j, unit, &parts[0])) continue; /* test_stacked() looks at these */
        const char *wrong = parts_fault(j->plan->layout, format_name(j, u), unit, parts, n);
        if (wrong) found = fault("is not spelled as it should be", unit->name, wrong);
    }
    tmb_arena_free(&arena);
    return found;
}

/* ---- ModelOpt ----------------------------------------------------------------------------------
 */

static inline const char *algo_of(const char *format)
{
    static const char *const pairs[][2] = {
        {"nvfp4", "NVFP4"},
        {"nvfp4-w4a16", "W4A16_NVFP4"},
        {"fp8", "FP8"},
        {"fp8-channel", "FP8_PER_CHANNEL_PER_TOKEN"},
        {"fp8-block", "FP8_PB_WO"},
        {"mxfp8", "MXFP8"},
    };
    for (size_t i = 0; format && i < sizeof pairs / sizeof *pairs; i++)
        if (strcmp(pairs[i][0], format) == 0) return pairs[i][1];
    return NULL;
}

static inline bool equal_json(const tmb_json *a, const tmb_json *b)
{
    char *x = a ? tmb_json_dump(a, 0) : NULL, *y = b ? tmb_json_dump(b, 0) : NULL;
    bool equal = same(x, y);
    free(x);
    free(y);
    return equal;
}

static inline const char *files_fault(const tmb_json *q, const tmb_json *f)
{
    static const char *const both[][2] = {{"quant_algo", "quant_algo"},
                                          {"group_size", "group_size"},
                                          {"quantized_layers", "quantized_layers"},
                                          {"ignore", "exclude_modules"}};
    for (size_t i = 0; i < 4; i++)
        if (!equal_json(tmb_json_get(q, both[i][0]), tmb_json_get(f, both[i][1])))
            return fault("the two files differ", both[i][0], "");
    bool kv = same(tmb_json_string(tmb_json_get(f, "kv_cache_quant_algo")), "FP8");
    bool scheme = tmb_json_is_object(tmb_json_get(q, "kv_cache_scheme"));
    if (!kv && !tmb_json_is_null(tmb_json_get(f, "kv_cache_quant_algo")))
        return fault("neither FP8 nor null", "kv_cache_quant_algo", "");
    if (kv != scheme || kv == tmb_json_is_null(tmb_json_get(q, "kv_cache_quant_algo")))
        return fault("the two files differ", "kv cache", "");
    if (!tmb_json_is_array(tmb_json_get(f, "exclude_modules")))
        return fault("missing", "exclude_modules", "");
    return NULL;
}

/* One layer as every engine resolves it, against what it is. */
static inline const char *layer_fault(const modelopt *config, const modelopt *file, const layer *l,
                                      const char *format, bool experts)
{
    const char *want = algo_of(format);
    const char *vllm = vllm_modelopt(config, l), *sglang = sglang_modelopt(config, l);
    const char *trt = trt_modelopt(file, l, experts);
    if (!same(vllm, want)) return fault("vLLM does not read it as meant", l->name, vllm);
    if (!same(sglang, want)) return fault("SGLang does not read it as meant", l->name, sglang);
    if (!same(trt, want)) return fault("TensorRT-LLM does not read it as meant", l->name, trt);
    return NULL;
}

/* An excluded name inside a quantized one takes that one with it. */
static inline const char *hidden_fault(const tmb_json *exclude, const char *quantized)
{
    for (size_t i = 0; i < tmb_json_size(exclude); i++) {
        char entry[512];
        snprintf(entry, sizeof entry, "%s", tmb_json_string(tmb_json_at(exclude, i)));
        if (entry[0] && entry[strlen(entry) - 1] == '*') entry[strlen(entry) - 1] = '\0';
        if (strstr(quantized, entry))
            return fault("an excluded name lies inside it", quantized, entry);
    }
    return NULL;
}

/* A kept Linear is excluded by its name, by its name with a star, or by its stack's. */
static inline const char *kept_fault(const tmb_json *exclude, const tmb_unit *unit)
{
    char star[512];
    snprintf(star, sizeof star, "%s*", unit->name);
    return listed(exclude, unit->name) || listed(exclude, star) || listed(exclude, unit->disk)
               ? NULL
               : fault("is kept, but not excluded", unit->name, NULL);
}

static inline layer layer_of_fuse(const job *j, const tmb_fuse *fuse, const char *alias)
{
    layer l = {.name = alias, .n_shards = (int)fuse->n_units};
    for (uint32_t i = 0; i < fuse->n_units; i++)
        l.shards[i] = j->model->units[fuse->units[i]].name;
    return l;
}

static inline const char *modelopt_layers_fault(const job *j, const modelopt *config,
                                                const modelopt *file)
{
    const tmb_model *m = j->model;
    const char *bad = NULL;
    for (uint32_t u = 0; u < m->n_units && !bad; u++) {
        const tmb_unit *unit = &m->units[u];
        layer l = {.name = unit->name};
        if (!unit->linear) continue;
        if (unit->experts == TMB_NONE && !unit->stacked)
            bad = layer_fault(config, file, &l, format_name(j, u), false);
        if (!bad)
            bad = format_name(j, u) ? hidden_fault(config->exclude, unit->name)
                                    : kept_fault(config->exclude, unit);
    }
    for (uint32_t f = 0; f < m->n_fuses && !bad; f++) {
        const tmb_fuse *fuse = &m->fuses[f];
        for (int a = 0; a < 3 && fuse->alias[a] && !bad; a++) {
            layer l = layer_of_fuse(j, fuse, fuse->alias[a]);
            bad = layer_fault(config, file, &l, joint(j, fuse->units, fuse->n_units), false);
            if (!bad && joint(j, fuse->units, fuse->n_units))
                bad = hidden_fault(config->exclude, l.name);
        }
    }
    for (uint32_t e = 0; e < m->n_experts_groups && !bad; e++) {
        layer l = {.name = m->experts[e].name};
        bad = layer_fault(config, file, &l, joint(j, m->experts[e].units, m->experts[e].n_units),
                          true);
    }
    return bad;
}

/* Parsed texts of the plan; free both. */
static inline bool texts(const job *j, tmb_json **config, tmb_json **file)
{
    const tmb_plan *p = j->plan;
    *config = *file = NULL;
    if (tmb_json_parse(config, p->config_text, strlen(p->config_text), "config.json", true, NULL))
        return false;
    return !p->file_text ||
           !tmb_json_parse(file, p->file_text, strlen(p->file_text), "file", false, NULL);
}

static inline const char *modelopt_fault(const job *j)
{
    tmb_json *c, *f;
    const char *bad = texts(j, &c, &f) ? NULL : "no JSON";
    const tmb_json *q = tmb_json_get(c, "quantization_config");
    const tmb_json *t = tmb_json_get(f, "quantization");
    if (!bad && (!q || !t)) bad = "a file without a configuration";
    if (!bad) bad = files_fault(q, t);
    if (!bad) {
        const tmb_json *layers = tmb_json_get(q, "quantized_layers");
        const char *algo = tmb_json_string(tmb_json_get(q, "quant_algo"));
        modelopt config = {tmb_json_get(q, "ignore"), layers, algo};
        modelopt file = {tmb_json_get(t, "exclude_modules"), tmb_json_get(t, "quantized_layers"),
                         algo};
        if (same(algo, "MIXED_PRECISION") != (layers != NULL)) bad = "MIXED_PRECISION without keys";
        if (!bad) bad = modelopt_layers_fault(j, &config, &file);
    }
    tmb_json_free(c);
    tmb_json_free(f);
    return bad;
}

/* ---- compressed-tensors ------------------------------------------------------------------------
 */

/* Our name of a group, "fp8 by tensor" where activations have one scale a tensor. */
static inline const char *group_name(const tmb_json *group)
{
    const char *format = tmb_json_string(tmb_json_get(group, "format"));
    const char *strategy = tmb_json_string(tmb_json_path(group, "weights.strategy"));
    const char *inputs = tmb_json_string(tmb_json_path(group, "input_activations.strategy"));
    const char *dynamic = tmb_json_string(tmb_json_path(group, "input_activations.dynamic"));
    if (same(format, "nvfp4-pack-quantized"))
        return !inputs ? "nvfp4-w4a16" : same(dynamic, "local") ? "nvfp4" : "?";
    if (same(format, "mxfp4-pack-quantized")) return inputs ? "?" : "mxfp4";
    if (same(format, "mxfp8-quantized")) return same(inputs, "group") ? "mxfp8" : "?";
    if (same(format, "pack-quantized")) return inputs ? "?" : "int4";
    if (!same(format, "float-quantized")) return "?";
    if (same(strategy, "channel")) return same(inputs, "token") ? "fp8-channel" : "?";
    if (same(strategy, "block")) return same(inputs, "group") ? "fp8-block" : "?";
    return same(inputs, "token") ? "fp8" : same(inputs, "tensor") ? "fp8 by tensor" : "?";
}

/* Experts' groups of fp8 take activations by tensor. */
static inline const char *group_wanted(const char *format, bool expert)
{
    return expert && same(format, "fp8") ? "fp8 by tensor" : format;
}

static inline bool ct_load(ct_rules *rules, const tmb_json *q)
{
    const char *key;
    const tmb_json *group;
    int n = 0;
    rules->n = 0;
    for (void *it = NULL; tmb_json_next(tmb_json_get(q, "config_groups"), &it, &key, &group);) {
        if (n == 16 || !tmb_json_size(tmb_json_get(group, "targets"))) return false;
        rules->names[n] = group_name(group);
        if (!ct_add(rules, tmb_json_get(group, "targets"), n++)) return false;
    }
    return n && ct_add(rules, tmb_json_get(q, "ignore"), -1);
}

/* "layers.N…" of a name, NULL outside the layers. */
static inline const char *tail_of(const char *name)
{
    const char *at = strstr(name, "layers.");
    return at && (at == name || at[-1] == '.') ? at : NULL;
}

/* Whether two names have one block in the layers, whatever the layers' numbers. */
static inline bool same_block(const char *a, const char *b)
{
    a = tail_of(a);
    b = tail_of(b);
    if (!a || !b) return false;
    a += strlen("layers.");
    b += strlen("layers.");
    a += strspn(a, "0123456789");
    b += strspn(b, "0123456789");
    size_t n = (size_t)(strrchr(a, '.') - a);
    return n == (size_t)(strrchr(b, '.') - b) && strncmp(a, b, n) == 0;
}

/* Whether the unit is in the only block of its name: else its prefix is needed to tell it from an
 * MTP layer or from a layer of a vision tower. */
static inline bool alone_there(const job *j, uint32_t u)
{
    const char *name = j->model->units[u].name, *tail = tail_of(name);
    for (uint32_t i = 0; tail && i < j->model->n_units; i++) {
        const char *other = j->model->units[i].name, *end = tail_of(other);
        if (!end || !j->model->units[i].linear || !same_block(name, other)) continue;
        if (end - other != tail - name || strncmp(name, other, (size_t)(tail - name)) != 0)
            return false;
    }
    return tail != NULL;
}

/* The name under each prefix that engines give the text model. */
static inline const char *ask_ct(const ct_rules *rules, const char *name, const char *want,
                                 bool alone)
{
    static const char *const prefixes[] = {"", "model.", "language_model.model.",
                                           "model.language_model."};
    const char *got = ct_answer(rules, name);
    if (!same(got, want)) return fault("does not find its group", name, got);
    for (int p = 0; alone && p < 4; p++) {
        char other[512];
        snprintf(other, sizeof other, "%s%s", prefixes[p], tail_of(name));
        got = ct_answer(rules, other);
        if (!same(got, want)) return fault("does not find its group", other, got);
    }
    return NULL;
}

static inline const char *expert_fault(const job *j, const ct_rules *rules, uint32_t e)
{
    static const char *const leaves[] = {"gate_proj", "up_proj", "down_proj", "w1", "w2", "w3"};
    const tmb_experts *group = &j->model->experts[e];
    const char *want = group_wanted(joint(j, group->units, group->n_units), true), *bad = NULL;
    bool alone = alone_there(j, group->units[0]);
    for (int i = 0; i < 6 && !bad; i++) {
        char name[512];
        snprintf(name, sizeof name, "%s.0.%s", group->name, leaves[i]);
        bad = ask_ct(rules, name, want, alone);
    }
    return bad;
}

static inline const char *ct_fault(const job *j)
{
    const tmb_model *m = j->model;
    tmb_json *c, *f;
    ct_rules *rules = calloc(1, sizeof *rules);
    const char *bad = rules && texts(j, &c, &f) ? NULL : "no JSON";
    const tmb_json *q = tmb_json_get(c, "quantization_config");
    if (!bad && f) bad = "a second file";
    if (!bad && !ct_load(rules, q)) bad = "targets or ignore cannot be read";
    for (uint32_t u = 0; u < m->n_units && !bad; u++)
        if (m->units[u].linear)
            bad = ask_ct(rules, m->units[u].name,
                         group_wanted(format_name(j, u), m->units[u].experts != TMB_NONE),
                         alone_there(j, u));
    for (uint32_t i = 0; i < m->n_fuses && !bad; i++)
        for (int a = 0; a < 3 && m->fuses[i].alias[a] && !bad; a++)
            bad = ask_ct(rules, m->fuses[i].alias[a],
                         joint(j, m->fuses[i].units, m->fuses[i].n_units),
                         alone_there(j, m->fuses[i].units[0]));
    for (uint32_t e = 0; e < m->n_experts_groups && !bad; e++)
        bad = expert_fault(j, rules, e);
    tmb_json_free(c);
    tmb_json_free(f);
    if (rules) ct_free(rules);
    free(rules);
    return bad;
}

#endif
