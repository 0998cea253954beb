/* shapes.c - numbers of the published config.json of each model, and the tensors that follow. */
#include "config.h"
#include "moe/bench/shapes.h"

#include <stdio.h>
#include <string.h>

static const tmb_shape shapes[] = {
    {.name = "qwen3-30b-a3b",
     .model_type = "qwen3_moe",
     .class_name = "Qwen3MoeForCausalLM",
     .layers = 48,
     .experts = 128,
     .top_k = 8,
     .hidden = 2048,
     .inter = 6144,
     .moe_inter = 768,
     .vocab = 151936,
     .heads = 32,
     .kv_heads = 4,
     .head_dim = 128},
    {.name = "mixtral-8x7b",
     .model_type = "mixtral",
     .class_name = "MixtralForCausalLM",
     .layers = 32,
     .experts = 8,
     .top_k = 2,
     .hidden = 4096,
     .inter = 14336,
     .moe_inter = 14336,
     .vocab = 32000,
     .heads = 32,
     .kv_heads = 8,
     .head_dim = 128},
    {.name = "deepseek-v3",
     .model_type = "deepseek_v3",
     .class_name = "DeepseekV3ForCausalLM",
     .layers = 61,
     .dense = 3,
     .experts = 256,
     .top_k = 8,
     .shared = 1,
     .hidden = 7168,
     .inter = 18432,
     .moe_inter = 2048,
     .vocab = 129280,
     .heads = 128,
     .kv_heads = 128,
     .head_dim = 128,
     .q_rank = 1536,
     .kv_rank = 512,
     .rope_dim = 64,
     .value_dim = 128},
    {.name = "kimi-k2",
     .model_type = "kimi_k2",
     .class_name = "DeepseekV3ForCausalLM",
     .layers = 61,
     .dense = 1,
     .experts = 384,
     .top_k = 8,
     .shared = 1,
     .hidden = 7168,
     .inter = 18432,
     .moe_inter = 2048,
     .vocab = 163840,
     .heads = 64,
     .kv_heads = 64,
     .head_dim = 128,
     .q_rank = 1536,
     .kv_rank = 512,
     .rope_dim = 64,
     .value_dim = 128},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

const tmb_shape *tmb_shape_at(int i)
{
    return i >= 0 && i < SHAPES ? &shapes[i] : NULL;
}

const tmb_shape *tmb_shape_find(const char *name)
{
    for (int i = 0; i < SHAPES; i++)
        if (!strcmp(shapes[i].name, name)) return &shapes[i];
    return NULL;
}

/* ---- tensors ----------------------------------------------------------------------------------
 */

typedef struct walk {
    const tmb_shape *shape;
    int (*visit)(void *ctx, const tmb_shape_tensor *t);
    void *ctx;
    int status;
} walk;

static void tensor(walk *w, const char *name, uint64_t rows, uint64_t cols, bool f32)
{
    tmb_shape_tensor t = {.name = name, .rows = rows, .cols = cols, .f32 = f32};
    t.routes = strstr(name, ".gate.weight") || strstr(name, "embed_tokens");
    if (!w->status) w->status = w->visit(w->ctx, &t);
}

/* model.layers.N.LEAF.weight */
static void weight(walk *w, uint32_t layer, const char *leaf, uint64_t rows, uint64_t cols)
{
    char name[160];
    snprintf(name, sizeof name, "model.layers.%u.%s.weight", layer, leaf);
    tensor(w, name, rows, cols, false);
}

static void mlp(walk *w, uint32_t layer, const char *parent, const char *const leaves[3],
                uint64_t inter)
{
    uint64_t hidden = w->shape->hidden;
    for (int i = 0; i < 3; i++) { /* gate, down, up: of the leaves only down turns */
        char leaf[96];
        bool down = i == 1;
        snprintf(leaf, sizeof leaf, "%s.%s", parent, leaves[i]);
        weight(w, layer, leaf, down ? hidden : inter, down ? inter : hidden);
    }
}

static void latent_attention(walk *w, uint32_t layer)
{
    const tmb_shape *s = w->shape;
    weight(w, layer, "self_attn.q_a_proj", s->q_rank, s->hidden);
    weight(w, layer, "self_attn.q_a_layernorm", 0, s->q_rank);
    weight(w, layer, "self_attn.q_b_proj", (uint64_t)s->heads * (s->head_dim + s->rope_dim),
           s->q_rank);
    weight(w, layer, "self_attn.kv_a_proj_with_mqa", s->kv_rank + s->rope_dim, s->hidden);
    weight(w, layer, "self_attn.kv_a_layernorm", 0, s->kv_rank);
    weight(w, layer, "self_attn.kv_b_proj", (uint64_t)s->heads * (s->head_dim + s->value_dim),
           s->kv_rank);
    weight(w, layer, "self_attn.o_proj", s->hidden, (uint64_t)s->heads * s->value_dim);
}

static void attention(walk *w, uint32_t layer)
{
    const tmb_shape *s = w->shape;
    uint64_t q = (uint64_t)s->heads * s->head_dim, kv = (uint64_t)s->kv_heads * s->head_dim;
    weight(w, layer, "self_attn.k_proj", kv, s->hidden);
    weight(w, layer, "self_attn.o_proj", s->hidden, q);
    weight(w, layer, "self_attn.q_proj", q, s->hidden);
    weight(w, layer, "self_attn.v_proj", kv, s->hidden);
    if (strcmp(s->model_type, "qwen3_moe") != 0) return;
    weight(w, layer, "self_attn.k_norm", 0, s->head_dim);
    weight(w, layer, "self_attn.q_norm", 0, s->head_dim);
}

static void layer(walk *w, uint32_t n)
{
    static const char *const plain[3] = {"gate_proj", "down_proj", "up_proj"};
    static const char *const numbered[3] = {"w1", "w2", "w3"};
    const tmb_shape *s = w->shape;
    bool mixtral = !strcmp(s->model_type, "mixtral");
    const char *block = mixtral ? "block_sparse_moe" : "mlp";
    char leaf[96];
    weight(w, n, "input_layernorm", 0, s->hidden);
    weight(w, n, "post_attention_layernorm", 0, s->hidden);
    if (s->kv_rank)
        latent_attention(w, n);
    else
        attention(w, n);
    if (n < s->dense) {
        mlp(w, n, "mlp", plain, s->inter);
        return;
    }
    snprintf(leaf, sizeof leaf, "%s.gate", block);
    weight(w, n, leaf, s->experts, s->hidden);
    if (s->kv_rank) {
        char name[160];
        snprintf(name, sizeof name, "model.layers.%u.mlp.gate.e_score_correction_bias", n);
        tensor(w, name, 0, s->experts, true);
    }
    for (uint32_t e = 0; e < s->experts && !w->status; e++) {
        snprintf(leaf, sizeof leaf, "%s.experts.%u", block, e);
        mlp(w, n, leaf, mixtral ? numbered : plain, s->moe_inter);
    }
    if (s->shared) mlp(w, n, "mlp.shared_experts", plain, (uint64_t)s->shared * s->moe_inter);
}

int tmb_shape_walk(const tmb_shape *shape, int (*visit)(void *ctx, const tmb_shape_tensor *t),
                   void *ctx)
{
    walk w = {.shape = shape, .visit = visit, .ctx = ctx};
    tensor(&w, "lm_head.weight", shape->vocab, shape->hidden, false);
    tensor(&w, "model.embed_tokens.weight", shape->vocab, shape->hidden, false);
    for (uint32_t n = 0; n < shape->layers && !w.status; n++)
        layer(&w, n);
    tensor(&w, "model.norm.weight", 0, shape->hidden, false);
    return w.status;
}

/* ---- sizes ------------------------------------------------------------------------------------
 */

static int add_bytes(void *ctx, const tmb_shape_tensor *t)
{
    *(uint64_t *)ctx += (t->rows ? t->rows : 1) * t->cols * (t->f32 ? 4 : 2);
    return 0;
}

uint64_t tmb_shape_bytes(const tmb_shape *shape)
{
    uint64_t bytes = 0;
    tmb_shape_walk(shape, add_bytes, &bytes);
    return bytes;
}

static void halve(tmb_shape *s)
{
    uint32_t *widths[] = {&s->hidden, &s->inter, &s->moe_inter, &s->q_rank, &s->kv_rank};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
        *widths[i] /= 2;
    s->heads = s->heads > 2 ? s->heads / 2 : s->heads;
    s->kv_heads = s->kv_heads > 2 ? s->kv_heads / 2 : s->kv_heads;
}

tmb_shape tmb_shape_scaled(const tmb_shape *shape, uint64_t bytes)
{
    tmb_shape s = *shape;
    double share = (double)bytes / (double)tmb_shape_bytes(shape);
    if (share >= 1) return s;
    s.vocab = (uint32_t)(s.vocab * share) / 128 * 128;
    if (s.vocab < 1024) s.vocab = 1024;
    if (s.dense > 1) s.dense = 1;
    while (s.layers > s.dense + 1 && tmb_shape_bytes(&s) > bytes)
        s.layers--;
    while (s.experts > s.top_k && tmb_shape_bytes(&s) > bytes)
        s.experts--;
    while (s.hidden > 256 && tmb_shape_bytes(&s) > bytes)
        halve(&s);
    return s;
}
