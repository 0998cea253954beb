/* nn_exp.h - the constants of the exponential that all tables share.
 *
 * exp(x) = 2^n * exp(r), n = x / ln 2 to nearest, r = x - n ln 2 with ln 2 in two parts, |r| <= ln
 * 2 / 2; exp(r) by the polynomial of S. Moshier's Cephes library, expf.c (single precision, degree
 * 7). Arguments are held within LOWEST … HIGHEST, where 2^n is a normal number. */
#ifndef TMB_CPU_NN_EXP_H
#define TMB_CPU_NN_EXP_H

#define TMB_EXP_LOWEST  (-87.0f)
#define TMB_EXP_HIGHEST 88.0f
#define TMB_EXP_LOG2E   1.44269504088896341f
#define TMB_EXP_ROUND   0x1.8p23f /* added and taken away again, leaves the nearest integer */
#define TMB_EXP_BIAS                                                                               \
    (127u - 0x4b400000u) /* makes the bits of n + ROUND the exponent field of 2^n */
#define TMB_EXP_LN2_HI 0.693359375f
#define TMB_EXP_LN2_LO -2.12194440e-4f
#define TMB_EXP_P0     1.9875691500e-4f
#define TMB_EXP_P1     1.3981999507e-3f
#define TMB_EXP_P2     8.3334519073e-3f
#define TMB_EXP_P3     4.1665795894e-2f
#define TMB_EXP_P4     1.6666665459e-1f
#define TMB_EXP_P5     5.0000001201e-1f

#endif
