/* comm.c - what all transports have in common: arguments, numbering, messages, the first error. */
#include "config.h"
#include "kernels/comm/comm_internal.h"

#include "kernels/base/mem.h"

#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ------------------------------------------------------------------------------ open, close */

tmb_comm *tmb_comm_alloc(const tmb_comm_ops *ops, int rank, int size,
                         const tmb_comm_options *options)
{
    tmb_comm *comm = calloc(1, sizeof *comm);
    if (!comm) return NULL;
    comm->ops = ops;
    comm->rank = rank;
    comm->size = size;
    comm->timeout_s = options && options->timeout_s > 0 ? options->timeout_s : TMB_COMM_TIMEOUT_S;
    comm->peers = calloc((size_t)size, sizeof *comm->peers);
    if (comm->peers) return comm;
    free(comm);
    return NULL;
}

tmb_status tmb_comm_open(tmb_comm **out, const char *spec, const tmb_comm_options *options,
                         tmb_err *err)
{
    *out = NULL;
    if (!strcmp(spec, "mpi")) return tmb_comm_open_mpi(out, options, err);
    if (!strcmp(spec, "nccl")) return tmb_comm_open_nccl(out, options, err);
    if (!strcmp(spec, "threads"))
        return tmb_fail(
            err, TMB_EUSAGE,
            "threads are ranks of one process and begin together; a single one is 'self'");
    if (strcmp(spec, "self"))
        return tmb_fail(err, TMB_EUSAGE,
                        "no communicator is called '%.40s'; there are self, "
                        "threads, mpi and nccl",
                        spec);
    *out = tmb_comm_alloc(&tmb_comm_self, 0, 1, options);
    if (!*out) return tmb_fail_memory(err, sizeof **out, "a communicator");
    tmb_comm_peer_self(&(*out)->peers[0]);
    return TMB_OK;
}

bool tmb_comm_launched(void)
{
    static const char *const set[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK"};
    for (size_t i = 0; i < sizeof set / sizeof *set; i++)
        if (getenv(set[i])) return true;
    return false;
}

void tmb_comm_close(tmb_comm *comm)
{
    if (!comm) return;
    if (comm->ops->close) comm->ops->close(comm);
    free(comm->peers);
    free(comm);
}

int tmb_comm_rank(const tmb_comm *comm)
{
    return comm->rank;
}

int tmb_comm_size(const tmb_comm *comm)
{
    return comm->size;
}

const char *tmb_comm_name(const tmb_comm *comm)
{
    return comm->ops->name;
}

const char *tmb_comm_host(const tmb_comm *comm, int rank)
{
    return comm->peers[rank].host;
}

/* ------------------------------------------------------------------------------ time and names */

void tmb_comm_peer_self(tmb_comm_peer *peer)
{
    memset(peer, 0, sizeof *peer);
    if (gethostname(peer->host, sizeof peer->host - 1) || !peer->host[0])
        strcpy(peer->host, "unknown");
    peer->process = (int64_t)getpid();
}

void tmb_comm_pause(unsigned tries)
{
    if (tries < 64) {
        sched_yield();
        return;
    }
    struct timespec t = {.tv_nsec = tries < 1000 ? 20000 : 1000000};
    nanosleep(&t, NULL);
}

const char *tmb_comm_who(char out[TMB_COMM_WHO_BYTES], const tmb_comm *comm, int rank)
{
    const tmb_comm_peer *p = &comm->peers[rank];
    if (p->process)
        snprintf(out, TMB_COMM_WHO_BYTES, "rank %d (host %s, process %lld)", rank, p->host,
                 (long long)p->process);
    else
        snprintf(out, TMB_COMM_WHO_BYTES, "rank %d (host %s)", rank, p->host);
    return out;
}

static const char *kind_name(int32_t kind)
{
    static const char *const names[] = {"barrier", "allreduce", "allgather", "broadcast",
                                        "alltoall"};
    return kind >= 0 && kind <= TMB_COMM_ALLTOALL ? names[kind] : "nothing known";
}

tmb_status tmb_comm_fail(tmb_comm *comm, tmb_err *err, tmb_status status, const char *format, ...)
{
    char rest[800];
    va_list ap;
    va_start(ap, format);
    vsnprintf(rest, sizeof rest, format, ap);
    va_end(ap);
    return tmb_fail(err, status, "rank %d of %d (host %s): %s, operation %llu: %s", comm->rank,
                    comm->size, comm->peers[comm->rank].host, kind_name(comm->step.kind),
                    (unsigned long long)comm->step.number, rest);
}

tmb_status tmb_comm_missing(tmb_comm *comm, const bool *came, tmb_err *err)
{
    char list[640] = "", who[TMB_COMM_WHO_BYTES];
    size_t at = 0;
    int missing = 0;
    for (int r = 0; r < comm->size; r++) {
        if (came[r]) continue;
        if (missing++ < 4)
            at += (size_t)snprintf(list + at, sizeof list - at, "%s%s", missing > 1 ? ", " : "",
                                   tmb_comm_who(who, comm, r));
    }
    if (missing > 4) snprintf(list + at, sizeof list - at, " and %d more", missing - 4);
    return tmb_comm_fail(comm, err, TMB_EUNAVAILABLE,
                         "%s did not come within %g s; killed, stopped or hanging (--comm-timeout)",
                         missing ? list : "no rank is missing, but the data", comm->timeout_s);
}

bool tmb_comm_same_step(const tmb_comm_step *a, const tmb_comm_step *b)
{
    return a->number == b->number && a->amount == b->amount && a->kind == b->kind &&
           a->detail == b->detail;
}

tmb_status tmb_comm_diverged(tmb_comm *comm, int r, const tmb_comm_step *other, tmb_err *err)
{
    char who[TMB_COMM_WHO_BYTES];
    return tmb_comm_fail(comm, err, TMB_EINTERNAL,
                         "%s is at another place: %s, operation %llu, amount %llu (here %llu), "
                         "detail %d (here %d)",
                         tmb_comm_who(who, comm, r), kind_name(other->kind),
                         (unsigned long long)other->number, (unsigned long long)other->amount,
                         (unsigned long long)comm->step.amount, other->detail, comm->step.detail);
}

size_t tmb_comm_total(const size_t *bytes, int n)
{
    size_t sum = 0;
    for (int i = 0; i < n; i++)
        sum += bytes[i];
    return sum;
}

/* ------------------------------------------------------------------------------ operations */

static tmb_status remember(tmb_comm *comm, tmb_status status, const tmb_err *mine, tmb_err *err)
{
    if (!status) return TMB_OK;
    if (!comm->failed.status) comm->failed = *mine;
    if (err) *err = comm->failed;
    return comm->failed.status;
}

/* Number the operation and meet.  `mine` holds the message of what follows. */
static tmb_status begin(tmb_comm *comm, tmb_comm_kind kind, uint64_t amount, int detail,
                        tmb_err *mine, tmb_err *err)
{
    if (comm->failed.status) return remember(comm, comm->failed.status, &comm->failed, err);
    comm->step.number++;
    comm->step.amount = amount;
    comm->step.kind = kind;
    comm->step.detail = detail;
    return remember(comm, comm->ops->meet(comm, &comm->step, mine), mine, err);
}

tmb_status tmb_comm_allreduce(tmb_comm *comm, void *data, size_t count, tmb_reduce reduce,
                              tmb_err *err)
{
    tmb_err mine = {0};
    TRY(begin(comm, TMB_COMM_ALLREDUCE, count, (int)reduce, &mine, err));
    if (!count) return TMB_OK;
    return remember(comm, comm->ops->allreduce(comm, data, count, reduce, &mine), &mine, err);
}

/* FNV-1a over the lengths: ranks that disagree about one differ here. */
static uint64_t lengths(const size_t *bytes, int n)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (int i = 0; i < n; i++)
        h = (h ^ bytes[i]) * 0x100000001b3u;
    return h;
}

