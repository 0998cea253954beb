/* comm_internal.h - what a transport fills in.  comm.c checks arguments, numbers the operations,
 * and remembers the first error; a transport meets and moves. */
#ifndef TMB_COMM_INTERNAL_H
#define TMB_COMM_INTERNAL_H

#include "kernels/base/clock.h"
#include "kernels/comm/comm.h"

enum { TMB_COMM_GRACE_S = 2, TMB_COMM_RANKS = 65536 };

typedef enum tmb_comm_kind {
    TMB_COMM_BARRIER,
    TMB_COMM_ALLREDUCE,
    TMB_COMM_ALLGATHER,
    TMB_COMM_BROADCAST,
    TMB_COMM_ALLTOALL,
    TMB_COMM_GIVE_UP, /* no operation: the rank has failed, message says why */
    TMB_COMM_LOST,    /* no operation: the rank waited in vain for data */
} tmb_comm_kind;

/* What a rank is about to do: must be the same on all of them. */
typedef struct tmb_comm_step {
    uint64_t number; /* of the operation, from 1 */
    uint64_t amount; /* elements or bytes; a digest of the lengths; 0 where ranks may differ */
    int32_t kind;    /* tmb_comm_kind */
    int32_t detail;  /* reduction or root */
} tmb_comm_step;

typedef struct tmb_comm_ops {
    const char *name;
    /* All ranks came and are about to do the same; else an error that names who is not. */
    tmb_status (*meet)(tmb_comm *comm, const tmb_comm_step *step, tmb_err *err);
    /* Called after meet(), with nothing empty but parts of v-operations. */
    tmb_status (*allreduce)(tmb_comm *comm, void *data, size_t count, tmb_reduce reduce,
                            tmb_err *err);
    tmb_status (*allgatherv)(tmb_comm *comm, void *out, const void *in, const size_t *bytes,
                             tmb_err *err);
    tmb_status (*broadcast)(tmb_comm *comm, void *data, size_t bytes, int root, tmb_err *err);
    tmb_status (*alltoallv)(tmb_comm *comm, void *out, const size_t *out_bytes, const void *in,
                            const size_t *in_bytes, tmb_err *err);
    void (*abort)(tmb_comm *comm, const tmb_err *why);
    void (*close)(tmb_comm *comm); /* gives the transport's part back, not the comm */
} tmb_comm_ops;

/* Who a rank is, for messages. */
typedef struct tmb_comm_peer {
    char host[TMB_COMM_HOST_BYTES];
    int64_t process; /* 0: the thread of a process */
} tmb_comm_peer;

struct tmb_comm {
    const tmb_comm_ops *ops;
    int rank, size;
    double timeout_s;
    tmb_comm_step step;   /* the present or last operation */
    tmb_err failed;       /* the first error: .status != TMB_OK */
    bool echo;            /* that error came from another rank */
    tmb_comm_peer *peers; /* [size] */
    void *transport;
};

/* Who am I on this machine. */
void tmb_comm_peer_self(tmb_comm_peer *peer);
/* Wait a little: longer the more often it was tried, at most a millisecond. */
void tmb_comm_pause(unsigned tries);

/* "rank 1 of 4 (host a): allreduce, operation 17: " and the formatted rest into err. */
tmb_status tmb_comm_fail(tmb_comm *comm, tmb_err *err, tmb_status status, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* "rank 3 (host b, process 812)". */
enum { TMB_COMM_WHO_BYTES = 128 };
const char *tmb_comm_who(char out[TMB_COMM_WHO_BYTES], const tmb_comm *comm, int rank);
/* The sentence about ranks that did not come, all of them with came[r] false (at most 8 named). */
tmb_status tmb_comm_missing(tmb_comm *comm, const bool *came, tmb_err *err);
/* Rank r is about to do `other` where this one does comm->step. */
tmb_status tmb_comm_diverged(tmb_comm *comm, int r, const tmb_comm_step *other, tmb_err *err);
bool tmb_comm_same_step(const tmb_comm_step *a, const tmb_comm_step *b);

/* A communicator with its peers empty; NULL without memory. */
tmb_comm *tmb_comm_alloc(const tmb_comm_ops *ops, int rank, int size,
                         const tmb_comm_options *options);

size_t tmb_comm_total(const size_t *bytes, int n);

tmb_status tmb_comm_open_mpi(tmb_comm **out, const tmb_comm_options *options, tmb_err *err);
tmb_status tmb_comm_open_nccl(tmb_comm **out, const tmb_comm_options *options, tmb_err *err);
extern const tmb_comm_ops tmb_comm_self;

#endif
