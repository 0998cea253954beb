/* stats.h - what a calibration run learns about the inputs of every Linear, exactly.
 *
 * A *site* is one input that several Linears share (q, k and v; gate and up): it is measured
 * once.  Sites of routed experts have one *entry* an expert, others one entry.  The statistics
 * of a layer are the sites of its Linears, its router, and the largest k and v.
 *
 * Every figure is a count, a maximum, or an exact sum of integers, so the result depends on the
 * set of tokens alone: not on batches, their order, threads, ranks, restarts, or the instruction
 * set; and what two runs over disjoint data learnt can be added.  doc/statistics.md has the
 * schema and the proofs; in short, for one row x of a site and each block of 16 channels:
 *
 *   E = exponent field of the block's largest |x|,  c = E >> 3 (its class, 8 octaves wide)
 *   q = rint(x * 2^(141 - 8c)), |q| <= 2^22;  the integers q_i q_j are added up, for each class.
 *
 * The scale of q depends on the block of that row alone, never on what else was seen; 14 to 22
 * bits of the block's largest value are kept.  Sums are int64 with a proven bound, carried to the
 * next class before they could overflow.
 *
 * Feeding different entries from different threads at once is fine, the same entry is not. */
#ifndef TMB_CALIB_STATS_H
#define TMB_CALIB_STATS_H

#include "kernels/base/err.h"
#include "kernels/base/mem.h"
#include "kernels/comm/comm.h"
#include "moe/calib/accum.h"
#include "moe/model/model.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TMB_HIST_BINS = TMB_STAT_BINS, /* of |x|: its bits >> 20, so an octave has 8 bins */
    TMB_MOMENT_PAIRS = 136, /* of a block of 16: upper triangle by rows, (0,0) (0,1) … (15,15) */
    TMB_STATS_HEAD = INT32_MAX /* tmb_stats_layer.index of what comes behind the last layer */
};

typedef struct tmb_site {
    const char *name;           /* relative to the layer: "mlp.experts.gate_proj+up_proj" */
    const char *const *linears; /* [n_linears] module names; "{E}" stands for the expert */
    uint32_t n_linears;
    uint32_t n;                 /* entries: routed experts, else 1 */
    bool expert;                /* entries are routed experts */
    uint64_t in;                /* channels */
    tmb_accum *native, *shadow; /* [n] each; shadow is NULL in sites without experts */
} tmb_site;

/* Of one router.  Counts over tokens, all exact. */
typedef struct tmb_router_stats {
    uint32_t experts, top_k;
    uint64_t tokens;
    uint64_t *load;      /* [experts] tokens that chose it */
    uint64_t *pairs;     /* [experts * (experts + 1) / 2] upper triangle by rows: tokens that chose
                            both; the diagonal is load */
    uint64_t *positive;  /* [TMB_HIST_BINS] of logits >= 0 */
    uint64_t *negative;  /* [TMB_HIST_BINS] of -logits, logits < 0 */
    uint64_t *margin;    /* [TMB_HIST_BINS] of k-th minus (k+1)-th selection score */
    uint64_t ties;       /* tokens whose margin is zero */
    uint64_t unrivalled; /* tokens without a (k+1)-th: the others were out of question; in no bin */
    uint64_t nonfinite;  /* logits that were NaN or Inf, in no histogram */
    uint64_t *by_source; /* [sources][experts] load by source of data */
    uint32_t sources;
} tmb_router_stats;

/* Where the input of a Linear is measured. */
typedef struct tmb_site_ref {
    uint32_t site, entry; /* site TMB_NONE: nowhere */
    bool leader;          /* the first Linear of the site, whose rows stand for all */
} tmb_site_ref;

