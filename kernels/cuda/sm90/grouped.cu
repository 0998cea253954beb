/* grouped.cu - the entry points of grouped.h: tile lists, permutation, and the format's kernels. */
#include "config.h"
#include "kernels/cuda/sm90/gemm_launch.cuh"
#include "kernels/cuda/sm90/permute.cuh"

namespace
{

/* Exclusive sum over the block of v; *total gets the sum.  scratch: 33 ints. */
__device__ __forceinline__ int block_exclusive_sum(int v, int *total, int *scratch)
{
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, sum = v;
    for (int d = 1; d < 32; d *= 2) {
        int other = __shfl_up_sync(~0u, sum, d);
        if (lane >= d) sum += other;
    }
    if (lane == 31) scratch[warp] = sum;
    __syncthreads();
    if (warp == 0) {
        int w = lane < (int)(blockDim.x >> 5) ? scratch[lane] : 0, all = w;
        for (int d = 1; d < 32; d *= 2) {
            int other = __shfl_up_sync(~0u, all, d);
            if (lane >= d) all += other;
        }
        scratch[lane] = all - w;
        if (lane == 31) scratch[32] = all;
    }
    __syncthreads();
    *total = scratch[32];
    sum += scratch[warp] - v;
    __syncthreads();
    return sum;
}

/* One block; thread e is expert e. */
__global__ void __launch_bounds__(EXPERTS_MAX)
    make_tiles(tile_lists lists, const int32_t *offsets, int experts, int widest)
{
    __shared__ int scratch[33];
    launch_dependents();
    wait_for_previous();
    int e = threadIdx.x, first = 0, rows = 0;
    if (e < experts) {
        first = offsets[e];
        rows = offsets[e + 1] - first;
    }
    const tmb_cut cut = tmb_cut_rows(rows, widest);
    for (int f = 0, x_row = 0; f < FAMILIES; f++) {
        const int n = f == cut.family ? cut.tiles : f == cut.family - 1 ? cut.smaller : 0;
        const int wide = family_n(f), begin = f == cut.family ? 0 : cut.tiles * (wide + 32);
        int total, at = block_exclusive_sum(n, &total, scratch);
        if (threadIdx.x == 0) lists.counts[f] = total;
        for (int t = 0; t < n; t++) {
            const int row = begin + t * wide;
            lists.entries[f * lists.capacity + at + t] = {e, first + row, min(wide, rows - row),
                                                          rows <= 8 ? 8 : wide,
                                                          x_row + (at + t) * wide};
        }
        if (f) x_row += total * wide;
    }
}

enum { PERMUTE = 4 }; /* blocks a processor */

gemm_launch *const formats[TMB_PACKS] = {launch_nvfp4, launch_mxfp4, launch_int4, launch_bf16};

int capacity_of(int experts, int rows)
{
    return experts + rows / TMB_TILE_LEAST + 1;
}

tile_lists lists_at(const void *tiles, int experts, int rows)
{
    char *at = (char *)tiles;
    return {(int *)at, (tile_entry *)(at + 256), capacity_of(experts, rows)};
}

int padded_cols(const tmb_grouped *g)
{
    return (g->cols + 255) / 256 * 256;
}

/* 17 rows take 32: what is as wide as it is asked for takes at most twice the rows. */
uint64_t permuted_rows(const tmb_grouped *g)
{
    return g->most > 16 ? 2 * (uint64_t)g->rows + 256 : 0;
}

tmb_status check(const tmb_grouped *g, tmb_err *err)
{
    if ((unsigned)g->pack >= TMB_PACKS || g->cols <= 0 || g->cols % 16 || g->out_rows <= 0 ||
        g->out_rows % 16 || g->experts <= 0 || g->experts > EXPERTS_MAX || g->rows < 0 ||
        g->rows > (1 << 24) || g->most < 0)
        return tmb_fail(err, TMB_EINTERNAL,
                        "grouped GEMM: %d experts, %d rows, %d x %d: columns and output rows must"
                        " be multiples of 16, experts at most %d",
                        g->experts, g->rows, g->out_rows, g->cols, EXPERTS_MAX);
    return TMB_OK;
}

gemm_args args_of(const tmb_grouped *g, const tile_lists &lists)
{
    gemm_args p = {};
    p.weights = (const uint8_t *)g->weights;
    p.factor = g->factor;
    p.bias = g->bias;
    p.x = g->x;
    p.gather = g->gather;
    p.y = g->y;
    p.count = g->rows <= FEW_ROWS ? nullptr : lists.counts;
    p.offsets = g->offsets;
    p.experts = g->experts;
    p.cols = g->cols;
    p.out_rows = g->out_rows;
    p.gate = g->gate;
    p.alpha = g->alpha;
    p.limit = g->limit;
    p.first = true;
    return p;
}

tmb_status launched(const launcher &launch, tmb_err *err)
{
    if (launch.error == cudaSuccess) return TMB_OK;
    return tmb_fail(err, TMB_EUNAVAILABLE, "CUDA: grouped GEMM: %s",
                    cudaGetErrorString(launch.error));
}

} // namespace

extern "C" uint64_t tmb_tiles_bytes(int experts, int rows)
{
    return 256 + (uint64_t)FAMILIES * capacity_of(experts, rows) * sizeof(tile_entry);
}

extern "C" tmb_status tmb_tiles_make(void *tiles, const int32_t *offsets, int experts, int rows,
                                     void *stream, tmb_err *err)
{
    if (rows <= FEW_ROWS) return TMB_OK; /* every block makes its own */
    if (experts < 1 || experts > EXPERTS_MAX)
        return tmb_fail(err, TMB_EINTERNAL, "tiles: %d experts, 1 to %d", experts, EXPERTS_MAX);
    launcher launch(stream);
    launch(make_tiles, dim3(1), (experts + 31) / 32 * 32, 0, lists_at(tiles, experts, rows),
           offsets, experts, tmb_widest_tile(rows, experts));
    return launched(launch, err);
}

extern "C" uint64_t tmb_grouped_workspace(const tmb_grouped *g)
{
    return permuted_rows(g) * (uint64_t)padded_cols(g) * 2;
}

extern "C" tmb_status tmb_grouped_run(const tmb_grouped *g, void *workspace, void *stream,
                                      tmb_err *err)
{
    TRY(check(g, err));
    if (g->rows == 0) return TMB_OK;
    launcher launch(stream);
    const tile_lists lists = lists_at(g->tiles, g->experts, g->rows);
    uint16_t *permuted = (uint16_t *)workspace;
    if (g->most > 16)
        launch(permute_rows, dim3((unsigned)(PERMUTE * launch.processors)), 256, 0, lists, permuted, g->x,
               g->gather, g->cols, padded_cols(g));
    formats[g->pack](launch, args_of(g, lists), lists, g, permuted);
    return launched(launch, err);
}
