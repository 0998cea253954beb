/* stats_feed.h - a model whose activations are made up, fed to statistics in any order.
 *
 * What a token's rows hold depends on its sequence and place alone, as in a real forward pass. Rows
 * have an outlier channel, an octave or two of spread from token to token, exact zeros, and a few
 * that are a million times smaller, so that several classes and planes are met.  Sequences from
 * 100 on are data of another kind: eight times as large, and other experts. */
#ifndef TESTS_STATS_FEED_H
#define TESTS_STATS_FEED_H

#include "moe/calib/file.h"
#include "tests/job.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

enum { FEED_EXPERTS = 16, FEED_TOP_K = 4, FEED_SOURCES = 2, FEED_LAYERS = 2 };

typedef struct feed_plan {
    const tmb_model *model;
    uint32_t first, end, step; /* sequences first, first + step, … < end */
    bool backwards;            /* the last of them first */
    uint32_t batch;            /* tokens at a time */
    int threads;
    bool moments;
    uint32_t shadow; /* this expert sees all tokens as a shadow; FEED_EXPERTS: none */
    const char *dir; /* where files go */
} feed_plan;

static inline uint64_t feed_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u); /* SplitMix64 */
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline uint32_t feed_tokens(uint32_t sequence)
{
    return 3 + sequence * 7 % 11;
}

static inline uint32_t feed_source(uint32_t sequence)
{
    return sequence % 3 == 0;
}

/* row [in] of a token at a place of the network. */
static inline void feed_row(float *row, uint64_t in, uint32_t sequence, uint32_t token,
                            uint32_t place)
{
    uint64_t state = ((uint64_t)sequence << 40) ^ ((uint64_t)token << 20) ^ place;
    int shift = (int)(feed_random(&state) % 5);
    if (feed_random(&state) % 13 == 0) shift = -20;
    if (sequence >= 100) shift += 3;
    for (uint64_t i = 0; i < in; i++) {
        uint64_t r = feed_random(&state);
        double v = ((double)(r >> 11) * 0x1p-53 - 0.5) * (i == 5 ? 40 : 1);
        row[i] = r % 17 == 0 ? 0.0f : (float)ldexp(v, shift);
    }
}

static inline int feed_ids(int32_t *ids, uint32_t sequence)
{
    uint32_t n = feed_tokens(sequence);
    for (uint32_t t = 0; t < n; t++)
        ids[t] = (int32_t)(sequence * 100 + t);
    return (int)n;
}

/* One token's experts, ascending, their weights, and all logits.  Expert 3 is hardly ever chosen,
 * and a tie at the boundary is met now and then. */
static inline void feed_route(uint32_t sequence, uint32_t token, int32_t layer, float *logits,
                              uint32_t *chosen, float *weight)
{
    uint64_t state = ((uint64_t)sequence << 32) ^ (token << 8) ^ (uint32_t)layer ^ 0x5555;
    bool taken[FEED_EXPERTS] = {false};
    for (int e = 0; e < FEED_EXPERTS; e++)
        logits[e] = (float)((int)(feed_random(&state) % 64) - 32 - (e == 3 ? 60 : 0) +
                            (sequence >= 100 ? 3 * e : 0)) /
                    8;
    if (sequence == 4 && token == 1) logits[3] = 9;
    for (int k = 0; k < FEED_TOP_K; k++) {
        int best = -1;
        for (int e = 0; e < FEED_EXPERTS; e++)
            if (!taken[e] && (best < 0 || logits[e] > logits[best])) best = e;
        taken[best] = true;
    }
    for (uint32_t e = 0, k = 0; e < FEED_EXPERTS; e++)
        if (taken[e]) {
            chosen[k] = e;
            weight[k++] = 1.0f / (1.0f + expf(-logits[e]));
        }
}

/* Rows of `n` tokens to one site. */
static inline tmb_status feed_site(const feed_plan *p, tmb_stats_layer *l, uint32_t s,
                                   uint32_t entry, bool shadow, const uint32_t (*tokens)[2],
                                   const float *gate, size_t n, tmb_err *err)
{
    const tmb_site *site = &l->sites[s];
    float *x = malloc((n + 1) * site->in * sizeof *x);
    (void)p;
    for (size_t r = 0; r < n; r++)
        feed_row(x + r * site->in, site->in, tokens[r][0], tokens[r][1],
                 (uint32_t)l->index * 1000 + s * 20 + (site->expert ? entry : 0));
    tmb_status status = tmb_stats_feed(l, s, entry, shadow, x, n, (size_t)site->in, gate, err);
    free(x);
    return status;
}

