/* file_write.c - statistics into a store. */
#include "config.h"
#include "moe/calib/file_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tmb_stats_writer {
    tmb_store *store;
    tmb_stats_identity identity; /* without pointers: settings and counts */
    uint32_t *order;             /* [n_sources] sources by name */
};

void tmb_layer_name(char out[TMB_LAYER_NAME], int32_t index)
{
    if (index == TMB_STATS_HEAD)
        snprintf(out, TMB_LAYER_NAME, "layers/head");
    else
        snprintf(out, TMB_LAYER_NAME, "layers/%03d", index);
}

/* ------------------------------------------------------------------------------ small arrays */

static tmb_status put(const put_ctx *p, const char *leaf, tmb_store_type type, int rank,
                      const uint64_t *dims, const void *data, tmb_err *err)
{
    char name[TMB_STORE_NAME];
    if (snprintf(name, sizeof name, "%s/%s", p->group, leaf) >= (int)sizeof name)
        return tmb_fail(err, TMB_EDATA, "%s/%s: name too long", p->group, leaf);
    return tmb_store_put(p->store, name, type, rank, dims, data, err);
}

static tmb_status put_u64(const put_ctx *p, const char *leaf, uint64_t value, tmb_err *err)
{
    return put(p, leaf, TMB_STORE_U64, 1, &(uint64_t){1}, &value, err);
}

static tmb_status put_u32(const put_ctx *p, const char *leaf, uint32_t value, tmb_err *err)
{
    return put(p, leaf, TMB_STORE_U32, 1, &(uint64_t){1}, &value, err);
}

static tmb_status put_texts(const put_ctx *p, const char *leaf, const char *const *texts,
                            uint64_t n, tmb_err *err)
{
    char name[TMB_STORE_NAME];
    snprintf(name, sizeof name, "%s/%s", p->group, leaf);
    return tmb_store_put_texts(p->store, name, texts, n, err);
}

/* Histograms [n] of all bins, written from the lowest bin any of them uses to the highest. */
static tmb_status put_bins(const put_ctx *p, const char *leaf, const uint64_t *const *bins,
                           uint64_t n, tmb_err *err)
{
    uint32_t first = TMB_HIST_BINS, last = 0;
    char low[64];
    for (uint64_t e = 0; e < n; e++)
        for (uint32_t i = 0; bins[e] && i < TMB_HIST_BINS; i++)
            if (bins[e][i]) {
                first = i < first ? i : first;
                last = i > last ? i : last;
            }
    if (first == TMB_HIST_BINS) first = 0;
    uint64_t dims[2] = {n, last - first + 1};
    uint64_t *all = calloc(n * dims[1] + 1, sizeof *all);
    if (!all) return tmb_fail_memory(err, n * dims[1] * 8, "histograms");
    for (uint64_t e = 0; e < n; e++)
        if (bins[e]) memcpy(all + e * dims[1], bins[e] + first, dims[1] * sizeof *all);
    snprintf(low, sizeof low, "%s_first", leaf);
    tmb_status status = put_u32(p, low, first, err);
    if (!status) status = put(p, leaf, TMB_STORE_U64, 2, dims, all, err);
    free(all);
    return status;
}

/* ------------------------------------------------------------------------------ sums */

/* Where in sums the k-th figure of a block lies: squares or the diagonal, or the triangle. */
uint64_t tmb_sum_place(bool moments, bool triangle, uint64_t block, int k)
{
    if (!moments) return block * TMB_STAT_BLOCK + (uint64_t)k;
    if (!triangle) return block * TMB_STAT_SUMS + (uint64_t)tmb_stat_sum(k, k);
    int i = 0;
    while (k >= TMB_STAT_BLOCK - i)
        k -= TMB_STAT_BLOCK - i++;
    return block * TMB_STAT_SUMS + (uint64_t)tmb_stat_sum(i, i + k);
}

static int planes_of(const put_ctx *p, bool triangle)
{
    uint64_t blocks = tmb_accum_blocks(&p->shape);
    int most = 1, per = triangle ? TMB_MOMENT_PAIRS : TMB_STAT_BLOCK;
    for (uint64_t e = 0; e < p->n; e++)
        for (uint64_t b = 0; b < blocks && p->accums[e]->tokens; b++)
            for (int k = 0; k < per; k++) {
                int planes =
                    tmb_accum_planes(p->accums[e], tmb_sum_place(p->shape.moments, triangle, b, k));
                most = planes > most ? planes : most;
            }
    return most;
}

