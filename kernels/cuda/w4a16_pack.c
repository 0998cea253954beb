/* w4a16_pack.c - NVFP4 weights into the blobs of w4a16.h, on the host. */
#include "config.h"
#include "kernels/base/mem.h"
#include "kernels/cuda/w4a16.h"

#include <math.h>
#include <string.h>

uint64_t tmb_w4_bytes(uint64_t rows, uint64_t cols)
{
    uint64_t blobs, bytes;
    if (cols % 16) return 0;
    if (!tmb_mul(tmb_ceil_div(rows, TMB_W4_BLOB_ROWS), tmb_ceil_div(cols, TMB_W4_BLOB_COLS),
                 &blobs) ||
        !tmb_mul(blobs, TMB_W4_BLOB_BYTES, &bytes))
        return 0;
    return bytes;
}

/* Unsigned E5M3 with bias 10 from a positive E4M3 byte; subnormals have room here.  A scale of
 * zero does not occur (our formats never write one), and would give the smallest. */
static uint8_t e5m3(uint8_t e4m3)
{
    int exponent = (e4m3 >> 3) & 15, mantissa = e4m3 & 7;
    if (exponent == 0) {
        if (mantissa == 0) return 0;
        exponent = 1;
        while (!(mantissa & 8)) {
            mantissa <<= 1;
            exponent--;
        }
        mantissa &= 7;
    }
    return (uint8_t)((exponent + 3) << 3 | mantissa); /* E4M3's bias is 7 */
}

/* Four codes in 16 bits: a and b of the first column pair (rows g and g + 8), c and d of the
 * second. */
static uint16_t slice(unsigned a, unsigned b, unsigned c, unsigned d)
{
    return (uint16_t)((a >> 3) << 15 | (a & 7) << 6 | (b >> 3) << 12 | (b & 7) << 3 |
                      (c >> 3) << 9 | (c & 7) | (d >> 3) << 14 | (d >> 2 & 1) << 13 |
                      (d >> 1 & 1) << 11 | (d & 1) << 10);
}

static void unslice(uint16_t v, unsigned out[4])
{
    out[0] = (v >> 15 & 1) << 3 | (v >> 6 & 7);
    out[1] = (v >> 12 & 1) << 3 | (v >> 3 & 7);
    out[2] = (v >> 9 & 1) << 3 | (v & 7);
    out[3] = (v >> 14 & 1) << 3 | (v >> 13 & 1) << 2 | (v >> 11 & 1) << 1 | (v >> 10 & 1);
}

typedef struct source {
    const uint8_t *codes, *scales, *up, *up_scales;
    uint64_t rows, cols;
} source;

/* Packed row -> the matrix and row it comes from; false for padding. */
static bool locate(const source *s, uint64_t row, const uint8_t **codes, const uint8_t **scales,
                   uint64_t *at)
{
    bool upper = false;
    if (s->up) {
        upper = row % 16 >= 8;
        row = row / 16 * 8 + row % 8;
    }
    *codes = upper ? s->up : s->codes;
    *scales = upper ? s->up_scales : s->scales;
    *at = row;
    return row < s->rows;
}

static unsigned code_at(const source *s, uint64_t row, uint64_t col)
{
    const uint8_t *codes, *scales;
    uint64_t r;
    if (col >= s->cols || !locate(s, row, &codes, &scales, &r)) return 0;
    return codes[r * (s->cols / 2) + col / 2] >> (col % 2 * 4) & 15;
}

static uint8_t scale_at(const source *s, uint64_t row, uint64_t col)
{
    const uint8_t *codes, *scales;
    uint64_t r;
    if (col >= s->cols || !locate(s, row, &codes, &scales, &r)) return 0;
    return e5m3(scales[r * (s->cols / 16) + col / 16]);
}

static void pack_blob(const source *s, uint8_t *blob, uint64_t row0, uint64_t col0)
{
    for (unsigned half = 0; half < 2; half++) {
        for (unsigned tile = 0; tile < 4; tile++) {
            for (unsigned lane = 0; lane < 32; lane++) {
                uint64_t row = row0 + 16 * tile + lane / 4;
                uint64_t col = col0 + 64 * half + 16 * (lane % 4);
                uint32_t words[4];
                for (unsigned w = 0; w < 4; w++) {
                    words[w] = 0;
                    for (unsigned h = 0; h < 2; h++) {
                        uint64_t k = col + 4 * w + h;
                        words[w] |=
                            (uint32_t)slice(code_at(s, row, k), code_at(s, row + 8, k),
                                            code_at(s, row, k + 2), code_at(s, row + 8, k + 2))
                            << (16 * h);
                    }
                }
                memcpy(blob + ((half * 4 + tile) * 32 + lane) * 16, words, sizeof words);
                uint8_t *scale = blob + TMB_W4_BLOB_CODES + (tile * 32 + lane) * 4 + half * 2;
                scale[0] = scale_at(s, row, col);
                scale[1] = scale_at(s, row + 8, col);
            }
        }
    }
}

void tmb_w4_pack_nvfp4(void *packed, const uint8_t *codes, const uint8_t *scales, const uint8_t *up,
                       const uint8_t *up_scales, uint64_t rows, uint64_t cols)
{
    const source s = {codes, scales, up, up_scales, rows, cols};
    uint64_t packed_rows = up ? 2 * rows : rows;
    uint8_t *blob = packed;
    for (uint64_t row = 0; row < packed_rows; row += TMB_W4_BLOB_ROWS)
        for (uint64_t col = 0; col < cols; col += TMB_W4_BLOB_COLS, blob += TMB_W4_BLOB_BYTES)
            pack_blob(&s, blob, row, col);
}

void tmb_w4_unpack(float *value, const void *packed, uint64_t rows, uint64_t cols)
{
    static const float e2m1[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    uint64_t blobs = tmb_ceil_div(cols, TMB_W4_BLOB_COLS);
    for (uint64_t row = 0; row < rows; row++) {
        for (uint64_t col = 0; col < cols; col++) {
            const uint8_t *blob =
                (const uint8_t *)packed +
                (row / TMB_W4_BLOB_ROWS * blobs + col / TMB_W4_BLOB_COLS) * TMB_W4_BLOB_BYTES;
            unsigned half = col % 128 / 64, tile = row % 64 / 16, upper = row % 16 / 8;
            unsigned lane = (unsigned)(row % 8 * 4 + col % 64 / 16), k = col % 16;
            uint32_t word;
            memcpy(&word, blob + ((half * 4 + tile) * 32 + lane) * 16 + k / 4 * 4, sizeof word);
            unsigned codes[4];
            unslice((uint16_t)(word >> (k % 2 * 16)), codes);
            unsigned code = codes[k % 4 / 2 * 2 + upper];
            uint8_t b = blob[TMB_W4_BLOB_CODES + (tile * 32 + lane) * 4 + half * 2 + upper];
            float scale = ldexpf(1.0f + (float)(b & 7) / 8.0f, (b >> 3) - 10);
            value[row * cols + col] = (code & 8 ? -1.0f : 1.0f) * e2m1[code & 7] * scale;
        }
    }
}
