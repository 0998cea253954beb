#include "config.h"
#include "moe/quantize/blocks.h"

#include "moe/io/direct.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CUT_BYTES (UINT64_C(1) << 30)

enum { DIRTY_BLOCKS = 4 }; /* through the cache: blocks that may be on their way to the disk */

tmb_status tmb_blocks_open(tmb_blocks *pool, tmb_monitor *monitor, size_t block_bytes, size_t n,
                           bool cached, tmb_err *err)
{
    *pool = (tmb_blocks){.monitor = monitor, .bytes = block_bytes, .n = n, .cached = cached};
    pool->free = calloc(n + 1, sizeof *pool->free);
    pool->full = calloc(n + 1, sizeof *pool->full);
    pool->memory = tmb_pages_map(n * block_bytes);
    if (!pool->free || !pool->full || !pool->memory) {
        tmb_blocks_close(pool);
        return tmb_fail_memory(err, n * block_bytes, "the output; --max-ram lowers it");
    }
    /* the lowest are taken first, so that few blocks touch little memory */
    while (pool->n_free < n) {
        size_t i = n - 1 - pool->n_free;
        pool->free[pool->n_free++] = pool->memory + i * block_bytes;
    }
    return TMB_OK;
}

void tmb_blocks_close(tmb_blocks *pool)
{
    tmb_pages_unmap(pool->memory, pool->n * pool->bytes);
    free(pool->free);
    free(pool->full);
    *pool = (tmb_blocks){0};
}

static uint32_t size_of(const tmb_blocks_file *f, uint32_t i)
{
    uint64_t begin = (uint64_t)i * f->pool->bytes, left = f->bytes - begin;
    return left < f->pool->bytes ? (uint32_t)left : (uint32_t)f->pool->bytes;
}

/* A quarter of a file, or CUT_BYTES of a large one: what a crash may cost.  A cut costs one flush
 * of what has to be flushed anyway. */
static uint32_t stride_of(const tmb_blocks_file *f)
{
    uint32_t most = (uint32_t)(CUT_BYTES / f->pool->bytes), quarter = (f->n + 3) / 4;
    if (f->n < 4) return f->n;
    return quarter < most ? quarter : most;
}

static void take_kept(tmb_blocks_file *f, tmb_blocks_kept *kept)
{
    f->kept = kept->bytes;
    f->sha256 = kept->sha256;
    kept->sha256 = NULL;
    f->n_written = f->next_hash = f->in_a_row = f->cut = (uint32_t)(kept->bytes / f->pool->bytes);
    for (uint32_t i = 0; i < f->n_written; i++)
        f->blocks[i] = (tmb_block){.filled = size_of(f, i), .written = true};
}

tmb_status tmb_blocks_join(tmb_blocks_file *f, tmb_blocks *pool, int fd, uint64_t bytes,
                           const char *path, tmb_blocks_kept *kept, tmb_err *err)
{
    uint64_t n = (bytes + pool->bytes - 1) / pool->bytes;
    *f = (tmb_blocks_file){.pool = pool, .fd = fd, .direct = -1, .path = path, .bytes = bytes};
    f->n = (uint32_t)n;
    f->blocks = n < UINT32_MAX ? calloc(n + 1, sizeof *f->blocks) : NULL;
    if (!f->blocks) return tmb_fail_memory(err, n * sizeof *f->blocks, "a shard's blocks");
    f->stride = stride_of(f);
    if (kept->sha256) {
        take_kept(f, kept);
    } else if (tmb_sha256_open(&f->sha256, err)) {
        free(f->blocks);
        f->blocks = NULL;
        return TMB_ESYSTEM;
    }
    if (!pool->cached) f->direct = tmb_direct_open(fd, true);
    tmb_enter(pool->monitor);
    f->next = pool->files;
    pool->files = f;
    tmb_leave(pool->monitor);
    return TMB_OK;
}

void tmb_blocks_leave(tmb_blocks_file *f)
{
    if (!f->pool) return;
    tmb_blocks *pool = f->pool;
    tmb_enter(pool->monitor);
    tmb_blocks_file **at = &pool->files;
    while (*at && *at != f)
        at = &(*at)->next;
    if (*at) *at = f->next;
    for (uint32_t i = 0; f->blocks && i < f->n; i++)
        if (f->blocks[i].data) pool->free[pool->n_free++] = f->blocks[i].data;
    tmb_leave(pool->monitor);
    free(f->blocks);
    tmb_sha256_close(f->sha256);
    if (f->direct >= 0) close(f->direct);
    *f = (tmb_blocks_file){.direct = -1};
}

