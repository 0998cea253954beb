/* acts_open.c - how the inputs of a checkpoint's Linears are rounded: from what it stores. */
#include "config.h"
#include "moe/eval/acts_facts.h"

#include "moe/format/formats.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

tmb_status tmb_acts_new(tmb_acts **out, const tmb_model *model, const tmb_ops *ops, tmb_err *err)
{
    size_t layers = model->n_layers > 0 ? (size_t)model->n_layers : 0;
    tmb_acts *a = calloc(1, sizeof *a);
    *out = a;
    if (!a) return tmb_fail_memory(err, sizeof *a, "activations");
    a->model = model;
    a->ops = ops;
    a->nvfp4 = tmb_format_find("nvfp4");
    a->mxfp8 = tmb_format_find("mxfp8");
    a->act = calloc(model->n_units + 1, 1);
    a->input = calloc(model->n_units + 1, sizeof *a->input);
    a->k = calloc(layers + 1, sizeof *a->k);
    a->v = calloc(layers + 1, sizeof *a->v);
    if (a->act && a->input && a->k && a->v) return TMB_OK;
    tmb_acts_close(a);
    *out = NULL;
    return tmb_fail_memory(err, model->n_units * 5, "activations");
}

void tmb_acts_close(tmb_acts *a)
{
    if (!a) return;
    free(a->act);
    free(a->input);
    free(a->k);
    free(a->v);
    free(a->codes);
    free(a->scales);
    free(a->work);
    free(a);
}

bool tmb_acts_any(const tmb_acts *acts)
{
    return acts->any;
}

void tmb_acts_set(tmb_acts *a, uint32_t u, const tmb_format *format, float input)
{
    a->act[u] = (uint8_t)format->act;
    a->input[u] = input;
    if (a->act[u] == TMB_ACT_STATIC && !(input > 0)) a->act[u] = TMB_ACT_TOKEN;
    if (a->act[u] == TMB_ACT_NVFP4 && !(input > 0)) a->input[u] = 1.0f;
    a->any = a->any || a->act[u] != TMB_ACT_NONE;
}

tmb_status tmb_acts_number(const tmb_acts *a, const tmb_tensor *t, float *scale, tmb_err *err)
{
    unsigned char bytes[4];
    size_t size = tmb_dtype_bits((tmb_dtype)t->dtype) / 8;
    bool plain = t->dtype == TMB_F32 || t->dtype == TMB_F16 || t->dtype == TMB_BF16;
    if (plain && t->bytes == size) {
        TRY(tmb_checkpoint_read(a->model->ckpt, t, 0, bytes, size, err));
        a->ops->decode(scale, bytes, (tmb_dtype)t->dtype, 1);
        if (*scale > 0 && isfinite(*scale)) return TMB_OK;
    }
    return tmb_fail(err, TMB_EDATA,
                    "%s: %s: is no single positive finite number; run tombac verify on it",
                    a->model->ckpt->path, t->name);
}

static tmb_status open_unit(tmb_acts *a, uint32_t u, tmb_err *err)
{
    const tmb_unit *unit = &a->model->units[u];
    const tmb_stored *stored = &unit->stored;
    uint32_t part = stored->part[TMB_PART_INPUT];
    float input = 0;
    if (!unit->linear || !stored->format || unit->broken) return TMB_OK;
    if (stored->spelling == TMB_SPELL_NATIVE) return TMB_OK; /* a source, run in 16 bits */
    if (part != TMB_NO_TENSOR) {
        TRY(tmb_acts_number(a, &a->model->ckpt->tensors[part], &input, err));
        bool divides = stored->spelling == TMB_SPELL_CT && stored->format->act == TMB_ACT_NVFP4;
        if (divides) input = 1.0f / input;
    }
    tmb_acts_set(a, u, stored->format, input);
    return TMB_OK;
}

/* ---- the cache --------------------------------------------------------------------------------
 */

typedef tmb_status (*finder)(void *ctx, const char *name, bool *found, float *scale, tmb_err *err);

static tmb_status cache_scale(const tmb_unit *unit, char which, float *out, finder find, void *ctx,
                              tmb_err *err)
{
    const char *leaf = strrchr(unit->name, '.');
    int parent = leaf ? (int)(leaf - unit->name) + 1 : 0;
    char name[TMB_NAME_MAX + 1];
    bool found = false;
    for (int way = 0; !found && way < 2; way++) {
        int n = way ? snprintf(name, sizeof name, "%.*s%c_scale", parent, unit->name, which)
                    : snprintf(name, sizeof name, "%.*s%c_proj.%c_scale", parent, unit->name, which,
                               which);
        if (n > 0 && n < (int)sizeof name) TRY(find(ctx, name, &found, out, err));
    }
    return TMB_OK;
}

tmb_status tmb_acts_cache(tmb_acts *a, const tmb_json *config, finder find, void *ctx, tmb_err *err)
{
    const tmb_model *m = a->model;
    const tmb_json *scheme = tmb_json_path(config, "quantization_config.kv_cache_scheme");
    if (!scheme || tmb_json_is_null(scheme)) return TMB_OK;
    for (int l = 0; l < m->n_layers; l++)
        a->k[l] = a->v[l] = 1.0f;
    for (uint32_t u = 0; u < m->n_units; u++) {
        const tmb_unit *unit = &m->units[u];
        const char *leaf = strrchr(unit->name, '.');
        if (unit->role != TMB_ROLE_ATTENTION || !leaf || strcmp(leaf, ".k_proj") != 0) continue;
        if (unit->layer < 0 || unit->layer >= m->n_layers) continue;
        TRY(cache_scale(unit, 'k', &a->k[unit->layer], find, ctx, err));
        TRY(cache_scale(unit, 'v', &a->v[unit->layer], find, ctx, err));
    }
    a->any = true;
    return TMB_OK;
}

static tmb_status find_stored(void *ctx, const char *name, bool *found, float *scale, tmb_err *err)
{
    tmb_acts *a = ctx;
    const tmb_tensor *t = tmb_checkpoint_find(a->model->ckpt, name);
    *found = t != NULL;
    return t ? tmb_acts_number(a, t, scale, err) : TMB_OK;
}

tmb_status tmb_acts_open(tmb_acts **out, const tmb_model *model, const tmb_ops *ops, tmb_err *err)
{
    TRY(tmb_acts_new(out, model, ops, err));
    tmb_status status = TMB_OK;
    for (uint32_t u = 0; !status && u < model->n_units; u++)
        status = open_unit(*out, u, err);
    if (!status) status = tmb_acts_cache(*out, model->ckpt->config, find_stored, *out, err);
    if (!status) return TMB_OK;
    tmb_acts_close(*out);
    *out = NULL;
    return status;
}
