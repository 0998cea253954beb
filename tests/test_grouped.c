/* The grouped GEMM: its packing on the host, and where there is a GPU of capability 9.0 its results
 * against float64 for every format, kind of routing and gate. */
#include "config.h"
#include "kernels/base/codec.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/grouped.h"
#include "tests/random.h"
#include "tests/tap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const pack_name[TMB_PACKS] = {"nvfp4", "mxfp4", "int4", "bf16"};

/* A random matrix [rows, cols] in the format's parts.  wild: every scale the format has. */
typedef struct parts {
    tmb_pack pack;
    tmb_matrix m;
    uint8_t *codes, *scales;
    size_t rows, cols;
} parts;

static parts make_parts(tmb_pack pack, size_t rows, size_t cols, int wild)
{
    parts p = {.pack = pack, .rows = rows, .cols = cols};
    size_t n = rows * cols, block = pack == TMB_PACK_NVFP4 ? 16 : 32;
    p.codes = malloc(n * 2);
    p.scales = malloc(n / 16 * 4 + 4);
    p.m = (tmb_matrix){.codes = p.codes, .scales = p.scales, .global = 1.0f};
    if (pack == TMB_PACK_BF16) {
        for (size_t i = 0; i < n; i++) {
            uint16_t v = tmb_f32_to_bf16(random_float());
            memcpy(p.codes + 2 * i, &v, 2);
        }
        return p;
    }
    for (size_t i = 0; i < n / 2; i++)
        p.codes[i] = (uint8_t)random_bits();
    if (pack == TMB_PACK_INT4) p.m.group = cols % 128 == 0 ? 128 : cols % 64 == 0 ? 64 : 32;
    if (pack == TMB_PACK_INT4) block = p.m.group;
    for (size_t i = 0; i < n / block; i++) {
        if (pack == TMB_PACK_NVFP4) {
            p.scales[i] = (uint8_t)(wild ? 1 + random_bits() % 126 : 0x30 + random_bits() % 24);
        } else if (pack == TMB_PACK_MXFP4) {
            p.scales[i] = (uint8_t)(wild ? 70 + random_bits() % 125 : 125 + random_bits() % 4);
        } else {
            float v = (1.0f + (float)(random_bits() % 1000) / 500.0f) / 4.0f;
            memcpy(p.scales + 4 * i, &v, 4);
        }
    }
    if (pack == TMB_PACK_NVFP4) p.m.global = (0.5f + (float)(random_bits() % 1000) / 1000.0f) / 64;
    return p;
}

static void free_parts(parts *p)
{
    free(p->codes);
    free(p->scales);
}

/* What the parts say, not rounded. */
static double part_value(const parts *p, size_t r, size_t c)
{
    size_t i = r * p->cols + c;
    if (p->pack == TMB_PACK_BF16) {
        uint16_t v;
        memcpy(&v, p->codes + 2 * i, 2);
        return (double)tmb_bf16_to_f32(v);
    }
    uint8_t code = p->codes[i / 2] >> (i % 2 * 4) & 15;
    if (p->pack == TMB_PACK_NVFP4)
        return (double)tmb_e2m1_to_f32(code) * (double)tmb_e4m3_to_f32(p->scales[i / 16]) *
               (double)p->m.global;
    if (p->pack == TMB_PACK_MXFP4)
        return (double)tmb_e2m1_to_f32(code) * (double)tmb_e8m0_to_f32(p->scales[i / 32]);
    float scale;
    memcpy(&scale, p->scales + i / p->m.group * 4, 4);
    return (double)tmb_int4_to_f32(code) * (double)scale;
}

static void test_pack(tmb_pack pack, size_t rows, size_t cols, int pair)
{
    tmb_err err = {0};
    size_t packed_rows = pair ? 2 * rows : rows, bad = 0;
    parts half[2] = {make_parts(pack, rows, cols, 1), make_parts(pack, rows, cols, 1)};
    void *packed = malloc(tmb_pack_bytes(pack, packed_rows, cols));
    float *value = malloc(packed_rows * cols * sizeof *value), factor[2];
    tmb_status status = tmb_pack_weight(pack, packed, factor, &half[0].m, pair ? &half[1].m : NULL,
                                        rows, cols, &err);
    tmb_unpack_weight(pack, value, packed, factor, pair, packed_rows, cols);
    for (size_t u = 0; u < (pair ? 2u : 1u); u++)
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < cols; c++) {
                double want = part_value(&half[u], r, c);
                double got = (double)value[tmb_packed_row(r, pair, u) * cols + c];
                /* a scale of INT4 and its product are rounded to BF16 */
                bad += fabs(got - want) > fabs(want) * (pack == TMB_PACK_INT4 ? 0x1.1p-7 : 1e-7);
            }
    ok(!status && bad == 0, "%s: packing %zu x %zu%s keeps every value", pack_name[pack], rows,
       cols, pair ? " pairs" : "");
    for (int i = 0; i < 2; i++)
        free_parts(&half[i]);
    free(packed);
    free(value);
}

