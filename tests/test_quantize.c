/* test_quantize.c - whole jobs on small checkpoints: the bytes do not depend on the number of
 * threads, files have the predicted size, and values come back. */
#include "config.h"
#include "kernels/cpu/cpu.h"
#include "moe/model/weight.h"
#include "tests/run_job.h"

#include <math.h>

static void test_threads(void)
{
    static const int counts[] = {1, 2, 3, 8};
    char first[TMB_SHA256_HEX] = "", sha[TMB_SHA256_HEX];
    for (int i = 0; i < 4; i++) {
        tmb_err err = {0};
        request r = {.source = data_path("tinymoe/a"),
                     .out = in_root("threads"),
                     .rules = users_recipe,
                     .layout = "modelopt",
                     .shard_size = 400000,
                     .threads = counts[i]};
        tmb_status status = run_here(&r, NULL, &err);
        digest(r.out, sha);
        if (i == 0) strcpy(first, sha);
        ok(!status && sha[0] && strcmp(sha, first) == 0, "%d threads give the same bytes %s",
           counts[i], err.message);
        remove_tree(r.out);
    }
}

/* Ways through memory that a small job would not take by itself: rings and blocks so small that
 * bundles are shared by threads, read in parts, or not read ahead at all, and that output waits for
 * memory, is given up, or written through.  They change no byte. */
static void test_ways(void)
{
    static const struct {
        const char *source;
        uint64_t ring;
        uint32_t block, n_blocks;
        int threads;
        bool cached;
    } ways[] = {
        {"tinymoe/a", 0, 0, 0, 3, true},           {"tinymoe/a", 1 << 20, 4096, 1, 1, false},
        {"tinymoe/a", 1 << 20, 4096, 2, 4, false}, {"tinymoe/a", 600 << 10, 8192, 3, 3, true},
        {"tinymoe/a", 400 << 10, 65536, 4, 2, false}, {"tinymoe/a", 300 << 10, 4096, 3, 4, false},
        {"arch/gpt_oss", 1 << 20, 4096, 2, 3, false}, {"arch/gpt_oss", 200 << 10, 4096, 1, 2, true},
        {"arch/llama4_mm", 1 << 20, 4096, 2, 3, false},
        {"arch/llama4_mm", 160 << 10, 4096, 2, 4, false},
        {"arch/qwen3_vl_moe", 100 << 10, 4096, 2, 4, false},
        {"arch/deepseek_v3_fp8", 512 << 10, 4096, 2, 4, false},
        {"arch/deepseek_v3_fp8", 128 << 10, 4096, 2, 2, false},
        {"arch/mixtral", 256 << 10, 4096, 1, 3, true},
        {"arch/mixtral", 128 << 10, 8192, 2, 3, false},
    };
    char want[TMB_SHA256_HEX] = "", sha[TMB_SHA256_HEX];
    unsigned seen = 0;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        tmb_err err = {0};
        bool first = !i || strcmp(ways[i].source, ways[i - 1].source) != 0;
        request r = {.source = data_path(ways[i].source),
                     .out = in_root("ways"),
                     .rules = users_recipe,
                     .layout = ways[i].source[0] == 'a' ? "modelopt" /* which keeps stacks */
                                                        : "compressed-tensors",
                     .shard_size = 300000,
                     .threads = 2};
        if (first) {
            tmb_status status = run_here(&r, NULL, &err);
            digest(r.out, want);
            ok(!status && *want, "%s as it comes %s", ways[i].source, err.message);
            remove_tree(r.out);
        }
        r.threads = ways[i].threads;
        r.ring = ways[i].ring;
        r.block_bytes = ways[i].block;
        r.n_blocks = ways[i].n_blocks;
        r.cached = ways[i].cached;
        r.seen = &seen;
        tmb_status status = run_here(&r, NULL, &err);
        digest(r.out, sha);
        ok(!status && strcmp(sha, want) == 0,
           "ring %llu, %u blocks of %u, %d threads%s: the same bytes %s",
           (unsigned long long)r.ring, r.n_blocks, r.block_bytes, r.threads,
           r.cached ? ", cached" : "", err.message);
        remove_tree(r.out);
    }
    ok(seen == 15, "bundles went alone, shared, streamed and unstaged: %x", seen);
}

