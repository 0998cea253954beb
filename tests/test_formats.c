/* Properties that every format keeps, whatever the table of operations. */
#include "config.h"
#include "kernels/cpu/cpu.h"
#include "moe/format/formats.h"
#include "tests/tap.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

/* A quantized weight and all it needs. */
typedef struct weight {
    size_t rows, cols;
    float *x, *back, *work;
    uint8_t *codes, *scales;
    tmb_geometry code_geometry, scale_geometry;
    bool has_scales;
    float global;
} weight;

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 32;
}

static void *need(size_t bytes)
{
    void *p = calloc(bytes ? bytes : 1, 1);
    if (!p) abort();
    return p;
}

static weight weight_open(const tmb_format *f, size_t rows, size_t cols)
{
    weight w = {.rows = rows, .cols = cols};
    f->part(f, TMB_PART_CODES, rows, cols, &w.code_geometry);
    w.has_scales = f->part(f, TMB_PART_SCALE, rows, cols, &w.scale_geometry);
    w.x = need(rows * cols * sizeof *w.x);
    w.back = need(rows * cols * sizeof *w.back);
    w.work = need(tmb_format_work(cols) * sizeof *w.work);
    w.codes = need(w.code_geometry.bytes);
    w.scales = need(w.has_scales ? w.scale_geometry.bytes : 0);
    return w;
}

static void weight_close(weight *w)
{
    free(w->x);
    free(w->back);
    free(w->work);
    free(w->codes);
    free(w->scales);
}

static void quantize(const tmb_format *f, const tmb_ops *ops, tmb_scale_rule rule, weight *w)
{
    w->global = f->global_scale ? f->global_scale(ops->amax(w->x, w->rows * w->cols)) : 1.0f;
    for (size_t r = 0; r < w->rows; r += TMB_TILE_ROWS) {
        size_t n = w->rows - r < TMB_TILE_ROWS ? w->rows - r : TMB_TILE_ROWS;
        uint64_t c = tmb_format_row_offset(&w->code_geometry, w->rows, r);
        uint64_t s = w->has_scales ? tmb_format_row_offset(&w->scale_geometry, w->rows, r) : 0;
        f->encode(f, ops, rule, w->x + r * w->cols, n, w->cols, w->global, w->codes + c,
                  w->scales + s, w->work);
        f->decode(f, ops, w->back + r * w->cols, n, w->cols, w->codes + c, w->scales + s, w->global,
                  w->work);
    }
}

static bool scales_are_good(const weight *w)
{
    if (!(w->global > 0.0f && w->global <= FLT_MAX)) return false;
    if (!w->has_scales) return true;
    for (size_t i = 0; i < w->scale_geometry.bytes; i++) {
        uint8_t c = w->scales[i];
        if (w->scale_geometry.dtype == TMB_F8_E4M3 && (c == 0 || c >= 0x7f)) return false;
        if (w->scale_geometry.dtype == TMB_U8 && c == 0xff) return false;
    }
    for (size_t i = 0; w->scale_geometry.dtype == TMB_F32 && i < w->scale_geometry.bytes / 4; i++) {
        float s;
        memcpy(&s, w->scales + 4 * i, 4);
        if (!(s > 0.0f && s <= FLT_MAX)) return false;
    }
    return true;
}

static void fill_gaussian(weight *w, uint64_t seed)
{
    for (size_t i = 0; i < w->rows * w->cols; i++) {
        float sum = 0.0f;
        for (int k = 0; k < 12; k++)
            sum += (float)next_random(&seed) * 0x1p-32f;
        w->x[i] = (sum - 6.0f) * 0.02f;
    }
}

/* Numbers no weight should hold, all in one tensor or one alone in a field of zeros. */
static const float adversarial[] = {
    FLT_TRUE_MIN, -FLT_TRUE_MIN, 0x1p-140f,
    0x1p-133f,    -0x1.fcp-127f, FLT_MIN,
    7.9e-36f,     1e-30f,        -1e-6f,
    1.0f,         -448.0f,       1e4f,
    1e30f,        FLT_MAX,       -FLT_MAX,
    0x1.8p127f,   0x1.cp127f,    -0.0f,
    0.0f,         1.18e-38f,     2688 * FLT_TRUE_MIN,
};
enum { ADVERSARIAL = sizeof adversarial / sizeof *adversarial };

