/* attend.c - softmax attention over whole sequences.
 *
 * A thread takes one key-value head of one sequence, packs its keys and values as if they were
 * weights, and runs the queries past them in blocks: scores by gemm, softmax row by row, and the
 * values by gemm again.  Keys that a query does not see have the weight zero, which adds nothing to
 * a chain of products, and whole chains of zeros are left out: so the blocks change no result. */
#include "config.h"
#include "moe/infer/decoder.h"

#include "kernels/base/team.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { QUERIES = 96 }; /* a block; a multiple of TMB_NN_ROWS */

typedef struct scratch {
    float *key;     /* [length, head_dim] one head's keys side by side */
    float *packed;  /* keys */
    float *values;  /* packed */
    float *queries; /* packed rows of a block */
    float *scores;  /* [QUERIES, room] */
    float *weights; /* packed rows of them */
} scratch;

/* Floats of each part for a sequence of n tokens. */
static void sizes(size_t head_dim, size_t v_dim, size_t n, size_t out[6])
{
    out[0] = n * head_dim;
    out[1] = tmb_packed_width(n) * head_dim;
    out[2] = tmb_packed_width(v_dim) * n;
    out[3] = QUERIES * head_dim;
    out[4] = QUERIES * tmb_packed_width(n);
    out[5] = QUERIES * n;
}

uint64_t tmb_attend_bytes(const tmb_config *c, size_t longest)
{
    size_t s[6];
    uint64_t floats = 0;
    sizes(c->head_dim, c->v_dim, longest, s);
    for (int i = 0; i < 6; i++)
        floats += s[i];
    return floats * sizeof(float);
}

typedef struct job {
    const tmb_decoder *d;
    const tmb_attend *a;
    int failed; /* atomic */
} job;

static scratch cut(float *room, const size_t s[6])
{
    float *at[6];
    for (int i = 0; i < 6; i++) {
        at[i] = room;
        room += s[i];
    }
    return (scratch){at[0], at[1], at[2], at[3], at[4], at[5]};
}

/* The first key that query i of its sequence sees. */
static size_t first_seen(const tmb_attend *a, size_t i)
{
    if (a->view == TMB_VIEW_WINDOW) return i + 1 > a->reach ? i + 1 - a->reach : 0;
    if (a->view == TMB_VIEW_CHUNK) return i / a->reach * a->reach;
    return 0;
}

/* Keys of the first n tokens of a sequence. */
static size_t keys_of(const tmb_attend *a, size_t n)
{
    return a->ratio ? n + n / a->ratio : n;
}

/* Which keys the query at row `at` sees, NULL: all. */
static const uint64_t *mask_of(const tmb_attend *a, size_t at, size_t head)
{
    if (!a->seen) return NULL;
    size_t kv = head / (a->heads / a->kv_heads);
    return a->seen + (at * a->masks + kv % a->masks) * a->mask_words;
}

/* Put a value where a key is not seen: before the softmax, and, because its exponential ends at
 * the smallest normal number, behind it. */
static void hide(float *row, const uint64_t *seen, size_t from, size_t to, float value)
{
    for (size_t j = from; j < to; j++)
        if (!(seen[j / 64] >> j % 64 & 1)) row[j] = value;
}

