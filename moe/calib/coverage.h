/* coverage.h - whether an expert has seen enough, and what stands in for it when it has not.
 *
 * The ladder: an expert's own tokens (native); all tokens shown to it (shadow); its own few, drawn
 * to those of the layer's other experts by count (peers); nothing to go by (weight-only). */
#ifndef TMB_CALIB_COVERAGE_H
#define TMB_CALIB_COVERAGE_H

#include <stddef.h>
#include <stdint.h>

typedef enum tmb_rung {
    TMB_RUNG_NATIVE,
    TMB_RUNG_SHADOW,
    TMB_RUNG_PEERS,
    TMB_RUNG_WEIGHT_ONLY,
    TMB_RUNGS
} tmb_rung;

const char *tmb_rung_name(tmb_rung rung); /* "native", "shadow", "peers", "weight-only" */

/* One expert: tokens it saw natively and as a shadow, tokens of all experts of the layer together.
 * min_tokens 0 counts as 1: an expert that saw nothing has no figures of its own. */
tmb_rung tmb_rung_of(uint64_t native, uint64_t shadow, uint64_t layer, uint64_t min_tokens);

/* rungs [n] of a layer's experts; shadow may be NULL.  counts [TMB_RUNGS] (may be NULL) += them. */
void tmb_ladder(tmb_rung *rungs, const uint64_t *native, const uint64_t *shadow, size_t n,
                uint64_t min_tokens, uint64_t *counts);

/* How far an expert's own figures count when drawn to its peers': n / (n + n0), n0 = min_tokens
 * (at least 1): half at the gate, 0 without tokens. */
double tmb_shrink(uint64_t tokens, uint64_t min_tokens);

/* The gate: how many of tokens [n] are below min_tokens, and which is the least (may be NULL). */
size_t tmb_starved(const uint64_t *tokens, size_t n, uint64_t min_tokens, uint64_t *least);

#endif
