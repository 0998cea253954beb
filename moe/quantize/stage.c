#include "config.h"
#include "moe/quantize/stage.h"

#include "moe/io/direct.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Below this a read is not worth a direct one, and says nothing about speed. */
#define LARGE_READ (UINT64_C(512) << 10)
enum { TRY_EVERY = 32, TRY_FIRST = 4 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

tmb_status tmb_stage_open(tmb_stage *s, const tmb_plan *plan, const tmb_work *work,
                          tmb_monitor *monitor, bool cached, tmb_err *err)
{
    size_t shards = plan->job.model->ckpt->n_shards;
    *s = (tmb_stage){.plan = plan,
                     .work = work,
                     .monitor = monitor,
                     .bytes = plan->stage_bytes,
                     .cached = cached};
    s->ring = tmb_pages_map(s->bytes);
    s->steps = calloc(TMB_STEPS, sizeof *s->steps);
    s->direct = malloc((shards + 1) * sizeof *s->direct);
    for (size_t i = 0; s->direct && i < shards; i++)
        s->direct[i] = TMB_NOT_OPENED;
    if (s->ring && s->steps && s->direct) return TMB_OK;
    tmb_stage_close(s);
    return tmb_fail_memory(err, plan->stage_bytes, "reading ahead; --max-ram lowers it");
}

void tmb_stage_close(tmb_stage *s)
{
    if (!s->plan) return;
    for (size_t i = 0; s->steps && i < TMB_STEPS; i++) {
        tmb_staged_free(&s->steps[i].staged);
        /* a streamed bundle hangs on all of its steps: its last one frees it */
        if (s->steps[i].shared && s->steps[i].shared != s->shared) {
            tmb_shared *shared = s->steps[i].shared;
            for (size_t j = i; j < TMB_STEPS; j++)
                if (s->steps[j].shared == shared) s->steps[j].shared = NULL;
            tmb_shared_free(shared);
        }
    }
    tmb_shared_free(s->shared);
    for (size_t i = 0; s->direct && i < s->plan->job.model->ckpt->n_shards; i++)
        if (s->direct[i] >= 0) close(s->direct[i]);
    tmb_pages_unmap(s->ring, s->bytes);
    free(s->steps);
    free(s->direct);
    *s = (tmb_stage){0};
}

/* ---- the ring ---------------------------------------------------------------------------------
 */

/* Inside.  Room for n bytes in one piece; what is skipped at the end of the ring counts as theirs. */
static uint8_t *take_room(tmb_stage *s, uint64_t n, uint64_t *taken)
{
    if (!s->used) s->head = 0;
    uint64_t tail = (s->head + s->bytes - s->used) % s->bytes;
    uint64_t skip = 0;
    if (s->used && s->head <= tail) {
        if (n > tail - s->head) return NULL;
    } else if (n > s->bytes - s->head) {
        skip = s->bytes - s->head;
        if (n > tail) return NULL;
    }
    uint8_t *at = s->ring + (s->head + skip) % s->bytes;
    *taken = n + skip;
    s->head = (s->head + *taken) % s->bytes;
    s->used += *taken;
    return at;
}

tmb_status tmb_stage_next(tmb_stage *s, tmb_step **out, tmb_err *err)
{
    *out = NULL;
    if (s->n == TMB_STEPS) return TMB_OK;
    tmb_step *step = &s->steps[(s->first + s->n) % TMB_STEPS];
    /* made once, and kept until there is room for it */
    if (!step->staged.n && !step->bytes) {
        bool made = false;
        tmb_staged kept = step->staged;
        *step = (tmb_step){.staged = kept};
        TRY(tmb_step_make(s, step, &made, err));
        if (!made) return TMB_OK;
        tmb_staged_settle(&step->staged);
    }
    uint64_t want = tmb_staged_bytes(&step->staged);
    if (want) {
        uint8_t *at = take_room(s, want, &step->bytes);
        if (!at && !s->used)
            return tmb_fail(err, TMB_EINTERNAL, "a step of %llu bytes in a ring of %llu",
                            (unsigned long long)want, (unsigned long long)s->bytes);
        if (!at) return TMB_OK;
        tmb_staged_place(&step->staged, at);
    }
    s->n++;
    s->reading++;
    *out = step;
    return TMB_OK;
}

/* ---- reading ----------------------------------------------------------------------------------
 */

/* Inside: the descriptor for a direct read of this extent, or -1. */
static int choose(tmb_stage *s, const tmb_extent *e)
{
    const tmb_checkpoint *ckpt = s->plan->job.model->ckpt;
    int *fd = &s->direct[e->shard];
    if (s->cached || e->end - e->begin < LARGE_READ) return TMB_NO_DIRECT;
    if (*fd == TMB_NOT_OPENED) {
        *fd = tmb_direct_open(ckpt->shards[e->shard].fd, false);
        if (*fd < 0) *fd = TMB_NO_DIRECT;
    }
    if (*fd < 0) return TMB_NO_DIRECT;
    const tmb_stage_rate *cache = &s->rate[0], *direct = &s->rate[1];
    bool faster = cache->bytes * direct->seconds > direct->bytes * cache->seconds;
    unsigned i = s->reads++;
    if (i < TRY_FIRST) return i % 2 ? TMB_NO_DIRECT : *fd;
    if (i % TRY_EVERY == 0) faster = !faster;
    return faster ? TMB_NO_DIRECT : *fd;
}

/* Inside. */
static void remember(tmb_stage *s, bool direct, uint64_t bytes, double seconds)
{
    tmb_stage_rate *r = &s->rate[direct];
    r->bytes = 0.75 * r->bytes + (double)bytes;
    r->seconds = 0.75 * r->seconds + seconds;
}

static tmb_status read_cached(const tmb_shard *shard, const tmb_extent *e, bool drop, tmb_err *err)
{
    TRY(tmb_file_pread(shard->fd, e->data, (size_t)(e->end - e->begin), e->begin, shard->name,
                       err));
    /* the cache keeps pages together: what is dropped must cover the seam to the read before */
    if (drop) tmb_cache_drop(shard->fd, e->begin, e->end - e->begin, UINT64_C(8) << 20);
    return TMB_OK;
}

static tmb_status read_extent(tmb_stage *s, const tmb_extent *e, tmb_err *err)
{
    const tmb_shard *shard = &s->plan->job.model->ckpt->shards[e->shard];
    uint64_t before = e->begin % TMB_DIRECT_ALIGN, bytes = e->end - e->begin;
    tmb_enter(s->monitor);
    int fd = choose(s, e);
    bool warm = s->rate[0].bytes * s->rate[1].seconds > s->rate[1].bytes * s->rate[0].seconds;
    tmb_leave(s->monitor);

    double began = now();
    bool refused = fd < 0;
    if (fd >= 0) {
        uint64_t n = before + bytes;
        n += (TMB_DIRECT_ALIGN - n % TMB_DIRECT_ALIGN) % TMB_DIRECT_ALIGN;
        TRY(tmb_direct_read(fd, e->data - before, n, e->begin - before, before + bytes, shard->name,
                            &refused, err));
    }
    if (refused) TRY(read_cached(shard, e, !warm, err));
    double seconds = now() - began;

    tmb_enter(s->monitor);
    if (fd >= 0 && refused) s->cached = true;
    if (bytes >= LARGE_READ) remember(s, !refused, bytes, seconds);
    tmb_leave(s->monitor);
    return TMB_OK;
}

tmb_status tmb_stage_read(tmb_stage *s, tmb_step *step, tmb_err *err)
{
    tmb_status status = TMB_OK;
    for (uint32_t i = 0; !status && i < step->staged.n; i++)
        status = read_extent(s, &step->staged.extents[i], err);
    tmb_enter(s->monitor);
    s->reading--;
    step->ready = !status;
    tmb_changed(s->monitor);
    tmb_leave(s->monitor);
    return status;
}
