/* team.h - a job shared by several threads.
 *
 * The system may refuse a thread (a limit of processes, of memory): then those that began do all of
 * the work, so nothing here can fail.  Work is therefore taken from a common counter, never given
 * out by thread number, and its result must not depend on who did it. */
#ifndef TMB_BASE_TEAM_H
#define TMB_BASE_TEAM_H

#include <stddef.h>

/* Processors that this process may use, 1 or more. */
int tmb_team_size(void);

/* Call work(ctx) in the calling thread and in up to threads - 1 others; back when all are done. */
void tmb_team_run(int threads, void (*work)(void *ctx), void *ctx);

/* Call work(ctx, i) once for each i in [0, n), in threads that take `step` of them at a time. */
void tmb_team_each(int threads, size_t n, size_t step, void (*work)(void *ctx, size_t i),
                   void *ctx);

#endif
