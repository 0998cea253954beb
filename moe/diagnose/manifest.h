/* manifest.h - which models a diagnosis is about. */
#ifndef TMB_DIAGNOSE_MANIFEST_H
#define TMB_DIAGNOSE_MANIFEST_H

#include "moe/diagnose/diagnosis.h"
#include "moe/quantize/plan.h"

/* Fill manifest.ref and .other, and what is known of the recipe: plan's when the other is ref under
 * a plan (then other is ref), else what the other's tombac.json keeps. */
tmb_status tmb_diagnosis_name(tmb_diagnosis *d, const tmb_model *ref, const tmb_model *other,
                              const tmb_plan *plan, tmb_err *err) TMB_CHECKED;

#endif
