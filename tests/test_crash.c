/* test_crash.c - a small quantize that is killed, runs out of disk, is told to stop, or loses the
 * power: at each moment nothing under a final name is other than it will be, and the same command
 * ends with the same bytes.
 *
 * make check takes a sample of the moments, make check-long (TOMBAC_LONG=1) many more: 200 random
 * kills, every boundary between two calls, 20 sizes of disk twice, 1000 images of lost power. */
#include "config.h"
#include "tests/power.h"

#include <time.h>

static folder want;
static const char *out_path;
static const char *one_thread[16], *two_threads[16], *one_thread_told[16];
static double seconds; /* of a run in two threads */
static unsigned long long changes;

static uint64_t state = 20261125;
static uint32_t random_number(void)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(state >> 33);
}

/* Judge what a run that did not end left behind, then end it. */
static const char *go_on(void)
{
    folder now;
    outcome o;
    folder_read(out_path, &now);
    if (folder_same(&now, &want)) return NULL; /* it had ended */
    const char *why = now.n >= 0 ? unfinished_fault(&now, &want) : NULL;
    if (why) return why;
    faulty_run(two_threads, NULL, NULL, &o);
    if (o.rc) {
        printf("# %d: %s", o.rc, o.text);
        return "the same command does not go on";
    }
    folder_read(out_path, &now);
    return folder_same(&now, &want) ? NULL : "the same command ends with other bytes";
}

static bool tell(const char *what, unsigned long long at, const char *why)
{
    if (why) printf("# %s %llu: %s\n", what, at, why);
    return why != NULL;
}

/* ---- kill -9 -----------------------------------------------------------------------------------
 */

static void test_boundaries(void)
{
    static const char *const hows[] = {"kill-before", "kill-half", "kill-after"};
    int bad = 0, runs = 0, killed = 0;
    unsigned long long step = long_run() || changes < 60 ? 1 : changes / 20;
    for (unsigned long long at = 1; at <= changes; at += step) {
        for (int how = 0; how < 3; how++) {
            char fault[64];
            outcome o;
            if (!long_run() && how != (int)(at / step % 3)) continue;
            folder_remove(out_path);
            snprintf(fault, sizeof fault, "change %llu 0 %s", at, hows[how]);
            faulty_run(one_thread, fault, NULL, &o);
            /* how many changes there are depends on how blocks arrive: a run may have fewer */
            const char *why = o.rc == -SIGKILL || o.rc == 0 ? NULL : "it was not killed";
            killed += o.rc == -SIGKILL;
            /* and the run that goes on is killed, too */
            if (!why && at % 2) {
                snprintf(fault, sizeof fault, "change %u 0 %s", 1 + random_number() % 60,
                         hows[random_number() % 3]);
                faulty_run(one_thread, fault, NULL, &o);
            }
            if (!why) why = go_on();
            bad += tell(fault, at, why);
            runs++;
        }
    }
    ok(!bad && killed * 10 >= runs * 9,
       "killed around a change of a file, %d times of %llu changes", killed, changes);
}

static void test_moments(int signal_number, int times, const char *name)
{
    int bad = 0, hit = 0;
    /* a busy machine makes moments late: at least three are to hit */
    for (int i = 0; i < times || (hit < 3 && i < 20 * times); i++) {
        outcome o;
        folder_remove(out_path);
        for (int again = 0; again < 1 + i % 2; again++) {
            folder now;
            folder_read(out_path, &now);
            if (folder_same(&now, &want)) break; /* the first was faster than the signal */
            pid_t pid = faulty_start(two_threads, NULL, NULL, NULL);
            usleep((useconds_t)(seconds * 1e6 * (random_number() % 1000) / 1000));
            kill(pid, signal_number);
            faulty_end(pid, &o);
            hit += o.rc == -signal_number;
            if (o.rc != 0 && signal_number == SIGINT && o.rc != -SIGINT)
                bad += tell(name, 0, o.text);
            if (o.rc == -SIGINT && *o.text &&
                (!strstr(o.text, "run again: tombac quantize") || !strstr(o.text, out_path)))
                bad += tell("the message", 0, o.text);
        }
        bad += tell(name, (unsigned long long)i, go_on());
    }
    ok(!bad && hit > 2, "%s at %d random moments, %d of them before the end", name, times, hit);
}

