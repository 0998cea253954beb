/* The choice of keys: the best of many scores against a plain count, level ones and all sizes; an
 * indexer's choices against scores in double precision, alone and among other sequences, on every
 * table. */
#include "config.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/topk.h"
#include "moe/infer/block_index.h"
#include "moe/infer/indexer.h"
#include "tests/random.h"
#include "tests/tap.h"

#include <math.h>
#include <string.h>

/* Whether x[i] is among the k largest, level ones by index. */
static bool is_best(const float *x, size_t n, size_t i, size_t k)
{
    size_t before = 0;
    for (size_t j = 0; j < n; j++)
        before += x[j] > x[i] || (x[j] == x[i] && j < i);
    return before < k;
}

static void check_topk(void)
{
    size_t wrong = 0, ties = 0;
    for (size_t n = 0; n < 300; n += n < 12 ? 1 : 41)
        for (size_t k = 0; k <= n + 1; k += n < 12 ? 1 : 17)
            for (int levels = 0; levels < 3; levels++) {
                float x[300], work[300];
                uint64_t bits[5];
                for (size_t i = 0; i < n; i++) {
                    x[i] = random_float();
                    if (levels == 1) x[i] = floorf(x[i] * 4);
                    if (levels == 2) x[i] = 0;
                }
                memset(bits, 0xff, sizeof bits);
                bool tie = tmb_topk_bits(x, n, k, bits, work);
                for (size_t i = 0; i < n; i++)
                    wrong += tmb_bit_at(bits, i) != is_best(x, n, i, k);
                for (size_t i = n; i < (n + 63) / 64 * 64; i++)
                    wrong += tmb_bit_at(bits, i);
                wrong += levels == 2 && tie != (k && k < n);
                ties += tie;
            }
    ok(wrong == 0 && ties > 0, "the best of 0 to 300: %zu wrong, %zu were level", wrong, ties);
    float falling[300], work[300];
    uint64_t bits[5];
    for (int i = 0; i < 300; i++)
        falling[i] = (float)(i < 150 ? -i : i);
    tmb_topk_bits(falling, 300, 7, bits, work);
    for (size_t i = 0; i < 300; i++)
        wrong += tmb_bit_at(bits, i) != (i >= 293);
    ok(wrong == 0, "ordered scores");
}

enum { HEADS = 3, DIM = 20, LONG = 333, SHORT = 40, KEEP = 11 };

static float *numbers(size_t n)
{
    float *x = malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = random_float();
    return x;
}

/* Chosen keys whose score in double is below that of a key left out by more than rounding, and
 * rows that do not have as many as they should. */
static size_t count_wrong(const tmb_index *x)
{
    size_t wrong = 0;
    for (size_t s = 0; s < x->sequences; s++)
        for (size_t t = 0; t < x->begin[s + 1] - x->begin[s]; t++) {
            size_t row = x->begin[s] + t, keys = (t + 1) / x->ratio, chosen = 0;
            double least = INFINITY, most = -INFINITY;
            for (size_t j = 0; j < keys; j++) {
                double score = 0;
                for (size_t h = 0; h < x->heads; h++) {
                    double dot = 0;
                    for (size_t i = 0; i < x->dim; i++)
                        dot += (double)x->q[(row * x->heads + h) * x->dim + i] *
                               x->k[(x->key_begin[s] + j) * x->dim + i];
                    score += x->weights[row * x->weights_stride + h] * fmax(dot, 0);
                }
                bool in = tmb_bit_at(x->seen + row * x->words, j);
                chosen += in;
                least = in ? fmin(least, score) : least;
                most = in ? most : fmax(most, score);
            }
            wrong += chosen != (keys < x->keep ? keys : x->keep);
            wrong += most > least + 1e-5;
        }
    return wrong;
}

static void check_index(size_t ratio, bool one_row)
{
    static const size_t begin[] = {0, LONG, LONG + SHORT};
    const size_t key_begin[] = {0, LONG / ratio}, words = LONG / 64 + 1, tokens = LONG + SHORT;
    float *q = numbers(tokens * HEADS * DIM), *k = numbers(tokens * DIM),
          *weights = numbers(tokens * HEADS);
    uint64_t *seen = calloc(tokens * words, sizeof *seen), *ref = calloc(tokens * words, 8);
    tmb_index x = {q,     k,         weights, HEADS, DIM,  one_row ? 0 : HEADS, ratio, KEEP,
                   begin, key_begin, 2,       seen,  words};
    const tmb_nn *nn;
    for (int i = 0; (nn = tmb_cpu_nn_at(i)); i++) {
        tmb_decoder d = {.nn = nn, .threads = 2};
        tmb_err err = {0};
        memset(seen, 0xff, tokens * words * sizeof *seen);
        tmb_status status = tmb_index_run(&d, &x, &err);
        size_t wrong = count_wrong(&x);
        ok(!status && wrong == 0, "%s: one key of %zu, %zu wrong", nn->name, ratio, wrong);
        if (!i) memcpy(ref, seen, tokens * words * sizeof *seen);
        ok(!memcmp(seen, ref, tokens * words * sizeof *seen), "%s: the reference's choice",
           nn->name);
        const size_t alone[] = {0, 200};
        x.begin = alone, x.sequences = 1;
        memset(seen, 0, tokens * words * sizeof *seen);
        status = tmb_index_run(&d, &x, &err);
        ok(!status && !memcmp(seen, ref, 200 * words * sizeof *seen),
           "%s: tokens that follow change nothing", nn->name);
        x.begin = begin, x.sequences = 2;
    }
    free(q), free(k), free(weights), free(seen), free(ref);
}

