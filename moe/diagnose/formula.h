/* formula.h - from sums over sequences to metrics: every formula of metric.h that is no plain mean
 * in one place, used alike for the data and for each resampling of it. */
#ifndef TMB_DIAGNOSE_FORMULA_H
#define TMB_DIAGNOSE_FORMULA_H

#include "moe/diagnose/tally.h"

/* Metrics of one layer from sums [TMB_TALLY] and, where it is sparse, load ref, other [n_experts]
 * (tokens).  work [n_experts]: scratch.  ep: ranks that share the experts.  Those that do not apply
 * become NaN; metrics of the output are left alone. */
void tmb_formula_layer(double *metrics, const double *sums, const double *ref, const double *other,
                       const tmb_router_shape *shape, bool sparse, size_t ep, double *work);

/* Drift from two set matches. */
double tmb_formula_drift(double set_match, double noise_match);

#endif
