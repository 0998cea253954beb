/* The element types against their definition (the nearest value, found by trying all), and every
 * vector table against the reference, byte for byte. */
#include "config.h"
#include "kernels/base/codec.h"
#include "kernels/cpu/cpu.h"
#include "tests/tap.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

static uint64_t seed = 1;

static uint32_t next_random(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 32);
}

/* ------------------------------------------------------------------ codec.h by definition */

/* The code among 0..n-1, whose values grow, nearest to v >= 0; of two as near, the even one. */
static unsigned nearest(double v, const double *values, unsigned n)
{
    unsigned best = 0;
    for (unsigned c = 1; c < n; c++) {
        double now = fabs(values[c] - v), then = fabs(values[best] - v);
        if (now < then || (now == then && c % 2 == 0)) best = c;
    }
    return best;
}

static double small_float(unsigned c, int exponent_bits, int mantissa_bits)
{
    int bias = (1 << (exponent_bits - 1)) - 1, e = (int)(c >> mantissa_bits);
    double m = (double)(c & ((1u << mantissa_bits) - 1)) / (double)(1u << mantissa_bits);
    return e ? ldexp(1 + m, e - bias) : ldexp(m, 1 - bias);
}

/* Floats around v: itself and its neighbours up to two away. */
static void around(float v, float out[5])
{
    for (int k = -2; k <= 2; k++) {
        uint32_t u = tmb_f32_bits(v);
        out[k + 2] = u < 2 ? v : tmb_f32_from_bits(u + (uint32_t)k);
    }
}

static void test_narrow(const char *name, unsigned codes, int e, int m, float (*decode)(uint8_t),
                        uint8_t (*encode)(float), uint8_t sign)
{
    double values[128];
    int value = 1, trip = 1, near = 1;
    for (unsigned c = 0; c < codes; c++) {
        values[c] = small_float(c, e, m);
        value &= decode((uint8_t)c) == values[c] && decode((uint8_t)(c | sign)) == -values[c];
        trip &=
            encode((float)values[c]) == c && (c == 0 || encode(-(float)values[c]) == (c | sign));
    }
    for (unsigned c = 0; c < codes; c++)
        for (int part = 0; part < 64; part++) {
            double up = c + 1 < codes ? values[c + 1] : 2 * values[c];
            float probe[5];
            around((float)(values[c] + (up - values[c]) * part / 64), probe);
            for (int i = 0; i < 5; i++) {
                unsigned want = nearest(probe[i], values, codes);
                near &= encode(probe[i]) == want;
                near &= probe[i] == 0 || encode(-probe[i]) == (want | sign);
            }
        }
    for (int i = 0; i < 200000; i++) {
        float v = tmb_f32_from_bits(next_random() & TMB_F32_MAG);
        if (!isnan(v)) near &= encode(v) == nearest(fmin(v, 1e9), values, codes);
    }
    ok(value, "%s: every code has its value", name);
    ok(trip, "%s: every value has its code", name);
    ok(near, "%s: every float has the nearest code, ties even, saturating", name);
}

static uint8_t e2m1(float x)
{
    return tmb_f32_to_e2m1(x);
}

