/* Routing by hand: ties are counted and go to the first, groups are masked with -inf also where
 * scores are negative, weights are taken without the correction. */
#include "config.h"
#include "kernels/cpu/cpu.h"
#include "moe/infer/decoder.h"
#include "tests/tap.h"

#include <math.h>
#include <string.h>

enum { EXPERTS = 8 };

typedef struct result {
    float choice[EXPERTS], weight[EXPERTS];
    uint32_t chosen[EXPERTS];
    bool tie;
} result;

static result route(const tmb_config *c, const float *logits, const float *correction)
{
    float score[2 * EXPERTS];
    result r = {.tie = false};
    r.tie = tmb_route(c, tmb_cpu_nn(), logits, correction, r.choice, score, r.chosen, r.weight);
    return r;
}

static bool chose(const result *r, size_t k, const uint32_t *want)
{
    return !memcmp(r->chosen, want, k * sizeof *want);
}

static bool near(float a, double b)
{
    return fabs(a - b) < 1e-6;
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

int main(void)
{
    const float logits[EXPERTS] = {0.5f, 2, -1, 2, 0, 1, 2, -3};
    const float apart[EXPERTS] = {0.5f, 2, -1, 3, 0, 1, 2.5f, -3};
    tmb_arch_forward rules = {.routing = TMB_ROUTING_SOFTMAX};
    tmb_config c = {.rules = &rules,
                    .n_experts = EXPERTS,
                    .top_k = 2,
                    .groups = 1,
                    .top_groups = 1,
                    .routed_scale = 1};
    double sum = 0;
    for (int i = 0; i < EXPERTS; i++)
        sum += exp(apart[i]);

    result r = route(&c, logits, NULL);
    ok(chose(&r, 2, (uint32_t[]){1, 3}) && r.tie,
       "of three level ones the first two, and it is a tie");
    c.top_k = 3;
    r = route(&c, logits, NULL);
    ok(chose(&r, 3, (uint32_t[]){1, 3, 6}) && !r.tie, "level ones that are all chosen are no tie");
    c.top_k = EXPERTS;
    r = route(&c, logits, NULL);
    ok(chose(&r, EXPERTS, (uint32_t[]){0, 1, 2, 3, 4, 5, 6, 7}) && !r.tie, "all experts");

    c.top_k = 2;
    r = route(&c, apart, NULL);
    ok(chose(&r, 2, (uint32_t[]){3, 6}) && near(r.weight[0], exp(3) / sum) &&
           near(r.weight[1], exp(2.5) / sum),
       "softmax over all, ascending by index");
    c.renormalize = true;
    c.routed_scale = 2.5f;
    r = route(&c, apart, NULL);
    ok(near(r.weight[0] + r.weight[1], 2.5) && near(r.weight[0], 2.5 * exp(0.5) / (exp(0.5) + 1)),
       "renormalized, then scaled");

    /* A correction turns the choice, not the weights; the second group wins by its two best. */
    const float correction[EXPERTS] = {-2, -2, -2, -2.2f, -2, -2, -2, -2.9f};
    rules = (tmb_arch_forward){.routing = TMB_ROUTING_SIGMOID, .groups = TMB_GROUPS_TOP2};
    c.renormalize = false, c.routed_scale = 1, c.groups = 2, c.top_groups = 1, c.top_k = 3;
    r = route(&c, apart, correction);
    double first = sigmoid(0.5) - 2 + sigmoid(2) - 2, second = sigmoid(2.5) - 2 + sigmoid(1) - 2;
    bool second_wins = second > first;
    uint32_t group = second_wins ? 4 : 0;
    bool masked = true, negative = true;
    for (uint32_t i = 0; i < EXPERTS; i++) {
        masked &= i / 4 * 4 == group ? isfinite(r.choice[i]) : isinf(r.choice[i]);
        negative &= r.choice[i] < 0;
    }
    ok(second_wins && masked && negative,
       "all choices are negative, and the other group is still out");
    ok(chose(&r, 3, (uint32_t[]){4, 5, 6}) && near(r.weight[2], sigmoid(2.5)),
       "weights are without the correction");
    rules.groups = TMB_GROUPS_MAX;
    rules.routing = TMB_ROUTING_SOFTMAX;
    c.top_k = 1;
    r = route(&c, apart, NULL);
    ok(chose(&r, 1, (uint32_t[]){3}), "groups by their best alone");

    rules = (tmb_arch_forward){.routing = TMB_ROUTING_TOP_SOFTMAX};
    c.groups = 1, c.top_k = 2;
    r = route(&c, apart, NULL);
    ok(near(r.weight[0], exp(0.5) / (exp(0.5) + 1)) && near(r.choice[0], 0.5),
       "softmax over the chosen");
    rules.routing = TMB_ROUTING_INPUT_SIGMOID;
    r = route(&c, apart, NULL);
    ok(near(r.weight[0], sigmoid(3)) && near(r.weight[1], sigmoid(2.5)), "a sigmoid of each");
    return done();
}