static void test_refusals(void)
{
    tmb_err err = {0};
    uint8_t codes[64 * 16], scales[64], packed[TMB_BLOB_BYTES_4];
    float factor[2];
    memset(codes, 0x11, sizeof codes);
    memset(scales, 127, sizeof scales);
    tmb_matrix m = {.codes = codes, .scales = scales, .global = 1.0f};
    scales[5] = 127 - 125;
    ok(tmb_pack_weight(TMB_PACK_MXFP4, packed, factor, &m, NULL, 64, 32, &err) == TMB_EDATA,
       "MXFP4 scales too far apart are refused: %s", err.message);
    memset(codes + 5 * 16, 0x80, 16);
    ok(tmb_pack_weight(TMB_PACK_MXFP4, packed, factor, &m, NULL, 64, 32, &err) == TMB_OK,
       "but not those of blocks of zeros");
    scales[5] = 255;
    codes[5 * 16] = 1;
    ok(tmb_pack_weight(TMB_PACK_MXFP4, packed, factor, &m, NULL, 64, 32, &err) == TMB_EDATA,
       "a scale that is no number is refused");
    m.group = 16;
    ok(tmb_pack_weight(TMB_PACK_INT4, packed, factor, &m, NULL, 64, 32, &err) == TMB_EUNAVAILABLE,
       "groups of INT4 that no kernel takes are refused");
    ok(tmb_pack_bytes(TMB_PACK_NVFP4, UINT64_MAX / 2, 1 << 20) == 0,
       "a size that overflows is refused");
}

/* ---- on the device -------------------------------------------------------------------------- */

typedef struct problem {
    tmb_pack pack;
    tmb_gate gate;
    bool biased;
    int experts, out, cols, tokens, rows;
    int *offsets, *gather;
    uint16_t *x;
    float *weight; /* [experts, packed rows, cols] decoded, in packed order */
    float *bias;   /* [experts, packed rows] */
    void *d_weights, *d_factor, *d_bias, *d_x, *d_gather, *d_offsets, *d_y, *d_work, *d_tiles;
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
    size_t half = (size_t)(p->gate ? p->out / 2 : p->out), cols = (size_t)p->cols;
    size_t out = (size_t)p->out, n = (size_t)p->experts;
    uint64_t bytes = tmb_pack_bytes(p->pack, out, cols);
    uint8_t *packed = malloc(bytes * n);
    float *factor = malloc(n * 2 * sizeof *factor);
    p->weight = malloc(n * out * cols * sizeof *p->weight);
    p->bias = malloc(n * out * sizeof *p->bias);
    for (size_t e = 0; e < n; e++) {
        parts part[2] = {make_parts(p->pack, half, cols, 0), make_parts(p->pack, half, cols, 0)};
        must(tmb_pack_weight(p->pack, packed + bytes * e, factor + 2 * e, &part[0].m,
                             p->gate ? &part[1].m : NULL, half, cols, err),
             err);
        tmb_unpack_weight(p->pack, p->weight + e * out * cols, packed + bytes * e, factor + 2 * e,
                          p->gate, out, cols);
        for (size_t i = 0; i < out; i++)
            p->bias[e * out + i] = p->biased ? random_float() : 0.0f;
        free_parts(&part[0]);
        free_parts(&part[1]);
    }
    must(tmb_cuda_alloc(gpu, &p->d_weights, bytes * n, err), err);
    must(tmb_cuda_upload(gpu, p->d_weights, packed, bytes * n, err), err);
    must(tmb_cuda_alloc(gpu, &p->d_factor, n * 8, err), err);
    must(tmb_cuda_upload(gpu, p->d_factor, factor, n * 8, err), err);
    must(tmb_cuda_alloc(gpu, &p->d_bias, n * out * 4, err), err);
    must(tmb_cuda_upload(gpu, p->d_bias, p->bias, n * out * 4, err), err);
    free(packed);
    free(factor);
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
        p->gather[r] = (int)(random_bits() % (unsigned)p->tokens);
    size_t n = (size_t)p->tokens * (size_t)p->cols;
    p->x = malloc(n * sizeof *p->x);
    for (size_t i = 0; i < n; i++)
        p->x[i] = tmb_f32_to_bf16(random_float() * 1.4f);
    make_weights(gpu, p, err);
    must(tmb_cuda_alloc(gpu, &p->d_x, n * 2, err), err);
    must(tmb_cuda_upload(gpu, p->d_x, p->x, n * 2, err), err);
    must(tmb_cuda_alloc(gpu, &p->d_gather, (uint64_t)p->rows * 4 + 4, err), err);
    must(tmb_cuda_upload(gpu, p->d_gather, p->gather, (uint64_t)p->rows * 4, err), err);
    must(tmb_cuda_alloc(gpu, &p->d_offsets, (uint64_t)(p->experts + 1) * 4, err), err);
    must(tmb_cuda_upload(gpu, p->d_offsets, p->offsets, (uint64_t)(p->experts + 1) * 4, err), err);
    must(tmb_cuda_alloc(gpu, &p->d_y, (uint64_t)p->rows * (uint64_t)p->out * 2 + 2, err), err);
    must(tmb_cuda_alloc(gpu, &p->d_tiles, tmb_tiles_bytes(p->experts, p->rows), err), err);
}

