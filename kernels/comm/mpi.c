/* mpi.c - ranks that are processes of one MPI job.
 *
 * Ranks meet at rank 0 by messages of our own, because a collective of MPI cannot say who did not
 * come: every rank sends its step, rank 0 compares them and answers with a verdict, the same for
 * all.  Only then does data move, by operations that are polled against the clock.  A rank whose
 * data does not come tells rank 0 that it is lost; rank 0 then waits a moment for the others and
 * names those that said nothing.
 *
 * After an error nothing is waited for and MPI_Finalize is not called: the process ends with a
 * non-zero status, and mpirun ends the rest, stopped ranks too. */
#include "config.h"
#include "kernels/comm/comm_internal.h"

#ifdef HAVE_MPI

#include <mpi.h>
#include <stdlib.h>
#include <string.h>

enum { TAG_STEP = 1, TAG_VERDICT, TAG_DATA };
static const size_t piece_bytes = (size_t)1 << 28; /* MPI counts are int */

/* What ranks tell rank 0, and what it answers (step.kind TMB_COMM_GIVE_UP with status set). */
typedef struct word {
    tmb_comm_step step;
    int32_t status;
    char message[TMB_ERR_BYTES - 128];
} word;

typedef struct mpi_state {
    MPI_Comm world;
    bool owns; /* we called MPI_Init */
    word mine, verdict;
    word *words;       /* rank 0: [size] */
    MPI_Request *asks; /* rank 0: [size]; others: [2] */
    bool *came;        /* rank 0: [size] */
} mpi_state;

static mpi_state *own(tmb_comm *comm)
{
    return comm->transport;
}

static tmb_status mpi_fail(tmb_comm *comm, int rc, const char *call, tmb_err *err)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int n = 0;
    MPI_Error_string(rc, text, &n);
    return tmb_comm_fail(comm, err, TMB_EUNAVAILABLE, "%s: %.300s", call, text);
}

