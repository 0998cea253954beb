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

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum tmb_encoding {
    TMB_ENC_NVFP4,       /* codes [rows, cols/2] u8, scales [rows, cols/16] E4M3, global: ws2 */
    TMB_ENC_MXFP4,       /* codes [rows, cols/2] u8, scales [rows, cols/32] E8M0 */
    TMB_ENC_MXFP8,       /* codes [rows, cols] E4M3, scales [rows, cols/32] E8M0 */
    TMB_ENC_INT4_G128,   /* codes [rows, cols/2] u8, scales [rows, cols/128] f32 */
    TMB_ENC_INT4_G32,    /* codes [rows, cols/2] u8, scales [rows, cols/32] f32 */
    TMB_ENC_FP8_TENSOR,  /* codes [rows, cols] E4M3, no scales, global: the scale */
    TMB_ENC_FP8_CHANNEL, /* codes [rows, cols] E4M3, scales [rows] f32 */
    TMB_ENC_FP8_BLOCK,   /* codes [rows, cols] E4M3, scales [ceil(rows/128), ceil(cols/128)] f32 */
    TMB_ENCODINGS
} tmb_encoding;

/* The encoding of a format of moe/format by its name; TMB_ENCODINGS when there is none. */
tmb_encoding tmb_encoding_find(const char *format);

/* *out [1] f32 = max(*out, largest |x|) over x [n]; NaN if any is NaN.  Set *out to zero first. */
tmb_status tmb_cuda_amax(float *out, const void *x, tmb_dtype dtype, uint64_t n, void *stream,
                         tmb_err *err) TMB_CHECKED;

/* *global [1] f32 from *amax [1], as tmb_format.global_scale() has it.  They may be one. */
tmb_status tmb_cuda_global_scale(tmb_encoding encoding, float *global, const float *amax,
                                 void *stream, tmb_err *err) TMB_CHECKED;

/* codes and scales, 16-byte aligned, from x; global [1] f32 where the encoding has one, else NULL.
 * cols must be a multiple of the encoding's block (16, 32, 128; FP8: any). */
tmb_status tmb_cuda_encode(tmb_encoding encoding, void *codes, void *scales, const void *x,
                           tmb_dtype dtype, uint64_t rows, uint64_t cols, const float *global,
                           void *stream, tmb_err *err) TMB_CHECKED;

#ifdef __cplusplus
}
#endif
#endif
