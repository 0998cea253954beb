#include "config.h"
#include "moe/quantize/shard_writer.h"

#include "moe/io/calls.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static tmb_status reserve(const tmb_shard_writer *w, uint64_t bytes, tmb_err *err)
{
    int rc;
    do {
        rc = fallocate(w->fd, 0, 0, (off_t)bytes);
    } while (rc && errno == EINTR);
    /* Not every file system can reserve: there the space was compared before the job began. */
    if (rc && (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL))
        rc = tmb_ftruncate(w->fd, (off_t)bytes);
    if (!rc) return TMB_OK;
    return tmb_fail_errno(err, TMB_EIO, "%s: cannot reserve its %llu bytes", w->path,
                          (unsigned long long)bytes);
}

static tmb_status write_header(tmb_shard_writer *w, tmb_err *err)
{
    const tmb_plan *plan = w->plan;
    const tmb_out *outs = &plan->outs[w->file->out_first];
    uint32_t n = w->file->n_outs;
    tmb_tensor *tensors = calloc(n + 1, sizeof *tensors);
    char *text = NULL;
    size_t bytes = 0;
    if (!tensors) return tmb_fail_memory(err, n * sizeof *tensors, "a shard's header");
    for (uint32_t i = 0; i < n; i++)
        tensors[i] = (tmb_tensor){.name = outs[i].name,
                                  .shape = outs[i].shape,
                                  .begin = outs[i].begin,
                                  .bytes = outs[i].bytes,
                                  .dtype = outs[i].dtype,
                                  .rank = outs[i].rank};
    tmb_status status = tmb_header_format(&text, &bytes, tensors, n, w->file->name, err);
    free(tensors);
    if (!status && bytes + 8 != w->file->header_bytes)
        status = tmb_fail(err, TMB_EINTERNAL, "%s: header of %zu bytes, planned %llu",
                          w->file->name, bytes + 8, (unsigned long long)w->file->header_bytes);
    unsigned char length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)((uint64_t)bytes >> (8 * i));
    if (!status) status = tmb_blocks_put(&w->blocks, length, 8, 0, err);
    if (!status) status = tmb_blocks_put(&w->blocks, text, bytes, 8, err);
    free(text);
    return status;
}

tmb_status tmb_shard_constants(tmb_shard_writer *w, tmb_err *err)
{
    for (uint32_t i = 0; i < w->file->n_outs; i++) {
        const tmb_out *out = &w->plan->outs[w->file->out_first + i];
        if (out->kind == TMB_OUT_CONST)
            TRY(tmb_shard_write(w, &out->value, sizeof out->value, out->begin, err));
    }
    return TMB_OK;
}

tmb_temporary tmb_temporary_of(const char *name)
{
    tmb_temporary t;
    snprintf(t.name, sizeof t.name, TMB_TEMPORARY "%s", name);
    return t;
}

tmb_status tmb_shard_create(tmb_shard_writer *w, const tmb_plan *plan, uint32_t file, int dirfd,
                            const char *folder, tmb_blocks *blocks, tmb_blocks_kept *kept,
                            tmb_err *err)
{
    *w = (tmb_shard_writer){
        .plan = plan, .file = &plan->files[file], .folder = folder, .dirfd = dirfd, .fd = -1};
    size_t room = strlen(folder) + strlen(w->file->name) + 2;
    w->path = malloc(room);
    if (!w->path) return tmb_fail_memory(err, room, "a path");
    snprintf(w->path, room, "%s/%s", folder, w->file->name);
    w->temporary = tmb_temporary_of(w->file->name);
    w->stays = kept->fd >= 0;
    w->fd = kept->fd;
    kept->fd = -1;
    tmb_status status = TMB_OK;
    if (w->fd < 0) {
        unlinkat(dirfd, w->temporary.name, 0); /* what a killed run left */
        w->fd =
            tmb_open_beneath(dirfd, w->temporary.name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    }
    if (w->fd < 0) {
        w->temporary.name[0] = '\0';
        status = tmb_fail_errno(err, TMB_ECREATE, "%s: cannot create", w->path);
    }
    uint64_t bytes = w->file->header_bytes + w->file->data_bytes;
    if (!status) status = reserve(w, bytes, err);
    if (!status) status = tmb_blocks_join(&w->blocks, blocks, w->fd, bytes, w->path, kept, err);
    if (!status) status = write_header(w, err);
    if (status) tmb_shard_discard(w);
    return status;
}

tmb_status tmb_shard_write(tmb_shard_writer *w, const void *data, size_t n, uint64_t offset,
                           tmb_err *err)
{
    if (offset > w->file->data_bytes || n > w->file->data_bytes - offset)
        return tmb_fail(err, TMB_EINTERNAL, "%s: a write past the end", w->file->name);
    return tmb_blocks_put(&w->blocks, data, n, w->file->header_bytes + offset, err);
}

tmb_status tmb_shard_publish(tmb_shard_writer *w, char sha256[TMB_SHA256_HEX], tmb_err *err)
{
    if (!tmb_blocks_done(&w->blocks))
        return tmb_fail(err, TMB_EINTERNAL, "%s: bytes are missing", w->file->name);
    TRY(tmb_sha256_end(w->blocks.sha256, sha256, err));
    tmb_blocks_leave(&w->blocks);
    if (tmb_fsync(w->fd))
        return tmb_fail_errno(err, TMB_EIO, "%s: cannot flush to the disk", w->path);
    (void)posix_fadvise(w->fd, 0, 0, POSIX_FADV_DONTNEED);
    int fd = w->fd;
    w->fd = -1;
    if (tmb_close(fd)) return tmb_fail_errno(err, TMB_EIO, "%s: cannot close", w->path);
    if (renameat(w->dirfd, w->temporary.name, w->dirfd, w->file->name))
        return tmb_fail_errno(err, TMB_ECREATE, "%s: cannot rename into place", w->path);
    w->temporary.name[0] = '\0';
    if (tmb_fsync_folder(w->dirfd))
        return tmb_fail_errno(err, TMB_EIO, "%s: cannot flush its folder to the disk", w->path);
    return TMB_OK;
}

void tmb_shard_discard(tmb_shard_writer *w)
{
    tmb_blocks_leave(&w->blocks);
    if (w->fd >= 0) close(w->fd);
    if (w->temporary.name[0] && !w->stays) unlinkat(w->dirfd, w->temporary.name, 0);
    free(w->path);
    w->path = NULL;
    w->fd = -1;
    w->temporary.name[0] = '\0';
}
