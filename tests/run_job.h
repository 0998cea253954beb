/* run_job.h - whole jobs for tests, here or in a process of their own that may be killed, and
 * folders compared by one digest. */
#ifndef TMB_TESTS_RUN_JOB_H
#define TMB_TESTS_RUN_JOB_H

#include "moe/quantize/quantize.h"
#include "moe/quantize/stage.h"
#include "tests/job.h"
#include "tests/tap.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char users_recipe[] = "*experts* = nvfp4\n* = fp8\n";

/* ---- running jobs ------------------------------------------------------------------------------
 */

typedef struct request {
    const char *source, *out, *rules, *layout;
    uint64_t shard_size;
    int threads;
    bool restart;
    int stop_after;      /* progress calls; 0: never */
    const char *touch;   /* instead of stopping, change the time of this file */
    uint64_t file_limit; /* bytes a file may have; 0: any */
    /* of a job in this process: in place of what the plan chose, where they are not 0 */
    uint64_t ring;
    uint32_t block_bytes, n_blocks;
    bool cached;
    unsigned *seen; /* bit w: a bundle went the way w */
} request;

typedef struct stopper {
    volatile int stop;
    int left;
    const char *touch;
} stopper;

static inline void count_down(void *ctx, const tmb_progress *p)
{
    stopper *s = ctx;
    (void)p;
    if (!s->left || --s->left) return;
    if (s->touch)
        utimensat(AT_FDCWD, s->touch, NULL, 0);
    else
        s->stop = 1;
}

static inline tmb_status run_here(const request *r, tmb_quantize_result **result, tmb_err *err)
{
    job j;
    stopper stop = {.left = r->stop_after, .touch = r->touch};
    tmb_plan_options options = {
        .layout = r->layout, .shard_size = r->shard_size, .threads = r->threads};
    tmb_status status = job_open(&j, r->source, r->rules, &options);
    tmb_quantize_options q = {.out = r->out,
                              .restart = r->restart,
                              .cached = r->cached,
                              .watch = {.progress = count_down, .ctx = &stop, .stop = &stop.stop}};
    tmb_quantize_result *mine = NULL;
    *err = j.err;
    if (!status && r->ring) j.plan->stage_bytes = r->ring;
    if (!status && r->block_bytes) j.plan->block_bytes = r->block_bytes;
    if (!status && r->n_blocks) j.plan->n_blocks = r->n_blocks;
    for (uint32_t i = 0; !status && r->seen && i < j.plan->n_bundles; i++)
        *r->seen |= 1u << tmb_way_of(j.plan, &j.plan->bundles[i], j.plan->stage_bytes);
    if (!status) status = tmb_quantize(j.plan, &q, &mine, err);
    if (result)
        *result = mine;
    else
        tmb_quantize_result_close(mine);
    job_close(&j);
    return status;
}

/* The same in another process: its pid. */
static inline pid_t start(const request *r, const char *message_file)
{
    char shard[32], threads[16], restart[8], stop[16], limit[32];
    snprintf(shard, sizeof shard, "%llu", (unsigned long long)r->shard_size);
    snprintf(threads, sizeof threads, "%d", r->threads);
    snprintf(restart, sizeof restart, "%d", r->restart);
    snprintf(stop, sizeof stop, "%d", r->stop_after);
    snprintf(limit, sizeof limit, "%llu", (unsigned long long)r->file_limit);
    pid_t pid = fork();
    if (pid) return pid;
    if (message_file) {
        int fd = open(message_file, O_WRONLY | O_CREAT | O_TRUNC, 0644);
        if (fd >= 0) dup2(fd, 2);
    }
    execl("/proc/self/exe", "test_resume", "run", r->source, r->out, r->rules, r->layout, shard,
          threads, restart, stop, limit, (char *)NULL);
    _exit(127);
}

static inline int run_mode(char **argv)
{
    request r = {.source = argv[2],
                 .out = argv[3],
                 .rules = argv[4],
                 .layout = argv[5],
                 .shard_size = strtoull(argv[6], NULL, 10),
                 .threads = atoi(argv[7]),
                 .restart = atoi(argv[8]),
                 .stop_after = atoi(argv[9]),
                 .file_limit = strtoull(argv[10], NULL, 10)};
    if (r.file_limit) {
        struct rlimit limit = {.rlim_cur = r.file_limit, .rlim_max = r.file_limit};
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
    }
    tmb_err err = {0};
    tmb_status status = run_here(&r, NULL, &err);
    if (status) fprintf(stderr, "%s\n", err.message);
    return (int)status;
}

static inline int finish(pid_t pid)
{
    int status = 0;
    if (waitpid(pid, &status, 0) != pid) return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* ---- folders -----------------------------------------------------------------------------------
 */

static char root[512];

/* "ROOT/NAME", as long as the program runs. */
static inline const char *in_root(const char *name)
{
    static char pool[256 << 10];
    static size_t used;
    char *path = pool + used;
    used += (size_t)snprintf(path, sizeof pool - used, "%s/%s", root, name) + 1;
    if (used >= sizeof pool) abort();
    return path;
}

static inline void remove_tree(const char *path)
{
    char command[2048];
    snprintf(command, sizeof command, "rm -rf '%s'", path);
    if (system(command)) printf("# cannot remove %s\n", path);
}

static inline void copy_tree(const char *from, const char *to)
{
    char command[4096];
    snprintf(command, sizeof command, "cp -rpL '%s' '%s' && chmod -R u+w '%s'", from, to, to);
    if (system(command)) printf("# cannot copy %s\n", from);
}

static inline int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* One digest of all names and contents; "" when there is no such folder. */
static inline void digest(const char *folder, char out[TMB_SHA256_HEX])
{
    char *names[512], list[65536];
    int n = 0;
    size_t at = 0;
    DIR *dir = opendir(folder);
    out[0] = '\0';
    if (!dir) return;
    for (struct dirent *e; (e = readdir(dir)) && n < 512;)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) names[n++] = strdup(e->d_name);
    closedir(dir);
    qsort(names, (size_t)n, sizeof *names, by_name);
    for (int i = 0; i < n; i++) {
        char path[2048], sha[TMB_SHA256_HEX] = "?";
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        int fd = open(path, O_RDONLY);
        if (fd >= 0) {
            if (tmb_sha256_file(fd, path, sha, NULL)) strcpy(sha, "!");
            close(fd);
        }
        at += (size_t)snprintf(list + at, sizeof list - at, "%s %s\n", names[i], sha);
        free(names[i]);
    }
    if (tmb_sha256(list, at, out, NULL)) out[0] = '\0';
}

static inline bool exists(const char *folder, const char *name)
{
    char path[2048];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, F_OK) == 0;
}

static inline void write_file(const char *folder, const char *name, const char *text)
{
    char path[2048];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    if (!f) return;
    fputs(text, f);
    fclose(f);
}

/* The temporary folder of this program. */
static inline void make_root(void)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(root, sizeof root, "%s/tombac-test-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(root)) {
        perror(root);
        exit(1);
    }
}

#endif
