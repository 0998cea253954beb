/* bind_mlp.c - the tensors of a layer's second half: a dense MLP, or router, routed and shared
 * experts.  Which of the two is seen in the tensors. */
#include "config.h"
#include "moe/infer/bind.h"

#include <inttypes.h>
#include <stdio.h>

static bool is_gated(const tmb_binder *b)
{
    return b->d->config.rules->activation != TMB_ACTIVATION_RELU2;
}

static tmb_status bind_mlp(tmb_binder *b, const char *block, tmb_weight mlp[TMB_MLP])
{
    static const char *const usual[TMB_MLP] = {"gate_proj", "up_proj", "down_proj"};
    const tmb_arch_forward *r = b->d->config.rules;
    const char *const *leaves = r->leaves[0] ? r->leaves : usual;
    size_t hidden = b->d->config.hidden;
    bool gated = is_gated(b);
    const char *first = leaves[gated ? TMB_GATE : TMB_UP];
    tmb_bind_part(b, block, first);
    const tmb_unit *gate = tmb_model_find(b->d->model, b->name);
    if (!gate) return tmb_bind_missing(b, ".weight");
    size_t width = (size_t)gate->out;
    TRY(tmb_bind_linear(b, &mlp[TMB_GATE], block, first, width, hidden));
    if (gated) TRY(tmb_bind_linear(b, &mlp[TMB_UP], block, leaves[TMB_UP], width, hidden));
    return tmb_bind_linear(b, &mlp[TMB_DOWN], block, leaves[TMB_DOWN], hidden, width);
}

/* The experts of each token id [vocab, top_k] I64. */
static tmb_status bind_hash(tmb_binder *b)
{
    const tmb_config *c = &b->d->config;
    tmb_bind_part(b, c->rules->block, c->rules->hash);
    const tmb_tensor *t = tmb_checkpoint_find(b->d->model->ckpt, b->name);
    if (!t) return tmb_bind_missing(b, "");
    if (t->dtype != TMB_I64 || t->rank != 2 || t->shape[0] != c->vocab || t->shape[1] != c->top_k)
        return tmb_fail(b->err, TMB_EDATA, "%s: tensor \"%s\" should be [%zu, %zu] of I64",
                        tmb_bind_shard(b, t), t->name, c->vocab, c->top_k);
    b->layer->hash_table = t;
    return TMB_OK;
}

/* The bias of an expert: its own, or a row of a stack's, which lies as the stack does. */
static tmb_status bind_expert_bias(tmb_binder *b, tmb_weight *w, size_t expert, int p)
{
    const tmb_unit *u = w->unit;
    const tmb_model *m = b->d->model;
    tmb_bind_name(b, "%s", u->name);
    TRY(tmb_bind_find(b, &w->bias, ".bias", w->out));
    if (w->bias.tensor) return TMB_OK;

    char name[TMB_NAME_MAX + 32];
    tmb_bind_part(b, b->d->config.rules->block, "experts");
    snprintf(name, sizeof name, "%s.%s_bias", b->name,
             p == TMB_DOWN ? "down_proj" : "gate_up_proj");
    const tmb_tensor *t = tmb_checkpoint_find(m->ckpt, name);
    if (!t) return TMB_OK;
    uint64_t rows = p == TMB_DOWN ? w->out : 2 * (uint64_t)w->out;
    if (!tmb_bind_is_plain(t) || t->rank != 2 || t->shape[0] != b->d->config.n_experts ||
        t->shape[1] != rows)
        return tmb_fail(b->err, TMB_EDATA,
                        "%s: tensor \"%s\" should be [%zu, %" PRIu64 "] of F32, F16 or BF16",
                        tmb_bind_shard(b, t), t->name, b->d->config.n_experts, rows);
    bool woven = m->arch->stack == TMB_STACK_IO_INTERLEAVED && p != TMB_DOWN;
    uint64_t first = p != TMB_UP ? 0 : woven ? 1 : w->out;
    w->bias = (tmb_vector){
        .tensor = t, .first = expert * rows + first, .step = woven ? 2 : 1, .n = w->out};
    return TMB_OK;
}

