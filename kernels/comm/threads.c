/* threads.c - ranks that are threads of one process: they meet at a barrier and read each other's
 * memory.
 *
 * An operation is two barriers with the work between them.  Behind the first every rank sees what
 * the others are about to do and where their buffers lie; behind the second nobody reads another's
 * buffer any more.  The group outlives its last rank, also one that hangs and is given up. */
#include "config.h"
#include "kernels/comm/comm_internal.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct group group;

typedef struct seat {
    group *group;
    tmb_comm *comm;
    pthread_t thread;
    tmb_status status; /* what work() returned, and err */
    tmb_err err;
    bool started, finished, given_up;
    uint64_t arrived; /* barriers this rank came to */
    tmb_comm_step step;
    void *out;
    const void *in;
    const size_t *out_bytes, *in_bytes;
} seat;

struct group {
    pthread_mutex_t lock;
    pthread_cond_t turn;
    int size;
    int users;      /* ranks and the runner: the last one frees */
    tmb_err failed; /* the first error of any rank */
    double failed_at;
    tmb_status (*work)(tmb_comm *comm, void *ctx, tmb_err *err);
    void *ctx;
    seat seats[];
};

static seat *own(tmb_comm *comm)
{
    return comm->transport;
}

static void deadline_in(struct timespec *t, double seconds)
{
    clock_gettime(CLOCK_MONOTONIC, t);
    double whole = floor(seconds);
    t->tv_sec += (time_t)whole;
    t->tv_nsec += (long)((seconds - whole) * 1e9);
    if (t->tv_nsec >= 1000000000) t->tv_sec++, t->tv_nsec -= 1000000000;
}

static void fail_group(group *g, const tmb_err *why)
{
    if (!g->failed.status) {
        g->failed = *why;
        g->failed_at = tmb_seconds();
    }
    pthread_cond_broadcast(&g->turn);
}

static bool all_arrived(const group *g, uint64_t barrier)
{
    for (int r = 0; r < g->size; r++)
        if (g->seats[r].arrived < barrier) return false;
    return true;
}

static tmb_status time_out(tmb_comm *comm, uint64_t barrier, tmb_err *err)
{
    group *g = own(comm)->group;
    bool *came = calloc((size_t)g->size, sizeof *came);
    if (!came) return tmb_fail_memory(err, (size_t)g->size, "the names of ranks");
    for (int r = 0; r < g->size; r++)
        came[r] = g->seats[r].arrived >= barrier;
    tmb_status status = tmb_comm_missing(comm, came, err);
    free(came);
    return status;
}

static tmb_status barrier(tmb_comm *comm, tmb_err *err)
{
    seat *mine = own(comm);
    group *g = mine->group;
    struct timespec until;
    deadline_in(&until, comm->timeout_s);
    pthread_mutex_lock(&g->lock);
    uint64_t number = ++mine->arrived;
    pthread_cond_broadcast(&g->turn);
    int rc = 0;
    while (!g->failed.status && !all_arrived(g, number) && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&g->turn, &g->lock, &until);
    tmb_status status = TMB_OK;
    /* Who has come may go on even if another rank failed later: its data is whole. */
    if (!all_arrived(g, number)) {
        if (g->failed.status) {
            *err = g->failed;
            comm->echo = true;
            status = err->status;
        } else {
            status = time_out(comm, number, err);
            fail_group(g, err);
        }
    }
    pthread_mutex_unlock(&g->lock);
    return status;
}

static tmb_status meet(tmb_comm *comm, const tmb_comm_step *step, tmb_err *err)
{
    seat *mine = own(comm);
    group *g = mine->group;
    mine->step = *step;
    TRY(barrier(comm, err));
    tmb_status status = TMB_OK;
    for (int r = 0; r < g->size && !status; r++)
        if (!tmb_comm_same_step(&g->seats[r].step, step))
            status = tmb_comm_diverged(comm, r, &g->seats[r].step, err);
    /* Every rank has looked before anyone changes its step. */
    if (status) {
        pthread_mutex_lock(&g->lock);
        fail_group(g, err);
        pthread_mutex_unlock(&g->lock);
        return status;
    }
    return barrier(comm, err);
}

static tmb_status show(tmb_comm *comm, void *out, const size_t *out_bytes, const void *in,
                       const size_t *in_bytes, tmb_err *err)
{
    seat *mine = own(comm);
    mine->out = out;
    mine->out_bytes = out_bytes;
    mine->in = in;
    mine->in_bytes = in_bytes;
    return barrier(comm, err);
}

/* ------------------------------------------------------------------------------ operations */

