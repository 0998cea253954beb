/* glm_moe_dsa.c - GLM-5 to 5.3: MLA with an indexer that some layers share. */
#include "config.h"
#include "moe/model/arch_rows.h"

static const char *const types[] = {"glm_moe_dsa", NULL};
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
    .index_paired = {"indexer_rope_interleave", true},
    .index_shared = true,
};

const tmb_arch tmb_arch_glm_moe_dsa = {
    .name = "glm_moe_dsa",
    .model_types = types,
    .prefixes = prefixes,
    .rows = rows,
    .fuses = fuses,
    .quirks = TMB_QUIRK_MLA,
    .engines_note = TMB_NOTE_MLA,
    .forward = &forward,
};
