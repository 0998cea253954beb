/* route.h - routing, sorting by expert and summing up on the processor: the reference of the GPU's
 * (kernels/cuda/route.h), to the bit, and what the MoE layer runs without one.
 *
 * Letters: T tokens, E experts, K = top_k, H hidden.  Pointers are host memory, borrowed. */
#ifndef TMB_CPU_ROUTE_H
#define TMB_CPU_ROUTE_H

#include "kernels/base/err.h"
#include "kernels/base/route.h"

#include <stddef.h>

/* Whether the numbers of a router make sense; the message names the one that does not. */
tmb_status tmb_router_check(const tmb_router *r, tmb_err *err) TMB_CHECKED;

/* choice [experts] = -inf outside the best top_groups of `groups` equal groups; of level groups the
 * first go before.  worth [groups]: scratch. */
void tmb_cpu_limit_groups(float *choice, size_t experts, size_t groups, size_t top_groups,
                          tmb_group_rule rule, float *worth);

/* chosen [T, K] i32 and weight [T, K] f32, best first, from logits [T, E] f32. */
void tmb_cpu_route(const tmb_router *r, const float *logits, size_t tokens, int32_t *chosen,
                   float *weight);

/* Sort by expert, stable in (token, choice).  chosen [T, K]: expert of a choice; slot [E] i32: its
 * place in the order of weights, -1 when the expert is not here; NULL: expert e has place e.
 * plan->offsets has slots + 1 entries. */
void tmb_cpu_plan(const tmb_route_plan *plan, const int32_t *chosen, const int32_t *slot,
                  size_t tokens, int top_k, int slots);

/* y [T, H] bf16 = sum over k ascending of weight[t][k] * rows[row[t][k]], one fused multiply-add
 * each, then shared [T, H] bf16 (times shared_gate [T] f32 when not NULL) when not NULL.
 * rows [.., H] bf16; a row of -1 is left out. */
void tmb_cpu_combine(uint16_t *y, const uint16_t *rows, const int32_t *row, const float *weight,
                     const uint16_t *shared, const float *shared_gate, size_t tokens, int top_k,
                     size_t hidden);

#endif
