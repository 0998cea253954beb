/* compare.cu - what codes differ from the weight by: tmb_ops.compare of kernels/cpu, to the bit.
 *
 * A sum has sixteen lanes in double, so sixteen threads walk a piece, and there are as many pieces
 * as the processor's encoder makes; they are short, and many run at once. */
#include "config.h"
#include "kernels/cuda/encode.cuh"
#include "kernels/cuda/quantize.h"

#include <cuda_runtime.h>

namespace
{

enum { LANES = 16, THREADS = 32, AHEAD = 8, SIDE = 128 };

__device__ __forceinline__ float value_of(uint16_t x)
{
    return __uint_as_float((uint32_t)x << 16);
}
__device__ __forceinline__ float value_of(float x)
{
    return x;
}

__device__ __forceinline__ uint32_t nibble(const uint8_t *codes, uint64_t at)
{
    return codes[at / 2] >> (at % 2 * 4) & 15u;
}
__device__ __forceinline__ float e2m1(uint32_t code)
{
    const uint32_t m = code & 7u;
    const uint32_t bits = m < 2 ? m * 0x3f000000u : (m << 22) + (126u << 23);
    return __uint_as_float(bits | (code & 8u) << 28);
}
__device__ __forceinline__ float e4m3(uint32_t code)
{
    return copysignf(e4m3_value(code & 0x7fu), code & 0x80u ? -1.0f : 1.0f);
}

/* What a format's code stands for.  at: which element of the weight, in row `row` and column `col`.
 */
struct parts {
    const uint8_t *codes;
    const void *scales;
    const float *global;
    uint32_t across; /* FP8 by tile: scales in a row */
};
struct of_nvfp4 : parts {
    __device__ __forceinline__ float operator()(uint64_t at, uint32_t, uint32_t) const
    {
        const float s = __fmul_rn(e4m3_value(((const uint8_t *)scales)[at / 16]), *global);
        return __fmul_rn(e2m1(nibble(codes, at)), s);
    }
};
struct of_mxfp4 : parts {
    __device__ __forceinline__ float operator()(uint64_t at, uint32_t, uint32_t) const
    {
        return __fmul_rn(e2m1(nibble(codes, at)), e8m0_value(((const uint8_t *)scales)[at / 32]));
    }
};
struct of_mxfp8 : parts {
    __device__ __forceinline__ float operator()(uint64_t at, uint32_t, uint32_t) const
    {
        return __fmul_rn(e4m3(codes[at]), e8m0_value(((const uint8_t *)scales)[at / 32]));
    }
};
template <int GROUP> struct of_int4 : parts {
    __device__ __forceinline__ float operator()(uint64_t at, uint32_t, uint32_t) const
    {
        return __fmul_rn((float)((int)nibble(codes, at) - 8), ((const float *)scales)[at / GROUP]);
    }
};
struct of_fp8_tensor : parts {
    __device__ __forceinline__ float operator()(uint64_t at, uint32_t, uint32_t) const
    {
        return __fmul_rn(e4m3(codes[at]), *global);
    }
};
struct of_fp8_channel : parts {
    __device__ __forceinline__ float operator()(uint64_t at, uint32_t row, uint32_t) const
    {
        return __fmul_rn(e4m3(codes[at]), ((const float *)scales)[row]);
    }
};
struct of_fp8_block : parts {
    __device__ __forceinline__ float operator()(uint64_t at, uint32_t row, uint32_t col) const
    {
        const uint64_t tile = (uint64_t)(row / SIDE) * across + col / SIDE;
        return __fmul_rn(e4m3(codes[at]), ((const float *)scales)[tile]);
    }
};

struct sums {
    double signal, noise, dot, power, worst;
    /* NOTE: a product of two float32 is exact in double, so a fused one rounds no differently; the
     * square of a difference is not. */
    __device__ __forceinline__ void add(float ref, float got)
    {
        const double r = ref, g = got, d = __dsub_rn(r, g);
        signal = __fma_rn(r, r, signal);
        noise = __dadd_rn(noise, __dmul_rn(d, d));
        dot = __fma_rn(r, g, dot);
        power = __fma_rn(g, g, power);
        worst = fmax(worst, fabs(d));
    }
};

__device__ __forceinline__ double fold(double v)
{
#pragma unroll
    for (int half = LANES / 2; half; half /= 2)
        v = __dadd_rn(v, __shfl_down_sync(~0u, v, half, LANES));
    return v;
}

/* Which rows a piece has: pieces of `rows` rows, cut off at the end of each tile. */
struct cut {
    uint32_t rows, cols, piece, a_tile, n;
};

template <class IN, class F>
__global__ void __launch_bounds__(THREADS)
    compare_pieces(tmb_sums *out, F decode, const IN *x, cut by)
{
    const uint32_t lane = threadIdx.x % LANES;
    const uint32_t mine = blockIdx.x * (THREADS / LANES) + threadIdx.x / LANES;
    const uint32_t p = min(mine, by.n - 1), tile = p / by.a_tile;
    uint32_t row = tile * SIDE + p % by.a_tile * by.piece, col = lane;
    const uint32_t end = min(min(row + by.piece, (tile + 1) * SIDE), by.rows);
    const uint64_t base = (uint64_t)row * by.cols, n = (uint64_t)(end - row) * by.cols;
    sums s = {};
    uint64_t i = lane;
    while (i < n) {
        float ref[AHEAD], got[AHEAD];
#pragma unroll
        for (int j = 0; j < AHEAD; j++) {
            const uint64_t at = i + (uint64_t)j * LANES;
            for (; col >= by.cols; col -= by.cols)
                row++;
            ref[j] = at < n ? value_of(x[base + at]) : 0.0f;
            got[j] = at < n ? decode(base + at, row, col) : 0.0f;
            col += LANES;
        }
#pragma unroll
        for (int j = 0; j < AHEAD; j++)
            if (i + (uint64_t)j * LANES < n) s.add(ref[j], got[j]);
        i += AHEAD * LANES;
    }
    s.signal = fold(s.signal);
    s.noise = fold(s.noise);
    s.dot = fold(s.dot);
    s.power = fold(s.power);
#pragma unroll
    for (int half = LANES / 2; half; half /= 2)
        s.worst = fmax(s.worst, __shfl_down_sync(~0u, s.worst, half, LANES));
    if (lane == 0 && mine < by.n) out[p] = {s.signal, s.noise, s.dot, s.power, s.worst};
}

struct job {
    tmb_encoder encoder;
    tmb_sums *out;
    parts from;
    cut by;
    cudaStream_t stream;
};

template <class F, class IN> void launch_as(const job &j, const IN *x)
{
    F decode;
    (parts &)decode = j.from;
    compare_pieces<<<(j.by.n + 1) / 2, THREADS, 0, j.stream>>>(j.out, decode, x, j.by);
}

template <class IN> void launch(const job &j, const IN *x)
{
    switch (j.encoder) {
    case TMB_ENC_NVFP4:
    case TMB_ENC_NVFP4_MSE:
        return launch_as<of_nvfp4>(j, x);
    case TMB_ENC_MXFP4:
        return launch_as<of_mxfp4>(j, x);
    case TMB_ENC_MXFP8:
        return launch_as<of_mxfp8>(j, x);
    case TMB_ENC_INT4_G128:
        return launch_as<of_int4<128>>(j, x);
    case TMB_ENC_INT4_G32:
        return launch_as<of_int4<32>>(j, x);
    case TMB_ENC_FP8_TENSOR:
        return launch_as<of_fp8_tensor>(j, x);
    case TMB_ENC_FP8_CHANNEL:
        return launch_as<of_fp8_channel>(j, x);
    case TMB_ENC_FP8_BLOCK:
        return launch_as<of_fp8_block>(j, x);
    default:
        return;
    }
}

} // namespace

