/* int4.h - what the INT4 formats share; they differ in tmb_format.group. */
#ifndef TMB_FORMAT_INT4_H
#define TMB_FORMAT_INT4_H

#include "moe/format/format.h"

bool tmb_int4_part(const tmb_format *f, tmb_part part, uint64_t out, uint64_t in, tmb_geometry *g);
void tmb_int4_encode(const tmb_format *f, const tmb_ops *ops, tmb_scale_rule rule, const float *x,
                     size_t rows, size_t cols, float global, void *codes, void *scales,
                     float *work);
void tmb_int4_decode(const tmb_format *f, const tmb_ops *ops, float *x, size_t rows, size_t cols,
                     const void *codes, const void *scales, float global, float *work);

#endif
