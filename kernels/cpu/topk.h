/* topk.h - the largest of many scores, as bits.  Plain C: the same on every processor. */
#ifndef TMB_CPU_TOPK_H
#define TMB_CPU_TOPK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Set bit i of bits [ceil(n / 64)], and no other, for the k largest of x [n]; of level ones those
 * with the lower index.  k >= n: all.  No x is a NaN.  work: room for n floats.  True when the last
 * that was taken and the best that was not are level. */
bool tmb_topk_bits(const float *x, size_t n, size_t k, uint64_t *bits, float *work);

static inline void tmb_bit_set(uint64_t *bits, size_t i)
{
    bits[i / 64] |= (uint64_t)1 << i % 64;
}

static inline bool tmb_bit_at(const uint64_t *bits, size_t i)
{
    return bits[i / 64] >> i % 64 & 1;
}

#endif