/* Queries from … end-1 of the sequence at row `begin`, of one head. */
static void block(const job *j, const scratch *s, const tmb_packed *k, const tmb_packed *v,
                  size_t begin, size_t from, size_t end, size_t head)
{
    const tmb_attend *a = j->a;
    const tmb_nn *nn = j->d->nn;
    size_t n = end - from, o_stride = a->heads * a->v_dim;
    size_t skip = first_seen(a, from) / TMB_NN_DEPTH * TMB_NN_DEPTH, keys = keys_of(a, end) - skip;
    size_t panel = skip / TMB_NN_PANEL, room = tmb_packed_width(k->out);
    nn->pack_rows(s->queries, a->q + (begin + from) * a->q_stride + head * a->q_step, n,
                  a->head_dim, a->q_stride);
    nn->gemm(s->scores, room, s->queries, n, a->head_dim, k, panel,
             tmb_packed_panels(skip + keys) - panel, NULL);
    for (size_t i = 0; i < n; i++) {
        float *row = s->scores + i * room;
        size_t first = first_seen(a, from + i), last = keys_of(a, from + i + 1);
        const uint64_t *seen = mask_of(a, begin + from + i, head);
        if (seen) hide(row, seen, first, last, -INFINITY);
        nn->softmax(row + skip, keys, first - skip, last - skip, a->scale,
                    a->sinks ? a->sinks + head : NULL);
        if (seen) hide(row, seen, first, last, 0);
    }
    nn->pack_rows(s->weights, s->scores + skip, n, keys, room);
    tmb_packed rest = *v;
    rest.values = (float *)v->values + skip * TMB_NN_PANEL;
    nn->gemm(a->out + (begin + from) * o_stride + head * a->v_dim, o_stride, s->weights, n, keys,
             &rest, 0, tmb_packed_panels(a->v_dim), NULL);
}

static void take_head(void *ctx, size_t i)
{
    job *j = ctx;
    const tmb_attend *a = j->a;
    size_t kv = i % a->kv_heads, begin = a->begin[i / a->kv_heads],
           n = a->begin[i / a->kv_heads + 1] - begin;
    size_t s[6], floats = 0, group = a->heads / a->kv_heads;
    if (!n || __atomic_load_n(&j->failed, __ATOMIC_RELAXED)) return;
    size_t keys = keys_of(a, n), first = a->ratio ? a->key_begin[i / a->kv_heads] : begin;
    sizes(a->head_dim, a->v_dim, keys, s);
    for (int p = 0; p < 6; p++)
        floats += s[p];
    float *room = tmb_floats(floats, 1, NULL);
    if (!room) {
        __atomic_store_n(&j->failed, 1, __ATOMIC_RELAXED);
        return;
    }
    scratch cutting = cut(room, s);
    for (size_t t = 0; t < keys; t++) {
        float *to = cutting.key + t * a->head_dim;
        memcpy(to, a->k + (first + t) * a->k_stride + kv * a->k_step, a->k_dim * sizeof *to);
        if (a->k_tail)
            memcpy(to + a->k_dim, a->k_tail + (first + t) * a->tail_stride,
                   a->tail_dim * sizeof *to);
    }
    tmb_packed k = {cutting.packed, keys, a->head_dim, false},
               v = {cutting.values, a->v_dim, keys, false};
    j->d->nn->pack(&k, 0, cutting.key, keys, a->head_dim);
    j->d->nn->pack_turned(&v, a->v + first * a->v_stride + kv * a->v_step, a->v_stride);
    for (size_t head = kv * group; head < (kv + 1) * group; head++)
        for (size_t from = 0; from < n; from += QUERIES)
            block(j, &cutting, &k, &v, begin, from, from + QUERIES < n ? from + QUERIES : n, head);
    free(room);
}

tmb_status tmb_attend_run(const tmb_decoder *d, const tmb_attend *a, tmb_err *err)
{
    tmb_attend own = *a;
    if (!own.q_step) {
        own.q_step = a->head_dim;
        own.q_stride = a->heads * a->head_dim;
    }
    job j = {.d = d, .a = &own};
    tmb_team_each(d->threads, a->sequences * a->kv_heads, 1, take_head, &j);
    if (!j.failed) return TMB_OK;
    size_t longest = 0;
    for (size_t s = 0; s < a->sequences; s++)
        if (a->begin[s + 1] - a->begin[s] > longest) longest = a->begin[s + 1] - a->begin[s];
    return tmb_fail_memory(err, tmb_attend_bytes(&d->config, longest), "attention");
}
