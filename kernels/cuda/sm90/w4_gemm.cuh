/* w4_gemm.cuh - the two grouped GEMMs with 4-bit weights: mma.sync for tiles of 8 and 16 tokens,
 * wgmma with decoded A in registers above.
 *
 * A CTA takes (tile entry, block of weight rows) units round robin.  One warp (the copier) feeds a
 * ring of stages by bulk copies; the other warps decode and multiply.  Weight rows stand on M,
 * tokens on N, so small groups waste nothing. */
#ifndef TMB_CUDA_SM90_W4_GEMM_CUH
#define TMB_CUDA_SM90_W4_GEMM_CUH

#include "kernels/cuda/sm90/w4_decode.cuh"
#include "kernels/cuda/sm90/w4_plan.cuh"
#include "kernels/cuda/sm90/wgmma.cuh"
#include "kernels/cuda/w4a16.h"

struct w4_args {
    const uint8_t *weights;
    const float *global;
    const uint16_t *x; /* mma: [tokens, cols]; wgmma: permuted */
    const int32_t *gather;
    uint16_t *y;
    const int *count; /* NULL: at most W4_FEW_ROWS rows, every block plans for itself */
    const w4_entry *entries;
    const int32_t *offsets;
    int experts, cols, out_rows, stages;
    bool swiglu;
    bool first; /* of the kernels of one GEMM */
};

/* Shape of a kernel.  N: the widest tile of its family.  Rows of a CTA = 64 * TILES * GROUPS;
 * HALVES blobs of 128 columns a stage. */
template <int N, int GROUPS, int TILES, int HALVES> struct w4_shape {
    static constexpr bool wide = N > 16;  /* wgmma */
    static constexpr bool whole = N > 64; /* needs setmaxnreg: a whole copy warpgroup */
    /* What the copy group gives back must cover what the others take, or they wait for ever:
     * 384 threads start with 168 registers each, 512 with 128. */
    static constexpr int registers = GROUPS == 3 ? 152 : 232;
    static constexpr int copy_registers = GROUPS == 3 ? 56 : 40;
    static constexpr int warps = 4 * GROUPS;
    static constexpr int threads = 32 * warps + (whole ? 128 : 32);
    static constexpr int rows = 16 * TILES * warps;
    static constexpr int blobs = rows / TMB_W4_BLOB_ROWS;
    static constexpr int blob_stride = HALVES * TMB_W4_BLOB_BYTES;
    static constexpr int x_pitch = HALVES * 256 + 16; /* mma: 16 more bytes keep banks apart */
    static constexpr int x_bytes = wide ? N * HALVES * 256 : N * x_pitch;
    static constexpr int stage = blobs * blob_stride + x_bytes;
    static constexpr int stages_max = 16;
};

/* Where a pipeline stands: stages at `base`, then the full and the empty barriers.  The copier
 * starts with parity 1 (all stages are empty). */
struct w4_ring {
    uint32_t base;
    int stage, parity;
    template <class S> __device__ uint32_t full(const w4_args &p, int at) const
    {
        return base + p.stages * S::stage + 8 * at;
    }
    template <class S> __device__ uint32_t empty(const w4_args &p, int at) const
    {
        return full<S>(p, p.stages + at);
    }
    __device__ void next(const w4_args &p)
    {
        if (++stage == p.stages) {
            stage = 0;
            parity ^= 1;
        }
    }
};

/* The thread number, read anew: registers are short around wgmma, and what is derived from this
 * is computed in each unit instead of being kept across all of them. */
__device__ __forceinline__ int thread_again()
{
    int t;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(t));
    return t;
}

/* Walks the units of a CTA. */
struct w4_walk {
    const w4_entry *entries;
    int row_blocks, units, u;
    __device__ w4_walk(const w4_entry *list, int count, int out_rows, int rows)
        : entries(list), row_blocks((out_rows + rows - 1) / rows), u(blockIdx.x)
    {
        units = count * row_blocks;
    }
    __device__ bool more() const
    {
        return u < units;
    }
    __device__ void next()
    {
        u += gridDim.x;
    }
    __device__ w4_entry entry() const
    {
        return entries[u / row_blocks];
    }
    __device__ int row_block() const
    {
        return u % row_blocks;
    }
};

/* ---- the copier ---------------------------------------------------------------------------------
 */

/* Columns past the end of K are 0 in every token's row, so any finite weights do there. */
__device__ __forceinline__ void w4_zero_tail(uint32_t row, int from, int to)
{
    for (int i = from; i < to; i += 16)
        asm volatile("st.shared.v4.u32 [%0], {%1,%1,%1,%1};" ::"r"(row + i), "r"(0) : "memory");
}