typedef struct tmb_stats_layer {
    int32_t index; /* of the decoder layer, or TMB_STATS_HEAD */
    tmb_site *sites;
    uint32_t n_sites;
    tmb_router_stats *router; /* NULL in a dense layer */
    bool has_kv, has_v;       /* MLA has no v of its own: it is in the latent, shown as k */
    uint32_t k_amax, v_amax;  /* bits of the f32 */
    uint64_t kv_nonfinite;
    bool moments;           /* hessian = block16 */
    int threads;            /* for one call of feed, when it is worth it */
    const tmb_model *model; /* NULL when read from a file */
    tmb_site_ref *refs;     /* [n_refs] of the units from first_unit on */
    uint32_t first_unit, n_refs;
    tmb_arena arena; /* names and tables */
} tmb_stats_layer;

/* What decides the shape of a layer's statistics besides the model. */
typedef struct tmb_stats_options {
    bool moments;     /* keep block-16 second moments, else sums of squares only */
    uint32_t sources; /* sources of data, for coverage by source; at least 1 */
    int threads;      /* that may share the work of one call; 0: 1 */
} tmb_stats_options;

/* Empty statistics for a decoder layer of the model, or TMB_STATS_HEAD for lm_head.  Sites come
 * from the model's fuses: Linears that engines fuse share their input.  Memory is taken as rows
 * arrive.  The caller's, tmb_stats_layer_free(). */
tmb_status tmb_stats_layer_new(tmb_stats_layer **out, const tmb_model *model, int32_t layer,
                               const tmb_stats_options *options, tmb_err *err) TMB_CHECKED;
void tmb_stats_layer_free(tmb_stats_layer *layer); /* NULL is fine */

/* Where the input of a unit (by index into tmb_model.units, or by its name) is measured; false when
 * it is not. */
bool tmb_stats_find(const tmb_stats_layer *layer, uint32_t unit, tmb_site_ref *out);
bool tmb_stats_find_name(const tmb_stats_layer *layer, const char *name, tmb_site_ref *out);

static inline tmb_accum_shape tmb_site_shape(const tmb_stats_layer *layer, const tmb_site *site)
{
    return (tmb_accum_shape){.in = site->in, .moments = layer->moments, .threads = layer->threads};
}

/* Add rows of the input of one entry: x [n, in] f32, row r at x + r * stride floats, borrowed;
 * gate [n] f32 the weight each row's output is given by the router, NULL where there is none.
 * NaN, Inf and |x| >= 2^121 are counted in `nonfinite` and taken as 0.  TMB_EDATA when a gate
 * weight is not within 0..1024 in magnitude, or a sum could overflow (2^40 rows). */
tmb_status tmb_stats_feed(tmb_stats_layer *layer, uint32_t site, uint32_t entry, bool shadow,
                          const float *x, size_t n, size_t stride, const float *gate,
                          tmb_err *err) TMB_CHECKED;

/* Add n tokens of the router: logits and choice [n, experts], choice being what was compared (-inf:
 * out of question; NULL: the logits); chosen [n, top_k] expert numbers; source [n] of each token,
 * NULL: 0.  TMB_EINTERNAL for an expert or source out of range, or chosen twice by a token. */
tmb_status tmb_stats_feed_router(tmb_stats_layer *layer, const float *logits, const float *choice,
                                 const uint32_t *chosen, const uint32_t *source, size_t n,
                                 tmb_err *err) TMB_CHECKED;

/* k [k_n], v [v_n] f32: what goes into the cache (k after its norm and rotation); v may be NULL. */
void tmb_stats_feed_kv(tmb_stats_layer *layer, const float *k, size_t k_n, const float *v,
                       size_t v_n);

/* Collective: add up the layer over all ranks, in place. */
tmb_status tmb_stats_layer_reduce(tmb_stats_layer *layer, tmb_comm *comm, tmb_err *err) TMB_CHECKED;
/* into += from: the same layer, sites and options; TMB_EDATA else.  from is left as it was. */
tmb_status tmb_stats_layer_add(tmb_stats_layer *into, const tmb_stats_layer *from,
                               tmb_err *err) TMB_CHECKED;

/* Host bytes the layer takes when every site's inputs fall into `classes` classes.  Rows whose
 * largest values lie within 2^16 of each other need at most 3; 3 is what plans count with. */
uint64_t tmb_stats_layer_bytes(const tmb_model *model, int32_t layer,
                               const tmb_stats_options *options, int classes);

#endif
