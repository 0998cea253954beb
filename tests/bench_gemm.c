/* Times the 4-bit grouped GEMM against the machine's own floor, measured in the same run.
 *
 *   bench_gemm [MODEL]      one line a shape: model, projection, tokens, routing, us, floor, ratio
 *
 * floor = the larger of (touched packed weights + activations + results once, at the rate a kernel
 * that only reads reaches at that size) and (2 * rows * out * cols at BF16_TFLOPS, 785, what cuBLAS
 * sustains). Weights are random and rotated so that none is found in L2; the routing of every
 * launch in the graph differs; median of 21 replays. */
#include "config.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/read.h"
#include "kernels/cuda/grouped.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REPLAYS = 21, POOL_MB = 2200, SETS_MAX = 48 };
#define BF16_TFLOPS 785.0

typedef struct shape {
    const char *model;
    int hidden, inter, experts, top_k;
} shape;

static const shape shapes[] = {
    {"mixtral-8x7b", 4096, 14336, 8, 2},
    {"qwen3-30b-a3b", 2048, 768, 128, 8},
    {"deepseek-v3-ep8", 7168, 2048, 32, 1},
    {"gpt-oss-120b", 2880, 2880, 128, 4},
};

typedef struct bench {
    tmb_cuda *gpu;
    tmb_err err;
    unsigned char *pool; /* device */
    void *x, *y, *work, *factor, *tiles, *sink;
    void *gather[SETS_MAX], *offsets[SETS_MAX];
    uint64_t state;
} bench;

static void must(bench *b, tmb_status status)
{
    if (!status) return;
    fprintf(stderr, "bench_gemm: %s\n", b->err.message);
    exit(status);
}

static uint32_t next(bench *b)
{
    b->state ^= b->state << 13;
    b->state ^= b->state >> 7;
    b->state ^= b->state << 17;
    return (uint32_t)(b->state >> 16);
}

static double uniform(bench *b)
{
    return (next(b) + 0.5) / 4294967296.0;
}

/* The whole pool becomes blobs of random codes with scales near one. */
static void fill_pool(bench *b)
{
    uint64_t bytes = (uint64_t)TMB_BLOB_BYTES_4 * 4096, pool = (uint64_t)POOL_MB << 20;
    unsigned char *host = malloc(bytes);
    for (uint64_t i = 0; i < bytes; i++) {
        uint32_t r = next(b);
        host[i] = (unsigned char)(i % TMB_BLOB_BYTES_4 < TMB_BLOB_CODES ? r : 0x40 + r % 24);
    }
    must(b, tmb_cuda_alloc(b->gpu, (void **)&b->pool, pool, &b->err));
    for (uint64_t at = 0; at < pool; at += bytes)
        must(b, tmb_cuda_upload(b->gpu, b->pool + at, host, at + bytes < pool ? bytes : pool - at,
                                &b->err));
    free(host);
}

/* n elements of bf16, a pattern of 32 Mi normal numbers repeated. */
static void fill_normal(bench *b, void *device, uint64_t n)
{
    uint64_t period = (uint64_t)1 << 25;
    uint16_t *host = malloc(period * 2);
    for (uint64_t i = 0; i < period; i++) {
        float v = (float)(sqrt(-2 * log(uniform(b))) * cos(6.283185307179586 * uniform(b)));
        uint32_t u;
        memcpy(&u, &v, 4);
        host[i] = (uint16_t)(u >> 16);
    }
    for (uint64_t at = 0; at < n; at += period)
        must(b, tmb_cuda_upload(b->gpu, (char *)device + at * 2, host,
                                (at + period < n ? period : n - at) * 2, &b->err));
    free(host);
}

/* top_k different experts a token; zipf: expert i is chosen with weight 1 / (i + 1), in random
 * order. */
