/* What DeepSeek-V4 adds to attention and to the residual stream, each alone against double
 * precision: entries of windows that overlap or not; streams that are read, mixed and written; and
 * the same bytes on every table. */
#include "config.h"
#include "kernels/cpu/cpu.h"
#include "moe/infer/compress.h"
#include "moe/infer/ple.h"
#include "tests/random.h"
#include "tests/tap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static float *numbers(size_t n, float size)
{
    float *x = malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = random_float() * size;
    return x;
}

/* ------------------------------------------------------------------ entries */

enum { CHANNELS = 19, LONG = 45, SHORT = 9, TOKENS = LONG + SHORT };

/* Channel i of entry w of a sequence that begins at row `begin`. */
static double entry_of(const tmb_compress *c, size_t begin, size_t w, size_t i)
{
    size_t wide = c->overlap ? 2 * CHANNELS : CHANNELS;
    double sum = 0, total = 0;
    for (size_t half = c->overlap && w ? 0 : 1; half < 2; half++)
        for (size_t s = 0; s < c->ratio; s++) {
            size_t row = begin + (w + half - 1) * c->ratio + s,
                   at = c->overlap ? half * CHANNELS : 0;
            double weight = exp((double)c->gate[row * wide + at + i] + c->ape[s * wide + at + i]);
            sum += weight * c->value[row * wide + at + i];
            total += weight;
        }
    return sum / total;
}

static void check_entries(size_t ratio, bool overlap)
{
    static const size_t begin[] = {0, LONG, TOKENS};
    const size_t entry_begin[] = {0, LONG / ratio}, n = LONG / ratio + SHORT / ratio;
    size_t wide = overlap ? 2 * CHANNELS : CHANNELS;
    float *value = numbers(TOKENS * wide, 2), *gate = numbers(TOKENS * wide, 9),
          *ape = numbers(ratio * wide, 3);
    float *got = malloc(n * CHANNELS * sizeof *got), *ref = malloc(n * CHANNELS * sizeof *ref);
    tmb_compress c = {value, gate, ape, CHANNELS, ratio, overlap, begin, entry_begin, 2, got};
    const tmb_nn *nn;
    for (int t = 0; (nn = tmb_cpu_nn_at(t)); t++) {
        tmb_decoder d = {.nn = nn, .threads = 2};
        tmb_err err = {0};
        double off = 0;
        tmb_status status = tmb_compress_run(&d, &c, &err);
        for (size_t s = 0; s < 2; s++)
            for (size_t w = 0; w < (begin[s + 1] - begin[s]) / ratio; w++)
                for (size_t i = 0; i < CHANNELS; i++)
                    off = fmax(off, fabs(entry_of(&c, begin[s], w, i) -
                                         got[(entry_begin[s] + w) * CHANNELS + i]));
        ok(!status && off < 2e-6, "%s: entries of %zu tokens%s: %.1e", nn->name, ratio,
           overlap ? ", overlapping" : "", off);
        if (!t) memcpy(ref, got, n * CHANNELS * sizeof *ref);
        ok(!memcmp(got, ref, n * CHANNELS * sizeof *ref), "%s: the reference's bytes", nn->name);
    }
    free(value), free(gate), free(ape), free(got), free(ref);
}

/* ------------------------------------------------------------------ streams */

enum { STREAMS = 3, HIDDEN = 20, ROWS = 300, FLAT = STREAMS * HIDDEN };
enum { MIXES = (2 + STREAMS) * STREAMS, KEPT = STREAMS + STREAMS * STREAMS };

/* What is read of x and how the output goes back, by the definition. */
static void mixed_by_definition(const float *x, const float *fn, const float *base,
                                const float *scale, double *read, double *kept)
{
    double length = 0, m[MIXES], *matrix = kept + STREAMS;
    for (int i = 0; i < FLAT; i++)
        length += (double)x[i] * x[i] / FLAT;
    for (int j = 0; j < MIXES; j++) {
        m[j] = 0;
        for (int i = 0; i < FLAT; i++)
            m[j] += fn[j * FLAT + i] * x[i] / sqrt(length + 1e-5);
        m[j] = m[j] * scale[j < STREAMS ? 0 : j < 2 * STREAMS ? 1 : 2] + base[j];
    }
    memset(read, 0, HIDDEN * sizeof *read);
    for (int s = 0; s < STREAMS; s++) {
        for (int i = 0; i < HIDDEN; i++)
            read[i] += (1 / (1 + exp(-m[s])) + 1e-6) * x[s * HIDDEN + i];
        kept[s] = 2 / (1 + exp(-m[STREAMS + s]));
        double sum = 0;
        for (int j = 0; j < STREAMS; j++)
            sum += exp(m[2 * STREAMS + s * STREAMS + j]);
        for (int j = 0; j < STREAMS; j++)
            matrix[s * STREAMS + j] = exp(m[2 * STREAMS + s * STREAMS + j]) / sum + 1e-6;
    }
    for (int turn = 0; turn < 2 * 20 - 1; turn++)
        for (int a = 0; a < STREAMS; a++) {
            int step = turn % 2 ? 1 : STREAMS, first = turn % 2 ? a * STREAMS : a;
            double sum = 1e-6;
            for (int b = 0; b < STREAMS; b++)
                sum += matrix[first + b * step];
            for (int b = 0; b < STREAMS; b++)
                matrix[first + b * step] /= sum;
        }
}

