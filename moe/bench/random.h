/* random.h - cheap normal numbers, the same everywhere for the same seed.
 *
 * The sum of four uniform numbers is normal enough for weights (its fourth moment is 2.7 of 3),
 * and the four are the four 16-bit words of one 64-bit draw. */
#ifndef TMB_BENCH_RANDOM_H
#define TMB_BENCH_RANDOM_H

#include "kernels/base/codec.h"

#include <stddef.h>

/* SplitMix64 (Steele, Lea, Flood 2014): any seed, and a counter as good as a state. */
static inline uint64_t tmb_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* Mean 0, standard deviation `sigma`. */
static inline float tmb_random_normal(uint64_t *state, float sigma)
{
    uint64_t z = tmb_random(state);
    int sum = (int)(z & 0xffff) + (int)(z >> 16 & 0xffff) + (int)(z >> 32 & 0xffff) +
              (int)(z >> 48) - 131070;
    return (float)sum * (sigma * 2.6429e-5f); /* sqrt(3) / 65536 */
}

static inline void tmb_random_bf16(uint16_t *y, size_t n, uint64_t seed, float sigma)
{
    for (size_t i = 0; i < n; i++)
        y[i] = tmb_f32_to_bf16(tmb_random_normal(&seed, sigma));
}

#endif
