/* route.c - plain and complete; written to be believed. */
#include "config.h"
#include "kernels/cpu/route.h"

#include "kernels/base/codec.h"

tmb_status tmb_router_check(const tmb_router *r, tmb_err *err)
{
    if (r->experts < 1 || r->experts > TMB_ROUTE_EXPERTS)
        return tmb_fail(err, TMB_EDATA, "router: %d experts; 1 to %d can be routed", r->experts,
                        TMB_ROUTE_EXPERTS);
    if (r->top_k < 1 || r->top_k > r->experts || r->top_k > TMB_ROUTE_TOP_K)
        return tmb_fail(err, TMB_EDATA, "router: %d of %d experts for a token; at most %d",
                        r->top_k, r->experts, TMB_ROUTE_TOP_K);
    if (r->groups < 1 || r->groups > TMB_ROUTE_GROUPS || r->experts % r->groups)
        return tmb_fail(err, TMB_EDATA, "router: %d groups of %d experts; at most %d equal ones",
                        r->groups, r->experts, TMB_ROUTE_GROUPS);
    if (r->top_groups < 1 || r->top_groups > r->groups ||
        r->top_k > r->experts / r->groups * r->top_groups)
        return tmb_fail(err, TMB_EDATA, "router: %d experts from %d of %d groups", r->top_k,
                        r->top_groups, r->groups);
    if (r->group_rule == TMB_GROUP_TOP_2 && r->groups > 1 && r->experts / r->groups < 2)
        return tmb_fail(err, TMB_EDATA, "router: groups of one expert have no best two");
    return TMB_OK;
}

static void softmax(float *score, const float *logits, int n)
{
    float top = logits[0], lane[32] = {0};
    for (int e = 1; e < n; e++)
        top = logits[e] > top ? logits[e] : top;
    for (int e = 0; e < n; e++) {
        score[e] = tmb_route_exp(logits[e] - top);
        lane[e % 32] += score[e];
    }
    for (int half = 16; half; half /= 2)
        for (int i = 0; i < half; i++)
            lane[i] += lane[i + half];
    for (int e = 0; e < n; e++)
        score[e] /= lane[0];
}

/* What a group of n experts is worth. */
static float worth_of(const float *choice, size_t n, tmb_group_rule rule)
{
    float best = -INFINITY, second = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        if (choice[i] > best) {
            second = best;
            best = choice[i];
        } else if (choice[i] > second) {
            second = choice[i];
        }
    }
    return rule == TMB_GROUP_TOP_2 ? best + second : best;
}

void tmb_cpu_limit_groups(float *choice, size_t experts, size_t groups, size_t top_groups,
                          tmb_group_rule rule, float *worth)
{
    size_t size = experts / groups;
    for (size_t g = 0; g < groups; g++)
        worth[g] = worth_of(choice + g * size, size, rule);
    for (size_t g = 0; g < groups; g++) {
        size_t before = 0;
        for (size_t h = 0; h < groups; h++)
            before += worth[h] > worth[g] || (worth[h] == worth[g] && h < g);
        for (size_t i = 0; before >= top_groups && i < size; i++)
            choice[g * size + i] = -INFINITY;
    }
}

void tmb_cpu_route(const tmb_router *r, const float *logits, size_t tokens, int32_t *chosen,
                   float *weight)
{
    float score[TMB_ROUTE_EXPERTS], choice[TMB_ROUTE_EXPERTS], worth[TMB_ROUTE_GROUPS];
    for (size_t t = 0; t < tokens; t++, logits += r->experts) {
        if (r->score == TMB_SCORE_SOFTMAX) softmax(score, logits, r->experts);
        for (int e = 0; e < r->experts; e++) {
            if (r->score == TMB_SCORE_SIGMOID) score[e] = tmb_route_sigmoid(logits[e]);
            choice[e] = r->correction ? score[e] + r->correction[e] : score[e];
        }
        if (r->groups > 1)
            tmb_cpu_limit_groups(choice, (size_t)r->experts, (size_t)r->groups,
                                 (size_t)r->top_groups, r->group_rule, worth);
        float sum = 0.0f;
        for (int k = 0; k < r->top_k; k++) {
            int best = -1;
            for (int e = 0; e < r->experts; e++) {
                bool taken = false;
                for (int j = 0; j < k; j++)
                    taken |= chosen[t * (size_t)r->top_k + (size_t)j] == e;
                if (!taken && (best < 0 || choice[e] > choice[best])) best = e;
            }
            chosen[t * (size_t)r->top_k + (size_t)k] = best;
            sum += score[best];
        }
        for (int k = 0; k < r->top_k; k++) {
            size_t at = t * (size_t)r->top_k + (size_t)k;
            float w = score[chosen[at]];
            if (r->renormalize) w /= sum + 1e-20f; /* of a sigmoid that is 0 everywhere */
            weight[at] = w * r->scale;
        }
    }
}

void tmb_cpu_plan(const tmb_route_plan *plan, const int32_t *chosen, const int32_t *slot,
                  size_t tokens, int top_k, int slots)
{
    size_t n = tokens * (size_t)top_k;
    int32_t next[TMB_ROUTE_EXPERTS] = {0};
    for (int e = 0; e <= slots; e++)
        plan->offsets[e] = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t s = slot ? slot[chosen[i]] : chosen[i];
        if (s >= 0) plan->offsets[s + 1]++;
    }
    for (int e = 0; e < slots; e++) {
        next[e] = plan->offsets[e];
        plan->offsets[e + 1] += plan->offsets[e];
    }
    for (size_t i = 0; i < n; i++) {
        int32_t s = slot ? slot[chosen[i]] : chosen[i];
        plan->row[i] = s >= 0 ? next[s]++ : -1;
        if (s >= 0) plan->token[plan->row[i]] = (int32_t)(i / (size_t)top_k);
    }
}

void tmb_cpu_combine(uint16_t *y, const uint16_t *rows, const int32_t *row, const float *weight,
                     const uint16_t *shared, const float *shared_gate, size_t tokens, int top_k,
                     size_t hidden)
{
    for (size_t t = 0; t < tokens; t++, row += top_k, weight += top_k) {
        for (size_t h = 0; h < hidden; h++) {
            float sum = 0.0f;
            for (int k = 0; k < top_k; k++)
                if (row[k] >= 0)
                    sum = fmaf(weight[k], tmb_bf16_to_f32(rows[(size_t)row[k] * hidden + h]), sum);
            if (shared)
                sum = fmaf(shared_gate ? shared_gate[t] : 1.0f,
                           tmb_bf16_to_f32(shared[t * hidden + h]), sum);
            y[t * hidden + h] = tmb_f32_to_bf16(sum);
        }
    }
}
