/* manifold.c - residual streams that are mixed by matrices near doubly stochastic ones
 * (DeepSeek-V4).
 *
 * A half reads a weighted sum of the streams, and what it gives goes to each of them by a weight of
 * its own while a matrix mixes them; weights and matrix are made from all streams of the token. The
 * formulas are those of transformers 5.17, models/deepseek_v4/modeling_deepseek_v4.py. */
#include "config.h"
#include "moe/infer/bind.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Places in tmb_mixing. */
enum { FN };
enum { BASE, SCALE };
enum { ROWS = 256 }; /* that are mixed at a time */

static size_t mixes(const tmb_config *c)
{
    return (2 + c->streams) * c->streams;
}

/* A table [out, in] of plain numbers that is no Linear. */
static tmb_status bind_table(tmb_binder *b, tmb_weight *w, size_t out, size_t in)
{
    tmb_vector v = {0};
    TRY(tmb_bind_vector(b, &v, "", out * in));
    *w = (tmb_weight){.tensor = v.tensor,
                      .index = TMB_NONE,
                      .out = out,
                      .in = in,
                      .bf16 = v.tensor->dtype == TMB_BF16};
    return TMB_OK;
}

static tmb_status bind_half(tmb_binder *b, tmb_mixing *m, const char *name)
{
    const tmb_config *c = &b->d->config;
    char leaf[64];
    snprintf(leaf, sizeof leaf, "hc_%s_fn", name);
    tmb_bind_part(b, "", leaf);
    TRY(bind_table(b, &m->w[FN], mixes(c), c->streams * c->hidden));
    snprintf(leaf, sizeof leaf, "hc_%s_base", name);
    tmb_bind_part(b, "", leaf);
    TRY(tmb_bind_vector(b, &m->v[BASE], "", mixes(c)));
    snprintf(leaf, sizeof leaf, "hc_%s_scale", name);
    tmb_bind_part(b, "", leaf);
    return tmb_bind_vector(b, &m->v[SCALE], "", 3);
}

static tmb_status bind_layer(tmb_binder *b)
{
    TRY(bind_half(b, &b->layer->mixing[0], "attn"));
    return bind_half(b, &b->layer->mixing[1], "ffn");
}

static tmb_status bind_last(tmb_binder *b)
{
    const tmb_config *c = &b->d->config;
    tmb_mixing *m = &b->d->last_mixing;
    const char *prefix = b->d->model->prefix;
    tmb_bind_name(b, "%shc_head_fn", prefix);
    TRY(bind_table(b, &m->w[FN], c->streams, c->streams * c->hidden));
    tmb_bind_name(b, "%shc_head_base", prefix);
    TRY(tmb_bind_vector(b, &m->v[BASE], "", c->streams));
    tmb_bind_name(b, "%shc_head_scale", prefix);
    return tmb_bind_vector(b, &m->v[SCALE], "", 1);
}

/* ------------------------------------------------------------------ reading */

typedef struct reading {
    const tmb_decoder *d;
    const tmb_mixing *m;
    const float *x; /* [rows, width] */
    float *flat;    /* [rows, streams * hidden] to length */
    float *logits;  /* [rows, mixes] */
    float *read;    /* [rows, hidden] */
    float *mix;     /* [rows, streams + streams^2]: how the output goes to streams, how they mix;
                       NULL in front of the head */
} reading;

static void flatten_row(void *ctx, size_t i)
{
    const reading *r = ctx;
    const tmb_config *c = &r->d->config;
    size_t n = c->streams * c->hidden;
    r->d->nn->rms_norm(r->flat + i * n, r->x + i * r->d->width, NULL, n, c->eps);
}

/* Rows of m [n, n] to the sum one, then columns, over and over: Sinkhorn and Knopp. */
static void balance(float *m, size_t n, int rounds, float eps)
{
    for (int round = 0; round < rounds; round++) {
        for (size_t i = 0; round && i < n; i++) {
            float sum = 0;
            for (size_t j = 0; j < n; j++)
                sum += m[i * n + j];
            for (size_t j = 0; j < n; j++)
                m[i * n + j] /= sum + eps;
        }
        for (size_t j = 0; j < n; j++) {
            float sum = 0;
            for (size_t i = 0; i < n; i++)
                sum += m[i * n + j];
            for (size_t i = 0; i < n; i++)
                m[i * n + j] /= sum + eps;
        }
    }
}

