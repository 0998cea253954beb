/* test_layout.c - what a job is called in each layout: tensors, and configurations that every
 * loader reads as they were meant.  Loaders' rules are written down a second time in
 * loader_rules.h; that the engines themselves agree is doc/engines.md's. */
#include "config.h"
#include "tests/header_model.h"
#include "tests/layout_job.h"

/* ---- every checkpoint, every recipe
 * -------------------------------------------------------------- */

#define KV_FP8 "[kv_cache]\nformat = fp8\n"

static const char *const all_rules[] = {
    "@shared_expert = fp8\n*experts* = nvfp4\n* = fp8\n" KV_FP8,
    "@shared_expert = bf16\n*experts* = nvfp4\n* = bf16\n",
    "*experts* = nvfp4\n* = bf16\n",
    "* = nvfp4\n" KV_FP8,
    "* = fp8\n",
    "* = fp8-channel\n",
    "* = fp8-block\n",
    "* = mxfp8\n",
    "@shared_expert = bf16\n*experts* = nvfp4-w4a16\n* = bf16\n",
    "@expert = mxfp4\n* = fp8-channel\n",
    "@expert = int4\n* = bf16\n",
    "*q_a_proj = int4\n*kv_a_proj_with_mqa = int4\n* = bf16\n",
    "*layers.1.* = bf16\n*experts* = nvfp4\n* = fp8\n",
    "*layers.2.*experts* = fp8\n*experts* = nvfp4\n*o_proj = nvfp4\n* = fp8\n",
    "*layers.[02].* = fp8\n* = bf16\n",
};
enum { ALL_RULES = sizeof all_rules / sizeof *all_rules };

/* One checkpoint by every recipe; counts jobs that quantize something. */
static void test_checkpoint(const char *name, const char *path, int *jobs)
{
    static const char *const layouts[] = {MO, CT};
    const char *bad = path ? NULL : "cannot be made";
    int here = 0;
    for (int i = 0; i < 2 * ALL_RULES && !bad; i++) {
        job j;
        tmb_plan_options options = {.layout = layouts[i % 2]};
        tmb_status status = job_open(&j, path, all_rules[i / 2], &options);
        if (status && status != TMB_EUSAGE) bad = j.err.message;
        if (!status && strstr(j.plan->config_text, "\"config_groups\"")) {
            here++;
            bad = all_parts_fault(&j);
            if (!bad) bad = i % 2 ? ct_fault(&j) : modelopt_fault(&j);
        }
        if (bad) printf("# %s, %s: %s\n", layouts[i % 2], all_rules[i / 2], bad);
        job_close(&j);
    }
    *jobs += here;
    ok(!bad && here >= 10, "%s: %d jobs are read as meant", name, here);
}

static void test_all(void)
{
    static const char *const folders[] = {"arch", "names"};
    int jobs = 0;
    for (int f = 0; f < 2; f++) {
        char folder[1024], path[2048];
        struct dirent **list;
        snprintf(folder, sizeof folder, "%s", data_path(folders[f]));
        int n = scandir(folder, &list, NULL, alphasort);
        for (int i = 0; i < n; i++) {
            const char *name = list[i]->d_name;
            snprintf(path, sizeof path, "%s/%s", folder, name);
            if (!strchr(name, '.')) test_checkpoint(name, f ? header_model_in(in_root(name), name, NULL) : path, &jobs);
            free(list[i]);
        }
        if (n >= 0) free(list);
    }
    ok(jobs >= 600, "%d jobs were looked at", jobs);
}

/* ---- single things
 * -------------------------------------------------------------------------------- */

#define L0 "model.layers.0."

