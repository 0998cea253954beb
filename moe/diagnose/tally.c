/* tally.c - comparing the routing of one position. */
#include "config.h"
#include "moe/diagnose/tally.h"

#include "kernels/base/codec.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The distance of two BF16 values of this size. */
static double bf16_step(double value)
{
    int exponent;
    frexp(value, &exponent);
    return value == 0 ? 0 : ldexp(1.0, exponent - 8);
}

/* Element e of what is compared. */
static double compared(const tmb_router_shape *s, const tmb_routed *r, size_t e)
{
    return (double)(s->space == TMB_MARGIN_LOGIT ? r->logits : r->choice)[e];
}

bool tmb_margin(const tmb_router_shape *s, const tmb_routed *r, double *margin, double *step)
{
    double last = INFINITY, best = -INFINITY;
    size_t k = 0;
    for (size_t e = 0; e < s->n_experts; e++) {
        bool in = k < s->top_k && r->chosen[k] == e;
        if (in) k++;
        if (isinf(r->choice[e])) continue; /* its group was not chosen */
        double v = compared(s, r, e);
        if (in && v < last) last = v;
        if (!in && v > best) best = v;
    }
    if (isinf(last) || isinf(best)) return false;
    *margin = last > best ? last - best : 0; /* softmax may round unequal logits to level scores */
    *step = bf16_step(fmax(fabs(last), fabs(best)));
    return true;
}

bool tmb_same_route(const tmb_router_shape *s, const uint32_t *a, const uint32_t *b)
{
    return memcmp(a, b, s->top_k * sizeof *a) == 0; /* both ascending */
}

/* Experts in a and not in b. */
static size_t only_in(const tmb_router_shape *s, const uint32_t *a, const uint32_t *b)
{
    size_t n = 0, j = 0;
    for (size_t i = 0; i < s->top_k; i++) {
        while (j < s->top_k && b[j] < a[i])
            j++;
        n += j == s->top_k || b[j] != a[i];
    }
    return n;
}

/* Place of the i-th heaviest, level ones by index. */
static size_t heaviest(const tmb_router_shape *s, const float *w, size_t behind)
{
    size_t best = s->top_k;
    for (size_t i = 0; i < s->top_k; i++) {
        if (behind < s->top_k && !(w[i] < w[behind] || (w[i] == w[behind] && i > behind))) continue;
        if (best == s->top_k || w[i] > w[best]) best = i;
    }
    return best;
}

static bool same_order(const tmb_router_shape *s, const float *a, const float *b)
{
    size_t i = s->top_k, j = s->top_k;
    for (size_t n = 0; n < s->top_k; n++) {
        i = heaviest(s, a, i);
        j = heaviest(s, b, j);
        if (i != j) return false;
    }
    return true;
}

/* --- weights -------------------------------------------------------------------------------- */

static int64_t mass(float weight)
{
    return llround((double)weight * (double)(1 << TMB_MASS_BITS));
}

/* Walk both sets: sums over the union of |g - h|, g + h, and the weight lost. */
static void gates(const tmb_tally *t, const tmb_router_shape *s, const tmb_routed *a,
                  const tmb_routed *b)
{
    double apart = 0, both = 0, lost = 0, all = 0;
    size_t i = 0, j = 0;
    while (i < s->top_k || j < s->top_k) {
        size_t x = i < s->top_k ? a->chosen[i] : SIZE_MAX,
               y = j < s->top_k ? b->chosen[j] : SIZE_MAX;
        double g = x <= y ? (double)a->weight[i] : 0, h = y <= x ? (double)b->weight[j] : 0;
        apart += fabs(g - h);
        both += g + h;
        all += g;
        if (x < y) {
            lost += g;
            t->experts[x].lost++;
        }
        if (y < x) t->experts[y].gained++;
        if (x <= y) {
            t->experts[x].ref_mass += mass(a->weight[i++]);
            t->ref[x]++;
        }
        if (y <= x) {
            t->experts[y].other_mass += mass(b->weight[j++]);
            t->other[y]++;
        }
    }
    t->sums[TMB_T_GATE_TV] += both > 0 ? apart / both : 0;
    t->sums[TMB_T_GATE_LOST] += all > 0 ? lost / all : 0;
}

/* --- logits --------------------------------------------------------------------------------- */

static double log_sum(const float *x, size_t n)
{
    double most = (double)x[0], sum = 0;
    for (size_t i = 1; i < n; i++)
        if ((double)x[i] > most) most = (double)x[i];
    for (size_t i = 0; i < n; i++)
        sum += exp((double)x[i] - most);
    return most + log(sum);
}

static void logits(const tmb_tally *t, const tmb_router_shape *s, const tmb_routed *a,
                   const tmb_routed *b)
{
    size_t n = s->n_experts;
    double za = log_sum(a->logits, n), zb = log_sum(b->logits, n);
    double kl = 0, aa = 0, bb = 0, ab = 0, sum_a = 0, sum_d = 0, dd = 0, top = 0;
    for (size_t e = 0; e < n; e++) {
        double x = (double)a->logits[e], y = (double)b->logits[e], d = y - x;
        kl += exp(x - za) * ((x - za) - (y - zb));
        aa += x * x;
        bb += y * y;
        ab += x * y;
        sum_a += x;
        sum_d += d;
        dd += d * d;
    }
    for (size_t j = 0; j < s->top_k; j++) {
        double d = (double)b->logits[a->chosen[j]] - (double)a->logits[a->chosen[j]];
        top += d * d;
    }
    double common = sum_d * sum_d / (double)n, scale = sqrt(aa * bb);
    t->sums[TMB_T_KL] += kl > 0 ? kl : 0; /* below 0 by rounding alone */
    t->sums[TMB_T_COS] += scale > 0 ? ab / scale : aa == bb;
    t->sums[TMB_T_TOPK_MSE] += top / (double)s->top_k;
    t->sums[TMB_T_CENTRED] += dd > common ? dd - common : 0;
    t->sums[TMB_T_CENTRED_REF] += aa - sum_a * sum_a / (double)n;
    t->sums[TMB_T_COMMON] += common;
}

