#include "config.h"
#include "src/bench_place.h"

#include "moe/bench/synthetic.h"
#include "moe/io/files.h"
#include "moe/io/match.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

tmb_status tmb_bench_shape(const tmb_shape **out, const char *name, tmb_err *err)
{
    const char *names[16], *want = name ? name : tmb_shape_at(0)->name;
    char all[160] = "";
    size_t n = 0, at = 0;
    *out = tmb_shape_find(want);
    if (*out) return TMB_OK;
    for (; tmb_shape_at((int)n) && n < 16 && at < sizeof all; n++) {
        names[n] = tmb_shape_at((int)n)->name;
        at += (size_t)snprintf(all + at, sizeof all - at, "%s%s", n ? ", " : "", names[n]);
    }
    const char *near = tmb_nearest(want, names, n);
    if (near)
        return tmb_fail(err, TMB_EUSAGE, "--model: unknown model '%.80s'; did you mean %s?", want,
                        near);
    return tmb_fail(err, TMB_EUSAGE, "--model: unknown model '%.80s'; it takes %s", want, all);
}

tmb_status tmb_bench_place_make(tmb_bench_place *p, const char *dir, tmb_err *err)
{
    int n = snprintf(p->root, sizeof p->root, "%s/tombac-bench-XXXXXX", dir ? dir : ".");
    if (n < 0 || (size_t)n >= sizeof p->root || !mkdtemp(p->root)) {
        p->root[0] = '\0';
        return tmb_fail_errno(err, TMB_ECREATE,
                              "%s: cannot make a folder in it; choose another "
                              "with --dir",
                              dir ? dir : ".");
    }
    snprintf(p->source, sizeof p->source, "%s/in", p->root);
    snprintf(p->out, sizeof p->out, "%s/out", p->root);
    if (mkdir(p->source, 0755))
        return tmb_fail_errno(err, TMB_ECREATE, "%s: cannot create", p->source);
    return TMB_OK;
}

void tmb_bench_place_remove(const tmb_bench_place *p, bool keep)
{
    if (!p->root[0]) return;
    tmb_synthetic_remove(p->out);
    if (keep) return;
    tmb_synthetic_remove(p->source);
    rmdir(p->root);
}

tmb_status tmb_bench_place_room(const char *where, uint64_t need, tmb_err *err)
{
    const char *dir = where ? where : ".";
    uint64_t have = 0;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return tmb_fail_errno(err, TMB_ENOINPUT, "%s: cannot open; choose another with --dir", dir);
    tmb_status status = tmb_disk_free(fd, dir, &have, err);
    close(fd);
    if (status || need <= have) return status;
    return tmb_fail(err, TMB_ECREATE,
                    "%s: needs %llu bytes of disk, %llu are free; choose a smaller --size, or "
                    "another disk with --dir",
                    dir, (unsigned long long)need, (unsigned long long)have);
}

double tmb_bench_processor(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)u.ru_utime.tv_sec + (double)u.ru_stime.tv_sec +
           1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

void tmb_bench_peak_reset(void)
{
    int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    if (fd < 0) return;
    (void)!write(fd, "5", 1);
    close(fd);
}

uint64_t tmb_bench_peak(void)
{
    char line[128];
    unsigned long long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %llu", &kib) == 1) break;
    if (f) fclose(f);
    return kib * 1024;
}
