/* qwen4_exp.c - Qwen3.8-Flash-Next: hyper-connections, an n-gram table, sparse attention. */
#include "config.h"
#include "moe/model/arch_rows.h"

static const char *const types[] = {"qwen4_exp", "qwen4_exp_text", NULL};
static const char *const prefixes[] = {"model.language_model.", "model.", NULL};
static const tmb_arch_row rows[] = {
    TMB_ROWS_AROUND,
    TMB_ROWS_VISION,
    {"layers.{L}.attn_hyper_connection|mlp_hyper_connection.hc_norm.**", TMB_ROLE_NORM, 0},
    {"layers.{L}.attn_hyper_connection|mlp_hyper_connection.**", TMB_ROLE_OTHER, 0},
    {"hyper_connection_mixer.hc_norm.**", TMB_ROLE_NORM, 0},
    {"hyper_connection_mixer.**", TMB_ROLE_OTHER, 0},
    {"layers.{L}.ple.norm_key|norm_query|norm_conv.**", TMB_ROLE_NORM, 0},
    {"layers.{L}.ple.ple_embedding.**", TMB_ROLE_OTHER, TMB_ARCH_TABLE},
    {"layers.{L}.ple.**", TMB_ROLE_OTHER, 0},
    {"layers.{L}.self_attn.indexer.q_layernorm|k_layernorm.**", TMB_ROLE_NORM, 0},
    /* in vLLM a part of the q, k, v GEMM */
    {"layers.{L}.self_attn.indexer.index_qk_proj.**", TMB_ROLE_ATTENTION, 0},
    {"layers.{L}.self_attn.indexer.**", TMB_ROLE_INDEXER, 0},
    TMB_ROWS_LAYER_NORMS,
    TMB_ROWS_GQA,
    TMB_ROWS_GDN,
    TMB_ROWS_DENSE("mlp"),
    TMB_ROWS_MOE("mlp"),
    TMB_ROWS_END,
};
static const tmb_arch_fuse fuses[] = {
    {{"q_proj", "k_proj", "v_proj", "indexer.index_qk_proj"}, {"qkv_proj"}},
    TMB_FUSE_GDN,
    TMB_FUSES_END,
};
static const tmb_arch_forward forward = {
    TMB_FORWARD_QWEN3_NEXT,
    .renormalize = {"norm_topk_prob", true},
    .streams = TMB_STREAMS_HYPER,
    .pool_indexer = true,
    .first_norm = "",
    .second_norm = "",
    .last_norm = "",
};

const tmb_arch tmb_arch_qwen4_exp = {
    .name = "qwen4_exp",
    .model_types = types,
    .prefixes = prefixes,
    .rows = rows,
    .fuses = fuses,
    .stack = TMB_STACK_OI,
    /* models/qwen4_exp/nvidia/model.py, without_modelopt_fp4() */
    .quirks = TMB_QUIRK_NO_KV_FP8 | TMB_QUIRK_NVFP4_BY_KEYS,
    .forward = &forward,
};
