/* power.h - what may be on a disk after the power failed.
 *
 * A trace (tests/fault_layer.h) is replayed up to some moment.  What was flushed before it is
 * there. Of the rest anything may be: each page of a file that was not fsynced is old, new, made of
 * old and new sectors, or, where the file grew, noise; the file has its old size, its new one or
 * one between; each name that was made, renamed or removed since the folder was fsynced has done so
 * or not. */
#ifndef TMB_TESTS_POWER_H
#define TMB_TESTS_POWER_H

#include "tests/fault_layer.h"
#include "tests/faulty.h"

enum { POWER_PAGE = 4096, POWER_SECTOR = 512, POWER_FILES = 128, POWER_FDS = 1024 };

typedef enum power_policy {
    POWER_DROP,       /* nothing that was not flushed */
    POWER_KEEP,       /* all of it: a process that was killed */
    POWER_NAMES_ONLY, /* names arrived, data did not */
    POWER_DATA_ONLY,  /* data arrived, names did not */
    POWER_MIXED,      /* each for itself */
    POWER_POLICIES
} power_policy;

typedef struct power_file {
    uint8_t *disk, *now; /* flushed; as programs see it */
    size_t disk_size, now_size, room;
    uint8_t *dirty; /* a page was touched since the flush */
} power_file;

typedef struct power_name {
    char name[256];
    int file; /* -1: removed */
} power_name;

/* A change of one or two names at once. */
typedef struct power_change {
    power_name set[2];
    int n;
} power_change;

typedef struct power {
    const char *out; /* absolute path of the folder, without links */
    power_file files[POWER_FILES];
    int n_files;
    power_name disk[POWER_FILES], now[POWER_FILES];
    int n_disk, n_now;
    power_change pending[POWER_FILES];
    int n_pending;
    int fds[POWER_FDS]; /* file, -1: none of ours, -2: the folder, -3: the one above */
    bool made, made_on_disk;
    uint64_t seed;
} power;

static inline uint32_t power_random(power *p)
{
    p->seed = p->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(p->seed >> 33);
}

static inline void power_set(power_name *names, int *n, const power_name *to)
{
    int i = 0;
    while (i < *n && strcmp(names[i].name, to->name) != 0)
        i++;
    if (to->file >= 0) {
        if (i == *n) ++*n;
        names[i] = *to;
    } else if (i < *n) {
        names[i] = names[--*n];
    }
}

static inline int power_find(const power *p, const char *name)
{
    for (int i = 0; i < p->n_now; i++)
        if (strcmp(p->now[i].name, name) == 0) return p->now[i].file;
    return -1;
}

static inline void power_change_names(power *p, const power_change *c)
{
    for (int i = 0; i < c->n; i++)
        power_set(p->now, &p->n_now, &c->set[i]);
    if (p->n_pending < POWER_FILES) p->pending[p->n_pending++] = *c;
}

static inline void power_grow(power_file *f, size_t size)
{
    if (size <= f->room) return;
    size_t room = (size + POWER_PAGE) * 2, pages = room / POWER_PAGE + 1;
    f->disk = realloc(f->disk, room);
    f->now = realloc(f->now, room);
    f->dirty = realloc(f->dirty, pages);
    if (!f->disk || !f->now || !f->dirty) abort();
    memset(f->disk + f->room, 0, room - f->room);
    memset(f->now + f->room, 0, room - f->room);
    memset(f->dirty + (f->room ? f->room / POWER_PAGE + 1 : 0), 0,
           pages - (f->room ? f->room / POWER_PAGE + 1 : 0));
    f->room = room;
}

static inline void power_resize(power_file *f, size_t size)
{
    power_grow(f, size + 1);
    if (size < f->now_size) memset(f->now + size, 0, f->now_size - size);
    for (size_t page = (size < f->now_size ? size : f->now_size) / POWER_PAGE;
         page <= (size > f->now_size ? size : f->now_size) / POWER_PAGE; page++)
        f->dirty[page] = 1;
    f->now_size = size;
}

