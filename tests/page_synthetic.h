/* page_synthetic.h - diagnoses filled with values of the right kind, of any shape. */
#ifndef PAGE_SYNTHETIC_H
#define PAGE_SYNTHETIC_H

#include "moe/diagnose/diagnosis.h"
#include "tests/random.h"

#include <math.h>
#include <string.h>

typedef struct synthetic {
    size_t layers, dense, experts, top_k; /* the first `dense` layers have no router */
    double drift;                         /* 0: equal models; 1: a quarter of the sets changed */
    bool causes;
    const char *name; /* of the models, of everything that a file names */
} synthetic;

static double synthetic_unit(void)
{
    return (random_bits() >> 8) * 0x1p-24;
}

static tmb_interval synthetic_around(double value, double spread)
{
    return (tmb_interval){value, value - spread, value + spread};
}

static void synthetic_margins(tmb_margins *m, double drift, uint64_t positions)
{
    for (int i = 0; i < TMB_MARGIN_BINS; i++) {
        double z = (i - 58) / 9.0;
        m->ref[i] = (uint64_t)((double)positions * 0.045 * exp(-z * z / 2));
        z = (i - 57.5) / 9.2;
        m->other[i] = (uint64_t)((double)positions * 0.044 * exp(-z * z / 2));
        double p = drift / (1 + exp((i - 52) / 5.0));
        m->flips[i] = (uint64_t)(p * (double)m->ref[i]);
        m->local[i] = m->flips[i] / 3;
        m->noise_of[i] = m->ref[i] / 4;
        m->noise[i] = (uint64_t)((double)m->noise_of[i] / (1 + exp((i - 30) / 3.0)));
    }
    m->ref[0] = m->other[0] = positions / 5000;
}

static void synthetic_layer(tmb_diagnosis *d, size_t l, const synthetic *s)
{
    tmb_diag_layer *y = &d->layers[l];
    double depth = (double)(l + 1) / (double)s->layers, drift = s->drift * (0.1 + 0.9 * depth);
    y->metrics[TMB_M_HIDDEN_ERROR] = synthetic_around(0.12 * drift, 0.01 * drift);
    y->metrics[TMB_M_LOCAL_ERROR] = synthetic_around(0.03 * s->drift, 0.002 * s->drift);
    if (!y->sparse) return;
    for (int m = 0; m < TMB_M_LOAD; m++) {
        bool good = tmb_metric_of((tmb_metric)m)->worse == TMB_WORSE_LOW;
        double bad = 0.3 * drift * (0.7 + 0.3 * synthetic_unit());
        y->metrics[m] = synthetic_around(good ? 1 - bad : bad, 0.01 * s->drift);
    }
    y->metrics[TMB_M_GROUP_MATCH] = tmb_interval_none();
    y->metrics[TMB_M_TIES] = synthetic_around(0.015, 0.001);
    y->metrics[TMB_M_NOISE_MATCH] = synthetic_around(0.98, 0.002);
    y->metrics[TMB_M_DRIFT] = synthetic_around(15 * drift, drift);
    y->noise_margin = 0.012;
    for (int m = TMB_M_LOAD; m < TMB_M_VALUES; m++)
        y->metrics[m] = synthetic_around(1 + 0.4 * synthetic_unit(), 0.02);
    for (size_t e = 0; e < s->experts; e++) {
        tmb_diag_expert *x = &y->experts[e];
        double u = synthetic_unit();
        x->ref = (uint64_t)(1000 * exp(1.2 * (u - 0.6)) * (u < 0.02 ? 0 : 1));
        x->lost = (uint64_t)((double)x->ref * 0.2 * drift * synthetic_unit());
        x->gained = (uint64_t)(300 * drift * synthetic_unit());
        x->other = x->ref + x->gained - x->lost;
        x->ref_mass = (double)x->ref * 0.2;
        x->other_mass = (double)x->other * 0.2;
    }
    synthetic_margins(y->margins, drift, 100000);
}

