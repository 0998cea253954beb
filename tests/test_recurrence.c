/* Linear recurrences in chunks against the form of one token after another in double precision, for
 * the gated delta rule and for Mamba2: odd sizes, several heads to a key, strong and weak decay;
 * every table with the reference's bytes, and tokens that follow change nothing. */
#include "config.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/recurrence.h"
#include "tests/random.h"
#include "tests/tap.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

typedef struct subject {
    tmb_recurrence r;
    float *q, *k, *v, *decay, *weight, *scratch;
    size_t n; /* floats of the output */
} subject;

static float *numbers(size_t n, double low, double high)
{
    float *x = malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(low + (high - low) * (0.5 + 0.5 * (double)random_float()));
    return x;
}

/* Rows of length one, as both users of the delta rule have them. */
static void normalize(float *x, size_t rows, size_t n)
{
    for (size_t r = 0; r < rows; r++) {
        double sum = 0;
        for (size_t i = 0; i < n; i++)
            sum += (double)x[r * n + i] * x[r * n + i];
        for (size_t i = 0; i < n; i++)
            x[r * n + i] = (float)(x[r * n + i] / sqrt(sum));
    }
}

static subject make(size_t tokens, size_t heads, size_t keys, size_t values, double strongest,
                    bool delta)
{
    subject s = {.q = numbers(tokens * keys, -1, 1),
                 .k = numbers(tokens * keys, -1, 1),
                 .v = numbers(tokens * heads * values, -1, 1),
                 .decay = numbers(tokens * heads, -strongest, 0),
                 .weight = numbers(tokens * heads, 0, 1),
                 .n = tokens * heads * values};
    normalize(s.q, tokens, keys);
    normalize(s.k, tokens, keys);
    size_t floats = tmb_recurrence_floats(heads, keys, values);
    s.scratch = aligned_alloc(64, (floats * sizeof(float) / 64 + 1) * 64);
    s.r = (tmb_recurrence){.tokens = tokens,
                           .heads = heads,
                           .key_dim = keys,
                           .value_dim = values,
                           .q = s.q,
                           .k = s.k,
                           .v = s.v,
                           .decay = s.decay,
                           .weight = s.weight,
                           .qk_stride = keys,
                           .v_stride = heads * values,
                           .stride = heads,
                           .out_stride = heads * values,
                           .delta = delta};
    return s;
}

static void drop(subject *s)
{
    void *all[] = {s->q, s->k, s->v, s->decay, s->weight, s->scratch};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

/* out [tokens, heads, value_dim], by the definition. */
static double *one_by_one(const tmb_recurrence *r)
{
    double *out = calloc(r->tokens * r->heads * r->value_dim, sizeof *out);
    double *state = malloc(r->key_dim * r->value_dim * sizeof *state);
    for (size_t h = 0; h < r->heads; h++) {
        memset(state, 0, r->key_dim * r->value_dim * sizeof *state);
        for (size_t t = 0; t < r->tokens; t++) {
            const float *q = r->q + t * r->qk_stride, *k = r->k + t * r->qk_stride;
            const float *v = r->v + t * r->v_stride + h * r->value_dim;
            double keep = exp(r->decay[t * r->stride + h]), weight = r->weight[t * r->stride + h];
            for (size_t j = 0; j < r->value_dim; j++) {
                double past = 0, sum = 0;
                for (size_t i = 0; i < r->key_dim; i++)
                    past += (state[i * r->value_dim + j] *= keep) * k[i];
                double d = weight * (r->delta ? v[j] - past : v[j]);
                for (size_t i = 0; i < r->key_dim; i++)
                    sum += (state[i * r->value_dim + j] += k[i] * d) * q[i];
                out[(t * r->heads + h) * r->value_dim + j] = sum;
            }
        }
    }
    free(state);
    return out;
}

static double distance(const float *got, const double *want, size_t n)
{
    double d = 0, s = 1e-300;
    for (size_t i = 0; i < n; i++) {
        d += (got[i] - want[i]) * (got[i] - want[i]);
        s += want[i] * want[i];
    }
    return sqrt(d / s);
}

static void check(const char *name, size_t tokens, size_t heads, size_t keys, size_t values,
                  double strongest, bool delta)
{
    subject s = make(tokens, heads, keys, values, strongest, delta);
    double *want = one_by_one(&s.r);
    float *ref = calloc(s.n, sizeof *ref), *out = calloc(s.n, sizeof *out);
    const tmb_nn *nn;
    for (int i = 0; (nn = tmb_cpu_nn_at(i)); i++) {
        s.r.out = i ? out : ref;
        tmb_recurrence_run(nn, &s.r, s.scratch);
        double off = distance(s.r.out, want, s.n);
        ok(off < 2e-6, "%s, %s, %zu tokens of %zux%zu: %.1e from one by one", nn->name, name,
           tokens, keys, values, off);
        if (i)
            ok(!memcmp(out, ref, s.n * sizeof *out), "%s, %s: the reference's bytes", nn->name,
               name);
        memset(out, 0, s.n * sizeof *out);
        s.r.out = out;
        s.r.tokens = tokens / 2 + 1;
        tmb_recurrence_run(nn, &s.r, s.scratch);
        ok(!memcmp(out, ref, s.r.tokens * heads * values * sizeof *out),
           "%s, %s: tokens that follow change nothing", nn->name, name);
        s.r.tokens = tokens;
    }
    free(want), free(ref), free(out);
    drop(&s);
}

int main(void)
{
    check("delta rule", 1, 1, 4, 4, 1, true);
    check("delta rule", 64, 1, 16, 16, 1, true);
    check("delta rule", 200, 2, 32, 24, 2, true);
    check("delta rule that forgets nothing", 150, 3, 24, 40, 0, true);
    check("delta rule that forgets all", 150, 1, 16, 72, 60, true);
    check("delta rule of a wide head", 130, 2, 128, 128, 0.2, true);
    check("Mamba2", 1, 1, 4, 4, 1, false);
    check("Mamba2", 200, 5, 16, 24, 1, false);
    check("Mamba2 of a wide head", 130, 4, 128, 64, 0.2, false);
    return done();
}
