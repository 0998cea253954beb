/* calibrate.c - opening a calibration: what it needs, what it runs, its ranks. */
#include "config.h"
#include "moe/calib/rank.h"

#include "kernels/base/clock.h"
#include "kernels/base/team.h"
#include "moe/model/fingerprint.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PROGRAM_BYTES (UINT64_C(32) << 20)
enum { BATCH_TOKENS = 16384, BATCH_LEAST = 1024, PLANNED_CLASSES = 3 };

static int threads_of(const tmb_calibrate_options *o)
{
    int all = o->threads > 0 ? o->threads : tmb_team_size(), ranks = o->ranks > 0 ? o->ranks : 1;
    return all / ranks > 0 ? all / ranks : 1;
}

/* --- memory --------------------------------------------------------------------------------- */

/* What is there beside the ranks. */
static uint64_t fixed_bytes(const tmb_model *model, const tmb_data *data)
{
    const tmb_checkpoint *ckpt = model->ckpt;
    uint64_t bytes = PROGRAM_BYTES + model->arena.bytes;
    for (size_t i = 0; i < ckpt->n_shards; i++)
        bytes += ckpt->shards[i].header.header_bytes;
    bytes += ckpt->n_tensors * (2 * sizeof(tmb_tensor) + 4 * sizeof(uint32_t) + 3 * 8);
    bytes += data->tokens * sizeof(int32_t);
    bytes += data->n_sequences * (sizeof(tmb_sequence) + TMB_SEQUENCE_BYTES + 8);
    return bytes;
}

/* Statistics of the largest layer: its own and those that starved experts add. */
static uint64_t stats_bytes(const tmb_decoder *d, const tmb_model *model,
                            const tmb_calibrate_options *o, size_t sources)
{
    tmb_stats_options options = {.moments = o->moments, .sources = (uint32_t)sources};
    uint64_t most = 0;
    for (int l = 0; l < tmb_decoder_layers(d); l++) {
        uint64_t bytes = tmb_stats_layer_bytes(model, l, &options, PLANNED_CLASSES);
        most = bytes > most ? bytes : most;
    }
    return o->min_tokens && o->starved == TMB_STARVED_SHADOW ? 2 * most : most;
}

/* Of one rank, with batches of so many tokens, without statistics. */
static uint64_t rank_bytes(tmb_decoder *d, size_t tokens, size_t longest)
{
    size_t room = tokens > longest ? tokens : longest;
    uint64_t rows = room * (tmb_decoder_reach(d, longest) * sizeof(float) + 16);
    return tmb_decoder_bytes(d, room, longest) + rows;
}

