/* ple.c - hashed n-grams of token ids: rows of a table in many shards, their values behind a gate
 * of each residual stream, and a short convolution over time.
 *
 * The formulas are those of transformers 5.17, models/qwen4_exp/modeling_qwen4_exp.py; multipliers,
 * sizes and offsets of the hash are read from the checkpoint. */
#include "config.h"
#include "moe/infer/ple.h"
#include "moe/infer/bind.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Places in tmb_decoder_layer.own and own_vector, behind those of delta.c. */
enum { KEY = 5, VALUE };
enum { CONV = 4, NORM_KEY, NORM_QUERY, NORM_CONV };

/* The hash and the table of a layer. */
struct tmb_ple {
    tmb_grams grams;
    int64_t *numbers;          /* of the hash: multipliers, sizes, offsets */
    const tmb_tensor **shards; /* [n] rows in a row */
    size_t n;
    uint64_t rows; /* of all shards */
};

static size_t channels(const tmb_config *c)
{
    return c->streams * c->hidden;
}

static size_t heads(const tmb_config *c)
{
    return (c->gram_size - 1) * c->gram_heads;
}

/* I64 numbers of the hash, read at once: they decide whether the table fits. */
static tmb_status read_numbers(tmb_binder *b, const char *leaf, size_t n, int64_t *to)
{
    tmb_bind_part(b, "ple.ple_embedding", leaf);
    const tmb_tensor *t = tmb_checkpoint_find(b->d->model->ckpt, b->name);
    if (!t) return tmb_bind_missing(b, "");
    if (t->dtype != TMB_I64 || t->bytes != n * sizeof *to)
        return tmb_fail(b->err, TMB_EDATA, "%s: tensor \"%s\" should hold %zu numbers in I64",
                        tmb_bind_shard(b, t), t->name, n);
    return tmb_checkpoint_read(b->d->model->ckpt, t, 0, to, t->bytes, b->err);
}

static tmb_status bind_shards(tmb_binder *b, tmb_ple *p)
{
    const tmb_checkpoint *ckpt = b->d->model->ckpt;
    const tmb_config *c = &b->d->config;
    size_t wide = c->gram_width / heads(c);
    p->shards = tmb_arena_alloc(&b->d->arena, c->gram_shards * sizeof *p->shards);
    if (!p->shards) return tmb_fail_memory(b->err, c->gram_shards * sizeof *p->shards, "shards");
    for (p->n = 0; p->n < c->gram_shards; p->n++) {
        char leaf[64];
        snprintf(leaf, sizeof leaf, "shard_%zu", p->n);
        tmb_bind_part(b, "ple.ple_embedding.ngram_embedding", leaf);
        snprintf(b->name + strlen(b->name), sizeof b->name - strlen(b->name), ".weight");
        const tmb_tensor *t = tmb_checkpoint_find(ckpt, b->name);
        if (!t) break;
        if (!tmb_bind_is_plain(t) || t->rank != 2 || t->shape[1] != wide)
            return tmb_fail(b->err, TMB_EUNAVAILABLE,
                            "%s: tensor \"%s\" should be [rows, %zu] of F32, F16 or BF16; a table "
                            "of another type is not run yet",
                            tmb_bind_shard(b, t), t->name, wide);
        p->shards[p->n] = t;
        p->rows += t->shape[0];
    }
    return p->n ? TMB_OK : tmb_bind_missing(b, "");
}

static tmb_status bind_table(tmb_binder *b, tmb_ple *p)
{
    const tmb_config *c = &b->d->config;
    size_t n = heads(c), size = c->gram_size;
    p->numbers = tmb_arena_alloc(&b->d->arena, (size + 2 * n) * sizeof *p->numbers);
    if (!p->numbers) return tmb_fail_memory(b->err, (size + 2 * n) * 8, "a hash");
    TRY(read_numbers(b, "layer_multipliers", size, p->numbers));
    TRY(read_numbers(b, "ngram_heads_vocab_sizes", n, p->numbers + size));
    TRY(read_numbers(b, "ngram_heads_offsets", n, p->numbers + size + n));
    p->grams = (tmb_grams){.size = size,
                           .heads = c->gram_heads,
                           .eos = c->eos,
                           .multiplier = p->numbers,
                           .vocab = p->numbers + size,
                           .offset = p->numbers + size + n};
    TRY(bind_shards(b, p));
    for (size_t i = 0; i < n; i++) {
        int64_t vocab = p->grams.vocab[i], offset = p->grams.offset[i];
        if (vocab < 1 || offset < 0 || (uint64_t)vocab > p->rows ||
            (uint64_t)offset > p->rows - (uint64_t)vocab)
            return tmb_fail(b->err, TMB_EDATA,
                            "%s: layer %d: head %zu of the n-grams reaches past the %" PRIu64
                            " rows of their table",
                            b->d->model->ckpt->path, b->layer->index, i, p->rows);
    }
    return TMB_OK;
}

