/* compressed.c - DeepSeek-V4's attention: one key, which is the value too, for all heads; a window
 * of the last keys, and behind it one entry for every so many tokens, of which an indexer may
 * choose.
 *
 * The formulas are those of transformers 5.17, models/deepseek_v4/modeling_deepseek_v4.py.  A
 * window's entry stands behind its tokens' keys, so that what a query sees is a beginning of the
 * keys, and tokens that follow change nothing. */
#include "config.h"
#include "moe/infer/attention.h"
#include "moe/infer/bind.h"
#include "moe/infer/compress.h"
#include "moe/infer/indexer.h"

#include "kernels/cpu/topk.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Places in tmb_decoder_layer.own and own_vector; wq_a, wq_b, wkv and wo_b have the places of
 * MLA's. */
enum { OUT_A, KV, GATE, INDEX_Q, INDEX_WEIGHTS, INDEX_KV, INDEX_GATE };
enum { APE, NORM, INDEX_APE, INDEX_NORM };

static bool has_indexer(const tmb_decoder_layer *l)
{
    return l->own[INDEX_Q].out > 0;
}

/* The compressor at `at`, whose tensors have so many channels. */
static tmb_status bind_compressor(tmb_binder *b, const char *at, int kv, int ape, size_t channels,
                                  size_t entry)
{
    tmb_decoder_layer *l = b->layer;
    size_t hidden = b->d->config.hidden, ratio = b->d->config.layer[l->index].ratio;
    TRY(tmb_bind_linear(b, &l->own[kv], at, "wkv", channels, hidden));
    TRY(tmb_bind_linear(b, &l->own[kv + 1], at, "wgate", channels, hidden));
    tmb_bind_part(b, at, "ape");
    TRY(tmb_bind_vector(b, &l->own_vector[ape], "", ratio * channels));
    tmb_bind_part(b, at, "norm");
    return tmb_bind_vector(b, &l->own_vector[ape + 1], ".weight", entry);
}

static tmb_status bind_indexer(tmb_binder *b, const char *at)
{
    const tmb_config *c = &b->d->config;
    tmb_decoder_layer *l = b->layer;
    size_t heads = c->index.heads, dim = c->index.dim;
    char inner[96];
    TRY(tmb_bind_linear(b, &l->own[INDEX_Q], at, "wq_b", heads * dim, c->q_rank));
    TRY(tmb_bind_linear(b, &l->own[INDEX_WEIGHTS], at, "weights_proj", heads, c->hidden));
    snprintf(inner, sizeof inner, "%s.compressor", at);
    return bind_compressor(b, inner, INDEX_KV, INDEX_APE, 2 * dim, dim);
}

static tmb_status bind_compressed(tmb_binder *b)
{
    const char *at = tmb_block_name(b->d);
    const tmb_config *c = &b->d->config;
    tmb_decoder_layer *l = b->layer;
    size_t q = c->heads * c->head_dim, middle = c->out_groups * c->out_rank;
    char compressor[64], indexer[64];
    TRY(tmb_bind_linear(b, &l->q_a, at, "wq_a", c->q_rank, c->hidden));
    TRY(tmb_bind_linear(b, &l->q, at, "wq_b", q, c->q_rank));
    TRY(tmb_bind_linear(b, &l->kv_a, at, "wkv", c->head_dim, c->hidden));
    TRY(tmb_bind_linear(b, &l->own[OUT_A], at, "wo_a", middle, q / c->out_groups));
    TRY(tmb_bind_linear(b, &l->o, at, "wo_b", c->hidden, middle));
    tmb_bind_part(b, at, "q_norm");
    TRY(tmb_bind_norm(b, &l->q_norm, c->q_rank));
    tmb_bind_part(b, at, "kv_norm");
    TRY(tmb_bind_norm(b, &l->k_norm, c->head_dim));
    tmb_bind_part(b, at, "attn_sink");
    TRY(tmb_bind_vector(b, &l->sinks, "", c->heads));
    if (!c->layer[l->index].ratio) return TMB_OK;
    snprintf(compressor, sizeof compressor, "%s.compressor", at);
    snprintf(indexer, sizeof indexer, "%s.indexer", at);
    tmb_bind_part(b, indexer, "wq_b");
    bool indexed = tmb_model_find(b->d->model, b->name);
    if (indexed) TRY(bind_indexer(b, indexer));
    return bind_compressor(b, compressor, KV, APE, (indexed ? 2 : 1) * c->head_dim, c->head_dim);
}

