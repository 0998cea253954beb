/* test_diagnose.c - the figures of a diagnosis against plain ways to compute them, and the run
 * against itself. */
#include "config.h"

#include "kernels/base/codec.h"
#include "kernels/cpu/cpu.h"
#include "moe/diagnose/formula.h"
#include "moe/diagnose/gate.h"
#include "moe/diagnose/noise.h"
#include "moe/diagnose/run.h"
#include "moe/diagnose/spill.h"
#include "moe/tokens/random.h"
#include "tests/job.h"
#include "tests/tap.h"

#include <math.h>

enum { EXPERTS = 12, TOP = 3, POSITIONS = 400 };

static bool near(double a, double b, double error)
{
    return fabs(a - b) <= error * (1 + fabs(b));
}

/* --- margins -------------------------------------------------------------------------------- */

static void bins(void)
{
    bool order = tmb_margin_bin(0) == 0 && tmb_margin_bin(-1) == 0 && tmb_margin_bin(1e-30) == 1 &&
                 tmb_margin_bin(1e30) == TMB_MARGIN_BINS - 1;
    for (size_t b = 2; b < TMB_MARGIN_BINS; b++) {
        double edge = tmb_margin_edge(b);
        order = order && tmb_margin_bin(edge) == b && tmb_margin_bin(nextafter(edge, 0)) == b - 1 &&
                near(edge, exp2(((double)b - 1) / 4 - 16), 1e-15);
    }
    ok(order, "a margin lies in the bin whose edges enclose it, at every edge");
}

/* --- tallies -------------------------------------------------------------------------------- */

/* Routing of one token, chosen by sorting. */
typedef struct routing {
    float logits[EXPERTS], choice[EXPERTS], weight[TOP];
    uint32_t chosen[TOP];
} routing;

static void choose(routing *r)
{
    bool taken[EXPERTS] = {false};
    double sum = 0;
    for (int k = 0; k < TOP; k++) {
        int best = -1;
        for (int e = 0; e < EXPERTS; e++)
            if (!taken[e] && (best < 0 || r->logits[e] > r->logits[best])) best = e;
        taken[best] = true;
    }
    for (int e = 0, k = 0; e < EXPERTS; e++) {
        r->choice[e] = r->logits[e];
        if (!taken[e]) continue;
        r->chosen[k] = (uint32_t)e;
        r->weight[k] = expf(r->logits[e]);
        sum += (double)r->weight[k++];
    }
    for (int k = 0; k < TOP; k++)
        r->weight[k] = (float)((double)r->weight[k] / sum);
}

static float number(tmb_random *random)
{
    return (float)(tmb_random_next(random) >> 40) / (1 << 23) - 1.0f;
}

static bool has(const routing *r, uint32_t e, double *weight)
{
    *weight = 0;
    for (int k = 0; k < TOP; k++)
        if (r->chosen[k] == e) *weight = (double)r->weight[k];
    return *weight > 0;
}

/* What a reader of doc/diagnose.md would write. */
typedef struct plain {
    double same, jaccard, top1, order, tv, lost, kl, cosine, topk, ties, flips, tie_flips, margin;
} plain;

static int heaviest(const routing *r)
{
    int best = 0;
    for (int k = 1; k < TOP; k++)
        if (r->weight[k] > r->weight[best]) best = k;
    return (int)r->chosen[best];
}

static double boundary(const routing *r, double *step)
{
    double sorted[EXPERTS], w;
    for (int e = 0; e < EXPERTS; e++)
        sorted[e] = (double)r->logits[e];
    for (int i = 0; i < EXPERTS; i++)
        for (int j = i + 1; j < EXPERTS; j++)
            if (sorted[j] > sorted[i]) {
                w = sorted[i];
                sorted[i] = sorted[j];
                sorted[j] = w;
            }
    uint16_t up = tmb_f32_to_bf16((float)fmax(fabs(sorted[TOP - 1]), fabs(sorted[TOP])));
    float low = tmb_bf16_to_f32((uint16_t)(up & ~0x7f)),
          next = tmb_bf16_to_f32((uint16_t)((up & ~0x7f) + 1));
    *step = (double)next - (double)low; /* the step of this octave */
    return sorted[TOP - 1] - sorted[TOP];
}

