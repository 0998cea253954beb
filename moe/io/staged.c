#include "config.h"
#include "moe/io/staged.h"

#include "moe/io/direct.h"

#include <stdlib.h>

/* Less than this between two ranges is read along instead of asking twice. */
#define GAP_BYTES (UINT64_C(64) << 10)

tmb_status tmb_staged_add(tmb_staged *s, const tmb_checkpoint *ckpt, const tmb_tensor *tensor,
                          uint64_t offset, uint64_t bytes, tmb_err *err)
{
    if (!bytes) return TMB_OK;
    if (s->n == s->room) {
        uint32_t room = s->room ? 2 * s->room : 16;
        tmb_extent *grown = realloc(s->extents, room * sizeof *grown);
        if (!grown) return tmb_fail_memory(err, room * sizeof *grown, "a list of reads");
        s->extents = grown;
        s->room = room;
    }
    uint64_t at = ckpt->shards[tensor->shard].data_begin + tensor->begin + offset;
    s->extents[s->n++] = (tmb_extent){.shard = tensor->shard, .begin = at, .end = at + bytes};
    return TMB_OK;
}

static int by_place(const void *va, const void *vb)
{
    const tmb_extent *a = va, *b = vb;
    if (a->shard != b->shard) return a->shard < b->shard ? -1 : 1;
    return a->begin < b->begin ? -1 : a->begin > b->begin;
}

void tmb_staged_settle(tmb_staged *s)
{
    if (!s->n) return;
    qsort(s->extents, s->n, sizeof *s->extents, by_place);
    uint32_t last = 0;
    for (uint32_t i = 1; i < s->n; i++) {
        tmb_extent *to = &s->extents[last];
        const tmb_extent *from = &s->extents[i];
        if (from->shard != to->shard || (from->begin > to->end && from->begin - to->end > GAP_BYTES))
            s->extents[++last] = *from;
        else if (from->end > to->end)
            to->end = from->end;
    }
    s->n = last + 1;
}

static uint64_t down(uint64_t at)
{
    return at / TMB_DIRECT_ALIGN * TMB_DIRECT_ALIGN;
}

static uint64_t room_of(const tmb_extent *e)
{
    return down(e->end + TMB_DIRECT_ALIGN - 1) - down(e->begin);
}

uint64_t tmb_staged_bytes(const tmb_staged *s)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < s->n; i++)
        bytes += room_of(&s->extents[i]);
    return bytes;
}

void tmb_staged_place(tmb_staged *s, uint8_t *memory)
{
    for (uint32_t i = 0; i < s->n; i++) {
        tmb_extent *e = &s->extents[i];
        e->data = memory + (e->begin - down(e->begin));
        memory += room_of(e);
    }
}

const uint8_t *tmb_staged_find(const tmb_staged *s, const tmb_checkpoint *ckpt,
                               const tmb_tensor *tensor, uint64_t offset, uint64_t bytes)
{
    if (!s || !s->n) return NULL;
    tmb_extent want = {.shard = tensor->shard};
    want.begin = ckpt->shards[tensor->shard].data_begin + tensor->begin + offset;
    uint32_t low = 0, high = s->n; /* the last extent that begins at or before it */
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (by_place(&s->extents[middle], &want) <= 0)
            low = middle;
        else
            high = middle;
    }
    const tmb_extent *e = &s->extents[low];
    if (e->shard != want.shard || want.begin < e->begin || want.begin > e->end ||
        bytes > e->end - want.begin || !e->data)
        return NULL;
    return e->data + (want.begin - e->begin);
}

void tmb_staged_clear(tmb_staged *s)
{
    s->n = 0;
}

void tmb_staged_free(tmb_staged *s)
{
    free(s->extents);
    *s = (tmb_staged){0};
}
