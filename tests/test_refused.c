/* test_refused - the cases of tests/malformed/cases/, through the front door: each ends with its
 * exit status and its line, within one second of processor time and 256 MiB, and no byte that could
 * move a terminal's cursor.
 *
 *   tests/test_refused                run all of them
 *   tests/test_refused record FILE    print FILE with `exit` and `err` as they are now */
#include "config.h"
#include "kernels/base/safe.h"
#include "moe/io/files.h"
#include "moe/io/json.h"
#include "tests/malformed/steps.h"
#include "tests/tap.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORDS = 32, OUTPUT_MAX = 1 << 20, CPU_SECONDS = 1, WALL_SECONDS = 10, MEMORY_MIB = 256 };

/* A sanitizer reserves terabytes and takes its time. */
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
enum { SANITIZED = 1 };
#elif defined __has_feature
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif
#else
enum { SANITIZED = 0 };
#endif

typedef struct outcome {
    int status; /* of wait() */
    char *out, *err;
    double cpu;
    long rss_kib;
} outcome;

static bool record;
static int n_cases;

static void load(char **text, const char *name)
{
    size_t n;
    tmb_err err;
    if (tmb_file_load(text, &n, AT_FDCWD, name, OUTPUT_MAX, &err)) {
        printf("Bail out! %s\n", err.message);
        exit(1);
    }
}

static void child(char **argv, rlim_t file_limit)
{
    struct rlimit file = {file_limit, file_limit};
    struct rlimit memory = {(rlim_t)MEMORY_MIB << 20, (rlim_t)MEMORY_MIB << 20};
    struct rlimit cpu = {CPU_SECONDS, CPU_SECONDS + 1};
    int out = open("stdout", O_WRONLY | O_CREAT | O_TRUNC, 0666);
    int err = open("stderr", O_WRONLY | O_CREAT | O_TRUNC, 0666);
    dup2(out, 1);
    dup2(err, 2);
    if (!SANITIZED) setrlimit(RLIMIT_DATA, &memory);
    if (!SANITIZED) setrlimit(RLIMIT_CPU, &cpu);
    if (file_limit) { /* a disk that is full, as far as the program can tell */
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &file);
    }
    alarm(SANITIZED ? 6 * WALL_SECONDS : WALL_SECONDS);
    setenv("TERM", "xterm", 1);
    execv(argv[0], argv);
    _exit(127);
}

static outcome run(char *arguments, rlim_t file_limit)
{
    outcome o = {0};
    char *argv[WORDS + 2] = {getenv("TOMBAC")}, *save = NULL;
    struct rusage used;
    int n = 1;
    for (char *w = strtok_r(arguments, " ", &save); w && n <= WORDS;
         w = strtok_r(NULL, " ", &save)) {
        (void)unescape(w);
        argv[n++] = w;
    }
    pid_t pid = fork();
    if (pid == 0) child(argv, file_limit);
    wait4(pid, &o.status, 0, &used);
    o.cpu = (double)used.ru_utime.tv_sec + (double)used.ru_stime.tv_sec +
            1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
    o.rss_kib = used.ru_maxrss;
    load(&o.out, "stdout");
    load(&o.err, "stderr");
    return o;
}

static void outcome_free(outcome *o)
{
    free(o->out);
    free(o->err);
    *o = (outcome){0};
}

/* Only what may reach a terminal. */
static bool printable(const char *text)
{
    while (*text) {
        uint32_t c;
        int n = tmb_utf8(text, &c);
        if (!n || (c != '\n' && !tmb_printable(c))) return false;
        text += n;
    }
    return true;
}

/* One case while it is read. */
typedef struct testcase {
    char name[128];
    folder *folder;
    outcome got;
    bool ran, failed, sane, skipped;
    bool json; /* --json was asked for */
} testcase;

static void complain(testcase *c, const char *what, const char *more)
{
    if (!c->failed) printf("# %s:\n", c->name);
    printf("# %s %s\n", what, more);
    c->failed = true;
}