/* x behind the half. */
static double written(const float *x, const float *out, const double *kept, int j, int i)
{
    double sum = kept[j] * out[i];
    for (int s = 0; s < STREAMS; s++)
        sum += kept[STREAMS + s * STREAMS + j] * x[s * HIDDEN + i];
    return sum;
}

static void check_streams(void)
{
    static const tmb_arch_forward rules = {.streams = TMB_STREAMS_MANIFOLD};
    float *x = numbers(ROWS * FLAT, 2), *fn = numbers(MIXES * FLAT, 0.5f),
          *base = numbers(MIXES, 1);
    float scale[] = {0.7f, 1.1f, 0.9f}, *out = numbers(ROWS * HIDDEN, 1);
    float *read = malloc(ROWS * HIDDEN * sizeof *read), *mix = malloc(ROWS * KEPT * sizeof *mix);
    float *next = malloc(ROWS * FLAT * sizeof *next), *ref = malloc(ROWS * FLAT * sizeof *ref);
    const tmb_nn *nn;
    for (int t = 0; (nn = tmb_cpu_nn_at(t)); t++) {
        tmb_decoder d = {.nn = nn, .threads = 2, .width = FLAT};
        d.config = (tmb_config){.rules = &rules,
                                .streams = STREAMS,
                                .hidden = HIDDEN,
                                .eps = 1e-5f,
                                .stream_eps = 1e-6f,
                                .rounds = 20};
        const tmb_streaming *s = tmb_streaming_of(&d.config);
        tmb_mixing m = {.w = {{.out = MIXES, .in = FLAT}}};
        m.v[0].values = base, m.v[1].values = scale;
        size_t values = tmb_packed_panels(MIXES) * TMB_NN_PANEL * FLAT;
        m.w[0].packed = (tmb_packed){malloc(values * sizeof(float)), MIXES, FLAT, false};
        nn->pack(&m.w[0].packed, 0, fn, MIXES, FLAT);
        tmb_err err = {0};
        memcpy(next, x, ROWS * FLAT * sizeof *x);
        tmb_status status = s->read(&d, &m, next, ROWS, read, mix, &err);
        if (!status) status = s->write(&d, next, out, mix, ROWS, &err);
        double off = 0, want[HIDDEN], kept[KEPT];
        for (int r = 0; r < ROWS; r++) {
            mixed_by_definition(x + r * FLAT, fn, base, scale, want, kept);
            for (int i = 0; i < HIDDEN; i++)
                off = fmax(off, fabs(want[i] - read[r * HIDDEN + i]));
            for (int j = 0; j < FLAT; j++)
                off = fmax(off, fabs(written(x + r * FLAT, out + r * HIDDEN, kept, j / HIDDEN,
                                             j % HIDDEN) -
                                     next[r * FLAT + j]));
        }
        ok(!status && off < 2e-5, "%s: streams read, mixed and written: %.1e", nn->name, off);
        if (!t) memcpy(ref, next, ROWS * FLAT * sizeof *ref);
        ok(!memcmp(next, ref, ROWS * FLAT * sizeof *ref), "%s: the reference's bytes", nn->name);
        free(m.w[0].packed.values);
        free(d.packed_rows);
    }
    free(x), free(fn), free(base), free(out), free(read), free(mix), free(next), free(ref);
}

/* ------------------------------------------------------------------ hyper-connections */

enum { RANK = 7 };