static void test_adversarial(const tmb_format *f, const tmb_ops *ops)
{
    int scales = 1, finite = 1, signs = 1;
    for (int rule = 0; rule <= (f->can_mse ? TMB_SCALE_MSE : TMB_SCALE_MAX); rule++)
        for (int top = 0; top < ADVERSARIAL; top++)
            for (int mode = 0; mode < 3; mode++) {
                weight w = weight_open(f, 3, 256);
                uint64_t seed = (uint64_t)top;
                for (size_t i = 0; i < 3 * 256; i++) {
                    float v = adversarial[next_random(&seed) % ADVERSARIAL];
                    bool small = fabsf(v) <= fabsf(adversarial[top]);
                    w.x[i] = mode == 0 ? 0.0f : mode == 1 || !small ? adversarial[top] : v;
                }
                w.x[300] = adversarial[top];
                quantize(f, ops, (tmb_scale_rule)rule, &w);
                scales &= scales_are_good(&w);
                for (size_t i = 0; i < 3 * 256; i++) {
                    finite &= !isnan(w.back[i]);
                    signs &= w.back[i] == 0.0f || signbit(w.back[i]) == signbit(w.x[i]);
                }
                weight_close(&w);
            }
    ok(scales, "%s %s: no scale is 0, Inf or NaN", f->name, ops->name);
    ok(finite && signs, "%s %s: nothing becomes NaN or changes its sign", f->name, ops->name);
}

/* Parts that hold every code and, where they are bytes, every sensible scale; each 16 columns begin
 * with the largest code, so that the largest magnitude leads back to the scale. */
static void fill_parts(const tmb_format *f, weight *w)
{
    uint64_t random = 11;
    bool bytes = w->code_geometry.dtype == TMB_F8_E4M3;
    for (size_t i = 0; i < w->code_geometry.bytes; i++) {
        uint8_t c = (uint8_t)next_random(&random);
        if (bytes) {
            w->codes[i] = i % 16 == 0 ? 0x7e : (c & 0x7f) == 0x7f ? 0 : c;
        } else {
            if (i % 8 == 0) c = (uint8_t)(c << 4 | 7);
            /* Negative zero of E2M1 is read but never written. */
            if ((c & 15) == 8) c &= 0xf0;
            if (c >> 4 == 8) c &= 0x0f;
            w->codes[i] = c;
        }
    }
    for (size_t i = 0; w->has_scales && i < w->scale_geometry.bytes; i++)
        w->scales[i] = (uint8_t)(1 + i % (w->scale_geometry.dtype == TMB_U8 ? 240 : 126));
    float power[2] = {0x1p-9f, 0x1p3f};
    for (size_t i = 0; w->scale_geometry.dtype == TMB_F32 && i < w->scale_geometry.bytes / 4; i++)
        memcpy(w->scales + 4 * i, &power[i % 2], 4);
    w->global = f->global_scale ? 0x1p-10f : 1.0f;
}

/* Encoding what was decoded gives the same bytes. */
static void test_round_trip(const tmb_format *f, const tmb_ops *ops)
{
    weight w = weight_open(f, 128, 256);
    fill_parts(f, &w);
    size_t codes = w.code_geometry.bytes, scales = w.has_scales ? w.scale_geometry.bytes : 0;
    uint8_t *codes_again = need(codes), *scales_again = need(scales);
    f->decode(f, ops, w.back, w.rows, w.cols, w.codes, w.scales, w.global, w.work);
    f->encode(f, ops, TMB_SCALE_MAX, w.back, w.rows, w.cols, w.global, codes_again, scales_again,
              w.work);
    int same = !memcmp(codes_again, w.codes, codes) && !memcmp(scales_again, w.scales, scales);
    if (w.code_geometry.dtype == TMB_I32) {
        /* The one format whose scale rule is no fixed point (amax / 7.5 of codes up to 8): here
         * the values are computed by hand instead. */
        same = 1;
        for (size_t i = 0; i < w.rows * w.cols; i++) {
            float s;
            memcpy(&s, w.scales + i / f->group * 4, 4);
            same &= w.back[i] == (float)((w.codes[i / 2] >> (i % 2 * 4) & 15) - 8) * s;
        }
    }
    ok(same, "%s %s: every code survives decoding and encoding", f->name, ops->name);
    free(codes_again);
    free(scales_again);
    weight_close(&w);
}

/* Relative error of gaussian weights: a wrong nibble order, scale or shift is far above these. */
static void test_error(const tmb_format *f, const tmb_ops *ops)
{
    weight w = weight_open(f, 300, 384);
    fill_gaussian(&w, 3);
    double error[2] = {0, 0}, bound = f->bits > 6 ? 0.035 : 0.14;
    for (int rule = 0; rule <= (f->can_mse ? 1 : 0); rule++) {
        tmb_sums sums = {0};
        quantize(f, ops, (tmb_scale_rule)rule, &w);
        ops->compare(&sums, w.x, w.back, w.rows * w.cols);
        error[rule] = sqrt(sums.noise / sums.signal);
    }
    ok(error[0] > 0 && error[0] < bound, "%s %s: relative error %.4f", f->name, ops->name,
       error[0]);
    if (f->can_mse)
        ok(error[1] < error[0], "%s %s: mse scales are better, %.4f", f->name, ops->name, error[1]);
    weight_close(&w);
}

