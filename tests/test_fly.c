/* test_fly.c - a recipe on the fly gives the bits of the checkpoint that quantize writes: every
 * weight, every rounded input and cache, and what eval makes of them. */
#include "config.h"

#include "kernels/cpu/cpu.h"
#include "moe/calib/calibrate.h"
#include "moe/eval/acts.h"
#include "moe/eval/eval.h"
#include "moe/fly/fly.h"
#include "moe/quantize/quantize.h"
#include "tests/job.h"
#include "tests/random.h"
#include "tests/tap.h"

#include <unistd.h>

enum { ROWS = 3 };

static char folder[] = "/tmp/tombac-test-XXXXXX";

static const char *path(const char *name)
{
    static char paths[4][256];
    static int next;
    char *p = paths[next++ % 4];
    snprintf(p, sizeof paths[0], "%s/%s", folder, name);
    return p;
}

typedef struct pair {
    tmb_checkpoint *ckpt;
    tmb_model *model;
} pair;

static tmb_status open_pair(pair *p, const char *where, tmb_err *err)
{
    tmb_status status = tmb_checkpoint_open(&p->ckpt, where, err);
    return status ? status : tmb_model_open(&p->model, p->ckpt, err);
}

static void close_pair(pair *p)
{
    tmb_model_close(p->model);
    tmb_checkpoint_close(p->ckpt);
}

/* ---- weights, inputs, cache -------------------------------------------------------------------
 */

typedef struct bench {
    const job *j;
    tmb_fly *fly;
    pair out;
    tmb_reader *source, *written;
    tmb_acts *acts;
    float *a, *b, *x;
    uint32_t weights, quantized, inputs; /* that were compared; whose weight, input is changed */
    char wrong[256];
} bench;

static const tmb_unit *twin(const bench *t, uint32_t u)
{
    return tmb_model_find(t->out.model, t->j->model->units[u].name);
}

static bool same_weight(bench *t, uint32_t u, tmb_err *err)
{
    const tmb_unit *unit = &t->j->model->units[u], *other = twin(t, u);
    tmb_hooks hooks = tmb_fly_hooks(t->fly);
    bool good = other != NULL;
    /* the last rows first: the joint scale may not depend on where one begins */
    for (uint64_t end = (unit->out + TMB_TILE_ROWS - 1) / TMB_TILE_ROWS; good && end-- > 0;) {
        uint64_t row = end * TMB_TILE_ROWS, left = unit->out - row;
        size_t rows = left < TMB_TILE_ROWS ? (size_t)left : TMB_TILE_ROWS;
        good = !hooks.weight(hooks.ctx, t->source, unit, row, rows, t->a, err) &&
               !tmb_reader_rows(t->written, other, row, rows, t->b, err) &&
               !memcmp(t->a, t->b, rows * unit->in * sizeof *t->a);
    }
    t->weights++;
    t->quantized += t->j->plan->job.assignment->choices[u].spec->format != NULL;
    return good;
}

/* What hooks give for rows that enter unit u; into y, which is x where nothing is changed. */
static bool entered(const tmb_hooks *hooks, uint32_t u, uint64_t in, const float *x, float *y,
                    bool *changed, tmb_err *err)
{
    tmb_linear_seen seen = {
        .units = &u, .n_units = 1, .layer = 0, .expert = -1, .x = x, .rows = ROWS, .in = in};
    *changed = false;
    memcpy(y, x, ROWS * in * sizeof *y);
    return !hooks->activation || !hooks->activation(hooks->ctx, &seen, y, changed, err);
}

static bool same_input(bench *t, uint32_t u, tmb_err *err)
{
    const tmb_unit *unit = &t->j->model->units[u], *other = twin(t, u);
    tmb_hooks fly = tmb_fly_hooks(t->fly), written = tmb_acts_hooks(t->acts);
    bool a, b;
    if (!other) return false;
    for (size_t i = 0; i < ROWS * unit->in; i++)
        t->x[i] = 4 * random_float();
    uint32_t twin_of = (uint32_t)(other - t->out.model->units);
    bool good = entered(&fly, u, unit->in, t->x, t->a, &a, err) &&
                entered(&written, twin_of, unit->in, t->x, t->b, &b, err) && a == b &&
                !memcmp(t->a, t->b, ROWS * unit->in * sizeof *t->a);
    t->inputs += good && a;
    return good;
}

