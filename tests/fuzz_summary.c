/* fuzz_summary - tombac.json as `verify` reads it: whatever it lists, nothing outside the folder is
 * looked at, and what is there and listed rightly is the only thing that passes. */
#include "config.h"
#include "moe/verify/verify_internal.h"
#include "tests/fuzz_folder.h"

#include <fcntl.h>

static char folder[64];

static void leave(void)
{
    char path[96];
    snprintf(path, sizeof path, "%s/a", folder);
    unlink(path);
    rmdir(folder);
}

/* A folder that holds the file "a" of five bytes. */
static int prepare(void)
{
    static int dirfd = -1;
    if (dirfd >= 0) return dirfd;
    snprintf(folder, sizeof folder, "/tmp/tombac-fuzz-XXXXXX");
    MUST(mkdtemp(folder) && (dirfd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0);
    int fd = openat(dirfd, "a", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    MUST(fd >= 0 && write(fd, "hello", 5) == 5 && !close(fd));
    atexit(leave);
    return dirfd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tmb_checkpoint ckpt = {.path = "f", .dirfd = prepare()};
    tmb_verify_options options = {.threads = 1, .checksums = true};
    tmb_err err = {0};
    tmb_verify_report *report = calloc(1, sizeof *report);
    if (!report) return 0;
    tmb_verifier v = {.ckpt = &ckpt, .options = &options, .threads = 1, .report = report};
    tmb_status status = tmb_check_summary(&v, (const char *)data, size, &err);
    if (status)
        MUST(status == TMB_EDATA && strncmp(err.message, "tombac.json: ", 13) == 0 &&
             !strpbrk(err.message, "\n\033"));
    else
        MUST(report->files_known <= 1 || report->n_errors > 0);
    for (uint32_t i = 0; i < report->n_findings; i++)
        MUST(!strpbrk(report->findings[i].where, "\n\033"));
    tmb_arena_free(&v.scratch);
    tmb_verify_report_close(report);
    return 0;
}
