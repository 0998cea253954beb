/* gpu_layer.c - everything between a router's logits and a layer's output, in one graph. */
#include "config.h"
#include "moe/bench/gpu_pool.h"

#include "kernels/base/codec.h"
#include "kernels/cpu/route.h"
#include "moe/format/formats.h"
#include "moe/infer/layer_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SETS = 4, LAUNCHES = 24, SAMPLES = 24 };

typedef struct bench {
    const tmb_gpu_job *job;
    tmb_gpu_sink *sink;
    void *sink_ctx;
    tmb_gpu_pool pool;
    const tmb_gpu_model *model;
    tmb_layer *layer;
    int tokens;
    bool zipf;
    uint64_t up, down; /* bytes of one expert's halves */
    uint16_t *x, *y, *host_x;
    float *logits[LAUNCHES], *first; /* device; launch 0's on the host */
} bench;

static tmb_router router_of(const tmb_gpu_model *m)
{
    return (tmb_router){m->experts,     m->top_k, 1,    1,   TMB_SCORE_SOFTMAX,
                        TMB_GROUP_BEST, true,     1.0f, NULL};
}

static uint64_t set_bytes(const bench *b)
{
    return (b->up + b->down) * (uint64_t)b->model->experts;
}

static tmb_status open_layer(bench *b, tmb_err *err)
{
    static const char *const names[TMB_PACKS] = {"nvfp4", "mxfp4", "int4-g32", NULL};
    const char *name = names[b->job->pack];
    tmb_layer_expert experts[TMB_ROUTE_EXPERTS];
    for (int e = 0; e < b->model->experts; e++)
        experts[e] = (tmb_layer_expert){true, name ? tmb_format_find(name) : NULL,
                                        name ? tmb_format_find(name) : NULL};
    const tmb_layer_shape shape = {.router = router_of(b->model),
                                   .hidden = b->model->hidden,
                                   .inter = b->model->inter,
                                   .max_tokens = b->tokens};
    return tmb_layer_open(&b->layer, &shape, experts, b->pool.gpu, err);
}

static tmb_status launch_one(bench *b, int launch, tmb_err *err)
{
    uint64_t sets = b->pool.bytes / set_bytes(b);
    uint8_t *weights = b->pool.memory + (uint64_t)launch % sets * set_bytes(b);
    tmb_layer_gpu_borrow(b->layer, weights, weights + b->up * (uint64_t)b->model->experts);
    const tmb_layer_batch batch = {
        .tokens = b->tokens, .x = b->x, .logits = b->logits[launch], .y = b->y};
    return tmb_layer_run(b->layer, &batch, err);
}

/* Float64 of some columns of token t, from launch 0. */
static tmb_status want_of(const bench *b, int t, const int *column, double *want, tmb_err *err)
{
    const tmb_gpu_model *m = b->model;
    const uint64_t blob = tmb_blob_bytes(b->job->pack);
    const tmb_router router = router_of(m);
    int32_t chosen[TMB_ROUTE_TOP_K];
    float weight[TMB_ROUTE_TOP_K];
    double *x = malloc((size_t)m->hidden * sizeof *x),
           *inner = malloc((size_t)m->inter * sizeof *x);
    if (!x || !inner) {
        free(x);
        free(inner);
        return tmb_fail_memory(err, (uint64_t)m->inter * 8, "a token");
    }
    tmb_cpu_route(&router, b->first + (size_t)t * (size_t)m->experts, 1, chosen, weight);
    for (int i = 0; i < m->hidden; i++)
        x[i] = (double)tmb_bf16_to_f32(b->host_x[(size_t)t * (size_t)m->hidden + (size_t)i]);
    for (int k = 0; k < m->top_k; k++) {
        uint64_t up = (uint64_t)chosen[k] * b->up / blob;
        uint64_t down = (b->up * (uint64_t)m->experts + (uint64_t)chosen[k] * b->down) / blob;
        for (int i = 0; i < m->inter; i++) {
            int row = (int)tmb_packed_row((uint64_t)i, true, false);
            double g = tmb_pool_dot(&b->pool, up, row, m->hidden, x);
            inner[i] = g / (1 + exp(-g)) * tmb_pool_dot(&b->pool, up, row + 8, m->hidden, x);
        }
        for (int s = 0; s < SAMPLES; s++)
            want[s] += (double)weight[k] * tmb_pool_dot(&b->pool, down, column[s], m->inter, inner);
    }
    free(x);
    free(inner);
    return TMB_OK;
}