/* ------------------------------------------------------------------ entries */

/* The entries of all sequences. */
typedef struct windows {
    size_t ratio, entries;
    size_t *begin;    /* [sequences + 1] entries before a sequence */
    size_t *position; /* [entries] of the first token of its window */
} windows;

static tmb_status count_windows(const tmb_run *run, windows *w)
{
    const tmb_batch *b = run->batch;
    w->begin = malloc((b->sequences + 1) * sizeof *w->begin);
    if (!w->begin) return tmb_fail_memory(run->err, b->sequences * sizeof *w->begin, "windows");
    w->begin[0] = 0;
    for (size_t s = 0; s < b->sequences; s++)
        w->begin[s + 1] = w->begin[s] + (b->begin[s + 1] - b->begin[s]) / w->ratio;
    w->entries = w->begin[b->sequences];
    w->position = malloc((w->entries + 1) * sizeof *w->position);
    if (!w->position) return tmb_fail_memory(run->err, w->entries * sizeof *w->position, "windows");
    for (size_t s = 0; s < b->sequences; s++)
        for (size_t i = w->begin[s]; i < w->begin[s + 1]; i++)
            w->position[i] = (i - w->begin[s]) * w->ratio;
    return TMB_OK;
}

/* Turn the last part of heads of `dim`. */
static void turn_end(const tmb_heads *s, float *x, size_t rows, size_t heads, size_t dim,
                     const size_t *position)
{
    tmb_turning t = {.run = s->run,
                     .x = x,
                     .heads = heads,
                     .dim = dim,
                     .stride = heads * dim,
                     .at = dim - s->run->d->config.rope_dim,
                     .rope = true,
                     .position = position};
    tmb_turn_rows(&t, rows);
}

/* entries [entries, dim] of the compressor whose weights begin at `kv` and whose vectors at `ape`.
 */
static tmb_status compress(tmb_heads *s, const windows *w, int kv, int ape, size_t dim,
                           float *entries)
{
    tmb_run *run = s->run;
    const tmb_decoder_layer *l = run->layer;
    const tmb_weight *entered[] = {&l->own[kv], &l->own[kv + 1]};
    size_t n = run->tokens, channels = l->own[kv].out;
    const float *use;
    float *owned = NULL, *value = tmb_floats(n, channels, run->err),
          *gate = tmb_floats(n, channels, run->err);
    tmb_linear_seen seen = tmb_seen_of(run, run->h, run->d->config.hidden);
    tmb_status status = value && gate ? TMB_OK : TMB_ESYSTEM;
    if (!status) status = tmb_enter(run, entered, 2, &seen, &use, &owned);
    if (!status) status = tmb_project(run, &l->own[kv], use, n, value);
    if (!status) status = tmb_project(run, &l->own[kv + 1], use, n, gate);
    if (!status) {
        tmb_compress c = {.value = value,
                          .gate = gate,
                          .ape = l->own_vector[ape].values,
                          .channels = dim,
                          .ratio = w->ratio,
                          .overlap = channels == 2 * dim,
                          .begin = run->batch->begin,
                          .entry_begin = w->begin,
                          .sequences = run->batch->sequences,
                          .entries = entries};
        status = tmb_compress_run(run->d, &c, run->err);
    }
    if (!status) {
        tmb_norm_rows(run->d, entries, entries, &l->own_vector[ape + 1], w->entries, dim, dim,
                      run->d->config.eps);
        turn_end(s, entries, w->entries, 1, dim, w->position);
    }
    free(owned);
    free(gate);
    free(value);
    return status;
}

