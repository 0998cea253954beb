/* file_open.c - what a statistics file is of: model, settings, data, layers. */
#include "config.h"
#include "moe/calib/file_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SOURCES_MAX = 4096 };

tmb_status tmb_stats_sequence(const int32_t *ids, size_t n, uint8_t out[TMB_SEQUENCE_BYTES],
                              tmb_err *err)
{
    char hex[TMB_SHA256_HEX];
    TRY(tmb_sha256(ids, n * sizeof *ids, hex,
                   err)); /* little-endian machines only, as the formats */
    for (int i = 0; i < TMB_SEQUENCE_BYTES; i++) {
        unsigned byte;
        sscanf(hex + 2 * i, "%2x", &byte);
        out[i] = (uint8_t)byte;
    }
    return TMB_OK;
}

static tmb_status wrong(const tmb_stats_file *f, const char *name, const char *what, tmb_err *err)
{
    return tmb_fail(err, TMB_EDATA, "%s: %s: %s; the file is damaged or made up", f->path, name,
                    what);
}

static tmb_status get_text(tmb_stats_file *f, const char *name, const char **out, tmb_err *err)
{
    const char *const *texts;
    uint64_t n;
    TRY(tmb_get_texts(f->store, &f->arena, name, 1, &texts, &n, err));
    if (n != 1) return wrong(f, name, "is empty", err);
    *out = texts[0];
    return TMB_OK;
}

static tmb_status get_sources(tmb_stats_file *f, tmb_err *err)
{
    const char *const *names;
    uint64_t n;
    TRY(tmb_get_texts(f->store, &f->arena, "data/sources", SOURCES_MAX, &names, &n, err));
    tmb_stats_source *sources = tmb_arena_alloc(&f->arena, n * sizeof *sources + 1);
    uint64_t *column = tmb_arena_alloc(&f->arena, n * sizeof *column + 1);
    if (!sources || !column) return tmb_fail_memory(err, n * 8, "sources");
    for (uint64_t i = 0; i < n; i++) {
        sources[i].name = names[i];
        if (i && strcmp(names[i], names[i - 1]) <= 0)
            return wrong(f, "data/sources", "not in the order of names", err);
    }
    TRY(tmb_store_get(f->store, "data/source_sequences", TMB_STORE_U64, 1, &n, column, err));
    for (uint64_t i = 0; i < n; i++)
        sources[i].sequences = column[i];
    TRY(tmb_store_get(f->store, "data/source_tokens", TMB_STORE_U64, 1, &n, column, err));
    for (uint64_t i = 0; i < n; i++)
        sources[i].tokens = column[i];
    f->identity.sources = sources;
    f->identity.n_sources = (uint32_t)n;
    return TMB_OK;
}

static tmb_status get_sequences(tmb_stats_file *f, tmb_err *err)
{
    tmb_store_shape shape;
    uint64_t total = 0;
    if (!tmb_store_find(f->store, "data/sequences", &shape))
        return tmb_store_missing(f->store, "data/sequences", err);
    uint64_t n = shape.dims[0];
    if (shape.rank != 2 || shape.dims[1] != TMB_SEQUENCE_BYTES) /* rows of no bytes may be many */
        return wrong(f, "data/sequences", "has another shape than it must", err);
    uint8_t *all = tmb_arena_alloc(&f->arena, (size_t)n * TMB_SEQUENCE_BYTES + 1);
    if (!all) return tmb_fail_memory(err, n * TMB_SEQUENCE_BYTES, "the digests of sequences");
    TRY(tmb_store_get(f->store, "data/sequences", TMB_STORE_U8, 2,
                      (uint64_t[]){n, TMB_SEQUENCE_BYTES}, all, err));
    for (uint64_t i = 1; i < n; i++)
        if (memcmp(all + (i - 1) * TMB_SEQUENCE_BYTES, all + i * TMB_SEQUENCE_BYTES,
                   TMB_SEQUENCE_BYTES) > 0)
            return wrong(f, "data/sequences", "not sorted", err);
    for (uint32_t i = 0; i < f->identity.n_sources; i++)
        if (!tmb_add(total, f->identity.sources[i].sequences, &total)) total = UINT64_MAX;
    if (total != n) return wrong(f, "data/source_sequences", "do not add up to sequences", err);
    f->identity.sequences = all;
    f->identity.n_sequences = n;
    return TMB_OK;
}

