/* bench_gpu.h - what bench gemm and bench layer share: options and the report. */
#ifndef TMB_SRC_BENCH_GPU_H
#define TMB_SRC_BENCH_GPU_H

#include "src/args.h"

#include "moe/bench/gpu.h"

typedef struct tmb_bench_gpu_options {
    tmb_common common;
    const char *model, *format, *tokens, *routing, *device;
    bool no_check, explain;
} tmb_bench_gpu_options;

/* Rows of an args table for the options struct above. */
#define TMB_BENCH_GPU_ARGS                                                                         \
    {"model",      0,                                                                              \
     TMB_ARG_TEXT, offsetof(tmb_bench_gpu_options, model),                                         \
     "NAME",       "one of the models below; default: the first four",                             \
     NULL},                                                                                        \
        {"format",                                                                                 \
         0,                                                                                        \
         TMB_ARG_CHOICE,                                                                           \
         offsetof(tmb_bench_gpu_options, format),                                                  \
         "FORMAT",                                                                                 \
         "of the weights",                                                                         \
         "nvfp4|mxfp4|int4|bf16"},                                                                 \
        {"tokens",     0,                                                                          \
         TMB_ARG_TEXT, offsetof(tmb_bench_gpu_options, tokens),                                    \
         "LIST",       "such as 1,64,4096; default 1 to 16384",                                    \
         NULL},                                                                                    \
        {"routing",                                                                                \
         0,                                                                                        \
         TMB_ARG_CHOICE,                                                                           \
         offsetof(tmb_bench_gpu_options, routing),                                                 \
         "KIND",                                                                                   \
         "how tokens spread over experts",                                                         \
         "uniform|zipf|both"},                                                                     \
        {"device", 0,           TMB_ARG_TEXT, offsetof(tmb_bench_gpu_options, device),             \
         "cuda:N", "which GPU", NULL},                                                             \
    {                                                                                              \
        "no-check", 0, TMB_ARG_FLAG, offsetof(tmb_bench_gpu_options, no_check), NULL,              \
            "do not compare samples with float64", NULL                                            \
    }

#define TMB_BENCH_GPU_HELP                                                                         \
    "Models: mixtral-8x7b, qwen3-30b-a3b, deepseek-v3-ep8 (its 32 experts of one rank of 8),\n"    \
    "gpt-oss-120b, deepseek-v3.  The last column is the time over the floor: the larger of\n"      \
    "reading what must be read at the rate this GPU reads, and multiplying at the rate cuBLAS\n"   \
    "multiplies, both measured in the same run.  doc/numbers.md defines every column.\n"

typedef tmb_status tmb_bench_gpu(const tmb_gpu_job *job, tmb_gpu_sink *sink, void *ctx,
                                 tmb_err *err);

/* Parse, measure by `bench`, print. */
tmb_status tmb_bench_gpu_run(const tmb_command *self, tmb_bench_gpu *bench, int argc, char **argv,
                             tmb_err *err) TMB_CHECKED;

#endif