/* chosen [tokens, words]: which entries the indexer chooses. */
static tmb_status choose(tmb_heads *s, const windows *w, uint64_t *chosen, size_t words)
{
    tmb_run *run = s->run;
    const struct tmb_index_config *c = &run->d->config.index;
    const tmb_weight *own = run->layer->own;
    size_t n = run->tokens;
    float *q = tmb_floats(n, c->heads * c->dim, run->err),
          *weights = tmb_floats(n, c->heads, run->err),
          *k = tmb_floats(w->entries, c->dim, run->err);
    tmb_status status = q && weights && k ? TMB_OK : TMB_ESYSTEM;
    if (!status) status = tmb_enter_one(run, &own[INDEX_Q], s->q_latent, q);
    if (!status) status = tmb_enter_one(run, &own[INDEX_WEIGHTS], run->h, weights);
    if (!status) status = compress(s, w, INDEX_KV, INDEX_APE, c->dim, k);
    if (!status) {
        turn_end(s, q, n, c->heads, c->dim, s->position);
        float scale = (float)(1 / sqrt((double)c->heads) / sqrt((double)c->dim));
        run->d->nn->scale(weights, weights, scale, n * c->heads);
        tmb_index index = {q,
                           k,
                           weights,
                           c->heads,
                           c->dim,
                           c->heads,
                           w->ratio,
                           c->keep,
                           run->batch->begin,
                           w->begin,
                           run->batch->sequences,
                           chosen,
                           words};
        status = tmb_index_run(run->d, &index, run->err);
    }
    free(q);
    free(weights);
    free(k);
    return status;
}

/* ------------------------------------------------------------------ keys */

/* Where a token's key, and a window's entry, stand among the keys of their sequence. */
static size_t key_place(size_t token, size_t ratio)
{
    return token + token / ratio;
}

static size_t entry_place(size_t window, size_t ratio)
{
    return (window + 1) * ratio + window;
}

/* What the query at position t sees: the last tokens, and chosen entries, or all (NULL). */
static void see(uint64_t *seen, size_t t, size_t window, size_t ratio, const uint64_t *chosen)
{
    for (size_t j = t + 1 > window ? t + 1 - window : 0; j <= t; j++)
        tmb_bit_set(seen, key_place(j, ratio));
    for (size_t e = 0; e < (t + 1) / ratio; e++)
        if (!chosen || tmb_bit_at(chosen, e)) tmb_bit_set(seen, entry_place(e, ratio));
}

/* s->v = keys and entries in the order of time; s->seen = what each query sees of them. */
static tmb_status join(tmb_heads *s, const windows *w, const float *entries, const uint64_t *chosen,
                       size_t words)
{
    const tmb_run *run = s->run;
    const tmb_batch *b = run->batch;
    const tmb_config *c = &run->d->config;
    size_t dim = c->head_dim;
    s->masks = 1;
    s->mask_words = key_place(tmb_longest(b), w->ratio) / 64 + 1;
    s->v = tmb_floats(run->tokens + w->entries, dim, run->err);
    s->key_begin = malloc((b->sequences + 1) * sizeof *s->key_begin);
    s->seen = calloc(run->tokens * s->mask_words, sizeof *s->seen);
    if (!s->v || !s->key_begin || !s->seen)
        return tmb_fail_memory(run->err, run->tokens * s->mask_words * 8, "keys");
    for (size_t q = 0; q < b->sequences; q++) {
        size_t row = b->begin[q], n = b->begin[q + 1] - row;
        float *to = s->v + (s->key_begin[q] = row + w->begin[q]) * dim;
        for (size_t t = 0; t < n; t++) {
            memcpy(to + key_place(t, w->ratio) * dim, s->k + (row + t) * dim, dim * sizeof *to);
            see(s->seen + (row + t) * s->mask_words, t, c->window, w->ratio,
                chosen ? chosen + (row + t) * words : NULL);
        }
        for (size_t e = 0; e < n / w->ratio; e++)
            memcpy(to + entry_place(e, w->ratio) * dim, entries + (w->begin[q] + e) * dim,
                   dim * sizeof *to);
    }
    return TMB_OK;
}

