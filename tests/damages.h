/* damages.h - what can be wrong with a quantized checkpoint, one damage at a time, each with the
 * word under which verify must find it.  The base is a small Qwen3-MoE of 3 layers and 16 experts
 * in either layout. */
#ifndef DAMAGES_H
#define DAMAGES_H

#include "tests/ckpt_edit.h"

#include <math.h>

#define L0 "model.layers.0."
#define E3 "model.layers.1.mlp.experts.3."

typedef struct {
    edit *e;
    bool ct;
} job;

typedef struct {
    const char *word, *what;
    void (*damage)(job *j);
    int layouts; /* 1 ModelOpt, 2 compressed-tensors, 3 both */
} damage_case;

/* --- names that differ between the layouts -------------------------------------------------- */

static const char *name(const job *j, const char *module, const char *part)
{
    static char text[2][256];
    static int turn;
    turn = !turn;
    if (strcmp(part, "codes") == 0) part = j->ct ? "weight_packed" : "weight";
    if (strcmp(part, "global") == 0) part = j->ct ? "weight_global_scale" : "weight_scale_2";
    if (strcmp(part, "input") == 0) part = j->ct ? "input_global_scale" : "input_scale";
    snprintf(text[turn], sizeof text[turn], "%s%s", module, part);
    return text[turn];
}

static edit_tensor *get(job *j, const char *module, const char *part)
{
    return edit_find(j->e, name(j, module, part));
}

static void set_f32(edit_tensor *t, float value)
{
    if (t->dtype == TMB_BF16) {
        uint32_t bits;
        memcpy(&bits, &value, 4);
        uint16_t high = (uint16_t)(bits >> 16);
        for (size_t i = 0; i < t->bytes / 2; i++)
            memcpy(t->data + 2 * i, &high, 2);
    } else {
        for (size_t i = 0; i < t->bytes / 4; i++)
            memcpy(t->data + 4 * i, &value, 4);
    }
}

static float get_f32(const edit_tensor *t)
{
    float value = 0;
    if (t->bytes >= 4) memcpy(&value, t->data, 4);
    return value;
}

static void drop(job *j, const char *module, const char *part)
{
    edit_drop(j->e, name(j, module, part));
}

/* --- configuration ---------------------------------------------------------------------------- */

static tmb_json *config_of(job *j)
{
    return (tmb_json *)tmb_json_get(j->e->config, "quantization_config");
}

static tmb_json *hf_of(job *j)
{
    return (tmb_json *)tmb_json_get(j->e->hf, "quantization");
}

static tmb_json *algo(const char *text)
{
    tmb_json *entry = tmb_json_new_object();
    tmb_json_set(entry, "quant_algo", tmb_json_new_string(text));
    return entry;
}

/* The same entry in both files. */
static void set_layer(job *j, const char *key, const char *text)
{
    tmb_json_set((tmb_json *)tmb_json_get(config_of(j), "quantized_layers"), key, algo(text));
    tmb_json_set((tmb_json *)tmb_json_get(hf_of(j), "quantized_layers"), key, algo(text));
}

static void exclude(job *j, const char *entry)
{
    tmb_json_append((tmb_json *)tmb_json_get(config_of(j), "ignore"), tmb_json_new_string(entry));
    if (j->ct) return;
    tmb_json *list = tmb_json_new_array();
    tmb_json_append(list, tmb_json_new_string(entry));
    tmb_json_set(hf_of(j), "exclude_modules", list);
}

static tmb_json *group_of(job *j, const char *group, const char *part)
{
    const tmb_json *g = tmb_json_get(tmb_json_get(config_of(j), "config_groups"), group);
    return (tmb_json *)(part ? tmb_json_get(g, part) : g);
}

static void retarget(job *j, const char *group, const char *pattern)
{
    tmb_json *list = tmb_json_new_array();
    tmb_json_append(list, tmb_json_new_string(pattern));
    tmb_json_set(group_of(j, group, NULL), "targets", list);
}

/* --- damages ------------------------------------------------------------------------------------
 */

static void expert_missing(job *j)
{
    edit_drop_all(j->e, E3);
}
static void expert_renumbered(job *j)
{
    for (size_t i = 0; i < j->e->n; i++) {
        char *n = j->e->t[i].name;
        if (strncmp(n, E3, strlen(E3)) != 0) continue;
        char text[256];
        snprintf(text, sizeof text, "model.layers.1.mlp.experts.16.%s", n + strlen(E3));
        free(n);
        j->e->t[i].name = strdup(text);
    }
}
static void expert_incomplete(job *j)
{
    edit_drop_all(j->e, E3 "down_proj.");
}
static void down_missing_everywhere(job *j)
{
    char text[128];
    for (int e = 0; e < 16; e++) {
        snprintf(text, sizeof text, "model.layers.1.mlp.experts.%d.down_proj.", e);
        edit_drop_all(j->e, text);
    }
}
static void block_missing(job *j)
{
    drop(j, E3 "up_proj.", "weight_scale");
}
static void codes_missing(job *j)
{
    drop(j, E3 "up_proj.", "codes");
}
static void global_missing(job *j)
{
    drop(j, E3 "up_proj.", "global");
}
static void input_missing(job *j)
{
    drop(j, E3 "up_proj.", "input");
}
static void inputs_missing(job *j)
{
    for (size_t i = j->e->n; i-- > 0;) {
        char *n = j->e->t[i].name;
        if (strstr(n, ".experts.") && strstr(n, ".input_")) edit_drop(j->e, n);
    }
}
static void fp8_scale_missing(job *j)
{
    drop(j, L0 "self_attn.o_proj.", "weight_scale");
}
static void fp8_input_missing(job *j)
{
    drop(j, L0 "self_attn.o_proj.", "input_scale");
}
static void router_missing(job *j)
{
    drop(j, L0 "mlp.gate.", "weight");
}