tmb_status tmb_comm_allgatherv(tmb_comm *comm, void *out, const void *in, const size_t *bytes,
                               tmb_err *err)
{
    tmb_err mine = {0};
    TRY(begin(comm, TMB_COMM_ALLGATHER, lengths(bytes, comm->size), 0, &mine, err));
    if (!tmb_comm_total(bytes, comm->size)) return TMB_OK;
    return remember(comm, comm->ops->allgatherv(comm, out, in, bytes, &mine), &mine, err);
}

tmb_status tmb_comm_allgather(tmb_comm *comm, void *out, const void *in, size_t bytes, tmb_err *err)
{
    size_t *each = malloc((size_t)comm->size * sizeof *each);
    if (!each) return tmb_fail_memory(err, (size_t)comm->size * sizeof *each, "a gathering");
    for (int r = 0; r < comm->size; r++)
        each[r] = bytes;
    tmb_status status = tmb_comm_allgatherv(comm, out, in, each, err);
    free(each);
    return status;
}

tmb_status tmb_comm_broadcast(tmb_comm *comm, void *data, size_t bytes, int root, tmb_err *err)
{
    tmb_err mine = {0};
    if (root < 0 || root >= comm->size)
        return tmb_fail(err, TMB_EINTERNAL, "broadcast from rank %d of %d", root, comm->size);
    TRY(begin(comm, TMB_COMM_BROADCAST, bytes, root, &mine, err));
    if (!bytes) return TMB_OK;
    return remember(comm, comm->ops->broadcast(comm, data, bytes, root, &mine), &mine, err);
}

tmb_status tmb_comm_alltoallv(tmb_comm *comm, void *out, const size_t *out_bytes, const void *in,
                              const size_t *in_bytes, tmb_err *err)
{
    tmb_err mine = {0};
    TRY(begin(comm, TMB_COMM_ALLTOALL, 0, 0, &mine, err));
    return remember(comm, comm->ops->alltoallv(comm, out, out_bytes, in, in_bytes, &mine), &mine,
                    err);
}

tmb_status tmb_comm_barrier(tmb_comm *comm, tmb_err *err)
{
    tmb_err mine = {0};
    return begin(comm, TMB_COMM_BARRIER, 0, 0, &mine, err);
}

void tmb_comm_abort(tmb_comm *comm, const tmb_err *why)
{
    if (comm->failed.status) return; /* the others know, or cannot be reached */
    comm->failed = *why;
    if (!comm->failed.status) comm->failed.status = TMB_EINTERNAL;
    if (comm->ops->abort) comm->ops->abort(comm, &comm->failed);
}
