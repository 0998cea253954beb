#include "config.h"
#include "src/bench_gpu.h"
#include "src/device.h"
#include "src/emit.h"
#include "src/progress.h"
#include "src/table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Rows as they come, and their geometric means by tokens. */
typedef struct report {
    const tmb_bench_gpu_options *o;
    tmb_gpu_rates rates;
    tmb_gpu_row *rows;
    size_t n, room;
} report;

static tmb_status parse_tokens(const char *text, tmb_gpu_job *job, tmb_err *err)
{
    const char *at = text ? text : "1,8,16,32,64,128,256,512,1024,4096,16384";
    while (*at) {
        char *end;
        long n = strtol(at, &end, 10);
        if (end == at || n < 1 || n > 65536 || (*end && *end != ',') ||
            job->n_tokens == TMB_GPU_TOKENS)
            return tmb_fail(err, TMB_EUSAGE,
                            "--tokens: '%.60s': numbers from 1 to 65536 with commas, at most %d",
                            text, TMB_GPU_TOKENS);
        job->tokens[job->n_tokens++] = (int)n;
        at = *end ? end + 1 : end;
    }
    return job->n_tokens ? TMB_OK : tmb_fail(err, TMB_EUSAGE, "--tokens: nothing to measure");
}

static tmb_status job_of(const tmb_bench_gpu_options *o, tmb_gpu_job *job, tmb_err *err)
{
    static const char *const packs[TMB_PACKS] = {"nvfp4", "mxfp4", "int4", "bf16"};
    *job = (tmb_gpu_job){.model = o->model, .check = !o->no_check, .explain = o->explain};
    for (int i = 0; i < TMB_PACKS; i++)
        if (o->format && strcmp(o->format, packs[i]) == 0) job->pack = (tmb_pack)i;
    job->uniform = !o->routing || strcmp(o->routing, "zipf") != 0;
    job->zipf = o->routing && strcmp(o->routing, "uniform") != 0;
    TRY(tmb_device_parse(o->device, &job->device, err));
    for (int i = 0; o->model; i++) {
        const tmb_gpu_model *m = tmb_gpu_model_at(i);
        if (!m)
            return tmb_fail(err, TMB_EUSAGE, "--model: '%.60s' is none of those in --help",
                            o->model);
        if (strcmp(m->name, o->model) == 0) break;
    }
    return parse_tokens(o->tokens, job, err);
}

static tmb_status keep(void *ctx, const tmb_gpu_rates *rates, const tmb_gpu_row *row, tmb_err *err)
{
    report *r = ctx;
    r->rates = *rates;
    if (r->n == r->room) {
        size_t room = r->room ? 2 * r->room : 32;
        tmb_gpu_row *more = realloc(r->rows, room * sizeof *more);
        if (!more) return tmb_fail_memory(err, room * sizeof *more, "a report");
        r->rows = more;
        r->room = room;
    }
    r->rows[r->n++] = *row;
    return TMB_OK;
}

static tmb_status print_rows(const report *r, tmb_err *err)
{
    tmb_table t;
    tmb_table_open(&t,
                   "model|part|>tokens|routing|>us|>TFLOP/s|>GB/s|>floor us|bound|>error|>x floor");
    for (size_t i = 0; i < r->n; i++) {
        const tmb_gpu_row *row = &r->rows[i];
        char error[16] = "-";
        if (row->error >= 0) snprintf(error, sizeof error, "%.1e", row->error);
        tmb_table_row(&t, "%s\t%s\t%d\t%s\t%.1f\t%.0f\t%.0f\t%.1f\t%s\t%s\t%.2f", row->model->name,
                      row->part, row->tokens, row->zipf ? "zipf" : "uniform", row->us,
                      row->flops / row->us * 1e-6, row->bytes / row->us * 1e-3, row->floor_us,
                      row->read_us > row->math_us ? "read" : "math", error,
                      row->us / row->floor_us);
    }
    return tmb_table_close(&t, 0, stdout) ? TMB_OK : tmb_fail_memory(err, 0, "the table");
}

/* Geometric mean over models and parts of the rows with these tokens; 0 when there is none. */
static double mean_of(const report *r, int tokens, bool zipf)
{
    double sum = 0;
    int n = 0;
    for (size_t i = 0; i < r->n; i++) {
        if (r->rows[i].tokens != tokens || r->rows[i].zipf != zipf) continue;
        sum += log(r->rows[i].us / r->rows[i].floor_us);
        n++;
    }
    return n ? exp(sum / n) : 0;
}

