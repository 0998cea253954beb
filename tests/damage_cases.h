/* damage_cases.h - damages of the configuration, and the table of all of them. */
#ifndef DAMAGE_CASES_H
#define DAMAGE_CASES_H

#include "tests/damages.h"

static void exclude_layer(job *j)
{
    exclude(j, "model.layers.1");
}
static void exclude_half_name(job *j)
{
    exclude(j, "model.layers.2.self_attn.o");
}
static void exclude_part(job *j)
{
    exclude(j, "self_attn");
}
static void ignore_regex(job *j)
{
    exclude(j, "re:.*layers\\.1");
}
static void router_listed(job *j)
{
    if (!j->ct) {
        set_layer(j, L0 "mlp.gate", "FP8");
        return;
    }
    retarget(j, "group_0", "re:.*(self_attn\\.(q_proj|k_proj|v_proj|o_proj|qkv_proj)|mlp\\.gate)$");
    tmb_json_set(config_of(j), "ignore", tmb_json_new_array());
    exclude(j, "lm_head");
}
static void wrong_group(job *j)
{
    if (j->ct) {
        tmb_json_set(group_of(j, "group_1", "weights"), "group_size", tmb_json_new_integer(32));
        return;
    }
    tmb_json *entry = algo("NVFP4"), *twin = algo("NVFP4");
    tmb_json_set(entry, "group_size", tmb_json_new_integer(32));
    tmb_json_set(twin, "group_size", tmb_json_new_integer(32));
    tmb_json_set((tmb_json *)tmb_json_get(config_of(j), "quantized_layers"),
                 "model.layers.0.mlp.experts", entry);
    tmb_json_set((tmb_json *)tmb_json_get(hf_of(j), "quantized_layers"),
                 "model.layers.0.mlp.experts", twin);
}
static void unknown_algo(job *j)
{
    if (j->ct)
        tmb_json_set(group_of(j, "group_0", "weights"), "type", tmb_json_new_string("posit"));
    else
        set_layer(j, L0 "self_attn.o_proj", "FP9");
}
static void unknown_top_algo(job *j)
{
    tmb_json_set(config_of(j), "quant_algo", tmb_json_new_string("MIXED"));
    tmb_json_set(hf_of(j), "quant_algo", tmb_json_new_string("MIXED"));
}
static void unknown_key(job *j)
{
    tmb_json_set(group_of(j, "group_0", "weights"), "bits", tmb_json_new_integer(8));
}
static void unknown_group_key(job *j)
{
    tmb_json_set(group_of(j, "group_0", NULL), "activations", tmb_json_new_null());
}
static void status_frozen(job *j)
{
    tmb_json_set(config_of(j), "quantization_status", tmb_json_new_string("frozen"));
}
static void one_format(job *j)
{
    tmb_json_set(config_of(j), "format", tmb_json_new_string("nvfp4-pack-quantized"));
}
static void files_differ(job *j)
{
    tmb_json_set((tmb_json *)tmb_json_get(hf_of(j), "quantized_layers"), L0 "self_attn.o_proj",
                 algo("NVFP4"));
}
static void files_kv_differ(job *j)
{
    tmb_json_set(hf_of(j), "kv_cache_quant_algo", tmb_json_new_null());
}
static void files_lists_differ(job *j)
{
    tmb_json_append((tmb_json *)tmb_json_get(config_of(j), "ignore"),
                    tmb_json_new_string("lm_head"));
}
static void alias_conflict(job *j)
{
    set_layer(j, L0 "self_attn.qkv_proj", "NVFP4");
}
static void shards_differ(job *j)
{
    if (!j->ct)
        set_layer(j, L0 "self_attn.k_proj", "NVFP4");
    else
        exclude(j, L0 "self_attn.k_proj");
}
static void mixed_experts(job *j)
{
    if (!j->ct)
        set_layer(j, "model.layers.1.mlp.experts.3.up_proj", "FP8");
    else
        retarget(
            j, "group_0",
            "re:.*(self_attn\\.(q_proj|k_proj|v_proj|o_proj|qkv_proj)|experts\\.3\\.up_proj)$");
}
static void untargeted(job *j)
{
    retarget(j, "group_0", "re:.*self_attn\\.(q_proj|k_proj|v_proj|qkv_proj)$");
}
static void ambiguous(job *j)
{
    retarget(
        j, "group_0",
        "re:zzz|.*(self_attn\\.(q_proj|k_proj|v_proj|o_proj|qkv_proj)|experts\\.\\d+\\.\\w+)$");
}
static void head_tied(job *j)
{
    edit_tensor *t = edit_recast(j->e, "lm_head.weight", TMB_F8_E4M3, 2, 320, 64);
    memset(t->data, 0x30, t->bytes);
    set_f32(edit_add(j->e, "lm_head.weight_scale", TMB_F32, 0, 0, 0, 0), 0.01f);
    set_f32(edit_add(j->e, "lm_head.input_scale", TMB_F32, 0, 0, 0, 0), 0.01f);
    set_layer(j, "lm_head", "FP8");
    tmb_json_set(j->e->config, "tie_word_embeddings", tmb_json_new_bool(true));
}
static void more_experts(job *j)
{
    tmb_json_set(j->e->config, "num_local_experts", tmb_json_new_integer(20));
}
static void more_layers(job *j)
{
    tmb_json_set(j->e->config, "num_hidden_layers", tmb_json_new_integer(4));
}
static void config_lost(job *j)
{
    tmb_json_remove(j->e->config, "quantization_config");
    tmb_json_free(j->e->hf);
    j->e->hf = NULL;
}