static void add_plain(plain *p, const routing *a, const routing *b)
{
    double both = 0, either = 0, apart = 0, sum = 0, lost = 0, g, h, za = 0, zb = 0, aa = 0, bb = 0,
           ab = 0, step, margin = boundary(a, &step);
    for (uint32_t e = 0; e < EXPERTS; e++) {
        bool in_a = has(a, e, &g), in_b = has(b, e, &h);
        both += in_a && in_b;
        either += in_a || in_b;
        apart += fabs(g - h);
        sum += g + h;
        if (in_a && !in_b) lost += g;
        za += exp((double)a->logits[e]);
        zb += exp((double)b->logits[e]);
        aa += (double)a->logits[e] * (double)a->logits[e];
        bb += (double)b->logits[e] * (double)b->logits[e];
        ab += (double)a->logits[e] * (double)b->logits[e];
    }
    for (uint32_t e = 0; e < EXPERTS; e++) {
        double pa = exp((double)a->logits[e]) / za, pb = exp((double)b->logits[e]) / zb;
        p->kl += pa * log(pa / pb);
    }
    for (int k = 0; k < TOP; k++)
        p->topk += pow((double)b->logits[a->chosen[k]] - (double)a->logits[a->chosen[k]], 2) / TOP;
    bool tie = margin < step;
    p->same += both == TOP;
    p->jaccard += both / either;
    p->top1 += heaviest(a) == heaviest(b);
    p->tv += apart / sum;
    p->lost += lost / (sum / 2);
    p->cosine += ab / sqrt(aa * bb);
    p->ties += tie;
    p->tie_flips += tie && both != TOP;
    p->margin += margin;
}

static void tallies(void)
{
    tmb_router_shape shape = {EXPERTS, TOP, 1, TMB_MARGIN_LOGIT};
    tmb_random random = tmb_random_open(7, 1);
    double sums[TMB_TALLY] = {0}, m[TMB_METRICS], load[2][EXPERTS], work[EXPERTS];
    uint32_t counts[2][EXPERTS] = {{0}};
    tmb_expert_counts experts[EXPERTS] = {{0}};
    static tmb_margins margins;
    tmb_tally t = {sums, counts[0], counts[1], experts, &margins};
    plain p = {0};
    for (int i = 0; i < POSITIONS; i++) {
        routing a, b;
        for (int e = 0; e < EXPERTS; e++) {
            a.logits[e] = number(&random);
            b.logits[e] = a.logits[e] + 0.1f * number(&random);
        }
        choose(&a);
        choose(&b);
        tmb_routed ra = {a.logits, a.choice, a.chosen, a.weight},
                   rb = {b.logits, b.choice, b.chosen, b.weight};
        tmb_tally_position(&t, &shape, &ra, &rb, 0);
        add_plain(&p, &a, &b);
    }
    int64_t gained = 0, lost = 0, mass = 0;
    uint64_t in_bins = 0;
    bool balanced = true;
    for (int e = 0; e < EXPERTS; e++) {
        gained += experts[e].gained;
        lost += experts[e].lost;
        mass += experts[e].ref_mass;
        balanced =
            balanced && (int64_t)counts[1][e] == counts[0][e] + experts[e].gained - experts[e].lost;
        for (int i = 0; i < 2; i++)
            load[i][e] = counts[i][e];
    }
    for (size_t b = 0; b < TMB_MARGIN_BINS; b++)
        in_bins += margins.ref[b];
    tmb_formula_layer(m, sums, load[0], load[1], &shape, true, 4, work);
    const double n = POSITIONS;
    ok(p.same < n && p.same > 0 && near(m[TMB_M_SET_MATCH], p.same / n, 0), "set match");
    ok(near(m[TMB_M_JACCARD], p.jaccard / n, 1e-12), "Jaccard");
    ok(near(m[TMB_M_TOP1_MATCH], p.top1 / n, 0), "top-1 match");
    ok(near(m[TMB_M_GATE_TV], p.tv / n, 1e-7), "total variation of the weights");
    ok(near(m[TMB_M_GATE_LOST], p.lost / n, 1e-6), "weight lost");
    ok(near(m[TMB_M_ROUTER_KL], p.kl / n, 1e-9), "KL of the logits");
    ok(near(m[TMB_M_ROUTER_COS], p.cosine / n, 1e-12), "their cosine");
    ok(near(m[TMB_M_TOPK_MSE], p.topk / n, 1e-12), "their top-k MSE");
    ok(near(m[TMB_M_MARGIN_REF], p.margin / n, 1e-12), "margins");
    ok(p.ties > 0 && near(m[TMB_M_TIES], p.ties / n, 0) &&
           near(m[TMB_M_TIE_FLIPS], p.tie_flips / n, 0),
       "ties, and flips at them");
    ok(balanced && gained == lost && near((double)gained / n, m[TMB_M_CHANGED], 1e-12),
       "what experts gain others lose");
    ok(near((double)mass / (1 << TMB_MASS_BITS), n, 1e-6) && in_bins == POSITIONS,
       "the weights of a token sum to 1, and each lies in a bin");
}

