/* traces.h - routing.h5: the figures of a diagnosis as arrays, and, when asked for, every token's
 * routing in both models.
 *
 *   metrics/names        text [M]         as in metric.h
 *   metrics/overall      f64  [M, 3]      value, lo, hi
 *   metrics/layers       f64  [L, M, 3]
 *   margins/edges        f64  [B]         lower edge of each bin
 *   margins/WHAT         u64  [L, B]      ref, other, flips, local, noise, noise_of (diagnosis.h)
 *   experts/WHAT         u64  [L, E]      ref, other, gained, lost: tokens
 *   tokens/ids           i32  [T]         tokens of all sequences, one after the other
 *   tokens/begin         u64  [S + 1]     where each sequence begins
 *   tokens/kl            f32  [T]         KL of the next token's prediction; NaN at the last of a
 *                                         sequence
 *   tokens/layer_III/ref_logits, other_logits    f32 [T, E]   router logits
 *   tokens/layer_III/ref_chosen, other_chosen    u32 [T, K]   ascending
 *   tokens/layer_III/ref_weight, other_weight    f32 [T, K]
 *   tokens/layer_III/ref_choice                  f32 [T, E]   score plus correction, -inf in groups
 *                                                             not chosen; of routers where that
 *                                                             is not the order of the logits
 *   manifest             text [1]         the manifest of report.json */
#ifndef TMB_DIAGNOSE_TRACES_H
#define TMB_DIAGNOSE_TRACES_H

#include "moe/diagnose/diagnosis.h"
#include "moe/io/store.h"

#define TMB_TRACES_KIND "tombac-routing"
enum { TMB_TRACES_VERSION = 1 };

struct tmb_lock_rank;

/* Collective; store is NULL but at rank 0.  begin: ids; layer: after each sparse layer; end: KL. */
tmb_status tmb_traces_begin(tmb_store *store, const struct tmb_lock_rank *r,
                            tmb_err *err) TMB_CHECKED;
tmb_status tmb_traces_layer(tmb_store *store, const struct tmb_lock_rank *r,
                            tmb_err *err) TMB_CHECKED;
tmb_status tmb_traces_end(tmb_store *store, const struct tmb_lock_rank *r,
                          tmb_err *err) TMB_CHECKED;

/* The figures; publishes nothing. */
tmb_status tmb_diagnosis_store(const tmb_diagnosis *d, tmb_store *store, tmb_err *err) TMB_CHECKED;

#endif
