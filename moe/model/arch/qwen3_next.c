/* qwen3_next.c - Qwen3-Next-80B-A3B: gated delta net and gated attention, MTP. */
#include "config.h"
#include "moe/model/arch_rows.h"

static const char *const types[] = {"qwen3_next", NULL};
static const char *const prefixes[] = {"model.", NULL};
static const tmb_arch_row rows[] = {
    TMB_ROWS_AROUND,       TMB_ROWS_LAYER_NORMS, TMB_ROWS_GQA, TMB_ROWS_GDN,
    TMB_ROWS_DENSE("mlp"), TMB_ROWS_MOE("mlp"),  TMB_ROWS_END,
};
static const tmb_arch_fuse fuses[] = {
    TMB_FUSE_GDN,
    TMB_FUSES_END,
};
static const tmb_arch_forward forward = {TMB_FORWARD_QWEN3_NEXT,
                                         .renormalize = {"norm_topk_prob", true}};

/* The hub has the four parts in one tensor, with one scale; SGLang 0.5.23 wants one a part
 * (models/qwen3_next.py, "Shape mismatch"). */
static const tmb_arch_caution cautions[] = {
    {"SGLang 0.5.23 refuses a quantized in_proj_qkvz in the modelopt layout: keep it in bf16, or "
     "write layout = compressed-tensors and a format other than fp8 for it",
     "modelopt", TMB_ROLE_LINEAR_ATTENTION, "in_proj_qkvz", NULL},
    {"SGLang 0.5.23 refuses one scale a tensor for in_proj_qkvz: use fp8-channel there, or bf16",
     "compressed-tensors", TMB_ROLE_LINEAR_ATTENTION, "in_proj_qkvz", "fp8"},
    TMB_CAUTIONS_END,
};

const tmb_arch tmb_arch_qwen3_next = {
    .name = "qwen3_next",
    .model_types = types,
    .prefixes = prefixes,
    .rows = rows,
    .fuses = fuses,
    .forward = &forward,
    .cautions = cautions,
};
