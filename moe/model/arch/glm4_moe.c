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

const tmb_arch tmb_arch_glm4_moe = {
    .name = "glm4_moe",
    .model_types = types,
    .prefixes = prefixes,
    .rows = rows,
    .quirks = TMB_QUIRK_NO_SHARED_FUSION,
    .engines_note =
        "SGLang must be started with --disable-shared-experts-fusion for this model",
};
