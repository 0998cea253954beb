/* config.c - find the quantization configuration, and ask it about every module. */
#include "config.h"
#include "moe/verify/verify_internal.h"

#include "kernels/base/team.h"
#include "moe/io/files.h"

#include <string.h>

enum { CONFIG_MAX = 512 << 20 }; /* per-expert keys of a large model are tens of megabytes */

/* Wrappers of multimodal models put it beside the text model's own keys. */
static const tmb_json *find_quant(const tmb_json *config)
{
    const tmb_json *q = tmb_json_get(config, "quantization_config");
    if (!tmb_json_is_object(q)) q = tmb_json_path(config, "text_config.quantization_config");
    return tmb_json_is_object(q) ? q : NULL;
}

static tmb_status load_hf(tmb_verifier *v, tmb_err *err)
{
    bool there;
    TRY(tmb_file_exists(&there, v->ckpt->dirfd, "hf_quant_config.json", err));
    if (!there) return TMB_OK;
    return tmb_json_load(&v->config.hf, v->ckpt->dirfd, "hf_quant_config.json", CONFIG_MAX, true,
                         err);
}

tmb_status tmb_vconfig_load(tmb_verifier *v, tmb_err *err)
{
    tmb_vconfig *c = &v->config;
    TRY(load_hf(v, err));
    c->quant = find_quant(v->ckpt->config);
    const char *method = tmb_json_string(tmb_json_get(c->quant, "quant_method"));
    if (!method && (tmb_json_get(c->quant, "quant_algo") || (!c->quant && c->hf)))
        method = "modelopt";
    if (!method && tmb_json_get(c->quant, "config_groups")) method = "compressed-tensors";
    c->method = method ? method : "";
    tmb_ran(v, TMB_CHECK_CONFIG_METHOD);
    if (strncmp(c->method, "modelopt", 8) == 0) {
        c->layout = TMB_VL_MODELOPT;
        return tmb_mo_load(v, err);
    }
    if (strcmp(c->method, "compressed-tensors") == 0) {
        c->layout = TMB_VL_CT;
        return tmb_ct_load(v, err);
    }
    if (strcmp(c->method, "fp8") == 0 || strcmp(c->method, "mxfp4") == 0 || !c->quant) {
        c->layout = c->quant ? TMB_VL_NATIVE : TMB_VL_NONE;
        return TMB_OK;
    }
    tmb_find(
        v, TMB_CHECK_CONFIG_METHOD, TMB_WARNING, 0, "quantization_config",
        "quant_method \"%s\" is none of modelopt, compressed-tensors, fp8, mxfp4: only files and "
        "structure were checked",
        c->method);
    return TMB_OK;
}

void tmb_vconfig_close(tmb_vconfig *c)
{
    tmb_mo_close(c->mo);
    tmb_ct_close(c->ct);
    tmb_json_free(c->hf);
}

static void resolve(void *ctx, size_t i)
{
    tmb_verifier *v = ctx;
    tmb_vconfig *c = &v->config;
    tmb_module *m = &v->modules[i];
    if (!m->linear) return;
    if (c->mo)
        m->meant = tmb_mo_meant(c->mo, m, &m->entry, &m->listed);
    else if (c->ct)
        m->meant = tmb_ct_meant(c->ct, m, &m->entry, &m->listed);
    else
        m->meant = tmb_native_meant(v, m);
}

void tmb_vconfig_resolve(tmb_verifier *v)
{
    tmb_vconfig *c = &v->config;
    tmb_team_each(v->threads, v->n_modules, 256, resolve, v);
    if (c->mo) tmb_mo_unused(v);
    if (c->ct) tmb_ct_unused(v);
}
