/* bench_quantize.c - tombac bench quantize: what turning weights into codes takes here. */
#include "config.h"
#include "src/commands.h"
#include "src/emit.h"
#include "src/progress.h"
#include "src/table.h"
#include "src/text.h"

#include "kernels/cpu/cpu.h"
#include "moe/bench/kernels.h"

typedef struct options {
    tmb_common common;
} options;

typedef struct figures {
    const char *ops;
    double read, copy; /* of memory */
    tmb_kernel_rate kernels[TMB_KERNEL_RATES];
    int n_kernels;
} figures;

static const char *rule_name(const tmb_kernel_rate *r)
{
    return r->rule == TMB_SCALE_MSE ? "mse" : "max";
}

static tmb_status print(const figures *f, tmb_err *err)
{
    printf("memory, one core: reads %.1f GB/s, copies %.1f GB/s\n\n", f->read * 1e-9,
           f->copy * 1e-9);
    printf("kernels, one core, %s: GB/s of BF16 input\n\n", f->ops);
    tmb_table t;
    tmb_table_open(&t, "format|scales|>encode|>of memory read|>error sums|>all of a job");
    for (int i = 0; i < f->n_kernels; i++) {
        const tmb_kernel_rate *r = &f->kernels[i];
        tmb_table_row(&t, "%s\t%s\t%.2f\t%.0f %%\t%.2f\t%.2f", r->format->name, rule_name(r),
                      r->encode * 1e-9, 100 * r->encode / f->read, r->check * 1e-9, r->job * 1e-9);
    }
    return tmb_table_close(&t, 0, stdout) ? TMB_OK : tmb_fail_memory(err, 0, "the table");
}

static tmb_status print_json(const figures *f, tmb_err *err)
{
    tmb_emit e;
    tmb_emit_open(&e);
    tmb_json *o = tmb_emit_object(&e, e.root, "memory");
    tmb_emit_num(&e, o, "read_bytes_per_second", f->read);
    tmb_emit_num(&e, o, "copy_bytes_per_second", f->copy);
    tmb_emit_text(&e, e.root, "ops", f->ops);
    tmb_json *array = tmb_emit_array(&e, e.root, "kernels");
    for (int i = 0; i < f->n_kernels; i++) {
        const tmb_kernel_rate *r = &f->kernels[i];
        o = tmb_emit_item(&e, array);
        tmb_emit_text(&e, o, "format", r->format->name);
        tmb_emit_text(&e, o, "scales", rule_name(r));
        tmb_emit_num(&e, o, "encode_bytes_per_second", r->encode);
        tmb_emit_num(&e, o, "error_bytes_per_second", r->check);
        tmb_emit_num(&e, o, "job_bytes_per_second", r->job);
    }
    return tmb_emit_print(&e, err);
}

static tmb_status run(const tmb_command *self, int argc, char **argv, tmb_err *err)
{
    options o = {0};
    figures f = {0};
    const char *operands[TMB_OPERANDS];
    TRY(tmb_args_parse(self, &o, argc, argv, operands, err));
    if (o.common.help) return TMB_OK;
    const tmb_ops *ops = tmb_cpu_ops();
    tmb_meter meter;
    tmb_meter_open(&meter, &o.common);
    tmb_watch watch = tmb_meter_watch(&meter);
    f.ops = ops->name;
    tmb_status status = tmb_bench_memory(&f.read, &f.copy, err);
    if (!status) status = tmb_bench_kernels(ops, &watch, f.kernels, &f.n_kernels, err);
    tmb_meter_close(&meter);
    if (!status && o.common.json)
        status = print_json(&f, err);
    else if (!status && !o.common.quiet)
        status = print(&f, err);
    return status;
}

static const tmb_arg args[] = {{0}};

const tmb_command tmb_bench_quantize = {
    .name = "bench quantize",
    .synopsis = "[options]",
    .about = "Every kernel of quantize on one core, against reading memory",
    .help = "TOMBAC_CPU=avx2 or ref in the environment measures other vector code.\n",
    .operand = "",
    .args = args,
    .run = run,
};
