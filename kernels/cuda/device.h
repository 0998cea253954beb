/* device.h - one opened GPU: memory, a stream, graphs, times.  Host code only; no CUDA header is
 * needed to include it.  Without a driver or a GPU tmb_cuda_open() says so and the program goes on.
 */
#ifndef TMB_CUDA_DEVICE_H
#define TMB_CUDA_DEVICE_H

#include "kernels/base/err.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tmb_cuda tmb_cuda;

typedef struct tmb_cuda_info {
    char name[256];
    int major, minor; /* compute capability */
    int processors;
    uint64_t memory_bytes;
    int clock_khz;
} tmb_cuda_info;

/* index: "cuda:N".  TMB_EUNAVAILABLE with the runtime's own sentence when there is none. */
tmb_status tmb_cuda_open(tmb_cuda **out, int index, tmb_err *err) TMB_CHECKED;
void tmb_cuda_close(tmb_cuda *device); /* frees what was allocated on it */
const tmb_cuda_info *tmb_cuda_about(const tmb_cuda *device);
int tmb_cuda_index(const tmb_cuda *device);
void *tmb_cuda_stream(const tmb_cuda *device); /* a cudaStream_t */

/* Device memory, 256-byte aligned; freed by tmb_cuda_free() or with the device. */
tmb_status tmb_cuda_alloc(tmb_cuda *device, void **out, uint64_t bytes, tmb_err *err) TMB_CHECKED;
void tmb_cuda_free(tmb_cuda *device, void *memory);
tmb_status tmb_cuda_upload(tmb_cuda *device, void *to, const void *from, uint64_t bytes,
                           tmb_err *err) TMB_CHECKED;
tmb_status tmb_cuda_download(tmb_cuda *device, void *to, const void *from, uint64_t bytes,
                             tmb_err *err) TMB_CHECKED;
tmb_status tmb_cuda_fill(tmb_cuda *device, void *to, int byte, uint64_t bytes,
                         tmb_err *err) TMB_CHECKED;
/* Device to device, on stream (a cudaStream_t); nothing waits. */
tmb_status tmb_cuda_copy(void *to, const void *from, uint64_t bytes, void *stream,
                         tmb_err *err) TMB_CHECKED;
/* Wait for the stream; an error of an earlier launch shows here. */
tmb_status tmb_cuda_wait(tmb_cuda *device, tmb_err *err) TMB_CHECKED;

/* Record what is launched on the stream between begin and end, replay it, and time replays:
 * us [n] gets the microseconds of each. */
tmb_status tmb_cuda_graph_begin(tmb_cuda *device, tmb_err *err) TMB_CHECKED;
tmb_status tmb_cuda_graph_end(tmb_cuda *device, tmb_err *err) TMB_CHECKED;
tmb_status tmb_cuda_graph_time(tmb_cuda *device, float *us, int n, tmb_err *err) TMB_CHECKED;

#ifdef __cplusplus
}
#endif
#endif
