/* model_config.c - the keys of config.json that the computation depends on. */
#include "config.h"
#include "moe/infer/model_config.h"
#include "moe/infer/keys.h"
#include "moe/infer/ple.h"
#include "moe/infer/rope.h"
#include "moe/model/dims.h"

#include <math.h>
#include <string.h>

/* No model comes near them; a hostile file must not make us reckon with more. */
enum { WIDTH_MAX = 1 << 20, HEADS_MAX = 1 << 14, LAYERS_MAX = 1 << 14, POSITIONS_MAX = 1 << 30 };

static size_t width(tmb_keys *k, const char *key, int64_t otherwise)
{
    return (size_t)tmb_key_integer(k, key, 1, WIDTH_MAX, otherwise);
}

static void read_heads(tmb_config *c, tmb_keys *k)
{
    c->heads = (size_t)tmb_key_integer(k, "num_attention_heads", 1, HEADS_MAX, -1);
    c->kv_heads =
        (size_t)tmb_key_integer(k, "num_key_value_heads", 1, HEADS_MAX, (int64_t)c->heads);
    if (c->rules->attention == TMB_ATTENTION_MLA) {
        c->q_rank = (size_t)tmb_key_integer(k, "q_lora_rank", 0, WIDTH_MAX, 0);
        c->kv_rank = width(k, "kv_lora_rank", -1);
        c->nope_dim = width(k, "qk_nope_head_dim", -1);
        c->rope_dim = width(k, "qk_rope_head_dim", -1);
        c->v_dim = width(k, "v_head_dim", -1);
        c->head_dim = c->nope_dim + c->rope_dim;
        c->kv_heads = c->heads;
        return;
    }
    if (c->rules->attention == TMB_ATTENTION_COMPRESSED) {
        c->q_rank = width(k, "q_lora_rank", -1);
        c->rope_dim = width(k, "qk_rope_head_dim", -1);
        c->out_groups = (size_t)tmb_key_integer(k, "o_groups", 1, HEADS_MAX, -1);
        c->out_rank = width(k, "o_lora_rank", -1);
        if (!k->status && (c->kv_heads != 1 || c->heads % c->out_groups))
            tmb_keys_fail(k, TMB_EDATA, c->kv_heads != 1 ? "num_key_value_heads" : "o_groups",
                          c->kv_heads != 1 ? "must be 1, not %zu" : "%zu do not divide the heads",
                          c->kv_heads != 1 ? c->kv_heads : c->out_groups);
    }
    c->head_dim = width(k, "head_dim", c->hidden < c->heads ? 1 : (int64_t)(c->hidden / c->heads));
    c->v_dim = c->head_dim;
    c->output_gate = tmb_key_switch(k, &c->rules->output_gate);
    if (c->heads % c->kv_heads)
        tmb_keys_fail(k, TMB_EDATA, "num_key_value_heads", "%zu does not divide the %zu heads",
                      c->kv_heads, c->heads);
}

/* Values of keys that the computation is written for; another one is another computation. */
static void expect(tmb_keys *k, const char *key, const char *const *known)
{
    const char *text = tmb_key_text(k, key);
    if (!text) return;
    for (int i = 0; known[i]; i++)
        if (!strcmp(text, known[i])) return;
    tmb_keys_fail(k, TMB_EUNAVAILABLE, key, "'%.60s' is not run yet; %s%s%s", text, known[0],
                  known[1] ? " and " : "", known[1] ? known[1] : " is");
}

