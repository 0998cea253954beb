/* files.c - whole files in and out.  A name that exists is complete: what is written goes to a
 * temporary name beside it, is flushed to the disk, renamed, and the folder flushed too. */
#include "config.h"
#include "moe/io/files.h"

#include "kernels/base/mem.h"
#include "moe/io/calls.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* Linux moves at most 0x7ffff000 bytes a call. */
enum { CALL_MAX = 1 << 30, COPY_BYTES = 1 << 20 };

tmb_status tmb_file_pread(int fd, void *data, size_t n, uint64_t offset, const char *path,
                          tmb_err *err)
{
    char *p = data;
    if (offset > INT64_MAX - (uint64_t)n)
        return tmb_fail(err, TMB_EIO, "%s: no byte %llu", path, (unsigned long long)offset);
    while (n > 0) {
        ssize_t got = pread(fd, p, n < CALL_MAX ? n : CALL_MAX, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0)
            return tmb_fail_errno(err, TMB_EIO, "%s: cannot read at byte %llu", path,
                                  (unsigned long long)offset);
        if (got == 0)
            return tmb_fail(err, TMB_EIO,
                            "%s: ends at byte %llu, %zu short; it was cut while being read", path,
                            (unsigned long long)offset, n);
        p += got;
        n -= (size_t)got;
        offset += (uint64_t)got;
    }
    return TMB_OK;
}

static tmb_status fail_write(tmb_err *err, const char *what, const char *path)
{
    if (errno == ENOSPC || errno == EDQUOT) {
        const char *slash = strrchr(path, '/');
        int n = slash ? (int)(slash - path) : 1;
        return tmb_fail(err, TMB_ECREATE,
                        "%s: %s full in folder %.*s; free some space and run again", path,
                        errno == ENOSPC ? "the disk is" : "your disk quota is", n,
                        slash ? (n ? path : "/") : ".");
    }
    return tmb_fail_errno(err, TMB_EIO, "%s: %s", path, what);
}

tmb_status tmb_file_pwrite(int fd, const void *data, size_t n, uint64_t offset, const char *path,
                           tmb_err *err)
{
    const char *p = data;
    if (offset > INT64_MAX - (uint64_t)n)
        return tmb_fail(err, TMB_EIO, "%s: no byte %llu", path, (unsigned long long)offset);
    while (n > 0) {
        ssize_t put = pwrite(fd, p, n < CALL_MAX ? n : CALL_MAX, (off_t)offset);
        if (put < 0 && errno == EINTR) continue;
        if (put == 0) errno = ENOSPC;
        if (put <= 0) return fail_write(err, "cannot write", path);
        p += put;
        n -= (size_t)put;
        offset += (uint64_t)put;
    }
    return TMB_OK;
}

static tmb_status open_path(int *fd, struct stat *stat, const char *path, tmb_err *err)
{
    *fd = tmb_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
    if (*fd < 0) return tmb_fail_errno(err, TMB_ENOINPUT, "%s: cannot open", path);
    tmb_status status = TMB_OK;
    if (fstat(*fd, stat))
        status = tmb_fail_errno(err, TMB_EIO, "%s: cannot stat", path);
    else if (!S_ISREG(stat->st_mode))
        status = tmb_fail(err, TMB_ENOINPUT, "%s: is no regular file", path);
    if (status) close(*fd);
    return status;
}

