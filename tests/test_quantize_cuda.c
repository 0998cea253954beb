/* quantize on a GPU: every file has the bytes of the processor's, for every format, layout and
 * stored form, whether a bundle is done at once, shared or streamed; and without a GPU one line
 * says so and nothing is left behind. */
#include "config.h"
#include "kernels/cuda/device.h"
#include "moe/quantize/bundle.h"
#include "moe/quantize/stage.h"
#include "tests/run_job.h"

/* A recipe whose experts have searched scales. */
static const char mse_recipe[] = "*experts* = searched\n* = fp8\n[format searched]\nbase = nvfp4\n"
                                 "scale = mse\n";

typedef struct way {
    const char *rules, *layout;
    uint64_t shard_size, ring;
} way;

static const way ways[] = {
    {users_recipe, "modelopt", 0, 0},
    {users_recipe, "compressed-tensors", 150000, 0},
    {mse_recipe, "modelopt", 0, 0},
    {mse_recipe, "compressed-tensors", 90000, 200 << 10},
    {"*experts* = nvfp4-w4a16\n", "compressed-tensors", 60000, 0},
    {"*experts* = mxfp4\n* = fp8-channel\n", "compressed-tensors", 0, 200 << 10},
    {"*experts* = mxfp8\n", "modelopt", 0, 0},
    {"*experts* = int4\n", "compressed-tensors", 0, 0},
    {"*experts* = int4-g32\n", "compressed-tensors", 0, 200 << 10},
    {"* = fp8-block\n", "compressed-tensors", 90000, 0},
    {"*experts* = bf16\n* = fp8\n", "modelopt", 90000, 200 << 10},
};

static unsigned seen; /* bit w: a bundle went the way w */

/* One job into `out`; TMB_EUSAGE: not for this model, or not in this layout. */
static tmb_status run_way(const char *source, const way *w, bool gpu, const char *out,
                          uint32_t units[2], tmb_err *err)
{
    job j;
    tmb_plan_options options = {
        .layout = w->layout, .shard_size = w->shard_size, .threads = 3, .gpu = gpu};
    tmb_quantize_options q = {.out = out};
    tmb_quantize_result *r = NULL;
    tmb_status status = job_open(&j, source, w->rules, &options);
    *err = j.err;
    if (!status && w->ring) j.plan->stage_bytes = w->ring;
    for (uint32_t i = 0; !status && i < j.plan->n_bundles; i++)
        seen |= 1u << tmb_way_of(j.plan, &j.plan->bundles[i], j.plan->stage_bytes);
    if (!status) status = tmb_quantize(j.plan, &q, &r, err);
    if (!status) {
        units[0] += r->units_cpu;
        units[1] += r->units_gpu;
    }
    tmb_quantize_result_close(r);
    job_close(&j);
    return status;
}

static void test_model(const char *name, const char *source)
{
    uint32_t cpu[2] = {0}, gpu[2] = {0};
    int jobs = 0, wrong = 0;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        char a[TMB_SHA256_HEX], b[TMB_SHA256_HEX];
        tmb_err err = {0};
        tmb_status status = run_way(source, &ways[i], false, in_root("cpu"), cpu, &err);
        if (status == TMB_EUSAGE) continue;
        if (!status) status = run_way(source, &ways[i], true, in_root("gpu"), gpu, &err);
        digest(in_root("cpu"), a);
        digest(in_root("gpu"), b);
        jobs++;
        if (status || !*a || strcmp(a, b) != 0) {
            wrong++;
            printf("# %s: way %zu: %s\n", name, i, status ? err.message : "other bytes");
        }
        remove_tree(in_root("cpu"));
        remove_tree(in_root("gpu"));
    }
    ok(!wrong && jobs >= 2 && cpu[1] == 0 && gpu[0] == 0 && gpu[1] == cpu[0] && gpu[1] > 0,
       "%s: %d jobs, %u Linears on the GPU, %u not, the same bytes", name, jobs, gpu[1], gpu[0]);
}

