/* hyper.c - residual streams with hyper-connections of low rank (Qwen4): a half reads a mean of the
 * normed streams, each element behind a gate of its own, and what it gives is added to every stream
 * by a weight of its own.  There are no other norms around a half; in front of the head stands one
 * mix more.
 *
 * The formulas are those of transformers 5.17, models/qwen4_exp/modeling_qwen4_exp.py. */
#include "config.h"
#include "moe/infer/bind.h"
#include "moe/infer/ple.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Places in tmb_mixing. */
enum { DOWN, UP, INJECT };
enum { NORM };
enum { ROWS = 256 }; /* that are mixed at a time */

/* The module whose name is in front of the leaves. */
static tmb_status bind_mix(tmb_binder *b, tmb_mixing *m, const char *module, bool injects)
{
    const tmb_config *c = &b->d->config;
    size_t all = c->streams * c->hidden;
    tmb_bind_name(b, "%s.hc_norm", module);
    TRY(tmb_bind_norm(b, &m->v[NORM], all));
    tmb_bind_name(b, "%s.input_mix_weight_down", module);
    TRY(tmb_bind_weight(b, &m->w[DOWN], c->stream_rank, all));
    tmb_bind_name(b, "%s.input_mix_weight_up", module);
    TRY(tmb_bind_weight(b, &m->w[UP], all, c->stream_rank));
    if (!injects) return TMB_OK;
    tmb_bind_name(b, "%s.block_inject_weight", module);
    return tmb_bind_weight(b, &m->w[INJECT], c->streams, all);
}

static tmb_status bind_layer(tmb_binder *b)
{
    static const char *const names[] = {"attn_hyper_connection", "mlp_hyper_connection"};
    char module[256];
    for (int i = 0; i < 2; i++) {
        snprintf(module, sizeof module, "%slayers.%d.%s", b->d->model->prefix, b->layer->index,
                 names[i]);
        TRY(bind_mix(b, &b->layer->mixing[i], module, true));
    }
    return b->d->config.layer[b->layer->index].grams ? tmb_ple_bind(b) : TMB_OK;
}

static tmb_status bind_last(tmb_binder *b)
{
    char module[256];
    snprintf(module, sizeof module, "%shyper_connection_mixer", b->d->model->prefix);
    return bind_mix(b, &b->d->last_mixing, module, false);
}

typedef struct mixing {
    const tmb_decoder *d;
    const tmb_mixing *m;
    const float *x;        /* [rows, width] */
    float *normed, *gates; /* [rows, streams * hidden] */
    float *low;            /* [rows, rank] */
    float *read, *mix;     /* [rows, hidden], [rows, streams]; mix NULL in front of the head */
} mixing;

void tmb_norm_streams(const tmb_decoder *d, float *y, const float *x, const float *weight)
{
    size_t n = d->config.hidden;
    for (size_t s = 0; s < d->config.streams; s++)
        d->nn->rms_norm(y + s * n, x + s * n, weight + s * n, n, d->config.eps);
}

static void norm_row(void *ctx, size_t i)
{
    const mixing *m = ctx;
    tmb_norm_streams(m->d, m->normed + i * m->d->config.streams * m->d->config.hidden,
                     m->x + i * m->d->width, m->m->v[NORM].values);
}

static void low_row(void *ctx, size_t i)
{
    const mixing *m = ctx;
    const tmb_config *c = &m->d->config;
    float *low = m->low + i * c->stream_rank;
    for (size_t k = 0; k < c->stream_rank; k++)
        low[k] /= (float)c->streams;
    m->d->nn->silu(low, low, c->stream_rank);
    float *mix = m->mix ? m->mix + i * c->streams : NULL;
    for (size_t s = 0; mix && s < c->streams; s++)
        mix[s] /= (float)c->streams;
    if (mix) m->d->nn->sigmoid(mix, mix, c->streams);
    for (size_t s = 0; mix && s < c->streams; s++)
        mix[s] *= 2;
}