bool tmb_blocks_done(const tmb_blocks_file *f)
{
    return f->n_written == f->n && f->next_hash == f->n && !f->hashing && !f->cutting;
}

/* ---- cuts -------------------------------------------------------------------------------------
 */

/* Inside, when a block was hashed and nobody has begun the next: is it time for a cut? */
static tmb_status look_for_cut(tmb_blocks_file *f, tmb_err *err)
{
    if (f->next_hash == f->n || f->next_hash - f->cut < f->stride || f->cut_due || f->cutting)
        return TMB_OK;
    f->cut = f->next_hash;
    f->cut_due = true;
    return tmb_sha256_peek(f->sha256, f->cut_sha256, err);
}

tmb_blocks_file *tmb_blocks_take_cut(tmb_blocks *pool)
{
    for (tmb_blocks_file *f = pool->files; f; f = f->next) {
        if (!f->cut_due || f->cutting || tmb_blocks_done(f)) continue;
        /* the checksum may be ahead of the disk */
        while (f->in_a_row < f->cut && f->blocks[f->in_a_row].written)
            f->in_a_row++;
        if (f->in_a_row < f->cut) continue;
        f->cut_due = false;
        f->cutting = true;
        return f;
    }
    return NULL;
}

void tmb_blocks_was_cut(tmb_blocks_file *f)
{
    f->cutting = false;
    tmb_changed(f->pool->monitor);
}

/* ---- jobs -------------------------------------------------------------------------------------
 */

bool tmb_blocks_take_write(tmb_blocks *pool, tmb_blocks_job *job)
{
    if (!pool->n_full) return false;
    *job = (tmb_blocks_job){.file = pool->full[0].file, .index = pool->full[0].index};
    memmove(&pool->full[0], &pool->full[1], --pool->n_full * sizeof *pool->full);
    pool->busy++;
    return true;
}

bool tmb_blocks_take_hash(tmb_blocks *pool, tmb_blocks_job *job)
{
    for (tmb_blocks_file *f = pool->files; f; f = f->next) {
        if (f->hashing || f->next_hash == f->n) continue;
        const tmb_block *b = &f->blocks[f->next_hash];
        if (b->filled != size_of(f, f->next_hash) || !(b->data || b->written)) continue;
        *job = (tmb_blocks_job){.file = f, .index = f->next_hash, .hash = true};
        f->hashing = true;
        pool->busy++;
        return true;
    }
    return false;
}

/* Inside: the memory of a block that is both written and hashed is free again. */
static void give_back(tmb_blocks_file *f, uint32_t index)
{
    tmb_block *b = &f->blocks[index];
    if (!b->data || !b->written || index >= f->next_hash) return;
    f->pool->free[f->pool->n_free++] = b->data;
    b->data = NULL;
}

static tmb_status write_block(tmb_blocks_file *f, uint32_t index, tmb_err *err)
{
    const tmb_block *b = &f->blocks[index];
    size_t bytes = f->pool->bytes, n = size_of(f, index);
    uint64_t at = (uint64_t)index * bytes;
    if (f->direct >= 0 && n == bytes && tmb_direct_write(f->direct, b->data, n, at)) return TMB_OK;
    TRY(tmb_file_pwrite(f->fd, b->data, n, at, f->path, err));
    /* Begin now instead of at fsync(), and keep the cache small: what was begun some blocks ago is
     * on the disk by now, or soon. */
    tmb_cache_flush(f->fd, at, n, false);
    if (index >= DIRTY_BLOCKS) {
        tmb_cache_flush(f->fd, at - DIRTY_BLOCKS * bytes, bytes, true);
        tmb_cache_drop(f->fd, at - DIRTY_BLOCKS * bytes, bytes, DIRTY_BLOCKS * bytes);
    }
    return TMB_OK;
}

/* A block that was given up comes back through a buffer of its own, which is small. */
static tmb_status hash_from_disk(tmb_blocks_file *f, uint32_t index, tmb_err *err)
{
    enum { CHUNK = 64 << 10 };
    uint64_t at = (uint64_t)index * f->pool->bytes, left = size_of(f, index);
    uint8_t *buffer = malloc(CHUNK);
    if (!buffer) return tmb_fail_memory(err, CHUNK, "a checksum");
    tmb_status status = TMB_OK;
    while (!status && left) {
        size_t n = left < CHUNK ? (size_t)left : CHUNK;
        status = tmb_file_pread(f->fd, buffer, n, at, f->path, err);
        if (!status) status = tmb_sha256_add(f->sha256, buffer, n, err);
        at += n;
        left -= n;
    }
    free(buffer);
    return status;
}

