/* Every architecture that can be run, diagnosed against itself: no drift at all, whatever a token
 * carries from layer to layer; and its rerun is near. */
#include "config.h"
#include "moe/diagnose/run.h"
#include "moe/model/model.h"
#include "tests/tap.h"

#include <stdio.h>
#include <stdlib.h>

static const char *const names[] = {"deepseek_v2", "deepseek_v3",      "deepseek_v32", "glm4_moe",
                                    "glm_moe_dsa", "kimi_k2",          "llama4_text",  "olmoe",
                                    "qwen2_moe",   "qwen3_moe_window", "qwen3_next", "deepseek_v4",
                                    "nemotron_h",  "qwen4_exp"};

typedef struct subject {
    tmb_checkpoint *ckpt;
    tmb_model *model;
    tmb_data *data;
} subject;

static tmb_status open_subject(subject *s, const char *name, tmb_err *err)
{
    char path[2048], ids[2100];
    const char *srcdir = getenv("srcdir");
    *s = (subject){0};
    snprintf(path, sizeof path, "%s/tests/data/forward/%s", srcdir ? srcdir : ".", name);
    snprintf(ids, sizeof ids, "%s/reference.safetensors", path);
    tmb_source source = {.name = "ids", .path = ids, .weight = 1};
    tmb_data_options o = {.sources = &source, .n_sources = 1, .fit = TMB_FIT_WHOLE};
    TRY(tmb_checkpoint_open(&s->ckpt, path, err));
    TRY(tmb_model_open(&s->model, s->ckpt, err));
    return tmb_data_open(&s->data, &o, err);
}

static void close_subject(subject *s)
{
    tmb_data_close(s->data);
    tmb_model_close(s->model);
    tmb_checkpoint_close(s->ckpt);
}

static bool unchanged(const tmb_diagnosis *d)
{
    bool good = d->identical && d->n_sparse > 0;
    for (size_t l = 0; l < d->n_layers; l++) {
        const tmb_interval *m = d->layers[l].metrics;
        good &= m[TMB_M_HIDDEN_ERROR].value == 0 && m[TMB_M_LOCAL_ERROR].value == 0;
        if (!d->layers[l].sparse) continue;
        good &= m[TMB_M_SET_MATCH].value == 1 && m[TMB_M_LOCAL_LAYER].value == 1 &&
                m[TMB_M_LOCAL_ROUTER].value == 1 && m[TMB_M_ROUTER_KL].value == 0;
    }
    return good && d->overall[TMB_M_KL].value == 0 && d->overall[TMB_M_SAME_TOP1].value == 1;
}

static void against_itself(const char *name)
{
    subject s;
    tmb_err err = {0};
    tmb_diagnosis *d = NULL;
    tmb_diagnose_options o = {.seed = 1, .replicates = 50};
    tmb_status status = open_subject(&s, name, &err);
    tmb_variant a = tmb_variant_stored("reference", s.model), b = a;
    if (!status) status = tmb_diagnose(&d, &a, &b, s.data, &o, &err);
    ok(!status && d && unchanged(d), "%s is itself %s", name, err.message);
    double match = d ? d->overall[TMB_M_NOISE_MATCH].value : 0;
    ok(match > 0.9 && match <= 1, "its rerun keeps %.4f of the sets", match);
    tmb_diagnosis_free(d);
    close_subject(&s);
}

int main(void)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        against_itself(names[i]);
    return done();
}
