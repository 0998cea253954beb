/* part.h - the parts of a model that a diagnosis quantizes and restores one by one.
 *
 * A part takes the norm in front of it along: what a router or an attention computes from a hidden
 * state is the function that is compared, so channels that were moved between a norm and the
 * Linears behind it are no difference. */
#ifndef TMB_DIAGNOSE_PART_H
#define TMB_DIAGNOSE_PART_H

#include "moe/model/model.h"

typedef enum tmb_mix_part {
    TMB_MIX_ROUTER,    /* with its bias and correction */
    TMB_MIX_ATTENTION, /* projections, their biases and norms, sinks */
    TMB_MIX_KV,        /* rounding of the cache */
    TMB_MIX_SHARED,    /* shared experts and their gate */
    TMB_MIX_EXPERT,    /* routed experts */
    TMB_MIX_DENSE,     /* the MLP of dense layers */
    TMB_MIX_HEAD,      /* lm_head and the last norm */
    TMB_MIX_BASE,      /* what hooks do not reach: the embedding, and a head tied to it */
    TMB_MIX_PARTS
} tmb_mix_part;

const char *tmb_mix_part_name(tmb_mix_part part); /* "router", "kv_cache", "embedding", … */
tmb_role tmb_mix_part_role(tmb_mix_part part);    /* TMB_ROLES for the cache */
const char *
tmb_mix_part_title(tmb_mix_part part); /* "the router", "attention": inside a sentence */

/* Of a unit; norm: it is a norm in front of a layer's halves, which follow their parts
 * (TMB_MIX_PARTS). */
tmb_mix_part tmb_mix_part_of(const tmb_unit *unit, bool norm);

#endif
