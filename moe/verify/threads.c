/* threads.c - one loop over modules or units, shared by threads: the first failure ends it for
 * all, and so does somebody who asks for the end. */
#include "config.h"
#include "moe/verify/verify_internal.h"

#include "kernels/base/team.h"

bool tmb_next(tmb_loop *loop, uint32_t *i)
{
    const tmb_watch *watch = &loop->v->options->watch;
    if (__atomic_load_n(&loop->failed, __ATOMIC_RELAXED)) return false;
    if (watch->stop && *watch->stop) {
        tmb_err err;
        tmb_fail(&err, TMB_ESYSTEM, "%s: stopped before the end", loop->v->ckpt->path);
        tmb_loop_fail(loop, &err);
        return false;
    }
    *i = __atomic_fetch_add(&loop->next, 1, __ATOMIC_RELAXED);
    return *i < loop->n;
}

void tmb_loop_fail(tmb_loop *loop, const tmb_err *err)
{
    pthread_mutex_lock(&loop->v->lock);
    if (!loop->failed) loop->err = *err;
    __atomic_store_n(&loop->failed, true, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&loop->v->lock);
}

tmb_status tmb_loop_run(tmb_loop *loop, void (*work)(void *loop), tmb_err *err)
{
    tmb_team_run(loop->v->threads, work, loop);
    if (!loop->failed) return TMB_OK;
    if (err) *err = loop->err;
    return loop->err.status;
}

void tmb_tick(tmb_verifier *v, uint64_t bytes, const char *name)
{
    pthread_mutex_lock(&v->lock);
    v->done_bytes += bytes;
    v->done_units++;
    if (v->options->watch.progress) {
        tmb_progress p = {.phase = "verify",
                          .done_bytes = v->done_bytes,
                          .total_bytes = v->total_bytes,
                          .done_units = v->done_units,
                          .total_units = v->total_units,
                          .current = name};
        v->options->watch.progress(v->options->watch.ctx, &p);
    }
    pthread_mutex_unlock(&v->lock);
}
