/* mini_model.h - an inventory made without files, for tests of rules: layers of attention, router,
 * routed and shared experts under the names of Qwen2-MoE. */
#ifndef MINI_MODEL_H
#define MINI_MODEL_H

#include "moe/model/model.h"

#include <string.h>

typedef struct mini_shape {
    int layers, experts; /* experts 0: dense layers */
    uint64_t hidden, width;
    bool shared, mtp, mla;
} mini_shape;

typedef struct mini {
    tmb_model model;
    tmb_unit *next;
} mini;

static uint32_t mini_unit(mini *m, const char *name, tmb_role role, int layer, uint64_t out,
                          uint64_t in)
{
    tmb_unit *u = m->next++;
    *u = (tmb_unit){.name = name,
                    .disk = name,
                    .role = role,
                    .layer = layer,
                    .expert = -1,
                    .linear = in > 0,
                    .out = out,
                    .in = in,
                    .fuse = TMB_NONE,
                    .experts = TMB_NONE};
    if (tmb_role_protected(role) || role == TMB_ROLE_MTP) {
        u->keep = true;
        u->keep_why = role == TMB_ROLE_MTP ? "mtp: a layer of its own" : tmb_role_protected(role);
    }
    return m->model.n_units++;
}

#define MINI_NAME(...) tmb_arena_printf(&m->model.arena, __VA_ARGS__)

static void mini_fuse(mini *m, const uint32_t *units, uint32_t n)
{
    uint32_t *copy = tmb_arena_alloc(&m->model.arena, n * sizeof *copy);
    memcpy(copy, units, n * sizeof *copy);
    for (uint32_t i = 0; i < n; i++)
        m->model.units[units[i]].fuse = m->model.n_fuses;
    m->model.fuses[m->model.n_fuses++] = (tmb_fuse){.units = copy, .n_units = n};
}

/* gate, up, down under a block; returns the first unit. */
static uint32_t mini_mlp(mini *m, const char *block, tmb_role role, int layer, uint64_t hidden,
                         uint64_t width)
{
    uint32_t gate = mini_unit(m, MINI_NAME("%s.gate_proj", block), role, layer, width, hidden);
    uint32_t up = mini_unit(m, MINI_NAME("%s.up_proj", block), role, layer, width, hidden);
    mini_unit(m, MINI_NAME("%s.down_proj", block), role, layer, hidden, width);
    mini_fuse(m, (const uint32_t[]){gate, up}, 2);
    return gate;
}

static void mini_layer(mini *m, const mini_shape *s, const char *at, int layer, bool mtp)
{
    static const char *const gqa[] = {"q_proj", "k_proj", "v_proj", "o_proj"};
    static const char *const mla[] = {"q_a_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"};
    uint32_t attn[4];
    for (int i = 0; i < 4; i++)
        attn[i] = mini_unit(m, MINI_NAME("%s.self_attn.%s", at, s->mla ? mla[i] : gqa[i]),
                            mtp ? TMB_ROLE_MTP : TMB_ROLE_ATTENTION, layer, s->hidden, s->hidden);
    mini_fuse(m, attn, s->mla ? 2 : 3);
    mini_unit(m, MINI_NAME("%s.input_layernorm", at), mtp ? TMB_ROLE_MTP : TMB_ROLE_NORM, layer, 0,
              0);

    if (!s->experts) {
        mini_mlp(m, MINI_NAME("%s.mlp", at), TMB_ROLE_DENSE_MLP, layer, s->hidden, s->width);
        return;
    }
    mini_unit(m, MINI_NAME("%s.mlp.gate", at), mtp ? TMB_ROLE_MTP : TMB_ROLE_ROUTER, layer,
              (uint64_t)s->experts, s->hidden);
    uint32_t n = 3 * (uint32_t)s->experts;
    uint32_t *units = tmb_arena_alloc(&m->model.arena, n * sizeof *units);
    for (int e = 0; e < s->experts; e++) {
        uint32_t first = mini_mlp(m, MINI_NAME("%s.mlp.experts.%d", at, e),
                                  mtp ? TMB_ROLE_MTP : TMB_ROLE_EXPERT, layer, s->hidden, s->width);
        for (uint32_t p = 0; p < 3; p++)
            units[3 * e + (int)p] = first + p;
    }
    m->model.experts[m->model.n_experts_groups++] =
        (tmb_experts){.name = MINI_NAME("%s.mlp.experts", at),
                      .units = units,
                      .n_units = n,
                      .n_experts = (uint32_t)s->experts,
                      .layer = layer};
    if (!s->shared) return;
    mini_mlp(m, MINI_NAME("%s.mlp.shared_expert", at), mtp ? TMB_ROLE_MTP : TMB_ROLE_SHARED_EXPERT,
             layer, s->hidden, s->width);
    mini_unit(m, MINI_NAME("%s.mlp.shared_expert_gate", at),
              mtp ? TMB_ROLE_MTP : TMB_ROLE_SHARED_GATE, layer, 1, s->hidden);
}

static inline tmb_model *mini_open(mini *m, const mini_shape *s)
{
    memset(m, 0, sizeof *m);
    size_t layers = (size_t)s->layers + s->mtp;
    size_t a_layer = 16 + 3 * (size_t)s->experts;
    m->model.units = tmb_arena_alloc(&m->model.arena, (layers * a_layer + 8) * sizeof(tmb_unit));
    m->model.fuses = tmb_arena_alloc(&m->model.arena, layers * a_layer * sizeof(tmb_fuse));
    m->model.experts = tmb_arena_alloc(&m->model.arena, layers * sizeof(tmb_experts));
    m->next = m->model.units;
    m->model.n_layers = s->layers;
    m->model.n_experts = s->experts;
    mini_unit(m, "model.embed_tokens", TMB_ROLE_EMBEDDING, -1, 0, 0);
    for (int i = 0; i < s->layers; i++)
        mini_layer(m, s, MINI_NAME("model.layers.%d", i), i, false);
    if (s->mtp) mini_layer(m, s, "mtp.layers.0", -1, true);
    mini_unit(m, "model.norm", TMB_ROLE_NORM, -1, 0, 0);
    mini_unit(m, "lm_head", TMB_ROLE_LM_HEAD, -1, 256, s->hidden);
    return &m->model;
}

static inline void mini_close(mini *m)
{
    tmb_arena_free(&m->model.arena);
}

static inline const tmb_choice *mini_choice(const mini *m, const tmb_choice *choices,
                                            const char *name)
{
    for (uint32_t i = 0; i < m->model.n_units; i++)
        if (strcmp(m->model.units[i].name, name) == 0) return &choices[i];
    return NULL;
}

#endif
