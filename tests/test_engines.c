/* test_engines.c - names that one engine or one architecture needs, each learned from a loader that
 * stopped, or went on with the wrong numbers (doc/engines.md). */
#include "config.h"
#include "tests/header_model.h"
#include "tests/layout_job.h"

#define EXPERTS_ONLY "@shared_expert = bf16\n*experts* = nvfp4\n* = bf16\n"
#define EXPERTS_FP8  "*experts* = nvfp4\n* = fp8\n"

static bool open_names(planned *o, const char *name, const char *rules, const char *layout)
{
    return open_at(o, header_model_in(in_root(name), name, NULL), rules, layout);
}

/* Engines put the text model under other prefixes; an MTP layer or a tower keeps its own word. */
static void test_foreign_prefixes(void)
{
    planned o;
    ct_rules *r = calloc(1, sizeof *r);
    if (r && open_names(&o, "nemotron_h_latent", EXPERTS_ONLY, CT) && ct_load(r, o.q)) {
        ok(same(ct_answer(r, "backbone.layers.1.mixer.experts.0.up_proj"), "nvfp4") &&
               same(ct_answer(r, "model.layers.1.mixer.experts.7.down_proj"), "nvfp4") &&
               same(ct_answer(r, "model.layers.1.mixer.experts.0.None"), "nvfp4"),
           "nemotron_h: experts are found under the engines' prefix, and without a gate");
        ok(!ct_answer(r, "mtp.layers.1.mixer.experts.0.up_proj") &&
               !ct_answer(r, "model.mtp.layers.1.mixer.experts.0.up_proj"),
           "nemotron_h: those of the MTP layer are kept, wherever it stands");
        ct_free(r);
        close_job(&o);
    }
    if (r && open_names(&o, "qwen3_5_moe", EXPERTS_FP8, CT) && ct_load(r, o.q)) {
        const char *attention = "layers.3.self_attn.qkv_proj";
        static const char *const prefixes[] = {"model.language_model.", "language_model.model.",
                                               "model.", ""};
        bool all = true;
        for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
            char name[256];
            snprintf(name, sizeof name, "%s%s", prefixes[i], attention);
            all = all && same(ct_answer(r, name), "fp8");
        }
        ok(all, "qwen3_5_moe: a fused layer is found under four prefixes");
        ok(!ct_answer(r, "mtp.layers.0.self_attn.qkv_proj") &&
               !ct_answer(r, "model.visual.blocks.0.attn.qkv"),
           "qwen3_5_moe: the MTP layer and the tower are kept");
        ct_free(r);
        close_job(&o);
    }
    free(r);
}

/* SGLang renames attn.qkv and names in the exclude list, then asks by what it built. */
static void test_qwen3_vl(void)
{
    planned o;
#define VL "model.language_model.layers.0."
    if (open_names(&o, "qwen3_vl_moe", EXPERTS_FP8, MO)) {
        ok(same(key_of(&o, VL "self_attn.qkv_proj"), "FP8") &&
               same(key_of(&o, VL "self_attn.qkv"), "FP8"),
           "qwen3_vl_moe: the fused layer has a key in both spellings");
        close_job(&o);
    }
    if (open_names(&o, "qwen3_vl_moe", EXPERTS_ONLY, MO)) {
        const tmb_json *excluded = tmb_json_get(o.f, "exclude_modules");
        ok(listed(excluded, VL "self_attn.o_proj") && listed(excluded, "*" VL "self_attn.o_proj") &&
               listed(excluded, "*" VL "self_attn.qkv_proj"),
           "qwen3_vl_moe: kept Linears are excluded under a name that no table renames");
        close_job(&o);
    }
    if (open_names(&o, "qwen3_5_moe", EXPERTS_ONLY, MO)) {
        ok(!listed(tmb_json_get(o.q, "ignore"), "*" VL "self_attn.o_proj"),
           "qwen3_5_moe: plain names do");
        close_job(&o);
    }
#undef VL
}

/* A head that is the embedding has no tensor; engines build it all the same. */
static void test_tied_head(void)
{
    planned o;
    if (open_names(&o, "ernie4_5_moe", "* = fp8\n", MO)) {
        ok(listed(tmb_json_get(o.q, "ignore"), "lm_head") &&
               listed(tmb_json_get(o.f, "exclude_modules"), "lm_head"),
           "ernie4_5_moe: a head that shares the embedding's weights is excluded");
        ok(!out_of(&o, "model.layers.0.self_attn.k_proj.k_scale"),
           "ernie4_5_moe: no KV scales, which SGLang breaks on");
        close_job(&o);
    }
}

