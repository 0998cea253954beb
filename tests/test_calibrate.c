/* test_calibrate.c - the job: one file whatever the ranks, threads, memory, stops and rounds; and
 * what it refuses. */
#include "config.h"

#include "kernels/comm/comm.h"
#include "moe/calib/calibrate.h"
#include "moe/calib/file.h"
#include "moe/model/fingerprint.h"
#include "tests/job.h"
#include "tests/tap.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { VOCAB = 256, LENGTH = 40, SEQUENCES = 24 };

static char folder[] = "/tmp/tombac-test-XXXXXX";

static const char *path(const char *name)
{
    static char paths[4][256];
    static int next;
    char *p = paths[next++ % 4];
    snprintf(p, sizeof paths[0], "%s/%s", folder, name);
    return p;
}

/* Ids of two sources; the second uses few of them, so some experts get little. */
static void write_ids(const char *name, unsigned seed, unsigned range)
{
    FILE *f = fopen(path(name), "wb");
    for (int i = 0; f && i < SEQUENCES / 2 * LENGTH; i++) {
        seed = seed * 1103515245u + 12345u;
        uint16_t id = (uint16_t)((seed >> 16) % range);
        fwrite(&id, 2, 1, f);
    }
    if (f) fclose(f);
}

typedef struct world {
    tmb_checkpoint *ckpt;
    tmb_model *model;
    tmb_data *data;
} world;

static tmb_status open_world(world *w, const char *model, tmb_err *err)
{
    char a[256], b[256];
    snprintf(a, sizeof a, "%s", path("a.bin"));
    snprintf(b, sizeof b, "%s", path("b.bin"));
    tmb_source sources[] = {{.name = "a", .path = a, .weight = 1},
                            {.name = "b", .path = b, .weight = 1}};
    tmb_data_options o = {.sources = sources,
                          .n_sources = 2,
                          .samples = SEQUENCES,
                          .length = LENGTH,
                          .fit = TMB_FIT_PACK};
    TRY(tmb_checkpoint_open(&w->ckpt, data_path(model), err));
    TRY(tmb_model_open(&w->model, w->ckpt, err));
    return tmb_data_open(&w->data, &o, err);
}

static void close_world(world *w)
{
    tmb_data_close(w->data);
    tmb_model_close(w->model);
    tmb_checkpoint_close(w->ckpt);
    memset(w, 0, sizeof *w);
}

typedef struct stopper {
    volatile int stop;
    int left;
    bool kill;
} stopper;

static void count_down(void *ctx, const tmb_progress *p)
{
    stopper *s = ctx;
    (void)p;
    if (!s->left || --s->left) return;
    if (s->kill) raise(SIGKILL);
    s->stop = 1;
}

/* The digest of what the options give, "" after a failure. */
static tmb_status run(const world *w, tmb_calibrate_options o, const char *out, char digest[65],
                      tmb_calibrate_result *result, tmb_err *err)
{
    tmb_calibrate_result mine = {0};
    o.out = path(out);
    o.timeout_s = 20;
    tmb_status status = tmb_calibrate(w->model, w->data, &o, &mine, err);
    snprintf(digest, 65, "%s", status ? "" : mine.digest);
    if (result)
        *result = mine;
    else
        tmb_calibrate_result_free(&mine);
    unlink(path(out));
    return status;
}

/* ---- the same file -------------------------------------------------------------------------- */

static void same_for_any_ranks(const world *w, tmb_calibrate_options base, const char *what)
{
    char first[65], digest[65];
    tmb_err err = {0};
    ok(!run(w, base, "first.h5", first, NULL, &err), "%s: a plain run (%s)", what, err.message);
    struct stat st;
    ok(stat(path("first.h5.partial"), &st) != 0, "%s: leaves no partial folder", what);
    static const struct {
        const char *name;
        int ranks, threads;
        bool tight;
    } ways[] = {{"2 ranks", 2, 2, false},
                {"5 ranks", 5, 1, false},
                {"more ranks than sequences", 30, 1, false},
                {"the least memory", 1, 2, true}};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        tmb_calibrate_options o = base;
        o.ranks = ways[i].ranks;
        o.threads = ways[i].threads;
        if (ways[i].tight) {
            tmb_calibrate_needs needs;
            o.max_ram = 1;
            ok(tmb_calibrate_plan(&needs, w->model, w->data, &o, &err) == TMB_EUSAGE,
               "%s: a byte is too little: %s", what, err.message);
            o.max_ram = needs.peak_bytes;
        }
        tmb_status status = run(w, o, "way.h5", digest, NULL, &err);
        ok(!status && strcmp(first, digest) == 0, "%s: %s give the same content%s%s", what,
           ways[i].name, status ? ": " : "", status ? err.message : "");
    }
}

