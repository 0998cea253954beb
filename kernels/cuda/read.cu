#include "config.h"
#include "kernels/cuda/read.h"

#include <cuda_runtime.h>

namespace
{

__global__ void __launch_bounds__(512)
    read_all(const uint4 *__restrict__ from, uint64_t n, uint32_t *sink)
{
    uint32_t seen = 0;
    const uint64_t step = (uint64_t)gridDim.x * blockDim.x;
    uint64_t i = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x;
    for (; i + 3 * step < n; i += 4 * step) {
        uint4 v[4];
#pragma unroll
        for (int j = 0; j < 4; j++)
            v[j] = __ldcs(from + i + j * step);
#pragma unroll
        for (int j = 0; j < 4; j++)
            seen ^= v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
    }
    for (; i < n; i += step) {
        uint4 v = __ldcs(from + i);
        seen ^= v.x ^ v.y ^ v.z ^ v.w;
    }
    if (seen == 0x12345678u) *sink = seen; /* never, but the compiler cannot know */
}

__global__ void __launch_bounds__(512)
    copy_all(uint4 *__restrict__ to, const uint4 *__restrict__ from, uint64_t n)
{
    const uint64_t step = (uint64_t)gridDim.x * blockDim.x;
    uint64_t i = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x;
    for (; i + 3 * step < n; i += 4 * step) {
        uint4 v[4];
#pragma unroll
        for (int j = 0; j < 4; j++)
            v[j] = __ldcs(from + i + j * step);
#pragma unroll
        for (int j = 0; j < 4; j++)
            __stcs(to + i + j * step, v[j]);
    }
    for (; i < n; i += step)
        to[i] = from[i];
}

} // namespace

extern "C" tmb_status tmb_cuda_read(const void *memory, uint64_t bytes, void *sink, void *stream,
                                    tmb_err *err)
{
    read_all<<<132 * 4, 512, 0, (cudaStream_t)stream>>>((const uint4 *)memory, bytes / 16,
                                                        (uint32_t *)sink);
    cudaError_t error = cudaGetLastError();
    if (error != cudaSuccess)
        return tmb_fail(err, TMB_EUNAVAILABLE, "CUDA: read kernel: %s", cudaGetErrorString(error));
    return TMB_OK;
}

extern "C" tmb_status tmb_cuda_copy_plain(void *to, const void *from, uint64_t bytes, void *stream,
                                          tmb_err *err)
{
    copy_all<<<132 * 4, 512, 0, (cudaStream_t)stream>>>((uint4 *)to, (const uint4 *)from,
                                                        bytes / 16);
    cudaError_t error = cudaGetLastError();
    if (error != cudaSuccess)
        return tmb_fail(err, TMB_EUNAVAILABLE, "CUDA: copy kernel: %s", cudaGetErrorString(error));
    return TMB_OK;
}
