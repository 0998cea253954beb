/* weighing.c - where second moments lie, what of them is in memory, and the tables made of them. */
#include "config.h"
#include "moe/quantize/weighing.h"

#include "moe/calib/weigh.h"
#include "moe/quantize/bundle.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---- planning ---------------------------------------------------------------------------------
 */

static const tmb_spec *searched(const tmb_plan *plan, uint32_t u)
{
    const tmb_spec *spec = plan->job.assignment->choices[u].spec;
    bool can = spec->format && spec->format->encode_weighted && spec->scale != TMB_SCALE_MAX;
    return can ? spec : NULL;
}

static const tmb_spec *first_hessian(const tmb_plan *plan)
{
    for (uint32_t u = 0; u < plan->job.model->n_units; u++) {
        const tmb_spec *spec = searched(plan, u);
        if (spec && spec->scale == TMB_SCALE_HESSIAN) return spec;
    }
    return NULL;
}

tmb_status tmb_weighing_needs(const tmb_plan *plan, tmb_err *err)
{
    const tmb_spec *spec = first_hessian(plan);
    if (!spec || plan->options.stats || plan->options.unmeasured) return TMB_OK;
    return tmb_fail(err, TMB_EUSAGE,
                    "%s:%d: scale = hessian weighs errors by what calibrate measured; pass --stats "
                    "F, or write scale = mse",
                    plan->job.recipe->path, spec->scale_line);
}

tmb_status tmb_weighing_plan(tmb_plan *plan, const tmb_stats_file *file, tmb_err *err)
{
    const tmb_spec *hessian = first_hessian(plan);
    uint32_t n = plan->job.model->n_units;
    bool any = hessian != NULL;
    for (uint32_t u = 0; u < n && !any; u++)
        any = searched(plan, u) != NULL;
    if (!any) return TMB_OK;
    if (hessian && !file->identity.moments)
        return tmb_fail(err, TMB_EUSAGE,
                        "%s: has no second moments, which scale = hessian in line %d of %s weighs "
                        "errors by; calibrate with hessian = block16, or write scale = mse",
                        file->path, hessian->scale_line, plan->job.recipe->path);
    struct tmb_weigh_plan *w = tmb_arena_alloc(&plan->arena, sizeof *w);
    if (w) w->places = tmb_arena_alloc(&plan->arena, (n + 1) * sizeof *w->places);
    if (w) w->bytes = tmb_arena_alloc(&plan->arena, (file->n_layers + 1) * sizeof *w->bytes);
    if (!w || !w->places || !w->bytes)
        return tmb_fail_memory(err, n * sizeof *w->places, "where second moments lie");
    w->n_layers = file->n_layers;
    for (uint32_t u = 0; u < n; u++)
        w->places[u].layer = TMB_NONE;
    plan->weigh = w;
    return TMB_OK;
}

static uint64_t blocks_of(const tmb_site *site)
{
    return tmb_ceil_div(site->in, TMB_STAT_BLOCK);
}

static uint64_t figures_of(const tmb_site *site, bool full)
{
    return blocks_of(site) * (full ? TMB_MOMENT_PAIRS : TMB_STAT_BLOCK);
}

static void raise(uint64_t *a, uint64_t b)
{
    if (b > *a) *a = b;
}

/* What reading a layer takes for a while: its sums of squares and histograms, and of one entry the
 * sums of all and the digits, of which there is one plane nearly always. */
static uint64_t reading_bytes(const tmb_stats_layer *layer)
{
    uint64_t bytes = 0, most = 0;
    for (uint32_t s = 0; s < layer->n_sites; s++) {
        const tmb_site *site = &layer->sites[s];
        uint64_t entry = blocks_of(site) * TMB_STAT_BLOCK * 3 + 2 * (uint64_t)TMB_HIST_BINS;
        bytes += (uint64_t)site->n * 8 * entry;
        raise(&most, 3 * figures_of(site, true) * 8);
    }
    return bytes + most;
}

static bool says_something(const tmb_site *site, uint32_t entry)
{
    uint64_t tokens = site->expert ? site->shadow[entry].tokens : 0;
    for (uint32_t e = 0; e < site->n; e++)
        tokens += site->native[e].tokens;
    return tokens > 0;
}