static tmb_status print_means(const report *r, const tmb_gpu_job *job, tmb_err *err)
{
    printf("\ngeometric mean of the last column\n\n");
    tmb_table t;
    tmb_table_open(&t, "routing|>tokens|>x floor");
    for (int z = 0; z < 2; z++)
        for (int i = 0; i < job->n_tokens; i++)
            if (mean_of(r, job->tokens[i], z) > 0)
                tmb_table_row(&t, "%s\t%d\t%.2f", z ? "zipf" : "uniform", job->tokens[i],
                              mean_of(r, job->tokens[i], z));
    return tmb_table_close(&t, 0, stdout) ? TMB_OK : tmb_fail_memory(err, 0, "the table");
}

static tmb_status print(const report *r, const tmb_gpu_job *job, tmb_err *err)
{
    printf("%s: reads %.2f TB/s, copies %.2f TB/s, cuBLAS BF16 %.0f TFLOP/s%s\n\n", r->rates.name,
           r->rates.read_tbs, r->rates.copy_tbs, r->rates.matmul_tf,
           r->rates.assumed ? " (assumed: there is no cuBLAS here)" : "");
    TRY(print_rows(r, err));
    TRY(print_means(r, job, err));
    for (size_t i = 0; r->o->explain && i < r->n; i++)
        printf("%s%s %s, %d tokens, %s:\n%s", i ? "" : "\n", r->rows[i].model->name,
               r->rows[i].part, r->rows[i].tokens, r->rows[i].zipf ? "zipf" : "uniform",
               r->rows[i].explain);
    return TMB_OK;
}

static tmb_status print_json(const report *r, tmb_err *err)
{
    tmb_emit e;
    tmb_emit_open(&e);
    tmb_emit_text(&e, e.root, "device", r->rates.name);
    tmb_emit_num(&e, e.root, "read_bytes_per_second", r->rates.read_tbs * 1e12);
    tmb_emit_num(&e, e.root, "copy_bytes_per_second", r->rates.copy_tbs * 1e12);
    tmb_emit_num(&e, e.root, "matmul_flops_per_second", r->rates.matmul_tf * 1e12);
    tmb_emit_bool(&e, e.root, "matmul_assumed", r->rates.assumed);
    tmb_json *array = tmb_emit_array(&e, e.root, "rows");
    for (size_t i = 0; i < r->n; i++) {
        const tmb_gpu_row *row = &r->rows[i];
        tmb_json *o = tmb_emit_item(&e, array);
        tmb_emit_text(&e, o, "model", row->model->name);
        tmb_emit_text(&e, o, "part", row->part);
        tmb_emit_int(&e, o, "tokens", (uint64_t)row->tokens);
        tmb_emit_text(&e, o, "routing", row->zipf ? "zipf" : "uniform");
        tmb_emit_num(&e, o, "us", row->us);
        tmb_emit_num(&e, o, "floor_us", row->floor_us);
        tmb_emit_num(&e, o, "read_us", row->read_us);
        tmb_emit_num(&e, o, "math_us", row->math_us);
        tmb_emit_num(&e, o, "bytes", row->bytes);
        tmb_emit_num(&e, o, "flops", row->flops);
        if (row->error >= 0) tmb_emit_num(&e, o, "error", row->error);
        tmb_emit_num(&e, o, "over_floor", row->us / row->floor_us);
        if (r->o->explain) tmb_emit_text(&e, o, "explain", row->explain);
    }
    return tmb_emit_print(&e, err);
}

tmb_status tmb_bench_gpu_run(const tmb_command *self, tmb_bench_gpu *bench, int argc, char **argv,
                             tmb_err *err)
{
    tmb_bench_gpu_options o = {0};
    const char *operands[TMB_OPERANDS];
    TRY(tmb_args_parse(self, &o, argc, argv, operands, err));
    if (o.common.help) return TMB_OK;
    tmb_gpu_job job;
    TRY(job_of(&o, &job, err));
    report r = {.o = &o};
    tmb_meter meter;
    tmb_meter_open(&meter, &o.common);
    tmb_watch watch = tmb_meter_watch(&meter);
    job.watch = &watch;
    tmb_status status = bench(&job, keep, &r, err);
    tmb_meter_close(&meter);
    if (!status && o.common.json)
        status = print_json(&r, err);
    else if (!status && !o.common.quiet)
        status = print(&r, &job, err);
    free(r.rows);
    return status;
}