/* FP8 parts of a Linear that the base does not have. */
static void add_fp8(job *j, const char *module, uint64_t out, uint64_t in)
{
    edit_tensor *t = edit_add(j->e, name(j, module, "weight"), TMB_F8_E4M3, 2, out, in, 0);
    memset(t->data, 0x30, t->bytes);
    set_f32(edit_add(j->e, name(j, module, "weight_scale"), TMB_F32, 0, 0, 0, 0), 0.01f);
    set_f32(edit_add(j->e, name(j, module, "input_scale"), TMB_F32, 0, 0, 0, 0), 0.01f);
}
/* The router's full name is a substring of the fused name of a dense MLP beside it. */
static void exclude_gate(job *j)
{
    add_fp8(j, L0 "mlp.gate_proj.", 128, 64);
    add_fp8(j, L0 "mlp.up_proj.", 128, 64);
    set_layer(j, L0 "mlp.gate_proj", "FP8");
    set_layer(j, L0 "mlp.up_proj", "FP8");
    exclude(j, L0 "mlp.gate");
}
static void exclude_glob(job *j)
{
    exclude(j, "model.layers.1.self_attn.?_proj");
}
static void add_nvfp4(job *j, const char *module, uint64_t out, uint64_t in, float global)
{
    edit_drop_all(j->e, module);
    edit_tensor *t = edit_add(j->e, name(j, module, "codes"), TMB_U8, 2, out, in / 2, 0);
    memset(t->data, 0x35, t->bytes);
    t = edit_add(j->e, name(j, module, "weight_scale"), TMB_F8_E4M3, 2, out, in / 16, 0);
    memset(t->data, 0x60, t->bytes);
    float stored = j->ct ? 1 / global : global;
    set_f32(edit_add(j->e, name(j, module, "global"), TMB_F32, 1, 1, 0, 0), stored);
    set_f32(edit_add(j->e, name(j, module, "input"), TMB_F32, 1, 1, 0, 0), 1);
}
static void fused_global(job *j)
{
    add_nvfp4(j, L0 "self_attn.q_proj.", 128, 64, 1e-4f);
    add_nvfp4(j, L0 "self_attn.k_proj.", 64, 64, 2e-4f);
    add_nvfp4(j, L0 "self_attn.v_proj.", 64, 64, 1e-4f);
    if (!j->ct) {
        set_layer(j, L0 "self_attn.q_proj", "NVFP4");
        set_layer(j, L0 "self_attn.k_proj", "NVFP4");
        set_layer(j, L0 "self_attn.v_proj", "NVFP4");
        return;
    }
    retarget(j, "group_0", "re:.*layers\\.[12]\\.self_attn\\.(q_proj|k_proj|v_proj|o_proj)$");
    retarget(j, "group_1",
             "re:.*(layers\\.0\\.self_attn\\.[qkvo]_proj|experts\\.\\d+\\.(gate|up|down)_proj)$");
}
static void fused_input(job *j)
{
    fused_global(j);
    set_f32(get(j, L0 "self_attn.q_proj.", "input"), 2);
}

