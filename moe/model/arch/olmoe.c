/* olmoe.c - OLMoE-1B-7B: q and k norms over the whole projection. */
#include "config.h"
#include "moe/model/arch_rows.h"

static const char *const types[] = {"olmoe", NULL};
static const char *const prefixes[] = {"model.", NULL};
static const tmb_arch_row rows[] = {
    TMB_ROWS_AROUND,
    TMB_ROWS_LAYER_NORMS,
    TMB_ROWS_GQA,
    TMB_ROWS_MOE("mlp"),
    TMB_ROWS_END,
};
static const tmb_arch_forward forward = {
    .attention = TMB_ATTENTION_GQA,
    .attention_bias = {"attention_bias", false},
    .biased = {"q_proj", "k_proj", "v_proj", "o_proj"},
    .qk_norm = TMB_QK_NORM_WHOLE,
    .use_qk_norm = {NULL, true},
    .clips = true,
    .theta = 1e4,
    .eps = 1e-5,
    .block = "mlp",
    .router = "gate",
    .routing = TMB_ROUTING_SOFTMAX,
    .renormalize = {"norm_topk_prob", false},
};

const tmb_arch tmb_arch_olmoe = {
    .name = "olmoe",
    .model_types = types,
    .prefixes = prefixes,
    .rows = rows,
    .quirks = TMB_QUIRK_NO_KV_SCALES,
    .engines_note = "SGLang cannot load KV scales for this model: none are written",
    .forward = &forward,
};
