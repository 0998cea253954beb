/* deepseek_v32.c - DeepSeek-V3.2: V3 with a sparse-attention indexer in every layer. */
#include "config.h"
#include "moe/model/arch_rows.h"

static const char *const types[] = {"deepseek_v32", NULL};
static const char *const prefixes[] = {"model.", NULL};
static const tmb_arch_row rows[] = {
    TMB_ROWS_AROUND,       TMB_ROWS_LAYER_NORMS, TMB_ROWS_INDEXER, TMB_ROWS_MLA,
    TMB_ROWS_DENSE("mlp"), TMB_ROWS_MOE("mlp"),  TMB_ROWS_END,
};
static const tmb_arch_fuse fuses[] = {
    TMB_FUSE_MLA,
    TMB_FUSE_INDEXER,
    TMB_FUSES_END,
};
static const tmb_arch_forward forward = {
    TMB_FORWARD_DEEPSEEK_V3,
    .indexer = true,
    .index_paired = {NULL, false},
};

const tmb_arch tmb_arch_deepseek_v32 = {
    .name = "deepseek_v32",
    .model_types = types,
    .prefixes = prefixes,
    .rows = rows,
    .fuses = fuses,
    .quirks = TMB_QUIRK_MLA,
    .engines_note = TMB_NOTE_MLA,
    .forward = &forward,
};