static void synthetic_overall(tmb_diagnosis *d, const synthetic *s)
{
    for (int m = 0; m < TMB_M_OUTPUT; m++) {
        double sum = 0, n = 0;
        for (size_t l = 0; l < d->n_layers; l++) {
            double v = d->layers[l].metrics[m].value;
            if (!isnan(v)) sum += v, n++;
        }
        if (n) d->overall[m] = synthetic_around(sum / n, 0.008 * s->drift);
    }
    d->overall[TMB_M_KL] = synthetic_around(0.0213 * s->drift, 0.001 * s->drift);
    d->overall[TMB_M_SAME_TOP1] = synthetic_around(1 - 0.065 * s->drift, 0.001 * s->drift);
    d->overall[TMB_M_PPL_REF] = synthetic_around(2.6191, 0.02);
    d->overall[TMB_M_PPL] = synthetic_around(2.6191 + 0.07 * s->drift, 0.02);
}

static void synthetic_causes(tmb_diagnosis *d, const synthetic *s)
{
    static const struct {
        const char *name;
        tmb_role role;
        double sets, kl;
    } parts[] = {
        {"router", TMB_ROLE_ROUTER, 0.19, 0.0036}, {"attention", TMB_ROLE_ATTENTION, 0.081, 0.0022},
        {"expert", TMB_ROLE_EXPERT, 0.17, 0.0197}, {"kv_cache", TMB_ROLES, 0.01, 0.0003},
        {"lm_head", TMB_ROLE_LM_HEAD, 0, 0.004},   {"all", TMB_ROLES, 0.31, 0.0256}};
    static const char *const lines[] = {
        "The router in NVFP4 changes most expert sets, 19.0 %; it costs little of the output.",
        "The output's KL of 0.0256 nats comes from the routed experts.",
        "Leaving the router alone (line 6) wins back 11 % of the sets for 0.02 % of the bytes."};
    d->ablations = tmb_arena_alloc(&d->arena, 12 * sizeof *d->ablations);
    for (int i = 0; i < 12; i++) {
        double sets = parts[i / 2].sets, kl = parts[i / 2].kl;
        if (i % 2) sets = 0.31 - sets, kl = 0.0256 - kl;
        d->ablations[d->n_ablations++] = (tmb_ablation){parts[i / 2].name,
                                                        parts[i / 2].role,
                                                        i % 2 == 0,
                                                        -1,
                                                        synthetic_around(1 - sets, 0.006),
                                                        synthetic_around(kl, kl * 0.06),
                                                        synthetic_around(4 * kl, kl / 5),
                                                        NULL};
    }
    static const int where[] = {3, 1, 2};
    static const int which[] = {7};
    tmb_causes *c = d->verdict.scales;
    for (int k = 0; k < 2; k++) {
        c[k].list = tmb_arena_alloc(&d->arena, 2 * sizeof *c[k].list);
        c[k].n = 2;
        c[k].list[0] = (tmb_cause){k ? "expert-format" : "router-format",
                                   k ? TMB_ROLE_EXPERT : TMB_ROLE_ROUTER,
                                   where,
                                   3,
                                   which,
                                   1,
                                   k ? "*experts* = nvfp4" : s->name,
                                   6,
                                   k ? 0.0197 : 0.19,
                                   {k ? 0.0188 : 0.184, k ? 0.0206 : 0.196},
                                   k ? 0.018 : 0.11,
                                   {0, 0},
                                   k ? "NVFP4 in the routed experts." : s->name,
                                   false};
        c[k].list[1] = (tmb_cause){"attention-format",
                                   TMB_ROLE_ATTENTION,
                                   NULL,
                                   0,
                                   NULL,
                                   0,
                                   "* = fp8",
                                   8,
                                   k ? 0.0022 : 0.081,
                                   {k ? 0.002 : 0.077, k ? 0.0024 : 0.085},
                                   (double)NAN,
                                   {(double)NAN, (double)NAN},
                                   "FP8 in attention.",
                                   k == 1};
    }
    d->verdict.lines = (const char **)(uintptr_t)lines;
    d->verdict.n_lines = 3;
    d->manifest.recipe_text =
        "[recipe]\nversion = 1\ndescription = <b>bold</b>\n\n[rules]\n@router = "
        "nvfp4\n*experts* = nvfp4\n* = fp8\n\n[kv_cache]\nformat = fp8\n";
    d->verdict.advice = "[recipe]\nversion = 1\ndescription = <b>bold</b>\n\n[rules]\n*experts* = "
                        "nvfp4\n* = fp8\n\n[kv_cache]\nformat = fp8\n";
    d->verdict.advice_line = "@router = bf16";
    d->verdict.advised_set_match = synthetic_around(0.798, 0.006);
    d->verdict.advised_kl = synthetic_around(0.0213, 0.0007);
    d->replay = (tmb_replay){true,
                             {{{0, 0, 0}, synthetic_around(0.0071, 0.0004)},
                              {synthetic_around(0.0188, 0.0008), synthetic_around(0.0256, 0.001)}},
                             synthetic_around(0.0188, 0.0008),
                             synthetic_around(0.0071, 0.0004),
                             synthetic_around(-0.0003, 0.0002)};
    d->splits = tmb_arena_alloc(&d->arena, d->n_layers * sizeof *d->splits);
    d->sensitivities = tmb_arena_alloc(&d->arena, d->n_layers * sizeof *d->sensitivities);
    for (size_t l = 0; l < d->n_layers; l++) {
        if (!d->layers[l].sparse) continue;
        double w = 0.9 / (1 + (double)l);
        d->splits[d->n_splits++] = (tmb_split){(int)l, 0.97 - w, w, 0.01, 0.02, 0.04};
        d->sensitivities[d->n_sensitivities++] = (tmb_sensitivity){
            (int)l, l == 3 ? 7 : -1, l == 3 ? "expert" : "router", synthetic_around(0.9, 0.01),
            0.02,   l == 3};
    }
    static tmb_harmless harmless[1];
    harmless[0] = (tmb_harmless){"common-mode", 2, 0.4, s->name};
    d->harmless = harmless;
    d->n_harmless = 1;
}