extern "C" uint64_t tmb_cuda_pieces(uint64_t rows, uint64_t piece)
{
    const uint64_t a_tile = (SIDE + piece - 1) / piece, rest = rows % SIDE;
    return rows / SIDE * a_tile + (rest + piece - 1) / piece;
}

extern "C" tmb_status tmb_cuda_compare(tmb_encoder encoder, tmb_sums *out, const void *codes,
                                       const void *scales, const void *x, tmb_dtype dtype,
                                       uint64_t rows, uint64_t cols, uint64_t piece,
                                       const float *global, void *stream, tmb_err *err)
{
    if ((unsigned)encoder >= TMB_ENCODERS || rows > UINT32_MAX / 2 || cols > UINT32_MAX / 2 ||
        !piece || piece > SIDE || (dtype != TMB_BF16 && dtype != TMB_F32))
        return tmb_fail(err, TMB_EINTERNAL, "GPU compare: encoder %d, %s, %llu x %llu",
                        (int)encoder, tmb_dtype_name(dtype), (unsigned long long)rows,
                        (unsigned long long)cols);
    if (!rows || !cols) return TMB_OK;
    const job j = {encoder,
                   out,
                   {(const uint8_t *)codes, scales, global, (uint32_t)((cols + SIDE - 1) / SIDE)},
                   {(uint32_t)rows, (uint32_t)cols, (uint32_t)piece,
                    (uint32_t)((SIDE + piece - 1) / piece),
                    (uint32_t)tmb_cuda_pieces(rows, piece)},
                   (cudaStream_t)stream};
    if (dtype == TMB_BF16)
        launch(j, (const uint16_t *)x);
    else
        launch(j, (const float *)x);
    const cudaError_t error = cudaGetLastError();
    if (error == cudaSuccess) return TMB_OK;
    return tmb_fail(err, TMB_EUNAVAILABLE, "CUDA: compare: %s", cudaGetErrorString(error));
}
