/* route.h - routing, sorting by expert and summing up on the GPU; kernels/cpu/route.h says what
 * each does, and gives the same bits.  Pointers are device memory; launches on stream, nothing
 * waits, and one graph serves every routing. */
#ifndef TMB_CUDA_ROUTE_H
#define TMB_CUDA_ROUTE_H

#include "kernels/base/err.h"
#include "kernels/base/route.h"

#ifdef __cplusplus
extern "C" {
#endif

/* r->correction is device memory. */
tmb_status tmb_cuda_route(const tmb_router *r, const float *logits, int tokens, int32_t *chosen,
                          float *weight, void *stream, tmb_err *err) TMB_CHECKED;

/* Bytes of workspace that tmb_cuda_plan() wants. */
uint64_t tmb_cuda_plan_bytes(int tokens, int top_k, int slots);
tmb_status tmb_cuda_plan(const tmb_route_plan *plan, const int32_t *chosen, const int32_t *slot,
                         int tokens, int top_k, int slots, void *work, void *stream,
                         tmb_err *err) TMB_CHECKED;

/* hidden % 8 == 0. */
tmb_status tmb_cuda_combine(uint16_t *y, const uint16_t *rows, const int32_t *row,
                            const float *weight, const uint16_t *shared, const float *shared_gate,
                            int tokens, int top_k, int hidden, void *stream,
                            tmb_err *err) TMB_CHECKED;

#ifdef __cplusplus
}
#endif
#endif