tmb_status tmb_weighing_find(tmb_plan *plan, const tmb_stats_layer *layer, uint32_t index,
                             tmb_err *err)
{
    const tmb_model *model = plan->job.model;
    struct tmb_weigh_plan *w = plan->weigh;
    if (!w) return TMB_OK;
    bool *seen = calloc(2 * (size_t)layer->n_sites + 1, sizeof *seen);
    if (!seen) return tmb_fail_memory(err, 2 * (uint64_t)layer->n_sites, "sites");
    for (uint32_t u = 0; u < model->n_units; u++) {
        const tmb_unit *unit = &model->units[u];
        const tmb_spec *spec = searched(plan, u);
        tmb_site_ref at;
        bool here = layer->index == TMB_STATS_HEAD ? unit->role == TMB_ROLE_LM_HEAD
                                                   : unit->layer == layer->index;
        if (!here || !spec || !tmb_stats_find_name(layer, unit->name, &at)) continue;
        const tmb_site *site = &layer->sites[at.site];
        if (site->in != unit->in || !says_something(site, at.entry)) continue;
        bool full = spec->scale == TMB_SCALE_HESSIAN;
        w->places[u] = (tmb_weigh_place){index, at.site, at.entry, full};
        raise(&w->table_floats, tmb_weigh_floats(blocks_of(site), full));
        if (seen[2 * at.site + full]) continue;
        seen[2 * at.site + full] = true;
        w->bytes[index] += site->n * (figures_of(site, full) * sizeof(float) + sizeof(double));
    }
    if (w->bytes[index]) raise(&w->reading, reading_bytes(layer));
    free(seen);
    return TMB_OK;
}

const tmb_weigh_place *tmb_weighing_of(const tmb_plan *plan, uint32_t u)
{
    return plan->weigh && plan->weigh->places[u].layer != TMB_NONE ? &plan->weigh->places[u] : NULL;
}

void tmb_weighing_count(tmb_plan *plan)
{
    for (uint32_t u = 0; plan->weigh && u < plan->job.model->n_units; u++)
        plan->rows[plan->row_of[u]].unweighed += searched(plan, u) && !tmb_weighing_of(plan, u);
}

/* ---- how much of it is in memory --------------------------------------------------------------
 *
 * Threads are at bundles that the ring holds, which follow each other in the order of the work; so
 * their layers are those of a stretch of bundles as long as the ring, and one more stays behind. */

static uint32_t layer_of(const tmb_plan *plan, const tmb_bundle *bundle)
{
    for (uint32_t i = 0; i < bundle->n_units; i++) {
        const tmb_weigh_place *place = tmb_weighing_of(plan, bundle->units[i]);
        if (place) return place->layer;
    }
    return TMB_NONE;
}

static uint64_t source_bytes(const tmb_plan *plan, const tmb_bundle *bundle)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < bundle->n_units; i++)
        bytes += tmb_unit_source_bytes(plan, &plan->job.model->units[bundle->units[i]]);
    return bytes;
}

uint64_t tmb_weighing_bytes(const tmb_plan *plan, uint64_t stage_bytes)
{
    const struct tmb_weigh_plan *w = plan->weigh;
    uint64_t most = 0, largest = 0, now = 0, span = 0;
    if (!w) return 0;
    uint32_t *users = calloc(w->n_layers + 1, sizeof *users), first = 0;
    for (uint32_t i = 0; i < w->n_layers; i++)
        raise(&largest, w->bytes[i]);
    for (uint32_t b = 0; users && b < plan->n_bundles; b++) {
        uint32_t l = layer_of(plan, &plan->bundles[b]);
        if (l != TMB_NONE && users[l]++ == 0) now += w->bytes[l];
        span += source_bytes(plan, &plan->bundles[b]);
        raise(&most, now);
        for (; span > stage_bytes && first < b; first++) {
            l = layer_of(plan, &plan->bundles[first]);
            if (l != TMB_NONE && --users[l] == 0) now -= w->bytes[l];
            span -= source_bytes(plan, &plan->bundles[first]);
        }
    }
    for (uint32_t i = 0; !users && i < w->n_layers; i++) /* no memory to count with: all of it */
        most += w->bytes[i];
    free(users);
    return most + largest + w->reading;
}

/* ---- a job ------------------------------------------------------------------------------------
 */

/* The averages of a layer: of the sites that are wanted. */
typedef struct averages {
    unsigned users;
    uint32_t n_sites;
    struct of_site {
        float *s; /* [n][figures] */
        double *tokens;
        uint64_t blocks;
    } * sites; /* [2 * n_sites]: diagonal and full */
} averages;

struct tmb_weighing {
    const tmb_plan *plan;
    tmb_stats_file *file;
    pthread_mutex_t lock; /* of all below, and of the file */
    averages **layers;    /* [n_layers]; NULL: not in memory */
    uint32_t last;        /* the layer that was asked for last */
};

