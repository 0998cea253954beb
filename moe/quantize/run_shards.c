/* run_shards.c - the threads: take a piece, work on it, publish the shard with its last piece.
 *
 * Reading, work and writing overlap without a schedule: each thread does all three for its piece,
 * the kernel reads ahead what the pieces after it want, and whoever finishes a shard hashes and
 * publishes it while the others are at the next one. */
#include "config.h"
#include "moe/quantize/run_internal.h"

#include "kernels/base/team.h"
#include "moe/io/calls.h"
#include "moe/quantize/summary.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- shards of an earlier run ------------------------------------------------------------------
 */

static bool still_there(const tmb_run *run, uint32_t f)
{
    const tmb_out_file *file = &run->plan->files[f];
    char sha256[TMB_SHA256_HEX];
    struct stat st;
    int fd = tmb_openat(run->output.dirfd, file->name,
                        O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0);
    if (fd < 0) return false;
    bool good = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
                (uint64_t)st.st_size == file->header_bytes + file->data_bytes &&
                tmb_sha256_file(fd, file->name, sha256, NULL) == TMB_OK &&
                strcmp(sha256, run->output.journal.sha256[f]) == 0;
    close(fd);
    return good;
}

static bool told_to_stop(const tmb_run *run)
{
    return run->options->watch.stop && *run->options->watch.stop;
}

static void check_shard(void *ctx, size_t f)
{
    tmb_run *run = ctx;
    bool *have = run->output.journal.have;
    if (have[f] && !told_to_stop(run)) have[f] = still_there(run, (uint32_t)f);
}

tmb_status tmb_run_reuse(tmb_run *run, tmb_err *err)
{
    tmb_journal *j = &run->output.journal;
    uint32_t reused = 0;
    tmb_team_each(run->plan->options.threads, run->plan->n_files, 1, check_shard, run);
    for (uint32_t f = 0; f < run->plan->n_files; f++)
        reused += j->have[f];
    run->reused = reused;
    run->stopped = told_to_stop(run);
    if (run->stopped) return tmb_fail(err, TMB_ESYSTEM, "stopped");
    for (uint32_t f = 0; f < run->plan->n_files; f++)
        if (j->have[f]) memcpy(run->sha256[f], j->sha256[f], TMB_SHA256_HEX);
    return TMB_OK;
}

/* ---- threads -----------------------------------------------------------------------------------
 */

static void fail(tmb_run *run, const tmb_err *err)
{
    pthread_mutex_lock(&run->files);
    if (!run->failed) run->err = *err;
    __atomic_store_n(&run->failed, 1, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&run->files);
}

static tmb_status beat(void *ctx, uint64_t bytes, const char *name, tmb_err *err)
{
    tmb_run *run = ctx;
    const tmb_watch *watch = &run->options->watch;
    __atomic_add_fetch(&run->done_bytes, bytes, __ATOMIC_RELAXED);
    if (told_to_stop(run)) __atomic_store_n(&run->stopped, true, __ATOMIC_RELAXED);
    if (__atomic_load_n(&run->stopped, __ATOMIC_RELAXED) ||
        __atomic_load_n(&run->failed, __ATOMIC_ACQUIRE))
        return tmb_fail(err, TMB_ESYSTEM, "stopped");
    if (watch->progress && pthread_mutex_trylock(&run->watch) == 0) {
        tmb_progress p = {.phase = "quantize",
                          .current = name,
                          .done_bytes = __atomic_load_n(&run->done_bytes, __ATOMIC_RELAXED),
                          .total_bytes = run->work.read_bytes,
                          .done_units = __atomic_load_n(&run->done_pieces, __ATOMIC_RELAXED),
                          .total_units = (uint32_t)run->work.n_pieces};
        watch->progress(watch->ctx, &p);
        pthread_mutex_unlock(&run->watch);
    }
    return TMB_OK;
}

static tmb_status open_shard(tmb_run *run, uint32_t f, tmb_err *err)
{
    tmb_status status = TMB_OK;
    pthread_mutex_lock(&run->files);
    if (!run->open[f]) {
        status = tmb_shard_create(&run->shards[f], run->plan, f, run->output.dirfd,
                                  run->output.folder, err);
        run->open[f] = !status;
    }
    pthread_mutex_unlock(&run->files);
    return status;
}

