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

int main(void)
{
    const tmb_format *f;
    for (int i = 0; (f = tmb_format_at(i)); i++) {
        const tmb_ops *ops;
        for (int k = 0; (ops = tmb_cpu_ops_at(k)); k++)
            test_adversarial(f, ops);
        weight w = weight_open(f, 130, 256);
        fill_gaussian(&w, 1);
        quantize(f, tmb_cpu_ops_at(0), TMB_SCALE_MAX, &w);
        weight_close(&w);
    }
    return done();
}