/* A shift of all logits alike changes nothing but common_mode; identical ones change nothing. */
static void harmless(void)
{
    tmb_router_shape shape = {EXPERTS, TOP, 1, TMB_MARGIN_LOGIT};
    tmb_random random = tmb_random_open(9, 1);
    double sums[2][TMB_TALLY] = {{0}}, m[2][TMB_METRICS], load[EXPERTS], work[EXPERTS];
    uint32_t counts[2][EXPERTS];
    tmb_expert_counts experts[EXPERTS];
    static tmb_margins margins;
    for (int shifted = 0; shifted < 2; shifted++) {
        memset(counts, 0, sizeof counts);
        memset(experts, 0, sizeof experts);
        tmb_tally t = {sums[shifted], counts[0], counts[1], experts, &margins};
        for (int i = 0; i < 50; i++) {
            routing a, b;
            for (int e = 0; e < EXPERTS; e++) {
                a.logits[e] = ldexpf((float)(tmb_random_next(&random) >> 52), -10);
                b.logits[e] = a.logits[e] + (shifted ? 8.0f : 0.0f);
            }
            choose(&a);
            choose(&b);
            memcpy(b.weight, a.weight, sizeof b.weight);
            tmb_routed ra = {a.logits, a.choice, a.chosen, a.weight},
                       rb = {b.logits, b.choice, b.chosen, b.weight};
            tmb_tally_position(&t, &shape, &ra, &rb, 0);
        }
        for (int e = 0; e < EXPERTS; e++)
            load[e] = counts[0][e];
        tmb_formula_layer(m[shifted], sums[shifted], load, load, &shape, true, 8, work);
    }
    ok(m[0][TMB_M_SET_MATCH] == 1 && m[0][TMB_M_ROUTER_KL] == 0 && m[0][TMB_M_ROUTER_COS] == 1 &&
           m[0][TMB_M_LOGIT_ERROR] == 0 && m[0][TMB_M_GATE_TV] == 0 && m[0][TMB_M_LOAD_KL] == 0,
       "what is identical has no drift at all");
    ok(m[1][TMB_M_SET_MATCH] == 1 && m[1][TMB_M_LOGIT_ERROR] < 1e-6 &&
           m[1][TMB_M_COMMON_MODE] > 0.999999 && m[1][TMB_M_TOPK_MSE] == 64,
       "a shift of all logits is common mode");
}

/* --- formulas ------------------------------------------------------------------------------- */

