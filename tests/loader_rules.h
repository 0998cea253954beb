/* loader_rules.h - how engines find what a module is from a configuration, written a second time:
 * from their sources, for tests only, and in the plainest way there is.
 *
 * vLLM 0.33.0 (quantization/modelopt.py, compressed_tensors/utils.py), SGLang 0.5.23 (the same
 * files of its own), TensorRT-LLM (_torch/model_config.py).  Answers are algorithm names or, for
 * compressed-tensors, group names; NULL stands for unquantized, REFUSED for an engine that stops.
 */
#ifndef TMB_TESTS_LOADER_RULES_H
#define TMB_TESTS_LOADER_RULES_H

#include "moe/io/json.h"
#include "moe/io/match.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REFUSED "refused"

/* A layer as an engine builds it: its own name, and the hub's names of what it is made of. */
typedef struct layer {
    const char *name;
    const char *shards[6];
    int n_shards; /* 0: not fused */
} layer;

/* ---- ModelOpt ----------------------------------------------------------------------------------
 */

typedef struct modelopt {
    const tmb_json *exclude, *layers;
    const char *algo;
} modelopt;

static inline bool listed(const tmb_json *list, const char *name)
{
    for (size_t i = 0; i < tmb_json_size(list); i++)
        if (strcmp(tmb_json_string(tmb_json_at(list, i)), name) == 0) return true;
    return false;
}

static inline const char *key_algo(const modelopt *c, const char *name)
{
    return tmb_json_string(tmb_json_get(tmb_json_get(c->layers, name), "quant_algo"));
}

/* The first key under "PREFIX.". */
static inline const char *below(const modelopt *c, const char *prefix, size_t n)
{
    const char *key;
    const tmb_json *value;
    for (void *it = NULL; tmb_json_next(c->layers, &it, &key, &value);)
        if (strncmp(key, prefix, n) == 0 && key[n] == '.')
            return tmb_json_string(tmb_json_get(value, "quant_algo"));
    return NULL;
}

/* How many shards the list names. */
static inline int shards_listed(const tmb_json *list, const layer *l)
{
    int n = 0;
    for (int i = 0; i < l->n_shards; i++)
        n += listed(list, l->shards[i]);
    return n;
}

static inline bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static inline const char *vllm_modelopt(const modelopt *c, const layer *l)
{
    const char *algo = NULL;
    int shards = shards_listed(c->exclude, l);
    if (shards && shards < l->n_shards) return REFUSED;
    if (shards || listed(c->exclude, l->name)) return NULL;
    for (size_t i = 0; i < tmb_json_size(c->exclude); i++) {
        const char *entry = tmb_json_string(tmb_json_at(c->exclude, i));
        if (strstr(l->name, entry) || tmb_glob(entry, l->name)) return NULL;
    }
    if (!c->layers) return c->algo;
    if ((algo = key_algo(c, l->name))) return algo;
    for (int i = 0; i < l->n_shards; i++) {
        const char *one = key_algo(c, l->shards[i]);
        if (one && algo && strcmp(one, algo) != 0) return REFUSED;
        if (one) algo = one;
    }
    if (!algo) algo = below(c, l->name, strlen(l->name));
    if (!algo && ends_with(l->name, ".experts")) algo = below(c, l->name, strlen(l->name) - 8);
    return algo;
}

/* Whether a pattern fits a whole name or one dotted part of it. */
static inline bool fits_part(const char *pattern, const char *name)
{
    if (tmb_glob(pattern, name)) return true;
    for (const char *part = name; part;) {
        char text[512];
        size_t n = strcspn(part, ".");
        snprintf(text, sizeof text, "%.*s", (int)n, part);
        if (tmb_glob(pattern, text)) return true;
        part = part[n] ? part + n + 1 : NULL;
    }
    return false;
}

