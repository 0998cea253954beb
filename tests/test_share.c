/* test_share.c - experts shared by ranks: one file whatever the groups, memory, stops; each rank
 * reads its own; and what is refused. */
#include "config.h"

#include "moe/calib/calibrate.h"
#include "moe/infer/forward.h"
#include "tests/job.h"
#include "tests/tap.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { VOCAB = 96, LENGTH = 100 };

static char folder[] = "/tmp/tombac-test-XXXXXX";

static const char *path(const char *name)
{
    static char paths[4][256];
    static int next;
    char *p = paths[next++ % 4];
    snprintf(p, sizeof paths[0], "%s/%s", folder, name);
    return p;
}

typedef struct world {
    tmb_checkpoint *ckpt;
    tmb_model *model;
    tmb_data *data;
} world;

static void close_world(world *w)
{
    tmb_data_close(w->data);
    tmb_model_close(w->model);
    tmb_checkpoint_close(w->ckpt);
    memset(w, 0, sizeof *w);
}

/* So many sequences of ids that every fixture's vocabulary has. */
static tmb_status open_world(world *w, const char *model, int sequences, tmb_err *err)
{
    char ids[256];
    unsigned seed = 7;
    snprintf(ids, sizeof ids, "%s", path("ids.bin"));
    FILE *f = fopen(ids, "wb");
    for (int i = 0; f && i < sequences * LENGTH; i++) {
        seed = seed * 1103515245u + 12345u;
        uint16_t id = (uint16_t)((seed >> 16) % VOCAB);
        fwrite(&id, 2, 1, f);
    }
    if (!f || fclose(f)) return tmb_fail(err, TMB_EIO, "%s", ids);
    tmb_source source = {.name = "a", .path = ids, .weight = 1};
    tmb_data_options o = {.sources = &source,
                          .n_sources = 1,
                          .samples = (uint64_t)sequences,
                          .length = LENGTH,
                          .fit = TMB_FIT_PACK};
    TRY(tmb_checkpoint_open(&w->ckpt, data_path(model), err));
    TRY(tmb_model_open(&w->model, w->ckpt, err));
    return tmb_data_open(&w->data, &o, err);
}

/* The digest of what the options give, "" after a failure. */
static tmb_status run(const world *w, tmb_calibrate_options o, char digest[65], tmb_err *err)
{
    tmb_calibrate_result result = {0};
    o.out = path("out.h5");
    o.timeout_s = 20;
    tmb_status status = tmb_calibrate(w->model, w->data, &o, &result, err);
    snprintf(digest, 65, "%s", status ? "" : result.digest);
    tmb_calibrate_result_free(&result);
    unlink(path("out.h5"));
    return status;
}

/* ---- the same file -------------------------------------------------------------------------- */

static const struct {
    int ranks, ways;
    bool tight; /* in the least memory */
} groups[] = {{4, 2, false}, {4, 4, true}, {2, 2, true}, {3, 3, false}};

/* The first n of the groups. */
static void same_for_groups(const world *w, tmb_calibrate_options base, const char *what, size_t n)
{
    char alone[65], digest[65];
    tmb_err err = {0};
    ok(!run(w, base, alone, &err), "%s: one rank (%s)", what, err.message);
    for (size_t i = 0; i < n; i++) {
        tmb_calibrate_options o = base;
        tmb_calibrate_needs needs;
        o.ranks = groups[i].ranks;
        o.ways = groups[i].ways;
        o.threads = 1;
        o.max_ram = groups[i].tight;
        if (o.max_ram && tmb_calibrate_plan(&needs, w->model, w->data, &o, &err) == TMB_EUSAGE)
            o.max_ram = needs.peak_bytes;
        tmb_status status = run(w, o, digest, &err);
        ok(!status && *alone && strcmp(alone, digest) == 0,
           "%s: experts of %d ranks shared by %d%s: the same content%s%s", what, o.ranks, o.ways,
           groups[i].tight ? " in the least memory" : "", status ? ": " : "",
           status ? err.message : "");
    }
}

/* An expert alone may have more rows than a step: of a router, and as a shadow. */
static void many_rows(void)
{
    tmb_err err = {0};
    world w = {0};
    char alone[65], digest[65];
    bool opened = !open_world(&w, "arch/mixtral", 240, &err);
    tmb_calibrate_options o = {.moments = true, .min_tokens = 9000};
    ok(opened && !run(&w, o, alone, &err), "24000 tokens on one rank (%s)", err.message);
    o.ranks = 2;
    o.ways = 2;
    ok(opened && !run(&w, o, digest, &err) && strcmp(alone, digest) == 0,
       "steps that take an expert's rows in parts: the same content (%s)", err.message);
    close_world(&w);
}

/* ---- killed --------------------------------------------------------------------------------- */

typedef struct killer {
    int left;
} killer;

static void count_down(void *ctx, const tmb_progress *p)
{
    killer *k = ctx;
    (void)p;
    if (--k->left == 0) raise(SIGKILL);
}

