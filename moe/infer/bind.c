/* bind.c - which tensor is which part of the computation, and whether its shape is what config.json
 * tells.  Nothing is read here but headers, which are. */
#include "config.h"
#include "moe/infer/bind.h"
#include "moe/model/dims.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void tmb_bind_name(tmb_binder *b, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(b->name, sizeof b->name, format, ap);
    va_end(ap);
}

void tmb_bind_part(tmb_binder *b, const char *block, const char *leaf)
{
    tmb_bind_name(b, "%slayers.%d.%s%s%s", b->d->model->prefix, b->layer->index, block,
                  *block ? "." : "", leaf);
}

tmb_status tmb_bind_missing(const tmb_binder *b, const char *ending)
{
    return tmb_fail(b->err, TMB_EDATA,
                    "%s: there is no tensor \"%s%s\", which the forward pass needs",
                    b->d->model->ckpt->path, b->name, ending);
}

bool tmb_bind_is_plain(const tmb_tensor *t)
{
    return t->dtype == TMB_F32 || t->dtype == TMB_F16 || t->dtype == TMB_BF16;
}

const char *tmb_bind_shard(const tmb_binder *b, const tmb_tensor *t)
{
    return b->d->model->ckpt->shards[t->shard].name;
}

tmb_status tmb_bind_find(tmb_binder *b, tmb_vector *v, const char *ending, size_t n)
{
    char full[TMB_NAME_MAX + 16];
    snprintf(full, sizeof full, "%s%s", b->name, ending);
    const tmb_tensor *t = tmb_checkpoint_find(b->d->model->ckpt, full);
    if (!t) return TMB_OK;
    if (!tmb_bind_is_plain(t) || t->bytes / (tmb_dtype_bits((tmb_dtype)t->dtype) / 8) != n)
        return tmb_fail(b->err, TMB_EDATA,
                        "%s: tensor \"%s\" should hold %zu numbers in F32, F16 or BF16",
                        tmb_bind_shard(b, t), t->name, n);
    *v = (tmb_vector){.tensor = t, .step = 1, .n = n};
    return TMB_OK;
}

tmb_status tmb_bind_vector(tmb_binder *b, tmb_vector *v, const char *ending, size_t n)
{
    TRY(tmb_bind_find(b, v, ending, n));
    return v->tensor ? TMB_OK : tmb_bind_missing(b, ending);
}

tmb_status tmb_bind_norm(tmb_binder *b, tmb_vector *v, size_t n)
{
    TRY(tmb_bind_vector(b, v, ".weight", n));
    v->from_one = b->d->config.norms_from_one;
    return TMB_OK;
}

const char *tmb_block_name(const tmb_decoder *d)
{
    const char *name = d->config.rules->mixer_block;
    return name ? name : "self_attn";
}

const tmb_json *tmb_bind_key(const tmb_binder *b, const char *key)
{
    return key ? tmb_json_get(tmb_dims_text(b->d->model->ckpt->config), key) : NULL;
}

/* Decoding gives BF16 back: it is stored so, or as four bits under a power of two. */
static bool decodes_to_bf16(const tmb_binder *b, const tmb_unit *u)
{
    if (b->d->hooks.weight) return false;
    if (!u->stored.format)
        return b->d->model->ckpt->tensors[u->stored.part[TMB_PART_CODES]].dtype == TMB_BF16;
    return !strcmp(u->stored.format->name, "mxfp4");
}

tmb_status tmb_bind_unit(tmb_binder *b, tmb_weight *w, const tmb_unit *u, size_t out, size_t in)
{
    const tmb_model *m = b->d->model;
    if (u->broken)
        return tmb_fail(b->err, TMB_EDATA, "%s: %s: %s", m->ckpt->path, u->name, u->broken);
    if (!u->linear)
        return tmb_fail(b->err, TMB_EDATA, "%s: %s is no [out, in] weight of a decoder layer",
                        m->ckpt->path, u->name);
    if (u->out != out || u->in != in)
        return tmb_fail(b->err, TMB_EDATA,
                        "%s: %s is [%" PRIu64 ", %" PRIu64 "], config.json tells [%zu, %zu]",
                        m->ckpt->path, u->name, u->out, u->in, out, in);
    *w = (tmb_weight){.unit = u, .index = (uint32_t)(u - m->units), .out = out, .in = in};
    w->bf16 = decodes_to_bf16(b, u);
    return TMB_OK;
}