static void block_zero(job *j)
{
    get(j, E3 "up_proj.", "weight_scale")->data[5] = 0;
}
static void block_nan(job *j)
{
    get(j, E3 "up_proj.", "weight_scale")->data[5] = 0x7f;
}
static void block_negative(job *j)
{
    get(j, E3 "up_proj.", "weight_scale")->data[5] |= 0x80;
}
static void global_zero(job *j)
{
    set_f32(get(j, E3 "down_proj.", "global"), 0);
}
static void global_nan(job *j)
{
    set_f32(get(j, E3 "down_proj.", "global"), NAN);
}
static void global_inf(job *j)
{
    set_f32(get(j, E3 "down_proj.", "global"), INFINITY);
}
static void global_negative(job *j)
{
    set_f32(get(j, E3 "down_proj.", "global"), -1);
}
static void input_zero(job *j)
{
    set_f32(get(j, E3 "down_proj.", "input"), 0);
}
static void input_nan(job *j)
{
    set_f32(get(j, E3 "down_proj.", "input"), NAN);
}
static void fp8_zero(job *j)
{
    set_f32(get(j, L0 "self_attn.o_proj.", "weight_scale"), 0);
}
static void fp8_nan(job *j)
{
    set_f32(get(j, L0 "self_attn.o_proj.", "weight_scale"), NAN);
}
static void fp8_input_zero(job *j)
{
    set_f32(get(j, L0 "self_attn.o_proj.", "input_scale"), 0);
}
static void code_nan(job *j)
{
    get(j, L0 "self_attn.o_proj.", "weight")->data[77] = 0xff;
}
static void norm_nan(job *j)
{
    set_f32(edit_find(j->e, "model.norm.weight"), NAN);
}

static void gate_up_global(job *j)
{
    edit_tensor *t = get(j, E3 "up_proj.", "global");
    set_f32(t, get_f32(t) * 1.25f);
}
static void gate_up_input(job *j)
{
    edit_tensor *t = get(j, E3 "up_proj.", "input");
    set_f32(t, get_f32(t) * 1.25f);
}
static void inverted(job *j)
{
    for (size_t i = 0; i < j->e->n; i++)
        if (strstr(j->e->t[i].name, j->ct ? ".weight_global_scale" : ".weight_scale_2"))
            set_f32(&j->e->t[i], 1 / get_f32(&j->e->t[i]));
}
static void inverted_one(job *j)
{
    edit_tensor *t = get(j, E3 "down_proj.", "global");
    set_f32(t, 1 / get_f32(t));
}
static void fp8_inverted(job *j)
{
    edit_tensor *t = get(j, L0 "self_attn.o_proj.", "weight_scale");
    set_f32(t, 1 / get_f32(t));
}