static void test_codec(void)
{
    test_narrow("e2m1", 8, 2, 1, tmb_e2m1_to_f32, e2m1, 8);
    test_narrow("e4m3", 127, 4, 3, tmb_e4m3_to_f32, tmb_f32_to_e4m3, 0x80);
    ok(isnan(tmb_e4m3_to_f32(0x7f)) && isnan(tmb_e4m3_to_f32(0xff)), "e4m3: 0x7f and 0xff are NaN");
    ok(tmb_f32_to_e2m1(-0.0f) == 0 && tmb_f32_to_e2m1(-FLT_TRUE_MIN) == 8 &&
           tmb_f32_to_e4m3(-0.0f) == 0x80,
       "the sign of zero: dropped by e2m1 unless it was rounded, kept by e4m3");
    ok(tmb_f32_to_e4m3(INFINITY) == 0x7e && tmb_f32_to_e4m3(-NAN) == 0xfe &&
           tmb_f32_to_e2m1(-INFINITY) == 15,
       "Inf and NaN saturate");
    int e8m0 = 1, int4 = 1, half = 1, bf16 = 1;
    for (int c = 0; c < 255; c++)
        e8m0 &= tmb_e8m0_to_f32((uint8_t)c) == ldexp(1, c - 127);
    ok(e8m0 && isnan(tmb_e8m0_to_f32(255)), "e8m0: powers of two, 255 is NaN");
    for (int i = -3000; i <= 3000; i++) {
        double v = i / 256.0, r = nearbyint(fmin(fmax(v, -8), 7));
        int4 &= tmb_f32_to_int4((float)v) == r + 8;
        int4 &= i < 0 || i > 15 || tmb_int4_to_f32((uint8_t)i) == i - 8;
    }
    ok(int4, "int4: clamped, to nearest, ties even, offset 8");
    for (uint32_t h = 0; h < 0x7c00; h++) {
        float v = tmb_f16_to_f32((uint16_t)h), up = (float)small_float(h + 1, 5, 10);
        half &= v == small_float(h, 5, 10) && tmb_f32_to_f16(v) == h;
        half &= tmb_f32_to_f16(-v) == (h | 0x8000);
        float mid = v + (up - v) / 2, probe[5];
        around(mid, probe);
        for (int i = 0; i < 5; i++)
            half &= tmb_f32_to_f16(probe[i]) ==
                    (probe[i] < mid || (probe[i] == mid && h % 2 == 0) ? h : h + 1);
    }
    ok(half && isinf(tmb_f16_to_f32(0xfc00)) && isnan(tmb_f16_to_f32(0x7c01)),
       "f16: by definition");
    for (uint32_t h = 0; h < 0x7f80; h++) {
        float v = tmb_bf16_to_f32((uint16_t)h), probe[5];
        bf16 &= tmb_f32_to_bf16(v) == h && tmb_f32_to_bf16(-v) == (h | 0x8000);
        float mid = tmb_f32_from_bits(h << 16 | 0x8000);
        around(mid, probe);
        for (int i = 0; i < 5; i++)
            bf16 &= tmb_f32_to_bf16(probe[i]) ==
                    (probe[i] < mid || (probe[i] == mid && h % 2 == 0) ? h : h + 1);
    }
    ok(bf16 && isnan(tmb_bf16_to_f32(tmb_f32_to_bf16(tmb_f32_from_bits(0x7f800001)))),
       "bf16: to nearest even, and NaN stays NaN");
}

/* ------------------------------------------------------------------ tables against the reference
 */

enum { N = 1 << 14 };
typedef enum filling { BITS, GAUSSIAN, MIDPOINTS, TINY, FILLINGS } filling;

static float gaussian(void)
{
    float sum = 0;
    for (int k = 0; k < 12; k++)
        sum += (float)next_random() * 0x1p-32f;
    return sum - 6.0f;
}

static void fill(float *x, size_t n, filling how)
{
    static const float mid[] = {0.25f, 0.75f, 1.25f,    1.75f,     2.5f,      3.5f,   5.0f,   0.5f,
                                1.0f,  6.0f,  0x1p-10f, 0x1.8p-9f, 0x1.1p-6f, 464.0f, 448.0f, 0.0f};
    for (size_t i = 0; i < n; i++) {
        uint32_t u = next_random();
        if (how == BITS) x[i] = tmb_f32_from_bits(u);
        if (how == GAUSSIAN) x[i] = gaussian();
        if (how == MIDPOINTS) {
            uint32_t m = tmb_f32_bits(mid[u % 16]);
            x[i] = tmb_f32_from_bits((m ? m + (u >> 8) % 3 - 1 : 0) | (u >> 31 << 31));
        }
        if (how == TINY) x[i] = tmb_f32_from_bits((u & 0x80ffffff) >> (u % 4 * 4 & 8));
    }
}

static bool same_floats(const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (tmb_f32_bits(a[i]) != tmb_f32_bits(b[i])) return false;
    return true;
}

static void test_conversions(const tmb_ops *ref, const tmb_ops *ops)
{
    static uint16_t all[1 << 16], h1[N], h2[N];
    static float a[1 << 16], b[1 << 16];
    static const tmb_dtype dtypes[] = {TMB_F16, TMB_BF16, TMB_F8_E4M3, TMB_F8_E8M0, TMB_F32};
    for (uint32_t i = 0; i < 1 << 16; i++)
        all[i] = (uint16_t)i;
    for (size_t d = 0; d < sizeof dtypes / sizeof *dtypes; d++) {
        size_t n = dtypes[d] == TMB_F32 ? 1 << 15 : 1 << 16;
        int same = 1;
        ref->decode(a, all, dtypes[d], n);
        ops->decode(b, all, dtypes[d], n);
        same &= same_floats(a, b, n);
        for (size_t k = 0; k < 40; k++) { /* ragged ends write no further */
            b[k] = 123.0f;
            ops->decode(b, all + 7, dtypes[d], k);
            ref->decode(a, all + 7, dtypes[d], k);
            same &= b[k] == 123.0f && same_floats(a, b, k);
        }
        ok(same, "%s: every %s decodes as the reference", ops->name, tmb_dtype_name(dtypes[d]));
    }
    int same = 1;
    for (int how = 0; how < FILLINGS; how++)
        for (size_t n = N - 33; n <= N; n += 11) {
            fill(a, n, (filling)how);
            ref->to_bf16(h1, a, n);
            ops->to_bf16(h2, a, n);
            same &= !memcmp(h1, h2, n * 2);
        }
    ok(same, "%s: to_bf16", ops->name);
}

