/* glm4_moe.c - GLM-4.5, 4.6, 4.7: grouped-query attention, routed as DeepSeek-V3. */
#include "config.h"
#include "moe/model/arch_rows.h"

static const char *const types[] = {"glm4_moe", NULL};
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
    .biased = {"q_proj", "k_proj", "v_proj"},
    .qk_norm = TMB_QK_NORM_HEAD,
    .use_qk_norm = {"use_qk_norm", false},
    .partial = TMB_PARTIAL_HALF,
    .theta = 1e4,
    .eps = 1e-5,
    TMB_FORWARD_SIGMOID_GROUPS(1),
};

/* models/glm4_moe.py of SGLang 0.5.23 asks for the type of gate_up_proj.weight. */
static const tmb_arch_caution cautions[] = {
    {"SGLang 0.5.23 stops at shared experts in 4 bits in the compressed-tensors layout ('has no "
     "attribute weight'): write @shared_expert = fp8, or layout = modelopt",
     "compressed-tensors", TMB_ROLE_SHARED_EXPERT, NULL, "nvfp4 nvfp4-w4a16 mxfp4 int4"},
    TMB_CAUTIONS_END,
};

const tmb_arch tmb_arch_glm4_moe = {
    .name = "glm4_moe",
    .model_types = types,
    .prefixes = prefixes,
    .rows = rows,
    .quirks = TMB_QUIRK_NO_SHARED_FUSION,
    .forward = &forward,
    .engines_note = "SGLang must be started with --disable-shared-experts-fusion for this model",
    .cautions = cautions,
};