/* Every file of the plan is there with its size, and nothing else. */
static const char *size_fault(const tmb_plan *plan, const char *folder)
{
    static char text[2048];
    uint64_t disk = 0;
    uint32_t files = 0;
    DIR *dir = opendir(folder);
    if (!dir) return "no folder";
    for (struct dirent *e; (e = readdir(dir));) {
        struct stat st;
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        files++;
        if (fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
            disk += (uint64_t)st.st_size;
        uint64_t bytes = UINT64_MAX;
        for (uint32_t i = 0; i < plan->n_files; i++)
            if (!strcmp(plan->files[i].name, e->d_name))
                bytes = plan->files[i].header_bytes + plan->files[i].data_bytes;
        for (uint32_t i = 0; i < plan->n_others; i++)
            if (!strcmp(plan->others[i].name, e->d_name)) bytes = plan->others[i].bytes;
        if (bytes == (uint64_t)st.st_size) continue;
        snprintf(text, sizeof text, "%s: %lld bytes, planned %lld", e->d_name,
                 (long long)st.st_size, (long long)bytes);
        closedir(dir);
        return text;
    }
    closedir(dir);
    if (files != plan->n_files + plan->n_others) return "files are missing";
    return disk == plan->disk_bytes ? NULL : "disk bytes differ";
}

static bool equal_bytes(const tmb_checkpoint *a, const tmb_tensor *ta, const tmb_checkpoint *b,
                        const tmb_tensor *tb)
{
    char *x = malloc(ta->bytes + 1), *y = malloc(ta->bytes + 1);
    bool good = x && y && ta->bytes == tb->bytes && ta->dtype == tb->dtype &&
                !tmb_checkpoint_read(a, ta, 0, x, ta->bytes, NULL) &&
                !tmb_checkpoint_read(b, tb, 0, y, tb->bytes, NULL) && !memcmp(x, y, ta->bytes);
    free(x);
    free(y);
    return good;
}

/* SQNR between two units in dB; -1000 when one cannot be read. */
static double sqnr(const tmb_model *a, const tmb_unit *ua, const tmb_model *b, const tmb_unit *ub)
{
    tmb_reader *ra = NULL, *rb = NULL;
    tmb_sums sums = {0};
    const tmb_ops *ops = tmb_cpu_ops_named("ref");
    float *x = malloc(TMB_TILE_ROWS * ua->in * 4), *y = malloc(TMB_TILE_ROWS * ua->in * 4);
    bool good = x && y && ua->out == ub->out && ua->in == ub->in && !ub->broken &&
                !tmb_reader_open(&ra, a, ops, NULL) && !tmb_reader_open(&rb, b, ops, NULL);
    for (uint64_t row = 0; good && row < ua->out; row += TMB_TILE_ROWS) {
        size_t rows = ua->out - row < TMB_TILE_ROWS ? (size_t)(ua->out - row) : TMB_TILE_ROWS;
        good = !tmb_reader_rows(ra, ua, row, rows, x, NULL) &&
               !tmb_reader_rows(rb, ub, row, rows, y, NULL);
        if (good) ops->compare(&sums, x, y, rows * ua->in);
    }
    if (ra) tmb_reader_close(ra);
    if (rb) tmb_reader_close(rb);
    free(x);
    free(y);
    if (!good) return -1000;
    return sums.noise > 0 ? 10 * log10(sums.signal / sums.noise) : 1000;
}

/* Least SQNR that the element's width allows for weights of these fixtures (outliers of 8 sigma).
 */
static double least_db(const tmb_spec *spec)
{
    if (!spec->format) return 40; /* BF16 of a decoded source */
    return spec->format->bits > 6 ? 25 : 12;
}

static const char *value_fault(const job *j, const char *folder)
{
    static char text[2048];
    tmb_checkpoint *ckpt = NULL;
    tmb_model *model = NULL;
    tmb_err err = {0};
    const char *fault = NULL;
    if (tmb_checkpoint_open(&ckpt, folder, &err) || tmb_model_open(&model, ckpt, &err)) {
        snprintf(text, sizeof text, "cannot reopen: %s", err.message);
        if (ckpt) tmb_checkpoint_close(ckpt);
        return text;
    }
    for (uint32_t i = 0; !fault && i < j->plan->n_outs; i++) {
        const tmb_out *out = &j->plan->outs[i];
        const tmb_tensor *t = tmb_checkpoint_find(ckpt, out->name);
        if (!t || (out->kind == TMB_OUT_COPY &&
                   !equal_bytes(j->ckpt, &j->ckpt->tensors[out->source], ckpt, t))) {
            snprintf(text, sizeof text, "%s: %s", out->name,
                     t ? "differs from the source" : "missing");
            fault = text;
        }
    }
    for (uint32_t u = 0; !fault && u < j->model->n_units; u++) {
        if (!j->plan->n_slots[u]) continue;
        const tmb_unit *a = &j->model->units[u], *b = tmb_model_find(model, a->name);
        double db = b ? sqnr(j->model, a, model, b) : -2000;
        if (db >= least_db(j->assignment->choices[u].spec)) continue;
        snprintf(text, sizeof text, "%s: %.1f dB%s%s", a->name, db, b && b->broken ? ", " : "",
                 b && b->broken ? b->broken : "");
        fault = text;
    }
    tmb_model_close(model);
    tmb_checkpoint_close(ckpt);
    return fault;
}

static void test_fixtures(void)
{
    static const struct {
        const char *rules, *layout;
        uint64_t shard_size;
    } jobs[] = {
        {users_recipe, "modelopt", 0},
        {users_recipe, "compressed-tensors", 150000},
        {"*experts* = nvfp4-w4a16\n", "compressed-tensors", 60000},
        {"*experts* = mxfp4\n* = fp8-channel\n", "compressed-tensors", 0},
        {"*experts* = int4\n", "compressed-tensors", 0},
        {"* = fp8-block\n", "compressed-tensors", 90000},
        {"*experts* = bf16\n* = fp8\n", "modelopt", 90000},
    };
    const char *folder = data_path("arch");
    DIR *dir = opendir(folder);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (e->d_name[0] == '.') continue;
        int done_jobs = 0;
        const char *fault = NULL;
        for (size_t i = 0; i < sizeof jobs / sizeof *jobs && !fault; i++) {
            char source[2048];
            job j;
            tmb_quantize_result *result = NULL;
            tmb_plan_options options = {
                .layout = jobs[i].layout, .shard_size = jobs[i].shard_size, .threads = 2};
            tmb_quantize_options q = {.out = in_root("out")};
            snprintf(source, sizeof source, "%s/%s", data_path("arch"), e->d_name);
            tmb_status status = job_open(&j, source, jobs[i].rules, &options);
            if (status == TMB_EUSAGE) { /* not for this model, or not in this layout */
                job_close(&j);
                continue;
            }
            if (!status) status = tmb_quantize(j.plan, &q, &result, &j.err);
            if (status) fault = j.err.message;
            if (!fault) fault = size_fault(j.plan, q.out);
            if (!fault) fault = value_fault(&j, q.out);
            if (fault) printf("# %s in %s: %s\n", jobs[i].rules, jobs[i].layout, fault);
            if (fault) fault = "see above";
            done_jobs++;
            tmb_quantize_result_close(result);
            job_close(&j);
            remove_tree(in_root("out"));
        }
        ok(!fault && done_jobs >= 2, "%s: %d jobs, sizes exact, values come back", e->d_name,
           done_jobs);
    }
    if (dir) closedir(dir);
}

