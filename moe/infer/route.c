/* route.c - from a token's router logits to its experts.  Formulas: moe/model/arch_forward.h. */
#include "config.h"
#include "moe/infer/decoder.h"

#include "kernels/cpu/route.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The largest of x [n] behind element `last` in falling order, level ones by index; n at the end.
 * last == n: the largest of all. */
static size_t next_best(const float *x, size_t n, size_t last)
{
    size_t best = n;
    for (size_t i = 0; i < n; i++) {
        bool behind = last == n || x[i] < x[last] || (x[i] == x[last] && i > last);
        if (behind && (best == n || x[i] > x[best])) best = i;
    }
    return best;
}

static int by_index(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* The top-k of choice, ascending by index; true when the first left out is level with the last. */
static bool choose(const tmb_config *c, const float *choice, uint32_t *chosen)
{
    size_t last = c->n_experts;
    for (size_t j = 0; j < c->top_k; j++)
        chosen[j] = (uint32_t)(last = next_best(choice, c->n_experts, last));
    size_t out = next_best(choice, c->n_experts, last);
    qsort(chosen, c->top_k, sizeof *chosen, by_index);
    return out < c->n_experts && choice[out] == choice[last];
}

/* score [n_experts] of the logits. */
static void score_of(const tmb_config *c, const tmb_nn *nn, const float *logits, float *score)
{
    size_t n = c->n_experts;
    memcpy(score, logits, n * sizeof *score);
    if (c->rules->routing == TMB_ROUTING_SOFTMAX) nn->softmax(score, n, 0, n, 1, NULL);
    if (c->rules->routing == TMB_ROUTING_SIGMOID) nn->sigmoid(score, logits, n);
    for (size_t i = 0; c->rules->routing == TMB_ROUTING_SOFTPLUS && i < n; i++) {
        double x = logits[i];
        score[i] = (float)sqrt(x > 20 ? x : log1p(exp(x)));
    }
}

/* weight [top_k] of the chosen ones. */
static void weigh(const tmb_config *c, const tmb_nn *nn, const float *score, const uint32_t *chosen,
                  float *weight)
{
    size_t k = c->top_k;
    for (size_t j = 0; j < k; j++)
        weight[j] = score[chosen[j]];
    if (c->rules->routing == TMB_ROUTING_TOP_SOFTMAX) nn->softmax(weight, k, 0, k, 1, NULL);
    if (c->rules->routing == TMB_ROUTING_INPUT_SIGMOID) nn->sigmoid(weight, weight, k);
    float sum = 1e-20f;
    for (size_t j = 0; c->renormalize && j < k; j++)
        sum += weight[j];
    for (size_t j = 0; j < k; j++)
        weight[j] = (c->renormalize ? weight[j] / sum : weight[j]) * c->routed_scale;
}

bool tmb_route(const tmb_config *c, const tmb_nn *nn, const float *logits, const float *correction,
               float *choice, float *score, uint32_t *chosen, float *weight)
{
    size_t n = c->n_experts;
    score_of(c, nn, logits, score);
    memcpy(choice, score, n * sizeof *choice);
    for (size_t i = 0; correction && i < n; i++)
        choice[i] += correction[i];
    if (c->groups > 1)
        tmb_cpu_limit_groups(choice, n, c->groups, c->top_groups,
                             c->rules->groups == TMB_GROUPS_TOP2 ? TMB_GROUP_TOP_2 : TMB_GROUP_BEST,
                             score + n);
    bool tie = choose(c, choice, chosen);
    weigh(c, nn, score, chosen, weight);
    return tie;
}

void tmb_route_hashed(const tmb_config *c, const tmb_nn *nn, const float *logits,
                      const int64_t *experts, float *choice, uint32_t *chosen, float *weight)
{
    score_of(c, nn, logits, choice);
    for (size_t j = 0; j < c->top_k; j++)
        chosen[j] = (uint32_t)experts[j];
    qsort(chosen, c->top_k, sizeof *chosen, by_index);
    weigh(c, nn, choice, chosen, weight);
}

void tmb_route_again(const tmb_config *c, const tmb_nn *nn, const float *logits, float *score,
                     const uint32_t *chosen, float *weight)
{
    score_of(c, nn, logits, score);
    weigh(c, nn, score, chosen, weight);
}
