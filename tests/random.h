/* random.h - the tests' random numbers: the same in every run. */
#ifndef RANDOM_H
#define RANDOM_H
#include <stdint.h>
static uint64_t random_state = 88172645463325252ull;
static inline uint32_t random_bits(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 16);
}
/* From -1 to 1, triangular around 0. */
static inline float random_float(void)
{
    return ((float)(random_bits() >> 8) - (float)(random_bits() >> 8)) * 0x1p-24f;
}
#endif