static void test_mixed(void)
{
    planned o;
    if (!open_job(&o, "arch/qwen3_moe", all_rules[0], MO)) return;
    ok(same(tmb_json_string(tmb_json_get(o.q, "quant_algo")), "MIXED_PRECISION"),
       "mixed: algorithm");
    ok(same(key_of(&o, L0 "mlp.experts"), "NVFP4") &&
           same(key_of(&o, L0 "self_attn.q_proj"), "FP8"),
       "mixed: experts and a Linear have keys");
    ok(same(key_of(&o, L0 "self_attn.qkv_proj"), "FP8"), "mixed: the fused layer has a key");
    ok(!key_of(&o, L0 "mlp.experts.0.gate_proj"),
       "mixed: no key for each expert where none is needed");
    int layers = o.j.model->n_layers;
    ok((int)tmb_json_size(tmb_json_get(o.q, "ignore")) == layers + 1 &&
           listed(tmb_json_get(o.q, "ignore"), "lm_head") &&
           listed(tmb_json_get(o.q, "ignore"), L0 "mlp.gate"),
       "mixed: the routers and lm_head are excluded, nothing else");
    ok(same(tmb_json_string(tmb_json_get(o.f, "kv_cache_quant_algo")), "FP8") &&
           tmb_json_is_object(tmb_json_get(o.q, "kv_cache_scheme")),
       "FP8 KV cache is declared in both files");
    const tmb_out *k = out_of(&o, L0 "self_attn.k_proj.k_scale");
    const tmb_out *v = out_of(&o, L0 "self_attn.v_proj.v_scale");
    ok(k && v && k->rank == 0 && k->dtype == TMB_F32 && k->value == 1.0f && v->value == 1.0f,
       "KV scales stand under their projections");
    close_job(&o);
    if (!open_job(&o, "arch/qwen3_moe", all_rules[0], CT)) return;
    k = out_of(&o, L0 "self_attn.k_scale");
    ok(k && k->rank == 1 && k->shape[0] == 1 && out_of(&o, L0 "self_attn.v_scale"),
       "compressed-tensors: KV scales stand under the attention");
    ok(tmb_json_is_object(tmb_json_get(o.q, "kv_cache_scheme")) &&
           same(tmb_json_string(tmb_json_get(o.q, "format")), "mixed-precision"),
       "compressed-tensors: KV scheme, two formats");
    close_job(&o);
    if (!open_job(&o, "arch/qwen3_moe", all_rules[4], MO)) return;
    ok(tmb_json_is_null(tmb_json_get(o.q, "kv_cache_quant_algo")) &&
           tmb_json_is_null(tmb_json_get(o.f, "kv_cache_quant_algo")) &&
           !out_of(&o, L0 "self_attn.k_proj.k_scale"),
       "no KV cache: the key is there and null, no scales");
    close_job(&o);
}

static void test_uniform(void)
{
    planned o;
    if (!open_job(&o, "arch/qwen3_moe", all_rules[1] + strlen("@shared_expert = bf16\n"), MO))
        return;
    ok(same(tmb_json_string(tmb_json_get(o.q, "quant_algo")), "NVFP4") &&
           !tmb_json_get(o.q, "quantized_layers") && tmb_json_int_or(o.q, "group_size", 0) == 16,
       "one format: its algorithm and group, no keys");
    ok(listed(tmb_json_get(o.f, "exclude_modules"), L0 "self_attn.qkv_proj") &&
           listed(tmb_json_get(o.f, "exclude_modules"), L0 "self_attn.q_proj"),
       "one format: kept Linears are excluded under the fused name too");
    close_job(&o);
    if (!open_job(&o, "arch/qwen3_moe", "*experts* = nvfp4-w4a16\n* = bf16\n", MO)) return;
    ok(same(tmb_json_string(tmb_json_get(o.q, "quant_algo")), "MIXED_PRECISION") &&
           same(key_of(&o, L0 "mlp.experts"), "W4A16_NVFP4"),
       "W4A16_NVFP4 alone is written by keys: SGLang reads it no other way");
    close_job(&o);
    if (!open_job(&o, "arch/qwen3_moe", "* = bf16\n", MO)) return;
    ok(!o.q && !o.file, "nothing quantized: no configuration at all");
    close_job(&o);
}

static void test_spellings(void)
{
    planned o;
    if (open_job(&o, "arch/mixtral", all_rules[2], MO)) {
        ok(same(tmb_json_string(tmb_json_get(o.q, "quant_algo")), "NVFP4"), "mixtral: one format");
        close_job(&o);
    }
    if (open_job(&o, "arch/mixtral", "*experts* = nvfp4\n* = fp8\n", MO)) {
        ok(same(key_of(&o, L0 "block_sparse_moe.experts.0.w1"), "NVFP4") &&
               same(key_of(&o, L0 "block_sparse_moe.experts"), "NVFP4"),
           "mixtral: keys for each expert's Linears and for all");
        close_job(&o);
    }
    if (open_job(&o, "arch/minimax_m2", "*experts* = nvfp4\n* = fp8\n", MO)) {
        ok(same(key_of(&o, L0 "block_sparse_moe.experts"), "NVFP4") &&
               same(key_of(&o, L0 "mlp.experts"), "NVFP4"),
           "minimax_m2: the experts' key in both spellings");
        close_job(&o);
    }
    if (open_job(&o, "names/deepseek_v3", all_rules[0], MO)) {
        ok(same(key_of(&o, L0 "self_attn.fused_qkv_a_proj"), "FP8") &&
               same(key_of(&o, L0 "self_attn.fused_qkv_a_proj_with_mqa"), "FP8"),
           "deepseek_v3: both names of the fused latent projection");
        ok(!out_of(&o, L0 "self_attn.k_scale") && !out_of(&o, L0 "self_attn.k_proj.k_scale") &&
               tmb_json_is_object(tmb_json_get(o.q, "kv_cache_scheme")),
           "deepseek_v3: an FP8 KV cache without scales");
        close_job(&o);
    }
    if (open_job(&o, "names/olmoe", "*experts* = nvfp4\n* = fp8\n" KV_FP8, MO)) {
        ok(tmb_json_is_null(tmb_json_get(o.q, "kv_cache_quant_algo")) &&
               !out_of(&o, L0 "self_attn.k_proj.k_scale"),
           "olmoe: no FP8 KV cache, which an engine breaks on");
        close_job(&o);
    }
}