static tmb_status add_entries(tmb_heads *s)
{
    tmb_run *run = s->run;
    const tmb_decoder_layer *l = run->layer;
    const tmb_observer *o = run->observer;
    size_t dim = run->d->config.head_dim;
    windows w = {.ratio = run->d->config.layer[l->index].ratio};
    float *entries = NULL;
    uint64_t *chosen = NULL;
    size_t words = tmb_longest(run->batch) / w.ratio / 64 + 1;
    tmb_status status = count_windows(run, &w);
    if (!status && !(entries = tmb_floats(w.entries, dim, run->err))) status = TMB_ESYSTEM;
    if (!status) status = compress(s, &w, KV, APE, dim, entries);
    if (!status && has_indexer(l)) {
        chosen = malloc(run->tokens * words * sizeof *chosen);
        status = chosen ? choose(s, &w, chosen, words)
                        : tmb_fail_memory(run->err, run->tokens * words * 8, "chosen entries");
        tmb_index_seen seen = {l->index, run->tokens, chosen, 1, words};
        if (!status && o->index) status = o->index(o->ctx, &seen, run->err);
    }
    if (!status) status = join(s, &w, entries, chosen, words);
    free(chosen);
    free(entries);
    free(w.position);
    free(w.begin);
    return status;
}

static tmb_status keys(tmb_heads *s)
{
    tmb_run *run = s->run;
    const tmb_config *c = &run->d->config;
    const tmb_decoder_layer *l = run->layer;
    size_t n = run->tokens;
    s->k_width = c->head_dim;
    s->k = tmb_floats(n, c->head_dim, run->err);
    s->q_latent = tmb_floats(n, c->q_rank, run->err);
    if (!s->k || !s->q_latent) return TMB_ESYSTEM;
    tmb_linear_seen seen = tmb_seen_of(run, run->h, c->hidden);
    const tmb_weight *entered[] = {&l->q_a, &l->kv_a}, *q[] = {&l->q};
    TRY(tmb_enter(run, entered, 2, &seen, &s->q_in, &s->owned[0]));
    TRY(tmb_project(run, &l->kv_a, s->q_in, n, s->k));
    TRY(tmb_project(run, &l->q_a, s->q_in, n, s->q_latent));
    tmb_norm_rows(run->d, s->k, s->k, &l->k_norm, n, c->head_dim, c->head_dim, c->eps);
    tmb_norm_rows(run->d, s->q_latent, s->q_latent, &l->q_norm, n, c->q_rank, c->q_rank, c->eps);
    turn_end(s, s->k, n, 1, c->head_dim, s->position);
    TRY(tmb_attention_show_kv(s));
    if (c->layer[l->index].ratio) TRY(add_entries(s));
    seen = tmb_seen_of(run, s->q_latent, c->q_rank);
    return tmb_enter(run, q, 1, &seen, &s->q_in, &s->owned[2]);
}

static tmb_status attend(tmb_heads *s, size_t row, size_t n, tmb_attend *a)
{
    const tmb_run *run = s->run;
    const tmb_config *c = &run->d->config;
    size_t ratio = c->layer[run->layer->index].ratio, first = 0;
    tmb_turning t = {.run = run,
                     .x = s->q,
                     .first = row,
                     .heads = c->heads,
                     .dim = c->head_dim,
                     .stride = c->heads * c->head_dim,
                     .at = c->head_dim - c->rope_dim,
                     .rope = true,
                     .bare = true,
                     .position = s->position};
    tmb_turn_rows(&t, n);
    a->k = a->v = ratio ? s->v : s->k + row * c->head_dim;
    a->k_dim = a->k_step = a->v_step = a->k_stride = a->v_stride = c->head_dim;
    if (ratio) {
        while (run->batch->begin[first] < row)
            first++;
        a->ratio = ratio;
        a->key_begin = s->key_begin + first;
        a->view = TMB_VIEW_FULL;
    }
    TRY(tmb_attend_run(run->d, a, run->err));
    t.x = a->out;
    t.bare = false;
    t.back = true;
    tmb_turn_rows(&t, n);
    return TMB_OK;
}

/* ------------------------------------------------------------------ the output */