static bool same_groups(const tmb_router_shape *s, const tmb_routed *a, const tmb_routed *b)
{
    for (size_t e = 0; e < s->n_experts; e++)
        if (isinf(a->choice[e]) != isinf(b->choice[e])) return false;
    return true;
}

/* --- positions ------------------------------------------------------------------------------ */

static void flips(const tmb_tally *t, const tmb_router_shape *s, const tmb_routed *a,
                  const tmb_routed *b, bool same, double noise_margin)
{
    double margin, step, other, unused;
    if (!tmb_margin(s, a, &margin, &step)) return;
    bool tie = margin == 0 || margin < step;
    t->sums[TMB_T_MARGINS]++;
    t->sums[TMB_T_MARGIN_REF] += margin;
    t->sums[TMB_T_TIES] += tie;
    t->sums[TMB_T_EXACT_TIES] += margin == 0;
    t->margins->ref[tmb_margin_bin(margin)]++;
    if (tmb_margin(s, b, &other, &unused)) {
        t->sums[TMB_T_MARGIN_OTHER] += other;
        t->margins->other[tmb_margin_bin(other)]++;
    }
    if (same) return;
    t->margins->flips[tmb_margin_bin(margin)]++;
    t->sums[TMB_T_TIE_FLIPS] += tie;
    t->sums[TMB_T_NOISE_FLIPS] += !tie && margin < noise_margin;
}

void tmb_tally_position(const tmb_tally *t, const tmb_router_shape *s, const tmb_routed *a,
                        const tmb_routed *b, double noise_margin)
{
    bool same = tmb_same_route(s, a->chosen, b->chosen);
    size_t lost = same ? 0 : only_in(s, a->chosen, b->chosen), k = s->top_k;
    t->sums[TMB_T_POSITIONS]++;
    t->sums[TMB_T_SAME] += same;
    t->sums[TMB_T_JACCARD] += (double)(k - lost) / (double)(k + lost);
    t->sums[TMB_T_CHANGED] += (double)lost;
    t->sums[TMB_T_TOP1] +=
        a->chosen[heaviest(s, a->weight, k)] == b->chosen[heaviest(s, b->weight, k)];
    t->sums[TMB_T_ORDER] += same && !same_order(s, a->weight, b->weight);
    t->sums[TMB_T_GROUPS] += s->groups > 1 && same_groups(s, a, b);
    gates(t, s, a, b);
    logits(t, s, a, b);
    flips(t, s, a, b, same, noise_margin);
}

void tmb_tally_noise(const tmb_tally *t, const tmb_router_shape *s, const tmb_routed *a,
                     const tmb_routed *b, uint64_t *moved)
{
    double margin, other, step;
    bool same = tmb_same_route(s, a->chosen, b->chosen);
    t->sums[TMB_T_NOISE_POSITIONS]++;
    t->sums[TMB_T_NOISE_SAME] += same;
    if (!tmb_margin(s, a, &margin, &step)) return;
    t->margins->noise_of[tmb_margin_bin(margin)]++;
    t->margins->noise[tmb_margin_bin(margin)] += !same;
    if (tmb_margin(s, b, &other, &step)) moved[tmb_margin_bin(fabs(other - margin))]++;
}

void tmb_tally_local(const tmb_tally *t, const tmb_router_shape *s, const tmb_routed *a,
                     const tmb_routed *b, const tmb_routed *local, const float *crossed)
{
    enum { INPUT, WEIGHT, BOTH, PARTS };
    double sum[PARTS] = {0}, squares[PARTS] = {0}, margin, step;
    bool same = tmb_same_route(s, a->chosen, local->chosen);
    t->sums[TMB_T_LOCAL_POSITIONS]++;
    t->sums[TMB_T_LOCAL_ROUTER] += same;
    if (!same && tmb_margin(s, a, &margin, &step)) t->margins->local[tmb_margin_bin(margin)]++;
    for (size_t e = 0; e < s->n_experts; e++) {
        double x = (double)a->logits[e], part[PARTS];
        part[INPUT] = (double)crossed[e] - x;
        part[WEIGHT] = (double)local->logits[e] - x;
        part[BOTH] = (double)b->logits[e] - x - part[INPUT] - part[WEIGHT];
        for (int i = 0; i < PARTS; i++) {
            sum[i] += part[i];
            squares[i] += part[i] * part[i];
        }
    }
    for (int i = 0; i < PARTS; i++) {
        double rest = squares[i] - sum[i] * sum[i] / (double)s->n_experts;
        t->sums[TMB_T_SPLIT_INPUT + i] += rest > 0 ? rest : 0;
    }
}

void tmb_tally_values(double *error, double *norm, const float *x, const float *y, size_t n)
{
    double e = 0, s = 0;
    for (size_t i = 0; i < n; i++) {
        double v = (double)x[i], d = (double)y[i] - v;
        e += d * d;
        s += v * v;
    }
    *error += e;
    if (norm) *norm += s;
}