static void read_groups(tmb_config *c, tmb_keys *k)
{
    c->groups = c->top_groups = 1;
    if (c->rules->groups == TMB_GROUPS_NONE) return;
    if (c->rules->groups == TMB_GROUPS_MAX) {
        const char *method = tmb_key_text(k, "topk_method");
        expect(k, "topk_method", (const char *const[]){"greedy", "group_limited_greedy", NULL});
        if (!method || strcmp(method, "group_limited_greedy") != 0) return;
    } else {
        expect(k, "topk_method", (const char *const[]){"noaux_tc", NULL});
    }
    c->groups = (size_t)tmb_key_integer(k, "n_group", 1, (int64_t)c->n_experts, 1);
    c->top_groups =
        (size_t)tmb_key_integer(k, "topk_group", 1, (int64_t)c->groups, (int64_t)c->groups);
    size_t group = c->n_experts / c->groups;
    if (c->n_experts % c->groups ||
        (c->rules->groups == TMB_GROUPS_TOP2 && c->groups > 1 && group < 2))
        tmb_keys_fail(k, TMB_EDATA, "n_group", "%zu experts do not make %zu groups", c->n_experts,
                      c->groups);
    else if (group * c->top_groups < c->top_k)
        tmb_keys_fail(k, TMB_EDATA, "topk_group",
                      "%zu groups of %zu experts cannot give %zu a token", c->top_groups, group,
                      c->top_k);
}

static void read_routing(tmb_config *c, tmb_keys *k, const tmb_model *model)
{
    const tmb_arch_forward *r = c->rules;
    c->n_experts = (size_t)model->n_experts;
    c->top_k = (size_t)model->top_k;
    if (!c->n_experts)
        tmb_keys_fail(k, TMB_EDATA, "num_experts", "missing; the forward pass needs it");
    if (!c->top_k || c->top_k > c->n_experts)
        tmb_keys_fail(k, TMB_EDATA, "num_experts_per_tok",
                      "must be an integer from 1 to the %zu experts", c->n_experts);
    if (k->status) return;
    const char *score = r->routing == TMB_ROUTING_SIGMOID    ? "sigmoid"
                        : r->routing == TMB_ROUTING_SOFTPLUS ? "sqrtsoftplus"
                                                             : "softmax";
    expect(k, "scoring_func", (const char *const[]){score, NULL});
    if (r->activation == TMB_ACTIVATION_RELU2)
        expect(k, "mlp_hidden_act", (const char *const[]){"relu2", NULL});
    else if (r->block_indexer)
        expect(k, "hidden_act", (const char *const[]){"swigluoai", "silu", NULL});
    else
        expect(k, "hidden_act", (const char *const[]){"silu", "swish", NULL});
    c->swiglu_alpha = (float)tmb_key_number(k, "swiglu_alpha", -1e6, 1e6, 1.702);
    if (r->latent_key) c->latent = (size_t)tmb_key_integer(k, r->latent_key, 0, WIDTH_MAX, 0);
    c->expert_in = c->latent ? c->latent : c->hidden;
    read_groups(c, k);
    c->renormalize = tmb_key_switch(k, &r->renormalize);
    c->routed_scale =
        r->scaled ? (float)tmb_key_number(k, "routed_scaling_factor", 0, 1e6, r->scale) : 1;
    if (r->activation == TMB_ACTIVATION_CLAMPED || r->activation == TMB_ACTIVATION_LIMITED)
        c->swiglu_limit = (float)tmb_key_number(k, "swiglu_limit", 0, 1e6, 7);
}

/* Whether layer i of GLM-5 has an indexer of its own: indexer_types, else index_topk_pattern, else
 * every index_topk_freq-th layer behind index_skip_topk_offset (transformers 5.17,
 * GlmMoeDsaConfig). */
static void read_shared_index(tmb_config *c, tmb_keys *k)
{
    const tmb_json *types = tmb_key_list(k, "indexer_types", (size_t)c->layers);
    const char *pattern = types ? NULL : tmb_key_text(k, "index_topk_pattern");
    int64_t turn = tmb_key_integer(k, "index_topk_freq", 0, LAYERS_MAX, 1);
    int64_t offset = tmb_key_integer(k, "index_skip_topk_offset", 0, LAYERS_MAX, 2);
    if (pattern && strlen(pattern) < (size_t)c->layers)
        tmb_keys_fail(k, TMB_EDATA, "index_topk_pattern", "must have a letter for each layer");
    for (int i = 0; !k->status && i < c->layers; i++) {
        const char *type = tmb_json_string(tmb_json_at(types, (size_t)i));
        int64_t at = i - offset + 1 > 0 ? i - offset + 1 : 0;
        c->layer[i].indexes = types     ? type && !strcmp(type, "full")
                              : pattern ? pattern[i] == 'F'
                                        : at % (turn > 1 ? turn : 1) == 0;
        if (!c->layer[i].indexes) c->hands_seen = true;
        if (!i && !c->layer[i].indexes)
            tmb_keys_fail(k, TMB_EDATA, types ? "indexer_types" : "index_topk_pattern",
                          "the first layer must have an indexer of its own");
    }
}

