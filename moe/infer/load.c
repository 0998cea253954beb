/* load.c - weights from the checkpoint into the order that the matrix product reads.
 *
 * A thread takes a Linear (of an expert all three, since gate and up of a stack lie in one slab
 * that its reader keeps), reads it tile by tile and packs it.  What is held while this goes on is
 * the layer, and a tile and a reader for each thread. */
#include "config.h"
#include "moe/infer/dispatch.h"

#include "kernels/base/clock.h"
#include "kernels/base/team.h"

#include <math.h>
#include <stdlib.h>

static const size_t tile_panels = TMB_TILE_ROWS / TMB_NN_PANEL;

uint64_t tmb_weight_bytes(const tmb_weight *w)
{
    if (!w->out) return 0;
    return (uint64_t)tmb_packed_panels(w->out) * TMB_NN_PANEL * w->in * (w->bf16 ? 2 : 4) +
           w->bias.n * 4;
}

/* Every weight of a layer but its routed experts, in the order of the enum below. */
enum { MIXED = 6, BASE = 7 + TMB_MLP + 4 + MIXED + TMB_OWN_WEIGHTS };
static void base_weights(tmb_decoder_layer *l, tmb_weight *out[BASE])
{
    tmb_weight *all[BASE] = {&l->q_a,         &l->q,
                             &l->k,           &l->v,
                             &l->kv_a,        &l->kv_b,
                             &l->o,           &l->mlp[TMB_GATE],
                             &l->mlp[TMB_UP], &l->mlp[TMB_DOWN],
                             &l->router,      &l->shared_gate,
                             &l->latent[0],   &l->latent[1]};
    for (int i = 0; i < MIXED; i++)
        all[BASE - TMB_OWN_WEIGHTS - MIXED + i] = &l->mixing[i / 3].w[i % 3];
    for (int i = 0; i < BASE; i++)
        out[i] = i < BASE - TMB_OWN_WEIGHTS ? all[i] : &l->own[i - (BASE - TMB_OWN_WEIGHTS)];
}

enum { MIXED_VECTORS = 4, VECTORS = 6 + MIXED_VECTORS + TMB_OWN_VECTORS };
static void vectors_of(tmb_decoder_layer *l, tmb_vector *out[VECTORS])
{
    tmb_vector *all[VECTORS] = {&l->input_norm, &l->post_norm, &l->q_norm,
                                &l->k_norm,     &l->sinks,     &l->correction};
    for (int i = 0; i < MIXED_VECTORS; i++)
        all[6 + i] = &l->mixing[i / 2].v[i % 2];
    for (int i = 0; i < VECTORS; i++)
        out[i] = i < VECTORS - TMB_OWN_VECTORS ? all[i]
                                               : &l->own_vector[i - (VECTORS - TMB_OWN_VECTORS)];
}

uint64_t tmb_decoder_layer_base_bytes(const tmb_decoder_layer *layer)
{
    tmb_weight *base[BASE];
    uint64_t bytes = 0;
    base_weights((tmb_decoder_layer *)(uintptr_t)layer, base);
    for (int i = 0; i < BASE; i++)
        bytes += tmb_weight_bytes(base[i]);
    return bytes;
}

uint64_t tmb_expert_bytes(const tmb_decoder *d, const tmb_decoder_layer *layer, size_t expert)
{
    uint64_t bytes = 0;
    for (size_t p = 0; layer->sparse && expert < d->config.n_experts && p < TMB_MLP; p++)
        bytes += tmb_weight_bytes(&layer->experts[expert * TMB_MLP + p]);
    return bytes;
}

