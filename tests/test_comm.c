/* test_comm.c - one rank, and ranks that are threads: results, and what happens when one fails.
 *
 * `test_comm mpi FATE` is a rank of mpi.test: it goes through all operations, then rank 1 meets its
 * fate.  Exit status 77 when the build has no MPI. */
#include "config.h"
#include "tests/comm_cases.h"
#include "tests/tap.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void results(void)
{
    tmb_err err = {0};
    tmb_comm *comm = NULL;
    tmb_status status = tmb_comm_open(&comm, "self", NULL, &err);
    if (!status) status = case_all(comm, NULL, &err);
    ok(!status, "self: every operation%s%s", status ? ": " : "", err.message);
    ok(!status && tmb_comm_rank(comm) == 0 && tmb_comm_size(comm) == 1 &&
           !strcmp(tmb_comm_name(comm), "self") && *tmb_comm_host(comm, 0),
       "self: rank 0 of 1 on a host with a name");
    tmb_comm_close(comm);
    static const int ranks[] = {1, 2, 3, 4, 13};
    for (size_t i = 0; i < sizeof ranks / sizeof *ranks; i++) {
        status = tmb_comm_threads_run(ranks[i], NULL, case_all, NULL, &err);
        ok(!status, "threads: every operation with %d ranks%s%s", ranks[i], status ? ": " : "",
           status ? err.message : "");
    }
}

/* NCCL with one rank, where there is a GPU: over the rank that is alone, and over a thread. */
static tmb_status nccl_rank(tmb_comm *host, void *ctx, tmb_err *err)
{
    tmb_comm *comm = NULL;
    tmb_comm_options o = {.timeout_s = 60, .over = host};
    TRY(tmb_comm_open(&comm, "nccl", &o, err));
    tmb_status status = case_all(comm, ctx, err);
    tmb_comm_close(comm);
    return status;
}

static void nccl(void)
{
    tmb_err err = {0};
    tmb_comm *host = NULL;
    tmb_status status = tmb_comm_open(&host, "self", NULL, &err);
    if (!status) status = nccl_rank(host, NULL, &err);
    tmb_comm_close(host);
    if (status == TMB_EUNAVAILABLE) {
        ok(1, "nccl: every operation with one rank # SKIP %s", err.message);
        return;
    }
    ok(!status, "nccl over self: every operation%s%s", status ? ": " : "", err.message);
    status = tmb_comm_threads_run(1, NULL, nccl_rank, NULL, &err);
    ok(!status, "nccl over threads: every operation%s%s", status ? ": " : "", err.message);
}

typedef struct fate {
    int rank; /* who does it */
    int what; /* 0 fails, 1 returns early, 2 hangs, 3 does another operation, 4 another count */
    tmb_status status[8];
    char message[8][TMB_ERR_BYTES];
} fate;

static tmb_status meet_fate(tmb_comm *comm, void *ctx, tmb_err *err)
{
    fate *f = ctx;
    int me = tmb_comm_rank(comm);
    int64_t x[4] = {1, 2, 3, 4};
    TRY(tmb_comm_allreduce(comm, x, 4, TMB_SUM_I64, err));
    if (me == f->rank) {
        if (f->what == 0)
            return tmb_fail(err, TMB_EIO, "scratch/hidden-3.bin: cannot write: no space left");
        if (f->what == 1) return TMB_OK;
        if (f->what == 2) usleep(900000);
    }
    tmb_err mine = {0};
    tmb_status status;
    if (me == f->rank && f->what == 3)
        status = tmb_comm_broadcast(comm, x, 4, 0, &mine);
    else
        status =
            tmb_comm_allreduce(comm, x, me == f->rank && f->what == 4 ? 3 : 4, TMB_SUM_I64, &mine);
    f->status[me] = status;
    strcpy(f->message[me], mine.message);
    /* a communicator that has failed only fails, with the same message */
    tmb_err again = {0};
    if (status && (tmb_comm_barrier(comm, &again) != status || strcmp(again.message, mine.message)))
        f->status[me] = TMB_EINTERNAL;
    *err = mine;
    return status;
}

