/* sites.c - which inputs a layer has: Linears that engines fuse share one, and so do the experts'
 * Linears of one projection, expert by expert. */
#include "config.h"
#include "moe/calib/stats_internal.h"

#include "kernels/cpu/stat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Roles whose Linears a forward pass shows. */
static bool is_measured(const tmb_unit *u)
{
    switch (u->role) {
    case TMB_ROLE_EXPERT:
    case TMB_ROLE_SHARED_EXPERT:
    case TMB_ROLE_ROUTER:
    case TMB_ROLE_SHARED_GATE:
    case TMB_ROLE_ATTENTION:
    case TMB_ROLE_LINEAR_ATTENTION:
    case TMB_ROLE_INDEXER:
    case TMB_ROLE_LATENT:
    case TMB_ROLE_DENSE_MLP:
    case TMB_ROLE_LM_HEAD:
        return u->linear && u->in > 0;
    default:
        return false;
    }
}

static bool is_in_layer(const tmb_unit *u, int32_t layer)
{
    return u->layer == (layer == TMB_STATS_HEAD ? -1 : layer) && is_measured(u);
}

/* The dotted part of name that is this number, and what follows; NULL when there is none. */
static const char *number_in(const char *name, int32_t number, const char **rest)
{
    for (const char *p = name; *p;) {
        size_t n = strcspn(p, ".");
        char *end;
        if (*p >= '0' && *p <= '9' && strtol(p, &end, 10) == number && end == p + n) {
            *rest = p + n;
            return p;
        }
        p += n + (p[n] == '.');
    }
    return NULL;
}

/* "model.layers.3.mlp.experts.{E}.up_proj" of an expert's Linear, else a copy of its name. */
static char *pattern_of(tmb_arena *arena, const tmb_unit *u)
{
    const char *rest = u->name, *after_layer, *at;
    if (u->expert < 0) return tmb_arena_printf(arena, "%s", u->name);
    if (u->layer >= 0 && number_in(u->name, u->layer, &after_layer)) rest = after_layer;
    at = number_in(rest, u->expert, &rest);
    if (!at) return tmb_arena_printf(arena, "%s", u->name);
    return tmb_arena_printf(arena, "%.*s{E}%s", (int)(at - u->name), u->name, rest);
}

/* Behind "model.layers.3.", without "{E}." */
static const char *local_name(const tmb_unit *u, const char *pattern)
{
    const char *rest;
    if (u->layer < 0 || !number_in(pattern, u->layer, &rest) || *rest != '.') return pattern;
    return rest + 1;
}

/* The Linears that share u's input, u among them. */
static void shares(const tmb_model *m, uint32_t u, const uint32_t **units, uint32_t *n,
                   uint32_t *alone)
{
    uint32_t fuse = m->units[u].fuse;
    *alone = u;
    *units = fuse == TMB_NONE ? alone : m->fuses[fuse].units;
    *n = fuse == TMB_NONE ? 1 : m->fuses[fuse].n_units;
}