/* MiniMax-M3: sparse_attention_config, or the keys that transformers makes of it. */
static void read_block_index(tmb_config *c, tmb_keys *k)
{
    const tmb_json *told = tmb_json_get(k->in, "sparse_attention_config");
    tmb_keys own = {.in = told, .file = k->file, .err = k->err, .status = k->status};
    tmb_keys *s = tmb_json_is_object(told) ? &own : k;
    bool old = s == &own;
    const tmb_json *freq = old ? tmb_key_list(s, "sparse_attention_freq", (size_t)c->layers)
                               : tmb_key_list(s, "layer_types", (size_t)c->layers);
    const tmb_json *off =
        old ? tmb_key_list(s, "sparse_disable_index_value", (size_t)c->layers) : NULL;
    bool any = !old || tmb_key_bool(s, "use_sparse_attention", true);
    for (int i = 0; any && freq && i < c->layers; i++) {
        const tmb_json *at = tmb_json_at(freq, (size_t)i);
        const char *type = tmb_json_string(at);
        int64_t on = type ? strcmp(type, "full_attention") != 0 : 0, no_value = 1;
        if (!type) tmb_json_integer(at, &on);
        if (off) tmb_json_integer(tmb_json_at(off, (size_t)i), &no_value);
        c->layer[i].indexes = on != 0;
        if (on && !no_value)
            tmb_keys_fail(s, TMB_EUNAVAILABLE, "sparse_disable_index_value",
                          "0 in layer %d: an indexer that also gives values is not run yet", i);
    }
    c->index.heads = (size_t)tmb_key_integer(s, old ? "sparse_num_index_heads" : "index_n_heads", 1,
                                             HEADS_MAX, 4);
    c->index.dim = width(s, old ? "sparse_index_dim" : "index_head_dim", 128);
    c->index.block = width(s, old ? "sparse_block_size" : "index_block_size", 128);
    c->index.keep = width(s, old ? "sparse_topk_blocks" : "index_topk_blocks", 16);
    c->index.local = (size_t)tmb_key_integer(s, old ? "sparse_local_block" : "index_local_blocks",
                                             0, WIDTH_MAX, 1);
    if (tmb_key_integer(s, "sparse_init_block", 0, WIDTH_MAX, 0))
        tmb_keys_fail(s, TMB_EUNAVAILABLE, "sparse_init_block",
                      "first blocks that are always seen are not run yet");
    expect(s, "sparse_score_type", (const char *const[]){"max", NULL});
    if (!s->status && c->index.heads != c->kv_heads)
        tmb_keys_fail(s, TMB_EUNAVAILABLE, "sparse_num_index_heads",
                      "%zu for %zu key heads is not run yet; one for each is", c->index.heads,
                      c->kv_heads);
    if (!s->status && c->rope.dims > c->index.dim)
        tmb_keys_fail(s, TMB_EDATA, old ? "sparse_index_dim" : "index_head_dim",
                      "%zu dimensions of a head turn", c->rope.dims);
    k->status = s->status;
}

/* DeepSeek-V4: compress_ratios, 0 for a window alone; which windows overlap and have an indexer is
 * seen in the tensors. */
