/* indexer.c - scores of keys for sparse attention, and the best of them.
 *
 * A thread takes some queries of one sequence: for each index head their products with the keys by
 * gemm, then the weighted sum of what is positive, head after head, then the choice. */
#include "config.h"
#include "moe/infer/indexer.h"

#include "kernels/base/team.h"
#include "kernels/cpu/topk.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { QUERIES = 96 }; /* a block; a multiple of TMB_NN_ROWS */

typedef struct job {
    const tmb_decoder *d;
    const tmb_index *i;
    size_t *first; /* [sequences + 1]: blocks of queries before a sequence */
    int failed;    /* atomic */
} job;

/* Keys packed, queries packed, products, scores, and room for the choice. */
static size_t floats(size_t dim, size_t keys)
{
    size_t wide = tmb_packed_width(keys);
    return wide * dim + QUERIES * dim + QUERIES * wide + QUERIES * keys + keys + 64;
}

uint64_t tmb_index_bytes(size_t dim, size_t longest)
{
    return tmb_bytes_floats(1, floats(dim, longest));
}

/* Queries from … end-1 of sequence s. */
static void choose(const job *j, size_t s, size_t from, size_t end, float *room)
{
    const tmb_index *x = j->i;
    const tmb_nn *nn = j->d->nn;
    size_t keys = end / x->ratio, n = end - from, row = x->begin[s] + from;
    size_t wide = tmb_packed_width(keys);
    float *packed = room, *queries = packed + wide * x->dim, *products = queries + QUERIES * x->dim;
    float *scores = products + QUERIES * wide, *work = scores + QUERIES * keys;
    tmb_packed k = {packed, keys, x->dim, false};
    if (keys) nn->pack(&k, 0, x->k + x->key_begin[s] * x->dim, keys, x->dim);
    memset(scores, 0, n * keys * sizeof *scores);
    for (size_t h = 0; keys && h < x->heads; h++) {
        nn->pack_rows(queries, x->q + (row * x->heads + h) * x->dim, n, x->dim, x->heads * x->dim);
        nn->gemm(products, wide, queries, n, x->dim, &k, 0, tmb_packed_panels(keys), NULL);
        for (size_t t = 0; t < n; t++)
            nn->add_relu(scores + t * keys, products + t * wide,
                         x->weights[(row + t) * x->weights_stride + h], keys);
    }
    for (size_t t = 0; t < n; t++) {
        uint64_t *seen = x->seen + (row + t) * x->words;
        memset(seen, 0, x->words * sizeof *seen);
        tmb_topk_bits(scores + t * keys, (from + t + 1) / x->ratio, x->keep, seen, work);
    }
}

static void take_block(void *ctx, size_t i)
{
    job *j = ctx;
    const tmb_index *x = j->i;
    size_t s = 0;
    while (j->first[s + 1] <= i)
        s++;
    size_t from = (i - j->first[s]) * QUERIES, length = x->begin[s + 1] - x->begin[s];
    size_t end = from + QUERIES < length ? from + QUERIES : length;
    float *room = tmb_floats(floats(x->dim, end / x->ratio), 1, NULL);
    if (room)
        choose(j, s, from, end, room);
    else
        __atomic_store_n(&j->failed, 1, __ATOMIC_RELAXED);
    free(room);
}

tmb_status tmb_index_run(const tmb_decoder *d, const tmb_index *i, tmb_err *err)
{
    job j = {.d = d, .i = i};
    j.first = malloc((i->sequences + 1) * sizeof *j.first);
    if (!j.first) return tmb_fail_memory(err, i->sequences * sizeof *j.first, "an indexer");
    j.first[0] = 0;
    for (size_t s = 0; s < i->sequences; s++)
        j.first[s + 1] = j.first[s] + (i->begin[s + 1] - i->begin[s] + QUERIES - 1) / QUERIES;
    tmb_team_each(d->threads, j.first[i->sequences], 1, take_block, &j);
    free(j.first);
    return j.failed ? tmb_fail_memory(err, 0, "the scores of an indexer") : TMB_OK;
}

void tmb_layer_norm(float *x, size_t rows, size_t n, const float *weight, const float *bias,
                    float eps)
{
    for (size_t r = 0; r < rows; r++, x += n) {
        double sum = 0, squares = 0;
        for (size_t i = 0; i < n; i++)
            sum += x[i];
        double mean = sum / (double)n;
        for (size_t i = 0; i < n; i++)
            squares += (x[i] - mean) * (x[i] - mean);
        double scale = 1 / sqrt(squares / (double)n + (double)eps);
        for (size_t i = 0; i < n; i++)
            x[i] = (float)((x[i] - mean) * scale * weight[i] + bias[i]);
    }
}
