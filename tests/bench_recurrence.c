/* bench_recurrence - linear recurrences of a whole layer in chunks (kernels/cpu/recurrence.h)
 * against one token after another, in tokens/s and as a ratio, both in float32 on the same threads
 * in the same run.
 *
 *     make tests/bench_recurrence && tests/bench_recurrence [TOKENS [THREADS]]
 *
 * TOKENS 2048, THREADS 2; best of five.  Shapes are those of published models. */
#include "config.h"
#include "kernels/base/clock.h"
#include "kernels/base/team.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/recurrence.h"
#include "tests/random.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct shape {
    const char *name;
    size_t groups, heads, keys, values; /* heads of one group share q and k */
    bool delta;
} shape;

typedef struct bench {
    const shape *s;
    const tmb_nn *nn;
    tmb_recurrence r; /* of group 0 */
    bool plain;
} bench;

static float *numbers(size_t n, float size, float shift)
{
    float *x = malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = random_float() * size + shift;
    return x;
}

/* One head, by the recurrence as it is written. */
static void one_by_one(const tmb_recurrence *r, size_t head, float *state)
{
    size_t keys = r->key_dim, values = r->value_dim;
    float *past = state + keys * values, *d = past + values;
    memset(state, 0, keys * values * sizeof *state);
    for (size_t t = 0; t < r->tokens; t++) {
        const float *q = r->q + t * r->qk_stride, *k = r->k + t * r->qk_stride;
        const float *v = r->v + t * r->v_stride + head * values;
        float *out = r->out + t * r->out_stride + head * values;
        float keep = expf(r->decay[t * r->stride + head]), by = r->weight[t * r->stride + head];
        memset(past, 0, values * sizeof *past);
        memset(out, 0, values * sizeof *out);
        for (size_t i = 0; i < keys; i++)
            for (size_t j = 0; j < values; j++) {
                state[i * values + j] *= keep;
                past[j] += state[i * values + j] * k[i];
            }
        for (size_t j = 0; j < values; j++)
            d[j] = by * (r->delta ? v[j] - past[j] : v[j]);
        for (size_t i = 0; i < keys; i++)
            for (size_t j = 0; j < values; j++) {
                state[i * values + j] += k[i] * d[j];
                out[j] += state[i * values + j] * q[i];
            }
    }
}

static void run_group(void *ctx, size_t g)
{
    const bench *b = ctx;
    const shape *s = b->s;
    tmb_recurrence r = b->r;
    r.q += g * s->keys, r.k += g * s->keys;
    r.v += g * s->heads * s->values, r.out += g * s->heads * s->values;
    r.decay += g * s->heads, r.weight += g * s->heads;
    size_t floats = tmb_recurrence_floats(s->heads, s->keys, s->values);
    size_t plain = s->keys * s->values + 2 * s->values;
    float *scratch =
        aligned_alloc(64, ((floats > plain ? floats : plain) * sizeof(float) / 64 + 1) * 64);
    if (!scratch) abort();
    if (b->plain)
        for (size_t h = 0; h < s->heads; h++)
            one_by_one(&r, h, scratch);
    else
        tmb_recurrence_run(b->nn, &r, scratch);
    free(scratch);
}

/* Seconds of the best of five. */
static double best(bench *b, int threads)
{
    double least = INFINITY;
    for (int i = 0; i < 5; i++) {
        double begin = tmb_seconds();
        tmb_team_each(threads, b->s->groups, 1, run_group, b);
        least = fmin(least, tmb_seconds() - begin);
    }
    return least;
}

static void measure(const shape *s, size_t tokens, int threads)
{
    size_t heads = s->groups * s->heads, keys = s->groups * s->keys, values = heads * s->values;
    float *q = numbers(tokens * keys, 0.2f, 0), *k = numbers(tokens * keys, 0.2f, 0);
    float *v = numbers(tokens * values, 1, 0), *out = malloc(tokens * values * sizeof *out);
    float *decay = numbers(tokens * heads, 0.1f, -0.1f),
          *weight = numbers(tokens * heads, 0.5f, 0.5f);
    bench b = {.s = s};
    b.r = (tmb_recurrence){tokens, s->heads, s->keys, s->values, q,     k,      v,       decay,
                           weight, out,      keys,    values,    heads, values, s->delta};
    b.plain = true;
    double plain = best(&b, threads);
    printf("%-30s one by one %9.0f tokens/s\n", s->name, (double)tokens / plain);
    b.plain = false;
    for (int i = 0; (b.nn = tmb_cpu_nn_at(i)); i++) {
        double chunks = best(&b, threads);
        printf("%-30s %-10s %9.0f tokens/s  %5.1fx\n", "", b.nn->name, (double)tokens / chunks,
               plain / chunks);
    }
    free(q), free(k), free(v), free(out), free(decay), free(weight);
}

int main(int argc, char **argv)
{
    static const shape shapes[] = {
        {"gated delta, Qwen3-Next-80B", 16, 2, 128, 128, true},
        {"gated delta, Qwen3.5-397B", 16, 4, 128, 128, true},
        {"Mamba2, Nemotron-3-Nano", 8, 8, 128, 64, false},
    };
    size_t tokens = argc > 1 ? strtoul(argv[1], NULL, 10) : 2048;
    int threads = argc > 2 ? atoi(argv[2]) : 2;
    printf("%zu tokens, %d threads\n", tokens, threads);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        measure(&shapes[i], tokens, threads);
    return 0;
}