static bool same_cache(bench *t, tmb_err *err)
{
    tmb_hooks fly = tmb_fly_hooks(t->fly), written = tmb_acts_hooks(t->acts);
    enum { WIDTH = 32 };
    for (int l = 0; l < t->j->model->n_layers; l++) {
        tmb_kv_seen seen = {.layer = l, .tokens = 1, .k_width = WIDTH, .v_width = WIDTH};
        for (int i = 0; i < 2 * WIDTH; i++)
            t->a[i] = t->b[i] = 4 * random_float();
        if (fly.kv && fly.kv(fly.ctx, &seen, t->a, t->a + WIDTH, err)) return false;
        if (written.kv(written.ctx, &seen, t->b, t->b + WIDTH, err)) return false;
        if (memcmp(t->a, t->b, 2 * WIDTH * sizeof *t->a)) return false;
    }
    return true;
}

static bool compare(bench *t, tmb_err *err)
{
    const tmb_model *m = t->j->model;
    for (uint32_t u = 0; u < m->n_units; u++) {
        const tmb_unit *unit = &m->units[u];
        if (!unit->linear) continue;
        if (same_weight(t, u, err) && same_input(t, u, err)) continue;
        snprintf(t->wrong, sizeof t->wrong, "%s", unit->name);
        return false;
    }
    if (same_cache(t, err)) return true;
    snprintf(t->wrong, sizeof t->wrong, "the cache");
    return false;
}

static uint64_t widest(const tmb_model *m)
{
    uint64_t in = 64;
    for (uint32_t u = 0; u < m->n_units; u++)
        if (m->units[u].linear && m->units[u].in > in) in = m->units[u].in;
    return in;
}

/* Quantize, and compare Linear by Linear.  name: of the folder, which stays there. */
static void equals_written(const char *source, const char *rules, const char *layout,
                           const char *stats, const char *name)
{
    job j;
    bench t = {.j = &j};
    tmb_err err = {0};
    tmb_quantize_result *result = NULL;
    tmb_plan_options plan = {.layout = layout, .threads = 2, .stats = stats};
    tmb_quantize_options options = {.out = path(name)};
    tmb_status status = job_open(&j, source, rules, &plan);
    if (status) err = j.err;
    if (!status) status = tmb_quantize(j.plan, &options, &result, &err);
    tmb_quantize_result_close(result);
    if (!status) status = open_pair(&t.out, options.out, &err);
    if (!status) status = tmb_fly_open(&t.fly, j.plan, tmb_cpu_ops(), &err);
    if (!status) status = tmb_reader_open(&t.source, j.model, tmb_cpu_ops(), &err);
    if (!status) status = tmb_reader_open(&t.written, t.out.model, tmb_cpu_ops(), &err);
    if (!status) status = tmb_acts_open(&t.acts, t.out.model, tmb_cpu_ops(), &err);
    bool same = false;
    if (!status) {
        size_t floats = TMB_TILE_ROWS * (size_t)widest(j.model);
        t.a = malloc(3 * floats * sizeof *t.a);
        t.b = t.a + floats;
        t.x = t.b + floats;
        same = t.a && compare(&t, &err);
        free(t.a);
    }
    ok(same && t.quantized, "%s, %s: %u weights, %u of them quantized, %u rounded inputs (%s%s)",
       strrchr(source, '/') + 1, layout, t.weights, t.quantized, t.inputs, t.wrong, err.message);
    tmb_acts_close(t.acts);
    tmb_reader_close(t.source);
    tmb_reader_close(t.written);
    tmb_fly_close(t.fly);
    close_pair(&t.out);
    job_close(&j);
}

