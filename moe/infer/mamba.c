/* mamba.c - Mamba2 as Nemotron-H has it: one projection to gate, inputs, B, C and time steps; a
 * causal convolution over inputs, B and C; a state for each head; a norm in groups behind the gate.
 *
 * The formulas are those of transformers 5.17, models/nemotron_h/modeling_nemotron_h.py, but for
 * the limits of a time step, which are time_step_limit as in the published code. */
#include "config.h"
#include "moe/infer/bind.h"

#include "kernels/base/team.h"
#include "kernels/cpu/recurrence.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Places in tmb_decoder_layer.own and own_vector. */
enum { IN, OUT };
enum { CONV, CONV_BIAS, A_LOG, SKIP, DT_BIAS, NORM };

typedef struct sizes {
    size_t inner;  /* heads * head_dim: the gate, the inputs, the output */
    size_t states; /* groups * state: B, and C */
    size_t mixed;  /* what the convolution goes over: inputs, B, C */
    size_t all;    /* the projection's outputs */
    size_t share;  /* heads of a group */
} sizes;

static sizes sizes_of(const tmb_config *c)
{
    const struct tmb_mamba_config *m = &c->mamba;
    sizes s = {m->heads * m->head_dim, m->groups * m->state, 0, 0, m->heads / m->groups};
    s.mixed = s.inner + 2 * s.states;
    s.all = s.inner + s.mixed + m->heads;
    return s;
}

static tmb_status bind_mamba(tmb_binder *b)
{
    const tmb_config *c = &b->d->config;
    const char *at = tmb_block_name(b->d);
    tmb_decoder_layer *l = b->layer;
    sizes s = sizes_of(c);
    TRY(tmb_bind_linear(b, &l->own[IN], at, "in_proj", s.all, c->hidden));
    TRY(tmb_bind_linear(b, &l->own[OUT], at, "out_proj", c->hidden, s.inner));
    tmb_bind_part(b, at, "conv1d");
    TRY(tmb_bind_vector(b, &l->own_vector[CONV], ".weight", s.mixed * c->mamba.taps));
    TRY(tmb_bind_find(b, &l->own_vector[CONV_BIAS], ".bias", s.mixed));
    if (c->mamba.conv_bias && !l->own_vector[CONV_BIAS].tensor) return tmb_bind_missing(b, ".bias");
    tmb_bind_part(b, at, "A_log");
    TRY(tmb_bind_vector(b, &l->own_vector[A_LOG], "", c->mamba.heads));
    tmb_bind_part(b, at, "D");
    TRY(tmb_bind_vector(b, &l->own_vector[SKIP], "", c->mamba.heads));
    tmb_bind_part(b, at, "dt_bias");
    TRY(tmb_bind_vector(b, &l->own_vector[DT_BIAS], "", c->mamba.heads));
    tmb_bind_part(b, at, "norm");
    return tmb_bind_vector(b, &l->own_vector[NORM], ".weight", s.inner);
}

/* What a run holds.  The rows of a part are whole sequences. */
typedef struct mamba {
    tmb_run *run;
    sizes s;
    const float *in;  /* [tokens, hidden] */
    float *out;       /* [tokens, inner] of the whole batch */
    float *projected; /* [rows, all] */
    float *u;         /* [rows, mixed] behind the convolution */
    float *steps;     /* [rows, 2 * heads]: time steps, then decays */
    float *conv;      /* [taps, mixed] */
    size_t *position; /* [rows] */
    size_t first, n;  /* rows of the part */
    size_t begin;     /* its first sequence */
    int failed;       /* atomic */
} mamba;

static double softplus(double x)
{
    return x > 20 ? x : log1p(exp(x));
}

