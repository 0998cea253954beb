/* fly.h - a recipe applied to a source while it runs; nothing is written.
 *
 *     tmb_fly_open(&fly, plan, ops, err);
 *     options.hooks = tmb_fly_hooks(fly);
 *     tmb_decoder_open(&d, plan->job.model, &options, err);
 *
 * The decoder then computes with the bits that the checkpoint which `quantize` makes by this plan
 * would give: weights encoded and read back as its loader reads them (moe/quantize/encode.h), under
 * the same shared scales; inputs and cache rounded under the scales that it would store
 * (moe/eval/acts.h), from statistics where the plan has some.
 *
 * A global scale needs the largest value of everything that shares it: the first row wanted of such
 * a Linear reads all of them once, and only the number is kept.  So a layer costs two readings and
 * one encoding each time it is loaded, and memory of a tile a thread. */
#ifndef TMB_FLY_FLY_H
#define TMB_FLY_FLY_H

#include "moe/infer/observe.h"
#include "moe/quantize/plan.h"

typedef struct tmb_fly tmb_fly;

/* The plan must outlive it.  TMB_EDATA for a scale of the cache that the source holds and that is
 * no positive finite number. */
tmb_status tmb_fly_open(tmb_fly **out, const tmb_plan *plan, const tmb_ops *ops,
                        tmb_err *err) TMB_CHECKED;
void tmb_fly_close(tmb_fly *fly);

/* Hooks whose ctx is fly, for a decoder of plan->job.model. */
tmb_hooks tmb_fly_hooks(tmb_fly *fly);
/* The same, but inputs and cache stay exact. */
tmb_hooks tmb_fly_weights(tmb_fly *fly);

#endif
