/* delta.c - linear attention by the gated delta rule (Qwen3-Next): projections, a causal
 * convolution over what goes to queries, keys and values, a state for each head, a gated norm.
 *
 * The formulas are those of transformers 5.17, models/qwen3_next/modeling_qwen3_next.py.  Queries,
 * keys, values and z lie in one tensor, woven by key head (in_proj_qkvz, in_proj_ba), or in four;
 * which, is seen in the tensors. */
#include "config.h"
#include "moe/infer/bind.h"

#include "kernels/base/team.h"
#include "kernels/cpu/recurrence.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Places in tmb_decoder_layer.own and own_vector.  QKV and B also hold the woven tensors. */
enum { QKV, Z, B, A, OUT };
enum { CONV, A_LOG, DT_BIAS, NORM };

typedef struct sizes {
    size_t keys, values; /* of all heads: key_heads * key_dim, value_heads * value_dim */
    size_t mixed;        /* what the convolution goes over: queries, keys, values */
    size_t share;        /* value heads of a key head */
} sizes;

static sizes sizes_of(const tmb_config *c)
{
    const struct tmb_linear_config *l = &c->linear;
    sizes s = {l->key_heads * l->key_dim, l->value_heads * l->value_dim, 0, 0};
    s.mixed = 2 * s.keys + s.values;
    s.share = l->value_heads / l->key_heads;
    return s;
}

static tmb_status bind_delta(tmb_binder *b)
{
    static const char *const at = "linear_attn";
    const tmb_config *c = &b->d->config;
    const struct tmb_linear_config *n = &c->linear;
    tmb_decoder_layer *l = b->layer;
    sizes s = sizes_of(c);
    tmb_bind_part(b, at, "in_proj_qkvz");
    if (tmb_model_find(b->d->model, b->name)) {
        TRY(tmb_bind_weight(b, &l->own[QKV], s.mixed + s.values, c->hidden));
        TRY(tmb_bind_linear(b, &l->own[B], at, "in_proj_ba", 2 * n->value_heads, c->hidden));
    } else {
        TRY(tmb_bind_linear(b, &l->own[QKV], at, "in_proj_qkv", s.mixed, c->hidden));
        TRY(tmb_bind_linear(b, &l->own[Z], at, "in_proj_z", s.values, c->hidden));
        TRY(tmb_bind_linear(b, &l->own[B], at, "in_proj_b", n->value_heads, c->hidden));
        TRY(tmb_bind_linear(b, &l->own[A], at, "in_proj_a", n->value_heads, c->hidden));
    }
    TRY(tmb_bind_linear(b, &l->own[OUT], at, "out_proj", c->hidden, s.values));
    tmb_bind_part(b, at, "conv1d");
    TRY(tmb_bind_vector(b, &l->own_vector[CONV], ".weight", s.mixed * n->taps));
    tmb_bind_part(b, at, "A_log");
    TRY(tmb_bind_vector(b, &l->own_vector[A_LOG], "", n->value_heads));
    tmb_bind_part(b, at, "dt_bias");
    TRY(tmb_bind_vector(b, &l->own_vector[DT_BIAS], "", n->value_heads));
    tmb_bind_part(b, at, "norm");
    return tmb_bind_vector(b, &l->own_vector[NORM], ".weight", n->value_dim);
}

/* What a run holds.  The rows of a part are whole sequences, of which the first begins the part. */
typedef struct delta {
    tmb_run *run;
    sizes s;
    const float *in, *small_in; /* [tokens, hidden] what enters QKV and Z, B and A */
    float *out;                 /* [tokens, values] of the whole batch */
    float *woven;               /* [rows, mixed + values], when the tensors are */
    float *mixed;               /* [rows, mixed] before the convolution */
    float *u;                   /* [rows, mixed] behind it */
    float *z;                   /* [rows, values] */
    float *ba;                  /* [rows, 2 * value_heads]; later the weights, then the decays */
    float *pair;                /* [rows, 2 * value_heads] as they are projected */
    float *conv;                /* [taps, mixed] */
    size_t first, n;            /* rows of the part */
    size_t begin;               /* its first sequence */
    size_t *position;           /* [rows] */
    int failed;                 /* atomic */
} delta;