/* Of one token: u, time steps and decays. */
static void prepare_row(void *ctx, size_t i)
{
    mamba *t = ctx;
    const tmb_decoder *d = t->run->d;
    const struct tmb_mamba_config *m = &d->config.mamba;
    const tmb_vector *own = t->run->layer->own_vector;
    float *u = t->u + i * t->s.mixed, *step = t->steps + i * 2 * m->heads;
    size_t seen = t->position[i] + 1 < m->taps ? t->position[i] + 1 : m->taps;
    d->nn->taps(u, t->projected + (i + 1 - seen) * t->s.all + t->s.inner, t->s.all,
                t->conv + (m->taps - seen) * t->s.mixed, seen, own[CONV_BIAS].values, t->s.mixed);
    d->nn->silu(u, u, t->s.mixed);
    const float *dt = t->projected + i * t->s.all + t->s.inner + t->s.mixed;
    for (size_t h = 0; h < m->heads; h++) {
        double x = softplus((double)dt[h] + (double)own[DT_BIAS].values[h]);
        x = fmin(fmax(x, m->least_step), m->most_step);
        step[h] = (float)x;
        step[m->heads + h] = (float)(-exp((double)own[A_LOG].values[h]) * x);
    }
}

/* One group of heads of one sequence. */
static void recur(void *ctx, size_t i)
{
    mamba *t = ctx;
    const tmb_decoder *d = t->run->d;
    const struct tmb_mamba_config *m = &d->config.mamba;
    const size_t *begin = t->run->batch->begin;
    size_t group = i % m->groups, s = t->begin + i / m->groups, row = begin[s] - t->first;
    size_t head = group * t->s.share;
    float *scratch = tmb_floats(tmb_recurrence_floats(t->s.share, m->state, m->head_dim), 1, NULL);
    if (!scratch) {
        __atomic_store_n(&t->failed, 1, __ATOMIC_RELAXED);
        return;
    }
    const float *u = t->u + row * t->s.mixed, *step = t->steps + row * 2 * m->heads + head;
    tmb_recurrence r = {.tokens = begin[s + 1] - begin[s],
                        .heads = t->s.share,
                        .key_dim = m->state,
                        .value_dim = m->head_dim,
                        .q = u + t->s.inner + t->s.states + group * m->state,
                        .k = u + t->s.inner + group * m->state,
                        .v = u + head * m->head_dim,
                        .qk_stride = t->s.mixed,
                        .v_stride = t->s.mixed,
                        .weight = step,
                        .decay = step + m->heads,
                        .stride = 2 * m->heads,
                        .out = t->out + begin[s] * t->s.inner + head * m->head_dim,
                        .out_stride = t->s.inner};
    tmb_recurrence_run(d->nn, &r, scratch);
    free(scratch);
}

/* A token's heads with what passes them by, behind the gate, normed in groups. */
static void finish_row(void *ctx, size_t i)
{
    mamba *t = ctx;
    const tmb_decoder *d = t->run->d;
    const struct tmb_mamba_config *m = &d->config.mamba;
    const tmb_vector *own = t->run->layer->own_vector;
    float *out = t->out + (t->first + i) * t->s.inner, *gate = t->projected + i * t->s.all;
    const float *u = t->u + i * t->s.mixed;
    for (size_t h = 0; h < m->heads; h++)
        d->nn->add_scaled(out + h * m->head_dim, u + h * m->head_dim, own[SKIP].values[h],
                          m->head_dim);
    d->nn->swiglu(gate, out, t->s.inner);
    size_t wide = t->s.inner / m->groups;
    for (size_t g = 0; g < m->groups; g++)
        d->nn->rms_norm(out + g * wide, gate + g * wide, own[NORM].values + g * wide, wide,
                        d->config.eps);
}