/* What holds for every run whatever it was given. */
static void check_sane(testcase *c)
{
    const outcome *o = &c->got;
    char text[64];
    snprintf(text, sizeof text, "%.2f s, %ld KiB", o->cpu, o->rss_kib);
    if (WIFSIGNALED(o->status)) {
        snprintf(text, sizeof text, "signal %d", WTERMSIG(o->status));
        complain(c, "ended by", text);
        return;
    }
    if (!SANITIZED && (o->cpu > CPU_SECONDS || o->rss_kib > MEMORY_MIB * 1024L))
        complain(c, "took more than a second or 256 MiB:", text);
    if (!printable(o->err)) complain(c, "standard error is", "not fit for a terminal");
    if (!printable(o->out)) complain(c, "standard output is", "not fit for a terminal");
    int status = WEXITSTATUS(o->status);
    size_t lines = 0;
    for (const char *p = o->err; *p; p++)
        lines += *p == '\n';
    if (status >= 64 && (lines != 1 || strncmp(o->err, "tombac: ", 8) != 0))
        complain(c, "no one line on standard error, but:", o->err);
    if (c->json && *o->out) {
        tmb_json *json = NULL;
        if (tmb_json_parse(&json, o->out, strlen(o->out), "output", false, NULL))
            complain(c, "--json printed", "no JSON");
        tmb_json_free(json);
    }
}

/* "error: CHECK: WHERE:" of a finding: its sentence is the business of other tests. */
static int finding_length(const char *line)
{
    int n = 0;
    for (int colons = 0; line[n] && line[n] != '\n' && n < 160; n++)
        if (line[n] == ':' && ++colons == 3) return n + 1;
    return n;
}

static void print_result(const testcase *c)
{
    bool failed = WIFEXITED(c->got.status) && WEXITSTATUS(c->got.status);
    printf("exit %d\n", WIFEXITED(c->got.status) ? WEXITSTATUS(c->got.status) : -1);
    size_t n = strcspn(c->got.err, "\n");
    if (strncmp(c->got.err, "tombac: ", 8) == 0) printf("err %.*s\n", (int)(n - 8), c->got.err + 8);
    for (const char *p = c->got.out; failed && *p;) {
        size_t k = strcspn(p, "\n");
        if (strncmp(p, "error: ", 7) == 0) printf("has %.*s\n", finding_length(p), p);
        p += k + (p[k] == '\n');
    }
}

static void do_run(testcase *c, char *rest, bool must)
{
    const char *why;
    if (!folder_write(c->folder, &why)) complain(c, why, "");
    outcome_free(&c->got);
    c->json = strstr(rest, "--json") != NULL;
    c->got = run(rest, 0);
    if (must) {
        if (!WIFEXITED(c->got.status) || WEXITSTATUS(c->got.status))
            complain(c, "a step failed:", c->got.err);
        return;
    }
    c->ran = true;
    check_sane(c);
    if (record) print_result(c);
}

/* "BYTES ARGUMENT...": a run in which no file may be longer, and which therefore fails. */
static void do_stop(testcase *c, char *rest)
{
    const char *why;
    char *arguments;
    rlim_t limit = strtoul(rest, &arguments, 10);
    if (!folder_write(c->folder, &why)) complain(c, why, "");
    outcome_free(&c->got);
    c->got = run(arguments + 1, limit);
    if (!WIFEXITED(c->got.status) || WEXITSTATUS(c->got.status) < 64)
        complain(c, "a run did not stop:", c->got.err);
}

