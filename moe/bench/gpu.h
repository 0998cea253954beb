/* gpu.h - how fast a GPU runs experts, against what the same GPU can read and multiply.
 *
 * Weights are random normal numbers in their format, in sets that are used in turn so that none is
 * found in a cache; each launch has another routing.  Launches stand in one CUDA graph, which is
 * replayed; a time is the median of the replays divided by the launches.  doc/numbers.md defines
 * every figure. */
#ifndef TMB_BENCH_GPU_H
#define TMB_BENCH_GPU_H

#include "kernels/base/err.h"
#include "kernels/base/progress.h"
#include "kernels/cuda/grouped.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct tmb_gpu_model {
    const char *name;
    int hidden, inter, experts, top_k;
} tmb_gpu_model;

const tmb_gpu_model *tmb_gpu_model_at(int i); /* NULL after the last */

enum { TMB_GPU_TOKENS = 16, TMB_GPU_EXPLAIN = 512 };

typedef struct tmb_gpu_job {
    int device;
    tmb_pack pack;
    const char *model; /* NULL: those that are compared with other libraries */
    int tokens[TMB_GPU_TOKENS], n_tokens;
    bool uniform, zipf; /* routings to measure */
    bool check;         /* compare samples of each result with float64 */
    bool explain;       /* fill tmb_gpu_row.explain */
    const tmb_watch *watch;
} tmb_gpu_job;

/* What the GPU did beside the kernels. */
typedef struct tmb_gpu_rates {
    char name[256];
    double read_tbs;  /* of a large array, read and thrown away */
    double copy_tbs;  /* device to device, bytes read and written */
    double matmul_tf; /* 8192^3 in BF16 by cuBLAS */
    bool assumed;     /* cuBLAS was not found: matmul_tf is what an H200 gave elsewhere */
} tmb_gpu_rates;

typedef struct tmb_gpu_row {
    const tmb_gpu_model *model;
    const char *part; /* "up", "down", "layer" */
    int tokens;
    bool zipf;
    int rows;        /* tokens * top_k */
    double us;       /* a launch */
    double read_us;  /* reading `bytes` at the rate of that size */
    double math_us;  /* flops at matmul_tf */
    double floor_us; /* the larger of the two */
    double bytes, flops;
    double error; /* of sampled results, relative; negative: not checked */
    char explain[TMB_GPU_EXPLAIN];
} tmb_gpu_row;

/* Called with each row as it is measured; another status than TMB_OK ends the run. */
typedef tmb_status tmb_gpu_sink(void *ctx, const tmb_gpu_rates *rates, const tmb_gpu_row *row,
                                tmb_err *err);

/* One GEMM after another, or whole layers.  TMB_EUNAVAILABLE without a GPU of capability 9.0;
 * TMB_EINTERNAL when a sampled result is wrong. */
tmb_status tmb_bench_gpu_gemm(const tmb_gpu_job *job, tmb_gpu_sink *sink, void *ctx,
                              tmb_err *err) TMB_CHECKED;
tmb_status tmb_bench_gpu_layer(const tmb_gpu_job *job, tmb_gpu_sink *sink, void *ctx,
                               tmb_err *err) TMB_CHECKED;

typedef struct tmb_gpu_encode_row {
    const char *format;
    double us, bytes; /* of BF16 in and parts out */
} tmb_gpu_encode_row;
enum { TMB_GPU_ENCODES = 16 };

/* Every encoder over 32768 x 8192 BF16 values, with its global scale given; and the pass that finds
 * the largest magnitude, named "amax". */
tmb_status tmb_bench_gpu_encode(int device, tmb_gpu_rates *rates, tmb_gpu_encode_row *rows, int *n,
                                tmb_err *err) TMB_CHECKED;

#endif
