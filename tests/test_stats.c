/* test_stats.c - statistics are those of the set of tokens: whatever the ranks, threads, batches,
 * order, restarts and merges, the file's digest is the same.
 *
 * `test_stats mpi FILE` is a rank of mpi.test, which compares digests; `test_stats make FOLDER`
 * writes the files that stats.test looks at. */
#include "config.h"
#include "tests/stats_feed.h"
#include "tests/tap.h"

enum { SEQUENCES = 24 };

typedef struct world {
    const tmb_model *model;
    const char *path;
    feed_plan plan;
    int crash; /* rank that fails behind the first layer; -1 none */
} world;

/* A rank: its share of the sequences through each layer, added up; rank 0 writes. */
static tmb_status rank_job(tmb_comm *comm, void *ctx, tmb_err *err)
{
    const world *w = ctx;
    feed_plan p = w->plan;
    feed_identity f;
    tmb_stats_writer *out = NULL;
    uint32_t size = (uint32_t)tmb_comm_size(comm), me = (uint32_t)tmb_comm_rank(comm);
    p.first += me;
    p.step = size;
    if (me % 2) p.backwards = !p.backwards;
    feed_identify(&f, w->plan.first, w->plan.end, p.moments);
    tmb_status status = me ? TMB_OK : tmb_stats_create(&out, w->path, &f.id, err);
    for (int32_t l = 0; l < FEED_LAYERS && !status; l++) {
        tmb_stats_layer *layer = NULL;
        status = feed_layer(&p, l, &layer, err);
        if (!status) status = tmb_stats_layer_reduce(layer, comm, err);
        if (!status && !me) status = tmb_stats_put(out, layer, err);
        tmb_stats_layer_free(layer);
        if (!status && w->crash == (int)me)
            status = tmb_fail(err, TMB_EIO, "scratch: no space left");
    }
    if (!status && !me) status = tmb_stats_publish(out, me ? "" : "{\"run\": 1}", err);
    tmb_stats_writer_close(out);
    if (!status) status = tmb_comm_barrier(comm, err);
    return status;
}

static void digest_of(const char *path, char out[TMB_SHA256_HEX])
{
    tmb_err err = {0};
    tmb_stats_file *f = NULL;
    strcpy(out, "?");
    if (tmb_stats_open(&f, path, &err))
        printf("# %s\n", err.message);
    else
        strcpy(out, f->digest);
    tmb_stats_close(f);
}

static bool run(world *w, int ranks, const char *name, char digest[TMB_SHA256_HEX])
{
    static char path[1100];
    tmb_err err = {0};
    snprintf(path, sizeof path, "%s/%s.h5", w->plan.dir, name);
    w->path = path;
    tmb_status status = tmb_comm_threads_run(ranks, NULL, rank_job, w, &err);
    if (status) printf("# %s: %s\n", name, err.message);
    digest_of(path, digest);
    return !status;
}

static void same_for_all(world *w, char whole[TMB_SHA256_HEX])
{
    static const struct {
        int ranks, threads;
        uint32_t batch;
        bool backwards;
        const char *name;
    } runs[] = {
        {1, 1, 1, false, "batch-1"},  {1, 1, 7, true, "backwards"}, {1, 2, 64, false, "threads"},
        {2, 1, 16, false, "ranks-2"}, {4, 1, 5, true, "ranks-4"},   {13, 1, 16, false, "ranks-13"},
    };
    char digest[TMB_SHA256_HEX];
    ok(run(w, 1, "whole", whole), "one rank writes statistics");
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        world v = *w;
        v.plan.batch = runs[i].batch;
        v.plan.threads = runs[i].threads;
        v.plan.backwards = runs[i].backwards;
        ok(run(&v, runs[i].ranks, runs[i].name, digest) && !strcmp(digest, whole),
           "%s: the same content", runs[i].name);
    }
    world v = *w;
    v.plan.end--;
    ok(run(&v, 1, "fewer", digest) && strcmp(digest, whole) != 0, "other data: other content");
    v = *w;
    v.crash = 1;
    char temporary[1100];
    snprintf(temporary, sizeof temporary, "%s/.tmp-crash.h5", w->plan.dir);
    ok(!run(&v, 3, "crash", digest) && !strcmp(digest, "?") && access(temporary, F_OK),
       "a rank that fails leaves no file behind");
}

/* ------------------------------------------------------------------------------ merges, resumes */

static tmb_status merge(const char *dir, const char *out, const char *a, const char *b,
                        tmb_err *err)
{
    char path[3][1100];
    tmb_stats_file *f[2] = {NULL, NULL};
    snprintf(path[0], 1100, "%s/%s.h5", dir, a);
    snprintf(path[1], 1100, "%s/%s.h5", dir, b);
    snprintf(path[2], 1100, "%s/%s.h5", dir, out);
    tmb_status status = tmb_stats_open(&f[0], path[0], err);
    if (!status) status = tmb_stats_open(&f[1], path[1], err);
    if (!status) status = tmb_stats_merge(path[2], f, 2, "{}", err);
    tmb_stats_close(f[0]);
    tmb_stats_close(f[1]);
    return status;
}

