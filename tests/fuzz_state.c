/* fuzz_state - state.json of a calibration that was stopped.  What is taken is of the same job and
 * within its limits; a run that goes on writes it again the same. */
#include "config.h"
#include "moe/calib/resume.h"
#include "tests/fuzz.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static char folder[64];

static void leave(void)
{
    static const char *const names[] = {"state.json", "lock"};
    char path[96];
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
}

static void put(const uint8_t *data, size_t size)
{
    char path[96];
    if (!*folder) {
        snprintf(folder, sizeof folder, "%s/tombac-fuzz-XXXXXX",
                 access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
        MUST(mkdtemp(folder));
        atexit(leave);
    }
    snprintf(path, sizeof path, "%s/state.json", folder);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    MUST(fd >= 0 && write(fd, data, size) == (ssize_t)size && !close(fd));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const tmb_calib_identity id = {"1", "c", "d", "s"};
    tmb_calib_folder f = {0};
    tmb_calib_state state, again;
    tmb_err err = {0};
    put(data, size);
    tmb_status status = tmb_calib_folder_open(&f, folder, &id, false, &state, &err);
    tmb_calib_folder_close(&f);
    if (status) {
        MUST((status == TMB_EDATA || status == TMB_EUSAGE) &&
             strncmp(err.message, folder, strlen(folder)) == 0 && !strpbrk(err.message, "\n\033"));
        return 0;
    }
    MUST(state.round <= 4096 && state.layers <= 1 << 16);
    MUST(!tmb_calib_folder_open(&f, folder, &id, false, &again, &err));
    MUST(state.round == again.round && state.layers == again.layers &&
         state.embedded == again.embedded);
    tmb_calib_folder_close(&f);
    return 0;
}
