/* bench_ops - how fast each table runs each operation, in GB/s of float32 on the one side, and as
 * a ratio to memcpy of the same floats in the same run.
 *
 *     make tests/bench_ops && tests/bench_ops [MIB]
 *
 * Best of several runs on one thread; MIB (64) is the size of the float array. */
#include "config.h"
#include "kernels/cpu/cpu.h"
#include "moe/format/formats.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct bench {
    const tmb_ops *ops;
    const tmb_format *format;
    tmb_scale_rule rule;
    size_t n;       /* floats */
    float *x, *y;   /* [n] */
    float *scale;   /* [n / 16] */
    uint8_t *bytes; /* [4 n] */
    float *work;
} bench;

enum { COLS = 4096 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void run_copy(bench *b)
{
    memcpy(b->y, b->x, b->n * sizeof *b->x);
}
static void run_decode_bf16(bench *b)
{
    b->ops->decode(b->y, b->bytes, TMB_BF16, b->n);
}
static void run_decode_f16(bench *b)
{
    b->ops->decode(b->y, b->bytes, TMB_F16, b->n);
}
static void run_to_bf16(bench *b)
{
    b->ops->to_bf16((uint16_t *)(void *)b->bytes, b->x, b->n);
}
static void run_amax(bench *b)
{
    b->scale[0] = b->ops->amax(b->x, b->n);
}
static void run_block_amax(bench *b)
{
    b->ops->block_amax(b->y, b->x, b->n / 16, 16);
}
static void run_encode_e2m1(bench *b)
{
    b->ops->encode_e2m1(b->bytes, b->x, b->scale, b->n / 16, 16);
}
static void run_encode_e4m3(bench *b)
{
    b->ops->encode_e4m3(b->bytes, b->x, b->scale, b->n / 128, 128);
}
static void run_encode_int4(bench *b)
{
    b->ops->encode_int4(b->bytes, b->x, b->scale, b->n / 128, 128);
}
static void run_decode_e2m1(bench *b)
{
    b->ops->decode_e2m1(b->y, b->bytes, b->scale, b->n / 16, 16);
}
static void run_decode_e4m3(bench *b)
{
    b->ops->decode_e4m3(b->y, b->bytes, b->scale, b->n / 128, 128);
}
static void run_decode_int4(bench *b)
{
    b->ops->decode_int4(b->y, b->bytes, b->scale, b->n / 128, 128);
}
static void run_compare(bench *b)
{
    tmb_sums sums = {0};
    b->ops->compare(&sums, b->x, b->y, b->n);
    b->scale[0] = sums.noise > 0 ? 0.01f : 0.02f;
}

static void run_format(bench *b)
{
    uint8_t *scales = (uint8_t *)b->y;
    for (size_t i = 0; i + TMB_TILE_ROWS * COLS <= b->n; i += TMB_TILE_ROWS * COLS)
        b->format->encode(b->format, b->ops, b->rule, b->x + i, TMB_TILE_ROWS, COLS, 0.0002f,
                          b->bytes + i, scales + i, b->work);
}

static double measure(bench *b, void (*run)(bench *))
{
    double best = 1e9, begin = now();
    for (int i = 0; i < 3 || (i < 20 && now() - begin < 0.3); i++) {
        double t = now();
        run(b);
        t = now() - t;
        if (t < best) best = t;
    }
    return (double)b->n * sizeof(float) / best * 1e-9;
}

static const struct {
    const char *name;
    void (*run)(bench *);
} operations[] = {
    {"decode bf16", run_decode_bf16},  {"decode f16", run_decode_f16},
    {"to_bf16", run_to_bf16},          {"amax", run_amax},
    {"block_amax 16", run_block_amax}, {"encode_e2m1", run_encode_e2m1},
    {"encode_e4m3", run_encode_e4m3},  {"encode_int4", run_encode_int4},
    {"decode_e2m1", run_decode_e2m1},  {"decode_e4m3", run_decode_e4m3},
    {"decode_int4", run_decode_int4},  {"compare", run_compare},
};

static void print_row(bench *b, const char *name, void (*run)(bench *), double copy)
{
    printf("%-18s", name);
    for (int k = 0; (b->ops = tmb_cpu_ops_at(k)); k++) {
        double rate = measure(b, run);
        printf("  %8.2f (%4.2f)", rate, rate / copy);
    }
    putchar('\n');
    fflush(stdout);
}

int main(int argc, char **argv)
{
    size_t mib = argc > 1 ? strtoul(argv[1], NULL, 10) : 64;
    bench b = {.n = (mib ? mib : 1) << 18};
    b.x = malloc(b.n * sizeof *b.x);
    b.y = calloc(b.n, sizeof *b.y);
    b.scale = malloc((b.n / 16) * sizeof *b.scale);
    b.bytes = calloc(b.n, 4);
    b.work = malloc(tmb_format_work(COLS) * sizeof *b.work);
    if (!b.x || !b.y || !b.scale || !b.bytes || !b.work) return 1;
    uint32_t random = 1;
    for (size_t i = 0; i < b.n; i++) {
        float sum = -2.0f;
        for (int k = 0; k < 4; k++)
            sum += (float)((random = random * 1664525u + 1013904223u) >> 8) * 0x1p-24f;
        b.x[i] = 0.1f * sum;
    }
    for (size_t i = 0; i < b.n / 16; i++)
        b.scale[i] = 0.01f + (float)i * 1e-9f;
    double copy = measure(&b, run_copy);
    printf("memcpy %.2f GB/s of float32; each: GB/s (ratio to memcpy)\n%-18s", copy, "");
    for (int k = 0; (b.ops = tmb_cpu_ops_at(k)); k++)
        printf("  %15s", b.ops->name);
    putchar('\n');
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
        print_row(&b, operations[i].name, operations[i].run, copy);
    for (int i = 0; (b.format = tmb_format_at(i)); i++) {
        b.rule = TMB_SCALE_MAX;
        print_row(&b, b.format->name, run_format, copy);
    }
    b.format = tmb_format_find("nvfp4");
    b.rule = TMB_SCALE_MSE;
    if (b.n > 1 << 21) b.n = 1 << 21; /* the reference tries all 126 scales */
    print_row(&b, "nvfp4 mse", run_format, copy);
    free(b.x);
    free(b.y);
    free(b.scale);
    free(b.bytes);
    free(b.work);
    return 0;
}