/* A token's queries, keys, values and z from where they are woven by key head; b and a likewise. */
static void unweave_row(const delta *t, size_t i)
{
    const struct tmb_linear_config *n = &t->run->d->config.linear;
    size_t keys = n->key_dim, values = t->s.share * n->value_dim;
    const float *from = t->woven + i * (t->s.mixed + t->s.values);
    float *q = t->mixed + i * t->s.mixed, *k = q + t->s.keys, *v = k + t->s.keys;
    float *z = t->z + i * t->s.values;
    for (size_t h = 0; h < n->key_heads; h++, from += 2 * keys + 2 * values) {
        memcpy(q + h * keys, from, keys * sizeof *q);
        memcpy(k + h * keys, from + keys, keys * sizeof *k);
        memcpy(v + h * values, from + 2 * keys, values * sizeof *v);
        memcpy(z + h * values, from + 2 * keys + values, values * sizeof *z);
    }
    const float *pair = t->pair + i * 2 * n->value_heads;
    float *b = t->ba + i * 2 * n->value_heads, *a = b + n->value_heads;
    for (size_t h = 0; h < n->value_heads; h++) {
        size_t at = h / t->s.share * 2 * t->s.share + h % t->s.share;
        b[h] = pair[at];
        a[h] = pair[at + t->s.share];
    }
}

static double softplus(double x)
{
    return x > 20 ? x : log1p(exp(x));
}

/* Of one token: u, queries and keys of length one, weights and decays. */
static void prepare_row(void *ctx, size_t i)
{
    delta *t = ctx;
    const tmb_decoder *d = t->run->d;
    const tmb_nn *nn = d->nn;
    const struct tmb_linear_config *n = &d->config.linear;
    const tmb_vector *own = t->run->layer->own_vector;
    float *u = t->u + i * t->s.mixed;
    size_t seen = t->position[i] + 1 < n->taps ? t->position[i] + 1 : n->taps;
    nn->taps(u, t->mixed + (i + 1 - seen) * t->s.mixed, t->s.mixed,
             t->conv + (n->taps - seen) * t->s.mixed, seen, NULL, t->s.mixed);
    nn->silu(u, u, t->s.mixed);
    float root = 1.0f / sqrtf((float)n->key_dim);
    for (size_t h = 0; h < 2 * n->key_heads; h++) {
        /* x / sqrt(sum x^2 + 1e-6), and of queries once more by the root */
        float *head = u + h * n->key_dim;
        nn->rms_norm(head, head, NULL, n->key_dim, 1e-6f / (float)n->key_dim);
        nn->scale(head, head, h < n->key_heads ? root * root : root, n->key_dim);
    }
    float *b = t->ba + i * 2 * n->value_heads, *a = b + n->value_heads;
    nn->sigmoid(b, b, n->value_heads);
    for (size_t h = 0; h < n->value_heads; h++)
        a[h] = (float)(-exp((double)own[A_LOG].values[h]) *
                       softplus((double)a[h] + (double)own[DT_BIAS].values[h]));
}

static void unweave(void *ctx, size_t i)
{
    unweave_row(ctx, i);
}

