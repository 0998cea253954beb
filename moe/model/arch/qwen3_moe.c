/* qwen3_moe.c - Qwen3-30B-A3B, 235B-A22B. */
#include "config.h"
#include "moe/model/arch_rows.h"

static const char *const types[] = {"qwen3_moe", NULL};
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
    .attention_bias = {"attention_bias", false},
    .biased = {"q_proj", "k_proj", "v_proj", "o_proj"},
    .qk_norm = TMB_QK_NORM_HEAD,
    .use_qk_norm = {NULL, true},
    .theta = 1e4,
    .eps = 1e-6,
    .views = TMB_VIEWS_USE_WINDOW,
    .block = "mlp",
    .router = "gate",
    .routing = TMB_ROUTING_SOFTMAX,
    .renormalize = {"norm_topk_prob", false},
};

const tmb_arch tmb_arch_qwen3_moe = {
    .name = "qwen3_moe",
    .model_types = types,
    .prefixes = prefixes,
    .rows = rows,
    .stack = TMB_STACK_OI,
    .forward = &forward,
};
