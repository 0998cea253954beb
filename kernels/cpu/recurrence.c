/* recurrence.c - the chunked form of recurrence.h. */
#include "config.h"
#include "kernels/cpu/recurrence.h"

#include <string.h>

enum { CHUNK = TMB_RECURRENCE_CHUNK, ROOM = (CHUNK + TMB_NN_ROWS - 1) / TMB_NN_ROWS * TMB_NN_ROWS };

/* Scratch of a run, cut from one piece.  n tokens are in the chunk. */
typedef struct cuts {
    float *state;           /* [heads, key_dim, value_dim] */
    float *rows_q, *rows_k; /* packed rows */
    float *weight_k;        /* k packed as a weight */
    float *kk, *qk;         /* [n, n] k.k and q.k */
    float *packed;          /* the state, then d, packed as a weight [value_dim] */
    float *d;               /* [n, value_dim] */
    float *past;            /* [n, value_dim] what is seen of the state */
    float *seen;            /* [n, n] */
    float *rows;            /* packed rows of the two above */
    float *turned;          /* [key_dim, n] k, transposed and scaled */
    float *step;            /* [key_dim, value_dim] */
    float *line;            /* [4, CHUNK]: sums of decays, their exponentials, weights, one row */
} cuts;

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* Where each part begins, or with base NULL how many floats there are. */
static size_t cut(cuts *c, float *base, size_t heads, size_t key_dim, size_t value_dim)
{
    size_t wide = round_up(value_dim, TMB_NN_PANEL), depth = key_dim > CHUNK ? key_dim : CHUNK;
    size_t tall = round_up(key_dim, TMB_NN_ROWS) > ROOM ? round_up(key_dim, TMB_NN_ROWS) : ROOM;
    const size_t sizes[] = {heads * key_dim * value_dim,
                            ROOM * key_dim,
                            ROOM * key_dim,
                            CHUNK * key_dim,
                            CHUNK * CHUNK,
                            CHUNK * CHUNK,
                            wide * depth,
                            CHUNK * value_dim,
                            CHUNK * value_dim,
                            CHUNK * CHUNK,
                            tall * CHUNK,
                            key_dim * CHUNK,
                            key_dim * value_dim,
                            4 * CHUNK};
    float **parts[] = {&c->state, &c->rows_q, &c->rows_k, &c->weight_k, &c->kk,
                       &c->qk,    &c->packed, &c->d,      &c->past,     &c->seen,
                       &c->rows,  &c->turned, &c->step,   &c->line};
    size_t at = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        if (base) *parts[i] = base + at;
        at += round_up(sizes[i], 16);
    }
    return at;
}

size_t tmb_recurrence_floats(size_t heads, size_t key_dim, size_t value_dim)
{
    cuts c;
    return cut(&c, NULL, heads, key_dim, value_dim);
}

/* y [rows, out] = packed rows of depth `in` times w. */
static void multiply(const tmb_nn *nn, float *y, const float *rows, size_t n, const tmb_packed *w)
{
    nn->gemm(y, w->out, rows, n, w->in, w, 0, tmb_packed_panels(w->out), NULL);
}

/* line[0] = sums of the decays so far, line[1] = their exponentials, line[2] = the weights. */
static void lines(const tmb_nn *nn, const tmb_recurrence *r, const cuts *c, size_t at, size_t head,
                  size_t n)
{
    float sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += r->decay[(at + i) * r->stride + head];
        c->line[i] = sum;
        c->line[2 * CHUNK + i] = r->weight[(at + i) * r->stride + head];
    }
    nn->exp(c->line + CHUNK, c->line, n);
}

/* seen[i][j] = by[i] * dots[i][j] * exp(sum_i - sum_j) for j < i, or j <= i when `self`; zero
 * elsewhere.  by NULL: ones. */
static void triangle(const tmb_nn *nn, const cuts *c, const float *dots, const float *by, size_t n,
                     bool self)
{
    float *row = c->line + 3 * CHUNK;
    for (size_t i = 0; i < n; i++) {
        size_t end = i + self;
        for (size_t j = 0; j < end; j++)
            row[j] = c->line[i] - c->line[j];
        if (end) nn->exp(row, row, end);
        float *to = c->seen + i * n, scale = by ? by[i] : 1;
        for (size_t j = 0; j < end; j++)
            to[j] = dots[i * n + j] * row[j] * scale;
        memset(to + end, 0, (n - end) * sizeof *to);
    }
}

