/* fault_layer.c - which call is struck, and the disk that is full; see fault_layer.h. */
#include "config.h"
#include "tests/fault_layer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const words[FAULT_COUNT] = {
#define X(name, word) word,
    FAULT_KINDS(X)
#undef X
};

static struct {
    int kind; /* FAULT_COUNT: none */
    unsigned long long at;
    int error;
    char how[16];
    unsigned long long calls[FAULT_COUNT];
    char struck[4096]; /* path */
    bool has_disk, hidden;
    uint64_t room;
    useconds_t slow;
    pthread_mutex_t disk;
} layer = {.kind = FAULT_COUNT, .disk = PTHREAD_MUTEX_INITIALIZER};

void fault_die(void)
{
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

static void remember(int fd, const char *name)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = fd >= 0 ? readlink(link, layer.struck, sizeof layer.struck - 300) : 0;
    if (n < 0) n = 0;
    snprintf(layer.struck + n, sizeof layer.struck - (size_t)n, "%s%.255s", n && name ? "/" : "",
             name ? name : "");
}

fault_verdict fault_strike(fault_kind kind, int fd, const char *name)
{
    unsigned long long n = __atomic_add_fetch(&layer.calls[kind], 1, __ATOMIC_RELAXED);
    if ((int)kind != layer.kind) return FAULT_NONE;
    bool forever = strcmp(layer.how, "forever") == 0 || strcmp(layer.how, "lie") == 0;
    if (forever ? n < layer.at : n != layer.at) return FAULT_NONE;
    if (strcmp(layer.how, "lie") == 0) return FAULT_LIE;
    if (strcmp(layer.how, "kill-before") == 0) fault_die();
    if (strcmp(layer.how, "kill-after") == 0) return FAULT_KILL;
    if (strcmp(layer.how, "kill-half") == 0) return FAULT_KILL_HALF;
    if (n == layer.at) remember(fd, name);
    if (strcmp(layer.how, "short") == 0) return FAULT_HALF;
    errno = layer.error;
    return FAULT_FAIL;
}

/* A call that changes something is of its own kind, and of the kind "change". */
fault_verdict fault_strike_change(fault_kind kind, int fd, const char *name)
{
    fault_verdict v = fault_strike(kind, fd, name);
    fault_verdict w = fault_strike(FAULT_CHANGE, fd, name);
    return v == FAULT_NONE ? w : v;
}

/* ---- the disk ---------------------------------------------------------------------------------
 */

int __real_fstat(int fd, struct stat *st);

/* How many of `n` bytes at `offset` there is room for; takes it. */
size_t fault_take_room(int fd, size_t n, uint64_t offset)
{
    if (!layer.has_disk) return n;
    pthread_mutex_lock(&layer.disk);
    struct stat st = {0};
    __real_fstat(fd, &st);
    uint64_t size = (uint64_t)st.st_size, end = offset + n, more = end > size ? end - size : 0;
    size_t fits = n;
    if (more > layer.room) {
        uint64_t lack = more - layer.room;
        fits = lack > n ? 0 : n - (size_t)lack;
        more = fits ? layer.room : 0;
    }
    layer.room -= more;
    pthread_mutex_unlock(&layer.disk);
    return fits;
}

void fault_give_room(uint64_t bytes)
{
    pthread_mutex_lock(&layer.disk);
    layer.room += bytes;
    pthread_mutex_unlock(&layer.disk);
}

uint64_t fault_room(uint64_t real)
{
    return layer.has_disk && !layer.hidden ? layer.room : real;
}

void fault_slow(void)
{
    if (layer.slow) usleep(layer.slow);
}

int fault_errno(void)
{
    return layer.error;
}

/* ---- from the environment ----------------------------------------------------------------------
 */

FILE *__real_fopen(const char *path, const char *mode);

static void layer_open(void)
{
    fault_memory_open();
    layer.calls[FAULT_MEMORY] = 0;
    const char *fault = getenv("TOMBAC_FAULT"), *disk = getenv("TOMBAC_DISK");
    const char *slow = getenv("TOMBAC_SLOW");
    char kind[16];
    unsigned long long room;
    if (slow) layer.slow = (useconds_t)atoi(slow);
    if (fault && sscanf(fault, "%15s %llu %d %15s", kind, &layer.at, &layer.error, layer.how) == 4)
        for (int k = 0; k < FAULT_COUNT; k++)
            if (strcmp(kind, words[k]) == 0) layer.kind = k;
    if (disk && sscanf(disk, "%llu", &room) == 1) {
        layer.has_disk = true;
        layer.hidden = strstr(disk, "hidden") != NULL;
        layer.room = room;
    }
}

int __wrap_main(int argc, char **argv);
int __real_main(int argc, char **argv);

/* Not a constructor: what libraries do before main, the CUDA runtime's registering of kernels for
 * one, is not ours to fail. */
int __wrap_main(int argc, char **argv)
{
    layer_open();
    return __real_main(argc, argv);
}

__attribute__((destructor)) static void layer_close(void)
{
    const char *path = getenv("TOMBAC_COUNTS");
    FILE *f = path ? __real_fopen(path, "w") : NULL;
    if (!f) return;
    for (int k = 0; k < FAULT_COUNT; k++)
        fprintf(f, "%s %llu\n", words[k], layer.calls[k]);
    fprintf(f, "struck %s\n", layer.struck);
    fclose(f);
}
