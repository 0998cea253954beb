/* forward.c - the way through a model: opening, embedding, layers, head. */
#include "config.h"
#include "moe/infer/dispatch.h"

#include "kernels/base/clock.h"
#include "kernels/base/team.h"
#include "kernels/cpu/cpu.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

tmb_status tmb_decoder_open(tmb_decoder **out, const tmb_model *model,
                            const tmb_decoder_options *options, tmb_err *err)
{
    tmb_decoder *d = calloc(1, sizeof *d);
    *out = NULL;
    if (!d) return tmb_fail_memory(err, sizeof *d, "a decoder");
    d->model = model;
    d->hooks = options->hooks;
    d->ops = options->ops ? options->ops : tmb_cpu_ops();
    d->nn = options->nn ? options->nn : tmb_cpu_nn();
    d->threads = options->threads > 0 ? options->threads : tmb_team_size();
    d->layer_bytes = options->layer_bytes;
    d->ways = options->ways > 1 ? options->ways : 1;
    d->comm = d->ways > 1 ? options->comm : NULL;
    d->member = d->comm ? tmb_comm_rank(d->comm) % d->ways : 0;
    tmb_status status = tmb_config_read(&d->config, model, err);
    if (!status) status = tmb_decoder_bind(d, err);
    if (!status) status = tmb_vector_load(d, &d->final_norm, err);
    if (!status) status = tmb_mixing_load(d, &d->last_mixing, err);
    if (!status) tmb_decoder_reach(d, 1);
    if (status)
        tmb_decoder_close(d);
    else
        *out = d;
    return status;
}

static void drop_turns(tmb_turns *t)
{
    free(t->cosines);
    free(t->sines);
    free(t->back);
    *t = (tmb_turns){NULL, NULL, NULL};
}

void tmb_decoder_close(tmb_decoder *d)
{
    if (!d) return;
    tmb_decoder_layer_drop(d);
    free(d->final_norm.values);
    free(d->packed_rows);
    tmb_mixing_drop(&d->last_mixing);
    for (int i = 0; i < 2; i++)
        drop_turns(&d->turns[i]);
    tmb_config_free(&d->config);
    tmb_arena_free(&d->arena);
    free(d);
}

void tmb_decoder_limit(tmb_decoder *d, uint64_t layer_bytes)
{
    d->layer_bytes = layer_bytes;
}

const tmb_config *tmb_decoder_config(const tmb_decoder *d)
{
    return &d->config;
}

const tmb_model *tmb_decoder_model(const tmb_decoder *d)
{
    return d->model;
}

int tmb_decoder_layers(const tmb_decoder *d)
{
    return d->config.layers;
}

bool tmb_decoder_is_sparse(const tmb_decoder *d, int layer)
{
    return d->layers[layer].sparse;
}

const tmb_tensor *tmb_decoder_norm(const tmb_decoder *d, int layer, int half)
{
    const tmb_decoder_layer *l = &d->layers[layer];
    return half ? l->post_norm.tensor : l->input_norm.tensor;
}

tmb_status tmb_decoder_embed(tmb_decoder *d, const int32_t *ids, size_t n, float *x, tmb_err *err)
{
    const tmb_tensor *t = d->embedding;
    size_t hidden = d->config.hidden, bytes = hidden * (tmb_dtype_bits((tmb_dtype)t->dtype) / 8);
    void *row = malloc(bytes);
    if (!row) return tmb_fail_memory(err, bytes, "an embedding");
    tmb_status status = TMB_OK;
    for (size_t i = 0; !status && i < n; i++) {
        if (ids[i] < 0 || (size_t)ids[i] >= d->config.vocab) {
            status = tmb_fail(err, TMB_EDATA,
                              "token %zu is id %" PRId32 ", the model's vocabulary has 0 to %zu; "
                              "the ids come from another tokenizer",
                              i, ids[i], d->config.vocab - 1);
            break;
        }
        status = tmb_checkpoint_read(d->model->ckpt, t, (uint64_t)ids[i] * bytes, row, bytes, err);
        memset(x + i * d->width, 0, d->width * sizeof *x);
        if (!status) d->ops->decode(x + i * d->width, row, (tmb_dtype)t->dtype, hidden);
        if (!status) tmb_hand_id(d, x + i * d->width, ids[i]);
    }
    if (!status) tmb_residual_begin(d, x, n);
    free(row);
    return status;
}

/* How many experts of this rank fit beside the rest of the layer: all, or as many as the limit
 * leaves room for. */
