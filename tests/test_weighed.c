/* test_weighed.c - jobs whose scales are searched under second moments: every scale against a
 * search by hand, for any threads and memory; what has no moments; what is refused. */
#include "config.h"

#include "kernels/cpu/cpu.h"
#include "moe/calib/calibrate.h"
#include "moe/calib/file.h"
#include "moe/calib/weigh.h"
#include "moe/model/weight.h"
#include "moe/quantize/weighing.h"
#include "tests/run_job.h"

#include <math.h>

#define MODEL "arch/qwen3_moe"

static const char hessian_rules[] =
    "*experts* = h\n* = fp8\n[format h]\nbase = nvfp4\nscale = hessian\n";
static const char mse_rules[] = "*experts* = h\n* = fp8\n[format h]\nbase = nvfp4\nscale = mse\n";

static tmb_status calibrate(const char *out, bool moments, tmb_err *err)
{
    tmb_checkpoint *ckpt = NULL;
    tmb_model *m = NULL;
    tmb_data *data = NULL;
    tmb_calibrate_result result = {0};
    FILE *f = fopen(in_root("ids.bin"), "wb");
    for (int i = 0; f && i < 256; i++)
        fwrite(&(uint16_t){(uint16_t)(i * i % 97)}, 2, 1, f);
    if (f) fclose(f);
    tmb_source source = {.name = "a", .path = in_root("ids.bin"), .weight = 1};
    tmb_data_options d = {.sources = &source, .n_sources = 1, .length = 64, .fit = TMB_FIT_PACK};
    tmb_calibrate_options o = {
        .out = out, .min_tokens = 64, .starved = TMB_STARVED_SHADOW, .moments = moments};
    tmb_status status = tmb_checkpoint_open(&ckpt, data_path(MODEL), err);
    if (!status) status = tmb_model_open(&m, ckpt, err);
    if (!status) status = tmb_data_open(&data, &d, err);
    if (!status) status = tmb_calibrate(m, data, &o, &result, err);
    tmb_calibrate_result_free(&result);
    tmb_data_close(data);
    tmb_model_close(m);
    tmb_checkpoint_close(ckpt);
    return status;
}

static tmb_status quantize(job *j, const char *rules, const char *stats, int threads,
                           uint64_t max_ram, const char *out, tmb_err *err)
{
    tmb_plan_options options = {.stats = stats, .threads = threads, .max_ram = max_ram};
    tmb_quantize_options q = {.out = out};
    tmb_quantize_result *result = NULL;
    tmb_status status = job_open(j, data_path(MODEL), rules, &options);
    *err = j->err;
    if (!status) status = tmb_quantize(j->plan, &q, &result, err);
    tmb_quantize_result_close(result);
    return status;
}

/* ---- by hand ----------------------------------------------------------------------------------
 */

typedef struct hand {
    const job *j;
    tmb_checkpoint *out;
    tmb_stats_file *file;
    tmb_reader *reader;
    bool full;
    unsigned right, wrong, unlike_plain;
} hand;

/* The table of a unit's input, malloc'ed; NULL when there is none. */
static float *table_of(const hand *h, const tmb_unit *unit)
{
    float *lanes = NULL;
    tmb_err err;
    for (uint32_t l = 0; l < h->file->n_layers && !lanes; l++) {
        tmb_stats_layer *layer = NULL;
        tmb_site_ref at;
        if (h->file->layers[l] != unit->layer || tmb_stats_read(h->file, l, false, &layer, &err))
            continue;
        if (tmb_stats_find_name(layer, unit->name, &at)) {
            const tmb_site *site = &layer->sites[at.site];
            uint64_t blocks = site->in / 16, figures = blocks * (h->full ? 136 : 16);
            float *s = malloc(site->n * figures * sizeof *s);
            double *tokens = malloc(site->n * sizeof *tokens);
            lanes = malloc(tmb_weigh_floats(blocks, h->full) * sizeof *lanes);
            if (!tmb_stats_moments(h->file, layer, at.site, h->full, s, tokens, &err))
                tmb_weigh_table(s + at.entry * figures, blocks, h->full, tokens[at.entry], lanes);
            free(s);
            free(tokens);
        }
        tmb_stats_layer_free(layer);
    }
    return lanes;
}

