/* nn_vector.h - the body of a vector table of nn.h, included once by each instruction set's file.
 *
 * The includer has defined sixteen lanes of float32 (v16), the few operations on them that are used
 * here, tile(), the innermost loop of gemm, and turn12(), which puts sixteen columns of twelve rows
 * column by column.  TABLE and NAME say what the table is called. */
#include "kernels/base/codec.h"
#include "kernels/cpu/nn_exp.h"
#include "kernels/cpu/tables.h"

#include <math.h>
#include <string.h>

enum { LANES = 16, PANEL = TMB_NN_PANEL, ROWS = TMB_NN_ROWS, DEPTH = TMB_NN_DEPTH };

static inline size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Up to sixteen elements, of which n >= 1 are there; the others are zero. */
static inline v16 load_some(const float *p, size_t n)
{
    if (n >= LANES) return v_load(p);
    float lane[LANES] = {0};
    memcpy(lane, p, n * sizeof *p);
    return v_load(lane);
}

static inline void store_some(float *p, v16 x, size_t n)
{
    if (n >= LANES) {
        v_store(p, x);
        return;
    }
    float lane[LANES];
    v_store(lane, x);
    memcpy(p, lane, n * sizeof *p);
}

/* ------------------------------------------------------------------ packing */

/* to [n, wide] = the transpose of x [rows, n], rows <= wide, missing rows zero. */
static inline void turn(float *to, const float *x, size_t rows, size_t wide, size_t n,
                        size_t stride)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t k = 0; k < n; k++)
            to[k * wide + r] = x[r * stride + k];
    for (size_t r = rows; r < wide; r++)
        for (size_t k = 0; k < n; k++)
            to[k * wide + r] = 0.0f;
}

static inline void narrow(uint16_t *to, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (uint16_t)(tmb_f32_bits(x[i]) >> 16);
}

static void pack(const tmb_packed *to, size_t first, const float *w, size_t rows, size_t stride)
{
    enum { SOME = 16 }; /* a block of that many k stays in the first cache while it is turned */
    for (size_t r = 0; r < rows; r += PANEL, first++) {
        size_t base = first * to->in * PANEL, n = min_size(rows - r, PANEL);
        for (size_t k = 0; k < to->in; k += SOME) {
            size_t some = min_size(to->in - k, SOME), at = base + k * PANEL;
            const float *from = w + r * stride + k;
            if (to->bf16) {
                float block[SOME * PANEL];
                turn(block, from, n, PANEL, some, stride);
                narrow((uint16_t *)to->values + at, block, some * PANEL);
            } else {
                turn((float *)to->values + at, from, n, PANEL, some, stride);
            }
        }
    }
}

static void pack_turned(const tmb_packed *to, const float *w, size_t stride)
{
    for (size_t k = 0; k < to->in; k++, w += stride) {
        for (size_t o = 0; o < to->out; o += PANEL) {
            size_t at = (o / PANEL * to->in + k) * PANEL, n = min_size(to->out - o, PANEL);
            float line[PANEL] = {0};
            memcpy(line, w + o, n * sizeof *w);
            if (to->bf16)
                narrow((uint16_t *)to->values + at, line, PANEL);
            else
                memcpy((float *)to->values + at, line, sizeof line);
        }
    }
}

static void pack_rows(float *xp, const float *x, size_t rows, size_t in, size_t stride)
{
    for (size_t r = 0; r < rows; r += ROWS)
        for (size_t k = 0; k < in; k += LANES) {
            float *to = xp + (r * in + k * ROWS);
            const float *from = x + r * stride + k;
            if (rows - r >= ROWS && in - k >= LANES)
                turn12(to, from, stride);
            else
                turn(to, from, min_size(rows - r, ROWS), ROWS, min_size(in - k, LANES), stride);
        }
}

/* ------------------------------------------------------------------ gemm */

/* The block of panel p that begins at k, as float32; work is used when it is stored narrow. */
static inline const float *widen(float *work, const tmb_packed *w, size_t p, size_t k, size_t depth)
{
    size_t at = (p * w->in + k) * PANEL;
    if (!w->bf16) return (const float *)w->values + at;
    const uint16_t *from = (const uint16_t *)w->values + at;
    for (size_t i = 0; i < depth * PANEL; i += LANES)
        v_store(work + i, v_load_bf16(from + i));
    return work;
}

/* y [rows, columns] = or += sum [ROWS, PANEL]. */
static inline void settle(float *y, size_t stride, const float *sum, size_t rows, size_t columns,
                          bool more, const float *bias)
{
    for (size_t r = 0; r < rows; r++, y += stride, sum += PANEL)
        for (size_t o = 0; o < columns; o += LANES) {
            size_t n = columns - o;
            v16 v = v_load(sum + o);
            if (more) v = v_add(load_some(y + o, n), v);
            if (bias) v = v_add(v, load_some(bias + o, n));
            store_some(y + o, v, n);
        }
}

