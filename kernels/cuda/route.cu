/* route.cu - a warp for a token's choice; a stable counting sort by expert; a weighted sum. */
#include "config.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/route.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>

namespace
{

/* ---- choosing -------------------------------------------------------------------------------- */

enum { ROUTE_WARPS = 4 };

/* Unsigned numbers that order as the floats do. */
__device__ __forceinline__ uint32_t ordered(float v)
{
    const uint32_t u = __float_as_uint(v);
    return u & 0x80000000u ? ~u : u | 0x80000000u;
}

/* The lane's experts are lane, lane + 32, …: score[i] is that of expert 32 i + lane. */
template <int V>
__device__ __forceinline__ void scores(const tmb_router &r, const float *logits, int lane,
                                       float *score)
{
    float top = -INFINITY, sum = 0.0f;
#pragma unroll
    for (int i = 0; i < V; i++) {
        score[i] = 32 * i + lane < r.experts ? logits[32 * i + lane] : -INFINITY;
        top = fmaxf(top, score[i]);
    }
    if (r.score == TMB_SCORE_SIGMOID) {
#pragma unroll
        for (int i = 0; i < V; i++)
            score[i] = tmb_route_sigmoid(score[i]);
        return;
    }
    for (int d = 16; d; d /= 2)
        top = fmaxf(top, __shfl_xor_sync(~0u, top, d));
#pragma unroll
    for (int i = 0; i < V; i++) {
        if (32 * i + lane >= r.experts) continue;
        score[i] = tmb_route_exp(__fadd_rn(score[i], -top));
        sum += score[i];
    }
    for (int d = 16; d; d /= 2)
        sum += __shfl_xor_sync(~0u, sum, d);
#pragma unroll
    for (int i = 0; i < V; i++)
        score[i] = __fdiv_rn(score[i], sum);
}

/* One bit a group: whether its experts take part.  choice [experts] in shared memory. */
__device__ __forceinline__ unsigned best_groups(const tmb_router &r, const float *choice, int lane)
{
    const int size = r.experts / r.groups;
    float best = -INFINITY, second = -INFINITY;
    for (int i = 0; lane < r.groups && i < size; i++) {
        const float v = choice[lane * size + (i + lane) % size]; /* neighbours read other banks */
        if (v > best) {
            second = best;
            best = v;
        } else if (v > second) {
            second = v;
        }
    }
    const float worth = r.group_rule == TMB_GROUP_TOP_2 ? best + second : best;
    int before = 0;
    for (int g = 0; g < r.groups; g++) {
        const float other = __shfl_sync(~0u, worth, g);
        before += other > worth || (other == worth && g < lane);
    }
    return __ballot_sync(~0u, lane < r.groups && before < r.top_groups);
}

template <int V>
__global__ void __launch_bounds__(32 * ROUTE_WARPS)
    route(tmb_router r, const float *logits, int tokens, int32_t *chosen, float *weight)
{
    extern __shared__ float shared[];
    chain_begin();
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, t = blockIdx.x * ROUTE_WARPS + warp;
    if (t >= tokens) return;
    float score[V], *scratch = shared + warp * r.experts;
    uint32_t key[V];
    scores<V>(r, logits + (size_t)t * r.experts, lane, score);
#pragma unroll
    for (int i = 0; i < V; i++) {
        const int e = 32 * i + lane;
        const float choice = e < r.experts && r.correction ? score[i] + r.correction[e] : score[i];
        key[i] = e < r.experts ? ordered(choice) : 0;
        if (r.groups > 1 && e < r.experts) scratch[e] = choice;
    }
    if (r.groups > 1) {
        __syncwarp();
        const unsigned open = best_groups(r, scratch, lane);
        const int size = r.experts / r.groups;
#pragma unroll
        for (int i = 0; i < V; i++)
            if (32 * i + lane < r.experts && !(open >> ((32 * i + lane) / size) & 1))
                key[i] = ordered(-INFINITY);
    }
    float sum = 0.0f, mine = 0.0f; /* lane k keeps choice k */
    int picked = 0;
    for (int k = 0; k < r.top_k; k++) {
        uint32_t best = 0;
#pragma unroll
        for (int i = 0; i < V; i++)
            best = max(best, key[i]);
        best = __reduce_max_sync(~0u, best);
        int e = TMB_ROUTE_EXPERTS;
        float s = 0.0f;
#pragma unroll
        for (int i = V - 1; i >= 0; i--)
            if (key[i] == best) {
                e = 32 * i + lane;
                s = score[i];
            }
        const int first = __reduce_min_sync(~0u, e);
        s = __shfl_sync(~0u, s, first & 31);
#pragma unroll
        for (int i = 0; i < V; i++)
            if (32 * i + lane == first) key[i] = 0;
        sum += s;
        if (lane == k) {
            picked = first;
            mine = s;
        }
    }
    if (lane >= r.top_k) return;
    if (r.renormalize) mine = __fdiv_rn(mine, __fadd_rn(sum, 1e-20f));
    chosen[(size_t)t * r.top_k + lane] = picked;
    weight[(size_t)t * r.top_k + lane] = __fmul_rn(mine, r.scale);
}

/* ---- sorting ----------------------------------------------------------------------------------
 */

enum { SORT_THREADS = 1024, SORT_WARPS = 32, SORT_EACH = 8, SORT_CHUNK = SORT_THREADS * SORT_EACH };

struct sort_args {
    tmb_route_plan plan;
    const int32_t *chosen, *slot;
    int n, top_k, slots;
    int32_t *before; /* [blocks, slots]: first counts, then how many rows come before */
};

/* The entries of a warp are one after another; entry i of a thread is number 32 i + lane of them.
 */
struct sorter {
    uint16_t *count; /* [SORT_WARPS, slots] in shared memory */
    int32_t slot[SORT_EACH], rank[SORT_EACH];
    int first, each;

