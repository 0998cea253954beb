/* deepseek_v3.c - DeepSeek-V3, R1, Kimi K2: as V2 with a correction bias and an MTP layer. */
#include "config.h"
#include "moe/model/arch_rows.h"

static const char *const types[] = {"deepseek_v3", "kimi_k2", NULL};
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
static const tmb_arch_forward forward = {TMB_FORWARD_DEEPSEEK_V3};

const tmb_arch tmb_arch_deepseek_v3 = {
    .name = "deepseek_v3",
    .model_types = types,
    .prefixes = prefixes,
    .rows = rows,
    .fuses = fuses,
    .quirks = TMB_QUIRK_MLA,
    .engines_note = TMB_NOTE_MLA,
    .forward = &forward,
};