tmb_status tmb_vector_load(const tmb_decoder *d, tmb_vector *v, tmb_err *err)
{
    if (!v->tensor || v->values) return TMB_OK;
    size_t size = tmb_dtype_bits((tmb_dtype)v->tensor->dtype) / 8;
    size_t span = (v->n - 1) * (size_t)v->step + 1;
    float *all = tmb_floats(span, 1, err);
    void *raw = all ? malloc(span * size) : NULL;
    tmb_status status = all ? TMB_OK : TMB_ESYSTEM;
    if (all && !raw) status = tmb_fail_memory(err, span * size, v->tensor->name);
    if (!status)
        status =
            tmb_checkpoint_read(d->model->ckpt, v->tensor, v->first * size, raw, span * size, err);
    if (!status) {
        d->ops->decode(all, raw, (tmb_dtype)v->tensor->dtype, span);
        for (size_t i = 0; i < v->n; i++)
            all[i] = all[i * v->step];
        if (!isfinite(d->ops->amax(all, v->n)))
            status = tmb_fail(err, TMB_EDATA,
                              "%s: tensor \"%s\" holds a value that is no finite number; "
                              "the file is damaged",
                              d->model->ckpt->shards[v->tensor->shard].name, v->tensor->name);
    }
    if (!status && d->hooks.vector)
        status = d->hooks.vector(d->hooks.ctx, v->tensor, v->first, v->step, v->n, all, err);
    for (size_t i = 0; !status && v->from_one && i < v->n; i++)
        all[i] = 1.0f + all[i];
    free(raw);
    if (status)
        free(all);
    else
        v->values = all;
    return status;
}

/* Rows row … of the weight, as the hook or the file has them. */
static tmb_status read_tile(const tmb_decoder *d, tmb_reader *reader, const tmb_weight *w,
                            size_t row, size_t rows, float *tile, tmb_err *err)
{
    if (w->unit && d->hooks.weight)
        return d->hooks.weight(d->hooks.ctx, reader, w->unit, row, rows, tile, err);
    if (w->unit) return tmb_reader_rows(reader, w->unit, row, rows, tile, err);
    size_t size = tmb_dtype_bits((tmb_dtype)w->tensor->dtype) / 8, n = rows * w->in;
    void *raw = malloc(n * size);
    if (!raw) return tmb_fail_memory(err, n * size, w->tensor->name);
    tmb_status status = tmb_checkpoint_read(d->model->ckpt, w->tensor, (uint64_t)row * w->in * size,
                                            raw, n * size, err);
    if (!status) d->ops->decode(tile, raw, (tmb_dtype)w->tensor->dtype, n);
    free(raw);
    return status;
}

/* ------------------------------------------------------------------ many weights, many threads */

/* What threads take: a run of weights, or one tile of panels of a single weight. */
typedef struct job {
    tmb_decoder *d;
    tmb_weight **weights; /* [n * step] */
    size_t n, step;
    const tmb_packed *into; /* not NULL: tiles of weights[0], from panel `first` of it on */
    size_t first, panels;
    size_t next; /* atomic */
    int failed;  /* atomic */
    tmb_err *err;
} job;

static tmb_status take_weight(job *j, tmb_reader *reader, tmb_weight *w, float *tile, tmb_err *err)
{
    for (size_t row = 0; row < w->out; row += TMB_TILE_ROWS) {
        size_t rows = w->out - row < TMB_TILE_ROWS ? w->out - row : TMB_TILE_ROWS;
        TRY(read_tile(j->d, reader, w, row, rows, tile, err));
        j->d->nn->pack(&w->packed, row / TMB_NN_PANEL, tile, rows, w->in);
    }
    return tmb_vector_load(j->d, &w->bias, err);
}

static tmb_status take_tile(job *j, tmb_reader *reader, size_t i, float *tile, tmb_err *err)
{
    tmb_weight *w = j->weights[0];
    size_t at = i * tile_panels, row = (j->first + at) * TMB_NN_PANEL;
    size_t left = w->out - row, rows = (j->panels - at) * TMB_NN_PANEL;
    rows = rows < left ? rows : left;
    rows = rows < TMB_TILE_ROWS ? rows : TMB_TILE_ROWS;
    TRY(read_tile(j->d, reader, w, row, rows, tile, err));
    j->d->nn->pack(j->into, at, tile, rows, w->in);
    return TMB_OK;
}