    /* count = rows a warp has of each slot; rank = place among the warp's rows of the same slot. */
    __device__ void number(const sort_args &a, int begin, int end)
    {
        const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
        each = ((end - begin + SORT_THREADS - 1) / SORT_THREADS);
        first = begin + warp * 32 * each + lane;
        for (int i = threadIdx.x; i < SORT_WARPS * a.slots; i += SORT_THREADS)
            count[i] = 0;
        __syncthreads();
        uint16_t *mine = count + warp * a.slots;
#pragma unroll
        for (int i = 0; i < SORT_EACH; i++) {
            if (i >= each) break;
            const int at = first + 32 * i;
            int s = -1;
            if (at < end) s = a.slot ? a.slot[a.chosen[at]] : a.chosen[at];
            const unsigned same = __match_any_sync(~0u, s);
            slot[i] = s;
            rank[i] = s < 0 ? 0 : mine[s] + __popc(same & ((1u << lane) - 1));
            __syncwarp();
            if (s >= 0 && __ffs(same) - 1 == lane) mine[s] += __popc(same);
            __syncwarp();
        }
        __syncthreads();
    }

    /* count = rows of the warps before; returns the sum over all of them, for the thread's slot. */
    __device__ int scan_warps(const sort_args &a)
    {
        int sum = 0;
        if ((int)threadIdx.x < a.slots) {
            uint16_t c[SORT_WARPS]; /* all read before the first is used */
#pragma unroll
            for (int w = 0; w < SORT_WARPS; w++)
                c[w] = count[w * a.slots + threadIdx.x];
#pragma unroll
            for (int w = 0; w < SORT_WARPS; w++) {
                count[w * a.slots + threadIdx.x] = (uint16_t)sum;
                sum += c[w];
            }
        }
        return sum;
    }

