/* plan_report.h - a plan as a page for people and as JSON. */
#ifndef TMB_SRC_PLAN_REPORT_H
#define TMB_SRC_PLAN_REPORT_H

#include "moe/quantize/plan.h"

tmb_status tmb_plan_print(const tmb_plan *plan, tmb_err *err) TMB_CHECKED;
tmb_status tmb_plan_json(const tmb_plan *plan, tmb_err *err) TMB_CHECKED;

/* How activations are rounded at run time, and how searched scales are chosen: a line for each
 * format in use. */
void tmb_plan_print_activations(const tmb_plan *plan);
/* "least squared error": how a spec's block scales are chosen. */
const char *tmb_plan_scales(const tmb_plan *plan, const tmb_spec *spec);
/* "warning: …", each on a line of its own. */
void tmb_plan_print_warnings(const tmb_plan *plan);

/* What a row was decided by: "line 7: *experts* = nvfp4", or why it is kept. */
const char *tmb_plan_decided(const tmb_plan *plan, const tmb_plan_row *row, char *out, size_t size);
/* "nvfp4", or "kept" for a row that stays as it is. */
const char *tmb_plan_format(const tmb_plan_row *row);

#endif
