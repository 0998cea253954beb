/* coverage.c - the gate and the ladder. */
#include "config.h"
#include "moe/calib/coverage.h"

#include "kernels/base/mem.h"

const char *tmb_rung_name(tmb_rung rung)
{
    static const char *const names[] = {"native", "shadow", "peers", "weight-only"};
    return rung < TMB_RUNGS ? names[rung] : "unknown";
}

tmb_rung tmb_rung_of(uint64_t native, uint64_t shadow, uint64_t layer, uint64_t min_tokens)
{
    uint64_t enough = min_tokens ? min_tokens : 1;
    if (native >= enough) return TMB_RUNG_NATIVE;
    if (shadow >= enough) return TMB_RUNG_SHADOW;
    return layer ? TMB_RUNG_PEERS : TMB_RUNG_WEIGHT_ONLY;
}

void tmb_ladder(tmb_rung *rungs, const uint64_t *native, const uint64_t *shadow, size_t n,
                uint64_t min_tokens, uint64_t *counts)
{
    uint64_t layer = 0;
    for (size_t e = 0; e < n; e++)
        if (!tmb_add(layer, native[e], &layer)) layer = UINT64_MAX;
    for (size_t e = 0; e < n; e++) {
        rungs[e] = tmb_rung_of(native[e], shadow ? shadow[e] : 0, layer, min_tokens);
        if (counts) counts[rungs[e]]++;
    }
}

double tmb_shrink(uint64_t tokens, uint64_t min_tokens)
{
    double n0 = min_tokens ? (double)min_tokens : 1.0;
    return (double)tokens / ((double)tokens + n0);
}

size_t tmb_starved(const uint64_t *tokens, size_t n, uint64_t min_tokens, uint64_t *least)
{
    size_t starved = 0;
    uint64_t lowest = UINT64_MAX;
    for (size_t e = 0; e < n; e++) {
        starved += tokens[e] < min_tokens;
        if (tokens[e] < lowest) lowest = tokens[e];
    }
    if (least) *least = n ? lowest : 0;
    return starved;
}
