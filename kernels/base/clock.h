/* clock.h - seconds on the monotonic clock, and of this thread's work. */
#ifndef TMB_BASE_CLOCK_H
#define TMB_BASE_CLOCK_H

#include <time.h>

static inline double tmb_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Of the thread that calls: what it computed, whatever else ran on the machine. */
static inline double tmb_thread_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
