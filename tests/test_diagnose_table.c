/* test_diagnose_table.c - recipes on the trained model against fake quantization in PyTorch.
 *
 * The figures are of the first 32 windows of 512 bytes of the held-out mathematics: transformers'
 * forward in float32, weights and inputs of the named roles rounded to the format, scales of inputs
 * from calibration (here they are cast).  What differs by that is less than the 95 % interval over
 * windows, which is what a figure must lie in.  One row in make check, all in make check-long. */
#include "config.h"

#include "moe/diagnose/run.h"
#include "tests/job.h"
#include "tests/tap.h"

#include <math.h>
#include <unistd.h>

enum { LENGTH = 512, WINDOWS = 32, LAYERS = 6 };

/* Of a layer the fake quantization lies this far away at most: about three standard errors. */
static const double LAYER_MOST = 0.012;

typedef struct row {
    const char *name, *rules;
    double kl, bits, set_match;
    double layer[LAYERS];
} row;

static const row rows[] = {
    {"the recipe with an NVFP4 router",
     "@router = nvfp4\n@expert = nvfp4\n* = fp8\n",
     0.00658,
     0.4028,
     0.6581,
     {0.829, 0.720, 0.662, 0.646, 0.562, 0.530}},
    {"experts NVFP4, the rest FP8",
     "@expert = nvfp4\n* = fp8\n",
     0.00503,
     0.4031,
     0.7796,
     {0.958, 0.854, 0.787, 0.761, 0.682, 0.635}},
    {"the recipe with an FP8 router",
     "@router = fp8\n@expert = nvfp4\n* = fp8\n",
     0.00544,
     0.4025,
     0.7622,
     {0.928, 0.831, 0.771, 0.753, 0.666, 0.625}},
    {"everything NVFP4",
     "@router = nvfp4\n@lm_head = nvfp4\n* = nvfp4\n",
     0.01728,
     0.4184,
     0.5991,
     {0.807, 0.661, 0.597, 0.590, 0.482, 0.458}},
    {"everything NVFP4 but router and head",
     "* = nvfp4\n",
     0.01325,
     0.4139,
     0.6770,
     {0.891, 0.745, 0.683, 0.664, 0.560, 0.519}},
    {"everything FP8 but router and head",
     "* = fp8\n",
     0.00083,
     0.3976,
     0.8910,
     {0.958, 0.928, 0.898, 0.888, 0.847, 0.826}},
    {"experts alone, NVFP4",
     "@expert = nvfp4\n* = bf16\n",
     0.00486,
     0.4033,
     0.7966,
     {1, 0.877, 0.803, 0.771, 0.690, 0.637}},
    {"experts alone, NVFP4 weights",
     "@expert = nvfp4-w4a16\n* = bf16\n",
     0.00223,
     0.3999,
     0.8469,
     {1, 0.912, 0.861, 0.823, 0.762, 0.723}},
    {"attention alone, NVFP4",
     "@attention = nvfp4\n* = bf16\n",
     0.00732,
     0.4051,
     0.7328,
     {0.891, 0.781, 0.745, 0.723, 0.642, 0.615}},
    {"attention alone, FP8",
     "@attention = fp8\n* = bf16\n",
     0.00053,
     0.3957,
     0.9099,
     {0.958, 0.935, 0.918, 0.906, 0.880, 0.862}},
    {"router alone, NVFP4",
     "@router = nvfp4\n* = bf16\n",
     0.00136,
     0.3956,
     0.7157,
     {0.830, 0.759, 0.717, 0.711, 0.647, 0.630}},
    {"router alone, NVFP4 weights",
     "@router = nvfp4-w4a16\n* = bf16\n",
     0.00077,
     0.3962,
     0.7894,
     {0.891, 0.825, 0.783, 0.780, 0.731, 0.726}},
    {"router alone, FP8",
     "@router = fp8\n* = bf16\n",
     0.00023,
     0.3960,
     0.9058,
     {0.946, 0.924, 0.908, 0.906, 0.885, 0.867}},
    {"head alone, NVFP4", "@lm_head = nvfp4\n* = bf16\n", 0.00237, 0.3995, 1, {1, 1, 1, 1, 1, 1}},
};

