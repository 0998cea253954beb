/* mla.c - multi-head latent attention (DeepSeek-V2): keys and values of all heads come from one
 * short latent, and a part that rotates is shared by them. */
#include "config.h"
#include "moe/infer/attention.h"
#include "moe/infer/bind.h"

#include <string.h>

static tmb_status bind_mla(tmb_binder *b)
{
    const char *at = tmb_attention_name(b->d);
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
    return tmb_attention_biases(b);
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
    return tmb_enter(run, q, 1, &seen, &s->q_in, &s->owned[2]);
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
    return tmb_attention_bytes(d, tokens, longest, 2 * c->kv_rank + c->rope_dim + c->q_rank,
                               l->q.out + expanded(c),
                               c->hidden + c->kv_rank + c->q_rank + c->heads * c->v_dim);
}

const tmb_block tmb_block_mla = {.bind = bind_mla, .run = run_mla, .bytes = bytes_mla};