/* A batch of tokens (pairs of sequence and place) through a layer. */
static inline tmb_status feed_batch(const feed_plan *p, tmb_stats_layer *l,
                                    const uint32_t (*tokens)[2], size_t n, tmb_err *err)
{
    float logits[64][FEED_EXPERTS], weight[64][FEED_TOP_K], gate[64], kv[8];
    uint32_t chosen[64][FEED_TOP_K], source[64], some[64][2];
    for (size_t t = 0; t < n; t++) {
        feed_route(tokens[t][0], tokens[t][1], l->index, logits[t], chosen[t], weight[t]);
        source[t] = feed_source(tokens[t][0]);
        feed_row(kv, 8, tokens[t][0], tokens[t][1], 7777);
        tmb_stats_feed_kv(l, kv, 4, kv + 4, 4);
    }
    if (l->router) TRY(tmb_stats_feed_router(l, logits[0], NULL, chosen[0], source, n, err));
    for (uint32_t s = 0; s < l->n_sites; s++) {
        if (!l->sites[s].expert) {
            TRY(feed_site(p, l, s, 0, false, tokens, NULL, n, err));
            continue;
        }
        for (uint32_t e = 0; e < FEED_EXPERTS; e++) {
            size_t k = 0;
            for (size_t t = 0; t < n; t++)
                for (int i = 0; i < FEED_TOP_K; i++)
                    if (chosen[t][i] == e) {
                        memcpy(some[k], tokens[t], sizeof some[k]);
                        gate[k++] = weight[t][i];
                    }
            if (k) TRY(feed_site(p, l, s, e, false, (const uint32_t(*)[2])some, gate, k, err));
            if (e == p->shadow) TRY(feed_site(p, l, s, e, true, tokens, NULL, n, err));
        }
    }
    return TMB_OK;
}

/* All of the plan's sequences through one layer. */
static inline tmb_status feed_layer(const feed_plan *p, int32_t index, tmb_stats_layer **out,
                                    tmb_err *err)
{
    tmb_stats_options o = {.moments = p->moments, .sources = FEED_SOURCES, .threads = p->threads};
    uint32_t tokens[64][2];
    size_t n = 0;
    TRY(tmb_stats_layer_new(out, p->model, index, &o, err));
    uint32_t count = p->end > p->first ? (p->end - p->first + p->step - 1) / p->step : 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t s = p->first + (p->backwards ? count - 1 - i : i) * p->step;
        for (uint32_t t = 0; t < feed_tokens(s); t++) {
            tokens[n][0] = s;
            tokens[n++][1] = t;
            if (n < p->batch) continue;
            TRY(feed_batch(p, *out, (const uint32_t(*)[2])tokens, n, err));
            n = 0;
        }
    }
    return n ? feed_batch(p, *out, (const uint32_t(*)[2])tokens, n, err) : TMB_OK;
}

typedef struct feed_identity {
    tmb_stats_identity id;
    tmb_stats_source sources[FEED_SOURCES];
    uint8_t sequences[256][TMB_SEQUENCE_BYTES];
} feed_identity;

/* Of sequences first … end - 1, whoever fed them; in an order of its own. */
static inline void feed_identify(feed_identity *f, uint32_t first, uint32_t end, bool moments)
{
    tmb_err err;
    int32_t ids[64];
    *f = (feed_identity){.sources = {{.name = "web"}, {.name = "code"}}};
    for (uint32_t s = first; s < end; s++) {
        int n = feed_ids(ids, s);
        if (tmb_stats_sequence(ids, (size_t)n, f->sequences[s - first], &err)) abort();
        f->sources[feed_source(s)].sequences++;
        f->sources[feed_source(s)].tokens += (uint64_t)n;
    }
    f->id = (tmb_stats_identity){.model_type = "qwen3_moe",
                                 .model_sha256 = "00ff",
                                 .layers = 6,
                                 .moments = moments,
                                 .min_tokens = 8,
                                 .sources = f->sources,
                                 .n_sources = FEED_SOURCES,
                                 .sequences = f->sequences[0],
                                 .n_sequences = end - first};
}

#endif
