#include "config.h"
#include "src/bench_report.h"

#include "src/emit.h"
#include "src/table.h"
#include "src/text.h"

static const char *rule_name(const tmb_kernel_rate *r)
{
    return tmb_scale_name((int)r->rule);
}

static bool print_kernels(const tmb_bench_figures *f)
{
    tmb_table t;
    printf("memory, one core: reads %.1f GB/s, copies %.1f GB/s\n\n", f->read * 1e-9,
           f->copy * 1e-9);
    printf("kernels, one core, %s: GB/s of BF16 input\n\n", f->ops);
    tmb_table_open(&t, "format|scales|>encode|>of memory read|>error sums|>all of a job");
    for (int i = 0; i < f->n_kernels; i++) {
        const tmb_kernel_rate *r = &f->kernels[i];
        tmb_table_row(&t, "%s\t%s\t%.2f\t%.0f %%\t%.2f\t%.2f", r->format->name, rule_name(r),
                      r->encode * 1e-9, 100 * r->encode / f->read, r->check * 1e-9, r->job * 1e-9);
    }
    return tmb_table_close(&t, 0, stdout);
}

static void print_source(const tmb_bench_figures *f)
{
    char bytes[TMB_HUMAN_BYTES], tensors[TMB_HUMAN_BYTES];
    printf("source       %s%s: %u layers, %u experts, hidden %u; %s tensors, %s in %u shard%s%s\n",
           f->shape.name, f->whole ? "" : " in miniature", f->shape.layers, f->shape.experts,
           f->shape.hidden, tmb_human_integer(tensors, f->source.tensors),
           tmb_human_bytes(bytes, f->source.bytes), f->source.shards,
           f->source.shards == 1 ? "" : "s", f->holes ? ", all holes" : "");
}

static void floor_row(tmb_table *t, const char *name, double seconds, uint64_t bytes, double job)
{
    if (seconds <= 0) return;
    tmb_table_row(t, "%s\t%.2f\t%.2f\t%.2f x", name, seconds, (double)bytes / seconds * 1e-9,
                  job / seconds);
}

static bool print_job(const tmb_bench_figures *f)
{
    char a[TMB_HUMAN_BYTES], b[TMB_HUMAN_BYTES];
    tmb_table t;
    uint64_t in = f->plain.read_bytes, out = f->written;
    print_source(f);
    printf("plan         %.2f s, %s of memory at most\n", f->plan_seconds,
           tmb_human_bytes(a, f->job.peak_planned));
    if (!f->rounds) return true;
    printf("job          %s, %d thread%s, %s written, best of %d\n", f->recipe, f->threads,
           f->threads == 1 ? "" : "s", tmb_human_bytes(a, out), f->rounds);
    printf("memory       %s at the peak, %s planned\n", tmb_human_bytes(a, f->job.peak_measured),
           tmb_human_bytes(b, f->job.peak_planned));
    printf("processors   %.2f s, %.2f s for a GB of input\n", f->job.cpu,
           in ? f->job.cpu / ((double)in * 1e-9) : 0);
    if (f->gpu.device_bytes)
        printf("with a GPU   %u Linears on it, %u not; %s of its memory, %s of the host's at the "
               "peak, processors %.2f s\n",
               f->gpu.units_gpu, f->gpu.units_cpu, tmb_human_bytes(a, f->gpu.device_bytes),
               tmb_human_bytes(b, f->gpu.peak_measured), f->gpu.cpu);
    fputs("\n", stdout);
    tmb_table_open(&t, "|>seconds|>GB/s|>job takes");
    tmb_table_row(&t, "the job, GB/s of input\t%.2f\t%.2f\t", f->job.seconds,
                  f->job.seconds > 0 ? (double)in / f->job.seconds * 1e-9 : 0);
    floor_row(&t, "the same job, encoded on the GPU", f->gpu.seconds, in, f->job.seconds);
    tmb_table_rule(&t);
    floor_row(&t, "plain program: cold read", f->plain.read, in, f->job.seconds);
    floor_row(&t, "plain program: write and flush", f->plain.write, out, f->job.seconds);
    floor_row(&t, "plain program: both at once", f->plain.both, in + out, f->job.seconds);
    floor_row(&t, "past the page cache: read", f->direct.read, in, f->job.seconds);
    floor_row(&t, "past the page cache: write and flush", f->direct.write, out, f->job.seconds);
    floor_row(&t, "past the page cache: both at once", f->direct.both, in + out, f->job.seconds);
    return tmb_table_close(&t, 0, stdout);
}

tmb_status tmb_bench_print(const tmb_bench_figures *f, tmb_err *err)
{
    bool fine = true;
    if (f->n_kernels) fine = print_kernels(f);
    if (f->n_kernels && f->source.tensors) fputs("\n", stdout);
    if (f->source.tensors) fine = print_job(f) && fine;
    return fine ? TMB_OK : tmb_fail_memory(err, 0, "the table");
}

static void json_floor(tmb_emit *e, tmb_json *to, const char *key, const tmb_floor *f)
{
    tmb_json *o = tmb_emit_object(e, to, key);
    tmb_emit_num(e, o, "read_seconds", f->read);
    tmb_emit_num(e, o, "write_seconds", f->write);
    tmb_emit_num(e, o, "both_seconds", f->both);
}

static void json_job(tmb_emit *e, const tmb_bench_figures *f)
{
    tmb_json *o = tmb_emit_object(e, e->root, "source");
    tmb_emit_text(e, o, "model", f->shape.name);
    tmb_emit_bool(e, o, "whole", f->whole);
    tmb_emit_bool(e, o, "holes", f->holes);
    tmb_emit_int(e, o, "layers", f->shape.layers);
    tmb_emit_int(e, o, "experts", f->shape.experts);
    tmb_emit_int(e, o, "hidden", f->shape.hidden);
    tmb_emit_int(e, o, "tensors", f->source.tensors);
    tmb_emit_int(e, o, "bytes", f->source.bytes);
    tmb_emit_int(e, o, "shards", f->source.shards);
    tmb_emit_num(e, e->root, "plan_seconds", f->plan_seconds);
    tmb_emit_int(e, e->root, "peak_planned_bytes", f->job.peak_planned);
    if (!f->rounds) return;
    o = tmb_emit_object(e, e->root, "job");
    tmb_emit_text(e, o, "recipe", f->recipe);
    tmb_emit_int(e, o, "threads", (uint64_t)f->threads);
    tmb_emit_int(e, o, "rounds", (uint64_t)f->rounds);
    tmb_emit_num(e, o, "seconds", f->job.seconds);
    tmb_emit_num(e, o, "processor_seconds", f->job.cpu);
    tmb_emit_int(e, o, "read_bytes", f->plain.read_bytes);
    tmb_emit_int(e, o, "written_bytes", f->written);
    tmb_emit_int(e, o, "peak_bytes", f->job.peak_measured);
    json_floor(e, e->root, "floor_plain", &f->plain);
    json_floor(e, e->root, "floor_direct", &f->direct);
}

tmb_status tmb_bench_json(const tmb_bench_figures *f, tmb_err *err)
{
    tmb_emit e;
    tmb_emit_open(&e);
    if (f->n_kernels) {
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
    }
    if (f->source.tensors) json_job(&e, f);
    return tmb_emit_print(&e, err);
}
