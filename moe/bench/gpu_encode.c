#include "config.h"
#include "moe/bench/gpu_pool.h"

#include "kernels/cuda/quantize.h"
#include "moe/bench/random.h"
#include "moe/format/formats.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS = 32768, COLS = 8192, REPLAYS = 21, WARM = 3 };

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static tmb_status median(tmb_cuda *gpu, double *us, tmb_err *err)
{
    float all[REPLAYS + WARM];
    TRY(tmb_cuda_graph_end(gpu, err));
    TRY(tmb_cuda_graph_time(gpu, all, REPLAYS + WARM, err));
    qsort(all + WARM, REPLAYS, sizeof *all, by_value);
    *us = (double)all[WARM + REPLAYS / 2];
    return TMB_OK;
}

/* What one weight's job takes besides: NVFP4 by searched scales, and the error sums. */
static tmb_status measure_more(tmb_cuda *gpu, void *x, void *codes, void *scales, float *global,
                               tmb_gpu_encode_row *rows, int *n, tmb_err *err)
{
    const uint64_t count = (uint64_t)ROWS * COLS, piece = 4;
    void *sums, *stream = tmb_cuda_stream(gpu);
    TRY(tmb_cuda_alloc(gpu, &sums, tmb_cuda_pieces(ROWS, piece) * sizeof(tmb_sums), err));
    for (int i = 0; i < 2; i++) {
        TRY(tmb_cuda_graph_begin(gpu, err));
        if (i == 0)
            TRY(tmb_cuda_encode(TMB_ENC_NVFP4_MSE, codes, scales, x, TMB_BF16, ROWS, COLS, global,
                                stream, err));
        else
            TRY(tmb_cuda_compare(TMB_ENC_NVFP4_MSE, sums, codes, scales, x, TMB_BF16, ROWS, COLS,
                                 piece, global, stream, err));
        rows[*n] = (tmb_gpu_encode_row){.format = i ? "nvfp4 sums" : "nvfp4 mse",
                                        .bytes = (2.0 + 0.5 + 1.0 / 16) * (double)count};
        TRY(median(gpu, &rows[(*n)++].us, err));
    }
    return TMB_OK;
}

static tmb_status measure(tmb_cuda *gpu, tmb_gpu_encode_row *rows, int *n, tmb_err *err)
{
    const uint64_t count = (uint64_t)ROWS * COLS, some = count / 16;
    void *x, *codes, *scales, *stream = tmb_cuda_stream(gpu);
    float *global;
    TRY(tmb_cuda_alloc(gpu, &x, count * 2, err));
    TRY(tmb_cuda_alloc(gpu, &codes, count, err));
    TRY(tmb_cuda_alloc(gpu, &scales, count / 4, err));
    TRY(tmb_cuda_alloc(gpu, (void **)&global, 4, err));
    uint16_t *host = malloc(some * 2);
    if (!host) return tmb_fail_memory(err, some * 2, "random weights");
    tmb_random_bf16(host, some, 7, 0.02f);
    tmb_status status = TMB_OK;
    for (int i = 0; i < 16 && !status; i++)
        status = tmb_cuda_upload(gpu, (uint16_t *)x + (uint64_t)i * some, host, some * 2, err);
    free(host);
    TRY(status);
    TRY(tmb_cuda_fill(gpu, global, 0, 4, err));
    TRY(tmb_cuda_graph_begin(gpu, err));
    TRY(tmb_cuda_amax(global, x, TMB_BF16, count, stream, err));
    rows[*n] = (tmb_gpu_encode_row){.format = "amax", .bytes = 2.0 * (double)count};
    TRY(median(gpu, &rows[(*n)++].us, err));
    TRY(tmb_cuda_global_scale(TMB_ENC_NVFP4, global, global, stream, err));
    const tmb_format *f;
    for (int i = 0; (f = tmb_format_at(i)) && *n < TMB_GPU_ENCODES - 2; i++) {
        tmb_encoder encoder = tmb_encoder_find(f->name);
        tmb_geometry part, scale = {0};
        if (encoder == TMB_ENCODERS || strcmp(f->name, "nvfp4-w4a16") == 0) continue;
        f->part(f, TMB_PART_CODES, ROWS, COLS, &part);
        f->part(f, TMB_PART_SCALE, ROWS, COLS, &scale);
        TRY(tmb_cuda_graph_begin(gpu, err));
        TRY(tmb_cuda_encode(encoder, codes, scales, x, TMB_BF16, ROWS, COLS, global, stream, err));
        rows[*n] = (tmb_gpu_encode_row){
            .format = f->name, .bytes = 2.0 * (double)count + (double)(part.bytes + scale.bytes)};
        TRY(median(gpu, &rows[(*n)++].us, err));
    }
    return measure_more(gpu, x, codes, scales, global, rows, n, err);
}

tmb_status tmb_bench_gpu_encode(int device, tmb_gpu_rates *rates, tmb_gpu_encode_row *rows, int *n,
                                tmb_err *err)
{
    tmb_cuda *gpu;
    *n = 0;
    *rates = (tmb_gpu_rates){0};
    TRY(tmb_cuda_open(&gpu, device, err));
    tmb_status status = tmb_gpu_measure(gpu, rates, err);
    if (!status) status = measure(gpu, rows, n, err);
    tmb_cuda_close(gpu);
    return status;
}
