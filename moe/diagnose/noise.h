/* noise.h - the same model computed as a 16-bit engine would, in another legal order.
 *
 * What is done, beside the reference's float32 forward:
 *   - the input of every Linear is rounded to BF16, and so are its outputs, router logits included;
 *   - the residual stream is rounded to BF16 behind each addition, and the sum over experts with
 * it;
 *   - keys and values are rounded to BF16 behind norm and rotation;
 *   - a Linear's sum over its inputs is taken in blocks of 64, from the last block to the first.
 * Weights, norms, softmax and activation functions are float32 as in the reference.  Any engine
 * that serves the reference in BF16 differs from it by about as much. */
#ifndef TMB_DIAGNOSE_NOISE_H
#define TMB_DIAGNOSE_NOISE_H

#include "kernels/base/nn.h"
#include "moe/infer/observe.h"

/* base with the operations replaced that round and sum in another order. */
tmb_nn tmb_noise_nn(const tmb_nn *base);
/* Rounding of inputs and cache to BF16, behind what `inner` does to them (a reference that is
 * quantized itself) and with its weights; inner must outlive the hooks. */
tmb_hooks tmb_noise_hooks(tmb_hooks *inner);
const char *tmb_noise_about(void); /* one sentence of the above, for reports */

#endif
