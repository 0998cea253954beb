/* gqa.c - attention with heads of keys and values that groups of queries share; its output may pass
 * a gate that q_proj makes beside the queries (Qwen3-Next). */
#include "config.h"
#include "moe/infer/attention.h"
#include "moe/infer/bind.h"
#include "moe/infer/block_index.h"
#include "moe/infer/pool_index.h"

static tmb_status bind_gqa(tmb_binder *b)
{
    const char *at = tmb_block_name(b->d);
    const tmb_config *c = &b->d->config;
    tmb_decoder_layer *l = b->layer;
    size_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    TRY(tmb_bind_linear(b, &l->q, at, "q_proj", c->output_gate ? 2 * q : q, c->hidden));
    TRY(tmb_bind_linear(b, &l->k, at, "k_proj", kv, c->hidden));
    TRY(tmb_bind_linear(b, &l->v, at, "v_proj", kv, c->hidden));
    TRY(tmb_bind_linear(b, &l->o, at, "o_proj", c->hidden, q));
    if (c->qk_norm && c->rules->qk_norm != TMB_QK_NORM_L2) {
        bool whole = c->rules->qk_norm == TMB_QK_NORM_WHOLE;
        tmb_bind_part(b, at, "q_norm");
        TRY(tmb_bind_norm(b, &l->q_norm, whole ? q : c->head_dim));
        tmb_bind_part(b, at, "k_norm");
        TRY(tmb_bind_norm(b, &l->k_norm, whole ? kv : c->head_dim));
    }
    TRY(tmb_attention_biases(b));
    if (c->layer[l->index].indexes)
        TRY(c->rules->block_indexer ? tmb_block_index_bind(b) : tmb_pool_index_bind(b));
    if (!c->rules->sinks) return TMB_OK;
    tmb_bind_part(b, at, "sinks");
    return tmb_bind_vector(b, &l->sinks, "", c->heads);
}

static tmb_status keys_gqa(tmb_heads *s)
{
    tmb_run *run = s->run;
    const tmb_config *c = &run->d->config;
    const tmb_decoder_layer *l = run->layer;
    s->k_width = s->v_width = c->kv_heads * c->head_dim;
    s->k = tmb_floats(run->tokens, s->k_width, run->err);
    s->v = tmb_floats(run->tokens, s->v_width, run->err);
    if (!s->k || !s->v) return TMB_ESYSTEM;
    tmb_linear_seen seen = tmb_seen_of(run, run->h, c->hidden);
    bool indexes = c->layer[l->index].indexes; /* its projections run in the same GEMM */
    const tmb_weight *entered[] = {&l->q, &l->k, &l->v, &l->own[0], &l->own[1]};
    TRY(tmb_enter(run, entered, indexes ? 5 : 3, &seen, &s->q_in, &s->owned[0]));
    TRY(tmb_project(run, &l->k, s->q_in, run->tokens, s->k));
    TRY(tmb_project(run, &l->v, s->q_in, run->tokens, s->v));
    tmb_turning t = {.run = run,
                     .x = s->k,
                     .heads = c->kv_heads,
                     .dim = c->head_dim,
                     .stride = s->k_width,
                     .norm = &l->k_norm,
                     .rope = tmb_attention_turns(run),
                     .position = s->position};
    tmb_turn_rows(&t, run->tokens);
    if (c->clip_qkv > 0) {
        t = (tmb_turning){.run = run,
                          .x = s->v,
                          .heads = c->kv_heads,
                          .dim = c->head_dim,
                          .stride = s->v_width,
                          .position = s->position};
        tmb_turn_rows(&t, run->tokens);
    }
    TRY(tmb_attention_show_kv(s));
    if (!indexes) return TMB_OK;
    return c->rules->block_indexer ? tmb_block_index_choose(s) : tmb_pool_index_choose(s);
}
/* Rows of attention's output behind the gates that lie beside the queries. */
typedef struct gating {
    const tmb_decoder *d;
    const float *q;
    float *out;
} gating;

static void gate_row(void *ctx, size_t i)
{
    const gating *g = ctx;
    const tmb_config *c = &g->d->config;
    for (size_t h = 0; h < c->heads; h++) {
        size_t at = i * c->heads + h;
        g->d->nn->gate(g->out + at * c->v_dim, g->q + (2 * at + 1) * c->head_dim, c->v_dim);
    }
}

static tmb_status attend(tmb_heads *s, size_t row, size_t n, tmb_attend *a)
{
    const tmb_run *run = s->run;
    const tmb_config *c = &run->d->config;
    a->q_step = c->output_gate ? 2 * c->head_dim : c->head_dim;
    a->q_stride = c->heads * a->q_step;
    tmb_turning t = {.run = run,
                     .x = s->q,
                     .first = row,
                     .heads = c->heads,
                     .dim = c->head_dim,
                     .step = a->q_step,
                     .stride = a->q_stride,
                     .norm = &run->layer->q_norm,
                     .rope = tmb_attention_turns(run),
                     .position = s->position};
    t.temper = c->temperature && !t.rope;
    tmb_turn_rows(&t, n);
    a->k = s->k + row * s->k_width;
    a->v = s->v + row * s->v_width;
    a->k_dim = a->k_step = c->head_dim;
    a->v_step = c->v_dim;
    a->k_stride = s->k_width;
    a->v_stride = s->v_width;
    TRY(tmb_attend_run(run->d, a, run->err));
    gating g = {run->d, s->q, a->out};
    if (c->output_gate) tmb_each_row(run->d, n, gate_row, &g);
    return TMB_OK;
}

static tmb_status run_gqa(tmb_run *run, float *out)
{
    return tmb_attention_run(run, out, &(tmb_attention_kind){.keys = keys_gqa, .attend = attend});
}

static uint64_t bytes_gqa(const tmb_decoder *d, const tmb_decoder_layer *l, uint64_t tokens,
                          uint64_t longest)
{
    const tmb_config *c = &d->config;
    tmb_attention_room room = {.kept = 2 * c->kv_heads * c->head_dim,
                               .part = l->q.out,
                               .hooked = c->hidden + c->heads * c->v_dim,
                               .keys = longest};
    if (c->layer[l->index].indexes) {
        room.kept += 2 * ((longest + 63) / 64) * (c->rules->block_indexer ? c->index.heads : 1);
        room.making = c->rules->block_indexer
                          ? tmb_block_index_bytes(c, tokens, longest, d->threads)
                          : tmb_pool_index_bytes(c, tokens, longest, d->threads);
    }
    return tmb_attention_bytes(d, tokens, longest, &room);
}

const tmb_block tmb_block_gqa = {.bind = bind_gqa, .run = run_gqa, .bytes = bytes_gqa};
