#include "config.h"
#include "kernels/cuda/device.h"

#include "kernels/cuda/cuda_try.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tmb_cuda {
    int index;
    tmb_cuda_info info;
    cudaStream_t stream;
    cudaGraphExec_t graph;
    cudaEvent_t begin, end;
    void **blocks; /* live allocations */
    size_t n_blocks, room;
};

static tmb_status describe(tmb_cuda *d, tmb_err *err)
{
    struct cudaDeviceProp p;
    CUDA_TRY(err, cudaGetDeviceProperties(&p, d->index), "device properties");
    snprintf(d->info.name, sizeof d->info.name, "%s", p.name);
    d->info.major = p.major;
    d->info.minor = p.minor;
    d->info.processors = p.multiProcessorCount;
    d->info.memory_bytes = p.totalGlobalMem;
    CUDA_TRY(err, cudaDeviceGetAttribute(&d->info.clock_khz, cudaDevAttrClockRate, d->index),
             "clock rate");
    return TMB_OK;
}

static tmb_status start(tmb_cuda *d, tmb_err *err)
{
    int count = 0;
    CUDA_TRY(err, cudaGetDeviceCount(&count), "looking for a GPU");
    if (d->index >= count)
        return tmb_fail(err, TMB_EUNAVAILABLE, "CUDA: there is no GPU %d, only %d", d->index,
                        count);
    CUDA_TRY(err, cudaSetDevice(d->index), "choosing the device");
    TRY(describe(d, err));
    CUDA_TRY(err, cudaStreamCreateWithFlags(&d->stream, cudaStreamNonBlocking), "making a stream");
    CUDA_TRY(err, cudaEventCreate(&d->begin), "making an event");
    CUDA_TRY(err, cudaEventCreate(&d->end), "making an event");
    return TMB_OK;
}

tmb_status tmb_cuda_open(tmb_cuda **out, int index, tmb_err *err)
{
    *out = NULL;
    tmb_cuda *d = calloc(1, sizeof *d);
    if (!d) return tmb_fail_memory(err, sizeof *d, "a device");
    d->index = index;
    tmb_status status = start(d, err);
    if (status) {
        tmb_cuda_close(d);
        return status;
    }
    *out = d;
    return TMB_OK;
}

void tmb_cuda_close(tmb_cuda *d)
{
    if (!d) return;
    if (d->stream) cudaStreamSynchronize(d->stream);
    for (size_t i = 0; i < d->n_blocks; i++)
        cudaFree(d->blocks[i]);
    free(d->blocks);
    if (d->graph) cudaGraphExecDestroy(d->graph);
    if (d->begin) cudaEventDestroy(d->begin);
    if (d->end) cudaEventDestroy(d->end);
    if (d->stream) cudaStreamDestroy(d->stream);
    free(d);
}

const tmb_cuda_info *tmb_cuda_about(const tmb_cuda *d)
{
    return &d->info;
}

int tmb_cuda_index(const tmb_cuda *d)
{
    return d->index;
}

void *tmb_cuda_stream(const tmb_cuda *d)
{
    return d->stream;
}

tmb_status tmb_cuda_alloc(tmb_cuda *d, void **out, uint64_t bytes, tmb_err *err)
{
    *out = NULL;
    if (d->n_blocks == d->room) {
        size_t room = d->room ? 2 * d->room : 16;
        void **more = realloc(d->blocks, room * sizeof *more);
        if (!more) return tmb_fail_memory(err, room * sizeof *more, "device allocations");
        d->blocks = more;
        d->room = room;
    }
    void *memory = NULL;
    cudaError_t error = cudaMalloc(&memory, bytes ? bytes : 1);
    if (error != cudaSuccess)
        return tmb_fail(err, TMB_ESYSTEM, "CUDA: %llu bytes of device memory: %s",
                        (unsigned long long)bytes, cudaGetErrorString(error));
    d->blocks[d->n_blocks++] = memory;
    *out = memory;
    return TMB_OK;
}

void tmb_cuda_free(tmb_cuda *d, void *memory)
{
    for (size_t i = 0; i < d->n_blocks; i++) {
        if (d->blocks[i] != memory) continue;
        cudaFree(memory);
        d->blocks[i] = d->blocks[--d->n_blocks];
        return;
    }
}

tmb_status tmb_cuda_upload(tmb_cuda *d, void *to, const void *from, uint64_t bytes, tmb_err *err)
{
    CUDA_TRY(err, cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, d->stream), "upload");
    return tmb_cuda_wait(d, err);
}

tmb_status tmb_cuda_download(tmb_cuda *d, void *to, const void *from, uint64_t bytes, tmb_err *err)
{
    CUDA_TRY(err, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, d->stream), "download");
    return tmb_cuda_wait(d, err);
}

tmb_status tmb_cuda_fill(tmb_cuda *d, void *to, int byte, uint64_t bytes, tmb_err *err)
{
    CUDA_TRY(err, cudaMemsetAsync(to, byte, bytes, d->stream), "fill");
    return TMB_OK;
}

tmb_status tmb_cuda_copy(void *to, const void *from, uint64_t bytes, void *stream, tmb_err *err)
{
    CUDA_TRY(err, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream), "copy");
    return TMB_OK;
}

tmb_status tmb_cuda_wait(tmb_cuda *d, tmb_err *err)
{
    CUDA_TRY(err, cudaStreamSynchronize(d->stream), "waiting for the device");
    return TMB_OK;
}

tmb_status tmb_cuda_graph_begin(tmb_cuda *d, tmb_err *err)
{
    CUDA_TRY(err, cudaStreamBeginCapture(d->stream, cudaStreamCaptureModeThreadLocal), "capture");
    return TMB_OK;
}

tmb_status tmb_cuda_graph_end(tmb_cuda *d, tmb_err *err)
{
    cudaGraph_t graph = NULL;
    CUDA_TRY(err, cudaStreamEndCapture(d->stream, &graph), "capture");
    if (d->graph) cudaGraphExecDestroy(d->graph);
    d->graph = NULL;
    cudaError_t error = cudaGraphInstantiate(&d->graph, graph, 0);
    cudaGraphDestroy(graph);
    CUDA_TRY(err, error, "making a graph");
    return TMB_OK;
}

tmb_status tmb_cuda_graph_time(tmb_cuda *d, float *us, int n, tmb_err *err)
{
    for (int i = 0; i < n; i++) {
        CUDA_TRY(err, cudaEventRecord(d->begin, d->stream), "event");
        CUDA_TRY(err, cudaGraphLaunch(d->graph, d->stream), "graph launch");
        CUDA_TRY(err, cudaEventRecord(d->end, d->stream), "event");
        TRY(tmb_cuda_wait(d, err));
        float ms = 0;
        CUDA_TRY(err, cudaEventElapsedTime(&ms, d->begin, d->end), "event time");
        us[i] = ms * 1e3f;
    }
    return TMB_OK;
}