static tmb_grouped gemm_of(const problem *p)
{
    return (tmb_grouped){.pack = p->pack,
                         .weights = p->d_weights,
                         .factor = p->d_factor,
                         .bias = p->biased ? p->d_bias : NULL,
                         .x = p->d_x,
                         .gather = p->d_gather,
                         .offsets = p->d_offsets,
                         .tiles = p->d_tiles,
                         .y = p->d_y,
                         .experts = p->experts,
                         .cols = p->cols,
                         .out_rows = p->out,
                         .rows = p->rows,
                         .most = p->rows,
                         .gate = p->gate,
                         .alpha = 1.702f,
                         .limit = 3.0f};
}

/* y [rows, width] bf16, the caller's; poisoned with NaN before the launch. */
static uint16_t *run(tmb_cuda *gpu, problem *p, tmb_err *err)
{
    tmb_grouped g = gemm_of(p);
    void *stream = tmb_cuda_stream(gpu);
    uint64_t bytes = (uint64_t)p->rows * (uint64_t)(p->gate ? p->out / 2 : p->out) * 2;
    if (!p->d_work) {
        p->work_bytes = tmb_grouped_workspace(&g);
        must(tmb_cuda_alloc(gpu, &p->d_work, p->work_bytes, err), err);
    }
    must(tmb_cuda_fill(gpu, p->d_work, 0xff, p->work_bytes, err), err);
    must(tmb_cuda_fill(gpu, p->d_y, 0xff, bytes, err), err);
    must(tmb_tiles_make(p->d_tiles, p->d_offsets, p->experts, p->rows, stream, err), err);
    must(tmb_grouped_run(&g, p->d_work, stream, err), err);
    uint16_t *y = malloc(bytes + 2);
    must(tmb_cuda_download(gpu, y, p->d_y, bytes, err), err);
    return y;
}

static double dot(const problem *p, int e, int packed_row, const uint16_t *x)
{
    size_t row = (size_t)e * (size_t)p->out + (size_t)packed_row;
    const float *w = p->weight + row * (size_t)p->cols;
    double sum = 0;
    for (int k = 0; k < p->cols; k++)
        sum += (double)w[k] * (double)tmb_bf16_to_f32(x[k]);
    return sum + (double)p->bias[row];
}

static double gated(tmb_gate gate, double g, double up)
{
    if (gate == TMB_GATE_SWIGLU) return g / (1 + exp(-g)) * up;
    g = fmin(g, 3.0);
    up = fmin(fmax(up, -3.0), 3.0);
    return (up + 1) * g / (1 + exp(-1.702 * g));
}

/* Relative error of y over all rows; NaN when something was not written. */
static double relative_error(const problem *p, const uint16_t *y)
{
    double noise = 0, signal = 0;
    int width = p->gate ? p->out / 2 : p->out;
    for (int e = 0; e < p->experts; e++) {
        for (int r = p->offsets[e]; r < p->offsets[e + 1]; r++) {
            const uint16_t *x = p->x + (size_t)p->gather[r] * (size_t)p->cols;
            for (int o = r % 3; o < width; o += 3) { /* every third output: float64 is slow */
                double want;
                if (p->gate) {
                    int row = o / 8 * 16 + o % 8;
                    want = gated(p->gate, dot(p, e, row, x), dot(p, e, row + 8, x));
                } else {
                    want = dot(p, e, o, x);
                }
                double got = (double)tmb_bf16_to_f32(y[(size_t)r * (size_t)width + (size_t)o]);
                noise += (got - want) * (got - want);
                signal += want * want;
            }
        }
    }
    return signal > 0 ? sqrt(noise / signal) : noise;
}

