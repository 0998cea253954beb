/* Every key of config.json that the forward pass reads: a value that is no number, out of its
 * limits or of another kind is refused with the file and the key; rotary frequencies by their
 * definitions. */
#include "config.h"
#include "moe/infer/forward.h"
#include "tests/tap.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

typedef struct subject {
    tmb_checkpoint *ckpt, other; /* other: the same with a changed config */
    tmb_model *model, changed;
} subject;

static bool open_subject(subject *s, const char *name, tmb_err *err)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/tests/data/forward/%s", getenv("srcdir"), name);
    *s = (subject){.ckpt = NULL};
    return !tmb_checkpoint_open(&s->ckpt, path, err) && !tmb_model_open(&s->model, s->ckpt, err);
}

static void close_subject(subject *s)
{
    tmb_model_close(s->model);
    tmb_checkpoint_close(s->ckpt);
}

/* Open a decoder of the model with `key` of its config replaced by the JSON text, or taken away
 * (NULL). */
static tmb_status open_changed(subject *s, const char *key, const char *json, tmb_decoder **d,
                               tmb_err *err)
{
    tmb_json *config = tmb_json_copy(s->ckpt->config), *value = NULL;
    *d = NULL;
    if (json) TRY(tmb_json_parse(&value, json, strlen(json), key, true, err));
    if (json)
        tmb_json_set(config, key, value);
    else
        tmb_json_remove(config, key);
    s->other = *s->ckpt;
    s->other.config = config;
    s->changed = *s->model;
    s->changed.ckpt = &s->other;
    tmb_status status = tmb_decoder_open(d, &s->changed, &(tmb_decoder_options){.threads = 1}, err);
    tmb_json_free(config);
    return status;
}

static void refused(subject *s, const char *key, const char *json, const char *told)
{
    tmb_err err = {0};
    tmb_decoder *d;
    tmb_status status = open_changed(s, key, json, &d, &err);
    bool named = strstr(err.message, told) && !strchr(err.message, '\n');
    ok(status && !d && named, "%s = %s: %s", key, json ? json : "(gone)", err.message);
    tmb_decoder_close(d);
}

static void taken(subject *s, const char *key, const char *json)
{
    tmb_err err = {0};
    tmb_decoder *d;
    ok(!open_changed(s, key, json, &d, &err), "%s = %s is taken %s", key, json ? json : "(gone)",
       err.message);
    tmb_decoder_close(d);
}

static void check_keys(subject *s)
{
    static const char *const integers[] = {
        "hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings",
        "q_lora_rank", "kv_lora_rank",      "qk_nope_head_dim",    "qk_rope_head_dim",
        "v_head_dim",  "n_group",           "topk_group"};
    static const char *const wrong[] = {"-1",    "1.5",         "\"64\"", "[]",
                                        "1e300", "99999999999", "true",   "NaN"};
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++)
        for (size_t w = 0; w < sizeof wrong / sizeof *wrong; w++)
            refused(s, integers[i], wrong[w], integers[i]);
    static const char *const numbers[] = {"rms_norm_eps", "routed_scaling_factor", "rope_theta"};
    static const char *const not_numbers[] = {"-1", "\"a\"", "{}", "NaN", "Infinity", "true"};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        for (size_t w = 0; w < sizeof not_numbers / sizeof *not_numbers; w++)
            refused(s, numbers[i], not_numbers[w], numbers[i]);
    static const char *const needed[] = {"hidden_size",  "num_hidden_layers", "num_attention_heads",
                                         "kv_lora_rank", "qk_nope_head_dim",  "v_head_dim"};
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        refused(s, needed[i], NULL, needed[i]);
    refused(s, "norm_topk_prob", "\"yes\"", "norm_topk_prob");
    refused(s, "rope_interleave", "[]", "rope_interleave");
    refused(s, "scoring_func", "\"softmax\"", "scoring_func");
    refused(s, "topk_method", "\"greedy\"", "topk_method");
    refused(s, "hidden_act", "\"gelu\"", "hidden_act");
    refused(s, "hidden_act", "7", "hidden_act");
    refused(s, "rope_scaling", "[1]", "rope_scaling");
    refused(s, "rope_scaling", "{\"type\": \"longrope\", \"factor\": 2}", "longrope");
    refused(s, "rope_scaling", "{\"type\": 3}", "type");
    refused(s, "rope_scaling", "{\"type\": \"yarn\", \"factor\": 0}", "factor");
    refused(s, "rope_scaling", "{\"type\": \"linear\"}", "factor");
    refused(s, "rope_scaling", "{\"type\": \"llama3\", \"factor\": 8}", "low_freq_factor");
    refused(s, "rope_scaling", "{\"type\": \"yarn\", \"factor\": 8, \"beta_fast\": -3}",
            "beta_fast");
    refused(s, "rope_scaling", "{\"full_attention\": {\"rope_theta\": 1}}", "full_attention");
    refused(s, "topk_group", "3", "topk_group");
    refused(s, "n_group", "3", "n_group");
    /* Numbers within limits that are not those of the tensors. */
    refused(s, "hidden_size", "40", "embed_tokens");
    refused(s, "num_attention_heads", "4", "q_b_proj");
    refused(s, "kv_lora_rank", "24", "kv_a_proj_with_mqa");
    refused(s, "q_lora_rank", "0", "q_proj");
    refused(s, "num_hidden_layers", "9", "layers.2");
    taken(s, "hidden_size", "32.0");
    taken(s, "rope_scaling", "null");
    taken(s, "rope_scaling", "{}");
    taken(s, "max_position_embeddings", NULL);
    taken(s, "hidden_act", NULL);
    taken(s, "tie_word_embeddings", "true");
}

