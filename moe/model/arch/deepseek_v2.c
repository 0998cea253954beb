/* deepseek_v2.c - DeepSeek-V2, V2-Lite: MLA, shared experts, first layers dense. */
#include "config.h"
#include "moe/model/arch_rows.h"

static const char *const types[] = {"deepseek_v2", NULL};
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

const tmb_arch tmb_arch_deepseek_v2 = {
    .name = "deepseek_v2",
    .model_types = types,
    .prefixes = prefixes,
    .rows = rows,
    .fuses = fuses,
    .quirks = TMB_QUIRK_MLA,
    .engines_note = TMB_NOTE_MLA,
};