tmb_status tmb_ple_bind(tmb_binder *b)
{
    const tmb_config *c = &b->d->config;
    tmb_decoder_layer *l = b->layer;
    size_t all = channels(c);
    l->ple = tmb_arena_alloc(&b->d->arena, sizeof *l->ple);
    if (!l->ple) return tmb_fail_memory(b->err, sizeof *l->ple, "n-grams");
    TRY(tmb_bind_linear(b, &l->own[KEY], "ple", "key_proj", all, c->gram_width));
    TRY(tmb_bind_linear(b, &l->own[VALUE], "ple", "value_proj", c->hidden, c->gram_width));
    tmb_bind_part(b, "ple", "conv1d");
    TRY(tmb_bind_vector(b, &l->own_vector[CONV], ".weight", all * c->gram_taps));
    tmb_bind_part(b, "ple", "norm_key");
    TRY(tmb_bind_norm(b, &l->own_vector[NORM_KEY], all));
    tmb_bind_part(b, "ple", "norm_query");
    TRY(tmb_bind_norm(b, &l->own_vector[NORM_QUERY], all));
    tmb_bind_part(b, "ple", "norm_conv");
    TRY(tmb_bind_norm(b, &l->own_vector[NORM_CONV], all));
    return bind_table(b, l->ple);
}

/* ------------------------------------------------------------------ rows of the table */

void tmb_gram_rows(const tmb_grams *g, const int32_t *ids, size_t position, int64_t *rows)
{
    uint64_t mixed = (uint64_t)ids[position] * (uint64_t)g->multiplier[0];
    bool cut = false;
    for (size_t s = 1; s < g->size; s++) {
        cut = cut || s > position || ids[position - s] == g->eos;
        uint64_t id = (uint64_t)(cut ? g->eos : ids[position - s]);
        mixed ^= id * (uint64_t)g->multiplier[s];
        for (size_t h = (s - 1) * g->heads; h < s * g->heads; h++) {
            int64_t row = (int64_t)mixed % g->vocab[h];
            rows[h] = (row < 0 ? row + g->vocab[h] : row) + g->offset[h];
        }
    }
}

/* e [gram_width] = the rows side by side. */
static tmb_status look_up(const tmb_run *run, const int64_t *rows, void *raw, float *e)
{
    const tmb_decoder *d = run->d;
    const tmb_ple *p = run->layer->ple;
    size_t n = heads(&d->config), wide = d->config.gram_width / n;
    for (size_t h = 0; h < n; h++) {
        uint64_t row = (uint64_t)rows[h];
        size_t s = 0;
        while (row >= p->shards[s]->shape[0])
            row -= p->shards[s++]->shape[0];
        const tmb_tensor *t = p->shards[s];
        size_t bytes = wide * (tmb_dtype_bits((tmb_dtype)t->dtype) / 8);
        TRY(tmb_checkpoint_read(d->model->ckpt, t, row * bytes, raw, bytes, run->err));
        d->ops->decode(e + h * wide, raw, (tmb_dtype)t->dtype, wide);
    }
    return TMB_OK;
}

/* e [tokens, gram_width]. */
static tmb_status embed(const tmb_run *run, float *e)
{
    const tmb_decoder *d = run->d;
    const tmb_batch *b = run->batch;
    size_t n = heads(&d->config), wide = d->config.gram_width;
    int32_t *ids = malloc(run->tokens * sizeof *ids);
    int64_t *rows = malloc(n * sizeof *rows);
    void *raw = malloc(wide * sizeof(float));
    tmb_status status = ids && rows && raw ? TMB_OK : tmb_fail_memory(run->err, wide, "n-grams");
    for (size_t t = 0; !status && t < run->tokens; t++)
        ids[t] = tmb_handed_id(d, b->x + t * d->width);
    for (size_t s = 0; !status && s < b->sequences; s++)
        for (size_t t = b->begin[s]; !status && t < b->begin[s + 1]; t++) {
            tmb_gram_rows(&run->layer->ple->grams, ids + b->begin[s], t - b->begin[s], rows);
            status = look_up(run, rows, raw, e + t * wide);
        }
    free(raw);
    free(rows);
    free(ids);
    return status;
}

/* ------------------------------------------------------------------ into the streams */

typedef struct adding {
    const tmb_run *run;
    float *value;     /* [tokens, hidden] */
    float *key;       /* [tokens, streams * hidden]; later the gated values */
    float *normed;    /* the same: gated values, normed */
    float *conv;      /* [taps, streams * hidden] */
    size_t *position; /* [tokens] */
} adding;

