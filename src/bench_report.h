/* bench_report.h - what bench quantize measured, and how it is shown. */
#ifndef TMB_SRC_BENCH_REPORT_H
#define TMB_SRC_BENCH_REPORT_H

#include "moe/bench/floors.h"
#include "moe/bench/kernels.h"
#include "moe/bench/shapes.h"
#include "moe/bench/synthetic.h"

/* One way of doing the job. */
typedef struct tmb_job_figures {
    double seconds, cpu; /* of the best round: on the clock, of processors */
    uint64_t peak_planned, peak_measured;
    uint32_t units_gpu, units_cpu; /* with a GPU: where Linears were quantized */
    uint64_t device_bytes;
} tmb_job_figures;

typedef struct tmb_bench_figures {
    const char *ops, *recipe;
    double read, copy; /* of memory, bytes a second */
    tmb_kernel_rate kernels[TMB_KERNEL_RATES];
    int n_kernels;

    tmb_shape shape;
    bool whole, holes; /* the shape is that of the model; nothing but its names and sizes */
    tmb_synthetic source;
    int threads, rounds; /* rounds 0: there was no job */
    uint64_t written;
    double plan_seconds;
    tmb_job_figures job, gpu; /* gpu.device_bytes 0: none was asked for */
    tmb_floor plain, direct;    /* through the cache, past it: 0 where it cannot be */
} tmb_bench_figures;

tmb_status tmb_bench_print(const tmb_bench_figures *f, tmb_err *err) TMB_CHECKED;
tmb_status tmb_bench_json(const tmb_bench_figures *f, tmb_err *err) TMB_CHECKED;

#endif
