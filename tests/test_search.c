/* The searches of block scales: every vector table against the full search of the reference, and
 * the reference against all scales in double. */
#include "config.h"
#include "kernels/base/codec.h"
#include "kernels/cpu/cpu.h"
#include "tests/tap.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

static uint64_t seed = 1;

static uint32_t next_random(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 32);
}

static float gaussian(void)
{
    float sum = 0;
    for (int k = 0; k < 12; k++)
        sum += (float)next_random() * 0x1p-32f;
    return sum - 6.0f;
}

/* Blocks whose best scale is hard to tell: ties, few values, one outlier, exact thresholds. */
static void fill_block(float *x, int kind)
{
    float spread = ldexpf(1.0f, (int)(next_random() % 24) - 16);
    for (int i = 0; i < 16; i++) {
        uint32_t u = next_random();
        float g = gaussian() * spread;
        switch (kind) {
        case 0:
            x[i] = g;
            break;
        case 1: /* a few bits of mantissa: many exact ties */
            x[i] = ldexpf((float)(u % 16), (int)(u >> 8 & 7) - 4) * (u >> 31 ? -1.0f : 1.0f);
            break;
        case 2: /* an outlier */
            x[i] = i == (int)(u % 16) ? g * 1000 : g;
            break;
        case 3: /* values of one scale, or midpoints, and their neighbours */
            x[i] = tmb_f32_from_bits(tmb_f32_bits(tmb_e2m1_to_f32(u & 7) + (u & 8 ? 0.25f : 0)) +
                                     (u & 6 ? 0 : u >> 9 & 1)) *
                   tmb_e4m3_to_f32((uint8_t)(1 + (tmb_f32_bits(spread) >> 20) % 126));
            break;
        case 4: /* mostly zeros, and tiny numbers whose squares underflow */
            x[i] = u % 8 ? (u & 8 ? -0.0f : 0.0f) : u & 16 ? ldexpf(g, -70) : g;
            break;
        default:
            x[i] = tmb_f32_from_bits((u & 0x8fffffff) | 0x30000000);
        }
    }
}

/* The reference tries all scales, so it runs once for all tables. */
static void test_search(const tmb_ops *ref)
{
    enum { BLOCKS = 3600, TABLES = 8 };
    static float x[BLOCKS * 16];
    static uint8_t c1[BLOCKS + 1], c2[BLOCKS + 1];
    static const float globals[] = {1.0f, 0.013f, 0x1p-130f, 3e-45f, 1e30f};
    const tmb_ops *ops;
    size_t differ[TABLES] = {0}, compared = 0;
    for (int kind = 0; kind < 6; kind++)
        for (size_t g = 0; g < sizeof globals / sizeof *globals; g++) {
            size_t n = BLOCKS - g * 3; /* also what does not fill the lanes */
            for (size_t b = 0; b < n; b++)
                fill_block(x + b * 16, kind);
            if (g > 1 && kind < 3)
                for (size_t i = 0; i < n * 16; i++)
                    x[i] *= globals[g];
            c1[n] = c2[n] = 0x55;
            ref->search_nvfp4(c1, x, globals[g], n);
            for (int k = 1; k < TABLES && (ops = tmb_cpu_ops_at(k)); k++) {
                memset(c2, 0, n);
                ops->search_nvfp4(c2, x, globals[g], n);
                for (size_t b = 0; b <= n; b++)
                    differ[k] += c1[b] != c2[b];
            }
            compared += n;
        }
    for (int k = 1; k < TABLES && (ops = tmb_cpu_ops_at(k)); k++)
        ok(differ[k] == 0,
           "%s: search_nvfp4 finds the scale of the full search (%zu of %zu blocks differ)",
           ops->name, differ[k], compared);
}

/* Second moments of BLOCKS blocks into `moments`: of so many random rows with what all channels
 * have in common, channels of very different sizes, or the identity; floors: half of what they
 * could be.
 */
typedef enum form { IDENTITY, FEW, MANY, UNEVEN, FORMS } form;

/* out [16] = 1 / (H^-1)(i, i) of h [16][16], which elimination leaves as the last pivot when i
 * comes last; 0 where H is not definite. */
static void floors_of(const double h[16][16], double *out)
{
    for (int last = 0; last < 16; last++) {
        double m[16][16];
        out[last] = 0;
        for (int i = 0; i < 16; i++)
            for (int j = 0; j < 16; j++)
                m[i][j] = h[(i + last + 1) % 16][(j + last + 1) % 16];
        int k = 0;
        for (; k < 15 && m[k][k] > 1e-9; k++)
            for (int i = k + 1; i < 16; i++)
                for (int j = 15; j >= k; j--)
                    m[i][j] -= m[i][k] / m[k][k] * m[k][j];
        if (k == 15 && m[15][15] > 0) out[last] = m[15][15];
    }
}

static void form_of(double h[16][16], form kind)
{
    int rows = kind == FEW ? 5 : 64;
    memset(h, 0, 256 * sizeof(double));
    for (int r = 0; r < rows; r++) {
        double x[16], common = gaussian();
        for (int i = 0; i < 16; i++)
            x[i] = (gaussian() + 0.7 * common) * (kind == UNEVEN ? ldexp(1, i % 5 * -3) : 1);
        for (int i = 0; i < 16; i++)
            for (int j = 0; j < 16; j++)
                h[i][j] += x[i] * x[j] / rows;
    }
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 16; j++)
            h[i][j] = kind == IDENTITY ? i == j : (double)(float)h[i][j];
}