static void test_device(void)
{
    const char *folder = data_path("arch");
    DIR *dir = opendir(folder);
    test_model("tinymoe", data_path("tinymoe/a"));
    for (struct dirent *e; dir && (e = readdir(dir));) {
        char source[2048];
        if (e->d_name[0] == '.') continue;
        snprintf(source, sizeof source, "%s/%s", data_path("arch"), e->d_name);
        test_model(e->d_name, source);
    }
    if (dir) closedir(dir);
    ok((seen & 7) == 7, "bundles were done alone, shared and streamed");
}

/* A value that is not finite is found there too, and told in the processor's words. */
static void test_damage(void)
{
    char command[4096];
    const uint8_t nan[2] = {0xc0, 0x7f};
    tmb_err err[2] = {{0}, {0}};
    uint32_t units[2] = {0};
    const char *source = in_root("damaged");
    snprintf(command, sizeof command, "%s/model.safetensors", source);
    copy_tree(data_path("arch/qwen3_moe"), source);
    job j;
    if (job_open(&j, source, users_recipe, NULL)) {
        ok(0, "%s", j.err.message);
        return;
    }
    const tmb_unit *unit = NULL;
    for (uint32_t u = 0; u < j.model->n_units && !unit; u++)
        if (j.assignment->choices[u].spec->format) unit = &j.model->units[u];
    const tmb_tensor *t = &j.ckpt->tensors[unit->stored.part[TMB_PART_CODES]];
    snprintf(command, sizeof command, "%s/%s", source, j.ckpt->shards[t->shard].name);
    int fd = open(command, O_WRONLY);
    bool fine = fd >= 0 && pwrite(fd, nan, 2, (off_t)(j.ckpt->shards[t->shard].data_begin + t->begin + t->bytes - 2)) == 2;
    if (fd >= 0) close(fd);
    job_close(&j);
    tmb_status a = run_way(source, &ways[0], false, in_root("cpu"), units, &err[0]);
    tmb_status b = run_way(source, &ways[0], true, in_root("gpu"), units, &err[1]);
    ok(fine && a == TMB_EDATA && a == b && strcmp(err[0].message, err[1].message) == 0,
       "a NaN: %s", err[1].message);
}

/* Memory of the device is counted, and a plan for one needs none. */
static void test_plan(void)
{
    job with, without;
    tmb_plan_options options = {.threads = 2};
    tmb_status a = job_open(&without, data_path("tinymoe/a"), users_recipe, &options);
    options.gpu = true;
    tmb_status b = job_open(&with, data_path("tinymoe/a"), users_recipe, &options);
    ok(!a && !b && without.plan->device_bytes == 0 &&
           with.plan->device_bytes == 2 * tmb_gpu_need(with.plan).device_bytes &&
           with.plan->device_bytes > 0 &&
           with.plan->peak_bytes >
               without.plan->peak_bytes + 2 * tmb_gpu_need(with.plan).host_bytes,
       "%llu bytes of the device are planned", (unsigned long long)with.plan->device_bytes);
    job_close(&with);
    job_close(&without);
}

static void test_none(void)
{
    tmb_err err = {0};
    job j;
    tmb_plan_options options = {.threads = 1, .gpu = true};
    tmb_quantize_options q = {.out = in_root("none"), .device = 900};
    tmb_quantize_result *r = NULL;
    tmb_status status = job_open(&j, data_path("tinymoe/a"), users_recipe, &options);
    if (!status) status = tmb_quantize(j.plan, &q, &r, &err);
    ok(status == TMB_EUNAVAILABLE && *err.message && !strchr(err.message, '\n') &&
           access(in_root("none"), F_OK) != 0,
       "no GPU 900: %s", err.message);
    tmb_quantize_result_close(r);
    job_close(&j);
}

int main(void)
{
    tmb_err err = {0};
    tmb_cuda *gpu = NULL;
    make_root();
    test_plan();
    test_none();
    if (tmb_cuda_open(&gpu, 0, &err)) {
        ok(1, "jobs on the device # SKIP %s", err.message);
    } else {
        tmb_cuda_close(gpu);
        test_device();
        test_damage();
    }
    remove_tree(root);
    return done();
}
