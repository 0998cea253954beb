/* ernie4_5_moe.c - ERNIE-4.5-21B-A3B, 300B-A47B: the correction bias lies in moe_statics. */
#include "config.h"
#include "moe/model/arch_rows.h"

static const char *const types[] = {"ernie4_5_moe", NULL};
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
    .attention_bias = {"use_bias", false},
    .biased = {"q_proj", "k_proj", "v_proj", "o_proj"},
    .paired = {NULL, true},
    .theta = 5e5,
    .eps = 1e-5,
    .block = "mlp",
    .router = "gate",
    .correction = "moe_statics.e_score_correction_bias",
    .use_correction = {NULL, true},
    .routing = TMB_ROUTING_SOFTMAX,
    .renormalize = {NULL, true},
    .shared = "shared_experts",
    .shared_key = "moe_num_shared_experts",
};

const tmb_arch tmb_arch_ernie4_5_moe = {
    .name = "ernie4_5_moe",
    .model_types = types,
    .prefixes = prefixes,
    .rows = rows,
    .quirks = TMB_QUIRK_NO_KV_SCALES,
    .forward = &forward,
};
