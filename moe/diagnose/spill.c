/* spill.c - arrays in memory or in an unlinked file. */
#include "config.h"
#include "moe/diagnose/spill.h"

#include "kernels/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static tmb_status map_file(const char *folder, size_t bytes, void **out, tmb_err *err)
{
    char *path = NULL;
    if (asprintf(&path, "%s/.tombac-XXXXXX", folder) < 0) return tmb_fail_memory(err, 0, "a path");
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0) {
        tmb_status status = tmb_fail_errno(err, TMB_ECREATE, "%s: cannot make it", path);
        free(path);
        return status;
    }
    unlink(path);
    free(path);
    tmb_status status = TMB_OK;
    errno = posix_fallocate(fd, 0, (off_t)bytes); /* a full disk is found out now */
    if (errno)
        status = tmb_fail_errno(err, TMB_ECREATE, "%s: no room for %zu bytes of hidden states",
                                folder, bytes);
    void *at = status ? MAP_FAILED : mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (!status && at == MAP_FAILED)
        status = tmb_fail_errno(err, TMB_ESYSTEM, "%s: cannot map %zu bytes", folder, bytes);
    close(fd);
    if (!status) *out = at;
    return status;
}

tmb_status tmb_spill_array(tmb_spill *spill, uint64_t n, uint64_t width, size_t size, void **out,
                           tmb_err *err)
{
    uint64_t bytes;
    *out = NULL;
    if (spill->n == TMB_SPILL_ARRAYS)
        return tmb_fail(err, TMB_EUSAGE, "more than %d arrays at once", TMB_SPILL_ARRAYS);
    if (!tmb_mul(n, width, &bytes) || !tmb_mul(bytes, size, &bytes) || bytes > INT64_MAX - 64)
        return tmb_fail(err, TMB_EUSAGE, "%llu tokens are too many; take fewer --samples",
                        (unsigned long long)n);
    bytes = (bytes / 64 + 1) * 64;
    size_t mapped = 0;
    void *at = bytes <= TMB_SPILL_MEMORY - spill->held ? aligned_alloc(64, bytes) : NULL;
    if (at) {
        memset(at, 0, bytes);
        spill->held += bytes;
    } else {
        TRY(map_file(spill->folder ? spill->folder : ".", bytes, &at, err));
        mapped = (size_t)bytes;
    }
    spill->arrays[spill->n].bytes = mapped;
    spill->arrays[spill->n++].at = at;
    *out = at;
    return TMB_OK;
}

void tmb_spill_close(tmb_spill *spill)
{
    for (size_t i = 0; i < spill->n; i++) {
        if (spill->arrays[i].bytes)
            munmap(spill->arrays[i].at, spill->arrays[i].bytes);
        else
            free(spill->arrays[i].at);
    }
    *spill = (tmb_spill){0};
}