tmb_status tmb_file_exists(bool *there, int dirfd, const char *name, tmb_err *err)
{
    *there = false;
    if (dirfd == -1) return TMB_OK;
    *there = faccessat(dirfd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    if (*there || errno == ENOENT) return TMB_OK;
    return tmb_fail_errno(err, TMB_ENOINPUT, "%s: cannot look at it", name);
}

tmb_status tmb_file_load(char **out, size_t *n, int dirfd, const char *path, size_t max_bytes,
                         tmb_err *err)
{
    int fd;
    struct stat stat;
    char *text = NULL;
    if (dirfd == AT_FDCWD)
        TRY(open_path(&fd, &stat, path, err));
    else
        TRY(tmb_file_open(&fd, &stat, dirfd, path, path, err));
    tmb_status status = TMB_OK;
    uint64_t size = (uint64_t)stat.st_size;
    if (size > max_bytes) {
        status =
            tmb_fail(err, TMB_EDATA, "%s: has %llu bytes, %zu are allowed; fetch the file again",
                     path, (unsigned long long)size, max_bytes);
        goto out;
    }
    text = malloc((size_t)size + 1);
    if (!text) {
        status = tmb_fail_memory(err, size + 1, path);
        goto out;
    }
    status = tmb_file_pread(fd, text, (size_t)size, 0, path, err);
    if (status) goto out;
    text[size] = 0;
    *out = text;
    *n = (size_t)size;
    text = NULL;
out:
    free(text);
    close(fd);
    return status;
}

/* A file on its way: the temporary name, and where it will go. */
typedef struct draft {
    int dirfd, fd;
    const char *name;
    char temporary[NAME_MAX + 1];
    char path[PATH_MAX]; /* of the final name, for messages */
} draft;

static tmb_status draft_open(draft *d, int dirfd, const char *folder, const char *name,
                             tmb_err *err)
{
    d->dirfd = dirfd;
    d->name = name;
    if (snprintf(d->path, sizeof d->path, "%s/%s", folder, name) >= (int)sizeof d->path ||
        snprintf(d->temporary, sizeof d->temporary, ".tmp-%s", name) >= (int)sizeof d->temporary)
        return tmb_fail(err, TMB_ECREATE, "%s/%s: the name is too long", folder, name);
    /* What a killed run left under this name is overwritten, so nothing piles up. */
    unlinkat(dirfd, d->temporary, 0);
    d->fd = tmb_open_beneath(dirfd, d->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (d->fd < 0) return tmb_fail_errno(err, TMB_ECREATE, "%s: cannot create", d->path);
    return TMB_OK;
}

/* Flush and rename when status is TMB_OK, else remove; returns what came of it. */
static tmb_status draft_close(draft *d, tmb_status status, tmb_err *err)
{
    if (!status && tmb_fsync(d->fd) != 0)
        status = fail_write(err, "cannot flush to the disk", d->path);
    if (tmb_close(d->fd) != 0 && !status) status = fail_write(err, "cannot close", d->path);
    if (!status && renameat(d->dirfd, d->temporary, d->dirfd, d->name) != 0)
        status = tmb_fail_errno(err, TMB_ECREATE, "%s: cannot rename into place", d->path);
    if (status) {
        unlinkat(d->dirfd, d->temporary, 0);
        return status;
    }
    int folder = tmb_openat(d->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (folder < 0 || tmb_fsync_folder(folder))
        status = tmb_fail_errno(err, TMB_EIO, "%s: cannot flush its folder to the disk", d->path);
    if (folder >= 0) close(folder);
    return status;
}

tmb_status tmb_file_publish(int dirfd, const char *folder, const char *name, const void *data,
                            size_t n, tmb_err *err)
{
    draft d;
    TRY(draft_open(&d, dirfd, folder, name, err));
    return draft_close(&d, tmb_file_pwrite(d.fd, data, n, 0, d.path, err), err);
}

static tmb_status copy_bytes(int from, uint64_t size, const draft *d, const char *name,
                             tmb_err *err)
{
    char *buf = malloc(COPY_BYTES);
    if (!buf) return tmb_fail_memory(err, COPY_BYTES, "copying a file");
    tmb_status status = TMB_OK;
    for (uint64_t at = 0; !status && at < size;) {
        size_t n = size - at < COPY_BYTES ? (size_t)(size - at) : COPY_BYTES;
        status = tmb_file_pread(from, buf, n, at, name, err);
        if (!status) status = tmb_file_pwrite(d->fd, buf, n, at, d->path, err);
        at += n;
    }
    free(buf);
    return status;
}

tmb_status tmb_file_copy(int from_dirfd, int to_dirfd, const char *folder, const char *name,
                         char *sha256, uint64_t *bytes, tmb_err *err)
{
    int from;
    struct stat stat;
    draft d;
    TRY(tmb_file_open(&from, &stat, from_dirfd, name, name, err));
    tmb_status status = draft_open(&d, to_dirfd, folder, name, err);
    if (!status) {
        status = copy_bytes(from, (uint64_t)stat.st_size, &d, name, err);
        /* Of what was written, not of what was read. */
        if (!status && sha256) status = tmb_sha256_file(d.fd, d.path, sha256, err);
        status = draft_close(&d, status, err);
    }
    if (!status && bytes) *bytes = (uint64_t)stat.st_size;
    close(from);
    return status;
}

tmb_status tmb_disk_free(int dirfd, const char *path, uint64_t *bytes, tmb_err *err)
{
    struct statvfs fs;
    if (fstatvfs(dirfd, &fs) != 0)
        return tmb_fail_errno(err, TMB_EIO, "%s: cannot ask for the free disk space", path);
    if (!tmb_mul(fs.f_bavail, fs.f_frsize, bytes)) *bytes = UINT64_MAX;
    return TMB_OK;
}