static inline void power_write(power_file *f, const void *data, size_t n, size_t offset)
{
    power_grow(f, offset + n);
    memcpy(f->now + offset, data, n);
    for (size_t page = offset / POWER_PAGE; n && page <= (offset + n - 1) / POWER_PAGE; page++)
        f->dirty[page] = 1;
    if (offset + n > f->now_size) f->now_size = offset + n;
}

static inline void power_sync(power_file *f)
{
    if (!f->room) return;
    memcpy(f->disk, f->now, f->room);
    f->disk_size = f->now_size;
    memset(f->dirty, 0, f->room / POWER_PAGE + 1);
}

static inline void power_opened(power *p, const trace_head *h, const char *path)
{
    size_t n = strlen(p->out);
    const char *slash = strrchr(p->out, '/');
    int *fd = &p->fds[h->a];
    *fd = -1;
    if (strcmp(path, p->out) == 0) *fd = -2;
    if (strlen(path) == (size_t)(slash - p->out) && strncmp(path, p->out, strlen(path)) == 0)
        *fd = -3;
    if (strncmp(path, p->out, n) != 0 || path[n] != '/') return;
    if (!h->b) {
        *fd = power_find(p, path + n + 1);
        return;
    }
    if (p->n_files == POWER_FILES) abort();
    *fd = p->n_files++;
    power_change c = {.n = 1, .set = {{.file = *fd}}};
    snprintf(c.set[0].name, sizeof c.set[0].name, "%s", path + n + 1);
    power_change_names(p, &c);
}

static inline void power_renamed(power *p, char *both)
{
    char *to = strchr(both, '/');
    if (!to) return;
    *to++ = '\0';
    power_change c = {.n = 2, .set = {{.file = power_find(p, both)}, {.file = -1}}};
    snprintf(c.set[0].name, sizeof c.set[0].name, "%s", to);
    snprintf(c.set[1].name, sizeof c.set[1].name, "%s", both);
    power_change_names(p, &c);
}

static inline void power_synced(power *p, int fd)
{
    if (fd >= 0) power_sync(&p->files[fd]);
    if (fd == -3) p->made_on_disk = p->made;
    if (fd != -2) return;
    memcpy(p->disk, p->now, sizeof p->disk);
    p->n_disk = p->n_now;
    p->n_pending = 0;
}

static inline void power_step(power *p, const trace_head *h, const uint8_t *data)
{
    char text[4200] = "";
    if (h->a < 0 || h->a >= POWER_FDS) return;
    int fd = p->fds[h->a];
    if (h->op != TRACE_WRITE && h->bytes < sizeof text) memcpy(text, data, h->bytes);
    switch ((trace_op)h->op) {
    case TRACE_OPEN:
        power_opened(p, h, text);
        break;
    case TRACE_CLOSE:
        p->fds[h->a] = -1;
        break;
    case TRACE_WRITE:
        if (fd >= 0) power_write(&p->files[fd], data, h->bytes, h->b);
        break;
    case TRACE_SIZE:
        if (fd >= 0) power_resize(&p->files[fd], h->b);
        break;
    case TRACE_SYNC:
        power_synced(p, fd);
        break;
    case TRACE_RENAME:
        if (fd == -2) power_renamed(p, text);
        break;
    case TRACE_UNLINK:
        if (fd == -2) {
            power_change c = {.n = 1, .set = {{.file = -1}}};
            snprintf(c.set[0].name, sizeof c.set[0].name, "%.255s", text);
            power_change_names(p, &c);
        }
        break;
    case TRACE_MKDIR:
        if (fd == -3) p->made = true;
        break;
    case TRACE_RMDIR:
        break;
    }
}

