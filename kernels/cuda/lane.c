#include "config.h"
#include "kernels/cuda/lane.h"

#include "kernels/cuda/cuda_try.h"

#include <stdlib.h>

struct tmb_lane {
    tmb_cuda *device;
    cudaStream_t stream;
    cudaEvent_t done;
    void *memory, *host;
};

static tmb_status start(tmb_lane *l, uint64_t device_bytes, uint64_t host_bytes, tmb_err *err)
{
    TRY(tmb_lane_enter(l, err));
    CUDA_TRY(err, cudaStreamCreateWithFlags(&l->stream, cudaStreamNonBlocking), "making a stream");
    CUDA_TRY(err,
             cudaEventCreateWithFlags(&l->done, cudaEventBlockingSync | cudaEventDisableTiming),
             "making an event");
    TRY(tmb_cuda_alloc(l->device, &l->memory, device_bytes, err));
    CUDA_TRY(err, cudaHostAlloc(&l->host, host_bytes ? host_bytes : 1, cudaHostAllocDefault),
             "pinned host memory");
    return TMB_OK;
}

tmb_status tmb_lane_open(tmb_lane **out, tmb_cuda *device, uint64_t device_bytes,
                         uint64_t host_bytes, tmb_err *err)
{
    tmb_lane *l = calloc(1, sizeof *l);
    *out = NULL;
    if (!l) return tmb_fail_memory(err, sizeof *l, "a lane to the GPU");
    l->device = device;
    tmb_status status = start(l, device_bytes, host_bytes, err);
    if (status) {
        tmb_lane_close(l);
        return status;
    }
    *out = l;
    return TMB_OK;
}

void tmb_lane_close(tmb_lane *l)
{
    if (!l) return;
    if (l->stream) cudaStreamSynchronize(l->stream);
    if (l->memory) tmb_cuda_free(l->device, l->memory);
    if (l->host) cudaFreeHost(l->host);
    if (l->done) cudaEventDestroy(l->done);
    if (l->stream) cudaStreamDestroy(l->stream);
    free(l);
}

void *tmb_lane_memory(const tmb_lane *l)
{
    return l->memory;
}

void *tmb_lane_host(const tmb_lane *l)
{
    return l->host;
}

void *tmb_lane_stream(const tmb_lane *l)
{
    return l->stream;
}

tmb_status tmb_lane_enter(const tmb_lane *l, tmb_err *err)
{
    CUDA_TRY(err, cudaSetDevice(tmb_cuda_index(l->device)), "choosing the device");
    return TMB_OK;
}

tmb_status tmb_lane_upload(tmb_lane *l, void *to, const void *from, uint64_t rows, uint64_t line,
                           uint64_t stride, tmb_err *err)
{
    if (line == stride)
        CUDA_TRY(err, cudaMemcpyAsync(to, from, rows * line, cudaMemcpyHostToDevice, l->stream),
                 "upload");
    else
        CUDA_TRY(err,
                 cudaMemcpy2DAsync(to, line, from, stride, line, rows, cudaMemcpyHostToDevice,
                                   l->stream),
                 "upload");
    return TMB_OK;
}

tmb_status tmb_lane_download(tmb_lane *l, void *to, const void *from, uint64_t bytes, tmb_err *err)
{
    CUDA_TRY(err, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, l->stream), "download");
    return TMB_OK;
}

tmb_status tmb_lane_zero(tmb_lane *l, void *to, uint64_t bytes, tmb_err *err)
{
    CUDA_TRY(err, cudaMemsetAsync(to, 0, bytes, l->stream), "clearing memory");
    return TMB_OK;
}

tmb_status tmb_lane_wait(tmb_lane *l, tmb_err *err)
{
    CUDA_TRY(err, cudaEventRecord(l->done, l->stream), "event");
    CUDA_TRY(err, cudaEventSynchronize(l->done), "waiting for the device");
    return TMB_OK;
}

bool tmb_cuda_pin(void *memory, uint64_t bytes)
{
    if (cudaHostRegister(memory, bytes, cudaHostRegisterDefault) == cudaSuccess) return true;
    (void)cudaGetLastError(); /* it is told here, not by the next launch */
    return false;
}

void tmb_cuda_unpin(void *memory)
{
    cudaHostUnregister(memory);
}