static void free_problem(tmb_cuda *gpu, problem *p)
{
    void *device[] = {p->d_weights, p->d_factor, p->d_bias, p->d_x,    p->d_gather,
                      p->d_offsets, p->d_y,      p->d_work, p->d_tiles};
    for (size_t i = 0; i < sizeof device / sizeof *device; i++)
        if (device[i]) tmb_cuda_free(gpu, device[i]);
    free(p->offsets);
    free(p->gather);
    free(p->x);
    free(p->weight);
    free(p->bias);
}

static void test_case(tmb_cuda *gpu, const char *what, problem p, const int *loads, int repeats)
{
    static const char *const gate[] = {"", " swiglu", " clamped"};
    tmb_err err = {0};
    make_problem(gpu, &p, loads, &err);
    uint16_t *y = run(gpu, &p, &err);
    double error = relative_error(&p, y);
    size_t width = (size_t)(p.gate ? p.out / 2 : p.out), unwritten = 0;
    for (size_t i = 0; i < (size_t)p.rows * width; i++)
        unwritten += y[i] == 0xffff;
    int same = 1;
    if (getenv("TOMBAC_ONCE")) repeats = 1; /* under compute-sanitizer */
    for (int i = 0; i < repeats && same; i++) {
        uint16_t *again = run(gpu, &p, &err);
        same &= memcmp(again, y, (size_t)p.rows * width * 2) == 0;
        free(again);
    }
    ok(error < 3e-3 && unwritten == 0 && same,
       "%s, %s, %d x %d%s%s: relative error %.2e, the same bits %d times", pack_name[p.pack], what,
       p.out, p.cols, gate[p.gate], p.biased ? " bias" : "", error, repeats);
    free(y);
    free_problem(gpu, &p);
}

/* A row's bits must not depend on how many neighbours it has, hence on the tile class. */
static void test_alone(tmb_cuda *gpu, tmb_pack pack)
{
    tmb_err err = {0};
    static const int sizes[] = {1, 8, 9, 16, 17, 32, 33, 64, 65, 128, 129, 192, 200, 256, 257, 700};
    problem p = {.pack = pack, .experts = 1, .out = 320, .cols = 2880};
    int most = 700, same = 1;
    make_problem(gpu, &p, &most, &err);
    uint16_t *all = run(gpu, &p, &err);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        p.rows = p.offsets[1] = sizes[i];
        must(tmb_cuda_upload(gpu, p.d_offsets, p.offsets, 8, &err), &err);
        uint16_t *some = run(gpu, &p, &err);
        if (memcmp(some, all, (size_t)sizes[i] * 320 * 2)) {
            same = 0;
            printf("# differs alone in %d\n", sizes[i]);
        }
        free(some);
    }
    ok(same, "%s: rows alone in 1 to 700 have the same bits", pack_name[pack]);
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
    static const int shapes[][2] = {{64, 128},  {128, 256},   {320, 96},
                                    {208, 768}, {1024, 1056}, {256, 2880}};
    int turn = 0;
    for (int pack = 0; pack < TMB_PACKS; pack++) {
        for (size_t r = 0; r < sizeof routings / sizeof *routings; r++) {
            for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++, turn++) {
                /* NVFP4 takes all; the others share its kernels and take turns */
                if (pack && (r + s) % 3 != (size_t)pack % 3) continue;
                problem p = {.pack = (tmb_pack)pack,
                             .gate = (tmb_gate)(turn % 3),
                             .biased = turn % 5 < 2,
                             .experts = 6,
                             .out = shapes[s][0],
                             .cols = shapes[s][1]};
                test_case(gpu, routings[r].what, p, routings[r].loads, 20);
            }
        }
        test_alone(gpu, (tmb_pack)pack);
    }
    problem p = {.experts = 6, .out = 256, .cols = 512, .gate = TMB_GATE_SWIGLU};
    test_case(gpu, "many times", p, routings[3].loads, 10000);
    test_case(gpu, "many times", p, routings[5].loads, 2000);
}

int main(void)
{
    for (int pack = 0; pack < TMB_PACKS; pack++) {
        test_pack((tmb_pack)pack, 64, 128, 0);
        test_pack((tmb_pack)pack, 48, 96, 0);
        test_pack((tmb_pack)pack, 200, 288, 0);
        test_pack((tmb_pack)pack, 40, 160, 1);
        test_pack((tmb_pack)pack, 64, 2880, 1);
    }
    test_refusals();
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
