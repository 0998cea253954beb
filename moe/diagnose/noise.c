/* noise.c - BF16 results and sums in another order. */
#include "config.h"
#include "moe/diagnose/noise.h"

#include "kernels/base/codec.h"
#include "kernels/cpu/cpu.h"

#include <string.h>

enum { BLOCK = 64 };

static float round_bf16(float x)
{
    return tmb_bf16_to_f32(tmb_f32_to_bf16(x));
}

/* Rows of one packed block times one panel, the K sum in blocks from the last to the first. */
static void panel_backwards(const tmb_nn *nn, float *y, size_t stride, const float *xp, size_t rows,
                            size_t depth, const tmb_packed *w, size_t panel, const float *bias)
{
    float part[TMB_NN_ROWS * TMB_NN_PANEL], sum[TMB_NN_ROWS * TMB_NN_PANEL] = {0};
    size_t column = panel * TMB_NN_PANEL, n = w->out - column, size = w->bf16 ? 2 : 4;
    if (n > TMB_NN_PANEL) n = TMB_NN_PANEL;
    for (size_t left = depth; left;) {
        size_t first = (left - 1) / BLOCK * BLOCK, some = left - first;
        tmb_packed piece = {.out = TMB_NN_PANEL, .in = some, .bf16 = w->bf16};
        piece.values = (char *)w->values + (panel * w->in + first) * TMB_NN_PANEL * size;
        nn->gemm(part, TMB_NN_PANEL, xp + first * TMB_NN_ROWS, rows, some, &piece, 0, 1, NULL);
        for (size_t i = 0; i < rows * TMB_NN_PANEL; i++)
            sum[i] += part[i];
        left = first;
    }
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < n; i++)
            y[r * stride + column + i] =
                round_bf16(sum[r * TMB_NN_PANEL + i] + (bias ? bias[column + i] : 0.0f));
}

static void gemm(float *y, size_t stride, const float *xp, size_t rows, size_t depth,
                 const tmb_packed *w, size_t first, size_t panels, const float *bias)
{
    const tmb_nn *nn = tmb_cpu_nn();
    for (size_t p = first; p < first + panels; p++)
        for (size_t r = 0; r < rows; r += TMB_NN_ROWS)
            panel_backwards(nn, y + r * stride, stride, xp + r * depth,
                            rows - r < TMB_NN_ROWS ? rows - r : TMB_NN_ROWS, depth, w, p, bias);
}

static void add_scaled(float *y, const float *x, float scale, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = round_bf16(y[i] + x[i] * scale);
}

tmb_nn tmb_noise_nn(const tmb_nn *base)
{
    tmb_nn nn = *base;
    nn.name = "bf16";
    nn.gemm = gemm;
    nn.add_scaled = add_scaled;
    return nn;
}

static tmb_status on_activation(void *ctx, const tmb_linear_seen *seen, float *y, bool *changed,
                                tmb_err *err)
{
    const tmb_hooks *inner = ctx;
    bool done = false;
    if (inner->activation) TRY(inner->activation(inner->ctx, seen, y, &done, err));
    for (size_t i = 0; i < seen->rows * seen->in; i++)
        y[i] = round_bf16(done ? y[i] : seen->x[i]);
    *changed = true;
    return TMB_OK;
}

static tmb_status on_kv(void *ctx, const tmb_kv_seen *seen, float *k, float *v, tmb_err *err)
{
    const tmb_hooks *inner = ctx;
    if (inner->kv) TRY(inner->kv(inner->ctx, seen, k, v, err));
    for (size_t i = 0; i < seen->tokens * seen->k_width; i++)
        k[i] = round_bf16(k[i]);
    for (size_t i = 0; v && i < seen->tokens * seen->v_width; i++)
        v[i] = round_bf16(v[i]);
    return TMB_OK;
}

static tmb_status on_weight(void *ctx, tmb_reader *reader, const tmb_unit *unit, uint64_t row,
                            size_t rows, float *y, tmb_err *err)
{
    const tmb_hooks *inner = ctx;
    return inner->weight(inner->ctx, reader, unit, row, rows, y, err);
}

static tmb_status on_vector(void *ctx, const tmb_tensor *tensor, uint64_t first, uint64_t step,
                            size_t n, float *values, tmb_err *err)
{
    const tmb_hooks *inner = ctx;
    return inner->vector(inner->ctx, tensor, first, step, n, values, err);
}

static tmb_status on_route(void *ctx, const tmb_router_seen *seen, uint32_t *chosen, bool *changed,
                           tmb_err *err)
{
    const tmb_hooks *inner = ctx;
    return inner->route(inner->ctx, seen, chosen, changed, err);
}

tmb_hooks tmb_noise_hooks(tmb_hooks *inner)
{
    tmb_hooks h = {.activation = on_activation, .kv = on_kv, .ctx = inner};
    if (inner->weight) h.weight = on_weight;
    if (inner->vector) h.vector = on_vector;
    if (inner->route) h.route = on_route;
    return h;
}

const char *tmb_noise_about(void)
{
    return "the reference once more, as a 16-bit engine computes it: inputs and outputs of every "
           "Linear, the residual stream, keys and values rounded to BF16, sums over a Linear's "
           "inputs in blocks of 64 from the last to the first";
}
