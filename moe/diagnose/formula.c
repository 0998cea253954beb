/* formula.c - metrics from sums. */
#include "config.h"
#include "moe/diagnose/formula.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What one model's load looks like. */
typedef struct load {
    double cv, gini, maxvio, dead, overloaded, ep;
} load;

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Experts lie on ranks in runs, expert e on rank floor(e * ep / n): the largest over the mean. */
static double imbalance(const double *tokens, size_t n, size_t ep, double sum)
{
    double most = 0, here = 0;
    for (size_t e = 0; e < n; e++) {
        if (e && e * ep / n != (e - 1) * ep / n) here = 0;
        here += tokens[e];
        most = here > most ? here : most;
    }
    return most * (double)ep / sum;
}

static load look(const double *tokens, size_t n, size_t ep, double *sorted)
{
    load l = {0};
    double sum = 0, squares = 0, most = 0, ranked = 0;
    for (size_t e = 0; e < n; e++) {
        sum += tokens[e];
        most = tokens[e] > most ? tokens[e] : most;
        l.dead += tokens[e] == 0;
    }
    double mean = sum / (double)n;
    for (size_t e = 0; e < n; e++) {
        squares += (tokens[e] - mean) * (tokens[e] - mean);
        l.overloaded += tokens[e] > 2 * mean;
    }
    memcpy(sorted, tokens, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_size);
    for (size_t i = 0; i < n; i++)
        ranked += (double)(2 * i + 1) * sorted[i];
    l.cv = sqrt(squares / (double)n) / mean;
    l.gini = ranked / ((double)n * sum) - 1; /* sum (2i - n - 1) x_i / (n sum x), i from 1 */
    l.maxvio = most / mean - 1;
    l.ep = imbalance(tokens, n, ep, sum);
    return l;
}

/* Half a token is added to each expert, so that one which lost all of them costs a finite sum. */
static double load_kl(const double *p, const double *q, size_t n)
{
    double sum_p = 0, sum_q = 0, kl = 0;
    for (size_t e = 0; e < n; e++) {
        sum_p += p[e] + 0.5;
        sum_q += q[e] + 0.5;
    }
    for (size_t e = 0; e < n; e++) {
        double a = (p[e] + 0.5) / sum_p, b = (q[e] + 0.5) / sum_q;
        kl += a * log(a / b);
    }
    return kl > 0 ? kl : 0;
}

double tmb_formula_drift(double set_match, double noise_match)
{
    if (isnan(noise_match)) return (double)NAN;
    return set_match == 1 ? 0 : (1 - set_match) / (1 - noise_match);
}

static void routing(double *m, const double *t, const tmb_router_shape *shape)
{
    static const struct {
        tmb_metric metric;
        int sum, of;
    } means[] = {
        {TMB_M_SET_MATCH, TMB_T_SAME, TMB_T_POSITIONS},
        {TMB_M_JACCARD, TMB_T_JACCARD, TMB_T_POSITIONS},
        {TMB_M_TOP1_MATCH, TMB_T_TOP1, TMB_T_POSITIONS},
        {TMB_M_ORDER_CHANGE, TMB_T_ORDER, TMB_T_POSITIONS},
        {TMB_M_CHANGED, TMB_T_CHANGED, TMB_T_POSITIONS},
        {TMB_M_GATE_TV, TMB_T_GATE_TV, TMB_T_POSITIONS},
        {TMB_M_GATE_LOST, TMB_T_GATE_LOST, TMB_T_POSITIONS},
        {TMB_M_ROUTER_KL, TMB_T_KL, TMB_T_POSITIONS},
        {TMB_M_ROUTER_COS, TMB_T_COS, TMB_T_POSITIONS},
        {TMB_M_TOPK_MSE, TMB_T_TOPK_MSE, TMB_T_POSITIONS},
        {TMB_M_GROUP_MATCH, TMB_T_GROUPS, TMB_T_POSITIONS},
        {TMB_M_MARGIN_REF, TMB_T_MARGIN_REF, TMB_T_MARGINS},
        {TMB_M_MARGIN_OTHER, TMB_T_MARGIN_OTHER, TMB_T_MARGINS},
        {TMB_M_TIES, TMB_T_TIES, TMB_T_POSITIONS},
        {TMB_M_EXACT_TIES, TMB_T_EXACT_TIES, TMB_T_POSITIONS},
        {TMB_M_TIE_FLIPS, TMB_T_TIE_FLIPS, TMB_T_POSITIONS},
        {TMB_M_NOISE_FLIPS, TMB_T_NOISE_FLIPS, TMB_T_POSITIONS},
        {TMB_M_NOISE_MATCH, TMB_T_NOISE_SAME, TMB_T_NOISE_POSITIONS},
        {TMB_M_LOCAL_ROUTER, TMB_T_LOCAL_ROUTER, TMB_T_LOCAL_POSITIONS},
        {TMB_M_LOCAL_LAYER, TMB_T_LOCAL_LAYER, TMB_T_POSITIONS},
    };
    for (size_t i = 0; i < sizeof means / sizeof *means; i++)
        m[means[i].metric] = t[means[i].sum] / t[means[i].of]; /* 0 / 0 is the NaN that is wanted */
    double flips = t[TMB_T_POSITIONS] - t[TMB_T_SAME];
    if (shape->groups <= 1) m[TMB_M_GROUP_MATCH] = (double)NAN;
    m[TMB_M_REAL_FLIPS] = (flips - t[TMB_T_TIE_FLIPS] - t[TMB_T_NOISE_FLIPS]) / t[TMB_T_POSITIONS];
    m[TMB_M_LOGIT_ERROR] = t[TMB_T_CENTRED] > 0 ? sqrt(t[TMB_T_CENTRED] / t[TMB_T_CENTRED_REF]) : 0;
    double change = t[TMB_T_COMMON] + t[TMB_T_CENTRED];
    m[TMB_M_COMMON_MODE] = change > 0 ? t[TMB_T_COMMON] / change : 0;
    m[TMB_M_DRIFT] = tmb_formula_drift(m[TMB_M_SET_MATCH], m[TMB_M_NOISE_MATCH]);
}

void tmb_formula_layer(double *m, const double *t, const double *ref, const double *other,
                       const tmb_router_shape *shape, bool sparse, size_t ep, double *work)
{
    for (int i = 0; i < TMB_M_OUTPUT; i++)
        m[i] = (double)NAN;
    m[TMB_M_HIDDEN_ERROR] = sqrt(t[TMB_T_ERROR] / t[TMB_T_NORM]);
    m[TMB_M_LOCAL_ERROR] = sqrt(t[TMB_T_LOCAL_ERROR] / t[TMB_T_NORM]);
    if (!sparse) return;
    routing(m, t, shape);
    load a = look(ref, shape->n_experts, ep, work), b = look(other, shape->n_experts, ep, work);
    m[TMB_M_LOAD_KL] = load_kl(ref, other, shape->n_experts);
    const double pairs[] = {a.cv,   b.cv,   a.gini,       b.gini,       a.maxvio, b.maxvio,
                            a.dead, b.dead, a.overloaded, b.overloaded, a.ep,     b.ep};
    memcpy(m + TMB_M_LOAD_CV_REF, pairs, sizeof pairs);
}
