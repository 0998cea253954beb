/* file_read.c - one layer of a statistics file, every figure checked against the others. */
#include "config.h"
#include "moe/calib/file_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXPERTS_MAX = 4096, LINEARS_MAX = 64, SITES_MAX = 4096, CHANNELS_MAX = 1 << 24 };

typedef struct get_ctx {
    tmb_store *store;
    char group[TMB_GROUP_NAME];
    tmb_arena *arena; /* for names */
    tmb_accum_shape shape;
    tmb_accum **accums; /* [n] */
    uint64_t n;
} get_ctx;

/* ------------------------------------------------------------------------------ small arrays */

static tmb_status wrong(const get_ctx *g, const char *leaf, const char *what, tmb_err *err)
{
    return tmb_fail(err, TMB_EDATA, "%s: %s/%s: %s; the file is damaged or made up",
                    tmb_store_path(g->store), g->group, leaf, what);
}

static tmb_status full_name(const get_ctx *g, const char *leaf, char out[TMB_STORE_NAME],
                            tmb_err *err)
{
    if (snprintf(out, TMB_STORE_NAME, "%s/%s", g->group, leaf) < TMB_STORE_NAME) return TMB_OK;
    return wrong(g, leaf, "name too long", err);
}

static tmb_status get(const get_ctx *g, const char *leaf, tmb_store_type type, int rank,
                      const uint64_t *dims, void *out, tmb_err *err)
{
    char name[TMB_STORE_NAME];
    TRY(full_name(g, leaf, name, err));
    return tmb_store_get(g->store, name, type, rank, dims, out, err);
}

static tmb_status get_u64(const get_ctx *g, const char *leaf, uint64_t *out, tmb_err *err)
{
    return get(g, leaf, TMB_STORE_U64, 1, &(uint64_t){1}, out, err);
}

static tmb_status get_u32(const get_ctx *g, const char *leaf, uint32_t *out, tmb_err *err)
{
    return get(g, leaf, TMB_STORE_U32, 1, &(uint64_t){1}, out, err);
}

tmb_status tmb_get_texts(tmb_store *store, tmb_arena *arena, const char *name, uint64_t most,
                         const char *const **out, uint64_t *n, tmb_err *err)
{
    tmb_store_shape shape;
    if (!tmb_store_find(store, name, &shape)) return tmb_store_missing(store, name, err);
    if (shape.type != TMB_STORE_TEXT || shape.rank != 1 || shape.dims[0] > most)
        return tmb_fail(err, TMB_EDATA, "%s: %s: has another type or shape than it must",
                        tmb_store_path(store), name);
    *n = shape.dims[0];
    char *all = malloc(*n * shape.width + 1);
    const char **texts = tmb_arena_alloc(arena, *n * sizeof *texts + 1);
    tmb_status status = all && texts ? TMB_OK : tmb_fail_memory(err, *n * shape.width, "texts");
    if (!status) status = tmb_store_get(store, name, TMB_STORE_TEXT, 1, n, all, err);
    for (uint64_t i = 0; i < *n && !status; i++) {
        const char *text = all + i * shape.width;
        texts[i] = tmb_arena_text(arena, text, strnlen(text, shape.width));
        if (!texts[i]) status = tmb_fail_memory(err, shape.width, "texts");
    }
    free(all);
    *out = texts;
    return status;
}

/* Histograms of all bins from those written; out[e] NULL: the row must be empty. */
static tmb_status get_bins(const get_ctx *g, const char *leaf, uint64_t *const *out, uint64_t n,
                           tmb_err *err)
{
    char name[TMB_STORE_NAME], low[64];
    uint32_t first;
    tmb_store_shape shape;
    snprintf(low, sizeof low, "%s_first", leaf);
    TRY(get_u32(g, low, &first, err));
    TRY(full_name(g, leaf, name, err));
    if (!tmb_store_find(g->store, name, &shape)) return tmb_store_missing(g->store, name, err);
    uint64_t width = shape.dims[1];
    if (shape.rank != 2 || width < 1 || width > TMB_HIST_BINS || first > TMB_HIST_BINS - width)
        return wrong(g, leaf, "bins outside 0 to 2047", err);
    uint64_t *all = malloc(n * width * sizeof *all + 1);
    if (!all) return tmb_fail_memory(err, n * width * 8, "histograms");
    tmb_status status = get(g, leaf, TMB_STORE_U64, 2, (uint64_t[]){n, width}, all, err);
    for (uint64_t e = 0; e < n && !status; e++)
        for (uint64_t i = 0; i < width && !status; i++) {
            if (out[e])
                out[e][first + i] = all[e * width + i];
            else if (all[e * width + i])
                status = wrong(g, leaf, "counts without tokens", err);
        }
    free(all);
    return status;
}

