/* attention.c - the frame of softmax attention: rotation, parts of sequences, output.  The kinds
 * are gqa.c and mla.c. */
#include "config.h"
#include "moe/infer/attention.h"
#include "moe/infer/bind.h"

#include <math.h>
#include <stdlib.h>

static float temperature(const tmb_config *c, size_t position)
{
    return log1pf(floorf(((float)position + 1.0f) / c->floor_scale)) * c->attn_scale + 1.0f;
}

static void turn_row(void *ctx, size_t i)
{
    const tmb_turning *t = ctx;
    const tmb_decoder *d = t->run->d;
    const tmb_config *c = &d->config;
    size_t position = t->position[t->first + i], half = c->rope.dims / 2;
    float *row = t->x + i * t->stride;
    const tmb_turns *turns = &d->turns[c->layer[t->run->layer->index].second];
    const float *cosines = turns->cosines + position * half;
    const float *sines = (t->back ? turns->back : turns->sines) + position * half;
    bool whole = t->norm && t->norm->tensor && t->norm->n != t->dim;
    if (whole) d->nn->rms_norm(row, row, t->norm->values, t->norm->n, c->eps);
    for (size_t h = 0; h < t->heads; h++) {
        float *head = row + h * t->step;
        if (t->bare) d->nn->rms_norm(head, head, NULL, t->dim, c->eps);
        if (t->norm && t->norm->tensor && !whole)
            d->nn->rms_norm(head, head, t->norm->values, t->dim, c->eps);
        for (size_t k = 0; c->clip_qkv > 0 && k < t->dim; k++)
            head[k] = fminf(fmaxf(head[k], -c->clip_qkv), c->clip_qkv);
        bool paired = t->halves ? false : t->paired ? true : c->rope.paired;
        if (t->rope) d->nn->rotate(head + t->at, cosines, sines, half, paired);
        if (t->rope && t->norm && c->qk_norm && c->rules->qk_norm == TMB_QK_NORM_L2)
            d->nn->rms_norm(head, head, NULL, t->dim, c->eps);
        if (t->temper) d->nn->scale(head, head, temperature(c, position), t->dim);
    }
}

void tmb_turn_rows(const tmb_turning *t, size_t rows)
{
    tmb_turning own = *t;
    if (!own.step) own.step = own.dim;
    tmb_each_row(t->run->d, rows, turn_row, &own);
}

bool tmb_attention_turns(const tmb_run *run)
{
    return run->d->config.layer[run->layer->index].rope;
}

tmb_status tmb_attention_show_kv(tmb_heads *s)
{
    const tmb_run *run = s->run;
    tmb_kv_seen seen = {.layer = run->layer->index,
                        .tokens = run->tokens,
                        .k = s->k,
                        .v = s->v,
                        .k_width = s->k_width,
                        .v_width = s->v_width};
    TRY(tmb_show_kv(run, &seen));
    const tmb_hooks *hooks = &run->d->hooks;
    return hooks->kv ? hooks->kv(hooks->ctx, &seen, s->k, s->v, run->err) : TMB_OK;
}

tmb_status tmb_attention_biases(tmb_binder *b)
{
    const tmb_arch_forward *r = b->d->config.rules;
    const tmb_json *told = tmb_bind_key(b, r->attention_bias.key);
    if (!tmb_json_bool(told, r->attention_bias.otherwise)) return TMB_OK;
    for (int i = 0; i < 4 && r->biased[i]; i++) {
        tmb_vector bias = {0};
        tmb_bind_part(b, tmb_block_name(b->d), r->biased[i]);
        const tmb_unit *u = tmb_model_find(b->d->model, b->name);
        if (!u) continue; /* q_a_proj of a model without it */
        TRY(tmb_bind_vector(b, &bias, ".bias", (size_t)u->out));
    }
    return TMB_OK;
}