/* Units in their order, whoever worked on them, so that the sums do not depend on threads. */
static void fold(const tmb_run *run, uint32_t f, tmb_row_sums *rows)
{
    const tmb_plan *plan = run->plan;
    for (uint32_t i = 0; i < plan->n_rows; i++)
        rows[i] = (tmb_row_sums){.worst = TMB_NONE};
    for (uint32_t u = 0; u < plan->job.model->n_units; u++) {
        if (!plan->job.assignment->choices[u].spec->format) continue;
        for (uint32_t s = plan->slot_first[u]; s < plan->slot_first[u] + plan->n_slots[u]; s++) {
            if (plan->slots[s].part != TMB_PART_CODES || plan->outs[plan->slots[s].out].file != f)
                continue;
            const tmb_sums *from = &run->sums[u];
            tmb_row_sums *to = &rows[plan->row_of[u]];
            double db = tmb_sqnr_db(from->signal, from->noise);
            if (to->worst == TMB_NONE || db < to->worst_sqnr_db) {
                to->worst = u;
                to->worst_sqnr_db = db;
            }
            to->sums.signal += from->signal;
            to->sums.noise += from->noise;
            to->sums.dot += from->dot;
            to->sums.power += from->power;
            if (from->max_error > to->sums.max_error) to->sums.max_error = from->max_error;
        }
    }
}

static tmb_status record(tmb_run *run, uint32_t f, bool before, tmb_err *err)
{
    tmb_journal *j = &run->output.journal;
    char text[128];
    tmb_status status;
    pthread_mutex_lock(&run->journal);
    if (before) {
        snprintf(text, sizeof text, "file %s", run->plan->files[f].name);
        status = tmb_journal_add(j, text, err);
    } else {
        status = tmb_journal_add_shard(j, run->plan, f, run->sha256[f],
                                       &j->rows[(size_t)f * run->plan->n_rows], err);
        run->finished += !status;
        run->written += run->plan->files[f].header_bytes + run->plan->files[f].data_bytes;
    }
    pthread_mutex_unlock(&run->journal);
    return status;
}

static tmb_status finish_shard(tmb_run *run, uint32_t f, tmb_err *err)
{
    TRY(tmb_checkpoint_unchanged(run->plan->job.model->ckpt, err));
    fold(run, f, &run->output.journal.rows[(size_t)f * run->plan->n_rows]);
    TRY(record(run, f, true, err));
    TRY(tmb_shard_publish(&run->shards[f], run->sha256[f], err));
    return record(run, f, false, err);
}

static void advise(const tmb_run *run, size_t i, bool soon)
{
    if (i >= run->work.n_pieces) return;
    const tmb_piece *piece = &run->work.pieces[i];
    const tmb_checkpoint *ckpt = run->plan->job.model->ckpt;
    if (piece->bundle != TMB_NONE)
        tmb_bundle_advise(run->plan, &run->plan->bundles[piece->bundle], soon);
    else
        tmb_checkpoint_advise(ckpt, &ckpt->tensors[run->plan->outs[piece->out].source],
                              piece->begin, piece->bytes, soon);
}

static tmb_status do_piece(tmb_run *run, tmb_worker *worker, size_t i, tmb_err *err)
{
    const tmb_piece *piece = &run->work.pieces[i];
    tmb_shard_writer *w = &run->shards[piece->file];
    TRY(open_shard(run, piece->file, err));
    advise(run, i + (size_t)run->plan->options.threads, true);
    if (piece->bundle != TMB_NONE)
        TRY(tmb_worker_bundle(worker, &run->plan->bundles[piece->bundle], w, run->sums, err));
    else
        TRY(tmb_worker_copy(worker, &run->plan->outs[piece->out], piece->begin, piece->bytes, w,
                            err));
    advise(run, i, false);
    __atomic_add_fetch(&run->done_pieces, 1, __ATOMIC_RELAXED);
    if (__atomic_sub_fetch(&run->work.left[piece->file], 1, __ATOMIC_ACQ_REL)) return TMB_OK;
    return finish_shard(run, piece->file, err);
}

static void work_on(void *ctx)
{
    tmb_run *run = ctx;
    tmb_err err = {0};
    tmb_worker *worker = NULL;
    const tmb_pulse pulse = {.beat = beat, .ctx = run};
    tmb_status status = tmb_worker_open(&worker, run->plan, run->ops, &pulse, &err);
    while (!status && !__atomic_load_n(&run->failed, __ATOMIC_ACQUIRE)) {
        size_t i = __atomic_fetch_add(&run->next, 1, __ATOMIC_RELAXED);
        if (i >= run->work.n_pieces) break;
        status = do_piece(run, worker, i, &err);
    }
    if (status) fail(run, &err);
    tmb_worker_close(worker);
}

tmb_status tmb_run_shards(tmb_run *run, tmb_err *err)
{
    tmb_team_run(run->plan->options.threads, work_on, run);

    /* a shard of nothing but constants, or of empty tensors, has no piece that would finish it */
    for (uint32_t f = 0; f < run->plan->n_files && !run->failed; f++) {
        if (run->open[f] || run->output.journal.have[f]) continue;
        tmb_status status = open_shard(run, f, &run->err);
        if (!status) status = finish_shard(run, f, &run->err);
        if (status) run->failed = 1;
    }
    for (uint32_t f = 0; f < run->plan->n_files; f++)
        if (run->open[f]) tmb_shard_discard(&run->shards[f]);
    if (!run->failed) return TMB_OK;
    if (err) *err = run->err;
    return run->err.status;
}