/* ---- no room ------------------------------------------------------------------------------------
 */

/* A name outside of the output. */
static const char *next_name(void)
{
    static int n;
    char name[32];
    snprintf(name, sizeof name, "second-%d", n++);
    return in_root(name);
}

/* Change every temporary file; returns how many. */
static int spoil(int how)
{
    int n = 0;
    DIR *dir = opendir(out_path);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (strncmp(e->d_name, ".tmp-", 5) != 0) continue;
        int fd = openat(dirfd(dir), e->d_name, O_RDWR);
        uint8_t byte = 0;
        if (fd < 0) continue;
        if (how == 0)
            n += pread(fd, &byte, 1, 70000) == 1 && (byte ^= 4, pwrite(fd, &byte, 1, 70000) == 1);
        else if (how == 1)
            n += ftruncate(fd, 70000) == 0;
        else
            n += linkat(dirfd(dir), e->d_name, AT_FDCWD, next_name(), 0) == 0;
        close(fd);
    }
    if (dir) closedir(dir);
    return n;
}

/* Two at once. */
static void test_two(void)
{
    char journal[8192] = "", path[1100], number[32];
    outcome first, second;
    folder now;
    setenv("TOMBAC_SLOW", "100000", 1);
    folder_remove(out_path);
    snprintf(path, sizeof path, "%s/tombac.journal", out_path);
    pid_t pid = faulty_start(two_threads, NULL, NULL, NULL);
    for (int i = 0; i < 2000 && !strstr(journal, " pid "); i++) {
        usleep(1000);
        read_text(path, journal, sizeof journal);
    }
    unsetenv("TOMBAC_SLOW");
    faulty_run(one_thread, NULL, NULL, &second);
    faulty_end(pid, &first);
    snprintf(number, sizeof number, "process %ld is", (long)pid);
    second.text[strcspn(second.text, "\n")] = '\0';
    folder_read(out_path, &now);
    ok(second.rc == TMB_ECREATE && strstr(second.text, number) && folder_same(&now, &want),
       "a second process is refused with the number of the first, which goes on: %s", second.text);
}

/* A run that ends before its last shard has a name goes on in the middle of it. */
static void test_middle(void)
{
    int kept = 0, bad = 0;
    setenv("TOMBAC_SLOW", "1000", 1);
    for (int i = 0; i < 6; i++) {
        char text[4096];
        outcome o;
        folder now;
        folder_remove(out_path);
        faulty_run(i % 2 ? two_threads : one_thread,
                   i < 3 ? "rename 2 5 once" : "rename 3 0 kill-before", NULL, &o);
        folder_read(out_path, &now);
        bad += tell("in the middle", (unsigned long long)i,
                    now.n >= 0 ? unfinished_fault(&now, &want) : NULL);
        faulty_run(one_thread_told, NULL, NULL, &o);
        folder_read(out_path, &now);
        if (o.rc || !folder_same(&now, &want)) bad += tell("in the middle", 0, o.text);
        read_text(in_root("stdout"), text, sizeof text);
        const char *others = strstr(text, "shards and ");
        kept += others && strncmp(others, "shards and 0 ", 13) != 0;
    }
    ok(!bad && kept > 2, "6 runs that ended in the middle of a shard, %d went on there", kept);
    bad = 0;
    for (int how = 0; how < 3; how++) {
        outcome o;
        folder now;
        int changed = 0;
        for (int i = 0; i < 20 && !changed; i++) {
            folder_remove(out_path);
            faulty_run(i % 2 ? two_threads : one_thread, "rename 2 5 once", NULL, &o);
            changed = spoil(how);
        }
        faulty_run(two_threads, NULL, NULL, &o);
        folder_read(out_path, &now);
        if (!changed || o.rc || !folder_same(&now, &want))
            bad += tell("the beginning of a shard was changed", (unsigned long long)how, o.text);
    }
    unsetenv("TOMBAC_SLOW");
    ok(!bad, "a beginning with other bytes, another size or a second name is not believed");
}

