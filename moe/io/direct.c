#include "config.h"
#include "moe/io/direct.h"

#include "moe/io/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LARGE_PAGE ((size_t)2 << 20)

int tmb_direct_open(int fd, bool write)
{
    char name[40];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    return open(name, (write ? O_RDWR : O_RDONLY) | O_DIRECT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
}

/* Memory below a large page is not worth its alignment. */
static size_t mapped(size_t bytes)
{
    size_t unit = bytes < LARGE_PAGE ? TMB_DIRECT_ALIGN : LARGE_PAGE;
    return (bytes + unit - 1) / unit * unit;
}

void *tmb_pages_map(size_t bytes)
{
    if (bytes > SIZE_MAX - 2 * LARGE_PAGE) return NULL;
    size_t n = mapped(bytes), extra = n < LARGE_PAGE ? 0 : LARGE_PAGE;
    char *p =
        mmap(NULL, n + extra, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
             -1, 0);
    if (p == MAP_FAILED) return NULL;
    if (!extra) return p;
    /* give back what lies before and behind the aligned middle */
    size_t before = (LARGE_PAGE - (uintptr_t)p % LARGE_PAGE) % LARGE_PAGE;
    if (before) munmap(p, before);
    munmap(p + before + n, extra - before);
    (void)madvise(p + before, n, MADV_HUGEPAGE);
    return p + before;
}

void tmb_pages_unmap(void *pages, size_t bytes)
{
    if (pages) munmap(pages, mapped(bytes));
}

tmb_status tmb_direct_read(int fd, void *data, size_t n, uint64_t offset, size_t least,
                           const char *path, bool *refused, tmb_err *err)
{
    char *p = data;
    size_t done = 0;
    *refused = false;
    while (done < n) {
        size_t want = n - done < TMB_DIRECT_REQUEST ? n - done : TMB_DIRECT_REQUEST;
        ssize_t got = pread(fd, p + done, want, (off_t)(offset + done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0 && errno == EINVAL && !done) {
            *refused = true;
            return TMB_OK;
        }
        if (got < 0)
            return tmb_fail_errno(err, TMB_EIO, "%s: cannot read at byte %llu", path,
                                  (unsigned long long)(offset + done));
        done += (size_t)got;
        if (got == 0 || got % TMB_DIRECT_ALIGN) break; /* the end of the file */
    }
    *refused = done < least;
    return TMB_OK;
}

bool tmb_direct_write(int fd, const void *data, size_t n, uint64_t offset)
{
    const char *p = data;
    while (n > 0) {
        ssize_t put = pwrite(fd, p, n < TMB_DIRECT_REQUEST ? n : TMB_DIRECT_REQUEST, (off_t)offset);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0 || put % TMB_DIRECT_ALIGN) return false;
        p += put;
        n -= (size_t)put;
        offset += (uint64_t)put;
    }
    return true;
}

/* cachestat(2), Linux 6.5: older libraries have neither its number nor its structures. */
bool tmb_cache_holds(int fd, uint64_t offset, uint64_t n)
{
    enum { SYS_CACHESTAT = 451 };
    struct {
        uint64_t offset, bytes;
    } range = {offset, n};
    struct {
        uint64_t cached, dirty, writeback, evicted, recently_evicted;
    } pages;
    if (!n || syscall(SYS_CACHESTAT, fd, &range, &pages, 0)) return false;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    return pages.cached >= n / page - n / page / 16;
}

void tmb_cache_drop(int fd, uint64_t offset, uint64_t n, uint64_t behind)
{
    uint64_t begin = offset > behind ? offset - behind : 0;
    if (n) (void)posix_fadvise(fd, (off_t)begin, (off_t)(offset + n - begin), POSIX_FADV_DONTNEED);
}

void tmb_cache_flush(int fd, uint64_t offset, uint64_t n, bool wait)
{
    unsigned flags = SYNC_FILE_RANGE_WRITE;
    if (wait) flags |= SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WAIT_AFTER;
    if (n) (void)sync_file_range(fd, (off_t)offset, (off_t)n, flags);
}
