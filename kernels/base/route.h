/* route.h - how a router's logits choose experts, and the arithmetic all backends share.
 *
 * Scores are softmax over all experts or sigmoid, float32.  What is compared is the score plus the
 * correction; with groups, only experts of the best top_groups groups take part.  Ties take the
 * lower index.  A weight is the score (without correction), divided by the sum of the chosen ones
 * when renormalize is set, times scale.  Softmax over the chosen logits only (gpt-oss) is softmax
 * with renormalize.  (transformers 5.17, modeling_mixtral.py, _qwen3_moe.py, _deepseek_v2.py,
 * _deepseek_v3.py, _gpt_oss.py, _minimax_m2.py)
 *
 * Results are the same bits on every backend: exp is the polynomial below; the sum of a softmax
 * runs in 32 lanes, lane i taking experts i, i + 32, …, folded 16+16, 8+8, 4+4, 2+2, 1+1. */
#ifndef TMB_BASE_ROUTE_H
#define TMB_BASE_ROUTE_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

typedef enum tmb_score { TMB_SCORE_SOFTMAX, TMB_SCORE_SIGMOID } tmb_score;

/* What a group of experts is worth. */
typedef enum tmb_group_rule {
    TMB_GROUP_BEST,  /* its best expert (DeepSeek-V2) */
    TMB_GROUP_TOP_2, /* the sum of its best two (DeepSeek-V3) */
} tmb_group_rule;

enum { TMB_ROUTE_EXPERTS = 1024, TMB_ROUTE_TOP_K = 32, TMB_ROUTE_GROUPS = 32 };

typedef struct tmb_router {
    int experts, top_k;     /* 1 <= top_k <= experts, TMB_ROUTE_TOP_K */
    int groups, top_groups; /* groups divides experts; 1, 1: not limited */
    tmb_score score;
    tmb_group_rule group_rule;
    bool renormalize;
    float scale;             /* of the weights; 1 for most */
    const float *correction; /* [experts] f32, where the logits are (host or device); NULL: none */
} tmb_router;

#ifdef __CUDACC__
#define TMB_ROUTE_BOTH __host__ __device__
#else
#define TMB_ROUTE_BOTH
#endif

/* Within 2 ulp for -87 < x < 88; beyond it the ends.  NaN gives the lower end. */
TMB_ROUTE_BOTH static inline float tmb_route_exp(float x)
{
    float v = x > -87.0f ? x : -87.0f;
    v = v < 88.0f ? v : 88.0f;
    const float t = fmaf(v, 0x1.715476p+0f, 0x1.8p23f), n = t - 0x1.8p23f; /* round(v / ln 2) */
    float r = fmaf(n, -0x1.62e4p-1f, v);
    r = fmaf(n, -0x1.7f7d1cp-20f, r);
    float p = 0x1.6c16c2p-10f; /* 1/720 … 1 */
    p = fmaf(p, r, 0x1.111112p-7f);
    p = fmaf(p, r, 0x1.555556p-5f);
    p = fmaf(p, r, 0x1.555556p-3f);
    p = fmaf(p, r, 0.5f);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    uint32_t bits;
    memcpy(&bits, &p, sizeof bits);
    bits += (uint32_t)(int32_t)n << 23;
    memcpy(&p, &bits, sizeof p);
    return p;
}

TMB_ROUTE_BOTH static inline float tmb_route_sigmoid(float x)
{
    return 1.0f / (1.0f + tmb_route_exp(-x));
}

/* Rows sorted by expert: what of which token goes where.  All arrays live where the work is. */
typedef struct tmb_route_plan {
    int32_t *offsets; /* [experts + 1]: rows of expert e are offsets[e] .. offsets[e + 1] - 1 */
    int32_t *token;   /* [tokens * top_k] token of a row; only the first offsets[experts] are set */
    int32_t *row;     /* [tokens, top_k] row of a choice; -1: the expert is not here */
} tmb_route_plan;

#endif
