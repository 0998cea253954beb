#include "config.h"
#include "kernels/base/team.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

int tmb_team_size(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0) return CPU_COUNT(&set);
    long n = sysconf(_SC_NPROCESSORS_ONLN); /* more processors than a cpu_set_t holds */
    return n > 0 && n < 1 << 20 ? (int)n : 1;
}

typedef struct member {
    void (*work)(void *ctx);
    void *ctx;
} member;

static void *begin(void *arg)
{
    const member *m = arg;
    m->work(m->ctx);
    return NULL;
}

void tmb_team_run(int threads, void (*work)(void *ctx), void *ctx)
{
    member m = {work, ctx};
    pthread_t *ids = threads > 1 ? malloc((size_t)(threads - 1) * sizeof *ids) : NULL;
    int n = 0;
    while (ids && n < threads - 1 && pthread_create(&ids[n], NULL, begin, &m) == 0)
        n++;
    work(ctx);
    while (n > 0)
        pthread_join(ids[--n], NULL);
    free(ids);
}

typedef struct loop {
    size_t next, n, step; /* next: atomic */
    void (*work)(void *ctx, size_t i);
    void *ctx;
} loop;

static void take_turns(void *arg)
{
    loop *l = arg;
    for (;;) {
        size_t i = __atomic_fetch_add(&l->next, l->step, __ATOMIC_RELAXED);
        if (i >= l->n) return;
        size_t end = l->n - i < l->step ? l->n : i + l->step;
        for (; i < end; i++)
            l->work(l->ctx, i);
    }
}

void tmb_team_each(int threads, size_t n, size_t step, void (*work)(void *ctx, size_t i), void *ctx)
{
    loop l = {.n = n, .step = step ? step : 1, .work = work, .ctx = ctx};
    size_t turns = n / l.step + (n % l.step != 0);
    if (turns < (size_t)(threads > 1 ? threads : 1)) threads = (int)turns;
    tmb_team_run(threads, take_turns, &l);
}
