/* pack.c - weights into the blobs of grouped.h, on the host.
 *
 * A source row is cut into lanes of 16 columns; each writes its words into the blob at once. */
#include "config.h"
#include "kernels/base/codec.h"
#include "kernels/base/mem.h"
#include "kernels/cuda/grouped.h"

#include <math.h>
#include <string.h>

enum { TOP_EXPONENT = 252, LEAST_EXPONENT = 128 }; /* of a rebased MXFP4 scale */

uint64_t tmb_pack_bytes(tmb_pack pack, uint64_t rows, uint64_t cols)
{
    uint64_t blobs, bytes;
    if (cols % 16) return 0;
    if (!tmb_mul(tmb_ceil_div(rows, TMB_BLOB_ROWS), tmb_ceil_div(cols, TMB_BLOB_COLS), &blobs) ||
        !tmb_mul(blobs, tmb_blob_bytes(pack), &bytes))
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

static float e5m3_value(uint8_t b)
{
    return ldexpf(1.0f + (float)(b & 7) / 8.0f, (b >> 3) - 10);
}

/* The bits of one code where its place (0 .. 3: row g, g + 8, and the same two columns on) in a
 * 16-bit half is. */
static uint16_t sliced(unsigned code, unsigned place)
{
    unsigned sign = code >> 3, mag = code & 7;
    switch (place) {
    case 0:
        return (uint16_t)(sign << 15 | mag << 6);
    case 1:
        return (uint16_t)(sign << 12 | mag << 3);
    case 2:
        return (uint16_t)(sign << 9 | mag);
    default:
        return (uint16_t)(sign << 14 | (mag >> 2) << 13 | (mag & 3) << 10);
    }
}

static unsigned unsliced(uint16_t v, unsigned place)
{
    switch (place) {
    case 0:
        return (v >> 15 & 1u) << 3 | (v >> 6 & 7u);
    case 1:
        return (v >> 12 & 1u) << 3 | (v >> 3 & 7u);
    case 2:
        return (v >> 9 & 1u) << 3 | (v & 7u);
    default:
        return (v >> 14 & 1u) << 3 | (v >> 13 & 1u) << 2 | (v >> 10 & 3u);
    }
}

/* Where a lane stands: packed row and first column of its 16. */
typedef struct lane_at {
    size_t blob;
    unsigned half, tile, lane, upper;
} lane_at;

static lane_at locate(uint64_t row, uint64_t col, uint64_t cols)
{
    return (lane_at){
        .blob =
            (size_t)(row / TMB_BLOB_ROWS * tmb_ceil_div(cols, TMB_BLOB_COLS) + col / TMB_BLOB_COLS),
        .half = col % 128 / 64,
        .tile = row % 64 / 16,
        .lane = (unsigned)(row % 8 * 4 + col % 64 / 16),
        .upper = row % 16 / 8,
    };
}

static size_t code_byte(const lane_at *at)
{
    return at->blob * TMB_BLOB_BYTES_4 + ((at->half * 4 + at->tile) * 32 + at->lane) * 16;
}

static size_t scale_byte(const lane_at *at)
{
    return at->blob * TMB_BLOB_BYTES_4 + TMB_BLOB_CODES + (at->tile * 32 + at->lane) * 4 +
           at->half * 2 + at->upper;
}

/* A bf16 for 32 columns. */
static size_t int4_scale_byte(const lane_at *at)
{
    unsigned word = ((at->tile * 2 + at->half) * 8 + at->lane / 4) * 2 + at->lane % 4 / 2;
    return at->blob * TMB_BLOB_BYTES_4 + TMB_BLOB_CODES + word * 4 + at->upper * 2;
}

static size_t bf16_byte(const lane_at *at, unsigned k)
{
    return at->blob * TMB_BLOB_BYTES_16 +
           (((at->half * 4 + at->tile) * 4 + k / 4) * 32 + at->lane) * 16 +
           (k % 4 / 2 * 2 + at->upper) * 4 + k % 2 * 2;
}

static void put_codes(tmb_pack pack, uint8_t *packed, const lane_at *at, const uint8_t *codes)
{
    uint8_t *to = packed + code_byte(at);
    for (unsigned k = 0; k < 16; k++) {
        unsigned code = codes[k / 2] >> (k % 2 * 4) & 15, place = k % 4 / 2 * 2 + at->upper;
        uint16_t bits = pack == TMB_PACK_INT4 ? (uint16_t)(code << 4 * place) : sliced(code, place);
        uint8_t *half = to + k / 4 * 4 + k % 2 * 2;
        half[0] |= (uint8_t)bits;
        half[1] |= (uint8_t)(bits >> 8);
    }
}

static unsigned get_code(tmb_pack pack, const uint8_t *packed, const lane_at *at, unsigned k)
{
    const uint8_t *half = packed + code_byte(at) + k / 4 * 4 + k % 2 * 2;
    uint16_t bits = (uint16_t)(half[0] | half[1] << 8);
    unsigned place = k % 4 / 2 * 2 + at->upper;
    return pack == TMB_PACK_INT4 ? bits >> 4 * place & 15u : unsliced(bits, place);
}

static bool all_zero(const uint8_t *codes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (codes[i] & 0x77) return false;
    return true;
}

/* Largest E8M0 of blocks that are not all zero; -1 when there is none. */
static int top_exponent(const tmb_matrix *m, uint64_t rows, uint64_t cols)
{
    const uint8_t *codes = m->codes, *scales = m->scales;
    int top = -1;
    for (uint64_t i = 0; i < rows * (cols / 32); i++)
        if (scales[i] > top && !all_zero(codes + i * 16, 16)) top = scales[i];
    return top;
}

static void pack_row(tmb_pack pack, uint8_t *packed, const tmb_matrix *m, uint64_t row, uint64_t to,
                     uint64_t cols, int top)
{
    const uint8_t *codes = m->codes, *scales = m->scales;
    const uint16_t *values = m->codes;
    const float *steps = m->scales;
    for (uint64_t col = 0; col < cols; col += 16) {
        lane_at at = locate(to, col, cols);
        if (pack == TMB_PACK_BF16) {
            for (unsigned k = 0; k < 16; k++)
                memcpy(packed + bf16_byte(&at, k), &values[row * cols + col + k], 2);
            continue;
        }
        put_codes(pack, packed, &at, codes + (row * cols + col) / 2);
        if (pack == TMB_PACK_NVFP4) {
            packed[scale_byte(&at)] = e5m3(scales[row * (cols / 16) + col / 16]);
        } else if (pack == TMB_PACK_MXFP4) {
            int s = scales[row * (cols / 32) + col / 32] - top + TOP_EXPONENT;
            packed[scale_byte(&at)] = (uint8_t)(s < LEAST_EXPONENT ? LEAST_EXPONENT
                                                : s > TOP_EXPONENT ? TOP_EXPONENT
                                                                   : s);
        } else {
            uint16_t s = tmb_f32_to_bf16(steps[row * (cols / m->group) + col / m->group]);
            memcpy(packed + int4_scale_byte(&at), &s, 2);
        }
    }
}

/* Every block that is not zero must be within the window below the largest. */
static tmb_status check_window(const tmb_matrix *m, uint64_t rows, uint64_t cols, int top,
                               tmb_err *err)
{
    const uint8_t *codes = m->codes, *scales = m->scales;
    for (uint64_t i = 0; i < rows * (cols / 32); i++)
        if (scales[i] < top - (TOP_EXPONENT - LEAST_EXPONENT) && !all_zero(codes + i * 16, 16))
            return tmb_fail(err, TMB_EDATA,
                            "MXFP4 weight: row %llu has a scale 2^%d below the largest; the GPU"
                            " kernel carries 2^124",
                            (unsigned long long)(i / (cols / 32)), top - scales[i]);
    return TMB_OK;
}

static tmb_status check(tmb_pack pack, const tmb_matrix *m, uint64_t rows, uint64_t cols, int top,
                        tmb_err *err)
{
    if (pack == TMB_PACK_MXFP4) {
        if (top > 253) /* 255 is NaN; 2^127 leaves float32 no room for the codes */
            return tmb_fail(err, TMB_EDATA, "MXFP4 weight: a scale of 2^%d", top - 127);
        return check_window(m, rows, cols, top, err);
    }
    if (pack == TMB_PACK_INT4 && m->group != 32 && m->group != 64 && m->group != 128)
        return tmb_fail(err, TMB_EUNAVAILABLE,
                        "INT4 weight: groups of %u; 32, 64 and 128 can be run", m->group);
    return TMB_OK;
}

static float factor_of(tmb_pack pack, const tmb_matrix *m, int top)
{
    switch (pack) {
    case TMB_PACK_NVFP4: /* codes come out 2^-126 too low and scales 2^100 too high */
        return 0x1p26f * m->global;
    case TMB_PACK_MXFP4: /* 2^-126 and 2^(TOP_EXPONENT - top) */
        return ldexpf(m->global, top - TOP_EXPONENT + 126);
    default:
        return m->global;
    }
}

tmb_status tmb_pack_weight(tmb_pack pack, void *packed, float factor[2], const tmb_matrix *matrix,
                           const tmb_matrix *up, uint64_t rows, uint64_t cols, tmb_err *err)
{
    uint64_t bytes = tmb_pack_bytes(pack, up ? 2 * rows : rows, cols);
    unsigned multiple = pack == TMB_PACK_MXFP4                   ? 32
                        : pack == TMB_PACK_INT4 && matrix->group ? matrix->group
                                                                 : 16;
    if (!bytes || cols % multiple || (up && rows % 8))
        return tmb_fail(err, TMB_EDATA, "a weight of %llu x %llu cannot be packed for the GPU",
                        (unsigned long long)rows, (unsigned long long)cols);
    memset(packed, 0, bytes);
    for (int i = 0; i < (up ? 2 : 1); i++) {
        const tmb_matrix *m = i ? up : matrix;
        int top = pack == TMB_PACK_MXFP4 ? top_exponent(m, rows, cols) : 0;
        TRY(check(pack, m, rows, cols, top, err));
        if (top < 0) top = 127; /* zeros everywhere */
        factor[i] = factor_of(pack, m, top);
        for (uint64_t r = 0; r < rows; r++)
            pack_row(pack, packed, m, r, tmb_packed_row(r, up != NULL, i), cols, top);
    }
    if (!up) factor[1] = factor[0];
    return TMB_OK;
}

static float value_at(tmb_pack pack, const uint8_t *packed, const lane_at *at, unsigned k)
{
    uint16_t half;
    if (pack == TMB_PACK_BF16) {
        memcpy(&half, packed + bf16_byte(at, k), 2);
        return tmb_bf16_to_f32(half);
    }
    unsigned code = get_code(pack, packed, at, k);
    if (pack == TMB_PACK_INT4) {
        memcpy(&half, packed + int4_scale_byte(at), 2);
        float exact = ((float)code - 8.0f) * tmb_bf16_to_f32(half);
        return tmb_bf16_to_f32(tmb_f32_to_bf16(exact));
    }
    float element = ldexpf(tmb_e2m1_to_f32((uint8_t)code), -126);
    uint8_t scale = packed[scale_byte(at)];
    return pack == TMB_PACK_NVFP4 ? element * ldexpf(e5m3_value(scale), 100)
                                  : element * ldexpf(1.0f, scale - 127);
}

void tmb_unpack_weight(tmb_pack pack, float *value, const void *packed, const float factor[2],
                       bool pairs, uint64_t rows, uint64_t cols)
{
    for (uint64_t row = 0; row < rows; row++) {
        float f = factor[pairs && row % 16 >= 8];
        for (uint64_t col = 0; col < cols; col++) {
            lane_at at = locate(row, col, cols);
            value[row * cols + col] = value_at(pack, packed, &at, (unsigned)(col % 16)) * f;
        }
    }
}