static size_t widest(const job *j)
{
    size_t in = 0;
    for (size_t i = 0; i < j->n * j->step; i++)
        if (j->weights[i] && j->weights[i]->in > in) in = j->weights[i]->in;
    return in;
}

static void work(void *ctx)
{
    job *j = ctx;
    tmb_err err = {0};
    tmb_reader *reader = NULL;
    size_t n = j->into ? (j->panels + tile_panels - 1) / tile_panels : j->n;
    float *tile = NULL;
    tmb_status status = tmb_reader_open(&reader, j->d->model, j->d->ops, &err);
    if (!status && !(tile = tmb_floats(TMB_TILE_ROWS, widest(j), &err))) status = TMB_ESYSTEM;
    while (!status && !__atomic_load_n(&j->failed, __ATOMIC_RELAXED)) {
        size_t i = __atomic_fetch_add(&j->next, 1, __ATOMIC_RELAXED);
        if (i >= n) break;
        if (j->into) status = take_tile(j, reader, i, tile, &err);
        for (size_t s = 0; !status && !j->into && s < j->step; s++)
            if (j->weights[i * j->step + s])
                status = take_weight(j, reader, j->weights[i * j->step + s], tile, &err);
    }
    if (status && !__atomic_exchange_n(&j->failed, 1, __ATOMIC_RELAXED)) {
        *j->err = err; /* of the first that failed; it is read when all are done */
        j->err->status = status;
    }
    free(tile);
    tmb_reader_close(reader);
}

static tmb_status run_job(job *j, tmb_err *err)
{
    tmb_err own = {0};
    double began = tmb_seconds();
    j->err = &own;
    tmb_team_run(j->d->threads, work, j);
    j->d->spent.read += tmb_seconds() - began;
    if (!j->failed) return TMB_OK;
    if (err) *err = own;
    return own.status;
}

static tmb_status make_room(tmb_weight *w, tmb_err *err)
{
    if (!w->out) return TMB_OK;
    size_t values = tmb_packed_panels(w->out) * TMB_NN_PANEL * w->in;
    void *room = tmb_aligned((uint64_t)values * (w->bf16 ? 2 : 4));
    if (!room)
        return tmb_fail_memory(err, (uint64_t)values * (w->bf16 ? 2 : 4), "the weights of a layer");
    w->packed = (tmb_packed){room, w->out, w->in, w->bf16};
    return TMB_OK;
}

static void drop_weight(tmb_weight *w)
{
    free(w->packed.values);
    free(w->bias.values);
    w->packed.values = NULL;
    w->bias.values = NULL;
}

/* The experts of every id, each of them one there is. */
static tmb_status load_hash(tmb_decoder *d, tmb_decoder_layer *l, tmb_err *err)
{
    const tmb_tensor *t = l->hash_table;
    if (!t) return TMB_OK;
    size_t n = (size_t)(t->bytes / sizeof *l->hash);
    l->hash = malloc(t->bytes);
    if (!l->hash) return tmb_fail_memory(err, t->bytes, t->name);
    TRY(tmb_checkpoint_read(d->model->ckpt, t, 0, l->hash, t->bytes, err));
    for (size_t i = 0; i < n; i++)
        if (l->hash[i] < 0 || (uint64_t)l->hash[i] >= d->config.n_experts)
            return tmb_fail(err, TMB_EDATA, "%s: tensor \"%s\" names an expert that there is not",
                            d->model->ckpt->shards[t->shard].name, t->name);
    return TMB_OK;
}

