/* qwen3_next.c - Qwen3-Next-80B-A3B: gated delta net and gated attention, MTP. */
#include "config.h"
#include "moe/model/arch_rows.h"

static const char *const types[] = {"qwen3_next", NULL};
static const char *const prefixes[] = {"model.", NULL};
static const tmb_arch_row rows[] = {
    TMB_ROWS_AROUND,
    TMB_ROWS_LAYER_NORMS,
    TMB_ROWS_GQA,
    TMB_ROWS_GDN,
    TMB_ROWS_DENSE("mlp"),
    TMB_ROWS_MOE("mlp"),
    TMB_ROWS_END,
};
static const tmb_arch_fuse fuses[] = {
    TMB_FUSE_GDN,
    TMB_FUSES_END,
};

const tmb_arch tmb_arch_qwen3_next = {
    .name = "qwen3_next",
    .model_types = types,
    .prefixes = prefixes,
    .rows = rows,
    .fuses = fuses,
    .not_run = "its linear attention",
};