template <class S, int HALVES> __device__ void w4_copy(const w4_args &p, w4_walk walk, w4_ring ring)
{
    const int lane = threadIdx.x & 31, k_blobs = (p.cols + 127) / 128;
    const int row_blobs = (p.out_rows + 63) / 64, padded = (p.cols + 255) / 256 * 256;
    const uint64_t once = policy_evict_first(), often = policy_evict_last();
    for (; walk.more(); walk.next()) {
        const w4_entry entry = walk.entry();
        const int blob0 = walk.row_block() * S::blobs, blobs = min(S::blobs, row_blobs - blob0);
        const bool mine = lane < entry.rows; /* mma: this lane copies this token's row */
        const uint8_t *w =
            p.weights +
            (((size_t)entry.expert * row_blobs + blob0 + lane) * k_blobs) * TMB_W4_BLOB_BYTES;
        const uint16_t *x = p.x;
        if (S::wide)
            x += (size_t)entry.x_row * padded;
        else if (mine)
            x += (size_t)(p.gather ? p.gather[entry.row0 + lane] : entry.row0 + lane) * p.cols;
        for (int k0 = 0; k0 < k_blobs; k0 += HALVES) {
            const int halves = min(HALVES, k_blobs - k0),
                      columns = min(HALVES * 128, p.cols - k0 * 128);
            const uint32_t at = ring.base + ring.stage * S::stage,
                           xs = at + S::blobs * S::blob_stride;
            const uint32_t bar = ring.full<S>(p, ring.stage);
            barrier_wait(ring.empty<S>(p, ring.stage), ring.parity);
            if (!S::wide && mine) w4_zero_tail(xs + lane * S::x_pitch, columns * 2, halves * 256);
            __syncwarp();
            if (lane == 0)
                barrier_expect(bar, S::wide ? blobs * S::blob_stride + entry.n * HALVES * 256
                                            : blobs * halves * TMB_W4_BLOB_BYTES +
                                                  entry.rows * columns * 2);
            __syncwarp();
            if (lane < blobs) {
                const uint8_t *from = w + (size_t)k0 * TMB_W4_BLOB_BYTES;
                const uint32_t to = at + lane * S::blob_stride;
                bulk_load(to, from, halves * TMB_W4_BLOB_BYTES, bar, once);
                if (S::wide && halves < HALVES)
                    bulk_load(to + TMB_W4_BLOB_BYTES, from, TMB_W4_BLOB_BYTES, bar, once);
            }
            if (S::wide) {
                if (lane == 0)
                    bulk_load(xs, x + (size_t)k0 * 128 * entry.n, entry.n * HALVES * 256, bar,
                              often);
            } else if (mine) {
                bulk_load(xs + lane * S::x_pitch, x + k0 * 128, columns * 2, bar, often);
            }
            ring.next(p);
        }
    }
}

/* ---- what becomes of the sums
 * -------------------------------------------------------------------- */

/* c [N / 2]: rows g and g + 8 of the row tile at `row` against tokens 8 j + 2 cc, + 1. */
template <int N>
__device__ __forceinline__ void w4_store(const w4_args &p, const w4_entry &entry, const float *c,
                                         float scale, int row)
{
    const int lane = threadIdx.x & 31, width = p.swiglu ? p.out_rows / 2 : p.out_rows;
    if (row >= p.out_rows) return;
#pragma unroll
    for (int j = 0; j < N / 8; j++) {
        if (8 * j >= entry.rows) break;
        float v[4];
#pragma unroll
        for (int i = 0; i < 4; i++)
            v[i] = c[4 * j + i] * scale;
        const int token = 8 * j + (lane >> 2);
        uint16_t *y = p.y + (size_t)(entry.row0 + token) * width + 2 * (lane & 3);
        if (p.swiglu) {
#pragma unroll
            for (int i = 0; i < 2; i++)
                v[i] = v[i] / (1.0f + __expf(-v[i])) * v[i + 2];
            uint32_t t = transpose_8x8(pack_bf16x2(v[0], v[1]));
            if (token < entry.rows) *(uint32_t *)(y + row / 2) = t;
        } else {
            uint32_t low = transpose_8x8(pack_bf16x2(v[0], v[1]));
            uint32_t high = transpose_8x8(pack_bf16x2(v[2], v[3]));
            if (token < entry.rows) {
                *(uint32_t *)(y + row) = low;
                *(uint32_t *)(y + row + 8) = high;
            }
        }
    }
}

/* ---- tiles of 8 and 16 tokens: mma.sync
 * ---------------------------------------------------------- */

/* What a warp needs for 64 columns of its row tiles: loaded one group ahead, because a decoding
 * warp has few neighbours to hide the latency of shared memory behind. */
