/* bind.c - which tensor is which part of the computation, and whether its shape is what config.json
 * tells.  Nothing is read here but headers, which are. */
#include "config.h"
#include "moe/infer/decoder.h"
#include "moe/model/dims.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef struct binder {
    tmb_decoder *d;
    tmb_decoder_layer *layer;
    char name[TMB_NAME_MAX]; /* of the module looked for */
    tmb_err *err;
} binder;

__attribute__((format(printf, 2, 3))) static void name_it(binder *b, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(b->name, sizeof b->name, format, ap);
    va_end(ap);
}

/* "PREFIXlayers.3.BLOCK.LEAF" */
static void name_part(binder *b, const char *block, const char *leaf)
{
    name_it(b, "%slayers.%d.%s%s%s", b->d->model->prefix, b->layer->index, block, *block ? "." : "",
            leaf);
}

static tmb_status missing(const binder *b, const char *ending)
{
    return tmb_fail(b->err, TMB_EDATA,
                    "%s: there is no tensor \"%s%s\", which the forward pass needs",
                    b->d->model->ckpt->path, b->name, ending);
}

static bool is_plain(const tmb_tensor *t)
{
    return t->dtype == TMB_F32 || t->dtype == TMB_F16 || t->dtype == TMB_BF16;
}

static const char *shard_of(const binder *b, const tmb_tensor *t)
{
    return b->d->model->ckpt->shards[t->shard].name;
}

/* The tensor b->name + ending; *v stays empty when it is not there. */
static tmb_status find_vector(binder *b, tmb_vector *v, const char *ending, size_t n)
{
    char full[TMB_NAME_MAX + 16];
    snprintf(full, sizeof full, "%s%s", b->name, ending);
    const tmb_tensor *t = tmb_checkpoint_find(b->d->model->ckpt, full);
    if (!t) return TMB_OK;
    if (!is_plain(t) || t->bytes / (tmb_dtype_bits((tmb_dtype)t->dtype) / 8) != n)
        return tmb_fail(b->err, TMB_EDATA,
                        "%s: tensor \"%s\" should hold %zu numbers in F32, F16 or BF16",
                        shard_of(b, t), t->name, n);
    *v = (tmb_vector){.tensor = t, .step = 1, .n = n};
    return TMB_OK;
}

static tmb_status need_vector(binder *b, tmb_vector *v, const char *ending, size_t n)
{
    TRY(find_vector(b, v, ending, n));
    return v->tensor ? TMB_OK : missing(b, ending);
}

/* Decoding gives BF16 back: it is stored so, or as four bits under a power of two. */
static bool decodes_to_bf16(const binder *b, const tmb_unit *u)
{
    if (b->d->hooks.weight) return false;
    if (!u->stored.format)
        return b->d->model->ckpt->tensors[u->stored.part[TMB_PART_CODES]].dtype == TMB_BF16;
    return !strcmp(u->stored.format->name, "mxfp4");
}

static tmb_status take_unit(binder *b, tmb_weight *w, const tmb_unit *u, size_t out, size_t in)
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

/* The Linear b->name with its bias, if it has one. */
static tmb_status need_weight(binder *b, tmb_weight *w, size_t out, size_t in)
{
    const tmb_unit *u = tmb_model_find(b->d->model, b->name);
    if (!u) return missing(b, ".weight");
    TRY(take_unit(b, w, u, out, in));
    return find_vector(b, &w->bias, ".bias", out);
}

static tmb_status part(binder *b, tmb_weight *w, const char *block, const char *leaf, size_t out,
                       size_t in)
{
    name_part(b, block, leaf);
    return need_weight(b, w, out, in);
}

/* ------------------------------------------------------------------ attention */