static int by_index(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* Layers are those that have an array "layers/NAME/sites". */
static tmb_status find_layers(tmb_stats_file *f, tmb_err *err)
{
    const char *name;
    for (size_t i = 0; (name = tmb_store_at(f->store, i)); i++)
        f->n_layers += !strncmp(name, "layers/", 7) && strstr(name, "/sites") != NULL;
    f->layers = tmb_arena_alloc(&f->arena, f->n_layers * sizeof *f->layers + 1);
    if (!f->layers) return tmb_fail_memory(err, f->n_layers * 4, "layers");
    f->n_layers = 0;
    for (size_t i = 0; (name = tmb_store_at(f->store, i)); i++) {
        char again[TMB_LAYER_NAME], *end;
        if (strncmp(name, "layers/", 7) || !(end = strstr(name, "/sites")) || end[6]) continue;
        size_t n = (size_t)(end - name);
        long index =
            strncmp(name, "layers/head/", 12) ? strtol(name + 7, NULL, 10) : (long)TMB_STATS_HEAD;
        if (index < 0 || index > TMB_STATS_HEAD) index = 0;
        tmb_layer_name(again, (int32_t)index);
        if (strlen(again) != n || strncmp(again, name, n) ||
            (index != TMB_STATS_HEAD && index >= (long)f->identity.layers))
            return wrong(f, name, "no layer of the model", err);
        f->layers[f->n_layers++] = (int32_t)index;
    }
    if (!f->n_layers) return wrong(f, "layers", "there are none", err);
    qsort(f->layers, f->n_layers, sizeof *f->layers, by_index);
    return TMB_OK;
}

static tmb_status get_all(tmb_stats_file *f, tmb_err *err)
{
    const char *hessian;
    tmb_stats_identity *id = &f->identity;
    uint64_t one = 1;
    TRY(get_text(f, "manifest", &f->manifest, err));
    TRY(get_text(f, "model/type", &id->model_type, err));
    TRY(get_text(f, "model/sha256", &id->model_sha256, err));
    TRY(tmb_store_get(f->store, "model/layers", TMB_STORE_U32, 1, &one, &id->layers, err));
    TRY(get_text(f, "settings/hessian", &hessian, err));
    TRY(tmb_store_get(f->store, "settings/min_tokens", TMB_STORE_U64, 1, &one, &id->min_tokens,
                      err));
    id->moments = !strcmp(hessian, "block16");
    if (!id->moments && strcmp(hessian, "none") != 0)
        return wrong(f, "settings/hessian", "neither block16 nor none", err);
    TRY(get_sources(f, err));
    TRY(get_sequences(f, err));
    return find_layers(f, err);
}

tmb_status tmb_stats_open(tmb_stats_file **out, const char *path, tmb_err *err)
{
    *out = NULL;
    tmb_stats_file *f = calloc(1, sizeof *f);
    if (!f) return tmb_fail_memory(err, sizeof *f, "statistics");
    tmb_status status = tmb_store_open(&f->store, path, TMB_STATS_KIND, TMB_STATS_VERSION, err);
    if (!status) {
        f->path = tmb_store_path(f->store);
        f->digest = tmb_store_digest(f->store);
        status = get_all(f, err);
    }
    if (status) {
        tmb_stats_close(f);
        return status;
    }
    *out = f;
    return TMB_OK;
}

void tmb_stats_close(tmb_stats_file *f)
{
    if (!f) return;
    tmb_store_close(f->store);
    tmb_arena_free(&f->arena);
    free(f);
}
