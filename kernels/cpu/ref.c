/* ref.c - the reference table: every operation of ops.h in plain C, one number at a time.
 *
 * It is written to be read and believed, not to be fast; the vector tables are tested against
 * it, and it runs where they cannot. */
#include "config.h"
#include "kernels/base/codec.h"
#include "kernels/cpu/tables.h"

#include <string.h>

static void decode(float *y, const void *x, tmb_dtype dtype, size_t n)
{
    const uint16_t *half = x;
    const uint8_t *byte = x;
    switch (dtype) {
    case TMB_F32:
        memcpy(y, x, n * sizeof *y);
        break;
    case TMB_F16:
        for (size_t i = 0; i < n; i++)
            y[i] = tmb_f16_to_f32(half[i]);
        break;
    case TMB_BF16:
        for (size_t i = 0; i < n; i++)
            y[i] = tmb_bf16_to_f32(half[i]);
        break;
    case TMB_F8_E4M3:
        for (size_t i = 0; i < n; i++)
            y[i] = tmb_e4m3_to_f32(byte[i]);
        break;
    case TMB_F8_E8M0:
        for (size_t i = 0; i < n; i++)
            y[i] = tmb_e8m0_to_f32(byte[i]);
        break;
    default: /* not a source of weights: the contract excludes it */
        memset(y, 0, n * sizeof *y);
    }
}

static void to_bf16(uint16_t *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = tmb_f32_to_bf16(x[i]);
}

/* Magnitudes order as their bits do, with Inf and then NaN on top. */
static float amax(const float *x, size_t n)
{
    uint32_t top = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t mag = tmb_f32_bits(x[i]) & TMB_F32_MAG;
        if (mag > top) top = mag;
    }
    return tmb_f32_from_bits(top > TMB_F32_INF ? TMB_F32_NAN : top);
}

static void block_amax(float *out, const float *x, size_t blocks, size_t block)
{
    for (size_t b = 0; b < blocks; b++)
        out[b] = amax(x + b * block, block);
}

static void encode_e2m1(uint8_t *codes, const float *x, const float *scale, size_t blocks,
                        size_t block)
{
    for (size_t b = 0; b < blocks; b++)
        for (size_t i = 0; i < block; i += 2, x += 2)
            *codes++ =
                (uint8_t)(tmb_f32_to_e2m1(x[0] / scale[b]) | tmb_f32_to_e2m1(x[1] / scale[b]) << 4);
}

static void encode_e4m3(uint8_t *codes, const float *x, const float *scale, size_t blocks,
                        size_t block)
{
    for (size_t b = 0; b < blocks; b++)
        for (size_t i = 0; i < block; i++)
            *codes++ = tmb_f32_to_e4m3(*x++ / scale[b]);
}

static void encode_int4(uint8_t *codes, const float *x, const float *scale, size_t blocks,
                        size_t block)
{
    for (size_t b = 0; b < blocks; b++)
        for (size_t i = 0; i < block; i += 2, x += 2)
            *codes++ =
                (uint8_t)(tmb_f32_to_int4(x[0] / scale[b]) | tmb_f32_to_int4(x[1] / scale[b]) << 4);
}

static void decode_e2m1(float *y, const uint8_t *codes, const float *scale, size_t blocks,
                        size_t block)
{
    for (size_t b = 0; b < blocks; b++)
        for (size_t i = 0; i < block; i += 2, codes++) {
            *y++ = tmb_e2m1_to_f32(*codes & 15) * scale[b];
            *y++ = tmb_e2m1_to_f32(*codes >> 4) * scale[b];
        }
}

static void decode_e4m3(float *y, const uint8_t *codes, const float *scale, size_t blocks,
                        size_t block)
{
    for (size_t b = 0; b < blocks; b++)
        for (size_t i = 0; i < block; i++)
            *y++ = tmb_e4m3_to_f32(*codes++) * scale[b];
}

static void decode_int4(float *y, const uint8_t *codes, const float *scale, size_t blocks,
                        size_t block)
{
    for (size_t b = 0; b < blocks; b++)
        for (size_t i = 0; i < block; i += 2, codes++) {
            *y++ = tmb_int4_to_f32(*codes & 15) * scale[b];
            *y++ = tmb_int4_to_f32(*codes >> 4) * scale[b];
        }
}