static tmb_status bind_gqa(binder *b)
{
    const tmb_config *c = &b->d->config;
    tmb_decoder_layer *l = b->layer;
    size_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    TRY(part(b, &l->q, "self_attn", "q_proj", q, c->hidden));
    TRY(part(b, &l->k, "self_attn", "k_proj", kv, c->hidden));
    TRY(part(b, &l->v, "self_attn", "v_proj", kv, c->hidden));
    TRY(part(b, &l->o, "self_attn", "o_proj", c->hidden, q));
    if (c->qk_norm && c->rules->qk_norm != TMB_QK_NORM_L2) {
        bool whole = c->rules->qk_norm == TMB_QK_NORM_WHOLE;
        name_part(b, "self_attn", "q_norm");
        TRY(need_vector(b, &l->q_norm, ".weight", whole ? q : c->head_dim));
        name_part(b, "self_attn", "k_norm");
        TRY(need_vector(b, &l->k_norm, ".weight", whole ? kv : c->head_dim));
    }
    if (!c->rules->sinks) return TMB_OK;
    name_part(b, "self_attn", "sinks");
    return need_vector(b, &l->sinks, "", c->heads);
}

static tmb_status bind_mla(binder *b)
{
    const tmb_config *c = &b->d->config;
    tmb_decoder_layer *l = b->layer;
    size_t q = c->heads * c->head_dim;
    if (c->q_rank) {
        TRY(part(b, &l->q_a, "self_attn", "q_a_proj", c->q_rank, c->hidden));
        TRY(part(b, &l->q, "self_attn", "q_b_proj", q, c->q_rank));
        name_part(b, "self_attn", "q_a_layernorm");
        TRY(need_vector(b, &l->q_norm, ".weight", c->q_rank));
    } else {
        TRY(part(b, &l->q, "self_attn", "q_proj", q, c->hidden));
    }
    TRY(part(b, &l->kv_a, "self_attn", "kv_a_proj_with_mqa", c->kv_rank + c->rope_dim, c->hidden));
    name_part(b, "self_attn", "kv_a_layernorm");
    TRY(need_vector(b, &l->k_norm, ".weight", c->kv_rank));
    TRY(part(b, &l->kv_b, "self_attn", "kv_b_proj", c->heads * (c->nope_dim + c->v_dim),
             c->kv_rank));
    return part(b, &l->o, "self_attn", "o_proj", c->hidden, c->heads * c->v_dim);
}

/* Biases that config.json tells of are there. */
static tmb_status check_biases(binder *b)
{
    const tmb_arch_forward *r = b->d->config.rules;
    const tmb_json *told =
        r->attention_bias.key
            ? tmb_json_get(tmb_dims_text(b->d->model->ckpt->config), r->attention_bias.key)
            : NULL;
    if (!tmb_json_bool(told, r->attention_bias.otherwise)) return TMB_OK;
    for (int i = 0; i < 4 && r->biased[i]; i++) {
        tmb_vector bias = {0};
        name_part(b, "self_attn", r->biased[i]);
        if (!tmb_model_find(b->d->model, b->name)) continue; /* q_a_proj of a model without it */
        const tmb_unit *u = tmb_model_find(b->d->model, b->name);
        TRY(need_vector(b, &bias, ".bias", (size_t)u->out));
    }
    return TMB_OK;
}

/* ------------------------------------------------------------------ the other half */

static tmb_status bind_mlp(binder *b, const char *block, tmb_weight mlp[TMB_MLP])
{
    static const char *const leaves[] = {"gate_proj", "up_proj", "down_proj"};
    size_t hidden = b->d->config.hidden;
    name_part(b, block, leaves[TMB_GATE]);
    const tmb_unit *gate = tmb_model_find(b->d->model, b->name);
    if (!gate) return missing(b, ".weight");
    size_t width = (size_t)gate->out;
    TRY(part(b, &mlp[TMB_GATE], block, leaves[TMB_GATE], width, hidden));
    TRY(part(b, &mlp[TMB_UP], block, leaves[TMB_UP], width, hidden));
    return part(b, &mlp[TMB_DOWN], block, leaves[TMB_DOWN], hidden, width);
}

