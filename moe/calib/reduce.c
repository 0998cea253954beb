/* reduce.c - one layer's statistics added up over all ranks.
 *
 * Small arrays travel together in a buffer of a few megabytes, large ones where they lie.  What
 * travels depends on what was reduced before alone, so every rank makes the same calls. */
#include "config.h"
#include "moe/calib/stats_internal.h"

#include <stdlib.h>
#include <string.h>

enum { BUFFER = 1 << 19, ITEMS = 4096 }; /* elements of 8 bytes */

typedef struct sender {
    tmb_comm *comm;
    uint64_t *buffer; /* [BUFFER] */
    size_t used, n_items;
    struct {
        uint64_t *at;
        size_t n;
    } items[ITEMS];
} sender;

static tmb_status flush(sender *s, tmb_err *err)
{
    size_t at = 0;
    if (!s->used) return TMB_OK;
    TRY(tmb_comm_allreduce(s->comm, s->buffer, s->used, TMB_SUM_U64, err));
    for (size_t i = 0; i < s->n_items; i++) {
        memcpy(s->items[i].at, s->buffer + at, s->items[i].n * sizeof *s->buffer);
        at += s->items[i].n;
    }
    s->used = s->n_items = 0;
    return TMB_OK;
}

/* data [n] += that of all other ranks, at the latest when flushed. */
static tmb_status send(sender *s, void *data, size_t n, tmb_err *err)
{
    if (n > BUFFER / 4) return tmb_comm_allreduce(s->comm, data, n, TMB_SUM_U64, err);
    if (s->used + n > BUFFER || s->n_items == ITEMS) TRY(flush(s, err));
    memcpy(s->buffer + s->used, data, n * sizeof *s->buffer);
    s->items[s->n_items].at = data;
    s->items[s->n_items++].n = n;
    s->used += n;
    return TMB_OK;
}

/* Every accumulator of the layer, in a fixed order; NULL past the last. */
static tmb_accum *accum_at(tmb_stats_layer *l, size_t i, tmb_accum_shape *shape)
{
    for (uint32_t s = 0; s < l->n_sites; s++) {
        tmb_site *site = &l->sites[s];
        *shape = tmb_site_shape(l, site);
        if (i < site->n) return &site->native[i];
        i -= site->n;
        if (!site->expert) continue;
        if (i < site->n) return &site->shadow[i];
        i -= site->n;
    }
    return NULL;
}

/* What has to be a maximum: amax, and for each class whether any rank has sums or saw it. */
enum { FLAGS = 1 + 2 * TMB_CLASSES };

static tmb_status reduce_flags(tmb_stats_layer *l, tmb_comm *comm, size_t n, int32_t *flags,
                               tmb_err *err)
{
    tmb_accum_shape shape;
    for (size_t i = 0; i < n; i++) {
        tmb_accum *a = accum_at(l, i, &shape);
        /* Sums over all ranks must fit, so each keeps below its share. */
        for (int c = 0; c < TMB_CLASSES; c++) {
            uint64_t share = ((uint64_t)1 << 61) / (uint64_t)tmb_comm_size(comm);
            if (a->sums[c] && a->bound[c] > share) {
                TRY(tmb_accum_make_room(a, &shape, ((uint64_t)1 << 61) - share, err));
                break;
            }
        }
        int32_t *f = flags + i * FLAGS;
        f[0] = (int32_t)a->amax;
        for (int c = 0; c < TMB_CLASSES; c++) {
            f[1 + c] = a->sums[c] != NULL;
            f[1 + TMB_CLASSES + c] = a->seen >> c & 1;
        }
    }
    TRY(tmb_comm_allreduce(comm, flags, n * FLAGS, TMB_MAX_I32, err));
    for (size_t i = 0; i < n; i++) {
        tmb_accum *a = accum_at(l, i, &shape);
        const int32_t *f = flags + i * FLAGS;
        a->amax = (uint32_t)f[0];
        for (int c = 0; c < TMB_CLASSES; c++) {
            if (f[1 + c]) TRY(tmb_accum_need_class(a, &shape, c, err));
            if (f[1 + TMB_CLASSES + c]) a->seen |= 1u << c;
        }
    }
    return TMB_OK;
}

