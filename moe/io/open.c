/* open.c - which files of a stranger's folder are opened at all.
 *
 * Every step opens one name and follows no link (tmb_open_beneath): nothing can be swapped in
 * between a check and its use; O_NONBLOCK keeps a FIFO from hanging us before fstat() has seen it.
 */
#include "config.h"
#include "moe/io/calls.h"
#include "moe/io/files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

enum { FLAGS = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY };

bool tmb_is_base_name(const char *name)
{
    return *name && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 &&
           strlen(name) <= NAME_MAX;
}

/* Is dirfd a revision of a hub cache, CACHE/snapshots/REVISION? */
static bool in_snapshots(int dirfd)
{
    struct stat up, snapshots;
    return fstatat(dirfd, "..", &up, AT_SYMLINK_NOFOLLOW) == 0 &&
           fstatat(dirfd, "../../snapshots", &snapshots, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISDIR(snapshots.st_mode) && up.st_dev == snapshots.st_dev &&
           up.st_ino == snapshots.st_ino;
}

/* name is a link: open what it points to when that is allowed.  -1 and errno; ELOOP: it is not. */
static int open_linked(int dirfd, const char *name)
{
    static const char blobs[] = "../../blobs";
    char target[PATH_MAX];
    ssize_t n = readlinkat(dirfd, name, target, sizeof target - 1);
    if (n < 0) return -1;
    target[n] = 0;
    if (tmb_is_base_name(target)) return tmb_open_beneath(dirfd, target, FLAGS, 0);
    const char *blob = target + sizeof blobs;
    if (strncmp(target, blobs, sizeof blobs - 1) != 0 || target[sizeof blobs - 1] != '/' ||
        !tmb_is_base_name(blob) || !in_snapshots(dirfd)) {
        errno = ELOOP;
        return -1;
    }
    int cache = tmb_openat(dirfd, blobs, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW, 0);
    if (cache < 0) {
        if (errno == ENOTDIR) errno = ELOOP; /* what O_DIRECTORY makes of a link */
        return -1;
    }
    int fd = tmb_open_beneath(cache, blob, FLAGS, 0);
    int kept = errno;
    close(cache);
    errno = kept;
    return fd;
}

static tmb_status refuse(const char *shown, mode_t mode, tmb_err *err)
{
    const char *kind = S_ISDIR(mode)    ? "a folder"
                       : S_ISFIFO(mode) ? "a named pipe"
                       : S_ISSOCK(mode) ? "a socket"
                                        : "a device";
    return tmb_fail(err, TMB_EDATA, "%s: is %s, not a regular file; put the file itself there",
                    shown, kind);
}

tmb_status tmb_file_open(int *out, struct stat *stat, int dirfd, const char *name,
                         const char *shown, tmb_err *err)
{
    if (!tmb_is_base_name(name))
        return tmb_fail(err, TMB_EINTERNAL, "%s: no plain file name", shown);
    bool linked = false;
    int fd = tmb_open_beneath(dirfd, name, FLAGS, 0);
    if (fd < 0 && errno == ELOOP) {
        linked = true;
        fd = open_linked(dirfd, name);
    }
    if (fd < 0 && errno == ELOOP)
        return tmb_fail(
            err, TMB_EDATA,
            "%s: a symbolic link out of its folder, which is not followed; put the file "
            "itself there, or give the folder that holds it",
            shown);
    if (fd < 0 && errno == ENOENT && linked)
        return tmb_fail(err, TMB_ENOINPUT, "%s: a symbolic link to nothing; fetch the file again",
                        shown);
    if (fd < 0 && errno == ENXIO) return refuse(shown, S_IFSOCK, err);
    if (fd < 0 && errno == ENOENT)
        return tmb_fail(err, TMB_ENOINPUT, "%s: no such file; fetch it, or the whole folder again",
                        shown);
    if (fd < 0) return tmb_fail_errno(err, TMB_ENOINPUT, "%s: cannot open", shown);
    if (fstat(fd, stat) != 0) {
        tmb_status status = tmb_fail_errno(err, TMB_EIO, "%s: cannot stat", shown);
        close(fd);
        return status;
    }
    if (!S_ISREG(stat->st_mode)) {
        close(fd);
        return refuse(shown, stat->st_mode, err);
    }
    *out = fd;
    return TMB_OK;
}
