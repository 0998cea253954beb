/* permute.cuh - activations in the order wgmma reads them.
 *
 * wgmma takes B from shared memory by a descriptor, so the K permutation of the packed weights has
 * to be in memory.  For a tile of N tokens and columns 64 q .. 64 q + 63 the 128 N bytes are [4
 * steps][2 halves][N tokens][4 blocks c][2 columns],  column = 64 q + 16 c + 4 step + 2 half + i.
 */
#ifndef TMB_CUDA_SM90_PERMUTE_CUH
#define TMB_CUDA_SM90_PERMUTE_CUH

#include "kernels/cuda/sm90/ptx.cuh"
#include "kernels/cuda/sm90/tiles.cuh"

/* The quad's words [lane c][j] -> [lane j][c]. */
__device__ __forceinline__ void transpose_quad(uint32_t v[4], int c)
{
    for (int d = 1; d < 4; d *= 2) {
        for (int i = 0; i < 4; i++) {
            if (i & d) continue;
            uint32_t give = c & d ? v[i] : v[i | d];
            uint32_t got = __shfl_xor_sync(~0u, give, d);
            if (c & d)
                v[i] = got;
            else
                v[i | d] = got;
        }
    }
}

/* A warp takes 8 tokens x 128 columns, so that enough of them are on their way; padded_cols is a
 * multiple of 256, columns beyond cols are 0. */
__global__ void __launch_bounds__(256)
    permute_rows(tile_lists lists, uint16_t *out, const uint16_t *x, const int32_t *gather,
                 int cols, int padded_cols)
{
    enum { AT_ONCE = 2 };
    launch_dependents();
    wait_for_previous();
    const int lane = threadIdx.x & 31, c = lane & 3, groups = padded_cols / (64 * AT_ONCE);
    const int warps = gridDim.x * (blockDim.x >> 5);
    for (int f = 1; f < FAMILIES; f++) {
        const int octets = family_n(f) / 8, count = lists.counts[f] * octets * groups;
        for (int u = blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5); u < count; u += warps) {
            const int q = u % groups * AT_ONCE, octet = u / groups % octets;
            const tile_entry entry = lists.entries[f * lists.capacity + u / groups / octets];
            const int n = entry.n, token = octet * 8 + (lane >> 2);
            if (octet * 8 >= entry.rows) continue; /* columns of the product nobody reads */
            uint4 v[AT_ONCE][2] = {};
            if (token < entry.rows) {
                int row = entry.row0 + token;
                if (gather) row = gather[row];
                const uint16_t *from = x + (size_t)row * cols;
#pragma unroll
                for (int i = 0; i < AT_ONCE; i++) {
                    const int col = 64 * (q + i) + 16 * c;
                    if (col >= cols) continue;
                    v[i][0] = *(const uint4 *)(from + col);
                    v[i][1] = *(const uint4 *)(from + col + 8);
                }
            }
            uint16_t *to = out + (size_t)entry.x_row * padded_cols + (size_t)q * 64 * n;
#pragma unroll
            for (int i = 0; i < AT_ONCE; i++) {
#pragma unroll
                for (int b = 0; b < 2; b++) { /* steps 2 b and 2 b + 1 */
                    uint32_t w[4] = {v[i][b].x, v[i][b].y, v[i][b].z, v[i][b].w};
                    transpose_quad(w, c);
                    *(uint4 *)(to + (size_t)i * 64 * n + ((size_t)(4 * b + c) * n + token) * 8) = {
                        w[0], w[1], w[2], w[3]};
                }
            }
        }
    }
}

#endif
