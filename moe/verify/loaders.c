/* loaders.c - will every engine read the configuration as it was meant?
 *
 * Engines build layers, not the files' modules: experts as one, q/k/v as one.  Each such layer is
 * asked of each engine's rules and the answer held against what its modules mean. */
#include "config.h"
#include "moe/verify/verify_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef tmb_answer (*tmb_resolver)(const tmb_verifier *v, const tmb_engine_layer *l);

typedef struct tmb_engine {
    const char *name;
    tmb_resolver modelopt, ct;
    tmb_check check;
    bool leads; /* what this one refuses is an error, what the others do a warning */
} tmb_engine;

static const tmb_engine engines[] = {
    {"vLLM", tmb_vllm_modelopt, tmb_vllm_ct, TMB_CHECK_LOADER_VLLM, true},
    {"SGLang", tmb_sglang_modelopt, tmb_sglang_ct, TMB_CHECK_LOADER_SGLANG, false},
    {"TensorRT-LLM", tmb_trt_modelopt, NULL, TMB_CHECK_LOADER_TRT, false},
};

/* NULL scheme and *agree false when the layer's modules do not mean one thing. */
static const tmb_scheme *meaning(const tmb_verifier *v, const tmb_engine_layer *l, bool *agree)
{
    const tmb_scheme *first = v->modules[l->modules[0]].meant;
    *agree = true;
    for (uint32_t i = 1; i < l->n; i++)
        if (!tmb_same_scheme(first, v->modules[l->modules[i]].meant)) *agree = false;
    return first;
}

static void report_exclusion(tmb_verifier *v, const tmb_engine *e, const tmb_engine_layer *l,
                             const tmb_answer *a, const tmb_scheme *meant)
{
    tmb_find(
        v, TMB_CHECK_EXCLUDE_WIDE, TMB_ERROR, (unsigned)(e - engines), a->excluded_by,
        "this exclusion also takes %s, which is stored as %s: %s matches %s, builds the layer "
        "unquantized "
        "and reads codes as numbers, or stops; write full names, and end a subtree with \".*\"",
        l->name, meant->name, e->name,
        e->leads ? "any substring of a name" : "any run of dotted parts of a name");
}

static void report_other(tmb_verifier *v, const tmb_engine *e, const tmb_engine_layer *l,
                         const tmb_answer *a, const tmb_scheme *meant)
{
    tmb_severity severity = e->leads ? TMB_ERROR : TMB_WARNING;
    const char *means = meant ? meant->name : "unquantized",
               *makes = a->scheme ? a->scheme->name : "unquantized";
    bool fused = l->n > 1 && !l->experts;
    if (a->refused)
        tmb_find(
            v, e->check, severity, 0, l->name, "%s stops at this layer (meant: %s): %s; %s",
            e->name, means, a->refused,
            l->experts
                ? "let the targets match gate_proj, up_proj, down_proj and the model's own names"
            : fused ? "let the targets match the fused layer's name too"
                    : "name it in a target or in ignore");
    else if (!a->scheme && v->config.mo && (fused || l->experts))
        tmb_find(v, TMB_CHECK_ALIAS_MISSING, TMB_WARNING, (unsigned)(e - engines) + 8u * l->experts,
                 l->name,
                 "%s asks quantized_layers for this name and finds nothing: it builds the layer "
                 "unquantized and "
                 "reads %s codes as BF16, in silence; add the key with its shards' algorithm",
                 e->name, means);
    else
        tmb_find(v, e->check, severity, 1, l->name,
                 "%s reads this layer as %s, but %s is meant: it decodes with the wrong kernel in "
                 "silence or "
                 "stops; name the layer itself in the configuration",
                 e->name, makes, means);
}

static void judge(tmb_verifier *v, const tmb_engine *e, const tmb_engine_layer *l)
{
    bool agree;
    const tmb_scheme *meant = meaning(v, l, &agree);
    if (!agree || (meant && meant->kind == TMB_VK_OTHER)) return;
    tmb_resolver ask = v->config.mo ? e->modelopt : e->ct;
    if (!ask) return;
    tmb_ran(v, e->check);
    tmb_answer a = ask(v, l);
    if (!a.refused && (a.scheme ? tmb_same_scheme(a.scheme, meant) : !meant)) return;
    if (!meant && !v->modules[l->modules[0]].listed && a.refused)
        return; /* "unlisted-linear" says it */
    if (!a.refused && a.scheme && meant && v->config.ct)
        tmb_find(v, TMB_CHECK_TARGET_AMBIGUOUS, e->leads ? TMB_ERROR : TMB_WARNING,
                 (unsigned)(e - engines), l->name,
                 "targets of several groups match: %s takes the first in the file (%s), "
                 "compressed-tensors the "
                 "first in alphabet (%s); make the patterns exclusive",
                 e->name, a.scheme->name, meant->name);
    else if (a.excluded_by && meant)
        report_exclusion(v, e, l, &a, meant);
    else
        report_other(v, e, l, &a, meant);
}

/* Routers and towers are built without a quantization config by nearly every class. */
static bool asked(const tmb_module *m)
{
    return m->linear && !m->stacked && m->role != TMB_ROLE_ROUTER &&
           m->role != TMB_ROLE_SHARED_GATE && m->role != TMB_ROLE_VISION &&
           m->role != TMB_ROLE_MTP && m->role != TMB_ROLE_OTHER;
}

static void ask_engines(tmb_verifier *v, tmb_engine_layer *l)
{
    for (size_t i = 0; i < sizeof engines / sizeof *engines; i++) {
        const tmb_engine *e = &engines[i];
        bool trt = e->ct == NULL;
        if (trt && (!v->config.mo || !v->config.mo->mixed || !v->config.mo->has_hf)) continue;
        const char *kept = l->name;
        /* vLLM builds MiniMax's experts under another name than the files have. */
        if (e->leads && l->other) l->name = l->alias[0] = l->other;
        judge(v, e, l);
        l->name = l->alias[0] = kept;
    }
}

