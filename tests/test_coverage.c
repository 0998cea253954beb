/* test_coverage.c - rungs, ranges and scales: pure functions, by cases and by what must always
 * hold. */
#include "config.h"
#include "moe/calib/compare.h"
#include "moe/calib/scales.h"
#include "tests/tap.h"

#include <float.h>
#include <math.h>
#include <string.h>

static uint32_t bits_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    return u;
}

static void ladder(void)
{
    ok(tmb_rung_of(64, 0, 1000, 64) == TMB_RUNG_NATIVE, "at the gate: native");
    ok(tmb_rung_of(63, 64, 1000, 64) == TMB_RUNG_SHADOW, "below it, with a shadow pass: shadow");
    ok(tmb_rung_of(63, 63, 1000, 64) == TMB_RUNG_PEERS, "a shadow pass that is too short: peers");
    ok(tmb_rung_of(0, 0, 1, 64) == TMB_RUNG_PEERS, "nothing of its own: peers");
    ok(tmb_rung_of(0, 0, 0, 64) == TMB_RUNG_WEIGHT_ONLY, "nothing in the layer: weight-only");
    ok(tmb_rung_of(1, 0, 1, 0) == TMB_RUNG_NATIVE && tmb_rung_of(0, 0, 1, 0) == TMB_RUNG_PEERS,
       "without a gate one token is enough, and none is not");
    uint64_t native[4] = {100, 3, 0, 64}, shadow[4] = {0, 500, 0, 0}, counts[TMB_RUNGS] = {0},
             least;
    tmb_rung rungs[4];
    tmb_ladder(rungs, native, shadow, 4, 64, counts);
    ok(rungs[1] == TMB_RUNG_SHADOW && counts[TMB_RUNG_NATIVE] == 2 &&
           counts[TMB_RUNG_SHADOW] == 1 && counts[TMB_RUNG_PEERS] == 1,
       "a layer of four");
    ok(tmb_starved(native, 4, 64, &least) == 2 && least == 0, "two of them are starved");
    ok(tmb_shrink(0, 64) == 0 && tmb_shrink(64, 64) == 0.5 && tmb_shrink(1u << 20, 64) > 0.999,
       "own figures count by their tokens");
}

static void shrunk(void)
{
    ok(tmb_shrunk_amax(2, 64, 8, 64) == 4, "at the gate: the geometric mean");
    ok(tmb_shrunk_amax(2, 0, 8, 64) == 8, "without tokens: the peers'");
    ok(tmb_shrunk_amax(9, 3, 8, 64) == 9, "never below what was seen");
    ok(tmb_shrunk_amax(0, 3, 8, 64) == 8 && tmb_shrunk_amax(0, 0, 0, 64) == 0,
       "zeros say nothing of the range");
    bool rises = true;
    for (uint64_t n = 0; n < 200; n++)
        rises = rises && tmb_shrunk_amax(2, n + 1, 8, 64) <= tmb_shrunk_amax(2, n, 8, 64);
    ok(rises, "the more tokens, the closer to the own range");
}

static void ranges(void)
{
    tmb_accum native[4] = {{.tokens = 100, .amax = bits_of(3)},
                           {.tokens = 4, .amax = bits_of(1)},
                           {.tokens = 0},
                           {.tokens = 200, .amax = 0}};
    tmb_accum shadow[4] = {{0}, {.tokens = 900, .amax = bits_of(5)}, {0}, {0}};
    tmb_site site = {.n = 4, .expert = true, .in = 16, .native = native, .shadow = shadow};
    tmb_range r[4];
    for (uint32_t e = 0; e < 4; e++)
        r[e] = tmb_range_of(&site, e, 64);
    ok(r[0].rung == TMB_RUNG_NATIVE && r[0].amax == 3, "an expert with enough tokens");
    ok(r[1].rung == TMB_RUNG_SHADOW && r[1].amax == 5, "one with a shadow pass");
    ok(r[2].rung == TMB_RUNG_PEERS && r[2].amax == 3 && r[2].known, "one without any token");
    ok(r[3].rung == TMB_RUNG_PEERS && r[3].amax == 3, "one whose inputs were all zero");
    tmb_range all = tmb_range_shared(&site, 64);
    ok(all.amax == 5 && all.rung == TMB_RUNG_PEERS && all.tokens == 304, "all of them together");
    memset(native, 0, sizeof native);
    memset(shadow, 0, sizeof shadow);
    all = tmb_range_shared(&site, 64);
    ok(!all.known && all.rung == TMB_RUNG_WEIGHT_ONLY, "a layer that saw nothing has no range");
    site.expert = false;
    site.n = 1;
    native[0] = (tmb_accum){.tokens = 1, .amax = bits_of(2)};
    ok(tmb_range_of(&site, 0, 64).rung == TMB_RUNG_NATIVE, "no gate but for experts");
}