/* sum_of_squares [n][planes][in], or second_moment [n][planes][blocks][136]. */
static tmb_status put_sums(const put_ctx *p, bool triangle, tmb_err *err)
{
    uint64_t blocks = tmb_accum_blocks(&p->shape);
    int planes = planes_of(p, triangle), per = triangle ? TMB_MOMENT_PAIRS : TMB_STAT_BLOCK;
    uint64_t row = triangle ? blocks * TMB_MOMENT_PAIRS : p->shape.in;
    uint64_t dims[4] = {p->n, (uint64_t)planes, triangle ? blocks : row, TMB_MOMENT_PAIRS};
    char name[TMB_STORE_NAME];
    snprintf(name, sizeof name, "%s/%s", p->group, triangle ? "second_moment" : "sum_of_squares");
    TRY(tmb_store_begin(p->store, name, TMB_STORE_I64, triangle ? 4 : 3, dims, err));
    int64_t *out = malloc((uint64_t)planes * row * sizeof *out);
    int64_t *digits = malloc((uint64_t)planes * sizeof *digits);
    tmb_status status = out && digits ? TMB_OK : tmb_fail_memory(err, row * 8, "sums");
    for (uint64_t e = 0; e < p->n && !status; e++) {
        for (uint64_t i = 0; i < row; i++) {
            uint64_t at = tmb_sum_place(p->shape.moments, triangle, i / (uint64_t)per,
                                        (int)(i % (uint64_t)per));
            tmb_accum_digits(p->accums[e], at, planes, digits);
            for (int d = 0; d < planes; d++)
                out[(uint64_t)d * row + i] = digits[d];
        }
        status = tmb_store_more(p->store, out, 1, err);
    }
    if (!status) status = tmb_store_end(p->store, err);
    free(digits);
    free(out);
    return status;
}

/* ------------------------------------------------------------------------------ sites */

/* The columns of the accumulators: one array a field. */
static tmb_status put_columns(const put_ctx *p, uint64_t *u, tmb_err *err)
{
    uint64_t n = p->n;
    int32_t *i32 = (int32_t *)u;
    for (uint64_t e = 0; e < n; e++)
        u[e] = p->accums[e]->tokens;
    TRY(put(p, "tokens", TMB_STORE_U64, 1, &n, u, err));
    for (uint64_t e = 0; e < n; e++)
        u[e] = (uint64_t)p->accums[e]->gate;
    TRY(put(p, "gate_mass", TMB_STORE_I64, 1, &n, u, err));
    for (uint64_t e = 0; e < n; e++)
        u[e] = (uint64_t)p->accums[e]->gate2;
    TRY(put(p, "gate2_mass", TMB_STORE_I64, 1, &n, u, err));
    for (uint64_t e = 0; e < n; e++)
        i32[e] = (int32_t)p->accums[e]->amax;
    TRY(put(p, "amax", TMB_STORE_F32, 1, &n, i32, err));
    for (uint64_t e = 0; e < n; e++)
        i32[e] = p->accums[e]->seen
                     ? TMB_CLASS_BITS * tmb_accum_lowest(p->accums[e]) + TMB_UNIT_EXPONENT
                     : 0;
    return put(p, "exponent", TMB_STORE_I32, 1, &n, i32, err);
}

static tmb_status put_accums(const put_ctx *p, tmb_err *err)
{
    const uint64_t **bins = malloc(p->n * sizeof *bins + 1);
    uint64_t *column = malloc(p->n * sizeof *column + 1);
    tmb_status status = bins && column ? TMB_OK : tmb_fail_memory(err, p->n * 8, "statistics");
    if (!status) status = put_columns(p, column, err);
    for (uint64_t e = 0; e < p->n && !status; e++)
        bins[e] = p->accums[e]->values;
    if (!status) status = put_bins(p, "values", bins, p->n, err);
    for (uint64_t e = 0; e < p->n && !status; e++)
        bins[e] = p->accums[e]->blocks;
    if (!status) status = put_bins(p, "blocks", bins, p->n, err);
    if (!status) status = put_sums(p, false, err);
    if (!status && p->shape.moments) status = put_sums(p, true, err);
    free(column);
    free(bins);
    return status;
}

