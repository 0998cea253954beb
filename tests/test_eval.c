/* test_eval.c - perplexity against transformers, distances against what they must be. */
#include "config.h"

#include "moe/eval/eval.h"
#include "moe/quantize/quantize.h"
#include "tests/job.h"
#include "tests/tap.h"

#include <math.h>
#include <unistd.h>

enum { LENGTH = 512, WINDOWS = 8 };

static char folder[] = "/tmp/tombac-test-XXXXXX";

static tmb_status open_data(tmb_data **data, uint64_t samples, tmb_err *err)
{
    tmb_source source = {
        .name = "math", .path = data_path("tinymoe/heldout_math.bin"), .weight = 1};
    tmb_data_options o = {.sources = &source,
                          .n_sources = 1,
                          .samples = samples,
                          .length = LENGTH,
                          .fit = TMB_FIT_PACK};
    return tmb_data_open(data, &o, err);
}

typedef struct pair {
    tmb_checkpoint *ckpt;
    tmb_model *model;
} pair;

static tmb_status open_pair(pair *p, const char *path, tmb_err *err)
{
    *p = (pair){0};
    TRY(tmb_checkpoint_open(&p->ckpt, path, err));
    return tmb_model_open(&p->model, p->ckpt, err);
}

static void close_pair(pair *p)
{
    tmb_model_close(p->model);
    tmb_checkpoint_close(p->ckpt);
}

static bool near(double a, double b, double relative)
{
    return fabs(a - b) <= relative * fabs(b);
}

/* transformers 5.17, float32 on the CPU, log-softmax in float64, of the same windows. */
static void equals_transformers(const tmb_model *model, const tmb_data *data)
{
    tmb_eval_row one[2], two[2];
    tmb_err err = {0};
    tmb_eval_options o = {.threads = 1};
    tmb_status status = tmb_eval(model, NULL, data, &o, one, &err);
    ok(!status && one[1].sequences == WINDOWS && one[1].scored == WINDOWS * (LENGTH - 1),
       "all but the first of each window are scored (%s)", err.message);
    ok(!status && near(one[1].nll.mean, 0.3855974259840, 1e-5), "nll %.9f is transformers'",
       one[1].nll.mean);
    ok(!status && near(one[1].nll.error, 0.1114340959303, 1e-4), "its standard error is %.9f",
       one[1].nll.error);
    ok(!status && memcmp(&one[0].nll, &one[1].nll, sizeof one[0].nll) == 0,
       "the row of the only source is the row of all");
    o.threads = 3;
    status = tmb_eval(model, NULL, data, &o, two, &err);
    ok(!status && memcmp(&one[1].nll, &two[1].nll, sizeof one[1].nll) == 0,
       "three threads give the same bits");
}

static void nothing_from_itself(const tmb_model *model)
{
    tmb_eval_row rows[2];
    tmb_err err = {0};
    tmb_eval_options o = {0};
    tmb_data *data = NULL;
    tmb_status status = open_data(&data, 1, &err);
    if (!status) status = tmb_eval(model, model, data, &o, rows, &err);
    ok(!status && rows[1].kl.mean == 0 && rows[1].same.mean == 1 && rows[1].flips.mean == 0 &&
           rows[1].nll.mean == rows[1].ref_nll.mean,
       "a model is no distance from itself (%s)", err.message);
    ok(!status && isnan(rows[1].kl.error), "one sequence has no standard error");
    tmb_data_close(data);
}

/* KL of a checkpoint that the rules make, with its inputs rounded and exact. */
static bool distances(const tmb_model *ref, const tmb_data *data, const char *rules,
                      const char *layout, double kl[2])
{
    static int serial;
    char out[256];
    job j;
    pair q = {0};
    tmb_err err = {0};
    tmb_quantize_result *result = NULL;
    tmb_plan_options plan = {.layout = layout, .threads = 2};
    snprintf(out, sizeof out, "%s/out-%d", folder, serial++);
    tmb_quantize_options options = {.out = out};
    tmb_status status = job_open(&j, data_path("tinymoe/a"), rules, &plan);
    if (!status) status = tmb_quantize(j.plan, &options, &result, &err);
    tmb_quantize_result_close(result);
    job_close(&j);
    if (!status) status = open_pair(&q, out, &err);
    for (int exact = 0; !status && exact < 2; exact++) {
        tmb_eval_row rows[2];
        tmb_eval_options o = {.exact_inputs = exact};
        status = tmb_eval(q.model, ref, data, &o, rows, &err);
        kl[exact] = rows[1].kl.mean;
    }
    close_pair(&q);
    if (status) printf("# %s: %s\n", rules, err.message);
    return !status;
}

static void rounding_costs(const tmb_model *ref)
{
    tmb_data *data = NULL;
    tmb_err err = {0};
    if (open_data(&data, 2, &err)) return;
    /* names of the rules, layout, whether inputs are rounded at all */
    static const struct {
        const char *name, *rules, *layout;
        bool rounds;
    } cases[] = {
        {"nvfp4", "* = nvfp4\n", "modelopt", true},
        {"nvfp4, compressed-tensors", "* = nvfp4\n", "compressed-tensors", true},
        {"nvfp4-w4a16", "* = nvfp4-w4a16\n", "modelopt", false},
        {"fp8", "* = fp8\n", "modelopt", true},
        {"fp8, compressed-tensors", "* = fp8\n", "compressed-tensors", true},
        {"fp8-channel", "* = fp8-channel\n", "compressed-tensors", true},
        {"fp8-block", "* = fp8-block\n", "compressed-tensors", true},
        {"mxfp8", "* = mxfp8\n", "modelopt", true},
        {"int4", "* = int4\n", "compressed-tensors", false},
        {"bf16 with an FP8 cache", "*experts* = nvfp4-w4a16\n* = bf16\n[kv_cache]\nformat = fp8\n",
         "modelopt", true},
    };
    double kl[2], fp8 = 0, nvfp4 = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool fine = distances(ref, data, cases[i].rules, cases[i].layout, kl);
        ok(fine && kl[0] > 0 && kl[0] < 0.2 && kl[1] > 0 && (kl[0] != kl[1]) == cases[i].rounds,
           "%s: KL %.6f, with exact inputs %.6f", cases[i].name, kl[0], kl[1]);
        if (i == 0) nvfp4 = kl[0];
        if (i == 3) fp8 = kl[0];
    }
    ok(fp8 < nvfp4, "8 bits lose less than 4");
    tmb_data_close(data);
}

int main(void)
{
    tmb_err err = {0};
    pair p = {0}, other = {0};
    tmb_data *data = NULL;
    if (!mkdtemp(folder)) return 99;
    tmb_status status = open_pair(&p, data_path("tinymoe/a"), &err);
    if (!status) status = open_data(&data, 0, &err);
    if (ok(!status, "model and text are open (%s)", err.message)) {
        equals_transformers(p.model, data);
        nothing_from_itself(p.model);
        rounding_costs(p.model);
        tmb_eval_row rows[2];
        tmb_eval_options o = {0};
        status = open_pair(&other, data_path("arch/mixtral"), &err);
        if (!status) status = tmb_eval(p.model, other.model, data, &o, rows, &err);
        ok(status == TMB_EUSAGE, "another vocabulary: %s", err.message);
    }
    tmb_data_close(data);
    close_pair(&p);
    close_pair(&other);
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command) ? 99 : done();
}