/* tombac.json is JSON, and its checksums are those of the files. */
static void test_summary(void)
{
    request r = {.source = data_path("tinymoe/a"),
                 .out = in_root("summary"),
                 .rules = users_recipe,
                 .layout = "modelopt",
                 .shard_size = 400000,
                 .threads = 2};
    tmb_err err = {0};
    tmb_json *json = NULL;
    char path[2048];
    snprintf(path, sizeof path, "%s/tombac.json", r.out);
    tmb_status status = run_here(&r, NULL, &err);
    if (!status) status = tmb_json_load(&json, AT_FDCWD, path, 1 << 20, false, &err);
    ok(!status, "tombac.json is strict JSON %s", err.message);
    void *it = NULL;
    const char *name;
    const tmb_json *value, *files = tmb_json_get(json, "files"),
                           *groups = tmb_json_get(json, "groups");
    size_t good = 0, measured = 0;
    while (tmb_json_next(files, &it, &name, &value)) {
        char sha[TMB_SHA256_HEX] = "";
        struct stat st = {0};
        snprintf(path, sizeof path, "%s/%s", r.out, name);
        int fd = open(path, O_RDONLY);
        if (fd >= 0 && fstat(fd, &st) == 0 && !tmb_sha256_file(fd, path, sha, NULL) &&
            !strcmp(sha, tmb_json_string(tmb_json_get(value, "sha256"))) &&
            tmb_json_int_or(value, "bytes", -1) == st.st_size)
            good++;
        if (fd >= 0) close(fd);
    }
    ok(good > 8 && good == tmb_json_size(files), "%zu checksums and sizes are right", good);
    for (size_t i = 0; i < tmb_json_size(groups); i++) {
        double db = 0, worst = 0;
        const tmb_json *group = tmb_json_at(groups, i);
        if (!tmb_json_number(tmb_json_get(group, "sqnr_db"), &db)) continue;
        const char *unit = tmb_json_string(tmb_json_get(group, "worst"));
        tmb_json_number(tmb_json_get(group, "worst_sqnr_db"), &worst);
        measured +=
            db > 15 && db < 45 && worst <= db && worst > 10 && unit && strstr(unit, "layers.");
    }
    ok(measured >= 2, "%zu groups have a plausible error and name their worst unit", measured);
    tmb_json_free(json);
    remove_tree(r.out);
}

