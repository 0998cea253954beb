/* nccl.c - ranks that own a GPU each.
 *
 * Ranks meet over a host communicator, which also carries the id: so a rank that does not come is
 * named as it is there, and one that fails makes every other abort its own NCCL communicator,
 * which NCCL demands.  The communicator is non-blocking: every wait polls the asynchronous error
 * and the clock.  Buffers may lie on the device (used in place) or on the host (staged).
 *
 * libnccl is opened at run time: the program starts on machines without it.  Compiled against
 * NCCL 2.28; needs 2.14 for non-blocking communicators. */
#include "config.h"
#include "kernels/comm/comm_internal.h"

#if defined HAVE_NCCL && defined HAVE_CUDA

#include <cuda_runtime.h>
#include <dlfcn.h>
#include <nccl.h>
#include <stdlib.h>
#include <string.h>

/* The functions taken from libnccl: X(field, name). */
#define NCCL_FUNCTIONS                                                                             \
    X(version, ncclGetVersion)                                                                     \
    X(unique_id, ncclGetUniqueId)                                                                  \
    X(init, ncclCommInitRankConfig)                                                                \
    X(async_error, ncclCommGetAsyncError)                                                          \
    X(abort, ncclCommAbort)                                                                        \
    X(finalize, ncclCommFinalize)                                                                  \
    X(destroy, ncclCommDestroy)                                                                    \
    X(all_reduce, ncclAllReduce)                                                                   \
    X(broadcast, ncclBroadcast)                                                                    \
    X(send, ncclSend)                                                                              \
    X(recv, ncclRecv)                                                                              \
    X(group_start, ncclGroupStart)                                                                 \
    X(group_end, ncclGroupEnd)                                                                     \
    X(error_text, ncclGetErrorString)

typedef struct nccl_state {
#define X(field, name) __typeof__(&name) field;
    NCCL_FUNCTIONS
#undef X
    void *library;
    tmb_comm *host;
    ncclComm_t nccl;
    cudaStream_t stream;
    int device;
    void *staged[2]; /* device memory for host buffers: out, in */
    size_t staged_bytes[2];
} nccl_state;

static nccl_state *own(tmb_comm *comm)
{
    return comm->transport;
}

static tmb_status cuda_fail(tmb_comm *comm, cudaError_t rc, const char *call, tmb_err *err)
{
    return tmb_comm_fail(comm, err, TMB_EUNAVAILABLE, "GPU %d: %s: %s", own(comm)->device, call,
                         cudaGetErrorString(rc));
}

static tmb_status nccl_fail(tmb_comm *comm, ncclResult_t rc, const char *call, tmb_err *err)
{
    return tmb_comm_fail(comm, err, TMB_EUNAVAILABLE,
                         "GPU %d: %s: %s; NCCL_DEBUG=INFO in the environment tells more",
                         own(comm)->device, call, own(comm)->error_text(rc));
}

