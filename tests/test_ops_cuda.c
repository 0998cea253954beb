/* The GPU's quantize kernels against the formats of moe/format on the processor: the same bytes for
 * every encoder, width and kind of number. */
#include "config.h"
#include "kernels/base/codec.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/quantize.h"
#include "moe/format/formats.h"
#include "tests/random.h"
#include "tests/tap.h"

#include <math.h>
#include <string.h>

static void must(tmb_status status, const tmb_err *err)
{
    if (!status) return;
    printf("Bail out! %s\n", err->message);
    exit(1);
}

/* Kinds of weights: what makes scales and quotients take every path. */
enum { PLAIN, TINY, LARGE, WIDE, ZEROS, STEPS, KINDS };
static const char *const kind_name[] = {"normal",       "tiny",  "large",
                                        "many binades", "zeros", "points of rounding"};

static float draw(int kind)
{
    static const float points[] = {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f,
                                   5,     6,     0,     -0.0f, 0.5f, 448};
    float v = random_float();
    switch (kind) {
    case TINY:
        return v * 0x1p-125f;
    case LARGE:
        return v * 0x1p124f;
    case WIDE:
        return v * tmb_f32_from_bits((127 - 100 + random_bits() % 160) << 23);
    case ZEROS:
        return random_bits() % 64 ? (random_bits() % 2 ? 0.0f : -0.0f) : v;
    case STEPS:
        return points[random_bits() % 12] * (random_bits() % 2 ? 1.0f : -1.0f);
    default:
        return v * 0.05f;
    }
}

typedef struct buffers {
    tmb_cuda *gpu;
    void *x, *codes, *scales, *number, *sums;
    size_t room; /* elements */
} buffers;

/* Values of x as the GPU will see them, in float32 too. */
static void fill(float *x, uint16_t *half, size_t n, int kind, tmb_dtype dtype)
{
    for (size_t i = 0; i < n; i++) {
        x[i] = draw(kind);
        if (dtype != TMB_BF16) continue;
        half[i] = tmb_f32_to_bf16(x[i]);
        x[i] = tmb_bf16_to_f32(half[i]);
    }
}

static void encode_cpu(const tmb_format *f, tmb_scale_rule rule, const float *x, size_t rows,
                       size_t cols, float global, uint8_t *codes, uint8_t *scales)
{
    const tmb_ops *ops = tmb_cpu_ops();
    float *work = malloc(tmb_format_work(cols) * sizeof *work);
    tmb_geometry code_part, scale_part = {0};
    f->part(f, TMB_PART_CODES, rows, cols, &code_part);
    bool scaled = f->part(f, TMB_PART_SCALE, rows, cols, &scale_part);
    for (size_t r = 0; r < rows; r += TMB_TILE_ROWS)
        f->encode(f, ops, rule, x + r * cols,
                  rows - r < TMB_TILE_ROWS ? rows - r : TMB_TILE_ROWS, cols, global,
                  codes + tmb_format_row_offset(&code_part, rows, r),
                  scaled ? scales + tmb_format_row_offset(&scale_part, rows, r) : NULL, work);
    free(work);
}

/* The error of each piece, as the jobs of the processor add it up. */
static void compare_cpu(const tmb_format *f, const float *x, size_t rows, size_t cols, size_t piece,
                        float global, const uint8_t *codes, const uint8_t *scales, tmb_sums *sums)
{
    const tmb_ops *ops = tmb_cpu_ops();
    float *work = malloc(tmb_format_work(cols) * sizeof *work);
    float *y = malloc(piece * cols * sizeof *y);
    tmb_geometry code_part, scale_part = {0};
    f->part(f, TMB_PART_CODES, rows, cols, &code_part);
    bool scaled = f->part(f, TMB_PART_SCALE, rows, cols, &scale_part);
    bool tall = scaled && scale_part.shape[0] != rows;
    for (size_t tile = 0; tile < rows; tile += TMB_TILE_ROWS)
        for (size_t r = tile; r < rows && r < tile + TMB_TILE_ROWS; r += piece) {
            size_t n = tile + TMB_TILE_ROWS - r < piece ? tile + TMB_TILE_ROWS - r : piece;
            if (rows - r < n) n = rows - r;
            size_t line = scaled ? scale_part.bytes / scale_part.shape[0] : 0;
            f->decode(f, ops, y, n, cols, codes + r * (code_part.bytes / rows),
                      scales + (tall ? r / TMB_TILE_ROWS : r) * line, global, work);
            *sums = (tmb_sums){0};
            ops->compare(sums++, x + r * cols, y, n * cols);
        }
    free(work);
    free(y);
}

