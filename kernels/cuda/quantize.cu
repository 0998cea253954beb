/* quantize.cu - block scales and codes, a thread for 16 values; the rules are those of moe/format.
 */
#include "config.h"
#include "kernels/cuda/encode.cuh"
#include "kernels/cuda/quantize.h"
#include "kernels/cuda/search.cuh"

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <float.h>

namespace
{

enum { THREADS = 256, SIDE = 128 };

/* ---- 16 values as float32 ---------------------------------------------------------------------
 */

/* E4M3 keeps the sign of -0; E2M1 has none of it, so there -0 becomes 0. */
template <bool SIGN> __device__ __forceinline__ float zero(float v)
{
    return SIGN ? v : __fadd_rn(v, 0.0f);
}

/* Sixteen values as they lie in memory. */
template <class IN> struct raw16 {
    static constexpr int parts = 16 * sizeof(IN) / 16;
    uint4 part[parts];

    __device__ __forceinline__ void load(const IN *x)
    {
#pragma unroll
        for (int i = 0; i < parts; i++)
            part[i] = __ldcs((const uint4 *)x + i);
    }
    template <bool SIGN> __device__ __forceinline__ void values(float *v) const
    {
#pragma unroll
        for (int i = 0; i < parts; i++) {
            const uint32_t word[4] = {part[i].x, part[i].y, part[i].z, part[i].w};
#pragma unroll
            for (int j = 0; j < 4; j++) {
                if (sizeof(IN) == 4) {
                    v[4 * i + j] = zero<SIGN>(__uint_as_float(word[j]));
                } else {
                    v[8 * i + 2 * j] = zero<SIGN>(__uint_as_float(word[j] << 16));
                    v[8 * i + 2 * j + 1] = zero<SIGN>(__uint_as_float(word[j] & 0xffff0000u));
                }
            }
        }
    }
    __device__ __forceinline__ float largest() const
    {
        float v[16], top = 0.0f;
        values<true>(v);
#pragma unroll
        for (int i = 0; i < 16; i++)
            top = fmaxf(top, fabsf(v[i]));
        return top;
    }
    __device__ __forceinline__ uint4 e4m3(const divider &by) const
    {
        float v[16];
        values<true>(v);
        return e4m3_16(v, by);
    }
};

__device__ __forceinline__ float load1(const uint16_t *x)
{
    return __uint_as_float((uint32_t)*x << 16);
}
__device__ __forceinline__ float load1(const float *x)
{
    return *x;
}

/* ---- the rules that choose a scale (moe/format/parts.c) -------------------------------------- */

__device__ __forceinline__ float scale_by(float amax, float top)
{
    if (amax == 0.0f) return 1.0f;
    const float scale = __fdiv_rn(amax, top);
    return scale > 0.0f ? scale : FLT_TRUE_MIN;
}

__device__ __forceinline__ float scale_fp8(float amax)
{
    return amax == 0.0f ? 1.0f : __fdiv_rn(fmaxf(amax, FLT_MIN), 448.0f);
}

__device__ __forceinline__ uint32_t scale_e8m0(float amax, uint32_t carry, int down)
{
    const uint32_t bits = __float_as_uint(amax);
    const int exponent = (int)((bits + carry) >> 23) - down;
    return bits == 0 ? 127 : exponent < 0 ? 0 : (uint32_t)exponent;
}

/* ---- formats with a scale for 16, 32 or 128 columns ------------------------------------------ */

/* A format says how many threads share a scale, and what they do with 16 values whose common
 * largest magnitude is top.  at: which 16 of the tensor; writes: whether this thread stores the
 * scale. */
/* The codes of a block under scale s. */
__device__ __forceinline__ void nvfp4_block(uint8_t *codes, uint8_t *scales, uint64_t at,
                                            const float *v, float top, uint32_t s, float ws2)
{
    const divider by(fmaxf(__fmul_rn(e4m3_value(s), ws2), FLT_TRUE_MIN), top);
    scales[at] = (uint8_t)s;
    ((uint2 *)codes)[at] = e2m1_16(v, by, top);
}

struct nvfp4 {
    static constexpr int share = 1;
    static constexpr bool sign = false;
    uint8_t *codes, *scales;
    const float *global;
    __device__ __forceinline__ void operator()(const float *v, float top, uint64_t at, bool) const
    {
        const float ws2 = *global;
        const float ratio = divider(__fmul_rn(6.0f, ws2), top).quotient(top);
        uint32_t s = e4m3_of(ratio);
        if (s == 0) s = ratio == 0.0f ? 0x38 : 0x01;
        nvfp4_block(codes, scales, at, v, top, s, ws2);
    }
};

struct nvfp4_mse {
    static constexpr int share = 1;
    static constexpr bool sign = false;
    uint8_t *codes, *scales;
    const float *global;
    __device__ __forceinline__ void operator()(const float *v, float top, uint64_t at, bool) const
    {
        const float ws2 = *global;
        nvfp4_block(codes, scales, at, v, top, top == 0.0f ? 0x38 : search_scale(v, ws2), ws2);
    }
};

struct mxfp4 {
    static constexpr int share = 2;
    static constexpr bool sign = false;
    uint8_t *codes, *scales;
    __device__ __forceinline__ void operator()(const float *v, float top, uint64_t at,
                                               bool writes) const
    {
        const uint32_t s = scale_e8m0(top, 0x200000, 2);
        if (writes) scales[at / share] = (uint8_t)s;
        ((uint2 *)codes)[at] = e2m1_16(v, divider(e8m0_value(s), top), top);
    }
};

struct mxfp8 {
    static constexpr int share = 2;
    static constexpr bool sign = true;
    uint8_t *codes, *scales;
    __device__ __forceinline__ void operator()(const float *v, float top, uint64_t at,
                                               bool writes) const
    {
        const uint32_t s = scale_e8m0(top, 0x1fffff, 8);
        if (writes) scales[at / share] = (uint8_t)s;
        ((uint4 *)codes)[at] = e4m3_16(v, divider(e8m0_value(s), top));
    }
};

template <int SHARE> struct int4_groups {
    static constexpr int share = SHARE;
    static constexpr bool sign = false;
    uint8_t *codes;
    float *scales;
    __device__ __forceinline__ void operator()(const float *v, float top, uint64_t at,
                                               bool writes) const
    {
        const float s = scale_by(top, 7.5f);
        if (writes) scales[at / share] = s;
        ((uint2 *)codes)[at] = int4_16(v, divider(s, top));
    }
};

struct fp8_tensor {
    static constexpr int share = 1;
    static constexpr bool sign = true;
    uint8_t *codes;
    const float *global;
    __device__ __forceinline__ void operator()(const float *v, float top, uint64_t at, bool) const
    {
        ((uint4 *)codes)[at] = e4m3_16(v, divider(*global, top));
    }
};

/* n: how many sixteens; the last threads repeat the last one, so that whole warps exchange. */
template <class IN, class F>
__global__ void __launch_bounds__(THREADS) encode_groups(F f, const IN *x, uint64_t n)
{
    const uint64_t i = (uint64_t)blockIdx.x * THREADS + threadIdx.x, at = i < n ? i : n - 1;
    raw16<IN> raw;
    raw.load(x + 16 * at);
    float v[16], top = raw.largest();
    raw.template values<F::sign>(v);
#pragma unroll
    for (int d = 1; d < F::share; d *= 2)
        top = fmaxf(top, __shfl_xor_sync(~0u, top, d));
    if (i < n) f(v, top, at, at % F::share == 0);
}

/* What is left of a tensor after its last whole 16. */
template <class IN>
__global__ void encode_rest(uint8_t *codes, const IN *x, uint64_t first, uint64_t n,
                            const float *scale)
{
    const uint64_t i = first + threadIdx.x;
    if (i < n) codes[i] = e4m3_of(__fdiv_rn(load1(x + i), *scale));
}

/* ---- FP8 by row and by tile ------------------------------------------------------------------ */

__device__ __forceinline__ float block_largest(float v, float *scratch)
{
#pragma unroll
    for (int d = 16; d; d /= 2)
        v = fmaxf(v, __shfl_xor_sync(~0u, v, d));
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = v;
    __syncthreads();
    v = threadIdx.x % 32 < THREADS / 32 ? scratch[threadIdx.x % 32] : 0.0f;
#pragma unroll
    for (int d = THREADS / 64; d; d /= 2)
        v = fmaxf(v, __shfl_xor_sync(~0u, v, d));
    v = __shfl_sync(~0u, v, 0);
    __syncthreads();
    return v;
}

/* A block takes rows round robin.  HELD > 0: cols <= 16 * THREADS * HELD and a multiple of 16, and
 * the row stays in registers; 0: it is read twice. */
template <class IN, int HELD>
__global__ void __launch_bounds__(THREADS)
    encode_rows(uint8_t *codes, float *scales, const IN *x, uint64_t rows, uint64_t cols)
{
    __shared__ float scratch[THREADS / 32];
    for (uint64_t r = blockIdx.x; r < rows; r += gridDim.x) {
        const IN *row = x + r * cols;
        raw16<IN> held[HELD > 0 ? HELD : 1];
        float top = 0.0f;
#pragma unroll
        for (int i = 0; i < HELD; i++) {
            const uint64_t c = ((uint64_t)i * THREADS + threadIdx.x) * 16;
            if (c < cols) held[i].load(row + c);
        }
#pragma unroll
        for (int i = 0; i < HELD; i++)
            if (((uint64_t)i * THREADS + threadIdx.x) * 16 < cols)
                top = fmaxf(top, held[i].largest());
        for (uint64_t c = threadIdx.x; HELD == 0 && c < cols; c += THREADS)
            top = fmaxf(top, fabsf(load1(row + c)));
        top = block_largest(top, scratch);
        const divider by(scale_fp8(top), top);
        if (threadIdx.x == 0) scales[r] = by.d;
#pragma unroll
        for (int i = 0; i < HELD; i++) {
            const uint64_t c = ((uint64_t)i * THREADS + threadIdx.x) * 16;
            if (c < cols) *(uint4 *)(codes + r * cols + c) = held[i].e4m3(by);
        }
        for (uint64_t c = threadIdx.x; HELD == 0 && c < cols; c += THREADS)
            codes[r * cols + c] = e4m3_of(signed_quotient(by, load1(row + c)));
    }
}

/* A block takes tiles of 128 x 128 round robin; WHOLE: cols % 16 == 0, values stay in registers. */
template <class IN, bool WHOLE>
__global__ void __launch_bounds__(THREADS)
    encode_tiles(uint8_t *codes, float *scales, const IN *x, uint64_t rows, uint64_t cols)
{
    enum { PASSES = SIDE * SIDE / 16 / THREADS, ROWS = SIDE / PASSES };
    __shared__ float scratch[THREADS / 32];
    const uint64_t across = (cols + SIDE - 1) / SIDE, tiles = (rows + SIDE - 1) / SIDE * across;
    for (uint64_t t = blockIdx.x; t < tiles; t += gridDim.x) {
        const uint64_t row0 = t / across * SIDE, col0 = t % across * SIDE;
        raw16<IN> held[PASSES];
        float top = 0.0f;
        const uint64_t col = col0 + threadIdx.x % 8 * 16, row = row0 + threadIdx.x / 8;
#pragma unroll
        for (int i = 0; i < PASSES; i++)
            if (WHOLE && row + i * ROWS < rows && col < cols)
                held[i].load(x + (row + i * ROWS) * cols + col);
#pragma unroll
        for (int i = 0; i < PASSES; i++)
            if (WHOLE && row + i * ROWS < rows && col < cols) top = fmaxf(top, held[i].largest());
        for (uint64_t i = threadIdx.x; !WHOLE && i < SIDE * SIDE; i += THREADS)
            if (row0 + i / SIDE < rows && col0 + i % SIDE < cols)
                top = fmaxf(top, fabsf(load1(x + (row0 + i / SIDE) * cols + col0 + i % SIDE)));
        top = block_largest(top, scratch);
        const divider by(scale_fp8(top), top);
        if (threadIdx.x == 0) scales[t] = by.d;
#pragma unroll
        for (int i = 0; i < PASSES; i++)
            if (WHOLE && row + i * ROWS < rows && col < cols)
                *(uint4 *)(codes + (row + i * ROWS) * cols + col) = held[i].e4m3(by);
        for (uint64_t i = threadIdx.x; !WHOLE && i < SIDE * SIDE; i += THREADS) {
            const uint64_t at = (row0 + i / SIDE) * cols + col0 + i % SIDE;
            if (row0 + i / SIDE < rows && col0 + i % SIDE < cols)
                codes[at] = e4m3_of(signed_quotient(by, load1(x + at)));
        }
    }
}

/* ---- one number a tensor --------------------------------------------------------------------- */

template <class IN>
__global__ void __launch_bounds__(THREADS) amax_all(uint32_t *out, const IN *x, uint64_t n)
{
    const uint64_t step = (uint64_t)gridDim.x * THREADS * 16;
    uint32_t top = 0;
    uint64_t i = ((uint64_t)blockIdx.x * THREADS + threadIdx.x) * 16;
    for (; i + 16 <= n; i += step) {
        raw16<IN> raw;
        float v[16];
        raw.load(x + i);
        raw.template values<true>(v);
#pragma unroll
        for (int j = 0; j < 16; j++)
            top = max(top, __float_as_uint(v[j]) & 0x7fffffffu);
    }
    for (; i < n; i++)
        top = max(top, __float_as_uint(load1(x + i)) & 0x7fffffffu);
    top = __reduce_max_sync(~0u, top);
    if (top > 0x7f800000u) top = 0x7fc00000u;
    if (threadIdx.x % 32 == 0) atomicMax(out, top);
}

__global__ void global_scale(float *global, const float *amax, float top)
{
    *global = scale_by(*amax, top);
}

/* ---- launches -------------------------------------------------------------------------------- */

int processors()
{
    int device = 0, n = 0;
    if (cudaGetDevice(&device) == cudaSuccess)
        (void)cudaDeviceGetAttribute(&n, cudaDevAttrMultiProcessorCount, device);
    return n > 0 ? n : 1;
}

struct job {
    tmb_encoder encoder;
    uint8_t *codes;
    void *scales;
    uint64_t rows, cols;
    const float *global;
    cudaStream_t stream;
};

template <class IN, class F> void launch_groups(const job &j, const IN *x, F f)
{
    const uint64_t n = j.rows * j.cols / 16;
    if (n)
        encode_groups<<<(unsigned)((n + THREADS - 1) / THREADS), THREADS, 0, j.stream>>>(f, x, n);
}

template <class IN> void launch(const job &j, const IN *x)
{
    const uint64_t n = j.rows * j.cols;
    uint8_t *bytes = (uint8_t *)j.scales;
    float *floats = (float *)j.scales;
    const unsigned grid = (unsigned)(processors() * 8);
    switch (j.encoder) {
    case TMB_ENC_NVFP4:
        return launch_groups(j, x, nvfp4{j.codes, bytes, j.global});
    case TMB_ENC_NVFP4_MSE:
        return launch_groups(j, x, nvfp4_mse{j.codes, bytes, j.global});
    case TMB_ENC_MXFP4:
        return launch_groups(j, x, mxfp4{j.codes, bytes});
    case TMB_ENC_MXFP8:
        return launch_groups(j, x, mxfp8{j.codes, bytes});
    case TMB_ENC_INT4_G128:
        return launch_groups(j, x, int4_groups<8>{j.codes, floats});
    case TMB_ENC_INT4_G32:
        return launch_groups(j, x, int4_groups<2>{j.codes, floats});
    case TMB_ENC_FP8_TENSOR:
        launch_groups(j, x, fp8_tensor{j.codes, j.global});
        if (n % 16) encode_rest<<<1, 16, 0, j.stream>>>(j.codes, x, n / 16 * 16, n, j.global);
        return;
    case TMB_ENC_FP8_CHANNEL:
        if (j.cols % 16 || j.cols > 16 * 4 * THREADS)
            encode_rows<IN, 0><<<grid, THREADS, 0, j.stream>>>(j.codes, floats, x, j.rows, j.cols);
        else if (j.cols <= 16 * THREADS)
            encode_rows<IN, 1><<<grid, THREADS, 0, j.stream>>>(j.codes, floats, x, j.rows, j.cols);
        else if (j.cols <= 16 * 2 * THREADS)
            encode_rows<IN, 2><<<grid, THREADS, 0, j.stream>>>(j.codes, floats, x, j.rows, j.cols);
        else
            encode_rows<IN, 4><<<grid, THREADS, 0, j.stream>>>(j.codes, floats, x, j.rows, j.cols);
        return;
    case TMB_ENC_FP8_BLOCK:
        if (j.cols % 16)
            encode_tiles<IN, false>
                <<<grid, THREADS, 0, j.stream>>>(j.codes, floats, x, j.rows, j.cols);
        else
            encode_tiles<IN, true>
                <<<grid, THREADS, 0, j.stream>>>(j.codes, floats, x, j.rows, j.cols);
        return;
    default:
        return;
    }
}

tmb_status launched(tmb_err *err, const char *what)
{
    const cudaError_t error = cudaGetLastError();
    if (error == cudaSuccess) return TMB_OK;
    return tmb_fail(err, TMB_EUNAVAILABLE, "CUDA: %s: %s", what, cudaGetErrorString(error));
}

} // namespace