static void read_row(void *ctx, size_t i)
{
    const reading *r = ctx;
    const tmb_config *c = &r->d->config;
    const tmb_nn *nn = r->d->nn;
    const float *base = r->m->v[BASE].values, *scale = r->m->v[SCALE].values;
    size_t h = c->streams, all = r->mix ? mixes(c) : h;
    float *m = r->logits + i * all, *read = r->read + i * c->hidden;
    for (size_t j = 0; j < all; j++)
        m[j] = m[j] * scale[j < h ? 0 : j < 2 * h ? 1 : 2] + base[j];
    nn->sigmoid(m, m, r->mix ? 2 * h : h);
    memset(read, 0, c->hidden * sizeof *read);
    for (size_t s = 0; s < h; s++)
        nn->add_scaled(read, r->x + i * r->d->width + s * c->hidden, m[s] + c->stream_eps,
                       c->hidden);
    if (!r->mix) return;
    float *to = r->mix + i * (h + h * h), *matrix = to + h;
    for (size_t s = 0; s < h; s++)
        to[s] = 2 * m[h + s];
    memcpy(matrix, m + 2 * h, h * h * sizeof *matrix);
    for (size_t s = 0; s < h; s++)
        nn->softmax(matrix + s * h, h, 0, h, 1, NULL);
    for (size_t j = 0; j < h * h; j++)
        matrix[j] += c->stream_eps;
    balance(matrix, h, c->rounds, c->stream_eps);
}

static tmb_status read_rows(tmb_decoder *d, const tmb_mixing *m, const float *x, size_t rows,
                            float *read, float *mix, tmb_err *err)
{
    const tmb_config *c = &d->config;
    size_t n = c->streams * c->hidden, some = rows < ROWS ? rows : ROWS;
    reading r = {.d = d, .m = m};
    r.flat = tmb_floats(some, n, err);
    r.logits = tmb_floats(some, mixes(c), err);
    tmb_status status = r.flat && r.logits ? TMB_OK : TMB_ESYSTEM;
    for (size_t at = 0; !status && at < rows; at += some) {
        size_t k = rows - at < some ? rows - at : some;
        r.x = x + at * d->width;
        r.read = read + at * c->hidden;
        r.mix = mix ? mix + at * (c->streams + c->streams * c->streams) : NULL;
        tmb_each_row(d, k, flatten_row, &r);
        tmb_product p = tmb_product_of(&m->w[FN], r.flat, k, r.logits);
        status = tmb_multiply(d, &p, 1, err);
        if (!status) tmb_each_row(d, k, read_row, &r);
    }
    free(r.flat);
    free(r.logits);
    return status;
}

/* ------------------------------------------------------------------ writing */

typedef struct writing {
    const tmb_decoder *d;
    float *x, *next; /* [rows, width], [rows, streams * hidden] */
    const float *out, *mix;
} writing;

static void write_row(void *ctx, size_t i)
{
    const writing *w = ctx;
    const tmb_config *c = &w->d->config;
    const tmb_nn *nn = w->d->nn;
    size_t h = c->streams, n = c->hidden;
    const float *to = w->mix + i * (h + h * h), *matrix = to + h;
    float *next = w->next + i * h * n, *x = w->x + i * w->d->width;
    for (size_t j = 0; j < h; j++) {
        nn->scale(next + j * n, w->out + i * n, to[j], n);
        for (size_t s = 0; s < h; s++)
            nn->add_scaled(next + j * n, x + s * n, matrix[s * h + j], n);
    }
    memcpy(x, next, h * n * sizeof *x);
}

static tmb_status write_rows(tmb_decoder *d, float *x, const float *out, const float *mix,
                             size_t rows, tmb_err *err)
{
    const tmb_config *c = &d->config;
    size_t some = rows < ROWS ? rows : ROWS, wide = c->streams + c->streams * c->streams;
    writing w = {.d = d, .next = tmb_floats(some, c->streams * c->hidden, err)};
    if (!w.next) return TMB_ESYSTEM;
    for (size_t at = 0; at < rows; at += some) {
        w.x = x + at * d->width;
        w.out = out + at * c->hidden;
        w.mix = mix + at * wide;
        tmb_each_row(d, rows - at < some ? rows - at : some, write_row, &w);
    }
    free(w.next);
    return TMB_OK;
}

static tmb_status last_rows(tmb_decoder *d, float *h, const float *x, size_t rows, tmb_err *err)
{
    const tmb_config *c = &d->config;
    TRY(read_rows(d, &d->last_mixing, x, rows, h, NULL, err));
    tmb_norm_rows(d, h, h, &d->final_norm, rows, c->hidden, c->hidden, c->eps);
    return TMB_OK;
}

static size_t mix_floats(const tmb_config *c)
{
    return c->streams + c->streams * c->streams;
}

static uint64_t bytes(const tmb_decoder *d, uint64_t rows)
{
    const tmb_config *c = &d->config;
    return tmb_bytes_floats(rows < ROWS ? rows : ROWS, c->streams * c->hidden + mixes(c));
}

const tmb_streaming tmb_streaming_manifold = {.bind = bind_layer,
                                              .bind_last = bind_last,
                                              .read = read_rows,
                                              .write = write_rows,
                                              .last = last_rows,
                                              .mix_floats = mix_floats,
                                              .bytes = bytes};