/* The counts of a histogram must add up to `total`. */
static bool adds_up(const uint64_t *bins, uint64_t n, uint64_t total)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < n; i++)
        if (!tmb_add(sum, bins[i], &sum)) return false;
    return sum == total;
}

/* ------------------------------------------------------------------------------ sums */

static tmb_status sums_shape(const get_ctx *g, const char *leaf, int rank, const uint64_t *dims,
                             int *planes, tmb_err *err)
{
    char name[TMB_STORE_NAME];
    tmb_store_shape shape;
    TRY(full_name(g, leaf, name, err));
    if (!tmb_store_find(g->store, name, &shape)) return tmb_store_missing(g->store, name, err);
    if (shape.rank != rank || shape.dims[1] < 1 || shape.dims[1] > 16)
        return wrong(g, leaf, "has another shape than it must", err);
    *planes = (int)shape.dims[1];
    uint64_t want[TMB_STORE_RANK];
    memcpy(want, dims, (size_t)rank * sizeof *want);
    want[1] = (uint64_t)*planes;
    return tmb_store_get_begin(g->store, name, TMB_STORE_I64, rank, want, err);
}

/* Take the digits of entry e, or compare them with what its sums say. */
static tmb_status take_row(const get_ctx *g, const char *leaf, uint64_t e, bool triangle,
                           bool compare, uint64_t row, int planes, const int64_t *in, tmb_err *err)
{
    tmb_accum *a = g->accums[e];
    int per = triangle ? TMB_MOMENT_PAIRS : TMB_STAT_BLOCK;
    int64_t digits[16], own[16];
    for (uint64_t i = 0; i < row; i++) {
        uint64_t at =
            tmb_sum_place(g->shape.moments, triangle, i / (uint64_t)per, (int)(i % (uint64_t)per));
        bool any = false;
        for (int d = 0; d < planes; d++) {
            digits[d] = in[(uint64_t)d * row + i];
            any |= digits[d] != 0;
        }
        if (compare) {
            tmb_accum_digits(a, at, planes, own);
            if (memcmp(own, digits, (size_t)planes * sizeof *own))
                return wrong(g, leaf, "is not the diagonal of second_moment", err);
            continue;
        }
        if (!any) continue;
        tmb_err why = {0};
        if (!a->seen) return wrong(g, leaf, "sums without an exponent", err);
        tmb_status status =
            tmb_accum_take(a, &g->shape, tmb_accum_lowest(a), at, planes, digits, &why);
        if (status == TMB_EDATA) return wrong(g, leaf, why.message, err);
        if (status) {
            if (err) *err = why;
            return status;
        }
        if (!triangle && tmb_accum_value(a, at) < 0)
            return wrong(g, leaf, "a sum of squares is negative", err);
    }
    return TMB_OK;
}

static tmb_status get_sums(const get_ctx *g, bool triangle, bool compare, tmb_err *err)
{
    const char *leaf = triangle ? "second_moment" : "sum_of_squares";
    uint64_t blocks = tmb_accum_blocks(&g->shape), row = g->shape.in;
    uint64_t dims[4] = {g->n, 0, row, TMB_MOMENT_PAIRS};
    int planes = 0;
    if (triangle) {
        dims[2] = blocks;
        row = blocks * TMB_MOMENT_PAIRS;
    }
    TRY(sums_shape(g, leaf, triangle ? 4 : 3, dims, &planes, err));
    int64_t *in = malloc((uint64_t)planes * row * sizeof *in);
    if (!in) return tmb_fail_memory(err, (uint64_t)planes * row * 8, "sums");
    tmb_status status = TMB_OK;
    for (uint64_t e = 0; e < g->n && !status; e++) {
        status = tmb_store_get_more(g->store, in, 1, err);
        if (!status) status = take_row(g, leaf, e, triangle, compare, row, planes, in, err);
    }
    free(in);
    return status ? status : tmb_store_get_end(g->store, err);
}

/* ------------------------------------------------------------------------------ sites */

