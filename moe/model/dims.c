/* dims.c - config keys.  Spellings: formats.md 6.2 and the configs of the families in arch/. */
#include "config.h"
#include "moe/model/dims.h"
#include "moe/model/archs.h"

#include <limits.h>

static const char *const text_keys[] = {"text_config", "llm_config", "language_config",
                                        "thinker_config.text_config", NULL};
static const char *const layer_keys[] = {"num_hidden_layers", "n_layer", "n_layers", "num_layers",
                                         NULL};
static const char *const expert_keys[] = {"num_local_experts", "moe_num_experts", "num_experts",
                                          "n_routed_experts", "num_routed_experts", "n_experts",
                                          "num_moe_experts", "moe_config.num_experts", NULL};
static const char *const top_k_keys[] = {"top_k_experts", "num_experts_per_tok", "moe_k",
                                         "moe_top_k", "moe_topk", "experts_per_token",
                                         "num_experts_per_token", "num_selected_experts", "top_k",
                                         NULL};
static const char *const hidden_keys[] = {"hidden_size", "n_embd", "d_model", "model_dim", NULL};
/* gpt-oss, Mixtral, OLMoE and Llama 4 call the width of an expert intermediate_size. */
static const char *const width_keys[] = {"moe_intermediate_size", "expert_intermediate_size",
                                         "moe_ffn_hidden_size", "expert_ffn_hidden_size",
                                         "intermediate_dim", "intermediate_size",
                                         "ffn_hidden_size", NULL};

/* The first key that holds a positive number; of a list (one number a layer) its first. */
static int64_t probe(const tmb_json *config, const char *const *keys)
{
    for (; *keys; keys++) {
        const tmb_json *value = tmb_json_path(config, *keys);
        if (tmb_json_is_array(value)) value = tmb_json_at(value, 0);
        int64_t n;
        if (tmb_json_integer(value, &n) && n > 0) return n;
    }
    return 0;
}

static int small(int64_t n)
{
    return n <= INT_MAX ? (int)n : 0;
}

const tmb_json *tmb_dims_text(const tmb_json *config)
{
    const tmb_json *text = NULL;
    for (const char *const *k = text_keys; *k && !tmb_json_is_object(text); k++)
        text = tmb_json_path(config, *k);
    return tmb_json_is_object(text) ? text : config;
}

void tmb_dims_read(tmb_dims *out, const tmb_json *config)
{
    const tmb_json *text = tmb_dims_text(config);
    const char *outer = tmb_json_string(tmb_json_get(config, "model_type"));
    const char *inner = tmb_json_string(tmb_json_get(text, "model_type"));
    const tmb_arch *arch = outer && *outer ? tmb_arch_find(outer) : NULL;
    if (!arch && inner && *inner) arch = tmb_arch_find(inner);
    *out = (tmb_dims){
        .model_type = outer ? outer : inner ? inner : "",
        .arch = arch,
        .layers = small(probe(text, layer_keys)),
        .experts = small(probe(text, expert_keys)),
        .top_k = small(probe(text, top_k_keys)),
        .hidden = (uint64_t)probe(text, hidden_keys),
        .expert_width = (uint64_t)probe(text, width_keys),
    };
}