static void read_compressed(tmb_config *c, tmb_keys *k)
{
    const tmb_json *ratios = tmb_key_list(k, "compress_ratios", (size_t)c->layers);
    int64_t hashed = c->rules->hash ? tmb_key_integer(k, "num_hash_layers", 0, LAYERS_MAX, 0) : 0;
    c->window = (size_t)tmb_key_integer(k, "sliding_window", 1, POSITIONS_MAX, -1);
    c->index.heads = (size_t)tmb_key_integer(k, "index_n_heads", 1, HEADS_MAX, 64);
    c->index.dim = width(k, "index_head_dim", 128);
    c->index.keep = (size_t)tmb_key_integer(k, "index_topk", 1, POSITIONS_MAX, 512);
    if (!ratios)
        tmb_keys_fail(k, TMB_EDATA, "compress_ratios", "missing; the forward pass needs it");
    for (int i = 0; ratios && i < c->layers; i++) {
        int64_t ratio = -1;
        if (!tmb_json_integer(tmb_json_at(ratios, (size_t)i), &ratio) || ratio < 0 ||
            ratio > WIDTH_MAX)
            tmb_keys_fail(k, TMB_EDATA, "compress_ratios", "must be integers from 0 to %d",
                          WIDTH_MAX);
        c->layer[i].ratio = ratio > 0 ? (size_t)ratio : 0;
        c->layer[i].second = ratio > 0;
        c->layer[i].view = TMB_VIEW_WINDOW;
        c->layer[i].hashed = i < hashed;
        c->hands_id |= i < hashed;
    }
    tmb_rope_read(c, &c->second_rope, k, c->rope_dim,
                  &(tmb_rope_told){.theta = "compress_rope_theta", .usual = 1.6e5, .even = true});
    if (!k->status && (c->rope_dim > c->head_dim || c->rope_dim > c->index.dim))
        tmb_keys_fail(k, TMB_EDATA, "qk_rope_head_dim", "%zu is more than a head has", c->rope_dim);
}

/* Qwen4: attention layers choose blocks by their mean. */
static void read_pool_index(tmb_config *c, tmb_keys *k)
{
    int64_t budget = tmb_key_integer(k, "indexer_budget", 1, POSITIONS_MAX, -1);
    c->index.heads = (size_t)tmb_key_integer(k, "indexer_n_heads", 1, HEADS_MAX, -1);
    c->index.dim = width(k, "indexer_head_dim", -1);
    c->index.block = width(k, "indexer_compress_ratio", -1);
    c->index.keep = (size_t)budget / c->index.block;
    if (tmb_key_integer(k, "indexer_kv_heads", 1, HEADS_MAX, 1) != 1)
        tmb_keys_fail(k, TMB_EUNAVAILABLE, "indexer_kv_heads", "more than one is not run yet");
    if (!k->status && c->rope.dims > c->index.dim)
        tmb_keys_fail(k, TMB_EDATA, "indexer_head_dim", "%zu dimensions of a head turn",
                      c->rope.dims);
    for (int i = 0; i < c->layers; i++)
        c->layer[i].indexes = c->layer[i].kind == TMB_LAYER_ATTENTION;
}

/* Qwen4: which layers add n-grams, counted from 1. */
static void read_grams(tmb_config *c, tmb_keys *k)
{
    const tmb_json *ids = tmb_key_list(k, "ple_layer_ids", 1);
    const tmb_json *eos = tmb_json_get(k->in, "eos_token_id");
    size_t n = ids ? tmb_json_size(ids) : 0;
    for (size_t i = 0; i < n; i++) {
        int64_t layer = 0;
        if (!tmb_json_integer(tmb_json_at(ids, i), &layer) || layer < 1 || layer > c->layers ||
            c->layer[layer - 1].kind != TMB_LAYER_DELTA)
            tmb_keys_fail(k, TMB_EDATA, "ple_layer_ids",
                          "must be numbers from 1 of layers with linear attention");
        else
            c->layer[layer - 1].grams = true;
    }
    if (!n || k->status) return;
    c->hands_id = true;
    c->gram_size = (size_t)tmb_key_integer(k, "ngram_size", 2, TMB_GRAM_MAX, 3);
    c->gram_heads = (size_t)tmb_key_integer(k, "heads_per_ngram", 1, HEADS_MAX, 8);
    c->gram_width = width(k, "ple_embed_dim", (int64_t)c->hidden);
    c->gram_taps = (size_t)tmb_key_integer(k, "ple_conv_kernel_size", 1, 1024, 4);
    c->gram_shards = (size_t)tmb_key_integer(k, "split_ngram_parts", 1, WIDTH_MAX, 512);
    if (tmb_json_is_array(eos)) eos = tmb_json_at(eos, 0);
    if (!tmb_json_integer(eos, &c->eos) || c->eos < 0)
        tmb_keys_fail(k, TMB_EDATA, "eos_token_id", "must be an id; n-grams end there");
    if (!k->status && c->gram_width % ((c->gram_size - 1) * c->gram_heads))
        tmb_keys_fail(k, TMB_EDATA, "ple_embed_dim", "%zu is not divisible by the %zu heads",
                      c->gram_width, (c->gram_size - 1) * c->gram_heads);
}