static tmb_status put_rungs(const put_ctx *p, const tmb_site *site, uint64_t min_tokens,
                            tmb_err *err)
{
    uint64_t n = site->n;
    uint64_t *native = malloc(n * sizeof *native), *shadow = malloc(n * sizeof *shadow);
    tmb_rung *rungs = malloc(n * sizeof *rungs);
    uint8_t *bytes = malloc(n);
    tmb_status status = TMB_OK;
    if (native && shadow && rungs && bytes) {
        for (uint64_t e = 0; e < n; e++) {
            native[e] = site->native[e].tokens;
            shadow[e] = site->shadow[e].tokens;
        }
        tmb_ladder(rungs, native, shadow, n, min_tokens, NULL);
        for (uint64_t e = 0; e < n; e++)
            bytes[e] = (uint8_t)rungs[e];
        status = put(p, "rung", TMB_STORE_U8, 1, &n, bytes, err);
    } else
        status = tmb_fail_memory(err, n * 8, "the rungs of experts");
    free(native);
    free(shadow);
    free(rungs);
    free(bytes);
    return status;
}

static tmb_status sound(const tmb_site *site, tmb_err *err)
{
    for (uint32_t e = 0; e < site->n; e++) {
        uint64_t bad = site->native[e].nonfinite + (site->expert ? site->shadow[e].nonfinite : 0);
        if (bad && site->expert)
            return tmb_fail(err, TMB_EDATA,
                            "%s: expert %u has %llu inputs that are NaN, Inf or "
                            "past 2^121; no scale fits them",
                            site->linears[0], e, (unsigned long long)bad);
        if (bad)
            return tmb_fail(err, TMB_EDATA,
                            "%s: %llu inputs are NaN, Inf or past 2^121; no scale fits them",
                            site->linears[0], (unsigned long long)bad);
    }
    return TMB_OK;
}

/* The shadow figures of the experts that have any. */
static tmb_status put_shadow(put_ctx *p, const tmb_site *site, tmb_err *err)
{
    uint32_t *experts = malloc(site->n * sizeof *experts);
    size_t at = strlen(p->group);
    uint64_t n = 0;
    if (!experts) return tmb_fail_memory(err, site->n * 4, "statistics");
    for (uint32_t e = 0; e < site->n; e++)
        if (site->shadow[e].tokens) {
            experts[n] = e;
            p->accums[n++] = &site->shadow[e];
        }
    tmb_status status = TMB_OK;
    if (n) {
        p->n = n;
        snprintf(p->group + at, sizeof p->group - at, "/shadow");
        status = put(p, "expert", TMB_STORE_U32, 1, &n, experts, err);
        if (!status) status = put_accums(p, err);
        p->group[at] = 0;
    }
    free(experts);
    return status;
}

static tmb_status put_site(tmb_stats_writer *w, const char *layer, const tmb_stats_layer *l,
                           const tmb_site *site, tmb_err *err)
{
    TRY(sound(site, err));
    put_ctx p = {.store = w->store, .shape = tmb_site_shape(l, site), .n = site->n};
    if (snprintf(p.group, sizeof p.group, "%s/%s", layer, site->name) > TMB_GROUP_NAME - 16)
        return tmb_fail(err, TMB_EDATA, "%s: name too long", site->name);
    p.accums = malloc(site->n * sizeof *p.accums);
    if (!p.accums) return tmb_fail_memory(err, site->n * sizeof *p.accums, "statistics");
    for (uint32_t e = 0; e < site->n; e++)
        p.accums[e] = &site->native[e];
    tmb_status status = put_texts(&p, "linears", site->linears, site->n_linears, err);
    if (!status) status = put_u64(&p, "channels", site->in, err);
    if (!status) status = put_u32(&p, "experts", site->expert ? site->n : 0, err);
    if (!status) status = put_accums(&p, err);
    if (!status && site->expert) status = put_rungs(&p, site, w->identity.min_tokens, err);
    if (!status && site->expert) status = put_shadow(&p, site, err);
    free(p.accums);
    return status;
}

/* ------------------------------------------------------------------------------ layers */