static tmb_status get_columns(const get_ctx *g, uint64_t *u, tmb_err *err)
{
    uint64_t n = g->n;
    int32_t *i32 = (int32_t *)u;
    TRY(get(g, "tokens", TMB_STORE_U64, 1, &n, u, err));
    for (uint64_t e = 0; e < n; e++) {
        if (u[e] > (uint64_t)1 << 40) return wrong(g, "tokens", "more than 2^40", err);
        g->accums[e]->tokens = u[e];
    }
    TRY(get(g, "gate_mass", TMB_STORE_I64, 1, &n, u, err));
    for (uint64_t e = 0; e < n; e++)
        g->accums[e]->gate = (int64_t)u[e];
    TRY(get(g, "gate2_mass", TMB_STORE_I64, 1, &n, u, err));
    for (uint64_t e = 0; e < n; e++)
        g->accums[e]->gate2 = (int64_t)u[e];
    TRY(get(g, "amax", TMB_STORE_F32, 1, &n, i32, err));
    for (uint64_t e = 0; e < n; e++) {
        g->accums[e]->amax = (uint32_t)i32[e];
        if (i32[e] < 0 || i32[e] >= TMB_STAT_LIMIT || (i32[e] && !g->accums[e]->tokens))
            return wrong(g, "amax", "negative, not finite, or without tokens", err);
    }
    TRY(get(g, "exponent", TMB_STORE_I32, 1, &n, i32, err));
    for (uint64_t e = 0; e < n; e++) {
        int c = (i32[e] - TMB_UNIT_EXPONENT) / TMB_CLASS_BITS;
        bool none = i32[e] == 0;
        if (none != (g->accums[e]->amax == 0) ||
            (!none && (i32[e] < TMB_UNIT_EXPONENT || c >= TMB_CLASSES ||
                       c * TMB_CLASS_BITS + TMB_UNIT_EXPONENT != i32[e])))
            return wrong(g, "exponent", "none that a sum can have", err);
        if (!none) g->accums[e]->seen = 1u << c;
    }
    return TMB_OK;
}

static tmb_status get_histograms(const get_ctx *g, uint64_t **bins, tmb_err *err)
{
    for (uint64_t e = 0; e < g->n; e++) {
        if (g->accums[e]->tokens) TRY(tmb_accum_need_bins(g->accums[e], err));
        bins[e] = g->accums[e]->values;
    }
    TRY(get_bins(g, "values", bins, g->n, err));
    for (uint64_t e = 0; e < g->n; e++)
        bins[e] = g->accums[e]->blocks;
    TRY(get_bins(g, "blocks", bins, g->n, err));
    for (uint64_t e = 0; e < g->n; e++) {
        const tmb_accum *a = g->accums[e];
        if (!a->tokens) continue;
        if (!adds_up(a->values, TMB_HIST_BINS, a->tokens * g->shape.in))
            return wrong(g, "values", "does not add up to tokens times channels", err);
        if (!adds_up(a->blocks, TMB_HIST_BINS, a->tokens * tmb_accum_blocks(&g->shape)))
            return wrong(g, "blocks", "does not add up to tokens times blocks", err);
        if (!a->values[a->amax >> 20]) return wrong(g, "amax", "lies in a bin without counts", err);
    }
    return TMB_OK;
}

static tmb_status get_accums(const get_ctx *g, tmb_err *err)
{
    uint64_t *column = malloc(g->n * sizeof *column + 1);
    uint64_t **bins = malloc(g->n * sizeof *bins + 1);
    tmb_status status = column && bins ? TMB_OK : tmb_fail_memory(err, g->n * 8, "statistics");
    if (!status) status = get_columns(g, column, err);
    if (!status) status = get_histograms(g, bins, err);
    if (!status && g->shape.moments) status = get_sums(g, true, false, err);
    if (!status) status = get_sums(g, false, g->shape.moments, err);
    free(column);
    free(bins);
    return status;
}

static tmb_status check_rungs(const get_ctx *g, const tmb_site *site, uint64_t min_tokens,
                              tmb_err *err)
{
    uint64_t n = site->n, layer = 0;
    uint8_t *bytes = malloc(n);
    if (!bytes) return tmb_fail_memory(err, n, "the rungs of experts");
    tmb_status status = get(g, "rung", TMB_STORE_U8, 1, &n, bytes, err);
    for (uint64_t e = 0; e < n; e++)
        layer += site->native[e].tokens;
    for (uint64_t e = 0; e < n && !status; e++)
        if (bytes[e] !=
            tmb_rung_of(site->native[e].tokens, site->shadow[e].tokens, layer, min_tokens))
            status = wrong(g, "rung", "not what the tokens say", err);
    free(bytes);
    return status;
}