static void read_row(void *ctx, size_t i)
{
    const mixing *m = ctx;
    const tmb_config *c = &m->d->config;
    size_t n = c->hidden, all = c->streams * n;
    float *read = m->read + i * n, *normed = m->normed + i * all;
    m->d->nn->gate(normed, m->gates + i * all, all);
    memset(read, 0, n * sizeof *read);
    for (size_t s = 0; s < c->streams; s++)
        m->d->nn->add_scaled(read, normed + s * n, 1.0f, n);
    for (size_t k = 0; k < n; k++)
        read[k] /= (float)c->streams;
}

static tmb_status mix_some(tmb_decoder *d, mixing *m, size_t rows, tmb_err *err)
{
    const tmb_weight *w = m->m->w;
    tmb_product p[] = {tmb_product_of(&w[DOWN], m->normed, rows, m->low),
                       tmb_product_of(&w[INJECT], m->normed, rows, m->mix)};
    tmb_each_row(d, rows, norm_row, m);
    TRY(tmb_multiply(d, p, m->mix ? 2 : 1, err));
    tmb_each_row(d, rows, low_row, m);
    p[0] = tmb_product_of(&w[UP], m->low, rows, m->gates);
    TRY(tmb_multiply(d, p, 1, err));
    tmb_each_row(d, rows, read_row, m);
    return TMB_OK;
}

static tmb_status read_rows(tmb_decoder *d, const tmb_mixing *weights, const float *x, size_t rows,
                            float *read, float *mix, tmb_err *err)
{
    const tmb_config *c = &d->config;
    size_t all = c->streams * c->hidden, some = rows < ROWS ? rows : ROWS;
    mixing m = {.d = d, .m = weights};
    m.normed = tmb_floats(some, all, err);
    m.gates = tmb_floats(some, all, err);
    m.low = tmb_floats(some, c->stream_rank, err);
    tmb_status status = m.normed && m.gates && m.low ? TMB_OK : TMB_ESYSTEM;
    for (size_t at = 0; !status && at < rows; at += some) {
        m.x = x + at * d->width;
        m.read = read + at * c->hidden;
        m.mix = mix ? mix + at * c->streams : NULL;
        status = mix_some(d, &m, rows - at < some ? rows - at : some, err);
    }
    free(m.normed);
    free(m.gates);
    free(m.low);
    return status;
}

static tmb_status write_rows(tmb_decoder *d, float *x, const float *out, const float *mix,
                             size_t rows, tmb_err *err)
{
    const tmb_config *c = &d->config;
    (void)err;
    for (size_t i = 0; i < rows; i++)
        for (size_t s = 0; s < c->streams; s++)
            d->nn->add_scaled(x + i * d->width + s * c->hidden, out + i * c->hidden,
                              mix[i * c->streams + s], c->hidden);
    return TMB_OK;
}

static tmb_status last_rows(tmb_decoder *d, float *h, const float *x, size_t rows, tmb_err *err)
{
    return read_rows(d, &d->last_mixing, x, rows, h, NULL, err);
}

static tmb_status enter_layer(tmb_run *run)
{
    return run->d->config.layer[run->layer->index].grams ? tmb_ple_run(run) : TMB_OK;
}

static size_t mix_floats(const tmb_config *c)
{
    return c->streams;
}

static uint64_t bytes(const tmb_decoder *d, uint64_t rows)
{
    const tmb_config *c = &d->config;
    uint64_t mixed =
        tmb_bytes_floats(rows < ROWS ? rows : ROWS, 2 * c->streams * c->hidden + c->stream_rank);
    uint64_t grams = tmb_ple_bytes(d, rows);
    return mixed > grams ? mixed : grams;
}

const tmb_streaming tmb_streaming_hyper = {.bind = bind_layer,
                                           .bind_last = bind_last,
                                           .enter = enter_layer,
                                           .read = read_rows,
                                           .write = write_rows,
                                           .last = last_rows,
                                           .mix_floats = mix_floats,
                                           .bytes = bytes};