/* Killed after so many reports, then continued by other groups. */
static void goes_on(const world *w, tmb_calibrate_options base, int reports)
{
    char whole[65], digest[65];
    tmb_err err = {0};
    if (run(w, base, whole, &err)) *whole = 0;
    pid_t child = fork();
    if (child == 0) {
        killer k = {.left = reports};
        tmb_calibrate_options o = base;
        o.ranks = 4;
        o.ways = 2;
        o.watch = (tmb_watch){.progress = count_down, .ctx = &k};
        _exit(run(w, o, digest, &err) ? 1 : 0);
    }
    int how = 0;
    waitpid(child, &how, 0);
    ok(WIFSIGNALED(how), "killed after %d reports", reports);
    tmb_calibrate_options o = base;
    o.ranks = 3;
    o.ways = 3;
    tmb_status status = run(w, o, digest, &err);
    ok(!status && *whole && strcmp(whole, digest) == 0,
       "… continued by another group with the same content%s%s", status ? ": " : "",
       status ? err.message : "");
}

/* ---- each reads its own --------------------------------------------------------------------- */

typedef struct reads {
    const tmb_model *model;
    int seen[4][64]; /* by rank and expert: rows of its weights */
} reads;

typedef struct reader {
    reads *all;
    int rank;
} reader;

static tmb_status count_rows(void *ctx, tmb_reader *r, const tmb_unit *unit, uint64_t row,
                             size_t rows, float *y, tmb_err *err)
{
    reader *me = ctx;
    if (unit->expert >= 0 && unit->expert < 64)
        __atomic_fetch_add(&me->all->seen[me->rank][unit->expert], (int)rows, __ATOMIC_RELAXED);
    return tmb_reader_rows(r, unit, row, rows, y, err);
}

/* One layer over one token, or none on the last rank. */
static tmb_status one_layer(tmb_comm *comm, void *ctx, tmb_err *err)
{
    reads *all = ctx;
    reader me = {all, tmb_comm_rank(comm)};
    tmb_decoder_options o = {.threads = 1,
                             .ways = tmb_comm_size(comm),
                             .comm = comm,
                             .hooks = {.weight = count_rows, .ctx = &me}};
    tmb_decoder *d;
    const size_t begin[] = {0, me.rank + 1 < tmb_comm_size(comm)};
    const int32_t id = me.rank;
    TRY(tmb_decoder_open(&d, all->model, &o, err));
    float *x = calloc(tmb_decoder_config(d)->hidden, sizeof *x);
    tmb_batch batch = {.x = x, .begin = begin, .sequences = 1};
    tmb_status status = x ? tmb_decoder_embed(d, &id, 1, x, err) : TMB_ESYSTEM;
    if (!status) status = tmb_decoder_load(d, 1, err);
    if (!status) status = tmb_decoder_run(d, &batch, err);
    if (!status) status = tmb_decoder_run(d, &batch, err);
    free(x);
    tmb_decoder_close(d);
    return status;
}

static void each_reads_its_own(const world *w)
{
    reads all = {.model = w->model};
    tmb_err err = {0};
    int own = 0, others = 0, twice = 0, width = 0;
    tmb_status status = tmb_comm_threads_run(4, NULL, one_layer, &all, &err);
    const tmb_unit *gate = tmb_model_find(w->model, "model.layers.1.mlp.experts.0.gate_proj");
    if (gate) width = (int)(2 * gate->out + gate->in);
    for (int r = 0; r < 4; r++)
        for (int e = 0; e < 64; e++) {
            own += e % 4 == r && all.seen[r][e];
            others += e % 4 != r && all.seen[r][e];
            twice += all.seen[r][e] > width;
        }
    ok(!status && !others, "no rank reads another's expert (%s)", err.message);
    ok(own >= 4 && own <= 12, "of 16 experts %d are read, those that three tokens chose", own);
    ok(width && !twice, "… and once for two runs of the layer");
}

/* ---- refusals ------------------------------------------------------------------------------- */

static void refusals(const world *w)
{
    char digest[65];
    tmb_err err = {0};
    tmb_calibrate_options o = {.ranks = 4, .ways = 3};
    ok(run(w, o, digest, &err) == TMB_EUSAGE && strstr(err.message, "--expert-parallel"), "%s",
       err.message);
    o = (tmb_calibrate_options){.ranks = 34, .ways = 17};
    ok(run(w, o, digest, &err) == TMB_EUSAGE && strstr(err.message, "a layer has 16"), "%s",
       err.message);
}

int main(void)
{
    static const char *const names[] = {"arch/qwen3_moe", "forward/qwen2_moe",
                                        "forward/deepseek_v3", "arch/llama4_mm"};
    if (!mkdtemp(folder)) return 99;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        tmb_err err = {0};
        world w = {0};
        tmb_calibrate_options o = {.moments = true, .min_tokens = 60};
        ok(!open_world(&w, names[i], 10, &err), "%s (%s)", names[i], err.message);
        same_for_groups(&w, o, names[i], i == 0 ? 4 : 2);
        if (i == 0) {
            goes_on(&w, o, 2);
            each_reads_its_own(&w);
            refusals(&w);
        }
        close_world(&w);
    }
    many_rows();
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command) ? 99 : done();
}