static tmb_status put_router(tmb_stats_writer *w, const char *layer, const tmb_router_stats *r,
                             tmb_err *err)
{
    put_ctx p = {.store = w->store};
    snprintf(p.group, sizeof p.group, "%.24s/router", layer);
    uint64_t e = r->experts, pairs = tmb_router_pairs(r->experts), dims[2] = {r->sources, e};
    uint64_t *rows = malloc(dims[0] * e * sizeof *rows);
    if (!rows) return tmb_fail_memory(err, dims[0] * e * 8, "statistics of a router");
    for (uint32_t s = 0; s < r->sources; s++)
        memcpy(rows + s * e, r->by_source + w->order[s] * e, e * sizeof *rows);
    const uint64_t *bins[] = {r->positive, r->negative, r->margin};
    tmb_status status = put_u32(&p, "top_k", r->top_k, err);
    if (!status) status = put_u64(&p, "tokens", r->tokens, err);
    if (!status) status = put_u64(&p, "ties", r->ties, err);
    if (!status) status = put_u64(&p, "unrivalled", r->unrivalled, err);
    if (!status) status = put(&p, "load", TMB_STORE_U64, 1, &e, r->load, err);
    if (!status) status = put(&p, "pairs", TMB_STORE_U64, 1, &pairs, r->pairs, err);
    if (!status) status = put(&p, "by_source", TMB_STORE_U64, 2, dims, rows, err);
    if (!status) status = put_bins(&p, "logits_positive", &bins[0], 1, err);
    if (!status) status = put_bins(&p, "logits_negative", &bins[1], 1, err);
    if (!status) status = put_bins(&p, "margin", &bins[2], 1, err);
    free(rows);
    return status;
}

static bool has_rows(const tmb_site *site)
{
    return site->expert || site->native[0].tokens;
}

tmb_status tmb_stats_put(tmb_stats_writer *w, const tmb_stats_layer *l, tmb_err *err)
{
    put_ctx p = {.store = w->store};
    tmb_layer_name(p.group, l->index);
    if (l->moments != w->identity.moments)
        return tmb_fail(err, TMB_EINTERNAL, "%s: second moments in one, not in the other", p.group);
    if (l->kv_nonfinite || (l->router && l->router->nonfinite))
        return tmb_fail(err, TMB_EDATA,
                        "layer %d: %llu values of k and v and %llu router logits are NaN, Inf or "
                        "past 2^121",
                        l->index, (unsigned long long)l->kv_nonfinite,
                        (unsigned long long)(l->router ? l->router->nonfinite : 0));
    if (l->router && l->router->sources != w->identity.n_sources)
        return tmb_fail(err, TMB_EINTERNAL, "%s: %u sources, not %u", p.group, l->router->sources,
                        w->identity.n_sources);
    const char **names = malloc(l->n_sites * sizeof *names + 1);
    uint64_t n = 0;
    if (!names) return tmb_fail_memory(err, l->n_sites * sizeof *names, "the names of sites");
    for (uint32_t s = 0; s < l->n_sites; s++)
        if (has_rows(&l->sites[s])) names[n++] = l->sites[s].name;
    tmb_status status = put_texts(&p, "sites", names, n, err);
    free(names);
    for (uint32_t s = 0; s < l->n_sites && !status; s++)
        if (has_rows(&l->sites[s])) status = put_site(w, p.group, l, &l->sites[s], err);
    uint64_t kv = l->has_v ? 2 : 1;
    uint32_t bits[2] = {l->k_amax, l->v_amax};
    if (!status && l->has_kv) status = put(&p, "kv_amax", TMB_STORE_F32, 1, &kv, bits, err);
    if (!status && l->router) status = put_router(w, p.group, l->router, err);
    return status;
}

/* ------------------------------------------------------------------------------ the file */

static int by_bytes(const void *a, const void *b)
{
    return memcmp(a, b, TMB_SEQUENCE_BYTES);
}