static void gemm(float *y, size_t stride, const float *xp, size_t rows, size_t depth,
                 const tmb_packed *w, size_t first, size_t panels, const float *bias)
{
    _Alignas(64) float work[DEPTH * PANEL], sum[ROWS * PANEL];
    for (size_t k = 0; k == 0 || k < depth; k += DEPTH) {
        size_t some = min_size(depth - k, DEPTH);
        bool last = depth - k <= DEPTH;
        for (size_t p = first; p < first + panels; p++) {
            const float *block = widen(work, w, p, k, some);
            size_t o = p * PANEL, columns = min_size(w->out - o, PANEL);
            for (size_t r = 0; r < rows; r += ROWS) {
                size_t n = min_size(rows - r, ROWS);
                tile(sum, xp + r * depth + k * ROWS, block, some, n);
                settle(y + r * stride + o, stride, sum, n, columns, k > 0,
                       last && bias ? bias + o : NULL);
            }
        }
    }
}

/* ------------------------------------------------------------------ rows */

static inline float fold(v16 x)
{
    float lane[LANES];
    v_store(lane, x);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++)
            lane[i] += lane[i + half];
    return lane[0];
}

static void rms_norm(float *y, const float *x, const float *weight, size_t n, float eps)
{
    v16 sum = v_set(0);
    for (size_t i = 0; i < n; i += LANES) {
        v16 v = load_some(x + i, n - i);
        sum = v_fma(v, v, sum);
    }
    v16 r = v_set(1.0f / sqrtf(fold(sum) / (float)n + eps));
    for (size_t i = 0; i < n; i += LANES) {
        v16 v = v_mul(load_some(x + i, n - i), r);
        if (weight) v = v_mul(v, load_some(weight + i, n - i));
        store_some(y + i, v, n - i);
    }
}

static void add_scaled(float *y, const float *x, float scale, size_t n)
{
    v16 s = v_set(scale);
    for (size_t i = 0; i < n; i += LANES)
        store_some(y + i, v_fma(load_some(x + i, n - i), s, load_some(y + i, n - i)), n - i);
}

static void scale_all(float *y, const float *x, float scale, size_t n)
{
    v16 s = v_set(scale);
    for (size_t i = 0; i < n; i += LANES)
        store_some(y + i, v_mul(load_some(x + i, n - i), s), n - i);
}

static inline v16 exp_of(v16 x)
{
    x = v_min(v_set(TMB_EXP_HIGHEST), v_max(v_set(TMB_EXP_LOWEST), x));
    v16 rounded = v_add(v_mul(x, v_set(TMB_EXP_LOG2E)), v_set(TMB_EXP_ROUND));
    v16 n = v_sub(rounded, v_set(TMB_EXP_ROUND));
    v16 r = v_fma(n, v_set(-TMB_EXP_LN2_LO), v_fma(n, v_set(-TMB_EXP_LN2_HI), x));
    v16 p = v_fma(v_set(TMB_EXP_P0), r, v_set(TMB_EXP_P1));
    p = v_fma(p, r, v_set(TMB_EXP_P2));
    p = v_fma(p, r, v_set(TMB_EXP_P3));
    p = v_fma(p, r, v_set(TMB_EXP_P4));
    p = v_fma(p, r, v_set(TMB_EXP_P5));
    p = v_add(v_fma(p, v_mul(r, r), r), v_set(1.0f));
    return v_mul(p, v_power(rounded, (int)TMB_EXP_BIAS));
}

static inline float exp_one(float x)
{
    float lane[LANES];
    v_store(lane, exp_of(v_set(x)));
    return lane[0];
}

static void softmax(float *x, size_t n, size_t from, size_t to, float scale, const float *sink)
{
    size_t count = to - from;
    float *seen = x + from, lane[LANES], top = sink ? *sink : -INFINITY;
    v16 s = v_set(scale), best = v_set(-INFINITY), sum = v_set(0);
    for (size_t i = 0; i < count; i += LANES) {
        v16 v = v_mul(load_some(seen + i, count - i), s);
        store_some(seen + i, v, count - i);
        if (count - i >= LANES) best = v_max(v, best);
    }
    for (size_t i = count / LANES * LANES; i < count; i++)
        top = seen[i] > top ? seen[i] : top;
    v_store(lane, best);
    for (int i = 0; i < LANES; i++)
        top = lane[i] > top ? lane[i] : top;

    memset(x, 0, from * sizeof *x);
    memset(x + to, 0, (n - to) * sizeof *x);
    for (size_t i = 0; i < count; i += LANES)
        store_some(seen + i, exp_of(v_sub(load_some(seen + i, count - i), v_set(top))), count - i);
    for (size_t i = from / LANES * LANES; i < to; i += LANES)
        sum = v_add(sum, load_some(x + i, n - i));
    float total = fold(sum);
    if (sink) total += exp_one(*sink - top);
    for (size_t i = 0; i < count; i += LANES)
        store_some(seen + i, v_div(load_some(seen + i, count - i), v_set(total)), count - i);
}