/* Names and shape of the site that u leads. */
static tmb_status describe(tmb_stats_layer *l, tmb_site *site, uint32_t u, tmb_err *err)
{
    const tmb_unit *first = &l->model->units[u];
    const uint32_t *units;
    uint32_t n, alone;
    char name[TMB_SITE_NAME];
    shares(l->model, u, &units, &n, &alone);
    const char **linears = tmb_arena_alloc(&l->arena, n * sizeof *linears);
    if (!linears) return tmb_fail_memory(err, n * sizeof *linears, "the names of Linears");
    size_t at = 0;
    for (uint32_t i = 0; i < n; i++) {
        const tmb_unit *unit = &l->model->units[units[i]];
        char *pattern = pattern_of(&l->arena, unit);
        if (!pattern) return tmb_fail_memory(err, TMB_SITE_NAME, "the names of Linears");
        linears[i] = pattern;
        const char *local = local_name(unit, pattern), *e = strstr(local, "{E}.");
        const char *leaf = strrchr(local, '.');
        int k = i   ? snprintf(name + at, sizeof name - at, "+%s", leaf ? leaf + 1 : local)
                : e ? snprintf(name, sizeof name, "%.*s%s", (int)(e - local), local, e + 4)
                    : snprintf(name, sizeof name, "%s", local);
        at += (size_t)k;
        if (at >= sizeof name)
            return tmb_fail(err, TMB_EDATA, "%s: its name is too long for statistics", unit->name);
    }
    for (char *p = name; *p; p++)
        if (*p == '/') *p = '_';
    site->name = tmb_arena_text(&l->arena, name, at);
    site->linears = linears;
    site->n_linears = n;
    site->in = first->in;
    site->expert = first->expert >= 0;
    site->n = site->expert ? (uint32_t)l->model->experts[first->experts].n_experts : 1;
    return site->name ? TMB_OK : tmb_fail_memory(err, at, "the names of Linears");
}

tmb_status tmb_site_room(tmb_stats_layer *l, tmb_site *site, tmb_err *err)
{
    site->native = tmb_arena_alloc(&l->arena, site->n * sizeof *site->native);
    if (site->expert) site->shadow = tmb_arena_alloc(&l->arena, site->n * sizeof *site->shadow);
    if (site->native && (site->shadow || !site->expert)) return TMB_OK;
    return tmb_fail_memory(err, site->n * sizeof *site->native, "statistics");
}

/* The site of u: a new one when u leads it and is the first expert seen. */
static tmb_status place(tmb_stats_layer *l, uint32_t u, tmb_err *err)
{
    const tmb_unit *unit = &l->model->units[u];
    const uint32_t *units;
    uint32_t n, alone, site = l->n_sites;
    shares(l->model, u, &units, &n, &alone);
    tmb_site_ref *ref = &l->refs[u - l->first_unit];
    ref->leader = units[0] == u;
    ref->entry = unit->expert >= 0 ? (uint32_t)unit->expert : 0;
    if (!ref->leader) {
        ref->site = l->refs[units[0] - l->first_unit].site;
        return TMB_OK;
    }
    if (unit->expert >= 0) {
        const char *pattern = pattern_of(&l->arena, unit);
        for (site = 0; pattern && site < l->n_sites; site++)
            if (l->sites[site].expert && !strcmp(l->sites[site].linears[0], pattern)) break;
        if (!pattern) return tmb_fail_memory(err, TMB_SITE_NAME, "the names of Linears");
        if (unit->experts == TMB_NONE || ref->entry >= l->model->experts[unit->experts].n_experts)
            return tmb_fail(err, TMB_EDATA, "%s: an expert outside its layer's experts",
                            unit->name);
    }
    ref->site = site;
    if (site < l->n_sites) {
        if (l->sites[site].in == unit->in) return TMB_OK;
        return tmb_fail(err, TMB_EDATA, "%s: has %llu inputs, other experts %llu", unit->name,
                        (unsigned long long)unit->in, (unsigned long long)l->sites[site].in);
    }
    TRY(describe(l, &l->sites[l->n_sites++], u, err));
    return tmb_site_room(l, &l->sites[site], err);
}

static tmb_status build(tmb_stats_layer *l, tmb_err *err)
{
    const tmb_model *m = l->model;
    uint32_t first = TMB_NONE, last = 0, leaders = 0;
    for (uint32_t u = 0; u < m->n_units; u++) {
        if (!is_in_layer(&m->units[u], l->index)) continue;
        if (first == TMB_NONE) first = u;
        last = u;
        leaders += m->units[u].expert <= 0;
    }
    if (first == TMB_NONE)
        return tmb_fail(err, TMB_EDATA, "layer %d has no Linear to measure", l->index);
    l->first_unit = first;
    l->n_refs = last - first + 1;
    l->refs = tmb_arena_alloc(&l->arena, l->n_refs * sizeof *l->refs);
    l->sites = tmb_arena_alloc(&l->arena, (leaders + 8) * sizeof *l->sites);
    if (!l->refs || !l->sites) return tmb_fail_memory(err, l->n_refs, "statistics");
    for (uint32_t i = 0; i < l->n_refs; i++)
        l->refs[i].site = TMB_NONE;
    for (uint32_t u = first; u <= last; u++)
        if (is_in_layer(&m->units[u], l->index)) TRY(place(l, u, err));
    return TMB_OK;
}

