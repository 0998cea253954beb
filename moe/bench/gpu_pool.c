#include "config.h"
#include "moe/bench/gpu_pool.h"

#include "kernels/base/codec.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cuda/blas.h"
#include "kernels/cuda/read.h"
#include "moe/bench/random.h"
#include "moe/format/formats.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ASSUMED_TF 785.0 /* cuBLAS in BF16 on an H200, random data */

/* The shapes that doc/kernel-notes.md compares with other libraries; the last one stands beside its
 * eighth. */
enum { COMPARED = 4 };
static const tmb_gpu_model models[] = {
    {"mixtral-8x7b", 4096, 14336, 8, 2},    {"qwen3-30b-a3b", 2048, 768, 128, 8},
    {"deepseek-v3-ep8", 7168, 2048, 32, 1}, {"gpt-oss-120b", 2880, 2880, 128, 4},
    {"deepseek-v3", 7168, 2048, 256, 8},
};

const tmb_gpu_model *tmb_gpu_model_at(int i)
{
    return i >= 0 && (size_t)i < sizeof models / sizeof *models ? &models[i] : NULL;
}

bool tmb_gpu_wanted(const tmb_gpu_job *job, int i)
{
    return job->model ? strcmp(job->model, models[i].name) == 0 : i < COMPARED;
}

tmb_status tmb_gpu_walk(const tmb_gpu_job *job,
                        tmb_status (*step)(void *ctx, const tmb_gpu_model *model, bool zipf,
                                           int tokens, tmb_err *err),
                        void *ctx, tmb_err *err)
{
    const tmb_gpu_model *m;
    for (int i = 0; (m = tmb_gpu_model_at(i)); i++)
        for (int z = 0; z < 2 && tmb_gpu_wanted(job, i); z++)
            for (int t = 0; (z ? job->zipf : job->uniform) && t < job->n_tokens; t++) {
                if (job->watch && job->watch->stop && *job->watch->stop)
                    return tmb_fail(err, TMB_EUNAVAILABLE, "stopped");
                TRY(step(ctx, m, z, job->tokens[t], err));
            }
    return TMB_OK;
}

static const char *format_name(tmb_pack pack)
{
    static const char *const names[TMB_PACKS] = {"nvfp4", "mxfp4", "int4", NULL};
    return names[pack];
}

/* codes and scales of normal numbers x [TMB_POOL_ROWS, TMB_POOL_COLS]. */
static tmb_status encode(tmb_pack pack, float *x, tmb_matrix *m, uint8_t **parts, tmb_err *err)
{
    const size_t rows = TMB_POOL_ROWS, cols = TMB_POOL_COLS;
    const tmb_ops *ops = tmb_cpu_ops();
    const tmb_format *f = format_name(pack) ? tmb_format_find(format_name(pack)) : NULL;
    uint8_t *codes = *parts = malloc(rows * cols * 3);
    float *work = malloc(tmb_format_work(cols) * sizeof *work);
    if (!codes || !work) {
        free(work);
        return tmb_fail_memory(err, rows * cols * 3, "random weights");
    }
    uint8_t *scales = codes + rows * cols * 2;
    *m = (tmb_matrix){.codes = codes, .scales = scales, .global = 1.0f, .group = f ? f->group : 0};
    if (!f) {
        ops->to_bf16((uint16_t *)codes, x, rows * cols);
    } else {
        if (f->global_scale) m->global = f->global_scale(ops->amax(x, rows * cols));
        tmb_geometry c, s;
        f->part(f, TMB_PART_CODES, rows, cols, &c);
        f->part(f, TMB_PART_SCALE, rows, cols, &s);
        for (size_t r = 0; r < rows; r += TMB_TILE_ROWS)
            f->encode(f, ops, TMB_SCALE_MAX, x + r * cols, TMB_TILE_ROWS, cols, m->global,
                      codes + tmb_format_row_offset(&c, rows, r),
                      scales + tmb_format_row_offset(&s, rows, r), work);
    }
    free(work);
    return TMB_OK;
}