static void check_views(void)
{
    subject s;
    tmb_err err = {0};
    if (!open_subject(&s, "llama4_text", &err)) {
        ok(0, "%s", err.message);
        return;
    }
    refused(&s, "no_rope_layers", "[1]", "no_rope_layers");
    refused(&s, "no_rope_layers", "7", "no_rope_layers");
    refused(&s, "layer_types", "[\"full_attention\"]", "layer_types");
    refused(&s, "layer_types", "[\"full_attention\", \"linear_attention\", \"full_attention\"]",
            "linear_attention");
    refused(&s, "layer_types", "[\"full_attention\", \"sliding_attention\", \"full_attention\"]",
            "sliding_window");
    refused(&s, "attention_chunk_size", "-4", "attention_chunk_size");
    refused(&s, "num_key_value_heads", "3", "num_key_value_heads");
    refused(&s, "head_dim", "7", "rope");
    refused(&s, "tie_word_embeddings", "\"no\"", "tie_word_embeddings");
    taken(&s, "attention_chunk_size", "null");
    tmb_decoder *d;
    bool good = !open_changed(&s, "no_rope_layers", "[]", &d, &err);
    const tmb_config *c = good ? tmb_decoder_config(d) : NULL;
    ok(good && c->layer[0].rope && c->layer[2].rope && c->layer[2].view == TMB_VIEW_CHUNK,
       "without no_rope_layers every fourth layer does not rotate");
    tmb_decoder_close(d);
    close_subject(&s);
}

/* inv_freq of a plain rotation, by its definition. */
static double plain(const tmb_rope *r, double theta, size_t i)
{
    return 1 / pow(theta, 2.0 * (double)i / (double)r->dims);
}

static void check_frequencies(subject *s)
{
    tmb_err err = {0};
    tmb_decoder *d;
    bool good = !open_changed(s, "rope_scaling", "null", &d, &err);
    double off = good ? 0 : 1;
    for (size_t i = 0; good && i < tmb_decoder_config(d)->rope.dims / 2; i++)
        off = fmax(off, fabs(tmb_decoder_config(d)->rope.inv_freq[i] /
                                 plain(&tmb_decoder_config(d)->rope, 1e4, i) -
                             1));
    ok(off < 1e-6, "default: frequencies");
    tmb_decoder_close(d);
    good = !open_changed(s, "rope_scaling", "{\"rope_type\": \"linear\", \"factor\": 4}", &d, &err);
    off = good ? 0 : 1;
    for (size_t i = 0; good && i < tmb_decoder_config(d)->rope.dims / 2; i++)
        off = fmax(off, fabs(tmb_decoder_config(d)->rope.inv_freq[i] /
                                 plain(&tmb_decoder_config(d)->rope, 1e4, i) * 4 -
                             1));
    ok(off < 1e-6, "linear: a quarter");
    tmb_decoder_close(d);
    good = !open_changed(
        s, "rope_scaling",
        "{\"type\": \"yarn\", \"factor\": 8, \"original_max_position_embeddings\": 1024, "
        "\"mscale\": 1.0, \"mscale_all_dim\": 0.5}",
        &d, &err);
    const tmb_rope *r = good ? &tmb_decoder_config(d)->rope : NULL;
    double one = 0.1 * log(8) + 1, half = 0.05 * log(8) + 1;
    ok(good && fabs(r->inv_freq[0] - 1) < 1e-6 &&
           fabs(r->inv_freq[r->dims / 2 - 1] * 8 / plain(r, 1e4, r->dims / 2 - 1) - 1) < 1e-5,
       "yarn: the fastest stays, the slowest is slowed");
    ok(good && fabs(r->factor - one / half) < 1e-6 && fabs(r->softmax_factor - half * half) < 1e-9,
       "yarn: factors of cos, sin and softmax");
    tmb_decoder_close(d);
}

int main(void)
{
    subject s;
    tmb_err err = {0};
    if (open_subject(&s, "deepseek_v3", &err)) {
        check_keys(&s);
        check_frequencies(&s);
    } else {
        ok(0, "%s", err.message);
    }
    close_subject(&s);
    check_views();
    return done();
}