static tmb_status add_router(tmb_stats_layer *l, uint32_t sources, tmb_err *err)
{
    for (uint32_t g = 0; g < l->model->n_experts_groups; g++)
        if (l->model->experts[g].layer == l->index && l->model->top_k > 0)
            return tmb_router_room(l, l->model->experts[g].n_experts, (uint32_t)l->model->top_k,
                                   sources, err);
    return TMB_OK;
}

tmb_status tmb_stats_layer_new(tmb_stats_layer **out, const tmb_model *model, int32_t layer,
                               const tmb_stats_options *options, tmb_err *err)
{
    *out = NULL;
    tmb_stats_layer *l = calloc(1, sizeof *l);
    if (!l) return tmb_fail_memory(err, sizeof *l, "statistics");
    l->index = layer;
    l->model = model;
    l->moments = options->moments;
    l->threads = options->threads > 0 ? options->threads : 1;
    tmb_status status = build(l, err);
    if (!status) status = add_router(l, options->sources ? options->sources : 1, err);
    if (status) {
        tmb_stats_layer_free(l);
        return status;
    }
    *out = l;
    return TMB_OK;
}

bool tmb_stats_find(const tmb_stats_layer *l, uint32_t unit, tmb_site_ref *out)
{
    if (unit < l->first_unit || unit - l->first_unit >= l->n_refs) return false;
    *out = l->refs[unit - l->first_unit];
    return out->site != TMB_NONE;
}

/* Whether name is the pattern with a number for {E}. */
static bool is_expert_of(const char *pattern, const char *name, uint32_t *expert)
{
    const char *hole = strstr(pattern, "{E}");
    char *end;
    if (!hole) return false;
    size_t n = (size_t)(hole - pattern);
    if (strncmp(pattern, name, n) || name[n] < '0' || name[n] > '9') return false;
    unsigned long e = strtoul(name + n, &end, 10);
    *expert = (uint32_t)e;
    return e < UINT32_MAX && !strcmp(end, hole + 3);
}

bool tmb_stats_find_name(const tmb_stats_layer *l, const char *name, tmb_site_ref *out)
{
    for (uint32_t s = 0; s < l->n_sites; s++) {
        const tmb_site *site = &l->sites[s];
        for (uint32_t i = 0; i < site->n_linears; i++) {
            uint32_t e = 0;
            if (site->expert ? !is_expert_of(site->linears[i], name, &e)
                             : strcmp(site->linears[i], name) != 0)
                continue;
            *out = (tmb_site_ref){.site = s, .entry = e, .leader = i == 0};
            return e < site->n;
        }
    }
    return false;
}

uint64_t tmb_stats_layer_bytes(const tmb_model *model, int32_t layer,
                               const tmb_stats_options *options, int classes)
{
    tmb_stats_layer *l = NULL;
    uint64_t sum = 0;
    if (tmb_stats_layer_new(&l, model, layer, options, NULL)) return 0;
    for (uint32_t s = 0; s < l->n_sites; s++) {
        tmb_accum_shape shape = tmb_site_shape(l, &l->sites[s]);
        uint64_t sums = tmb_accum_blocks(&shape) * tmb_accum_per(&shape) * sizeof(int64_t);
        sum += l->sites[s].n * (sums * (uint64_t)classes + 2 * TMB_STAT_BINS * sizeof(uint64_t));
    }
    sum += l->arena.bytes;
    tmb_stats_layer_free(l);
    return sum;
}