static void read_streams(tmb_config *c, tmb_keys *k)
{
    c->streams = 1;
    if (c->rules->streams == TMB_STREAMS_HYPER) {
        c->streams = (size_t)tmb_key_integer(k, "hc_count", 1, 64, 4);
        c->stream_rank = width(k, "hc_lowrank", 320);
    }
    if (c->rules->streams != TMB_STREAMS_MANIFOLD) return;
    c->streams = (size_t)tmb_key_integer(k, "hc_mult", 1, 64, 4);
    c->rounds = (int)tmb_key_integer(k, "hc_sinkhorn_iters", 1, 1000, 20);
    c->stream_eps = (float)tmb_key_number(k, "hc_eps", 0, 1, 1e-6);
}

static void read_index(tmb_config *c, tmb_keys *k)
{
    if (c->rules->attention == TMB_ATTENTION_COMPRESSED) read_compressed(c, k);
    if (c->rules->block_indexer) read_block_index(c, k);
    if (c->rules->pool_indexer) read_pool_index(c, k);
    if (c->rules->streams == TMB_STREAMS_HYPER) read_grams(c, k);
    if (!c->rules->indexer) return;
    c->index.heads = (size_t)tmb_key_integer(k, "index_n_heads", 1, HEADS_MAX, 64);
    c->index.dim = width(k, "index_head_dim", 128);
    c->index.keep = (size_t)tmb_key_integer(k, "index_topk", 1, POSITIONS_MAX, 2048);
    c->index.paired = tmb_key_switch(k, &c->rules->index_paired);
    if (!k->status && (!c->q_rank || c->index.dim < c->rope_dim))
        tmb_keys_fail(k, TMB_EDATA, c->q_rank ? "index_head_dim" : "q_lora_rank",
                      "the indexer needs %s", c->q_rank ? "more than qk_rope_head_dim" : "one");
    for (int i = 0; i < c->layers; i++)
        c->layer[i].indexes = true;
    if (c->rules->index_shared) read_shared_index(c, k);
}

/* Which layers have the gated delta rule, and its sizes. */
static void read_delta(tmb_config *c, tmb_keys *k)
{
    const tmb_json *types = tmb_key_list(k, "layer_types", (size_t)c->layers);
    int64_t turn = tmb_key_integer(k, "full_attention_interval", 1, LAYERS_MAX, 4);
    for (int i = 0; i < c->layers; i++) {
        const char *name = tmb_json_string(tmb_json_at(types, (size_t)i));
        bool linear = types ? name && !strcmp(name, "linear_attention") : (i + 1) % turn != 0;
        c->layer[i].kind = linear ? TMB_LAYER_DELTA : TMB_LAYER_ATTENTION;
        bool sparse = name && c->rules->pool_indexer && !strcmp(name, "qwen_sparse_attention");
        if (types && !linear && !sparse && (!name || strcmp(name, "full_attention") != 0))
            tmb_keys_fail(k, TMB_EUNAVAILABLE, "layer_types",
                          "'%.60s' is not run yet; full_attention and linear_attention are",
                          name ? name : "(no text)");
    }
    const char *gate = tmb_key_text(k, "output_gate_type");
    expect(k, "output_gate_type", (const char *const[]){"sigmoid", "silu", "swish", NULL});
    struct tmb_linear_config *l = &c->linear;
    l->sigmoid = gate && !strcmp(gate, "sigmoid");
    l->key_heads = (size_t)tmb_key_integer(k, "linear_num_key_heads", 1, HEADS_MAX, 16);
    l->value_heads = (size_t)tmb_key_integer(k, "linear_num_value_heads", 1, HEADS_MAX, 32);
    l->key_dim = width(k, "linear_key_head_dim", 128);
    l->value_dim = width(k, "linear_value_head_dim", 128);
    l->taps = (size_t)tmb_key_integer(k, "linear_conv_kernel_dim", 1, 1024, 4);
    if (!k->status && l->value_heads % l->key_heads)
        tmb_keys_fail(k, TMB_EDATA, "linear_num_key_heads", "%zu does not divide the %zu of values",
                      l->key_heads, l->value_heads);
}

