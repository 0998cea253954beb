/* comm_cases.h - what every communicator must do, run by threads and by MPI ranks alike. */
#ifndef TESTS_COMM_CASES_H
#define TESTS_COMM_CASES_H

#include "kernels/comm/comm.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* TMB_EINTERNAL with the number of the case when a result is wrong. */
#define MUST(case_, condition)                                                                     \
    do {                                                                                           \
        if (!(condition))                                                                          \
            return tmb_fail(err, TMB_EINTERNAL, "case %s: rank %d of %d: " #condition, case_,      \
                            tmb_comm_rank(comm), tmb_comm_size(comm));                             \
    } while (0)

enum { CASE_COUNT = 1003 };

static inline tmb_status case_reduce(tmb_comm *comm, tmb_err *err)
{
    int me = tmb_comm_rank(comm), n = tmb_comm_size(comm);
    int64_t i64[CASE_COUNT];
    uint64_t u64[CASE_COUNT];
    int32_t i32[CASE_COUNT];
    float f32[CASE_COUNT];
    for (int i = 0; i < CASE_COUNT; i++) {
        i64[i] = (int64_t)(i - 500) * (me + 1) * 1000000007;
        u64[i] = UINT64_MAX / 64 - (uint64_t)i * (uint64_t)me;
        i32[i] = (i * 37 + me * 101) % 211 - 100;
        f32[i] = (float)((i * 53 + me * 29) % 97) / 7.0f - 5.0f;
    }
    TRY(tmb_comm_allreduce(comm, i64, CASE_COUNT, TMB_SUM_I64, err));
    TRY(tmb_comm_allreduce(comm, u64, CASE_COUNT, TMB_SUM_U64, err));
    TRY(tmb_comm_allreduce(comm, i32, CASE_COUNT, TMB_MAX_I32, err));
    TRY(tmb_comm_allreduce(comm, f32, CASE_COUNT, TMB_MAX_F32, err));
    for (int i = 0; i < CASE_COUNT; i++) {
        uint64_t u = 0;
        int32_t m = INT32_MIN;
        float f = -INFINITY;
        for (int r = 0; r < n; r++) {
            int32_t v = (i * 37 + r * 101) % 211 - 100;
            float g = (float)((i * 53 + r * 29) % 97) / 7.0f - 5.0f;
            u += UINT64_MAX / 64 - (uint64_t)i * (uint64_t)r;
            m = v > m ? v : m;
            f = g > f ? g : f;
        }
        MUST("sum i64", i64[i] == (int64_t)(i - 500) * (n * (n + 1) / 2) * 1000000007);
        MUST("sum u64", u64[i] == u);
        MUST("max i32", i32[i] == m);
        MUST("max f32", f32[i] == f);
    }
    return tmb_comm_allreduce(comm, NULL, 0, TMB_SUM_I64, err);
}

static inline tmb_status case_gather(tmb_comm *comm, tmb_err *err)
{
    int me = tmb_comm_rank(comm), n = tmb_comm_size(comm);
    uint32_t all[64] = {0}, mine = 7u + (uint32_t)me * 3u;
    MUST("gather", n <= 64);
    TRY(tmb_comm_allgather(comm, all, &mine, sizeof mine, err));
    for (int r = 0; r < n; r++)
        MUST("gather", all[r] == 7u + (uint32_t)r * 3u);
    /* rank r gives r * 5 bytes: rank 0 none */
    size_t bytes[64], total = 0;
    unsigned char in[64 * 5], out[64 * 64 * 5];
    for (int r = 0; r < n; r++) {
        bytes[r] = (size_t)r * 5;
        total += bytes[r];
    }
    memset(in, me + 1, sizeof in);
    TRY(tmb_comm_allgatherv(comm, out, in, bytes, err));
    for (size_t r = 0, at = 0; r < (size_t)n; r++)
        for (size_t i = 0; i < bytes[r]; i++)
            MUST("gatherv", out[at++] == r + 1);
    (void)total;
    for (int root = 0; root < n; root++) {
        char text[32] = "";
        if (me == root) snprintf(text, sizeof text, "from %d", root);
        TRY(tmb_comm_broadcast(comm, text, sizeof text, root, err));
        char want[32];
        snprintf(want, sizeof want, "from %d", root);
        MUST("broadcast", !strcmp(text, want));
    }
    return tmb_comm_barrier(comm, err);
}

/* Rank s sends rank d (s * 3 + d * 7) % 11 integers, each s * 1000 + d. */
static inline tmb_status case_exchange(tmb_comm *comm, tmb_err *err)
{
    int me = tmb_comm_rank(comm), n = tmb_comm_size(comm);
    size_t in_bytes[64], out_bytes[64], at = 0;
    int32_t in[64 * 11], out[64 * 11];
    for (int r = 0; r < n; r++) {
        size_t k = (size_t)(me * 3 + r * 7) % 11;
        for (size_t i = 0; i < k; i++)
            in[at++] = me * 1000 + r;
        in_bytes[r] = k * 4;
        out_bytes[r] = (size_t)(r * 3 + me * 7) % 11 * 4;
    }
    TRY(tmb_comm_alltoallv(comm, out, out_bytes, in, in_bytes, err));
    at = 0;
    for (int r = 0; r < n; r++)
        for (size_t i = 0; i < out_bytes[r] / 4; i++)
            MUST("exchange", out[at++] == r * 1000 + me);
    return TMB_OK;
}

static inline tmb_status case_all(tmb_comm *comm, void *ctx, tmb_err *err)
{
    (void)ctx;
    for (int i = 0; i < 3; i++) {
        TRY(case_reduce(comm, err));
        TRY(case_gather(comm, err));
        TRY(case_exchange(comm, err));
    }
    return TMB_OK;
}

#endif