/* Names that look alike: layers, an MTP layer, a vision tower. */
static void test_alike(void)
{
    planned o;
    ct_rules *r = calloc(1, sizeof *r);
    if (r && open_job(&o, "arch/qwen3_moe", all_rules[14], CT) && ct_load(r, o.q)) {
        ok(same(ct_answer(r, "model.layers.0.self_attn.qkv_proj"), "fp8") &&
               same(ct_answer(r, "model.layers.2.mlp.experts.7.w2"), "fp8 by tensor"),
           "layers treated alike: found");
        ok(!ct_answer(r, "model.layers.1.self_attn.qkv_proj") &&
               !ct_answer(r, "language_model.model.layers.1.mlp.experts.0.up_proj"),
           "layers treated differently: kept under each name");
        ok(same(ct_answer(r, "model.layers.10.self_attn.q_proj"), REFUSED) &&
               same(ct_answer(r, "model.layers.20.mlp.experts.0.w1"), REFUSED) &&
               same(ct_answer(r, "model.layers.02.self_attn.q_proj"), REFUSED),
           "layers are listed: 0 does not take 10");
        ct_free(r);
        close_job(&o);
    }
    if (r && open_job(&o, "names/deepseek_v3", all_rules[0], CT) && ct_load(r, o.q)) {
        char name[256];
        int mtp = o.j.model->n_layers;
        snprintf(name, sizeof name, "model.layers.%d.mlp.experts.0.gate_proj", mtp);
        bool kept = !ct_answer(r, name);
        snprintf(name, sizeof name, "model.layers.%d.self_attn.q_a_proj", mtp);
        kept = kept && !ct_answer(r, name);
        snprintf(name, sizeof name, "model.layers.%d.self_attn.q_a_proj", mtp - 1);
        ok(kept && same(ct_answer(r, name), "fp8"),
           "deepseek_v3: the MTP layer is kept, the last is not");
        ct_free(r);
        close_job(&o);
    }
    if (r && open_job(&o, "arch/llama4_mm", "*experts* = nvfp4\n* = fp8\n", CT) &&
        ct_load(r, o.q)) {
        ok(!ct_answer(r, "vision_model.model.layers.0.self_attn.q_proj") &&
               !ct_answer(r, "vision_model.model.layers.0.self_attn.o_proj"),
           "llama4_mm: the vision tower is kept");
        ok(same(ct_answer(r, "language_model.model.layers.0.self_attn.q_proj"), "fp8") &&
               same(ct_answer(r, "language_model.model.layers.0.self_attn.o_proj"), "fp8"),
           "llama4_mm: the text model's layers of the same names are not");
        ct_free(r);
        close_job(&o);
    }
    free(r);
}

/* ---- refusals and stacks
 * ---------------------------------------------------------------------------- */

/* Rows of 128, which the tiny experts do not have. */
#define INT4 "*kv_a_proj_with_mqa = int4\n*q_a_proj = int4\n"

