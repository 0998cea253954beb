/* qwen2_moe.c - Qwen1.5-MoE, Qwen2-57B-A14B: a gated shared expert, biases on q, k, v. */
#include "config.h"
#include "moe/model/arch_rows.h"

static const char *const types[] = {"qwen2_moe", NULL};
static const char *const prefixes[] = {"model.", NULL};
static const tmb_arch_row rows[] = {
    TMB_ROWS_AROUND,
    TMB_ROWS_LAYER_NORMS,
    TMB_ROWS_GQA,
    TMB_ROWS_DENSE("mlp"),
    TMB_ROWS_MOE("mlp"),
    TMB_ROWS_END,
};
static const tmb_arch_forward forward = {
    .attention = TMB_ATTENTION_GQA,
    .attention_bias = {"qkv_bias", true},
    .biased = {"q_proj", "k_proj", "v_proj"},
    .theta = 1e4,
    .eps = 1e-6,
    .views = TMB_VIEWS_QWEN2,
    .block = "mlp",
    .router = "gate",
    .routing = TMB_ROUTING_SOFTMAX,
    .renormalize = {"norm_topk_prob", false},
    .shared = "shared_expert",
    .shared_key = "shared_expert_intermediate_size",
    .shared_gate = "shared_expert_gate",
};

const tmb_arch tmb_arch_qwen2_moe = {
    .name = "qwen2_moe",
    .model_types = types,
    .prefixes = prefixes,
    .rows = rows,
    .forward = &forward,
};
