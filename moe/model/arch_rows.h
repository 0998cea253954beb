/* arch_rows.h - rows that many architectures share, so that their files show what is special.
 * For the files under moe/model/arch/ alone; block names are literals: TMB_ROWS_MOE("mlp"). */
#ifndef TMB_MODEL_ARCH_ROWS_H
#define TMB_MODEL_ARCH_ROWS_H

#include "moe/model/arch.h"

#define TMB_ROWS_END {NULL, TMB_ROLE_OTHER, 0}
#define TMB_FUSES_END {{NULL}, {NULL}}

/* Around the layers.  lm_head stands outside the prefix. */
#define TMB_ROWS_AROUND                                                                            \
    {"embed_tokens.**", TMB_ROLE_EMBEDDING, TMB_ARCH_TABLE}, {"norm.**", TMB_ROLE_NORM, 0},        \
        {"lm_head.**", TMB_ROLE_LM_HEAD, 0}, {"language_model.lm_head.**", TMB_ROLE_LM_HEAD, 0}

#define TMB_ROWS_LAYER_NORMS                                                                       \
    {"layers.{L}.input_layernorm|post_attention_layernorm.**", TMB_ROLE_NORM, 0}

/* Grouped-query attention.  What else lies in the block (sinks, KV scales, a gate of a variant)
 * is attention, and kept. */
#define TMB_ROWS_GQA                                                                               \
    {"layers.{L}.self_attn.q_norm|k_norm.**", TMB_ROLE_NORM, 0},                                   \
        {"layers.{L}.self_attn.q_proj|k_proj|v_proj|o_proj.**", TMB_ROLE_ATTENTION, 0},            \
        {"layers.{L}.self_attn.**", TMB_ROLE_ATTENTION, TMB_ARCH_KEEP}

/* Multi-head latent attention. */
#define TMB_ROWS_MLA                                                                               \
    {"layers.{L}.self_attn.q_a_layernorm|kv_a_layernorm.**", TMB_ROLE_NORM, 0},                    \
        {"layers.{L}.self_attn.q_proj|q_a_proj|q_b_proj.**", TMB_ROLE_ATTENTION, 0},               \
        {"layers.{L}.self_attn.kv_a_proj_with_mqa|kv_b_proj|o_proj.**", TMB_ROLE_ATTENTION, 0},    \
        {"layers.{L}.self_attn.**", TMB_ROLE_ATTENTION, TMB_ARCH_KEEP}
#define TMB_FUSE_MLA                                                                               \
    {{"q_a_proj", "kv_a_proj_with_mqa"}, {"fused_qkv_a_proj", "fused_qkv_a_proj_with_mqa"}}
#define TMB_NOTE_MLA                                                                               \
    "engines absorb kv_b_proj into attention: FP8 or BF16 is safe there, 4-bit formats are not"

#define TMB_ROWS_INDEXER                                                                           \
    {"layers.{L}.self_attn.indexer.k_norm.**", TMB_ROLE_NORM, 0},                                  \
        {"layers.{L}.self_attn.indexer.**", TMB_ROLE_INDEXER, 0}
#define TMB_FUSE_INDEXER {{"wk", "weights_proj"}, {"wk_weights_proj"}}

/* Gated delta net. */
#define TMB_ROWS_GDN                                                                               \
    {"layers.{L}.linear_attn.norm.**", TMB_ROLE_NORM, 0},                                          \
        {"layers.{L}.linear_attn.in_proj_qkvz|in_proj_qkv|in_proj_z|out_proj.**",                  \
         TMB_ROLE_LINEAR_ATTENTION, 0},                                                            \
        {"layers.{L}.linear_attn.**", TMB_ROLE_LINEAR_ATTENTION, TMB_ARCH_KEEP}
#define TMB_FUSE_GDN                                                                               \
    {{"in_proj_qkv", "in_proj_z"}, {"in_proj_qkvz"}}, {{"in_proj_b", "in_proj_a"}, {"in_proj_ba"}}

#define TMB_ROWS_DENSE(BLOCK)                                                                      \
    {"layers.{L}." BLOCK ".gate_proj|up_proj|down_proj.**", TMB_ROLE_DENSE_MLP, 0}

/* Router, routed experts (each alone or stacked, projections called either way), shared experts. */
#define TMB_ROWS_MOE(BLOCK)                                                                        \
    {"layers.{L}." BLOCK ".gate|router|e_score_correction_bias|moe_statics.**", TMB_ROLE_ROUTER,   \
     0},                                                                                           \
        {"layers.{L}." BLOCK ".experts.{E}.**", TMB_ROLE_EXPERT, 0},                               \
        {"layers.{L}." BLOCK ".experts.**", TMB_ROLE_EXPERT, TMB_ARCH_STACKED},                    \
        {"layers.{L}." BLOCK ".shared_expert|shared_experts.**", TMB_ROLE_SHARED_EXPERT, 0},       \
        {"layers.{L}." BLOCK ".shared_expert_gate.**", TMB_ROLE_SHARED_GATE, 0}

/* tmb_arch_forward: how DeepSeek-V3 and its heirs route, and what their experts are called. */
#define TMB_FORWARD_SIGMOID_GROUPS(SCALE)                                                          \
    .block = "mlp", .router = "gate", .correction = "gate.e_score_correction_bias",                \
    .use_correction = {NULL, true}, .routing = TMB_ROUTING_SIGMOID,                                \
    .renormalize = {"norm_topk_prob", true}, .groups = TMB_GROUPS_TOP2, .scaled = true,            \
    .scale = SCALE, .shared = "shared_experts", .shared_key = "n_shared_experts"

/* The whole of DeepSeek-V3. */
#define TMB_FORWARD_DEEPSEEK_V3                                                                    \
    .attention = TMB_ATTENTION_MLA, .attention_bias = {"attention_bias", false},                   \
    .biased = {"q_a_proj", "kv_a_proj_with_mqa", "o_proj"}, .paired = {"rope_interleave", true},   \
    .theta = 1e4, .eps = 1e-6, TMB_FORWARD_SIGMOID_GROUPS(2.5)

/* tmb_arch_forward: Qwen3-Next and its heirs. */
#define TMB_FORWARD_QWEN3_NEXT \
    .attention = TMB_ATTENTION_GQA, \
    .mixture = TMB_MIXTURE_DELTA, \
    .output_gate = {"attn_output_gate", true}, \
    .norms_from_one = {NULL, true}, \
    .attention_bias = {"attention_bias", false}, \
    .biased = {"q_proj", "k_proj", "v_proj", "o_proj"}, \
    .qk_norm = TMB_QK_NORM_HEAD, \
    .use_qk_norm = {NULL, true}, \
    .partial = TMB_PARTIAL_QUARTER, \
    .theta = 1e4, \
    .eps = 1e-6, \
    .block = "mlp", \
    .router = "gate", \
    .routing = TMB_ROUTING_SOFTMAX, \
    .shared = "shared_expert", \
    .shared_gate = "shared_expert_gate"

/* Towers that come with a text model; their names stand outside the prefix. */
#define TMB_TOWERS                                                                                 \
    "visual|vision_tower|vision_model|multi_modal_projector|mm_projector|patch_merge_mlp"
#define TMB_ROWS_VISION                                                                            \
    {TMB_TOWERS ".**", TMB_ROLE_VISION, 0}, {"model." TMB_TOWERS ".**", TMB_ROLE_VISION, 0}

#endif
