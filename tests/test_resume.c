/* test_resume.c - stops, crashes, damage, full disks and wrong folders: the same command goes on
 * and ends with the same bytes, and nothing that is not ours is touched. */
#include "config.h"
#include "tests/run_job.h"

#include <sys/file.h>
#include <time.h>

static request resume_job(const char *out)
{
    return (request){.source = in_root("source"),
                     .out = out,
                     .rules = users_recipe,
                     .layout = "modelopt",
                     .shard_size = 200000,
                     .threads = 2};
}

static int finished_shards(const char *out)
{
    char name[64];
    int n = 0;
    for (int i = 1; i < 20; i++) {
        snprintf(name, sizeof name, "model-%05d-of-00010.safetensors", i);
        n += exists(out, name);
    }
    return n;
}

/* Stop behind some finished shards, not behind all.  On a busy machine one thread may lag in the
 * first shard while others go on, so the moment is looked for. */
static tmb_status stop_between(request r, tmb_err *err)
{
    tmb_status status = TMB_OK;
    for (int after = 120; after <= 240; after += 20) {
        remove_tree(r.out);
        r.stop_after = after;
        status = run_here(&r, NULL, err);
        if (status != TMB_ESYSTEM || finished_shards(r.out)) break;
    }
    return status;
}

static void test_kill(const char *want)
{
    request r = resume_job(in_root("killed"));
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    int rc = finish(start(&r, NULL));
    clock_gettime(CLOCK_MONOTONIC, &b);
    double whole = (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec);
    char sha[TMB_SHA256_HEX];
    digest(r.out, sha);
    ok(rc == 0 && !strcmp(sha, want), "a run in a process of its own gives the same bytes");
    int killed = 0, looked_complete = 0, bad = 0, resumed = 0;
    unsigned seed = 1;
    for (int i = 0; i < 20; i++) {
        remove_tree(r.out);
        for (int again = 0; again < 2; again++) { /* the resumed run is killed too */
            pid_t pid = start(&r, NULL);
            seed = seed * 1103515245u + 12345u;
            usleep((useconds_t)(whole * 1e6 * ((seed >> 8) % 1000) / 1000));
            kill(pid, SIGKILL);
            if (finish(pid) < 0) killed++;
            if (exists(r.out, "tombac.json") && exists(r.out, "tombac.journal") == false) break;
            if (exists(r.out, "model.safetensors.index.json") && !exists(r.out, "tombac.journal"))
                looked_complete++;
        }
        if (exists(r.out, "tombac.json") && !exists(r.out, "tombac.journal")) { /* was faster */
            digest(r.out, sha);
            bad += strcmp(sha, want) != 0;
            continue;
        }
        tmb_quantize_result *result = NULL;
        tmb_err err = {0};
        rc = (int)run_here(&r, &result, &err);
        resumed += result && result->shards_reused > 0;
        tmb_quantize_result_close(result);
        digest(r.out, sha);
        if (rc || strcmp(sha, want) != 0) {
            bad++;
            printf("# after kill %d: %d %s\n", i, rc, err.message);
        }
    }
    ok(killed > 5, "%d runs were killed, %d continued behind finished shards", killed, resumed);
    ok(!looked_complete, "no killed run looks complete");
    ok(!bad, "after each, the same command gives the same bytes");
    remove_tree(r.out);
}

static void test_stop(const char *want)
{
    request r = resume_job(in_root("stopped"));
    char sha[TMB_SHA256_HEX];
    tmb_err err = {0};
    tmb_status status = stop_between(r, &err);
    ok(status == TMB_ESYSTEM && strstr(err.message, "continue"), "a stop says how to go on: %s",
       err.message);
    ok(exists(r.out, "tombac.journal") && !exists(r.out, "tombac.json"), "and leaves a journal");

    /* somebody holds the lock */
    char path[2048];
    snprintf(path, sizeof path, "%s/tombac.journal", r.out);
    int fd = open(path, O_RDWR);
    r.stop_after = 0;
    ok(fd >= 0 && flock(fd, LOCK_EX) == 0 && run_here(&r, NULL, &err) == TMB_ECREATE &&
           strstr(err.message, "process "),
       "two at once are refused: %s", err.message);
    if (fd >= 0) close(fd);

    request other = r;
    other.rules = "*experts* = nvfp4\n";
    ok(run_here(&other, NULL, &err) == TMB_ECREATE && strstr(err.message, "recipe"),
       "another recipe is refused: %s", err.message);
    other = r;
    other.layout = "compressed-tensors";
    ok(run_here(&other, NULL, &err) == TMB_ECREATE && strstr(err.message, "layout"),
       "another layout is refused: %s", err.message);
    other = r;
    other.shard_size = 300000;
    ok(run_here(&other, NULL, &err) == TMB_ECREATE, "another shard size is refused: %s",
       err.message);
    write_file(r.out, "notes.txt", "mine");
    ok(run_here(&r, NULL, &err) == TMB_ECREATE && strstr(err.message, "notes.txt"),
       "a foreign file is refused: %s", err.message);
    other = r;
    other.restart = true;
    ok(run_here(&other, NULL, &err) == TMB_ECREATE && exists(r.out, "notes.txt"),
       "and is not discarded by --restart: %s", err.message);
    snprintf(path, sizeof path, "%s/notes.txt", r.out);
    unlink(path);

    tmb_quantize_result *result = NULL;
    status = run_here(&r, &result, &err);
    digest(r.out, sha);
    ok(!status && result && result->resumed && result->shards_reused > 0 && !strcmp(sha, want),
       "the same command continues behind %u shards", result ? result->shards_reused : 0);
    tmb_quantize_result_close(result);
    ok(run_here(&r, NULL, &err) == TMB_ECREATE && strstr(err.message, "complete"),
       "a finished output is refused: %s", err.message);
    remove_tree(r.out);
}

