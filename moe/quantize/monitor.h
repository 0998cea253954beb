/* monitor.h - the one lock of a run, and the one thing its threads wait for: that something
 * changed.  What threads share is small and looked at once a tile, so one lock is enough. */
#ifndef TMB_QUANTIZE_MONITOR_H
#define TMB_QUANTIZE_MONITOR_H

#include "kernels/base/err.h"

#include <pthread.h>
#include <stdbool.h>

typedef struct tmb_monitor {
    pthread_mutex_t lock;
    pthread_cond_t change;
    bool failed; /* atomic: somebody failed, or was told to stop; nobody waits any more */
    tmb_err err; /* of the first */
} tmb_monitor;

static inline void tmb_monitor_open(tmb_monitor *m)
{
    *m = (tmb_monitor){0};
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->change, NULL);
}

static inline void tmb_monitor_close(tmb_monitor *m)
{
    pthread_cond_destroy(&m->change);
    pthread_mutex_destroy(&m->lock);
}

static inline void tmb_enter(tmb_monitor *m)
{
    pthread_mutex_lock(&m->lock);
}

static inline void tmb_leave(tmb_monitor *m)
{
    pthread_mutex_unlock(&m->lock);
}

/* Inside: something changed that others may wait for. */
static inline void tmb_changed(tmb_monitor *m)
{
    pthread_cond_broadcast(&m->change);
}

/* Inside: until something changed. */
static inline void tmb_wait(tmb_monitor *m)
{
    pthread_cond_wait(&m->change, &m->lock);
}

/* Inside: the first error is the run's. */
static inline void tmb_monitor_fail(tmb_monitor *m, const tmb_err *err)
{
    if (!m->failed) m->err = *err;
    __atomic_store_n(&m->failed, true, __ATOMIC_RELAXED);
    pthread_cond_broadcast(&m->change);
}

#endif