/* The kinds of Nemotron-H's layers: a letter each, or a word. */
static const struct {
    char letter;
    const char *words[2];
    tmb_layer_kind kind;
    tmb_halves halves;
} halves[] = {
    {'M', {"mamba", "linear_attention"}, TMB_LAYER_MAMBA, TMB_HALVES_FIRST},
    {'*', {"attention", "full_attention"}, TMB_LAYER_ATTENTION, TMB_HALVES_FIRST},
    {'E', {"moe", "moe"}, TMB_LAYER_ATTENTION, TMB_HALVES_SECOND},
    {'-', {"mlp", "mlp"}, TMB_LAYER_ATTENTION, TMB_HALVES_SECOND},
};
enum { HALVES = sizeof halves / sizeof *halves };

static void read_halves(tmb_config *c, tmb_keys *k)
{
    static const char *const lists[] = {"layers_block_type", "layer_types"};
    const char *pattern = tmb_key_text(k, "hybrid_override_pattern");
    const tmb_json *list = NULL;
    for (int i = 0; !pattern && !list && i < 2; i++)
        list = tmb_key_list(k, lists[i], (size_t)c->layers);
    if ((pattern && strlen(pattern) != (size_t)c->layers) || (!pattern && !list))
        tmb_keys_fail(k, TMB_EDATA, "hybrid_override_pattern",
                      "must have a letter for each of the %d layers", c->layers);
    for (int i = 0; !k->status && i < c->layers; i++) {
        const char *word = tmb_json_string(tmb_json_at(list, (size_t)i));
        int h = 0;
        while (h < HALVES && !(pattern ? pattern[i] == halves[h].letter
                                       : word && (!strcmp(word, halves[h].words[0]) ||
                                                  !strcmp(word, halves[h].words[1]))))
            h++;
        if (h == HALVES)
            tmb_keys_fail(k, TMB_EUNAVAILABLE,
                          pattern ? "hybrid_override_pattern" : "layers_block_type",
                          "layer %d is of a kind that is not run yet", i);
        else
            c->layer[i].kind = halves[h].kind, c->layer[i].halves = halves[h].halves;
    }
}

static void read_mamba(tmb_config *c, tmb_keys *k)
{
    struct tmb_mamba_config *m = &c->mamba;
    m->heads = (size_t)tmb_key_integer(k, "mamba_num_heads", 1, HEADS_MAX, 128);
    m->head_dim = width(k, "mamba_head_dim", 64);
    m->groups = (size_t)tmb_key_integer(k, "n_groups", 1, HEADS_MAX, 8);
    m->state = width(k, "ssm_state_size", 128);
    m->taps = (size_t)tmb_key_integer(k, "conv_kernel", 1, 1024, 4);
    m->conv_bias = tmb_key_bool(k, "use_conv_bias", true);
    m->least_step = 0, m->most_step = INFINITY;
    const tmb_json *limit = tmb_key_list(k, "time_step_limit", 2);
    double told;
    if (tmb_json_number(tmb_json_at(limit, 0), &told)) m->least_step = told;
    if (tmb_json_number(tmb_json_at(limit, 1), &told)) m->most_step = told;
    expect(k, "mamba_hidden_act", (const char *const[]){"silu", "swish", NULL});
    if (!k->status && (m->heads % m->groups || !(m->least_step <= m->most_step)))
        tmb_keys_fail(k, TMB_EDATA, m->heads % m->groups ? "n_groups" : "time_step_limit",
                      "does not fit: %zu heads in %zu groups", m->heads, m->groups);
}

