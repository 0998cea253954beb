/* merge.c - files of disjoint data, or of single layers, made one. */
#include "config.h"
#include "moe/calib/file_internal.h"

#include <stdlib.h>
#include <string.h>

static tmb_status differ(const tmb_stats_file *a, const tmb_stats_file *b, const char *what,
                         tmb_err *err)
{
    return tmb_fail(err, TMB_EDATA, "%s and %s differ in %s", a->path, b->path, what);
}

static tmb_status same_model(const tmb_stats_file *a, const tmb_stats_file *b, tmb_err *err)
{
    const tmb_stats_identity *x = &a->identity, *y = &b->identity;
    if (strcmp(x->model_sha256, y->model_sha256) || strcmp(x->model_type, y->model_type) ||
        x->layers != y->layers)
        return differ(a, b, "their model: only statistics of one checkpoint can be added", err);
    if (x->moments != y->moments)
        return differ(a, b, "second moments: calibrate both with the same hessian", err);
    if (x->min_tokens != y->min_tokens)
        return differ(a, b, "min_tokens: calibrate both with the same coverage gate", err);
    return TMB_OK;
}

static tmb_status same_layers(const tmb_stats_file *a, const tmb_stats_file *b, tmb_err *err)
{
    if (a->n_layers == b->n_layers &&
        !memcmp(a->layers, b->layers, a->n_layers * sizeof *a->layers))
        return TMB_OK;
    return differ(a, b, "the layers they have", err);
}

/* ------------------------------------------------------------------------------ data of all */

typedef struct together {
    tmb_stats_identity id;
    tmb_stats_source *sources;
    uint8_t *sequences;
    uint32_t **row; /* [files][sources of the file] its row in the sources of all */
    uint32_t n_files;
} together;

static void together_free(together *t)
{
    for (uint32_t i = 0; t->row && i < t->n_files; i++)
        free(t->row[i]);
    free(t->row);
    free(t->sources);
    free(t->sequences);
}

static tmb_status add_source(together *t, const tmb_stats_source *s, uint32_t *row, tmb_err *err)
{
    for (*row = 0; *row < t->id.n_sources; ++*row)
        if (!strcmp(t->sources[*row].name, s->name)) break;
    if (*row == t->id.n_sources)
        t->sources[t->id.n_sources++] = (tmb_stats_source){.name = s->name};
    tmb_stats_source *into = &t->sources[*row];
    if (tmb_add(into->sequences, s->sequences, &into->sequences) &&
        tmb_add(into->tokens, s->tokens, &into->tokens))
        return TMB_OK;
    return tmb_fail(err, TMB_EDATA, "source %s: too many tokens", s->name);
}

static tmb_status no_overlap(tmb_stats_file *const *files, uint32_t n, tmb_err *err)
{
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < i; j++) {
            const tmb_stats_identity *a = &files[j]->identity, *b = &files[i]->identity;
            uint64_t x = 0, y = 0, shared = 0;
            while (x < a->n_sequences && y < b->n_sequences) {
                int c = memcmp(a->sequences + x * TMB_SEQUENCE_BYTES,
                               b->sequences + y * TMB_SEQUENCE_BYTES, TMB_SEQUENCE_BYTES);
                shared += c == 0;
                x += c <= 0;
                y += c >= 0;
            }
            if (shared)
                return tmb_fail(err, TMB_EDATA,
                                "%s and %s share %llu of %llu sequences, which would count twice; "
                                "merge runs over different data",
                                files[j]->path, files[i]->path, (unsigned long long)shared,
                                (unsigned long long)b->n_sequences);
        }
    return TMB_OK;
}

static tmb_status gather(together *t, tmb_stats_file *const *files, uint32_t n, tmb_err *err)
{
    uint64_t sequences = 0, sources = 0;
    for (uint32_t i = 0; i < n; i++) {
        sequences += files[i]->identity.n_sequences;
        sources += files[i]->identity.n_sources;
    }
    t->id = files[0]->identity;
    t->id.n_sources = 0;
    t->n_files = n;
    t->sources = calloc((size_t)sources + 1, sizeof *t->sources);
    t->sequences = malloc((size_t)sequences * TMB_SEQUENCE_BYTES + 1);
    t->row = calloc(n, sizeof *t->row);
    if (!t->sources || !t->sequences || !t->row) return tmb_fail_memory(err, sequences, "a merge");
    uint64_t at = 0;
    for (uint32_t i = 0; i < n; i++) {
        const tmb_stats_identity *id = &files[i]->identity;
        t->row[i] = malloc(id->n_sources * sizeof **t->row + 1);
        if (!t->row[i]) return tmb_fail_memory(err, id->n_sources, "a merge");
        for (uint32_t s = 0; s < id->n_sources; s++)
            TRY(add_source(t, &id->sources[s], &t->row[i][s], err));
        size_t bytes = (size_t)id->n_sequences * TMB_SEQUENCE_BYTES;
        if (bytes) memcpy(t->sequences + at, id->sequences, bytes);
        at += bytes;
    }
    t->id.sources = t->sources;
    t->id.sequences = t->sequences;
    t->id.n_sequences = sequences;
    return no_overlap(files, n, err);
}