static tmb_status put_sequences(tmb_stats_writer *w, const tmb_stats_identity *id, tmb_err *err)
{
    uint64_t dims[2] = {id->n_sequences, TMB_SEQUENCE_BYTES};
    size_t bytes = (size_t)id->n_sequences * TMB_SEQUENCE_BYTES;
    uint8_t *sorted = malloc(bytes + 1);
    if (!sorted) return tmb_fail_memory(err, bytes, "the digests of sequences");
    if (bytes) memcpy(sorted, id->sequences, bytes);
    qsort(sorted, (size_t)id->n_sequences, TMB_SEQUENCE_BYTES, by_bytes);
    tmb_status status =
        tmb_store_put(w->store, "data/sequences", TMB_STORE_U8, 2, dims, sorted, err);
    free(sorted);
    return status;
}

static tmb_status put_sources(tmb_stats_writer *w, const tmb_stats_identity *id, tmb_err *err)
{
    put_ctx p = {.store = w->store, .group = "data"};
    uint64_t n = id->n_sources;
    uint64_t *column = malloc(n * sizeof *column + 1);
    const char **names = malloc(n * sizeof *names + 1);
    tmb_status status = column && names ? TMB_OK : tmb_fail_memory(err, n * 8, "sources");
    for (uint64_t i = 0; i < n && !status; i++)
        names[i] = id->sources[w->order[i]].name;
    for (uint64_t i = 1; i < n && !status; i++)
        if (!strcmp(names[i], names[i - 1]))
            status = tmb_fail(err, TMB_EUSAGE, "two sources of data are called '%s'", names[i]);
    if (!status) status = put_texts(&p, "sources", names, n, err);
    for (uint64_t i = 0; i < n && !status; i++)
        column[i] = id->sources[w->order[i]].sequences;
    if (!status) status = put(&p, "source_sequences", TMB_STORE_U64, 1, &n, column, err);
    for (uint64_t i = 0; i < n && !status; i++)
        column[i] = id->sources[w->order[i]].tokens;
    if (!status) status = put(&p, "source_tokens", TMB_STORE_U64, 1, &n, column, err);
    free(names);
    free(column);
    return status;
}

static tmb_status put_identity(tmb_stats_writer *w, const tmb_stats_identity *id, tmb_err *err)
{
    put_ctx p = {.store = w->store, .group = "model"};
    const char *hessian = id->moments ? "block16" : "none";
    TRY(put_texts(&p, "type", &id->model_type, 1, err));
    TRY(put_texts(&p, "sha256", &id->model_sha256, 1, err));
    TRY(put_u32(&p, "layers", id->layers, err));
    snprintf(p.group, sizeof p.group, "settings");
    TRY(put_texts(&p, "hessian", &hessian, 1, err));
    TRY(put_u64(&p, "min_tokens", id->min_tokens, err));
    TRY(put_sources(w, id, err));
    return put_sequences(w, id, err);
}

tmb_status tmb_stats_create(tmb_stats_writer **out, const char *path, const tmb_stats_identity *id,
                            tmb_err *err)
{
    *out = NULL;
    tmb_stats_writer *w = calloc(1, sizeof *w);
    if (!w) return tmb_fail_memory(err, sizeof *w, "statistics");
    w->identity = *id;
    w->order = malloc(id->n_sources * sizeof *w->order + 1);
    tmb_status status =
        w->order ? TMB_OK : tmb_fail_memory(err, id->n_sources * sizeof *w->order, "sources");
    for (uint32_t i = 0; i < id->n_sources && !status; i++) {
        uint32_t j = i; /* insertion: a handful of sources */
        for (; j > 0 && strcmp(id->sources[w->order[j - 1]].name, id->sources[i].name) > 0; j--)
            w->order[j] = w->order[j - 1];
        w->order[j] = i;
    }
    if (!status) status = tmb_store_create(&w->store, path, TMB_STATS_KIND, TMB_STATS_VERSION, err);
    if (!status) status = put_identity(w, id, err);
    if (status) {
        tmb_stats_writer_close(w);
        return status;
    }
    *out = w;
    return TMB_OK;
}

tmb_status tmb_stats_publish(tmb_stats_writer *w, const char *manifest, tmb_err *err)
{
    TRY(tmb_store_put_texts(w->store, "manifest", &manifest, 1, err));
    return tmb_store_publish(w->store, err);
}

const char *tmb_stats_writer_digest(const tmb_stats_writer *w)
{
    return tmb_store_digest(w->store);
}

void tmb_stats_writer_close(tmb_stats_writer *w)
{
    if (!w) return;
    tmb_store_close(w->store);
    free(w->order);
    free(w);
}