static size_t group_size(const tmb_decoder *d, const tmb_decoder_layer *layer)
{
    size_t n = tmb_slots(d);
    if (!layer->sparse || !d->layer_bytes) return n ? n : 1;
    uint64_t largest = 0, base = tmb_decoder_layer_base_bytes(layer);
    for (size_t e = 0; e < d->config.n_experts; e++) {
        uint64_t bytes = tmb_expert_bytes(d, layer, e);
        largest = bytes > largest ? bytes : largest;
    }
    uint64_t room = d->layer_bytes > base ? (d->layer_bytes - base) / (largest ? largest : 1) : 0;
    return room < 1 ? 1 : room < n ? (size_t)room : n;
}

tmb_status tmb_decoder_load(tmb_decoder *d, int layer, tmb_err *err)
{
    tmb_decoder_layer *l = &d->layers[layer];
    if (d->loaded == l) return TMB_OK;
    d->group = group_size(d, l);
    tmb_status status = tmb_decoder_layer_load(d, l, err);
    if (status) tmb_decoder_layer_drop(d);
    return status;
}

void tmb_decoder_drop(tmb_decoder *d)
{
    tmb_decoder_layer_drop(d);
}

/* Angles of positions 0 … n-1 of one rope, in float32 as transformers has them. */
static tmb_status make_turns(tmb_turns *t, const tmb_rope *r, size_t n, tmb_err *err)
{
    size_t half = r->dims / 2;
    drop_turns(t);
    t->cosines = tmb_floats(n, half, err);
    t->sines = tmb_floats(n, half, err);
    t->back = tmb_floats(n, half, err);
    if (!t->cosines || !t->sines || !t->back) return TMB_ESYSTEM;
    for (size_t p = 0; p < n; p++)
        for (size_t i = 0; i < half; i++) {
            float angle = (float)p * r->inv_freq[i];
            t->cosines[p * half + i] = (float)cos((double)angle) * r->factor;
            t->sines[p * half + i] = (float)sin((double)angle) * r->factor;
            t->back[p * half + i] = -t->sines[p * half + i];
        }
    return TMB_OK;
}

static tmb_status reach_positions(tmb_decoder *d, size_t n, tmb_err *err)
{
    const tmb_config *c = &d->config;
    if (n <= d->positions) return TMB_OK;
    if (c->rope.kind == TMB_ROPE_DYNAMIC && c->max_positions && n > c->max_positions)
        return tmb_fail(err, TMB_EUNAVAILABLE,
                        "%s: max_position_embeddings: a sequence of %zu tokens is longer than "
                        "%zu, and dynamic rope is not run past it; use shorter sequences",
                        c->file, n, c->max_positions);
    d->positions = 0;
    TRY(make_turns(&d->turns[0], &c->rope, n, err));
    if (c->second_rope.dims) TRY(make_turns(&d->turns[1], &c->second_rope, n, err));
    d->positions = n;
    return TMB_OK;
}

tmb_spent tmb_decoder_spent(const tmb_decoder *d)
{
    return d->spent;
}

/* One half: x += half(norm(x)).  *spent: its time, without what readers and observers took. */
static tmb_status run_half(tmb_run *run, int number, const tmb_vector *norm, float *out,
                           double *spent, tmb_status (*half)(tmb_run *run, float *out))
{
    const tmb_spent *s = &run->d->spent;
    double began = tmb_seconds() - s->read - s->shown;
    TRY(tmb_residual_read(run, number, norm));
    TRY(half(run, out));
    TRY(tmb_residual_write(run, number, out));
    *spent += tmb_seconds() - s->read - s->shown - began;
    return TMB_OK;
}

/* Whether the hidden state is made of finite numbers. */
static bool is_finite(const tmb_decoder *d, const float *x, size_t tokens)
{
    size_t n = tmb_state_floats(&d->config);
    if (n == d->width) return isfinite(d->ops->amax(x, tokens * n));
    for (size_t t = 0; t < tokens; t++)
        if (!isfinite(d->ops->amax(x + t * d->width, n))) return false;
    return true;
}

