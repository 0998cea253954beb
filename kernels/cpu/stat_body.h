/* stat_body.h - statistics operations in plain C: the reference, and what the compiler makes of it
 * for an instruction set that has no file of its own.  The includer defines TABLE and NAME. */
#include "kernels/cpu/stat.h"

#include <string.h>

static inline uint32_t magnitude(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits & 0x7fffffff;
}

static uint32_t look(const float *x, size_t n, size_t stride, int width, uint32_t *amax,
                     uint32_t *bins)
{
    uint32_t unsound = 0;
    for (size_t r = 0; r < n; r++) {
        uint32_t most = 0;
        for (int i = 0; i < width; i++) {
            uint32_t a = magnitude(x[r * stride + (size_t)i]);
            if (a >= TMB_STAT_LIMIT) {
                unsound++;
                continue;
            }
            most = a > most ? a : most;
            bins[(size_t)(i & 3) * TMB_STAT_BINS + (a >> 20)]++;
        }
        amax[r] = most;
    }
    return unsound;
}

/* To nearest, ties to even: exact for |x * scale| <= 2^51. */
static inline void codes(double q[TMB_STAT_BLOCK], const float *x, int width, double scale)
{
    for (int i = 0; i < TMB_STAT_BLOCK; i++)
        q[i] = 0;
    for (int i = 0; i < width; i++)
        if (magnitude(x[i]) < TMB_STAT_LIMIT) q[i] = ((double)x[i] * scale + 0x1.8p52) - 0x1.8p52;
}

/* Products of integers up to 2^22 and sums of 64 of them are exact in double. */
static void moments(int64_t *sums, const float *x, size_t n, size_t stride, int width, double scale)
{
    double acc[TMB_STAT_SUMS] = {0}, q[TMB_STAT_BLOCK];
    for (size_t r = 0; r < n; r++) {
        codes(q, x + r * stride, width, scale);
        for (int i = 0; i < 8; i++)
            for (int j = 0; j < 16; j++)
                acc[i * 16 + j] += q[i] * q[j];
        for (int i = 8; i < 16; i++)
            for (int j = 0; j < 8; j++)
                acc[128 + (i - 8) * 8 + j] += q[i] * q[j + 8];
    }
    for (int i = 0; i < TMB_STAT_SUMS; i++)
        sums[i] += (int64_t)acc[i];
}

static void squares(int64_t *sums, const float *x, size_t n, size_t stride, int width, double scale)
{
    double acc[TMB_STAT_BLOCK] = {0}, q[TMB_STAT_BLOCK];
    for (size_t r = 0; r < n; r++) {
        codes(q, x + r * stride, width, scale);
        for (int i = 0; i < TMB_STAT_BLOCK; i++)
            acc[i] += q[i] * q[i];
    }
    for (int i = 0; i < TMB_STAT_BLOCK; i++)
        sums[i] += (int64_t)acc[i];
}

const tmb_stat TABLE = {.name = NAME, .look = look, .moments = moments, .squares = squares};
