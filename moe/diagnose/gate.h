/* gate.h - conditions that a diagnosis must meet: --gate 'set_match>=0.97, kl<0.05'.
 *
 *   condition  figure op number, several with commas between
 *   op         >= <= > <
 *   figure     a metric of metric.h, overall; `min_layer_M`, `max_layer_M`: the least and the
 * largest of the layers that have it; `layer_I_M`: that of layer I; each with `.lo` or `.hi` behind
 * it for an end of the 95 % interval. A figure without a value meets no condition. */
#ifndef TMB_DIAGNOSE_GATE_H
#define TMB_DIAGNOSE_GATE_H

#include "moe/diagnose/diagnosis.h"

enum { TMB_GATES = 32, TMB_GATE_BYTES = 96 };

typedef enum tmb_gate_op { TMB_GATE_GE, TMB_GATE_LE, TMB_GATE_GT, TMB_GATE_LT } tmb_gate_op;

typedef struct tmb_gate {
    char text[TMB_GATE_BYTES]; /* as written, without blanks around it */
    tmb_metric metric;
    int layer; /* TMB_GATE_OVERALL, _LEAST, _MOST, or a layer */
    int end;   /* -1 lo, 0 value, 1 hi */
    tmb_gate_op op;
    double limit;
    double found; /* by tmb_gates_check() */
    bool met;
} tmb_gate;
enum { TMB_GATE_OVERALL = -1, TMB_GATE_LEAST = -2, TMB_GATE_MOST = -3 };

typedef struct tmb_gates {
    tmb_gate list[TMB_GATES];
    size_t n;
} tmb_gates;

/* Add the conditions of one expression.  TMB_EUSAGE with what was meant, the nearest metric. */
tmb_status tmb_gates_add(tmb_gates *gates, const char *expression, tmb_err *err) TMB_CHECKED;
/* Fill found and met; false when one is not met. */
bool tmb_gates_check(tmb_gates *gates, const tmb_diagnosis *d);

#endif
