/* tally.h - what the positions of one sequence add up to in one layer.
 *
 * Sums are over the positions of a sequence in their order, so they do not depend on batches,
 * threads or ranks; everything across sequences is done with them as the units (finish.c), or is an
 * integer (tmb_expert_counts, tmb_margins). */
#ifndef TMB_DIAGNOSE_TALLY_H
#define TMB_DIAGNOSE_TALLY_H

#include "moe/diagnose/diagnosis.h"
#include "moe/infer/observe.h"

enum {
    TMB_T_POSITIONS,
    TMB_T_SAME,
    TMB_T_JACCARD,
    TMB_T_TOP1,
    TMB_T_ORDER,
    TMB_T_CHANGED,
    TMB_T_GATE_TV,
    TMB_T_GATE_LOST,
    TMB_T_KL,
    TMB_T_COS,
    TMB_T_TOPK_MSE,
    TMB_T_CENTRED,     /* squared change of centred logits */
    TMB_T_CENTRED_REF, /* squares of the reference's centred logits */
    TMB_T_COMMON,      /* squared change that all experts share */
    TMB_T_GROUPS,
    TMB_T_MARGINS, /* positions that have a margin */
    TMB_T_MARGIN_REF,
    TMB_T_MARGIN_OTHER,
    TMB_T_TIES,
    TMB_T_EXACT_TIES,
    TMB_T_TIE_FLIPS,
    TMB_T_NOISE_FLIPS,
    TMB_T_NOISE_POSITIONS, /* that were rerun */
    TMB_T_NOISE_SAME,
    TMB_T_LOCAL_POSITIONS, /* whose router was run on the reference's input */
    TMB_T_LOCAL_ROUTER,
    TMB_T_LOCAL_LAYER,
    TMB_T_SPLIT_INPUT, /* ||W dx||^2 of centred logits; W dx as the reference's router gives it */
    TMB_T_SPLIT_WEIGHT,
    TMB_T_SPLIT_BOTH,
    TMB_T_ERROR, /* squares of hidden states behind the layer: other - reference */
    TMB_T_NORM,  /* reference */
    TMB_T_LOCAL_ERROR,
    TMB_TALLY
};

/* Exact sums over all positions. */
typedef struct tmb_expert_counts {
    int64_t gained, lost;
    int64_t ref_mass, other_mass; /* weights in steps of 2^-TMB_MASS_BITS, each rounded */
} tmb_expert_counts;
enum { TMB_MASS_BITS = 30 };

/* How a layer's router chooses. */
typedef struct tmb_router_shape {
    size_t n_experts, top_k, groups; /* groups 1: not limited */
    tmb_margin_space space;
} tmb_router_shape;

/* One token's routing: rows of tmb_router_seen. */
typedef struct tmb_routed {
    const float *logits, *choice;
    const uint32_t *chosen;
    const float *weight;
} tmb_routed;

static inline tmb_routed tmb_routed_at(const tmb_routed *r, const tmb_router_shape *s, size_t i)
{
    return (tmb_routed){r->logits + i * s->n_experts, r->choice + i * s->n_experts,
                        r->chosen + i * s->top_k, r->weight + i * s->top_k};
}

/* Where the sums of a sequence go. */
typedef struct tmb_tally {
    double *sums;               /* [TMB_TALLY] */
    uint32_t *ref, *other;      /* [n_experts] tokens sent to each */
    tmb_expert_counts *experts; /* [n_experts] */
    tmb_margins *margins;
} tmb_tally;

/* The margin at the boundary and the BF16 step of what is compared there; false when every expert
 * that may be chosen is. */
bool tmb_margin(const tmb_router_shape *shape, const tmb_routed *r, double *margin, double *step);
bool tmb_same_route(const tmb_router_shape *shape, const uint32_t *a, const uint32_t *b);

/* One position of reference and other.  noise_margin: under it a flip is noise. */
void tmb_tally_position(const tmb_tally *t, const tmb_router_shape *shape, const tmb_routed *ref,
                        const tmb_routed *other, double noise_margin);
/* One position of the reference and its rerun; moved [TMB_MARGIN_BINS] counts by how much the
 * margin moved. */
void tmb_tally_noise(const tmb_tally *t, const tmb_router_shape *shape, const tmb_routed *ref,
                     const tmb_routed *rerun, uint64_t *moved);
/* One position with the other's router on the reference's input (local), and the reference's router
 * on the other's input (crossed). */
void tmb_tally_local(const tmb_tally *t, const tmb_router_shape *shape, const tmb_routed *ref,
                     const tmb_routed *other, const tmb_routed *local, const float *crossed);

/* sums [TMB_T_ERROR or _LOCAL_ERROR] += squares of y - x; norm, when not NULL, += squares of x. */
void tmb_tally_values(double *error, double *norm, const float *x, const float *y, size_t n);

#endif
