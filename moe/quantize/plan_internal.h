/* plan_internal.h - the steps of planning, in the order tmb_plan_build() takes them. */
#ifndef TMB_QUANTIZE_PLAN_INTERNAL_H
#define TMB_QUANTIZE_PLAN_INTERNAL_H

#include "moe/io/names.h"
#include "moe/quantize/plan.h"

/* What lives only while a plan is built. */
typedef struct tmb_planner {
    tmb_plan *plan;
    const tmb_checkpoint *ckpt;
    const tmb_model *model;
    uint32_t *view_first, *views; /* units whose values lie in tensor t: from view_first[t] */
    uint8_t *owned;               /* tensor t belongs to a unit */
    uint32_t room_outs, all_slots, room_slots;
    tmb_names names; /* of plan->outs */
    bool mixed;      /* more than one format is used */
} tmb_planner;

/* One slot of a tensor that several units write, as elements lo..hi of it. */
typedef struct tmb_reach {
    uint32_t out, slot, unit;
    uint64_t lo, hi, elements;
} tmb_reach;

static inline const tmb_spec *tmb_plan_spec(const tmb_plan *plan, uint32_t unit)
{
    return plan->job.assignment->choices[unit].spec;
}

/* plan_rows.c: the table, the layout's consent, and totals. */
tmb_status tmb_plan_choose(tmb_planner *p, tmb_err *err) TMB_CHECKED;
tmb_status tmb_plan_totals(tmb_planner *p, tmb_err *err) TMB_CHECKED;
/* Add a sentence once. */
tmb_status tmb_plan_warn(tmb_plan *plan, const char *text, tmb_err *err) TMB_CHECKED;

/* plan_outs.c: outs and slots, in source order. */
tmb_status tmb_plan_outs(tmb_planner *p, tmb_err *err) TMB_CHECKED;

/* plan_bundles.c: which units are worked on together. */
tmb_status tmb_plan_bundles(tmb_planner *p, tmb_err *err) TMB_CHECKED;
/* plan_files.c: which out lies in which shard, and where. */
tmb_status tmb_plan_files(tmb_planner *p, tmb_err *err) TMB_CHECKED;
uint64_t tmb_plan_index_bytes(const tmb_plan *plan);
const char *tmb_plan_index_name(void);
/* plan_texts.c: config.json and its like, files carried over, the resolved recipe. */
tmb_status tmb_plan_texts(tmb_planner *p, tmb_err *err) TMB_CHECKED;
/* plan_memory.c: peak bytes, and the number of threads that max_ram leaves. */
tmb_status tmb_plan_memory(tmb_planner *p, tmb_err *err) TMB_CHECKED;

#endif
