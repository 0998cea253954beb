/* recurrence.h - linear recurrences over a sequence, in chunks of matrix products.
 *
 * A head keeps a state S [key_dim, value_dim], zero before its first token, and does for each token
 *     S = exp(decay) S + k d^T,   out = S^T q
 * with d = weight v (Mamba2: k is B, q is C, weight is dt; T. Dao, A. Gu, arXiv 2405.21060) or, of
 * the gated delta rule, d = weight (v - exp(decay) S^T k) (S. Yang et al., arXiv 2412.06464).
 *
 * Here TMB_RECURRENCE_CHUNK tokens are done at once: what they see of each other is a triangular
 * matrix, what they see of the past goes through S, and the d of the delta rule come from a
 * triangular system.  Chunks begin at the sequence's beginning, and all is done by the operations
 * of one table in a fixed order: the bytes are the same on every table. */
#ifndef TMB_CPU_RECURRENCE_H
#define TMB_CPU_RECURRENCE_H

#include "kernels/base/nn.h"

enum { TMB_RECURRENCE_CHUNK = 64 };

/* Heads of one sequence that share q and k. */
typedef struct tmb_recurrence {
    size_t tokens, heads, key_dim, value_dim;
    const float *q, *k;          /* [tokens, key_dim], rows qk_stride apart */
    const float *v;              /* [tokens, heads, value_dim], rows v_stride apart */
    const float *decay, *weight; /* [tokens, heads], rows `stride` apart; decay <= 0 */
    float *out;                  /* [tokens, heads, value_dim], rows out_stride apart; not v */
    size_t qk_stride, v_stride, stride, out_stride;
    bool delta;
} tmb_recurrence;

/* Floats of scratch that a run needs. */
size_t tmb_recurrence_floats(size_t heads, size_t key_dim, size_t value_dim);
/* scratch: that many floats, aligned to 64 bytes. */
void tmb_recurrence_run(const tmb_nn *nn, const tmb_recurrence *r, float *scratch);

#endif
