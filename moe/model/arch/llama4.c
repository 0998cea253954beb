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
static const tmb_arch_forward forward = {
    .attention = TMB_ATTENTION_GQA,
    .attention_bias = {"attention_bias", false},
    .biased = {"q_proj", "k_proj", "v_proj", "o_proj"},
    .qk_norm = TMB_QK_NORM_L2,
    .use_qk_norm = {"use_qk_norm", true},
    .some_without_rope = true,
    .paired = {NULL, true},
    .theta = 5e5,
    .eps = 1e-5,
    .views = TMB_VIEWS_CHUNKED,
    .block = "feed_forward",
    .router = "router",
    .routing = TMB_ROUTING_INPUT_SIGMOID,
    .shared = "shared_expert",
};

static const tmb_arch_caution cautions[] = {
    {"the experts stay stacked, as ModelOpt writes them: vLLM 0.33 reads that in the multimodal "
     "model, not in the text model, SGLang 0.5.23 in the multimodal model and FP8 alone; layout = "
     "compressed-tensors has them one by one",
     "modelopt", TMB_ROLE_EXPERT, NULL, NULL},
    {"SGLang 0.5.23 fills no experts of the text model, in BF16 neither: serve the multimodal "
     "model there, or take vLLM",
     "compressed-tensors", TMB_ROLE_EXPERT, NULL, NULL},
    /* it reorders the rows of q and k for RoPE, and their scales' rows, which are fewer */
    {"vLLM 0.33 refuses this architecture's attention in fp8-block: use fp8 or fp8-channel there",
     "compressed-tensors", TMB_ROLE_ATTENTION, NULL, "fp8-block"},
    TMB_CAUTIONS_END,
};

const tmb_arch tmb_arch_llama4 = {
    .name = "llama4",
    .model_types = types,
    .prefixes = prefixes,
    .rows = rows,
    .stack = TMB_STACK_IO,
    .quirks = TMB_QUIRK_STACKED_OUTPUT,
    .forward = &forward,
    .cautions = cautions,
};