static tmb_diagnosis *synthetic_make(const synthetic *s)
{
    static const char hex[] = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    random_state = 88172645463325252ull;
    tmb_diagnosis *d = tmb_diagnosis_new(s->layers);
    for (size_t l = s->dense; d && l < s->layers; l++)
        if (tmb_diagnosis_sparse(d, l, s->experts, s->top_k, NULL)) return NULL;
    const char **sources = tmb_arena_alloc(&d->arena, sizeof *sources);
    sources[0] = s->name;
    d->manifest = (tmb_diag_manifest){.version = "0.1",
                                      .ref = {"a", hex, "qwen3_moe", "bf16 345 Linears"},
                                      .other = {s->name, hex, "qwen3_moe", s->name},
                                      .recipe_path = s->name,
                                      .recipe_sha256 = hex,
                                      .data_sha256 = hex,
                                      .sources = sources,
                                      .n_sources = 1,
                                      .sequences = 128,
                                      .tokens = 65536,
                                      .scored = 65408,
                                      .seed = 1,
                                      .replicates = 1000,
                                      .ep_ranks = 8,
                                      .ran = "2 ranks, 12.3 s"};
    d->noise = (tmb_diag_noise){"every operation rounded to BF16", 32, 16384,
                                synthetic_around(0.98, 0.002), synthetic_around(0.0004, 0.00002)};
    for (size_t l = 0; l < s->layers; l++)
        synthetic_layer(d, l, s);
    if (s->dense < s->layers) synthetic_margins(&d->margins, s->drift, 100000 * s->layers);
    synthetic_overall(d, s);
    d->identical = s->drift == 0;
    if (s->causes) synthetic_causes(d, s);
    return d;
}

#endif