static void all_formats(void)
{
    static const char *const rules[] = {
        "@router = nvfp4\n@lm_head = nvfp4\n*experts* = nvfp4\n* = fp8\n[kv_cache]\nformat = fp8\n",
        "* = nvfp4\n[kv_cache]\nformat = none\n",
        "@attention = fp8-channel\n* = fp8\n",
        "*experts* = best\n* = bf16\n[format best]\nbase = nvfp4\nscale = mse\n",
        "*experts* = nvfp4-w4a16\n* = mxfp8\n[kv_cache]\nformat = fp8\n",
        "*experts* = mxfp4\n* = bf16\n",
        "* = fp8-block\n",
        "@attention = int4\n* = bf16\n",
    };
    static const char *const layouts[] = {"modelopt", "compressed-tensors"};
    char name[32];
    for (size_t r = 0; r < sizeof rules / sizeof *rules; r++)
        for (int l = 0; l < 2; l++) {
            if (l == 0 && r >= 5) continue; /* ModelOpt has no such form, or none engines load */
            snprintf(name, sizeof name, "a-%zu-%d", r, l);
            equals_written(data_path("tinymoe/a"), rules[r], layouts[l], NULL, name);
        }
}

/* What stands behind [rules] in a shipped recipe. */
static bool shipped_rules(const char *name, char *rules, size_t size)
{
    char file[1024];
    const char *srcdir = getenv("srcdir");
    snprintf(file, sizeof file, "%s/recipes/%s.ini", srcdir ? srcdir : ".", name);
    FILE *f = fopen(file, "r");
    if (!f) return false;
    char text[4096];
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = '\0';
    const char *at = strstr(text, "[rules]");
    at = at ? strchr(at, '\n') : NULL;
    return at && (size_t)snprintf(rules, size, "%s", at + 1) < size;
}

static void all_shipped(void)
{
    static const struct {
        const char *recipe, *layout;
    } shipped[] = {
        {"fp8-all", "modelopt"},
        {"fp8-block", "compressed-tensors"},
        {"mxfp4-experts", "compressed-tensors"},
        {"nvfp4-all", "modelopt"},
        {"nvfp4-experts-only", "modelopt"},
        {"nvfp4-experts", "modelopt"},
        {"nvfp4-weight-only", "compressed-tensors"},
    };
    char rules[2048], name[32];
    for (size_t i = 0; i < sizeof shipped / sizeof *shipped; i++) {
        snprintf(name, sizeof name, "r-%zu", i);
        if (ok(shipped_rules(shipped[i].recipe, rules, sizeof rules), "%s.ini", shipped[i].recipe))
            equals_written(data_path("tinymoe/a"), rules, shipped[i].layout, NULL, name);
    }
}

/* Stacks, sources that are quantized already, other shapes. */
static void all_sources(void)
{
    static const char *const sources[] = {"gpt_oss",      "gpt_oss_mxfp4",   "llama4_mm",
                                          "qwen3_vl_moe", "deepseek_v3_fp8", "kimi_k25_int4",
                                          "minimax_m2",   "mixtral"};
    static const char recipe[] = "*experts* = nvfp4\n* = fp8\n[kv_cache]\nformat = fp8\n";
    static const char some[] = "*experts* = nvfp4\n* = bf16\n";
    char arch[64], name[64];
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++)
        for (int l = 0; l < 2; l++) {
            snprintf(arch, sizeof arch, "arch/%s", sources[i]);
            snprintf(name, sizeof name, "s-%zu-%d", i, l);
            bool fp8 = strcmp(sources[i], "deepseek_v3_fp8") != 0;
            equals_written(data_path(arch), fp8 && l == 0 ? recipe : some,
                           l ? "compressed-tensors" : "modelopt", NULL, name);
        }
}

/* ---- scales of activations, and the whole way through eval ------------------------------------
 */

static tmb_status data(tmb_data **out, tmb_err *err)
{
    static char text[1024];
    snprintf(text, sizeof text, "%s", data_path("tinymoe/heldout_math.bin"));
    tmb_source source = {.name = "math", .path = text, .weight = 1};
    tmb_data_options o = {
        .sources = &source, .n_sources = 1, .length = 128, .samples = 2, .fit = TMB_FIT_PACK};
    return tmb_data_open(out, &o, err);
}

