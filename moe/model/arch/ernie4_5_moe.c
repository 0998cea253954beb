/* ernie4_5_moe.c - ERNIE-4.5-21B-A3B, 300B-A47B: the correction bias lies in moe_statics. */
#include "config.h"
#include "moe/model/arch_rows.h"

static const char *const types[] = {"ernie4_5_moe", NULL};
static const char *const prefixes[] = {"model.", NULL};
static const tmb_arch_row rows[] = {
    TMB_ROWS_AROUND,
    TMB_ROWS_LAYER_NORMS,
    TMB_ROWS_GQA,
    TMB_ROWS_DENSE("mlp"),
    TMB_ROWS_MOE("mlp"),
    TMB_ROWS_END,
};

const tmb_arch tmb_arch_ernie4_5_moe = {
    .name = "ernie4_5_moe",
    .model_types = types,
    .prefixes = prefixes,
    .rows = rows,
    .quirks = TMB_QUIRK_NO_KV_SCALES,
};