static size_t sums_wrong(buffers *b, tmb_encoder encoder, const tmb_format *f, const float *x,
                         tmb_dtype dtype, size_t rows, size_t cols, float global,
                         const uint8_t *codes, const uint8_t *scales)
{
    static const size_t pieces[] = {128, 16, 11, 1};
    tmb_err err = {0};
    size_t wrong = 0;
    for (int i = encoder == TMB_ENC_FP8_BLOCK ? 3 : 0; i < 4; i++) {
        size_t piece = encoder == TMB_ENC_FP8_BLOCK ? 128 : pieces[i];
        size_t n = tmb_cuda_pieces(rows, piece), bytes = n * sizeof(tmb_sums);
        tmb_sums *want = calloc(n, sizeof *want), *got = malloc(bytes);
        compare_cpu(f, x, rows, cols, piece, global, codes, scales, want);
        must(tmb_cuda_fill(b->gpu, b->sums, 0xa5, bytes, &err), &err);
        must(tmb_cuda_compare(encoder, b->sums, b->codes, b->scales, b->x, dtype, rows, cols,
                              piece, b->number, tmb_cuda_stream(b->gpu), &err),
             &err);
        must(tmb_cuda_download(b->gpu, got, b->sums, bytes, &err), &err);
        for (size_t k = 0; k < n; k++)
            wrong += memcmp(&want[k], &got[k], sizeof *got) != 0;
        free(want);
        free(got);
    }
    return wrong;
}

static void compare(buffers *b, const tmb_format *f, tmb_scale_rule rule, size_t rows, size_t cols,
                    int kind, tmb_dtype dtype)
{
    tmb_err err = {0};
    size_t n = rows * cols;
    float *x = malloc(n * 4 + 4), global = 1.0f, amax = 0.0f;
    uint16_t *half = malloc(n * 2 + 2);
    fill(x, half, n, kind, dtype);
    tmb_encoder encoder =
        rule == TMB_SCALE_MSE ? TMB_ENC_NVFP4_MSE : tmb_encoder_find(f->name);
    void *stream = tmb_cuda_stream(b->gpu);
    must(tmb_cuda_upload(b->gpu, b->x, dtype == TMB_BF16 ? (void *)half : x,
                         n * (dtype == TMB_BF16 ? 2 : 4), &err),
         &err);
    must(tmb_cuda_fill(b->gpu, b->number, 0, 4, &err), &err);
    must(tmb_cuda_amax(b->number, b->x, dtype, n, stream, &err), &err);
    must(tmb_cuda_download(b->gpu, &amax, b->number, 4, &err), &err);
    if (f->global_scale) {
        must(tmb_cuda_global_scale(encoder, b->number, b->number, stream, &err), &err);
        must(tmb_cuda_download(b->gpu, &global, b->number, 4, &err), &err);
    }
    float want_amax = tmb_cpu_ops()->amax(x, n);
    float want_global = f->global_scale ? f->global_scale(want_amax) : 1.0f;
    tmb_geometry part = {0}, scale_part = {0};
    f->part(f, TMB_PART_CODES, rows, cols, &part);
    f->part(f, TMB_PART_SCALE, rows, cols, &scale_part);
    uint8_t *want = calloc(1, part.bytes + 1), *got = malloc(part.bytes + 1);
    uint8_t *want_scale = calloc(1, scale_part.bytes + 1), *scale = malloc(scale_part.bytes + 1);
    encode_cpu(f, rule, x, rows, cols, want_global, want, want_scale);
    must(tmb_cuda_fill(b->gpu, b->codes, 0xa5, part.bytes, &err), &err);
    must(tmb_cuda_fill(b->gpu, b->scales, 0xa5, scale_part.bytes + 4, &err), &err);
    must(tmb_cuda_encode(encoder, b->codes, b->scales, b->x, dtype, rows, cols, b->number, stream,
                         &err),
         &err);
    must(tmb_cuda_download(b->gpu, got, b->codes, part.bytes, &err), &err);
    must(tmb_cuda_download(b->gpu, scale, b->scales, scale_part.bytes, &err), &err);
    size_t wrong = 0, wrong_scale = 0;
    for (size_t i = 0; i < part.bytes; i++)
        wrong += got[i] != want[i];
    for (size_t i = 0; i < scale_part.bytes; i++)
        wrong_scale += scale[i] != want_scale[i];
    size_t wrong_sums =
        sums_wrong(b, encoder, f, x, dtype, rows, cols, want_global, want, want_scale);
    ok(wrong == 0 && wrong_scale == 0 && wrong_sums == 0 && amax == want_amax &&
           global == want_global,
       "%s%s, %zu x %zu, %s, %s: %zu codes, %zu scale bytes and %zu sums differ", f->name,
       rule == TMB_SCALE_MSE ? " searched" : "", rows, cols, kind_name[kind],
       tmb_dtype_name(dtype), wrong, wrong_scale, wrong_sums);
    free(x);
    free(half);
    free(want);
    free(got);
    free(want_scale);
    free(scale);
}

