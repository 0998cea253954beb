/* test_weigh.c - the cost of errors from second moments: shrinkage against the formulas, floors
 * against factorization, tables against their layout, averages of a file against its sums. */
#include "config.h"

#include "moe/calib/calibrate.h"
#include "moe/calib/file.h"
#include "moe/calib/weigh.h"
#include "tests/job.h"
#include "tests/random.h"
#include "tests/tap.h"

#include <math.h>
#include <unistd.h>

enum { N = 16, PAIRS = TMB_MOMENT_FULL };

static int at(int i, int j)
{
    return i <= j ? i * N - i * (i - 1) / 2 + j - i : at(j, i);
}

/* Average of so many random rows with this much in common. */
static void sample(float s[PAIRS], int rows, double common)
{
    double sum[PAIRS] = {0};
    for (int r = 0; r < rows; r++) {
        double x[N], all = (double)random_float() * common;
        for (int i = 0; i < N; i++)
            x[i] = ((double)random_float() + all) * (1 + i % 3);
        for (int i = 0; i < N; i++)
            for (int j = i; j < N; j++)
                sum[at(i, j)] += x[i] * x[j] / rows;
    }
    for (int k = 0; k < PAIRS; k++)
        s[k] = (float)sum[k];
}

/* ---- pure functions ---------------------------------------------------------------------------
 */

static void shares(void)
{
    double m;
    ok(tmb_weigh_own(500, 0, 64, &m) == 1 && fabs(m - 500) < 1e-9, "no experts: all of its own");
    ok(tmb_weigh_own(0, 9000, 64, &m) == 0 && fabs(m - 9000) < 1e-6, "no tokens: the layer's");
    double w = tmb_weigh_own(64, 6400, 64, &m), want = 1 / (0.25 / 64 + 0.25 / 6400);
    ok(w == 0.5 && fabs(m - want) < 1e-9, "at the gate: half each, on %.1f tokens", m);
    tmb_weigh_own(0, 0, 64, &m);
    ok(m == 0, "nothing is known of nothing");
}

static void forms(void)
{
    float s[PAIRS], h[PAIRS], d[N], g[N], zero[PAIRS] = {0};
    bool identity = true;
    sample(s, 4000, 1);
    tmb_weigh_form(s, true, 0, h);
    for (int i = 0; i < N; i++)
        for (int j = i; j < N; j++)
            identity = identity && h[at(i, j)] == (i == j);
    tmb_weigh_form(zero, true, 100, h);
    for (int i = 0; i < N; i++)
        for (int j = i; j < N; j++)
            identity = identity && h[at(i, j)] == (i == j);
    ok(identity, "without tokens, or without any input: plain error");

    double mean = 0, noise = 0, signal = 0, tokens = 4000, t = 16 / (tokens + 16), worst = 0;
    for (int i = 0; i < N; i++)
        mean += (double)s[at(i, i)] / N;
    for (int i = 0; i < N; i++)
        for (int j = i + 1; j < N; j++) {
            double c2 = pow((double)s[at(i, j)], 2) / ((double)s[at(i, i)] * (double)s[at(j, j)]);
            noise += 1 + c2;
            signal += c2;
        }
    double r = noise / (tokens * signal), average = 0;
    tmb_weigh_form(s, true, tokens, h);
    for (int i = 0; i < N; i++) {
        average += (double)h[at(i, i)] / N;
        for (int j = i; j < N; j++) {
            double want =
                (1 - t) * (double)s[at(i, j)] / mean * (i == j ? 1 : 1 - r) + (i == j) * t;
            worst = fmax(worst, fabs((double)h[at(i, j)] - want));
        }
    }
    ok(r > 0 && r < 0.01 && worst < 1e-6 && fabs(average - 1) < 1e-6,
       "many tokens: shrunk as the formulas say (by %.4f), 1 on average", r);

    sample(s, 20, 0);
    tmb_weigh_form(s, true, 20, h);
    double off = 0;
    for (int i = 0; i < N; i++)
        for (int j = i + 1; j < N; j++)
            off = fmax(off, fabs((double)h[at(i, j)]));
    ok(off < 0.2, "few tokens of independent channels: next to no correlation is believed (%.3f)",
       off);
    for (int i = 0; i < N; i++)
        d[i] = s[at(i, i)];
    tmb_weigh_form(d, false, 20, g);
    bool same = true;
    for (int i = 0; i < N; i++)
        same = same && g[i] == h[at(i, i)];
    ok(same, "the diagonal alone is the diagonal");
}

