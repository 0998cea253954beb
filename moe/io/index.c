#include "config.h"
#include "moe/io/index.h"

#include "moe/io/names.h"
#include "moe/io/safetensors.h"
#include "moe/io/scan.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

typedef struct reader {
    tmb_scan s;
    tmb_index *out;
    size_t room_entries, room_shards;
    tmb_names shards;
    uint32_t last; /* shard of the entry before, which most often has the same */
} reader;

/* Anything else could name a file outside of the folder, or one that hides in it. */
static bool is_shard_name(const char *name, size_t n)
{
    static const char ending[] = ".safetensors";
    const size_t tail = sizeof ending - 1;
    return n > tail && n <= NAME_MAX && name[0] != '.' && !strchr(name, '/') &&
           !strchr(name, '\\') && memcmp(name + n - tail, ending, tail) == 0;
}

static tmb_status read_shard(reader *r, const char *tensor, uint32_t *shard)
{
    tmb_index *out = r->out;
    char *name;
    size_t n;
    TRY(tmb_scan_name(&r->s, &name, &n, TMB_NAME_MAX, "a file name in double quotes"));
    if (!is_shard_name(name, n))
        return tmb_scan_fail(&r->s, name,
                             "tensor \"%s\" is said to be in \"%s\", which is no plain name of a "
                             ".safetensors file beside the index",
                             tmb_show(tensor).text, tmb_show(name).text);
    if (out->n_shards && strcmp(out->shards[r->last], name) == 0) {
        *shard = r->last;
        return TMB_OK;
    }
    uint32_t found = tmb_names_find(&r->shards, out->shards, sizeof *out->shards, name, n);
    if (found == TMB_NAMES_NONE) {
        const char **shards =
            tmb_grown(out->shards, out->n_shards, &r->room_shards, sizeof *shards);
        if (!shards) return tmb_fail_memory(r->s.err, out->n_shards * sizeof *shards, "shards");
        out->shards = shards;
        shards[out->n_shards++] = name;
        uint32_t twin;
        TRY(tmb_names_add(&r->shards, shards, sizeof *shards, out->n_shards - 1, out->n_shards,
                          &twin, &found, r->s.err));
        found = (uint32_t)(out->n_shards - 1);
    }
    *shard = r->last = found;
    return TMB_OK;
}

static tmb_status read_weight_map(reader *r)
{
    tmb_index *out = r->out;
    TRY(tmb_scan_expect(&r->s, '{', "'{' of \"weight_map\""));
    if (tmb_scan_take(&r->s, '}')) return TMB_OK;
    do {
        char *name;
        size_t n;
        TRY(tmb_scan_name(&r->s, &name, &n, TMB_NAME_MAX, "a tensor name in double quotes"));
        TRY(tmb_scan_expect(&r->s, ':', "':' after a name"));
        tmb_index_entry *entries =
            tmb_grown(out->entries, out->n_entries, &r->room_entries, sizeof *entries);
        if (!entries)
            return tmb_fail_memory(r->s.err, out->n_entries * sizeof *entries, "the index");
        out->entries = entries;
        entries[out->n_entries].name = name;
        TRY(read_shard(r, name, &entries[out->n_entries].shard));
        out->n_entries++;
    } while (tmb_scan_take(&r->s, ','));
    return tmb_scan_expect(&r->s, '}', "',' or '}' in \"weight_map\"");
}

static tmb_status read_all(reader *r)
{
    bool metadata = false, weight_map = false;
    TRY(tmb_scan_expect(&r->s, '{', "'{' of an index"));
    if (!tmb_scan_take(&r->s, '}')) {
        do {
            char *key;
            size_t n;
            TRY(tmb_scan_string(&r->s, &key, &n, "a key in double quotes"));
            TRY(tmb_scan_expect(&r->s, ':', "':' after a key"));
            bool *seen = n == 8 && memcmp(key, "metadata", 8) == 0       ? &metadata
                         : n == 10 && memcmp(key, "weight_map", 10) == 0 ? &weight_map
                                                                         : NULL;
            if (seen && *seen) return tmb_scan_fail(&r->s, key, "\"%s\" stands twice", key);
            if (seen) *seen = true;
            tmb_scan_space(&r->s);
            if (seen == &metadata && r->s.at < r->s.end && *r->s.at != '{')
                return tmb_scan_unexpected(&r->s, "'{' of \"metadata\"");
            TRY(seen == &weight_map ? read_weight_map(r) : tmb_scan_skip(&r->s));
        } while (tmb_scan_take(&r->s, ','));
        TRY(tmb_scan_expect(&r->s, '}', "',' or '}' in an index"));
    }
    TRY(tmb_scan_finish(&r->s));
    if (!weight_map) return tmb_scan_fail(&r->s, r->s.begin, "no \"weight_map\"");
    return TMB_OK;
}

static tmb_status check_names(reader *r)
{
    tmb_index *out = r->out;
    tmb_names names = {0};
    uint32_t twin, at;
    tmb_status status = tmb_names_add(&names, out->entries, sizeof *out->entries, 0, out->n_entries,
                                      &twin, &at, r->s.err);
    tmb_names_free(&names);
    if (!status && twin != TMB_NAMES_NONE)
        status = tmb_scan_fail(&r->s, out->entries[at].name, "tensor \"%s\" stands twice",
                               tmb_show(out->entries[at].name).text);
    return status;
}

typedef struct ranked {
    const char *name;
    uint32_t i;
} ranked;

static int by_name(const void *a, const void *b)
{
    return strcmp(((const ranked *)a)->name, ((const ranked *)b)->name);
}

static tmb_status sort_shards(tmb_index *out, tmb_err *err)
{
    size_t n = out->n_shards;
    ranked *order = malloc((n + 1) * sizeof *order);
    uint32_t *rank = malloc((n + 1) * sizeof *rank);
    tmb_status status = TMB_OK;
    if (!order || !rank) {
        status = tmb_fail_memory(err, n * sizeof *order, "shards");
        goto out;
    }
    for (size_t i = 0; i < n; i++)
        order[i] = (ranked){out->shards[i], (uint32_t)i};
    qsort(order, n, sizeof *order, by_name);
    for (size_t i = 0; i < n; i++) {
        out->shards[i] = order[i].name;
        rank[order[i].i] = (uint32_t)i;
    }
    for (size_t i = 0; i < out->n_entries; i++)
        out->entries[i].shard = rank[out->entries[i].shard];
out:
    free(order);
    free(rank);
    return status;
}

tmb_status tmb_index_parse(tmb_index *out, char *text, size_t n, const char *file, tmb_err *err)
{
    *out = (tmb_index){.text = text};
    reader r = {.s = {.begin = text,
                      .at = text,
                      .end = text + n,
                      .file = file,
                      .remedy = "fetch or write the index again",
                      .err = err},
                .out = out};
    tmb_status status = read_all(&r);
    if (!status) status = check_names(&r);
    if (!status) status = sort_shards(out, err);
    tmb_names_free(&r.shards);
    if (status) tmb_index_free(out);
    return status;
}

void tmb_index_free(tmb_index *index)
{
    free(index->entries);
    free(index->shards);
    free(index->text);
    *index = (tmb_index){0};
}