static void test_refused(void)
{
    static const struct {
        const char *layout, *rules, *words;
        bool refused; /* else warned of */
    } cases[] = {
        {MO, INT4 "* = bf16\n", "no loader reads int4 in the modelopt layout", true},
        {MO, "*experts* = mxfp4\n* = bf16\n", "no loader reads mxfp4 in the modelopt layout", true},
        {MO, "*experts* = nvfp4\n* = fp8-channel\n", "SGLang reads fp8-channel beside other",
         false},
        {MO, "* = fp8-channel\n", "SGLang does not read fp8-channel", false},
        {MO, "* = fp8-block\n", "SGLang 0.5.23 refuses fp8-block", false},
        {CT, "* = fp8-block\n", "SGLang refuses fp8-block", false},
        {CT, "*experts* = mxfp4\n* = bf16\n", "SGLang refuses mxfp4 without", false},
        {CT, "* = mxfp8\n", "SGLang refuses mxfp8", false},
        {CT, INT4 "* = fp8\n", "SGLang reads int4 experts only when", false},
        {CT, "*experts* = nvfp4-w4a16\n* = bf16\n", "SGLang before 0.5.23 reads", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        job j;
        bool said = false;
        tmb_plan_options options = {.layout = cases[i].layout};
        tmb_status status = job_open(&j, in_root("deepseek_v32"), cases[i].rules, &options);
        for (uint32_t w = 0; !status && w < j.plan->n_warnings; w++)
            said = said || strstr(j.plan->warnings[w], cases[i].words) != NULL;
        if (status)
            said = strstr(j.err.message, cases[i].words) &&
                   strncmp(j.err.message, "test.ini:4:", 11) == 0;
        ok(said && status == (cases[i].refused ? TMB_EUSAGE : TMB_OK), "%s: %s", cases[i].layout,
           cases[i].words);
        if (!said) printf("# %d %s\n", status, j.err.message);
        job_close(&j);
    }
    planned o;
    if (open_job(&o, "names/deepseek_v3", "* = fp8\n", CT)) {
        bool said = false;
        for (uint32_t w = 0; w < o.j.plan->n_warnings; w++)
            said = said || strstr(o.j.plan->warnings[w], "q_a_proj and kv_a_proj_with_mqa");
        ok(said, "one scale a tensor for fused latent projections is warned of");
        close_job(&o);
    }
}

static const tmb_spelled *spelled_of(const planned *o, const char *name, tmb_part part,
                                     tmb_arena *arena)
{
    static tmb_spelled parts[TMB_PARTS];
    const tmb_unit *unit = tmb_model_find(o->j.model, name);
    if (!unit) return NULL;
    int n = o->j.plan->layout->spell(
        &o->j.plan->job, unit, spec_of(&o->j, (uint32_t)(unit - o->j.model->units)), arena, parts);
    for (int i = 0; i < n; i++)
        if (parts[i].part == part) return &parts[i];
    return NULL;
}

/* gpt-oss lies [E, in, out] with gate and up alternating: in the ModelOpt layout it stays so. */
static void test_stacked(void)
{
    static const char rules[] = "*experts* = nvfp4\n* = bf16\n";
    tmb_arena arena = {0};
    planned o;
    if (open_job(&o, "arch/gpt_oss", rules, MO)) {
        const tmb_unit *up = tmb_model_find(o.j.model, L0 "mlp.experts.1.up_proj");
        const tmb_spelled *s = spelled_of(&o, L0 "mlp.experts.1.up_proj", TMB_PART_CODES, &arena);
        uint64_t in = up ? up->in : 0, out = up ? up->out : 0;
        ok(s && same(s->name, L0 "mlp.experts.gate_up_proj") && s->rank == 3 &&
               s->dtype == TMB_U8 && s->shape[0] == (uint64_t)o.j.model->n_experts &&
               s->shape[1] == in / 2 && s->shape[2] == 2 * out,
           "gpt_oss, modelopt: codes stay in their stack");
        ok(s && s->base == in / 2 * 2 * out + 1 && s->row_stride == 2 && s->col_stride == 2 * out,
           "gpt_oss, modelopt: an expert's up rows alternate with its gate's");
        s = spelled_of(&o, L0 "mlp.experts.1.up_proj", TMB_PART_SCALE, &arena);
        ok(s && same(s->name, L0 "mlp.experts.gate_up_proj_weight_scale") && s->rank == 3 &&
               s->shape[1] == in / 16 && s->shape[2] == 2 * out && s->base == in / 16 * 2 * out + 1,
           "gpt_oss, modelopt: scales lie as the codes do");
        s = spelled_of(&o, L0 "mlp.experts.1.up_proj", TMB_PART_GLOBAL, &arena);
        ok(s && same(s->name, L0 "mlp.experts.gate_up_proj_weight_scale_2") && s->rank == 0,
           "gpt_oss, modelopt: one number for the whole stack");
        ok(out_of(&o, L0 "mlp.experts.down_proj_weight_scale") &&
               !out_of(&o, L0 "mlp.experts.0.down_proj.weight"),
           "gpt_oss, modelopt: no experts of their own in the files");
        close_job(&o);
    }
    if (open_job(&o, "arch/gpt_oss", rules, CT)) {
        ok(out_of(&o, L0 "mlp.experts.1.up_proj.weight_packed") &&
               out_of(&o, L0 "mlp.experts.0.down_proj.weight_global_scale") &&
               !out_of(&o, L0 "mlp.experts.gate_up_proj"),
           "gpt_oss, compressed-tensors: the stack becomes experts");
        close_job(&o);
    }
    if (open_job(&o, "arch/qwen3_5_moe", rules, MO)) {
        ok(out_of(&o, "model.language_model.layers.0.mlp.experts.1.up_proj.weight_scale_2") &&
               !out_of(&o, "model.language_model.layers.0.mlp.experts.gate_up_proj"),
           "qwen3_5_moe, modelopt: the stack becomes experts");
        close_job(&o);
    }
    tmb_arena_free(&arena);
}

int main(void)
{
    make_root();
    test_all();
    test_mixed();
    test_uniform();
    test_spellings();
    test_alike();
    test_refused();
    test_stacked();
    remove_tree(root);
    return done();
}
