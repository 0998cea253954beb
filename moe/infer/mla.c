/* mla.c - multi-head latent attention (DeepSeek-V2): keys and values of all heads come from one
 * short latent, and a part that rotates is shared by them.
 *
 * Of DeepSeek-V3.2 and GLM-5 an indexer says which keys a query sees; in GLM-5 some layers use what
 * the last indexer before them chose. */
#include "config.h"
#include "moe/infer/attention.h"
#include "moe/infer/bind.h"
#include "moe/infer/indexer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Places in tmb_decoder_layer.own and own_vector, of the indexer. */
enum { INDEX_Q, INDEX_K, INDEX_WEIGHTS };
enum { INDEX_NORM, INDEX_BIAS };

static tmb_status bind_indexer(tmb_binder *b)
{
    const tmb_config *c = &b->d->config;
    tmb_decoder_layer *l = b->layer;
    char at[64];
    snprintf(at, sizeof at, "%s.indexer", tmb_block_name(b->d));
    TRY(tmb_bind_linear(b, &l->own[INDEX_Q], at, "wq_b", c->index.heads * c->index.dim, c->q_rank));
    TRY(tmb_bind_linear(b, &l->own[INDEX_K], at, "wk", c->index.dim, c->hidden));
    TRY(tmb_bind_linear(b, &l->own[INDEX_WEIGHTS], at, "weights_proj", c->index.heads, c->hidden));
    tmb_bind_part(b, at, "k_norm");
    TRY(tmb_bind_vector(b, &l->own_vector[INDEX_NORM], ".weight", c->index.dim));
    return tmb_bind_vector(b, &l->own_vector[INDEX_BIAS], ".bias", c->index.dim);
}

static tmb_status bind_mla(tmb_binder *b)
{
    const char *at = tmb_block_name(b->d);
    const tmb_config *c = &b->d->config;
    tmb_decoder_layer *l = b->layer;
    size_t q = c->heads * c->head_dim;
    if (c->q_rank) {
        TRY(tmb_bind_linear(b, &l->q_a, at, "q_a_proj", c->q_rank, c->hidden));
        TRY(tmb_bind_linear(b, &l->q, at, "q_b_proj", q, c->q_rank));
        tmb_bind_part(b, at, "q_a_layernorm");
        TRY(tmb_bind_vector(b, &l->q_norm, ".weight", c->q_rank));
    } else {
        TRY(tmb_bind_linear(b, &l->q, at, "q_proj", q, c->hidden));
    }
    TRY(tmb_bind_linear(b, &l->kv_a, at, "kv_a_proj_with_mqa", c->kv_rank + c->rope_dim,
                        c->hidden));
    tmb_bind_part(b, at, "kv_a_layernorm");
    TRY(tmb_bind_vector(b, &l->k_norm, ".weight", c->kv_rank));
    TRY(tmb_bind_linear(b, &l->kv_b, at, "kv_b_proj", c->heads * (c->nope_dim + c->v_dim),
                        c->kv_rank));
    TRY(tmb_bind_linear(b, &l->o, at, "o_proj", c->hidden, c->heads * c->v_dim));
    TRY(tmb_attention_biases(b));
    return c->layer[l->index].indexes ? bind_indexer(b) : TMB_OK;
}

/* Rotate the first part of index heads x [tokens, heads, dim] in place. */
static void turn_index(const tmb_heads *s, float *x, size_t heads)
{
    const tmb_config *c = &s->run->d->config;
    tmb_turning t = {.run = s->run,
                     .x = x,
                     .heads = heads,
                     .dim = c->index.dim,
                     .stride = heads * c->index.dim,
                     .rope = true,
                     .halves = !c->index.paired,
                     .paired = c->index.paired,
                     .position = s->position};
    tmb_turn_rows(&t, s->run->tokens);
}

/* What an indexer computes with. */
typedef struct indexing {
    float *q, *k, *weights; /* [tokens, heads, dim], [tokens, dim], [tokens, heads] */
} indexing;

