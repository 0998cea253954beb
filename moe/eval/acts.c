/* acts.c - the inputs of Linears rounded as kernels round them. */
#include "config.h"
#include "moe/eval/acts_facts.h"

#include <stdlib.h>

static const float fp8_max = 448.0f;

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