static void fill_moments(float *lanes, bool full, size_t blocks, form kind)
{
    size_t rows = (size_t)TMB_MOMENT_ROWS(full);
    for (size_t b = 0; b < (blocks + 15) / 16 * 16; b++) {
        double h[16][16], floor[16];
        float *at = lanes + b / 16 * rows * 16 + b % 16;
        form_of(h, kind);
        floors_of(h, floor);
        for (int i = 0; i < 16; i++)
            for (int j = i; j < (full ? 16 : i + 1); j++, at += 16)
                *at = (float)(i == j ? h[i][j] : 2 * h[i][j]);
        for (int i = 0; i < 16; i++, at += 16)
            *at = (float)sqrt(full ? floor[i] * (1 - 1e-6) : h[i][i] * (1 - 1e-6));
    }
}

enum { WEIGHED = 720 };

/* The error in double, of x / ws2 as the operation has it; h: one lane. */
static double error_of(const float *x, float ws2, uint8_t code, const float *h, bool full)
{
    double d[16], sum = 0;
    float c = tmb_e4m3_to_f32(code);
    for (int i = 0; i < 16; i++) {
        float y = x[i] / ws2;
        d[i] = (double)y - (double)tmb_e2m1_to_f32(tmb_f32_to_e2m1(y / c)) * (double)c;
    }
    for (int i = 0; i < 16; i++)
        for (int j = i; j < (full ? 16 : i + 1); j++, h += 16)
            sum += (double)*h * d[i] * d[j];
    return sum;
}

/* The reference against all scales in double, and against the scales of max and plain mse. */
static void test_best(const tmb_ops *ref, const float *x, float ws2, const float *lanes, bool full,
                      const uint8_t *got, form kind)
{
    static uint8_t plain[WEIGHED];
    size_t worse = 0, than_max = 0, than_mse = 0, other = 0;
    ref->search_nvfp4(plain, x, ws2, WEIGHED);
    for (size_t b = 0; b < WEIGHED; b++) {
        const float *h = lanes + b / 16 * (size_t)TMB_MOMENT_ROWS(full) * 16 + b % 16;
        double mine = error_of(x + b * 16, ws2, got[b], h, full), least = mine, size = 0;
        for (int i = 0; i < 16; i++)
            size += fabs((double)x[b * 16 + i]) * 16 / (double)ws2;
        for (uint8_t code = 1; code < 0x7f; code++)
            least = fmin(least, error_of(x + b * 16, ws2, code, h, full));
        uint8_t top = tmb_f32_to_e4m3(ref->amax(x + b * 16, 16) / (6 * ws2));
        double slack = 1e-5 * mine + 1e-8 * size * size, max = 0;
        if (top) max = error_of(x + b * 16, ws2, top, h, full);
        worse += mine > least + slack;
        than_max += top && mine > max + slack;
        than_mse += mine > error_of(x + b * 16, ws2, plain[b], h, full) + slack;
        other += got[b] != plain[b];
    }
    ok(!worse, "%s moments, form %d: no scale is better, in double (%zu are)",
       full ? "full" : "diagonal", (int)kind, worse);
    ok(!than_max && !than_mse, "never worse than max and mse");
    ok((kind == IDENTITY) == (other == 0), "mse's scales with the identity only (%zu differ)",
       other);
}

static void test_weighted(const tmb_ops *ref)
{
    enum { TABLES = 8 };
    static float x[WEIGHED * 16], lanes[WEIGHED * TMB_MOMENT_ROWS(true)];
    static uint8_t c1[WEIGHED + 1], c2[WEIGHED + 1];
    static const float globals[] = {1.0f, 0.013f};
    const tmb_ops *ops;
    size_t differ[TABLES] = {0}, compared = 0;
    for (int kind = 0; kind < FORMS; kind++)
        for (int full = 0; full < 2; full++) {
            fill_moments(lanes, full, WEIGHED, (form)kind);
            tmb_moments moments = {.full = full, .lanes = lanes};
            for (size_t g = 0; g < 2; g++) {
                size_t n = WEIGHED - g * 3;
                for (size_t b = 0; b < WEIGHED; b++)
                    fill_block(x + b * 16, (int)(b % 6));
                c1[n] = c2[n] = 0x55;
                ref->search_nvfp4_weighted(c1, x, globals[g], &moments, n);
                for (int k = 1; k < TABLES && (ops = tmb_cpu_ops_at(k)); k++) {
                    memset(c2, 0, n);
                    ops->search_nvfp4_weighted(c2, x, globals[g], &moments, n);
                    for (size_t b = 0; b <= n; b++)
                        differ[k] += c1[b] != c2[b];
                }
                compared += n;
                if (g == 0) test_best(ref, x, globals[g], lanes, full, c1, (form)kind);
            }
        }
    for (int k = 1; k < TABLES && (ops = tmb_cpu_ops_at(k)); k++)
        ok(differ[k] == 0,
           "%s: search_nvfp4_weighted finds the scale of the full search (%zu of %zu blocks "
           "differ)",
           ops->name, differ[k], compared);
}

int main(void)
{
    const tmb_ops *ref = tmb_cpu_ops_at(0);
    test_search(ref);
    test_weighted(ref);
    return done();
}
