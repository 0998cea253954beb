/* run_parts.c - shards that are not whole: what the journal says of their beginning, so that a run
 * that ends in the middle of a large one costs little.
 *
 * The beginning of a temporary file is whole blocks that are written and hashed, in their order
 * (blocks.h).  Now and then it is flushed; then its length and checksum go into the journal, with
 * the error sums of the units in it that are done.  A later run hashes it again, which it must do
 * anyway for the checksum of the whole, and believes it only when the bytes are the same. */
#include "config.h"
#include "moe/quantize/run_internal.h"

#include "moe/io/calls.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK_BYTES = 1 << 20 };

uint32_t tmb_run_file_of(const tmb_run *run, const tmb_blocks_file *b)
{
    const char *writer = (const char *)b - offsetof(tmb_shard_writer, blocks);
    return (uint32_t)((const tmb_shard_writer *)(const void *)writer - run->shards);
}

/* ---- of an earlier run -------------------------------------------------------------------------
 */

static tmb_status hash_beginning(int fd, uint64_t bytes, const char *path, tmb_sha256_stream *s)
{
    uint8_t *buffer = malloc(CHUNK_BYTES);
    tmb_status status = buffer ? TMB_OK : TMB_ESYSTEM;
    for (uint64_t at = 0; !status && at < bytes; at += CHUNK_BYTES) {
        size_t n = bytes - at < CHUNK_BYTES ? (size_t)(bytes - at) : CHUNK_BYTES;
        status = tmb_file_pread(fd, buffer, n, at, path, NULL);
        if (!status) status = tmb_sha256_add(s, buffer, n, NULL);
    }
    free(buffer);
    return status;
}

/* A file with a second name is not ours to write to: the other may be anywhere. */
static bool is_ours(int fd, uint64_t bytes)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1 &&
           (uint64_t)st.st_size == bytes;
}

void tmb_run_keep(tmb_run *run, uint32_t f)
{
    const tmb_journal *j = &run->output.journal;
    const tmb_out_file *file = &run->plan->files[f];
    char sha256[TMB_SHA256_HEX];
    if (!j->part_bytes[f]) return;
    tmb_temporary name = tmb_temporary_of(file->name);
    tmb_blocks_kept kept = {.bytes = j->part_bytes[f]};
    kept.fd = tmb_open_beneath(run->output.dirfd, name.name,
                               O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
    if (kept.fd < 0) return;
    if (is_ours(kept.fd, file->header_bytes + file->data_bytes) &&
        !tmb_sha256_open(&kept.sha256, NULL) &&
        !hash_beginning(kept.fd, kept.bytes, name.name, kept.sha256) &&
        !tmb_sha256_peek(kept.sha256, sha256, NULL) && strcmp(sha256, j->part_sha256[f]) == 0) {
        run->kept[f] = kept;
        run->kept_bytes[f] = kept.bytes;
        return;
    }
    tmb_sha256_close(kept.sha256);
    close(kept.fd);
}

void tmb_run_keep_free(tmb_run *run)
{
    for (uint32_t f = 0; run->kept && f < run->plan->n_files; f++) {
        tmb_sha256_close(run->kept[f].sha256);
        if (run->kept[f].fd >= 0) close(run->kept[f].fd);
    }
    free(run->kept);
    free(run->kept_bytes);
}

/* ---- of this one -------------------------------------------------------------------------------
 */

/* Inside the monitor: the units of shard f whose errors are final and not in the journal yet, and
 * which lie before `end`.  [n_units] */
static uint32_t new_units(const tmb_run *run, uint32_t f, uint64_t end, uint32_t *units)
{
    const tmb_plan *plan = run->plan;
    uint32_t n = 0;
    for (size_t i = 0; i < run->work.n_pieces; i++) {
        const tmb_piece *piece = &run->work.pieces[i];
        if (piece->file != f || piece->bundle == TMB_NONE || !run->work.done[i] ||
            tmb_piece_end(plan, piece) > end)
            continue;
        const tmb_bundle *bundle = &plan->bundles[piece->bundle];
        for (uint32_t k = 0; k < bundle->n_units; k++)
            if (!run->output.journal.unit_known[bundle->units[k]] &&
                tmb_measured_in(plan, bundle->units[k], f))
                units[n++] = bundle->units[k];
    }
    return n;
}

static tmb_status record(tmb_run *run, uint32_t f, uint64_t bytes, const char *sha256,
                         uint32_t *units, tmb_err *err)
{
    tmb_journal *j = &run->output.journal;
    pthread_mutex_lock(&run->journal);
    tmb_enter(&run->monitor);
    uint32_t n = new_units(run, f, bytes, units);
    tmb_leave(&run->monitor);
    tmb_status status = tmb_journal_add_part(j, f, bytes, sha256, units, n, run->sums, err);
    for (uint32_t i = 0; !status && i < n; i++)
        j->unit_known[units[i]] = true;
    pthread_mutex_unlock(&run->journal);
    return status;
}

tmb_status tmb_run_part(tmb_run *run, tmb_blocks_file *b, tmb_err *err)
{
    uint32_t f = tmb_run_file_of(run, b), *units = NULL;
    tmb_shard_writer *w = &run->shards[f];
    uint32_t n_units = run->plan->job.model->n_units;
    tmb_status status = TMB_OK;
    if (tmb_fdatasync(w->fd))
        status = tmb_fail_errno(err, TMB_EIO, "%s: cannot flush to the disk", w->path);
    if (!status && !w->stays && tmb_fsync_folder(w->dirfd))
        status = tmb_fail_errno(err, TMB_EIO, "%s: cannot flush its folder to the disk", w->path);
    if (!status && !(units = malloc((n_units + 1) * sizeof *units)))
        status = tmb_fail_memory(err, n_units * sizeof *units, "the journal");
    if (!status)
        status = record(run, f, (uint64_t)b->cut * b->pool->bytes, b->cut_sha256, units, err);
    free(units);
    tmb_enter(&run->monitor);
    if (!status) w->stays = true;
    tmb_blocks_was_cut(b);
    tmb_leave(&run->monitor);
    return status;
}