static tmb_status project_index(tmb_heads *s, indexing *x)
{
    tmb_run *run = s->run;
    const tmb_config *c = &run->d->config;
    const tmb_weight *own = run->layer->own, *entered[] = {&own[INDEX_K], &own[INDEX_WEIGHTS]};
    size_t n = run->tokens;
    const float *use;
    float *owned = NULL;
    x->q = tmb_floats(n, c->index.heads * c->index.dim, run->err);
    x->k = tmb_floats(n, c->index.dim, run->err);
    x->weights = tmb_floats(n, c->index.heads, run->err);
    if (!x->q || !x->k || !x->weights) return TMB_ESYSTEM;
    TRY(tmb_enter_one(run, &own[INDEX_Q], s->q_latent, x->q));
    tmb_linear_seen seen = tmb_seen_of(run, run->h, c->hidden);
    TRY(tmb_enter(run, entered, 2, &seen, &use, &owned));
    tmb_status status = tmb_project(run, &own[INDEX_K], use, n, x->k);
    if (!status) status = tmb_project(run, &own[INDEX_WEIGHTS], use, n, x->weights);
    free(owned);
    return status;
}

/* s->seen = the keys that the layer's own indexer chooses. */
static tmb_status index_own(tmb_heads *s)
{
    tmb_run *run = s->run;
    const tmb_decoder *d = run->d;
    const struct tmb_index_config *c = &d->config.index;
    const tmb_vector *norm = run->layer->own_vector;
    indexing x = {NULL, NULL, NULL};
    tmb_status status = project_index(s, &x);
    if (!status) {
        tmb_layer_norm(x.k, run->tokens, c->dim, norm[INDEX_NORM].values, norm[INDEX_BIAS].values,
                       1e-6f);
        turn_index(s, x.q, c->heads);
        turn_index(s, x.k, 1);
        float scale = (float)(1 / sqrt((double)c->heads) / sqrt((double)c->dim));
        d->nn->scale(x.weights, x.weights, scale, run->tokens * c->heads);
        tmb_index index = {.q = x.q,
                           .k = x.k,
                           .weights = x.weights,
                           .heads = c->heads,
                           .dim = c->dim,
                           .weights_stride = c->heads,
                           .ratio = 1,
                           .keep = c->keep,
                           .begin = run->batch->begin,
                           .key_begin = run->batch->begin,
                           .sequences = run->batch->sequences,
                           .seen = s->seen,
                           .words = s->mask_words};
        status = tmb_index_run(d, &index, run->err);
    }
    free(x.q);
    free(x.k);
    free(x.weights);
    return status;
}

/* Which keys queries see, of this layer's indexer or of the last one before it. */
static tmb_status choose_keys(tmb_heads *s)
{
    tmb_run *run = s->run;
    const tmb_decoder *d = run->d;
    const tmb_observer *o = run->observer;
    bool own = d->config.layer[run->layer->index].indexes;
    size_t handed = tmb_seen_words(d);
    s->masks = 1;
    s->mask_words = handed ? handed : (tmb_longest(run->batch) + 63) / 64;
    s->seen = malloc(run->tokens * s->mask_words * sizeof *s->seen);
    if (!s->seen) return tmb_fail_memory(run->err, run->tokens * s->mask_words * 8, "chosen keys");
    if (own)
        TRY(index_own(s));
    else
        tmb_handed_seen(d, run->batch->x, s->seen, run->tokens);
    if (own && handed) tmb_hand_seen(d, run->batch->x, s->seen, run->tokens);
    tmb_index_seen seen = {run->layer->index, run->tokens, s->seen, 1, s->mask_words};
    return o->index ? o->index(o->ctx, &seen, run->err) : TMB_OK;
}