static tmb_status reduce_accums(tmb_stats_layer *l, sender *s, size_t n, tmb_err *err)
{
    tmb_accum_shape shape;
    uint64_t ranks = (uint64_t)tmb_comm_size(s->comm);
    for (size_t i = 0; i < n; i++) {
        tmb_accum *a = accum_at(l, i, &shape);
        TRY(send(s, &a->tokens, 1, err));
        TRY(send(s, &a->nonfinite, 1, err));
        TRY(send(s, &a->gate, 1, err));
        TRY(send(s, &a->gate2, 1, err));
    }
    TRY(flush(s, err));
    for (size_t i = 0; i < n; i++) {
        tmb_accum *a = accum_at(l, i, &shape);
        if (!a->tokens) continue; /* of no rank */
        TRY(tmb_accum_need_bins(a, err));
        TRY(send(s, a->values, TMB_STAT_BINS, err));
        TRY(send(s, a->blocks, TMB_STAT_BINS, err));
        for (int c = 0; c < TMB_CLASSES; c++) {
            if (!a->sums[c]) continue;
            TRY(send(s, a->sums[c], tmb_accum_blocks(&shape) * tmb_accum_per(&shape), err));
            a->bound[c] = ((uint64_t)1 << 61) / ranks * ranks;
        }
    }
    return flush(s, err);
}

static tmb_status reduce_router(tmb_router_stats *r, sender *s, tmb_err *err)
{
    TRY(send(s, &r->tokens, 1, err));
    TRY(send(s, &r->ties, 1, err));
    TRY(send(s, &r->unrivalled, 1, err));
    TRY(send(s, &r->nonfinite, 1, err));
    TRY(send(s, r->load, r->experts, err));
    TRY(send(s, r->pairs, tmb_router_pairs(r->experts), err));
    TRY(send(s, r->positive, TMB_HIST_BINS, err));
    TRY(send(s, r->negative, TMB_HIST_BINS, err));
    TRY(send(s, r->margin, TMB_HIST_BINS, err));
    TRY(send(s, r->by_source, (size_t)r->sources * r->experts, err));
    return flush(s, err);
}

static tmb_status reduce_all(tmb_stats_layer *l, sender *s, size_t n, int32_t *flags, tmb_err *err)
{
    int32_t kv[4] = {(int32_t)l->k_amax, (int32_t)l->v_amax, l->has_kv, l->has_v};
    TRY(reduce_flags(l, s->comm, n, flags, err));
    TRY(reduce_accums(l, s, n, err));
    TRY(tmb_comm_allreduce(s->comm, kv, 4, TMB_MAX_I32, err));
    l->k_amax = (uint32_t)kv[0];
    l->v_amax = (uint32_t)kv[1];
    l->has_kv = kv[2];
    l->has_v = kv[3];
    TRY(send(s, &l->kv_nonfinite, 1, err));
    TRY(flush(s, err));
    return l->router ? reduce_router(l->router, s, err) : TMB_OK;
}

tmb_status tmb_stats_layer_reduce(tmb_stats_layer *l, tmb_comm *comm, tmb_err *err)
{
    size_t n = 0;
    if (tmb_comm_size(comm) == 1) return TMB_OK;
    for (uint32_t i = 0; i < l->n_sites; i++)
        n += (size_t)l->sites[i].n * (l->sites[i].expert ? 2 : 1);
    int32_t *flags = calloc(n * FLAGS + 1, sizeof *flags);
    sender *s = calloc(1, sizeof *s);
    tmb_status status = TMB_OK;
    if (s) s->buffer = malloc(BUFFER * sizeof *s->buffer);
    if (!flags || !s || !s->buffer)
        status = tmb_fail_memory(err, BUFFER * 8, "adding up over ranks");
    else {
        s->comm = comm;
        status = reduce_all(l, s, n, flags, err);
    }
    free(flags);
    if (s) free(s->buffer);
    free(s);
    return status;
}
