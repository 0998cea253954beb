/* scales.h - the scales of activations that follow from statistics alone.
 *
 * Pure functions.  None of them returns a scale that is 0, not finite, or made up: where the
 * statistics say nothing, they say so (rung weight-only, `known` false), and the caller keeps the
 * activations in high precision or refuses. */
#ifndef TMB_CALIB_SCALES_H
#define TMB_CALIB_SCALES_H

#include "moe/calib/coverage.h"
#include "moe/calib/stats.h"

/* How the range of an input is chosen (recipe: act_scale). */
typedef enum tmb_act_rule {
    TMB_ACT_MAX,      /* the largest value seen */
    TMB_ACT_HEADROOM, /* room above it: see tmb_headroom() */
} tmb_act_rule;

/* ---- which range an entry has */

typedef struct tmb_range {
    bool known;
    tmb_rung rung;
    float amax;       /* > 0 when known: own, shadow's, or drawn to the peers' */
    float own, peers; /* largest |x| of the entry natively, and of all entries of its site */
    uint64_t tokens;  /* native */
} tmb_range;

/* The range of an entry by the ladder: native amax; the larger of native and shadow; the own few
 * drawn to the peers' (tmb_shrunk_amax).  An expert whose own inputs were all zero takes its peers'
 * range whatever its tokens. */
tmb_range tmb_range_of(const tmb_site *site, uint32_t entry, uint64_t min_tokens);
/* The largest range of all entries: one scale for a layer's experts, as ModelOpt and engines that
 * take the maximum over experts have it.  rung: the worst of them. */
tmb_range tmb_range_shared(const tmb_site *site, uint64_t min_tokens);

/* own^w * peers^(1 - w), w = tmb_shrink(tokens, min_tokens), but never below own: what was seen
 * must fit.  0 only when both are. */
float tmb_shrunk_amax(float own, uint64_t tokens, float peers, uint64_t min_tokens);

/* ---- NVFP4: the global scale of an input (blocks of 16 with E4M3 scales below it) */

/* Blocks whose largest value lies in [g / 28672, g] have a normal E4M3 scale under the global amax
 * g; above, they saturate; below, their scale is subnormal and then zero.  So every g from the
 * largest block to 28672 times the smallest that matters is equally good. */
enum { TMB_NVFP4_WINDOW = 28672 }; /* 448 / 2^-6 */

typedef struct tmb_window {
    float least, most;   /* block amax at 1 % and the largest: of non-zero blocks above the floor */
    double above, below; /* share of non-zero blocks that saturate, that fall subnormal, under g */
    uint64_t blocks;     /* non-zero ones */
} tmb_window;

/* blocks [TMB_HIST_BINS]: tmb_accum.blocks.  Bins count by their lower edge. */
tmb_window tmb_window_of(const uint64_t *blocks, float amax, float g);

/* g = max(rho * anchor, upper), rho = 16384: upper the block amax at 99.99 % (its bin's upper edge,
 * at most amax), anchor that at 1 % of the blocks that are not below upper / 28672, which no choice
 * could keep beside upper.  The calibrated blocks then lie low in the range of E4M3, and a larger
 * input still fits.  (The rule of NVIDIA ModelOpt 0.46, nvfp4_act_headroom, taken from exact counts
 * over all ranks.)  0 without non-zero blocks. */
float tmb_headroom(const uint64_t *blocks, float amax);

/* The global amax g of an input by a rule; blocks may be NULL for TMB_ACT_MAX. */
float tmb_global_amax(tmb_act_rule rule, const uint64_t *blocks, float amax);

/* ---- scales; false, and *scale untouched, when there is none that is finite and normal */

bool tmb_fp8_input_scale(float amax, float *scale); /* amax / 448, float32 */
bool tmb_nvfp4_input_scale(float g, float *scale);  /* g / (6 * 448), float32 */
bool tmb_kv_scale(float amax, float *scale);        /* amax / 448, float32 */

float tmb_bits_float(uint32_t bits); /* of tmb_accum.amax, k_amax, v_amax */
float tmb_bin_low(uint32_t bin);     /* the smallest value of a histogram's bin */

#endif