/* x / (1 + exp(-a)) */
static inline v16 gated(v16 x, v16 a)
{
    return v_div(x, v_add(v_set(1.0f), exp_of(v_sub(v_set(0), a))));
}

static void sigmoid(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i += LANES)
        store_some(y + i, gated(v_set(1.0f), load_some(x + i, n - i)), n - i);
}

static void swiglu(float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i += LANES) {
        v16 g = load_some(gate + i, n - i);
        store_some(gate + i, v_mul(gated(g, g), load_some(up + i, n - i)), n - i);
    }
}

static void swiglu_clamped(float *gate, const float *up, size_t n, float alpha, float limit)
{
    for (size_t i = 0; i < n; i += LANES) {
        v16 g = v_min(load_some(gate + i, n - i), v_set(limit));
        v16 u = v_max(v_min(load_some(up + i, n - i), v_set(limit)), v_set(-limit));
        v16 a = gated(g, v_mul(v_set(alpha), g));
        store_some(gate + i, v_mul(v_add(u, v_set(1.0f)), a), n - i);
    }
}

static void silu(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i += LANES) {
        v16 v = load_some(x + i, n - i);
        store_some(y + i, gated(v, v), n - i);
    }
}

static void gate_all(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i += LANES)
        store_some(y + i, gated(load_some(y + i, n - i), load_some(x + i, n - i)), n - i);
}

/* max(x, 0); of a zero and a NaN the second operand, as the reference has it. */
static inline v16 relu(v16 x)
{
    return v_max(x, v_set(0));
}

static void relu2(float *x, size_t n)
{
    for (size_t i = 0; i < n; i += LANES) {
        v16 r = relu(load_some(x + i, n - i));
        store_some(x + i, v_mul(r, r), n - i);
    }
}

static void add_relu(float *y, const float *x, float scale, size_t n)
{
    v16 s = v_set(scale);
    for (size_t i = 0; i < n; i += LANES)
        store_some(y + i, v_fma(relu(load_some(x + i, n - i)), s, load_some(y + i, n - i)), n - i);
}

static void exp_all(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i += LANES)
        store_some(y + i, exp_of(load_some(x + i, n - i)), n - i);
}

static void taps_of(float *y, const float *x, size_t step, const float *w, size_t taps,
                    const float *bias, size_t n)
{
    for (size_t c = 0; c < n; c += LANES) {
        size_t some = n - c;
        v16 sum = bias ? load_some(bias + c, some) : v_set(0);
        for (size_t i = 0; i < taps; i++)
            sum = v_fma(load_some(w + i * n + c, some), load_some(x + i * step + c, some), sum);
        store_some(y + c, sum, some);
    }
}

/* Columns in stripes of 4, so that their chains of sums run beside each other. */
static void solve(float *y, size_t stride, const float *m, size_t rows, size_t n)
{
    size_t c = 0;
    for (; c + 4 * LANES <= n; c += 4 * LANES)
        for (size_t i = 1; i < rows; i++) {
            float *to = y + i * stride + c;
            const float *line = m + i * rows, *from = y + c;
            v16 p = v_load(to), q = v_load(to + 16), r = v_load(to + 32), s = v_load(to + 48);
            for (size_t j = 0; j < i; j++, from += stride) {
                v16 by = v_set(-line[j]);
                p = v_fma(by, v_load(from), p);
                q = v_fma(by, v_load(from + 16), q);
                r = v_fma(by, v_load(from + 32), r);
                s = v_fma(by, v_load(from + 48), s);
            }
            v_store(to, p);
            v_store(to + 16, q);
            v_store(to + 32, r);
            v_store(to + 48, s);
        }
    for (; c < n; c += LANES)
        for (size_t i = 1; i < rows; i++) {
            v16 sum = load_some(y + i * stride + c, n - c);
            for (size_t j = 0; j < i; j++)
                sum = v_fma(v_set(-m[i * rows + j]), load_some(y + j * stride + c, n - c), sum);
            store_some(y + i * stride + c, sum, n - c);
        }
}

static void rotate(float *x, const float *cos, const float *sin, size_t half, bool paired)
{
    if (paired) {
        for (size_t i = 0; i < half; i++) {
            float a = x[2 * i], b = x[2 * i + 1];
            x[2 * i] = a * cos[i] - b * sin[i];
            x[2 * i + 1] = b * cos[i] + a * sin[i];
        }
        return;
    }
    for (size_t i = 0; i < half; i += LANES) {
        size_t n = half - i;
        v16 a = load_some(x + i, n), b = load_some(x + half + i, n);
        v16 c = load_some(cos + i, n), s = load_some(sin + i, n);
        store_some(x + i, v_sub(v_mul(a, c), v_mul(b, s)), n);
        store_some(x + half + i, v_add(v_mul(b, c), v_mul(a, s)), n);
    }
}

const tmb_nn TABLE = {
    .name = NAME,
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
