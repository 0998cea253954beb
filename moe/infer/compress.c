/* compress.c - the entries of compress.h, a window at a time. */
#include "config.h"
#include "moe/infer/compress.h"

#include "kernels/base/team.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct job {
    const tmb_decoder *d;
    const tmb_compress *c;
    int failed; /* atomic */
} job;

/* The largest gate of each channel so far. */
static void raise(float *top, const float *gate, const float *ape, size_t n)
{
    for (size_t i = 0; i < n; i++)
        top[i] = fmaxf(top[i], gate[i] + ape[i]);
}

/* sum += weight * value, total += weight, weight = exp(gate + ape - top). */
static void gather(const tmb_nn *nn, float *sum, float *total, float *weight, const float *value,
                   const float *gate, const float *ape, const float *top, size_t n)
{
    for (size_t i = 0; i < n; i++)
        weight[i] = gate[i] + ape[i] - top[i];
    nn->exp(weight, weight, n);
    for (size_t i = 0; i < n; i++) {
        sum[i] += weight[i] * value[i];
        total[i] += weight[i];
    }
}

/* Entry w of the sequence whose first token is row `begin`. */
static void make_entry(const job *j, size_t begin, size_t w, float *entry, float *room)
{
    const tmb_compress *c = j->c;
    size_t n = c->channels, wide = c->overlap ? 2 * n : n;
    float *top = room, *total = top + n, *weight = total + n;
    for (size_t i = 0; i < n; i++)
        top[i] = -INFINITY;
    memset(total, 0, n * sizeof *total);
    memset(entry, 0, n * sizeof *entry);
    for (int pass = 0; pass < 2; pass++)
        for (size_t half = c->overlap && w ? 0 : 1; half < 2; half++)
            for (size_t s = 0; s < c->ratio; s++) {
                size_t row = begin + (w - (half ? 0 : 1)) * c->ratio + s;
                size_t at = c->overlap && half ? n : 0;
                const float *gate = c->gate + row * wide + at, *ape = c->ape + s * wide + at;
                if (pass)
                    gather(j->d->nn, entry, total, weight, c->value + row * wide + at, gate, ape,
                           top, n);
                else
                    raise(top, gate, ape, n);
            }
    for (size_t i = 0; i < n; i++)
        entry[i] /= total[i];
}

static void take_sequence(void *ctx, size_t s)
{
    job *j = ctx;
    const tmb_compress *c = j->c;
    size_t n = (c->begin[s + 1] - c->begin[s]) / c->ratio;
    float *room = tmb_floats(3, c->channels, NULL);
    if (!room) __atomic_store_n(&j->failed, 1, __ATOMIC_RELAXED);
    for (size_t w = 0; room && w < n; w++)
        make_entry(j, c->begin[s], w, c->entries + (c->entry_begin[s] + w) * c->channels, room);
    free(room);
}

tmb_status tmb_compress_run(const tmb_decoder *d, const tmb_compress *c, tmb_err *err)
{
    job j = {.d = d, .c = c};
    tmb_team_each(d->threads, c->sequences, 1, take_sequence, &j);
    return j.failed ? tmb_fail_memory(err, 3 * c->channels * sizeof(float), "a compressor")
                    : TMB_OK;
}