/* The d of the chunk's tokens. */
static void drives(const tmb_nn *nn, const tmb_recurrence *r, const cuts *c, size_t at, size_t head,
                   size_t n, const tmb_packed *state)
{
    const float *sums = c->line + CHUNK, *weight = c->line + 2 * CHUNK;
    size_t wide = r->value_dim;
    if (r->delta) multiply(nn, c->past, c->rows_k, n, state);
    for (size_t i = 0; i < n; i++) {
        const float *v = r->v + (at + i) * r->v_stride + head * wide, *past = c->past + i * wide;
        float *d = c->d + i * wide;
        for (size_t j = 0; j < wide; j++)
            d[j] = r->delta ? (v[j] - sums[i] * past[j]) * weight[i] : v[j] * weight[i];
    }
    if (!r->delta) return;
    triangle(nn, c, c->kk, weight, n, false);
    nn->solve(c->d, wide, c->seen, n, wide);
}

/* Tokens at … at+n-1 of one head. */
static void chunk(const tmb_nn *nn, const tmb_recurrence *r, const cuts *c, size_t at, size_t head,
                  size_t n)
{
    const float *sums = c->line + CHUNK;
    size_t keys = r->key_dim, wide = r->value_dim;
    float *state = c->state + head * keys * wide;
    tmb_packed whole = {c->packed, wide, keys, false}, d = {c->packed, wide, n, false};
    lines(nn, r, c, at, head, n);
    nn->pack_turned(&whole, state, wide);
    drives(nn, r, c, at, head, n, &whole);
    multiply(nn, c->past, c->rows_q, n, &whole);

    nn->pack_turned(&d, c->d, wide);
    triangle(nn, c, c->qk, NULL, n, true);
    nn->pack_rows(c->rows, c->seen, n, n, n);
    float *out = r->out + at * r->out_stride + head * wide;
    nn->gemm(out, r->out_stride, c->rows, n, n, &d, 0, tmb_packed_panels(wide), NULL);
    for (size_t i = 0; i < n; i++)
        nn->add_scaled(out + i * r->out_stride, c->past + i * wide, sums[i], wide);

    float *left = c->line + 3 * CHUNK;
    for (size_t i = 0; i < n; i++)
        left[i] = c->line[n - 1] - c->line[i];
    nn->exp(left, left, n);
    for (size_t k = 0; k < keys; k++)
        for (size_t i = 0; i < n; i++)
            c->turned[k * n + i] = r->k[(at + i) * r->qk_stride + k] * left[i];
    nn->pack_rows(c->rows, c->turned, keys, n, n);
    multiply(nn, c->step, c->rows, keys, &d);
    nn->add_scaled(c->step, state, sums[n - 1], keys * wide);
    memcpy(state, c->step, keys * wide * sizeof *state);
}

void tmb_recurrence_run(const tmb_nn *nn, const tmb_recurrence *r, float *scratch)
{
    cuts c;
    size_t keys = r->key_dim;
    cut(&c, scratch, r->heads, keys, r->value_dim);
    memset(c.state, 0, r->heads * keys * r->value_dim * sizeof *c.state);
    for (size_t at = 0; at < r->tokens; at += CHUNK) {
        size_t n = r->tokens - at < CHUNK ? r->tokens - at : CHUNK;
        const float *q = r->q + at * r->qk_stride, *k = r->k + at * r->qk_stride;
        tmb_packed w = {c.weight_k, n, keys, false};
        nn->pack_rows(c.rows_q, q, n, keys, r->qk_stride);
        nn->pack(&w, 0, k, n, r->qk_stride);
        multiply(nn, c.qk, c.rows_q, n, &w);
        if (r->delta) {
            nn->pack_rows(c.rows_k, k, n, keys, r->qk_stride);
            multiply(nn, c.kk, c.rows_k, n, &w);
        }
        for (size_t head = 0; head < r->heads; head++)
            chunk(nn, r, &c, at, head, n);
    }
}