static tmb_status check(bench *b, double *error, tmb_err *err)
{
    const int hidden = b->model->hidden;
    const size_t bytes = (size_t)b->tokens * (size_t)hidden * 2;
    double noise = 0, signal = 1e-300;
    uint16_t *got = malloc((size_t)hidden * 2);
    tmb_status status = got ? TMB_OK : tmb_fail_memory(err, (uint64_t)hidden * 2, "a token");
    if (!status) status = tmb_cuda_fill(b->pool.gpu, b->y, 0xff, bytes, err);
    if (!status) status = launch_one(b, 0, err);
    for (int i = 0; !status && i < 2 && i < b->tokens; i++) {
        int t = i ? b->tokens - 1 : 0, column[SAMPLES];
        double want[SAMPLES] = {0};
        for (int s = 0; s < SAMPLES; s++)
            column[s] = s ? (int)((uint64_t)s * 40503u % (uint64_t)hidden) : hidden - 1;
        status = want_of(b, t, column, want, err);
        if (!status)
            status = tmb_cuda_download(b->pool.gpu, got, b->y + (size_t)t * (size_t)hidden,
                                       (uint64_t)hidden * 2, err);
        for (int s = 0; !status && s < SAMPLES; s++) {
            double d = (double)tmb_bf16_to_f32(got[column[s]]) - want[s];
            noise += d * d;
            signal += want[s] * want[s];
        }
    }
    free(got);
    *error = sqrt(noise / signal);
    if (!status && !(*error < 1e-2))
        return tmb_fail(err, TMB_EINTERNAL, "%s layer, %d tokens: samples are %.1e off float64",
                        b->model->name, b->tokens, *error);
    return status;
}

/* Draw every launch's logits; *touched = experts with a row, over all launches. */
static tmb_status route(bench *b, int launches, int *touched, tmb_err *err)
{
    const tmb_gpu_model *m = b->model;
    const tmb_router router = router_of(m);
    const size_t n = (size_t)b->tokens * (size_t)m->experts;
    const size_t rows = (size_t)b->tokens * (size_t)m->top_k;
    int32_t *chosen = malloc(rows * 4);
    float *logits = malloc(n * 4), *weight = malloc(rows * 4);
    tmb_status status = chosen && logits && weight ? TMB_OK : tmb_fail_memory(err, n * 4, "logits");
    *touched = 0;
    for (int i = 0; i < launches && !status; i++) {
        bool seen[TMB_ROUTE_EXPERTS] = {0};
        tmb_pool_logits(&b->pool, logits, m, b->tokens, b->zipf);
        tmb_cpu_route(&router, logits, (size_t)b->tokens, chosen, weight);
        for (size_t r = 0; r < rows; r++) {
            *touched += !seen[chosen[r]];
            seen[chosen[r]] = true;
        }
        if (i == 0) memcpy(b->first, logits, n * 4);
        status = tmb_cuda_upload(b->pool.gpu, b->logits[i], logits, n * 4, err);
    }
    free(chosen);
    free(logits);
    free(weight);
    return status;
}

static tmb_status measure(bench *b, tmb_gpu_row *row, tmb_err *err)
{
    const tmb_gpu_model *m = b->model;
    const int rows = b->tokens * m->top_k, active = rows < m->experts ? rows : m->experts;
    const double expert = (double)(b->up + b->down);
    int launches = (int)(4e8 / (expert * active)) + 2, touched = 0;
    launches = launches > LAUNCHES ? LAUNCHES : launches < SETS ? SETS : launches;
    TRY(route(b, launches, &touched, err));
    row->error = -1;
    if (b->job->check) TRY(check(b, &row->error, err));
    TRY(tmb_cuda_graph_begin(b->pool.gpu, err));
    for (int i = 0; i < launches; i++)
        TRY(launch_one(b, i, err));
    TRY(tmb_cuda_graph_end(b->pool.gpu, err));
    TRY(tmb_pool_time(&b->pool, launches, &row->us, err));
    row->rows = rows;
    /* weights, the tokens in and out, and what stands between the two GEMMs, once */
    row->bytes =
        expert * touched / launches + 2.0 * (2.0 * b->tokens * m->hidden + (double)rows * m->inter);
    row->flops = 6.0 * rows * m->hidden * m->inter;
    return tmb_pool_floor(&b->pool, row, err);
}