static bool inside(const tmb_interval *i, double x)
{
    return i->lo <= x && x <= i->hi;
}

/* The file's first windows, all of them. */
static tmb_status open_data(tmb_data **data, const char *folder, tmb_err *err)
{
    char path[64];
    static uint16_t ids[WINDOWS * LENGTH];
    FILE *from = fopen(data_path("tinymoe/heldout_math_32.bin"), "rb");
    snprintf(path, sizeof path, "%s/math.bin", folder);
    FILE *to = fopen(path, "wb");
    bool fine =
        from && to && fread(ids, sizeof ids, 1, from) == 1 && fwrite(ids, sizeof ids, 1, to) == 1;
    if (from) fclose(from);
    if (!to || fclose(to) || !fine) return tmb_fail(err, TMB_EIO, "cannot copy the text");
    tmb_source source = {.name = "math", .path = path, .weight = 1};
    tmb_data_options o = {
        .sources = &source, .n_sources = 1, .length = LENGTH, .fit = TMB_FIT_PACK};
    tmb_status status = tmb_data_open(data, &o, err);
    unlink(path);
    return status;
}

static void check(const row *r, const tmb_data *data, bool noise)
{
    job j;
    tmb_plan_options plan = {.threads = 2};
    tmb_diagnosis *d = NULL;
    tmb_err err = {0};
    tmb_diagnose_options o = {.run = {.threads = 2, .ranks = 1}, .seed = 1, .no_noise = !noise};
    tmb_status status = job_open(&j, data_path("tinymoe/a"), r->rules, &plan);
    if (!status) {
        tmb_variant ref = tmb_variant_stored("reference", j.model),
                    other = tmb_variant_planned("recipe", j.plan);
        status = tmb_diagnose(&d, &ref, &other, data, &o, &err);
    }
    if (!ok(!status && d->n_layers == LAYERS, "%s runs (%s)", r->name, err.message)) return;
    const tmb_interval *kl = &d->overall[TMB_M_KL], *match = &d->overall[TMB_M_SET_MATCH];
    ok(inside(kl, r->kl), "KL %.5f … %.5f, PyTorch %.5f", kl->lo, kl->hi, r->kl);
    ok(inside(match, r->set_match), "set match %.4f … %.4f, PyTorch %.4f", match->lo, match->hi,
       r->set_match);
    ok(fabs(d->overall[TMB_M_BITS].value - r->bits) < 0.003, "%.4f bits a byte, PyTorch %.4f",
       d->overall[TMB_M_BITS].value, r->bits);
    double most = 0;
    for (int l = 0; l < LAYERS; l++)
        most = fmax(most, fabs(d->layers[l].metrics[TMB_M_SET_MATCH].value - r->layer[l]));
    ok(most < LAYER_MOST, "no layer's set match is further away than %.4f", most);
    if (noise)
        ok(fabs(d->noise.set_match.value - 0.9746) < 0.004 && d->noise.kl.value < 0.0002,
           "the rerun in 16 bits: set match %.4f, PyTorch in BF16 0.9746",
           d->noise.set_match.value);
    tmb_diagnosis_free(d);
    job_close(&j);
}

int main(void)
{
    char folder[] = "/tmp/tombac-test-XXXXXX";
    bool all = getenv("TOMBAC_LONG") != NULL;
    tmb_data *data = NULL;
    tmb_err err = {0};
    tmb_status status = mkdtemp(folder) ? open_data(&data, folder, &err) : TMB_ESYSTEM;
    ok(!status && data->n_sequences == WINDOWS, "the text is there (%s)", err.message);
    for (size_t i = 0; !status && i < (all ? sizeof rows / sizeof *rows : 1); i++)
        check(&rows[i], data, i == 0);
    tmb_data_close(data);
    rmdir(folder);
    return done();
}
