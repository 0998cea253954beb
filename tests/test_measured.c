/* test_measured.c - scales of activations in a plan and in the output, against the largest inputs
 * that a forward pass shows, and what is refused. */
#include "config.h"

#include "moe/calib/calibrate.h"
#include "moe/infer/forward.h"
#include "moe/quantize/quantize.h"
#include "tests/job.h"
#include "tests/tap.h"

#include <math.h>
#include <unistd.h>

enum { TOKENS = 64 };

static char folder[] = "/tmp/tombac-test-XXXXXX";
static int32_t ids[TOKENS];

static const char *path(const char *name)
{
    static char paths[4][256];
    static int next;
    char *p = paths[next++ % 4];
    snprintf(p, sizeof paths[0], "%s/%s", folder, name);
    return p;
}

/* ---- the reference: the largest magnitudes, kept by a program of three lines ------------------
 */

typedef struct maxima {
    const tmb_model *model;
    float *input; /* [n_units] */
    float k[8], v[8];
} maxima;

static float top(const float *x, size_t n, float most)
{
    for (size_t i = 0; i < n; i++)
        most = fmaxf(most, fabsf(x[i]));
    return most;
}

static tmb_status see_linear(void *ctx, const tmb_linear_seen *seen, tmb_err *err)
{
    maxima *m = ctx;
    (void)err;
    for (uint32_t i = 0; i < seen->n_units; i++)
        m->input[seen->units[i]] =
            top(seen->x, seen->rows * (size_t)seen->in, m->input[seen->units[i]]);
    return TMB_OK;
}

static tmb_status see_kv(void *ctx, const tmb_kv_seen *seen, tmb_err *err)
{
    maxima *m = ctx;
    (void)err;
    m->k[seen->layer] = top(seen->k, seen->tokens * seen->k_width, m->k[seen->layer]);
    m->v[seen->layer] = top(seen->v, seen->tokens * seen->v_width, m->v[seen->layer]);
    return TMB_OK;
}

static tmb_status look(maxima *m, tmb_err *err)
{
    tmb_decoder *d = NULL;
    tmb_decoder_options options = {.threads = 1};
    tmb_observer observer = {.linear = see_linear, .kv = see_kv, .ctx = m};
    size_t begin[] = {0, TOKENS};
    TRY(tmb_decoder_open(&d, m->model, &options, err));
    float *x = calloc(TOKENS * tmb_decoder_config(d)->hidden, sizeof *x);
    tmb_status status = x ? tmb_decoder_embed(d, ids, TOKENS, x, err) : TMB_ESYSTEM;
    tmb_batch batch = {.x = x, .begin = begin, .sequences = 1, .observer = &observer};
    for (int l = 0; !status && l < tmb_decoder_layers(d); l++) {
        status = tmb_decoder_load(d, l, err);
        if (!status) status = tmb_decoder_run(d, &batch, err);
    }
    free(x);
    tmb_decoder_close(d);
    return status;
}

/* ---- jobs ------------------------------------------------------------------------------------ */

static tmb_status calibrate(const char *model, const char *out, tmb_err *err)
{
    tmb_checkpoint *ckpt = NULL;
    tmb_model *m = NULL;
    tmb_data *data = NULL;
    tmb_calibrate_result result = {0};
    char ids_path[256];
    snprintf(ids_path, sizeof ids_path, "%s", path("ids.bin"));
    tmb_source source = {.name = "a", .path = ids_path, .weight = 1};
    tmb_data_options d = {
        .sources = &source, .n_sources = 1, .length = TOKENS, .fit = TMB_FIT_PACK};
    tmb_calibrate_options o = {.out = path(out), .min_tokens = 1, .starved = TMB_STARVED_PEERS};
    tmb_status status = tmb_checkpoint_open(&ckpt, data_path(model), err);
    if (!status) status = tmb_model_open(&m, ckpt, err);
    if (!status) status = tmb_data_open(&data, &d, err);
    if (!status) status = tmb_calibrate(m, data, &o, &result, err);
    tmb_calibrate_result_free(&result);
    tmb_data_close(data);
    tmb_model_close(m);
    tmb_checkpoint_close(ckpt);
    return status;
}

/* An expert's input is that of the expert with the largest. */
static float expected(const maxima *m, uint32_t u)
{
    const tmb_unit *unit = &m->model->units[u];
    float most = m->input[u];
    for (uint32_t i = 0; unit->expert >= 0 && i < m->model->n_units; i++) {
        const tmb_unit *other = &m->model->units[i];
        bool entry = (other->proj == TMB_PROJ_DOWN) == (unit->proj == TMB_PROJ_DOWN);
        if (other->expert >= 0 && other->layer == unit->layer && entry)
            most = fmaxf(most, m->input[i]);
    }
    return most;
}

