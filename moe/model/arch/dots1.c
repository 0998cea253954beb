/* dots1.c - dots.llm1: grouped-query attention with norms per head, routed as DeepSeek-V3. */
#include "config.h"
#include "moe/model/arch_rows.h"

static const char *const types[] = {"dots1", NULL};
static const char *const prefixes[] = {"model.", NULL};
static const tmb_arch_row rows[] = {
    TMB_ROWS_AROUND,
    TMB_ROWS_LAYER_NORMS,
    TMB_ROWS_GQA,
    TMB_ROWS_DENSE("mlp"),
    TMB_ROWS_MOE("mlp"),
    TMB_ROWS_END,
};

const tmb_arch tmb_arch_dots1 = {
    .name = "dots1",
    .model_types = types,
    .prefixes = prefixes,
    .rows = rows,
};