/* Stopped or killed after `calls` progress reports, then continued by another number of ranks. */
static void goes_on(const world *w, tmb_calibrate_options base, int calls, bool kill)
{
    char whole[65], digest[65];
    tmb_err err = {0};
    tmb_calibrate_result result;
    if (run(w, base, "whole.h5", whole, NULL, &err)) *whole = 0;
    pid_t child = fork();
    if (child == 0) {
        stopper stop = {.left = calls, .kill = kill};
        tmb_calibrate_options o = base;
        o.ranks = 3;
        o.watch = (tmb_watch){.progress = count_down, .ctx = &stop, .stop = &stop.stop};
        tmb_status status = run(w, o, "broken.h5", digest, NULL, &err);
        _exit(status == TMB_ESYSTEM && strstr(err.message, "continue") ? 7 : 1);
    }
    int how = 0;
    waitpid(child, &how, 0);
    ok(kill ? WIFSIGNALED(how) : WIFEXITED(how) && WEXITSTATUS(how) == 7, "%s after %d reports",
       kill ? "killed" : "stopped, and told how to go on", calls);
    tmb_calibrate_options o = base;
    o.ranks = 2;
    tmb_status status = run(w, o, "broken.h5", digest, &result, &err);
    ok(!status && *whole && strcmp(whole, digest) == 0, "… continued with the same content%s%s",
       status ? ": " : "", status ? err.message : "");
    tmb_calibrate_result_free(&result);
}

/* ---- coverage ------------------------------------------------------------------------------- */

static void rounds_and_rungs(const world *w)
{
    char one[65], more[65];
    tmb_err err = {0};
    tmb_calibrate_result r;
    tmb_calibrate_options o = {.samples = 4, .min_tokens = 1, .moments = true};
    tmb_status status = run(w, o, "one.h5", one, &r, &err);
    ok(!status && r.rounds == 1 && r.sequences == 4, "an easy gate takes one round");
    tmb_calibrate_result_free(&r);

    o.min_tokens = 1000000;
    o.starved = TMB_STARVED_PEERS;
    status = run(w, o, "more.h5", more, &r, &err);
    ok(!status && r.rounds == SEQUENCES / 4 && r.sequences == SEQUENCES,
       "an impossible one takes all data, %u rounds%s%s", r.rounds, status ? ": " : "",
       status ? err.message : "");
    uint64_t peers = 0, experts = 0;
    for (size_t i = 0; i < r.n_coverage; i++) {
        peers += r.coverage[i].rungs[TMB_RUNG_PEERS] + r.coverage[i].rungs[TMB_RUNG_WEIGHT_ONLY];
        experts += r.coverage[i].experts;
    }
    ok(peers == experts && experts, "… after which peers stand in for %llu of %llu experts",
       (unsigned long long)peers, (unsigned long long)experts);
    tmb_calibrate_result_free(&r);

    /* Rounds without a shadow pass learn what one round over everything does. */
    tmb_calibrate_options all = o;
    all.samples = 0;
    char whole[65];
    status = run(w, all, "all.h5", whole, NULL, &err);
    ok(!status && strcmp(whole, more) == 0, "… and the content of one round over all of it");

    o.starved = TMB_STARVED_SHADOW;
    status = run(w, o, "shadow.h5", whole, &r, &err);
    ok(!status && r.n_coverage && r.coverage[0].rungs[TMB_RUNG_SHADOW] == 0,
       "a shadow pass below the gate is no rung either");
    tmb_calibrate_result_free(&r);
    o.min_tokens = SEQUENCES * LENGTH / 2;
    status = run(w, o, "shadow.h5", whole, &r, &err);
    uint64_t shadow = 0;
    for (size_t i = 0; i < r.n_coverage; i++)
        shadow += r.coverage[i].rungs[TMB_RUNG_SHADOW];
    ok(!status && shadow > 0, "experts shown all tokens stand on the shadow rung (%llu)",
       (unsigned long long)shadow);
    tmb_calibrate_result_free(&r);
    same_for_any_ranks(w, o, "shadow");

    o.starved = TMB_STARVED_FAIL;
    status = run(w, o, "fail.h5", whole, NULL, &err);
    ok(status == TMB_EDATA && strstr(err.message, "min_tokens"), "starved = fail: %s", err.message);
}