static void scales_are_those_of_the_largest(void)
{
    static const char rules[] =
        "*experts* = nvfp4\n* = fp8\n[kv_cache]\nformat = fp8\n[calibration]\nlength = 64\n";
    char stats[256];
    snprintf(stats, sizeof stats, "%s", path("a.h5"));
    tmb_plan_options options = {.stats = stats, .threads = 1};
    tmb_err err = {0};
    maxima m = {0};
    job j;
    tmb_status status = calibrate("arch/mixtral", "a.h5", &err);
    if (!ok(!status, "statistics are there (%s)", err.message)) return;
    status = job_open(&j, data_path("arch/mixtral"), rules, &options);
    if (!ok(!status, "a plan takes them (%s)", j.err.message)) return;
    m.model = j.model;
    m.input = calloc(j.model->n_units + 1, sizeof *m.input);
    ok(m.input && !look(&m, &err), "the forward pass was looked at (%s)", err.message);
    const tmb_measured *got = j.plan->job.measured;
    unsigned wrong = 0, seen = 0;
    for (uint32_t u = 0; got && u < j.model->n_units; u++) {
        const tmb_spec *spec = j.assignment->choices[u].spec;
        if (!spec->format) {
            wrong += got->input[u] != 0;
            continue;
        }
        float amax = expected(&m, u);
        float want = spec->format->act == TMB_ACT_NVFP4 ? amax / 2688.0f : amax / 448.0f;
        seen++;
        wrong += !(amax > 0) || got->input[u] != want;
    }
    ok(got && seen > 80 && !wrong, "%u Linears have the scale of their largest input, %u not", seen,
       wrong);
    for (int l = 0; got && l < got->layers; l++)
        ok(got->k[l] == m.k[l] / 448.0f && got->v[l] == m.v[l] / 448.0f,
           "layer %d: so has the cache", l);

    tmb_quantize_result *result = NULL;
    tmb_quantize_options q = {.out = path("out")};
    status = tmb_quantize(j.plan, &q, &result, &err);
    tmb_quantize_result_close(result);
    tmb_checkpoint *out = NULL;
    if (!status) status = tmb_checkpoint_open(&out, path("out"), &err);
    ok(!status, "the job runs (%s)", err.message);
    unsigned checked = 0;
    wrong = 0;
    for (uint32_t u = 0; !status && u < j.model->n_units; u++) {
        char name[256];
        float value = 0;
        snprintf(name, sizeof name, "%s.input_scale", j.model->units[u].name);
        const tmb_tensor *t = tmb_checkpoint_find(out, name);
        if (!t) continue;
        checked++;
        if (tmb_checkpoint_read(out, t, 0, &value, sizeof value, &err)) wrong++;
        wrong += value != got->input[u];
    }
    ok(checked == seen && !wrong, "%u input_scale tensors hold them", checked);
    tmb_checkpoint_close(out);
    free(m.input);
    job_close(&j);
}

/* Of layers that are recurrences there is no cache, and nothing is missing. */
static void hybrids_have_caches_in_some_layers(void)
{
    job j;
    char stats[256];
    snprintf(stats, sizeof stats, "%s", path("h.h5"));
    tmb_plan_options options = {.stats = stats, .threads = 1};
    tmb_err err = {0};
    tmb_status status = calibrate("forward/qwen3_next", "h.h5", &err);
    ok(!status, "statistics of a hybrid are there (%s)", err.message);
    status = job_open(&j, data_path("forward/qwen3_next"),
                      "*experts* = nvfp4\n* = fp8\n[kv_cache]\nformat = fp8\n", &options);
    const tmb_measured *got = status ? NULL : j.plan->job.measured;
    int with = 0, layers = got ? got->layers : 0;
    for (int l = 0; l < layers; l++)
        with += got->k[l] > 0 && got->v[l] > 0;
    ok(with > 0 && with < layers, "%d of %d layers have a cache and its scales (%s)", with, layers,
       j.err.message);
    job_close(&j);
}

static void refuses(const char *model, const char *stats, const char *rules, tmb_status want,
                    const char *words, const char *what)
{
    job j;
    tmb_plan_options options = {.stats = stats, .threads = 1};
    tmb_status status = job_open(&j, data_path(model), rules, &options);
    ok(status == want && strstr(j.err.message, words), "%s: %s", what, j.err.message);
    job_close(&j);
}

int main(void)
{
    if (!mkdtemp(folder)) return 99;
    FILE *f = fopen(path("ids.bin"), "wb");
    for (int i = 0; f && i < TOKENS; i++) {
        uint16_t id = (uint16_t)(i * 37 % 61);
        ids[i] = id;
        fwrite(&id, 2, 1, f);
    }
    if (f) fclose(f);
    char stats[256];
    snprintf(stats, sizeof stats, "%s", path("a.h5"));
    scales_are_those_of_the_largest();
    hybrids_have_caches_in_some_layers();
    refuses("arch/qwen3_moe", stats, "* = fp8\n", TMB_EUSAGE, "another checkpoint",
            "another model");
    refuses("arch/mixtral", path("none.h5"), "* = fp8\n", TMB_ENOINPUT, "none.h5", "no file");
    refuses("arch/mixtral", stats, "@lm_head = fp8\n* = bf16\n", TMB_EDATA, "lm_head",
            "a Linear that was not measured");
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command) ? 99 : done();
}