static void loads(void)
{
    tmb_router_shape shape = {5, 2, 1, TMB_MARGIN_LOGIT};
    double sums[TMB_TALLY] = {0}, m[TMB_METRICS], ref[] = {4, 4, 4, 4, 4},
           other[] = {0, 1, 2, 3, 14}, work[5], pairs = 0;
    sums[TMB_T_POSITIONS] = 10;
    tmb_formula_layer(m, sums, ref, other, &shape, true, 2, work);
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < 5; j++)
            pairs += fabs(other[i] - other[j]);
    ok(near(m[TMB_M_GINI], pairs / (2 * 5 * 20), 1e-12) && near(m[TMB_M_GINI_REF], 0, 1e-12),
       "Gini is half the mean absolute difference over the mean");
    ok(m[TMB_M_DEAD] == 1 && m[TMB_M_OVERLOADED] == 1 && m[TMB_M_DEAD_REF] == 0 &&
           near(m[TMB_M_MAXVIO], 2.5, 1e-12),
       "dead and overloaded experts, the largest violation");
    ok(near(m[TMB_M_LOAD_CV], sqrt((16 + 9 + 4 + 1 + 100) / 5.0) / 4, 1e-12), "CV");
    /* experts 0 1 2 on rank 0, 3 4 on rank 1 */
    ok(near(m[TMB_M_EP], 17 / 10.0, 1e-12) && near(m[TMB_M_EP_REF], 12 / 10.0, 1e-12),
       "balance of two ranks");
    ok(tmb_formula_drift(1, 1) == 0 && isinf(tmb_formula_drift(0.9, 1)) &&
           near(tmb_formula_drift(0.9, 0.98), 5, 1e-12),
       "drift");
}

static void bootstrap(void)
{
    enum { N = 60 };
    double num[N], den[N], mean = 0, variance = 0;
    tmb_random random = tmb_random_open(3, 1);
    tmb_boot boot = {0}, again = {0};
    tmb_err err = {0};
    for (int i = 0; i < N; i++) {
        num[i] = (double)number(&random);
        den[i] = 1;
        mean += num[i] / N;
    }
    for (int i = 0; i < N; i++)
        variance += (num[i] - mean) * (num[i] - mean) / N;
    tmb_status status = tmb_boot_open(&boot, N, 2000, 1, &err);
    if (!status) status = tmb_boot_open(&again, N, 2000, 1, &err);
    tmb_interval i = tmb_boot_ratio(&boot, num, den, 1);
    double half = 1.96 * sqrt(variance / N);
    ok(!status && near(i.value, mean, 1e-12) && fabs(i.hi - mean - half) < 0.1 * half &&
           fabs(mean - i.lo - half) < 0.1 * half,
       "the interval of a mean is 1.96 standard errors to each side, within a tenth");
    ok(!status && !memcmp(boot.times, again.times, N * 2000 * sizeof *boot.times),
       "a seed draws the same sequences");
    tmb_boot_close(&boot);
    tmb_boot_close(&again);
    status = tmb_boot_open(&boot, 1, 10, 1, &err);
    i = tmb_boot_ratio(&boot, num, den, 1);
    ok(!status && i.value == num[0] && isnan(i.lo) && isnan(i.hi), "one sequence has no interval");
    tmb_boot_close(&boot);
}

/* --- gates ---------------------------------------------------------------------------------- */

static void gates(void)
{
    static const struct {
        const char *text, *message;
    } bad[] = {
        {"set_match", "is no condition"},
        {"set_match=0.9", "is no condition"},
        {"set_match>=high", "is no number"},
        {"set_mach>=0.9", "did you mean set_match?"},
        {"min_layer_kl<1", "not of a layer"},
        {"layer_x_set_match>1", "unknown metric"},
        {"", "is no condition"},
    };
    tmb_gates g;
    tmb_err err = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        g = (tmb_gates){0};
        tmb_status status = tmb_gates_add(&g, bad[i].text, &err);
        ok(status == TMB_EUSAGE && strstr(err.message, bad[i].message), "'%s': %s", bad[i].text,
           err.message);
    }
    tmb_diagnosis *d = tmb_diagnosis_new(3);
    d->overall[TMB_M_SET_MATCH] = (tmb_interval){0.9, 0.8, 0.95};
    for (int l = 0; l < 3; l++)
        d->layers[l].metrics[TMB_M_SET_MATCH].value = 0.75 + 0.125 * l;
    g = (tmb_gates){0};
    tmb_status status =
        tmb_gates_add(&g,
                      " set_match >= 0.9 , set_match.lo>0.8,min_layer_set_match>=0.75,"
                      "max_layer_set_match<1, layer_1_set_match<=0.875,kl<1",
                      &err);
    bool all = tmb_gates_check(&g, d);
    const bool met[] = {true, false, true, false, true, false};
    for (size_t i = 0; i < g.n; i++)
        all = all || g.list[i].met != met[i];
    ok(!status && g.n == 6 && !all,
       "overall, its lower end, the least and largest layer, one layer; no value meets nothing");
    tmb_diagnosis_free(d);
}

