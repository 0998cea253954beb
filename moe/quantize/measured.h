/* measured.h - scales of activations from a file of statistics, for the layouts. */
#ifndef TMB_QUANTIZE_MEASURED_H
#define TMB_QUANTIZE_MEASURED_H

#include "moe/quantize/plan.h"

/* Fill plan->measured from the file plan->options.stats, for every Linear whose format and layout
 * store the scale of its input, and for the KV cache; and plan->weigh for every search of scales.  TMB_EUSAGE when the statistics are of
 * another checkpoint; TMB_EDATA when they say nothing of a Linear that needs them: no number is
 * made up. */
tmb_status tmb_measure(tmb_plan *plan, tmb_err *err) TMB_CHECKED;

#endif
