/* bench_encode.c - tombac bench encode: the encoders of quantize on a GPU. */
#include "config.h"
#include "src/bench_gpu.h"
#include "src/device.h"
#include "src/emit.h"
#include "src/table.h"

typedef struct options {
    tmb_common common;
    const char *device;
} options;

static tmb_status print(const tmb_gpu_rates *rates, const tmb_gpu_encode_row *rows, int n,
                        tmb_err *err)
{
    printf("%s: copies %.2f TB/s\n\n", rates->name, rates->copy_tbs);
    tmb_table t;
    tmb_table_open(&t, "format|>us|>GB/s|>of the copy rate");
    for (int i = 0; i < n; i++)
        tmb_table_row(&t, "%s\t%.1f\t%.0f\t%.0f %%", rows[i].format, rows[i].us,
                      rows[i].bytes / rows[i].us * 1e-3,
                      rows[i].bytes / rows[i].us * 1e-4 / rates->copy_tbs);
    return tmb_table_close(&t, 0, stdout) ? TMB_OK : tmb_fail_memory(err, 0, "the table");
}

static tmb_status print_json(const tmb_gpu_rates *rates, const tmb_gpu_encode_row *rows, int n,
                             tmb_err *err)
{
    tmb_emit e;
    tmb_emit_open(&e);
    tmb_emit_text(&e, e.root, "device", rates->name);
    tmb_emit_num(&e, e.root, "copy_bytes_per_second", rates->copy_tbs * 1e12);
    tmb_json *array = tmb_emit_array(&e, e.root, "encoders");
    for (int i = 0; i < n; i++) {
        tmb_json *o = tmb_emit_item(&e, array);
        tmb_emit_text(&e, o, "format", rows[i].format);
        tmb_emit_num(&e, o, "us", rows[i].us);
        tmb_emit_num(&e, o, "bytes", rows[i].bytes);
    }
    return tmb_emit_print(&e, err);
}

static tmb_status run(const tmb_command *self, int argc, char **argv, tmb_err *err)
{
    options o = {0};
    const char *operands[TMB_OPERANDS];
    TRY(tmb_args_parse(self, &o, argc, argv, operands, err));
    if (o.common.help) return TMB_OK;
    int device, n;
    tmb_gpu_rates rates;
    tmb_gpu_encode_row rows[TMB_GPU_ENCODES];
    TRY(tmb_device_parse(o.device, &device, err));
    TRY(tmb_bench_gpu_encode(device, &rates, rows, &n, err));
    if (o.common.json) return print_json(&rates, rows, n, err);
    return o.common.quiet ? TMB_OK : print(&rates, rows, n, err);
}

static const tmb_arg args[] = {
    {"device", 0, TMB_ARG_TEXT, offsetof(options, device), "cuda:N", "which GPU", NULL},
    {0},
};

const tmb_command tmb_bench_encode = {
    .name = "bench encode",
    .synopsis = "[options]",
    .about = "The encoders of every format on a GPU, against its copy rate",
    .help =
        "32768 x 8192 values of BF16 in, codes and scales out; a global scale is given, \"amax\"\n"
        "is the pass that finds it.  doc/numbers.md defines every column.\n",
    .operand = "",
    .args = args,
    .run = run,
};
