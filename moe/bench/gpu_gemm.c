/* gpu_gemm.c - up and down projections of a model's experts, each alone. */
#include "config.h"
#include "moe/bench/gpu_pool.h"

#include "kernels/base/codec.h"
#include "kernels/cpu/route.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SETS = 4, LAUNCHES = 48, SAMPLES = 48 };

/* One projection of one model. */
typedef struct bench {
    const tmb_gpu_job *job;
    tmb_gpu_sink *sink;
    void *sink_ctx;
    tmb_gpu_pool pool;
    const tmb_gpu_model *model;
    int tokens;
    bool up, zipf;
    int cols, out; /* packed rows */
    uint64_t set;  /* bytes of one set of weights */
    uint16_t *host_x;
    void *x, *y, *work, *tiles, *factor;
    void *gather[LAUNCHES], *offsets[LAUNCHES];
    int32_t *first_gather, *first_offsets; /* of launch 0, on the host */
} bench;

static int rows_of(const bench *b)
{
    return b->tokens * b->model->top_k;
}

static uint64_t one_expert(const bench *b)
{
    return tmb_pack_bytes(b->job->pack, (uint64_t)b->out, (uint64_t)b->cols);
}

static tmb_grouped gemm_of(const bench *b, int launch)
{
    uint64_t sets = b->pool.bytes / b->set;
    return (tmb_grouped){.pack = b->job->pack,
                         .weights = b->pool.memory + (uint64_t)launch % sets * b->set,
                         .factor = b->factor,
                         .x = b->x,
                         .gather = b->up ? b->gather[launch] : NULL,
                         .offsets = b->offsets[launch],
                         .tiles = b->tiles,
                         .y = b->y,
                         .experts = b->model->experts,
                         .cols = b->cols,
                         .out_rows = b->out,
                         .rows = rows_of(b),
                         .most = b->tokens,
                         .gate = b->up ? TMB_GATE_SWIGLU : TMB_GATE_NONE};
}

/* Another routing on the device; *touched = experts that got a row. */
static tmb_status route(bench *b, int launch, int *touched, tmb_err *err)
{
    const tmb_gpu_model *m = b->model;
    const tmb_router router = {m->experts,     m->top_k, 1,    1,   TMB_SCORE_SOFTMAX,
                               TMB_GROUP_BEST, false,    1.0f, NULL};
    size_t n = (size_t)rows_of(b), tokens = (size_t)b->tokens;
    float *logits = malloc(tokens * (size_t)m->experts * 4), *weight = malloc(n * 4);
    int32_t *chosen = malloc(n * 4), *row = malloc(n * 4), *token = malloc(n * 4);
    int32_t *offsets = malloc(((size_t)m->experts + 1) * 4);
    tmb_status status = TMB_OK;
    *touched = 0;
    if (!logits || !weight || !chosen || !row || !token || !offsets) {
        status = tmb_fail_memory(err, n * 4, "a routing");
    } else {
        tmb_pool_logits(&b->pool, logits, m, b->tokens, b->zipf);
        tmb_cpu_route(&router, logits, tokens, chosen, weight);
        tmb_cpu_plan(&(tmb_route_plan){offsets, token, row}, chosen, NULL, tokens, m->top_k,
                     m->experts);
        for (int e = 0; e < m->experts; e++)
            *touched += offsets[e + 1] > offsets[e];
        status = tmb_cuda_upload(b->pool.gpu, b->gather[launch], token, n * 4, err);
        if (!status)
            status = tmb_cuda_upload(b->pool.gpu, b->offsets[launch], offsets,
                                     ((uint64_t)m->experts + 1) * 4, err);
    }
    if (launch == 0) {
        free(b->first_gather);
        free(b->first_offsets);
        b->first_gather = token;
        b->first_offsets = offsets;
    } else {
        free(token);
        free(offsets);
    }
    free(logits);
    free(weight);
    free(chosen);
    free(row);
    return status;
}

static tmb_status launch_one(bench *b, int launch, tmb_err *err)
{
    tmb_grouped g = gemm_of(b, launch);
    void *stream = tmb_cuda_stream(b->pool.gpu);
    TRY(tmb_tiles_make(b->tiles, g.offsets, g.experts, g.rows, stream, err));
    return tmb_grouped_run(&g, b->work, stream, err);
}

