/* deepseek_v4.c - DeepSeek-V4: FP4 experts, FP8 elsewhere, hyper-connections; names without a
 * prefix. */
#include "config.h"
#include "moe/model/arch_rows.h"

static const char *const types[] = {"deepseek_v4", NULL};
static const char *const prefixes[] = {"", "model.", NULL};
static const tmb_arch_row rows[] = {
    {"embed.**", TMB_ROLE_EMBEDDING, TMB_ARCH_TABLE},
    {"head.**", TMB_ROLE_LM_HEAD, 0},
    {"norm.**", TMB_ROLE_NORM, 0},
    {"layers.{L}.attn_norm|ffn_norm.**", TMB_ROLE_NORM, 0},
    {"layers.{L}.attn.q_norm|kv_norm.**", TMB_ROLE_NORM, 0},
    {"layers.{L}.attn.compressor.norm.**", TMB_ROLE_NORM, 0},
    {"layers.{L}.attn.compressor.**", TMB_ROLE_INDEXER, 0},
    {"layers.{L}.attn.indexer.compressor.norm.**", TMB_ROLE_NORM, 0},
    {"layers.{L}.attn.indexer.**", TMB_ROLE_INDEXER, 0},
    {"layers.{L}.attn.wq_a|wq_b|wkv|wo_a|wo_b.**", TMB_ROLE_ATTENTION, 0},
    {"layers.{L}.attn.**", TMB_ROLE_ATTENTION, TMB_ARCH_KEEP},
    {"hc_head_fn|hc_head_base|hc_head_scale", TMB_ROLE_OTHER, 0},
    {"layers.{L}.hc_*", TMB_ROLE_OTHER, 0},
    TMB_ROWS_MOE("ffn"),
    TMB_ROWS_END,
};
static const tmb_arch_fuse fuses[] = {
    {{"wq_a", "wkv"}, {"wqkv_a"}},
    {{"wkv", "wgate"}, {NULL}},
    TMB_FUSES_END,
};

/* SGLang's names.  Its load_weights() joins wq_a and wkv in BF16 and in the FP8 blocks of the
 * release alone (models/deepseek_v4.py, cache_wqkv_a_weight): other scales would reach nothing. */
static const tmb_arch_rename renames[] = {
    {"layers", "model.layers"}, {"attn", "self_attn"}, {"ffn", "mlp"},      {"w1", "gate_proj"},
    {"w2", "down_proj"},        {"w3", "up_proj"},     {"head", "lm_head"}, {NULL, NULL},
};
static const tmb_arch_caution cautions[] = {
    {"SGLang 0.5.23 reads this architecture's attention in BF16, or as released, and stops or "
     "answers nonsense otherwise: write @attention = bf16 for it",
     NULL, TMB_ROLE_ATTENTION, NULL, NULL},
    TMB_CAUTIONS_END,
};
static const tmb_arch_forward forward = {
    .attention = TMB_ATTENTION_COMPRESSED,
    .streams = TMB_STREAMS_MANIFOLD,
    .mixer_block = "attn",
    .embedding = "embed",
    .head = "head",
    .first_norm = "attn_norm",
    .second_norm = "ffn_norm",
    .leaves = {"w1", "w3", "w2"},
    .paired = {NULL, true},
    .theta = 1e4,
    .eps = 1e-6,
    .block = "ffn",
    .router = "gate",
    .correction = "gate.bias",
    .use_correction = {NULL, true},
    .hash = "gate.tid2eid",
    .routing = TMB_ROUTING_SOFTPLUS,
    .renormalize = {NULL, true},
    .scaled = true,
    .scale = 1.5,
    .shared = "shared_experts",
    .shared_key = "n_shared_experts",
    .activation = TMB_ACTIVATION_LIMITED,
};

const tmb_arch tmb_arch_deepseek_v4 = {
    .name = "deepseek_v4",
    .model_types = types,
    .prefixes = prefixes,
    .rows = rows,
    .fuses = fuses,
    .quirks = TMB_QUIRK_MLA,
    .engines_note =
        "engines run wo_a in groups and in the FP8 blocks it came in: keep attention in fp8-block",
    .forward = &forward,
    .cautions = cautions,
    .renames = renames,
};
