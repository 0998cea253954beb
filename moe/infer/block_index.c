/* block_index.c - which blocks of keys a query sees, for each key head its own (MiniMax-M3): the
 * blocks with the best single key, by a query head and a key head of the indexer's, and those that
 * end with the query's own.
 *
 * The formula is that of transformers 5.17, models/minimax_m3_vl/modeling_minimax_m3_vl.py. */
#include "config.h"
#include "moe/infer/attention.h"
#include "moe/infer/bind.h"
#include "moe/infer/block_index.h"

#include "kernels/base/team.h"
#include "kernels/cpu/topk.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { QUERIES = 96 }; /* a block of queries; a multiple of TMB_NN_ROWS */

/* Places in tmb_decoder_layer.own and own_vector. */
enum { INDEX_Q, INDEX_K };
enum { INDEX_Q_NORM, INDEX_K_NORM };

tmb_status tmb_block_index_bind(tmb_binder *b)
{
    const char *at = tmb_block_name(b->d);
    const tmb_config *c = &b->d->config;
    tmb_decoder_layer *l = b->layer;
    size_t heads = c->index.heads, dim = c->index.dim;
    TRY(tmb_bind_linear(b, &l->own[INDEX_Q], at, "index_q_proj", heads * dim, c->hidden));
    TRY(tmb_bind_linear(b, &l->own[INDEX_K], at, "index_k_proj", dim, c->hidden));
    tmb_bind_part(b, at, "index_q_norm");
    TRY(tmb_bind_norm(b, &l->own_vector[INDEX_Q_NORM], dim));
    tmb_bind_part(b, at, "index_k_norm");
    return tmb_bind_norm(b, &l->own_vector[INDEX_K_NORM], dim);
}

typedef struct job {
    const tmb_decoder *d;
    const tmb_block_index *x;
    size_t *first; /* [sequences + 1]: blocks of queries before a sequence */
    int failed;    /* atomic */
} job;

/* Keys packed, queries packed, products, scores of blocks and room for the choice. */
static size_t floats(size_t dim, size_t keys)
{
    size_t wide = tmb_packed_width(keys);
    return wide * dim + QUERIES * dim + QUERIES * wide + 2 * keys + 64;
}

uint64_t tmb_block_index_bytes(const tmb_config *c, uint64_t tokens, uint64_t longest, int threads)
{
    uint64_t rows =
        (c->index.heads + 1) * c->index.dim + 4 * c->index.heads * ((longest + 63) / 64);
    return tmb_bytes_add(tmb_bytes_floats(tokens, rows),
                         tmb_bytes_floats((uint64_t)threads, floats(c->index.dim, longest)));
}

/* The query at `position`, whose products with the keys are `products`: the best blocks as bits,
 * and their keys. */
static void choose(const tmb_block_index *x, size_t position, const float *products, float *scores,
                   float *work, uint64_t *blocks, uint64_t *keys)
{
    size_t own = position / x->block, n = own + 1;
    memset(blocks, 0, x->words * sizeof *blocks);
    memset(keys, 0, x->words * sizeof *keys);
    for (size_t b = 0; b < n; b++) {
        size_t end = (b + 1) * x->block < position + 1 ? (b + 1) * x->block : position + 1;
        float best = -INFINITY;
        for (size_t k = b * x->block; k < end; k++)
            best = products[k] > best ? products[k] : best;
        scores[b] = own - b < x->local ? INFINITY : best;
    }
    tmb_topk_bits(scores, n, x->keep, blocks, work);
    for (size_t k = 0; k <= position; k++)
        if (tmb_bit_at(blocks, k / x->block)) tmb_bit_set(keys, k);
}

