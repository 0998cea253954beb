/* plant_dead.h - a router's row moved until no token of a text chooses its expert. */
#ifndef PLANT_DEAD_H
#define PLANT_DEAD_H

#include "tests/plant.h"
#include "tests/random.h"

typedef struct plant_seen {
    const tmb_model *model;
    int layer;
    size_t tokens, in, experts, top_k;
    float *x, *choice; /* [tokens, in], [tokens, experts] */
} plant_seen;

static tmb_status plant_see_linear(void *ctx, const tmb_linear_seen *seen, tmb_err *err)
{
    plant_seen *s = ctx;
    (void)err;
    if (seen->layer != s->layer || s->model->units[seen->units[0]].role != TMB_ROLE_ROUTER)
        return TMB_OK;
    s->in = (size_t)seen->in;
    s->x = malloc(seen->rows * s->in * sizeof *s->x);
    memcpy(s->x, seen->x, seen->rows * s->in * sizeof *s->x);
    return TMB_OK;
}

static tmb_status plant_see_router(void *ctx, const tmb_router_seen *seen, tmb_err *err)
{
    plant_seen *s = ctx;
    (void)err;
    if (seen->layer != s->layer) return TMB_OK;
    s->tokens = seen->tokens;
    s->experts = seen->n_experts;
    s->top_k = seen->top_k;
    s->choice = malloc(seen->tokens * seen->n_experts * sizeof *s->choice);
    memcpy(s->choice, seen->logits, seen->tokens * seen->n_experts * sizeof *s->choice);
    return TMB_OK;
}

/* What the layer's router sees of ids [n], cut into sequences of `length`. */
static bool plant_look(plant_seen *s, const plant *p, int layer, const int32_t *ids, size_t n,
                       size_t length, tmb_err *err)
{
    *s = (plant_seen){.model = p->model, .layer = layer};
    tmb_observer observer = {.linear = plant_see_linear, .router = plant_see_router, .ctx = s};
    tmb_decoder *d = NULL;
    size_t sequences = n / length;
    size_t *begin = malloc((sequences + 1) * sizeof *begin);
    for (size_t i = 0; i <= sequences; i++)
        begin[i] = i * length;
    tmb_decoder_options options = {0};
    tmb_status status = tmb_decoder_open(&d, p->model, &options, err);
    float *x = status ? NULL : malloc(n * tmb_decoder_config(d)->hidden * sizeof *x);
    if (!status) status = tmb_decoder_embed(d, ids, sequences * length, x, err);
    for (int l = 0; !status && l <= layer; l++) {
        tmb_batch b = {x, begin, sequences, &observer, NULL};
        status = tmb_decoder_load(d, l, err);
        if (!status) status = tmb_decoder_run(d, &b, err);
    }
    if (d) tmb_decoder_close(d);
    free(x);
    free(begin);
    return !status && s->x && s->choice;
}

/* The k-th largest logit of a token among the other experts. */
static float plant_bar(const plant_seen *s, const float *logits, size_t expert)
{
    float best[64];
    size_t n = 0;
    for (size_t e = 0; e < s->experts; e++) {
        if (e == expert) continue;
        size_t at = n < s->top_k ? n++ : s->top_k;
        while (at > 0 && best[at - 1] < logits[e]) {
            if (at < s->top_k) best[at] = best[at - 1];
            at--;
        }
        if (at < s->top_k) best[at] = logits[e];
    }
    return best[n - 1];
}

/* A perceptron: while a token's logit of the expert comes within `gap` of its bar, the row steps
 * away from that token.  Returns how many tokens still do. */
static size_t plant_push(const plant_seen *s, float *row, size_t expert, float gap)
{
    size_t left = s->tokens;
    for (int round = 0; round < 2000 && left; round++) {
        left = 0;
        for (size_t t = 0; t < s->tokens; t++) {
            const float *x = s->x + t * s->in;
            double logit = 0, norm = 0;
            for (size_t i = 0; i < s->in; i++) {
                logit += (double)row[i] * x[i];
                norm += (double)x[i] * x[i];
            }
            double over = logit - (plant_bar(s, s->choice + t * s->experts, expert) - gap);
            if (over <= 0) continue;
            left++;
            for (size_t i = 0; i < s->in; i++)
                row[i] -= (float)((over + 0.1) / norm * x[i]);
        }
    }
    return left;
}

#endif