extern "C" tmb_status tmb_cuda_amax(float *out, const void *x, tmb_dtype dtype, uint64_t n,
                                    void *stream, tmb_err *err)
{
    const uint64_t wanted = (n + THREADS * 16 - 1) / (THREADS * 16);
    const unsigned most = (unsigned)processors() * 8;
    const unsigned grid = wanted < most ? (wanted ? (unsigned)wanted : 1) : most;
    if (dtype == TMB_BF16)
        amax_all<<<grid, THREADS, 0, (cudaStream_t)stream>>>((uint32_t *)out, (const uint16_t *)x,
                                                             n);
    else if (dtype == TMB_F32)
        amax_all<<<grid, THREADS, 0, (cudaStream_t)stream>>>((uint32_t *)out, (const float *)x, n);
    else
        return tmb_fail(err, TMB_EINTERNAL, "GPU quantize: input is %s, not BF16 or F32",
                        tmb_dtype_name(dtype));
    return launched(err, "largest magnitude");
}

extern "C" tmb_status tmb_cuda_global_scale(tmb_encoder encoder, float *global, const float *amax,
                                            void *stream, tmb_err *err)
{
    const bool two_levels = encoder == TMB_ENC_NVFP4 || encoder == TMB_ENC_NVFP4_MSE;
    global_scale<<<1, 1, 0, (cudaStream_t)stream>>>(global, amax, two_levels ? 2688.0f : 448.0f);
    return launched(err, "global scale");
}

extern "C" tmb_status tmb_cuda_encode(tmb_encoder encoder, void *codes, void *scales,
                                      const void *x, tmb_dtype dtype, uint64_t rows, uint64_t cols,
                                      const float *global, void *stream, tmb_err *err)
{
    static const unsigned multiple[TMB_ENCODERS] = {16, 16, 32, 32, 128, 32, 1, 1, 1};
    if ((unsigned)encoder >= TMB_ENCODERS || cols % multiple[encoder] ||
        (dtype != TMB_BF16 && dtype != TMB_F32))
        return tmb_fail(err, TMB_EINTERNAL, "GPU quantize: encoder %d, %s, %llu columns",
                        (int)encoder, tmb_dtype_name(dtype), (unsigned long long)cols);
    if (!rows || !cols) return TMB_OK;
    const job j = {encoder, (uint8_t *)codes, scales, rows, cols, global, (cudaStream_t)stream};
    if (dtype == TMB_BF16)
        launch(j, (const uint16_t *)x);
    else
        launch(j, (const float *)x);
    return launched(err, "quantize");
}