/* The period of packed blobs, and their values. */
static tmb_status make_pattern(tmb_gpu_pool *p, uint8_t **pattern, tmb_err *err)
{
    const uint64_t rows = TMB_POOL_ROWS, cols = TMB_POOL_COLS, n = rows * cols;
    uint64_t bytes = tmb_pack_bytes(p->pack, rows, cols);
    uint8_t *parts = NULL;
    tmb_matrix m;
    float factor[2], *x = malloc(n * sizeof *x);
    *pattern = malloc(bytes);
    p->value = malloc(n * sizeof *p->value);
    tmb_status status = x && *pattern && p->value ? TMB_OK : tmb_fail_memory(err, n * 4, "weights");
    for (uint64_t i = 0; !status && i < n; i++)
        x[i] = tmb_random_normal(&p->state, 0.02f);
    if (!status) status = encode(p->pack, x, &m, &parts, err);
    if (!status) status = tmb_pack_weight(p->pack, *pattern, factor, &m, NULL, rows, cols, err);
    if (!status) {
        p->period = bytes / tmb_blob_bytes(p->pack);
        p->factor = factor[0];
        tmb_unpack_weight(p->pack, x, *pattern, factor, false, rows, cols);
        for (uint64_t i = 0; i < n; i++) { /* by blobs */
            uint64_t r = i / cols, c = i % cols;
            uint64_t blob = r / TMB_BLOB_ROWS * (cols / TMB_BLOB_COLS) + c / TMB_BLOB_COLS;
            p->value[(blob * TMB_BLOB_ROWS + r % TMB_BLOB_ROWS) * TMB_BLOB_COLS +
                     c % TMB_BLOB_COLS] = x[i];
        }
    }
    free(parts);
    free(x);
    return status;
}