static tmb_status get_shadow(get_ctx *g, const tmb_site *site, tmb_err *err)
{
    char name[TMB_STORE_NAME];
    tmb_store_shape shape;
    size_t at = strlen(g->group);
    TRY(full_name(g, "shadow/expert", name, err));
    if (!tmb_store_find(g->store, name, &shape)) return TMB_OK;
    uint64_t n = shape.dims[0];
    if (n < 1 || n > site->n) return wrong(g, "shadow/expert", "too many experts", err);
    uint32_t *experts = malloc(n * sizeof *experts);
    if (!experts) return tmb_fail_memory(err, n * 4, "statistics");
    snprintf(g->group + at, sizeof g->group - at, "/shadow");
    tmb_status status = get(g, "expert", TMB_STORE_U32, 1, &n, experts, err);
    for (uint64_t i = 0; i < n && !status; i++) {
        if (experts[i] >= site->n || (i && experts[i] <= experts[i - 1]))
            status = wrong(g, "expert", "not ascending, or no such expert", err);
        else
            g->accums[i] = &site->shadow[experts[i]];
    }
    g->n = n;
    if (!status) status = get_accums(g, err);
    for (uint64_t i = 0; i < n && !status; i++)
        if (!g->accums[i]->tokens) status = wrong(g, "tokens", "an expert without any", err);
    free(experts);
    g->group[at] = 0;
    return status;
}

static tmb_status get_site(get_ctx *g, tmb_stats_layer *l, tmb_site *site, uint64_t min_tokens,
                           tmb_err *err)
{
    char name[TMB_STORE_NAME];
    uint64_t n;
    uint32_t experts;
    TRY(full_name(g, "linears", name, err));
    TRY(tmb_get_texts(g->store, g->arena, name, LINEARS_MAX, &site->linears, &n, err));
    site->n_linears = (uint32_t)n;
    TRY(get_u64(g, "channels", &site->in, err));
    TRY(get_u32(g, "experts", &experts, err));
    if (!n || !site->in || site->in > CHANNELS_MAX || experts > EXPERTS_MAX)
        return wrong(g, "channels", "no Linear, or more than 2^24 channels or 4096 experts", err);
    site->expert = experts > 0;
    site->n = site->expert ? experts : 1;
    TRY(tmb_site_room(l, site, err));
    g->n = site->n;
    g->shape = tmb_site_shape(l, site);
    g->accums = malloc(site->n * sizeof(tmb_accum *));
    if (!g->accums) return tmb_fail_memory(err, site->n * 8, "statistics");
    for (uint32_t e = 0; e < site->n; e++)
        g->accums[e] = &site->native[e];
    tmb_status status = get_accums(g, err);
    if (!status && site->expert) status = get_shadow(g, site, err);
    if (!status && site->expert) status = check_rungs(g, site, min_tokens, err);
    free(g->accums);
    g->accums = NULL;
    return status;
}

/* ------------------------------------------------------------------------------ router, layer */

static tmb_status check_router(const get_ctx *g, const tmb_router_stats *r, tmb_err *err)
{
    uint64_t e = r->experts, sum = 0;
    for (uint64_t i = 0; i < e; i++) {
        uint64_t of_sources = 0;
        for (uint32_t s = 0; s < r->sources; s++)
            of_sources += r->by_source[s * e + i];
        if (of_sources != r->load[i]) return wrong(g, "by_source", "does not add up to load", err);
        if (r->pairs[tmb_router_pair(r->experts, (uint32_t)i, (uint32_t)i)] != r->load[i])
            return wrong(g, "pairs", "its diagonal is not load", err);
    }
    for (int i = 0; i < TMB_HIST_BINS; i++)
        sum += r->positive[i] + r->negative[i];
    if (sum != r->tokens * e)
        return wrong(g, "logits_positive", "logits do not add up to tokens times experts", err);
    if (!adds_up(r->load, e, r->tokens * r->top_k))
        return wrong(g, "load", "does not add up to tokens times top_k", err);
    if (r->unrivalled > r->tokens ||
        !adds_up(r->margin, TMB_HIST_BINS, r->tokens - r->unrivalled) || r->ties > r->margin[0])
        return wrong(g, "margin", "does not add up to the tokens", err);
    return TMB_OK;
}

