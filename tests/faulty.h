/* faulty.h - run tests/faulty (tests/fault_layer.h) and look at what came of it. */
#ifndef TMB_TESTS_FAULTY_H
#define TMB_TESTS_FAULTY_H

#include "tests/fault_layer.h"
#include "tests/run_job.h"

#include <errno.h>

static const char *const fault_words[FAULT_COUNT] = {
#define X(name, word) word,
    FAULT_KINDS(X)
#undef X
};

typedef struct outcome {
    int rc;            /* exit code, or - signal */
    char text[4096];   /* standard error */
    char struck[4096]; /* path that the fault hit, "" */
    unsigned long long calls[FAULT_COUNT];
} outcome;

static inline bool long_run(void)
{
    const char *value = getenv("TOMBAC_LONG");
    return value && *value && strcmp(value, "0") != 0;
}

static inline void read_text(const char *path, char *out, size_t size)
{
    int fd = open(path, O_RDONLY);
    ssize_t n = fd < 0 ? 0 : read(fd, out, size - 1);
    out[n > 0 ? n : 0] = '\0';
    if (fd >= 0) close(fd);
}

/* In memory where that can be: thousands of runs wait for every fsync. */
static inline void make_fast_root(void)
{
    if (!getenv("TMPDIR") && access("/dev/shm", W_OK | X_OK) == 0) setenv("TMPDIR", "/dev/shm", 1);
    make_root();
}

/* Start tests/faulty with these words; what it prints goes to ROOT/stdout and ROOT/stderr. */
static inline pid_t faulty_start(const char *const argv[], const char *fault, const char *disk,
                                 const char *trace)
{
    char program[1200], out[600], text[600], counts[600];
    const char *builddir = getenv("builddir");
    snprintf(program, sizeof program, "%s/tests/faulty", builddir ? builddir : ".");
    snprintf(out, sizeof out, "%s/stdout", root);
    snprintf(text, sizeof text, "%s/stderr", root);
    snprintf(counts, sizeof counts, "%s/counts", root);
    unlink(counts);
    pid_t pid = fork();
    if (pid) return pid;
    int fd = open(out, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd >= 0) dup2(fd, 1);
    fd = open(text, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd >= 0) dup2(fd, 2);
    setenv("TOMBAC_COUNTS", counts, 1);
    if (fault) setenv("TOMBAC_FAULT", fault, 1);
    if (disk) setenv("TOMBAC_DISK", disk, 1);
    if (trace) setenv("TOMBAC_TRACE", trace, 1);
    alarm(120); /* a run that hangs is killed by it */
    execv(program, (char *const *)(uintptr_t)argv);
    _exit(127);
}

static inline void faulty_end(pid_t pid, outcome *o)
{
    char path[600], counts[8192], *line, *save = NULL;
    memset(o, 0, sizeof *o);
    o->rc = finish(pid);
    snprintf(path, sizeof path, "%s/stderr", root);
    read_text(path, o->text, sizeof o->text);
    snprintf(path, sizeof path, "%s/counts", root);
    read_text(path, counts, sizeof counts);
    int k = 0;
    for (line = strtok_r(counts, "\n", &save); line; line = strtok_r(NULL, "\n", &save), k++) {
        char *space = strchr(line, ' ');
        if (!space) continue;
        if (k < FAULT_COUNT)
            o->calls[k] = strtoull(space + 1, NULL, 10);
        else
            snprintf(o->struck, sizeof o->struck, "%s", space + 1);
    }
}

static inline void faulty_run(const char *const argv[], const char *fault, const char *disk,
                              outcome *o)
{
    faulty_end(faulty_start(argv, fault, disk, NULL), o);
}

/* ---- a folder by its files ---------------------------------------------------------------------
 */

enum { FILES_MAX = 64 };

typedef struct folder {
    int n; /* -1: there is none */
    char name[FILES_MAX][256];
    char sha[FILES_MAX][TMB_SHA256_HEX];
} folder;

static inline void folder_read(const char *path, folder *f)
{
    memset(f, 0, sizeof *f);
    DIR *dir = opendir(path);
    if (!dir) f->n = -1;
    for (struct dirent *e; dir && (e = readdir(dir)) && f->n < FILES_MAX;) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        snprintf(f->name[f->n], sizeof f->name[0], "%s", e->d_name);
        int fd = openat(dirfd(dir), e->d_name, O_RDONLY | O_NOFOLLOW);
        if (fd < 0 || tmb_sha256_file(fd, e->d_name, f->sha[f->n], NULL)) f->sha[f->n][0] = '\0';
        if (fd >= 0) close(fd);
        f->n++;
    }
    if (dir) closedir(dir);
}

static inline const char *folder_has(const folder *f, const char *name)
{
    for (int i = 0; i < f->n; i++)
        if (strcmp(f->name[i], name) == 0) return f->sha[i];
    return NULL;
}

static inline bool folder_same(const folder *a, const folder *b)
{
    if (a->n != b->n || a->n < 0) return false;
    for (int i = 0; i < a->n; i++) {
        const char *sha = folder_has(b, a->name[i]);
        if (!sha || strcmp(sha, a->sha[i]) != 0) return false;
    }
    return true;
}

/* What is wrong with an output that is not finished, NULL: nothing.  Every name that exists has
 * its final bytes; and what a loader looks for first comes behind all that it leads to. */
static inline const char *unfinished_fault(const folder *f, const folder *want)
{
    static const char *const first[] = {"model.safetensors.index.json", "config.json",
                                        "hf_quant_config.json", "tombac.json"};
    bool leads = false;
    for (int i = 0; i < f->n; i++) {
        if (!strcmp(f->name[i], "tombac.journal") || !strncmp(f->name[i], ".tmp-", 5)) continue;
        const char *sha = folder_has(want, f->name[i]);
        if (!sha) return "a file that the job does not write";
        if (strcmp(sha, f->sha[i]) != 0) return "a file with other bytes";
        for (size_t k = 0; k < sizeof first / sizeof *first; k++)
            leads = leads || !strcmp(f->name[i], first[k]);
    }
    for (int i = 0; leads && i < want->n; i++)
        if (strstr(want->name[i], ".safetensors") && !strstr(want->name[i], ".json") &&
            !folder_has(f, want->name[i]))
            return "a loader's file without all shards";
    if (folder_has(f, "tombac.json") && !folder_has(f, "tombac.journal") && f->n != want->n)
        return "it looks complete";
    return NULL;
}

/* A flat folder and its files. */
static inline void folder_remove(const char *path)
{
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));)
        unlinkat(dirfd(dir), e->d_name, 0);
    if (dir) closedir(dir);
    rmdir(path);
}

#endif