static tmb_status keys_mla(tmb_heads *s)
{
    tmb_run *run = s->run;
    const tmb_config *c = &run->d->config;
    const tmb_decoder_layer *l = run->layer;
    size_t n = run->tokens;
    s->k_width = c->kv_rank + c->rope_dim;
    s->k = tmb_floats(n, s->k_width, run->err);
    s->latent = tmb_floats(n, c->kv_rank, run->err);
    if (c->q_rank) s->q_latent = tmb_floats(n, c->q_rank, run->err);
    if (!s->k || !s->latent || (c->q_rank && !s->q_latent)) return TMB_ESYSTEM;
    tmb_linear_seen seen = tmb_seen_of(run, run->h, c->hidden);
    const tmb_weight *entered[] = {c->q_rank ? &l->q_a : &l->q, &l->kv_a};
    TRY(tmb_enter(run, entered, 2, &seen, &s->q_in, &s->owned[0]));
    TRY(tmb_project(run, &l->kv_a, s->q_in, n, s->k));
    tmb_norm_rows(run->d, s->k, s->k, &l->k_norm, n, c->kv_rank, s->k_width, c->latent_eps);
    tmb_turning t = {.run = run,
                     .x = s->k + c->kv_rank,
                     .heads = 1,
                     .dim = c->rope_dim,
                     .stride = s->k_width,
                     .rope = tmb_attention_turns(run),
                     .position = s->position};
    tmb_turn_rows(&t, n);
    TRY(tmb_attention_show_kv(s));
    for (size_t i = 0; i < n; i++)
        memcpy(s->latent + i * c->kv_rank, s->k + i * s->k_width, c->kv_rank * sizeof(float));
    seen = tmb_seen_of(run, s->latent, c->kv_rank);
    const tmb_weight *up[] = {&l->kv_b};
    TRY(tmb_enter(run, up, 1, &seen, &s->kv_in, &s->owned[1]));
    if (!c->q_rank) return TMB_OK;
    TRY(tmb_project(run, &l->q_a, s->q_in, n, s->q_latent));
    tmb_norm_rows(run->d, s->q_latent, s->q_latent, &l->q_norm, n, c->q_rank, c->q_rank,
                  c->latent_eps);
    seen = tmb_seen_of(run, s->q_latent, c->q_rank);
    const tmb_weight *q[] = {&l->q};
    TRY(tmb_enter(run, q, 1, &seen, &s->q_in, &s->owned[2]));
    return c->index.heads ? choose_keys(s) : TMB_OK;
}
static tmb_status attend(tmb_heads *s, size_t row, size_t n, tmb_attend *a)
{
    tmb_run *run = s->run;
    const tmb_config *c = &run->d->config;
    size_t kv = c->nope_dim + c->v_dim;
    tmb_turning t = {.run = run,
                     .x = s->q,
                     .first = row,
                     .heads = c->heads,
                     .dim = c->head_dim,
                     .stride = c->heads * c->head_dim,
                     .at = c->nope_dim,
                     .rope = tmb_attention_turns(run),
                     .position = s->position};
    tmb_turn_rows(&t, n);
    TRY(tmb_project(run, &run->layer->kv_b, s->kv_in + row * c->kv_rank, n, s->expanded));
    a->k_tail = s->k + row * s->k_width + c->kv_rank;
    a->tail_dim = c->rope_dim;
    a->tail_stride = s->k_width;
    a->k = s->expanded;
    a->v = s->expanded + c->nope_dim;
    a->k_dim = c->nope_dim;
    a->k_step = a->v_step = kv;
    a->k_stride = a->v_stride = c->heads * kv;
    return tmb_attend_run(run->d, a, run->err);
}

static size_t expanded(const tmb_config *c)
{
    return c->heads * (c->nope_dim + c->v_dim);
}

static tmb_status run_mla(tmb_run *run, float *out)
{
    tmb_attention_kind kind = {
        .keys = keys_mla, .attend = attend, .expanded = expanded(&run->d->config)};
    return tmb_attention_run(run, out, &kind);
}

static uint64_t bytes_mla(const tmb_decoder *d, const tmb_decoder_layer *l, uint64_t tokens,
                          uint64_t longest)
{
    const tmb_config *c = &d->config;
    tmb_attention_room room = {.kept = 2 * c->kv_rank + c->rope_dim + c->q_rank,
                               .part = l->q.out + expanded(c),
                               .hooked = c->hidden + c->kv_rank + c->q_rank + c->heads * c->v_dim,
                               .keys = longest};
    if (c->index.heads) {
        uint64_t rows = (c->index.heads + 1) * c->index.dim + c->index.heads;
        if (d->hooks.activation) rows += c->hidden + c->q_rank;
        room.kept += (longest + 63) / 64 * 2 + 4;
        room.making = tmb_bytes_add(tmb_bytes_floats(tokens, rows),
                                    (uint64_t)d->threads * tmb_index_bytes(c->index.dim, longest));
    }
    return tmb_attention_bytes(d, tokens, longest, &room);
}

const tmb_block tmb_block_mla = {.bind = bind_mla, .run = run_mla, .bytes = bytes_mla};