/* gate and up of an expert get the scale of the larger of the two. */
static void test_joint_scale(void)
{
    request r = {.source = data_path("arch/qwen3_moe"),
                 .out = in_root("joint"),
                 .rules = users_recipe,
                 .layout = "modelopt",
                 .threads = 2};
    tmb_err err = {0};
    tmb_checkpoint *in = NULL, *out = NULL;
    tmb_model *model = NULL;
    tmb_reader *reader = NULL;
    float work[TMB_TILE_ROWS * 256], amax[2] = {0}, scale[2] = {0};
    static const char *const leaves[] = {"gate_proj", "up_proj"};
    tmb_status status = run_here(&r, NULL, &err);
    if (!status) status = tmb_checkpoint_open(&in, r.source, &err);
    if (!status) status = tmb_checkpoint_open(&out, r.out, &err);
    if (!status) status = tmb_model_open(&model, in, &err);
    if (!status) status = tmb_reader_open(&reader, model, tmb_cpu_ops(), &err);
    for (int i = 0; !status && i < 2; i++) {
        char name[256];
        snprintf(name, sizeof name, "model.layers.1.mlp.experts.2.%s", leaves[i]);
        const tmb_unit *unit = tmb_model_find(model, name);
        if (unit && unit->in <= 256) status = tmb_reader_amax(reader, unit, work, &amax[i], &err);
        strcat(name, ".weight_scale_2");
        const tmb_tensor *t = tmb_checkpoint_find(out, name);
        if (t && t->bytes == 4 && !status)
            status = tmb_checkpoint_read(out, t, 0, &scale[i], 4, &err);
    }
    float larger = amax[0] > amax[1] ? amax[0] : amax[1];
    ok(!status && amax[0] != amax[1] && scale[0] == larger / 2688.0f && scale[1] == scale[0],
       "gate and up share amax %g / 2688 %s", (double)larger, err.message);
    if (reader) tmb_reader_close(reader);
    if (model) tmb_model_close(model);
    if (in) tmb_checkpoint_close(in);
    if (out) tmb_checkpoint_close(out);
    remove_tree(r.out);
}

/* Peak memory of a process that does nothing else.  Instrumented programs need more. */
static void test_memory(void)
{
    bool instrumented = false;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    instrumented = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
    instrumented = true;
#endif
#endif
    if (instrumented) {
        ok(1, "memory is not measured in an instrumented program # SKIP");
        return;
    }
    job j;
    tmb_plan_options options = {.layout = "modelopt", .threads = 2};
    tmb_status status = job_open(&j, data_path("tinymoe/a"), users_recipe, &options);
    uint64_t predicted = status ? 0 : j.plan->peak_bytes;
    job_close(&j);
    request r = {.source = data_path("tinymoe/a"),
                 .out = in_root("memory"),
                 .rules = users_recipe,
                 .layout = "modelopt",
                 .threads = 2};
    struct rusage usage = {0};
    int rc = 0;
    pid_t pid = start(&r, NULL);
    wait4(pid, &rc, 0, &usage);
    ok(!status && rc == 0 && (uint64_t)usage.ru_maxrss * 1024 <= predicted,
       "peak %ld KiB is within the predicted %llu KiB", usage.ru_maxrss,
       (unsigned long long)predicted / 1024);
    remove_tree(r.out);
}

int main(int argc, char **argv)
{
    if (argc == 11 && strcmp(argv[1], "run") == 0) return run_mode(argv);
    make_root();
    test_summary();
    test_joint_scale();
    test_memory();
    test_threads();
    test_ways();
    test_fixtures();
    remove_tree(root);
    return done();
}