/* The router's rows by source, spread to the sources of all. */
static tmb_status spread(tmb_stats_layer *l, const uint32_t *row, uint32_t n_sources, tmb_err *err)
{
    tmb_router_stats *r = l->router;
    if (!r) return TMB_OK;
    uint64_t *all = tmb_arena_alloc(&l->arena, (size_t)n_sources * r->experts * sizeof *all);
    if (!all) return tmb_fail_memory(err, n_sources * r->experts * 8, "a merge");
    for (uint32_t s = 0; s < r->sources; s++)
        memcpy(all + (size_t)row[s] * r->experts, r->by_source + (size_t)s * r->experts,
               r->experts * sizeof *all);
    r->by_source = all;
    r->sources = n_sources;
    return TMB_OK;
}

static tmb_status merge_layer(tmb_stats_writer *w, const together *t, tmb_stats_file *const *files,
                              uint32_t n, uint32_t i, tmb_err *err)
{
    tmb_stats_layer *sum = NULL, *more = NULL;
    tmb_status status = TMB_OK;
    for (uint32_t k = 0; k < n && !status; k++) {
        status = tmb_stats_read(files[k], i, true, k ? &more : &sum, err);
        if (!status) status = spread(k ? more : sum, t->row[k], t->id.n_sources, err);
        if (!status && k) status = tmb_stats_layer_add(sum, more, err);
        tmb_stats_layer_free(more);
        more = NULL;
    }
    if (!status) status = tmb_stats_put(w, sum, err);
    tmb_stats_layer_free(sum);
    return status;
}

tmb_status tmb_stats_merge(const char *path, tmb_stats_file *const *files, uint32_t n,
                           const char *manifest, tmb_err *err)
{
    together t = {0};
    tmb_stats_writer *w = NULL;
    tmb_status status = n ? TMB_OK : tmb_fail(err, TMB_EUSAGE, "%s: nothing to merge", path);
    for (uint32_t i = 1; i < n && !status; i++) {
        status = same_model(files[0], files[i], err);
        if (!status) status = same_layers(files[0], files[i], err);
    }
    if (!status) status = gather(&t, files, n, err);
    if (!status) status = tmb_stats_create(&w, path, &t.id, err);
    for (uint32_t i = 0; !status && i < files[0]->n_layers; i++)
        status = merge_layer(w, &t, files, n, i, err);
    if (!status) status = tmb_stats_publish(w, manifest, err);
    tmb_stats_writer_close(w);
    together_free(&t);
    return status;
}

/* ------------------------------------------------------------------------------ layers of one run
 */

static tmb_status same_data(const tmb_stats_file *a, const tmb_stats_file *b, tmb_err *err)
{
    const tmb_stats_identity *x = &a->identity, *y = &b->identity;
    TRY(same_model(a, b, err));
    bool same = x->n_sources == y->n_sources && x->n_sequences == y->n_sequences &&
                !memcmp(x->sequences, y->sequences, x->n_sequences * TMB_SEQUENCE_BYTES);
    for (uint32_t i = 0; i < x->n_sources && same; i++)
        same = !strcmp(x->sources[i].name, y->sources[i].name) &&
               x->sources[i].tokens == y->sources[i].tokens &&
               x->sources[i].sequences == y->sources[i].sequences;
    return same ? TMB_OK : differ(a, b, "their data", err);
}

/* The file and place of the lowest layer above `after`; false at the end. */
static bool next_layer(tmb_stats_file *const *files, uint32_t n, int64_t after, uint32_t *file,
                       uint32_t *place, bool *twice)
{
    int64_t best = INT64_MAX;
    *twice = false;
    for (uint32_t k = 0; k < n; k++)
        for (uint32_t i = 0; i < files[k]->n_layers; i++) {
            int64_t index = files[k]->layers[i];
            if (index <= after || index > best) continue;
            *twice = index == best;
            best = index;
            *file = k;
            *place = i;
        }
    return best != INT64_MAX;
}

static tmb_status assemble(tmb_stats_writer *w, tmb_stats_file *const *files, uint32_t n,
                           tmb_err *err)
{
    uint32_t k, i;
    bool twice;
    for (int64_t after = -1; next_layer(files, n, after, &k, &i, &twice);) {
        tmb_stats_layer *l = NULL;
        after = files[k]->layers[i];
        if (twice)
            return tmb_fail(err, TMB_EDATA, "%s: layer %d is in another file too", files[k]->path,
                            files[k]->layers[i]);
        tmb_status status = tmb_stats_read(files[k], i, true, &l, err);
        if (!status) status = tmb_stats_put(w, l, err);
        tmb_stats_layer_free(l);
        if (status) return status;
    }
    return TMB_OK;
}

tmb_status tmb_stats_assemble(const char *path, tmb_stats_file *const *files, uint32_t n,
                              const char *manifest, tmb_err *err)
{
    tmb_stats_writer *w = NULL;
    tmb_status status = n ? TMB_OK : tmb_fail(err, TMB_EUSAGE, "%s: no layers", path);
    for (uint32_t i = 1; i < n && !status; i++)
        status = same_data(files[0], files[i], err);
    if (!status) status = tmb_stats_create(&w, path, &files[0]->identity, err);
    if (!status) status = assemble(w, files, n, err);
    if (!status) status = tmb_stats_publish(w, manifest, err);
    tmb_stats_writer_close(w);
    return status;
}