/* The largest limit of a loaded layer that keeps within `room`; 0 when none does. */
static uint64_t fit_layer(tmb_decoder *d, size_t tokens, size_t longest, uint64_t room)
{
    uint64_t low = 1, high = room;
    tmb_decoder_limit(d, low);
    if (rank_bytes(d, tokens, longest) > room) return 0;
    while (low < high) {
        uint64_t middle = low + (high - low + 1) / 2;
        tmb_decoder_limit(d, middle);
        if (rank_bytes(d, tokens, longest) <= room)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

/* Batches that hold the whole layer first, then as large ones as there is room for: experts that do
 * not fit are read once a batch. */
static tmb_status fit(tmb_calibrate_needs *n, tmb_decoder *d, size_t longest, uint64_t fixed,
                      uint64_t stats, uint64_t ranks, uint64_t limit, tmb_err *err)
{
    uint64_t room = limit > fixed ? (limit - fixed) / ranks : 0;
    room = room > stats ? room - stats : 0;
    for (size_t tokens = BATCH_TOKENS; !n->batch_tokens && tokens >= BATCH_LEAST; tokens /= 2) {
        tmb_decoder_limit(d, 0);
        if (rank_bytes(d, tokens, longest) <= room) n->batch_tokens = tokens;
    }
    for (size_t tokens = BATCH_TOKENS; !n->batch_tokens && tokens >= BATCH_LEAST; tokens /= 2) {
        n->layer_bytes = fit_layer(d, tokens, longest, room);
        if (n->layer_bytes) n->batch_tokens = tokens;
    }
    tmb_decoder_limit(d, n->batch_tokens ? n->layer_bytes : 1);
    size_t batch = n->batch_tokens ? n->batch_tokens : BATCH_LEAST;
    n->rank_bytes = stats + rank_bytes(d, batch, longest);
    n->peak_bytes = fixed + ranks * n->rank_bytes;
    if (n->batch_tokens) return TMB_OK;
    return tmb_fail(err, TMB_EUSAGE,
                    "this calibration needs %llu bytes of memory at least, more than the %llu "
                    "allowed; --max-ram %lluM would do",
                    (unsigned long long)n->peak_bytes, (unsigned long long)limit,
                    (unsigned long long)(n->peak_bytes >> 20) + 1);
}

/* Whether groups of `ways` of the ranks can share the experts. */
static tmb_status check_ways(const tmb_decoder *d, int ways, int ranks, tmb_err *err)
{
    size_t experts = tmb_decoder_config(d)->n_experts;
    if (ways <= 1) return TMB_OK;
    if ((size_t)ways > experts)
        return tmb_fail(err, TMB_EUSAGE,
                        "experts are to be shared by %d ranks, and a layer has %zu; use "
                        "--expert-parallel %zu or less",
                        ways, experts, experts ? experts : 1);
    if (ranks % ways == 0) return TMB_OK;
    return tmb_fail(err, TMB_EUSAGE,
                    "experts are to be shared by groups of %d ranks, which %d rank%s cannot form; "
                    "--expert-parallel has to divide the number of ranks",
                    ways, ranks, ranks == 1 ? "" : "s");
}

/* Ranks of this process; of a process under a launcher the job has more. */
static int local_ranks(const tmb_calibrate_options *o)
{
    return o->ranks > 0 ? o->ranks : 1;
}

tmb_status tmb_calibrate_plan(tmb_calibrate_needs *out, const tmb_model *model,
                              const tmb_data *data, const tmb_calibrate_options *o, tmb_err *err)
{
    tmb_decoder_options options = {.threads = threads_of(o), .ways = o->ways};
    bool launched = o->comm && strcmp(o->comm, "threads") != 0 && tmb_comm_launched();
    tmb_decoder *d = NULL;
    *out = (tmb_calibrate_needs){.sequences = data->n_sequences};
    if (o->samples && o->samples < out->sequences) out->sequences = o->samples;
    for (size_t i = 0; i < out->sequences; i++)
        out->tokens += data->sequences[i].n;
    TRY(tmb_decoder_open(&d, model, &options, err));
    out->disk_bytes = tmb_hidden_bytes(out->tokens, tmb_decoder_reach(d, data->longest));
    tmb_status status = check_ways(d, o->ways, launched ? o->ways : local_ranks(o), err);
    if (!status)
        status = fit(out, d, data->longest, fixed_bytes(model, data),
                     stats_bytes(d, model, o, data->n_sources), (uint64_t)local_ranks(o),
                     o->max_ram ? o->max_ram : UINT64_MAX, err);
    tmb_decoder_close(d);
    return status;
}

/* --- what is run ---------------------------------------------------------------------------- */

static int by_digest(const void *a, const void *b)
{
    return memcmp(a, b, TMB_SEQUENCE_BYTES);
}

/* Further rounds leave out what an earlier one has seen: statistics of disjoint data can be added,
 * and a text that comes twice tells nothing new. */
static tmb_status choose(tmb_calib_job *job, tmb_err *err)
{
    const tmb_data *data = job->data;
    size_t n = data->n_sequences, seen_n = 0;
    job->per_round =
        job->options->samples && job->options->samples < n ? (size_t)job->options->samples : n;
    job->use = calloc(n, sizeof *job->use);
    job->digests = calloc(n, TMB_SEQUENCE_BYTES);
    uint8_t *seen = calloc(n, TMB_SEQUENCE_BYTES);
    tmb_status status =
        job->use && job->digests && seen ? TMB_OK : tmb_fail_memory(err, n * 40, "the sequences");
    for (size_t i = 0; !status && i < n; i++) {
        uint8_t *digest = job->digests + job->n_use * TMB_SEQUENCE_BYTES;
        const tmb_sequence *s = &data->sequences[i];
        status = tmb_stats_sequence(s->ids, s->n, digest, err);
        if (job->n_use % job->per_round == 0 && job->n_use > seen_n) {
            seen_n = job->n_use;
            memcpy(seen, job->digests, seen_n * TMB_SEQUENCE_BYTES);
            qsort(seen, seen_n, TMB_SEQUENCE_BYTES, by_digest);
        }
        if (status || (seen_n && bsearch(digest, seen, seen_n, TMB_SEQUENCE_BYTES, by_digest)))
            continue;
        job->use[job->n_use++] = (uint32_t)i;
    }
    free(seen);
    return status;
}

tmb_status tmb_calibrate_out_free(const char *out, tmb_err *err)
{
    struct stat st;
    char *state = NULL;
    if (lstat(out, &st)) return TMB_OK;
    if (asprintf(&state, "%s.partial/state.json", out) < 0)
        return tmb_fail_memory(err, 0, "a path");
    bool unfinished = lstat(state, &st) == 0; /* it was published, and its folder not yet removed */
    free(state);
    if (unfinished) return TMB_OK;
    return tmb_fail(err, TMB_ECREATE, "%s: is there already; remove it or choose another name",
                    out);
}

static tmb_status open_job(tmb_calib_job *job, tmb_err *err)
{
    static const char *const starved[] = {"shadow", "peers", "fail"};
    const tmb_calibrate_options *o = job->options;
    job->began = tmb_seconds();
    TRY(tmb_calibrate_out_free(o->out, err));
    if (asprintf(&job->folder, "%s.partial", o->out) < 0) {
        job->folder = NULL;
        return tmb_fail_memory(err, 0, "a path");
    }
    TRY(tmb_calibrate_plan(&job->needs, job->model, job->data, o, err));
    TRY(choose(job, err));
    TRY(tmb_fingerprint(job->fingerprint, job->model->ckpt, err));
    snprintf(job->settings, sizeof job->settings,
             "samples %zu of %zu, min_tokens %llu, starved %s, hessian %s, lm_head %s",
             job->per_round, job->n_use, (unsigned long long)o->min_tokens, starved[o->starved],
             o->moments ? "block16" : "none", o->head ? "too" : "not");
    job->identity = (tmb_calib_identity){.version = PACKAGE_VERSION,
                                         .checkpoint = job->fingerprint,
                                         .data = job->data->sha256,
                                         .settings = job->settings};
    return TMB_OK;
}

static void close_job(tmb_calib_job *job)
{
    free(job->folder);
    free(job->use);
    free(job->digests);
}

/* --- ranks ---------------------------------------------------------------------------------- */

/* Ranks that share experts take as many and as large steps, although their machines may differ: the
 * least that any of them has room for. */
static tmb_status agree(tmb_calib_rank *r, uint64_t *layer_bytes, tmb_err *err)
{
    size_t n = (size_t)tmb_comm_size(r->comm);
    uint64_t mine[2] = {r->batch_tokens, *layer_bytes ? *layer_bytes : UINT64_MAX};
    uint64_t *all = malloc(n * sizeof mine);
    if (!all) return tmb_fail_memory(err, n * sizeof mine, "the batches of ranks");
    tmb_status status = tmb_comm_allgather(r->comm, all, mine, sizeof mine, err);
    for (size_t i = 0; !status && i < n; i++) {
        if (all[2 * i] < mine[0]) mine[0] = all[2 * i];
        if (all[2 * i + 1] < mine[1]) mine[1] = all[2 * i + 1];
    }
    free(all);
    r->batch_tokens = (size_t)mine[0];
    *layer_bytes = mine[1] == UINT64_MAX ? 0 : mine[1];
    return status;
}

static tmb_status open_decoder(tmb_calib_rank *r, tmb_err *err)
{
    const tmb_calib_job *job = r->job;
    tmb_decoder_options options = {.threads = r->threads,
                                   .ways = job->options->ways,
                                   .comm = r->comm,
                                   .layer_bytes = job->needs.layer_bytes};
    r->batch_tokens = job->needs.batch_tokens;
    if (options.ways > 1) TRY(agree(r, &options.layer_bytes, err));
    TRY(tmb_decoder_open(&r->decoder, job->model, &options, err));
    return check_ways(r->decoder, options.ways, tmb_comm_size(r->comm), err);
}

static tmb_status open_rank(tmb_calib_rank *r, tmb_err *err)
{
    const tmb_calib_job *job = r->job;
    TRY(open_decoder(r, err));
    const tmb_config *c = tmb_decoder_config(r->decoder);
    size_t layers = (size_t)tmb_decoder_layers(r->decoder);
    r->room_tokens = r->batch_tokens > job->data->longest ? r->batch_tokens : job->data->longest;
    if (r->room_tokens > job->data->tokens) r->room_tokens = job->data->tokens;
    r->experts = c->n_experts;
    r->native = calloc(layers * r->experts + 1, sizeof *r->native);
    r->shadow = calloc(layers * r->experts + 1, sizeof *r->shadow);
    r->width = tmb_decoder_reach(r->decoder, job->data->longest);
    r->x = calloc(r->room_tokens * r->width, sizeof *r->x);
    r->source = calloc(r->room_tokens, sizeof *r->source);
    r->ids = calloc(r->room_tokens, sizeof *r->ids);
    r->begin = calloc(r->room_tokens + 1, sizeof *r->begin);
    return r->native && r->shadow && r->x && r->source && r->ids && r->begin
               ? TMB_OK
               : tmb_fail_memory(err, r->room_tokens * r->width * sizeof *r->x, "a batch");
}

static void close_rank(tmb_calib_rank *r)
{
    tmb_hidden_close(&r->hidden);
    tmb_calib_folder_close(&r->folder);
    tmb_decoder_close(r->decoder);
    free(r->native);
    free(r->shadow);
    free(r->x);
    free(r->source);
    free(r->ids);
    free(r->begin);
}

/* Rank 0 takes the folder; the others follow it. */
static tmb_status enter(tmb_calib_rank *r, tmb_err *err)
{
    const tmb_calib_job *job = r->job;
    if (r->leads)
        TRY(tmb_calib_folder_open(&r->folder, job->folder, &job->identity, job->options->restart,
                                  &r->state, err));
    TRY(tmb_comm_broadcast(r->comm, &r->state, sizeof r->state, 0, err));
    return r->leads ? TMB_OK : tmb_calib_folder_join(&r->folder, job->folder, err);
}

static tmb_status work(tmb_comm *comm, void *ctx, tmb_err *err)
{
    const tmb_calib_job *job = ctx;
    tmb_calib_rank r = {.job = job, .comm = comm, .threads = threads_of(job->options)};
    r.leads = tmb_comm_rank(comm) == 0;
    tmb_status status = open_rank(&r, err);
    if (!status) status = enter(&r, err);
    if (!status) status = tmb_calib_rounds(&r, err);
    if (status) tmb_comm_abort(comm, err);
    close_rank(&r);
    return status;
}

/* A stop is no failure: say how to go on. */
static tmb_status tell_stop(const tmb_calib_job *job, tmb_status status, tmb_err *err)
{
    const volatile int *stop = job->options->watch.stop;
    if (!status || !stop || !*stop) return status;
    if (job->options->command)
        return tmb_fail(err, TMB_ESYSTEM, "%s: stopped; to continue at the layer it was in, run %s",
                        job->options->out, job->options->command);
    return tmb_fail(err, TMB_ESYSTEM,
                    "%s: stopped; the same command continues at the layer it was in",
                    job->options->out);
}

/* Ranks with a GPU each, which meet over `host`: the GPU of a rank is its number on its machine. */
static tmb_status work_on_gpus(tmb_comm *host, void *ctx, tmb_err *err)
{
    tmb_calib_job *job = ctx;
    tmb_comm_options options = {.timeout_s = job->options->timeout_s, .over = host};
    tmb_comm *comm = NULL;
    int me = tmb_comm_rank(host);
    for (int r = 0; r < me; r++)
        options.device += strcmp(tmb_comm_host(host, r), tmb_comm_host(host, me)) == 0;
    tmb_status status = tmb_comm_open(&comm, "nccl", &options, err);
    if (!status) status = work(comm, job, err);
    tmb_comm_close(comm);
    return status;
}

/* Ranks are threads of this process, or this process is one rank of a launcher's.  NCCL's id
 * travels over either. */
static tmb_status run_ranks(tmb_calib_job *job, const char *spec, tmb_err *err)
{
    bool gpus = strcmp(spec, "nccl") == 0;
    tmb_status (*each)(tmb_comm *, void *, tmb_err *) = gpus ? work_on_gpus : work;
    tmb_comm_options options = {.timeout_s = job->options->timeout_s};
    if (strcmp(spec, "threads") == 0 || (gpus && !tmb_comm_launched()))
        return tmb_comm_threads_run(local_ranks(job->options), &options, each, job, err);
    tmb_comm *comm = NULL;
    TRY(tmb_comm_open(&comm, "mpi", &options, err));
    tmb_status status = each(comm, job, err);
    tmb_comm_close(comm);
    return status;
}

tmb_status tmb_calibrate(const tmb_model *model, const tmb_data *data,
                         const tmb_calibrate_options *options, tmb_calibrate_result *result,
                         tmb_err *err)
{
    tmb_calib_job job = {.model = model, .data = data, .options = options, .result = result};
    const char *spec = options->comm ? options->comm : "threads";
    tmb_status status = open_job(&job, err);
    if (!status) status = run_ranks(&job, spec, err);
    status = tell_stop(&job, status, err);
    close_job(&job);
    return status;
}

void tmb_calibrate_result_free(tmb_calibrate_result *result)
{
    free(result->coverage);
    *result = (tmb_calibrate_result){0};
}
