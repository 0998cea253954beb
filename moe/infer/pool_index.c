/* pool_index.c - which keys a query sees of Qwen4's attention: those of the blocks whose mean index
 * key it likes best, and all behind the last whole block.
 *
 * The formula is that of transformers 5.17, models/qwen4_exp/modeling_qwen4_exp.py. */
#include "config.h"
#include "moe/infer/pool_index.h"
#include "moe/infer/bind.h"
#include "moe/infer/indexer.h"

#include "kernels/cpu/topk.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Places in tmb_decoder_layer.own and own_vector. */
enum { INDEX_QK };
enum { Q_NORM, K_NORM };

tmb_status tmb_pool_index_bind(tmb_binder *b)
{
    const tmb_config *c = &b->d->config;
    tmb_decoder_layer *l = b->layer;
    char at[64];
    snprintf(at, sizeof at, "%s.indexer", tmb_block_name(b->d));
    TRY(tmb_bind_linear(b, &l->own[INDEX_QK], at, "index_qk_proj",
                        (c->index.heads + 1) * c->index.dim, c->hidden));
    tmb_bind_part(b, at, "q_layernorm");
    TRY(tmb_bind_norm(b, &l->own_vector[Q_NORM], c->index.dim));
    tmb_bind_part(b, at, "k_layernorm");
    return tmb_bind_norm(b, &l->own_vector[K_NORM], c->index.dim);
}

/* What a choice holds. */
typedef struct pooling {
    float *qk;      /* [tokens, heads + 1, dim] as it is projected */
    float *q, *k;   /* [tokens, heads, dim], [blocks, dim] */
    float *weights; /* [heads] */
    size_t *begin,
        *position;    /* [sequences + 1] blocks before a sequence; [blocks] of their first token */
    uint64_t *chosen; /* [tokens, words] of blocks */
    size_t blocks, words;
} pooling;

static tmb_status make_room(const tmb_run *run, pooling *p)
{
    const struct tmb_index_config *c = &run->d->config.index;
    const tmb_batch *b = run->batch;
    size_t n = run->tokens;
    p->words = tmb_longest(b) / c->block / 64 + 1;
    p->begin = malloc((b->sequences + 1) * sizeof *p->begin);
    p->position = malloc((n + 1) * sizeof *p->position);
    p->qk = tmb_floats(n, (c->heads + 1) * c->dim, run->err);
    p->q = tmb_floats(n, c->heads * c->dim, run->err);
    p->k = tmb_floats(n / c->block + 1, c->dim, run->err);
    p->weights = tmb_floats(1, c->heads, run->err);
    p->chosen = malloc(n * p->words * sizeof *p->chosen);
    if (!p->begin || !p->position || !p->qk || !p->q || !p->k || !p->weights || !p->chosen)
        return tmb_fail_memory(run->err, n * (2 * c->heads + 1) * c->dim * 4, "an indexer");
    p->begin[0] = 0;
    for (size_t s = 0; s < b->sequences; s++)
        p->begin[s + 1] = p->begin[s] + (b->begin[s + 1] - b->begin[s]) / c->block;
    p->blocks = p->begin[b->sequences];
    for (size_t h = 0; h < c->heads; h++)
        p->weights[h] = (float)(1 / sqrt((double)c->dim));
    return TMB_OK;
}

/* Queries apart, and the mean key of each block. */
static void split(const tmb_run *run, pooling *p)
{
    const struct tmb_index_config *c = &run->d->config.index;
    const tmb_batch *b = run->batch;
    size_t q = c->heads * c->dim, all = q + c->dim;
    for (size_t t = 0; t < run->tokens; t++)
        memcpy(p->q + t * q, p->qk + t * all, q * sizeof *p->q);
    for (size_t s = 0; s < b->sequences; s++)
        for (size_t i = p->begin[s]; i < p->begin[s + 1]; i++) {
            size_t first = (i - p->begin[s]) * c->block;
            float *k = p->k + i * c->dim;
            p->position[i] = first;
            memset(k, 0, c->dim * sizeof *k);
            for (size_t t = first; t < first + c->block; t++)
                run->d->nn->add_scaled(k, p->qk + (b->begin[s] + t) * all + q, 1.0f, c->dim);
            for (size_t d = 0; d < c->dim; d++)
                k[d] /= (float)c->block;
        }
}

static void turn(const tmb_heads *s, float *x, size_t rows, size_t heads, const tmb_vector *norm,
                 const size_t *position)
{
    size_t dim = s->run->d->config.index.dim;
    tmb_turning t = {.run = s->run,
                     .x = x,
                     .heads = heads,
                     .dim = dim,
                     .stride = heads * dim,
                     .norm = norm,
                     .rope = tmb_attention_turns(s->run),
                     .position = position};
    tmb_turn_rows(&t, rows);
}

/* Bits of blocks to bits of keys. */
static void spread(tmb_heads *s, const pooling *p)
{
    const tmb_run *run = s->run;
    size_t block = run->d->config.index.block;
    for (size_t i = 0; i < run->tokens; i++) {
        size_t t = s->position[i], whole = (t + 1) / block * block;
        uint64_t *seen = s->seen + i * s->mask_words;
        for (size_t k = 0; k <= t; k++)
            if (k >= whole || tmb_bit_at(p->chosen + i * p->words, k / block)) tmb_bit_set(seen, k);
    }
}

static tmb_status choose(tmb_heads *s, pooling *p)
{
    tmb_run *run = s->run;
    const struct tmb_index_config *c = &run->d->config.index;
    const tmb_vector *own = run->layer->own_vector;
    const tmb_observer *o = run->observer;
    size_t n = run->tokens;
    s->masks = 1;
    s->mask_words = (tmb_longest(run->batch) + 63) / 64;
    s->seen = calloc(n * s->mask_words, sizeof *s->seen);
    if (!s->seen) return tmb_fail_memory(run->err, n * s->mask_words * 8, "chosen keys");
    TRY(make_room(run, p));
    TRY(tmb_project(run, &run->layer->own[INDEX_QK], s->q_in, n, p->qk));
    split(run, p);
    turn(s, p->q, n, c->heads, &own[Q_NORM], s->position);
    turn(s, p->k, p->blocks, 1, &own[K_NORM], p->position);
    tmb_index index = {.q = p->q,
                       .k = p->k,
                       .weights = p->weights,
                       .heads = c->heads,
                       .dim = c->dim,
                       .ratio = c->block,
                       .keep = c->keep,
                       .begin = run->batch->begin,
                       .key_begin = p->begin,
                       .sequences = run->batch->sequences,
                       .seen = p->chosen,
                       .words = p->words};
    TRY(tmb_index_run(run->d, &index, run->err));
    spread(s, p);
    tmb_index_seen seen = {run->layer->index, n, s->seen, 1, s->mask_words};
    return o->index ? o->index(o->ctx, &seen, run->err) : TMB_OK;
}

tmb_status tmb_pool_index_choose(tmb_heads *s)
{
    pooling p = {.qk = NULL};
    tmb_status status = choose(s, &p);
    void *all[] = {p.qk, p.q, p.k, p.weights, p.begin, p.position, p.chosen};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    return status;
}

uint64_t tmb_pool_index_bytes(const tmb_config *c, uint64_t tokens, uint64_t longest, int threads)
{
    uint64_t rows = (2 * c->index.heads + 2) * c->index.dim + 2 * ((longest + 63) / 64) + 4;
    rows += 2 * (longest / c->index.block / 64 + 1);
    return tmb_bytes_add(tmb_bytes_floats(tokens, rows),
                         (uint64_t)threads * tmb_index_bytes(c->index.dim, longest));
}