/* One key head of one sequence. */
static void recur(void *ctx, size_t i)
{
    delta *t = ctx;
    const tmb_decoder *d = t->run->d;
    const struct tmb_linear_config *n = &d->config.linear;
    size_t head = i % n->key_heads, s = t->begin + i / n->key_heads;
    const size_t *begin = t->run->batch->begin;
    size_t row = begin[s] - t->first;
    float *scratch =
        tmb_floats(tmb_recurrence_floats(t->s.share, n->key_dim, n->value_dim), 1, NULL);
    if (!scratch) {
        __atomic_store_n(&t->failed, 1, __ATOMIC_RELAXED);
        return;
    }
    const float *u = t->u + row * t->s.mixed, *b = t->ba + row * 2 * n->value_heads;
    size_t values = head * t->s.share;
    tmb_recurrence r = {.tokens = begin[s + 1] - begin[s],
                        .heads = t->s.share,
                        .key_dim = n->key_dim,
                        .value_dim = n->value_dim,
                        .q = u + head * n->key_dim,
                        .k = u + t->s.keys + head * n->key_dim,
                        .v = u + 2 * t->s.keys + values * n->value_dim,
                        .qk_stride = t->s.mixed,
                        .v_stride = t->s.mixed,
                        .weight = b + values,
                        .decay = b + n->value_heads + values,
                        .stride = 2 * n->value_heads,
                        .out = t->out + begin[s] * t->s.values + values * n->value_dim,
                        .out_stride = t->s.values,
                        .delta = true};
    tmb_recurrence_run(d->nn, &r, scratch);
    free(scratch);
}

/* A token's heads normed, then behind their gates. */
static void finish_row(void *ctx, size_t i)
{
    delta *t = ctx;
    const tmb_decoder *d = t->run->d;
    const struct tmb_linear_config *n = &d->config.linear;
    float *out = t->out + (t->first + i) * t->s.values, *z = t->z + i * t->s.values;
    for (size_t h = 0; h < n->value_heads; h++, out += n->value_dim)
        d->nn->rms_norm(out, out, t->run->layer->own_vector[NORM].values, n->value_dim,
                        d->config.eps);
    out = t->out + (t->first + i) * t->s.values;
    if (n->sigmoid) {
        d->nn->gate(out, z, t->s.values);
        return;
    }
    d->nn->swiglu(z, out, t->s.values);
    memcpy(out, z, t->s.values * sizeof *out);
}

/* Sequences begin … end-1, whose rows are t->first and the t->n-1 behind it. */
static tmb_status run_part(delta *t, size_t end)
{
    tmb_run *run = t->run;
    const tmb_decoder *d = run->d;
    const tmb_weight *own = run->layer->own;
    const size_t *begin = run->batch->begin;
    size_t heads = d->config.linear.value_heads;
    t->first = begin[t->begin];
    t->n = begin[end] - t->first;
    const float *in = t->in + t->first * d->config.hidden;
    const float *small = t->small_in + t->first * d->config.hidden;
    for (size_t s = t->begin; s < end; s++)
        for (size_t i = begin[s]; i < begin[s + 1]; i++)
            t->position[i - t->first] = i - begin[s];
    TRY(tmb_project(run, &own[QKV], in, t->n, t->woven ? t->woven : t->mixed));
    if (t->woven) {
        TRY(tmb_project(run, &own[B], small, t->n, t->pair));
        tmb_each_row(d, t->n, unweave, t);
    } else {
        TRY(tmb_project(run, &own[Z], in, t->n, t->z));
        tmb_product p[] = {{&own[B], small, t->n, d->config.hidden, t->ba, 2 * heads},
                           {&own[A], small, t->n, d->config.hidden, t->ba + heads, 2 * heads}};
        for (int i = 0; i < 2; i++)
            TRY(tmb_multiply_long(run->d, &p[i], run->err));
    }
    tmb_each_row(d, t->n, prepare_row, t);
    tmb_team_each(d->threads, (end - t->begin) * d->config.linear.key_heads, 1, recur, t);
    if (t->failed) return tmb_fail_memory(run->err, t->n, "linear attention");
    tmb_each_row(d, t->n, finish_row, t);
    return TMB_OK;
}

/* Floats of a row of a part. */
static size_t part_floats(const tmb_config *c, bool woven)
{
    sizes s = sizes_of(c);
    return 2 * s.mixed + s.values + 4 * c->linear.value_heads + (woven ? s.mixed + s.values : 0);
}