static const damage_case cases[] = {
    {"exclude-wide", "a router's name is part of gate_up_proj's", exclude_gate, 1},
    {"stored-codes", "a glob excludes a layer's attention", exclude_glob, 1},
    {"fused-global", "NVFP4 q, k, v have different global scales", fused_global, 3},
    {"fused-input", "NVFP4 q, k, v have different input scales", fused_input, 2},

    {"expert-missing", "an expert is missing", expert_missing, 3},
    {"expert-extra", "an expert is renumbered", expert_renumbered, 3},
    {"expert-missing", "a renumbered expert leaves a hole", expert_renumbered, 3},
    {"expert-incomplete", "an expert has no down_proj", expert_incomplete, 3},
    {"expert-incomplete", "a layer's experts have no down_proj", down_missing_everywhere, 3},
    {"part-missing", "block scales are missing", block_missing, 3},
    {"part-missing", "the codes are missing", codes_missing, 3},
    {"part-missing", "a global scale is missing", global_missing, 3},
    {"input-missing", "an expert's input scale is missing", input_missing, 3},
    {"input-missing", "all experts' input scales are missing", inputs_missing, 3},
    {"part-missing", "an FP8 weight scale is missing", fp8_scale_missing, 3},
    {"input-missing", "an FP8 input scale is missing", fp8_input_missing, 1},
    {"router-missing", "a router is missing", router_missing, 3},
    {"scale-zero", "a block scale is 0", block_zero, 3},
    {"scale-nan", "a block scale is NaN", block_nan, 3},
    {"scale-negative", "a block scale is negative", block_negative, 3},
    {"scale-zero", "a global scale is 0", global_zero, 3},
    {"scale-nan", "a global scale is NaN", global_nan, 3},
    {"scale-nan", "a global scale is infinite", global_inf, 3},
    {"scale-negative", "a global scale is negative", global_negative, 3},
    {"scale-zero", "an input scale is 0", input_zero, 3},
    {"scale-nan", "an input scale is NaN", input_nan, 3},
    {"scale-zero", "an FP8 scale is 0", fp8_zero, 3},
    {"scale-nan", "an FP8 scale is NaN", fp8_nan, 3},
    {"scale-zero", "an FP8 input scale is 0", fp8_input_zero, 1},
    {"code-nan", "an FP8 code is NaN", code_nan, 3},
    {"value-nan", "a norm is NaN", norm_nan, 3},
    {"gate-up-global", "gate and up have different global scales", gate_up_global, 3},
    {"gate-up-input", "gate and up have different input scales", gate_up_input, 3},
    {"scale-inverted", "all global scales are inverted", inverted, 3},
    {"scale-inverted", "one global scale is inverted", inverted_one, 3},
    {"scale-inverted", "an FP8 scale is inverted", fp8_inverted, 1},
    {"part-dtype", "block scales are BF16", block_bf16, 3},
    {"part-dtype", "block scales are U8", block_u8, 3},
    {"part-dtype", "packed codes are I8", packed_i8, 3},
    {"part-dtype", "an FP8 layer is BF16", fp8_bf16, 3},
    {"part-dtype", "an FP8 layer is E5M2", fp8_e5m2, 3},
    {"part-dtype", "a global scale is BF16", global_bf16, 3},
    {"router-quantized", "a router is FP8", router_fp8, 3},
    {"part-shape", "block scales of group 32 under group 16", group_32, 3},
    {"part-shape", "codes lie across", transposed_codes, 3},
    {"weight-shape", "an FP8 weight lies across", transposed_fp8, 1},
    {"part-shape", "an FP8 weight lies across its row scales", transposed_fp8, 2},
    {"part-shape", "codes are not packed", unpacked, 3},
    {"part-shape", "a global scale is a vector", vector_global, 3},
    {"kv-half", "k_scale is missing", kv_half, 3},
    {"kv-missing", "a layer's KV scales are missing", kv_missing, 3},
    {"kv-missing", "all KV scales are missing", kv_all_missing, 3},
    {"kv-value", "k_scale is 0", kv_zero, 3},
    {"kv-value", "v_scale is NaN", kv_nan, 3},
    {"kv-value", "k_scale is a vector", kv_vector, 3},
    {"kv-undeclared", "KV scales are not declared", kv_undeclared, 3},
    {"kv-mla", "KV scales on latent attention", kv_on_mla, 3},
    {"tensor-unknown", "_amax is left over", leftover_amax, 3},
    {"tensor-unknown", "an expert's _amax is left over", leftover_input_amax, 3},
    {"tensor-unknown", "output_scale is left over", leftover_scale, 3},
    {"part-unexpected", "a part of the other layout", foreign_part, 3},
    {"fused-names", "experts under in-memory names", fused_names, 3},
    {"stored-plain", "one expert's gate is left BF16", gate_bf16, 3},
    {"exclude-wide", "model.layers.1 is excluded", exclude_layer, 1},
    {"exclude-wide", "half a name is excluded", exclude_half_name, 1},
    {"exclude-wide", "one part of names is excluded", exclude_part, 1},
    {"stored-codes", "ignore takes a whole layer", ignore_regex, 2},
    {"stored-plain", "a router is listed as FP8", router_listed, 3},
    {"config-value", "a wrong group size", wrong_group, 3},
    {"config-algo", "an unknown algorithm", unknown_algo, 3},
    {"config-algo", "an unknown top-level algorithm", unknown_top_algo, 1},
    {"config-key", "an unknown key in weights", unknown_key, 2},
    {"config-key", "an unknown key in a group", unknown_group_key, 2},
    {"config-value", "a status that is not compressed", status_frozen, 2},
    {"config-value", "one format for two groups", one_format, 2},
    {"config-files", "the two files differ in a layer", files_differ, 1},
    {"config-files", "the two files differ in the KV cache", files_kv_differ, 1},
    {"config-files", "the two files differ in what they exclude", files_lists_differ, 1},
    {"alias-conflict", "a fused key contradicts its shards", alias_conflict, 1},
    {"fused-formats", "shards of a fused layer differ", shards_differ, 3},
    {"mixed-experts", "one expert has another format", mixed_experts, 3},
    {"unlisted-linear", "a Linear is in neither list", untargeted, 2},
    {"target-ambiguous", "targets of two groups match", ambiguous, 2},
    {"head-quantized", "a tied lm_head is quantized", head_tied, 1},
    {"expert-missing", "config.json has more experts", more_experts, 3},
    {"layer-missing", "config.json has more layers", more_layers, 3},
    {"config-method", "quantization_config is lost", config_lost, 1},
};

#endif