tmb_status tmb_decoder_run(tmb_decoder *d, const tmb_batch *batch, tmb_err *err)
{
    static const tmb_observer nobody;
    size_t longest = tmb_longest(batch), tokens = batch->begin[batch->sequences];
    if (!d->loaded) return tmb_fail(err, TMB_EINTERNAL, "no layer is loaded");
    if (!tokens && !(d->comm && d->loaded->sparse)) return TMB_OK;
    if (tokens > UINT32_MAX) return tmb_fail(err, TMB_EINTERNAL, "a batch of %zu tokens", tokens);
    if (longest > d->longest && d->width > tmb_state_floats(&d->config))
        return tmb_fail(err, TMB_EINTERNAL, "a sequence of %zu tokens, %zu were announced", longest,
                        d->longest);
    TRY(reach_positions(d, longest, err));
    tmb_run run = {.d = d, .batch = batch, .layer = d->loaded, .tokens = tokens, .err = err};
    run.observer = batch->observer ? batch->observer : &nobody;
    run.h = tmb_floats(tokens, d->config.hidden, err);
    float *out = tmb_floats(tokens, d->config.hidden, err);
    bool copies = d->width != d->config.hidden;
    size_t mixed = tmb_mix_floats(&d->config);
    run.copy = copies ? tmb_floats(tokens, d->config.hidden, err) : NULL;
    run.mix = mixed ? tmb_floats(tokens, mixed, err) : NULL;
    tmb_status status =
        run.h && out && (run.copy || !copies) && (run.mix || !mixed) ? TMB_OK : TMB_ESYSTEM;
    if (!status && tokens && d->loaded->block)
        status = run_half(&run, 0, &d->loaded->input_norm, out, &d->spent.attention,
                          d->loaded->block->run);
    if (!status && d->config.layer[d->loaded->index].halves != TMB_HALVES_FIRST)
        status = run_half(&run, 1, &d->loaded->post_norm, out, &d->spent.mlp, tmb_run_mlp);
    if (!status && !is_finite(d, batch->x, tokens))
        status = tmb_fail(
            err, TMB_EDATA,
            "%s: layer %d gives a value that is no finite number; the weights are damaged, "
            "or config.json tells of another model",
            d->model->ckpt->path, d->loaded->index);
    free(run.mix);
    free(run.copy);
    free(out);
    free(run.h);
    return status;
}

/* Columns of the head, panels `first` … of it, for all rows. */
static tmb_status head_part(tmb_decoder *d, const float *h, size_t rows, size_t first,
                            size_t panels, const tmb_packed *room, float *logits, tmb_err *err)
{
    size_t vocab = d->config.vocab, column = first * TMB_NN_PANEL, left = vocab - column;
    tmb_weight part = {.out = left < panels * TMB_NN_PANEL ? left : panels * TMB_NN_PANEL,
                       .in = d->head.in,
                       .packed = *room};
    part.packed.out = part.out;
    part.bias.values = d->head.bias.values ? d->head.bias.values + column : NULL;
    TRY(tmb_weight_load_panels(d, &d->head, &part.packed, first, tmb_packed_panels(part.out), err));
    tmb_product p = {.w = &part,
                     .x = h,
                     .rows = rows,
                     .x_stride = d->config.hidden,
                     .y = logits + column,
                     .y_stride = vocab};
    return tmb_multiply_long(d, &p, err);
}

tmb_status tmb_decoder_head(tmb_decoder *d, const float *x, size_t rows, float *logits,
                            const tmb_observer *observer, tmb_err *err)
{
    static const tmb_observer nobody;
    size_t hidden = d->config.hidden, panels = tmb_packed_panels(d->config.vocab);
    if (!rows) return TMB_OK;
    tmb_run run = {.d = d, .observer = observer ? observer : &nobody, .tokens = rows, .err = err};
    tmb_packed room = {NULL, 0, hidden, d->head.bf16};
    size_t some = panels < TMB_HEAD_PANELS ? panels : TMB_HEAD_PANELS;
    const float *use = NULL;
    float *owned = NULL;
    run.h = tmb_floats(rows, hidden, err);
    room.values = tmb_floats(some * TMB_NN_PANEL, hidden, err);
    tmb_status status = run.h && room.values ? tmb_vector_load(d, &d->head.bias, err) : TMB_ESYSTEM;
    if (!status) {
        status = tmb_residual_last(d, run.h, x, rows, err);
    }
    if (!status) {
        tmb_linear_seen seen = {.layer = -1, .expert = -1, .x = run.h, .rows = rows, .in = hidden};
        const tmb_weight *entered[] = {&d->head};
        status = tmb_enter(&run, entered, 1, &seen, &use, &owned);
    }
    for (size_t p = 0; !status && logits && p < panels; p += some)
        status =
            head_part(d, use, rows, p, panels - p < some ? panels - p : some, &room, logits, err);
    free(d->head.bias.values);
    d->head.bias.values = NULL;
    free(owned);
    free(room.values);
    free(run.h);
    return status;
}