/* Whether h - f^2 e(i) e(i)' has a factor. */
static bool definite(const float *h, int i, double f)
{
    double m[N][N];
    for (int a = 0; a < N; a++)
        for (int b = 0; b < N; b++)
            m[a][b] = (double)h[at(a, b)] - (a == i && b == i ? f * f : 0);
    for (int k = 0; k < N; k++) {
        if (!(m[k][k] > 0)) return false;
        for (int a = k + 1; a < N; a++)
            for (int b = N - 1; b >= k; b--)
                m[a][b] -= m[a][k] / m[k][k] * m[k][b];
    }
    return true;
}

static void floors(void)
{
    unsigned below = 0, tight = 0, n = 0;
    for (int round = 0; round < 30; round++) {
        float s[PAIRS], h[PAIRS], f[N];
        sample(s, 8 + 20 * round, round % 4);
        tmb_weigh_form(s, true, 30 + 1000 * round, h);
        tmb_weigh_floor(h, true, f);
        for (int i = 0; i < N; i++, n++) {
            below += f[i] > 0 && definite(h, i, (double)f[i]);
            tight += !definite(h, i, (double)f[i] * (1 + 1e-4));
        }
    }
    ok(below == n && tight == n, "%u floors are below the form, and no lower than they must be", n);
    float h[PAIRS] = {0}, f[N];
    for (int k = 0; k < PAIRS; k++)
        h[k] = 1;
    tmb_weigh_floor(h, true, f);
    bool none = true;
    for (int i = 0; i < N; i++)
        none = none && f[i] == 0;
    ok(none, "a singular form has none");
}

static void tables(void)
{
    enum { BLOCKS = 19 };
    static float s[BLOCKS * PAIRS], lanes[2 * N * TMB_MOMENT_ROWS(true)];
    int wrong = 0;
    for (int full = 0; full < 2; full++) {
        int figures = full ? PAIRS : N, rows = TMB_MOMENT_ROWS(full);
        for (int b = 0; b < BLOCKS; b++) {
            float one[PAIRS];
            sample(one, 40, 1);
            for (int k = 0; k < figures; k++)
                s[b * figures + k] = full ? one[k] : one[at(k, k)];
        }
        if (tmb_weigh_floats(BLOCKS, full) != (uint64_t)(2 * N * rows)) wrong++;
        tmb_weigh_table(s, BLOCKS, full, 500, lanes);
        for (int b = 0; b < BLOCKS; b++) {
            float h[PAIRS], f[N];
            const float *lane = lanes + b / N * rows * N + b % N;
            tmb_weigh_form(s + b * figures, full, 500, h);
            tmb_weigh_floor(h, full, f);
            for (int i = 0, k = 0; i < N; i++) {
                for (int j = i; j < (full ? N : i + 1); j++, k++, lane += N)
                    wrong += *lane != (i == j ? 1.0f : 2.0f) * h[k];
            }
            for (int i = 0; i < N; i++, lane += N)
                wrong += *lane != f[i];
        }
    }
    ok(!wrong, "tables hold forms and floors where searches look for them");
}

/* ---- a file -----------------------------------------------------------------------------------
 */

static char folder[] = "/tmp/tombac-test-XXXXXX";

static tmb_status calibrate(const char *out, tmb_err *err)
{
    tmb_checkpoint *ckpt = NULL;
    tmb_model *m = NULL;
    tmb_data *data = NULL;
    tmb_calibrate_result result = {0};
    char ids[256];
    snprintf(ids, sizeof ids, "%s/ids.bin", folder);
    FILE *f = fopen(ids, "wb");
    for (int i = 0; f && i < 256; i++)
        fwrite(&(uint16_t){(uint16_t)(i * i % 97)}, 2, 1, f);
    if (f) fclose(f);
    tmb_source source = {.name = "a", .path = ids, .weight = 1};
    tmb_data_options d = {.sources = &source, .n_sources = 1, .length = 64, .fit = TMB_FIT_PACK};
    tmb_calibrate_options o = {
        .out = out, .min_tokens = 120, .starved = TMB_STARVED_SHADOW, .moments = true};
    tmb_status status = tmb_checkpoint_open(&ckpt, data_path("arch/qwen3_moe"), err);
    if (!status) status = tmb_model_open(&m, ckpt, err);
    if (!status) status = tmb_data_open(&data, &d, err);
    if (!status) status = tmb_calibrate(m, data, &o, &result, err);
    tmb_calibrate_result_free(&result);
    tmb_data_close(data);
    tmb_model_close(m);
    tmb_checkpoint_close(ckpt);
    return status;
}

