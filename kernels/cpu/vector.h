/* vector.h - the body of a vector table, included once by each instruction set's file.
 *
 * The includer has defined sixteen lanes of float32 (v16), of int32 (i16) and of truth (m16), and
 * the few operations on them that are used here; everything below is those operations, the
 * formulas of codec.h sixteen at a time.  What does not fill sixteen lanes is done with codec.h
 * itself.  TABLE and NAME say what the table is called. */
#include "kernels/base/codec.h"
#include "kernels/cpu/tables.h"

#include <string.h>

enum { LANES = 16 };

/* ------------------------------------------------------------------ codes of sixteen quotients */

static inline i16 e4m3_of(v16 q)
{
    i16 u = i_of(q), mag = i_min(i_and(u, i_set(0x7fffffff)), i_set(0x43e00000));
    i16 low = i_sub(i_of(v_add(v_of(mag), v_set(16384.0f))), i_set(0x46800000));
    i16 odd = i_and(i_shr(mag, 20), i_set(1));
    i16 high = i_sub(i_shr(i_add(i_add(mag, i_set(0x7ffff)), odd), 20), i_set(120 << 3));
    i16 code = i_select(i_less(mag, i_set(0x3c800000)), low, high);
    return i_or(code, i_and(i_shr(u, 24), i_set(0x80)));
}

static inline i16 e2m1_of(v16 q)
{
    i16 mag = i_min(i_and(i_of(q), i_set(0x7fffffff)), i_set(0x40c00000));
    i16 low = i_sub(i_of(v_add(v_of(mag), v_set(0x1p22f))), i_set(0x4a800000));
    i16 odd = i_and(i_shr(mag, 22), i_set(1));
    i16 high = i_sub(i_shr(i_add(i_add(mag, i_set(0x1fffff)), odd), 22), i_set(126 << 1));
    i16 code = i_select(i_less(mag, i_set(0x3f800000)), low, high);
    return i_select(v_less(q, v_set(0.0f)), i_or(code, i_set(8)), code);
}

static inline i16 int4_of(v16 q)
{
    v16 v = v_min(v_max(q, v_set(-8.0f)), v_set(7.0f)); /* NaN gives the second operand */
    return i_add(i_sub(i_of(v_add(v, v_set(0x1.8p23f))), i_set(0x4b400000)), i_set(8));
}

/* ------------------------------------------------------------------ values of sixteen codes */

static inline v16 e4m3_value(i16 c)
{
    i16 mag = i_and(c, i_set(0x7f));
    i16 low = i_of(v_mul(v_convert(mag), v_set(0x1p-9f)));
    i16 high = i_add(i_shl(mag, 20), i_set(120 << 23));
    i16 bits = i_select(i_less(mag, i_set(8)), low, high);
    bits = i_select(i_less(mag, i_set(0x7f)), bits, i_set(0x7fc00000));
    return v_of(i_or(bits, i_shl(i_and(c, i_set(0x80)), 24)));
}

static inline v16 e8m0_value(i16 c)
{
    i16 bits = i_select(i_less(c, i_set(1)), i_set(0x00400000), i_shl(c, 23));
    return v_of(i_select(i_less(c, i_set(0xff)), bits, i_set(0x7fc00000)));
}

static inline v16 int4_value(i16 c)
{
    return v_convert(i_sub(c, i_set(8)));
}

static inline v16 bf16_value(i16 h)
{
    return v_of(i_shl(h, 16));
}

/* ------------------------------------------------------------------ whole arrays */

