/* nvfp4.h - the arithmetic of NVFP4, which two formats share: with and without quantized input. */
#ifndef TMB_FORMAT_NVFP4_H
#define TMB_FORMAT_NVFP4_H

#include "moe/format/format.h"

bool tmb_nvfp4_part(const tmb_format *f, tmb_part part, uint64_t out, uint64_t in, tmb_geometry *g);
float tmb_nvfp4_global(float amax);
void tmb_nvfp4_encode(const tmb_format *f, const tmb_ops *ops, tmb_scale_rule rule, const float *x,
                      size_t rows, size_t cols, float global, void *codes, void *scales,
                      float *work);
void tmb_nvfp4_encode_weighted(const tmb_format *f, const tmb_ops *ops, const tmb_moments *moments,
                               const float *x, size_t rows, size_t cols, float global, void *codes,
                               void *scales, float *work);
void tmb_nvfp4_decode(const tmb_format *f, const tmb_ops *ops, float *x, size_t rows, size_t cols,
                      const void *codes, const void *scales, float global, float *work);

#endif
