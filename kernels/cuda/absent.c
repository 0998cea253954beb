/* absent.c - what a build without CUDA, or without its sm_90a kernels, answers. */
#include "config.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/read.h"
#include "kernels/cuda/w4a16.h"

#ifndef HAVE_CUDA

static tmb_status absent(tmb_err *err)
{
    return tmb_fail(err, TMB_EUNAVAILABLE,
                    "this build has no CUDA; configure it where the CUDA toolkit is installed");
}

tmb_status tmb_cuda_open(tmb_cuda **out, int index, tmb_err *err)
{
    (void)index;
    *out = NULL;
    return absent(err);
}

void tmb_cuda_close(tmb_cuda *device)
{
    (void)device;
}

/* No device is ever opened here, so the rest cannot be reached; it links, and says the same. */
const tmb_cuda_info *tmb_cuda_about(const tmb_cuda *device)
{
    (void)device;
    return NULL;
}

void *tmb_cuda_stream(const tmb_cuda *device)
{
    (void)device;
    return NULL;
}

tmb_status tmb_cuda_alloc(tmb_cuda *device, void **out, uint64_t bytes, tmb_err *err)
{
    (void)device, (void)bytes;
    *out = NULL;
    return absent(err);
}

void tmb_cuda_free(tmb_cuda *device, void *memory)
{
    (void)device, (void)memory;
}

tmb_status tmb_cuda_upload(tmb_cuda *device, void *to, const void *from, uint64_t bytes,
                           tmb_err *err)
{
    (void)device, (void)to, (void)from, (void)bytes;
    return absent(err);
}

tmb_status tmb_cuda_download(tmb_cuda *device, void *to, const void *from, uint64_t bytes,
                             tmb_err *err)
{
    (void)device, (void)to, (void)from, (void)bytes;
    return absent(err);
}

tmb_status tmb_cuda_fill(tmb_cuda *device, void *to, int byte, uint64_t bytes, tmb_err *err)
{
    (void)device, (void)to, (void)byte, (void)bytes;
    return absent(err);
}

tmb_status tmb_cuda_wait(tmb_cuda *device, tmb_err *err)
{
    (void)device;
    return absent(err);
}

tmb_status tmb_cuda_graph_begin(tmb_cuda *device, tmb_err *err)
{
    (void)device;
    return absent(err);
}

tmb_status tmb_cuda_graph_end(tmb_cuda *device, tmb_err *err)
{
    (void)device;
    return absent(err);
}

tmb_status tmb_cuda_graph_time(tmb_cuda *device, float *us, int n, tmb_err *err)
{
    (void)device, (void)us, (void)n;
    return absent(err);
}

tmb_status tmb_cuda_read(const void *memory, uint64_t bytes, void *sink, void *stream, tmb_err *err)
{
    (void)memory, (void)bytes, (void)sink, (void)stream;
    return absent(err);
}

#endif
#ifndef HAVE_SM90

uint64_t tmb_w4_workspace(const tmb_w4_gemm *gemm)
{
    (void)gemm;
    return 0;
}

tmb_status tmb_w4_gemm_sm90(const tmb_w4_gemm *gemm, void *workspace, void *stream, tmb_err *err)
{
    (void)gemm, (void)workspace, (void)stream;
    return tmb_fail(err, TMB_EUNAVAILABLE,
                    "this build has no sm_90a kernels; configure it with a"
                    " CUDA toolkit that compiles for 90a");
}

#endif
