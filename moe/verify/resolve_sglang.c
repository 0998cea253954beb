/* resolve_sglang.c - what SGLang makes of a layer.
 *
 * ModelOpt: is_layer_skipped (an entry that is a run of whole dotted parts of the name) and
 * is_layer_excluded (fullmatch of the name or of any one part; four MLA leaves by substring); then
 * exact key, packed shards, first key below.  compressed-tensors: ignore by name or dotted end; a
 * layer without a target is an exception; experts are asked for as EXPERTS.0.gate_proj and so on.
 * (sglang/srt/layers/quantization: utils.py, modelopt_quant.py, compressed_tensors/utils.py,
 * 0.5.23.) */
#include "config.h"
#include "moe/verify/verify_internal.h"

#include <stdio.h>
#include <string.h>

/* Classes with a packed_modules_mapping of their own find a fused layer by its shards. */
bool tmb_sglang_packs(const tmb_model *model, const char *leaf)
{
    static const char *const types[] = {"qwen3_moe", "minimax_m2", "qwen3_next", "llama4_text",
                                        "qwen3_5_moe"};
    static const char *const mla[] = {"deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(model->model_type, types[i]) == 0) return true;
    if (strncmp(leaf, "fused_qkv_a_proj", 16) != 0) return false;
    for (size_t i = 0; i < sizeof mla / sizeof *mla; i++)
        if (strcmp(model->model_type, mla[i]) == 0) return true;
    return false;
}

static const char *leaf_of(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot ? dot + 1 : name;
}

/* Some entry equals a run of whole parts of the name. */
static const char *part_run(const tmb_nameset *names, const char *text)
{
    for (const char *from = text;;) {
        const char *end = from;
        do {
            end = strchrnul(end, '.');
            const tmb_name *item = tmb_nameset_item(names, from, (size_t)(end - from));
            if (item) return item->text;
        } while (*end++);
        from = strchr(from, '.');
        if (!from) return NULL;
        from++;
    }
}

static const char *full_or_part(const tmb_mo_config *mo, const char *name)
{
    for (uint32_t i = 0; i < mo->n_wild; i++) {
        if (tmb_glob(mo->wild[i], name)) return mo->wild[i];
        for (const char *part = name; part;) {
            const char *dot = strchrnul(part, '.');
            char text[256];
            snprintf(text, sizeof text, "%.*s", (int)(dot - part), part);
            if (tmb_glob(mo->wild[i], text)) return mo->wild[i];
            part = *dot ? dot + 1 : NULL;
        }
    }
    for (const char *part = name; part;) {
        const char *dot = strchrnul(part, '.');
        if (tmb_nameset_find_n(&mo->exclude, part, (size_t)(dot - part)) != TMB_NO_NAME)
            return part;
        part = *dot ? dot + 1 : NULL;
    }
    return tmb_nameset_find(&mo->exclude, name) != TMB_NO_NAME ? name : NULL;
}

/* An entry whose last part is one of these excludes every layer with that word in its last part. */
static const char *mla_leaf(const tmb_mo_config *mo, const char *name)
{
    static const char *const leaves[] = {"q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj"};
    for (size_t k = 0; k < sizeof leaves / sizeof *leaves; k++) {
        if (!strstr(leaf_of(name), leaves[k])) continue;
        for (uint32_t i = 0; i < mo->exclude.n; i++)
            if (strcmp(leaf_of(mo->exclude.items[i].text), leaves[k]) == 0)
                return mo->exclude.items[i].text;
    }
    return NULL;
}

static const char *sglang_excluded(const tmb_verifier *v, const tmb_engine_layer *l,
                                   const char **refused)
{
    const tmb_mo_config *mo = v->config.mo;
    const char *entry = full_or_part(mo, l->name);
    if (!entry) entry = mla_leaf(mo, l->name);
    if (entry || l->experts) return entry;
    uint32_t skipped = 0;
    for (uint32_t i = 0; i < l->n; i++) {
        const char *by = part_run(&mo->exclude, v->modules[l->modules[i]].name);
        if (by) skipped++, entry = by;
    }
    if (skipped && skipped < l->n)
        *refused = "some shards of the fused layer are excluded and some are not";
    return skipped == l->n ? entry : NULL;
}

static const tmb_scheme *loadable(const tmb_scheme *s)
{
    return s && (s->kind == TMB_VK_FP8_CHANNEL || s->kind == TMB_VK_OTHER ||
                 s->kind == TMB_VK_MXFP4)
               ? NULL
               : s;
}

tmb_answer tmb_sglang_modelopt(const tmb_verifier *v, const tmb_engine_layer *l)
{
    const tmb_mo_config *mo = v->config.mo;
    tmb_answer a = {0};
    a.excluded_by = sglang_excluded(v, l, &a.refused);
    if (a.excluded_by || a.refused) return a;
    if (!mo->mixed) {
        a.scheme = mo->uniform;
        return a;
    }
    for (int k = 0; k < 3 && l->alias[k]; k++) {
        uint32_t i = tmb_nameset_find(&mo->layers, l->alias[k]);
        if (i != TMB_NO_NAME) {
            a.scheme = loadable(mo->algo[i]);
            return a;
        }
    }
    bool packs = l->n > 1 && !l->experts && tmb_sglang_packs(v->model, leaf_of(l->name));
    for (uint32_t k = 0; packs && k < l->n; k++) {
        uint32_t i = tmb_nameset_find(&mo->layers, v->modules[l->modules[k]].name);
        if (i != TMB_NO_NAME) a.scheme = loadable(mo->algo[i]);
    }
    const tmb_name *key = a.scheme ? NULL : tmb_nameset_below(&mo->layers, l->name);
    if (key) a.scheme = loadable(mo->algo[key->value]);
    return a;
}

static bool ct_ignored(const tmb_ct_config *ct, const char *name)
{
    for (const char *end = name; end; end = strchr(end, '.') ? strchr(end, '.') + 1 : NULL)
        if (tmb_nameset_find(&ct->ignore_names, end) != TMB_NO_NAME) return true;
    for (uint32_t i = 0; i < ct->n_ignore_res; i++)
        if (tmb_ct_hits(&ct->ignore[ct->ignore_res[i]], name)) return true;
    return false;
}

static tmb_answer ask_ct(const tmb_verifier *v, const tmb_engine_layer *l, const char *name)
{
    const tmb_ct_config *ct = v->config.ct;
    tmb_answer a = {0};
    bool packs = !l->experts && l->n > 1 && tmb_sglang_packs(v->model, leaf_of(l->name));
    uint32_t skipped = 0;
    for (uint32_t i = 0; packs && i < l->n; i++)
        skipped += ct_ignored(ct, v->modules[l->modules[i]].name);
    if (packs ? skipped == l->n : ct_ignored(ct, name)) {
        a.excluded_by = name;
        return a;
    }
    uint32_t i = tmb_ct_first(ct, name);
    if (i == TMB_NO_NAME && !l->experts) i = tmb_ct_class(ct);
    if (i == TMB_NO_NAME && packs) {
        i = tmb_ct_first(ct, v->modules[l->modules[0]].name);
        for (uint32_t k = 1; k < l->n; k++)
            if (tmb_ct_first(ct, v->modules[l->modules[k]].name) == TMB_NO_NAME) i = TMB_NO_NAME;
    }
    if (i == TMB_NO_NAME) {
        a.refused = "no target matches the name it asks for";
        return a;
    }
    a.scheme = ct->targets[i].scheme;
    return a;
}

tmb_answer tmb_sglang_ct(const tmb_verifier *v, const tmb_engine_layer *l)
{
    if (!l->experts) return ask_ct(v, l, l->name);
    static const char *const leaves[] = {"gate_proj", "up_proj", "down_proj"};
    tmb_answer a = {0};
    for (size_t i = 0; i < sizeof leaves / sizeof *leaves; i++) {
        char name[1024];
        snprintf(name, sizeof name, "%s.0.%s", l->name, leaves[i]);
        a = ask_ct(v, l, name);
        if (a.refused && tmb_ct_class(v->config.ct) != TMB_NO_NAME) {
            a.refused = NULL;
            a.scheme = v->config.ct->targets[tmb_ct_class(v->config.ct)].scheme;
        }
        if (a.refused) return a;
    }
    return a;
}