tmb_status tmb_blocks_do(tmb_blocks *pool, const tmb_blocks_job *job, tmb_err *err)
{
    tmb_blocks_file *f = job->file;
    tmb_block *b = &f->blocks[job->index];
    tmb_status status;
    if (!job->hash)
        status = write_block(f, job->index, err);
    else if (b->data) /* nobody takes it away while the file is being hashed */
        status = tmb_sha256_add(f->sha256, b->data, size_of(f, job->index), err);
    else
        status = hash_from_disk(f, job->index, err);
    tmb_enter(pool->monitor);
    pool->busy--;
    if (job->hash) {
        f->hashing = false;
        f->next_hash += !status;
        if (!status) status = look_for_cut(f, err);
    } else if (!status) {
        b->written = true;
        f->n_written++;
    }
    if (!status) give_back(f, job->index);
    tmb_changed(pool->monitor);
    tmb_leave(pool->monitor);
    return status;
}

/* ---- filling ----------------------------------------------------------------------------------
 */

/* Inside: a block that is on the disk, and whose turn for the checksum comes last. */
static bool give_up_one(tmb_blocks *pool)
{
    tmb_block *last = NULL;
    uint32_t distance = 0;
    for (tmb_blocks_file *f = pool->files; f; f = f->next)
        for (uint32_t i = f->next_hash + 1; i < f->n; i++) {
            tmb_block *b = &f->blocks[i];
            if (!b->data || !b->written || i - f->next_hash < distance) continue;
            last = b;
            distance = i - f->next_hash;
        }
    if (!last) return false;
    pool->free[pool->n_free++] = last->data;
    last->data = NULL;
    return true;
}

/* Inside; returns inside: the block has memory, or is written through. */
static tmb_status provide(tmb_blocks_file *f, tmb_block *b, tmb_err *err)
{
    tmb_blocks *pool = f->pool;
    while (!b->data && !b->through) {
        tmb_blocks_job job;
        if (pool->monitor->failed) return tmb_fail(err, TMB_ESYSTEM, "stopped");
        if (pool->n_free) {
            b->data = pool->free[--pool->n_free];
        } else if (tmb_blocks_take_write(pool, &job) || tmb_blocks_take_hash(pool, &job)) {
            tmb_leave(pool->monitor);
            tmb_status status = tmb_blocks_do(pool, &job, err);
            tmb_enter(pool->monitor);
            if (status) return status;
        } else if (pool->busy) {
            tmb_wait(pool->monitor);
        } else if (!give_up_one(pool)) {
            b->through = true;
        }
    }
    return TMB_OK;
}

/* The part of a put that lies in one block. */
static tmb_status fill(tmb_blocks_file *f, uint32_t index, const uint8_t *data, size_t n,
                       uint64_t offset, tmb_err *err)
{
    tmb_blocks *pool = f->pool;
    tmb_block *b = &f->blocks[index];
    tmb_enter(pool->monitor);
    tmb_status status = provide(f, b, err);
    tmb_leave(pool->monitor);
    if (!status && b->data)
        memcpy(b->data + offset % pool->bytes, data, n);
    else if (!status)
        status = tmb_file_pwrite(f->fd, data, n, offset, f->path, err);
    if (status) return status;
    tmb_enter(pool->monitor);
    b->filled += (uint32_t)n;
    uint32_t size = size_of(f, index);
    if (b->filled > size) {
        status = tmb_fail(err, TMB_EINTERNAL, "%s: bytes of block %u came twice", f->path, index);
    } else if (b->filled == size && b->through) {
        b->written = true;
        f->n_written++;
    } else if (b->filled == size) {
        pool->full[pool->n_full].file = f;
        pool->full[pool->n_full++].index = index;
    }
    if (b->filled == size) tmb_changed(pool->monitor);
    tmb_leave(pool->monitor);
    return status;
}

tmb_status tmb_blocks_put(tmb_blocks_file *f, const void *data, size_t n, uint64_t offset,
                          tmb_err *err)
{
    const uint8_t *from = data;
    if (offset > f->bytes || n > f->bytes - offset)
        return tmb_fail(err, TMB_EINTERNAL, "%s: a write past the end", f->path);
    if (offset < f->kept) { /* it is there already */
        size_t there = f->kept - offset < n ? (size_t)(f->kept - offset) : n;
        from += there;
        n -= there;
        offset += there;
    }
    while (n > 0) {
        uint32_t index = (uint32_t)(offset / f->pool->bytes);
        size_t room = f->pool->bytes - (size_t)(offset % f->pool->bytes);
        size_t now = n < room ? n : room;
        TRY(fill(f, index, from, now, offset, err));
        from += now;
        n -= now;
        offset += now;
    }
    return TMB_OK;
}
