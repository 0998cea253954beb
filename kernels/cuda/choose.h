/* choose.h - which tiles a GEMM takes: one place for the launcher and for who explains it. */
#ifndef TMB_CUDA_CHOOSE_H
#define TMB_CUDA_CHOOSE_H

#include "kernels/cuda/grouped.h"

/* Tokens of a tile, by family: 16 (8 too), 32, 64, 96, 128, 160, 192, 224, 256. */
enum { TMB_FAMILIES = 9, TMB_TILE_LEAST = 64 };

typedef struct tmb_tiling {
    bool few;    /* less than three rounds of 256-row blocks: smaller blocks, several a processor */
    bool deep;   /* one 64-row block a processor at most: only a deep ring keeps it reading */
    bool narrow; /* 128-row blocks waste less of the last round than 192-row blocks */
} tmb_tiling;

/* Weight rows that all rounds of the processors take in blocks of `rows`, a processor: the waste of
 * the last round is what the choice is about. */
static inline long long tmb_rounds_rows(const tmb_grouped *g, int processors, int rows)
{
    long long active = g->rows < g->experts ? g->rows : g->experts;
    long long units = active * ((g->out_rows + rows - 1) / rows);
    return (units + processors - 1) / processors * rows;
}

static inline tmb_tiling tmb_choose(const tmb_grouped *g, int processors)
{
    tmb_tiling t;
    t.few = tmb_rounds_rows(g, processors, 256) < 3 * 256;
    t.deep = tmb_rounds_rows(g, processors, 64) <= 64;
    t.narrow = tmb_rounds_rows(g, processors, 128) < tmb_rounds_rows(g, processors, 192);
    return t;
}

/* Most tokens of a tile.  A family is a launch, and one that turns out to have no tiles still takes
 * a microsecond: where experts have few rows in the mean the wide ones are not launched, and the
 * few that have more are cut.  Measured: 256 is better than 192 from about 400 rows on. */
static inline int tmb_widest_tile(int rows, int experts)
{
    const int mean = rows / experts;
    return mean < 24 ? TMB_TILE_LEAST : mean < 48 ? 128 : mean < 384 ? 192 : 256;
}

/* How an expert's rows are cut: `tiles` of a family and `smaller` of the one below, so that less than
 * 32 columns of products are wasted on an expert, not on each tile.  All but the last are full. */
typedef struct tmb_cut {
    int family, tiles, smaller; /* family -1: no rows */
} tmb_cut;

#ifdef __CUDACC__
__host__ __device__
#endif
static inline tmb_cut tmb_cut_rows(int rows, int widest)
{
    tmb_cut cut = {-1, 0, 0};
    if (rows <= 0) return cut;
    const int n = (rows + widest - 1) / widest, columns = (rows + 31) / 32; /* 32 wide */
    cut.family = rows <= 16 ? 0 : (columns + n - 1) / n;
    cut.smaller = rows <= 16 ? 0 : cut.family * n - columns;
    cut.tiles = n - cut.smaller;
    return cut;
}

/* Weight rows of a block of this family. */
static inline int tmb_block_rows(const tmb_grouped *g, tmb_tiling t, int family)
{
    if (g->pack == TMB_PACK_BF16) return family == 0 ? 64 : 128;
    if (family == 0) return t.deep || t.few ? 64 : 256;
    if (family <= 2) return t.few ? 64 : 256;
    return family <= 6 && !t.narrow ? 192 : 128;
}

#endif
