/* grouped.h - grouped GEMM: many experts' weights, each against its own rows of BF16 activations.
 *
 *   y[r, :] = x[gather[r], :] * W[e]^T + bias[e]      for every row r of expert e's range
 *
 * Rows are sorted by expert and not padded: expert e owns rows offsets[e] .. offsets[e + 1] - 1.
 * Sums are float32; K is never split and every tile class sums in the same order of 16-wide steps,
 * so a row's bits depend on that row alone.
 *
 * Packed weights.  The unit is a blob: 64 rows x 128 columns, blobs of one expert ordered by row
 * block, then column block.  In a blob, with lane = 4 * (row % 8) + c, a lane holds the 16 columns
 * 64 h + 16 c .. + 15 of rows g and g + 8 of a row tile of 16 (the order of columns inside a blob
 * is free as long as the activations follow), so one block scale serves all of a row's 16.  With
 * pairs (gate and up), rows 0 .. 7 of a row tile are gate rows and 8 .. 15 the same up rows.
 *
 *   4 bits   codes   [2 column halves][4 row tiles][32 lanes][4 words]    4096 bytes
 *            scales  512 bytes, below
 *   BF16     values  [2 column halves][4 row tiles][4 words][32 lanes][4 x 4 bytes]   16384 bytes
 *
 * Word s of a lane holds columns 4 s .. 4 s + 3 of the 16.  What a value is:
 *
 *   NVFP4  E2M1 x E4M3, exact in BF16.  Each 16-bit half of a word carries four codes bit-sliced
 *          (column 4 s + half and + 2, rows g and g + 8), so that one AND and one shift give a pair
 *          of BF16 values with the exponent 126 too low.  Scales [4 row tiles][32 lanes][2 column
 *          halves][row, row + 8], a byte of unsigned E5M3: 2^(b / 8 - 10) * (1 + b % 8 / 8), from
 *          E4M3 with subnormals normalised.
 *   MXFP4  the same with a biased exponent as the byte, rebased so that a weight's largest scale is
 *          252: exact over 124 binades; a weight that needs more is refused.
 *   INT4   codes in plain nibbles, value = bf16((code - 8) * bf16(scale)).  Scales [4 row tiles][2
 *          column halves][8 rows][2 blocks of 32][row, row + 8] bf16, for groups of 32 and more.
 *   BF16   the value. */
#ifndef TMB_CUDA_GROUPED_H
#define TMB_CUDA_GROUPED_H

#include "kernels/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum tmb_pack {
    TMB_PACK_NVFP4,
    TMB_PACK_MXFP4,
    TMB_PACK_INT4,
    TMB_PACK_BF16,
    TMB_PACKS
} tmb_pack;

enum {
    TMB_BLOB_ROWS = 64,
    TMB_BLOB_COLS = 128,
    TMB_BLOB_CODES = 4096, /* of 4-bit blobs */
    TMB_BLOB_BYTES_4 = 4608,
    TMB_BLOB_BYTES_16 = 16384,
};

static inline unsigned tmb_blob_bytes(tmb_pack pack)
{
    return pack == TMB_PACK_BF16 ? TMB_BLOB_BYTES_16 : TMB_BLOB_BYTES_4;
}

/* Packed bytes of one expert's weight [rows, cols]; rows and columns are rounded up to whole
 * blobs of zeros.  0 when it does not fit in 64 bits or cols is no multiple of 16. */
uint64_t tmb_pack_bytes(tmb_pack pack, uint64_t rows, uint64_t cols);

/* One matrix [rows, cols] as moe/format stores it, host memory:
 *   NVFP4  codes u8 [rows, cols/2], scales E4M3 [rows, cols/16], global ws2
 *   MXFP4  codes u8 [rows, cols/2], scales E8M0 [rows, cols/32]
 *   INT4   codes u8 [rows, cols/2], scales f32 [rows, cols/group], group 32, 64 or 128
 *   BF16   codes bf16 [rows, cols]  */
