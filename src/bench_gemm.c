/* bench_gemm.c - tombac bench gemm: the two GEMMs of a model's experts on a GPU. */
#include "config.h"
#include "src/bench_gpu.h"

static tmb_status run(const tmb_command *self, int argc, char **argv, tmb_err *err)
{
    return tmb_bench_gpu_run(self, tmb_bench_gpu_gemm, argc, argv, err);
}

static const tmb_arg args[] = {
    TMB_BENCH_GPU_ARGS,
    {"explain", 0, TMB_ARG_FLAG, offsetof(tmb_bench_gpu_options, explain), NULL,
     "say which tiles were taken, and why", NULL},
    {0},
};

const tmb_command tmb_bench_gemm = {
    .name = "bench gemm",
    .synopsis = "[options]",
    .about = "Up and down projections of a model's experts on a GPU, against its floors",
    .help = TMB_BENCH_GPU_HELP,
    .operand = "",
    .args = args,
    .run = run,
};