/* The k-th figure of a block among the sums of one entry: triangles are stored as rows of 16. */
static double sum_of(const tmb_accum *a, bool full, uint64_t block, int k)
{
    for (int i = 0; i < N; i++)
        for (int j = i; full && j < N; j++)
            if (at(i, j) == k)
                return a->seen ? tmb_accum_value(a, block * TMB_STAT_SUMS +
                                                        (uint64_t)tmb_stat_sum(i, j))
                               : 0;
    return a->seen ? tmb_accum_value(a, block * TMB_STAT_SUMS + (uint64_t)tmb_stat_sum(k, k)) : 0;
}

/* Figures of a site against the sums of the layer read with moments: up to one factor. */
static double site_differs(const tmb_site *site, uint64_t min_tokens, bool full, const float *got,
                           const double *tokens)
{
    int figures = full ? PAIRS : N;
    uint64_t blocks = site->in / N, all = 0;
    double worst = 0, factor = 0;
    for (uint32_t e = 0; e < site->n; e++)
        all += site->native[e].tokens;
    for (uint32_t e = 0; e < site->n; e++) {
        uint64_t native = site->native[e].tokens, n = native;
        uint64_t shown = site->expert ? site->shadow[e].tokens : 0;
        bool shadow = site->expert && native < min_tokens && shown >= min_tokens;
        if (shadow) n += shown;
        double w = site->expert ? (double)n / (double)(n + min_tokens) : 1, m;
        tmb_weigh_own(n, site->expert ? all : 0, min_tokens, &m);
        if (m != tokens[e]) return INFINITY;
        for (uint64_t i = 0; i < blocks * (uint64_t)figures; i++) {
            uint64_t b = i / (uint64_t)figures;
            int k = (int)(i % (uint64_t)figures);
            double own = sum_of(&site->native[e], full, b, k), layer = 0;
            if (shadow) own += sum_of(&site->shadow[e], full, b, k);
            for (uint32_t p = 0; p < site->n; p++)
                layer += sum_of(&site->native[p], full, b, k);
            double want = w * own / (double)(n ? n : 1) + (1 - w) * layer / (double)all;
            double is = (double)got[e * blocks * (uint64_t)figures + i];
            if (!(factor > 0) && want > 0) factor = is / want;
            /* the largest input is near 1 there; averages are float32 */
            worst = fmax(worst, fabs(is - want * factor) / fmax(fabs(want * factor), 1e-3));
        }
    }
    int exponent;
    double power = frexp(factor, &exponent); /* 0.5 of a power of two, but for rounding */
    return fabs(power - 0.5) < 1e-5 || fabs(power - 1) < 1e-5 ? worst : INFINITY;
}

static void files(void)
{
    char path[256];
    tmb_err err = {0};
    tmb_stats_file *file = NULL;
    snprintf(path, sizeof path, "%s/a.h5", folder);
    tmb_status status = calibrate(path, &err);
    if (!status) status = tmb_stats_open(&file, path, &err);
    if (!ok(!status, "statistics are there (%s)", err.message)) return;
    double worst = 0;
    unsigned sites = 0, shadows = 0;
    for (uint32_t l = 0; !status && l < file->n_layers; l++) {
        tmb_stats_layer *bare = NULL, *whole = NULL;
        status = tmb_stats_read(file, l, false, &bare, &err);
        if (!status) status = tmb_stats_read(file, l, true, &whole, &err);
        for (uint32_t s = 0; !status && s < bare->n_sites; s++)
            for (int full = 0; full < 2 && !status; full++, sites++) {
                const tmb_site *site = &whole->sites[s];
                uint64_t figures = site->in / N * (uint64_t)(full ? PAIRS : N);
                float *got = malloc(site->n * figures * sizeof *got);
                double *tokens = malloc(site->n * sizeof *tokens);
                status = tmb_stats_moments(file, bare, s, full, got, tokens, &err);
                if (!status)
                    worst = fmax(worst,
                                 site_differs(site, file->identity.min_tokens, full, got, tokens));
                for (uint32_t e = 0; site->expert && e < site->n; e++)
                    shadows += site->shadow[e].tokens > 0;
                free(got);
                free(tokens);
            }
        tmb_stats_layer_free(bare);
        tmb_stats_layer_free(whole);
    }
    ok(!status && sites > 8 && shadows > 0 && worst < 1e-5,
       "%u averages are those of the sums, %u with shadows (%.1e) (%s)", sites, shadows, worst,
       err.message);
    tmb_stats_close(file);
}

int main(void)
{
    if (!mkdtemp(folder)) return 99;
    shares();
    forms();
    floors();
    tables();
    files();
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command) ? 99 : done();
}
