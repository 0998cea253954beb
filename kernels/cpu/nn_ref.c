/* nn_ref.c - the reference of nn.h: plain C, one element at a time, in the order the header tells.
 */
#include "config.h"
#include "kernels/base/codec.h"
#include "kernels/cpu/nn_exp.h"
#include "kernels/cpu/tables.h"

#include <math.h>

enum { LANES = 16, PANEL = TMB_NN_PANEL, ROWS = TMB_NN_ROWS, DEPTH = TMB_NN_DEPTH };

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static void put(const tmb_packed *to, size_t at, float value)
{
    if (to->bf16)
        ((uint16_t *)to->values)[at] = (uint16_t)(tmb_f32_bits(value) >> 16);
    else
        ((float *)to->values)[at] = value;
}

static float get(const tmb_packed *w, size_t at)
{
    return w->bf16 ? tmb_f32_from_bits((uint32_t)((const uint16_t *)w->values)[at] << 16)
                   : ((const float *)w->values)[at];
}

static void pack(const tmb_packed *to, size_t first, const float *w, size_t rows, size_t stride)
{
    size_t room = (rows + PANEL - 1) / PANEL * PANEL;
    for (size_t r = 0; r < room; r++) {
        size_t base = (first + r / PANEL) * to->in * PANEL + r % PANEL;
        for (size_t k = 0; k < to->in; k++)
            put(to, base + k * PANEL, r < rows ? w[r * stride + k] : 0.0f);
    }
}

static void pack_turned(const tmb_packed *to, const float *w, size_t stride)
{
    size_t room = tmb_packed_panels(to->out) * PANEL;
    for (size_t k = 0; k < to->in; k++)
        for (size_t o = 0; o < room; o++)
            put(to, (o / PANEL * to->in + k) * PANEL + o % PANEL,
                o < to->out ? w[k * stride + o] : 0.0f);
}

static void pack_rows(float *xp, const float *x, size_t rows, size_t in, size_t stride)
{
    for (size_t r = 0; r < (rows + ROWS - 1) / ROWS * ROWS; r++)
        for (size_t k = 0; k < in; k++)
            xp[(r / ROWS * in + k) * ROWS + r % ROWS] = r < rows ? x[r * stride + k] : 0.0f;
}

static float dot(const float *xp, const tmb_packed *w, size_t at, size_t depth)
{
    float sum = 0;
    for (size_t k = 0; k < depth; k++)
        sum = fmaf(xp[k * ROWS], get(w, at + k * PANEL), sum);
    return sum;
}

static void gemm(float *y, size_t stride, const float *xp, size_t rows, size_t depth,
                 const tmb_packed *w, size_t first, size_t panels, const float *bias)
{
    size_t end = min_size((first + panels) * PANEL, w->out);
    for (size_t r = 0; r < rows; r++) {
        const float *x = xp + r / ROWS * depth * ROWS + r % ROWS;
        for (size_t o = first * PANEL; o < end; o++) {
            size_t at = o / PANEL * w->in * PANEL + o % PANEL;
            float sum = dot(x, w, at, min_size(depth, DEPTH));
            for (size_t k = DEPTH; k < depth; k += DEPTH)
                sum += dot(x + k * ROWS, w, at + k * PANEL, min_size(depth - k, DEPTH));
            y[r * stride + o] = bias ? sum + bias[o] : sum;
        }
    }
}

static float fold(float lane[LANES])
{
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++)
            lane[i] += lane[i + half];
    return lane[0];
}

static void rms_norm(float *y, const float *x, const float *weight, size_t n, float eps)
{
    float lane[LANES] = {0};
    for (size_t i = 0; i < n; i++)
        lane[i % LANES] = fmaf(x[i], x[i], lane[i % LANES]);
    float r = 1.0f / sqrtf(fold(lane) / (float)n + eps);
    for (size_t i = 0; i < n; i++)
        y[i] = weight ? x[i] * r * weight[i] : x[i] * r;
}

static void add_scaled(float *y, const float *x, float scale, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = fmaf(x[i], scale, y[i]);
}

static void scale_all(float *y, const float *x, float scale, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] * scale;
}

