/* gpt_oss.c - gpt-oss: stacked experts, gate and up interleaved, MXFP4 or BF16; sinks. */
#include "config.h"
#include "moe/model/arch_rows.h"

static const char *const types[] = {"gpt_oss", NULL};
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
    .attention_bias = {"attention_bias", true},
    .biased = {"q_proj", "k_proj", "v_proj", "o_proj"},
    .sinks = true,
    .theta = 150000,
    .yarn_unless_told = true,
    .eps = 1e-5,
    .views = TMB_VIEWS_ALTERNATE,
    .block = "mlp",
    .router = "router",
    .router_bias = true,
    .routing = TMB_ROUTING_TOP_SOFTMAX,
    .activation = TMB_ACTIVATION_CLAMPED,
};

static const tmb_arch_caution cautions[] = {
    {"the experts stay stacked, as ModelOpt writes them; vLLM 0.33, SGLang 0.5.23 and TensorRT-LLM "
     "read this architecture's experts in BF16 and MXFP4 only",
     "modelopt", TMB_ROLE_EXPERT, NULL, NULL},
    {"vLLM 0.33 and SGLang 0.5.23 read this architecture's experts in BF16 and MXFP4 only: SGLang "
     "starts and answers nonsense",
     "compressed-tensors", TMB_ROLE_EXPERT, NULL, NULL},
    TMB_CAUTIONS_END,
};

const tmb_arch tmb_arch_gpt_oss = {
    .name = "gpt_oss",
    .model_types = types,
    .prefixes = prefixes,
    .rows = rows,
    .stack = TMB_STACK_IO_INTERLEAVED,
    .quirks = TMB_QUIRK_STACKED_OUTPUT,
    .forward = &forward,
    .cautions = cautions,
};
