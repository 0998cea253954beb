/* acts.c - the inputs of Linears rounded as kernels round them. */
#include "config.h"
#include "moe/eval/acts.h"

#include "moe/format/formats.h"
#include "moe/io/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const float fp8_max = 448.0f;

struct tmb_acts {
    const tmb_model *model;
    const tmb_ops *ops;
    const tmb_format *nvfp4, *mxfp8;
    uint8_t *act; /* [n_units] tmb_act */
    float *input; /* [n_units] scale; 0: none stored */
    float *k, *v; /* [n_layers] scale of the cache; 0: it is not quantized */
    bool any;
    uint8_t *codes, *scales; /* scratch for TMB_TILE_ROWS rows of `room` columns */
    float *work;
    size_t room;
};

/* --- opening -------------------------------------------------------------------------------- */

static tmb_status read_scale(const tmb_acts *a, const tmb_tensor *t, float *scale, tmb_err *err)
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
    uint32_t part = unit->stored.part[TMB_PART_INPUT];
    a->act[u] = TMB_ACT_NONE;
    if (!unit->linear || !unit->stored.format || unit->broken) return TMB_OK;
    if (unit->stored.spelling == TMB_SPELL_NATIVE) return TMB_OK; /* a source, run in 16 bits */
    a->act[u] = (uint8_t)unit->stored.format->act;
    if (part != TMB_NO_TENSOR) {
        TRY(read_scale(a, &a->model->ckpt->tensors[part], &a->input[u], err));
        bool divides = unit->stored.spelling == TMB_SPELL_CT && a->act[u] == TMB_ACT_NVFP4;
        if (divides) a->input[u] = 1.0f / a->input[u];
    }
    if (a->act[u] == TMB_ACT_STATIC && part == TMB_NO_TENSOR) a->act[u] = TMB_ACT_TOKEN;
    if (a->act[u] == TMB_ACT_NVFP4 && part == TMB_NO_TENSOR) a->input[u] = 1.0f;
    a->any = a->any || a->act[u] != TMB_ACT_NONE;
    return TMB_OK;
}

static tmb_status cache_scale(tmb_acts *a, const tmb_unit *unit, char which, float *out,
                              tmb_err *err)
{
    const char *leaf = strrchr(unit->name, '.');
    int parent = leaf ? (int)(leaf - unit->name) + 1 : 0;
    char name[TMB_NAME_MAX + 1];
    const tmb_tensor *t = NULL;
    for (int way = 0; !t && way < 2; way++) {
        int n = way ? snprintf(name, sizeof name, "%.*s%c_scale", parent, unit->name, which)
                    : snprintf(name, sizeof name, "%.*s%c_proj.%c_scale", parent, unit->name, which,
                               which);
        if (n > 0 && n < (int)sizeof name) t = tmb_checkpoint_find(a->model->ckpt, name);
    }
    return t ? read_scale(a, t, out, err) : TMB_OK;
}

/* A cache is quantized when the configuration says so; where no scale is stored it is 1. */
static tmb_status open_cache(tmb_acts *a, tmb_err *err)
{
    const tmb_model *m = a->model;
    const tmb_json *scheme = tmb_json_path(m->ckpt->config, "quantization_config.kv_cache_scheme");
    if (!scheme || tmb_json_is_null(scheme)) return TMB_OK;
    for (int l = 0; l < m->n_layers; l++)
        a->k[l] = a->v[l] = 1.0f;
    for (uint32_t u = 0; u < m->n_units; u++) {
        const tmb_unit *unit = &m->units[u];
        const char *leaf = strrchr(unit->name, '.');
        if (unit->role != TMB_ROLE_ATTENTION || !leaf || strcmp(leaf, ".k_proj") != 0) continue;
        if (unit->layer < 0 || unit->layer >= m->n_layers) continue;
        TRY(cache_scale(a, unit, 'k', &a->k[unit->layer], err));
        TRY(cache_scale(a, unit, 'v', &a->v[unit->layer], err));
    }
    a->any = true;
    return TMB_OK;
}