static void test_disk(bool hidden)
{
    uint64_t all = 0;
    int bad = 0, full = 0;
    folder now;
    for (int i = 0; i < want.n; i++) {
        struct stat st;
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", out_path, want.name[i]);
        if (stat(path, &st) == 0) all += (uint64_t)st.st_size;
    }
    for (int i = 0; i < 20; i++) {
        char disk[40], fault[64];
        outcome o;
        if (!long_run() && i % 4) continue;
        folder_remove(out_path);
        uint64_t room = i == 0 ? 0 : i == 1 ? 100 : all * (uint64_t)i / 19;
        snprintf(disk, sizeof disk, "%llu%s", (unsigned long long)room, hidden ? " hidden" : "");
        snprintf(fault, sizeof fault, "a disk of %s", disk);
        faulty_run(two_threads, NULL, disk, &o);
        if (o.rc) {
            full++;
            if (o.rc != TMB_ECREATE || (!strstr(o.text, "room") && !strstr(o.text, "space")))
                bad += tell(fault, 0, o.text);
            folder_read(out_path, &now);
            bad += tell(fault, 0, now.n >= 0 ? unfinished_fault(&now, &want) : NULL);
            /* a little more room is not enough either, mostly */
            snprintf(disk, sizeof disk, "%llu%s", (unsigned long long)all / 10,
                     hidden ? " hidden" : "");
            faulty_run(two_threads, NULL, disk, &o);
        }
        bad += tell(fault, 0, go_on());
    }
    ok(!bad && full > 3, "a disk that is full%s, %d sizes", hidden ? " and does not say so" : "",
       full);
}

/* ---- no power -----------------------------------------------------------------------------------
 */

typedef struct recording {
    uint8_t *bytes;
    size_t n, events;
} recording;

static void record(const char *const *argv, const char *fault, recording *r)
{
    const char *path = in_root("trace");
    struct stat st;
    outcome o;
    unlink(path);
    faulty_end(faulty_start(argv, fault, NULL, path), &o);
    int fd = open(path, O_RDONLY);
    memset(r, 0, sizeof *r);
    if (fd < 0 || fstat(fd, &st)) return;
    r->bytes = malloc((size_t)st.st_size + 1);
    if (r->bytes && read(fd, r->bytes, (size_t)st.st_size) == st.st_size) r->n = (size_t)st.st_size;
    close(fd);
    for (size_t at = 0; at + sizeof(trace_head) <= r->n; r->events++) {
        trace_head h;
        memcpy(&h, r->bytes + at, sizeof h);
        at += sizeof h + h.bytes;
    }
}

static void lose_power(const recording *r, uint64_t seed, size_t moment)
{
    static power p; /* large */
    power_open(&p, out_path, seed);
    power_image(&p, r->bytes, r->n, moment, (power_policy)(seed % POWER_POLICIES));
    power_close(&p);
}

