/* weigh.c - shrinkage of second moments, and the tables that searches take. */
#include "config.h"
#include "moe/calib/weigh.h"

#include "moe/calib/coverage.h"

#include <math.h>
#include <string.h>

enum { BLOCK = TMB_MOMENT_LANES, RANK = BLOCK };

double tmb_weigh_own(uint64_t own, uint64_t all, uint64_t min_tokens, double *tokens)
{
    double w = all ? tmb_shrink(own, min_tokens) : 1, noise = 0;
    if (own) noise += w * w / (double)own;
    if (all) noise += (1 - w) * (1 - w) / (double)all;
    *tokens = noise > 0 ? 1 / noise : 0;
    return w;
}

/* Place of (i, i) in the triangle; (i, j) lies j - i behind it. */
static int diagonal(int i)
{
    return i * BLOCK - i * (i - 1) / 2;
}

/* r of weigh.h; v [16]: the diagonal. */
static double to_diagonal(const float *s, const double *v, double tokens)
{
    double noise = 0, signal = 0;
    for (int i = 0; i < BLOCK; i++)
        for (int j = i + 1; j < BLOCK; j++) {
            if (!(v[i] > 0) || !(v[j] > 0)) continue;
            double c2 =
                (double)s[diagonal(i) + j - i] * (double)s[diagonal(i) + j - i] / (v[i] * v[j]);
            if (c2 > 1) c2 = 1;
            noise += 1 + c2;
            signal += c2;
        }
    double r = signal > 0 ? noise / (tokens * signal) : 1;
    return r < 1 ? r : 1;
}

void tmb_weigh_form(const float *s, bool full, double tokens, float *h)
{
    double v[BLOCK], mean = 0, t = RANK / (tokens + RANK);
    for (int i = 0; i < BLOCK; i++) {
        double d = (double)s[full ? diagonal(i) : i];
        v[i] = d > 0 ? d : 0;
        mean += v[i] / BLOCK;
    }
    if (!(tokens > 0) || !(mean > 0) || !isfinite(mean)) { /* nothing is known: all count alike */
        mean = t = 1;
        memset(v, 0, sizeof v);
    }
    double r = full && t < 1 ? to_diagonal(s, v, tokens) : 1;
    for (int i = 0; i < BLOCK; i++) {
        h[full ? diagonal(i) : i] = (float)((1 - t) * v[i] / mean + t);
        for (int j = i + 1; full && j < BLOCK; j++) {
            int at = diagonal(i) + j - i;
            double off = v[i] > 0 && v[j] > 0 && r < 1 ? (double)s[at] : 0,
                   most = sqrt(v[i] * v[j]);
            if (fabs(off) > most) off = off > 0 ? most : -most; /* rounded, or made up */
            h[at] = (float)((1 - t) * (1 - r) * off / mean);
        }
    }
}

/* out [16] = diagonal of the inverse, by the factor L L' of h and the inverse of L; false where a
 * pivot says that nothing is certain. */
static bool inverse_diagonal(const float *h, double out[BLOCK])
{
    double l[BLOCK][BLOCK], inverse[BLOCK][BLOCK] = {{0}};
    for (int i = 0; i < BLOCK; i++)
        for (int j = 0; j <= i; j++) {
            double sum = (double)h[diagonal(j) + i - j];
            for (int k = 0; k < j; k++)
                sum -= l[i][k] * l[j][k];
            if (i == j && !(sum > 1e-7 * (double)h[diagonal(i)])) return false;
            l[i][j] = i == j ? sqrt(sum) : sum / l[j][j];
        }
    for (int j = 0; j < BLOCK; j++) {
        out[j] = 0;
        for (int i = j; i < BLOCK; i++) {
            double sum = i == j;
            for (int k = j; k < i; k++)
                sum -= l[i][k] * inverse[k][j];
            inverse[i][j] = sum / l[i][i];
            out[j] += inverse[i][j] * inverse[i][j];
        }
    }
    return true;
}

void tmb_weigh_floor(const float *h, bool full, float f[BLOCK])
{
    double inverse[BLOCK];
    for (int i = 0; i < BLOCK; i++)
        inverse[i] = full ? 0 : 1 / (double)h[i];
    if (full && !inverse_diagonal(h, inverse)) memset(inverse, 0, sizeof inverse);
    for (int i = 0; i < BLOCK; i++)
        f[i] = inverse[i] > 0 ? (float)(sqrt(1 / inverse[i]) * (1 - 1e-6)) : 0;
}

uint64_t tmb_weigh_floats(uint64_t blocks, bool full)
{
    return (blocks + BLOCK - 1) / BLOCK * (uint64_t)TMB_MOMENT_ROWS(full) * BLOCK;
}

void tmb_weigh_table(const float *s, uint64_t blocks, bool full, double tokens, float *lanes)
{
    int figures = full ? TMB_MOMENT_FULL : BLOCK;
    uint64_t whole = (blocks + BLOCK - 1) / BLOCK * BLOCK;
    for (uint64_t b = 0; b < whole; b++) {
        float h[TMB_MOMENT_FULL] = {0}, f[BLOCK] = {0};
        float *at = lanes + b / BLOCK * (uint64_t)TMB_MOMENT_ROWS(full) * BLOCK + b % BLOCK;
        if (b < blocks) {
            tmb_weigh_form(s + b * (uint64_t)figures, full, tokens, h);
            tmb_weigh_floor(h, full, f);
        }
        for (int i = 0, k = 0; i < BLOCK; i++)
            for (int j = i; j < (full ? BLOCK : i + 1); j++, k++, at += BLOCK)
                *at = i == j ? h[k] : 2 * h[k];
        for (int i = 0; i < BLOCK; i++, at += BLOCK)
            *at = f[i];
    }
}
