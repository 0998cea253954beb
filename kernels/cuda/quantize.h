/* quantize.h - weights into codes and scales on the GPU, with the bytes of the formats of
 * moe/format (any capability from 8.0).
 *
 * All pointers are device memory of the device that is current, borrowed until the stream has
 * passed.  x [rows, cols] is BF16 or float32, 16-byte aligned, finite.  Nothing waits: an error of
 * a launch is returned, one of the run shows at tmb_cuda_wait(). */
#ifndef TMB_CUDA_QUANTIZE_H
#define TMB_CUDA_QUANTIZE_H

#include "kernels/base/dtype.h"
#include "kernels/base/err.h"
#include "kernels/base/ops.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum tmb_encoder {
    TMB_ENC_NVFP4,       /* codes [rows, cols/2] u8, scales [rows, cols/16] E4M3, global: ws2 */
    TMB_ENC_NVFP4_MSE,   /* the same, block scales by least squared error (tmb_ops.search_nvfp4) */
    TMB_ENC_MXFP4,       /* codes [rows, cols/2] u8, scales [rows, cols/32] E8M0 */
    TMB_ENC_MXFP8,       /* codes [rows, cols] E4M3, scales [rows, cols/32] E8M0 */
    TMB_ENC_INT4_G128,   /* codes [rows, cols/2] u8, scales [rows, cols/128] f32 */
    TMB_ENC_INT4_G32,    /* codes [rows, cols/2] u8, scales [rows, cols/32] f32 */
    TMB_ENC_FP8_TENSOR,  /* codes [rows, cols] E4M3, no scales, global: the scale */
    TMB_ENC_FP8_CHANNEL, /* codes [rows, cols] E4M3, scales [rows] f32 */
    TMB_ENC_FP8_BLOCK,   /* codes [rows, cols] E4M3, scales [ceil(rows/128), ceil(cols/128)] f32 */
    TMB_ENCODERS
} tmb_encoder;

/* The encoder of a format of moe/format by its name; TMB_ENCODERS when there is none. */
tmb_encoder tmb_encoder_find(const char *format);

/* *out [1] f32 = max(*out, largest |x|) over x [n]; NaN if any is NaN.  Set *out to zero first. */
tmb_status tmb_cuda_amax(float *out, const void *x, tmb_dtype dtype, uint64_t n, void *stream,
                         tmb_err *err) TMB_CHECKED;

/* *global [1] f32 from *amax [1], as tmb_format.global_scale() has it.  They may be one. */
tmb_status tmb_cuda_global_scale(tmb_encoder encoder, float *global, const float *amax,
                                 void *stream, tmb_err *err) TMB_CHECKED;

/* codes and scales, 16-byte aligned, from x; global [1] f32 where the encoder has one, else NULL.
 * cols must be a multiple of the encoder's block (16, 32, 128; FP8: any). */
tmb_status tmb_cuda_encode(tmb_encoder encoder, void *codes, void *scales, const void *x,
                           tmb_dtype dtype, uint64_t rows, uint64_t cols, const float *global,
                           void *stream, tmb_err *err) TMB_CHECKED;

/* out [tmb_cuda_pieces()] of what the codes differ from x by, each as tmb_ops.compare gives it from
 * zero for `piece` rows: tiles of 128 rows are cut into pieces, and the last of a tile is what is
 * left of it.  codes and scales are those of rows beginning at a multiple of 128.  1 <= piece <= 128.
 */
uint64_t tmb_cuda_pieces(uint64_t rows, uint64_t piece);
tmb_status tmb_cuda_compare(tmb_encoder encoder, tmb_sums *out, const void *codes,
                            const void *scales, const void *x, tmb_dtype dtype, uint64_t rows,
                            uint64_t cols, uint64_t piece, const float *global, void *stream,
                            tmb_err *err) TMB_CHECKED;

#ifdef __cplusplus
}
#endif
#endif
