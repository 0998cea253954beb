/* glm4_moe_lite.c - GLM-4.7-Flash: MLA, routed as DeepSeek-V3. */
#include "config.h"
#include "moe/model/arch_rows.h"

static const char *const types[] = {"glm4_moe_lite", NULL};
static const char *const prefixes[] = {"model.", NULL};
static const tmb_arch_row rows[] = {
    TMB_ROWS_AROUND,
    TMB_ROWS_LAYER_NORMS,
    TMB_ROWS_MLA,
    TMB_ROWS_DENSE("mlp"),
    TMB_ROWS_MOE("mlp"),
    TMB_ROWS_END,
};
static const tmb_arch_fuse fuses[] = {
    TMB_FUSE_MLA,
    TMB_FUSES_END,
};

/* models/glm4_moe_lite.py of SGLang 0.5.23 asks for the type of gate_up_proj.weight. */
static const tmb_arch_caution cautions[] = {
    {"SGLang 0.5.23 stops at shared experts in 4 bits in the compressed-tensors layout ('has no "
     "attribute weight'): write @shared_expert = fp8, or layout = modelopt",
     "compressed-tensors", TMB_ROLE_SHARED_EXPERT, NULL, "nvfp4 nvfp4-w4a16 mxfp4 int4"},
    TMB_CAUTIONS_END,
};

const tmb_arch tmb_arch_glm4_moe_lite = {
    .name = "glm4_moe_lite",
    .model_types = types,
    .prefixes = prefixes,
    .rows = rows,
    .fuses = fuses,
    .quirks = TMB_QUIRK_MLA | TMB_QUIRK_NO_SHARED_FUSION,
    .engines_note = "SGLang must be started with --disable-shared-experts-fusion for this model",
    .cautions = cautions,
};
