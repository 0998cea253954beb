#include "config.h"
#include "moe/bench/floors.h"

#include "kernels/base/team.h"
#include "kernels/base/clock.h"
#include "moe/bench/random.h"
#include "moe/io/direct.h"
#include "moe/io/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILES_MAX = 512 };
#define BLOCK ((uint64_t)4 << 20)

/* Some files as one run of blocks, which threads take in turn. */
typedef struct side {
    int fd[FILES_MAX];
    uint64_t bytes[FILES_MAX], total;
    int n;
    uint64_t next; /* atomic: block */
    bool write, cached;
    uint64_t *done; /* atomic: bytes of both sides */
} side;

typedef struct race {
    side read, write;
    unsigned what;
    int turn; /* atomic: threads that began */
    int failed; /* atomic */
    uint64_t done;
    const tmb_watch *watch;
    tmb_err err;
} race;

static void show(race *r)
{
    if (!r->watch->progress) return;
    tmb_progress p = {.phase = "floor",
                      .done_bytes = __atomic_load_n(&r->done, __ATOMIC_RELAXED),
                      .total_bytes = (r->what & ~TMB_FLOOR_WRITE ? r->read.total : 0) +
                                     (r->what & ~TMB_FLOOR_READ ? r->write.total : 0)};
    r->watch->progress(r->watch->ctx, &p);
}

/* One block; false when there is none left. */
static bool one_block(side *s, uint8_t *buffer, tmb_status *status, tmb_err *err)
{
    uint64_t at = __atomic_fetch_add(&s->next, 1, __ATOMIC_RELAXED) * BLOCK;
    int i = 0;
    while (i < s->n && at >= (s->bytes[i] + BLOCK - 1) / BLOCK * BLOCK)
        at -= (s->bytes[i++] + BLOCK - 1) / BLOCK * BLOCK;
    if (i == s->n) return false;
    size_t n = s->bytes[i] - at < BLOCK ? (size_t)(s->bytes[i] - at) : BLOCK;
    size_t whole = s->cached ? n : (n + TMB_DIRECT_ALIGN - 1) / TMB_DIRECT_ALIGN * TMB_DIRECT_ALIGN;
    bool refused = false;
    if (s->write)
        *status = tmb_file_pwrite(s->fd[i], buffer, whole, at, "floor", err);
    else if (s->cached)
        *status = tmb_file_pread(s->fd[i], buffer, n, at, "floor", err);
    else
        *status = tmb_direct_read(s->fd[i], buffer, whole, at, n, "floor", &refused, err);
    __atomic_add_fetch(s->done, n, __ATOMIC_RELAXED);
    return !*status && !refused;
}

static void run_side(race *r, side *s, bool first)
{
    tmb_err err = {0};
    tmb_status status = TMB_OK;
    uint8_t *buffer = tmb_pages_map(BLOCK);
    if (!buffer)
        status = tmb_fail_memory(&err, BLOCK, "the floor");
    else
        tmb_random_bf16((uint16_t *)(void *)buffer, BLOCK / 2, 1, 0.02f);
    while (!status && one_block(s, buffer, &status, &err)) {
        if (first) show(r);
        if (r->watch->stop && *r->watch->stop) status = tmb_fail(&err, TMB_ESYSTEM, "bench: stopped");
    }
    tmb_pages_unmap(buffer, BLOCK);
    if (!status && s->write && fsync(s->fd[0]))
        status = tmb_fail_errno(&err, TMB_EIO, "floor: cannot flush to the disk");
    if (status && !__atomic_exchange_n(&r->failed, 1, __ATOMIC_RELAXED)) r->err = err;
}

/* Through the cache one thread a side; past it two, because each waits for the disk. */
static void take_part(void *ctx)
{
    race *r = ctx;
    int i = __atomic_fetch_add(&r->turn, 1, __ATOMIC_RELAXED);
    side *s = r->what == TMB_FLOOR_WRITE || (r->what == TMB_FLOOR_BOTH && i % 2) ? &r->write
                                                                                : &r->read;
    run_side(r, s, i == 0);
    /* the system granted no second thread: one after the other */
    if (r->what == TMB_FLOOR_BOTH && __atomic_load_n(&r->turn, __ATOMIC_RELAXED) == 1)
        run_side(r, &r->write, true);
}

