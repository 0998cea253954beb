/* scales.c - ranges and scales of activations from statistics. */
#include "config.h"
#include "moe/calib/scales.h"

#include <float.h>
#include <math.h>
#include <string.h>

float tmb_bits_float(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

float tmb_bin_low(uint32_t bin)
{
    return tmb_bits_float(bin << 20);
}

/* ------------------------------------------------------------------------------ ranges */

float tmb_shrunk_amax(float own, uint64_t tokens, float peers, uint64_t min_tokens)
{
    if (!(own > 0)) return peers;
    if (!(peers > own)) return own;
    double w = tmb_shrink(tokens, min_tokens);
    float drawn = (float)exp(w * log((double)own) + (1 - w) * log((double)peers));
    return drawn > own ? drawn : own;
}

static uint32_t peers_bits(const tmb_site *site, uint64_t *tokens)
{
    uint32_t most = 0;
    *tokens = 0;
    for (uint32_t e = 0; e < site->n; e++) {
        *tokens += site->native[e].tokens;
        if (site->native[e].amax > most) most = site->native[e].amax;
    }
    return most;
}

tmb_range tmb_range_of(const tmb_site *site, uint32_t entry, uint64_t min_tokens)
{
    uint64_t layer;
    const tmb_accum *a = &site->native[entry];
    const tmb_accum *shadow = site->expert ? &site->shadow[entry] : NULL;
    tmb_range r = {.own = tmb_bits_float(a->amax),
                   .peers = tmb_bits_float(peers_bits(site, &layer)),
                   .tokens = a->tokens};
    if (!site->expert) /* what all tokens pass: no gate, no peers */
        r.rung = a->tokens ? TMB_RUNG_NATIVE : TMB_RUNG_WEIGHT_ONLY;
    else
        r.rung = tmb_rung_of(a->tokens, shadow->tokens, layer, min_tokens);
    r.amax = r.own;
    if (r.rung == TMB_RUNG_SHADOW && shadow->amax > a->amax) r.amax = tmb_bits_float(shadow->amax);
    if (r.rung == TMB_RUNG_PEERS) r.amax = tmb_shrunk_amax(r.own, a->tokens, r.peers, min_tokens);
    if (!(r.amax > 0) && r.peers > 0) {
        r.amax = r.peers;
        r.rung = TMB_RUNG_PEERS;
    }
    r.known = r.amax > 0;
    if (!r.known) r.rung = TMB_RUNG_WEIGHT_ONLY;
    return r;
}

tmb_range tmb_range_shared(const tmb_site *site, uint64_t min_tokens)
{
    tmb_range all = tmb_range_of(site, 0, min_tokens);
    for (uint32_t e = 1; e < site->n; e++) {
        tmb_range r = tmb_range_of(site, e, min_tokens);
        all.known = all.known || r.known;
        all.rung = r.rung > all.rung ? r.rung : all.rung;
        all.amax = r.amax > all.amax ? r.amax : all.amax;
        all.own = r.own > all.own ? r.own : all.own;
        all.tokens += r.tokens;
    }
    return all;
}

/* ------------------------------------------------------------------------------ NVFP4 windows */

/* The bin in which the count from below reaches `rank`, of bins first … 2047; bins[first - 1] and
 * below do not count. */
static uint32_t bin_at(const uint64_t *blocks, uint32_t first, uint64_t rank)
{
    uint64_t sum = 0;
    for (uint32_t i = first; i < TMB_HIST_BINS; i++) {
        sum += blocks[i];
        if (sum >= rank && blocks[i]) return i;
    }
    return TMB_HIST_BINS - 1;
}

static uint64_t count_from(const uint64_t *blocks, uint32_t first)
{
    uint64_t sum = 0;
    for (uint32_t i = first; i < TMB_HIST_BINS; i++)
        sum += blocks[i];
    return sum;
}

/* The rank of a share of n things, from 1: ceil(n * per / 10000) without overflow for n < 2^50. */
static uint64_t rank_of(uint64_t n, uint64_t per_10000)
{
    uint64_t rank = (n * per_10000 + 9999) / 10000;
    return rank ? rank : 1;
}

static uint32_t bin_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return (bits & 0x7fffffff) >> 20;
}

/* Blocks of bin 0 are zero or below 2^-129: they are in no window. */
enum { FIRST_BIN = 1 };

static uint32_t floor_bin(float upper)
{
    uint32_t bin = bin_of(upper / TMB_NVFP4_WINDOW);
    return bin > FIRST_BIN ? bin : FIRST_BIN;
}

tmb_window tmb_window_of(const uint64_t *blocks, float amax, float g)
{
    tmb_window w = {.most = amax, .blocks = count_from(blocks, FIRST_BIN)};
    uint64_t above = 0, below = 0, kept = count_from(blocks, floor_bin(amax));
    if (!w.blocks || !kept) return w;
    w.least = tmb_bin_low(bin_at(blocks, floor_bin(amax), rank_of(kept, 100)));
    for (uint32_t i = FIRST_BIN; i < TMB_HIST_BINS; i++) {
        if (tmb_bin_low(i) > g) above += blocks[i];
        if (tmb_bin_low(i) < g / TMB_NVFP4_WINDOW) below += blocks[i];
    }
    w.above = (double)above / (double)w.blocks;
    w.below = (double)below / (double)w.blocks;
    return w;
}

float tmb_headroom(const uint64_t *blocks, float amax)
{
    uint64_t n = count_from(blocks, FIRST_BIN);
    if (!n) return 0;
    uint32_t top = bin_at(blocks, FIRST_BIN, rank_of(n, 9999));
    float upper = top + 1 < TMB_HIST_BINS ? tmb_bin_low(top + 1) : amax;
    if (upper > amax) upper = amax;
    uint32_t first = floor_bin(upper);
    uint64_t kept = count_from(blocks, first);
    float anchor = tmb_bin_low(bin_at(blocks, first, rank_of(kept, 100)));
    float g = 16384 * anchor;
    return g > upper ? g : upper;
}

float tmb_global_amax(tmb_act_rule rule, const uint64_t *blocks, float amax)
{
    if (rule == TMB_ACT_MAX || !blocks) return amax;
    float g = tmb_headroom(blocks, amax);
    return g > 0 && isfinite(g) ? g : amax;
}

/* ------------------------------------------------------------------------------ scales */

static bool normal(float value, float *scale)
{
    if (!(value >= FLT_MIN) || !isfinite(value)) return false;
    *scale = value;
    return true;
}

bool tmb_fp8_input_scale(float amax, float *scale)
{
    return normal(amax / 448.0f, scale);
}

bool tmb_nvfp4_input_scale(float g, float *scale)
{
    return normal(g / (6.0f * 448.0f), scale);
}

bool tmb_kv_scale(float amax, float *scale)
{
    return normal(amax / 448.0f, scale);
}
