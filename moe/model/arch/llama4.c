/* llama4.c - Llama 4 Scout, Maverick: stacked experts [E, in, out], a vision tower. */
#include "config.h"
#include "moe/model/arch_rows.h"

static const char *const types[] = {"llama4", "llama4_text", NULL};
static const char *const prefixes[] = {"language_model.model.", "model.", NULL};
static const tmb_arch_row rows[] = {
    TMB_ROWS_AROUND,
    TMB_ROWS_VISION,
    TMB_ROWS_LAYER_NORMS,
    TMB_ROWS_GQA,
    TMB_ROWS_DENSE("feed_forward"),
    TMB_ROWS_MOE("feed_forward"),
    TMB_ROWS_END,
};

const tmb_arch tmb_arch_llama4 = {
    .name = "llama4",
    .model_types = types,
    .prefixes = prefixes,
    .rows = rows,
    .stack = TMB_STACK_IO,
    .quirks = TMB_QUIRK_STACKED_OUTPUT,
};
