#include "config.h"
#include "moe/quantize/output.h"

#include "moe/io/calls.h"
#include "moe/quantize/shard_writer.h"
#include "moe/quantize/summary.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- where it is ------------------------------------------------------------------------------
 */

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* A link is never followed: what is made is where it was asked for. */
enum { FOLDER = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC };

/* Whether fd's folder, or one above it, is the source. */
static tmb_status refuse_source(const tmb_output *o, int fd, tmb_err *err)
{
    struct stat source, here = {0}, above = {0};
    const char *path = o->plan->job.model->ckpt->path;
    tmb_status status = TMB_OK;
    if (fstat(o->plan->job.model->ckpt->dirfd, &source))
        return tmb_fail_errno(err, TMB_ENOINPUT, "%s: cannot look at it", path);
    int at = tmb_openat(fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    bool top = false, good = at >= 0 && fstat(at, &here) == 0;
    while (good && !top && !status) {
        if (same_file(&here, &source))
            status =
                tmb_fail(err, TMB_ECREATE,
                         "%s: is the source %s itself or lies inside it; choose another folder",
                         o->folder, path);
        int up = tmb_openat(at, "..", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
        close(at);
        at = up;
        good = up >= 0 && fstat(up, &above) == 0;
        top = good && same_file(&above, &here);
        here = above;
    }
    if (!good && !status)
        status =
            tmb_fail_errno(err, TMB_ECREATE, "%s: cannot look at the folders above it", o->folder);
    if (at >= 0) close(at);
    return status;
}

static tmb_status make_folder(tmb_output *o, tmb_err *err)
{
    char *slash = strrchr(o->folder, '/');
    const char *name = slash ? slash + 1 : o->folder;
    char *parent = slash == o->folder ? strdup("/")
                   : slash            ? strndup(o->folder, (size_t)(slash - o->folder))
                                      : strdup(".");
    if (!parent) return tmb_fail_memory(err, strlen(o->folder), "a path");
    tmb_status status = TMB_OK;
    int fd = tmb_openat(AT_FDCWD, parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd < 0)
        status = tmb_fail_errno(err, TMB_ECREATE,
                                "%s: the folder for %s cannot be opened; create it "
                                "first",
                                parent, name);
    if (!status) status = refuse_source(o, fd, err);
    if (!status && mkdirat(fd, name, 0777))
        status = tmb_fail_errno(err, TMB_ECREATE, "%s: cannot create the folder", o->folder);
    if (!status) {
        o->created = true;
        o->dirfd = tmb_openat(fd, name, FOLDER, 0);
        if (o->dirfd < 0)
            status = tmb_fail_errno(err, TMB_ECREATE, "%s: cannot open the new folder", o->folder);
        else if (tmb_fsync_folder(fd))
            status = tmb_fail_errno(err, TMB_EIO, "%s: cannot flush the folder for %s to the disk",
                                    parent, name);
    }
    if (fd >= 0) close(fd);
    free(parent);
    return status;
}

/* The folder cannot be opened: because it is a link?  errno stays as it was. */
static tmb_status refuse_link(const tmb_output *o, tmb_err *err)
{
    const int why = errno;
    char target[PATH_MAX];
    tmb_status status = TMB_OK;
    ssize_t n = readlink(o->folder, target, sizeof target);
    int fd = n > 0 ? tmb_openat(AT_FDCWD, o->folder, O_PATH | O_DIRECTORY | O_CLOEXEC, 0) : -1;
    if (fd >= 0) status = refuse_source(o, fd, err);
    if (fd >= 0) close(fd);
    if (n > 0 && !status)
        status = tmb_fail(err, TMB_ECREATE,
                          "%s: is a symbolic link to %.*s, which is not followed; give the folder "
                          "itself",
                          o->folder, (int)n, target);
    errno = why;
    return status;
}

static tmb_status open_folder(tmb_output *o, tmb_err *err)
{
    o->dirfd = tmb_openat(AT_FDCWD, o->folder, FOLDER, 0);
    if (o->dirfd < 0 && errno == ENOENT) return make_folder(o, err);
    if (o->dirfd < 0 && (errno == ENOTDIR || errno == ELOOP)) TRY(refuse_link(o, err));
    if (o->dirfd < 0 && errno == ENOTDIR)
        return tmb_fail(err, TMB_ECREATE,
                        "%s: is a file, and the output is a folder; choose another "
                        "name",
                        o->folder);
    if (o->dirfd < 0) return tmb_fail_errno(err, TMB_ECREATE, "%s: cannot open", o->folder);
    return refuse_source(o, o->dirfd, err);
}

/* ---- what is in it ----------------------------------------------------------------------------
 */

static bool planned(const tmb_plan *plan, const char *name)
{
    for (uint32_t i = 0; i < plan->n_others; i++)
        if (strcmp(plan->others[i].name, name) == 0) return true;
    for (uint32_t i = 0; i < plan->n_files; i++)
        if (strcmp(plan->files[i].name, name) == 0) return true;
    return false;
}

/* Names that an unfinished run wrote, whichever job it was. */
static bool left_behind(const tmb_output *o, const char *name)
{
    if (strncmp(name, TMB_TEMPORARY, sizeof TMB_TEMPORARY - 1) == 0) return true;
    for (uint32_t i = 0; i < o->journal.n_written; i++)
        if (strcmp(o->journal.written[i], name) == 0) return true;
    return false;
}

/* Calls visit for every name but ".", ".." and the journal, until it fails. */
static tmb_status
each_name(tmb_output *o, tmb_status (*visit)(tmb_output *, const char *, tmb_err *), tmb_err *err)
{
    int fd = tmb_openat(o->dirfd, ".", FOLDER, 0);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir) {
        if (fd >= 0) close(fd);
        return tmb_fail_errno(err, TMB_ECREATE, "%s: cannot list", o->folder);
    }
    tmb_status status = TMB_OK;
    for (struct dirent *e; !status && (errno = 0, e = readdir(dir));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
            strcmp(e->d_name, TMB_JOURNAL_NAME) != 0)
            status = visit(o, e->d_name, err);
    if (!status && errno) status = tmb_fail_errno(err, TMB_EIO, "%s: cannot list", o->folder);
    closedir(dir);
    return status;
}

static tmb_status foreign(const tmb_output *o, const char *name, tmb_err *err)
{
    return tmb_fail(err, TMB_ECREATE,
                    "%s: holds \"%s\", which this run did not write; choose an empty folder, or "
                    "remove it",
                    o->folder, name);
}

/* Without a journal: nothing may be there. */
static tmb_status refuse_any(tmb_output *o, const char *name, tmb_err *err)
{
    if (faccessat(o->dirfd, TMB_SUMMARY_NAME, F_OK, 0) == 0)
        return tmb_fail(err, TMB_ECREATE, "%s: is complete; remove it or choose another folder",
                        o->folder);
    return foreign(o, name, err);
}

/* Is it the beginning of a shard that is in the journal? */
static bool gone_on_with(const tmb_output *o, const char *name)
{
    const tmb_journal *j = &o->journal;
    for (uint32_t f = 0; f < o->plan->n_files; f++)
        if (j->part_bytes[f] && !j->have[f] &&
            strcmp(tmb_temporary_of(o->plan->files[f].name).name, name) == 0)
            return true;
    return false;
}

/* With a journal of this job: what it will write, and its temporary files, which go. */
static tmb_status tidy(tmb_output *o, const char *name, tmb_err *err)
{
    struct stat st;
    if (fstatat(o->dirfd, name, &st, AT_SYMLINK_NOFOLLOW))
        return tmb_fail_errno(err, TMB_EIO, "%s/%s: cannot look at it", o->folder, name);
    if (!S_ISREG(st.st_mode)) return foreign(o, name, err);
    if (strncmp(name, TMB_TEMPORARY, sizeof TMB_TEMPORARY - 1) == 0) {
        if (gone_on_with(o, name)) return TMB_OK;
        if (unlinkat(o->dirfd, name, 0))
            return tmb_fail_errno(err, TMB_ECREATE, "%s/%s: cannot remove", o->folder, name);
        return TMB_OK;
    }
    return planned(o->plan, name) ? TMB_OK : foreign(o, name, err);
}

static tmb_status refuse_unknown(tmb_output *o, const char *name, tmb_err *err)
{
    struct stat st;
    bool regular = fstatat(o->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode);
    return regular && left_behind(o, name) ? TMB_OK : foreign(o, name, err);
}

static tmb_status discard(tmb_output *o, const char *name, tmb_err *err)
{
    if (unlinkat(o->dirfd, name, 0))
        return tmb_fail_errno(err, TMB_ECREATE, "%s/%s: cannot remove", o->folder, name);
    return TMB_OK;
}

/* ---- who works on it --------------------------------------------------------------------------
 */

static tmb_status lock(tmb_output *o, tmb_err *err)
{
    for (;;) {
        struct stat held, named;
        o->lockfd = tmb_open_beneath(o->dirfd, TMB_JOURNAL_NAME,
                                     O_RDWR | O_CREAT | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0666);
        if (o->lockfd < 0 && (errno == ELOOP || errno == EISDIR || errno == ENXIO))
            return tmb_fail(err, TMB_ECREATE,
                            "%s/%s: is no regular file; remove it or choose another folder",
                            o->folder, TMB_JOURNAL_NAME);
        if (o->lockfd < 0)
            return tmb_fail_errno(err, TMB_ECREATE, "%s: cannot write its %s", o->folder,
                                  TMB_JOURNAL_NAME);
        if (tmb_flock(o->lockfd, LOCK_EX | LOCK_NB)) {
            if (errno != EWOULDBLOCK)
                return tmb_fail_errno(err, TMB_ECREATE, "%s/%s: cannot lock", o->folder,
                                      TMB_JOURNAL_NAME);
            long pid = tmb_journal_pid(o->lockfd);
            if (!pid) /* it has only just begun */
                return tmb_fail(err, TMB_ECREATE,
                                "%s: another process is at work on it; wait for it, or stop it "
                                "first",
                                o->folder);
            return tmb_fail(err, TMB_ECREATE,
                            "%s: process %ld is at work on it; wait for it, or stop it first",
                            o->folder, pid);
        }
        /* the one before may have finished, and removed this very journal, meanwhile */
        int rc = fstat(o->lockfd, &held);
        if (!rc) rc = fstatat(o->dirfd, TMB_JOURNAL_NAME, &named, AT_SYMLINK_NOFOLLOW);
        if (rc && errno != ENOENT)
            return tmb_fail_errno(err, TMB_EIO, "%s/%s: cannot look at it", o->folder,
                                  TMB_JOURNAL_NAME);
        if (!rc && same_file(&held, &named)) return TMB_OK;
        close(o->lockfd);
        o->lockfd = -1;
    }
}

/* Fails at the first name: the folder holds more than a journal. */
static tmb_status anything(tmb_output *o, const char *name, tmb_err *err)
{
    (void)o;
    (void)name;
    (void)err;
    return TMB_EINTERNAL;
}

/* The journal's name is on the disk before any other: without it what a power loss leaves would be
 * somebody else's. */
static tmb_status begin(tmb_output *o, const char *identity, tmb_err *err)
{
    TRY(tmb_journal_begin(&o->journal, identity, err));
    if (tmb_fsync_folder(o->dirfd))
        return tmb_fail_errno(err, TMB_EIO, "%s: cannot flush this folder to the disk", o->folder);
    return TMB_OK;
}

static tmb_status take_over(tmb_output *o, const char *identity, bool restart, tmb_err *err)
{
    tmb_journal *j = &o->journal;
    TRY(tmb_journal_open(j, o->lockfd, o->folder, o->plan, identity, err));
    bool torn = j->damaged && each_name(o, anything, NULL) == TMB_OK;
    if (!j->identity && (!j->damaged || torn)) { /* new, or stopped in its first line */
        TRY(each_name(o, refuse_any, err));
        return begin(o, identity, err);
    }
    if (restart) {
        TRY(each_name(o, refuse_unknown, err));
        TRY(each_name(o, discard, err));
        for (uint32_t i = 0; i < o->plan->n_files; i++)
            j->have[i] = false, j->part_bytes[i] = 0;
        memset(j->unit_known, 0, o->plan->job.model->n_units * sizeof *j->unit_known);
        return begin(o, identity, err);
    }
    if (j->damaged)
        return tmb_fail(err, TMB_EDATA, "%s/%s: is damaged; --restart discards the unfinished run",
                        o->folder, TMB_JOURNAL_NAME);
    if (!j->ours)
        return tmb_fail(err, TMB_ECREATE,
                        "%s: holds an unfinished run in which %s was another; repeat that command "
                        "to finish it, or discard it with --restart",
                        o->folder, tmb_journal_difference(j->identity, identity));
    return each_name(o, tidy, err);
}

tmb_status tmb_output_open(tmb_output *o, const tmb_plan *plan, const char *folder, bool restart,
                           tmb_err *err)
{
    char *identity = NULL, pid[32];
    *o = (tmb_output){.plan = plan, .dirfd = -1, .lockfd = -1, .journal = {.fd = -1}};
    size_t n = strlen(folder);
    while (n > 1 && folder[n - 1] == '/')
        n--;
    o->folder = strndup(folder, n);
    if (!o->folder) return tmb_fail_memory(err, n + 1, "a path");
    if (!n) return tmb_fail(err, TMB_EUSAGE, "the output folder has no name");

    tmb_status status = open_folder(o, err);
    /* look before the journal is made, so that somebody's folder stays as it was */
    if (!status && faccessat(o->dirfd, TMB_JOURNAL_NAME, F_OK, AT_SYMLINK_NOFOLLOW))
        status = errno == ENOENT ? each_name(o, refuse_any, err)
                                 : tmb_fail_errno(err, TMB_ECREATE, "%s/%s: cannot look at it",
                                                  o->folder, TMB_JOURNAL_NAME);
    if (!status) status = lock(o, err);
    if (!status) status = tmb_journal_identity(plan, &identity, err);
    if (!status) status = take_over(o, identity, restart, err);
    if (!status) {
        o->taken = true;
        snprintf(pid, sizeof pid, "pid %ld", (long)getpid());
        status = tmb_journal_add(&o->journal, pid, err);
    }
    free(identity);
    if (status) tmb_output_close(o);
    return status;
}

void tmb_output_close(tmb_output *o)
{
    if (o->dirfd >= 0 && (o->taken || o->created) && each_name(o, anything, NULL) == TMB_OK) {
        if (o->taken) unlinkat(o->dirfd, TMB_JOURNAL_NAME, 0);
        if (o->created) rmdir(o->folder);
    }
    tmb_journal_close(&o->journal);
    if (o->lockfd >= 0) close(o->lockfd);
    if (o->dirfd >= 0) close(o->dirfd);
    free(o->folder);
    *o = (tmb_output){.dirfd = -1, .lockfd = -1, .journal = {.fd = -1}};
}

tmb_status tmb_output_done(tmb_output *o, tmb_err *err)
{
    if (unlinkat(o->dirfd, TMB_JOURNAL_NAME, 0))
        return tmb_fail_errno(err, TMB_EIO, "%s/%s: cannot remove", o->folder, TMB_JOURNAL_NAME);
    /* All else is on the disk.  A journal that a power loss brings back finds nothing to do. */
    (void)tmb_fsync_folder(o->dirfd);
    o->created = o->taken = false;
    return TMB_OK;
}