/* Leaves a stopped run in r.out. */
static bool stop_early(request r)
{
    tmb_err err = {0};
    return stop_between(r, &err) == TMB_ESYSTEM;
}

static void test_restart(const char *want)
{
    request r = resume_job(in_root("restarted"));
    char sha[TMB_SHA256_HEX];
    tmb_err err = {0};
    request other = r;
    ok(stop_early(r), "a run is stopped");
    other.shard_size = 150000;
    other.restart = true;
    ok(stop_early(other), "--restart takes the folder for another job");
    r.restart = true;
    tmb_status status = run_here(&r, NULL, &err);
    digest(r.out, sha);
    ok(!status && !strcmp(sha, want), "--restart begins anew, and nothing of before is left %s",
       err.message);
    remove_tree(r.out);
}

/* The source changes while the job runs. */
static void test_changing(void)
{
    request r = resume_job(in_root("changing"));
    tmb_err err = {0};
    r.stop_after = 60;
    r.touch = in_root("source/model-00002-of-00002.safetensors");
    struct stat before = {0};
    stat(r.touch, &before);
    ok(run_here(&r, NULL, &err) == TMB_EDATA && strstr(err.message, "changed") &&
           !exists(r.out, "tombac.json"),
       "a source that changes meanwhile is noticed: %s", err.message);
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, before.st_mtim};
    utimensat(AT_FDCWD, r.touch, times, 0);
    remove_tree(r.out);
}

static void flip(const char *path, off_t at)
{
    unsigned char c;
    int fd = open(path, O_RDWR);
    if (fd < 0) return;
    if (pread(fd, &c, 1, at) == 1) {
        c ^= 1;
        if (pwrite(fd, &c, 1, at) != 1) printf("# cannot damage %s\n", path);
    }
    close(fd);
}

static void test_damage(const char *want)
{
    request r = resume_job(in_root("damaged"));
    char sha[TMB_SHA256_HEX], path[2048], shard[2048];
    tmb_err err = {0};
    int wrong = 0, refused = 0, healed = 0;
    const char *saved = in_root("saved");
    ok(stop_early(r), "a run is stopped");
    copy_tree(r.out, saved);
    snprintf(path, sizeof path, "%s/tombac.journal", r.out);
    struct stat st = {0};
    stat(path, &st);
    for (int i = 0; i < 12; i++) {
        remove_tree(r.out);
        copy_tree(in_root("saved"), r.out);
        if (i % 2)
            flip(path, st.st_size * i / 12);
        else if (truncate(path, st.st_size * (i + 1) / 13))
            printf("# cannot truncate\n");
        tmb_status status = run_here(&r, NULL, &err);
        digest(r.out, sha);
        if (!status && !strcmp(sha, want))
            healed++;
        else if (status == TMB_EDATA || status == TMB_ECREATE)
            refused++;
        else
            wrong++;
    }
    ok(!wrong && healed > 3,
       "a damaged journal is refused (%d) or not believed (%d), never followed", refused, healed);
    remove_tree(r.out);
    copy_tree(in_root("saved"), r.out);
    int shards = 0;
    for (int i = 1; i < 100; i++) {
        for (int n = 2; n < 100; n++) {
            snprintf(shard, sizeof shard, "%s/model-%05d-of-%05d.safetensors", r.out, i, n);
            if (access(shard, F_OK) == 0) {
                flip(shard, 5000);
                shards++;
            }
        }
    }
    tmb_status status = run_here(&r, NULL, &err);
    digest(r.out, sha);
    ok(shards > 0 && !status && !strcmp(sha, want),
       "%d shards that changed on disk are made again %s", shards, err.message);
    remove_tree(r.out);

    /* the source changes between two runs */
    copy_tree(in_root("saved"), r.out);
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1000000000}};
    snprintf(path, sizeof path, "%s/model-00001-of-00002.safetensors", in_root("source"));
    struct stat before = {0};
    stat(path, &before);
    utimensat(AT_FDCWD, path, times, 0);
    ok(run_here(&r, NULL, &err) == TMB_ECREATE && strstr(err.message, "source"),
       "a source that changed is refused: %s", err.message);
    times[1] = before.st_mtim;
    utimensat(AT_FDCWD, path, times, 0);
    remove_tree(r.out);
    remove_tree(in_root("saved"));
}