static tmb_status fill_pool(tmb_gpu_pool *p, const uint8_t *pattern, tmb_err *err)
{
    uint64_t each = p->period * tmb_blob_bytes(p->pack);
    for (uint64_t at = 0; at < p->bytes; at += each)
        TRY(tmb_cuda_upload(p->gpu, p->memory + at, pattern,
                            p->bytes - at < each ? p->bytes - at : each, err));
    return TMB_OK;
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static tmb_status median(tmb_cuda *gpu, int launches, double *us, tmb_err *err)
{
    float all[TMB_POOL_REPLAYS + 3];
    TRY(tmb_cuda_graph_time(gpu, all, TMB_POOL_REPLAYS + 3, err));
    qsort(all + 3, TMB_POOL_REPLAYS, sizeof *all, by_value);
    *us = (double)all[3 + TMB_POOL_REPLAYS / 2] / launches;
    return TMB_OK;
}

tmb_status tmb_gpu_measure(tmb_cuda *gpu, tmb_gpu_rates *rates, tmb_err *err)
{
    enum { SIDE = 8192, COPY = 1 << 30 };
    void *a, *b;
    double us;
    snprintf(rates->name, sizeof rates->name, "%s", tmb_cuda_about(gpu)->name);
    TRY(tmb_cuda_alloc(gpu, &a, COPY, err));
    TRY(tmb_cuda_alloc(gpu, &b, COPY, err));
    uint16_t *host = malloc((size_t)SIDE * SIDE * 2);
    if (!host) return tmb_fail_memory(err, (size_t)SIDE * SIDE * 2, "a matrix");
    tmb_random_bf16(host, (size_t)SIDE * SIDE, 1, 1.0f);
    for (uint64_t at = 0; at < COPY; at += (uint64_t)SIDE * SIDE * 2)
        TRY(tmb_cuda_upload(gpu, (char *)a + at, host, (uint64_t)SIDE * SIDE * 2, err));
    free(host);
    for (int plain = 0; plain < 2; plain++) {
        void *stream = tmb_cuda_stream(gpu);
        TRY(tmb_cuda_graph_begin(gpu, err));
        if (plain)
            TRY(tmb_cuda_copy_plain(b, a, COPY, stream, err));
        else
            TRY(tmb_cuda_copy(b, a, COPY, stream, err));
        TRY(tmb_cuda_graph_end(gpu, err));
        TRY(median(gpu, 1, &us, err));
        if (2.0 * COPY / us / 1e6 > rates->copy_tbs) rates->copy_tbs = 2.0 * COPY / us / 1e6;
    }
    TRY(tmb_cuda_matmul(gpu, a, (char *)a + (COPY >> 1), b, SIDE, &us, err));
    rates->assumed = us <= 0;
    rates->matmul_tf = us > 0 ? 2.0 * SIDE * SIDE * SIDE / us / 1e6 : ASSUMED_TF;
    tmb_cuda_free(gpu, a);
    tmb_cuda_free(gpu, b);
    return TMB_OK;
}

tmb_status tmb_pool_open(tmb_gpu_pool *p, int device, tmb_pack pack, uint64_t room, tmb_err *err)
{
    uint8_t *pattern = NULL;
    *p = (tmb_gpu_pool){.pack = pack, .state = 20261125};
    TRY(tmb_cuda_open(&p->gpu, device, err));
    const tmb_cuda_info *about = tmb_cuda_about(p->gpu);
    if (about->major != 9)
        return tmb_fail(err, TMB_EUNAVAILABLE, "%s has capability %d.%d; the kernels are for 9.0",
                        about->name, about->major, about->minor);
    TRY(tmb_gpu_measure(p->gpu, &p->rates, err));
    tmb_status status = make_pattern(p, &pattern, err);
    uint64_t each = p->period * tmb_blob_bytes(pack);
    if (!status) {
        p->bytes = (room / each + 1) * each;
        status = tmb_cuda_alloc(p->gpu, (void **)&p->memory, p->bytes, err);
    }
    if (!status) status = tmb_cuda_alloc(p->gpu, &p->sink, 256, err);
    if (!status) status = fill_pool(p, pattern, err);
    free(pattern);
    TRY(status);
    double us, all = (double)p->bytes;
    TRY(tmb_pool_read(p, all, &us, err));
    p->rates.read_tbs = all / us / 1e6;
    return TMB_OK;
}

void tmb_pool_close(tmb_gpu_pool *p)
{
    free(p->value);
    tmb_cuda_close(p->gpu);
    *p = (tmb_gpu_pool){0};
}

double tmb_pool_dot(const tmb_gpu_pool *p, uint64_t blob, int row, int cols, const double *x)
{
    uint64_t across = ((uint64_t)cols + TMB_BLOB_COLS - 1) / TMB_BLOB_COLS;
    double sum = 0;
    blob += (uint64_t)row / TMB_BLOB_ROWS * across;
    for (int c = 0; c < cols; c += TMB_BLOB_COLS, blob++) {
        const float *w =
            p->value +
            (blob % p->period * TMB_BLOB_ROWS + (uint64_t)row % TMB_BLOB_ROWS) * TMB_BLOB_COLS;
        int n = cols - c < TMB_BLOB_COLS ? cols - c : TMB_BLOB_COLS;
        for (int i = 0; i < n; i++)
            sum += (double)w[i] * x[c + i];
    }
    return sum;
}

tmb_status tmb_pool_normal(tmb_gpu_pool *p, void *device, uint16_t *host, uint64_t n, tmb_err *err)
{
    const uint64_t period = (uint64_t)1 << 24;
    uint16_t *some = malloc(period * 2);
    if (!some) return tmb_fail_memory(err, period * 2, "random numbers");
    tmb_random_bf16(some, period, p->state, 1.0f);
    tmb_status status = TMB_OK;
    for (uint64_t at = 0; at < n && !status; at += period) {
        uint64_t now = n - at < period ? n - at : period;
        if (host) memcpy(host + at, some, now * 2);
        status = tmb_cuda_upload(p->gpu, (char *)device + at * 2, some, now * 2, err);
    }
    free(some);
    return status;
}

void tmb_pool_logits(tmb_gpu_pool *p, float *logits, const tmb_gpu_model *m, int tokens, bool zipf)
{
    float bias[TMB_POOL_ROWS];
    int order[TMB_POOL_ROWS];
    for (int e = 0; e < m->experts; e++)
        order[e] = e;
    for (int e = m->experts - 1; e > 0; e--) {
        int other = (int)(tmb_random(&p->state) % (uint64_t)(e + 1)), t = order[e];
        order[e] = order[other];
        order[other] = t;
    }
    for (int e = 0; e < m->experts; e++)
        bias[order[e]] = zipf ? -logf((float)e + 1.0f) : 0.0f;
    for (size_t i = 0; i < (size_t)tokens * (size_t)m->experts; i++) {
        /* the largest of log w + Gumbel noise are a draw by weights w without replacement */
        double u = ((double)(tmb_random(&p->state) >> 11) + 0.5) * 0x1p-53;
        logits[i] = bias[i % (size_t)m->experts] - (float)log(-log(u));
    }
}

tmb_status tmb_pool_time(tmb_gpu_pool *p, int launches, double *us, tmb_err *err)
{
    return median(p->gpu, launches, us, err);
}

tmb_status tmb_pool_read(tmb_gpu_pool *p, double bytes, double *us, tmb_err *err)
{
    uint64_t n = ((uint64_t)bytes + 255) / 256 * 256;
    if (n > p->bytes) n = p->bytes;
    uint64_t sets = p->bytes / n;
    int launches = sets < 2 ? 2 : sets > 32 ? 32 : (int)sets;
    TRY(tmb_cuda_graph_begin(p->gpu, err));
    for (int i = 0; i < launches; i++)
        TRY(tmb_cuda_read(p->memory + (uint64_t)i % sets * n, n, p->sink, tmb_cuda_stream(p->gpu),
                          err));
    TRY(tmb_cuda_graph_end(p->gpu, err));
    TRY(median(p->gpu, launches, us, err));
    *us *= bytes / (double)n;
    return TMB_OK;
}

tmb_status tmb_pool_floor(tmb_gpu_pool *p, tmb_gpu_row *row, tmb_err *err)
{
    TRY(tmb_pool_read(p, row->bytes, &row->read_us, err));
    row->math_us = row->flops / p->rates.matmul_tf / 1e6;
    row->floor_us = row->read_us > row->math_us ? row->read_us : row->math_us;
    return TMB_OK;
}