/* --- the rerun ------------------------------------------------------------------------------ */

static void rerun(void)
{
    enum { ROWS = 17, IN = 200, OUT = 70 };
    static float x[ROWS][IN], w[OUT][IN], y[ROWS][OUT], bias[OUT], xp[(ROWS + 12) * IN];
    const tmb_nn *nn = tmb_cpu_nn();
    tmb_nn noise = tmb_noise_nn(nn);
    tmb_random random = tmb_random_open(5, 1);
    tmb_packed packed = {NULL, OUT, IN, false};
    packed.values = aligned_alloc(64, tmb_packed_panels(OUT) * TMB_NN_PANEL * IN * sizeof(float));
    for (int o = 0; o < OUT; o++)
        for (int i = 0; i < IN; i++)
            w[o][i] = number(&random);
    for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < IN; i++)
            x[r][i] = number(&random);
    for (int o = 0; o < OUT; o++)
        bias[o] = number(&random);
    nn->pack(&packed, 0, &w[0][0], OUT, IN);
    nn->pack_rows(xp, &x[0][0], ROWS, IN, IN);
    noise.gemm(&y[0][0], OUT, xp, ROWS, IN, &packed, 0, tmb_packed_panels(OUT), bias);
    double worst = 0;
    bool rounded = true;
    for (int r = 0; r < ROWS; r++)
        for (int o = 0; o < OUT; o++) {
            double sum = (double)bias[o];
            for (int i = 0; i < IN; i++)
                sum += (double)x[r][i] * (double)w[o][i];
            worst = fmax(worst, fabs((double)y[r][o] - sum) / fmax(1, fabs(sum)));
            rounded = rounded && tmb_bf16_to_f32(tmb_f32_to_bf16(y[r][o])) == y[r][o];
        }
    ok(rounded && worst < 1.0 / 256 && worst > 1.0 / 4096,
       "the rerun's products are BF16, within half a step of the sum (%.2g)", worst);
    free(packed.values);
}

/* --- large arrays --------------------------------------------------------------------------- */

static void spills(void)
{
    tmb_spill spill = {.folder = "/tmp", .held = TMB_SPILL_MEMORY};
    tmb_err err = {0};
    double *a = NULL;
    void *b = NULL;
    tmb_status status = tmb_spill_array(&spill, 1000, 7, sizeof *a, (void **)&a, &err);
    bool zero = !status;
    for (size_t i = 0; zero && i < 7000; i++)
        zero = a[i] == 0;
    if (!status) a[6999] = 1;
    ok(!status && zero && spill.arrays[0].bytes >= 56000, "an array past the limit is a file (%s)",
       err.message);
    ok(tmb_spill_array(&spill, UINT64_MAX / 2, 4, 4, &b, &err) == TMB_EUSAGE && !b,
       "one that cannot be counted is refused");
    tmb_spill_close(&spill);
    tmb_spill lost = {.folder = "/no/such/folder", .held = TMB_SPILL_MEMORY};
    ok(tmb_spill_array(&lost, 10, 1, 4, &b, &err) == TMB_ECREATE, "%s", err.message);
    tmb_spill_close(&lost);
}

/* --- runs ----------------------------------------------------------------------------------- */

enum { LENGTH = 128, WINDOWS = 6 };