static void test_full(const char *want)
{
    static const uint64_t limits[] = {100, 1000, 30000, 150000, 190000};
    char sha[TMB_SHA256_HEX];
    tmb_err err = {0};
    int wrong = 0;
    for (int i = 0; i < 5; i++) {
        request r = resume_job(in_root("full"));
        r.file_limit = limits[i];
        int rc = finish(start(&r, in_root("message")));
        char text[2048] = "";
        FILE *f = fopen(in_root("message"), "r");
        if (f && !fgets(text, sizeof text, f)) text[0] = '\0';
        if (f) fclose(f);
        if (rc != TMB_ECREATE && rc != TMB_EIO) {
            printf("# files of %llu bytes: %d %s\n", (unsigned long long)limits[i], rc, text);
            wrong++;
        }
        if (exists(r.out, "tombac.json") || exists(r.out, "model.safetensors.index.json")) wrong++;
        if (i == 3) ok(strstr(text, "limit") != NULL, "no room is a sentence: %s", text);
        r.file_limit = 0;
        rc = (int)run_here(&r, NULL, &err);
        digest(r.out, sha);
        if (rc || strcmp(sha, want) != 0) wrong++;
        remove_tree(r.out);
    }
    ok(!wrong, "files that may not grow: refused, and the same command goes on later");
}

static void test_places(void)
{
    tmb_err err = {0};
    char inside[1200], link_path[2048];
    request r = resume_job(in_root("source"));
    char before[TMB_SHA256_HEX], after[TMB_SHA256_HEX];
    digest(in_root("source"), before);
    ok(run_here(&r, NULL, &err) == TMB_ECREATE && strstr(err.message, "source"),
       "the source as output is refused: %s", err.message);
    snprintf(inside, sizeof inside, "%s/out", in_root("source"));
    r.out = inside;
    ok(run_here(&r, NULL, &err) == TMB_ECREATE && access(inside, F_OK), "inside it too: %s",
       err.message);
    snprintf(link_path, sizeof link_path, "%s", in_root("link"));
    ok(symlink(in_root("source"), link_path) == 0, "a symbolic link is made");
    r.out = link_path;
    ok(run_here(&r, NULL, &err) == TMB_ECREATE && strstr(err.message, "source"),
       "by a symbolic link too: %s", err.message);
    digest(in_root("source"), after);
    ok(!strcmp(before, after), "the source is as it was");

    mkdir(in_root("foreign"), 0755);
    write_file(in_root("foreign"), "thesis.tex", "years of work");
    r.out = in_root("foreign");
    ok(run_here(&r, NULL, &err) == TMB_ECREATE && strstr(err.message, "thesis.tex") &&
           !exists(r.out, "tombac.journal"),
       "somebody's folder is refused and left alone: %s", err.message);
    write_file(root, "file", "x");
    r.out = in_root("file");
    ok(run_here(&r, NULL, &err) == TMB_ECREATE, "a file is refused: %s", err.message);
    r.out = in_root("no/such/parent");
    ok(run_here(&r, NULL, &err) == TMB_ECREATE, "a missing parent is refused: %s", err.message);
    if (geteuid() != 0) {
        mkdir(in_root("closed"), 0555);
        r.out = in_root("closed");
        ok(run_here(&r, NULL, &err) == TMB_ECREATE, "a folder without permission: %s", err.message);
    }
    mkdir(in_root("trap"), 0755);
    ok(symlink("/dev/null", in_root("trap/tombac.journal")) == 0, "a journal that leads elsewhere");
    r.out = in_root("trap");
    ok(run_here(&r, NULL, &err) == TMB_ECREATE, "is refused: %s", err.message);
    request early = r;
    early.out = in_root("early");
    early.stop_after = 1;
    ok(run_here(&early, NULL, &err) == TMB_ESYSTEM &&
           (access(early.out, F_OK) || exists(early.out, "tombac.journal")),
       "a run that is stopped before its first piece leaves nothing: %s", err.message);
    mkdir(in_root("empty"), 0755);
    r.out = in_root("empty");
    ok(!run_here(&r, NULL, &err) && exists(r.out, "tombac.json"), "an empty folder is taken %s",
       err.message);
}

int main(int argc, char **argv)
{
    if (argc == 11 && strcmp(argv[1], "run") == 0) return run_mode(argv);
    make_root();
    copy_tree(data_path("tinymoe/a"), in_root("source"));
    char want[TMB_SHA256_HEX];
    tmb_err err = {0};
    request r = resume_job(in_root("want"));
    tmb_status status = run_here(&r, NULL, &err);
    digest(r.out, want);
    if (!ok(!status && want[0], "an uninterrupted run %s", err.message)) return done();
    test_kill(want);
    test_stop(want);
    test_restart(want);
    test_damage(want);
    test_changing();
    test_full(want);
    test_places();
    remove_tree(root);
    return done();
}
