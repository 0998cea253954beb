/* absent.c - what a build without CUDA, or without its sm_90a kernels, answers. */
#include "config.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/grouped.h"
#include "kernels/cuda/lane.h"
#include "kernels/cuda/quantize.h"
#include "kernels/cuda/read.h"
#include "kernels/cuda/route.h"

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

int tmb_cuda_index(const tmb_cuda *device)
{
    (void)device;
    return 0;
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

tmb_status tmb_cuda_copy(void *to, const void *from, uint64_t bytes, void *stream, tmb_err *err)
{
    (void)to, (void)from, (void)bytes, (void)stream;
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

tmb_status tmb_cuda_copy_plain(void *to, const void *from, uint64_t bytes, void *stream,
                               tmb_err *err)
{
    (void)to, (void)from, (void)bytes, (void)stream;
    return absent(err);
}

tmb_status tmb_cuda_amax(float *out, const void *x, tmb_dtype dtype, uint64_t n, void *stream,
                         tmb_err *err)
{
    (void)out, (void)x, (void)dtype, (void)n, (void)stream;
    return absent(err);
}

tmb_status tmb_cuda_global_scale(tmb_encoder encoder, float *global, const float *amax,
                                 void *stream, tmb_err *err)
{
    (void)encoder, (void)global, (void)amax, (void)stream;
    return absent(err);
}

tmb_status tmb_cuda_encode(tmb_encoder encoder, void *codes, void *scales, const void *x,
                           tmb_dtype dtype, uint64_t rows, uint64_t cols, const float *global,
                           void *stream, tmb_err *err)
{
    (void)encoder, (void)codes, (void)scales, (void)x, (void)dtype, (void)rows, (void)cols;
    (void)global, (void)stream;
    return absent(err);
}

uint64_t tmb_cuda_pieces(uint64_t rows, uint64_t piece)
{
    (void)rows, (void)piece;
    return 0;
}

tmb_status tmb_cuda_compare(tmb_encoder encoder, tmb_sums *out, const void *codes,
                            const void *scales, const void *x, tmb_dtype dtype, uint64_t rows,
                            uint64_t cols, uint64_t piece, const float *global, void *stream,
                            tmb_err *err)
{
    (void)encoder, (void)out, (void)codes, (void)scales, (void)x, (void)dtype, (void)rows;
    (void)cols, (void)piece, (void)global, (void)stream;
    return absent(err);
}

tmb_status tmb_lane_open(tmb_lane **out, tmb_cuda *device, uint64_t device_bytes,
                         uint64_t host_bytes, tmb_err *err)
{
    (void)device, (void)device_bytes, (void)host_bytes;
    *out = NULL;
    return absent(err);
}

void tmb_lane_close(tmb_lane *lane)
{
    (void)lane;
}

void *tmb_lane_memory(const tmb_lane *lane)
{
    (void)lane;
    return NULL;
}

void *tmb_lane_host(const tmb_lane *lane)
{
    (void)lane;
    return NULL;
}

void *tmb_lane_stream(const tmb_lane *lane)
{
    (void)lane;
    return NULL;
}

tmb_status tmb_lane_enter(const tmb_lane *lane, tmb_err *err)
{
    (void)lane;
    return absent(err);
}

tmb_status tmb_lane_upload(tmb_lane *lane, void *to, const void *from, uint64_t rows, uint64_t line,
                           uint64_t stride, tmb_err *err)
{
    (void)lane, (void)to, (void)from, (void)rows, (void)line, (void)stride;
    return absent(err);
}

tmb_status tmb_lane_download(tmb_lane *lane, void *to, const void *from, uint64_t bytes,
                             tmb_err *err)
{
    (void)lane, (void)to, (void)from, (void)bytes;
    return absent(err);
}

tmb_status tmb_lane_zero(tmb_lane *lane, void *to, uint64_t bytes, tmb_err *err)
{
    (void)lane, (void)to, (void)bytes;
    return absent(err);
}

tmb_status tmb_lane_wait(tmb_lane *lane, tmb_err *err)
{
    (void)lane;
    return absent(err);
}

bool tmb_cuda_pin(void *memory, uint64_t bytes)
{
    (void)memory, (void)bytes;
    return false;
}

void tmb_cuda_unpin(void *memory)
{
    (void)memory;
}

tmb_status tmb_cuda_route(const tmb_router *r, const float *logits, int tokens, int32_t *chosen,
                          float *weight, void *stream, tmb_err *err)
{
    (void)r, (void)logits, (void)tokens, (void)chosen, (void)weight, (void)stream;
    return absent(err);
}

uint64_t tmb_cuda_plan_bytes(int tokens, int top_k, int slots)
{
    (void)tokens, (void)top_k, (void)slots;
    return 0;
}

tmb_status tmb_cuda_plan(const tmb_route_plan *plan, const int32_t *chosen, const int32_t *slot,
                         int tokens, int top_k, int slots, void *work, void *stream, tmb_err *err)
{
    (void)plan, (void)chosen, (void)slot, (void)tokens, (void)top_k, (void)slots, (void)work;
    (void)stream;
    return absent(err);
}

tmb_status tmb_cuda_combine(uint16_t *y, const uint16_t *rows, const int32_t *row,
                            const float *weight, const uint16_t *shared, const float *shared_gate,
                            int tokens, int top_k, int hidden, void *stream, tmb_err *err)
{
    (void)y, (void)rows, (void)row, (void)weight, (void)shared, (void)shared_gate, (void)tokens;
    (void)top_k, (void)hidden, (void)stream;
    return absent(err);
}

#endif
#ifndef HAVE_SM90

static tmb_status no_sm90(tmb_err *err)
{
    return tmb_fail(err, TMB_EUNAVAILABLE,
                    "this build has no sm_90a kernels; configure it with a"
                    " CUDA toolkit that compiles for 90a");
}

uint64_t tmb_tiles_bytes(int experts, int rows)
{
    (void)experts, (void)rows;
    return 0;
}

tmb_status tmb_tiles_make(void *tiles, const int32_t *offsets, int experts, int rows, void *stream,
                          tmb_err *err)
{
    (void)tiles, (void)offsets, (void)experts, (void)rows, (void)stream;
    return no_sm90(err);
}

uint64_t tmb_grouped_workspace(const tmb_grouped *gemm)
{
    (void)gemm;
    return 0;
}

tmb_status tmb_grouped_run(const tmb_grouped *gemm, void *workspace, void *stream, tmb_err *err)
{
    (void)gemm, (void)workspace, (void)stream;
    return no_sm90(err);
}

#endif
