/* mixtral.c - Mixtral 8x7B, 8x22B: experts w1 (gate), w3 (up), w2 (down). */
#include "config.h"
#include "moe/model/arch_rows.h"

static const char *const types[] = {"mixtral", NULL};
static const char *const prefixes[] = {"model.", NULL};
static const tmb_arch_row rows[] = {
    TMB_ROWS_AROUND,
    TMB_ROWS_LAYER_NORMS,
    TMB_ROWS_GQA,
    TMB_ROWS_MOE("block_sparse_moe"),
    TMB_ROWS_END,
};
static const tmb_arch_forward forward = {
    .attention = TMB_ATTENTION_GQA,
    .theta = 1e6,
    .eps = 1e-5,
    .views = TMB_VIEWS_WINDOW,
    .block = "block_sparse_moe",
    .router = "gate",
    .routing = TMB_ROUTING_SOFTMAX,
    .renormalize = {NULL, true},
};

const tmb_arch tmb_arch_mixtral = {
    .name = "mixtral",
    .model_types = types,
    .prefixes = prefixes,
    .rows = rows,
    .quirks = TMB_QUIRK_PER_EXPERT_KEYS,
    .forward = &forward,
};
