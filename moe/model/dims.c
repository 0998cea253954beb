/* dims.c - config keys.  Spellings: formats.md 6.2 and the configs of the families in arch/. */
#include "config.h"
#include "moe/model/dims.h"
#include "moe/model/archs.h"

static const char *const text_keys[] = {"text_config", "llm_config", "language_config",
                                        "thinker_config.text_config", NULL};
static const char *const layer_keys[] = {"num_hidden_layers", "n_layer", "n_layers", "num_layers",
                                         NULL};
static const char *const expert_keys[] = {
    "num_local_experts", "moe_num_experts",        "num_experts",
    "n_routed_experts",  "num_routed_experts",     "n_experts",
    "num_moe_experts",   "moe_config.num_experts", NULL};
static const char *const top_k_keys[] = {"top_k_experts",
                                         "num_experts_per_tok",
                                         "moe_k",
                                         "moe_top_k",
                                         "moe_topk",
                                         "experts_per_token",
                                         "num_experts_per_token",
                                         "num_selected_experts",
                                         "top_k",
                                         NULL};
static const char *const hidden_keys[] = {"hidden_size", "n_embd", "d_model", "model_dim", NULL};
/* gpt-oss, Mixtral, OLMoE and Llama 4 call the width of an expert intermediate_size. */
static const char *const width_keys[] = {"moe_intermediate_size", "expert_intermediate_size",
                                         "moe_ffn_hidden_size",   "expert_ffn_hidden_size",
                                         "intermediate_dim",      "intermediate_size",
                                         "ffn_hidden_size",       NULL};

static const char *const quant_keys[] = {"quantization_config", NULL};
static const char *const type_keys[] = {"model_type", NULL};

static tmb_status refuse(const char *key, const char *want, tmb_err *err)
{
    return tmb_fail(err, TMB_EDATA, "config.json: \"%s\" is no %s; fetch the file again", key,
                    want);
}

/* The first key that holds a positive number; of a list (one number a layer) its first. */
static tmb_status probe(const tmb_json *config, const char *const *keys, int64_t most, int64_t *out,
                        tmb_err *err)
{
    *out = 0;
    for (; *keys; keys++) {
        const tmb_json *value = tmb_json_path(config, *keys);
        if (tmb_json_is_array(value)) value = tmb_json_at(value, 0);
        int64_t n;
        if (!value || tmb_json_is_null(value)) continue;
        if (!tmb_json_integer(value, &n) || n < 0) return refuse(*keys, "whole number", err);
        if (n > most)
            return tmb_fail(err, TMB_EDATA,
                            "config.json: \"%s\" is %lld, at most %lld are taken; fetch the file "
                            "again",
                            *keys, (long long)n, (long long)most);
        if (n > 0 && !*out) *out = n;
    }
    return TMB_OK;
}

static tmb_status want_objects(const tmb_json *config, const char *const *keys, tmb_err *err)
{
    for (; *keys; keys++) {
        const tmb_json *value = tmb_json_path(config, *keys);
        if (value && !tmb_json_is_null(value) && !tmb_json_is_object(value))
            return refuse(*keys, "object", err);
    }
    return TMB_OK;
}

static tmb_status want_text(const tmb_json *config, const char *const *keys, tmb_err *err)
{
    for (; *keys; keys++) {
        const tmb_json *value = tmb_json_path(config, *keys);
        if (value && !tmb_json_is_null(value) && !tmb_json_string(value))
            return refuse(*keys, "text", err);
    }
    return TMB_OK;
}

static tmb_status check_kinds(const tmb_json *config, const tmb_json *text, tmb_err *err)
{
    static const char *const method_keys[] = {"quantization_config.quant_method",
                                              "quantization_config.quant_algo", NULL};
    TRY(want_objects(config, text_keys, err));
    for (const tmb_json *c = config; c; c = c == text ? NULL : text) {
        TRY(want_text(c, type_keys, err));
        TRY(want_objects(c, quant_keys, err));
        TRY(want_text(c, method_keys, err));
    }
    return TMB_OK;
}

const tmb_json *tmb_dims_text(const tmb_json *config)
{
    const tmb_json *text = NULL;
    for (const char *const *k = text_keys; *k && !tmb_json_is_object(text); k++)
        text = tmb_json_path(config, *k);
    return tmb_json_is_object(text) ? text : config;
}

tmb_status tmb_dims_read(tmb_dims *out, const tmb_json *config, tmb_err *err)
{
    const tmb_json *text = tmb_dims_text(config);
    TRY(check_kinds(config, text, err));

    int64_t layers, experts, top_k, hidden, width;
    TRY(probe(text, layer_keys, TMB_DIMS_COUNT_MAX, &layers, err));
    TRY(probe(text, expert_keys, TMB_DIMS_COUNT_MAX, &experts, err));
    TRY(probe(text, top_k_keys, TMB_DIMS_COUNT_MAX, &top_k, err));
    TRY(probe(text, hidden_keys, TMB_DIMS_WIDTH_MAX, &hidden, err));
    TRY(probe(text, width_keys, TMB_DIMS_WIDTH_MAX, &width, err));
    int64_t of = tmb_json_int_or(text, "num_experts_per_tok", 0);
    if (experts && of > experts)
        return tmb_fail(
            err, TMB_EDATA,
            "config.json: \"num_experts_per_tok\" is %lld of %lld experts; fetch the file "
            "again",
            (long long)of, (long long)experts);

    const char *outer = tmb_json_string(tmb_json_get(config, "model_type"));
    const char *inner = tmb_json_string(tmb_json_get(text, "model_type"));
    const tmb_arch *arch = outer && *outer ? tmb_arch_find(outer) : NULL;
    if (!arch && inner && *inner) arch = tmb_arch_find(inner);
    *out = (tmb_dims){
        .model_type = outer   ? outer
                      : inner ? inner
                              : "",
        .arch = arch,
        .layers = (int)layers,
        .experts = (int)experts,
        .top_k = (int)top_k,
        .hidden = (uint64_t)hidden,
        .expert_width = (uint64_t)width,
    };
    return TMB_OK;
}