#define MPI_TRY(call)                                                                              \
    do {                                                                                           \
        int mpi_rc_ = (call);                                                                      \
        if (mpi_rc_ != MPI_SUCCESS) return mpi_fail(comm, mpi_rc_, #call, err);                    \
    } while (0)

static tmb_status as_status(const word *w, tmb_err *err)
{
    return tmb_fail(err, (tmb_status)w->status, "%s", w->message);
}

static void fill(word *w, const tmb_comm_step *step, int kind, const tmb_err *why)
{
    memset(w, 0, sizeof *w);
    if (step) w->step = *step;
    w->step.kind = kind;
    w->status = why ? (int32_t)why->status : 0;
    if (why) {
        memcpy(w->message, why->message, sizeof w->message - 1);
        if (!w->status) w->status = TMB_EINTERNAL;
    }
}

/* ------------------------------------------------------------------------------ rank 0 */

/* Send the verdict to all others.  Of a failure nothing is waited for but a second: a stopped rank
 * would not take it. */
static tmb_status answer(tmb_comm *comm, const tmb_err *why, tmb_err *err)
{
    mpi_state *m = own(comm);
    fill(&m->verdict, &comm->step, why ? TMB_COMM_GIVE_UP : comm->step.kind, why);
    for (int r = 1; r < comm->size; r++)
        MPI_TRY(MPI_Isend(&m->verdict, sizeof m->verdict, MPI_BYTE, r, TAG_VERDICT, m->world,
                          &m->asks[r]));
    double until = tmb_seconds() + (why ? 1.0 : comm->timeout_s);
    int done = 0;
    for (unsigned tries = 0; !done && tmb_seconds() < until; tries++) {
        MPI_TRY(MPI_Testall(comm->size - 1, m->asks + 1, &done, MPI_STATUSES_IGNORE));
        if (!done) tmb_comm_pause(tries);
    }
    if (why) return as_status(&m->verdict, err);
    for (int r = 1; r < comm->size && !done; r++) {
        int taken = 0;
        MPI_TRY(MPI_Test(&m->asks[r], &taken, MPI_STATUS_IGNORE));
        m->came[r] = taken != 0;
    }
    return done ? TMB_OK : tmb_comm_missing(comm, m->came, err);
}

/* Take the steps that have come.  *left: how many have not; *lost: some rank waits in vain. */
static tmb_status take(tmb_comm *comm, int *left, bool *lost, tmb_err *err)
{
    mpi_state *m = own(comm);
    *left = 0;
    for (int r = 1; r < comm->size; r++) {
        int done = 0;
        if (m->came[r]) continue;
        MPI_TRY(MPI_Test(&m->asks[r], &done, MPI_STATUS_IGNORE));
        if (!done) {
            ++*left;
            continue;
        }
        m->came[r] = true;
        const word *w = &m->words[r];
        if (w->step.kind == TMB_COMM_LOST)
            *lost = true;
        else if (w->step.kind == TMB_COMM_GIVE_UP) {
            tmb_err why = {0};
            char who[TMB_COMM_WHO_BYTES];
            tmb_fail(&why, (tmb_status)w->status, "%s of %d gave up: %s",
                     tmb_comm_who(who, comm, r), comm->size, w->message);
            comm->echo = true;
            return answer(comm, &why, err);
        } else if (!*lost && !tmb_comm_same_step(&w->step, &comm->step)) {
            tmb_err why = {0};
            tmb_comm_diverged(comm, r, &w->step, &why);
            return answer(comm, &why, err);
        }
    }
    return TMB_OK;
}

/* lost: data did not come here, and what the others are about to do does not matter any more. */
static tmb_status meet_first(tmb_comm *comm, bool lost, tmb_err *err)
{
    mpi_state *m = own(comm);
    memset(m->came, 0, (size_t)comm->size * sizeof *m->came);
    m->came[0] = true;
    for (int r = 1; r < comm->size; r++)
        MPI_TRY(MPI_Irecv(&m->words[r], sizeof m->words[r], MPI_BYTE, r, TAG_STEP, m->world,
                          &m->asks[r]));
    double until = tmb_seconds() + (lost ? TMB_COMM_GRACE_S : comm->timeout_s);
    for (unsigned tries = 0;; tries++) {
        int left;
        bool before = lost;
        TRY(take(comm, &left, &lost, err));
        double now = tmb_seconds();
        if (lost && !before && now + TMB_COMM_GRACE_S < until) until = now + TMB_COMM_GRACE_S;
        if (!left && !lost) return answer(comm, NULL, err);
        if (!left || now > until) break;
        tmb_comm_pause(tries);
    }
    tmb_err why = {0};
    tmb_comm_missing(comm, m->came, &why);
    return answer(comm, &why, err);
}

/* ------------------------------------------------------------------------------ other ranks */

static tmb_status tell(tmb_comm *comm, tmb_err *err)
{
    mpi_state *m = own(comm);
    MPI_TRY(
        MPI_Irecv(&m->verdict, sizeof m->verdict, MPI_BYTE, 0, TAG_VERDICT, m->world, &m->asks[0]));
    MPI_TRY(MPI_Isend(&m->mine, sizeof m->mine, MPI_BYTE, 0, TAG_STEP, m->world, &m->asks[1]));
    double until = tmb_seconds() + comm->timeout_s + TMB_COMM_GRACE_S;
    for (unsigned tries = 0; tmb_seconds() < until; tries++) {
        int heard = 0, sent = 0;
        MPI_TRY(MPI_Test(&m->asks[1], &sent, MPI_STATUS_IGNORE));
        MPI_TRY(MPI_Test(&m->asks[0], &heard, MPI_STATUS_IGNORE));
        if (heard && m->verdict.step.kind == TMB_COMM_GIVE_UP) {
            comm->echo = true;
            return as_status(&m->verdict, err);
        }
        if (heard && sent) return TMB_OK;
        tmb_comm_pause(tries);
    }
    for (int r = 0; r < comm->size; r++)
        m->came[r] = r != 0;
    return tmb_comm_missing(comm, m->came, err);
}

static tmb_status meet(tmb_comm *comm, const tmb_comm_step *step, tmb_err *err)
{
    if (comm->rank == 0) return meet_first(comm, false, err);
    fill(&own(comm)->mine, step, step->kind, NULL);
    return tell(comm, err);
}

static void give_up(tmb_comm *comm, const tmb_err *why)
{
    mpi_state *m = own(comm);
    tmb_err err, told;
    if (comm->rank == 0) {
        char who[TMB_COMM_WHO_BYTES];
        tmb_fail(&told, why->status, "%s of %d gave up: %s", tmb_comm_who(who, comm, 0), comm->size,
                 why->message);
        (void)answer(comm, &told, &err);
        return;
    }
    fill(&m->mine, &comm->step, TMB_COMM_GIVE_UP, why);
    if (MPI_Isend(&m->mine, sizeof m->mine, MPI_BYTE, 0, TAG_STEP, m->world, &m->asks[1]) !=
        MPI_SUCCESS)
        return;
    double until = tmb_seconds() + 1.0;
    int done = 0;
    for (unsigned tries = 0; !done && tmb_seconds() < until; tries++) {
        if (MPI_Test(&m->asks[1], &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) return;
        if (!done) tmb_comm_pause(tries);
    }
}

/* ------------------------------------------------------------------------------ data */

/* Poll until the requests are done.  In vain: find out with rank 0 who is missing. */
static tmb_status wait_for(tmb_comm *comm, int n, MPI_Request *requests, tmb_err *err)
{
    mpi_state *m = own(comm);
    double until = tmb_seconds() + comm->timeout_s;
    for (unsigned tries = 0;; tries++) {
        int done = 0;
        MPI_TRY(MPI_Testall(n, requests, &done, MPI_STATUSES_IGNORE));
        if (done) return TMB_OK;
        if (tmb_seconds() > until) break;
        tmb_comm_pause(tries);
    }
    comm->step.number++; /* a meeting of its own, for those that are lost */
    if (comm->rank == 0) return meet_first(comm, true, err);
    fill(&m->mine, &comm->step, TMB_COMM_LOST, NULL);
    return tell(comm, err);
}

static tmb_status allreduce(tmb_comm *comm, void *data, size_t count, tmb_reduce reduce,
                            tmb_err *err)
{
    const MPI_Datatype types[] = {MPI_INT64_T, MPI_UINT64_T, MPI_INT32_T, MPI_FLOAT};
    size_t width = reduce == TMB_SUM_I64 || reduce == TMB_SUM_U64 ? 8 : 4;
    MPI_Op op = width == 8 ? MPI_SUM : MPI_MAX;
    size_t most = piece_bytes / width;
    for (size_t at = 0; at < count; at += most) {
        size_t n = count - at < most ? count - at : most;
        MPI_Request request;
        MPI_TRY(MPI_Iallreduce(MPI_IN_PLACE, (char *)data + at * width, (int)n, types[reduce], op,
                               own(comm)->world, &request));
        TRY(wait_for(comm, 1, &request, err));
    }
    return TMB_OK;
}

static tmb_status broadcast(tmb_comm *comm, void *data, size_t bytes, int root, tmb_err *err)
{
    for (size_t at = 0; at < bytes; at += piece_bytes) {
        size_t n = bytes - at < piece_bytes ? bytes - at : piece_bytes;
        MPI_Request request;
        MPI_TRY(MPI_Ibcast((char *)data + at, (int)n, MPI_BYTE, root, own(comm)->world, &request));
        TRY(wait_for(comm, 1, &request, err));
    }
    return TMB_OK;
}

static tmb_status allgatherv(tmb_comm *comm, void *out, const void *in, const size_t *bytes,
                             tmb_err *err)
{
    char *to = out;
    for (int r = 0; r < comm->size; r++) {
        if (r == comm->rank && bytes[r]) memmove(to, in, bytes[r]);
        TRY(broadcast(comm, to, bytes[r], r, err));
        to += bytes[r];
    }
    return TMB_OK;
}

/* Pieces of at most piece_bytes to and from every rank, all under way at once. */
static tmb_status alltoallv(tmb_comm *comm, void *out, const size_t *out_bytes, const void *in,
                            const size_t *in_bytes, tmb_err *err)
{
    size_t n = 0, k = 0;
    for (int r = 0; r < comm->size; r++)
        n += out_bytes[r] / piece_bytes + in_bytes[r] / piece_bytes + 2;
    MPI_Request *requests = malloc(n * sizeof *requests);
    if (!requests) return tmb_fail_memory(err, n * sizeof *requests, "messages between ranks");
    int rc = MPI_SUCCESS;
    const char *from = in;
    char *to = out;
    for (int r = 0; r < comm->size; r++) {
        for (size_t at = 0; at < out_bytes[r] && !rc; at += piece_bytes) {
            size_t b = out_bytes[r] - at < piece_bytes ? out_bytes[r] - at : piece_bytes;
            rc =
                MPI_Irecv(to + at, (int)b, MPI_BYTE, r, TAG_DATA, own(comm)->world, &requests[k++]);
        }
        for (size_t at = 0; at < in_bytes[r] && !rc; at += piece_bytes) {
            size_t b = in_bytes[r] - at < piece_bytes ? in_bytes[r] - at : piece_bytes;
            rc = MPI_Isend(from + at, (int)b, MPI_BYTE, r, TAG_DATA, own(comm)->world,
                           &requests[k++]);
        }
        to += out_bytes[r];
        from += in_bytes[r];
    }
    tmb_status status = rc ? mpi_fail(comm, rc, "MPI_Isend or MPI_Irecv", err)
                           : wait_for(comm, (int)k, requests, err);
    free(requests);
    return status;
}

/* ------------------------------------------------------------------------------ open, close */

static void close_mpi(tmb_comm *comm)
{
    mpi_state *m = own(comm);
    if (!m) return;
    if (!comm->failed.status) {
        MPI_Comm_free(&m->world);
        if (m->owns) MPI_Finalize();
    }
    free(m->words);
    free(m->asks);
    free(m->came);
    free(m);
}

static const tmb_comm_ops mpi_ops = {
    .name = "mpi",
    .meet = meet,
    .allreduce = allreduce,
    .allgatherv = allgatherv,
    .broadcast = broadcast,
    .alltoallv = alltoallv,
    .abort = give_up,
    .close = close_mpi,
};

tmb_status tmb_comm_open_mpi(tmb_comm **out, const tmb_comm_options *options, tmb_err *err)
{
    int inited = 0, finalized = 0, level, rank = 0, size = 0;
    MPI_Initialized(&inited);
    MPI_Finalized(&finalized);
    if (finalized)
        return tmb_fail(err, TMB_EUNAVAILABLE, "MPI can be opened once in the life of a process");
    if (!inited && MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level) != MPI_SUCCESS)
        return tmb_fail(err, TMB_EUNAVAILABLE, "MPI_Init_thread failed; start with mpirun");
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    tmb_comm *comm = tmb_comm_alloc(&mpi_ops, rank, size, options);
    mpi_state *m = calloc(1, sizeof *m);
    if (!comm || !m) goto no_memory;
    comm->transport = m;
    m->owns = !inited;
    m->words = calloc((size_t)size, sizeof *m->words);
    m->asks = calloc((size_t)size + 2, sizeof *m->asks);
    m->came = calloc((size_t)size, sizeof *m->came);
    if (!m->words || !m->asks || !m->came) goto no_memory;
    tmb_comm_peer self;
    tmb_comm_peer_self(&self);
    MPI_Comm_dup(MPI_COMM_WORLD, &m->world);
    MPI_Comm_set_errhandler(m->world, MPI_ERRORS_RETURN);
    if (MPI_Allgather(&self, sizeof self, MPI_BYTE, comm->peers, sizeof self, MPI_BYTE, m->world) !=
        MPI_SUCCESS) {
        comm->failed.status = TMB_EUNAVAILABLE;
        tmb_comm_close(comm);
        return tmb_fail(err, TMB_EUNAVAILABLE, "MPI: ranks cannot tell each other their hosts");
    }
    *out = comm;
    return TMB_OK;

no_memory:
    if (!comm || !comm->transport) free(m);
    if (comm) comm->failed.status = TMB_ESYSTEM;
    tmb_comm_close(comm);
    return tmb_fail_memory(err, sizeof *m, "a communicator");
}

#else

tmb_status tmb_comm_open_mpi(tmb_comm **out, const tmb_comm_options *options, tmb_err *err)
{
    (void)options;
    *out = NULL;
    return tmb_fail(
        err, TMB_EUNAVAILABLE,
        "this build has no MPI; install its development files (Debian: libopenmpi-dev), "
        "run configure again, or use threads of one process as ranks");
}

#endif
