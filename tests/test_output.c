/* test_output.c - what is written where: nothing outside of the output, whatever lies or is put in
 * its place; modes that the umask allows and no others. */
#include "config.h"
#include "moe/verify/verify.h"
#include "tests/run_job.h"

static const char *source, *victim;

static request output_job(const char *name)
{
    return (request){.source = source,
                     .out = in_root(name),
                     .rules = users_recipe,
                     .layout = "modelopt",
                     .shard_size = 200000,
                     .threads = 2};
}

static const char *in_out(const request *r, const char *name)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", strrchr(r->out, '/') + 1, name);
    return in_root(path);
}

/* victim holds what it held. */
static bool untouched(void)
{
    char text[32] = "";
    int fd = open(victim, O_RDONLY);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0) close(fd);
    return n == 5 && strcmp(text, "mine\n") == 0;
}

static void test_modes(mode_t mask)
{
    request r = output_job("modes");
    tmb_err err = {0};
    struct stat st = {0};
    int bad = 0, files = 0;
    mode_t before = umask(mask);
    tmb_status status = run_here(&r, NULL, &err);
    umask(before);
    stat(r.out, &st);
    ok(!status && (st.st_mode & 07777) == (0777 & ~mask), "umask %03o: the folder is %03o %s",
       (unsigned)mask, (unsigned)st.st_mode & 07777, err.message);
    DIR *dir = opendir(r.out);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (e->d_name[0] == '.' || fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW))
            continue;
        files++;
        bad += !S_ISREG(st.st_mode) || (st.st_mode & 07777) != (0666 & ~mask);
    }
    if (dir) closedir(dir);
    ok(files > 5 && !bad, "its %d files are regular and %03o, set-user-ID of the source or not",
       files, (unsigned)(0666 & ~mask));
    remove_tree(r.out);
}

/* Something lies where the run would write. */
static void test_planted(void)
{
    static const char *const names[] = {"tombac.journal", ".tmp-model-00001-of-00003.safetensors",
                                        "model-00001-of-00003.safetensors", ".tmp-config.json",
                                        "config.json"};
    tmb_err err = {0};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (int how = 0; how < 4; how++) {
            static const char *const hows[] = {"a symbolic link", "a hard link", "a folder",
                                               "a FIFO"};
            request r = output_job("planted");
            mkdir(r.out, 0755);
            const char *path = in_out(&r, names[i]);
            int rc = how == 0   ? symlink(victim, path)
                     : how == 1 ? link(victim, path)
                     : how == 2 ? mkdir(path, 0755)
                                : mkfifo(path, 0644);
            tmb_status status = run_here(&r, NULL, &err);
            ok(!rc && (status == TMB_ECREATE || status == TMB_EDATA) && untouched(), "%s as %s: %s",
               hows[how], names[i], err.message);
            remove_tree(r.out);
        }
}

/* The same in a run that is gone on with: there the temporary names are its own. */
static void test_planted_later(void)
{
    tmb_err err = {0};
    for (int how = 0; how < 2; how++) {
        request r = output_job("later");
        /* a stop behind a shard; the progress calls before it depend on the threads */
        for (int after = 2; after < 300 && !exists(r.out, "tombac.journal"); after++) {
            remove_tree(r.out);
            r.stop_after = after;
            if (!run_here(&r, NULL, &err)) break;
        }
        ok(exists(r.out, "tombac.journal"), "a run is stopped and leaves its journal: %s",
           err.message);
        r.stop_after = 0;
        const char *path = in_out(&r, ".tmp-config.json");
        int rc = how ? link(victim, path) : symlink(victim, path);
        tmb_status status = run_here(&r, NULL, &err);
        ok(!rc && status == (how ? TMB_OK : TMB_ECREATE) && untouched(),
           "a %s link under a temporary name: %d %s", how ? "hard" : "symbolic", (int)status,
           err.message);
        remove_tree(r.out);
    }
}

static void test_no_journal_of_ours(void)
{
    request r = output_job("hard");
    tmb_err err = {0};
    mkdir(r.out, 0755);
    ok(!link(victim, in_out(&r, "tombac.journal")),
       "a hard link to somebody's file as the journal");
    r.restart = true;
    ok(run_here(&r, NULL, &err) != TMB_OK && untouched(), "is not emptied by --restart: %s",
       err.message);
    remove_tree(r.out);
}

/* The folder is taken away while the job runs, and a link to another is put there. */
typedef struct swap {
    const char *out, *away, *other;
    int left;
} swap;

static void swap_folders(void *ctx, const tmb_progress *p)
{
    swap *s = ctx;
    (void)p;
    if (!s->left || --s->left) return;
    if (rename(s->out, s->away) || symlink(s->other, s->out)) printf("# cannot swap\n");
}

static void test_swap(void)
{
    request r = output_job("swapped");
    job j;
    tmb_plan_options options = {.layout = "modelopt", .shard_size = 200000, .threads = 2};
    swap s = {.out = r.out, .away = in_root("away"), .other = in_root("other"), .left = 5};
    tmb_quantize_options q = {.out = r.out, .watch = {.progress = swap_folders, .ctx = &s}};
    tmb_quantize_result *result = NULL;
    tmb_err err = {0};
    struct stat st;
    mkdir(s.other, 0755);
    tmb_status status = job_open(&j, r.source, r.rules, &options);
    if (!status) status = tmb_quantize(j.plan, &q, &result, &err);
    bool link_is_there = lstat(r.out, &st) == 0 && S_ISLNK(st.st_mode);
    ok(!status && link_is_there && exists(s.away, "tombac.json") && rmdir(s.other) == 0,
       "a folder that is swapped for a link: all goes into the one that was opened %s",
       err.message);
    tmb_quantize_result_close(result);
    job_close(&j);
    unlink(r.out);
    remove_tree(s.away);
}

static void test_unfinished(void)
{
    request r = output_job("unfinished");
    tmb_err err = {0};
    tmb_checkpoint *ckpt = NULL;
    tmb_model *model = NULL;
    tmb_verify_report *report = NULL;
    tmb_verify_options options = {.checksums = true, .threads = 1};
    tmb_status status = run_here(&r, NULL, &err);
    write_file(r.out, "tombac.journal", "");
    if (!status) status = tmb_checkpoint_open(&ckpt, r.out, &err);
    if (!status) status = tmb_model_open(&model, ckpt, &err);
    if (!status) status = tmb_verify(&report, model, &options, &err);
    bool told = false;
    for (uint32_t i = 0; report && i < report->n_findings; i++)
        told = told || (report->findings[i].severity == TMB_ERROR &&
                        strstr(report->findings[i].text, "has not ended"));
    ok(!status && told, "verify says of a folder with a journal that its run has not ended %s",
       err.message);
    tmb_verify_report_close(report);
    tmb_model_close(model);
    tmb_checkpoint_close(ckpt);
    remove_tree(r.out);
}

int main(void)
{
    make_root();
    source = in_root("source");
    victim = in_root("victim");
    write_file(root, "victim", "mine\n");
    copy_tree(data_path("arch/mixtral"), source);
    chmod(in_root("source/generation_config.json"), 04755);
    test_modes(022);
    test_modes(027);
    test_modes(002);
    test_planted();
    test_planted_later();
    test_no_journal_of_ours();
    test_swap();
    test_unfinished();
    ok(untouched(), "somebody's file is as it was");
    remove_tree(root);
    return done();
}