static void test_power(int images)
{
    recording first[2];
    int bad = 0, twice = 0;
    for (int i = 0; i < 2; i++) {
        folder_remove(out_path);
        record(i ? two_threads : one_thread, NULL, &first[i]);
    }
    for (int i = 0; i < images; i++) {
        const recording *r = &first[i / 5 % 2];
        if (!r->events) continue;
        folder_remove(out_path);
        lose_power(r, (uint64_t)i, 1 + random_number() % r->events);
        if (i % 3 == 0) { /* the run that goes on loses it, too */
            recording again;
            char saved[1200], command[4000];
            snprintf(saved, sizeof saved, "%s/saved", root);
            snprintf(command, sizeof command,
                     "rm -rf '%s' && if [ -d '%s' ]; then cp -r '%s' '%s'; fi", saved, out_path,
                     out_path, saved);
            bad += system(command) != 0;
            record(two_threads, NULL, &again);
            folder_remove(out_path);
            bad += access(saved, F_OK) == 0 && rename(saved, out_path) != 0;
            if (again.events)
                lose_power(&again, (uint64_t)i / 3, 1 + random_number() % again.events);
            free(again.bytes);
            twice++;
        }
        bad += tell("lost power, image", (unsigned long long)i, go_on());
    }
    ok(!bad && first[0].events > 100,
       "lost power: %d images of %zu events, %d of them lose it twice", images, first[0].events,
       twice);
    free(first[0].bytes);
    free(first[1].bytes);
}

/* The images can show what they are made to show: where fsync lies they do. */
static void test_lies(void)
{
    recording r;
    int images = 0;
    bool seen = false;
    folder_remove(out_path);
    record(one_thread, "sync 1 0 lie", &r);
    for (; r.events && images < 100 && !seen; images++) {
        folder_remove(out_path);
        lose_power(&r, (uint64_t)images, 1 + random_number() % r.events);
        seen = go_on() != NULL;
    }
    ok(seen, "where fsync does nothing, image %d of lost power shows it", images);
    free(r.bytes);
}

static void command(const char **argv, const char *threads)
{
    const char *const words[] = {"tombac",
                                 "quantize",
                                 data_path("arch/mixtral"),
                                 "--recipe",
                                 in_root("recipe.ini"),
                                 "-o",
                                 out_path,
                                 "--shard-size",
                                 "300K",
                                 "--threads",
                                 threads,
                                 "-q",
                                 NULL};
    memcpy(argv, words, sizeof words);
}

int main(void)
{
    signal(SIGINT, SIG_DFL); /* a shell in the background hands it down ignored */
    make_fast_root();
    char real[PATH_MAX];
    if (realpath(root, real) && strlen(real) < sizeof root) strcpy(root, real);
    out_path = in_root("out");
    write_file(root, "recipe.ini", "[recipe]\nversion = 1\n[rules]\n*experts* = nvfp4\n* = fp8\n");
    command(one_thread, "1");
    command(two_threads, "2");
    memcpy(one_thread_told, one_thread, sizeof one_thread);
    for (int i = 0; one_thread_told[i]; i++)
        if (!strcmp(one_thread_told[i], "-q")) one_thread_told[i] = NULL;
    outcome o;
    struct timespec a, b;
    faulty_run(one_thread, NULL, NULL, &o);
    changes = o.calls[FAULT_CHANGE];
    folder_read(out_path, &want);
    folder_remove(out_path);
    for (int i = 0; i < 3; i++) {
        folder_remove(out_path);
        clock_gettime(CLOCK_MONOTONIC, &a);
        faulty_run(two_threads, NULL, NULL, &o);
        clock_gettime(CLOCK_MONOTONIC, &b);
        double took = (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec);
        if (!i || took < seconds) seconds = took;
    }
    folder now;
    folder_read(out_path, &now);
    if (ok(o.rc == 0 && changes > 50 && folder_same(&now, &want), "a run without a crash %s",
           o.text)) {
        test_disk(false);
        folder_remove(out_path);
        faulty_run(two_threads, NULL, NULL, &o);
        test_disk(true);
        test_middle();
        test_two();
        test_boundaries();
        test_moments(SIGKILL, long_run() ? 200 : 12, "kill -9");
        test_moments(SIGINT, long_run() ? 50 : 6, "Ctrl-C");
        setenv("TOMBAC_SLOW", "300", 1); /* so that there is something to lose */
        test_power(long_run() ? 1000 : 50);
        unsetenv("TOMBAC_SLOW");
        test_lies();
    }
    remove_tree(root);
    return done();
}