static void failures(void)
{
    static const struct {
        int what;
        tmb_status status;
        const char *says, *run_says;
        const char *about;
    } cases[] = {
        {0, TMB_EIO, "rank 2 (host ", "scratch/hidden-3.bin: cannot write", "fails"},
        {1, TMB_EUNAVAILABLE, "rank 2 (host ", "rank 2 (host ", "is through before the others"},
        {2, TMB_EUNAVAILABLE, "rank 2 (host ", "rank 2 (host ", "hangs"},
        {3, TMB_EINTERNAL, "is at another place", "is at another place", "calls something else"},
        {4, TMB_EINTERNAL, "is at another place", "is at another place", "has another count"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        /* static: a thread that hangs goes on for a moment after the run */
        static fate fates[8];
        fate *f = &fates[i];
        f->rank = 2;
        f->what = cases[i].what;
        tmb_comm_options o = {.timeout_s = 0.3};
        tmb_err err = {0};
        double began = seconds();
        tmb_status status = tmb_comm_threads_run(4, &o, meet_fate, f, &err);
        double took = seconds() - began;
        bool all = true;
        for (int r = 0; r < 4; r++)
            if (r != 2) {
                bool fine = f->status[r] == cases[i].status && strstr(f->message[r], cases[i].says);
                if (!fine) printf("# rank %d: %d: %s\n", r, f->status[r], f->message[r]);
                all = all && fine;
            }
        ok(all, "threads: a rank that %s is named on every other", cases[i].about);
        ok(status == cases[i].status && strstr(err.message, cases[i].run_says),
           "threads: … and the job's error says so");
        if (status != cases[i].status || !strstr(err.message, cases[i].run_says))
            printf("# %d: %s\n", status, err.message);
        ok(took < 5, "threads: … within the timeout (%.1f s)", took);
    }
    usleep(700000); /* the one that hung is through: nothing leaks */
}

static void refusals(void)
{
    tmb_err err = {0};
    tmb_comm *comm = NULL;
    ok(tmb_comm_open(&comm, "smoke", NULL, &err) == TMB_EUSAGE && !comm &&
           strstr(err.message, "self, threads, mpi and nccl"),
       "an unknown communicator is refused with the list");
    ok(tmb_comm_open(&comm, "threads", NULL, &err) == TMB_EUSAGE && !comm &&
           strstr(err.message, "ranks of one process"),
       "threads are not opened one by one");
    ok(tmb_comm_threads_run(0, NULL, case_all, NULL, &err) == TMB_EUSAGE, "0 ranks are refused");
    tmb_status status = tmb_comm_open(&comm, "nccl", NULL, &err);
    ok(status && !comm && strstr(err.message, "NCCL"), "nccl without a host communicator: %s",
       err.message);
}

static tmb_status mpi_rank(tmb_comm *comm, const char *what, tmb_err *err)
{
    int64_t x[4] = {1, 2, 3, 4};
    TRY(case_all(comm, NULL, err));
    if (tmb_comm_rank(comm) == 1) {
        if (!strcmp(what, "dies")) raise(SIGKILL);
        if (!strcmp(what, "stops")) raise(SIGSTOP);
        if (!strcmp(what, "fails"))
            return tmb_fail(err, TMB_EIO, "scratch/hidden-3.bin: cannot write: no space left");
        if (!strcmp(what, "differs")) return tmb_comm_broadcast(comm, x, 4, 0, err);
    }
    TRY(tmb_comm_allreduce(comm, x, 4, TMB_SUM_I64, err));
    MUST("the end", x[0] == tmb_comm_size(comm));
    return TMB_OK;
}

static int mpi_main(const char *what)
{
    tmb_err err = {0};
    tmb_comm *comm = NULL;
    tmb_comm_options o = {.timeout_s = 1};
    tmb_status status = tmb_comm_open(&comm, "mpi", &o, &err);
    if (status == TMB_EUNAVAILABLE) return 77;
    if (!status) {
        status = mpi_rank(comm, what, &err);
        if (status) tmb_comm_abort(comm, &err);
        if (!status && tmb_comm_rank(comm) == 0) printf("%d ranks\n", tmb_comm_size(comm));
    }
    if (status) fprintf(stderr, "tombac: %s\n", err.message);
    tmb_comm_close(comm);
    return (int)status;
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "mpi")) return mpi_main(argv[2]);
    results();
    nccl();
    failures();
    refusals();
    return done();
}