/* Sequences t->begin … end-1. */
static tmb_status run_part(mamba *t, size_t end)
{
    tmb_run *run = t->run;
    const tmb_decoder *d = run->d;
    const size_t *begin = run->batch->begin;
    t->first = begin[t->begin];
    t->n = begin[end] - t->first;
    for (size_t s = t->begin; s < end; s++)
        for (size_t i = begin[s]; i < begin[s + 1]; i++)
            t->position[i - t->first] = i - begin[s];
    TRY(tmb_project(run, &run->layer->own[IN], t->in + t->first * d->config.hidden, t->n,
                    t->projected));
    tmb_each_row(d, t->n, prepare_row, t);
    tmb_team_each(d->threads, (end - t->begin) * d->config.mamba.groups, 1, recur, t);
    if (t->failed) return tmb_fail_memory(run->err, t->n, "a Mamba layer");
    tmb_each_row(d, t->n, finish_row, t);
    return TMB_OK;
}

static tmb_status make_room(mamba *t, size_t rows)
{
    const tmb_config *c = &t->run->d->config;
    tmb_err *err = t->run->err;
    size_t taps = c->mamba.taps;
    t->s = sizes_of(c);
    t->out = tmb_floats(t->run->tokens, t->s.inner, err);
    t->projected = tmb_floats(rows, t->s.all, err);
    t->u = tmb_floats(rows, t->s.mixed, err);
    t->steps = tmb_floats(rows, 2 * c->mamba.heads, err);
    t->conv = tmb_floats(taps, t->s.mixed, err);
    t->position = malloc(rows * sizeof *t->position);
    if (!t->out || !t->projected || !t->u || !t->steps || !t->conv || !t->position)
        return tmb_fail_memory(err, rows * t->s.all * sizeof(float), "a Mamba layer");
    const float *w = t->run->layer->own_vector[CONV].values;
    for (size_t k = 0; k < taps; k++)
        for (size_t i = 0; i < t->s.mixed; i++)
            t->conv[k * t->s.mixed + i] = w[i * taps + k];
    return TMB_OK;
}

static tmb_status run_mamba(tmb_run *run, float *out)
{
    mamba t = {.run = run};
    const tmb_weight *entered[] = {&run->layer->own[IN]};
    float *owned = NULL;
    tmb_linear_seen seen = tmb_seen_of(run, run->h, run->d->config.hidden);
    tmb_status status = make_room(&t, tmb_part_most(run->batch));
    if (!status) status = tmb_enter(run, entered, 1, &seen, &t.in, &owned);
    while (!status && t.begin < run->batch->sequences) {
        size_t end = tmb_part_end(run->batch, t.begin);
        status = run_part(&t, end);
        t.begin = end;
    }
    if (!status) status = tmb_enter_one(run, &run->layer->own[OUT], t.out, out);
    void *all[] = {owned, t.out, t.projected, t.u, t.steps, t.conv, t.position};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    return status;
}

static uint64_t bytes_mamba(const tmb_decoder *d, const tmb_decoder_layer *l, uint64_t tokens,
                            uint64_t longest)
{
    const tmb_config *c = &d->config;
    const struct tmb_mamba_config *m = &c->mamba;
    sizes s = sizes_of(c);
    (void)l;
    uint64_t rows = tokens < TMB_PART_TOKENS ? tokens : TMB_PART_TOKENS;
    rows = rows > longest ? rows : longest;
    uint64_t bytes = tmb_bytes_floats(tokens, s.inner);
    bytes = tmb_bytes_add(bytes, tmb_bytes_floats(rows, s.all + s.mixed + 2 * m->heads + 2));
    bytes = tmb_bytes_add(bytes, tmb_bytes_floats(2 * m->taps, s.mixed));
    uint64_t scratch = tmb_recurrence_floats(s.share, m->state, m->head_dim);
    bytes = tmb_bytes_add(bytes, tmb_bytes_floats((uint64_t)d->threads, scratch));
    if (d->hooks.activation)
        bytes = tmb_bytes_add(bytes, tmb_bytes_floats(tokens, c->hidden + s.inner));
    return bytes;
}

const tmb_block tmb_block_mamba = {.bind = bind_mamba, .run = run_mamba, .bytes = bytes_mamba};