/* The bias of an expert: its own, or a row of a stack's, which lies as the stack does. */
static tmb_status bind_expert_bias(binder *b, tmb_weight *w, size_t expert, int p)
{
    const tmb_unit *u = w->unit;
    const tmb_model *m = b->d->model;
    name_it(b, "%s", u->name);
    TRY(find_vector(b, &w->bias, ".bias", w->out));
    if (w->bias.tensor) return TMB_OK;

    char name[TMB_NAME_MAX + 32];
    name_part(b, b->d->config.rules->block, "experts");
    snprintf(name, sizeof name, "%s.%s_bias", b->name,
             p == TMB_DOWN ? "down_proj" : "gate_up_proj");
    const tmb_tensor *t = tmb_checkpoint_find(m->ckpt, name);
    if (!t) return TMB_OK;
    uint64_t rows = p == TMB_DOWN ? w->out : 2 * (uint64_t)w->out;
    if (!is_plain(t) || t->rank != 2 || t->shape[0] != b->d->config.n_experts ||
        t->shape[1] != rows)
        return tmb_fail(b->err, TMB_EDATA,
                        "%s: tensor \"%s\" should be [%zu, %" PRIu64 "] of F32, F16 or BF16",
                        shard_of(b, t), t->name, b->d->config.n_experts, rows);
    bool woven = m->arch->stack == TMB_STACK_IO_INTERLEAVED && p != TMB_DOWN;
    uint64_t first = p != TMB_UP ? 0 : woven ? 1 : w->out;
    w->bias = (tmb_vector){
        .tensor = t, .first = expert * rows + first, .step = woven ? 2 : 1, .n = w->out};
    return TMB_OK;
}

static tmb_status bind_experts(binder *b, const tmb_experts *group)
{
    tmb_decoder *d = b->d;
    tmb_decoder_layer *l = b->layer;
    size_t n = d->config.n_experts;
    if (group->n_experts != n)
        return tmb_fail(b->err, TMB_EDATA, "%s: %s has %u experts, config.json tells %zu",
                        d->model->ckpt->path, group->name, group->n_experts, n);
    l->experts = tmb_arena_alloc(&d->arena, n * TMB_MLP * sizeof *l->experts);
    if (!l->experts) return tmb_fail_memory(b->err, n * TMB_MLP * sizeof *l->experts, "experts");
    const tmb_unit **units = tmb_arena_alloc(&d->arena, n * TMB_MLP * sizeof *units);
    if (!units) return tmb_fail_memory(b->err, n * TMB_MLP * sizeof *units, "experts");
    for (uint32_t i = 0; i < group->n_units; i++) {
        const tmb_unit *u = &d->model->units[group->units[i]];
        int p = u->proj == TMB_PROJ_GATE ? TMB_GATE : u->proj == TMB_PROJ_UP ? TMB_UP : TMB_DOWN;
        if (u->linear && u->expert >= 0 && (size_t)u->expert < n &&
            (p != TMB_DOWN || u->proj == TMB_PROJ_DOWN))
            units[(size_t)u->expert * TMB_MLP + (size_t)p] = u;
    }
    for (size_t e = 0; e < n; e++)
        for (int p = 0; p < TMB_MLP; p++) {
            const tmb_unit *u = units[e * TMB_MLP + (size_t)p], *gate = units[e * TMB_MLP];
            if (!u || !gate)
                return tmb_fail(b->err, TMB_EDATA,
                                "%s: %s: expert %zu is not whole; it needs gate, up and down",
                                d->model->ckpt->path, group->name, e);
            size_t width = (size_t)gate->out, hidden = d->config.hidden;
            tmb_weight *w = &l->experts[e * TMB_MLP + (size_t)p];
            TRY(take_unit(b, w, u, p == TMB_DOWN ? hidden : width, p == TMB_DOWN ? width : hidden));
            TRY(bind_expert_bias(b, w, e, p));
        }
    return TMB_OK;
}

/* config.json may say that there are no shared experts; it says nothing: there are. */
static bool has_shared(const binder *b)
{
    const tmb_arch_forward *r = b->d->config.rules;
    if (!r->shared || !r->shared_key) return r->shared != NULL;
    const tmb_json *told = tmb_json_get(tmb_dims_text(b->d->model->ckpt->config), r->shared_key);
    int64_t n = 1;
    return !tmb_json_is_null(told) && (!tmb_json_integer(told, &n) || n > 0);
}

