/* deepseek_v2.c - DeepSeek-V2, V2-Lite: MLA, shared experts, first layers dense. */
#include "config.h"
#include "moe/model/arch_rows.h"

static const char *const types[] = {"deepseek_v2", NULL};
static const char *const prefixes[] = {"model.", NULL};
static const tmb_arch_row rows[] = {
    TMB_ROWS_AROUND,
    TMB_ROWS_LAYER_NORMS,
    TMB_ROWS_MLA,
    TMB_ROWS_DENSE("mlp"),
    TMB_ROWS_MOE("mlp"),
    TMB_ROWS_END,
};
static const tmb_arch_fuse fuses[] = {
    TMB_FUSE_MLA,
    TMB_FUSES_END,
};
static const tmb_arch_forward forward = {
    .attention = TMB_ATTENTION_MLA,
    .attention_bias = {"attention_bias", false},
    .biased = {"q_a_proj", "kv_a_proj_with_mqa", "o_proj"},
    .paired = {NULL, true},
    .theta = 1e4,
    .eps = 1e-6,
    .block = "mlp",
    .router = "gate",
    .routing = TMB_ROUTING_SOFTMAX,
    .groups = TMB_GROUPS_MAX,
    .scaled = true,
    .scale = 1,
    .shared = "shared_experts",
    .shared_key = "n_shared_experts",
};

const tmb_arch tmb_arch_deepseek_v2 = {
    .name = "deepseek_v2",
    .model_types = types,
    .prefixes = prefixes,
    .rows = rows,
    .fuses = fuses,
    .quirks = TMB_QUIRK_MLA,
    .engines_note = TMB_NOTE_MLA,
    .forward = &forward,
};