static void check_unit(hand *h, const tmb_unit *unit)
{
    char name[256];
    float ws2 = 0;
    tmb_err err;
    const tmb_ops *ref = tmb_cpu_ops_at(0);
    size_t blocks = (size_t)unit->in / 16, n = (size_t)unit->out * blocks;
    snprintf(name, sizeof name, "%s.weight_scale", unit->name);
    const tmb_tensor *scales = tmb_checkpoint_find(h->out, name);
    snprintf(name, sizeof name, "%s.weight_scale_2", unit->name);
    const tmb_tensor *global = tmb_checkpoint_find(h->out, name);
    float *lanes = table_of(h, unit);
    float *x = malloc((size_t)unit->in * TMB_TILE_ROWS * sizeof *x);
    uint8_t *got = malloc(n), *want = malloc(2 * n);
    bool good = lanes && scales && global && scales->bytes == n &&
                !tmb_checkpoint_read(h->out, scales, 0, got, n, &err) &&
                !tmb_checkpoint_read(h->out, global, 0, &ws2, sizeof ws2, &err);
    const tmb_moments moments = {h->full, lanes};
    for (uint64_t row = 0; good && row < unit->out; row += TMB_TILE_ROWS) {
        size_t rows = unit->out - row < TMB_TILE_ROWS ? (size_t)(unit->out - row) : TMB_TILE_ROWS;
        good = !tmb_reader_rows(h->reader, unit, row, rows, x, &err);
        for (size_t r = 0; good && r < rows; r++)
            ref->search_nvfp4_weighted(want + (row + r) * blocks, x + r * unit->in, ws2, &moments,
                                       blocks);
        if (good) ref->search_nvfp4(want + n + row * blocks, x, ws2, rows * blocks);
    }
    good = good && !memcmp(got, want, n);
    h->right += good;
    h->wrong += !good;
    h->unlike_plain += good && memcmp(got, want + n, n) != 0;
    free(lanes);
    free(x);
    free(got);
    free(want);
}

static void by_hand(const char *rules, const char *stats, bool full, const char *out)
{
    tmb_err err = {0};
    job j;
    hand h = {.j = &j, .full = full};
    tmb_status status = quantize(&j, rules, stats, 2, 0, out, &err);
    if (!status) status = tmb_checkpoint_open(&h.out, out, &err);
    if (!status) status = tmb_stats_open(&h.file, stats, &err);
    if (!status) status = tmb_reader_open(&h.reader, j.model, tmb_cpu_ops_at(0), &err);
    ok(!status, "%s: the job runs (%s)", full ? "hessian" : "mse", err.message);
    for (uint32_t u = 0; !status && u < j.model->n_units; u++)
        if (j.assignment->choices[u].spec->scale != TMB_SCALE_MAX)
            check_unit(&h, &j.model->units[u]);
    ok(h.right > 20 && !h.wrong && h.unlike_plain > h.right / 2,
       "%u Linears have the scales of the search by hand, %u not; %u are not those of plain mse",
       h.right, h.wrong, h.unlike_plain);
    for (uint32_t i = 0; !status && i < j.plan->n_rows; i++)
        if (j.plan->rows[i].unweighed) h.wrong++;
    ok(!h.wrong, "and all of them are weighted");
    if (h.reader) tmb_reader_close(h.reader);
    tmb_stats_close(h.file);
    tmb_checkpoint_close(h.out);
    job_close(&j);
}

/* ---- the same bytes, in the memory that was planned -------------------------------------------
 */

