/* format.h - what a number format is.
 *
 * A format turns a weight [out, in] of float32 into parts: codes, block scales, a global scale.
 * It knows nothing of tensor names: how a loader spells the parts is the layout's business
 * (moe/layout/layout.h).  A new format is one file here and one word in moe/local.mk.
 *
 * Weights are handled in tiles of whole rows, so that a weight of any size streams: first
 * tmb_format.global_scale() from the joint amax of everything that shares the scale, then
 * encode() tile by tile.  A tile starts at a multiple of TMB_TILE_ROWS. */
#ifndef TMB_FORMAT_FORMAT_H
#define TMB_FORMAT_FORMAT_H

#include "kernels/base/dtype.h"
#include "kernels/base/ops.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TMB_TILE_ROWS = 128 };

typedef enum tmb_part {
    TMB_PART_CODES,  /* the quantized weight */
    TMB_PART_SCALE,  /* block, row or tile scales */
    TMB_PART_GLOBAL, /* one float32: per-tensor scale, or the second level of NVFP4 (ws2) */
    TMB_PART_INPUT,  /* one float32: static activation scale */
    TMB_PART_SHAPE,  /* int64 [2]: the logical shape, where the codes do not tell it */
    TMB_PARTS
} tmb_part;

/* How a kernel of this format rounds its input. */
typedef enum tmb_act {
    TMB_ACT_NONE,     /* weight only */
    TMB_ACT_STATIC,   /* E4M3 by one scale a tensor: TMB_PART_INPUT = amax / 448 */
    TMB_ACT_TOKEN,    /* E4M3 by one scale a token, at run time */
    TMB_ACT_GROUP128, /* E4M3 by one scale a token and 128 columns, at run time */
    TMB_ACT_NVFP4,    /* E2M1 16-blocks at run time under TMB_PART_INPUT = amax / 2688 */
    TMB_ACT_MX,       /* as the weight: E8M0 32-blocks at run time */
} tmb_act;

typedef enum tmb_scale_rule {
    TMB_SCALE_MAX,     /* the largest magnitude maps to the largest code */
    TMB_SCALE_MSE,     /* block scales by least squared error, or by the diagonal of the moments */
    TMB_SCALE_HESSIAN, /* block scales by least error of the output: second moments of 16-blocks */
} tmb_scale_rule;

/* dtype and shape of one part of a weight [out, in], in the format's own geometry. */
typedef struct tmb_geometry {
    tmb_dtype dtype;
    int rank;          /* 0 (one number), 1 (TMB_PART_SHAPE) or 2 */
    uint64_t shape[2]; /* shape[0] rows, shape[1] columns, in elements of dtype */
    uint64_t bytes;
} tmb_geometry;

/* Whether Linears that engines run as one GEMM must have one TMB_PART_GLOBAL. */
typedef enum tmb_sharing {
    TMB_SHARE_NONE,            /* there is no such part */
    TMB_SHARE_OUTSIDE_EXPERTS, /* engines bring the halves of an expert to one scale themselves */
    TMB_SHARE_FUSED,           /* always: engines use one of the numbers for all */
} tmb_sharing;

typedef struct tmb_format tmb_format;
struct tmb_format {
    const char *name;    /* "nvfp4": what recipes and tables say */
    const char *summary; /* one line for lists, without a final dot */
    const char *family;  /* the format it is a variant of, whose spelling it shares; NULL: none */
    unsigned group;      /* columns of a block scale, where variants differ in it; else 0 */

    unsigned col_multiple; /* `in` must be a multiple of this, else the format refuses */
    tmb_act act;
    tmb_sharing sharing;
    bool can_mse; /* TMB_SCALE_MSE is offered */
    double bits;  /* bits per weight with block scales, before ragged edges */

    /* false: this format has no such part.  out, in > 0. */
    bool (*part)(const tmb_format *f, tmb_part part, uint64_t out, uint64_t in, tmb_geometry *g);

    /* TMB_PART_GLOBAL from the joint amax (finite, >= 0).  NULL when there is no such part.
     * Zero amax gives 1. */
    float (*global_scale)(float amax);

    /* codes, scales: where this tile's rows start in the parts.  x [rows, cols] f32, finite.
     * work: at least tmb_format_work(cols) floats.  rule: TMB_SCALE_HESSIAN is TMB_SCALE_MSE here,
     * for want of moments. */
    void (*encode)(const tmb_format *f, const tmb_ops *ops, tmb_scale_rule rule, const float *x,
                   size_t rows, size_t cols, float global, void *codes, void *scales, float *work);

    /* The same with block scales that minimise the error under second moments of the input: moments
     * [cols / 16 blocks] (kernels/base/ops.h).  NULL: the format has no TMB_SCALE_HESSIAN. */
    void (*encode_weighted)(const tmb_format *f, const tmb_ops *ops, const tmb_moments *moments,
                            const float *x, size_t rows, size_t cols, float global, void *codes,
                            void *scales, float *work);

    /* The inverse: x [rows, cols] f32 from a tile's codes and scales. */
    void (*decode)(const tmb_format *f, const tmb_ops *ops, float *x, size_t rows, size_t cols,
                   const void *codes, const void *scales, float global, float *work);
};

/* The name under which layouts know it. */
static inline const char *tmb_format_family(const tmb_format *f)
{
    return f->family ? f->family : f->name;
}

static inline const char *tmb_scale_name(int rule)
{
    return rule == TMB_SCALE_HESSIAN ? "hessian" : rule == TMB_SCALE_MSE ? "mse" : "max";
}

/* Whether a format offers a rule. */
static inline bool tmb_format_scales(const tmb_format *f, tmb_scale_rule rule)
{
    return rule == TMB_SCALE_MAX ||
           (rule == TMB_SCALE_MSE ? f->can_mse : f->encode_weighted != NULL);
}

/* Floats of scratch that encode and decode want for a tile of this width. */
static inline size_t tmb_format_work(size_t cols)
{
    return (size_t)TMB_TILE_ROWS * (cols / 16 + 2) + cols;
}

#endif