static void take_block(void *ctx, size_t i)
{
    job *j = ctx;
    const tmb_block_index *x = j->x;
    const tmb_nn *nn = j->d->nn;
    size_t s = 0;
    while (j->first[s + 1] <= i)
        s++;
    size_t length = x->begin[s + 1] - x->begin[s], from = (i - j->first[s]) * QUERIES;
    size_t end = from + QUERIES < length ? from + QUERIES : length, wide = tmb_packed_width(end);
    float *room = tmb_floats(floats(x->dim, end), 1, NULL);
    if (!room) {
        __atomic_store_n(&j->failed, 1, __ATOMIC_RELAXED);
        return;
    }
    float *queries = room + wide * x->dim, *products = queries + QUERIES * x->dim;
    float *scores = products + QUERIES * wide, *work = scores + end;
    tmb_packed k = {room, end, x->dim, false};
    nn->pack(&k, 0, x->k + x->begin[s] * x->dim, end, x->dim);
    for (size_t h = 0; h < x->heads; h++) {
        size_t row = x->begin[s] + from;
        nn->pack_rows(queries, x->q + (row * x->heads + h) * x->dim, end - from, x->dim,
                      x->heads * x->dim);
        nn->gemm(products, wide, queries, end - from, x->dim, &k, 0, tmb_packed_panels(end), NULL);
        for (size_t t = 0; t < end - from; t++) {
            size_t at = ((row + t) * x->heads + h) * x->words;
            choose(x, from + t, products + t * wide, scores, work, x->blocks + at, x->seen + at);
        }
    }
    free(room);
}

tmb_status tmb_block_index_run(const tmb_decoder *d, const tmb_block_index *x, tmb_err *err)
{
    job j = {.d = d, .x = x};
    j.first = malloc((x->sequences + 1) * sizeof *j.first);
    if (!j.first) return tmb_fail_memory(err, x->sequences * sizeof *j.first, "an indexer");
    j.first[0] = 0;
    for (size_t s = 0; s < x->sequences; s++)
        j.first[s + 1] = j.first[s] + (x->begin[s + 1] - x->begin[s] + QUERIES - 1) / QUERIES;
    tmb_team_each(d->threads, j.first[x->sequences], 1, take_block, &j);
    free(j.first);
    return j.failed ? tmb_fail_memory(err, 0, "the scores of an indexer") : TMB_OK;
}

static void turn(const tmb_heads *s, float *x, size_t heads, const tmb_vector *norm)
{
    size_t dim = s->run->d->config.index.dim;
    tmb_turning t = {.run = s->run,
                     .x = x,
                     .heads = heads,
                     .dim = dim,
                     .stride = heads * dim,
                     .norm = norm,
                     .rope = tmb_attention_turns(s->run),
                     .position = s->position};
    tmb_turn_rows(&t, s->run->tokens);
}

tmb_status tmb_block_index_choose(tmb_heads *s)
{
    tmb_run *run = s->run;
    const struct tmb_index_config *c = &run->d->config.index;
    const tmb_decoder_layer *l = run->layer;
    const tmb_observer *o = run->observer;
    size_t n = run->tokens;
    s->masks = c->heads;
    s->mask_words = (tmb_longest(run->batch) + 63) / 64;
    size_t bits = n * s->masks * s->mask_words;
    float *q = tmb_floats(n, c->heads * c->dim, run->err), *k = tmb_floats(n, c->dim, run->err);
    uint64_t *blocks = malloc(bits * sizeof *blocks);
    s->seen = malloc(bits * sizeof *s->seen);
    tmb_status status =
        q && k && blocks && s->seen ? TMB_OK : tmb_fail_memory(run->err, bits * 16, "chosen keys");
    if (!status) status = tmb_project(run, &l->own[INDEX_Q], s->q_in, n, q);
    if (!status) status = tmb_project(run, &l->own[INDEX_K], s->q_in, n, k);
    if (!status) {
        turn(s, q, c->heads, &l->own_vector[INDEX_Q_NORM]);
        turn(s, k, 1, &l->own_vector[INDEX_K_NORM]);
        tmb_block_index x = {q,
                             k,
                             c->heads,
                             c->dim,
                             c->block,
                             c->keep,
                             c->local,
                             run->batch->begin,
                             run->batch->sequences,
                             blocks,
                             s->seen,
                             s->mask_words};
        status = tmb_block_index_run(run->d, &x, run->err);
    }
    tmb_index_seen seen = {l->index, n, blocks, s->masks, s->mask_words};
    if (!status && o->index) status = o->index(o->ctx, &seen, run->err);
    free(blocks);
    free(k);
    free(q);
    return status;
}