/* y [tokens, groups * rank]: each group of heads by its own rows of wo_a. */
static tmb_status multiply_groups(tmb_run *run, const float *x, float *y)
{
    const tmb_config *c = &run->d->config;
    const tmb_weight *w = &run->layer->own[OUT_A];
    size_t groups = c->out_groups, rank = c->out_rank, n = run->tokens;
    bool cuts = rank % TMB_NN_PANEL == 0; /* else all rows are multiplied, and most thrown away */
    float *all = cuts ? NULL : tmb_floats(n, w->out, run->err);
    tmb_status status = all || cuts ? TMB_OK : TMB_ESYSTEM;
    for (size_t g = 0; !status && g < groups; g++) {
        tmb_weight part = {.out = rank, .in = w->in, .packed = w->packed};
        size_t at = g * rank * w->in * (w->packed.bf16 ? 2 : 4);
        part.packed.values = (char *)w->packed.values + at;
        part.packed.out = rank;
        tmb_product p = {.w = cuts ? &part : w,
                         .x = x + g * w->in,
                         .rows = n,
                         .x_stride = groups * w->in,
                         .y = cuts ? y + g * rank : all,
                         .y_stride = w->out};
        status = tmb_multiply_long(run->d, &p, run->err);
        for (size_t t = 0; !status && !cuts && t < n; t++)
            memcpy(y + t * w->out + g * rank, all + t * w->out + g * rank, rank * sizeof *y);
    }
    free(all);
    return status;
}

/* wo_a is shown a row for each group of a token. */
static tmb_status leave(tmb_heads *s, float *out)
{
    tmb_run *run = s->run;
    const tmb_weight *w = &run->layer->own[OUT_A], *entered[] = {w};
    size_t groups = run->d->config.out_groups, rows = run->tokens * groups;
    uint32_t *token = malloc(rows * sizeof *token);
    float *owned = NULL, *middle = tmb_floats(run->tokens, w->out, run->err);
    const float *use = NULL;
    tmb_status status =
        token && middle ? TMB_OK : tmb_fail_memory(run->err, rows * sizeof *token, "attention");
    for (size_t i = 0; !status && i < rows; i++)
        token[i] = (uint32_t)(i / groups);
    tmb_linear_seen seen = tmb_seen_of(run, s->out, w->in);
    seen.rows = rows;
    seen.token = token;
    if (!status) status = tmb_enter(run, entered, 1, &seen, &use, &owned);
    if (!status) status = multiply_groups(run, use, middle);
    if (!status) status = tmb_enter_one(run, &run->layer->o, middle, out);
    free(owned);
    free(middle);
    free(token);
    return status;
}

static tmb_status run_compressed(tmb_run *run, float *out)
{
    tmb_attention_kind kind = {.keys = keys, .attend = attend, .leave = leave};
    return tmb_attention_run(run, out, &kind);
}

static uint64_t bytes_compressed(const tmb_decoder *d, const tmb_decoder_layer *l, uint64_t tokens,
                                 uint64_t longest)
{
    const tmb_config *c = &d->config;
    size_t ratio = c->layer[l->index].ratio;
    uint64_t out = c->heads * c->head_dim, middle = c->out_groups * c->out_rank;
    tmb_attention_room room = {.kept = c->head_dim + c->q_rank + 2 * middle + c->out_groups,
                               .part = out,
                               .hooked = c->hidden + c->q_rank + out + middle,
                               .keys = longest};
    if (ratio) {
        /* entries, values and gates, of the indexer too, and its choice */
        uint64_t rows = c->head_dim + 2 * l->own[KV].out + 8;
        room.keys = longest + longest / ratio;
        room.kept += 2 * c->head_dim + (room.keys / 64 + 1) * 2;
        if (has_indexer(l))
            rows += (c->index.heads + 1) * (c->index.dim + 1) + 2 * l->own[INDEX_KV].out +
                    (longest / ratio / 64 + 1) * 2;
        if (d->hooks.activation) rows += c->hidden + c->q_rank;
        room.making = tmb_bytes_floats(tokens, rows);
        if (has_indexer(l))
            room.making = tmb_bytes_add(
                room.making, (uint64_t)d->threads * tmb_index_bytes(c->index.dim, longest / ratio));
    }
    return tmb_attention_bytes(d, tokens, longest, &room);
}

const tmb_block tmb_block_compressed = {
    .bind = bind_compressed, .run = run_compressed, .bytes = bytes_compressed};