static void gate_row(void *ctx, size_t i)
{
    const adding *a = ctx;
    const tmb_decoder *d = a->run->d;
    const tmb_vector *own = a->run->layer->own_vector;
    size_t n = d->config.hidden, all = channels(&d->config);
    float *key = a->key + i * all, *query = a->normed + i * all;
    tmb_norm_streams(d, key, key, own[NORM_KEY].values);
    tmb_norm_streams(d, query, a->run->batch->x + i * d->width, own[NORM_QUERY].values);
    for (size_t s = 0; s < d->config.streams; s++) {
        double dot = 0;
        for (size_t k = 0; k < n; k++)
            dot += (double)key[s * n + k] * query[s * n + k];
        dot /= sqrt((double)n);
        float gate = (float)copysign(sqrt(fmax(fabs(dot), 1e-6)), dot), by;
        d->nn->sigmoid(&by, &gate, 1);
        d->nn->scale(key + s * n, a->value + i * n, by, n);
    }
    tmb_norm_streams(d, query, key, own[NORM_CONV].values);
}

/* One row of the convolution, whose taps lie gram_size tokens apart, and both into the streams. */
static void add_row(void *ctx, size_t i)
{
    const adding *a = ctx;
    const tmb_decoder *d = a->run->d;
    const tmb_config *c = &d->config;
    size_t all = channels(c), apart = c->gram_size, seen = a->position[i] / apart + 1;
    seen = seen < c->gram_taps ? seen : c->gram_taps;
    float *x = a->run->batch->x + i * d->width, room[256];
    for (size_t at = 0; at < all; at += 256) {
        size_t n = all - at < 256 ? all - at : 256, first = c->gram_taps - seen;
        memset(room, 0, sizeof room);
        for (size_t k = 0; k < seen; k++) {
            const float *from = a->normed + (i - (seen - 1 - k) * apart) * all + at;
            const float *w = a->conv + (first + k) * all + at;
            for (size_t j = 0; j < n; j++)
                room[j] = fmaf(w[j], from[j], room[j]);
        }
        d->nn->silu(room, room, n);
        d->nn->add_scaled(room, a->key + i * all + at, 1.0f, n);
        d->nn->add_scaled(x + at, room, 1.0f, n);
    }
}

static tmb_status make_room(adding *a)
{
    const tmb_run *run = a->run;
    const tmb_config *c = &run->d->config;
    const tmb_batch *b = run->batch;
    size_t all = channels(c), n = run->tokens;
    a->value = tmb_floats(n, c->hidden, run->err);
    a->key = tmb_floats(n, all, run->err);
    a->normed = tmb_floats(n, all, run->err);
    a->conv = tmb_floats(c->gram_taps, all, run->err);
    a->position = malloc(n * sizeof *a->position);
    if (!a->value || !a->key || !a->normed || !a->conv || !a->position)
        return tmb_fail_memory(run->err, 2 * n * all * sizeof(float), "n-grams");
    const float *w = run->layer->own_vector[CONV].values;
    for (size_t k = 0; k < c->gram_taps; k++)
        for (size_t i = 0; i < all; i++)
            a->conv[k * all + i] = w[i * c->gram_taps + k];
    for (size_t s = 0; s < b->sequences; s++)
        for (size_t t = b->begin[s]; t < b->begin[s + 1]; t++)
            a->position[t] = t - b->begin[s];
    return TMB_OK;
}

tmb_status tmb_ple_run(tmb_run *run)
{
    adding a = {.run = run};
    const tmb_weight *own = run->layer->own, *entered[] = {&own[KEY], &own[VALUE]};
    float *owned = NULL, *e = tmb_floats(run->tokens, run->d->config.gram_width, run->err);
    const float *use;
    tmb_linear_seen seen = tmb_seen_of(run, e, run->d->config.gram_width);
    tmb_status status = e ? make_room(&a) : TMB_ESYSTEM;
    if (!status) status = embed(run, e);
    if (!status) status = tmb_enter(run, entered, 2, &seen, &use, &owned);
    if (!status) status = tmb_project(run, &own[KEY], use, run->tokens, a.key);
    if (!status) status = tmb_project(run, &own[VALUE], use, run->tokens, a.value);
    if (!status) {
        tmb_each_row(run->d, run->tokens, gate_row, &a);
        tmb_each_row(run->d, run->tokens, add_row, &a);
    }
    void *all[] = {owned, e, a.value, a.key, a.normed, a.conv, a.position};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    return status;
}

uint64_t tmb_ple_bytes(const tmb_decoder *d, uint64_t tokens)
{
    const tmb_config *c = &d->config;
    if (!c->gram_size) return 0;
    size_t all = channels(c);
    uint64_t rows = (d->hooks.activation ? 2 : 1) * c->gram_width + c->hidden + 2 * all + 4;
    return tmb_bytes_add(tmb_bytes_floats(tokens, rows), tmb_bytes_floats(2 * c->gram_taps, all));
}
