/* kimi_k25.c - Kimi K2.5, K2.6: DeepSeek-V3 text under language_model, a vision tower. */
#include "config.h"
#include "moe/model/arch_rows.h"

static const char *const types[] = {"kimi_k25", NULL};
static const char *const prefixes[] = {"language_model.model.", "language_model.", "model.", NULL};
static const tmb_arch_row rows[] = {
    TMB_ROWS_AROUND,
    TMB_ROWS_VISION,
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
static const tmb_arch_forward forward = {TMB_FORWARD_DEEPSEEK_V3};

const tmb_arch tmb_arch_kimi_k25 = {
    .name = "kimi_k25",
    .model_types = types,
    .prefixes = prefixes,
    .rows = rows,
    .fuses = fuses,
    .quirks = TMB_QUIRK_MLA,
    .engines_note = TMB_NOTE_MLA,
    .forward = &forward,
};
