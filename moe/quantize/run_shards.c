/* run_shards.c - the threads: each does what is wanted most.
 *
 * There are a few more threads than work on weights at a time, and none has a duty of its own.
 * Whoever is free writes a full block, reads ahead, publishes a finished shard, hashes, or takes an
 * item of work, in this order; so reading, work and writing overlap, a slow disk does not keep a
 * processor idle, and any number of threads that the system grants is enough. */
#include "config.h"
#include "moe/quantize/run_internal.h"

#include "kernels/base/team.h"
#include "kernels/cuda/lane.h"
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
    int fd = tmb_open_beneath(run->output.dirfd, file->name, O_RDONLY | O_NONBLOCK | O_CLOEXEC, 0);
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
    if (told_to_stop(run)) return;
    if (have[f]) have[f] = still_there(run, (uint32_t)f);
    if (!have[f]) tmb_run_keep(run, (uint32_t)f);
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

/* ---- what threads share ------------------------------------------------------------------------
 */

/* run->watch is held. */
static void report(tmb_run *run, const char *name)
{
    const tmb_watch *watch = &run->options->watch;
    tmb_progress p = {.phase = "quantize",
                      .current = name,
                      .done_bytes = __atomic_load_n(&run->done_bytes, __ATOMIC_RELAXED),
                      .total_bytes = run->work.read_bytes,
                      .done_units = __atomic_load_n(&run->done_pieces, __ATOMIC_RELAXED),
                      .total_units = (uint32_t)run->work.n_pieces};
    watch->progress(watch->ctx, &p);
}