/* Fused names are asked for as they are: not every class knows its shards. */
static inline const char *sglang_modelopt(const modelopt *c, const layer *l)
{
    static const char *const latent[] = {".q_a_proj", ".q_b_proj", ".kv_a_proj_with_mqa",
                                         ".kv_b_proj"};
    int shards = shards_listed(c->exclude, l);
    if (shards && shards < l->n_shards) return REFUSED;
    if (shards) return NULL;
    for (size_t i = 0; i < tmb_json_size(c->exclude); i++) {
        const char *entry = tmb_json_string(tmb_json_at(c->exclude, i));
        if (fits_part(entry, l->name)) return NULL;
        for (int k = 0; k < 4; k++)
            if (ends_with(entry, latent[k]) && strstr(strrchr(l->name, '.'), latent[k] + 1))
                return NULL;
    }
    if (!c->layers) return c->algo;
    const char *algo = key_algo(c, l->name);
    return algo ? algo : below(c, l->name, strlen(l->name));
}

/* From hf_quant_config.json; a fused layer goes by its first shard, experts by any key that holds
 * their name. */
static inline const char *trt_modelopt(const modelopt *c, const layer *l, bool experts)
{
    const char *name = l->n_shards ? l->shards[0] : l->name, *key;
    const tmb_json *value;
    for (size_t i = 0; i < tmb_json_size(c->exclude); i++)
        if (tmb_glob(tmb_json_string(tmb_json_at(c->exclude, i)), name)) return NULL;
    if (!c->layers) return c->algo;
    if (!experts) return key_algo(c, name);
    for (void *it = NULL; tmb_json_next(c->layers, &it, &key, &value);)
        if (strstr(key, name)) return tmb_json_string(tmb_json_get(value, "quant_algo"));
    return NULL;
}

/* ---- compressed-tensors ------------------------------------------------------------------------
 */

typedef struct ct_rule {
    const char *text;
    tmb_regex *re; /* NULL: a plain name */
    int group;     /* -1: ignore */
} ct_rule;

typedef struct ct_rules {
    ct_rule list[512];
    int n;
    const char *names[16]; /* of groups, as format_of_group() says */
} ct_rules;

static inline bool ct_add(ct_rules *c, const tmb_json *list, int group)
{
    for (size_t i = 0; i < tmb_json_size(list); i++) {
        const char *text = tmb_json_string(tmb_json_at(list, i));
        if (c->n == 512) return false;
        ct_rule *rule = &c->list[c->n++];
        *rule = (ct_rule){.text = text, .group = group};
        if (strncmp(text, "re:", 3) == 0 && tmb_regex_open(&rule->re, text + 3, NULL)) return false;
        if (!rule->re && group >= 0)
            return false; /* engines match only expressions under aliases */
    }
    return true;
}

static inline void ct_free(ct_rules *c)
{
    for (int i = 0; i < c->n; i++)
        if (c->list[i].re) tmb_regex_close(c->list[i].re);
}

static inline bool ct_ignored(const ct_rules *c, const char *name)
{
    for (int i = 0; i < c->n; i++)
        if (c->list[i].group < 0 && (c->list[i].re ? tmb_regex_match(c->list[i].re, name)
                                                   : strcmp(c->list[i].text, name) == 0))
            return true;
    return false;
}

/* The group by the first target in the file and by the first in spelling; REFUSED when these
 * differ, or when nothing takes a name that is not ignored (SGLang stops there). */
static inline const char *ct_answer(const ct_rules *c, const char *name)
{
    const ct_rule *first = NULL, *least = NULL;
    if (ct_ignored(c, name)) return NULL;
    for (int i = 0; i < c->n; i++) {
        const ct_rule *r = &c->list[i];
        if (r->group < 0 || !tmb_regex_match(r->re, name)) continue;
        if (!first) first = r;
        if (!least || strcmp(r->text, least->text) < 0) least = r;
    }
    if (!first || strcmp(c->names[first->group], c->names[least->group]) != 0) return REFUSED;
    return c->names[first->group];
}

#endif