static int route(bench *b, const shape *s, int tokens, int zipf, int *offsets, int *gather)
{
    int *pick = malloc((size_t)tokens * (size_t)s->top_k * sizeof *pick), touched = 0;
    int *count = calloc((size_t)s->experts, sizeof *count);
    double *weight = malloc((size_t)s->experts * sizeof *weight);
    int *order = malloc((size_t)s->experts * sizeof *order);
    for (int i = 0; i < s->experts; i++)
        order[i] = i;
    for (int i = s->experts - 1; i > 0; i--) {
        int j = (int)(next(b) % (unsigned)(i + 1)), t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
    for (int i = 0; i < s->experts; i++)
        weight[order[i]] = zipf ? 1.0 / (i + 1) : 1.0;
    for (int t = 0; t < tokens; t++) {
        double total = 0;
        for (int e = 0; e < s->experts; e++)
            total += weight[e];
        for (int k = 0; k < s->top_k; k++) {
            int e, again;
            do {
                double u = uniform(b) * total;
                for (e = 0; e < s->experts - 1 && (u -= weight[e]) > 0; e++) {
                }
                again = 0;
                for (int j = 0; j < k; j++)
                    again |= pick[t * s->top_k + j] == e;
            } while (again);
            pick[t * s->top_k + k] = e;
            count[e]++;
        }
    }
    offsets[0] = 0;
    for (int e = 0; e < s->experts; e++) {
        offsets[e + 1] = offsets[e] + count[e];
        touched += count[e] > 0;
        count[e] = offsets[e];
    }
    for (int i = 0; i < tokens * s->top_k; i++)
        gather[count[pick[i]]++] = i / s->top_k;
    free(pick);
    free(count);
    free(weight);
    free(order);
    return touched;
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double median_us(bench *b, int launches)
{
    float us[REPLAYS + 3];
    must(b, tmb_cuda_graph_time(b->gpu, us, REPLAYS + 3, &b->err));
    qsort(us + 3, REPLAYS, sizeof *us, by_value);
    return us[3 + REPLAYS / 2] / launches;
}

/* us that a kernel which only reads needs for this many bytes, rotated through the pool. */
static double read_us(bench *b, double bytes)
{
    uint64_t n = ((uint64_t)bytes + 255) / 256 * 256, pool = (uint64_t)POOL_MB << 20;
    if (n > pool) return bytes / (double)pool * read_us(b, (double)pool);
    int sets = (int)(pool / n), launches = sets < 2 ? 2 : sets > 32 ? 32 : sets;
    must(b, tmb_cuda_graph_begin(b->gpu, &b->err));
    for (int i = 0; i < launches; i++)
        must(b, tmb_cuda_read(b->pool + (uint64_t)(i % (sets ? sets : 1)) * n, n, b->sink,
                              tmb_cuda_stream(b->gpu), &b->err));
    must(b, tmb_cuda_graph_end(b->gpu, &b->err));
    return median_us(b, launches);
}

static double geometric[2][32];
static int counted[2][32];

static void one(bench *b, const shape *s, int tokens, int zipf, int up, int column)
{
    int cols = up ? s->hidden : s->inter, out = up ? 2 * s->inter : s->hidden,
        rows = tokens * s->top_k;
    uint64_t one_expert = tmb_pack_bytes(TMB_PACK_NVFP4, (uint64_t)out, (uint64_t)cols),
             all = one_expert * (uint64_t)s->experts;
    int sets = (int)(((uint64_t)POOL_MB << 20) / all),
        *offsets = malloc((size_t)(s->experts + 1) * 4);
    int *gather = malloc((size_t)rows * 4), expect = rows < s->experts ? rows : s->experts;
    int launches = (int)(4e8 / ((double)one_expert * expect)) + 2;
    if (launches > SETS_MAX) launches = SETS_MAX;
    double touched = 0;
    for (int i = 0; i < launches; i++) {
        touched += route(b, s, tokens, zipf, offsets, gather);
        must(b, tmb_cuda_upload(b->gpu, b->offsets[i], offsets, (uint64_t)(s->experts + 1) * 4,
                                &b->err));
        must(b, tmb_cuda_upload(b->gpu, b->gather[i], gather, (uint64_t)rows * 4, &b->err));
    }
    touched /= launches;
    must(b, tmb_cuda_graph_begin(b->gpu, &b->err));
    for (int i = 0; i < launches; i++) {
        tmb_grouped g = {.weights = b->pool + (uint64_t)(i % sets) * all,
                         .factor = b->factor,
                         .tiles = b->tiles,
                         .x = b->x,
                         .gather = up ? b->gather[i] : NULL,
                         .offsets = b->offsets[i],
                         .y = b->y,
                         .experts = s->experts,
                         .cols = cols,
                         .out_rows = out,
                         .rows = rows,
                         .most = tokens,
                         .gate = up ? TMB_GATE_SWIGLU : TMB_GATE_NONE};
        must(b, tmb_tiles_make(b->tiles, g.offsets, g.experts, rows, tmb_cuda_stream(b->gpu),
                               &b->err));
        must(b, tmb_grouped_run(&g, b->work, tmb_cuda_stream(b->gpu), &b->err));
    }
    must(b, tmb_cuda_graph_end(b->gpu, &b->err));
    double us = median_us(b, launches), weights = touched * (double)one_expert;
    double bytes =
        weights + ((double)(up ? tokens : rows) * cols + (double)rows * (up ? out / 2 : out)) * 2;
    double flops = 2.0 * rows * out * cols, read = read_us(b, bytes),
           math = flops / BF16_TFLOPS / 1e6;
    double floor = read > math ? read : math;
    printf("%-16s %-4s %6d %-7s %9.1f us  floor %8.1f %s  %5.2f x   %5.2f TB/s  %6.1f TF\n",
           s->model, up ? "up" : "down", tokens, zipf ? "zipf" : "uniform", us, floor,
           read > math ? "mem" : "mma", us / floor, weights / us / 1e6, flops / us / 1e6);
    fflush(stdout);
    geometric[zipf][column] += log(us / floor);
    counted[zipf][column]++;
    free(offsets);
    free(gather);
}

int main(int argc, char **argv)
{
    static const int tokens[] = {1, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384};
    enum { N = sizeof tokens / sizeof *tokens };
    bench b = {.state = 88172645463325252ull};
    must(&b, tmb_cuda_open(&b.gpu, 0, &b.err));
    const tmb_cuda_info *info = tmb_cuda_about(b.gpu);
    printf("%s, capability %d.%d, %d processors\n", info->name, info->major, info->minor,
           info->processors);
    fill_pool(&b);
    uint64_t wide =
        (uint64_t)16384 * 8 * 14336; /* elements of the largest activations and results */
    must(&b, tmb_cuda_alloc(b.gpu, &b.x, wide * 2 / 4, &b.err));
    must(&b, tmb_cuda_alloc(b.gpu, &b.y, wide * 2 / 2, &b.err));
    must(&b, tmb_cuda_alloc(b.gpu, &b.work, wide * 2, &b.err));
    must(&b, tmb_cuda_alloc(b.gpu, &b.factor, 8192, &b.err));
    must(&b, tmb_cuda_alloc(b.gpu, &b.tiles, tmb_tiles_bytes(1024, 16384 * 8), &b.err));
    must(&b, tmb_cuda_alloc(b.gpu, &b.sink, 4096, &b.err));
    fill_normal(&b, b.x, wide / 4);
    float *ones = malloc(8192);
    for (int i = 0; i < 2048; i++)
        ones[i] = 0x1p26f / 64;
    must(&b, tmb_cuda_upload(b.gpu, b.factor, ones, 8192, &b.err));
    for (int i = 0; i < SETS_MAX; i++) {
        must(&b, tmb_cuda_alloc(b.gpu, &b.gather[i], 16384 * 8 * 4, &b.err));
        must(&b, tmb_cuda_alloc(b.gpu, &b.offsets[i], 1025 * 4, &b.err));
    }
    for (size_t m = 0; m < sizeof shapes / sizeof *shapes; m++) {
        if (argc > 1 && strcmp(argv[1], shapes[m].model)) continue;
        for (int t = 0; t < N; t++)
            for (int up = 1; up >= 0; up--)
                one(&b, &shapes[m], tokens[t], 0, up, t);
        for (int up = 1; up >= 0; up--)
            one(&b, &shapes[m], 256, 1, up, 6);
    }
    printf("\ngeometric mean over the floor\n");
    for (int z = 0; z < 2; z++)
        for (int t = 0; t < N; t++)
            if (counted[z][t])
                printf("  T = %-6d %-8s %5.2f\n", tokens[t], z ? "zipf" : "uniform",
                       exp(geometric[z][t] / counted[z][t]));
    free(ones);
    tmb_cuda_close(b.gpu);
    return 0;
}