static tmb_status beat(void *ctx, uint64_t bytes, const char *name, tmb_err *err)
{
    tmb_run *run = ctx;
    const tmb_watch *watch = &run->options->watch;
    __atomic_add_fetch(&run->done_bytes, bytes, __ATOMIC_RELAXED);
    if (told_to_stop(run)) __atomic_store_n(&run->stopped, true, __ATOMIC_RELAXED);
    if (__atomic_load_n(&run->stopped, __ATOMIC_RELAXED) ||
        __atomic_load_n(&run->monitor.failed, __ATOMIC_RELAXED))
        return tmb_fail(err, TMB_ESYSTEM, "stopped");
    if (watch->progress && pthread_mutex_trylock(&run->watch) == 0) {
        report(run, name);
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
                                  run->output.folder, &run->blocks, &run->kept[f], err);
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
            tmb_sums_add(&to->sums, from);
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

enum { WRITERS = 2 }; /* threads more, so that writing does not keep others from reading */

/* ---- what a thread can do ----------------------------------------------------------------------
 */

typedef enum job_kind {
    JOB_NONE,
    JOB_END,
    JOB_BLOCK,
    JOB_READ,
    JOB_PUBLISH,
    JOB_CUT,
    JOB_ITEM
} job_kind;

typedef struct job {
    job_kind kind;
    tmb_blocks_job block;
    tmb_step *step;
    uint32_t file;
    tmb_blocks_file *cut;
    tmb_item item;
    tmb_worker *worker;
} job;

/* Inside: a shard that only wants its name. */
static bool take_shard(tmb_run *run, uint32_t *file)
{
    for (const tmb_blocks_file *b = run->blocks.files; b; b = b->next) {
        uint32_t f = tmb_run_file_of(run, b);
        if (run->publishing[f] || run->work.left[f] || !tmb_blocks_done(b)) continue;
        run->publishing[f] = true;
        *file = f;
        return true;
    }
    return false;
}

static bool take_item(tmb_run *run, job *j)
{
    if (!run->n_idle || !tmb_stage_take(&run->stage, &j->item)) return false;
    j->worker = run->idle[--run->n_idle];
    return true;
}

/* Inside. */
static tmb_status choose(tmb_run *run, job *j, tmb_err *err)
{
    *j = (job){.kind = JOB_NONE};
    if (run->monitor.failed) {
        j->kind = JOB_END;
    } else if (tmb_blocks_take_write(&run->blocks, &j->block)) {
        j->kind = JOB_BLOCK;
    } else {
        if (run->stage.reading < run->readers) TRY(tmb_stage_next(&run->stage, &j->step, err));
        if (j->step)
            j->kind = JOB_READ;
        else if (take_shard(run, &j->file))
            j->kind = JOB_PUBLISH;
        else if ((j->cut = tmb_blocks_take_cut(&run->blocks)))
            j->kind = JOB_CUT;
        else if (tmb_blocks_take_hash(&run->blocks, &j->block))
            j->kind = JOB_BLOCK;
        else if (take_item(run, j))
            j->kind = JOB_ITEM;
        else if (tmb_stage_finished(&run->stage) && !run->blocks.files && !run->busy)
            j->kind = JOB_END;
    }
    run->busy += j->kind > JOB_END;
    return TMB_OK;
}

/* Outside: the last piece of a shard is done; nothing but its constants is missing. */
static tmb_status complete(tmb_run *run, uint32_t f, tmb_err *err)
{
    TRY(tmb_shard_constants(&run->shards[f], err));
    tmb_enter(&run->monitor);
    run->work.left[f] = 0;
    tmb_changed(&run->monitor);
    tmb_leave(&run->monitor);
    return TMB_OK;
}

/* A bundle is done: where its units were quantized. */
static void count_units(tmb_run *run, const job *j, const tmb_bundle *bundle,
                        const tmb_shard_writer *w)
{
    for (uint32_t i = 0; i < bundle->n_units; i++) {
        uint32_t u = bundle->units[i];
        if (!run->plan->job.assignment->choices[u].spec->format ||
            !tmb_unit_measured(run->plan, u, w))
            continue;
        __atomic_add_fetch(&run->units[tmb_worker_on_gpu(j->worker, u)], 1, __ATOMIC_RELAXED);
    }
}

/* The numbers of a bundle that several threads worked on, and the sum of their errors. */
static tmb_status finish_bundle(tmb_run *run, job *j, tmb_shard_writer *w, tmb_err *err)
{
    const tmb_shared *shared = j->item.step->shared;
    const tmb_plan *plan = run->plan;
    for (uint32_t i = 0; i < shared->bundle->n_units; i++) {
        uint32_t u = shared->bundle->units[i];
        TRY(tmb_worker_numbers(j->worker, u, shared->amax[i], w, err));
        if (!tmb_unit_measured(plan, u, w)) continue;
        uint64_t tiles = tmb_ceil_div(plan->job.model->units[u].out, TMB_TILE_ROWS);
        run->sums[u] = (tmb_sums){0};
        for (uint64_t t = 0; t < tiles; t++)
            tmb_sums_add(&run->sums[u], &shared->tiles[shared->tile_first[i] + t]);
    }
    return TMB_OK;
}

static tmb_status do_item(tmb_run *run, job *j, tmb_err *err)
{
    const tmb_item *item = &j->item;
    const tmb_step *step = item->step;
    const tmb_piece *piece = &run->work.pieces[step->piece];
    const tmb_plan *plan = run->plan;
    tmb_shard_writer *w = &run->shards[piece->file];
    tmb_shared *shared = step->shared;
    float amax = 0;
    TRY(open_shard(run, piece->file, err));
    switch (item->kind) {
    case TMB_ITEM_COPY:
        TRY(tmb_worker_copy(j->worker, &step->staged, &plan->outs[piece->out], piece->begin,
                            piece->bytes, w, err));
        break;
    case TMB_ITEM_ALONE:
        if (!step->staged.n) tmb_bundle_advise(plan, &plan->bundles[piece->bundle], true);
        TRY(tmb_worker_bundle(j->worker, &step->staged, &plan->bundles[piece->bundle], w, run->sums,
                              err));
        if (!step->staged.n) tmb_bundle_advise(plan, &plan->bundles[piece->bundle], false);
        count_units(run, j, &plan->bundles[piece->bundle], w);
        break;
    case TMB_ITEM_SCAN:
        TRY(tmb_worker_scan(j->worker, &step->staged, shared->bundle->units[item->unit],
                            item->begin, item->end, &amax, err));
        break;
    case TMB_ITEM_WRITE:
        TRY(tmb_worker_encode(
            j->worker, &step->staged, shared->bundle->units[item->unit], shared->amax[item->unit],
            item->begin, item->end, w,
            &shared->tiles[shared->tile_first[item->unit] + item->begin / TMB_TILE_ROWS], err));
        break;
    case TMB_ITEM_FINISH:
        TRY(finish_bundle(run, j, w, err));
        count_units(run, j, &plan->bundles[piece->bundle], w);
        break;
    }
    tmb_enter(&run->monitor);
    bool last = false, all = false;
    if (tmb_stage_give(&run->stage, item, amax)) {
        run->work.done[piece - run->work.pieces] = true;
        all = __atomic_add_fetch(&run->done_pieces, 1, __ATOMIC_RELAXED) == run->work.n_pieces;
        /* the one that takes the last keeps it until the constants are written too */
        last = run->work.left[piece->file] == 1;
        if (!last) run->work.left[piece->file]--;
    }
    tmb_leave(&run->monitor);
    if (all && run->options->watch.progress) { /* a piece is counted after its bytes */
        pthread_mutex_lock(&run->watch);
        report(run, NULL);
        pthread_mutex_unlock(&run->watch);
    }
    return last ? complete(run, piece->file, err) : TMB_OK;
}

static tmb_status do_job(tmb_run *run, job *j, tmb_err *err)
{
    switch (j->kind) {
    case JOB_BLOCK:
        return tmb_blocks_do(&run->blocks, &j->block, err);
    case JOB_READ:
        return tmb_stage_read(&run->stage, j->step, err);
    case JOB_PUBLISH:
        return finish_shard(run, j->file, err);
    case JOB_CUT:
        return tmb_run_part(run, j->cut, err);
    case JOB_ITEM:
        return do_item(run, j, err);
    case JOB_NONE:
    case JOB_END:
        break;
    }
    return TMB_OK;
}

static void work_on(void *ctx)
{
    tmb_run *run = ctx;
    tmb_err err = {0};
    job j;
    tmb_enter(&run->monitor);
    for (;;) {
        tmb_status status = choose(run, &j, &err);
        if (status) tmb_monitor_fail(&run->monitor, &err);
        if (status || j.kind == JOB_END) break;
        if (j.kind == JOB_NONE) {
            tmb_wait(&run->monitor);
            continue;
        }
        tmb_leave(&run->monitor);
        status = do_job(run, &j, &err);
        tmb_enter(&run->monitor);
        run->busy--;
        if (j.worker) run->idle[run->n_idle++] = j.worker;
        if (status) tmb_monitor_fail(&run->monitor, &err);
        tmb_changed(&run->monitor);
    }
    tmb_changed(&run->monitor);
    tmb_leave(&run->monitor);
}

/* ---- all of them -------------------------------------------------------------------------------
 */

static tmb_status open_workers(tmb_run *run, tmb_err *err)
{
    const tmb_pulse pulse = {.beat = beat, .ctx = run};
    int threads = run->plan->options.threads;
    run->idle = calloc((size_t)threads + 1, sizeof *run->idle);
    if (!run->idle) return tmb_fail_memory(err, (uint64_t)threads * 8, "workers");
    while (run->n_idle < threads) {
        TRY(tmb_worker_open(&run->idle[run->n_idle], run->plan, run->ops, run->weighing, &pulse,
                            err));
        run->n_idle++;
        if (run->gpu) TRY(tmb_worker_use_gpu(run->idle[run->n_idle - 1], run->gpu, err));
    }
    /* what is read ahead goes up from where it lies */
    run->pinned = run->gpu && tmb_cuda_pin(run->stage.ring, run->stage.bytes);
    return TMB_OK;
}

/* Shards of nothing but constants, or of empty tensors, have no piece that would begin them. */
static tmb_status begin_empty(tmb_run *run, tmb_err *err)
{
    for (uint32_t f = 0; f < run->plan->n_files; f++) {
        if (run->output.journal.have[f] || run->work.left[f]) continue;
        TRY(open_shard(run, f, err));
        TRY(tmb_shard_constants(&run->shards[f], err));
    }
    return TMB_OK;
}

tmb_status tmb_run_shards(tmb_run *run, tmb_err *err)
{
    const tmb_plan *plan = run->plan;
    int threads = plan->options.threads;
    run->readers = threads < 8 ? 3 : 4;
    run->publishing = calloc(plan->n_files + 1, sizeof *run->publishing);
    tmb_status status = TMB_OK;
    if (!run->publishing) status = tmb_fail_memory(err, plan->n_files, "the shards");
    if (!status)
        status = tmb_blocks_open(&run->blocks, &run->monitor, plan->block_bytes, plan->n_blocks,
                                 run->options->cached, err);
    if (!status)
        status =
            tmb_stage_open(&run->stage, plan, &run->work, &run->monitor, run->options->cached, err);
    if (!status) status = tmb_weighing_open(&run->weighing, plan, err);
    if (!status) status = open_workers(run, err);
    if (!status) status = begin_empty(run, err);
    if (!status) {
        tmb_team_run(threads + (int)run->readers + WRITERS, work_on, run);
        if (run->monitor.failed) {
            status = run->monitor.err.status;
            if (err) *err = run->monitor.err;
        }
    }
    for (uint32_t f = 0; f < plan->n_files; f++)
        if (run->open[f]) tmb_shard_discard(&run->shards[f]);
    for (int i = 0; i < run->n_idle; i++)
        tmb_worker_close(run->idle[i]);
    if (run->pinned) tmb_cuda_unpin(run->stage.ring);
    tmb_weighing_close(run->weighing);
    run->weighing = NULL;
    tmb_stage_close(&run->stage);
    tmb_blocks_close(&run->blocks);
    free(run->idle);
    free(run->publishing);
    run->idle = NULL;
    run->publishing = NULL;
    return status;
}