static float exp_of(float x)
{
    x = x < TMB_EXP_LOWEST ? TMB_EXP_LOWEST : x;
    x = x > TMB_EXP_HIGHEST ? TMB_EXP_HIGHEST : x;
    float rounded = x * TMB_EXP_LOG2E + TMB_EXP_ROUND, n = rounded - TMB_EXP_ROUND;
    float r = fmaf(n, -TMB_EXP_LN2_LO, fmaf(n, -TMB_EXP_LN2_HI, x));
    float p = fmaf(TMB_EXP_P0, r, TMB_EXP_P1);
    p = fmaf(p, r, TMB_EXP_P2);
    p = fmaf(p, r, TMB_EXP_P3);
    p = fmaf(p, r, TMB_EXP_P4);
    p = fmaf(p, r, TMB_EXP_P5);
    p = fmaf(p, r * r, r) + 1.0f;
    return p * tmb_f32_from_bits((tmb_f32_bits(rounded) + TMB_EXP_BIAS) << 23);
}

static void softmax(float *x, size_t n, size_t from, size_t to, float scale, const float *sink)
{
    float top = sink ? *sink : -INFINITY, lane[LANES] = {0};
    for (size_t i = from; i < to; i++) {
        x[i] *= scale;
        top = x[i] > top ? x[i] : top;
    }
    for (size_t i = 0; i < n; i++) {
        x[i] = i >= from && i < to ? exp_of(x[i] - top) : 0.0f;
        lane[i % LANES] += x[i];
    }
    float sum = fold(lane);
    if (sink) sum += exp_of(*sink - top);
    for (size_t i = from; i < to; i++)
        x[i] = x[i] / sum;
}

static void sigmoid(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = 1.0f / (1.0f + exp_of(-x[i]));
}

static void swiglu(float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++)
        gate[i] = gate[i] / (1.0f + exp_of(-gate[i])) * up[i];
}

static void swiglu_clamped(float *gate, const float *up, size_t n, float alpha, float limit)
{
    for (size_t i = 0; i < n; i++) {
        float g = gate[i] < limit ? gate[i] : limit;
        float u = up[i] < limit ? up[i] : limit;
        u = u > -limit ? u : -limit;
        gate[i] = (u + 1.0f) * (g / (1.0f + exp_of(-(alpha * g))));
    }
}

static void silu(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] / (1.0f + exp_of(-x[i]));
}

static void gate_all(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = y[i] / (1.0f + exp_of(-x[i]));
}

static void relu2(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float r = x[i] > 0 ? x[i] : 0;
        x[i] = r * r;
    }
}

static void add_relu(float *y, const float *x, float scale, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = fmaf(x[i] > 0 ? x[i] : 0, scale, y[i]);
}

static void exp_all(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = exp_of(x[i]);
}

static void taps_of(float *y, const float *x, size_t step, const float *w, size_t taps,
                    const float *bias, size_t n)
{
    for (size_t c = 0; c < n; c++) {
        float sum = bias ? bias[c] : 0;
        for (size_t i = 0; i < taps; i++)
            sum = fmaf(w[i * n + c], x[i * step + c], sum);
        y[c] = sum;
    }
}

static void solve(float *y, size_t stride, const float *m, size_t rows, size_t n)
{
    for (size_t i = 1; i < rows; i++)
        for (size_t c = 0; c < n; c++) {
            float sum = y[i * stride + c];
            for (size_t j = 0; j < i; j++)
                sum = fmaf(-m[i * rows + j], y[j * stride + c], sum);
            y[i * stride + c] = sum;
        }
}

static void rotate(float *x, const float *cos, const float *sin, size_t half, bool paired)
{
    for (size_t i = 0; i < half; i++) {
        float *a = paired ? x + 2 * i : x + i, *b = paired ? a + 1 : a + half;
        float p = *a * cos[i] - *b * sin[i], q = *b * cos[i] + *a * sin[i];
        *a = p;
        *b = q;
    }
}

const tmb_nn tmb_nn_ref = {
    .name = "ref",
    .pack = pack,
    .pack_turned = pack_turned,
    .pack_rows = pack_rows,
    .gemm = gemm,
    .rms_norm = rms_norm,
    .add_scaled = add_scaled,
    .scale = scale_all,
    .softmax = softmax,
    .sigmoid = sigmoid,
    .swiglu = swiglu,
    .swiglu_clamped = swiglu_clamped,
    .silu = silu,
    .gate = gate_all,
    .relu2 = relu2,
    .add_relu = add_relu,
    .exp = exp_all,
    .taps = taps_of,
    .solve = solve,
    .rotate = rotate,
};
