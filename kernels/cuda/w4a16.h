/* w4a16.h - grouped GEMM with 4-bit weights and BF16 activations (sm_90a).
 *
 *   y[r, :] = x[gather[r], :] * W[e]^T      for every row r of expert e's range
 *
 * Rows are sorted by expert and not padded: expert e owns rows offsets[e] .. offsets[e+1]-1.  The
 * weight E2M1 x E4M3 is exact in BF16, sums are float32, so the only rounding is that of y to BF16.
 * K is never split and every tile class sums in the same order of 16-wide steps.
 *
 * Packed weights.  The unit is a blob: 64 rows x 128 columns, 4608 bytes, blobs of one expert
 * ordered by row block, then column block.  In a blob, with lane = 4 * (row % 8) + c:
 *
 *   codes   [2 column halves][4 row tiles of 16][32 lanes][4 words]    4096 bytes
 *   scales  [4 row tiles][32 lanes][2 column halves][row, row + 8]      512 bytes
 *
 * A lane's 16 bytes of codes are the 16-block of columns 64 h + 16 c .. + 15 of rows g and g + 8,
 * so one scale serves all of them; word s holds columns 4 s .. 4 s + 3 of the block.  Each 16-bit
 * half of a word carries four codes bit-sliced (column 4 s + half and + 2, rows g and g + 8), so
 * that one AND and one shift give a pair of BF16 values with the exponent 126 too low.  A scale is
 * one byte of unsigned E5M3: 2^(b / 8 - 10) * (1 + b % 8 / 8), offline from E4M3 with subnormals
 * normalised. With `pair` (gate/up), rows 0..7 of a row tile are gate rows and 8..15 the same up
 * rows. */
#ifndef TMB_CUDA_W4A16_H
#define TMB_CUDA_W4A16_H

#include "kernels/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    TMB_W4_BLOB_ROWS = 64,
    TMB_W4_BLOB_COLS = 128,
    TMB_W4_BLOB_CODES = 4096,
    TMB_W4_BLOB_BYTES = 4608,
};

/* Packed bytes of one expert's weight [rows, cols]; rows and columns are rounded up to whole
 * blobs of zeros.  0 when it does not fit in 64 bits or cols is no multiple of 16. */
uint64_t tmb_w4_bytes(uint64_t rows, uint64_t cols);

/* packed [tmb_w4_bytes] from NVFP4 parts: codes u8 [rows, cols / 2], scales E4M3 [rows, cols / 16].
 * up: NULL, or the codes of the up projection with up_scales, whose rows are interleaved with
 * those of gate by eights; then packed is for 2 * rows rows (rows a multiple of 8). */
void tmb_w4_pack_nvfp4(void *packed, const uint8_t *codes, const uint8_t *scales, const uint8_t *up,
                       const uint8_t *up_scales, uint64_t rows, uint64_t cols);

/* The inverse for tests: value [rows, cols] f32 of the packed weight (without the global scale);
 * rows counts packed rows in packed order. */
void tmb_w4_unpack(float *value, const void *packed, uint64_t rows, uint64_t cols);

/* One grouped GEMM.  All pointers are device memory, 16-byte aligned, borrowed until the stream has
 * passed.  cols % 16 == 0; out_rows % 16 == 0. */
typedef struct tmb_w4_gemm {
    const void *weights;    /* [experts] packed weights, tmb_w4_bytes(out_rows, cols) apart */
    const float *global;    /* [experts] f32: ws2 */
    const uint16_t *x;      /* [tokens, cols] bf16 */
    const int32_t *gather;  /* [rows] i32 row of x, NULL: row r itself */
    const int32_t *offsets; /* [experts + 1] i32, ascending, offsets[0] = 0 */
    uint16_t *y;            /* [rows, out_rows] bf16; with swiglu [rows, out_rows / 2] */
    int experts, cols, out_rows;
    int rows;    /* offsets[experts], or an upper bound of it */
    int most;    /* upper bound of one expert's rows: the number of tokens */
    bool swiglu; /* weights are gate/up pairs: y = silu(gate) * up */
} tmb_w4_gemm;

/* Workspace for a GEMM (tile lists and permuted activations), bytes. */
uint64_t tmb_w4_workspace(const tmb_w4_gemm *gemm);

/* Launch on stream (a cudaStream_t).  workspace: device memory, tmb_w4_workspace() bytes; not
 * shared with a GEMM that may run at the same time.  One graph of it serves every routing. */
tmb_status tmb_w4_gemm_sm90(const tmb_w4_gemm *gemm, void *workspace, void *stream,
                            tmb_err *err) TMB_CHECKED;

#ifdef __cplusplus
}
#endif
#endif