#define CUDA_TRY(call)                                                                             \
    do {                                                                                           \
        cudaError_t cuda_rc_ = (call);                                                             \
        if (cuda_rc_ != cudaSuccess) return cuda_fail(comm, cuda_rc_, #call, err);                 \
    } while (0)
#define NCCL_TRY(call)                                                                             \
    do {                                                                                           \
        ncclResult_t nccl_rc_ = (call);                                                            \
        if (nccl_rc_ != ncclSuccess && nccl_rc_ != ncclInProgress)                                 \
            return nccl_fail(comm, nccl_rc_, #call, err);                                          \
    } while (0)

/* ------------------------------------------------------------------------------ waiting */

/* NCCL has taken in what was asked of it (stream false), and the stream has done it (true). */
static tmb_status wait_for(tmb_comm *comm, bool stream, tmb_err *err)
{
    nccl_state *s = own(comm);
    double until = tmb_seconds() + comm->timeout_s;
    for (unsigned tries = 0;; tries++) {
        ncclResult_t state = ncclSuccess;
        NCCL_TRY(s->async_error(s->nccl, &state));
        if (state != ncclSuccess && state != ncclInProgress)
            return nccl_fail(comm, state, "an operation failed", err);
        if (state == ncclSuccess) {
            if (!stream) return TMB_OK;
            cudaError_t rc = cudaStreamQuery(s->stream);
            if (rc == cudaSuccess) return TMB_OK;
            if (rc != cudaErrorNotReady) return cuda_fail(comm, rc, "cudaStreamQuery", err);
        }
        if (tmb_seconds() > until)
            return tmb_comm_fail(comm, err, TMB_EUNAVAILABLE,
                                 "GPU %d: NCCL moved no data for %g s though every rank came "
                                 "(--comm-timeout)",
                                 s->device, comm->timeout_s);
        tmb_comm_pause(tries);
    }
}

/* An error here ends the operation on every rank: each must abort its own communicator. */
static tmb_status spread(tmb_comm *comm, tmb_status status, tmb_err *err)
{
    nccl_state *s = own(comm);
    if (!status) return TMB_OK;
    err->status = status;
    tmb_comm_abort(s->host, err);
    if (s->nccl) s->abort(s->nccl);
    s->nccl = NULL;
    return status;
}

static tmb_status meet(tmb_comm *comm, const tmb_comm_step *step, tmb_err *err)
{
    nccl_state *s = own(comm);
    tmb_comm *host = s->host;
    host->step = *step;
    tmb_status status =
        host->failed.status ? host->failed.status : host->ops->meet(host, &host->step, err);
    if (!status) return TMB_OK;
    if (host->failed.status)
        *err = host->failed;
    else
        host->failed = *err;
    comm->echo = host->echo;
    if (s->nccl) s->abort(s->nccl);
    s->nccl = NULL;
    return status;
}

/* ------------------------------------------------------------------------------ buffers */

static bool on_device(const void *p)
{
    struct cudaPointerAttributes a;
    if (!p || cudaPointerGetAttributes(&a, p) != cudaSuccess) {
        (void)cudaGetLastError();
        return false;
    }
    return a.type == cudaMemoryTypeDevice || a.type == cudaMemoryTypeManaged;
}

/* *device = p itself, or staging memory of that size; fill: with p's bytes. */
static tmb_status stage(tmb_comm *comm, void **device, const void *p, size_t bytes, int which,
                        bool fill, tmb_err *err)
{
    nccl_state *s = own(comm);
    CUDA_TRY(cudaSetDevice(s->device));
    *device = (void *)(uintptr_t)p;
    if (on_device(p)) return TMB_OK;
    if (s->staged_bytes[which] < bytes) {
        CUDA_TRY(cudaFree(s->staged[which]));
        s->staged[which] = NULL;
        s->staged_bytes[which] = 0;
        CUDA_TRY(cudaMalloc(&s->staged[which], bytes));
        s->staged_bytes[which] = bytes;
    }
    *device = s->staged[which];
    if (fill && bytes)
        CUDA_TRY(cudaMemcpyAsync(*device, p, bytes, cudaMemcpyHostToDevice, s->stream));
    return TMB_OK;
}

static tmb_status unstage(tmb_comm *comm, void *p, const void *device, size_t bytes, tmb_err *err)
{
    nccl_state *s = own(comm);
    if (p != device && bytes)
        CUDA_TRY(cudaMemcpyAsync(p, device, bytes, cudaMemcpyDeviceToHost, s->stream));
    return wait_for(comm, true, err);
}

/* ------------------------------------------------------------------------------ operations */

static tmb_status all_reduce(tmb_comm *comm, void *data, size_t count, tmb_reduce reduce,
                             tmb_err *err)
{
    const ncclDataType_t types[] = {ncclInt64, ncclUint64, ncclInt32, ncclFloat32};
    nccl_state *s = own(comm);
    bool sum = reduce == TMB_SUM_I64 || reduce == TMB_SUM_U64;
    size_t bytes = count * (sum ? 8 : 4);
    void *d;
    TRY(stage(comm, &d, data, bytes, 0, true, err));
    NCCL_TRY(
        s->all_reduce(d, d, count, types[reduce], sum ? ncclSum : ncclMax, s->nccl, s->stream));
    TRY(wait_for(comm, false, err));
    return unstage(comm, data, d, bytes, err);
}

static tmb_status broadcast_bytes(tmb_comm *comm, void *data, size_t bytes, int root, tmb_err *err)
{
    nccl_state *s = own(comm);
    void *d;
    TRY(stage(comm, &d, data, bytes, 0, comm->rank == root, err));
    NCCL_TRY(s->broadcast(d, d, bytes, ncclUint8, root, s->nccl, s->stream));
    TRY(wait_for(comm, false, err));
    return unstage(comm, data, d, bytes, err);
}

/* Send and receive pieces in one group, as NCCL wants them. */
static tmb_status exchange(tmb_comm *comm, char *out, const size_t *out_bytes, const char *in,
                           const size_t *in_bytes, bool same_in, tmb_err *err)
{
    nccl_state *s = own(comm);
    NCCL_TRY(s->group_start());
    ncclResult_t rc = ncclSuccess;
    for (int r = 0; r < comm->size; r++) {
        if (in_bytes[r] && (rc == ncclSuccess || rc == ncclInProgress))
            rc = s->send(in, in_bytes[r], ncclUint8, r, s->nccl, s->stream);
        if (out_bytes[r] && (rc == ncclSuccess || rc == ncclInProgress))
            rc = s->recv(out, out_bytes[r], ncclUint8, r, s->nccl, s->stream);
        if (!same_in) in += in_bytes[r];
        out += out_bytes[r];
    }
    ncclResult_t end = s->group_end();
    if (rc != ncclSuccess && rc != ncclInProgress) end = rc;
    NCCL_TRY(end);
    return wait_for(comm, false, err);
}

static tmb_status gather(tmb_comm *comm, void *out, const void *in, const size_t *bytes,
                         tmb_err *err)
{
    size_t total = tmb_comm_total(bytes, comm->size);
    size_t *sent = malloc((size_t)comm->size * sizeof *sent);
    if (!sent) return tmb_fail_memory(err, (size_t)comm->size * sizeof *sent, "a gathering");
    for (int r = 0; r < comm->size; r++)
        sent[r] = bytes[comm->rank];
    void *to, *from;
    tmb_status status = stage(comm, &to, out, total, 0, false, err);
    if (!status) status = stage(comm, &from, in, bytes[comm->rank], 1, true, err);
    if (!status) status = exchange(comm, to, bytes, from, sent, true, err);
    if (!status) status = unstage(comm, out, to, total, err);
    free(sent);
    return status;
}

static tmb_status all_to_all(tmb_comm *comm, void *out, const size_t *out_bytes, const void *in,
                             const size_t *in_bytes, tmb_err *err)
{
    size_t out_total = tmb_comm_total(out_bytes, comm->size);
    size_t in_total = tmb_comm_total(in_bytes, comm->size);
    void *to, *from;
    TRY(stage(comm, &to, out, out_total, 0, false, err));
    TRY(stage(comm, &from, in, in_total, 1, true, err));
    TRY(exchange(comm, to, out_bytes, from, in_bytes, false, err));
    return unstage(comm, out, to, out_total, err);
}

static tmb_status allreduce(tmb_comm *comm, void *data, size_t count, tmb_reduce reduce,
                            tmb_err *err)
{
    return spread(comm, all_reduce(comm, data, count, reduce, err), err);
}

static tmb_status allgatherv(tmb_comm *comm, void *out, const void *in, const size_t *bytes,
                             tmb_err *err)
{
    return spread(comm, gather(comm, out, in, bytes, err), err);
}

static tmb_status broadcast(tmb_comm *comm, void *data, size_t bytes, int root, tmb_err *err)
{
    return spread(comm, broadcast_bytes(comm, data, bytes, root, err), err);
}

static tmb_status alltoallv(tmb_comm *comm, void *out, const size_t *out_bytes, const void *in,
                            const size_t *in_bytes, tmb_err *err)
{
    return spread(comm, all_to_all(comm, out, out_bytes, in, in_bytes, err), err);
}

/* ------------------------------------------------------------------------------ open, close */

static void give_up(tmb_comm *comm, const tmb_err *why)
{
    nccl_state *s = own(comm);
    tmb_comm_abort(s->host, why);
    if (s->nccl) s->abort(s->nccl);
    s->nccl = NULL;
}

static void close_nccl(tmb_comm *comm)
{
    nccl_state *s = own(comm);
    tmb_err err = {0};
    if (!s) return;
    if (s->nccl) {
        /* Destroying a communicator may wait for ever if a rank is gone; aborting does not. */
        bool clean = !comm->failed.status && s->finalize(s->nccl) != ncclInvalidUsage &&
                     wait_for(comm, false, &err) == TMB_OK;
        if (clean)
            s->destroy(s->nccl);
        else
            s->abort(s->nccl);
    }
    cudaFree(s->staged[0]);
    cudaFree(s->staged[1]);
    if (s->stream) cudaStreamDestroy(s->stream);
    /* The library stays open: its threads may still be returning from it. */
    free(s);
}

static const tmb_comm_ops nccl_ops = {
    .name = "nccl",
    .meet = meet,
    .allreduce = allreduce,
    .allgatherv = allgatherv,
    .broadcast = broadcast,
    .alltoallv = alltoallv,
    .abort = give_up,
    .close = close_nccl,
};

static tmb_status load(nccl_state *s, tmb_err *err)
{
    static const char *const names[] = {"libnccl.so.2", "libnccl.so", TMB_NCCL_DIR "/libnccl.so.2"};
    for (size_t i = 0; i < sizeof names / sizeof *names && !s->library; i++)
        s->library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!s->library)
        return tmb_fail(err, TMB_EUNAVAILABLE,
                        "NCCL: %.300s; install libnccl2 or name its folder in LD_LIBRARY_PATH",
                        dlerror());
#define X(field, name)                                                                             \
    *(void **)&s->field = dlsym(s->library, #name);                                                \
    if (!s->field)                                                                                 \
        return tmb_fail(err, TMB_EUNAVAILABLE,                                                     \
                        "NCCL: this libnccl.so.2 has no " #name "; 2.14 or newer is needed");
    NCCL_FUNCTIONS
#undef X
    return TMB_OK;
}

static tmb_status connect_gpu(tmb_comm *comm, tmb_err *err)
{
    nccl_state *s = own(comm);
    ncclUniqueId id;
    memset(&id, 0, sizeof id);
    if (comm->rank == 0) NCCL_TRY(s->unique_id(&id));
    TRY(tmb_comm_broadcast(s->host, &id, sizeof id, 0, err));
    CUDA_TRY(cudaSetDevice(s->device));
    CUDA_TRY(cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking));
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    NCCL_TRY(s->init(&s->nccl, comm->size, id, comm->rank, &config));
    return wait_for(comm, false, err);
}

tmb_status tmb_comm_open_nccl(tmb_comm **out, const tmb_comm_options *options, tmb_err *err)
{
    *out = NULL;
    tmb_comm *host = options ? options->over : NULL;
    if (!host)
        return tmb_fail(err, TMB_EINTERNAL, "NCCL needs a host communicator to carry its id");
    tmb_comm_options o = *options;
    if (!(o.timeout_s > 0)) o.timeout_s = host->timeout_s;
    tmb_comm *comm = tmb_comm_alloc(&nccl_ops, host->rank, host->size, &o);
    nccl_state *s = calloc(1, sizeof *s);
    if (!comm || !s) {
        free(s);
        tmb_comm_close(comm);
        return tmb_fail_memory(err, sizeof *s, "a communicator");
    }
    memcpy(comm->peers, host->peers, (size_t)host->size * sizeof *comm->peers);
    comm->transport = s;
    s->host = host;
    s->device = o.device;
    tmb_err mine = {0};
    tmb_status status = load(s, &mine);
    if (!status) status = connect_gpu(comm, &mine);
    /* Operations go on counting where the host communicator stands. */
    comm->step = host->step;
    if (!status) {
        *out = comm;
        return TMB_OK;
    }
    mine.status = status;
    tmb_comm_abort(host, &mine);
    comm->failed = mine;
    tmb_comm_close(comm);
    if (err) *err = mine;
    return status;
}

#else

tmb_status tmb_comm_open_nccl(tmb_comm **out, const tmb_comm_options *options, tmb_err *err)
{
    (void)options;
    *out = NULL;
    return tmb_fail(err, TMB_EUNAVAILABLE,
                    "this build has no NCCL; configure it with CUDA and NCCL (--with-cuda, "
                    "--with-nccl), or use threads or mpi as ranks");
}

#endif