/* Whether block b is among the best of a query, by its best key in double. */
static size_t count_wrong_blocks(const tmb_block_index *x)
{
    size_t wrong = 0;
    for (size_t s = 0; s < x->sequences; s++)
        for (size_t i = 0; i < (x->begin[s + 1] - x->begin[s]) * x->heads; i++) {
            size_t t = i / x->heads, h = i % x->heads, row = x->begin[s] + t, own = t / x->block;
            const uint64_t *bits = x->blocks + (row * x->heads + h) * x->words;
            double least = INFINITY, most = -INFINITY;
            size_t chosen = 0;
            for (size_t b = 0; b <= own; b++) {
                double best = -INFINITY;
                for (size_t k = b * x->block; k <= t && k < (b + 1) * x->block; k++) {
                    double dot = 0;
                    for (size_t d = 0; d < x->dim; d++)
                        dot += (double)x->q[(row * x->heads + h) * x->dim + d] *
                               x->k[(x->begin[s] + k) * x->dim + d];
                    best = fmax(best, dot);
                }
                if (own - b < x->local) best = INFINITY;
                bool in = tmb_bit_at(bits, b);
                chosen += in;
                least = in ? fmin(least, best) : least;
                most = in ? most : fmax(most, best);
            }
            wrong += chosen != (own + 1 < x->keep ? own + 1 : x->keep) || most > least + 1e-5;
            for (size_t k = 0; k < x->words * 64; k++)
                wrong += tmb_bit_at(x->seen + (row * x->heads + h) * x->words, k) !=
                         (k <= t && tmb_bit_at(bits, k / x->block));
        }
    return wrong;
}

static void check_blocks(size_t block, size_t local)
{
    static const size_t begin[] = {0, LONG, LONG + SHORT};
    const size_t words = LONG / 64 + 1, tokens = LONG + SHORT, bits = tokens * HEADS * words;
    float *q = numbers(tokens * HEADS * DIM), *k = numbers(tokens * DIM);
    uint64_t *blocks = calloc(bits, 8), *seen = calloc(bits, 8), *ref = calloc(bits, 8);
    tmb_block_index x = {q, k, HEADS, DIM, block, KEEP, local, begin, 2, blocks, seen, words};
    const tmb_nn *nn;
    for (int i = 0; (nn = tmb_cpu_nn_at(i)); i++) {
        tmb_decoder d = {.nn = nn, .threads = 2};
        tmb_err err = {0};
        memset(seen, 0xff, bits * sizeof *seen);
        tmb_status status = tmb_block_index_run(&d, &x, &err);
        size_t wrong = count_wrong_blocks(&x);
        ok(!status && wrong == 0, "%s: blocks of %zu, %zu wrong", nn->name, block, wrong);
        if (!i) memcpy(ref, seen, bits * sizeof *seen);
        ok(!memcmp(seen, ref, bits * sizeof *seen), "%s: the reference's choice", nn->name);
    }
    free(q), free(k), free(blocks), free(seen), free(ref);
}

static void check_layer_norm(void)
{
    enum { ROWS = 3, N = 37 };
    float *x = numbers(ROWS * N), *w = numbers(N), *b = numbers(N), y[ROWS * N];
    double off = 0;
    memcpy(y, x, sizeof y);
    tmb_layer_norm(y, ROWS, N, w, b, 1e-3f);
    for (size_t r = 0; r < ROWS; r++) {
        double mean = 0, variance = 0;
        for (size_t i = 0; i < N; i++)
            mean += x[r * N + i] / (double)N;
        for (size_t i = 0; i < N; i++)
            variance += (x[r * N + i] - mean) * (x[r * N + i] - mean) / N;
        for (size_t i = 0; i < N; i++)
            off = fmax(off, fabs(y[r * N + i] -
                                 ((x[r * N + i] - mean) / sqrt(variance + 1e-3) * w[i] + b[i])));
    }
    ok(off < 1e-6, "layer norm: %.1e", off);
    free(x), free(w), free(b);
}

int main(void)
{
    check_topk();
    check_index(1, false);
    check_index(4, false);
    check_index(3, true);
    check_blocks(8, 1);
    check_blocks(5, 3);
    check_layer_norm();
    return done();
}