template <int N, int TILES> struct w4_group {
    uint4 codes[TILES], x[N / 8][2];
    uint32_t scales[TILES];

    /* q: which 64 columns of the stage; tile: the warp's first row tile. */
    template <class S>
    __device__ __forceinline__ void load(const uint8_t *stage, int q, int tile, int lane)
    {
#pragma unroll
        for (int m = 0; m < TILES; m++) {
            const int t = tile + m;
            const uint8_t *blob = stage + (t / 4) * S::blob_stride + q / 2 * TMB_W4_BLOB_BYTES;
            codes[m] = *(const uint4 *)(blob + (((q & 1) * 4 + t % 4) * 32 + lane) * 16);
            scales[m] = *(const uint32_t *)(blob + TMB_W4_BLOB_CODES + ((t % 4) * 32 + lane) * 4);
        }
        const uint8_t *xs = stage + S::blobs * S::blob_stride + (lane >> 2) * S::x_pitch +
                            (lane & 3) * 32 + q * 128;
#pragma unroll
        for (int n = 0; n < N / 8; n++)
#pragma unroll
            for (int i = 0; i < 2; i++)
                x[n][i] = *(const uint4 *)(xs + n * 8 * S::x_pitch + i * 16);
    }

    __device__ __forceinline__ void multiply(float (*c)[N / 2], int q) const
    {
#pragma unroll
        for (int j = 0; j < 4; j++) {
#pragma unroll
            for (int m = 0; m < TILES; m++) {
                const uint32_t word = j == 0   ? codes[m].x
                                      : j == 1 ? codes[m].y
                                      : j == 2 ? codes[m].z
                                               : codes[m].w;
                uint32_t a[4];
                w4_decode(word, w4_scale(scales[m], 2 * (q & 1)),
                          w4_scale(scales[m], 2 * (q & 1) + 1), a);
#pragma unroll
                for (int n = 0; n < N / 8; n++) {
                    const uint4 b = x[n][j >> 1];
                    mma_bf16(&c[m][4 * n], a, j & 1 ? b.z : b.x, j & 1 ? b.w : b.y);
                }
            }
        }
    }
};

template <class S, int N, int TILES, int HALVES>
__device__ __forceinline__ void w4_unit_mma(const w4_args &p, const w4_walk &walk,
                                            const uint8_t *smem, w4_ring &ring)
{
    const int thread = thread_again(), warp = thread >> 5, lane = thread & 31,
              k_blobs = (p.cols + 127) / 128;
    float c[TILES][N / 2] = {};
    for (int k0 = 0; k0 < k_blobs; k0 += HALVES) {
        barrier_wait(ring.full<S>(p, ring.stage), ring.parity);
        const uint8_t *stage = smem + ring.stage * S::stage;
        const int groups = 2 * min(HALVES, k_blobs - k0);
        w4_group<N, TILES> group[2];
        group[0].template load<S>(stage, 0, warp * TILES, lane);
#pragma unroll
        for (int q = 0; q < 2 * HALVES; q++) {
            if (q >= groups) break;
            if (q + 1 < 2 * HALVES && q + 1 < groups)
                group[(q + 1) & 1].template load<S>(stage, q + 1, warp * TILES, lane);
            group[q & 1].multiply(c, q);
        }
        __syncwarp();
        barrier_arrive_if(ring.empty<S>(p, ring.stage), lane == 0);
        ring.next(p);
    }
    const w4_entry entry = walk.entry();
    const float scale = W4_REBASE * p.global[entry.expert];
#pragma unroll
    for (int m = 0; m < TILES; m++)
        w4_store<N>(p, entry, c[m], scale, walk.row_block() * S::rows + (warp * TILES + m) * 16);
}

/* ---- tiles of 32 tokens and more: wgmma
 * ---------------------------------------------------------- */