static void close_side(side *s)
{
    for (int i = 0; i < s->n; i++)
        close(s->fd[i]);
    s->n = 0;
}

static int open_as(int dirfd, const char *name, int flags, bool cached)
{
    return openat(dirfd, name, flags | O_CLOEXEC | (cached ? 0 : O_DIRECT), 0644);
}

/* Open the shards and make them cold. */
static tmb_status open_read(side *s, const char *folder, bool cached, tmb_err *err)
{
    DIR *dir = opendir(folder);
    if (!dir) return tmb_fail_errno(err, TMB_ENOINPUT, "%s: cannot list", folder);
    s->cached = cached;
    for (struct dirent *e; (e = readdir(dir)) && s->n < FILES_MAX;) {
        size_t n = strlen(e->d_name);
        if (n < 12 || strcmp(e->d_name + n - 12, ".safetensors") != 0) continue;
        int fd = open_as(dirfd(dir), e->d_name, O_RDONLY, cached);
        struct stat st;
        if (fd < 0 || fstat(fd, &st)) {
            if (fd >= 0) close(fd);
            closedir(dir);
            return tmb_fail_errno(err, TMB_ENOINPUT, "%s/%s: cannot open", folder, e->d_name);
        }
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        s->fd[s->n] = fd;
        s->bytes[s->n++] = (uint64_t)st.st_size;
        s->total += (uint64_t)st.st_size;
    }
    closedir(dir);
    return TMB_OK;
}

static tmb_status open_write(side *s, const char *out, uint64_t bytes, bool cached, tmb_err *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/.tmp-floor", out);
    unlink(path);
    int fd = open_as(AT_FDCWD, path, O_RDWR | O_CREAT | O_EXCL, cached);
    if (fd < 0) return tmb_fail_errno(err, TMB_ECREATE, "%s: cannot create", path);
    unlink(path); /* it has no name from now on, and is gone with its descriptor */
    *s = (side){.n = 1, .total = bytes, .write = true, .cached = cached};
    s->fd[0] = fd;
    s->bytes[0] = bytes;
    return TMB_OK;
}

static void keep_best(double *best, double seconds)
{
    if (!*best || seconds < *best) *best = seconds;
}

static tmb_status one_race(tmb_floor *f, unsigned what, const char *folder, const char *out,
                           bool cached, const tmb_watch *watch, tmb_err *err)
{
    race *r = calloc(1, sizeof *r);
    if (!r) return tmb_fail_memory(err, sizeof *r, "the floor");
    r->what = what;
    r->watch = watch;
    tmb_status status = what == TMB_FLOOR_WRITE ? TMB_OK : open_read(&r->read, folder, cached, err);
    if (!status && what != TMB_FLOOR_READ)
        status = open_write(&r->write, out, f->write_bytes, cached, err);
    r->read.done = r->write.done = &r->done;
    if (!status) {
        double began = tmb_seconds();
        tmb_team_run((what == TMB_FLOOR_BOTH ? 2 : 1) * (cached ? 1 : 2), take_part, r);
        double seconds = tmb_seconds() - began;
        if (r->failed) {
            status = r->err.status;
            if (err) *err = r->err;
        } else {
            keep_best(what == TMB_FLOOR_READ    ? &f->read
                      : what == TMB_FLOOR_WRITE ? &f->write
                                                : &f->both,
                      seconds);
        }
        if (what != TMB_FLOOR_WRITE) f->read_bytes = r->read.total;
    }
    close_side(&r->read);
    close_side(&r->write);
    free(r);
    return status;
}

tmb_status tmb_floor_measure(tmb_floor *floor, unsigned what, const char *folder, const char *out,
                             uint64_t write_bytes, bool cached, const tmb_watch *watch,
                             tmb_err *err)
{
    floor->write_bytes = write_bytes;
    for (unsigned one = TMB_FLOOR_READ; one <= TMB_FLOOR_BOTH; one *= 2)
        if (what & one) TRY(one_race(floor, one, folder, out, cached, watch, err));
    return TMB_OK;
}

void tmb_floor_cool(const char *folder)
{
    side s = {0};
    if (open_read(&s, folder, true, NULL)) return;
    close_side(&s);
}
