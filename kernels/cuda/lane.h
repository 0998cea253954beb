/* lane.h - a thread's own way to a GPU: a stream, device memory, and pinned host memory beside it.
 *
 * Several lanes of one device overlap: while one copies in, another computes and a third copies
 * out.  Copies need the host memory to be pinned for that: what a lane has is, anything else by
 * tmb_cuda_pin().  A lane serves one thread at a time, any thread after tmb_lane_enter(). */
#ifndef TMB_CUDA_LANE_H
#define TMB_CUDA_LANE_H

#include "kernels/cuda/device.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tmb_lane tmb_lane;

/* The device must outlive its lanes; lanes are opened by one thread. */
tmb_status tmb_lane_open(tmb_lane **out, tmb_cuda *device, uint64_t device_bytes,
                         uint64_t host_bytes, tmb_err *err) TMB_CHECKED;
void tmb_lane_close(tmb_lane *lane);
void *tmb_lane_memory(const tmb_lane *lane); /* [device_bytes], 256-byte aligned */
void *tmb_lane_host(const tmb_lane *lane);   /* [host_bytes], pinned */
void *tmb_lane_stream(const tmb_lane *lane); /* a cudaStream_t */
/* From now on the calling thread launches on this lane's device. */
tmb_status tmb_lane_enter(const tmb_lane *lane, tmb_err *err) TMB_CHECKED;

/* On the lane's stream; nothing waits.  upload: rows of `line` bytes, `stride` apart in `from`, one
 * behind the other in `to`. */
tmb_status tmb_lane_upload(tmb_lane *lane, void *to, const void *from, uint64_t rows, uint64_t line,
                           uint64_t stride, tmb_err *err) TMB_CHECKED;
tmb_status tmb_lane_download(tmb_lane *lane, void *to, const void *from, uint64_t bytes,
                             tmb_err *err) TMB_CHECKED;
tmb_status tmb_lane_zero(tmb_lane *lane, void *to, uint64_t bytes, tmb_err *err) TMB_CHECKED;
/* Wait for everything above, without keeping the processor busy. */
tmb_status tmb_lane_wait(tmb_lane *lane, tmb_err *err) TMB_CHECKED;

/* Pin host memory, whole pages; false: the system does not grant it, and copies from there are
 * slower.  Unpin before it is freed. */
bool tmb_cuda_pin(void *memory, uint64_t bytes);
void tmb_cuda_unpin(void *memory);

#ifdef __cplusplus
}
#endif
#endif