static void read_mixture(tmb_config *c, tmb_keys *k)
{
    if (c->rules->mixture == TMB_MIXTURE_DELTA) read_delta(c, k);
    if (c->rules->mixture != TMB_MIXTURE_HALVES) return;
    read_halves(c, k);
    read_mamba(c, k);
}

/* The view of each layer by layer_types; false when the config has none. */
static bool read_layer_types(tmb_config *c, tmb_keys *k)
{
    const tmb_json *types = tmb_key_list(k, "layer_types", (size_t)c->layers);
    for (int i = 0; types && i < c->layers; i++) {
        const char *name = tmb_json_string(tmb_json_at(types, (size_t)i));
        if (name && !strcmp(name, "sliding_attention"))
            c->layer[i].view = TMB_VIEW_WINDOW;
        else if (name && !strcmp(name, "chunked_attention"))
            c->layer[i].view = TMB_VIEW_CHUNK;
        else if (!name || strcmp(name, "full_attention") != 0)
            tmb_keys_fail(k, TMB_EUNAVAILABLE, "layer_types",
                          "'%.60s' is not run yet; "
                          "full_attention, sliding_attention and chunked_attention are",
                          name ? name : "(no text)");
    }
    return types != NULL;
}

static void read_rotating_layers(tmb_config *c, tmb_keys *k)
{
    const tmb_json *told = NULL;
    int64_t turn = 0;
    if (c->rules->some_without_rope) {
        told = tmb_key_list(k, "no_rope_layers", (size_t)c->layers);
        turn = tmb_key_integer(k, "no_rope_layer_interval", 1, LAYERS_MAX, 4);
    }
    for (int i = 0; i < c->layers; i++) {
        int64_t rotates = !turn || (i + 1) % turn != 0;
        if (told && !tmb_json_integer(tmb_json_at(told, (size_t)i), &rotates))
            rotates = tmb_json_bool(tmb_json_at(told, (size_t)i), true);
        c->layer[i].rope = rotates != 0 && !c->rules->without_rope;
    }
}

static void read_views(tmb_config *c, tmb_keys *k)
{
    tmb_views views = c->rules->views;
    if (views == TMB_VIEWS_FULL) return;
    bool use = views == TMB_VIEWS_WINDOW || views == TMB_VIEWS_ALTERNATE;
    if (!use) use = tmb_key_bool(k, "use_sliding_window", false);
    int64_t usual = views == TMB_VIEWS_WINDOW ? 0 : views == TMB_VIEWS_ALTERNATE ? 128 : 4096;
    if (use) c->window = (size_t)tmb_key_integer(k, "sliding_window", 0, POSITIONS_MAX, usual);
    if (views == TMB_VIEWS_CHUNKED)
        c->chunk = (size_t)tmb_key_integer(k, "attention_chunk_size", 0, POSITIONS_MAX, 8192);
    int64_t below = tmb_key_integer(k, "max_window_layers", 0, POSITIONS_MAX, 28);
    bool told =
        views != TMB_VIEWS_WINDOW && views != TMB_VIEWS_USE_WINDOW && read_layer_types(c, k);
    for (int i = 0; i < c->layers; i++) {
        tmb_layer_config *l = &c->layer[i];
        if (!told && views == TMB_VIEWS_CHUNKED && l->rope) l->view = TMB_VIEW_CHUNK;
        if (!told && views == TMB_VIEWS_ALTERNATE && i % 2 == 0) l->view = TMB_VIEW_WINDOW;
        if (!told && views == TMB_VIEWS_QWEN2 && use && i % 2 == 0 && i < below)
            l->view = TMB_VIEW_WINDOW;
        if (views <= TMB_VIEWS_USE_WINDOW && c->window) l->view = TMB_VIEW_WINDOW;
        if (l->view == TMB_VIEW_WINDOW && !c->window)
            tmb_keys_fail(k, TMB_EDATA, "sliding_window", "missing; layer %d has sliding attention",
                          i);
        if (l->view == TMB_VIEW_CHUNK && !c->chunk) l->view = TMB_VIEW_FULL;
    }
}

