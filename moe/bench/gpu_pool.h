/* gpu_pool.h - weights without end: one period of packed random blobs, repeated over device memory,
 * with its values on the host; and routings, times and floors. */
#ifndef TMB_BENCH_GPU_POOL_H
#define TMB_BENCH_GPU_POOL_H

#include "kernels/cuda/device.h"
#include "moe/bench/gpu.h"

enum { TMB_POOL_ROWS = 1024, TMB_POOL_COLS = 8192, TMB_POOL_REPLAYS = 21 };

typedef struct tmb_gpu_pool {
    tmb_cuda *gpu;
    tmb_pack pack;
    uint8_t *memory; /* device: whole blobs, number i is number i % period of the pattern */
    uint64_t bytes;
    float *value;    /* [period][64][128], factor included */
    uint64_t period; /* blobs */
    float factor;
    void *sink;
    uint64_t state; /* of the random numbers */
    tmb_gpu_rates rates;
} tmb_gpu_pool;

/* Is the i-th model asked for? */
bool tmb_gpu_wanted(const tmb_gpu_job *job, int i);
/* Call step for each model, routing and number of tokens that the job asks for, in this order. */
tmb_status tmb_gpu_walk(const tmb_gpu_job *job,
                        tmb_status (*step)(void *ctx, const tmb_gpu_model *model, bool zipf,
                                           int tokens, tmb_err *err),
                        void *ctx, tmb_err *err) TMB_CHECKED;

/* room: bytes of weights that must fit. */
tmb_status tmb_pool_open(tmb_gpu_pool *p, int device, tmb_pack pack, uint64_t room,
                         tmb_err *err) TMB_CHECKED;
void tmb_pool_close(tmb_gpu_pool *p);

/* Float64 product of packed row `row` of a weight [.., cols] whose first blob is number `blob` of
 * the pool, with x [cols]. */
double tmb_pool_dot(const tmb_gpu_pool *p, uint64_t blob, int row, int cols, const double *x);

/* x [n] bf16 normal numbers on the device; host [n] gets them too, when not NULL. */
tmb_status tmb_pool_normal(tmb_gpu_pool *p, void *device, uint16_t *host, uint64_t n,
                           tmb_err *err) TMB_CHECKED;

/* logits [tokens, experts] f32 whose top_k largest are drawn without replacement, each expert with
 * weight 1, or, zipf, 1 / rank for a random order of experts. */
void tmb_pool_logits(tmb_gpu_pool *p, float *logits, const tmb_gpu_model *m, int tokens, bool zipf);

/* Median time of the captured graph divided by launches. */
tmb_status tmb_pool_time(tmb_gpu_pool *p, int launches, double *us, tmb_err *err) TMB_CHECKED;
/* Time that a kernel which only reads needs for this many bytes, rotated through the pool. */
tmb_status tmb_pool_read(tmb_gpu_pool *p, double bytes, double *us, tmb_err *err) TMB_CHECKED;
/* Fill what follows from us, bytes and flops. */
tmb_status tmb_pool_floor(tmb_gpu_pool *p, tmb_gpu_row *row, tmb_err *err) TMB_CHECKED;

/* name, copy and matmul rates; pool's read rate too when there is a pool. */
tmb_status tmb_gpu_measure(tmb_cuda *gpu, tmb_gpu_rates *rates, tmb_err *err) TMB_CHECKED;

#endif
