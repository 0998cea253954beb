/* tiles.cuh - from expert offsets to tile lists, on the device.
 *
 * Each expert's rows are cut into equal tiles of at most 64 to 256 (choose.h); a tile is as wide (N) as the smallest
 * class that holds it.  So every expert runs the code that suits its own load, whatever the others
 * have.  A class is a family of tiles with one list and one launch (8 and 16 share one: wgmma code
 * for two N in one kernel makes ptxas serialise both). */
#ifndef TMB_CUDA_SM90_TILES_CUH
#define TMB_CUDA_SM90_TILES_CUH

#include <stdint.h>

enum { FAMILIES = 9, EXPERTS_MAX = 1024, FEW_ROWS = 8 };

/* Tokens a tile of a family holds: 16 (and 8), 32, 64, 96, 128, 160, 192, 224, 256. */
__host__ __device__ constexpr int family_n(int family)
{
    return family == 0 ? 16 : family == 1 ? 32 : 32 * family;
}

struct tile_entry {
    int expert;
    int row0, rows; /* rows of y */
    int n;          /* the class's N */
    int x_row;      /* wgmma families: first row of this tile in the permuted activations */
};

/* In the workspace: counts, then a list for each family with room for `capacity` entries. */
struct tile_lists {
    int *counts; /* [FAMILIES] */
    tile_entry *entries;
    int capacity;
};

#ifdef __CUDACC__
#include "kernels/cuda/sm90/ptx.cuh"

/* At most FEW_ROWS rows in all: the list is short enough for every block to make its own. */
__device__ __forceinline__ void plan_few(tile_entry *list, int *count, const int32_t *offsets,
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