static void ask_experts(tmb_verifier *v)
{
    uint32_t *list = malloc((v->n_modules + 1) * sizeof *list);
    if (!list) {
        v->no_memory = true;
        return;
    }
    uint32_t n = 0;
    for (uint32_t i = 0; i <= v->n_modules; i++) {
        const tmb_module *m = i < v->n_modules ? &v->modules[i] : NULL;
        if (m && (m->expert < 0 || !asked(m))) continue;
        const tmb_module *first = n ? &v->modules[list[0]] : NULL;
        bool same = m && first && m->parent == first->parent &&
                    memcmp(m->name, first->name, m->parent) == 0;
        if (n && !same) {
            char *name = tmb_arena_text(&v->scratch, first->name, first->parent), *other = NULL;
            const char *block = name ? strstr(name, ".block_sparse_moe.experts") : NULL;
            if (block && v->model->arch->quirks & TMB_QUIRK_EXPERT_ALIAS_MLP)
                other =
                    tmb_arena_printf(&v->scratch, "%.*s.mlp.experts", (int)(block - name), name);
            tmb_engine_layer l = {.name = name,
                                  .alias = {name},
                                  .other = other,
                                  .modules = list,
                                  .n = n,
                                  .experts = true};
            if (name) ask_engines(v, &l);
            n = 0;
        }
        if (m) list[n++] = i;
    }
    free(list);
}

/* One key a projection of each expert, for the classes that build experts one by one. */
static void check_expert_keys(tmb_verifier *v)
{
    if (!v->config.mo || !v->config.mo->mixed ||
        !(v->model->arch->quirks & TMB_QUIRK_PER_EXPERT_KEYS))
        return;
    for (uint32_t i = 0; i < v->n_modules; i++) {
        const tmb_module *m = &v->modules[i];
        if (m->expert < 0 || !m->meant ||
            tmb_nameset_find(&v->config.mo->layers, m->name) != TMB_NO_NAME)
            continue;
        tmb_find(v, TMB_CHECK_LOADER_SGLANG, TMB_WARNING, 2, m->name,
                 "SGLang builds the experts of %s one by one and asks quantized_layers for each by "
                 "name: with the "
                 "layer's key alone it reads %s codes as BF16; add a key for each projection of "
                 "each expert",
                 v->model->model_type, m->meant->name);
    }
}

static bool ask_fuses(tmb_verifier *v, uint8_t *done)
{
    for (uint32_t i = 0; i < v->model->n_fuses; i++) {
        const tmb_fuse *f = &v->model->fuses[i];
        uint32_t *list = tmb_arena_alloc(&v->scratch, f->n_units * sizeof *list);
        if (!list) return false;
        tmb_engine_layer l = {.name = f->alias[0], .modules = list};
        bool all = f->alias[0] != NULL;
        for (uint32_t k = 0; k < f->n_units; k++) {
            const tmb_module *m = tmb_module_find(v, v->model->units[f->units[k]].name);
            if (m && asked(m) && m->expert < 0)
                list[l.n++] = (uint32_t)(m - v->modules);
            else
                all = false;
        }
        if (!all) continue;
        for (int k = 0; k < 3; k++)
            l.alias[k] = f->alias[k];
        ask_engines(v, &l);
        for (uint32_t k = 0; k < l.n; k++)
            done[list[k]] = 1;
    }
    return true;
}

/* A fused layer's key hides what its shards say. */
static void check_aliases(tmb_verifier *v)
{
    const tmb_mo_config *mo = v->config.mo;
    if (!mo || !mo->mixed) return;
    tmb_ran(v, TMB_CHECK_ALIAS_CONFLICT);
    for (uint32_t i = 0; i < v->model->n_fuses; i++) {
        const tmb_fuse *f = &v->model->fuses[i];
        for (int k = 0; k < 3 && f->alias[k]; k++) {
            uint32_t at = tmb_nameset_find(&mo->layers, f->alias[k]);
            for (uint32_t u = 0; at != TMB_NO_NAME && u < f->n_units; u++) {
                const tmb_module *m = tmb_module_find(v, v->model->units[f->units[u]].name);
                if (!m || tmb_same_scheme(m->meant, mo->algo[at])) continue;
                tmb_find(v, TMB_CHECK_ALIAS_CONFLICT, TMB_ERROR, 0, f->alias[k],
                         "the key says %s, its shard %s is %s: engines take the key for the whole "
                         "fused layer and "
                         "decode the shard with it in silence; give both one algorithm",
                         mo->algo[at] ? mo->algo[at]->name : "an unknown algorithm", m->name,
                         m->meant ? m->meant->name : "unquantized");
                break;
            }
        }
    }
}

void tmb_check_loaders(tmb_verifier *v)
{
    if (!v->config.mo && !v->config.ct) return;
    tmb_ran(v, TMB_CHECK_EXCLUDE_WIDE);
    uint8_t *done = tmb_arena_alloc(&v->scratch, v->n_modules + 1);
    if (!done || !ask_fuses(v, done)) {
        v->no_memory = true;
        return;
    }
    for (uint32_t i = 0; i < v->n_modules; i++) {
        const tmb_module *m = &v->modules[i];
        if (m->expert >= 0 || done[i] || !asked(m)) continue;
        tmb_engine_layer l = {.name = m->name, .alias = {m->name}, .modules = &i, .n = 1};
        ask_engines(v, &l);
    }
    ask_experts(v);
    check_expert_keys(v);
    check_aliases(v);
}