typedef struct tmb_matrix {
    const void *codes, *scales;
    float global;   /* 1 where the format has none */
    unsigned group; /* of INT4, else 0 */
} tmb_matrix;

/* packed [tmb_pack_bytes()] from matrix; up: NULL, or the up projection, whose rows are interleaved
 * with those of gate by eights: then packed is for 2 * rows rows (rows a multiple of 8).
 * factor [2]: what results of gate (or all) rows and of up rows are multiplied with.
 * TMB_EDATA: scales that cannot be carried exactly, or are no number. */
tmb_status tmb_pack_weight(tmb_pack pack, void *packed, float factor[2], const tmb_matrix *matrix,
                           const tmb_matrix *up, uint64_t rows, uint64_t cols,
                           tmb_err *err) TMB_CHECKED;

/* What the packed weight says, in packed order: value [rows, cols] f32, factor included. */
void tmb_unpack_weight(tmb_pack pack, float *value, const void *packed, const float factor[2],
                       bool pairs, uint64_t rows, uint64_t cols);

/* Packed row of row `row` of gate (or of everything), or of up. */
static inline uint64_t tmb_packed_row(uint64_t row, bool pairs, bool up)
{
    return pairs ? row / 8 * 16 + row % 8 + (up ? 8 : 0) : row;
}

typedef enum tmb_gate {
    TMB_GATE_NONE,   /* no pairs: y = sums */
    TMB_GATE_SWIGLU, /* y = silu(gate) * up */
    TMB_GATE_CLAMPED /* y = (clamp(up, limit) + 1) * g * sigmoid(alpha * g), g = min(gate, limit) */
} tmb_gate;

/* One grouped GEMM.  All pointers are device memory, 16-byte aligned, borrowed until the stream has
 * passed.  cols % 16 == 0; out_rows % 16 == 0. */
typedef struct tmb_grouped {
    tmb_pack pack;
    const void *weights;    /* [experts] packed weights, tmb_pack_bytes(out_rows, cols) apart */
    const float *factor;    /* [experts, 2] f32 */
    const float *bias;      /* [experts, out_rows] f32 in packed order, NULL: none */
    const uint16_t *x;      /* [tokens, cols] bf16 */
    const int32_t *gather;  /* [rows] i32 row of x, NULL: row r itself */
    const int32_t *offsets; /* [experts + 1] i32, ascending */
    const void *tiles;      /* of tmb_tiles_make() with the same offsets, experts, rows */
    uint16_t *y;            /* [rows, out_rows] bf16; with a gate [rows, out_rows / 2] */
    int experts, cols, out_rows;
    int rows; /* rows of all these experts, or an upper bound of it */
    int most; /* upper bound of one expert's rows: the number of tokens */
    tmb_gate gate;
    float alpha, limit; /* of TMB_GATE_CLAMPED */
} tmb_grouped;

/* The tile list, made on the device: GEMMs of the same routing share it. */
uint64_t tmb_tiles_bytes(int experts, int rows);
tmb_status tmb_tiles_make(void *tiles, const int32_t *offsets, int experts, int rows, void *stream,
                          tmb_err *err) TMB_CHECKED;

/* Workspace for a GEMM (permuted activations), bytes. */
uint64_t tmb_grouped_workspace(const tmb_grouped *gemm);

/* Launch on stream (a cudaStream_t).  workspace: device memory, tmb_grouped_workspace() bytes; not
 * shared with a GEMM that may run at the same time.  One graph of it serves every routing. */
tmb_status tmb_grouped_run(const tmb_grouped *gemm, void *workspace, void *stream,
                           tmb_err *err) TMB_CHECKED;

/* Lines that say which tiles this load takes and why.  offsets [experts + 1]: host memory. */
void tmb_grouped_explain(const tmb_grouped *gemm, const int32_t *offsets, int processors,
                         char *text, size_t size);

#ifdef __cplusplus
}
#endif
#endif