static void merges(world *w, const char *whole)
{
    char digest[TMB_SHA256_HEX], path[1100];
    tmb_err err = {0};
    world a = *w, b = *w;
    a.plan.end = 9;
    b.plan.first = 9;
    ok(run(&a, 1, "a", digest) && run(&b, 2, "b", digest), "two runs over halves of the data");
    tmb_status status = merge(w->plan.dir, "ab", "a", "b", &err);
    snprintf(path, sizeof path, "%s/ab.h5", w->plan.dir);
    digest_of(path, digest);
    ok(!status && !strcmp(digest, whole), "merged, they are one run over both%s%s",
       status ? ": " : "", err.message);
    status = merge(w->plan.dir, "ba", "b", "a", &err);
    snprintf(path, sizeof path, "%s/ba.h5", w->plan.dir);
    digest_of(path, digest);
    ok(!status && !strcmp(digest, whole), "in the other order too");
    ok(merge(w->plan.dir, "no", "a", "whole", &err) == TMB_EDATA &&
           strstr(err.message, "share 9 of 24 sequences"),
       "an overlap is refused: %s", err.message);
    b = *w;
    b.plan.moments = !b.plan.moments;
    b.plan.first = 9;
    ok(run(&b, 1, "other", digest) && merge(w->plan.dir, "no", "a", "other", &err) == TMB_EDATA &&
           strstr(err.message, "second moments"),
       "another hessian is refused: %s", err.message);
}

/* A run that publishes each layer for itself and is killed between them. */
static void resumes(world *w, const char *whole)
{
    tmb_err err = {0};
    tmb_stats_file *parts[FEED_LAYERS] = {NULL};
    char path[1100], digest[TMB_SHA256_HEX];
    feed_identity f;
    tmb_status status = TMB_OK;
    feed_identify(&f, w->plan.first, w->plan.end, w->plan.moments);
    for (int32_t l = FEED_LAYERS - 1; l >= 0 && !status; l--) {
        tmb_stats_layer *layer = NULL;
        tmb_stats_writer *out = NULL;
        snprintf(path, sizeof path, "%s/part-%d.h5", w->plan.dir, l);
        status = feed_layer(&w->plan, l, &layer, &err);
        if (!status) status = tmb_stats_create(&out, path, &f.id, &err);
        if (!status) status = tmb_stats_put(out, layer, &err);
        if (!status) status = tmb_stats_publish(out, "{\"layer\": true}", &err);
        tmb_stats_writer_close(out);
        tmb_stats_layer_free(layer);
        if (!status) status = tmb_stats_open(&parts[l], path, &err);
    }
    snprintf(path, sizeof path, "%s/assembled.h5", w->plan.dir);
    if (!status) status = tmb_stats_assemble(path, parts, FEED_LAYERS, "{}", &err);
    digest_of(path, digest);
    ok(!status && !strcmp(digest, whole), "layers of several starts, put together%s%s",
       status ? ": " : "", err.message);
    tmb_stats_file *twice[2] = {parts[0], parts[0]};
    ok(tmb_stats_assemble(path, twice, 2, "{}", &err) == TMB_EDATA &&
           strstr(err.message, "layer 0 is in another file too"),
       "a layer that comes twice is refused");
    for (int i = 0; i < FEED_LAYERS; i++)
        tmb_stats_close(parts[i]);
}

/* ------------------------------------------------------------------------------ the figures */