    /* start [slots]: first row of a slot for this block. */
    __device__ void place(const sort_args &a, const int32_t *start, int end) const
    {
        const int warp = threadIdx.x >> 5;
#pragma unroll
        for (int i = 0; i < SORT_EACH; i++) {
            const int at = first + 32 * i;
            if (i >= each || at >= end) break;
            const int s = slot[i];
            const int row = s < 0 ? -1 : start[s] + count[warp * a.slots + s] + rank[i];
            a.plan.row[at] = row;
            if (s >= 0) a.plan.token[row] = at / a.top_k;
        }
    }
};

/* Sum over the threads before; scratch: 32 ints. */
__device__ int sum_before(int v, int32_t *scratch)
{
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    int sum = v;
    for (int d = 1; d < 32; d *= 2) {
        const int other = __shfl_up_sync(~0u, sum, d);
        if (lane >= d) sum += other;
    }
    if (lane == 31) scratch[warp] = sum;
    __syncthreads();
    const int base = __reduce_add_sync(~0u, lane < warp ? scratch[lane] : 0);
    return base + sum - v;
}

/* Everything in one block. */
__global__ void __launch_bounds__(SORT_THREADS) sort_small(sort_args a)
{
    extern __shared__ uint16_t counts[];
    __shared__ int32_t scratch[32], start[TMB_ROUTE_EXPERTS];
    chain_begin();
    sorter s;
    s.count = counts;
    s.number(a, 0, a.n);
    const int mine = s.scan_warps(a), before = sum_before(mine, scratch);
    if ((int)threadIdx.x < a.slots) {
        start[threadIdx.x] = before;
        a.plan.offsets[threadIdx.x] = before;
        if ((int)threadIdx.x == a.slots - 1) a.plan.offsets[a.slots] = before + mine;
    }
    __syncthreads();
    s.place(a, start, a.n);
}

__global__ void __launch_bounds__(SORT_THREADS) sort_count(sort_args a)
{
    extern __shared__ uint16_t counts[];
    chain_begin();
    const int begin = blockIdx.x * SORT_CHUNK;
    sorter s;
    s.count = counts;
    s.number(a, begin, min(begin + SORT_CHUNK, a.n));
    const int mine = s.scan_warps(a);
    if ((int)threadIdx.x < a.slots) a.before[blockIdx.x * a.slots + threadIdx.x] = mine;
}

__global__ void __launch_bounds__(SORT_THREADS) sort_scan(sort_args a, int blocks)
{
    __shared__ int32_t scratch[32];
    chain_begin();
    const int e = threadIdx.x;
    int sum = 0;
    for (int b = 0; e < a.slots && b < blocks; b++)
        sum += a.before[b * a.slots + e];
    int before = sum_before(sum, scratch);
    if (e >= a.slots) return;
    a.plan.offsets[e] = before;
    if (e == a.slots - 1) a.plan.offsets[a.slots] = before + sum;
    for (int b = 0; b < blocks; b++) {
        const int c = a.before[b * a.slots + e];
        a.before[b * a.slots + e] = before;
        before += c;
    }
}

__global__ void __launch_bounds__(SORT_THREADS) sort_place(sort_args a)
{
    extern __shared__ uint16_t counts[];
    chain_begin();
    const int begin = blockIdx.x * SORT_CHUNK, end = min(begin + SORT_CHUNK, a.n);
    sorter s;
    s.count = counts;
    s.number(a, begin, end);
    s.scan_warps(a);
    __syncthreads();
    s.place(a, a.before + blockIdx.x * a.slots, end);
}

/* ---- summing up -------------------------------------------------------------------------------
 */

struct combine_args {
    uint16_t *y;
    const uint16_t *rows;
    const int32_t *row;
    const float *weight;
    const uint16_t *shared;
    const float *shared_gate;
    int top_k, hidden;
};

enum { COMBINE_THREADS = 128 };

__device__ __forceinline__ void add_scaled(float *sum, uint4 v, float w)
{
    const uint32_t word[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        sum[2 * i] = __fmaf_rn(w, __uint_as_float(word[i] << 16), sum[2 * i]);
        sum[2 * i + 1] = __fmaf_rn(w, __uint_as_float(word[i] & 0xffff0000u), sum[2 * i + 1]);
    }
}

/* A thread for 8 columns; AHEAD rows are loaded before the first is added. */
template <int AHEAD> __global__ void __launch_bounds__(COMBINE_THREADS) combine(combine_args a)
{
    chain_begin();
    const int t = blockIdx.x, col = (blockIdx.y * COMBINE_THREADS + threadIdx.x) * 8;
    if (col >= a.hidden) return;
    float sum[8] = {};
    for (int k0 = 0; k0 < a.top_k; k0 += AHEAD) {
        uint4 v[AHEAD];
        float w[AHEAD];
        int row[AHEAD];
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            row[k] = k0 + k < a.top_k ? a.row[(size_t)t * a.top_k + k0 + k] : -1;
            if (row[k] < 0) continue;
            w[k] = a.weight[(size_t)t * a.top_k + k0 + k];
            v[k] = __ldcs((const uint4 *)(a.rows + (size_t)row[k] * a.hidden + col));
        }
#pragma unroll
        for (int k = 0; k < AHEAD; k++)
            if (row[k] >= 0) add_scaled(sum, v[k], w[k]);
    }
    if (a.shared)
        add_scaled(sum, *(const uint4 *)(a.shared + (size_t)t * a.hidden + col),
                   a.shared_gate ? a.shared_gate[t] : 1.0f);
    uint32_t out[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const __nv_bfloat162 two = __floats2bfloat162_rn(sum[2 * i], sum[2 * i + 1]);
        out[i] = *(const uint32_t *)&two;
    }
    *(uint4 *)(a.y + (size_t)t * a.hidden + col) = make_uint4(out[0], out[1], out[2], out[3]);
}

