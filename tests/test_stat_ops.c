/* test_stat_ops.c - the operations of statistics: every table gives the reference's integers. */
#include "config.h"
#include "kernels/cpu/stat.h"
#include "tests/tap.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { STRIDE = 40 };

static uint64_t next(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    return z ^ (z >> 27);
}

/* Rows of any bits at all, or of values below 2^top. */
static void fill(float *x, size_t n, int top, uint64_t seed)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t r = next(&seed);
        uint32_t bits = (uint32_t)r;
        if (top < 1000)
            x[i] = r % 11 == 0
                       ? -0.0f
                       : (float)ldexp((double)(int64_t)r * 0x1p-63, top - (int)(next(&seed) % 30));
        else
            memcpy(&x[i], &bits, 4);
    }
}

static bool same_look(const tmb_stat *t, const float *x, size_t n, int width)
{
    static uint32_t bins[2][4 * TMB_STAT_BINS];
    uint32_t amax[2][TMB_STAT_ROWS] = {{0}}, bad[2];
    memset(bins, 0, sizeof bins);
    bad[0] = tmb_stat_ref.look(x, n, STRIDE, width, amax[0], bins[0]);
    bad[1] = t->look(x, n, STRIDE, width, amax[1], bins[1]);
    for (int i = 0; i < TMB_STAT_BINS; i++) {
        uint32_t a = 0, b = 0;
        for (int k = 0; k < 4; k++) {
            a += bins[0][k * TMB_STAT_BINS + i];
            b += bins[1][k * TMB_STAT_BINS + i];
        }
        if (a != b) return false;
    }
    return bad[0] == bad[1] && !memcmp(amax[0], amax[1], sizeof amax[0]);
}

static bool same_sums(const tmb_stat *t, const float *x, size_t n, int width, double scale)
{
    int64_t sums[2][TMB_STAT_SUMS], squares[2][TMB_STAT_BLOCK];
    for (int i = 0; i < TMB_STAT_SUMS; i++)
        sums[0][i] = sums[1][i] = i * 1000003 - 77777;
    memset(squares, 0, sizeof squares);
    tmb_stat_ref.moments(sums[0], x, n, STRIDE, width, scale);
    t->moments(sums[1], x, n, STRIDE, width, scale);
    tmb_stat_ref.squares(squares[0], x, n, STRIDE, width, scale);
    t->squares(squares[1], x, n, STRIDE, width, scale);
    bool fine = !memcmp(sums[0], sums[1], sizeof sums[0]) &&
                !memcmp(squares[0], squares[1], sizeof squares[0]);
    for (int i = 0; i < TMB_STAT_BLOCK; i++)
        fine = fine &&
               sums[1][tmb_stat_sum(i, i)] - tmb_stat_sum(i, i) * 1000003 + 77777 == squares[1][i];
    return fine;
}

static void by_hand(const tmb_stat *t)
{
    float x[2][TMB_STAT_BLOCK] = {{1.5f, -2.25f, 0.124f}, {3, 4, 5}};
    int64_t sums[TMB_STAT_SUMS] = {0};
    t->moments(sums, x[0], 2, TMB_STAT_BLOCK, 3, 4);
    /* times 4, to nearest even: 6, -9, 0 and 12, 16, 20 */
    ok(sums[tmb_stat_sum(0, 0)] == 180 && sums[tmb_stat_sum(0, 1)] == 138 &&
           sums[tmb_stat_sum(1, 1)] == 337 && sums[tmb_stat_sum(2, 2)] == 400 &&
           sums[tmb_stat_sum(3, 3)] == 0,
       "%s: two rows by hand", t->name);
}

/* The largest sums that a call may see: exact to the last unit. */
static void at_the_limit(const tmb_stat *t)
{
    float x[TMB_STAT_ROWS][TMB_STAT_BLOCK];
    int64_t sums[TMB_STAT_SUMS] = {0};
    for (int r = 0; r < TMB_STAT_ROWS; r++)
        for (int i = 0; i < TMB_STAT_BLOCK; i++)
            x[r][i] = (float)((1 << 22) - (r == 0 && i == 3));
    t->moments(sums, x[0], TMB_STAT_ROWS, TMB_STAT_BLOCK, 16, 1);
    int64_t most = (int64_t)TMB_STAT_ROWS << 44;
    ok(sums[tmb_stat_sum(0, 1)] == most && sums[tmb_stat_sum(3, 9)] == most - (1 << 22) &&
           sums[tmb_stat_sum(3, 3)] == most - (1 << 23) + 1,
       "%s: 64 rows of 2^22 are exact", t->name);
}

int main(void)
{
    static float x[TMB_STAT_ROWS * STRIDE];
    const tmb_stat *t;
    for (int k = 0; (t = tmb_cpu_stat_at(k)); k++) {
        bool look = true, sums = true;
        for (int width = 1; width <= TMB_STAT_BLOCK; width++)
            for (size_t n = 1; n <= TMB_STAT_ROWS; n += 1 + n / 3) {
                fill(x, sizeof x / sizeof *x, 1000, (uint64_t)width * 100 + n);
                look = look && same_look(t, x, n, width);
                fill(x, sizeof x / sizeof *x, 9, (uint64_t)width * 100 + n);
                look = look && same_look(t, x, n, width);
                x[3] = NAN;
                x[STRIDE] = INFINITY;
                sums = sums && same_sums(t, x, n, width, ldexp(1, 13));
                fill(x, sizeof x / sizeof *x, -100, (uint64_t)width * 100 + n);
                sums = sums && same_sums(t, x, n, width, ldexp(1, 122));
            }
        ok(look, "%s: largest values, bins and unsound values are the reference's", t->name);
        ok(sums, "%s: sums are the reference's", t->name);
        by_hand(t);
        at_the_limit(t);
    }
    return done();
}