static tmb_status one(bench *b, tmb_gpu_sink *sink, void *ctx, tmb_err *err)
{
    const tmb_gpu_model *m = b->model;
    b->up = tmb_pack_bytes(b->job->pack, 2 * (uint64_t)m->inter, (uint64_t)m->hidden);
    b->down = tmb_pack_bytes(b->job->pack, (uint64_t)m->hidden, (uint64_t)m->inter);
    tmb_gpu_row row = {.model = m, .part = "layer", .tokens = b->tokens, .zipf = b->zipf};
    tmb_status status = open_layer(b, err);
    if (!status) status = tmb_layer_gpu_factor(b->layer, b->pool.factor, err);
    if (!status) status = measure(b, &row, err);
    tmb_layer_close(b->layer);
    b->layer = NULL;
    return status ? status : sink(ctx, &b->pool.rates, &row, err);
}

static tmb_status open_buffers(bench *b, tmb_err *err)
{
    const tmb_gpu_job *job = b->job;
    uint64_t x = 0, logits = 0, room = 0;
    const tmb_gpu_model *m;
    for (int i = 0; (m = tmb_gpu_model_at(i)); i++) {
        if (!tmb_gpu_wanted(job, i)) continue;
        uint64_t set = tmb_pack_bytes(job->pack, 2 * (uint64_t)m->inter, (uint64_t)m->hidden) +
                       tmb_pack_bytes(job->pack, (uint64_t)m->hidden, (uint64_t)m->inter);
        set *= (uint64_t)m->experts * SETS;
        room = set > room ? set : room;
        for (int t = 0; t < job->n_tokens; t++) {
            uint64_t h = (uint64_t)job->tokens[t] * (uint64_t)m->hidden;
            uint64_t e = (uint64_t)job->tokens[t] * (uint64_t)m->experts;
            x = h > x ? h : x;
            logits = e > logits ? e : logits;
        }
    }
    if (!x) return tmb_fail(err, TMB_EUSAGE, "--model: there is no %s", job->model);
    TRY(tmb_pool_open(&b->pool, job->device, job->pack, room, err));
    TRY(tmb_cuda_alloc(b->pool.gpu, (void **)&b->x, x * 2, err));
    TRY(tmb_cuda_alloc(b->pool.gpu, (void **)&b->y, x * 2, err));
    for (int i = 0; i < LAUNCHES; i++)
        TRY(tmb_cuda_alloc(b->pool.gpu, (void **)&b->logits[i], logits * 4, err));
    b->host_x = malloc(x * 2);
    b->first = malloc(logits * 4);
    if (!b->host_x || !b->first) return tmb_fail_memory(err, x * 2, "activations");
    return tmb_pool_normal(&b->pool, b->x, b->host_x, x, err);
}

static tmb_status step(void *ctx, const tmb_gpu_model *model, bool zipf, int tokens, tmb_err *err)
{
    bench *b = ctx;
    b->model = model;
    b->zipf = zipf;
    b->tokens = tokens;
    return one(b, b->sink, b->sink_ctx, err);
}

tmb_status tmb_bench_gpu_layer(const tmb_gpu_job *job, tmb_gpu_sink *sink, void *ctx, tmb_err *err)
{
    bench *b = calloc(1, sizeof *b);
    if (!b) return tmb_fail_memory(err, sizeof *b, "a measurement");
    b->job = job;
    b->sink = sink;
    b->sink_ctx = ctx;
    tmb_status status = open_buffers(b, err);
    if (!status) status = tmb_gpu_walk(job, step, b, err);
    free(b->host_x);
    free(b->first);
    tmb_pool_close(&b->pool);
    free(b);
    return status;
}
