/* kv.c - the scales of a quantized KV cache: promised and there, whole, positive. */
#include "config.h"
#include "moe/verify/verify_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Of one attention layer. */
typedef struct tmb_kv_layer {
    const char *name; /* a module of it */
    bool attention;   /* it has a k projection of its own */
    bool mla, k, v;
} tmb_kv_layer;

static const char *leaf_of(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot ? dot + 1 : name;
}

static bool per_head(const tmb_verifier *v)
{
    const char *s =
        tmb_json_string(tmb_json_get(tmb_json_get(v->config.quant, "kv_cache_scheme"), "strategy"));
    return s && strcmp(s, "attn_head") == 0;
}

static void check_scale(tmb_verifier *v, tmb_module *m, tmb_vpart part)
{
    const tmb_tensor *t = tmb_module_part(v, m, part);
    if (!t) return;
    bool one = t->bytes * 8 == tmb_dtype_bits((tmb_dtype)t->dtype) || per_head(v);
    bool plain = tmb_is_plain((tmb_dtype)t->dtype);
    tmb_ran(v, TMB_CHECK_KV_VALUE);
    if (!one || !plain || m->bad[part])
        TMB_FIND_MODULE(v, m, TMB_CHECK_KV_VALUE, TMB_ERROR, part,
                        "%s is not one positive finite number: vLLM uses 1.0 instead or computes "
                        "NaN, in silence; "
                        "calibrate the KV cache again",
                        tmb_vpart_name(part));
}

/* The layer's slot; layers of prefixes other than the text model's are not looked at. */
static tmb_kv_layer *slot_of(const tmb_verifier *v, const tmb_module *m, tmb_kv_layer *layers)
{
    const char *prefix = v->model->prefix ? v->model->prefix : "";
    bool tower = m->role == TMB_ROLE_VISION;
    if (m->layer < 0 || tower || strncmp(m->name, prefix, strlen(prefix)) != 0) return NULL;
    return &layers[m->layer];
}

static void check_layer(tmb_verifier *v, const tmb_kv_layer *l, bool promised)
{
    if (l->mla && (l->k || l->v)) {
        tmb_find(v, TMB_CHECK_KV_MLA, TMB_ERROR, 0, l->name,
                 "KV scales are stored for multi-head latent attention: vLLM drops them or finds "
                 "no parameter "
                 "for them, SGLang caches the latent without; remove them");
        return;
    }
    if (l->k != l->v)
        tmb_find(
            v, TMB_CHECK_KV_HALF, TMB_ERROR, l->k, l->name,
            "%s is stored without %s: vLLM uses 1.0 for the missing one in silence; store both",
            l->k ? "k_scale" : "v_scale", l->k ? "v_scale" : "k_scale");
    else if (promised && l->attention && !l->k)
        tmb_find(v, TMB_CHECK_KV_MISSING, TMB_ERROR, 0, l->name,
                 "the configuration declares an FP8 KV cache but this layer has neither k_scale "
                 "nor v_scale: "
                 "vLLM uses 1.0 in silence; calibrate the KV cache, or do not declare it");
}

void tmb_check_kv(tmb_verifier *v)
{
    int32_t top = -1;
    const char *first = NULL;
    bool any_mla = v->model->arch->quirks & TMB_QUIRK_MLA;
    for (uint32_t i = 0; i < v->n_modules; i++)
        if (v->modules[i].layer > top) top = v->modules[i].layer;
    tmb_kv_layer *layers = tmb_arena_alloc(&v->scratch, (size_t)(top + 2) * sizeof *layers);
    if (!layers) {
        v->no_memory = true;
        return;
    }
    for (uint32_t i = 0; i < v->n_modules; i++) {
        tmb_module *m = &v->modules[i];
        bool k = m->part[TMB_VP_K_SCALE] != TMB_NO_TENSOR,
             val = m->part[TMB_VP_V_SCALE] != TMB_NO_TENSOR;
        const char *leaf = leaf_of(m->name);
        if (k || val) first = first ? first : m->name;
        check_scale(v, m, TMB_VP_K_SCALE);
        check_scale(v, m, TMB_VP_V_SCALE);
        tmb_kv_layer *l = slot_of(v, m, layers);
        if (!l) continue;
        if (!l->name || k || val) l->name = m->name;
        l->k |= k;
        l->v |= val;
        if (m->linear && strcmp(leaf, "k_proj") == 0 && m->role != TMB_ROLE_MTP) {
            l->attention = true;
            if (!l->k && !l->v) l->name = m->name;
        }
        l->mla |=
            any_mla || strcmp(leaf, "kv_a_proj_with_mqa") == 0 || strcmp(leaf, "kv_b_proj") == 0;
    }
    tmb_ran(v, TMB_CHECK_KV_UNDECLARED);
    if (v->config.kv) {
        tmb_ran(v, TMB_CHECK_KV_MISSING);
        tmb_ran(v, TMB_CHECK_KV_HALF);
    }
    if (first && !v->config.kv)
        tmb_find(v, TMB_CHECK_KV_UNDECLARED, TMB_ERROR, 0, first,
                 "KV scales are stored but the configuration declares no KV cache format: engines "
                 "cache in BF16 "
                 "and vLLM may stop at the tensors; declare kv_cache_scheme or remove them");
    /* OLMoE's loader stops at KV scales, so without any it is as it should be. */
    bool promised = v->config.kv && !(v->model->arch->quirks & TMB_QUIRK_NO_KV_SCALES && !first);
    for (int32_t i = 0; i <= top; i++)
        if (layers[i].name) check_layer(v, &layers[i], promised);
}
