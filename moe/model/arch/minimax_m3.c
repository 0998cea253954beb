/* minimax_m3.c - MiniMax-M3: block-sparse attention whose index projections run in the q, k, v GEMM. */
#include "config.h"
#include "moe/model/arch_rows.h"

static const char *const types[] = {"minimax_m3", "minimax_m3_vl", "minimax_m3_vl_text", NULL};
static const char *const prefixes[] = {"language_model.model.", "model.", NULL};
static const tmb_arch_row rows[] = {
    TMB_ROWS_AROUND,
    TMB_ROWS_VISION,
    TMB_ROWS_LAYER_NORMS,
    {"layers.{L}.self_attn.index_q_norm|index_k_norm.**", TMB_ROLE_NORM, 0},
    /* vLLM runs all five as one GEMM and has no place for the scales of the index: BF16 it is. */
    {"layers.{L}.self_attn.q_proj|k_proj|v_proj|index_q_proj|index_k_proj.**", TMB_ROLE_ATTENTION,
     TMB_ARCH_KEEP},
    TMB_ROWS_GQA,
    TMB_ROWS_DENSE("mlp"),
    TMB_ROWS_MOE("block_sparse_moe"),
    TMB_ROWS_END,
};
static const tmb_arch_fuse fuses[] = {
    {{"q_proj", "k_proj", "v_proj", "index_q_proj", "index_k_proj"}, {"qkv_proj"}},
    TMB_FUSES_END,
};
static const tmb_arch_forward forward = {
    .attention = TMB_ATTENTION_GQA,
    .block_indexer = true,
    .norms_from_one = {"use_gemma_norm", true},
    .qk_norm = TMB_QK_NORM_HEAD,
    .use_qk_norm = {"use_qk_norm", true},
    .partial = TMB_PARTIAL_ROTARY_DIM,
    .theta = 5e6,
    .eps = 1e-6,
    .block = "block_sparse_moe",
    .dense = "mlp",
    .router = "gate",
    .correction = "e_score_correction_bias",
    .use_correction = {"use_routing_bias", true},
    .routing = TMB_ROUTING_SIGMOID,
    .renormalize = {NULL, true},
    .scaled = true,
    .scale = 2,
    .shared = "shared_experts",
    .shared_key = "n_shared_experts",
    .activation = TMB_ACTIVATION_CLAMPED,
};

const tmb_arch tmb_arch_minimax_m3 = {
    .name = "minimax_m3",
    .model_types = types,
    .prefixes = prefixes,
    .rows = rows,
    .fuses = fuses,
    .quirks = TMB_QUIRK_EXPERT_ALIAS_MLP,
    .forward = &forward,
};