static void check_line(testcase *c, const char *word, char *rest)
{
    if (record) return;
    if (!c->ran) {
        complain(c, "nothing was run before", word);
    } else if (!strcmp(word, "exit")) {
        char text[64];
        snprintf(text, sizeof text, "%d",
                 WIFEXITED(c->got.status) ? WEXITSTATUS(c->got.status) : -1);
        if (strcmp(text, rest) != 0) {
            complain(c, "exit status is", text);
            complain(c, "standard error:", c->got.err);
        }
    } else if (!strcmp(word, "err")) {
        size_t n = strlen(rest);
        if (strncmp(c->got.err, "tombac: ", 8) != 0 || strncmp(c->got.err + 8, rest, n) != 0 ||
            strcmp(c->got.err + 8 + n, "\n") != 0) {
            complain(c, "want", rest);
            complain(c, "have", c->got.err);
        }
    } else if (!strstr(c->got.out, rest) && !strstr(c->got.err, rest)) {
        complain(c, "nowhere printed:", rest);
        complain(c, "have", c->got.out);
    }
}

static void end_case(testcase *c)
{
    if (!*c->name) return;
    if (!c->ran && !c->skipped) complain(c, "nothing is run in", c->name);
    folder_free(c->folder);
    outcome_free(&c->got);
    if (chdir("..") == 0) remove_tree(c->name);
    if (!record) ok(!c->failed, "%s%s", c->name, c->skipped ? " # SKIP root reads everything" : "");
    n_cases++;
    *c = (testcase){0};
}

static void begin_case(testcase *c, const char *name)
{
    end_case(c);
    snprintf(c->name, sizeof c->name, "%s", name);
    c->folder = folder_new();
    if (mkdir(name, 0777) || chdir(name)) {
        printf("Bail out! a second case %s\n", name);
        exit(1);
    }
}

static void read_line(testcase *c, char *line)
{
    bool result =
        !strncmp(line, "exit ", 5) || !strncmp(line, "err ", 4) || !strncmp(line, "has ", 4);
    if (record && !result) printf("%s\n", line);
    if (!*line || *line == '#') return;
    if (strncmp(line, "== ", 3) == 0) {
        begin_case(c, line + 3);
        return;
    }
    size_t n = strcspn(line, " ");
    char *rest = line + n + (line[n] == ' ');
    line[n] = 0;
    const char *why;
    if (!strcmp(line, "skip-root"))
        c->skipped = geteuid() == 0;
    else if (c->skipped)
        return;
    else if (!strcmp(line, "run") || !strcmp(line, "do"))
        do_run(c, rest, *line == 'd');
    else if (!strcmp(line, "stop"))
        do_stop(c, rest);
    else if (!strcmp(line, "exit") || !strcmp(line, "err") || !strcmp(line, "has"))
        check_line(c, line, rest);
    else if (!folder_step(c->folder, line, rest, &why))
        complain(c, why, line);
}

static void run_file(const char *path)
{
    char *text = NULL;
    testcase c = {0};
    load(&text, path);
    for (char *line = text, *next; *line; line = next) {
        next = line + strcspn(line, "\n");
        if (*next) *next++ = 0;
        read_line(&c, line);
    }
    end_case(&c);
    free(text);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void run_all(const char *srcdir)
{
    char folder_name[4096], path[8192], *names[64];
    int n = 0;
    snprintf(folder_name, sizeof folder_name, "%s/tests/malformed/cases", srcdir);
    DIR *dir = opendir(folder_name);
    for (struct dirent *e; dir && n < 64 && (e = readdir(dir));)
        if (strstr(e->d_name, ".cases")) names[n++] = strdup(e->d_name);
    if (dir) closedir(dir);
    qsort(names, (size_t)n, sizeof *names, by_name);
    for (int i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", folder_name, names[i]);
        run_file(path);
        free(names[i]);
    }
    ok(n_cases >= 500, "%d cases were run", n_cases);
}

int main(int argc, char **argv)
{
    const char *tmp = getenv("TMPDIR"), *srcdir = getenv("srcdir");
    char dir[256];
    record = argc == 3 && strcmp(argv[1], "record") == 0;
    snprintf(dir, sizeof dir, "%s/tombac-refused-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!getenv("TOMBAC") || !srcdir || !mkdtemp(dir) || chdir(dir)) return 99;
    if (record)
        run_file(argv[2]);
    else
        run_all(srcdir);
    if (chdir("/") == 0) remove_tree(dir);
    return record ? 0 : done();
}
