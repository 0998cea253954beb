/* fault_files.c - calls about files and names that pass through; see fault_layer.h. */
#include "config.h"
#include "tests/fault_layer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined HAVE_LINUX_OPENAT2_H && defined SYS_openat2
#include <linux/openat2.h>
#define HAS_OPENAT2 1
#endif

int __real_fstat(int fd, struct stat *st);
int __real_fstatat(int dirfd, const char *name, struct stat *st, int flags);

static uint64_t size_of(int fd)
{
    struct stat st;
    return __real_fstat(fd, &st) == 0 ? (uint64_t)st.st_size : 0;
}

static uint64_t room_of(int dirfd, const char *name)
{
    struct stat st;
    return __real_fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode)
               ? (uint64_t)st.st_size
               : 0;
}

/* ---- files -------------------------------------------------------------------------------------
 */

int __real_open(const char *path, int flags, ...);
int __real_openat(int dirfd, const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_openat(int dirfd, const char *path, int flags, ...);
int __wrap___open_2(const char *path, int flags);
int __wrap___openat_2(int dirfd, const char *path, int flags);

struct open_how;
long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);

/* how: by openat2; NULL: by openat. */
static int real_open(int dirfd, const char *path, int flags, mode_t mode,
                     const struct open_how *how)
{
#ifdef HAS_OPENAT2
    if (how) return (int)__real_syscall(SYS_openat2, dirfd, path, how, sizeof *how);
#endif
    (void)how;
    return __real_openat(dirfd, path, flags, mode);
}

static int do_open(int dirfd, const char *path, int flags, mode_t mode, const struct open_how *how)
{
    struct stat st;
    BEFORE(FAULT_OPEN, dirfd, path, -1);
    trace_begin();
    bool made = (flags & O_CREAT) && __real_fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) != 0;
    int fd = real_open(dirfd, path, flags, mode, how);
    int kept = errno;
    trace_open(fd, made);
    trace_end();
    errno = kept;
    AFTER;
    return fd;
}

static mode_t mode_of(int flags, va_list ap)
{
    return flags & O_CREAT ? va_arg(ap, mode_t) : 0;
}

int __wrap_open(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    int fd = do_open(AT_FDCWD, path, flags, mode_of(flags, ap), NULL);
    va_end(ap);
    return fd;
}

int __wrap_openat(int dirfd, const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    int fd = do_open(dirfd, path, flags, mode_of(flags, ap), NULL);
    va_end(ap);
    return fd;
}

int __wrap___open_2(const char *path, int flags)
{
    return do_open(AT_FDCWD, path, flags, 0, NULL);
}

int __wrap___openat_2(int dirfd, const char *path, int flags)
{
    return do_open(dirfd, path, flags, 0, NULL);
}