/* Every byte of the parts is written, and no other: tiles of 128 rows fill what the geometry
 * promises, the same as one call for all rows. */
static void test_tiles(const tmb_format *f, const tmb_ops *ops)
{
    static const size_t shapes[][2] = {{1, 128}, {128, 256}, {129, 384}, {300, 128}, {2, 512}};
    int same = 1;
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
        size_t cols = shapes[k][1] + (f->col_multiple == 1 ? 37 : 0);
        weight a = weight_open(f, shapes[k][0], cols), b = weight_open(f, shapes[k][0], cols);
        size_t scales = a.has_scales ? a.scale_geometry.bytes : 0;
        fill_gaussian(&a, k);
        quantize(f, ops, TMB_SCALE_MAX, &a);
        memset(b.codes, 0x5a, b.code_geometry.bytes);
        f->encode(f, ops, TMB_SCALE_MAX, a.x, a.rows, cols, a.global, b.codes, b.scales, b.work);
        f->decode(f, ops, b.back, a.rows, cols, b.codes, b.scales, a.global, b.work);
        same &= !memcmp(a.codes, b.codes, a.code_geometry.bytes);
        same &= !memcmp(a.scales, b.scales, scales);
        same &= !memcmp(a.back, b.back, a.rows * cols * sizeof *a.back);
        weight_close(&a);
        weight_close(&b);
    }
    ok(same, "%s %s: tiles give the bytes of the whole", f->name, ops->name);
}

static void test_zero(const tmb_format *f, const tmb_ops *ops)
{
    int good = 1;
    for (int blocks_only = 0; blocks_only < 2; blocks_only++) {
        weight w = weight_open(f, 256, 256);
        if (blocks_only) /* one column group and one row tile hold something */
            for (size_t c = 0; c < 128; c++)
                w.x[c] = 0.5f;
        quantize(f, ops, TMB_SCALE_MAX, &w);
        for (size_t i = 128 * 256; i < 256 * 256; i++)
            good &= w.back[i] == 0.0f;
        good &= blocks_only || w.global == 1.0f;
        if (w.has_scales) {
            size_t last = w.scale_geometry.bytes - 1;
            float one = 1.0f;
            if (w.scale_geometry.dtype == TMB_F8_E4M3) good &= w.scales[last] == 0x38;
            if (w.scale_geometry.dtype == TMB_U8) good &= w.scales[last] == 127;
            if (w.scale_geometry.dtype == TMB_F32) good &= !memcmp(&w.scales[last - 3], &one, 4);
        }
        weight_close(&w);
    }
    ok(good, "%s %s: what is all zero has scale 1 and stays zero", f->name, ops->name);
}

/* Parts add up to the bits a weight is said to take. */
static void test_geometry(const tmb_format *f)
{
    uint64_t bytes = 0, out = 1024, in = 2048;
    tmb_geometry g;
    int consistent = 1;
    for (int p = 0; p < TMB_PARTS; p++) {
        if (!f->part(f, (tmb_part)p, out, in, &g)) continue;
        uint64_t n = 1;
        for (int i = 0; i < g.rank; i++)
            n *= g.shape[i];
        consistent &= g.bytes == n * tmb_dtype_bits(g.dtype) / 8;
        if (p == TMB_PART_CODES || p == TMB_PART_SCALE) bytes += g.bytes;
    }
    double bits = 8.0 * (double)bytes / (double)(out * in);
    ok(consistent && fabs(bits - f->bits) < 0.02, "%s: %.3f bits a weight", f->name, bits);
    ok(f->part(f, TMB_PART_GLOBAL, out, in, &g) == (f->global_scale != NULL) &&
           (f->sharing != TMB_SHARE_NONE) == (f->global_scale != NULL) &&
           f->part(f, TMB_PART_INPUT, out, in, &g) ==
               (f->act == TMB_ACT_STATIC || f->act == TMB_ACT_NVFP4),
       "%s: its scalars are those its fields promise", f->name);
    ok(tmb_format_find(f->name) == f && f->summary && f->summary[0], "%s is found", f->name);
}

int main(void)
{
    const tmb_format *f;
    const tmb_ops *ops;
    for (int i = 0; (f = tmb_format_at(i)); i++) {
        test_geometry(f);
        for (int k = 0; (ops = tmb_cpu_ops_at(k)); k++) {
            test_adversarial(f, ops);
            test_round_trip(f, ops);
            test_error(f, ops);
            test_tiles(f, ops);
            test_zero(f, ops);
        }
    }
    ok(!tmb_format_find("fp9"), "an unknown format is not found");
    return done();
}