/* Samples of launch 0's result against float64: *error over all of them. */
static tmb_status check(bench *b, double *error, tmb_err *err)
{
    const int rows = rows_of(b), width = b->up ? b->out / 2 : b->out;
    uint16_t *got = malloc((size_t)width * 2);
    double *x = malloc((size_t)b->cols * sizeof *x), noise = 0, signal = 1e-300;
    tmb_status status = got && x ? TMB_OK : tmb_fail_memory(err, (uint64_t)width * 2, "samples");
    if (!status)
        status = tmb_cuda_fill(b->pool.gpu, b->y, 0xff, (uint64_t)rows * (uint64_t)width * 2, err);
    if (!status) status = launch_one(b, 0, err);
    for (int i = 0; !status && i < 8; i++) {
        int r = i == 0 ? 0 : i == 1 ? rows - 1 : (int)((uint64_t)i * 2654435761u % (uint64_t)rows);
        int e = 0, token = b->up ? b->first_gather[r] : r;
        while (b->first_offsets[e + 1] <= r)
            e++;
        uint64_t blob = (uint64_t)e * one_expert(b) / tmb_blob_bytes(b->job->pack);
        for (int c = 0; c < b->cols; c++)
            x[c] = (double)tmb_bf16_to_f32(b->host_x[(size_t)token * (size_t)b->cols + (size_t)c]);
        status = tmb_cuda_download(b->pool.gpu, got, (uint16_t *)b->y + (size_t)r * (size_t)width,
                                   (uint64_t)width * 2, err);
        for (int s = 0; !status && s < SAMPLES; s++) {
            int o =
                s < 2 ? (s ? width - 1 : 0) : (int)((uint64_t)(s + i) * 40503u % (uint64_t)width);
            double want;
            if (b->up) {
                double gate = tmb_pool_dot(
                    &b->pool, blob, (int)tmb_packed_row((uint64_t)o, true, false), b->cols, x);
                want = gate / (1 + exp(-gate)) *
                       tmb_pool_dot(&b->pool, blob, (int)tmb_packed_row((uint64_t)o, true, true),
                                    b->cols, x);
            } else {
                want = tmb_pool_dot(&b->pool, blob, o, b->cols, x);
            }
            double d = (double)tmb_bf16_to_f32(got[o]) - want;
            noise += d * d;
            signal += want * want;
        }
    }
    free(got);
    free(x);
    *error = sqrt(noise / signal);
    if (!status && !(*error < 1e-2))
        return tmb_fail(err, TMB_EINTERNAL, "%s %s, %d tokens: samples are %.1e off float64",
                        b->model->name, b->up ? "up" : "down", b->tokens, *error);
    return status;
}

static tmb_status measure(bench *b, tmb_gpu_row *row, tmb_err *err)
{
    const int rows = rows_of(b), active = rows < b->model->experts ? rows : b->model->experts;
    const double weights = (double)one_expert(b);
    int launches = (int)(4e8 / (weights * active)) + 2, touched, all = 0;
    if (launches > LAUNCHES) launches = LAUNCHES;
    if (launches < SETS) launches = SETS;
    for (int i = 0; i < launches; i++) {
        TRY(route(b, i, &touched, err));
        all += touched;
    }
    row->error = -1;
    if (b->job->check) TRY(check(b, &row->error, err));
    TRY(tmb_cuda_graph_begin(b->pool.gpu, err));
    for (int i = 0; i < launches; i++)
        TRY(launch_one(b, i, err));
    TRY(tmb_cuda_graph_end(b->pool.gpu, err));
    TRY(tmb_pool_time(&b->pool, launches, &row->us, err));
    row->rows = rows;
    row->bytes = weights * all / launches + 2.0 * ((double)(b->up ? b->tokens : rows) * b->cols +
                                                   (double)rows * (b->up ? b->out / 2 : b->out));
    row->flops = 2.0 * rows * b->out * b->cols;
    if (b->job->explain) {
        tmb_grouped g = gemm_of(b, 0);
        tmb_grouped_explain(&g, b->first_offsets, tmb_cuda_about(b->pool.gpu)->processors,
                            row->explain, sizeof row->explain);
    }
    return tmb_pool_floor(&b->pool, row, err);
}

static tmb_status one(bench *b, tmb_gpu_sink *sink, void *ctx, tmb_err *err)
{
    const tmb_gpu_model *m = b->model;
    b->cols = b->up ? m->hidden : m->inter;
    b->out = b->up ? 2 * m->inter : m->hidden;
    b->set = one_expert(b) * (uint64_t)m->experts;
    tmb_gpu_row row = {
        .model = m, .part = b->up ? "up" : "down", .tokens = b->tokens, .zipf = b->zipf};
    TRY(measure(b, &row, err));
    return sink(ctx, &b->pool.rates, &row, err);
}