/* openat2, which the C library has no function for; what else is asked this way passes through. */
long __wrap_syscall(long number, ...)
{
    long a[6];
    va_list ap;
    va_start(ap, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(ap, long);
    va_end(ap);
#ifdef HAS_OPENAT2
    const struct open_how *how = (const struct open_how *)a[2];
    if (number == SYS_openat2 && getenv("TOMBAC_OLD_KERNEL")) {
        errno = ENOSYS;
        return -1;
    }
    if (number == SYS_openat2)
        return do_open((int)a[0], (const char *)a[1], (int)how->flags, (mode_t)how->mode, how);
#endif
    return __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

WRAP(FILE *, fopen, const char *path, const char *mode)
{
    BEFORE(FAULT_OPEN, -1, path, NULL);
    return __real_fopen(path, mode);
}

WRAP(int, close, int fd)
{
    trace_begin();
    trace_add(TRACE_CLOSE, fd, 0, NULL, 0);
    fault_verdict v = fault_strike(FAULT_CLOSE, fd, NULL);
    int rc = __real_close(fd); /* Linux gives the number back whatever it returns */
    trace_end();
    if (v == FAULT_FAIL) {
        errno = fault_errno();
        return -1;
    }
    AFTER;
    return rc;
}

WRAP(ssize_t, pread, int fd, void *data, size_t n, off_t offset)
{
    BEFORE(FAULT_READ, fd, NULL, -1);
    if (v == FAULT_HALF && n > 1) n /= 2;
    return __real_pread(fd, data, n, offset);
}

ssize_t __wrap___pread_chk(int fd, void *data, size_t n, off_t offset, size_t room);
ssize_t __wrap___pread_chk(int fd, void *data, size_t n, off_t offset, size_t room)
{
    if (n > room) abort();
    return __wrap_pread(fd, data, n, offset);
}

WRAP(ssize_t, pwrite, int fd, const void *data, size_t n, off_t offset)
{
    BEFORE_CHANGE(FAULT_WRITE, fd, NULL, -1);
    if ((v == FAULT_HALF || v == FAULT_KILL_HALF) && n > 1) n /= 2;
    size_t fits = fault_take_room(fd, n, (uint64_t)offset);
    fault_slow();
    if (n && !fits) {
        errno = ENOSPC;
        return -1;
    }
    trace_begin();
    ssize_t put = __real_pwrite(fd, data, fits, offset);
    if (put > 0) trace_add(TRACE_WRITE, fd, (uint64_t)offset, data, (size_t)put);
    trace_end();
    AFTER;
    return put;
}

static int do_sync(int fd, int (*sync)(int))
{
    BEFORE_CHANGE(FAULT_SYNC, fd, NULL, -1);
    if (v == FAULT_LIE) return 0;
    trace_begin();
    int rc = sync(fd);
    if (!rc) trace_add(TRACE_SYNC, fd, 0, NULL, 0);
    trace_end();
    AFTER;
    return rc;
}

WRAP(int, fsync, int fd)
{
    return do_sync(fd, __real_fsync);
}

WRAP(int, fdatasync, int fd)
{
    return do_sync(fd, __real_fdatasync);
}

WRAP(int, fallocate, int fd, int mode, off_t offset, off_t n)
{
    BEFORE_CHANGE(FAULT_RESERVE, fd, NULL, -1);
    uint64_t end = (uint64_t)(offset + n), before = size_of(fd);
    if (!mode && end > before && fault_take_room(fd, (size_t)n, (uint64_t)offset) < (size_t)n) {
        errno = ENOSPC;
        return -1;
    }
    trace_begin();
    int rc = __real_fallocate(fd, mode, offset, n);
    if (!rc && !mode && end > before) trace_add(TRACE_SIZE, fd, end, NULL, 0);
    trace_end();
    AFTER;
    return rc;
}

WRAP(int, posix_fallocate, int fd, off_t offset, off_t n)
{
    if (!__wrap_fallocate(fd, 0, offset, n)) return 0;
    return errno == EOPNOTSUPP ? __real_posix_fallocate(fd, offset, n) : errno;
}

WRAP(int, ftruncate, int fd, off_t n)
{
    BEFORE_CHANGE(FAULT_TRUNCATE, fd, NULL, -1);
    uint64_t before = size_of(fd);
    trace_begin();
    int rc = __real_ftruncate(fd, n);
    if (!rc) trace_add(TRACE_SIZE, fd, (uint64_t)n, NULL, 0);
    trace_end();
    if (!rc && (uint64_t)n < before) fault_give_room(before - (uint64_t)n);
    AFTER;
    return rc;
}

/* ---- names -------------------------------------------------------------------------------------
 */

WRAP(int, renameat, int from_dir, const char *from, int to_dir, const char *to)
{
    BEFORE_CHANGE(FAULT_RENAME, to_dir, to, -1);
    uint64_t room = room_of(to_dir, to);
    char both[600];
    int n = snprintf(both, sizeof both, "%s/%s", from, to);
    trace_begin();
    int rc = __real_renameat(from_dir, from, to_dir, to);
    if (!rc) trace_add(TRACE_RENAME, to_dir, 0, both, (size_t)n);
    trace_end();
    if (!rc) fault_give_room(room);
    AFTER;
    return rc;
}

WRAP(int, rename, const char *from, const char *to)
{
    (void)__real_rename;
    return __wrap_renameat(AT_FDCWD, from, AT_FDCWD, to);
}

WRAP(int, unlinkat, int dirfd, const char *name, int flags)
{
    BEFORE_CHANGE(FAULT_UNLINK, dirfd, name, -1);
    uint64_t room = room_of(dirfd, name);
    trace_begin();
    int rc = __real_unlinkat(dirfd, name, flags);
    if (!rc)
        trace_add(flags & AT_REMOVEDIR ? TRACE_RMDIR : TRACE_UNLINK, dirfd, 0, name, strlen(name));
    trace_end();
    if (!rc) fault_give_room(room);
    AFTER;
    return rc;
}

WRAP(int, unlink, const char *path)
{
    (void)__real_unlink;
    return __wrap_unlinkat(AT_FDCWD, path, 0);
}

WRAP(int, rmdir, const char *path)
{
    BEFORE_CHANGE(FAULT_UNLINK, -1, path, -1);
    trace_begin();
    int rc = __real_rmdir(path);
    if (!rc) trace_add(TRACE_RMDIR, -1, 0, path, strlen(path));
    trace_end();
    AFTER;
    return rc;
}

WRAP(int, mkdirat, int dirfd, const char *name, mode_t mode)
{
    BEFORE_CHANGE(FAULT_MKDIR, dirfd, name, -1);
    trace_begin();
    int rc = __real_mkdirat(dirfd, name, mode);
    if (!rc) trace_add(TRACE_MKDIR, dirfd, 0, name, strlen(name));
    trace_end();
    AFTER;
    return rc;
}

WRAP(int, mkdir, const char *path, mode_t mode)
{
    (void)__real_mkdir;
    return __wrap_mkdirat(AT_FDCWD, path, mode);
}

/* ---- questions ---------------------------------------------------------------------------------
 */

WRAP(int, fstat, int fd, struct stat *st)
{
    BEFORE(FAULT_STAT, fd, NULL, -1);
    return __real_fstat(fd, st);
}

WRAP(int, fstatat, int dirfd, const char *name, struct stat *st, int flags)
{
    BEFORE(FAULT_STAT, dirfd, name, -1);
    return __real_fstatat(dirfd, name, st, flags);
}

WRAP(int, faccessat, int dirfd, const char *name, int mode, int flags)
{
    BEFORE(FAULT_STAT, dirfd, name, -1);
    return __real_faccessat(dirfd, name, mode, flags);
}

WRAP(int, fstatvfs, int fd, struct statvfs *fs)
{
    BEFORE(FAULT_STAT, fd, NULL, -1);
    int rc = __real_fstatvfs(fd, fs);
    if (!rc) fs->f_bavail = fault_room(fs->f_bavail * fs->f_frsize) / fs->f_frsize;
    return rc;
}

WRAP(int, flock, int fd, int what)
{
    BEFORE(FAULT_LOCK, fd, NULL, -1);
    return __real_flock(fd, what);
}

WRAP(ssize_t, readlinkat, int dirfd, const char *name, char *out, size_t n)
{
    BEFORE(FAULT_STAT, dirfd, name, -1);
    return __real_readlinkat(dirfd, name, out, n);
}

WRAP(DIR *, opendir, const char *path)
{
    BEFORE(FAULT_LIST, -1, path, NULL);
    return __real_opendir(path);
}

WRAP(DIR *, fdopendir, int fd)
{
    BEFORE(FAULT_LIST, fd, NULL, NULL);
    return __real_fdopendir(fd);
}

WRAP(struct dirent *, readdir, DIR *dir)
{
    BEFORE(FAULT_LIST, dirfd(dir), NULL, NULL);
    return __real_readdir(dir);
}
