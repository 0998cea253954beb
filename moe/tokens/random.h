/* random.h - numbers that are the same on every machine: xoshiro256** seeded by SplitMix64
 * (Blackman and Vigna, "Scrambled linear pseudorandom number generators", ACM TOMS 47, 2021);
 * internal to moe/tokens. */
#ifndef TMB_TOKENS_RANDOM_H
#define TMB_TOKENS_RANDOM_H

#include <stdint.h>

typedef struct tmb_random {
    uint64_t s[4];
} tmb_random;

static inline uint64_t tmb_split_mix(uint64_t *x)
{
    uint64_t z = (*x += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* A stream of its own for each `stream` of a seed. */
static inline tmb_random tmb_random_open(uint64_t seed, uint64_t stream)
{
    tmb_random r;
    uint64_t x = seed;
    x = tmb_split_mix(&x) + stream;
    for (int i = 0; i < 4; i++)
        r.s[i] = tmb_split_mix(&x);
    return r;
}

static inline uint64_t tmb_random_next(tmb_random *r)
{
    uint64_t *s = r->s, x = s[1] * 5, t = s[1] << 17;
    uint64_t result = (x << 7 | x >> 57) * 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = s[3] << 45 | s[3] >> 19;
    return result;
}

/* 0 … n - 1, each as likely: what would favour the low ones is drawn again. */
static inline uint64_t tmb_random_below(tmb_random *r, uint64_t n)
{
    uint64_t x, reject = (UINT64_MAX - n + 1) % n;
    do
        x = tmb_random_next(r);
    while (x < reject);
    return x % n;
}

#endif