static tmb_status open_data(tmb_data **data, tmb_err *err)
{
    tmb_source source = {
        .name = "math", .path = data_path("tinymoe/heldout_math.bin"), .weight = 1};
    tmb_data_options o = {.sources = &source,
                          .n_sources = 1,
                          .samples = WINDOWS,
                          .length = LENGTH,
                          .fit = TMB_FIT_PACK};
    return tmb_data_open(data, &o, err);
}

static void runs(void)
{
    job j;
    tmb_plan_options plan = {.threads = 1};
    tmb_data *data = NULL;
    tmb_diagnosis *same = NULL, *d = NULL;
    tmb_scores scores[2];
    tmb_boot boot = {0};
    tmb_err err = {0};
    tmb_status status = job_open(&j, data_path("tinymoe/a"), "@router = nvfp4\n* = nvfp4\n", &plan);
    if (!status) status = open_data(&data, &err);
    tmb_variant ref = tmb_variant_stored("reference", j.model);
    tmb_diagnose_options o = {.run = {.threads = 2, .ranks = 1}, .seed = 1, .replicates = 50};
    if (!status) status = tmb_diagnose(&same, &ref, &ref, data, &o, &err);
    const tmb_interval *m = same ? same->overall : NULL;
    ok(!status && same->identical && m[TMB_M_SET_MATCH].value == 1 && m[TMB_M_KL].value == 0 &&
           m[TMB_M_HIDDEN_ERROR].value == 0 && m[TMB_M_LOCAL_ERROR].value == 0 &&
           m[TMB_M_LOCAL_ROUTER].value == 1 && m[TMB_M_LOCAL_LAYER].value == 1 &&
           m[TMB_M_ROUTER_COS].value == 1 && m[TMB_M_LOGIT_ERROR].value == 0 &&
           m[TMB_M_DRIFT].value == 0 && m[TMB_M_SAME_TOP1].value == 1,
       "a model against itself has no drift in any figure (%s)", err.message);
    ok(!status && m[TMB_M_NOISE_MATCH].value < 1 && m[TMB_M_NOISE_MATCH].value > 0.9 &&
           m[TMB_M_NOISE_KL].value > 0 && m[TMB_M_NOISE_KL].value < 0.01,
       "its rerun in 16 bits has some: set match %.4f", status ? 0 : m[TMB_M_NOISE_MATCH].value);

    tmb_variant variants[2] = {tmb_variant_stored("itself", j.model), ref};
    if (!status) variants[1] = tmb_variant_planned("nvfp4", j.plan);
    tmb_score_options so = {.run = {.threads = 1, .ranks = 2}, .local = true};
    if (!status) status = tmb_diagnose(&d, &ref, &variants[1], data, &o, &err);
    if (!status) status = tmb_score(&ref, variants, 2, data, &so, scores, &err);
    if (!status) status = tmb_boot_open(&boot, data->n_sequences, 50, 1, &err);
    ok(!status, "two variants are scored at once, by two ranks (%s)", err.message);
    if (status) return;
    tmb_interval match = tmb_scores_set_match(&scores[1], -1, &boot),
                 kl = tmb_scores_kl(&scores[1], &boot),
                 error = tmb_scores_hidden_error(&scores[1], 2, &boot),
                 local = tmb_scores_local_match(&scores[1], 3, &boot),
                 layer = tmb_scores_local_error(&scores[1], 4, &boot);
    ok(near(match.value, d->overall[TMB_M_SET_MATCH].value, 1e-12) &&
           near(match.lo, d->overall[TMB_M_SET_MATCH].lo, 1e-12) &&
           near(kl.value, d->overall[TMB_M_KL].value, 1e-12) &&
           near(kl.hi, d->overall[TMB_M_KL].hi, 1e-12) &&
           near(error.value, d->layers[2].metrics[TMB_M_HIDDEN_ERROR].value, 1e-12) &&
           near(local.value, d->layers[3].metrics[TMB_M_LOCAL_LAYER].value, 1e-12) &&
           near(layer.value, d->layers[4].metrics[TMB_M_LOCAL_ERROR].value, 1e-12),
       "scores are the figures of the diagnosis: set match %.4f, KL %.4f", match.value, kl.value);
    ok(tmb_scores_set_match(&scores[0], -1, &boot).value == 1 &&
           tmb_scores_kl(&scores[0], &boot).value == 0,
       "the other variant is scored for itself");
    double parts = d->overall[TMB_M_TIE_FLIPS].value + d->overall[TMB_M_NOISE_FLIPS].value +
                   d->overall[TMB_M_REAL_FLIPS].value;
    ok(match.value < 0.8 && near(parts, 1 - match.value, 1e-12),
       "ties, noise and the rest are all");
    ok(d->layers[0].metrics[TMB_M_HIDDEN_ERROR].value ==
               d->layers[0].metrics[TMB_M_LOCAL_ERROR].value &&
           d->layers[0].metrics[TMB_M_SET_MATCH].value ==
               d->layers[0].metrics[TMB_M_LOCAL_LAYER].value,
       "in the first layer all drift is its own");
    double s = 0;
    for (size_t i = 0; i < d->n_splits; i++)
        s += d->splits[i].weight * (d->splits[i].weight > 0.05) + d->splits[i].input +
             d->splits[i].both + d->splits[i].cross;
    ok(d->n_splits == 6 && near(s, 6, 1e-9),
       "the split of logits sums to 1, and routers have a share");
    tmb_boot_close(&boot);
    tmb_scores_free(scores, 2);
    tmb_diagnosis_free(same);
    tmb_diagnosis_free(d);
    tmb_data_close(data);
    job_close(&j);
}

