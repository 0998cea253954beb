/* bench_layer.c - tombac bench layer: everything behind a router's logits on a GPU. */
#include "config.h"
#include "src/bench_gpu.h"

static tmb_status run(const tmb_command *self, int argc, char **argv, tmb_err *err)
{
    return tmb_bench_gpu_run(self, tmb_bench_gpu_layer, argc, argv, err);
}

static const tmb_arg args[] = {TMB_BENCH_GPU_ARGS, {0}};

const tmb_command tmb_bench_layer = {
    .name = "bench layer",
    .synopsis = "[options]",
    .about = "A whole MoE layer on a GPU, from logits to output, against its floors",
    .help = TMB_BENCH_GPU_HELP,
    .operand = "",
    .args = args,
    .run = run,
};
