/* The network operations: the reference against double precision, every vector table against the
 * reference byte for byte, and a row's result against the same row among others. */
#include "config.h"
#include "kernels/base/codec.h"
#include "kernels/cpu/cpu.h"
#include "tests/tap.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

static uint64_t seed = 1;

static float next_random(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (float)((int32_t)(seed >> 32)) * 0x1p-31f;
}

static float *numbers(size_t n, float size)
{
    float *x = malloc((n + 1) * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = next_random() * size;
    return x;
}

static float *copy_of(const float *x, size_t n)
{
    float *y = malloc((n + 1) * sizeof *y);
    memcpy(y, x, n * sizeof *y);
    return y;
}

/* ||got - want|| / ||want|| */
static double distance(const float *got, const double *want, size_t n)
{
    double d = 0, s = 1e-300;
    for (size_t i = 0; i < n; i++) {
        d += (got[i] - want[i]) * (got[i] - want[i]);
        s += want[i] * want[i];
    }
    return sqrt(d / s);
}

static tmb_packed room(size_t out, size_t in, bool bf16)
{
    size_t n = tmb_packed_panels(out) * TMB_NN_PANEL * in;
    return (tmb_packed){malloc(n * (bf16 ? 2 : 4) + 1), out, in, bf16};
}

static float *packed_rows(const tmb_nn *nn, const float *x, size_t rows, size_t in, size_t stride)
{
    float *xp = malloc(((rows + TMB_NN_ROWS) * in + 1) * sizeof *xp);
    nn->pack_rows(xp, x, rows, in, stride);
    return xp;
}

/* y [rows, out] of x and w, w packed as it is or turned. */
static float *product(const tmb_nn *nn, const float *x, size_t rows, size_t in, const float *w,
                      size_t out, bool bf16, bool turned, const float *bias)
{
    tmb_packed p = room(out, in, bf16);
    if (turned)
        nn->pack_turned(&p, w, out);
    else
        nn->pack(&p, 0, w, out, in);
    float *xp = packed_rows(nn, x, rows, in, in), *y = malloc((rows * out + 1) * sizeof *y);
    nn->gemm(y, out, xp, rows, in, &p, 0, tmb_packed_panels(out), bias);
    free(p.values);
    free(xp);
    return y;
}

static void check_product(const tmb_nn *nn, size_t rows, size_t in, size_t out, bool bf16)
{
    float *x = numbers(rows * in, 1), *w = numbers(out * in, 1), *bias = numbers(out, 1);
    float *t = malloc(out * in * sizeof *t);
    double *want = calloc(rows * out, sizeof *want);
    for (size_t i = 0; bf16 && i < out * in; i++)
        w[i] = tmb_f32_from_bits(tmb_f32_bits(w[i]) & 0xffff0000u);
    for (size_t o = 0; o < out; o++)
        for (size_t k = 0; k < in; k++)
            t[k * out + o] = w[o * in + k];
    for (size_t r = 0; r < rows; r++)
        for (size_t o = 0; o < out; o++) {
            want[r * out + o] = bias[o];
            for (size_t k = 0; k < in; k++)
                want[r * out + o] += (double)x[r * in + k] * w[o * in + k];
        }
    float *y = product(nn, x, rows, in, w, out, bf16, false, bias);
    float *ref = product(tmb_cpu_nn_at(0), x, rows, in, w, out, false, false, bias);
    float *turned = product(nn, x, rows, in, t, out, bf16, true, bias);
    double d = distance(y, want, rows * out);
    ok(d < 1e-6, "%s: gemm %zux%zux%zu %s against double: %.1e", nn->name, rows, in, out,
       bf16 ? "bf16" : "f32", d);
    ok(!memcmp(y, ref, rows * out * sizeof *y), "%s: … has the reference's bytes", nn->name);
    ok(!memcmp(y, turned, rows * out * sizeof *y), "%s: … and from a turned weight", nn->name);

    bool same = true;
    for (size_t r = 0; r < rows; r++) {
        float *one = product(nn, x + r * in, 1, in, w, out, bf16, false, bias);
        same &= !memcmp(one, y + r * out, out * sizeof *y);
        free(one);
    }
    ok(same, "%s: … a row alone is the row among others", nn->name);
    void *all[] = {x, w, bias, t, want, y, ref, turned};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

/* Zeros past some k, and a smaller depth, are the same thing: what attention relies on. */
static void check_depth(const tmb_nn *nn)
{
    enum { ROWS = 5, IN = 700, OUT = 40 };
    bool same = true;
    for (size_t depth = 1; depth < IN; depth += 97) {
        float *x = numbers(ROWS * IN, 1), *w = numbers(OUT * IN, 1);
        for (size_t r = 0; r < ROWS; r++)
            memset(x + r * IN + depth, 0, (IN - depth) * sizeof *x);
        float *whole = product(nn, x, ROWS, IN, w, OUT, false, false, NULL), part[ROWS * OUT];
        tmb_packed p = room(OUT, IN, false);
        nn->pack(&p, 0, w, OUT, IN);
        float *xp = packed_rows(nn, x, ROWS, depth, IN);
        nn->gemm(part, OUT, xp, ROWS, depth, &p, 0, tmb_packed_panels(OUT), NULL);
        same &= !memcmp(whole, part, sizeof part);
        free(x), free(w), free(whole), free(p.values), free(xp);
    }
    ok(same, "%s: a smaller depth is zeros past it", nn->name);
}

static void check_rows(const tmb_nn *nn, size_t n)
{
    const tmb_nn *ref = tmb_cpu_nn_at(0);
    float *x = numbers(n, 5), *w = numbers(n, 2), *y = malloc(n * sizeof *y), *z = copy_of(x, n);
    double *want = malloc(n * sizeof *want), sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    for (size_t i = 0; i < n; i++)
        want[i] = x[i] / sqrt(sum / (double)n + 1e-3) * w[i];
    nn->rms_norm(y, x, w, n, 1e-3f);
    ref->rms_norm(z, x, w, n, 1e-3f);
    ok(distance(y, want, n) < 1e-6 && !memcmp(y, z, n * sizeof *y), "%s: rms_norm of %zu", nn->name,
       n);

    for (size_t i = 0; i < n; i++)
        want[i] = x[i] / (1 + exp(-(double)x[i])) * w[i];
    memcpy(y, x, n * sizeof *y), memcpy(z, x, n * sizeof *z);
    nn->swiglu(y, w, n), ref->swiglu(z, w, n);
    ok(distance(y, want, n) < 1e-6 && !memcmp(y, z, n * sizeof *y), "%s: swiglu of %zu", nn->name,
       n);

    for (size_t i = 0; i < n; i++) {
        double g = fmin(x[i], 1.5), u = fmax(fmin(w[i], 1.5), -1.5);
        want[i] = (u + 1) * g / (1 + exp(-1.702 * g));
    }
    memcpy(y, x, n * sizeof *y), memcpy(z, x, n * sizeof *z);
    nn->swiglu_clamped(y, w, n, 1.702f, 1.5f), ref->swiglu_clamped(z, w, n, 1.702f, 1.5f);
    ok(distance(y, want, n) < 1e-6 && !memcmp(y, z, n * sizeof *y), "%s: swiglu_clamped of %zu",
       nn->name, n);

    for (size_t i = 0; i < n; i++)
        want[i] = 1 / (1 + exp(-(double)x[i]));
    nn->sigmoid(y, x, n), ref->sigmoid(z, x, n);
    ok(distance(y, want, n) < 1e-6 && !memcmp(y, z, n * sizeof *y), "%s: sigmoid of %zu", nn->name,
       n);

    memcpy(y, x, n * sizeof *y), memcpy(z, x, n * sizeof *z);
    for (size_t i = 0; i < n; i++)
        want[i] = x[i] * 0.3 + w[i];
    memcpy(y, w, n * sizeof *y), memcpy(z, w, n * sizeof *z);
    nn->add_scaled(y, x, 0.3f, n), ref->add_scaled(z, x, 0.3f, n);
    bool same = distance(y, want, n) < 1e-6 && !memcmp(y, z, n * sizeof *y);
    nn->scale(y, x, 0.3f, n), ref->scale(z, x, 0.3f, n);
    ok(same && !memcmp(y, z, n * sizeof *y) && y[n - 1] == x[n - 1] * 0.3f,
       "%s: add_scaled and scale of %zu", nn->name, n);
    free(x), free(w), free(y), free(z), free(want);
}

/* One row of an operation and of the reference, against what it should be. */
static void agree(const tmb_nn *nn, const char *name, const float *y, const float *z,
                  const double *want, size_t n)
{
    double d = distance(y, want, n);
    ok(d < 1e-6 && !memcmp(y, z, n * sizeof *y), "%s: %s of %zu: %.1e", nn->name, name, n, d);
}

static void check_gates(const tmb_nn *nn, size_t n)
{
    const tmb_nn *ref = tmb_cpu_nn_at(0);
    float *x = numbers(n, 5), *w = numbers(n, 2), *y = copy_of(w, n), *z = copy_of(w, n);
    double *want = malloc(n * sizeof *want);
    for (size_t i = 0; i < n; i++)
        want[i] = w[i] / (1 + exp(-(double)x[i]));
    nn->gate(y, x, n), ref->gate(z, x, n);
    agree(nn, "gate", y, z, want, n);
    for (size_t i = 0; i < n; i++)
        want[i] = x[i] / (1 + exp(-(double)x[i]));
    nn->silu(y, x, n), ref->silu(z, x, n);
    agree(nn, "silu", y, z, want, n);
    for (size_t i = 0; i < n; i++)
        want[i] = exp((double)x[i]);
    nn->exp(y, x, n), ref->exp(z, x, n);
    agree(nn, "exp", y, z, want, n);
    x[0] = -0.0f;
    for (size_t i = 0; i < n; i++)
        want[i] = x[i] > 0 ? (double)x[i] * x[i] : 0;
    memcpy(y, x, n * sizeof *y), memcpy(z, x, n * sizeof *z);
    nn->relu2(y, n), ref->relu2(z, n);
    agree(nn, "relu2", y, z, want, n);
    for (size_t i = 0; i < n; i++)
        want[i] = w[i] + 0.3 * fmax(x[i], 0);
    memcpy(y, w, n * sizeof *y), memcpy(z, w, n * sizeof *z);
    nn->add_relu(y, x, 0.3f, n), ref->add_relu(z, x, 0.3f, n);
    agree(nn, "add_relu", y, z, want, n);
    free(x), free(w), free(y), free(z), free(want);
}

static void check_taps(const tmb_nn *nn, size_t n, size_t taps)
{
    const tmb_nn *ref = tmb_cpu_nn_at(0);
    size_t step = n + 3;
    float *x = numbers(taps * step, 1), *w = numbers(taps * n, 1), *bias = numbers(n, 1);
    float *y = malloc(n * sizeof *y), *z = malloc(n * sizeof *z);
    double *want = malloc(n * sizeof *want);
    for (int with = 0; with < 2; with++) {
        for (size_t c = 0; c < n; c++) {
            want[c] = with ? bias[c] : 0;
            for (size_t i = 0; i < taps; i++)
                want[c] += (double)w[i * n + c] * x[i * step + c];
        }
        nn->taps(y, x, step, w, taps, with ? bias : NULL, n);
        ref->taps(z, x, step, w, taps, with ? bias : NULL, n);
        agree(nn, "taps", y, z, want, n);
    }
    free(x), free(w), free(bias), free(y), free(z), free(want);
}

static void check_solve(const tmb_nn *nn, size_t rows, size_t n)
{
    size_t stride = n + 5;
    float *m = numbers(rows * rows, 0.2f), *y = numbers(rows * stride, 1),
          *z = copy_of(y, rows * stride);
    double *want = malloc(rows * stride * sizeof *want);
    for (size_t i = 0; i < rows * stride; i++)
        want[i] = y[i];
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < i; j++)
            for (size_t c = 0; c < n; c++)
                want[i * stride + c] -= (double)m[i * rows + j] * want[j * stride + c];
    nn->solve(y, stride, m, rows, n);
    tmb_cpu_nn_at(0)->solve(z, stride, m, rows, n);
    agree(nn, "solve", y, z, want, rows * stride);
    free(m), free(y), free(z), free(want);
}

static void check_softmax(const tmb_nn *nn, size_t n, size_t from, size_t to, const float *sink)
{
    const tmb_nn *ref = tmb_cpu_nn_at(0);
    float *x = numbers(n, 20), *y = copy_of(x, n), *z = copy_of(x, n);
    double *want = calloc(n, sizeof *want), sum = sink ? exp(*sink) : 0;
    for (size_t i = from; i < to; i++)
        sum += exp((double)x[i] * 0.25);
    for (size_t i = from; i < to; i++)
        want[i] = exp((double)x[i] * 0.25) / sum;
    nn->softmax(y, n, from, to, 0.25f, sink);
    ref->softmax(z, n, from, to, 0.25f, sink);
    ok(distance(y, want, n) < 2e-6 && !memcmp(y, z, n * sizeof *y),
       "%s: softmax of %zu … %zu of %zu%s", nn->name, from, to, n, sink ? " with a sink" : "");
    nn->softmax(x, to, from, to, 0.25f, sink);
    ok(!memcmp(x, y, to * sizeof *x), "%s: … does not see what lies behind", nn->name);
    free(x), free(y), free(z), free(want);
}

static void check_rotate(const tmb_nn *nn, size_t half, bool paired)
{
    float *x = numbers(2 * half, 3), *y = copy_of(x, 2 * half), *z = copy_of(x, 2 * half);
    float *a = numbers(half, 3), *c = malloc(half * sizeof *c), *s = malloc(half * sizeof *s);
    double *want = malloc(2 * half * sizeof *want);
    for (size_t i = 0; i < half; i++) {
        c[i] = cosf(a[i]), s[i] = sinf(a[i]);
        size_t p = paired ? 2 * i : i, q = paired ? p + 1 : i + half;
        want[p] = x[p] * cos(a[i]) - x[q] * sin(a[i]);
        want[q] = x[q] * cos(a[i]) + x[p] * sin(a[i]);
    }
    nn->rotate(y, c, s, half, paired);
    tmb_cpu_nn_at(0)->rotate(z, c, s, half, paired);
    ok(distance(y, want, 2 * half) < 1e-6 && !memcmp(y, z, 2 * half * sizeof *y),
       "%s: rotate %zu %s", nn->name, half, paired ? "pairs" : "halves");
    free(x), free(y), free(z), free(a), free(c), free(s), free(want);
}

/* Far outside of what exp can say. */
static void check_extremes(const tmb_nn *nn)
{
    float x[] = {-1e30f, -200, -88, 88, 200, 1e30f}, y[6], z[6];
    nn->sigmoid(y, x, 6);
    tmb_cpu_nn_at(0)->sigmoid(z, x, 6);
    bool good = !memcmp(y, z, sizeof y);
    for (int i = 0; i < 6; i++)
        good &= i < 3 ? y[i] >= 0 && y[i] < 1e-37f : y[i] == 1;
    ok(good, "%s: sigmoid of huge arguments", nn->name);
    float one[] = {-1e30f, 1e30f, -INFINITY};
    nn->softmax(one, 3, 0, 3, 1, NULL);
    ok(one[1] == 1 && one[0] < 1e-37f && one[2] < 1e-37f, "%s: softmax of huge arguments",
       nn->name);
}

int main(void)
{
    const tmb_nn *nn;
    for (int i = 0; (nn = tmb_cpu_nn_at(i)); i++) {
        check_product(nn, 1, 1, 1, false);
        check_product(nn, 12, 256, 32, true);
        check_product(nn, 29, 600, 77, true);
        check_product(nn, 30, 257, 65, false);
        check_depth(nn);
        for (size_t n = 1; n < 200; n += n < 20 ? 5 : 71)
            check_rows(nn, n), check_gates(nn, n), check_taps(nn, n, n % 5 + 1);
        check_solve(nn, 1, 5), check_solve(nn, 17, 70), check_solve(nn, 64, 129);
        float sink = 2.5f;
        check_softmax(nn, 100, 0, 100, NULL);
        check_softmax(nn, 100, 33, 71, &sink);
        check_softmax(nn, 64, 16, 17, NULL);
        check_softmax(nn, 7, 2, 5, &sink);
        for (size_t half = 1; half < 40; half += 15)
            check_rotate(nn, half, false), check_rotate(nn, half, true);
        check_extremes(nn);
    }
    return done();
}