/* What of a file is there. */
static inline void power_lose(power *p, power_file *f, power_policy policy)
{
    bool keep = policy == POWER_KEEP || policy == POWER_DATA_ONLY;
    if (policy == POWER_DROP || policy == POWER_NAMES_ONLY || !f->room) return;
    size_t before = f->disk_size, pages = f->now_size / POWER_PAGE + 1;
    for (size_t page = 0; page < pages && page * POWER_PAGE < f->room; page++) {
        uint32_t fate = keep ? 0 : power_random(p) % 4;
        if (!f->dirty[page]) continue;
        for (size_t at = page * POWER_PAGE; at < (page + 1) * POWER_PAGE && at < f->room;
             at += POWER_SECTOR) {
            bool fresh = fate == 0 || (fate == 1 && power_random(p) % 2);
            if (fresh)
                memcpy(f->disk + at, f->now + at, POWER_SECTOR);
            else if (fate == 3 && at >= before)
                for (int i = 0; i < POWER_SECTOR; i++)
                    f->disk[at + (size_t)i] = (uint8_t)power_random(p);
        }
    }
    uint32_t size = keep ? 0 : power_random(p) % 3;
    if (size == 0) f->disk_size = f->now_size;
    if (size == 1 && f->now_size > before)
        f->disk_size = before + power_random(p) % (f->now_size - before);
}

/* Make the folder as it is found after the power failed at `moment` of the trace, counted in
 * events; returns their number. */
static inline size_t power_image(power *p, const uint8_t *trace, size_t bytes, size_t moment,
                                 power_policy policy)
{
    size_t n = 0;
    for (size_t at = 0; at + sizeof(trace_head) <= bytes; n++) {
        trace_head h;
        memcpy(&h, trace + at, sizeof h);
        at += sizeof h + h.bytes;
        if (n < moment) power_step(p, &h, trace + at - h.bytes);
    }
    for (int i = 0; i < p->n_files; i++)
        power_lose(p, &p->files[i], policy);
    for (int i = 0; i < p->n_pending; i++) {
        bool take = policy == POWER_KEEP || policy == POWER_NAMES_ONLY ||
                    (policy == POWER_MIXED && power_random(p) % 2);
        for (int k = 0; take && k < p->pending[i].n; k++)
            power_set(p->disk, &p->n_disk, &p->pending[i].set[k]);
    }
    folder_remove(p->out);
    if (!p->made_on_disk && policy != POWER_KEEP && policy != POWER_NAMES_ONLY) return n;
    if (!p->made && !p->made_on_disk) return n;
    mkdir(p->out, 0755);
    int dir = open(p->out, O_RDONLY | O_DIRECTORY);
    for (int i = 0; i < p->n_disk; i++) {
        const power_file *f = &p->files[p->disk[i].file];
        int fd = openat(dir, p->disk[i].name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
        if (fd < 0 ||
            write(fd, f->disk ? (const void *)f->disk : "", f->disk_size) != (ssize_t)f->disk_size)
            abort();
        close(fd);
    }
    close(dir);
    return n;
}

/* Begin with the folder as it lies there, all of it flushed; absent: to be made. */
static inline void power_open(power *p, const char *out, uint64_t seed)
{
    memset(p, 0, sizeof *p);
    p->out = out;
    p->seed = seed * 2 + 1;
    for (int i = 0; i < POWER_FDS; i++)
        p->fds[i] = -1;
    DIR *dir = opendir(out);
    if (!dir) return;
    p->made = p->made_on_disk = true;
    for (struct dirent *e; (e = readdir(dir)) && p->n_files < POWER_FILES;) {
        struct stat st;
        if (e->d_name[0] == '.' && (!e->d_name[1] || !strcmp(e->d_name, ".."))) continue;
        int fd = openat(dirfd(dir), e->d_name, O_RDONLY);
        power_file *f = &p->files[p->n_files];
        if (fd < 0 || fstat(fd, &st)) abort();
        power_grow(f, (size_t)st.st_size + 1);
        if (read(fd, f->now, (size_t)st.st_size) != st.st_size) abort();
        close(fd);
        f->now_size = (size_t)st.st_size;
        power_sync(f);
        power_name name = {.file = p->n_files++};
        snprintf(name.name, sizeof name.name, "%s", e->d_name);
        power_set(p->now, &p->n_now, &name);
        power_set(p->disk, &p->n_disk, &name);
    }
    closedir(dir);
}

static inline void power_close(power *p)
{
    for (int i = 0; i < p->n_files; i++) {
        free(p->files[i].disk);
        free(p->files[i].now);
        free(p->files[i].dirty);
    }
}

#endif