/* vLLM excludes by substring: the router's name lies in a quantized one. */
static void test_hidden_exclusion(void)
{
    planned o;
    char *folder = invent("{\"model_type\": \"arctic\", \"num_hidden_layers\": 1}",
                          "model.layers.0.mlp.gate.weight BF16 4,64\n"
                          "model.layers.0.mlp.gate_proj.weight BF16 64,64\n"
                          "model.layers.0.mlp.up_proj.weight BF16 64,64\n"
                          "model.layers.0.mlp.down_proj.weight BF16 64,64\n"
                          "model.layers.0.self_attn.o_proj.weight BF16 64,64\n"
                          "lm_head.weight BF16 64,64\n");
    if (open_at(&o, folder, "@attention = bf16\n* = nvfp4\n", MO)) {
        const tmb_json *excluded = tmb_json_get(o.f, "exclude_modules");
        ok(same(tmb_json_string(tmb_json_get(o.q, "quant_algo")), "MIXED_PRECISION") &&
               same(key_of(&o, L0 "mlp.gate_proj"), "NVFP4"),
           "one format, a name within another: keys, not exclusions, say what is quantized");
        ok(!listed(excluded, L0 "mlp.gate") && listed(excluded, L0 "self_attn.o_proj") &&
               listed(excluded, "lm_head"),
           "the name that would take quantized layers with it is left out, the others are not");
        close_job(&o);
    }
    remove_folder(folder);
}

/* vLLM builds Qwen4's attention without a quantization whose name is that of uniform NVFP4. */
static void test_by_keys(void)
{
    static const char *const models[] = {"qwen4_exp", "qwen3_5_moe"};
    for (int i = 0; i < 2; i++) {
        planned o;
        if (!open_names(&o, models[i], "* = nvfp4\n", MO)) continue;
        const char *attention = "model.language_model.layers.3.self_attn.qkv_proj";
        ok(same(tmb_json_string(tmb_json_get(o.q, "quant_algo")),
                i ? "NVFP4" : "MIXED_PRECISION") &&
               same(key_of(&o, attention), i ? NULL : "NVFP4"),
           "%s: one format is written %s", models[i], i ? "as such" : "by keys");
        close_job(&o);
    }
}

/* No engine knows this architecture: what is written must still say one thing of each module. */
static void test_strange_experts(void)
{
    char *folder = invent("{\"model_type\": \"strange\", \"num_hidden_layers\": 2, "
                          "\"moe_num_experts\": 2}",
                          "model.decoder.layers.0.mix.mix_gate.weight BF16 2,64\n"
                          "model.decoder.layers.0.mix.local_experts.0.fc1.weight BF16 64,64\n"
                          "model.decoder.layers.0.mix.local_experts.0.fc2.weight BF16 64,64\n"
                          "model.decoder.layers.0.mix.local_experts.1.fc1.weight BF16 64,64\n"
                          "model.decoder.layers.0.mix.local_experts.1.fc2.weight BF16 64,64\n"
                          "model.decoder.layers.0.attention.o_proj.weight BF16 64,64\n"
                          "model.decoder.layers.1.attention.o_proj.weight BF16 64,64\n");
#define MIX "model.decoder.layers.0.mix."
    planned o;
    if (open_at(&o, folder, "*experts* = nvfp4\n* = fp8\n", MO)) {
        ok(same(key_of(&o, MIX "local_experts.1.fc2"), "NVFP4"),
           "experts under another name have a key each");
        close_job(&o);
    }
    ct_rules *r = calloc(1, sizeof *r);
    if (r && open_at(&o, folder, "*experts* = nvfp4\n* = fp8\n", CT) && ct_load(r, o.q)) {
        ok(same(ct_answer(r, MIX "local_experts.1.fc2"), "nvfp4") &&
               !ct_answer(r, MIX "mix_gate") &&
               same(ct_answer(r, "model.decoder.layers.1.attention.o_proj"), "fp8"),
           "and a target");
        ct_free(r);
        close_job(&o);
    }
#undef MIX
    free(r);
    remove_folder(folder);
}

/* Recipes cannot do this; a program that chooses formats itself can. */
static void test_halves(void)
{
    static const char *const layouts[] = {MO, CT};
    for (int i = 0; i < 2; i++) {
        planned o;
        if (!open_job(&o, "arch/qwen3_moe", "* = fp8\n", layouts[i])) continue;
        const tmb_unit *k = tmb_model_find(o.j.model, L0 "self_attn.k_proj");
        const tmb_unit *router = tmb_model_find(o.j.model, L0 "mlp.gate");
        tmb_choice *choices = o.j.assignment->choices;
        choices[k - o.j.model->units].spec = choices[router - o.j.model->units].spec;
        const char *file;
        tmb_json *config = tmb_json_new_object(), *written = NULL;
        tmb_status status = o.j.plan->layout->config(&o.j.plan->job, config, &file, &written, NULL);
        char *text = tmb_json_dump(config, 0);
        ok(!status && text && strstr(text, L0 "self_attn.k_proj") &&
               !strstr(text, L0 "self_attn.qkv_proj"),
           "%s: a fused layer of two precisions has no name of its own", layouts[i]);
        free(text);
        tmb_json_free(written);
        tmb_json_free(config);
        close_job(&o);
    }
}