/* Buffers for the largest of what is asked. */
static tmb_status open_buffers(bench *b, tmb_err *err)
{
    const tmb_gpu_job *job = b->job;
    uint64_t x = 0, y = 0, work = 0, tiles = 0, rows = 0, room = 0;
    const tmb_gpu_model *m;
    for (int i = 0; (m = tmb_gpu_model_at(i)); i++) {
        if (!tmb_gpu_wanted(job, i)) continue;
        for (int t = 0; t < job->n_tokens; t++) {
            for (int up = 0; up < 2; up++) {
                bench probe = {.job = job,
                               .model = m,
                               .tokens = job->tokens[t],
                               .up = up,
                               .cols = up ? m->hidden : m->inter,
                               .out = up ? 2 * m->inter : m->hidden,
                               .set = 1,
                               .pool.bytes = 1};
                tmb_grouped g = gemm_of(&probe, 0);
                uint64_t n = (uint64_t)rows_of(&probe);
                uint64_t set = one_expert(&probe) * (uint64_t)m->experts;
                uint64_t wants[] = {n * (uint64_t)probe.cols * 2,
                                    n * (uint64_t)probe.out * 2,
                                    tmb_grouped_workspace(&g),
                                    tmb_tiles_bytes(m->experts, (int)n),
                                    n,
                                    set * SETS};
                uint64_t *have[] = {&x, &y, &work, &tiles, &rows, &room};
                for (int k = 0; k < 6; k++)
                    if (wants[k] > *have[k]) *have[k] = wants[k];
            }
        }
    }
    if (!rows) return tmb_fail(err, TMB_EUSAGE, "--model: there is no %s", job->model);
    TRY(tmb_pool_open(&b->pool, job->device, job->pack, room, err));
    tmb_cuda *gpu = b->pool.gpu;
    TRY(tmb_cuda_alloc(gpu, &b->x, x, err));
    TRY(tmb_cuda_alloc(gpu, &b->y, y, err));
    TRY(tmb_cuda_alloc(gpu, &b->work, work, err));
    TRY(tmb_cuda_alloc(gpu, &b->tiles, tiles, err));
    TRY(tmb_cuda_alloc(gpu, &b->factor, TMB_ROUTE_EXPERTS * 8, err));
    for (int i = 0; i < LAUNCHES; i++) {
        TRY(tmb_cuda_alloc(gpu, &b->gather[i], rows * 4, err));
        TRY(tmb_cuda_alloc(gpu, &b->offsets[i], (TMB_ROUTE_EXPERTS + 1) * 4, err));
    }
    float factor[TMB_ROUTE_EXPERTS * 2];
    for (int i = 0; i < TMB_ROUTE_EXPERTS * 2; i++)
        factor[i] = b->pool.factor;
    TRY(tmb_cuda_upload(gpu, b->factor, factor, sizeof factor, err));
    b->host_x = malloc(x);
    if (!b->host_x) return tmb_fail_memory(err, x, "activations");
    return tmb_pool_normal(&b->pool, b->x, b->host_x, x / 2, err);
}

/* Gate and up, then down. */
static tmb_status step(void *ctx, const tmb_gpu_model *model, bool zipf, int tokens, tmb_err *err)
{
    bench *b = ctx;
    b->model = model;
    b->zipf = zipf;
    b->tokens = tokens;
    for (int up = 1; up >= 0; up--) {
        b->up = up;
        TRY(one(b, b->sink, b->sink_ctx, err));
    }
    return TMB_OK;
}

tmb_status tmb_bench_gpu_gemm(const tmb_gpu_job *job, tmb_gpu_sink *sink, void *ctx, tmb_err *err)
{
    bench *b = calloc(1, sizeof *b);
    if (!b) return tmb_fail_memory(err, sizeof *b, "a measurement");
    b->job = job;
    b->sink = sink;
    b->sink_ctx = ctx;
    tmb_status status = open_buffers(b, err);
    if (!status) status = tmb_gpu_walk(job, step, b, err);
    free(b->host_x);
    free(b->first_gather);
    free(b->first_offsets);
    tmb_pool_close(&b->pool);
    free(b);
    return status;
}
