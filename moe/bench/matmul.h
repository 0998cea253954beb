/* matmul.h - what this processor multiplies when nothing is in its way: the floor under a forward
 * pass.
 *
 * One product [1536, 1024] x [1024, 1024] whose operands are packed already, by the operations the
 * forward pass uses, in as many threads; weights as float32 or BF16, sums in float32. */
#ifndef TMB_BENCH_MATMUL_H
#define TMB_BENCH_MATMUL_H

#include "kernels/base/err.h"
#include "kernels/base/nn.h"

/* Multiplications and additions a second, the best of some rounds. */
tmb_status tmb_bench_matmul(double *rate, const tmb_nn *nn, int threads, bool bf16,
                            tmb_err *err) TMB_CHECKED;

#endif
