/* resolve_vllm.c - what vLLM makes of a layer.
 *
 * ModelOpt: is_layer_excluded (exact or all shards; substring; fnmatch), then _resolve_quant_algo
 * (exact; packed shards; first key below; for experts, first key below the parent).
 * compressed-tensors: should_ignore_layer, then find_matched_target (name; all shards; class);
 * experts are asked for under the pseudo names EXPERTS.0.PROJECTION.
 * (vllm/model_executor/layers/quantization/modelopt.py, compressed_tensors/utils.py, 0.33.0.) */
#include "config.h"
#include "moe/verify/verify_internal.h"

#include <stdio.h>
#include <string.h>

static const char *module_name(const tmb_verifier *v, const tmb_engine_layer *l, uint32_t i)
{
    return v->modules[l->modules[i]].name;
}

/* *refused when some shards are excluded and some are not. */
static bool exact_or_shards(const tmb_verifier *v, const tmb_engine_layer *l, const char **refused)
{
    const tmb_nameset *exclude = &v->config.mo->exclude;
    if (tmb_nameset_find(exclude, l->name) != TMB_NO_NAME) return true;
    if (l->experts || l->n < 2) return false;
    uint32_t n = 0;
    for (uint32_t i = 0; i < l->n; i++)
        n += tmb_nameset_find(exclude, module_name(v, l, i)) != TMB_NO_NAME;
    if (n && n < l->n) *refused = "some shards of the fused layer are excluded and some are not";
    return n == l->n;
}

static const char *excluded_wide(const tmb_mo_config *mo, const char *name)
{
    const char *entry = tmb_nameset_within(&mo->exclude, name);
    for (uint32_t i = 0; !entry && i < mo->n_wild; i++)
        if (tmb_glob(mo->wild[i], name)) entry = mo->wild[i];
    return entry;
}

static const tmb_scheme *find_layer(const tmb_verifier *v, const tmb_engine_layer *l,
                                    const char **refused)
{
    const tmb_mo_config *mo = v->config.mo;
    const tmb_scheme *found = NULL;
    for (int a = 0; a < 3 && l->alias[a]; a++) {
        uint32_t i = tmb_nameset_find(&mo->layers, l->alias[a]);
        if (i != TMB_NO_NAME) return mo->algo[i];
    }
    for (uint32_t k = 0; !l->experts && k < l->n; k++) {
        uint32_t i = tmb_nameset_find(&mo->layers, module_name(v, l, k));
        if (i == TMB_NO_NAME) continue;
        if (found && !tmb_same_scheme(found, mo->algo[i]))
            *refused = "shards of the fused layer have different algorithms";
        found = mo->algo[i];
    }
    if (found) return found;
    const tmb_name *key = tmb_nameset_below(&mo->layers, l->name);
    size_t n = strlen(l->name);
    if (!key && n > 8 && strcmp(l->name + n - 8, ".experts") == 0) {
        char parent[1024];
        snprintf(parent, sizeof parent, "%.*s", (int)(n - 8), l->name);
        key = tmb_nameset_below(&mo->layers, parent);
    }
    return key ? mo->algo[key->value] : NULL;
}

tmb_answer tmb_vllm_modelopt(const tmb_verifier *v, const tmb_engine_layer *l)
{
    tmb_answer a = {0};
    if (exact_or_shards(v, l, &a.refused)) {
        a.excluded_by = l->name;
        return a;
    }
    a.excluded_by = excluded_wide(v->config.mo, l->name);
    if (a.excluded_by || a.refused) return a;
    a.scheme = v->config.mo->mixed ? find_layer(v, l, &a.refused) : v->config.mo->uniform;
    return a;
}

static bool ct_ignored(const tmb_ct_config *ct, const char *name)
{
    return tmb_ct_ignored(ct, name) != TMB_NO_NAME;
}

/* The first target in file order that names it. */
uint32_t tmb_ct_first(const tmb_ct_config *ct, const char *name)
{
    uint32_t best = tmb_nameset_find(&ct->target_names, name);
    for (uint32_t k = 0; k < ct->n_sorted; k++) {
        uint32_t i = ct->sorted[k];
        if (i < best && tmb_ct_hits(&ct->targets[i], name)) best = i;
    }
    return best; /* TMB_NO_NAME is above every index */
}

uint32_t tmb_ct_class(const tmb_ct_config *ct)
{
    for (uint32_t i = 0; i < ct->n_targets; i++)
        if (ct->targets[i].class_name) return i;
    return TMB_NO_NAME;
}

static tmb_answer ask_ct(const tmb_verifier *v, const tmb_engine_layer *l, const char *name)
{
    const tmb_ct_config *ct = v->config.ct;
    tmb_answer a = {0};
    bool fused = !l->experts && l->n > 1;
    uint32_t skipped = 0;
    for (uint32_t i = 0; fused && i < l->n; i++)
        skipped += ct_ignored(ct, module_name(v, l, i));
    if (fused && skipped && skipped < l->n) {
        a.refused = "some shards of the fused layer are ignored and some are not";
        return a;
    }
    if (fused ? skipped == l->n : ct_ignored(ct, name)) {
        a.excluded_by = name;
        return a;
    }
    uint32_t i = tmb_ct_first(ct, name);
    if (i == TMB_NO_NAME && fused) {
        i = tmb_ct_first(ct, module_name(v, l, 0));
        for (uint32_t k = 1; k < l->n; k++)
            if (tmb_ct_first(ct, module_name(v, l, k)) == TMB_NO_NAME) i = TMB_NO_NAME;
    }
    if (i == TMB_NO_NAME) i = tmb_ct_class(ct);
    a.scheme = i == TMB_NO_NAME ? NULL : ct->targets[i].scheme;
    return a;
}

tmb_answer tmb_vllm_ct(const tmb_verifier *v, const tmb_engine_layer *l)
{
    if (!l->experts) return ask_ct(v, l, l->name);
    tmb_answer first = {0};
    bool have = false;
    for (uint32_t i = 0; i < l->n; i++) {
        const tmb_module *m = &v->modules[l->modules[i]];
        const char *leaf = strrchr(m->name, '.');
        if (!leaf || m->expert != v->modules[l->modules[0]].expert) continue;
        char name[1024];
        snprintf(name, sizeof name, "%s.0%s", l->name, leaf);
        tmb_answer a = ask_ct(v, l, name);
        if (have && !tmb_same_scheme(a.scheme, first.scheme)) {
            first.refused = "the projections of an expert resolve to different schemes";
            return first;
        }
        if (!have) first = a;
        first.excluded_by = a.excluded_by ? l->name : NULL;
        have = true;
    }
    return first;
}
