/* test_grid.c - values under any one scale are told from values that were moved. */
#include "config.h"

#include "kernels/base/codec.h"
#include "moe/verify/verify_internal.h"
#include "tests/random.h"
#include "tests/tap.h"

#include <math.h>

enum { N = 16, ROUNDS = 4000 };

/* Codes of x under a scale, as they are stored, and decoded. */
static void encode(const float *x, float scale, uint8_t *codes, float *got)
{
    for (int i = 0; i < N; i++) {
        codes[i] = tmb_f32_to_e2m1(x[i] / scale);
        got[i] = tmb_e2m1_to_f32(codes[i]) * scale;
    }
}

int main(void)
{
    unsigned missed = 0, flat = 0, halves = 0, swaps = 0, signs = 0, scales = 0, n = 0;
    for (int round = 0; round < ROUNDS; round++) {
        float x[N], got[N], top = 0;
        uint8_t codes[N];
        for (int i = 0; i < N; i++) {
            x[i] = random_float() * ldexpf(1, -(int)(random_bits() % 4));
            top = fmaxf(top, fabsf(x[i]));
        }
        /* from a tenth of what maps the largest to 6 to four times that */
        float scale = top / 6 * (0.1f + 3.9f * (float)(random_bits() % 1024) / 1024);
        encode(x, scale, codes, got);
        float most = 0;
        for (int i = 0; i < N; i++)
            most = fmaxf(most, fabsf(got[i]));
        if (most == 0) {
            flat++;
            continue;
        }
        n++;
        missed += !tmb_on_own_grid(x, got, N, 0);
        float bad[N];
        for (int i = 0; i < N; i++)
            bad[i] = got[i ^ 1];
        swaps += tmb_on_own_grid(x, bad, N, 0);
        for (int i = 0; i < N; i++)
            bad[i] = fabsf(got[i]);
        signs += tmb_on_own_grid(x, bad, N, 0);
        for (int i = 0; i < N; i++)
            bad[i] = got[i] * 2;
        scales += tmb_on_own_grid(x, bad, N, 0);
        for (int i = 0; i < N; i++)
            bad[i] = got[i] / 2;
        halves += tmb_on_own_grid(x, bad, N, 0);
    }
    ok(n > ROUNDS / 2 && !missed, "%u blocks are on their grid, whatever the scale, %u not", n,
       missed);
    ok(swaps * 20 < n, "swapped nibbles are not (%u pass)", swaps);
    ok(signs * 100 < n, "lost signs are not (%u pass)", signs);
    /* with one step left of a coarse scale, or everything cut by a fine one, nobody could tell */
    ok(scales * 8 < n && halves * 8 < n, "doubled and halved scales are not (%u, %u pass)", scales,
       halves);
    float zeros[N] = {0}, x[N] = {[3] = 0.01f};
    ok(!tmb_on_own_grid(x, zeros, N, 0) && tmb_on_own_grid(x, zeros, N, 0.01f) &&
           tmb_on_own_grid(zeros, zeros, N, 0),
       "zeros are for what is next to nothing");
    return done();
}