template <class S, int N, int GROUPS, int TILES, int HALVES>
__device__ __forceinline__ void w4_unit_wgmma(const w4_args &p, const w4_walk &walk,
                                              const uint8_t *smem, w4_ring &ring)
{
    const int thread = thread_again(), warp = thread >> 5, lane = thread & 31;
    const int chunks = ((p.cols + 127) / 128 + HALVES - 1) / HALVES;
    int pending = -1;
    float c[TILES][N / 2];
#pragma unroll
    for (int m = 0; m < TILES; m++)
#pragma unroll
        for (int i = 0; i < N / 2; i++)
            c[m][i] = 0.0f;
    for (int chunk = 0; chunk < chunks; chunk++) {
        barrier_wait(ring.full<S>(p, ring.stage), ring.parity);
        const uint8_t *at = smem + ring.stage * S::stage;
        const uint32_t xs = ring.base + ring.stage * S::stage + S::blobs * S::blob_stride;
        uint32_t a[2][16];
        /* a group is 64 columns of one row tile: four steps, decoded while the group before runs */
#pragma unroll
        for (int i = 0; i < 2 * HALVES * TILES; i++) {
            const int q = i / TILES, m = i % TILES, half = q / 2;
            const uint8_t *blob =
                at + (m * GROUPS + warp / 4) * S::blob_stride + half * TMB_W4_BLOB_BYTES;
            const uint4 v = *(const uint4 *)(blob + (((q & 1) * 4 + warp % 4) * 32 + lane) * 16);
            const uint32_t scales =
                *(const uint32_t *)(blob + TMB_W4_BLOB_CODES + ((warp % 4) * 32 + lane) * 4);
            const uint32_t word[4] = {v.x, v.y, v.z, v.w};
            const uint32_t s = w4_scale(scales, 2 * (q & 1)),
                           s8 = w4_scale(scales, 2 * (q & 1) + 1);
            wgmma_wait<1>();
            if (i == 1) { /* the last group of the stage before has been read */
                barrier_arrive_if(ring.empty<S>(p, pending), pending >= 0 && lane == 0);
                pending = ring.stage;
            }
#pragma unroll
            for (int j = 0; j < 4; j++)
                w4_decode(word[j], s, s8, &a[i & 1][4 * j]);
            wgmma_fence();
#pragma unroll
            for (int j = 0; j < 4; j++)
                wgmma_bf16<N>(c[m], &a[i & 1][4 * j],
                              wgmma_descriptor(xs + (q * 4 + j) * (N * 32), 128, N * 16));
            wgmma_commit();
        }
        ring.next(p);
    }
    wgmma_wait<0>();
    barrier_arrive_if(ring.empty<S>(p, pending), lane == 0);
    const w4_entry entry = walk.entry();
    const float scale = W4_REBASE * p.global[entry.expert];
#pragma unroll
    for (int m = 0; m < TILES; m++)
        w4_store<N>(p, entry, c[m], scale,
                    walk.row_block() * S::rows + (m * 4 * GROUPS + warp) * 16);
}

/* ---- the kernel
 * ----------------------------------------------------------------------------------- */

template <class S, int N, int GROUPS, int TILES, int HALVES>
__device__ void w4_multiply(const w4_args &p, w4_walk walk, const uint8_t *smem, w4_ring ring)
{
    for (; walk.more(); walk.next()) {
        if constexpr (S::wide)
            w4_unit_wgmma<S, N, GROUPS, TILES, HALVES>(p, walk, smem, ring);
        else if (walk.entry().n == 8)
            w4_unit_mma<S, 8, TILES, HALVES>(p, walk, smem, ring);
        else
            w4_unit_mma<S, 16, TILES, HALVES>(p, walk, smem, ring);
    }
}

/* NOTE: the kernels of one GEMM depend only on its plan, so each but the first starts without
 * waiting: it was launched when every block of the one before had passed its own wait.  Block 0
 * waits at the end, so that the last kernel's end is the end of all. */
template <int FAMILY, int GROUPS, int TILES, int HALVES, int CTAS>
__global__ void __launch_bounds__(w4_shape<w4_family_n(FAMILY), GROUPS, TILES, HALVES>::threads,
                                  CTAS) w4_gemm(w4_args p)
{
    using S = w4_shape<w4_family_n(FAMILY), GROUPS, TILES, HALVES>;
    extern __shared__ __align__(1024) uint8_t smem[];
    __shared__ w4_entry few[W4_FEW_ROWS];
    __shared__ int n_few;
    const uint32_t base = smem_address(smem), full = base + p.stages * S::stage;
    const int warp = threadIdx.x >> 5;
    if (threadIdx.x == 0) {
        for (int i = 0; i < p.stages; i++) {
            barrier_init(full + 8 * i, 1);
            barrier_init(full + 8 * (p.stages + i), S::warps);
        }
        barrier_init_fence();
    }
    if (p.first) wait_for_previous();
    launch_dependents();
    if (FAMILY == 0 && !p.count && warp == 0) w4_plan_few(few, &n_few, p.offsets, p.experts);
    __syncthreads();
    const bool listed = FAMILY > 0 || p.count;
    const w4_walk walk(listed ? p.entries : few, listed ? *p.count : n_few, p.out_rows, S::rows);
    w4_ring ring = {base, 0, 0};
    if (warp >= S::warps) {
        ring.parity = 1;
        if (S::whole) registers_fewer<S::copy_registers>();
        if (warp == S::warps) w4_copy<S, HALVES>(p, walk, ring);
    } else {
        if (S::whole) registers_more<S::registers>();
        w4_multiply<S, w4_family_n(FAMILY), GROUPS, TILES, HALVES>(p, walk, smem, ring);
    }
    if (!p.first && blockIdx.x == 0) wait_for_previous();
}

#endif