static tmb_status calibrate(const char *out, tmb_err *err)
{
    pair p = {0};
    tmb_data *d = NULL;
    tmb_calibrate_result result = {0};
    tmb_calibrate_options o = {
        .out = out, .min_tokens = 1, .starved = TMB_STARVED_PEERS, .moments = true};
    tmb_status status = open_pair(&p, data_path("tinymoe/a"), err);
    if (!status) status = data(&d, err);
    if (!status) status = tmb_calibrate(p.model, d, &o, &result, err);
    tmb_calibrate_result_free(&result);
    tmb_data_close(d);
    close_pair(&p);
    return status;
}

static void measured_scales(void)
{
    static const char rules[] = "*experts* = nvfp4\n* = fp8\n[kv_cache]\nformat = fp8\n";
    static const char room[] = "*experts* = nvfp4\n* = fp8\n[kv_cache]\nformat = fp8\n"
                               "[calibration]\nact_scale = headroom\n";
    static const char hessian[] =
        "*experts* = h\n* = fp8\n[format h]\nbase = nvfp4\nscale = hessian\n";
    tmb_err err = {0};
    char stats[256];
    snprintf(stats, sizeof stats, "%s", path("stats.h5"));
    if (!ok(!calibrate(stats, &err), "statistics are there (%s)", err.message)) return;
    equals_written(data_path("tinymoe/a"), rules, "modelopt", stats, "m-0");
    equals_written(data_path("tinymoe/a"), rules, "compressed-tensors", stats, "m-1");
    equals_written(data_path("tinymoe/a"), room, "modelopt", stats, "m-2");
    equals_written(data_path("tinymoe/a"), hessian, "modelopt", stats, "m-3");
}

static bool same_bits(const tmb_mean *a, const tmb_mean *b)
{
    return a->mean == b->mean && a->error == b->error;
}

/* eval of the recipe is eval of the checkpoint, with any number of threads. */
static void equals_eval(const char *rules, const char *layout, const char *written)
{
    job j;
    pair q = {0};
    tmb_err err = {0};
    tmb_data *d = NULL;
    tmb_fly *fly = NULL;
    tmb_eval_row rows[2][2];
    tmb_plan_options plan = {.layout = layout, .threads = 2};
    tmb_status status = job_open(&j, data_path("tinymoe/a"), rules, &plan);
    if (!status) status = open_pair(&q, path(written), &err);
    if (!status) status = data(&d, &err);
    for (int exact = 0; exact < 2; exact++) {
        tmb_eval_options o = {.threads = 1, .exact_inputs = exact};
        if (!status) status = tmb_eval(q.model, j.model, d, &o, rows[0], &err);
        if (!status) status = tmb_fly_open(&fly, j.plan, tmb_cpu_ops(), &err);
        if (!status) {
            tmb_hooks hooks = exact ? tmb_fly_weights(fly) : tmb_fly_hooks(fly);
            o = (tmb_eval_options){.threads = 3, .hooks = &hooks};
            status = tmb_eval(j.model, j.model, d, &o, rows[1], &err);
        }
        tmb_fly_close(fly);
        fly = NULL;
        ok(!status && same_bits(&rows[0][1].nll, &rows[1][1].nll) &&
               same_bits(&rows[0][1].kl, &rows[1][1].kl) && rows[0][1].kl.mean > 0,
           "%s%s: eval gives the same bits, KL %.6f (%s)", layout, exact ? ", exact inputs" : "",
           status ? 0.0 : rows[1][1].kl.mean, err.message);
    }
    tmb_data_close(d);
    close_pair(&q);
    job_close(&j);
}

int main(void)
{
    if (!mkdtemp(folder)) return 99;
    all_formats();
    all_shipped();
    all_sources();
    measured_scales();
    static const char first[] =
        "@router = nvfp4\n@lm_head = nvfp4\n*experts* = nvfp4\n* = fp8\n[kv_cache]\nformat = fp8\n";
    equals_eval(first, "modelopt", "a-0-0");
    equals_eval(first, "compressed-tensors", "a-0-1");
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command) ? 99 : done();
}