/* Squared error of y [16] under block scale c, in the order ops.h fixes. */
static float search_error(const float *y, float c)
{
    float e[16];
    for (int i = 0; i < 16; i++) {
        float d = y[i] - tmb_e2m1_to_f32(tmb_f32_to_e2m1(y[i] / c)) * c;
        e[i] = d * d;
    }
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++)
            e[i] += e[i + half];
    return e[0];
}

static void search_nvfp4(uint8_t *codes, const float *x, float ws2, size_t blocks)
{
    for (size_t b = 0; b < blocks; b++, x += 16) {
        float y[16], least = tmb_f32_from_bits(TMB_F32_INF);
        for (int i = 0; i < 16; i++)
            y[i] = x[i] / ws2;
        uint8_t best = 0x7e;
        for (uint8_t code = 0x7e; code > 0; code--) {
            float error = search_error(y, tmb_e4m3_to_f32(code));
            if (error < least) {
                least = error;
                best = code;
            }
        }
        codes[b] = amax(x, 16) == 0.0f ? 0x38 : best;
    }
}

/* d' H d of y [16] under block scale c, in the order ops.h fixes; h: this block's lane. */
static float weighted_error(const float *y, float c, const float *h, bool full)
{
    float d[16], t[16];
    for (int i = 0; i < 16; i++)
        d[i] = y[i] - tmb_e2m1_to_f32(tmb_f32_to_e2m1(y[i] / c)) * c;
    for (int i = 0; i < 16; i++) {
        float sum = *h * d[i];
        h += TMB_MOMENT_LANES;
        for (int j = i + 1; full && j < 16; j++, h += TMB_MOMENT_LANES)
            sum += *h * d[j];
        t[i] = d[i] * sum;
    }
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++)
            t[i] += t[i + half];
    return t[0];
}

static void search_nvfp4_weighted(uint8_t *codes, const float *x, float ws2,
                                  const tmb_moments *moments, size_t blocks)
{
    size_t group = (size_t)TMB_MOMENT_ROWS(moments->full) * TMB_MOMENT_LANES;
    for (size_t b = 0; b < blocks; b++, x += 16) {
        const float *h = moments->lanes + b / TMB_MOMENT_LANES * group + b % TMB_MOMENT_LANES;
        float y[16], least = tmb_f32_from_bits(TMB_F32_INF);
        for (int i = 0; i < 16; i++)
            y[i] = x[i] / ws2;
        uint8_t best = 0x7e;
        for (uint8_t code = 0x7e; code > 0; code--) {
            float error = weighted_error(y, tmb_e4m3_to_f32(code), h, moments->full);
            if (error < least) {
                least = error;
                best = code;
            }
        }
        codes[b] = amax(x, 16) == 0.0f ? 0x38 : best;
    }
}

static double fold(double lane[16])
{
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++)
            lane[i] += lane[i + half];
    return lane[0];
}

static void compare(tmb_sums *sums, const float *ref, const float *got, size_t n)
{
    double signal[16] = {0}, noise[16] = {0}, dot[16] = {0}, power[16] = {0}, worst = 0.0;
    for (size_t i = 0; i < n; i++) {
        double r = ref[i], g = got[i], d = r - g;
        signal[i % 16] += r * r;
        noise[i % 16] += d * d;
        dot[i % 16] += r * g;
        power[i % 16] += g * g;
        d = d < 0 ? -d : d;
        if (d > worst) worst = d;
    }
    sums->signal += fold(signal);
    sums->noise += fold(noise);
    sums->dot += fold(dot);
    sums->power += fold(power);
    if (worst > sums->max_error) sums->max_error = worst;
}

const tmb_ops tmb_ops_ref = {
    .name = "ref",
    .decode = decode,
    .to_bf16 = to_bf16,
    .amax = amax,
    .block_amax = block_amax,
    .encode_e2m1 = encode_e2m1,
    .encode_e4m3 = encode_e4m3,
    .encode_int4 = encode_int4,
    .decode_e2m1 = decode_e2m1,
    .decode_e4m3 = decode_e4m3,
    .decode_int4 = decode_int4,
    .search_nvfp4 = search_nvfp4,
    .search_nvfp4_weighted = search_nvfp4_weighted,
    .compare = compare,
};