static void test_amax(buffers *b)
{
    static const float odd[] = {INFINITY, -INFINITY, NAN};
    tmb_err err = {0};
    float x[100], got = 0;
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 100; j++)
            x[j] = random_float();
        x[10] = odd[0];
        x[77] = odd[i];
        must(tmb_cuda_upload(b->gpu, b->x, x, sizeof x, &err), &err);
        must(tmb_cuda_fill(b->gpu, b->number, 0, 4, &err), &err);
        must(tmb_cuda_amax(b->number, b->x, TMB_F32, 100, tmb_cuda_stream(b->gpu), &err), &err);
        must(tmb_cuda_download(b->gpu, &got, b->number, 4, &err), &err);
        float want = tmb_cpu_ops()->amax(x, 100);
        ok(memcmp(&got, &want, 4) == 0, "largest magnitude beside %g", (double)odd[i]);
    }
}

static void test_device(tmb_cuda *gpu)
{
    static const size_t shapes[][2] = {{1, 128},  {3, 384},   {128, 128}, {129, 256},
                                       {7, 2944}, {300, 640}, {64, 4096}};
    static const size_t ragged[][2] = {{1, 1}, {5, 7}, {130, 131}, {17, 200}};
    buffers b = {.gpu = gpu, .room = 1 << 19};
    tmb_err err = {0};
    must(tmb_cuda_alloc(gpu, &b.x, b.room * 4, &err), &err);
    must(tmb_cuda_alloc(gpu, &b.codes, b.room, &err), &err);
    must(tmb_cuda_alloc(gpu, &b.scales, b.room * 4, &err), &err);
    must(tmb_cuda_alloc(gpu, &b.number, 4, &err), &err);
    must(tmb_cuda_alloc(gpu, &b.sums, 1 << 16, &err), &err);
    test_amax(&b);
    const tmb_format *f;
    for (int i = 0; (f = tmb_format_at(i)); i++) {
        if (tmb_encoder_find(f->name) == TMB_ENCODERS) continue;
        for (int kind = 0; kind < KINDS; kind++) {
            for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
                for (int rule = TMB_SCALE_MAX; rule <= (f->can_mse ? TMB_SCALE_MSE : TMB_SCALE_MAX);
                     rule++)
                    compare(&b, f, (tmb_scale_rule)rule, shapes[s][0], shapes[s][1], kind,
                            s % 2 ? TMB_F32 : TMB_BF16);
            for (size_t s = 0; f->col_multiple == 1 && s < sizeof ragged / sizeof *ragged; s++)
                compare(&b, f, TMB_SCALE_MAX, ragged[s][0], ragged[s][1], kind, s % 2 ? TMB_F32 : TMB_BF16);
        }
    }
}

int main(void)
{
    tmb_err err = {0};
    tmb_cuda *gpu = NULL;
    ok(tmb_encoder_find("nvfp4-w4a16") == TMB_ENC_NVFP4 &&
           tmb_encoder_find("bf16") == TMB_ENCODERS,
       "encodings go by the formats' names");
    if (tmb_cuda_open(&gpu, 0, &err))
        ok(1, "bytes on the device # SKIP %s", err.message);
    else
        test_device(gpu);
    tmb_cuda_close(gpu);
    return done();
}