tmb_status tmb_weighing_open(tmb_weighing **out, const tmb_plan *plan, tmb_err *err)
{
    *out = NULL;
    if (!plan->weigh) return TMB_OK;
    tmb_weighing *w = calloc(1, sizeof *w);
    if (!w) return tmb_fail_memory(err, sizeof *w, "second moments");
    w->plan = plan;
    pthread_mutex_init(&w->lock, NULL);
    w->layers = calloc(plan->weigh->n_layers + 1, sizeof(averages *));
    tmb_status status =
        w->layers ? tmb_stats_open(&w->file, plan->options.stats, err)
                  : tmb_fail_memory(err, plan->weigh->n_layers * sizeof(void *), "second moments");
    if (!status && strcmp(w->file->digest, plan->job.measured->content) != 0)
        status = tmb_fail(err, TMB_EDATA, "%s: changed since the plan was made; start again",
                          plan->options.stats);
    if (status) {
        tmb_weighing_close(w);
        return status;
    }
    *out = w;
    return TMB_OK;
}

static void averages_free(averages *a)
{
    if (!a) return;
    for (uint32_t i = 0; a->sites && i < 2 * a->n_sites; i++) {
        free(a->sites[i].s);
        free(a->sites[i].tokens);
    }
    free(a->sites);
    free(a);
}

void tmb_weighing_close(tmb_weighing *w)
{
    if (!w) return;
    for (uint32_t i = 0; w->layers && i < w->plan->weigh->n_layers; i++)
        averages_free(w->layers[i]);
    free(w->layers);
    tmb_stats_close(w->file);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

static tmb_status read_site(const tmb_weighing *w, const tmb_stats_layer *layer, averages *a,
                            const tmb_weigh_place *place, tmb_err *err)
{
    const tmb_site *site = &layer->sites[place->site];
    struct of_site *to = &a->sites[2 * place->site + place->full];
    if (to->s) return TMB_OK;
    uint64_t figures = site->n * figures_of(site, place->full);
    to->blocks = blocks_of(site);
    to->s = malloc(figures * sizeof *to->s);
    to->tokens = calloc(site->n, sizeof *to->tokens);
    if (!to->s || !to->tokens)
        return tmb_fail_memory(err, figures * sizeof *to->s, "second moments");
    return tmb_stats_moments(w->file, layer, place->site, place->full, to->s, to->tokens, err);
}

static tmb_status read_sites(const tmb_weighing *w, uint32_t index, averages *a, tmb_err *err)
{
    tmb_stats_layer *layer = NULL;
    TRY(tmb_stats_read(w->file, index, false, &layer, err));
    tmb_status status = TMB_OK;
    a->n_sites = layer->n_sites;
    a->sites = calloc(2 * (size_t)a->n_sites + 1, sizeof *a->sites);
    if (!a->sites) status = tmb_fail_memory(err, a->n_sites * sizeof *a->sites, "second moments");
    for (uint32_t u = 0; !status && u < w->plan->job.model->n_units; u++) {
        const tmb_weigh_place *place = tmb_weighing_of(w->plan, u);
        if (place && place->layer == index) status = read_site(w, layer, a, place, err);
    }
    tmb_stats_layer_free(layer);
    return status;
}

/* Locked.  A layer that nobody is at goes when another comes, but for the last. */
static tmb_status take(tmb_weighing *w, uint32_t index, averages **out, tmb_err *err)
{
    *out = w->layers[index];
    if (!*out) {
        for (uint32_t i = 0; i < w->plan->weigh->n_layers; i++)
            if (w->layers[i] && !w->layers[i]->users && i != w->last) {
                averages_free(w->layers[i]);
                w->layers[i] = NULL;
            }
        averages *a = calloc(1, sizeof *a);
        tmb_status status =
            a ? read_sites(w, index, a, err) : tmb_fail_memory(err, sizeof *a, "second moments");
        if (status) {
            averages_free(a);
            return status;
        }
        *out = w->layers[index] = a;
    }
    w->last = index;
    (*out)->users++;
    return TMB_OK;
}

tmb_status tmb_weighing_make(tmb_weighing *w, const tmb_weigh_place *place, float *lanes,
                             tmb_err *err)
{
    averages *a;
    pthread_mutex_lock(&w->lock);
    tmb_status status = take(w, place->layer, &a, err);
    pthread_mutex_unlock(&w->lock);
    if (status) return status;
    const struct of_site *of = &a->sites[2 * place->site + place->full];
    uint64_t figures = of->blocks * (place->full ? TMB_MOMENT_PAIRS : TMB_STAT_BLOCK);
    tmb_weigh_table(of->s + place->entry * figures, of->blocks, place->full,
                    of->tokens[place->entry], lanes);
    pthread_mutex_lock(&w->lock);
    a->users--;
    pthread_mutex_unlock(&w->lock);
    return TMB_OK;
}
