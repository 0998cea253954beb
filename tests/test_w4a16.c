/* The 4-bit grouped GEMM: its packing on the host, and where there is a GPU of capability 9.0 its
 * results against float64 for every kind of routing. */
#include "config.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/w4a16.h"
#include "tests/tap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint64_t state = 88172645463325252ull;
static uint32_t next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 16);
}

static float bf16_value(uint16_t b)
{
    uint32_t u = (uint32_t)b << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static uint16_t bf16_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static float e4m3_value(uint8_t b)
{
    int e = b >> 3 & 15, m = b & 7;
    return e ? ldexpf(1.0f + (float)m / 8, e - 7) : ldexpf((float)m / 8, -6);
}

static float e2m1_value(unsigned c)
{
    static const float v[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    return c & 8 ? -v[c & 7] : v[c & 7];
}

/* Random parts of a weight [rows, cols]: all codes, all positive finite scales of E4M3. */
static void random_parts(uint8_t *codes, uint8_t *scales, size_t rows, size_t cols, int wild)
{
    for (size_t i = 0; i < rows * cols / 2; i++)
        codes[i] = (uint8_t)next();
    for (size_t i = 0; i < rows * cols / 16; i++)
        scales[i] = (uint8_t)(wild ? 1 + next() % 126 : 0x30 + next() % 24);
}

static float part_value(const uint8_t *codes, const uint8_t *scales, size_t cols, size_t r,
                        size_t c)
{
    unsigned code = codes[(r * cols + c) / 2] >> (c % 2 * 4) & 15;
    return e2m1_value(code) * e4m3_value(scales[(r * cols + c) / 16]);
}

static void test_pack(size_t rows, size_t cols, int pair)
{
    size_t packed_rows = pair ? 2 * rows : rows, bad = 0;
    uint8_t *codes[2], *scales[2];
    for (int i = 0; i < 2; i++) {
        codes[i] = malloc(rows * cols / 2);
        scales[i] = malloc(rows * cols / 16);
        random_parts(codes[i], scales[i], rows, cols, 1);
    }
    uint64_t bytes = tmb_w4_bytes(packed_rows, cols);
    void *packed = malloc(bytes);
    float *value = malloc(packed_rows * cols * sizeof *value);
    tmb_w4_pack_nvfp4(packed, codes[0], scales[0], pair ? codes[1] : NULL, pair ? scales[1] : NULL,
                      rows, cols);
    tmb_w4_unpack(value, packed, packed_rows, cols);
    for (size_t r = 0; r < packed_rows; r++) {
        int upper = pair && r % 16 >= 8;
        size_t from = pair ? r / 16 * 8 + r % 8 : r;
        for (size_t c = 0; c < cols; c++)
            bad += value[r * cols + c] != part_value(codes[upper], scales[upper], cols, from, c);
    }
    ok(bad == 0, "packing %zu x %zu%s keeps every value", rows, cols, pair ? " pairs" : "");
    for (int i = 0; i < 2; i++) {
        free(codes[i]);
        free(scales[i]);
    }
    free(packed);
    free(value);
}

/* ---- on the device -------------------------------------------------------------------------- */

typedef struct problem {
    int experts, out, cols, swiglu, tokens, rows;
    int *offsets, *gather;
    uint16_t *x;
    float *weight; /* [experts, packed rows, cols] decoded, in packed order */
    float *global;
    void *d_weights, *d_global, *d_x, *d_gather, *d_offsets, *d_y, *d_work;
    uint64_t work_bytes;
} problem;

static void must(tmb_status status, const tmb_err *err)
{
    if (!status) return;
    printf("Bail out! %s\n", err->message);
    exit(1);
}

static void make_weights(tmb_cuda *gpu, problem *p, tmb_err *err)
{
    int half = p->swiglu ? p->out / 2 : p->out;
    uint64_t bytes = tmb_w4_bytes((uint64_t)p->out, (uint64_t)p->cols);
    size_t n = (size_t)half * (size_t)p->cols;
    uint8_t *packed = malloc(bytes * (uint64_t)p->experts), *codes = malloc(n),
            *scales = malloc(n / 8);
    p->weight = malloc((size_t)p->experts * (size_t)p->out * (size_t)p->cols * sizeof *p->weight);
    p->global = malloc((size_t)p->experts * sizeof *p->global);
    for (int e = 0; e < p->experts; e++) {
        random_parts(codes, scales, (size_t)half, (size_t)p->cols, 0);
        random_parts(codes + n / 2, scales + n / 16, (size_t)half, (size_t)p->cols, 0);
        void *to = packed + bytes * (uint64_t)e;
        tmb_w4_pack_nvfp4(to, codes, scales, p->swiglu ? codes + n / 2 : NULL,
                          p->swiglu ? scales + n / 16 : NULL, (uint64_t)half, (uint64_t)p->cols);
        tmb_w4_unpack(p->weight + (size_t)e * (size_t)p->out * (size_t)p->cols, to,
                      (uint64_t)p->out, (uint64_t)p->cols);
        p->global[e] = (0.5f + (float)(next() % 1000) / 1000.0f) / 64.0f;
    }
    must(tmb_cuda_alloc(gpu, &p->d_weights, bytes * (uint64_t)p->experts, err), err);
    must(tmb_cuda_upload(gpu, p->d_weights, packed, bytes * (uint64_t)p->experts, err), err);
    must(tmb_cuda_alloc(gpu, &p->d_global, (uint64_t)p->experts * 4, err), err);
    must(tmb_cuda_upload(gpu, p->d_global, p->global, (uint64_t)p->experts * 4, err), err);
    free(packed);
    free(codes);
    free(scales);
}

/* loads [experts]: rows of each expert. */
static void make_problem(tmb_cuda *gpu, problem *p, const int *loads, tmb_err *err)
{
    p->offsets = malloc((size_t)(p->experts + 1) * sizeof *p->offsets);
    p->offsets[0] = 0;
    for (int e = 0; e < p->experts; e++)
        p->offsets[e + 1] = p->offsets[e] + loads[e];
    p->rows = p->offsets[p->experts];
    p->tokens = p->rows / 2 + 3;
    p->gather = malloc((size_t)(p->rows + 1) * sizeof *p->gather);
    for (int r = 0; r < p->rows; r++)
        p->gather[r] = (int)(next() % (unsigned)p->tokens);
    size_t n = (size_t)p->tokens * (size_t)p->cols;
    p->x = malloc(n * sizeof *p->x);
    for (size_t i = 0; i < n; i++)
        p->x[i] = bf16_bits(((float)(next() % 2001) - 1000.0f) / 700.0f);
    make_weights(gpu, p, err);
    must(tmb_cuda_alloc(gpu, &p->d_x, n * 2, err), err);
    must(tmb_cuda_upload(gpu, p->d_x, p->x, n * 2, err), err);
    must(tmb_cuda_alloc(gpu, &p->d_gather, (uint64_t)p->rows * 4 + 4, err), err);
    must(tmb_cuda_upload(gpu, p->d_gather, p->gather, (uint64_t)p->rows * 4, err), err);
    must(tmb_cuda_alloc(gpu, &p->d_offsets, (uint64_t)(p->experts + 1) * 4, err), err);
    must(tmb_cuda_upload(gpu, p->d_offsets, p->offsets, (uint64_t)(p->experts + 1) * 4, err), err);
    must(tmb_cuda_alloc(gpu, &p->d_y, (uint64_t)p->rows * (uint64_t)p->out * 2 + 2, err), err);
}

static tmb_w4_gemm gemm_of(const problem *p)
{
    return (tmb_w4_gemm){.weights = p->d_weights,
                         .global = p->d_global,
                         .x = p->d_x,
                         .gather = p->d_gather,
                         .offsets = p->d_offsets,
                         .y = p->d_y,
                         .experts = p->experts,
                         .cols = p->cols,
                         .out_rows = p->out,
                         .rows = p->rows,
                         .most = p->rows,
                         .swiglu = p->swiglu};
}

/* y [rows, width] bf16, the caller's; poisoned with NaN before the launch. */
static uint16_t *run(tmb_cuda *gpu, problem *p, tmb_err *err)
{
    tmb_w4_gemm g = gemm_of(p);
    uint64_t bytes = (uint64_t)p->rows * (uint64_t)(p->swiglu ? p->out / 2 : p->out) * 2;
    if (!p->d_work) {
        p->work_bytes = tmb_w4_workspace(&g);
        must(tmb_cuda_alloc(gpu, &p->d_work, p->work_bytes, err), err);
    }
    must(tmb_cuda_fill(gpu, p->d_work, 0xff, p->work_bytes, err), err);
    must(tmb_cuda_fill(gpu, p->d_y, 0xff, bytes, err), err);
    must(tmb_w4_gemm_sm90(&g, p->d_work, tmb_cuda_stream(gpu), err), err);
    uint16_t *y = malloc(bytes + 2);
    must(tmb_cuda_download(gpu, y, p->d_y, bytes, err), err);
    return y;
}

static double dot(const problem *p, int e, int packed_row, const uint16_t *x)
{
    const float *w =
        p->weight + ((size_t)e * (size_t)p->out + (size_t)packed_row) * (size_t)p->cols;
    double sum = 0;
    for (int k = 0; k < p->cols; k++)
        sum += (double)w[k] * (double)bf16_value(x[k]);
    return sum * (double)p->global[e];
}

/* Relative error of y over all rows; NaN when something was not written. */
static double relative_error(const problem *p, const uint16_t *y)
{
    double noise = 0, signal = 0;
    int width = p->swiglu ? p->out / 2 : p->out;
    for (int e = 0; e < p->experts; e++) {
        for (int r = p->offsets[e]; r < p->offsets[e + 1]; r++) {
            const uint16_t *x = p->x + (size_t)p->gather[r] * (size_t)p->cols;
            for (int o = r % 3; o < width; o += 3) { /* every third output: float64 is slow */
                double want;
                if (p->swiglu) {
                    int row = o / 8 * 16 + o % 8;
                    double gate = dot(p, e, row, x), up = dot(p, e, row + 8, x);
                    want = gate / (1 + exp(-gate)) * up;
                } else {
                    want = dot(p, e, o, x);
                }
                double got = (double)bf16_value(y[(size_t)r * (size_t)width + (size_t)o]);
                noise += (got - want) * (got - want);
                signal += want * want;
            }
        }
    }
    return signal > 0 ? sqrt(noise / signal) : noise;
}

static void free_problem(tmb_cuda *gpu, problem *p)
{
    void *device[] = {p->d_weights, p->d_global, p->d_x,   p->d_gather,
                      p->d_offsets, p->d_y,      p->d_work};
    for (size_t i = 0; i < sizeof device / sizeof *device; i++)
        if (device[i]) tmb_cuda_free(gpu, device[i]);
    free(p->offsets);
    free(p->gather);
    free(p->x);
    free(p->weight);
    free(p->global);
}

static void test_case(tmb_cuda *gpu, const char *what, int experts, int out, int cols, int swiglu,
                      const int *loads)
{
    tmb_err err = {0};
    problem p = {.experts = experts, .out = out, .cols = cols, .swiglu = swiglu};
    make_problem(gpu, &p, loads, &err);
    uint16_t *y = run(gpu, &p, &err);
    double error = relative_error(&p, y);
    size_t width = (size_t)(swiglu ? out / 2 : out), unwritten = 0;
    for (size_t i = 0; i < (size_t)p.rows * width; i++)
        unwritten += y[i] == 0xffff;
    ok(error < 3e-3 && unwritten == 0, "%s, %d x %d%s: relative error %.2e", what, out, cols,
       swiglu ? " swiglu" : "", error);
    int same = 1;
    for (int i = 0; i < 20; i++) {
        uint16_t *again = run(gpu, &p, &err);
        same &= memcmp(again, y, (size_t)p.rows * width * 2) == 0;
        free(again);
    }
    ok(same, "%s, %d x %d%s: the same bits 20 times", what, out, cols, swiglu ? " swiglu" : "");
    free(y);
    free_problem(gpu, &p);
}

/* A row's bits must not depend on how many neighbours it has, hence on the tile class. */
static void test_alone(tmb_cuda *gpu)
{
    tmb_err err = {0};
    static const int sizes[] = {1, 8, 9, 16, 17, 32, 33, 64, 65, 128, 129, 192, 200, 256, 257, 700};
    problem p = {.experts = 1, .out = 320, .cols = 2880};
    int most = 700;
    make_problem(gpu, &p, &most, &err);
    uint16_t *all = run(gpu, &p, &err);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        p.rows = p.offsets[1] = sizes[i];
        must(tmb_cuda_upload(gpu, p.d_offsets, p.offsets, 8, &err), &err);
        uint16_t *some = run(gpu, &p, &err);
        ok(memcmp(some, all, (size_t)sizes[i] * 320 * 2) == 0,
           "rows alone in %d have the same bits as in 700", sizes[i]);
        free(some);
    }
    free(all);
    free_problem(gpu, &p);
}

static void test_device(tmb_cuda *gpu)
{
    static const struct {
        const char *what;
        int loads[6];
    } routings[] = {
        {"one row each", {1, 1, 1, 1, 1, 1}},
        {"up to 8", {8, 0, 3, 7, 1, 0}},
        {"up to 16", {16, 9, 0, 12, 8, 1}},
        {"up to 32", {32, 17, 25, 5, 0, 16}},
        {"up to 64", {64, 33, 48, 0, 2, 40}},
        {"up to 128", {128, 65, 100, 90, 0, 1}},
        {"up to 192", {192, 129, 150, 0, 0, 10}},
        {"up to 256", {256, 193, 220, 1, 0, 0}},
        {"more than a tile", {257, 600, 0, 300, 513, 31}},
        {"one expert takes all", {0, 0, 777, 0, 0, 0}},
        {"nobody", {0, 0, 0, 0, 0, 0}},
    };
    static const int shapes[][2] = {{64, 128},  {128, 256},   {320, 48},
                                    {208, 768}, {1024, 1040}, {256, 2880}};
    for (size_t r = 0; r < sizeof routings / sizeof *routings; r++)
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
            test_case(gpu, routings[r].what, 6, shapes[s][0], shapes[s][1], (int)((r + s) % 2),
                      routings[r].loads);
    test_alone(gpu);
}

int main(void)
{
    test_pack(64, 128, 0);
    test_pack(48, 80, 0);
    test_pack(200, 272, 0);
    test_pack(40, 144, 1);
    test_pack(128, 2880, 1);
    ok(tmb_w4_bytes(UINT64_MAX / 2, 1 << 20) == 0, "a size that overflows is refused");
    tmb_err err = {0};
    tmb_cuda *gpu = NULL;
    if (tmb_cuda_open(&gpu, 0, &err)) {
        ok(1, "results on the device # SKIP %s", err.message);
    } else if (tmb_cuda_about(gpu)->major != 9) {
        ok(1, "results on the device # SKIP capability %d.%d", tmb_cuda_about(gpu)->major,
           tmb_cuda_about(gpu)->minor);
    } else {
        test_device(gpu);
    }
    tmb_cuda_close(gpu);
    return done();
}
