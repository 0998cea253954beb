#include "config.h"
#include "moe/quantize/stage.h"

#include "moe/io/direct.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Below this the kernel's own reading ahead is better than a request of its own. */
#define LARGE_READ (UINT64_C(256) << 10)
#define SEAM_BYTES (UINT64_C(8) << 20)

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

/* Inside.  Room for n bytes in one piece; what is skipped at the end of the ring counts as theirs.
 */
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

/* Inside: the descriptor for direct reads of a shard, or TMB_NO_DIRECT. */
static int direct_of(tmb_stage *s, uint32_t shard)
{
    int *fd = &s->direct[shard];
    if (s->cached) return TMB_NO_DIRECT;
    if (*fd == TMB_NOT_OPENED) {
        *fd = tmb_direct_open(s->plan->job.model->ckpt->shards[shard].fd, false);
        if (*fd < 0) *fd = TMB_NO_DIRECT;
    }
    return *fd;
}

static tmb_status read_extent(tmb_stage *s, const tmb_extent *e, tmb_err *err)
{
    const tmb_shard *shard = &s->plan->job.model->ckpt->shards[e->shard];
    uint64_t before = e->begin % TMB_DIRECT_ALIGN, bytes = e->end - e->begin;
    bool warm = tmb_cache_holds(shard->fd, e->begin, bytes), refused = true;
    if (!warm && bytes >= LARGE_READ) {
        tmb_enter(s->monitor);
        int fd = direct_of(s, e->shard);
        tmb_leave(s->monitor);
        uint64_t n = before + bytes;
        n += (TMB_DIRECT_ALIGN - n % TMB_DIRECT_ALIGN) % TMB_DIRECT_ALIGN;
        if (fd >= 0)
            TRY(tmb_direct_read(fd, e->data - before, n, e->begin - before, before + bytes,
                                shard->name, &refused, err));
        if (fd >= 0 && refused) {
            tmb_enter(s->monitor);
            s->cached = true;
            tmb_leave(s->monitor);
        }
    }
    if (!refused) return TMB_OK;
    TRY(tmb_file_pread(shard->fd, e->data, (size_t)bytes, e->begin, shard->name, err));
    /* the cache keeps pages together: what is dropped must cover the seam to the read before */
    if (!warm && bytes >= LARGE_READ) tmb_cache_drop(shard->fd, e->begin, bytes, SEAM_BYTES);
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
