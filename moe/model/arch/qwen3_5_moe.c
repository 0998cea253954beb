/* qwen3_5_moe.c - Qwen3.5, 3.6 MoE: stacked experts, the delta net in four parts, vision, MTP. */
#include "config.h"
#include "moe/model/arch_rows.h"

static const char *const types[] = {"qwen3_5_moe", "qwen3_5_moe_text", NULL};
static const char *const prefixes[] = {"model.language_model.", "model.", NULL};
static const tmb_arch_row rows[] = {
    TMB_ROWS_AROUND, TMB_ROWS_VISION,       TMB_ROWS_LAYER_NORMS, TMB_ROWS_GQA,
    TMB_ROWS_GDN,    TMB_ROWS_DENSE("mlp"), TMB_ROWS_MOE("mlp"),  TMB_ROWS_END,
};
static const tmb_arch_fuse fuses[] = {
    TMB_FUSE_GDN,
    TMB_FUSES_END,
};
static const tmb_arch_forward forward = {TMB_FORWARD_QWEN3_NEXT, .renormalize = {NULL, true}};

const tmb_arch tmb_arch_qwen3_5_moe = {
    .name = "qwen3_5_moe",
    .model_types = types,
    .prefixes = prefixes,
    .rows = rows,
    .fuses = fuses,
    .stack = TMB_STACK_OI,
    .forward = &forward,
};