static void any_way(const char *stats, const char *out)
{
    char want[TMB_SHA256_HEX], got[TMB_SHA256_HEX];
    uint64_t least = 0;
    int same = 0, fits = 0;
    digest(out, want);
    for (int threads = 1; threads <= 4; threads += 3) {
        tmb_err err = {0};
        job j;
        const char *again = in_root(threads == 1 ? "one" : "four");
        tmb_status status = quantize(&j, hessian_rules, stats, threads, least, again, &err);
        digest(again, got);
        if (ok(!status, "%d threads (%s)", threads, err.message)) {
            same += !strcmp(want, got);
            fits += !least || j.plan->peak_bytes <= least;
            least = j.plan->peak_bytes;
        }
        job_close(&j);
        remove_tree(again);
    }
    ok(same == 2 && fits == 2, "the same bytes by one thread and by four in its memory");

    job with, without;
    tmb_plan_options options = {.stats = stats, .threads = 1};
    tmb_status status = job_open(&with, data_path(MODEL), hessian_rules, &options);
    tmb_status other =
        job_open(&without, data_path(MODEL), "*experts* = nvfp4\n* = fp8\n", &options);
    if (ok(!status && !other && with.plan->weigh && !without.plan->weigh, "both are planned")) {
        uint64_t room = tmb_weighing_bytes(with.plan, with.plan->stage_bytes);
        uint64_t more = room + with.plan->weigh->table_floats * sizeof(float);
        ok(room > with.plan->weigh->bytes[0] &&
               with.plan->peak_bytes - with.plan->metadata_bytes ==
                   without.plan->peak_bytes - without.plan->metadata_bytes + more,
           "second moments are in the plan's memory: %llu bytes", (unsigned long long)more);
    }
    job_close(&with);
    job_close(&without);
}

/* ---- what has none ----------------------------------------------------------------------------
 */

static void nothing_known(const char *stats)
{
    static const char rules[] = "@lm_head = w\n*experts* = w\n* = bf16\n"
                                "[format w]\nbase = nvfp4-w4a16\nscale = hessian\n";
    tmb_err err = {0};
    job j;
    tmb_status status = quantize(&j, rules, stats, 2, 0, in_root("head"), &err);
    ok(!status, "a head that was not measured (%s)", err.message);
    uint64_t unweighed = 0;
    for (uint32_t i = 0; !status && i < j.plan->n_rows; i++)
        if (j.plan->rows[i].role == TMB_ROLE_LM_HEAD) unweighed += j.plan->rows[i].unweighed;
    char text[1 << 14] = "";
    FILE *f = fopen(in_root("head/tombac.json"), "r");
    if (f && fread(text, 1, sizeof text - 1, f) == 0) text[0] = 0;
    if (f) fclose(f);
    ok(unweighed == 1 && strstr(text, "\"scale\": \"hessian\", \"unweighed\": 1,") &&
           strstr(text, "\"scale\": \"hessian\", \"unweighed\": 0,"),
       "gets plain mse, and is counted");
    job_close(&j);
}

static void refuses(const char *rules, const char *stats, const char *words)
{
    job j;
    tmb_plan_options options = {.stats = stats, .threads = 1};
    tmb_status status = job_open(&j, data_path(MODEL), rules, &options);
    ok(status == TMB_EUSAGE && strstr(j.err.message, words), "refused: %s", j.err.message);
    job_close(&j);
}

int main(void)
{
    make_root();
    tmb_err err = {0};
    const char *stats = in_root("a.h5"), *bare = in_root("b.h5"), *out = in_root("hessian");
    tmb_status status = calibrate(stats, true, &err);
    if (!status) status = calibrate(bare, false, &err);
    if (ok(!status, "statistics are there (%s)", err.message)) {
        by_hand(hessian_rules, stats, true, out);
        any_way(stats, out);
        by_hand(mse_rules, bare, false, in_root("mse"));
        nothing_known(stats);
        refuses(hessian_rules, NULL, "test.ini:8: scale = hessian weighs errors by what calibrate");
        job j;
        tmb_plan_options options = {.unmeasured = true};
        ok(!job_open(&j, data_path(MODEL), hessian_rules, &options), "but calibrate may plan it");
        job_close(&j);
        refuses(hessian_rules, bare, "has no second moments, which scale = hessian in line 8");
        refuses("* = h\n[format h]\nbase = int4\nscale = hessian\n", stats,
                "test.ini:7: int4 has no scale = hessian (nvfp4, nvfp4-w4a16 have)");
    }
    remove_tree(root);
    return done();
}
