/* Routing, sorting by expert and summing up: the processor's against float64 and by what must hold,
 * and where there is a GPU, its against the processor's, to the bit. */
#include "config.h"
#include "kernels/base/codec.h"
#include "kernels/cpu/route.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/route.h"
#include "tests/random.h"
#include "tests/tap.h"

#include <math.h>
#include <string.h>

static void must(tmb_status status, const tmb_err *err)
{
    if (!status) return;
    printf("Bail out! %s\n", err->message);
    exit(1);
}

/* The routers of models, and corners. */
static const struct {
    const char *name;
    tmb_router r;
    bool correction;
} routers[] = {
    {"mixtral", {8, 2, 1, 1, TMB_SCORE_SOFTMAX, TMB_GROUP_BEST, true, 1, NULL}, false},
    {"qwen3", {128, 8, 1, 1, TMB_SCORE_SOFTMAX, TMB_GROUP_BEST, true, 1, NULL}, false},
    {"olmoe", {64, 8, 1, 1, TMB_SCORE_SOFTMAX, TMB_GROUP_BEST, false, 1, NULL}, false},
    {"deepseek_v2", {160, 6, 8, 3, TMB_SCORE_SOFTMAX, TMB_GROUP_BEST, false, 16, NULL}, false},
    {"deepseek_v3", {256, 8, 8, 4, TMB_SCORE_SIGMOID, TMB_GROUP_TOP_2, true, 2.5f, NULL}, true},
    {"minimax_m2", {256, 8, 1, 1, TMB_SCORE_SIGMOID, TMB_GROUP_BEST, true, 1, NULL}, true},
    {"gpt_oss", {128, 4, 1, 1, TMB_SCORE_SOFTMAX, TMB_GROUP_BEST, true, 1, NULL}, false},
    {"qwen3_next", {512, 10, 1, 1, TMB_SCORE_SOFTMAX, TMB_GROUP_BEST, true, 1, NULL}, false},
    {"kimi", {384, 8, 1, 1, TMB_SCORE_SIGMOID, TMB_GROUP_BEST, true, 2.827f, NULL}, true},
    {"one expert", {1, 1, 1, 1, TMB_SCORE_SOFTMAX, TMB_GROUP_BEST, true, 1, NULL}, false},
    {"all experts", {6, 6, 3, 3, TMB_SCORE_SIGMOID, TMB_GROUP_TOP_2, false, 1, NULL}, false},
    {"odd groups", {45, 5, 9, 2, TMB_SCORE_SIGMOID, TMB_GROUP_TOP_2, true, 1, NULL}, true},
    {"the most", {1024, 32, 32, 7, TMB_SCORE_SOFTMAX, TMB_GROUP_TOP_2, true, 1, NULL}, true},
};
enum { ROUTERS = sizeof routers / sizeof *routers };

static void *room(size_t bytes)
{
    void *p = malloc(bytes ? bytes : 1);
    if (!p) exit(1);
    memset(p, 0xff, bytes);
    return p;
}