#define REDUCE(type, expression)                                                                   \
    for (size_t i = first; i < end; i++) {                                                         \
        type a = ((const type *)seats[0].out)[i];                                                  \
        for (int r = 1; r < n; r++) {                                                              \
            type b = ((const type *)seats[r].out)[i];                                              \
            a = (expression);                                                                      \
        }                                                                                          \
        for (int r = 0; r < n; r++)                                                                \
            ((type *)seats[r].out)[i] = a;                                                         \
    }

/* Each rank reduces its slice of the elements for all. */
static tmb_status allreduce(tmb_comm *comm, void *data, size_t count, tmb_reduce reduce,
                            tmb_err *err)
{
    TRY(show(comm, data, NULL, NULL, NULL, err));
    const seat *seats = own(comm)->group->seats;
    int n = comm->size;
    size_t slice = count / (size_t)n + (count % (size_t)n != 0);
    size_t first = slice * (size_t)comm->rank;
    size_t end = first + slice;
    if (first > count) first = count;
    if (end > count) end = count;
    switch (reduce) {
    case TMB_SUM_I64: /* unsigned: a wrap is defined */
    case TMB_SUM_U64:
        REDUCE(uint64_t, a + b) break;
    case TMB_MAX_I32:
        REDUCE(int32_t, b > a ? b : a) break;
    case TMB_MAX_F32:
        REDUCE(float, b > a ? b : a) break;
    }
    return barrier(comm, err);
}

static tmb_status allgatherv(tmb_comm *comm, void *out, const void *in, const size_t *bytes,
                             tmb_err *err)
{
    TRY(show(comm, out, NULL, in, NULL, err));
    char *to = out;
    for (int r = 0; r < comm->size; r++) {
        if (bytes[r]) memmove(to, own(comm)->group->seats[r].in, bytes[r]);
        to += bytes[r];
    }
    return barrier(comm, err);
}

static tmb_status broadcast(tmb_comm *comm, void *data, size_t bytes, int root, tmb_err *err)
{
    TRY(show(comm, data, NULL, NULL, NULL, err));
    if (comm->rank != root) memcpy(data, own(comm)->group->seats[root].out, bytes);
    return barrier(comm, err);
}

static tmb_status alltoallv(tmb_comm *comm, void *out, const size_t *out_bytes, const void *in,
                            const size_t *in_bytes, tmb_err *err)
{
    TRY(show(comm, out, out_bytes, in, in_bytes, err));
    char *to = out;
    tmb_status status = TMB_OK;
    for (int r = 0; r < comm->size && !status; r++) {
        const seat *from = &own(comm)->group->seats[r];
        size_t n = from->in_bytes[comm->rank];
        char who[TMB_COMM_WHO_BYTES];
        if (n != out_bytes[r])
            status = tmb_comm_fail(comm, err, TMB_EINTERNAL, "%s sends %zu bytes, %zu expected",
                                   tmb_comm_who(who, comm, r), n, out_bytes[r]);
        else if (n)
            memcpy(to, (const char *)from->in + tmb_comm_total(from->in_bytes, comm->rank), n);
        to += out_bytes[r];
    }
    if (status) {
        group *g = own(comm)->group;
        pthread_mutex_lock(&g->lock);
        fail_group(g, err);
        pthread_mutex_unlock(&g->lock);
        return status;
    }
    return barrier(comm, err);
}

static void give_up(tmb_comm *comm, const tmb_err *why)
{
    group *g = own(comm)->group;
    tmb_err told;
    char who[TMB_COMM_WHO_BYTES];
    tmb_fail(&told, why->status, "%s of %d gave up: %s", tmb_comm_who(who, comm, comm->rank),
             comm->size, why->message);
    pthread_mutex_lock(&g->lock);
    fail_group(g, &told);
    pthread_mutex_unlock(&g->lock);
}

static const tmb_comm_ops threads_ops = {
    .name = "threads",
    .meet = meet,
    .allreduce = allreduce,
    .allgatherv = allgatherv,
    .broadcast = broadcast,
    .alltoallv = alltoallv,
    .abort = give_up,
};

/* ------------------------------------------------------------------------------ the runner */

static void leave(group *g)
{
    pthread_mutex_lock(&g->lock);
    bool last = --g->users == 0;
    pthread_mutex_unlock(&g->lock);
    if (!last) return;
    for (int r = 0; r < g->size; r++)
        tmb_comm_close(g->seats[r].comm);
    pthread_cond_destroy(&g->turn);
    pthread_mutex_destroy(&g->lock);
    free(g);
}