static tmb_status bind_experts(tmb_binder *b, const tmb_experts *group)
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
        if (p == TMB_UP && !is_gated(b)) p = TMB_GATE;
        if (u->linear && u->expert >= 0 && (size_t)u->expert < n &&
            (p != TMB_DOWN || u->proj == TMB_PROJ_DOWN))
            units[(size_t)u->expert * TMB_MLP + (size_t)p] = u;
    }
    for (size_t e = 0; e < n; e++)
        for (int p = 0; p < TMB_MLP; p++) {
            const tmb_unit *u = units[e * TMB_MLP + (size_t)p], *gate = units[e * TMB_MLP];
            if (p == TMB_UP && !is_gated(b)) continue;
            if (!u || !gate)
                return tmb_fail(b->err, TMB_EDATA,
                                "%s: %s: expert %zu is not whole; it needs %sup and down",
                                d->model->ckpt->path, group->name, e, is_gated(b) ? "gate, " : "");
            size_t width = (size_t)gate->out, hidden = d->config.expert_in;
            tmb_weight *w = &l->experts[e * TMB_MLP + (size_t)p];
            TRY(tmb_bind_unit(b, w, u, p == TMB_DOWN ? hidden : width,
                              p == TMB_DOWN ? width : hidden));
            TRY(bind_expert_bias(b, w, e, p));
        }
    return TMB_OK;
}

/* config.json may say that there are no shared experts; it says nothing: there are. */
static bool has_shared(const tmb_binder *b)
{
    const tmb_arch_forward *r = b->d->config.rules;
    if (!r->shared || !r->shared_key) return r->shared != NULL;
    const tmb_json *told = tmb_bind_key(b, r->shared_key);
    int64_t n = 1;
    return !tmb_json_is_null(told) && (!tmb_json_integer(told, &n) || n > 0);
}

static tmb_status bind_sparse(tmb_binder *b, const tmb_experts *group)
{
    const tmb_config *c = &b->d->config;
    const tmb_arch_forward *r = c->rules;
    tmb_decoder_layer *l = b->layer;
    l->sparse = true;
    TRY(tmb_bind_linear(b, &l->router, r->block, r->router, c->n_experts, c->hidden));
    if (r->router_bias && !l->router.bias.tensor) return tmb_bind_missing(b, ".bias");
    /* A router without a bias may have a tensor of that name: its correction. */
    if (!r->router_bias && r->correction) l->router.bias = (tmb_vector){.tensor = NULL};
    bool hashed = c->layer[l->index].hashed;
    if (hashed) TRY(bind_hash(b));
    if (r->correction && !hashed) {
        tmb_bind_part(b, r->block, r->correction);
        TRY(tmb_bind_find(b, &l->correction, "", c->n_experts));
        const tmb_json *told = tmb_bind_key(b, r->use_correction.key);
        if (!tmb_json_bool(told, r->use_correction.otherwise))
            l->correction = (tmb_vector){0};
        else if (!l->correction.tensor)
            return tmb_bind_missing(b, "");
    }
    if (c->latent) {
        TRY(tmb_bind_linear(b, &l->latent[0], r->block, "fc1_latent_proj", c->latent, c->hidden));
        TRY(tmb_bind_linear(b, &l->latent[1], r->block, "fc2_latent_proj", c->hidden, c->latent));
    }
    if (!has_shared(b)) return bind_experts(b, group);
    char block[64];
    snprintf(block, sizeof block, "%s.%s", r->block, r->shared);
    TRY(bind_mlp(b, block, l->mlp));
    if (r->shared_gate)
        TRY(tmb_bind_linear(b, &l->shared_gate, r->block, r->shared_gate, 1, c->hidden));
    return bind_experts(b, group);
}

static const tmb_experts *experts_of(const tmb_model *m, int layer)
{
    for (uint32_t i = 0; i < m->n_experts_groups; i++)
        if (m->experts[i].layer == layer) return &m->experts[i];
    return NULL;
}

tmb_status tmb_bind_mlp(tmb_binder *b)
{
    const tmb_experts *group = experts_of(b->d->model, b->layer->index);
    const char *dense = b->d->config.rules->dense;
    return group ? bind_sparse(b, group)
                 : bind_mlp(b, dense ? dense : b->d->config.rules->block, b->layer->mlp);
}
