/* hidden.c - what every token looks like between two layers. */
#include "config.h"
#include "moe/calib/hidden.h"

#include "kernels/base/mem.h"
#include "moe/io/calls.h"
#include "moe/io/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const names[2] = {"hidden-0", "hidden-1"};

static bool file_bytes(uint64_t tokens, size_t width, uint64_t *bytes)
{
    return tmb_mul(tokens, width, bytes) && tmb_mul(*bytes, sizeof(float), bytes) &&
           *bytes <= INT64_MAX;
}

uint64_t tmb_hidden_bytes(uint64_t tokens, size_t width)
{
    uint64_t bytes = 0;
    return file_bytes(tokens, width, &bytes) && tmb_mul(bytes, 2, &bytes) ? bytes : UINT64_MAX;
}

/* Room is taken now: a disk that is full should not be found out at layer 40. */
static tmb_status make_one(int dirfd, const char *folder, const char *name, uint64_t bytes,
                           tmb_err *err)
{
    struct stat st;
    int fd = tmb_open_beneath(dirfd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) return tmb_fail_errno(err, TMB_ECREATE, "%s/%s: cannot make it", folder, name);
    tmb_status status = TMB_OK;
    if (fstat(fd, &st))
        status = tmb_fail_errno(err, TMB_EIO, "%s/%s: cannot look at it", folder, name);
    else if (!S_ISREG(st.st_mode))
        status = tmb_fail(err, TMB_ECREATE, "%s/%s: is no regular file; remove it", folder, name);
    else if ((uint64_t)st.st_size != bytes) {
        int failed = tmb_ftruncate(fd, 0) ? errno : 0;
        if (!failed) do
                failed = posix_fallocate(fd, 0, (off_t)bytes);
            while (failed == EINTR);
        errno = failed;
        if (failed)
            status = tmb_fail_errno(err, TMB_ECREATE, "%s/%s: no room for %llu bytes", folder, name,
                                    (unsigned long long)bytes);
    }
    close(fd);
    return status;
}

tmb_status tmb_hidden_make(int dirfd, const char *folder, uint64_t tokens, size_t width,
                           tmb_err *err)
{
    uint64_t bytes = 0;
    if (!file_bytes(tokens, width, &bytes))
        return tmb_fail(err, TMB_EUSAGE, "%llu tokens are too many; use fewer samples",
                        (unsigned long long)tokens);
    TRY(make_one(dirfd, folder, names[0], bytes, err));
    return make_one(dirfd, folder, names[1], bytes, err);
}

tmb_status tmb_hidden_open(tmb_hidden *h, int dirfd, const char *folder, uint64_t tokens,
                           size_t width, tmb_err *err)
{
    uint64_t bytes = 0;
    *h = (tmb_hidden){.fd = {-1, -1}, .tokens = tokens, .width = width};
    if (!file_bytes(tokens, width, &bytes)) return tmb_fail(err, TMB_EINTERNAL, "hidden states");
    for (int i = 0; i < 2; i++) {
        struct stat st;
        if (asprintf(&h->path[i], "%s/%s", folder, names[i]) < 0) {
            h->path[i] = NULL;
            return tmb_fail_memory(err, 0, "a path");
        }
        h->fd[i] = tmb_open_beneath(dirfd, names[i], O_RDWR | O_CLOEXEC, 0);
        if (h->fd[i] < 0) return tmb_fail_errno(err, TMB_EIO, "%s: cannot open", h->path[i]);
        if (fstat(h->fd[i], &st))
            return tmb_fail_errno(err, TMB_EIO, "%s: cannot look at it", h->path[i]);
        if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != bytes)
            return tmb_fail(err, TMB_EDATA,
                            "%s: is not the %llu bytes that the run left; add --restart",
                            h->path[i], (unsigned long long)bytes);
    }
    return TMB_OK;
}

void tmb_hidden_close(tmb_hidden *h)
{
    for (int i = 0; i < 2; i++) {
        if (h->path[i] && h->fd[i] >= 0) close(h->fd[i]);
        free(h->path[i]);
        h->path[i] = NULL;
    }
}

void tmb_hidden_remove(int dirfd)
{
    for (int i = 0; i < 2; i++)
        unlinkat(dirfd, names[i], 0);
}

/* Where rows begin in the file, and how many bytes they take. */
static tmb_status place(const tmb_hidden *h, uint64_t first, size_t n, uint64_t *offset,
                        size_t *bytes, tmb_err *err)
{
    if (first > h->tokens || n > h->tokens - first)
        return tmb_fail(err, TMB_EINTERNAL, "hidden states: rows past the end");
    *offset = first * h->width * sizeof(float);
    *bytes = n * h->width * sizeof(float);
    return TMB_OK;
}

tmb_status tmb_hidden_read(const tmb_hidden *h, int side, uint64_t first, size_t n, float *x,
                           tmb_err *err)
{
    uint64_t offset = 0;
    size_t bytes = 0;
    TRY(place(h, first, n, &offset, &bytes, err));
    return tmb_file_pread(h->fd[side], x, bytes, offset, h->path[side], err);
}

tmb_status tmb_hidden_write(const tmb_hidden *h, int side, uint64_t first, size_t n, const float *x,
                            tmb_err *err)
{
    uint64_t offset = 0;
    size_t bytes = 0;
    TRY(place(h, first, n, &offset, &bytes, err));
    return tmb_file_pwrite(h->fd[side], x, bytes, offset, h->path[side], err);
}

tmb_status tmb_hidden_sync(const tmb_hidden *h, int side, tmb_err *err)
{
    if (tmb_fdatasync(h->fd[side]))
        return tmb_fail_errno(err, TMB_EIO, "%s: cannot flush", h->path[side]);
    return TMB_OK;
}