/* ---- refusals ------------------------------------------------------------------------------- */

/* Leave an unfinished run behind. */
static void leave(const world *w, tmb_calibrate_options o, const char *out)
{
    char digest[65];
    tmb_err err = {0};
    stopper stop = {.left = 2};
    o.watch = (tmb_watch){.progress = count_down, .ctx = &stop, .stop = &stop.stop};
    ok(run(w, o, out, digest, NULL, &err) == TMB_ESYSTEM, "an unfinished run is left");
}

static void write_text(const char *name, const char *text)
{
    FILE *f = fopen(path(name), "w");
    if (f) {
        fputs(text, f);
        fclose(f);
    }
}

static void refusals(const world *w)
{
    char digest[65];
    tmb_err err = {0};
    tmb_calibrate_options o = {.min_tokens = 1}, other = {.min_tokens = 2};
    leave(w, o, "left.h5");
    ok(run(w, other, "left.h5", digest, NULL, &err) == TMB_EUSAGE &&
           strstr(err.message, "the settings"),
       "other settings: %s", err.message);
    write_text("left.h5.partial/state.json", "{\"round\": -1}");
    ok(run(w, o, "left.h5", digest, NULL, &err) == TMB_EDATA && strstr(err.message, "--restart"),
       "a state that says nothing: %s", err.message);
    write_text("left.h5.partial/state.json", "{");
    ok(run(w, o, "left.h5", digest, NULL, &err) == TMB_EDATA, "a broken state: %s", err.message);
    other.restart = true;
    ok(!run(w, other, "left.h5", digest, NULL, &err), "--restart discards it");

    leave(w, o, "hidden.h5");
    ok(truncate(path("hidden.h5.partial/hidden-0"), 100) == 0, "hidden states are cut");
    char again[65];
    tmb_status status = run(w, o, "hidden.h5", again, NULL, &err);
    ok(status == TMB_EDATA && strstr(err.message, "hidden-0"), "… %s", err.message);
    other = o;
    other.restart = true;
    ok(!run(w, other, "hidden.h5", again, NULL, &err), "… and --restart begins again");

    write_text("there.h5", "mine");
    tmb_calibrate_result r = {0};
    o.out = path("there.h5");
    ok(tmb_calibrate(w->model, w->data, &o, &r, &err) == TMB_ECREATE, "%s", err.message);
    tmb_calibrate_result_free(&r);
}

static void fingerprints(void)
{
    char a[65], b[65];
    tmb_err err = {0};
    world w = {0}, v = {0};
    bool opened = !open_world(&w, "arch/mixtral", &err) && !open_world(&v, "arch/qwen3_moe", &err);
    ok(opened && !tmb_fingerprint(a, w.ckpt, &err) && !tmb_fingerprint(b, w.ckpt, &err) &&
           strcmp(a, b) == 0,
       "a checkpoint has one fingerprint");
    ok(opened && !tmb_fingerprint(b, v.ckpt, &err) && strcmp(a, b) != 0, "another has another");
    close_world(&w);
    close_world(&v);
}

int main(void)
{
    tmb_err err = {0};
    world w = {0};
    if (!mkdtemp(folder)) return 99;
    write_ids("a.bin", 1, VOCAB);
    write_ids("b.bin", 2, 12);
    ok(!open_world(&w, "arch/mixtral", &err), "model and data are open (%s)", err.message);
    tmb_calibrate_options plain = {.moments = true, .min_tokens = 1};
    tmb_calibrate_options head = {.head = true};
    same_for_any_ranks(&w, plain, "plain");
    same_for_any_ranks(&w, head, "with the head, without moments");
    goes_on(&w, plain, 1, false);
    goes_on(&w, plain, 3, true);
    tmb_calibrate_options rounds = {.samples = 8, .min_tokens = 200, .moments = true};
    goes_on(&w, rounds, 5, true);
    rounds_and_rungs(&w);
    refusals(&w);
    fingerprints();
    close_world(&w);
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command) ? 99 : done();
}