static void decode(float *y, const void *x, tmb_dtype dtype, size_t n)
{
    const uint16_t *half = x;
    const uint8_t *byte = x;
    size_t i = 0;
    switch (dtype) {
    case TMB_F16:
        for (; i + LANES <= n; i += LANES)
            v_store(y + i, v_load_f16(half + i));
        for (; i < n; i++)
            y[i] = tmb_f16_to_f32(half[i]);
        break;
    case TMB_BF16:
        for (; i + LANES <= n; i += LANES)
            v_store(y + i, bf16_value(i_load16(half + i)));
        for (; i < n; i++)
            y[i] = tmb_bf16_to_f32(half[i]);
        break;
    case TMB_F8_E4M3:
        for (; i + LANES <= n; i += LANES)
            v_store(y + i, e4m3_value(i_load8(byte + i)));
        for (; i < n; i++)
            y[i] = tmb_e4m3_to_f32(byte[i]);
        break;
    case TMB_F8_E8M0:
        for (; i + LANES <= n; i += LANES)
            v_store(y + i, e8m0_value(i_load8(byte + i)));
        for (; i < n; i++)
            y[i] = tmb_e8m0_to_f32(byte[i]);
        break;
    default:
        tmb_ops_ref.decode(y, x, dtype, n);
    }
}

static void to_bf16(uint16_t *y, const float *x, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        i16 u = i_of(v_load(x + i)), odd = i_and(i_shr(u, 16), i_set(1));
        i16 near = i_shr(i_add(i_add(u, i_set(0x7fff)), odd), 16);
        i16 quiet = i_or(i_shr(u, 16), i_set(0x40));
        m16 number = i_less(i_and(u, i_set(0x7fffffff)), i_set(0x7f800001));
        i_store16(y + i, i_select(number, near, quiet));
    }
    for (; i < n; i++)
        y[i] = tmb_f32_to_bf16(x[i]);
}

static inline i16 magnitude(const float *x)
{
    return i_and(i_of(v_load(x)), i_set(0x7fffffff));
}

static inline float amax_of(const float *x, size_t n)
{
    size_t i = 0;
    i16 a = i_set(0), b = a;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        a = i_max(a, magnitude(x + i));
        b = i_max(b, magnitude(x + i + LANES));
    }
    if (i + LANES <= n) {
        a = i_max(a, magnitude(x + i));
        i += LANES;
    }
    uint32_t top = (uint32_t)i_reduce_max(i_max(a, b));
    for (; i < n; i++) {
        uint32_t mag = tmb_f32_bits(x[i]) & TMB_F32_MAG;
        if (mag > top) top = mag;
    }
    return tmb_f32_from_bits(top > TMB_F32_INF ? TMB_F32_NAN : top);
}

static float amax(const float *x, size_t n)
{
    return amax_of(x, n);
}

static void block_amax(float *out, const float *x, size_t blocks, size_t block)
{
    if (block == 16)
        for (size_t b = 0; b < blocks; b++)
            out[b] = amax_of(x + b * 16, 16);
    else
        for (size_t b = 0; b < blocks; b++)
            out[b] = amax_of(x + b * block, block);
}

/* ------------------------------------------------------------------ blocks under a scale */

static void encode_e4m3(uint8_t *codes, const float *x, const float *scale, size_t blocks,
                        size_t block)
{
    for (size_t b = 0; b < blocks; b++, x += block, codes += block) {
        v16 s = v_set(scale[b]);
        size_t i = 0;
        for (; i + LANES <= block; i += LANES)
            i_store8(codes + i, e4m3_of(v_div(v_load(x + i), s)));
        for (; i < block; i++)
            codes[i] = tmb_f32_to_e4m3(x[i] / scale[b]);
    }
}

static void encode_e2m1(uint8_t *codes, const float *x, const float *scale, size_t blocks,
                        size_t block)
{
    for (size_t b = 0; b < blocks; b++, x += block, codes += block / 2) {
        v16 s = v_set(scale[b]);
        size_t i = 0;
        for (; i + LANES <= block; i += LANES)
            i_store4(codes + i / 2, e2m1_of(v_div(v_load(x + i), s)));
        for (; i < block; i += 2)
            codes[i / 2] = (uint8_t)(tmb_f32_to_e2m1(x[i] / scale[b]) |
                                     tmb_f32_to_e2m1(x[i + 1] / scale[b]) << 4);
    }
}

