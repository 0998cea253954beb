/* nemotron_h.c - Nemotron 3: Mamba2, attention and MoE in turn, experts without a gate projection. */
#include "config.h"
#include "moe/model/arch_rows.h"

static const char *const types[] = {"nemotron_h", NULL};
static const char *const prefixes[] = {"backbone.", "model.", NULL};
static const tmb_arch_row rows[] = {
    {"embeddings.**", TMB_ROLE_EMBEDDING, TMB_ARCH_TABLE},
    {"norm_f.**", TMB_ROLE_NORM, 0},
    {"lm_head.**", TMB_ROLE_LM_HEAD, 0},
    {"layers.{L}.norm.**", TMB_ROLE_NORM, 0},
    {"layers.{L}.mixer.norm.**", TMB_ROLE_NORM, 0},
    /* Few and sensitive: every release leaves attention in BF16. */
    {"layers.{L}.mixer.q_proj|k_proj|v_proj|o_proj.**", TMB_ROLE_ATTENTION, TMB_ARCH_KEEP},
    {"layers.{L}.mixer.fc1_latent_proj|fc2_latent_proj.**", TMB_ROLE_LATENT, 0},
    {"layers.{L}.mixer.up_proj|down_proj.**", TMB_ROLE_DENSE_MLP, 0},
    {"layers.{L}.mixer.in_proj|out_proj.**", TMB_ROLE_LINEAR_ATTENTION, 0},
    TMB_ROWS_MOE("mixer"),
    {"layers.{L}.mixer.**", TMB_ROLE_LINEAR_ATTENTION, TMB_ARCH_KEEP},
    TMB_ROWS_END,
};
static const tmb_arch_forward forward = {
    .attention = TMB_ATTENTION_GQA,
    .mixture = TMB_MIXTURE_HALVES,
    .mixer_block = "mixer",
    .embedding = "embeddings",
    .last_norm = "norm_f",
    .first_norm = "norm",
    .second_norm = "norm",
    .without_rope = true,
    .attention_bias = {"attention_bias", false},
    .biased = {"q_proj", "k_proj", "v_proj", "o_proj"},
    .theta = 1e4,
    .eps = 1e-5,
    .eps_key = "layer_norm_epsilon",
    .block = "mixer",
    .router = "gate",
    .correction = "gate.e_score_correction_bias",
    .use_correction = {NULL, true},
    .routing = TMB_ROUTING_SIGMOID,
    .renormalize = {"norm_topk_prob", true},
    .groups = TMB_GROUPS_TOP2,
    .scaled = true,
    .scale = 1,
    .shared = "shared_experts",
    .shared_key = "n_shared_experts",
    .activation = TMB_ACTIVATION_RELU2,
    .latent_key = "moe_latent_size",
};

/* The two layouts' classes in SGLang 0.5.23: only ModelOpt's and the weight-only one ask whether
 * experts are gated (quantization/compressed_tensors/schemes, w13 of 2 * intermediate_size). */
static const tmb_arch_caution cautions[] = {
    {"SGLang 0.5.23 takes these experts for gated in the compressed-tensors layout and starts with "
     "half of each empty: write layout = modelopt, or nvfp4-w4a16",
     "compressed-tensors", TMB_ROLE_EXPERT, NULL, "nvfp4 fp8 fp8-channel fp8-block mxfp8 int4"},
    TMB_CAUTIONS_END,
};

const tmb_arch tmb_arch_nemotron_h = {
    .name = "nemotron_h",
    .model_types = types,
    .prefixes = prefixes,
    .rows = rows,
    .forward = &forward,
    .cautions = cautions,
};