/* Queries of sequences first … end-1 and their attention. */
static tmb_status attend_some(tmb_heads *s, const tmb_attention_kind *kind, size_t first,
                              size_t end, size_t *begin)
{
    tmb_run *run = s->run;
    const tmb_config *c = &run->d->config;
    const tmb_decoder_layer *l = run->layer;
    size_t row = run->batch->begin[first], n = run->batch->begin[end] - row;
    for (size_t i = first; i <= end; i++)
        begin[i - first] = run->batch->begin[i] - row;
    TRY(tmb_project(run, &l->q, s->q_in + row * l->q.in, n, s->q));
    tmb_attend a = {.q = s->q,
                    .heads = c->heads,
                    .kv_heads = c->kv_heads,
                    .head_dim = c->head_dim,
                    .v_dim = c->v_dim,
                    .begin = begin,
                    .sequences = end - first,
                    .sinks = l->sinks.values,
                    .view = c->layer[l->index].view,
                    .scale = (float)(c->rope.softmax_factor / sqrt((double)c->head_dim)),
                    .out = s->out + row * c->heads * c->v_dim};
    a.reach = a.view == TMB_VIEW_WINDOW ? c->window : c->chunk;
    if (s->seen) {
        a.seen = s->seen + row * s->masks * s->mask_words;
        a.masks = s->masks;
        a.mask_words = s->mask_words;
    }
    return kind->attend(s, row, n, &a);
}

static tmb_status attend_all(tmb_heads *s, const tmb_attention_kind *kind)
{
    tmb_run *run = s->run;
    const tmb_batch *b = run->batch;
    size_t most = tmb_part_most(b);
    s->q = tmb_floats(most, run->layer->q.out, run->err);
    s->expanded = kind->expanded ? tmb_floats(most, kind->expanded, run->err) : NULL;
    size_t *begin = malloc((b->sequences + 1) * sizeof *begin);
    tmb_status status = s->q && begin && (s->expanded || !kind->expanded)
                            ? TMB_OK
                            : tmb_fail_memory(run->err, most, "queries");
    for (size_t i = 0; !status && i < b->sequences; i = tmb_part_end(b, i))
        status = attend_some(s, kind, i, tmb_part_end(b, i), begin);
    free(begin);
    return status;
}

tmb_status tmb_attention_run(tmb_run *run, float *out, const tmb_attention_kind *kind)
{
    const tmb_config *c = &run->d->config;
    const tmb_batch *b = run->batch;
    tmb_heads s = {.run = run};
    s.position = malloc(run->tokens * sizeof *s.position);
    s.out = tmb_floats(run->tokens, c->heads * c->v_dim, run->err);
    tmb_status status =
        s.position && s.out ? TMB_OK : tmb_fail_memory(run->err, run->tokens, "attention");
    for (size_t i = 0; !status && i < b->sequences; i++)
        for (size_t t = b->begin[i]; t < b->begin[i + 1]; t++)
            s.position[t] = t - b->begin[i];
    if (!status) status = kind->keys(&s);
    if (!status) status = attend_all(&s, kind);
    if (!status)
        status =
            kind->leave ? kind->leave(&s, out) : tmb_enter_one(run, &run->layer->o, s.out, out);
    void *all[] = {s.position, s.k,        s.v, s.latent,   s.q_latent, s.out,      s.owned[0],
                   s.owned[1], s.owned[2], s.q, s.expanded, s.seen,     s.key_begin};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    return status;
}

uint64_t tmb_attention_bytes(const tmb_decoder *d, uint64_t tokens, uint64_t longest,
                             const tmb_attention_room *room)
{
    const tmb_config *c = &d->config;
    uint64_t some = tokens < TMB_PART_TOKENS ? tokens : TMB_PART_TOKENS;
    some = some > longest ? some : longest;
    uint64_t bytes = tokens * sizeof(size_t);
    bytes = tmb_bytes_add(bytes, tmb_bytes_floats(tokens, c->heads * c->v_dim + room->kept));
    if (d->hooks.activation) bytes = tmb_bytes_add(bytes, tmb_bytes_floats(tokens, room->hooked));
    uint64_t attending = tmb_bytes_add(tmb_bytes_floats(some, room->part),
                                       (uint64_t)d->threads * tmb_attend_bytes(c, room->keys));
    return tmb_bytes_add(bytes, attending > room->making ? attending : room->making);
}
