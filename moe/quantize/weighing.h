/* weighing.h - the tables under which scales are searched, from a file of statistics.
 *
 * A search of weight scales (scale = mse, scale = hessian) weighs errors by the second moments of
 * the Linear's input, where statistics are given and say something of it.  The plan knows for each
 * unit where they lie.  While a job runs, the averages of the layers that threads are at are in
 * memory, shared by all; each thread makes the table of the unit it works on. */
#ifndef TMB_QUANTIZE_WEIGHING_H
#define TMB_QUANTIZE_WEIGHING_H

#include "moe/calib/file.h"
#include "moe/quantize/plan.h"

/* ---- planning */

/* Where the moments of a unit's input lie. */
typedef struct tmb_weigh_place {
    uint32_t layer; /* in the statistics file; TMB_NONE: nothing weighs this unit */
    uint32_t site, entry;
    bool full; /* blocks of 16, else the diagonal */
} tmb_weigh_place;

struct tmb_weigh_plan {
    tmb_weigh_place *places; /* [n_units] */
    uint32_t n_layers;       /* of the file */
    uint64_t *bytes;         /* [n_layers] of its averages */
    uint64_t reading;        /* more while the largest is read */
    uint64_t table_floats;   /* of the largest table */
};

/* Refuse scale = hessian when there are no statistics to go by. */
tmb_status tmb_weighing_needs(const tmb_plan *plan, tmb_err *err) TMB_CHECKED;
/* plan->weigh, empty, where some scale is searched; then each layer of the file, read without
 * moments.  What stays without any gets plain mse and is counted in its row. */
tmb_status tmb_weighing_plan(tmb_plan *plan, const tmb_stats_file *file, tmb_err *err) TMB_CHECKED;
tmb_status tmb_weighing_find(tmb_plan *plan, const tmb_stats_layer *layer, uint32_t index_in_file,
                             tmb_err *err) TMB_CHECKED;
void tmb_weighing_count(tmb_plan *plan);
/* NULL: nothing weighs this unit. */
const tmb_weigh_place *tmb_weighing_of(const tmb_plan *plan, uint32_t unit);
/* Peak bytes of a job's averages, when so much of the input is worked on at a time. */
uint64_t tmb_weighing_bytes(const tmb_plan *plan, uint64_t stage_bytes);

/* ---- a job: any number of threads */

typedef struct tmb_weighing tmb_weighing;

/* *out NULL when the plan needs none. */
tmb_status tmb_weighing_open(tmb_weighing **out, const tmb_plan *plan, tmb_err *err) TMB_CHECKED;
void tmb_weighing_close(tmb_weighing *weighing); /* NULL is fine */
/* lanes [plan->weigh->table_floats]: the table (kernels/base/ops.h) of what lies at a place. */
tmb_status tmb_weighing_make(tmb_weighing *weighing, const tmb_weigh_place *place, float *lanes,
                             tmb_err *err) TMB_CHECKED;

#endif