static tmb_status get_router(get_ctx *g, tmb_stats_layer *l, uint32_t sources, tmb_err *err)
{
    char name[TMB_STORE_NAME];
    tmb_store_shape shape;
    uint32_t top_k;
    TRY(full_name(g, "load", name, err));
    if (!tmb_store_find(g->store, name, &shape)) return TMB_OK;
    TRY(get_u32(g, "top_k", &top_k, err));
    if (shape.dims[0] < 1 || shape.dims[0] > EXPERTS_MAX || top_k < 1 || top_k > shape.dims[0])
        return wrong(g, "top_k", "not within the experts", err);
    TRY(tmb_router_room(l, (uint32_t)shape.dims[0], top_k, sources, err));
    tmb_router_stats *r = l->router;
    uint64_t e = r->experts, pairs = tmb_router_pairs(r->experts);
    TRY(get_u64(g, "tokens", &r->tokens, err));
    TRY(get_u64(g, "ties", &r->ties, err));
    TRY(get_u64(g, "unrivalled", &r->unrivalled, err));
    if (r->tokens > (uint64_t)1 << 40) return wrong(g, "tokens", "more than 2^40", err);
    TRY(get(g, "load", TMB_STORE_U64, 1, &e, r->load, err));
    TRY(get(g, "pairs", TMB_STORE_U64, 1, &pairs, r->pairs, err));
    TRY(get(g, "by_source", TMB_STORE_U64, 2, (uint64_t[]){sources, e}, r->by_source, err));
    TRY(get_bins(g, "logits_positive", &r->positive, 1, err));
    TRY(get_bins(g, "logits_negative", &r->negative, 1, err));
    TRY(get_bins(g, "margin", &r->margin, 1, err));
    return check_router(g, r, err);
}

static tmb_status get_kv(const get_ctx *g, tmb_stats_layer *l, tmb_err *err)
{
    char name[TMB_STORE_NAME];
    tmb_store_shape shape;
    uint32_t bits[2] = {0, 0};
    TRY(full_name(g, "kv_amax", name, err));
    if (!tmb_store_find(g->store, name, &shape)) return TMB_OK;
    uint64_t n = shape.dims[0];
    if (n < 1 || n > 2) return wrong(g, "kv_amax", "neither k alone nor k and v", err);
    TRY(get(g, "kv_amax", TMB_STORE_F32, 1, &n, bits, err));
    if (bits[0] >= TMB_STAT_LIMIT || bits[1] >= TMB_STAT_LIMIT)
        return wrong(g, "kv_amax", "negative or not finite", err);
    l->has_kv = true;
    l->has_v = n == 2;
    l->k_amax = bits[0];
    l->v_amax = bits[1];
    return TMB_OK;
}

static tmb_status get_layer(tmb_stats_file *f, tmb_stats_layer *l, tmb_err *err)
{
    get_ctx g = {.store = f->store, .arena = &l->arena};
    char layer[TMB_LAYER_NAME], name[TMB_STORE_NAME];
    const char *const *names;
    uint64_t n;
    tmb_layer_name(layer, l->index);
    snprintf(name, sizeof name, "%s/sites", layer);
    TRY(tmb_get_texts(f->store, &l->arena, name, SITES_MAX, &names, &n, err));
    snprintf(g.group, sizeof g.group, "%s", layer);
    l->sites = tmb_arena_alloc(&l->arena, n * sizeof *l->sites + 1);
    if (!l->sites) return tmb_fail_memory(err, n * sizeof *l->sites, "statistics");
    for (uint64_t i = 0; i < n; i++) {
        tmb_site *site = &l->sites[i];
        if (!*names[i] || strlen(names[i]) >= TMB_SITE_NAME || strchr(names[i], '/'))
            return wrong(&g, "sites", "a name is empty, too long, or has a slash", err);
        site->name = names[i];
        l->n_sites++;
        snprintf(g.group, sizeof g.group, "%s/%s", layer, names[i]);
        TRY(get_site(&g, l, site, f->identity.min_tokens, err));
    }
    snprintf(g.group, sizeof g.group, "%s", layer);
    TRY(get_kv(&g, l, err));
    snprintf(g.group, sizeof g.group, "%s/router", layer);
    return get_router(&g, l, f->identity.n_sources, err);
}

tmb_status tmb_stats_read(tmb_stats_file *f, uint32_t i, bool moments, tmb_stats_layer **out,
                          tmb_err *err)
{
    *out = NULL;
    tmb_stats_layer *l = calloc(1, sizeof *l);
    if (!l) return tmb_fail_memory(err, sizeof *l, "statistics");
    l->index = f->layers[i];
    l->moments = moments && f->identity.moments;
    l->threads = 1;
    tmb_status status = get_layer(f, l, err);
    if (status) {
        tmb_stats_layer_free(l);
        return status;
    }
    *out = l;
    return TMB_OK;
}