static void encode_int4(uint8_t *codes, const float *x, const float *scale, size_t blocks,
                        size_t block)
{
    for (size_t b = 0; b < blocks; b++, x += block, codes += block / 2) {
        v16 s = v_set(scale[b]);
        size_t i = 0;
        for (; i + LANES <= block; i += LANES)
            i_store4(codes + i / 2, int4_of(v_div(v_load(x + i), s)));
        for (; i < block; i += 2)
            codes[i / 2] = (uint8_t)(tmb_f32_to_int4(x[i] / scale[b]) |
                                     tmb_f32_to_int4(x[i + 1] / scale[b]) << 4);
    }
}

static void decode_e4m3(float *y, const uint8_t *codes, const float *scale, size_t blocks,
                        size_t block)
{
    for (size_t b = 0; b < blocks; b++, y += block, codes += block) {
        v16 s = v_set(scale[b]);
        size_t i = 0;
        for (; i + LANES <= block; i += LANES)
            v_store(y + i, v_mul(e4m3_value(i_load8(codes + i)), s));
        for (; i < block; i++)
            y[i] = tmb_e4m3_to_f32(codes[i]) * scale[b];
    }
}

static void decode_e2m1(float *y, const uint8_t *codes, const float *scale, size_t blocks,
                        size_t block)
{
    for (size_t b = 0; b < blocks; b++, y += block, codes += block / 2) {
        v16 s = v_set(scale[b]);
        size_t i = 0;
        for (; i + LANES <= block; i += LANES)
            v_store(y + i, v_mul(e2m1_value(i_load4(codes + i / 2)), s));
        for (; i < block; i += 2) {
            y[i] = tmb_e2m1_to_f32(codes[i / 2] & 15) * scale[b];
            y[i + 1] = tmb_e2m1_to_f32(codes[i / 2] >> 4) * scale[b];
        }
    }
}

static void decode_int4(float *y, const uint8_t *codes, const float *scale, size_t blocks,
                        size_t block)
{
    for (size_t b = 0; b < blocks; b++, y += block, codes += block / 2) {
        v16 s = v_set(scale[b]);
        size_t i = 0;
        for (; i + LANES <= block; i += LANES)
            v_store(y + i, v_mul(int4_value(i_load4(codes + i / 2)), s));
        for (; i < block; i += 2) {
            y[i] = tmb_int4_to_f32(codes[i / 2] & 15) * scale[b];
            y[i + 1] = tmb_int4_to_f32(codes[i / 2] >> 4) * scale[b];
        }
    }
}

/* ------------------------------------------------------------------ comparison */

static double fold(const double *lane)
{
    double l[16];
    memcpy(l, lane, sizeof l);
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++)
            l[i] += l[i + half];
    return l[0];
}

static void compare(tmb_sums *sums, const float *ref, const float *got, size_t n)
{
    lanes_of_sums l;
    size_t i = n / LANES * LANES;
    sum_lanes(&l, ref, got, i);
    double worst = 0.0;
    for (int k = 0; k < LANES; k++)
        worst = l.worst[k] > worst ? l.worst[k] : worst;
    for (int k = 0; i < n; i++, k++) {
        double r = ref[i], g = got[i], d = r - g;
        l.signal[k] += r * r;
        l.noise[k] += d * d;
        l.dot[k] += r * g;
        l.power[k] += g * g;
        d = d < 0 ? -d : d;
        worst = d > worst ? d : worst;
    }
    sums->signal += fold(l.signal);
    sums->noise += fold(l.noise);
    sums->dot += fold(l.dot);
    sums->power += fold(l.power);
    if (worst > sums->max_error) sums->max_error = worst;
}

#include "kernels/cpu/search.h"

const tmb_ops TABLE = {
    .name = NAME,
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