/* A weight of the table's packing. */
static tmb_weight packed(const tmb_nn *nn, const float *w, size_t out, size_t in)
{
    size_t values = tmb_packed_panels(out) * TMB_NN_PANEL * in;
    tmb_weight p = {.out = out, .in = in};
    p.packed = (tmb_packed){malloc(values * sizeof(float)), out, in, false};
    nn->pack(&p.packed, 0, w, out, in);
    return p;
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

/* What is read of x, and by how much a half's output goes to each stream. */
static void gated_by_definition(const float *x, const float *norm, const float *down,
                                const float *up, const float *inject, double *read, double *by)
{
    double normed[FLAT], low[RANK];
    for (int s = 0; s < STREAMS; s++) {
        double sum = 0;
        for (int i = 0; i < HIDDEN; i++)
            sum += (double)x[s * HIDDEN + i] * x[s * HIDDEN + i] / HIDDEN;
        for (int i = s * HIDDEN; i < (s + 1) * HIDDEN; i++)
            normed[i] = x[i] / sqrt(sum + 1e-5) * norm[i];
    }
    memset(read, 0, HIDDEN * sizeof *read);
    for (int r = 0; r < RANK; r++) {
        low[r] = 0;
        for (int i = 0; i < FLAT; i++)
            low[r] += down[r * FLAT + i] * normed[i] / STREAMS;
        low[r] *= sigmoid(low[r]);
    }
    for (int i = 0; i < FLAT; i++) {
        double gate = 0;
        for (int r = 0; r < RANK; r++)
            gate += up[i * RANK + r] * low[r];
        read[i % HIDDEN] += sigmoid(gate) * normed[i] / STREAMS;
    }
    for (int s = 0; s < STREAMS; s++) {
        double sum = 0;
        for (int i = 0; i < FLAT; i++)
            sum += inject[s * FLAT + i] * normed[i] / STREAMS;
        by[s] = 2 * sigmoid(sum);
    }
}

static void check_hyper(void)
{
    static const tmb_arch_forward rules = {.streams = TMB_STREAMS_HYPER};
    float *x = numbers(ROWS * FLAT, 2), *norm = numbers(FLAT, 1), *down = numbers(RANK * FLAT, 1);
    float *up = numbers(FLAT * RANK, 1), *inject = numbers(STREAMS * FLAT, 1);
    float *out = numbers(ROWS * HIDDEN, 1), *read = malloc(ROWS * HIDDEN * sizeof *read);
    float *mix = malloc(ROWS * STREAMS * sizeof *mix), *next = malloc(ROWS * FLAT * sizeof *next);
    float *ref = malloc(ROWS * FLAT * sizeof *ref);
    const tmb_nn *nn;
    for (int t = 0; (nn = tmb_cpu_nn_at(t)); t++) {
        tmb_decoder d = {.nn = nn, .threads = 2, .width = FLAT};
        d.config = (tmb_config){.rules = &rules,
                                .streams = STREAMS,
                                .hidden = HIDDEN,
                                .stream_rank = RANK,
                                .eps = 1e-5f};
        const tmb_streaming *s = tmb_streaming_of(&d.config);
        tmb_mixing m = {.w = {packed(nn, down, RANK, FLAT), packed(nn, up, FLAT, RANK),
                              packed(nn, inject, STREAMS, FLAT)}};
        m.v[0].values = norm;
        tmb_err err = {0};
        memcpy(next, x, ROWS * FLAT * sizeof *x);
        tmb_status status = s->read(&d, &m, next, ROWS, read, mix, &err);
        if (!status) status = s->write(&d, next, out, mix, ROWS, &err);
        double off = 0, want[HIDDEN], by[STREAMS];
        for (int r = 0; r < ROWS; r++) {
            gated_by_definition(x + r * FLAT, norm, down, up, inject, want, by);
            for (int i = 0; i < HIDDEN; i++)
                off = fmax(off, fabs(want[i] - read[r * HIDDEN + i]));
            for (int j = 0; j < FLAT; j++)
                off =
                    fmax(off, fabs(x[r * FLAT + j] + by[j / HIDDEN] * out[r * HIDDEN + j % HIDDEN] -
                                   next[r * FLAT + j]));
        }
        ok(!status && off < 1e-5, "%s: streams behind gates: %.1e", nn->name, off);
        if (!t) memcpy(ref, next, ROWS * FLAT * sizeof *ref);
        ok(!memcmp(next, ref, ROWS * FLAT * sizeof *ref), "%s: the reference's bytes", nn->name);
        for (int i = 0; i < 3; i++)
            free(m.w[i].packed.values);
        free(d.packed_rows);
    }
    free(x), free(norm), free(down), free(up), free(inject), free(out), free(read), free(mix);
    free(next), free(ref);
}

/* Multipliers of one show the hash: a bigram is the exclusive or of two ids. */
static void check_grams(void)
{
    static const int64_t one[] = {1, 1, 1}, vocab[] = {1000, 7, 1000, 11},
                         offset[] = {0, 1000, 1007, 2007};
    static const int32_t ids[] = {40, 2, 300, 5};
    tmb_grams g = {3, 2, 2, one, vocab, offset};
    int64_t rows[4];
    tmb_gram_rows(&g, ids, 0, rows);
    ok(rows[0] == (40 ^ 2) && rows[1] == 1000 + (40 ^ 2) % 7,
       "before the beginning stands the end");
    tmb_gram_rows(&g, ids, 2, rows);
    ok(rows[0] == (300 ^ 2) && rows[2] == 1007 + (300 ^ 2 ^ 2), "nothing of before an end is seen");
    tmb_gram_rows(&g, ids, 3, rows);
    ok(rows[0] == (5 ^ 300) && rows[3] == 2007 + (5 ^ 300 ^ 2) % 11, "three ids");
    static const int64_t large[] = {INT64_MAX, 3, 5};
    g.multiplier = large;
    for (size_t p = 0; p < 4; p++) {
        tmb_gram_rows(&g, ids, p, rows);
        for (size_t h = 0; h < 4; h++)
            if (rows[h] < offset[h] || rows[h] >= offset[h] + vocab[h]) p = 99;
    }
    ok(rows[0] >= 0, "products that overflow stay within the table");
}

int main(void)
{
    check_hyper();
    check_grams();
    check_entries(4, true);
    check_entries(3, true);
    check_entries(8, false);
    check_streams();
    return done();
}
