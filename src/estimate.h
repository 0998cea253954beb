/* estimate.h - how long the arithmetic of a plan takes on this machine, measured, not assumed. */
#ifndef TMB_SRC_ESTIMATE_H
#define TMB_SRC_ESTIMATE_H

#include "moe/quantize/plan.h"

/* Seconds that plan->options.threads threads compute: each format in use is timed for some
 * milliseconds on one tile.  Reading and writing come on top when the disk is slower.
 * Negative without memory. */
double tmb_estimate_seconds(const tmb_plan *plan);

#endif
