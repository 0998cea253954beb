/* minimax_m2.c - MiniMax-M2: experts w1, w3, w2; the correction bias stands beside the gate. */
#include "config.h"
#include "moe/model/arch_rows.h"

static const char *const types[] = {"minimax_m2", NULL};
static const char *const prefixes[] = {"model.", NULL};
static const tmb_arch_row rows[] = {
    TMB_ROWS_AROUND,
    TMB_ROWS_LAYER_NORMS,
    TMB_ROWS_GQA,
    TMB_ROWS_MOE("block_sparse_moe"),
    TMB_ROWS_END,
};
static const tmb_arch_forward forward = {
    .attention = TMB_ATTENTION_GQA,
    .qk_norm = TMB_QK_NORM_WHOLE,
    .use_qk_norm = {"use_qk_norm", true},
    .partial = TMB_PARTIAL_ROTARY_DIM,
    .theta = 5e6,
    .eps = 1e-6,
    .block = "block_sparse_moe",
    .router = "gate",
    .correction = "e_score_correction_bias",
    .use_correction = {"use_routing_bias", true},
    .routing = TMB_ROUTING_SIGMOID,
    .renormalize = {NULL, true},
};

const tmb_arch tmb_arch_minimax_m2 = {
    .name = "minimax_m2",
    .model_types = types,
    .prefixes = prefixes,
    .rows = rows,
    .quirks = TMB_QUIRK_EXPERT_ALIAS_MLP,
    .forward = &forward,
};