/* SGLang's names of DeepSeek-V4, where it can read what they name. */
static void test_deepseek_v4(void)
{
    planned o;
    ct_rules *r = calloc(1, sizeof *r);
    if (open_names(&o, "deepseek_v4_bf16", "@attention = bf16\n@shared_expert = fp8\n" EXPERTS_FP8,
                   MO)) {
        ok(same(key_of(&o, "layers.0.ffn.experts"), "NVFP4") &&
               same(key_of(&o, L0 "mlp.experts"), "NVFP4") &&
               same(key_of(&o, L0 "mlp.shared_experts.gate_up_proj"), "FP8") &&
               same(key_of(&o, L0 "mlp.shared_experts.down_proj"), "FP8"),
           "deepseek_v4: keys in the hub's and in SGLang's names");
        ok(listed(tmb_json_get(o.q, "ignore"), L0 "self_attn.wqkv_a") &&
               listed(tmb_json_get(o.q, "ignore"), "lm_head"),
           "deepseek_v4: kept layers are excluded in both");
        ok(!warned(&o, "this architecture's attention"), "deepseek_v4: nothing to warn of");
        close_job(&o);
    }
    if (r && open_names(&o, "deepseek_v4_bf16", EXPERTS_ONLY, CT) && ct_load(r, o.q)) {
        ok(same(ct_answer(r, L0 "mlp.experts.0.gate_proj"), "nvfp4") &&
               same(ct_answer(r, "layers.0.ffn.experts.0.w1"), "nvfp4") &&
               !ct_answer(r, L0 "self_attn.wqkv_a") && !ct_answer(r, "layers.0.attn.wq_a") &&
               !ct_answer(r, L0 "mlp.shared_experts.gate_up_proj"),
           "deepseek_v4, compressed-tensors: the same");
        ct_free(r);
        close_job(&o);
    }
    if (open_names(&o, "deepseek_v4_bf16", EXPERTS_FP8, MO)) {
        ok(!key_of(&o, L0 "mlp.experts") && same(key_of(&o, "layers.0.ffn.experts"), "NVFP4") &&
               warned(&o, "reads this architecture's attention in BF16"),
           "deepseek_v4: quantized attention is warned of, and SGLang finds no name to go on with");
        close_job(&o);
    }
    free(r);
}

/* What an engine cannot load is said where it is chosen, and nowhere else. */
static void test_cautions(void)
{
    static const struct {
        const char *model, *layout, *rules, *words;
        bool said;
    } cases[] = {
        {"glm4_moe", CT, "* = nvfp4\n", "stops at shared experts in 4 bits", true},
        {"glm4_moe", MO, "* = nvfp4\n", "stops at shared experts in 4 bits", false},
        {"glm4_moe", CT, "@shared_expert = fp8\n" EXPERTS_FP8, "stops at shared", false},
        {"nemotron_h", CT, EXPERTS_ONLY, "for gated", true},
        {"nemotron_h", MO, EXPERTS_ONLY, "for gated", false},
        {"nemotron_h", CT, "*experts* = nvfp4-w4a16\n* = bf16\n", "for gated", false},
        {"qwen3_next", MO, "* = nvfp4\n", "refuses a quantized in_proj_qkvz", true},
        {"qwen3_next", CT, "* = fp8\n", "one scale a tensor for in_proj_qkvz", true},
        {"qwen3_next", CT, "* = nvfp4\n", "in_proj_qkvz", false},
        {"qwen3_next", MO, EXPERTS_ONLY, "in_proj_qkvz", false},
        {"llama4", MO, EXPERTS_ONLY, "the experts stay stacked", true},
        {"llama4", CT, EXPERTS_ONLY, "no experts of the text model", true},
        {"llama4", CT, EXPERTS_ONLY, "BF16 and MXFP4 only", false},
        {"llama4", CT, "* = fp8-block\n", "attention in fp8-block", true},
        {"gpt_oss", CT, EXPERTS_ONLY, "BF16 and MXFP4 only", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        planned o;
        if (!open_names(&o, cases[i].model, cases[i].rules, cases[i].layout)) continue;
        ok(warned(&o, cases[i].words) == cases[i].said, "%s, %s: \"%s\" is %ssaid", cases[i].model,
           cases[i].layout, cases[i].words, cases[i].said ? "" : "not ");
        close_job(&o);
    }
}

int main(void)
{
    make_root();
    test_foreign_prefixes();
    test_qwen3_vl();
    test_tied_head();
    test_hidden_exclusion();
    test_strange_experts();
    test_by_keys();
    test_halves();
    test_deepseek_v4();
    test_cautions();
    remove_tree(root);
    return done();
}
