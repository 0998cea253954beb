/* sparse.h - checkpoints of any size on a small disk: true headers, and holes for the weights.
 *
 * Names and shapes are DeepSeek-V3's (arXiv 2412.19437, config of the published checkpoint), with
 * as many layers and experts as asked for. */
#ifndef TMB_TESTS_SPARSE_H
#define TMB_TESTS_SPARSE_H

#include "moe/io/safetensors.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct sparse {
    const char *folder;
    uint64_t layers, experts, hidden, inter, vocab;
    bool fp8; /* 128x128 blocks with weight_scale_inv; BF16 otherwise */
    uint64_t shard_bytes;

    tmb_tensor *tensors; /* of the shard being filled */
    size_t n, room, all;
    uint64_t data, total;
    unsigned shard, shards; /* shards: how many there will be; 0 in the counting round */
    FILE *index;
} sparse;

static inline void sparse_flush(sparse *s)
{
    char path[4096], name[64], *text = NULL;
    size_t bytes = 0;
    s->shard++;
    if (s->shards && s->n) {
        snprintf(name, sizeof name, "model-%05u-of-%05u.safetensors", s->shard, s->shards);
        snprintf(path, sizeof path, "%s/%s", s->folder, name);
        if (tmb_header_format(&text, &bytes, s->tensors, s->n, name, NULL)) abort();
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
        uint64_t length = bytes;
        if (fd < 0 || write(fd, &length, 8) != 8 || write(fd, text, bytes) != (ssize_t)bytes ||
            ftruncate(fd, (off_t)(8 + bytes + s->data)) || close(fd))
            abort();
        free(text);
        for (size_t i = 0; i < s->n; i++)
            fprintf(s->index, "%s\n    \"%s\": \"%s\"", s->all++ ? "," : "", s->tensors[i].name,
                    name);
    }
    for (size_t i = 0; i < s->n; i++) {
        free((void *)(uintptr_t)s->tensors[i].name);
        free((void *)(uintptr_t)s->tensors[i].shape);
    }
    s->n = 0;
    s->data = 0;
}

static inline void sparse_add(sparse *s, const char *name, tmb_dtype dtype, uint64_t rows,
                              uint64_t cols)
{
    uint64_t bytes = tmb_dtype_bits(dtype) / 8 * rows * (cols ? cols : 1);
    if (s->n && s->data + bytes > s->shard_bytes) sparse_flush(s);
    if (s->n == s->room) {
        s->room = s->room ? 2 * s->room : 1024;
        s->tensors = realloc(s->tensors, s->room * sizeof *s->tensors);
        if (!s->tensors) abort();
    }
    uint64_t *shape = malloc(2 * sizeof *shape);
    char *own = strdup(name);
    if (!shape || !own) abort();
    shape[0] = rows;
    shape[1] = cols;
    s->tensors[s->n++] = (tmb_tensor){.name = own,
                                      .shape = shape,
                                      .begin = s->data,
                                      .bytes = bytes,
                                      .dtype = (uint8_t)dtype,
                                      .rank = cols ? 2 : 1};
    s->data += bytes;
    s->total += bytes;
}

static inline void sparse_linear(sparse *s, uint64_t layer, const char *leaf, uint64_t out,
                                 uint64_t in)
{
    char name[400];
    int n =
        snprintf(name, sizeof name, "model.layers.%llu.%s.weight", (unsigned long long)layer, leaf);
    sparse_add(s, name, s->fp8 ? TMB_F8_E4M3 : TMB_BF16, out, in);
    if (!s->fp8) return;
    snprintf(name + n, sizeof name - (size_t)n, "_scale_inv");
    sparse_add(s, name, TMB_F32, (out + 127) / 128, (in + 127) / 128);
}

static inline void sparse_mlp(sparse *s, uint64_t layer, const char *parent, uint64_t inter)
{
    static const char *const leaves[] = {"down_proj", "gate_proj", "up_proj"};
    for (int i = 0; i < 3; i++) {
        char leaf[300];
        snprintf(leaf, sizeof leaf, "%s.%s", parent, leaves[i]);
        sparse_linear(s, layer, leaf, i ? inter : s->hidden, i ? s->hidden : inter);
    }
}

static inline void sparse_round(sparse *s)
{
    char name[256];
    sparse_add(s, "model.embed_tokens.weight", TMB_BF16, s->vocab, s->hidden);
    for (uint64_t l = 0; l < s->layers; l++) {
        snprintf(name, sizeof name, "model.layers.%llu.input_layernorm.weight",
                 (unsigned long long)l);
        sparse_add(s, name, TMB_BF16, s->hidden, 0);
        sparse_linear(s, l, "self_attn.q_a_proj", 1536, s->hidden);
        sparse_linear(s, l, "self_attn.kv_a_proj_with_mqa", 576, s->hidden);
        sparse_linear(s, l, "self_attn.q_b_proj", 24576, 1536);
        sparse_linear(s, l, "self_attn.kv_b_proj", 32768, 512);
        sparse_linear(s, l, "self_attn.o_proj", s->hidden, 16384);
        if (l < 1) {
            sparse_mlp(s, l, "mlp", 9 * s->inter);
            continue;
        }
        for (uint64_t e = 0; e < s->experts; e++) {
            snprintf(name, sizeof name, "mlp.experts.%llu", (unsigned long long)e);
            sparse_mlp(s, l, name, s->inter);
        }
        snprintf(name, sizeof name, "model.layers.%llu.mlp.gate.weight", (unsigned long long)l);
        sparse_add(s, name, TMB_BF16, s->experts, s->hidden);
        sparse_mlp(s, l, "mlp.shared_experts", s->inter);
    }
    sparse_add(s, "model.norm.weight", TMB_BF16, s->hidden, 0);
    sparse_add(s, "lm_head.weight", TMB_BF16, s->vocab, s->hidden);
    sparse_flush(s);
}

/* Write the checkpoint into the folder, which exists.  Returns the number of tensors. */
static inline size_t sparse_make(sparse *s)
{
    char path[4096];
    sparse_round(s);
    s->shards = s->shard;
    uint64_t total = s->total;
    s->shard = 0;
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", s->folder);
    s->index = fopen(path, "w");
    if (!s->index) abort();
    fprintf(s->index, "{\n  \"metadata\": {\n    \"total_size\": %llu\n  },\n  \"weight_map\": {",
            (unsigned long long)total);
    sparse_round(s);
    fprintf(s->index, "\n  }\n}\n");
    if (fclose(s->index)) abort();
    snprintf(path, sizeof path, "%s/config.json", s->folder);
    FILE *config = fopen(path, "w");
    if (!config) abort();
    fprintf(
        config,
        "{\"architectures\": [\"DeepseekV3ForCausalLM\"], \"model_type\": \"deepseek_v3\", "
        "\"hidden_size\": %llu, \"moe_intermediate_size\": %llu, \"n_routed_experts\": %llu, "
        "\"num_hidden_layers\": %llu, \"first_k_dense_replace\": 1, \"num_experts_per_tok\": 8, "
        "\"vocab_size\": %llu%s}\n",
        (unsigned long long)s->hidden, (unsigned long long)s->inter, (unsigned long long)s->experts,
        (unsigned long long)s->layers, (unsigned long long)s->vocab,
        s->fp8 ? ", \"quantization_config\": {\"quant_method\": \"fp8\", \"fmt\": \"e4m3\", "
                 "\"weight_block_size\": [128, 128], \"activation_scheme\": \"dynamic\"}"
               : "");
    if (fclose(config)) abort();
    free(s->tensors);
    return s->all;
}

#endif