static void test_blocks(const tmb_ops *ref, const tmb_ops *ops)
{
    static const size_t blocks_of[] = {16, 32, 128, 2, 18, 46, 130};
    static float x[N], scale[N], f1[N], f2[N];
    static uint8_t c1[N + 16], c2[N + 16];
    int amax = 1, e2m1_ok = 1, e4m3_ok = 1, int4_ok = 1, back = 1;
    for (int round = 0; round < 24; round++)
        for (size_t k = 0; k < sizeof blocks_of / sizeof *blocks_of; k++) {
            size_t block = blocks_of[k], n = N / block;
            fill(x, N, (filling)(round % FILLINGS));
            for (size_t i = 0; i < n; i++) /* some 1, some of any finite size, some typical */
                scale[i] = round < 8    ? 1.0f
                           : round < 16 ? tmb_f32_from_bits(1 + next_random() % 0x7f7fffffu)
                                        : 0.01f + fabsf(gaussian());
            ref->block_amax(f1, x, n, block);
            ops->block_amax(f2, x, n, block);
            amax &= same_floats(f1, f2, n);
            float m1 = ref->amax(x, n * block - round), m2 = ops->amax(x, n * block - round);
            amax &= same_floats(&m1, &m2, 1);
            memset(c1, 0x55, sizeof c1), memset(c2, 0x55, sizeof c2);
            ref->encode_e2m1(c1, x, scale, n, block), ops->encode_e2m1(c2, x, scale, n, block);
            e2m1_ok &= !memcmp(c1, c2, sizeof c1);
            ref->decode_e2m1(f1, c1, scale, n, block), ops->decode_e2m1(f2, c1, scale, n, block);
            back &= same_floats(f1, f2, n * block);
            memset(c1, 0x55, sizeof c1), memset(c2, 0x55, sizeof c2);
            ref->encode_int4(c1, x, scale, n, block), ops->encode_int4(c2, x, scale, n, block);
            int4_ok &= !memcmp(c1, c2, sizeof c1);
            ref->decode_int4(f1, c1, scale, n, block), ops->decode_int4(f2, c1, scale, n, block);
            back &= same_floats(f1, f2, n * block);
            memset(c1, 0x55, sizeof c1), memset(c2, 0x55, sizeof c2);
            ref->encode_e4m3(c1, x, scale, n, block), ops->encode_e4m3(c2, x, scale, n, block);
            e4m3_ok &= !memcmp(c1, c2, sizeof c1);
            ref->decode_e4m3(f1, c1, scale, n, block), ops->decode_e4m3(f2, c1, scale, n, block);
            back &= same_floats(f1, f2, n * block);
        }
    ok(amax, "%s: amax and block_amax", ops->name);
    ok(e2m1_ok, "%s: encode_e2m1", ops->name);
    ok(e4m3_ok, "%s: encode_e4m3", ops->name);
    ok(int4_ok, "%s: encode_int4", ops->name);
    ok(back, "%s: the three decoders", ops->name);
}

static void test_compare(const tmb_ops *ref, const tmb_ops *ops)
{
    static float x[N], y[N];
    int same = 1;
    for (size_t n = 0; n < 100; n++) {
        fill(x, N, GAUSSIAN);
        fill(y, N, n % 2 ? GAUSSIAN : TINY);
        tmb_sums a = {.signal = 1, .max_error = n % 3}, b = a;
        ref->compare(&a, x, y, n < 50 ? n : N - n);
        ops->compare(&b, x, y, n < 50 ? n : N - n);
        same &= !memcmp(&a, &b, sizeof a);
    }
    ok(same, "%s: compare, to the last bit of its sums", ops->name);
}

int main(void)
{
    const tmb_ops *ref = tmb_cpu_ops_at(0), *ops;
    ok(!strcmp(ref->name, "ref") && tmb_cpu_ops() && !tmb_cpu_ops_named("none"), "tables by name");
    setenv("TOMBAC_CPU", "ref", 1);
    ok(tmb_cpu_ops() == ref, "TOMBAC_CPU chooses the table");
    setenv("TOMBAC_CPU", "none", 1);
    ok(tmb_cpu_ops() != NULL, "and one that is not there is ignored");
    test_codec();
    for (int i = 1; (ops = tmb_cpu_ops_at(i)); i++) {
        test_conversions(ref, ops);
        test_blocks(ref, ops);
        test_compare(ref, ops);
    }
    return done();
}