static void scales(void)
{
    float s = -1;
    ok(tmb_fp8_input_scale(448, &s) && s == 1, "FP8: 448 has scale 1");
    ok(tmb_nvfp4_input_scale(2688, &s) && s == 1, "NVFP4: 2688 has scale 1");
    ok(tmb_kv_scale(224, &s) && s == 0.5f, "FP8 cache: 224 has scale 0.5");
    static const float none[] = {0, -1, NAN, INFINITY, FLT_MIN, 1e-40f};
    bool refused = true;
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        s = 7;
        refused = refused && !tmb_fp8_input_scale(none[i], &s) && s == 7 &&
                  !tmb_nvfp4_input_scale(none[i], &s) && s == 7 && !tmb_kv_scale(none[i], &s);
    }
    ok(refused, "no scale from zero, a negative, NaN, Inf or what would be subnormal");
}

static void windows(void)
{
    static uint64_t b[TMB_HIST_BINS];
    uint32_t one = bits_of(1) >> 20;
    memset(b, 0, sizeof b);
    ok(tmb_headroom(b, 0) == 0, "no blocks: no headroom");
    b[0] = 1000; /* zeros */
    ok(tmb_headroom(b, 0) == 0, "zeros alone: none either");
    b[one] = 100000; /* 1 … 1.125 */
    b[one + 8] = 5;  /* 2 … 2.25 */
    ok(tmb_headroom(b, 2.1f) == 16384, "blocks of 1: headroom to 16384");
    ok(tmb_global_amax(TMB_ACT_MAX, b, 2.1f) == 2.1f &&
           tmb_global_amax(TMB_ACT_HEADROOM, b, 2.1f) == 16384,
       "the rule decides");
    tmb_window w = tmb_window_of(b, 2.1f, 2.1f);
    ok(w.blocks == 100005 && w.above == 0 && w.below == 0 && w.least == 1,
       "nothing is lost at max");
    w = tmb_window_of(b, 2.1f, 1.5f);
    ok(w.above == 5.0 / 100005, "a global amax that is too small saturates five blocks");
    w = tmb_window_of(b, 2.1f, 40000);
    ok(w.below == 100000.0 / 100005, "one that is too large flushes the blocks of 1");
    /* One freak block 2^23 above the others: the literal maximum flushes them all. */
    b[one + 8 * 23] = 1;
    w = tmb_window_of(b, 0x1p23f, 0x1p23f);
    float g = tmb_headroom(b, 0x1p23f);
    tmb_window room = tmb_window_of(b, 0x1p23f, g);
    ok(w.below > 0.9999 && room.below == 0 && g == 16384,
       "a freak block: max loses %.2f %%, headroom %.2f %%", 100 * w.below, 100 * room.below);
    /* Whatever the histogram: a g that is finite and no smaller than 99.99 % of the blocks. */
    bool sane = true;
    uint64_t state = 1;
    for (int i = 0; i < 300; i++) {
        memset(b, 0, sizeof b);
        uint32_t top = 0;
        for (int k = 0; k < 20; k++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            uint32_t bin = 1 + (uint32_t)(state >> 33) % 1980;
            b[bin] += (state >> 20) % 1000 + 1;
            top = bin > top ? bin : top;
        }
        float amax = tmb_bin_low(top), global = tmb_global_amax(TMB_ACT_HEADROOM, b, amax);
        sane = sane && isfinite(global) && global > 0;
    }
    ok(sane, "a finite global amax for any histogram");
}

static void divergence(void)
{
    uint64_t a[4] = {100, 200, 300, 400}, b[4] = {1000, 2000, 3000, 4000},
             c[4] = {400, 300, 200, 100};
    uint64_t some[2] = {1000, 10000}, few[2] = {10, 10}, none[4] = {0};
    tmb_divergence d = tmb_divergence_of(a, b, 4, some);
    ok(d.j < 1e-4 && !tmb_divergence_matters(d), "proportional counts: no divergence");
    d = tmb_divergence_of(a, c, 4, some);
    ok(fabs(d.j - (0.6 * log(4) + 0.2 * log(1.5))) < 0.01 && tmb_divergence_matters(d),
       "reversed counts: %.3f nats", d.j);
    ok(!tmb_divergence_matters(tmb_divergence_of(a, c, 4, few)), "of few tokens it says nothing");
    d = tmb_divergence_of(a, none, 4, some);
    ok(d.j == 0 && !tmb_divergence_matters(d), "against nothing: nothing");
}

int main(void)
{
    ladder();
    shrunk();
    ranges();
    scales();
    windows();
    divergence();
    return done();
}
