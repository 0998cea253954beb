/* internal.h - between fly.c and acts.c. */
#ifndef TMB_FLY_INTERNAL_H
#define TMB_FLY_INTERNAL_H

#include "moe/eval/acts.h"
#include "moe/fly/fly.h"

/* How the checkpoint that the plan would make has its inputs rounded. */
tmb_status tmb_fly_acts(tmb_acts **out, const tmb_plan *plan, const tmb_ops *ops,
                        tmb_err *err) TMB_CHECKED;

#endif
