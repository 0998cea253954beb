/* stats_internal.h - what the files of moe/calib share about a layer's statistics. */
#ifndef TMB_CALIB_STATS_INTERNAL_H
#define TMB_CALIB_STATS_INTERNAL_H

#include "moe/calib/stats.h"

enum { TMB_SITE_NAME = 160 };

/* The entries of a site whose n and expert are set. */
tmb_status tmb_site_room(tmb_stats_layer *layer, tmb_site *site, tmb_err *err);
/* layer->router with all its tables, from the layer's arena. */
tmb_status tmb_router_room(tmb_stats_layer *layer, uint32_t experts, uint32_t top_k,
                           uint32_t sources, tmb_err *err);

static inline size_t tmb_router_pairs(uint32_t experts)
{
    return (size_t)experts * (experts + 1) / 2;
}

/* Of a pair i <= j in the upper triangle by rows. */
static inline size_t tmb_router_pair(uint32_t experts, uint32_t i, uint32_t j)
{
    return (size_t)i * experts - (size_t)i * (i + 1) / 2 + j;
}

#endif
