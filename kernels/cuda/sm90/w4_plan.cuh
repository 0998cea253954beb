/* w4_plan.cuh - from expert offsets to tile lists, on the device.
 *
 * Each expert's rows are cut into equal tiles of at most 256; a tile is as wide (N) as the smallest
 * class that holds it.  So every expert runs the code that suits its own load, whatever the others
 * have.  A class is a family of tiles with one list and one launch (8 and 16 share one: wgmma code
 * for two N in one kernel makes ptxas serialise both). */
#ifndef TMB_CUDA_SM90_W4_PLAN_CUH
#define TMB_CUDA_SM90_W4_PLAN_CUH

#include <stdint.h>

enum { W4_FAMILIES = 9, W4_EXPERTS_MAX = 1024, W4_FEW_ROWS = 8 };

/* Tokens a tile of a family holds: 16 (and 8), 32, 64, 96, 128, 160, 192, 224, 256. */
__host__ __device__ constexpr int w4_family_n(int family)
{
    return family == 0 ? 16 : family == 1 ? 32 : 32 * family;
}

struct w4_entry {
    int expert;
    int row0, rows; /* rows of y */
    int n;          /* the class's N */
    int x_row;      /* wgmma families: first row of this tile in the permuted activations */
};

/* In the workspace: counts, then a list for each family with room for `capacity` entries. */
struct w4_lists {
    int *counts; /* [W4_FAMILIES] */
    w4_entry *entries;
    int capacity;
};

#ifdef __CUDACC__
#include "kernels/cuda/sm90/ptx.cuh"

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
__global__ void __launch_bounds__(W4_EXPERTS_MAX)
    w4_plan(w4_lists lists, const int32_t *offsets, int experts)
{
    __shared__ int scratch[33];
    launch_dependents();
    wait_for_previous();
    int e = threadIdx.x, first = 0, rows = 0;
    if (e < experts) {
        first = offsets[e];
        rows = offsets[e + 1] - first;
    }
    int tiles = (rows + 255) / 256, most = tiles ? (rows + tiles - 1) / tiles : 0;
    int family = most == 0 ? -1 : most <= 16 ? 0 : most <= 32 ? 1 : (most + 31) / 32;
    int n = most <= 8 ? 8 : family >= 0 ? w4_family_n(family) : 0;
    int total, x_row = block_exclusive_sum(family > 0 ? tiles * n : 0, &total, scratch);
    for (int f = 0; f < W4_FAMILIES; f++) {
        int at = block_exclusive_sum(family == f ? tiles : 0, &total, scratch);
        if (threadIdx.x == 0) lists.counts[f] = total;
        if (family != f) continue;
        for (int t = 0; t < tiles; t++) {
            int begin = (int)((long long)rows * t / tiles);
            int end = (int)((long long)rows * (t + 1) / tiles);
            lists.entries[f * lists.capacity + at + t] = {e, first + begin, end - begin, n,
                                                          x_row + t * n};
        }
    }
}

/* At most W4_FEW_ROWS rows in all: the list is short enough for every block to make its own. */
__device__ __forceinline__ void w4_plan_few(w4_entry *list, int *count, const int32_t *offsets,
                                            int experts)
{
    const int lane = threadIdx.x & 31;
    int found = 0;
    for (int base = 0; base < experts; base += 32) {
        const int e = base + lane;
        const int first = e < experts ? offsets[e] : 0, end = e < experts ? offsets[e + 1] : 0;
        const unsigned busy = __ballot_sync(~0u, end > first);
        if (end > first)
            list[found + __popc(busy & ((1u << lane) - 1))] = {e, first, end - first, 8, 0};
        found += __popc(busy);
    }
    if (lane == 0) *count = found;
}
#endif
#endif