static void *rank_main(void *arg)
{
    seat *mine = arg;
    group *g = mine->group;
    tmb_err err = {0};
    tmb_status status = g->work(mine->comm, g->ctx, &err);
    if (status) {
        err.status = status;
        tmb_comm_abort(mine->comm, &err);
    }
    pthread_mutex_lock(&g->lock);
    mine->status = status;
    mine->err = err;
    mine->finished = true;
    pthread_cond_broadcast(&g->turn);
    pthread_mutex_unlock(&g->lock);
    leave(g);
    return NULL;
}

static bool all_finished(const group *g)
{
    for (int r = 0; r < g->size; r++)
        if (g->seats[r].started && !g->seats[r].finished) return false;
    return true;
}

/* Wait for the ranks; after a failure no longer than the timeout for those that hang. */
static void wait_for_all(group *g, double timeout_s)
{
    pthread_mutex_lock(&g->lock);
    while (!all_finished(g)) {
        if (!g->failed.status) {
            pthread_cond_wait(&g->turn, &g->lock);
            continue;
        }
        double left = g->failed_at + timeout_s - tmb_seconds();
        if (left <= 0) break;
        struct timespec until;
        deadline_in(&until, left);
        pthread_cond_timedwait(&g->turn, &g->lock, &until);
    }
    for (int r = 0; r < g->size; r++)
        if (g->seats[r].started && !g->seats[r].finished) {
            g->seats[r].given_up = true;
            pthread_detach(g->seats[r].thread);
        }
    pthread_mutex_unlock(&g->lock);
}

/* The first rank's own error; without one, what the ranks heard. */
static tmb_status verdict(group *g, tmb_err *err)
{
    const tmb_err *found = NULL;
    tmb_err copy;
    pthread_mutex_lock(&g->lock);
    for (int r = 0; r < g->size && !found; r++)
        if (g->seats[r].finished && g->seats[r].status && !g->seats[r].comm->echo)
            found = &g->seats[r].err;
    if (!found && g->failed.status) found = &g->failed;
    if (found) copy = *found;
    pthread_mutex_unlock(&g->lock);
    if (!found) return TMB_OK;
    if (err) *err = copy;
    return copy.status;
}

static tmb_status start(group *g, int ranks, const tmb_comm_options *options, tmb_err *err)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->turn, &attr);
    pthread_condattr_destroy(&attr);
    g->users = 1;
    g->size = ranks;
    for (int r = 0; r < ranks; r++) {
        seat *s = &g->seats[r];
        s->group = g;
        s->comm = tmb_comm_alloc(&threads_ops, r, ranks, options);
        if (!s->comm) return tmb_fail_memory(err, sizeof(tmb_comm), "a communicator");
        s->comm->transport = s;
        for (int i = 0; i < ranks; i++) {
            tmb_comm_peer_self(&s->comm->peers[i]);
            s->comm->peers[i].process = 0;
        }
    }
    return TMB_OK;
}

tmb_status tmb_comm_threads_run(int ranks, const tmb_comm_options *options,
                                tmb_status (*work)(tmb_comm *comm, void *ctx, tmb_err *err),
                                void *ctx, tmb_err *err)
{
    if (ranks < 1 || ranks > 1024)
        return tmb_fail(err, TMB_EUSAGE, "%d ranks; 1 to 1024 threads of a process can be ranks",
                        ranks);
    group *g = calloc(1, sizeof *g + (size_t)ranks * sizeof g->seats[0]);
    if (!g) return tmb_fail_memory(err, sizeof *g, "a group of ranks");
    g->work = work;
    g->ctx = ctx;
    tmb_status status = start(g, ranks, options, err);
    for (int r = 0; r < ranks && !status; r++) {
        pthread_mutex_lock(&g->lock);
        g->users++;
        g->seats[r].started = true;
        int rc = pthread_create(&g->seats[r].thread, NULL, rank_main, &g->seats[r]);
        if (rc) {
            errno = rc;
            status = tmb_fail_errno(err, TMB_ESYSTEM, "cannot start a thread for rank %d of %d", r,
                                    ranks);
            g->users--;
            g->seats[r].started = false;
            fail_group(g, err ? err : &(tmb_err){.status = status});
        }
        pthread_mutex_unlock(&g->lock);
    }
    wait_for_all(g, options && options->timeout_s > 0 ? options->timeout_s : TMB_COMM_TIMEOUT_S);
    for (int r = 0; r < ranks; r++)
        if (g->seats[r].started && !g->seats[r].given_up) pthread_join(g->seats[r].thread, NULL);
    if (!status) status = verdict(g, err);
    leave(g);
    return status;
}