/* Sums by hand, in double: as close as 14 bits of each block's largest value allow. */
static bool near_by_hand(const world *w, const tmb_stats_layer *l, uint32_t s, uint32_t entry)
{
    const tmb_site *site = &l->sites[s];
    double square[4096] = {0}, slack[4096] = {0}, cross = 0, gates = 0, amax = 0, got;
    uint64_t tokens = 0, values = 0;
    float row[4096], logits[FEED_EXPERTS], weight[FEED_TOP_K];
    uint32_t chosen[FEED_TOP_K];
    for (uint32_t q = w->plan.first; q < w->plan.end; q++)
        for (uint32_t t = 0; t < feed_tokens(q); t++) {
            bool here = !site->expert;
            feed_route(q, t, l->index, logits, chosen, weight);
            for (int k = 0; k < FEED_TOP_K && site->expert; k++)
                if (chosen[k] == entry) {
                    here = true;
                    gates += weight[k];
                }
            if (!here) continue;
            tokens++;
            feed_row(row, site->in, q, t,
                     (uint32_t)l->index * 1000 + s * 20 + (site->expert ? entry : 0));
            for (uint64_t i = 0; i < site->in; i++) {
                double most = 0;
                for (uint64_t j = i & ~15ull; j < (i | 15) + 1 && j < site->in; j++)
                    most = fabs(row[j]) > most ? fabs(row[j]) : most;
                slack[i] += most * 0x1p-14 * (fabs(row[i]) + most * 0x1p-15);
                square[i] += (double)row[i] * row[i];
                amax = fabs(row[i]) > amax ? fabs(row[i]) : amax;
            }
            cross += (double)row[18] * row[30];
        }
    const tmb_accum *a = &site->native[entry];
    tmb_accum_shape shape = tmb_site_shape(l, site);
    float largest;
    memcpy(&largest, &a->amax, 4);
    bool fine = a->tokens == tokens && (double)largest == amax &&
                fabs(ldexp((double)a->gate, -32) - gates) < 1e-6 * (gates + 1);
    for (int i = 0; a->values && i < TMB_HIST_BINS; i++)
        values += a->values[i];
    fine = fine && values == tokens * site->in;
    for (uint64_t i = 0; i < site->in && fine; i++) {
        uint64_t at =
            i / 16 * tmb_accum_per(&shape) +
            (uint64_t)(l->moments ? tmb_stat_sum((int)(i % 16), (int)(i % 16)) : (int)(i % 16));
        got = tmb_accum_value(a, at);
        if (!(fabs(got - square[i]) <= slack[i] + 1e-12 * square[i])) {
            printf("# %s entry %u channel %d: %g, not %g\n", site->name, entry, (int)i, got,
                   square[i]);
            fine = false;
        }
    }
    if (l->moments && fine) {
        got = tmb_accum_value(a, tmb_accum_per(&shape) + (uint64_t)tmb_stat_sum(2, 14));
        fine = fabs(got - cross) <= sqrt(slack[18] * square[30]) + sqrt(slack[30] * square[18]);
    }
    return fine;
}

static void figures(world *w)
{
    tmb_err err = {0};
    tmb_stats_file *f = NULL;
    tmb_stats_layer *l = NULL;
    char path[1100];
    snprintf(path, sizeof path, "%s/whole.h5", w->plan.dir);
    tmb_status status = tmb_stats_open(&f, path, &err);
    ok(!status && f->n_layers == FEED_LAYERS && f->identity.n_sources == 2 &&
           !strcmp(f->identity.sources[0].name, "code") && f->identity.n_sequences == SEQUENCES,
       "the file says what it is of %s", err.message);
    for (int moments = 0; moments < 2 && !status; moments++) {
        status = tmb_stats_read(f, 1, moments, &l, &err);
        if (status) break;
        bool fine = true;
        for (uint32_t s = 0; s < l->n_sites; s++)
            for (uint32_t e = 0; e < l->sites[s].n; e++)
                fine = near_by_hand(w, l, s, e) && fine;
        ok(fine, "layer 1: %s agree with sums by hand", moments ? "second moments" : "squares");
        if (!moments) tmb_stats_layer_free(l);
    }
    ok(!status, "layers are read %s", err.message);
    tmb_site_ref ref;
    ok(tmb_stats_find_name(l, "model.layers.1.mlp.experts.7.up_proj", &ref) && ref.entry == 7 &&
           !ref.leader && !strcmp(l->sites[ref.site].name, "mlp.experts.gate_proj+up_proj"),
       "up_proj of expert 7 is measured with gate_proj");
    ok(tmb_stats_find_name(l, "model.layers.1.self_attn.k_proj", &ref) &&
           !strcmp(l->sites[ref.site].name, "self_attn.k_proj+q_proj+v_proj") &&
           !tmb_stats_find_name(l, "model.layers.2.self_attn.k_proj", &ref) &&
           !tmb_stats_find_name(l, "model.layers.1.mlp.experts.16.up_proj", &ref),
       "k_proj is measured with q_proj; another layer's and expert 16 are not there");
    uint64_t load = 0, pair = 0;
    for (int e = 0; e < FEED_EXPERTS; e++)
        load += l->router->load[e];
    for (int i = 0; i < FEED_EXPERTS * (FEED_EXPERTS + 1) / 2; i++)
        pair += l->router->pairs[i];
    ok(load == l->router->tokens * FEED_TOP_K && pair == l->router->tokens * 10,
       "%d experts and 10 pairs a token", FEED_TOP_K);
    ok(l->router->ties > 0 && l->router->ties < l->router->tokens, "ties are counted");
    tmb_stats_layer_free(l);
    tmb_stats_close(f);
}

/* ------------------------------------------------------------------------------ refusals */

