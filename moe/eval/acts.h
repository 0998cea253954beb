/* acts.h - the inputs of Linears rounded as the kernels of a quantized checkpoint round them.
 *
 *   static FP8      e4m3(x / s) * s, s the stored input_scale
 *   FP8 by token    s = amax of the row / 448; by token and 128 columns: of that part of it
 *   NVFP4           blocks of 16 under the stored global scale, as weights are (moe/format/nvfp4.c)
 *   MXFP8           blocks of 32, as weights are
 *   FP8 KV cache    e4m3(k / k_scale) * k_scale after norm and rotation; of MLA the latent, scale 1
 *
 * A static FP8 format whose checkpoint stores no input scale (compressed-tensors) is rounded by
 * token, which is what engines do there outside of experts. */
#ifndef TMB_EVAL_ACTS_H
#define TMB_EVAL_ACTS_H

#include "moe/infer/observe.h"

typedef struct tmb_acts tmb_acts;

/* Formats and scales of the checkpoint's Linears.  TMB_EDATA for an input scale that is not a
 * positive finite number, naming it. */
tmb_status tmb_acts_open(tmb_acts **out, const tmb_model *model, const tmb_ops *ops,
                         tmb_err *err) TMB_CHECKED;
void tmb_acts_close(tmb_acts *acts);
/* Whether anything is rounded at all. */
bool tmb_acts_any(const tmb_acts *acts);
/* Hooks whose ctx is acts. */
tmb_hooks tmb_acts_hooks(tmb_acts *acts);

#endif
