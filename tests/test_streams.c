/* What DeepSeek-V4 adds to attention and to the residual stream, each alone against double
 * precision: entries of windows that overlap or not; streams that are read, mixed and written; and
 * the same bytes on every table. */
#include "config.h"
#include "kernels/cpu/cpu.h"
#include "moe/infer/compress.h"
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

int main(void)
{
    check_entries(4, true);
    check_entries(3, true);
    check_entries(8, false);
    check_streams();
    return done();
}