static void recast(job *j, const char *module, const char *part, tmb_dtype dtype)
{
    edit_tensor *t = get(j, module, part);
    uint64_t a = t->shape[0], b = t->shape[1];
    char text[256];
    snprintf(text, sizeof text, "%s", t->name ? t->name : "");
    edit_tensor *fresh = edit_recast(j->e, text, dtype, 2, a, b);
    memset(fresh->data, 0x3c, fresh->bytes);
}
static void block_bf16(job *j)
{
    recast(j, E3 "up_proj.", "weight_scale", TMB_BF16);
}
static void block_u8(job *j)
{
    recast(j, E3 "up_proj.", "weight_scale", TMB_U8);
}
static void packed_i8(job *j)
{
    recast(j, E3 "up_proj.", "codes", TMB_I8);
}
static void fp8_bf16(job *j)
{
    recast(j, L0 "self_attn.o_proj.", "weight", TMB_BF16);
}
static void fp8_e5m2(job *j)
{
    recast(j, L0 "self_attn.o_proj.", "weight", TMB_F8_E5M2);
}
static void router_fp8(job *j)
{
    recast(j, L0 "mlp.gate.", "weight", TMB_F8_E4M3);
}
static void global_bf16(job *j)
{
    edit_recast(j->e, name(j, E3 "down_proj.", "global"), TMB_BF16, 1, 1, 0);
    set_f32(get(j, E3 "down_proj.", "global"), 0.01f);
}
static void group_32(job *j)
{
    edit_tensor *t = edit_recast(j->e, E3 "up_proj.weight_scale", TMB_F8_E4M3, 2, 32, 2);
    memset(t->data, 0x60, t->bytes);
}
static void transposed_codes(job *j)
{
    edit_tensor *t = get(j, E3 "up_proj.", "codes");
    uint64_t a = t->shape[0];
    t->shape[0] = t->shape[1] / 2; /* not square, or there is nothing to see */
    t->shape[1] = a * 2;
}
static void transposed_fp8(job *j)
{
    edit_tensor *t = get(j, L0 "self_attn.o_proj.", "weight");
    uint64_t a = t->shape[0];
    t->shape[0] = t->shape[1];
    t->shape[1] = a;
}
static void unpacked(job *j)
{
    edit_tensor *t = get(j, E3 "up_proj.", "codes");
    edit_recast(j->e, name(j, E3 "up_proj.", "codes"), TMB_U8, 2, t->shape[0], t->shape[1] * 2);
}
static void vector_global(job *j)
{
    edit_recast(j->e, name(j, E3 "up_proj.", "global"), TMB_F32, 1, 32, 0);
    set_f32(get(j, E3 "up_proj.", "global"), 0.5f);
}

static const char *kv(const job *j, char c)
{
    static char text[128];
    if (j->ct)
        snprintf(text, sizeof text, L0 "self_attn.%c_scale", c);
    else
        snprintf(text, sizeof text, L0 "self_attn.%c_proj.%c_scale", c, c);
    return text;
}
static void kv_half(job *j)
{
    edit_drop(j->e, kv(j, 'k'));
}
static void kv_missing(job *j)
{
    edit_drop(j->e, kv(j, 'k'));
    edit_drop(j->e, kv(j, 'v'));
}
static void kv_all_missing(job *j)
{
    for (size_t i = j->e->n; i-- > 0;)
        if (strstr(j->e->t[i].name, ".k_scale") || strstr(j->e->t[i].name, ".v_scale"))
            edit_drop(j->e, j->e->t[i].name);
}
static void kv_zero(job *j)
{
    set_f32(edit_find(j->e, kv(j, 'k')), 0);
}
static void kv_nan(job *j)
{
    set_f32(edit_find(j->e, kv(j, 'v')), NAN);
}
static void kv_vector(job *j)
{
    edit_recast(j->e, kv(j, 'k'), TMB_F32, 1, 4, 0);
    set_f32(edit_find(j->e, kv(j, 'k')), 1);
}
static void kv_undeclared(job *j)
{
    tmb_json_set(config_of(j), "kv_cache_scheme", tmb_json_new_null());
    if (!j->ct) tmb_json_set(hf_of(j), "kv_cache_quant_algo", tmb_json_new_null());
}
static void kv_on_mla(job *j)
{
    edit_add(j->e, L0 "self_attn.kv_b_proj.weight", TMB_BF16, 2, 8, 8, 0);
}

static void leftover_amax(job *j)
{
    set_f32(edit_add(j->e, L0 "self_attn.q_proj.weight_quantizer._amax", TMB_F32, 1, 1, 0, 0), 1);
}
static void leftover_input_amax(job *j)
{
    set_f32(edit_add(j->e, E3 "up_proj.input_quantizer._amax", TMB_F32, 1, 1, 0, 0), 1);
}
static void leftover_scale(job *j)
{
    set_f32(edit_add(j->e, L0 "self_attn.q_proj.output_scale", TMB_F32, 1, 1, 0, 0), 1);
}
static void foreign_part(job *j)
{
    set_f32(edit_add(j->e, j->ct ? E3 "up_proj.weight_scale_2" : E3 "up_proj.weight_global_scale",
                     TMB_F32, 1, 1, 0, 0),
            1);
}
static void fused_names(job *j)
{
    edit_drop_all(j->e, L0 "mlp.experts.");
    edit_add(j->e, L0 "mlp.experts.gate_up_proj", TMB_U8, 3, 16, 64, 32);
    edit_add(j->e, L0 "mlp.experts.down_proj", TMB_U8, 3, 16, 64, 16);
    edit_tensor *t =
        edit_add(j->e, L0 "mlp.experts.gate_up_proj_weight_scale", TMB_F8_E4M3, 3, 16, 64, 4);
    memset(t->data, 0x40, t->bytes);
    t = edit_add(j->e, L0 "mlp.experts.down_proj_weight_scale", TMB_F8_E4M3, 3, 16, 64, 2);
    memset(t->data, 0x40, t->bytes);
}
static void gate_bf16(job *j)
{
    edit_drop_all(j->e, E3 "gate_proj.");
    edit_tensor *t = edit_add(j->e, E3 "gate_proj.weight", TMB_BF16, 2, 32, 64, 0);
    memset(t->data, 0x3c, t->bytes);
}

#endif