tmb_status tmb_bind_weight(tmb_binder *b, tmb_weight *w, size_t out, size_t in)
{
    const tmb_unit *u = tmb_model_find(b->d->model, b->name);
    if (!u) return tmb_bind_missing(b, ".weight");
    TRY(tmb_bind_unit(b, w, u, out, in));
    return tmb_bind_find(b, &w->bias, ".bias", out);
}

tmb_status tmb_bind_linear(tmb_binder *b, tmb_weight *w, const char *block, const char *leaf,
                           size_t out, size_t in)
{
    tmb_bind_part(b, block, leaf);
    return tmb_bind_weight(b, w, out, in);
}

static const char *or_usual(const char *told, const char *usual)
{
    return told ? told : usual;
}

/* The norm in front of a half; told as "": there is none. */
static tmb_status bind_layer_norm(tmb_binder *b, tmb_vector *v, const char *told, const char *usual)
{
    if (told && !*told) return TMB_OK;
    tmb_bind_part(b, "", or_usual(told, usual));
    return tmb_bind_norm(b, v, b->d->config.hidden);
}

static tmb_status bind_layer(tmb_binder *b)
{
    const tmb_config *c = &b->d->config;
    const tmb_arch_forward *r = c->rules;
    const tmb_streaming *streaming = tmb_streaming_of(c);
    tmb_decoder_layer *l = b->layer;
    tmb_halves halves = c->layer[l->index].halves;
    if (streaming) TRY(streaming->bind(b));
    if (halves != TMB_HALVES_SECOND) {
        TRY(bind_layer_norm(b, &l->input_norm, r->first_norm, "input_layernorm"));
        l->block = tmb_block_of(c, l->index);
        TRY(l->block->bind(b));
    }
    if (halves == TMB_HALVES_FIRST) return TMB_OK;
    TRY(bind_layer_norm(b, &l->post_norm, r->second_norm, "post_attention_layernorm"));
    return tmb_bind_mlp(b);
}

/* ------------------------------------------------------------------ both ends */

static tmb_status bind_head(tmb_binder *b)
{
    tmb_decoder *d = b->d;
    const char *const names[] = {"lm_head", "language_model.lm_head", d->config.rules->head};
    for (int i = 0; i < 3 && names[i]; i++) {
        tmb_bind_name(b, "%s", names[i]);
        if (tmb_model_find(d->model, b->name))
            return tmb_bind_weight(b, &d->head, d->config.vocab, d->config.hidden);
    }
    tmb_bind_name(b, "lm_head");
    if (!d->config.tied) return tmb_bind_missing(b, ".weight");
    d->head = (tmb_weight){.tensor = d->embedding,
                           .index = TMB_NONE,
                           .out = d->config.vocab,
                           .in = d->config.hidden,
                           .bf16 = d->embedding->dtype == TMB_BF16};
    return TMB_OK;
}

tmb_status tmb_decoder_bind(tmb_decoder *d, tmb_err *err)
{
    tmb_binder b = {.d = d, .err = err};
    const tmb_config *c = &d->config;
    tmb_bind_name(&b, "%s%s", d->model->prefix, or_usual(c->rules->embedding, "embed_tokens"));
    char name[TMB_NAME_MAX + 16];
    snprintf(name, sizeof name, "%s.weight", b.name);
    const tmb_tensor *t = tmb_checkpoint_find(d->model->ckpt, name);
    if (!t) return tmb_bind_missing(&b, ".weight");
    if (!tmb_bind_is_plain(t) || t->rank != 2 || t->shape[1] != c->hidden || !t->shape[0] ||
        t->shape[0] > INT32_MAX)
        return tmb_fail(err, TMB_EDATA,
                        "%s: tensor \"%s\" should be [vocabulary, %zu] of F32, F16 or BF16",
                        tmb_bind_shard(&b, t), t->name, c->hidden);
    d->embedding = t;
    d->config.vocab = (size_t)t->shape[0];
    const char *last = or_usual(c->rules->last_norm, "norm");
    tmb_bind_name(&b, "%s%s", d->model->prefix, last);
    if (*last) TRY(tmb_bind_norm(&b, &d->final_norm, c->hidden));
    const tmb_streaming *streaming = tmb_streaming_of(c);
    if (streaming) TRY(streaming->bind_last(&b));
    TRY(bind_head(&b));

    d->layers = tmb_arena_alloc(&d->arena, (size_t)c->layers * sizeof *d->layers);
    if (!d->layers) return tmb_fail_memory(err, (size_t)c->layers * sizeof *d->layers, "layers");
    for (int i = 0; i < c->layers; i++) {
        b.layer = &d->layers[i];
        b.layer->index = i;
        TRY(bind_layer(&b));
    }
    return TMB_OK;
}