tmb_status launched(const launcher &launch, const char *what, tmb_err *err)
{
    if (launch.error == cudaSuccess) return TMB_OK;
    return tmb_fail(err, TMB_EUNAVAILABLE, "CUDA: %s: %s", what, cudaGetErrorString(launch.error));
}

int sort_blocks(int tokens, int top_k)
{
    return (tokens * top_k + SORT_CHUNK - 1) / SORT_CHUNK;
}

} // namespace

extern "C" tmb_status tmb_cuda_route(const tmb_router *r, const float *logits, int tokens,
                                     int32_t *chosen, float *weight, void *stream, tmb_err *err)
{
    if (tokens <= 0) return TMB_OK;
    launcher launch(stream);
    const dim3 grid((unsigned)(tokens + ROUTE_WARPS - 1) / ROUTE_WARPS);
    const size_t shared = r->groups > 1 ? (size_t)ROUTE_WARPS * r->experts * sizeof(float) : 0;
    const int each = (r->experts + 31) / 32, threads = 32 * ROUTE_WARPS;
    if (each <= 1)
        launch(route<1>, grid, threads, shared, *r, logits, tokens, chosen, weight);
    else if (each <= 2)
        launch(route<2>, grid, threads, shared, *r, logits, tokens, chosen, weight);
    else if (each <= 4)
        launch(route<4>, grid, threads, shared, *r, logits, tokens, chosen, weight);
    else if (each <= 8)
        launch(route<8>, grid, threads, shared, *r, logits, tokens, chosen, weight);
    else if (each <= 16)
        launch(route<16>, grid, threads, shared, *r, logits, tokens, chosen, weight);
    else
        launch(route<32>, grid, threads, shared, *r, logits, tokens, chosen, weight);
    return launched(launch, "route", err);
}

extern "C" uint64_t tmb_cuda_plan_bytes(int tokens, int top_k, int slots)
{
    return (uint64_t)sort_blocks(tokens, top_k) * (uint64_t)slots * sizeof(int32_t);
}

extern "C" tmb_status tmb_cuda_plan(const tmb_route_plan *plan, const int32_t *chosen,
                                    const int32_t *slot, int tokens, int top_k, int slots,
                                    void *work, void *stream, tmb_err *err)
{
    if (slots < 1 || slots > TMB_ROUTE_EXPERTS)
        return tmb_fail(err, TMB_EINTERNAL, "plan: %d experts", slots);
    launcher launch(stream);
    const sort_args a = {*plan, chosen, slot, tokens * top_k, top_k, slots, (int32_t *)work};
    const size_t shared = (size_t)SORT_WARPS * slots * sizeof(uint16_t);
    const int blocks = sort_blocks(tokens, top_k);
    if (blocks <= 1) {
        launch.allow(sort_small, shared);
        launch(sort_small, dim3(1), SORT_THREADS, shared, a);
    } else {
        launch.allow(sort_count, shared);
        launch.allow(sort_place, shared);
        launch(sort_count, dim3((unsigned)blocks), SORT_THREADS, shared, a);
        launch(sort_scan, dim3(1), SORT_THREADS, 0, a, blocks);
        launch(sort_place, dim3((unsigned)blocks), SORT_THREADS, shared, a);
    }
    return launched(launch, "plan", err);
}

extern "C" tmb_status tmb_cuda_combine(uint16_t *y, const uint16_t *rows, const int32_t *row,
                                       const float *weight, const uint16_t *shared,
                                       const float *shared_gate, int tokens, int top_k, int hidden,
                                       void *stream, tmb_err *err)
{
    if (hidden <= 0 || hidden % 8)
        return tmb_fail(err, TMB_EINTERNAL, "combine: %d columns, no multiple of 8", hidden);
    if (tokens <= 0) return TMB_OK;
    launcher launch(stream);
    const combine_args a = {y, rows, row, weight, shared, shared_gate, top_k, hidden};
    const dim3 grid((unsigned)tokens,
                    (unsigned)(hidden / 8 + COMBINE_THREADS - 1) / COMBINE_THREADS);
    if (top_k <= 2)
        launch(combine<2>, grid, COMBINE_THREADS, 0, a);
    else if (top_k <= 4)
        launch(combine<4>, grid, COMBINE_THREADS, 0, a);
    else
        launch(combine<8>, grid, COMBINE_THREADS, 0, a);
    return launched(launch, "combine", err);
}
