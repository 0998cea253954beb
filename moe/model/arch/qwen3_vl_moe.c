/* qwen3_vl_moe.c - Qwen3-VL-30B-A3B, 235B-A22B: stacked experts [E, in, out], vision. */
#include "config.h"
#include "moe/model/arch_rows.h"

static const char *const types[] = {"qwen3_vl_moe", "qwen3_vl_moe_text", NULL};
static const char *const prefixes[] = {"model.language_model.", "model.", NULL};
static const tmb_arch_row rows[] = {
    TMB_ROWS_AROUND,
    TMB_ROWS_VISION,
    TMB_ROWS_LAYER_NORMS,
    TMB_ROWS_GQA,
    TMB_ROWS_DENSE("mlp"),
    TMB_ROWS_MOE("mlp"),
    TMB_ROWS_END,
};
static const tmb_arch_fuse fuses[] = {
    /* SGLang renames every attn.qkv to attn.qkv_proj, so it finds the second spelling */
    {{"q_proj", "k_proj", "v_proj"}, {"qkv_proj", "qkv"}},
    TMB_FUSES_END,
};
static const tmb_arch_forward forward = {
    .attention = TMB_ATTENTION_GQA,
    .attention_bias = {"attention_bias", false},
    .biased = {"q_proj", "k_proj", "v_proj", "o_proj"},
    .qk_norm = TMB_QK_NORM_HEAD,
    .use_qk_norm = {NULL, true},
    .theta = 5e6,
    .eps = 1e-6,
    .block = "mlp",
    .router = "gate",
    .routing = TMB_ROUTING_SOFTMAX,
    .renormalize = {NULL, true},
};

const tmb_arch tmb_arch_qwen3_vl_moe = {
    .name = "qwen3_vl_moe",
    .model_types = types,
    .prefixes = prefixes,
    .rows = rows,
    .fuses = fuses,
    .stack = TMB_STACK_IO,
    .quirks = TMB_QUIRK_EXCLUDE_BY_GLOB,
    .forward = &forward,
};
