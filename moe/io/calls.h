/* calls.h - system calls that a signal may interrupt, called again until it did not.
 *
 * Ctrl-C is a flag here, not a death, and network file systems do return EINTR. */
#ifndef TMB_IO_CALLS_H
#define TMB_IO_CALLS_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef HAVE_LINUX_OPENAT2_H
#include <linux/openat2.h>
#endif

#define TMB_AGAIN(result, call)                                                                    \
    do {                                                                                           \
        result = (call);                                                                           \
    } while (result < 0 && errno == EINTR)

/* mode counts where flags has O_CREAT. */
static inline int tmb_openat(int dirfd, const char *name, int flags, mode_t mode)
{
    int fd;
    TMB_AGAIN(fd, openat(dirfd, name, flags, mode));
    return fd;
}

/* Open the one name `name` in the folder dirfd, whatever it is made of and whoever changes the
 * folder meanwhile: the kernel follows no link and does not leave the folder (openat2, Linux 5.6).
 * Where it has no such call, or a sandbox forbids it, O_NOFOLLOW says the same of a name of one
 * part.  ELOOP: it is a link.  mode counts where flags has O_CREAT. */
static inline int tmb_open_beneath(int dirfd, const char *name, int flags, mode_t mode)
{
    flags |= O_NOFOLLOW;
#if defined HAVE_LINUX_OPENAT2_H && defined SYS_openat2
    int fd;
    struct open_how how = {.flags = (uint64_t)(unsigned)flags,
                           .mode = flags & O_CREAT ? mode : 0,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    TMB_AGAIN(fd, (int)syscall(SYS_openat2, dirfd, name, &how, sizeof how));
    if (fd >= 0 || (errno != ENOSYS && errno != EPERM && errno != EAGAIN)) return fd;
#endif
    return tmb_openat(dirfd, name, flags, mode);
}

static inline int tmb_fsync(int fd)
{
    int rc;
    TMB_AGAIN(rc, fsync(fd));
    return rc;
}

/* Of a folder: 0 also where a network file system has nothing to flush and says EINVAL. */
static inline int tmb_fsync_folder(int fd)
{
    int rc = tmb_fsync(fd);
    return rc && errno == EINVAL ? 0 : rc;
}

static inline int tmb_fdatasync(int fd)
{
    int rc;
    TMB_AGAIN(rc, fdatasync(fd));
    return rc;
}

static inline int tmb_ftruncate(int fd, off_t bytes)
{
    int rc;
    TMB_AGAIN(rc, ftruncate(fd, bytes));
    return rc;
}

static inline int tmb_flock(int fd, int how)
{
    int rc;
    TMB_AGAIN(rc, flock(fd, how));
    return rc;
}

/* Linux gives the number back even when it says EINTR: closing again could close another file. */
static inline int tmb_close(int fd)
{
    int rc = close(fd);
    return rc && errno == EINTR ? 0 : rc;
}

#endif
