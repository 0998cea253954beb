/* comm.h - ranks that work on one job: what they add up, hand out and wait for.
 *
 * Four transports answer to one interface, and each gives the same bytes:
 *   self     one rank; every operation is a copy
 *   threads  N ranks in one process, a thread each (the embedded default)
 *   mpi      one rank a process, started by mpirun; host buffers
 *   nccl     one GPU a rank; host or device buffers; its id travels over threads or mpi
 *
 * All operations are collective: every rank calls the same ones in the same order with the same
 * count and reduction.  Before any data moves the ranks tell each other what they are about to
 * do; so a rank that does something else, that never comes, or that has failed is named:
 *     rank 1 of 4 (host a): allreduce, operation 17: rank 3 (host b, process 812) did not come
 *     within 60 s; it was killed, is stopped, or hangs
 * and every rank returns an error within the timeout (plus two seconds of grace for those that
 * hear of it from rank 0).  After an error a communicator only fails, with the same message.
 *
 * Sums are of integers and maxima of totally ordered values, so no result depends on the number
 * of ranks, their order, or the transport.
 *
 * One thread a rank: a communicator is not to be used by two threads at once.
 *
 *     tmb_comm_options o = {.timeout_s = 60};
 *     TRY(tmb_comm_open(&comm, "mpi", &o, err));
 *     TRY(tmb_comm_allreduce(comm, counts, n, TMB_SUM_I64, err));
 *     tmb_comm_close(comm);
 */
#ifndef TMB_COMM_COMM_H
#define TMB_COMM_COMM_H

#include "kernels/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct tmb_comm tmb_comm;

typedef enum tmb_reduce {
    TMB_SUM_I64, /* modulo 2^64: the caller proves that the sum fits */
    TMB_SUM_U64,
    TMB_MAX_I32, /* also for f32 amax >= 0: its bits are ordered as integers, Inf and NaN on top */
    TMB_MAX_F32, /* of values that are no NaN; of -0 and +0 either is the result */
} tmb_reduce;

enum { TMB_COMM_TIMEOUT_S = 600, TMB_COMM_HOST_BYTES = 64 };

typedef struct tmb_comm_options {
    double timeout_s; /* how long a rank waits for another; 0: TMB_COMM_TIMEOUT_S */
    tmb_comm *over;   /* nccl: the host communicator its id travels over, borrowed; it must outlive
                         the new one and not be used while an operation runs */
    int device;       /* nccl: CUDA device number of this rank */
} tmb_comm_options;

/* Open a communicator of this process: "self", "mpi" (TMB_EUNAVAILABLE when the build lacks it),
 * "nccl".  Collective for mpi and nccl.  options may be NULL.  The caller's, tmb_comm_close(). */
tmb_status tmb_comm_open(tmb_comm **out, const char *spec, const tmb_comm_options *options,
                         tmb_err *err) TMB_CHECKED;
/* True when a launcher (mpirun, srun with PMI) started this process with others. */
bool tmb_comm_launched(void);

/* Run work(comm, ctx, err) on `ranks` threads of this process, each with its communicator, and
 * wait for all.  The first failure by rank order that is no echo of another's is returned; a rank
 * that fails before it calls an operation fails all others in theirs.  A thread that hangs is
 * given up after the timeout: it then goes on in the background, so ctx must stay valid until the
 * process ends, which should be soon.  ranks 1..1024. */
tmb_status tmb_comm_threads_run(int ranks, const tmb_comm_options *options,
                                tmb_status (*work)(tmb_comm *comm, void *ctx, tmb_err *err),
                                void *ctx, tmb_err *err) TMB_CHECKED;

int tmb_comm_rank(const tmb_comm *comm);
int tmb_comm_size(const tmb_comm *comm);
const char *tmb_comm_name(const tmb_comm *comm); /* "self", "threads", "mpi", "nccl" */
/* The host of a rank, for messages and manifests. */
const char *tmb_comm_host(const tmb_comm *comm, int rank);

/* data [count] of the reduction's type, in place: every rank gets the sum or the maximum. */
tmb_status tmb_comm_allreduce(tmb_comm *comm, void *data, size_t count, tmb_reduce reduce,
                              tmb_err *err) TMB_CHECKED;
/* out [size * bytes] = every rank's in [bytes], by rank.  bytes is the same on every rank. */
tmb_status tmb_comm_allgather(tmb_comm *comm, void *out, const void *in, size_t bytes,
                              tmb_err *err) TMB_CHECKED;
/* out = every rank's in, by rank, without gaps; bytes [size] is the same on every rank and
 * bytes[rank] the length of in. */
tmb_status tmb_comm_allgatherv(tmb_comm *comm, void *out, const void *in, const size_t *bytes,
                               tmb_err *err) TMB_CHECKED;
/* data [bytes] of rank root goes to every rank. */
tmb_status tmb_comm_broadcast(tmb_comm *comm, void *data, size_t bytes, int root,
                              tmb_err *err) TMB_CHECKED;
/* in = pieces for rank 0, 1, … of in_bytes [size]; out = pieces from rank 0, 1, … of out_bytes
 * [size], both without gaps.  out_bytes[s] here is in_bytes[rank] at rank s. */
tmb_status tmb_comm_alltoallv(tmb_comm *comm, void *out, const size_t *out_bytes, const void *in,
                              const size_t *in_bytes, tmb_err *err) TMB_CHECKED;
/* No rank goes on before all came. */
tmb_status tmb_comm_barrier(tmb_comm *comm, tmb_err *err) TMB_CHECKED;

/* Tell the other ranks that this one gives up and why: their next or present operation returns
 * why->status and "rank 2 of 4 (host a) gave up: MESSAGE".  Never blocks for long. */
void tmb_comm_abort(tmb_comm *comm, const tmb_err *why);

/* NULL is fine.  After an error nothing is waited for: the process should end with a non-zero
 * status, which makes mpirun end the other ranks, a stopped one too. */
void tmb_comm_close(tmb_comm *comm);

#endif