static void refusals(world *w)
{
    tmb_err err = {0};
    tmb_stats_layer *l = NULL;
    tmb_stats_writer *out = NULL;
    feed_identity f;
    char path[1100];
    float x[128] = {0}, gate = 2000;
    tmb_stats_options o = {.moments = true, .sources = FEED_SOURCES};
    if (tmb_stats_layer_new(&l, w->model, 0, &o, &err)) abort();
    tmb_site_ref ref;
    tmb_stats_find_name(l, "model.layers.0.self_attn.k_proj", &ref);
    x[77] = NAN;
    ok(!tmb_stats_feed(l, ref.site, 0, false, x, 1, 128, NULL, &err) &&
           l->sites[ref.site].native[0].nonfinite == 1,
       "NaN is counted and left out");
    feed_identify(&f, 0, 3, true);
    snprintf(path, sizeof path, "%s/nan.h5", w->plan.dir);
    tmb_status status = tmb_stats_create(&out, path, &f.id, &err);
    if (!status) status = tmb_stats_put(out, l, &err);
    ok(status == TMB_EDATA && strstr(err.message, "k_proj: 1 inputs are NaN"), "and refused: %s",
       err.message);
    tmb_stats_writer_close(out);
    ok(access(path, F_OK) != 0, "nothing is left of it");
    ok(tmb_stats_feed(l, ref.site, 0, false, x, 1, 128, &gate, &err) == TMB_EDATA &&
           strstr(err.message, "gate weight 2000"),
       "%s", err.message);
    float logits[FEED_EXPERTS] = {0};
    uint32_t chosen[FEED_TOP_K] = {1, 2, 2, 5};
    ok(tmb_stats_feed_router(l, logits, NULL, chosen, NULL, 1, &err) == TMB_EINTERNAL &&
           strstr(err.message, "expert 2 of 16 twice"),
       "%s", err.message);
    tmb_stats_layer_free(l);
    f.sources[0].name = "code";
    ok(tmb_stats_create(&out, path, &f.id, &err) == TMB_EUSAGE &&
           strstr(err.message, "two sources of data are called 'code'"),
       "%s", err.message);
}

static int mpi_main(world *w, const char *path)
{
    tmb_err err = {0};
    tmb_comm *comm = NULL;
    w->path = path;
    tmb_status status = tmb_comm_open(&comm, "mpi", NULL, &err);
    if (status) return 77;
    status = rank_job(comm, w, &err);
    if (status) {
        tmb_comm_abort(comm, &err);
        fprintf(stderr, "tombac: %s\n", err.message);
    }
    char digest[TMB_SHA256_HEX];
    if (!status && tmb_comm_rank(comm) == 0) {
        digest_of(path, digest);
        printf("%s\n", digest);
    }
    tmb_comm_close(comm);
    return (int)status;
}

static int make_files(world *w, const char *dir)
{
    char digest[TMB_SHA256_HEX];
    world v = *w;
    v.plan.dir = dir;
    bool fine = run(&v, 1, "whole", digest) && run(&v, 2, "again", digest);
    v.plan.end = 9;
    fine = fine && run(&v, 1, "a", digest);
    v.plan.first = 9;
    v.plan.end = SEQUENCES;
    fine = fine && run(&v, 1, "b", digest);
    v.plan.first = 100;
    v.plan.end = 130;
    fine = fine && run(&v, 1, "other", digest);
    v.plan.moments = false;
    return fine && run(&v, 1, "squares", digest) ? 0 : 1;
}

int main(int argc, char **argv)
{
    char dir[] = "/tmp/test_stats-XXXXXX", whole[TMB_SHA256_HEX], command[128];
    tmb_checkpoint *ckpt = NULL;
    tmb_model *model = NULL;
    tmb_err err = {0};
    if (tmb_checkpoint_open(&ckpt, data_path("tinymoe/a"), &err) ||
        tmb_model_open(&model, ckpt, &err) || !mkdtemp(dir)) {
        printf("Bail out! %s\n", err.message);
        return 1;
    }
    world w = {.model = model,
               .crash = -1,
               .plan = {.model = model,
                        .end = SEQUENCES,
                        .step = 1,
                        .batch = 16,
                        .threads = 1,
                        .moments = true,
                        .shadow = 3,
                        .dir = dir}};
    int rc = 0;
    if (argc == 3 && !strcmp(argv[1], "mpi"))
        rc = mpi_main(&w, argv[2]);
    else if (argc == 3 && !strcmp(argv[1], "make"))
        rc = make_files(&w, argv[2]);
    else if (argc == 2) { /* what mpi.test compares with */
        if (run(&w, 4, "threads", whole)) puts(whole);
    } else {
        same_for_all(&w, whole);
        figures(&w);
        merges(&w, whole);
        resumes(&w, whole);
        refusals(&w);
        rc = done();
    }
    tmb_model_close(model);
    tmb_checkpoint_close(ckpt);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command) ? 1 : rc;
}
