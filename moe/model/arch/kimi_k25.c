/* kimi_k25.c - Kimi K2.5, K2.6: DeepSeek-V3 text under language_model, a vision tower. */
#include "config.h"
#include "moe/model/arch_rows.h"

static const char *const types[] = {"kimi_k25", NULL};
static const char *const prefixes[] = {"language_model.model.", "language_model.", "model.", NULL};
static const tmb_arch_row rows[] = {
    TMB_ROWS_AROUND,
    TMB_ROWS_VISION,
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
    .paired = {"rope_interleave", true},
    .theta = 1e4,
    .eps = 1e-6,
    .block = "mlp",
    .router = "gate",
    .correction = "gate.e_score_correction_bias",
    .use_correction = {NULL, true},
    .routing = TMB_ROUTING_SIGMOID,
    .renormalize = {"norm_topk_prob", true},
    .groups = TMB_GROUPS_TOP2,
    .scaled = true,
    .scale = 2.5,
    .shared = "shared_experts",
    .shared_key = "n_shared_experts",
};

const tmb_arch tmb_arch_kimi_k25 = {
    .name = "kimi_k25",
    .model_types = types,
    .prefixes = prefixes,
    .rows = rows,
    .fuses = fuses,
    .quirks = TMB_QUIRK_MLA,
    .engines_note = TMB_NOTE_MLA,
    .forward = &forward,
};
