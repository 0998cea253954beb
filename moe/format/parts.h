/* parts.h - what the formats share: geometry of parts, and the rules that choose a scale.
 *
 * Every rule gives a finite scale > 0 for every finite amax >= 0, and 1 for a zero amax. */
#ifndef TMB_FORMAT_PARTS_H
#define TMB_FORMAT_PARTS_H

#include "moe/format/format.h"

/* Encoders walk a tile in pieces of this many blocks: what a piece needs stays in the first
 * cache, and its scratch of one float a block fits tmb_format_work() of any width. */
enum { TMB_CHUNK = 256 };

/* *g = a matrix [rows, cols], or one number; they return true, as part() must. */
bool tmb_part_matrix(tmb_geometry *g, tmb_dtype dtype, uint64_t rows, uint64_t cols);
bool tmb_part_number(tmb_geometry *g, tmb_dtype dtype);

/* amax / top, but never 0. */
float tmb_scale_by(float amax, float top);
/* amax / 448 with amax raised to the smallest normal float first, as ModelOpt does for the rows
 * and tiles of FP8, so that kernels that flush subnormals to zero see less of them. */
float tmb_scale_fp8(float amax);

/* codes [n] E8M0 = floor(log2(amax) + carry) - down, at least 2^-127.  carry, in units of the last
 * place of float32, moves the point of the mantissa from which the exponent is raised. */
void tmb_scales_e8m0(uint8_t *codes, const float *amax, size_t n, uint32_t carry, int down);

#endif