static tmb_status bind_sparse(binder *b, const tmb_experts *group)
{
    const tmb_config *c = &b->d->config;
    const tmb_arch_forward *r = c->rules;
    tmb_decoder_layer *l = b->layer;
    l->sparse = true;
    TRY(part(b, &l->router, r->block, r->router, c->n_experts, c->hidden));
    if (r->router_bias && !l->router.bias.tensor) return missing(b, ".bias");
    if (r->correction) {
        name_part(b, r->block, r->correction);
        TRY(find_vector(b, &l->correction, "", c->n_experts));
        const tmb_json *told =
            r->use_correction.key
                ? tmb_json_get(tmb_dims_text(b->d->model->ckpt->config), r->use_correction.key)
                : NULL;
        if (!tmb_json_bool(told, r->use_correction.otherwise))
            l->correction = (tmb_vector){0};
        else if (!l->correction.tensor)
            return missing(b, "");
    }
    if (!has_shared(b)) return bind_experts(b, group);
    char block[64];
    snprintf(block, sizeof block, "%s.%s", r->block, r->shared);
    TRY(bind_mlp(b, block, l->mlp));
    if (r->shared_gate) TRY(part(b, &l->shared_gate, r->block, r->shared_gate, 1, c->hidden));
    return bind_experts(b, group);
}

static const tmb_experts *experts_of(const tmb_model *m, int layer)
{
    for (uint32_t i = 0; i < m->n_experts_groups; i++)
        if (m->experts[i].layer == layer) return &m->experts[i];
    return NULL;
}

static tmb_status bind_layer(binder *b)
{
    const tmb_config *c = &b->d->config;
    tmb_decoder_layer *l = b->layer;
    name_part(b, "", "input_layernorm");
    TRY(need_vector(b, &l->input_norm, ".weight", c->hidden));
    name_part(b, "", "post_attention_layernorm");
    TRY(need_vector(b, &l->post_norm, ".weight", c->hidden));
    TRY(c->rules->attention == TMB_ATTENTION_MLA ? bind_mla(b) : bind_gqa(b));
    TRY(check_biases(b));
    const tmb_experts *group = experts_of(b->d->model, l->index);
    return group ? bind_sparse(b, group) : bind_mlp(b, c->rules->block, l->mlp);
}

/* ------------------------------------------------------------------ both ends */

static tmb_status bind_head(binder *b)
{
    tmb_decoder *d = b->d;
    static const char *const names[] = {"lm_head", "language_model.lm_head"};
    for (int i = 0; i < 2; i++) {
        name_it(b, "%s", names[i]);
        if (tmb_model_find(d->model, b->name))
            return need_weight(b, &d->head, d->config.vocab, d->config.hidden);
    }
    name_it(b, "lm_head");
    if (!d->config.tied) return missing(b, ".weight");
    d->head = (tmb_weight){.tensor = d->embedding,
                           .index = TMB_NONE,
                           .out = d->config.vocab,
                           .in = d->config.hidden,
                           .bf16 = d->embedding->dtype == TMB_BF16};
    return TMB_OK;
}

tmb_status tmb_decoder_bind(tmb_decoder *d, tmb_err *err)
{
    binder b = {.d = d, .err = err};
    const tmb_config *c = &d->config;
    name_it(&b, "%sembed_tokens", d->model->prefix);
    char name[TMB_NAME_MAX + 16];
    snprintf(name, sizeof name, "%s.weight", b.name);
    const tmb_tensor *t = tmb_checkpoint_find(d->model->ckpt, name);
    if (!t) return missing(&b, ".weight");
    if (!is_plain(t) || t->rank != 2 || t->shape[1] != c->hidden || !t->shape[0] ||
        t->shape[0] > INT32_MAX)
        return tmb_fail(err, TMB_EDATA,
                        "%s: tensor \"%s\" should be [vocabulary, %zu] of F32, F16 or BF16",
                        shard_of(&b, t), t->name, c->hidden);
    d->embedding = t;
    d->config.vocab = (size_t)t->shape[0];
    name_it(&b, "%snorm", d->model->prefix);
    TRY(need_vector(&b, &d->final_norm, ".weight", c->hidden));
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