static tmb_status make_room(delta *t, size_t rows)
{
    const tmb_config *c = &t->run->d->config;
    const tmb_decoder_layer *l = t->run->layer;
    tmb_err *err = t->run->err;
    size_t heads = c->linear.value_heads, taps = c->linear.taps;
    bool woven = !l->own[Z].out;
    t->s = sizes_of(c);
    t->out = tmb_floats(t->run->tokens, t->s.values, err);
    t->woven = woven ? tmb_floats(rows, t->s.mixed + t->s.values, err) : NULL;
    t->mixed = tmb_floats(rows, t->s.mixed, err);
    t->u = tmb_floats(rows, t->s.mixed, err);
    t->z = tmb_floats(rows, t->s.values, err);
    t->ba = tmb_floats(rows, 2 * heads, err);
    t->pair = tmb_floats(rows, 2 * heads, err);
    t->conv = tmb_floats(taps, t->s.mixed, err);
    t->position = malloc(rows * sizeof *t->position);
    if (!t->out || (woven && !t->woven) || !t->mixed || !t->u || !t->z || !t->ba || !t->pair ||
        !t->conv || !t->position)
        return tmb_fail_memory(err, rows * part_floats(c, woven) * sizeof(float),
                               "linear attention");
    for (size_t k = 0; k < taps; k++)
        for (size_t i = 0; i < t->s.mixed; i++)
            t->conv[k * t->s.mixed + i] = l->own_vector[CONV].values[i * taps + k];
    return TMB_OK;
}

static tmb_status run_delta(tmb_run *run, float *out)
{
    delta t = {.run = run};
    const tmb_weight *own = run->layer->own;
    const tmb_weight *mixed[] = {&own[QKV], &own[Z]}, *small[] = {&own[B], &own[A]};
    float *owned[2] = {NULL, NULL};
    tmb_linear_seen seen = tmb_seen_of(run, run->h, run->d->config.hidden);
    tmb_status status = make_room(&t, tmb_part_most(run->batch));
    if (!status) status = tmb_enter(run, mixed, 2, &seen, &t.in, &owned[0]);
    if (!status) status = tmb_enter(run, small, 2, &seen, &t.small_in, &owned[1]);
    while (!status && t.begin < run->batch->sequences) {
        size_t end = tmb_part_end(run->batch, t.begin);
        status = run_part(&t, end);
        t.begin = end;
    }
    if (!status) status = tmb_enter_one(run, &own[OUT], t.out, out);
    void *all[] = {owned[0], owned[1], t.out,  t.woven, t.mixed,   t.u,
                   t.z,      t.ba,     t.pair, t.conv,  t.position};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    return status;
}

static uint64_t bytes_delta(const tmb_decoder *d, const tmb_decoder_layer *l, uint64_t tokens,
                            uint64_t longest)
{
    const tmb_config *c = &d->config;
    sizes s = sizes_of(c);
    uint64_t rows = tokens < TMB_PART_TOKENS ? tokens : TMB_PART_TOKENS;
    rows = rows > longest ? rows : longest;
    uint64_t bytes = tmb_bytes_floats(tokens, s.values);
    bytes = tmb_bytes_add(bytes, tmb_bytes_floats(rows, part_floats(c, !l->own[Z].out) + 2));
    bytes = tmb_bytes_add(bytes, tmb_bytes_floats(2 * c->linear.taps, s.mixed));
    uint64_t scratch = tmb_recurrence_floats(s.share, c->linear.key_dim, c->linear.value_dim);
    bytes = tmb_bytes_add(bytes, tmb_bytes_floats((uint64_t)d->threads, scratch));
    if (d->hooks.activation)
        bytes = tmb_bytes_add(bytes, tmb_bytes_floats(tokens, 2 * c->hidden + s.values));
    return bytes;
}

const tmb_block tmb_block_delta = {.bind = bind_delta, .run = run_delta, .bytes = bytes_delta};
