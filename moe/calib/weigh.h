/* weigh.h - from second moments to what an error in a weight costs.
 *
 * A Linear's weight row w becomes q; for an input x its output moves by (w - q) . x, so the error
 * to expect is (w - q)' E[x x'] (w - q).  Of E[x x'] the diagonal blocks of 16 channels are known
 * (statistics with hessian = block16), or the diagonal alone, and they were estimated: from many
 * tokens, from few, or from none of this expert's own.  An estimate from few is drawn to what is
 * simpler and better known, in three steps, each a convex combination by counts of tokens:
 *
 *   to the layer     S = w S_own + (1 - w) S_layer          w = n / (n + min_tokens)
 *     S_layer: the average over all tokens of all experts of the layer.  This is the posterior mean
 *     under an inverse Wishart prior that is worth min_tokens tokens of the layer (A. Gelman et
 * al., Bayesian Data Analysis, 3.6), Buehlmann's credibility.  S then rests on m = 1 / (w^2 / n +
 * (1 - w)^2 / n_layer) tokens. to its diagonal  S' = (1 - r) S + r diag(S)             r = min(1,
 * sum (1 + c^2) / (m sum c^2)) over the pairs i < j, c = S(i, j) / sqrt(S(i, i) S(j, j)): the
 * intensity of J. Schaefer and K. Strimmer (2005), "A shrinkage approach to large-scale covariance
 * matrix estimation", target D for correlations, with the variance that a correlation of normal
 * variables has. Correlations that are not above their own noise vanish. to plain error   H = (1 -
 * t) S' + t mean(diag S) I      t = 16 / (m + 16) 16 tokens are what a matrix of 16 channels needs
 * for full rank.  Nothing is free: a channel that was never active still counts a little, and
 * without tokens this is plain mse.
 *
 * H is scaled to an average of 1 on its diagonal. */
#ifndef TMB_CALIB_WEIGH_H
#define TMB_CALIB_WEIGH_H

#include "kernels/base/ops.h"

#include <stdbool.h>
#include <stdint.h>

/* The first step: w, and *tokens = m.  own: tokens of the expert; all: of the layer, 0 where there
 * are no experts; neither: *tokens is 0. */
double tmb_weigh_own(uint64_t own, uint64_t all, uint64_t min_tokens, double *tokens);

/* The other two.  s [136] (full: upper triangle by rows) or [16] (the diagonal) of one block, in
 * any unit; values that are no moments (negative squares) count as 0.  h [136] or [16], not
 * doubled. */
void tmb_weigh_form(const float *s, bool full, double tokens, float *h);

/* f [16]: largest numbers, less a millionth, for which h - f(i)^2 e(i) e(i)' is semidefinite; 0
 * where h is too near to singular to tell.  h as above. */
void tmb_weigh_floor(const float *h, bool full, float f[16]);

/* The table of kernels/base/ops.h for the blocks of one input: s [blocks][136 or 16], lanes
 * [tmb_weigh_floats]. */
uint64_t tmb_weigh_floats(uint64_t blocks, bool full);
void tmb_weigh_table(const float *s, uint64_t blocks, bool full, double tokens, float *lanes);

#endif
