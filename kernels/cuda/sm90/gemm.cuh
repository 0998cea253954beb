/* gemm.cuh - the grouped GEMM: mma.sync for tiles of 8 and 16 tokens, wgmma with A in registers
 * above.  F is the format of the weights (weights.cuh).
 *
 * A CTA takes (tile entry, block of weight rows) units round robin.  One warp (the copier) feeds a
 * ring of stages by bulk copies; the other warps decode and multiply.  Weight rows stand on M,
 * tokens on N, so small groups waste nothing. */
#ifndef TMB_CUDA_SM90_GEMM_CUH
#define TMB_CUDA_SM90_GEMM_CUH

#include "kernels/cuda/sm90/weights.cuh"
#include "kernels/cuda/sm90/tiles.cuh"
#include "kernels/cuda/sm90/wgmma.cuh"
#include "kernels/cuda/grouped.h"

struct gemm_args {
    const uint8_t *weights;
    const float *factor, *bias;
    const uint16_t *x; /* mma: [tokens, cols]; wgmma: permuted */
    const int32_t *gather;
    uint16_t *y;
    const int *count; /* NULL: at most FEW_ROWS rows, every block plans for itself */
    const tile_entry *entries;
    const int32_t *offsets;
    int experts, cols, out_rows, stages;
    tmb_gate gate;
    float alpha, limit;
    bool first; /* of the kernels of one GEMM */
};

/* Shape of a kernel.  N: the widest tile of its family.  Rows of a CTA = 64 * TILES * GROUPS;
 * HALVES blobs of 128 columns a stage. */
template <class F, int N, int GROUPS, int TILES, int HALVES> struct gemm_shape {
    static constexpr int blob_bytes = F::blob_bytes;
    static constexpr bool wide = N > 16;  /* wgmma */
    static constexpr bool whole = N > 64; /* needs setmaxnreg: a whole copy warpgroup */
    /* What the copy group gives back must cover what the others take, or they wait for ever:
     * 384 threads start with 168 registers each, 512 with 128. */
    static constexpr int registers = GROUPS == 3 ? 160 : 232;
    static constexpr int copy_registers = GROUPS == 3 ? 32 : 40;
    static constexpr int warps = 4 * GROUPS;
    static constexpr int threads = 32 * warps + (whole ? 128 : 32);
    static constexpr int rows = 16 * TILES * warps;
    static constexpr int blobs = rows / TMB_BLOB_ROWS;
    static constexpr int blob_stride = HALVES * F::blob_bytes;
    static constexpr int x_pitch = HALVES * 256 + 16; /* mma: 16 more bytes keep banks apart */
    static constexpr int x_bytes = wide ? N * HALVES * 256 : N * x_pitch;
    static constexpr int stage = blobs * blob_stride + x_bytes;
    static constexpr int stages_max = 16;
};

/* Where a pipeline stands: stages at `base`, then the full and the empty barriers.  The copier
 * starts with parity 1 (all stages are empty). */