static void read_all(tmb_config *c, tmb_keys *k, const tmb_model *model)
{
    const tmb_arch_forward *r = c->rules;
    c->hidden = width(k, "hidden_size", -1);
    c->layers = (int)tmb_key_integer(k, "num_hidden_layers", 1, LAYERS_MAX, -1);
    c->max_positions = (size_t)tmb_key_integer(k, "max_position_embeddings", 1, POSITIONS_MAX, 0);
    c->eps = (float)tmb_key_number(k, r->eps_key ? r->eps_key : "rms_norm_eps", 0, 1, r->eps);
    read_streams(c, k);
    c->latent_eps = 1e-6f; /* DeepSeek's inner norms are made without the config's value */
    c->clip_qkv = r->clips ? (float)tmb_key_number(k, "clip_qkv", 0, 1e30, 0) : 0;
    c->norms_from_one = tmb_key_switch(k, &r->norms_from_one);
    c->qk_norm = r->qk_norm && tmb_key_switch(k, &r->use_qk_norm);
    c->temperature = r->some_without_rope && tmb_key_bool(k, "attn_temperature_tuning", true);
    c->floor_scale = (float)tmb_key_number(k, "floor_scale", 1e-6, 1e12, 8192);
    c->attn_scale = (float)tmb_key_number(k, "attn_scale", -1e6, 1e6, 0.1);
    tmb_keys outer = {
        .in = model->ckpt->config, .file = k->file, .err = k->err, .status = k->status};
    c->tied =
        tmb_key_bool(k, "tie_word_embeddings", tmb_key_bool(&outer, "tie_word_embeddings", false));
    if (!k->status) k->status = outer.status;
    read_heads(c, k);
    if (!k->status) read_routing(c, k, model);
    c->rope.softmax_factor = 1;
    if (!k->status && !r->without_rope)
        tmb_rope_read(c, &c->rope, k, r->attention == TMB_ATTENTION_GQA ? c->head_dim : c->rope_dim,
                      &(tmb_rope_told){.theta = "rope_theta",
                                       .usual = r->theta,
                                       .plain = r->attention == TMB_ATTENTION_COMPRESSED});
    if (k->status) return;
    c->layer = tmb_arena_alloc(&c->arena, (size_t)c->layers * sizeof *c->layer);
    if (!c->layer) {
        k->status = tmb_fail_memory(k->err, (uint64_t)c->layers, "a table of layers");
        return;
    }
    read_mixture(c, k);
    read_index(c, k);
    read_rotating_layers(c, k);
    read_views(c, k);
}

static tmb_status refuse(const tmb_model *model, tmb_err *err)
{
    const char *path = model->ckpt->path, *why = model->arch->not_run;
    if (!*model->model_type)
        return tmb_fail(err, TMB_EDATA,
                        "%s: config.json names no model_type; the forward pass cannot be told",
                        path);
    return tmb_fail(err, TMB_EUNAVAILABLE,
                    "%s: %s models cannot be run yet%s%s; inspect, plan, quantize and verify work",
                    path, model->model_type, why ? ", because of " : "", why ? why : "");
}

tmb_status tmb_config_read(tmb_config *out, const tmb_model *model, tmb_err *err)
{
    *out = (tmb_config){.rules = model->guessed ? NULL : model->arch->forward};
    if (!out->rules || !model->ckpt->config) return refuse(model, err);
    out->file = tmb_arena_printf(&out->arena, "%s/config.json", model->ckpt->path);
    if (!out->file) return tmb_fail_memory(err, 0, "the configuration");
    tmb_keys keys = {.in = tmb_dims_text(model->ckpt->config), .file = out->file, .err = err};
    read_all(out, &keys, model);
    if (keys.status) tmb_config_free(out);
    return keys.status;
}

void tmb_config_free(tmb_config *config)
{
    tmb_arena_free(&config->arena);
    *config = (tmb_config){0};
}