/* A router that is not touched cannot be at fault. */
static void innocent(void)
{
    job j;
    tmb_plan_options plan = {.threads = 1};
    tmb_data *data = NULL;
    tmb_diagnosis *d = NULL;
    tmb_err err = {0};
    tmb_status status =
        job_open(&j, data_path("tinymoe/a"), "@attention = nvfp4\n* = bf16\n", &plan);
    if (!status) status = open_data(&data, &err);
    tmb_diagnose_options o = {
        .run = {.threads = 1, .ranks = 1}, .replicates = 10, .no_noise = true};
    tmb_variant ref = tmb_variant_stored("reference", j.model), other = ref;
    if (!status) {
        other = tmb_variant_planned("attention", j.plan);
        status = tmb_diagnose(&d, &ref, &other, data, &o, &err);
    }
    ok(!status && d->overall[TMB_M_LOCAL_ROUTER].value == 1 &&
           d->overall[TMB_M_LOCAL_LAYER].value < 1 && d->splits[0].weight == 0 &&
           d->splits[0].both == 0 && near(d->splits[0].input, 1, 1e-9) &&
           isnan(d->overall[TMB_M_DRIFT].value) && d->noise.tokens == 0,
       "with attention alone quantized all of the logits' change comes in with x (%s)",
       err.message);
    tmb_diagnosis_free(d);
    tmb_data_close(data);
    job_close(&j);
}

static void no_pair(void)
{
    job a, b;
    tmb_plan_options plan = {.threads = 1};
    tmb_data *data = NULL;
    tmb_diagnosis *d = NULL;
    tmb_err err = {0};
    tmb_diagnose_options o = {.run = {.threads = 1, .ranks = 1}};
    tmb_status status = job_open(&a, data_path("tinymoe/a"), "* = fp8\n", &plan);
    if (!status) status = job_open(&b, data_path("forward/qwen3_next"), "* = bf16\n", &plan);
    if (!status) status = open_data(&data, &err);
    if (!status) {
        tmb_variant ref = tmb_variant_stored("a", a.model),
                    other = tmb_variant_stored("b", b.model);
        status = tmb_diagnose(&d, &ref, &other, data, &o, &err);
    }
    ok(status == TMB_EUSAGE && !d && strstr(err.message, "are no pair"), "%s", err.message);
    tmb_data_close(data);
    job_close(&a);
    job_close(&b);
}

int main(void)
{
    bins();
    tallies();
    harmless();
    loads();
    bootstrap();
    gates();
    rerun();
    spills();
    runs();
    innocent();
    no_pair();
    return done();
}
