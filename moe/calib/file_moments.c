/* file_moments.c - second moments of a site from its file, an entry at a time. */
#include "config.h"
#include "moe/calib/file_internal.h"
#include "moe/calib/scales.h"
#include "moe/calib/weigh.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct taking {
    tmb_stats_file *file;
    const tmb_stats_layer *layer;
    const tmb_site *site;
    bool full;
    uint64_t blocks, figures; /* of an entry: blocks * (136 or 16) */
    int exponent;             /* figures are in units of 2^exponent */
    double *all;              /* [figures] sums of all entries, native */
    float *out;
    double *tokens;
} taking;

static int figures_of(bool full)
{
    return full ? TMB_MOMENT_PAIRS : TMB_STAT_BLOCK;
}

static tmb_rung rung_of(const taking *t, uint32_t e, uint64_t all)
{
    if (!t->site->expert) return TMB_RUNG_NATIVE;
    return tmb_rung_of(t->site->native[e].tokens, t->site->shadow[e].tokens, all,
                       t->file->identity.min_tokens);
}

static uint64_t tokens_of(const taking *t)
{
    uint64_t sum = 0;
    for (uint32_t e = 0; e < t->site->n; e++)
        sum += t->site->native[e].tokens;
    return sum;
}

/* out += the sums of an entry; all too, when they are native. */
static void add(const taking *t, uint32_t e, uint64_t i, double sum, bool shadow)
{
    float *to = &t->out[e * t->figures + i];
    *to = (float)((double)*to + sum);
    if (!shadow) t->all[i] += sum;
}

/* ---- the diagonal, from the layer that was read ---------------------------------------------- */

static void take_squares(const taking *t, uint64_t all)
{
    for (uint32_t e = 0; e < t->site->n; e++) {
        bool shadow = rung_of(t, e, all) == TMB_RUNG_SHADOW;
        for (int k = 0; k <= shadow; k++) {
            const tmb_accum *a = k ? &t->site->shadow[e] : &t->site->native[e];
            for (uint64_t i = 0; a->seen && i < t->site->in; i++)
                add(t, e, i, ldexp(tmb_accum_value(a, i), -t->exponent), k);
        }
    }
}

/* ---- the triangles, from the file ------------------------------------------------------------ */

static tmb_status take_entry(const taking *t, const tmb_accum *a, uint32_t e, int64_t *digits,
                             int planes, bool shadow, tmb_err *err)
{
    double unit = ldexp(1, TMB_CLASS_BITS * tmb_accum_lowest(a) + TMB_UNIT_EXPONENT - t->exponent);
    TRY(tmb_store_get_more(t->file->store, digits, 1, err));
    if (shadow && rung_of(t, e, tokens_of(t)) != TMB_RUNG_SHADOW) return TMB_OK;
    for (uint64_t i = 0; i < t->figures; i++) {
        double sum = 0;
        for (int p = planes; p-- > 0;)
            sum = sum * (double)((int64_t)1 << TMB_PLANE_BITS) +
                  (double)digits[(uint64_t)p * t->figures + i];
        if (sum != 0) add(t, e, i, sum * unit, shadow);
    }
    return TMB_OK;
}

static tmb_status take_triangles(const taking *t, bool shadow, tmb_err *err)
{
    char layer[TMB_LAYER_NAME], name[TMB_STORE_NAME];
    tmb_store_shape shape;
    const tmb_accum *accums = shadow ? t->site->shadow : t->site->native;
    uint64_t rows = 0;
    tmb_layer_name(layer, t->layer->index);
    if (snprintf(name, sizeof name, "%s/%s%s/second_moment", layer, t->site->name,
                 shadow ? "/shadow" : "") >= (int)sizeof name)
        return tmb_fail(err, TMB_EINTERNAL, "%s: name too long", t->site->name);
    /* a shadow has a row for each expert that was shown tokens */
    for (uint32_t e = 0; e < t->site->n; e++)
        rows += !shadow || accums[e].tokens;
    if (!rows) return TMB_OK;
    if (!tmb_store_find(t->file->store, name, &shape))
        return tmb_store_missing(t->file->store, name, err);
    uint64_t planes = shape.dims[1];
    if (shape.rank != 4 || planes < 1 || planes > 16)
        return tmb_fail(err, TMB_EDATA, "%s: %s: has another shape than it must", t->file->path,
                        name);
    int64_t *digits = malloc(planes * t->figures * sizeof *digits);
    if (!digits) return tmb_fail_memory(err, planes * t->figures * 8, "second moments");
    tmb_status status =
        tmb_store_get_begin(t->file->store, name, TMB_STORE_I64, 4,
                            (uint64_t[]){rows, planes, t->blocks, TMB_MOMENT_PAIRS}, err);
    for (uint32_t e = 0; !status && e < t->site->n; e++)
        if (!shadow || accums[e].tokens)
            status = take_entry(t, &accums[e], e, digits, (int)planes, shadow, err);
    free(digits);
    return status ? status : tmb_store_get_end(t->file->store, err);
}

/* ---- sums to averages, drawn to the layer's -------------------------------------------------- */

static void mix(const taking *t)
{
    uint64_t all = tokens_of(t);
    for (uint32_t e = 0; e < t->site->n; e++) {
        uint64_t own = t->site->native[e].tokens;
        if (rung_of(t, e, all) == TMB_RUNG_SHADOW) own += t->site->shadow[e].tokens;
        double w = tmb_weigh_own(own, t->site->expert ? all : 0, t->file->identity.min_tokens,
                                 &t->tokens[e]);
        double mine = own ? w / (double)own : 0, theirs = w < 1 ? (1 - w) / (double)all : 0;
        float *s = t->out + e * t->figures;
        for (uint64_t i = 0; i < t->figures; i++)
            s[i] = (float)(mine * (double)s[i] + theirs * t->all[i]);
    }
}

/* So that squares of the largest value are near 1: they may pass what a float holds. */
static int exponent_of(const tmb_site *site)
{
    uint32_t most = 0;
    for (uint32_t e = 0; e < site->n; e++) {
        if (site->native[e].amax > most) most = site->native[e].amax;
        if (site->shadow && site->shadow[e].amax > most) most = site->shadow[e].amax;
    }
    return most ? 2 * ilogbf(tmb_bits_float(most)) : 0;
}

tmb_status tmb_stats_moments(tmb_stats_file *file, const tmb_stats_layer *layer, uint32_t site,
                             bool full, float *out, double *tokens, tmb_err *err)
{
    taking t = {.file = file,
                .layer = layer,
                .site = &layer->sites[site],
                .full = full,
                .out = out,
                .tokens = tokens};
    tmb_accum_shape shape = tmb_site_shape(layer, t.site);
    t.blocks = tmb_accum_blocks(&shape);
    t.figures = t.blocks * (uint64_t)figures_of(full);
    t.exponent = exponent_of(t.site);
    t.all = calloc(t.figures, sizeof *t.all);
    if (!t.all) return tmb_fail_memory(err, t.figures * sizeof *t.all, "second moments");
    memset(out, 0, t.site->n * t.figures * sizeof *out);
    tmb_status status = TMB_OK;
    if (!full) {
        take_squares(&t, tokens_of(&t));
    } else {
        status = take_triangles(&t, false, err);
        if (!status && t.site->expert) status = take_triangles(&t, true, err);
    }
    if (!status) mix(&t);
    free(t.all);
    return status;
}