struct gemm_ring {
    uint32_t base;
    int stage, parity;
    template <class S> __device__ uint32_t full(const gemm_args &p, int at) const
    {
        return base + p.stages * S::stage + 8 * at;
    }
    template <class S> __device__ uint32_t empty(const gemm_args &p, int at) const
    {
        return full<S>(p, p.stages + at);
    }
    __device__ void next(const gemm_args &p)
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
struct gemm_walk {
    const tile_entry *entries;
    int row_blocks, units, u;
    __device__ gemm_walk(const tile_entry *list, int count, int out_rows, int rows)
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
    __device__ tile_entry entry() const
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
__device__ __forceinline__ void zero_tail(uint32_t row, int from, int to)
{
    for (int i = from; i < to; i += 16)
        asm volatile("st.shared.v4.u32 [%0], {%1,%1,%1,%1};" ::"r"(row + i), "r"(0) : "memory");
}

template <class S, int HALVES>
__device__ void gemm_copy(const gemm_args &p, gemm_walk walk, gemm_ring ring)
{
    const int lane = threadIdx.x & 31, k_blobs = (p.cols + 127) / 128;
    const int row_blobs = (p.out_rows + 63) / 64, padded = (p.cols + 255) / 256 * 256;
    const uint64_t once = policy_evict_first(), often = policy_evict_last();
    for (; walk.more(); walk.next()) {
        const tile_entry entry = walk.entry();
        const int blob0 = walk.row_block() * S::blobs, blobs = min(S::blobs, row_blobs - blob0);
        const bool mine = lane < entry.rows; /* mma: this lane copies this token's row */
        const uint8_t *w =
            p.weights +
            (((size_t)entry.expert * row_blobs + blob0 + lane) * k_blobs) * S::blob_bytes;
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
            if (!S::wide && mine) zero_tail(xs + lane * S::x_pitch, columns * 2, halves * 256);
            __syncwarp();
            if (lane == 0)
                barrier_expect(bar,
                               S::wide ? blobs * S::blob_stride + entry.n * HALVES * 256
                                       : blobs * halves * S::blob_bytes + entry.rows * columns * 2);
            __syncwarp();
            if (lane < blobs) {
                const uint8_t *from = w + (size_t)k0 * S::blob_bytes;
                const uint32_t to = at + lane * S::blob_stride;
                bulk_load(to, from, halves * S::blob_bytes, bar, once);
                if (S::wide && halves < HALVES)
                    bulk_load(to + S::blob_bytes, from, S::blob_bytes, bar, once);
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

/* Factors and biases of an expert, for the lane's rows g and g + 8 of a row tile. */
struct gemm_finish {
    float low, high;
    const float *bias;
    __device__ __forceinline__ gemm_finish(const gemm_args &p, int expert)
        : low(p.factor[2 * expert]), high(p.factor[2 * expert + 1]),
          bias(p.bias ? p.bias + (size_t)expert * p.out_rows : nullptr)
    {
    }
};

/* transformers 5.17, modeling_gpt_oss.py. */
__device__ __forceinline__ float gated(const gemm_args &p, float gate, float up)
{
    if (p.gate == TMB_GATE_CLAMPED) {
        gate = fminf(gate, p.limit);
        up = fminf(fmaxf(up, -p.limit), p.limit);
        return (up + 1.0f) * __fdividef(gate, 1.0f + __expf(-p.alpha * gate));
    }
    return __fdividef(gate, 1.0f + __expf(-gate)) * up;
}

/* c [N / 2]: rows g and g + 8 of the row tile at `row` against tokens 8 j + 2 cc, + 1. */
template <int N>
__device__ __forceinline__ void gemm_store(const gemm_args &p, const tile_entry &entry,
                                           const float *c, const gemm_finish &finish, int row)
{
    const int lane = threadIdx.x & 31, width = p.gate ? p.out_rows / 2 : p.out_rows;
    if (row >= p.out_rows) return;
    float bias = 0.0f, bias8 = 0.0f;
    if (finish.bias) {
        bias = finish.bias[row + (lane >> 2)];
        bias8 = finish.bias[row + 8 + (lane >> 2)];
    }
#pragma unroll
    for (int j = 0; j < N / 8; j++) {
        if (8 * j >= entry.rows) break;
        const float v[4] = {fmaf(c[4 * j], finish.low, bias), fmaf(c[4 * j + 1], finish.low, bias),
                            fmaf(c[4 * j + 2], finish.high, bias8),
                            fmaf(c[4 * j + 3], finish.high, bias8)};
        const int token = 8 * j + (lane >> 2);
        uint16_t *y = p.y + (size_t)(entry.row0 + token) * width;
        if (p.gate) {
            uint32_t t = transpose_8x8(pack_bf16x2(gated(p, v[0], v[2]), gated(p, v[1], v[3])));
            if (token < entry.rows) *(uint32_t *)(y + row / 2 + 2 * (lane & 3)) = t;
        } else {
            /* even lanes get two words of the low rows, odd ones of the high rows, so that a token's
             * 32 bytes are one store */
            const uint32_t low = transpose_8x8(pack_bf16x2(v[0], v[1]));
            const uint32_t high = transpose_8x8(pack_bf16x2(v[2], v[3]));
            const uint32_t got = __shfl_xor_sync(~0u, lane & 1 ? low : high, 1);
            const uint2 both = lane & 1 ? make_uint2(got, high) : make_uint2(low, got);
            if (token < entry.rows)
                *(uint2 *)(y + row + (lane & 1) * 8 + (lane & 2) * 2) = both;
        }
    }
}

/* ---- tiles of 8 and 16 tokens: mma.sync
 * ---------------------------------------------------------- */

/* What a warp needs for 64 columns of its row tiles: loaded one group ahead, because a decoding
 * warp has few neighbours to hide the latency of shared memory behind. */
template <class F, int N, int TILES> struct gemm_group {
    F weights[TILES];
    uint4 x[N / 8][2];

    /* q: which 64 columns of the stage; tile: the warp's first row tile. */
    template <class S>
    __device__ __forceinline__ void load(const uint8_t *stage, int q, int tile, int lane)
    {
#pragma unroll
        for (int m = 0; m < TILES; m++) {
            const int t = tile + m;
            weights[m].load(stage + (t / 4) * S::blob_stride + q / 2 * S::blob_bytes, q & 1, t % 4,
                            lane);
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
                uint32_t a[4];
                weights[m].step(q & 1, j, a);
#pragma unroll
                for (int n = 0; n < N / 8; n++) {
                    const uint4 b = x[n][j >> 1];
                    mma_bf16(&c[m][4 * n], a, j & 1 ? b.z : b.x, j & 1 ? b.w : b.y);
                }
            }
        }
    }
};

template <class F, class S, int N, int TILES, int HALVES>
__device__ __forceinline__ void unit_mma(const gemm_args &p, const gemm_walk &walk,
                                         const uint8_t *smem, gemm_ring &ring)
{
    const int thread = thread_again(), warp = thread >> 5, lane = thread & 31,
              k_blobs = (p.cols + 127) / 128;
    float c[TILES][N / 2] = {};
    for (int k0 = 0; k0 < k_blobs; k0 += HALVES) {
        barrier_wait(ring.full<S>(p, ring.stage), ring.parity);
        const uint8_t *stage = smem + ring.stage * S::stage;
        const int groups = 2 * min(HALVES, k_blobs - k0);
        gemm_group<F, N, TILES> group[2];
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
    const tile_entry entry = walk.entry();
    const gemm_finish finish(p, entry.expert);
#pragma unroll
    for (int m = 0; m < TILES; m++)
        gemm_store<N>(p, entry, c[m], finish, walk.row_block() * S::rows + (warp * TILES + m) * 16);
}

/* ---- tiles of 32 tokens and more: wgmma
 * ---------------------------------------------------------- */

template <class F, class S, int N, int GROUPS, int TILES, int HALVES>
__device__ __forceinline__ void unit_wgmma(const gemm_args &p, const gemm_walk &walk,
                                           const uint8_t *smem, gemm_ring &ring)
{
    const int thread = thread_again(), warp = thread >> 5, lane = thread & 31;
    const int chunks = ((p.cols + 127) / 128 + HALVES - 1) / HALVES;
    int pending = -1;
    /* activations of the first stage, and steps along K from there: additions only */
    const uint32_t x0 = wgmma_descriptor_low(ring.base + S::blobs * S::blob_stride, N * 16);
    float c[TILES][N / 2];
#pragma unroll
    for (int m = 0; m < TILES; m++)
#pragma unroll
        for (int i = 0; i < N / 2; i++)
            c[m][i] = 0.0f;
    for (int chunk = 0; chunk < chunks; chunk++) {
        barrier_wait(ring.full<S>(p, ring.stage), ring.parity);
        const uint8_t *at = smem + ring.stage * S::stage;
        const uint32_t xs = x0 + ring.stage * (S::stage / 16);
        uint32_t a[2][16];
        /* a group is 64 columns of one row tile: four steps, decoded while the group before runs */
#pragma unroll
        for (int i = 0; i < 2 * HALVES * TILES; i++) {
            const int q = i / TILES, m = i % TILES, half = q / 2;
            const uint8_t *blob =
                at + (m * GROUPS + warp / 4) * S::blob_stride + half * S::blob_bytes;
            F weights;
            if (!F::as_loaded) weights.load(blob, q & 1, warp % 4, lane);
            wgmma_wait<1>();
            if (F::as_loaded) weights.load(blob, q & 1, warp % 4, lane);
            if (i == 1) { /* the last group of the stage before has been read */
                __syncwarp();
                barrier_arrive_if(ring.empty<S>(p, pending), pending >= 0 && lane == 0);
                pending = ring.stage;
            }
#pragma unroll
            for (int j = 0; j < 4; j++)
                weights.step(q & 1, j, &a[i & 1][4 * j]);
            wgmma_fence();
#pragma unroll
            for (int j = 0; j < 4; j++)
                wgmma_bf16<N>(c[m], &a[i & 1][4 * j],
                              wgmma_descriptor(xs + (q * 4 + j) * (N * 32 / 16), 128));
            wgmma_commit();
        }
        ring.next(p);
    }
    wgmma_wait<0>();
    barrier_arrive_if(ring.empty<S>(p, pending), lane == 0);
    const tile_entry entry = walk.entry();
    const gemm_finish finish(p, entry.expert);
#pragma unroll
    for (int m = 0; m < TILES; m++)
        gemm_store<N>(p, entry, c[m], finish,
                      walk.row_block() * S::rows + (m * 4 * GROUPS + warp) * 16);
}

/* ---- the kernel
 * ----------------------------------------------------------------------------------- */

template <class F, class S, int N, int GROUPS, int TILES, int HALVES>
__device__ void multiply_units(const gemm_args &p, gemm_walk walk, const uint8_t *smem,
                               gemm_ring ring)
{
    for (; walk.more(); walk.next()) {
        if constexpr (S::wide)
            unit_wgmma<F, S, N, GROUPS, TILES, HALVES>(p, walk, smem, ring);
        else if (walk.entry().n == 8)
            unit_mma<F, S, 8, TILES, HALVES>(p, walk, smem, ring);
        else
            unit_mma<F, S, 16, TILES, HALVES>(p, walk, smem, ring);
    }
}

/* NOTE: the kernels of one GEMM depend only on its plan, so each but the first starts without
 * waiting: it was launched when every block of the one before had passed its own wait.  Block 0
 * waits at the end, so that the last kernel's end is the end of all. */
template <class F, int FAMILY, int GROUPS, int TILES, int HALVES, int CTAS>
__global__ void __launch_bounds__(gemm_shape<F, family_n(FAMILY), GROUPS, TILES, HALVES>::threads,
                                  CTAS) grouped_gemm(gemm_args p)
{
    using S = gemm_shape<F, family_n(FAMILY), GROUPS, TILES, HALVES>;
    extern __shared__ __align__(1024) uint8_t smem[];
    __shared__ tile_entry few[FEW_ROWS];
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
    if (FAMILY == 0 && !p.count && warp == 0) plan_few(few, &n_few, p.offsets, p.experts);
    __syncthreads();
    const bool listed = FAMILY > 0 || p.count;
    const gemm_walk walk(listed ? p.entries : few, listed ? *p.count : n_few, p.out_rows, S::rows);
    gemm_ring ring = {base, 0, 0};
    if (warp >= S::warps) {
        ring.parity = 1;
        if (S::whole) registers_fewer<S::copy_registers>();
        if (warp == S::warps) gemm_copy<S, HALVES>(p, walk, ring);
    } else {
        if (S::whole) registers_more<S::registers>();
        multiply_units<F, S, family_n(FAMILY), GROUPS, TILES, HALVES>(p, walk, smem, ring);
    }
    if (!p.first && blockIdx.x == 0) wait_for_previous();
}

#endif