tmb_status tmb_decoder_layer_load(tmb_decoder *d, tmb_decoder_layer *layer, tmb_err *err)
{
    tmb_decoder_layer_drop(d);
    d->loaded = layer;
    tmb_weight *base[BASE], *present[BASE];
    tmb_vector *vectors[VECTORS];
    base_weights(layer, base);
    vectors_of(layer, vectors);
    size_t n = 0;
    for (int i = 0; i < BASE; i++)
        if (base[i]->out) present[n++] = base[i];
    for (size_t i = 0; i < n; i++)
        TRY(make_room(present[i], err));
    for (int i = 0; i < VECTORS; i++)
        TRY(tmb_vector_load(d, vectors[i], err));
    TRY(load_hash(d, layer, err));
    job j = {.d = d, .weights = present, .n = n, .step = 1};
    return run_job(&j, err);
}

tmb_status tmb_mixing_load(tmb_decoder *d, tmb_mixing *m, tmb_err *err)
{
    tmb_weight *list[3];
    size_t n = 0;
    for (int i = 0; i < 3; i++)
        if (m->w[i].out) list[n++] = &m->w[i];
    for (size_t i = 0; i < n; i++)
        TRY(make_room(list[i], err));
    for (int i = 0; i < 2; i++)
        TRY(tmb_vector_load(d, &m->v[i], err));
    job j = {.d = d, .weights = list, .n = n, .step = 1};
    return n ? run_job(&j, err) : TMB_OK;
}

void tmb_mixing_drop(tmb_mixing *m)
{
    for (int i = 0; i < 3; i++)
        drop_weight(&m->w[i]);
    for (int i = 0; i < 2; i++) {
        free(m->v[i].values);
        m->v[i].values = NULL;
    }
}

static void drop_experts(tmb_decoder *d)
{
    for (size_t s = d->held_first; s < d->held_end; s++) {
        size_t e = tmb_slot_expert(d, s);
        for (size_t p = 0; e < d->config.n_experts && p < TMB_MLP; p++)
            drop_weight(&d->loaded->experts[e * TMB_MLP + p]);
    }
    d->held_first = d->held_end = 0;
}

tmb_status tmb_experts_load(tmb_decoder *d, size_t first, size_t end, const bool *wanted,
                            tmb_err *err)
{
    if (d->held_first != first || d->held_end != end) drop_experts(d);
    d->held_first = first;
    d->held_end = end;
    size_t n = 0;
    tmb_weight **list = malloc((end - first) * TMB_MLP * sizeof(tmb_weight *));
    if (!list) return tmb_fail_memory(err, (end - first) * TMB_MLP * 8, "a group of experts");
    for (size_t s = first; s < end; s++) {
        tmb_weight *w = &d->loaded->experts[tmb_slot_expert(d, s) * TMB_MLP];
        if (!wanted[s - first] || w->packed.values) continue;
        for (size_t p = 0; p < TMB_MLP; p++)
            list[n++] = &w[p];
    }
    tmb_status status = TMB_OK;
    for (size_t i = 0; !status && i < n; i++)
        status = make_room(list[i], err);
    job j = {.d = d, .weights = list, .n = n / TMB_MLP, .step = TMB_MLP};
    if (!status && n) status = run_job(&j, err);
    free(list);
    if (status) drop_experts(d);
    return status;
}

void tmb_decoder_layer_drop(tmb_decoder *d)
{
    if (!d->loaded) return;
    tmb_weight *base[BASE];
    tmb_vector *vectors[VECTORS];
    base_weights(d->loaded, base);
    vectors_of(d->loaded, vectors);
    for (int i = 0; i < BASE; i++)
        drop_weight(base[i]);
    for (int i = 0; i < VECTORS; i++) {
        free(vectors[i]->values);
        vectors[i]->values = NULL;
    }
    drop_experts(d);
    free(d->loaded->hash);
    d->loaded->hash = NULL;
    d->loaded = NULL;
}

tmb_status tmb_weight_load_panels(tmb_decoder *d, const tmb_weight *w, const tmb_packed *to,
                                  size_t first, size_t panels, tmb_err *err)
{
    tmb_weight *one = (tmb_weight *)(uintptr_t)w;
    job j = {
        .d = d, .weights = &one, .n = 1, .step = 1, .into = to, .first = first, .panels = panels};
    return run_job(&j, err);
}
