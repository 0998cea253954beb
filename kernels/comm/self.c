/* self.c - the communicator of a rank that is alone: the code of many ranks runs with one. */
#include "config.h"
#include "kernels/comm/comm_internal.h"

#include <string.h>

static tmb_status meet(tmb_comm *comm, const tmb_comm_step *step, tmb_err *err)
{
    (void)comm, (void)step, (void)err;
    return TMB_OK;
}

static tmb_status allreduce(tmb_comm *comm, void *data, size_t count, tmb_reduce reduce,
                            tmb_err *err)
{
    (void)comm, (void)data, (void)count, (void)reduce, (void)err;
    return TMB_OK;
}

static tmb_status allgatherv(tmb_comm *comm, void *out, const void *in, const size_t *bytes,
                             tmb_err *err)
{
    (void)comm, (void)err;
    memmove(out, in, bytes[0]);
    return TMB_OK;
}

static tmb_status broadcast(tmb_comm *comm, void *data, size_t bytes, int root, tmb_err *err)
{
    (void)comm, (void)data, (void)bytes, (void)root, (void)err;
    return TMB_OK;
}

static tmb_status alltoallv(tmb_comm *comm, void *out, const size_t *out_bytes, const void *in,
                            const size_t *in_bytes, tmb_err *err)
{
    if (out_bytes[0] != in_bytes[0])
        return tmb_comm_fail(comm, err, TMB_EINTERNAL, "sends itself %zu bytes and expects %zu",
                             in_bytes[0], out_bytes[0]);
    if (out_bytes[0]) memmove(out, in, out_bytes[0]);
    return TMB_OK;
}

const tmb_comm_ops tmb_comm_self = {
    .name = "self",
    .meet = meet,
    .allreduce = allreduce,
    .allgatherv = allgatherv,
    .broadcast = broadcast,
    .alltoallv = alltoallv,
};
