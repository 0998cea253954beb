/* nn.h - the table of network operations a backend fills.
 *
 * The reference (kernels/cpu/nn_ref.c) is plain C and complete.  The vector versions give the same
 * bytes for every input, and a row's result depends on that row alone: not on how many other rows
 * there are, how work is split, or how many threads there are.  What makes that hold:
 *   gemm     an output is one chain of fused multiply-adds over k ascending, begun anew at every
 *            multiple of TMB_NN_DEPTH; these partial sums are added in order, then the bias
 *   sums     of squares and of exponentials run in 16 lanes, lane i taking elements i, i+16, …,
 *            folded 8+8, 4+4, 2+2, 1+1
 *   exp      one polynomial, below 2 ulp from -87 to 88
 * All else is IEEE float32, one rounding per operation.
 *
 * Dimension letters: T tokens, H hidden, E experts, K chosen experts.  Pointers are host memory,
 * borrowed, not overlapping but where told; alignment is that of the type. */
#ifndef TMB_BASE_NN_H
#define TMB_BASE_NN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TMB_NN_PANEL = 32,  /* outputs side by side in a packed weight */
    TMB_NN_ROWS = 12,   /* rows side by side in packed inputs */
    TMB_NN_DEPTH = 256, /* how many products one chain sums */
};

/* A weight [out, in] in the order gemm reads it: panel p holds outputs 32p … 32p+31, and for each
 * k of 0 … in-1 their 32 values side by side; outputs past the last are zero.  bf16 when every
 * value is one, which halves the memory and changes no result. */
typedef struct tmb_packed {
    void *values; /* [panels, in, 32] f32 or bf16 */
    size_t out, in;
    bool bf16;
} tmb_packed;

static inline size_t tmb_packed_panels(size_t out)
{
    return (out + TMB_NN_PANEL - 1) / TMB_NN_PANEL;
}

/* Columns of a product with `out` packed ones, the last panel's padding among them. */
static inline size_t tmb_packed_width(size_t out)
{
    return tmb_packed_panels(out) * TMB_NN_PANEL;
}

typedef struct tmb_nn {
    const char *name; /* "ref", "avx2", "avx512" */

    /* Panels first … of to = rows 32*first … of the weight: w [rows, to->in] f32 with row distance
     * stride; rows a multiple of 32, or ending at to->out. */
    void (*pack)(const tmb_packed *to, size_t first, const float *w, size_t rows, size_t stride);
    /* The whole of to from w [to->in, to->out] f32 with row distance stride. */
    void (*pack_turned)(const tmb_packed *to, const float *w, size_t stride);
    /* xp [ceil(rows/12), in, 12] f32 = x [rows, in] with row distance stride, short blocks filled
     * with zeros. */
    void (*pack_rows)(float *xp, const float *x, size_t rows, size_t in, size_t stride);
    /* y[r][32p … ] = sum over k of x[r][k] * w[o][k], plus bias [w->out] when not NULL, for the
     * rows and the panels first … first+panels-1.  xp: rows of pack_rows, of which k = 0 … depth-1
     * are summed; depth <= w->in is the row length of xp.  y [rows, w->out], row distance stride.
     */
    void (*gemm)(float *y, size_t stride, const float *xp, size_t rows, size_t depth,
                 const tmb_packed *w, size_t first, size_t panels, const float *bias);

    /* y [n] = x / sqrt(mean(x^2) + eps) * weight; weight NULL: ones.  y may be x. */
    void (*rms_norm)(float *y, const float *x, const float *weight, size_t n, float eps);
    /* y [n] += x [n] * scale. */
    void (*add_scaled)(float *y, const float *x, float scale, size_t n);
    /* y [n] = x [n] * scale; y may be x. */
    void (*scale)(float *y, const float *x, float scale, size_t n);
    /* x [n] = softmax(x * scale) of the elements from … to-1, zero elsewhere.  sink: one more
     * logit, which takes its share and is dropped; NULL for none. */
    void (*softmax)(float *x, size_t n, size_t from, size_t to, float scale, const float *sink);
    /* y [n] = 1 / (1 + exp(-x)); y may be x. */
    void (*sigmoid)(float *y, const float *x, size_t n);
    /* gate [n] = gate / (1 + exp(-gate)) * up. */
    void (*swiglu)(float *gate, const float *up, size_t n);
    /* gate [n] = (u + 1) * g / (1 + exp(-alpha * g)), g = min(gate, limit), u = up within ±limit:
     * the activation of gpt-oss. */
    void (*swiglu_clamped)(float *gate, const float *up, size_t n, float alpha, float limit);
    /* y [n] = x / (1 + exp(-x)); y may be x. */
    void (*silu)(float *y, const float *x, size_t n);
    /* y [n] = y / (1 + exp(-x)): y behind the sigmoid gate x. */
    void (*gate)(float *y, const float *x, size_t n);
    /* x [n] = max(x, 0)^2. */
    void (*relu2)(float *x, size_t n);
    /* y [n] += scale * max(x, 0). */
    void (*add_relu)(float *y, const float *x, float scale, size_t n);
    /* y [n] = exp(x); y may be x. */
    void (*exp)(float *y, const float *x, size_t n);
    /* y [n] = bias (NULL: zeros), then for i = 0 … taps-1 y += w[i*n …] * x[i*step …]: one row of a
     * depthwise convolution whose weight is w [taps, n] and whose inputs are rows `step` apart. */
    void (*taps)(float *y, const float *x, size_t step, const float *w, size_t taps,
                 const float *bias, size_t n);
    /* y [rows, n], row distance stride, in place: for i ascending, for j = 0 … i-1 ascending
     * y[i] -= m[i][j] * y[j].  m [rows, rows], of which what is below the diagonal is read. */
    void (*solve)(float *y, size_t stride, const float *m, size_t rows, size_t n);
    /* Rotate pairs of x by the angles whose cosines and sines are cos, sin [half]: element i with
     * i + half, or 2i with 2i + 1 when paired. */
    void (*rotate)(float *x, const float *cos, const float *sin, size_t half, bool paired);
} tmb_nn;

#endif