static float *random_floats(size_t n, float size)
{
    float *x = room(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = random_float() * size;
    return x;
}

/* ---- the processor's --------------------------------------------------------------------------
 */

static void scores64(const tmb_router *r, const float *logits, double *score)
{
    double sum = 0, top = -INFINITY;
    for (int e = 0; e < r->experts; e++)
        top = fmax(top, (double)logits[e]);
    for (int e = 0; e < r->experts; e++)
        sum += exp((double)logits[e] - top);
    for (int e = 0; e < r->experts; e++)
        score[e] = r->score == TMB_SCORE_SOFTMAX ? exp((double)logits[e] - top) / sum
                                                 : 1 / (1 + exp(-(double)logits[e]));
}

/* How many experts of the token are better than e by more than rounding, among its open groups. */
static double worth64(const tmb_router *r, const double *choice, int g)
{
    int size = r->experts / r->groups;
    double best = -INFINITY, second = -INFINITY;
    for (int i = g * size; i < (g + 1) * size; i++) {
        if (choice[i] > best) {
            second = best;
            best = choice[i];
        } else if (choice[i] > second) {
            second = choice[i];
        }
    }
    return r->group_rule == TMB_GROUP_TOP_2 ? best + second : best;
}

static void choose64(const tmb_router *r, const double *score, int *chosen, double *weight)
{
    double choice[TMB_ROUTE_EXPERTS], sum = 0, worth[TMB_ROUTE_GROUPS];
    int size = r->experts / r->groups;
    for (int e = 0; e < r->experts; e++)
        choice[e] = score[e] + (r->correction ? (double)r->correction[e] : 0);
    for (int g = 0; g < r->groups; g++)
        worth[g] = worth64(r, choice, g);
    for (int g = 0; g < r->groups; g++) {
        int better = 0;
        for (int h = 0; h < r->groups; h++)
            better += worth[h] > worth[g];
        for (int i = 0; better >= r->top_groups && i < size; i++)
            choice[g * size + i] = -INFINITY;
    }
    for (int k = 0; k < r->top_k; k++) {
        int best = 0;
        for (int e = 1; e < r->experts; e++)
            if (choice[e] > choice[best]) best = e;
        chosen[k] = best;
        sum += score[best];
        choice[best] = -INFINITY;
    }
    for (int k = 0; k < r->top_k; k++)
        weight[k] = score[chosen[k]] / (r->renormalize ? sum : 1) * (double)r->scale;
}

static void test_choice(int which, size_t tokens)
{
    tmb_router r = routers[which].r;
    tmb_err err = {0};
    must(tmb_router_check(&r, &err), &err);
    float *logits = random_floats(tokens * (size_t)r.experts, 6.0f);
    float *correction = random_floats((size_t)r.experts, 0.3f);
    if (routers[which].correction) r.correction = correction;
    int32_t *chosen = room(tokens * (size_t)r.top_k * 4);
    float *weight = room(tokens * (size_t)r.top_k * 4);
    tmb_cpu_route(&r, logits, tokens, chosen, weight);
    size_t other = 0;
    double worst = 0;
    for (size_t t = 0; t < tokens; t++) {
        double score[TMB_ROUTE_EXPERTS], want[TMB_ROUTE_TOP_K];
        int expect[TMB_ROUTE_TOP_K];
        scores64(&r, logits + t * (size_t)r.experts, score);
        choose64(&r, score, expect, want);
        for (int k = 0; k < r.top_k; k++) {
            size_t at = t * (size_t)r.top_k + (size_t)k;
            if (chosen[at] != expect[k])
                other++;
            else
                worst = fmax(worst, fabs((double)weight[at] - want[k]) / want[k]);
        }
    }
    ok(other == 0 && worst < 2e-6, "%s: choices and weights of float64 (%zu differ, %.1e)",
       routers[which].name, other, worst);
    free(logits);
    free(correction);
    free(chosen);
    free(weight);
}

static void test_ties(void)
{
    tmb_router r = routers[4].r;
    float logits[256] = {0};
    int32_t chosen[8];
    float weight[8];
    int good = 1;
    tmb_cpu_route(&r, logits, 1, chosen, weight);
    for (int k = 0; k < 8; k++)
        good &= chosen[k] == k && fabsf(weight[k] - 2.5f / 8) < 1e-6f;
    ok(good, "equal scores take the lower index, in groups too");
    for (int e = 0; e < 256; e++)
        logits[e] = -200.0f;
    tmb_cpu_route(&r, logits, 1, chosen, weight);
    for (int k = 0; k < 8; k++)
        good &= isfinite(weight[k]) != 0;
    ok(good, "weights of scores that vanish are finite");
}

static void test_refusals(void)
{
    static const tmb_router bad[] = {
        {0, 1, 1, 1, 0, 0, false, 1, NULL},
        {1025, 1, 1, 1, 0, 0, false, 1, NULL},
        {8, 9, 1, 1, 0, 0, false, 1, NULL},
        {64, 33, 1, 1, 0, 0, false, 1, NULL},
        {8, 2, 3, 1, 0, 0, false, 1, NULL},
        {8, 2, 2, 3, 0, 0, false, 1, NULL},
        {8, 3, 4, 1, 0, 0, false, 1, NULL},
        {64, 1, 64, 1, 0, 0, false, 1, NULL},
        {8, 1, 8, 1, 0, TMB_GROUP_TOP_2, false, 1, NULL},
    };
    tmb_err err = {0};
    int refused = 0;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refused += tmb_router_check(&bad[i], &err) == TMB_EDATA;
    ok(refused == sizeof bad / sizeof *bad, "routers that make no sense are refused");
}

/* Sorted by slot, stable, complete. */
static int plan_holds(const tmb_route_plan *p, const int32_t *chosen, const int32_t *slot,
                      size_t tokens, int top_k, int slots)
{
    int good = p->offsets[0] == 0;
    size_t here = 0, n = tokens * (size_t)top_k;
    int32_t last[TMB_ROUTE_EXPERTS];
    for (int s = 0; s < slots; s++) {
        good &= p->offsets[s] <= p->offsets[s + 1];
        last[s] = p->offsets[s] - 1;
    }
    for (size_t i = 0; i < n; i++) {
        int32_t s = slot ? slot[chosen[i]] : chosen[i];
        if (s < 0) {
            good &= p->row[i] == -1;
            continue;
        }
        here++;
        good &= p->row[i] == ++last[s] && p->token[p->row[i]] == (int32_t)(i / (size_t)top_k);
    }
    for (int s = 0; s < slots; s++)
        good &= last[s] == p->offsets[s + 1] - 1;
    return good && here == (size_t)p->offsets[slots];
}

typedef struct sorted {
    size_t tokens, n;
    int top_k, experts, slots;
    int32_t *chosen, *slot;
    tmb_route_plan plan;
} sorted;

/* spread: 0 uniform, 1 all to one expert, 2 most to few; every third expert away when sparse. */
static sorted make_sorted(size_t tokens, int top_k, int experts, int spread, int sparse)
{
    sorted s = {.tokens = tokens, .n = tokens * (size_t)top_k, .top_k = top_k, .experts = experts};
    s.chosen = room(s.n * 4);
    s.slot = room((size_t)experts * 4);
    for (size_t i = 0; i < s.n; i++) {
        unsigned e = random_bits() % (unsigned)experts;
        if (spread == 2) e = e * e / (unsigned)experts;
        s.chosen[i] = spread == 1 ? experts - 1 : (int32_t)e;
    }
    for (int e = experts - 1; e >= 0; e--) /* slots in another order than experts */
        s.slot[e] = sparse && e % 3 == 0 ? -1 : s.slots++;
    if (!sparse) {
        free(s.slot);
        s.slot = NULL;
    }
    s.plan.offsets = room(((size_t)s.slots + 1) * 4);
    s.plan.token = room(s.n * 4);
    s.plan.row = room(s.n * 4);
    return s;
}

static void free_sorted(sorted *s)
{
    free(s->chosen);
    free(s->slot);
    free(s->plan.offsets);
    free(s->plan.token);
    free(s->plan.row);
}

static const struct {
    size_t tokens;
    int top_k, experts, spread, sparse;
} sorts[] = {
    {0, 8, 128, 0, 0},     {1, 2, 8, 0, 0},       {1, 8, 256, 0, 1},    {7, 3, 5, 0, 0},
    {31, 1, 1, 0, 0},      {64, 8, 128, 2, 0},    {500, 8, 64, 1, 0},   {1024, 8, 128, 0, 0},
    {1025, 8, 1024, 0, 1}, {4096, 2, 8, 0, 0},    {4097, 4, 128, 2, 1}, {9000, 8, 256, 0, 0},
    {3000, 8, 16, 1, 0},   {16384, 8, 128, 2, 0}, {2048, 4, 2, 0, 1},
};
enum { SORTS = sizeof sorts / sizeof *sorts };

static void test_plan(int i)
{
    sorted s = make_sorted(sorts[i].tokens, sorts[i].top_k, sorts[i].experts, sorts[i].spread,
                           sorts[i].sparse);
    tmb_cpu_plan(&s.plan, s.chosen, s.slot, s.tokens, s.top_k, s.slots);
    ok(plan_holds(&s.plan, s.chosen, s.slot, s.tokens, s.top_k, s.slots),
       "%zu tokens to %d of %d experts, spread %d%s: sorted, stable, complete", s.tokens, s.top_k,
       s.experts, sorts[i].spread, sorts[i].sparse ? ", some away" : "");
    free_sorted(&s);
}

typedef struct sums {
    size_t tokens, hidden, rows;
    int top_k;
    uint16_t *in, *shared;
    int32_t *row;
    float *weight, *gate;
} sums;

static sums make_sums(size_t tokens, int top_k, size_t hidden)
{
    sums s = {.tokens = tokens, .hidden = hidden, .rows = tokens * (size_t)top_k, .top_k = top_k};
    s.in = room(s.rows * hidden * 2);
    s.shared = room(tokens * hidden * 2);
    for (size_t i = 0; i < s.rows * hidden; i++)
        s.in[i] = tmb_f32_to_bf16(random_float());
    for (size_t i = 0; i < tokens * hidden; i++)
        s.shared[i] = tmb_f32_to_bf16(random_float());
    s.row = room(s.rows * 4);
    for (size_t i = 0; i < s.rows; i++)
        s.row[i] = random_bits() % 9 ? (int32_t)((i * 7 + 3) % s.rows) : -1;
    s.weight = random_floats(s.rows, 1.0f);
    s.gate = random_floats(tokens, 1.0f);
    return s;
}

static void free_sums(sums *s)
{
    free(s->in);
    free(s->shared);
    free(s->row);
    free(s->weight);
    free(s->gate);
}

static void test_combine(size_t tokens, int top_k, size_t hidden, int shared)
{
    sums s = make_sums(tokens, top_k, hidden);
    uint16_t *y = room(tokens * hidden * 2);
    tmb_cpu_combine(y, s.in, s.row, s.weight, shared ? s.shared : NULL, shared > 1 ? s.gate : NULL,
                    tokens, top_k, hidden);
    double worst = 0;
    for (size_t i = 0; i < tokens * hidden; i++) {
        size_t t = i / hidden, h = i % hidden;
        double want = 0, scale = 1e-3;
        for (int k = 0; k < top_k; k++) {
            int32_t row = s.row[t * (size_t)top_k + (size_t)k];
            if (row < 0) continue;
            double v = (double)s.weight[t * (size_t)top_k + (size_t)k] *
                       (double)tmb_bf16_to_f32(s.in[(size_t)row * hidden + h]);
            want += v;
            scale += fabs(v) * 1e-3; /* cancellation leaves the terms' float32 rounding */
        }
        if (shared)
            want += (shared > 1 ? (double)s.gate[t] : 1.0) *
                    (double)tmb_bf16_to_f32(s.shared[t * hidden + h]);
        worst = fmax(worst, fabs((double)tmb_bf16_to_f32(y[i]) - want) / (fabs(want) + scale));
    }
    ok(worst <= 0x1p-8, "sums of %zu x %d rows of %zu%s: %.1e of float64", tokens, top_k, hidden,
       shared ? " and shared" : "", worst);
    free(y);
    free_sums(&s);
}

/* ---- the GPU's --------------------------------------------------------------------------------
 */

static tmb_cuda *gpu;
static tmb_err err;

static void *device(const void *from, size_t bytes)
{
    void *p;
    must(tmb_cuda_alloc(gpu, &p, bytes + 16, &err), &err);
    if (from)
        must(tmb_cuda_upload(gpu, p, from, bytes, &err), &err);
    else
        must(tmb_cuda_fill(gpu, p, 0xff, bytes + 16, &err), &err);
    return p;
}

/* Whether device memory holds what `want` does; frees neither. */
static int equal(const void *on_device, const void *want, size_t bytes)
{
    void *got = room(bytes);
    must(tmb_cuda_download(gpu, got, on_device, bytes, &err), &err);
    int same = memcmp(got, want, bytes) == 0;
    free(got);
    return same;
}

static void test_choice_gpu(int which, size_t tokens, float size)
{
    tmb_router r = routers[which].r;
    float *logits = random_floats(tokens * (size_t)r.experts, size);
    float *correction = random_floats((size_t)r.experts, 0.3f);
    if (routers[which].correction) r.correction = correction;
    size_t n = tokens * (size_t)r.top_k;
    int32_t *chosen = room(n * 4);
    float *weight = room(n * 4);
    tmb_cpu_route(&r, logits, tokens, chosen, weight);
    void *d_logits = device(logits, tokens * (size_t)r.experts * 4),
         *d_chosen = device(NULL, n * 4);
    void *d_weight = device(NULL, n * 4), *d_correction = device(correction, (size_t)r.experts * 4);
    if (r.correction) r.correction = d_correction;
    must(tmb_cuda_route(&r, d_logits, (int)tokens, d_chosen, d_weight, tmb_cuda_stream(gpu), &err),
         &err);
    ok(equal(d_chosen, chosen, n * 4) && equal(d_weight, weight, n * 4),
       "GPU: %s, %zu tokens, logits of %g: the processor's choices and weights, to the bit",
       routers[which].name, tokens, (double)size);
    void *used[] = {d_logits, d_chosen, d_weight, d_correction};
    for (int i = 0; i < 4; i++)
        tmb_cuda_free(gpu, used[i]);
    free(logits);
    free(correction);
    free(chosen);
    free(weight);
}

static void test_plan_gpu(int i, int repeats)
{
    sorted s = make_sorted(sorts[i].tokens, sorts[i].top_k, sorts[i].experts, sorts[i].spread,
                           sorts[i].sparse);
    tmb_cpu_plan(&s.plan, s.chosen, s.slot, s.tokens, s.top_k, s.slots);
    size_t work = tmb_cuda_plan_bytes((int)s.tokens, s.top_k, s.slots);
    void *d_chosen = device(s.chosen, s.n * 4), *d_work = device(NULL, work);
    void *d_slot = s.slot ? device(s.slot, (size_t)s.experts * 4) : NULL;
    tmb_route_plan p = {device(NULL, ((size_t)s.slots + 1) * 4), device(NULL, s.n * 4),
                        device(NULL, s.n * 4)};
    int same = 1;
    for (int n = 0; n < repeats && same; n++) {
        must(tmb_cuda_fill(gpu, p.row, 0xff, s.n * 4, &err), &err);
        must(tmb_cuda_plan(&p, d_chosen, d_slot, (int)s.tokens, s.top_k, s.slots, d_work,
                           tmb_cuda_stream(gpu), &err),
             &err);
        same = equal(p.offsets, s.plan.offsets, ((size_t)s.slots + 1) * 4) &&
               equal(p.row, s.plan.row, s.n * 4) &&
               equal(p.token, s.plan.token, (size_t)s.plan.offsets[s.slots] * 4);
    }
    ok(same, "GPU: %zu tokens to %d of %d experts: the processor's order, %d times", s.tokens,
       s.top_k, s.experts, repeats);
    void *used[] = {d_chosen, d_work, p.offsets, p.token, p.row};
    for (int n = 0; n < 5; n++)
        tmb_cuda_free(gpu, used[n]);
    if (d_slot) tmb_cuda_free(gpu, d_slot);
    free_sorted(&s);
}

static void test_combine_gpu(size_t tokens, int top_k, size_t hidden, int shared)
{
    sums s = make_sums(tokens, top_k, hidden);
    uint16_t *y = room(tokens * hidden * 2);
    tmb_cpu_combine(y, s.in, s.row, s.weight, shared ? s.shared : NULL, shared > 1 ? s.gate : NULL,
                    tokens, top_k, hidden);
    void *used[] = {device(NULL, tokens * hidden * 2),
                    device(s.in, s.rows * hidden * 2),
                    device(s.row, s.rows * 4),
                    device(s.weight, s.rows * 4),
                    device(s.shared, tokens * hidden * 2),
                    device(s.gate, tokens * 4)};
    must(tmb_cuda_combine(used[0], used[1], used[2], used[3], shared ? used[4] : NULL,
                          shared > 1 ? used[5] : NULL, (int)tokens, top_k, (int)hidden,
                          tmb_cuda_stream(gpu), &err),
         &err);
    ok(equal(used[0], y, tokens * hidden * 2), "GPU: sums of %zu x %d rows of %zu, shared %d",
       tokens, top_k, hidden, shared);
    for (int i = 0; i < 6; i++)
        tmb_cuda_free(gpu, used[i]);
    free(y);
    free_sums(&s);
}

static void test_device(void)
{
    for (int i = 0; i < ROUTERS; i++) {
        test_choice_gpu(i, 1, 6.0f);
        test_choice_gpu(i, 333, 6.0f);
        test_choice_gpu(i, 64, 300.0f);
        test_choice_gpu(i, 64, 0.0f);
    }
    for (int i = 0; i < SORTS; i++)
        test_plan_gpu(i, sorts[i].tokens < 100 ? 500 : 20);
    test_plan_gpu(5, 10000);
    for (int shared = 0; shared < 3; shared++) {
        test_combine_gpu(1, 8, 7168, shared);
        test_combine_gpu(37, 2, 4096, shared);
        test_combine_gpu(64, 10, 2048, shared);
        test_combine_gpu(200, 4, 2880, shared);
        test_combine_gpu(3, 1, 8, shared);
    }
    ok(tmb_cuda_combine(NULL, NULL, NULL, NULL, NULL, NULL, 1, 1, 12, NULL, &err) == TMB_EINTERNAL,
       "a width that the kernel does not take is refused");
}

int main(void)
{
    for (int i = 0; i < ROUTERS; i++)
        test_choice(i, 40);
    test_ties();
    test_refusals();
    for (int i = 0; i < SORTS; i++)
        test_plan(i);
    for (int shared = 0; shared < 3; shared++)
        test_combine(9, 4, 40, shared);
    test_combine(3, 8, 2048, 1);
    if (tmb_cuda_open(&gpu, 0, &err))
        ok(1, "results on the device # SKIP %s", err.message);
    else
        test_device();
    tmb_cuda_close(gpu);
    return done();
}