tmb_status tmb_acts_open(tmb_acts **out, const tmb_model *model, const tmb_ops *ops, tmb_err *err)
{
    size_t layers = model->n_layers > 0 ? (size_t)model->n_layers : 0;
    tmb_acts *a = calloc(1, sizeof *a);
    *out = NULL;
    if (!a) return tmb_fail_memory(err, sizeof *a, "activations");
    a->model = model;
    a->ops = ops;
    a->nvfp4 = tmb_format_find("nvfp4");
    a->mxfp8 = tmb_format_find("mxfp8");
    a->act = calloc(model->n_units + 1, 1);
    a->input = calloc(model->n_units + 1, sizeof *a->input);
    a->k = calloc(layers + 1, sizeof *a->k);
    a->v = calloc(layers + 1, sizeof *a->v);
    tmb_status status = a->act && a->input && a->k && a->v
                            ? TMB_OK
                            : tmb_fail_memory(err, model->n_units * 5, "activations");
    for (uint32_t u = 0; !status && u < model->n_units; u++)
        status = open_unit(a, u, err);
    if (!status) status = open_cache(a, err);
    if (status) {
        tmb_acts_close(a);
        a = NULL;
    }
    *out = a;
    return status;
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

/* --- rounding ------------------------------------------------------------------------------- */

static tmb_status scratch(tmb_acts *a, size_t cols, tmb_err *err)
{
    if (cols <= a->room) return TMB_OK;
    free(a->codes);
    free(a->scales);
    free(a->work);
    a->room = 0;
    a->codes = malloc(TMB_TILE_ROWS * cols);
    a->scales = malloc(TMB_TILE_ROWS * (cols / 16 + 1));
    a->work = malloc(tmb_format_work(cols) * sizeof *a->work);
    if (!a->codes || !a->scales || !a->work)
        return tmb_fail_memory(err, TMB_TILE_ROWS * cols * 2, "rounded activations");
    a->room = cols;
    return TMB_OK;
}

/* y [n] = x [n] in E4M3 under one scale. */
static void round_fp8(tmb_acts *a, float *y, const float *x, size_t n, float scale)
{
    for (size_t at = 0; at < n; at += a->room) {
        size_t some = n - at < a->room ? n - at : a->room;
        a->ops->encode_e4m3(a->codes, x + at, &scale, 1, some);
        a->ops->decode_e4m3(y + at, a->codes, &scale, 1, some);
    }
}

static float scale_of(const tmb_acts *a, const float *x, size_t n)
{
    float amax = a->ops->amax(x, n);
    return amax > 0 ? amax / fp8_max : 1.0f;
}

static void round_format(tmb_acts *a, const tmb_format *f, float *y, const float *x, size_t rows,
                         size_t cols, float global)
{
    for (size_t at = 0; at < rows; at += TMB_TILE_ROWS) {
        size_t n = rows - at < TMB_TILE_ROWS ? rows - at : TMB_TILE_ROWS;
        f->encode(f, a->ops, TMB_SCALE_MAX, x + at * cols, n, cols, global, a->codes, a->scales,
                  a->work);
        f->decode(f, a->ops, y + at * cols, n, cols, a->codes, a->scales, global, a->work);
    }
}

static tmb_status on_activation(void *ctx, const tmb_linear_seen *seen, float *y, bool *changed,
                                tmb_err *err)
{
    tmb_acts *a = ctx;
    size_t in = (size_t)seen->in;
    uint32_t u = seen->n_units ? seen->units[0] : TMB_NONE;
    if (u == TMB_NONE || a->act[u] == TMB_ACT_NONE) return TMB_OK;
    TRY(scratch(a, in, err));
    *changed = true;
    switch ((tmb_act)a->act[u]) {
    case TMB_ACT_STATIC:
        round_fp8(a, y, seen->x, seen->rows * in, a->input[u]);
        break;
    case TMB_ACT_NVFP4:
        round_format(a, a->nvfp4, y, seen->x, seen->rows, in, a->input[u]);
        break;
    case TMB_ACT_MX:
        round_format(a, a->mxfp8, y, seen->x, seen->rows, in, 1.0f);
        break;
    case TMB_ACT_TOKEN:
    case TMB_ACT_GROUP128:
        for (size_t r = 0; r < seen->rows; r++) {
            size_t step = a->act[u] == TMB_ACT_TOKEN ? in : 128;
            for (size_t c = 0; c < in; c += step) {
                const float *x = seen->x + r * in + c;
                size_t n = in - c < step ? in - c : step;
                round_fp8(a, y + r * in + c, x, n, scale_of(a, x, n));
            }
        }
        break;
    default:
        *changed = false;
    }
    return TMB_OK;
}

static tmb_status on_kv(void *ctx, const tmb_kv_seen *seen, float *k, float *v, tmb_err *err)
{
    tmb_acts *a = ctx;
    if (seen->layer < 0 || seen->layer >= a->model->n_layers || !(a->k[seen->layer] > 0))
        return TMB_OK;
    TRY(scratch(a, seen->k_width, err));
    round_fp8(a, k, k, seen->tokens * seen->k_width, a->k[seen->layer]);
    if (v) round_fp8(a, v, v, seen->tokens * seen->v_width, a->v[seen->layer]);
    return TMB_OK;
}

tmb_hooks tmb_acts_hooks(tmb_acts *acts)
{
    return (tmb_hooks){.activation = on_activation, .kv = on_kv, .ctx = acts};
}
