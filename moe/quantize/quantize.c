/* quantize.c - the order of a run, and its result. */
#include "config.h"
#include "moe/quantize/quantize.h"

#include "kernels/base/clock.h"
#include "kernels/cpu/cpu.h"
#include "moe/quantize/run_internal.h"
#include "moe/quantize/summary.h"

#include <stdlib.h>
#include <string.h>

static tmb_status allocate(tmb_run *run, tmb_err *err)
{
    const tmb_plan *plan = run->plan;
    size_t names = (size_t)plan->n_files + plan->n_others + 1;
    run->sums = calloc(plan->job.model->n_units + 1, sizeof *run->sums);
    run->sha256 = calloc(names, sizeof *run->sha256);
    run->shards = calloc(plan->n_files + 1, sizeof *run->shards);
    run->open = calloc(plan->n_files + 1, sizeof *run->open);
    run->kept = calloc(plan->n_files + 1, sizeof *run->kept);
    run->kept_bytes = calloc(plan->n_files + 1, sizeof *run->kept_bytes);
    for (uint32_t f = 0; run->kept && f < plan->n_files; f++)
        run->kept[f].fd = -1;
    if (run->sums && run->sha256 && run->shards && run->open && run->kept && run->kept_bytes)
        return TMB_OK;
    return tmb_fail_memory(err, plan->job.model->n_units * sizeof *run->sums, "error sums");
}

static tmb_status check_disk(const tmb_run *run, tmb_err *err)
{
    const tmb_plan *plan = run->plan;
    uint64_t need = plan->disk_bytes, free_bytes = 0;
    for (uint32_t f = 0; f < plan->n_files; f++) {
        uint64_t bytes = plan->files[f].header_bytes + plan->files[f].data_bytes, there = 0;
        struct stat st;
        if (run->kept[f].fd >= 0 && fstat(run->kept[f].fd, &st) == 0)
            there = (uint64_t)st.st_blocks * 512;
        need -= run->output.journal.have[f] || there > bytes ? bytes : there;
    }
    TRY(tmb_disk_free(run->output.dirfd, run->output.folder, &free_bytes, err));
    if (need <= free_bytes) return TMB_OK;
    return tmb_fail(
        err, TMB_ECREATE,
        "%s: needs %llu bytes of disk, %llu are free; make room, or choose another disk",
        run->output.folder, (unsigned long long)need, (unsigned long long)free_bytes);
}

/* Rows of all shards, in their order. */
static void add_up(const tmb_run *run, tmb_group_error *errors)
{
    const tmb_plan *plan = run->plan;
    for (uint32_t i = 0; i < plan->n_rows; i++) {
        tmb_group_error *to = &errors[i];
        to->row = i;
        for (uint32_t f = 0; f < plan->n_files; f++) {
            const tmb_row_sums *from = &run->output.journal.rows[(size_t)f * plan->n_rows + i];
            if (from->worst == TMB_NONE) continue;
            if (!to->worst || from->worst_sqnr_db < to->worst_sqnr_db) {
                to->worst = plan->job.model->units[from->worst].name;
                to->worst_sqnr_db = from->worst_sqnr_db;
            }
            to->sums.signal += from->sums.signal;
            to->sums.noise += from->sums.noise;
            to->sums.dot += from->sums.dot;
            to->sums.power += from->sums.power;
            if (from->sums.max_error > to->sums.max_error)
                to->sums.max_error = from->sums.max_error;
        }
    }
}

/* What `quantize` prints: quantized rows only. */
static void fill_result(tmb_quantize_result *result, const tmb_run *run, double seconds)
{
    tmb_group_error *groups = result->groups;
    for (uint32_t i = 0; i < run->plan->n_rows; i++)
        if (run->plan->rows[i].spec->format) groups[result->n_groups++] = groups[i];
    result->bytes_read = run->done_bytes;
    result->bytes_written = run->written;
    result->seconds = seconds;
    result->resumed = run->reused > 0;
    for (uint32_t f = 0; f < run->plan->n_files; f++)
        result->bytes_kept += run->kept_bytes[f];
    result->resumed = result->resumed || result->bytes_kept;
    result->shards_reused = run->reused;
    result->units_cpu = run->units[0];
    result->units_gpu = run->units[1];
}

/* A stop is no failure of ours: say how far it came, and how to go on. */
static tmb_status tell_stop(const tmb_run *run, tmb_err *err)
{
    uint32_t finished = run->reused + run->finished;
    if (run->options->command)
        return tmb_fail(err, TMB_ESYSTEM,
                        "%s: stopped with %u of %u shards finished; to continue, run "
                        "again: %s",
                        run->options->out, finished, run->plan->n_files, run->options->command);
    return tmb_fail(err, TMB_ESYSTEM,
                    "%s: stopped with %u of %u shards finished; the same command "
                    "continues",
                    run->options->out, finished, run->plan->n_files);
}

static tmb_status run_all(tmb_run *run, tmb_quantize_result *result, tmb_err *err)
{
    if (run->plan->options.gpu) TRY(tmb_cuda_open(&run->gpu, run->options->device, err));
    TRY(tmb_output_open(&run->output, run->plan, run->options->out, run->options->restart, err));
    TRY(tmb_run_reuse(run, err));
    TRY(check_disk(run, err));
    const tmb_journal *j = &run->output.journal;
    const tmb_work_known known = {j->have, run->kept_bytes, j->unit_known};
    memcpy(run->sums, j->unit_sums, run->plan->job.model->n_units * sizeof *run->sums);
    TRY(tmb_work_list(&run->work, run->plan, &known, err));
    TRY(tmb_run_shards(run, err));
    add_up(run, result->groups);
    TRY(tmb_run_others(run, result->groups, err));
    return tmb_output_done(&run->output, err);
}

tmb_status tmb_quantize(const tmb_plan *plan, const tmb_quantize_options *options,
                        tmb_quantize_result **out, tmb_err *err)
{
    double begin = tmb_seconds();
    tmb_run run = {.plan = plan,
                   .options = options,
                   .ops = tmb_cpu_ops(),
                   .output = {.dirfd = -1, .lockfd = -1, .journal = {.fd = -1}}};
    tmb_quantize_result *result = calloc(1, sizeof *result);
    *out = NULL;
    if (!result) return tmb_fail_memory(err, sizeof *result, "the result");
    tmb_monitor_open(&run.monitor);
    pthread_mutex_init(&run.files, NULL);
    pthread_mutex_init(&run.journal, NULL);
    pthread_mutex_init(&run.watch, NULL);
    result->groups = tmb_arena_alloc(&result->arena, (plan->n_rows + 1) * sizeof *result->groups);
    tmb_status status =
        result->groups ? allocate(&run, err) : tmb_fail_memory(err, plan->n_rows, "the result");
    if (!status) status = run_all(&run, result, err);
    if (!status) fill_result(result, &run, tmb_seconds() - begin);
    if (status && run.stopped) status = tell_stop(&run, err);

    tmb_cuda_close(run.gpu);
    tmb_output_close(&run.output);
    tmb_work_free(&run.work);
    free(run.sums);
    free(run.sha256);
    free(run.shards);
    free(run.open);
    tmb_run_keep_free(&run);
    tmb_monitor_close(&run.monitor);
    pthread_mutex_destroy(&run.files);
    pthread_mutex_destroy(&run.journal);
    pthread_mutex_destroy(&run.watch);
    if (status) {
        tmb_quantize_result_close(result);
        result = NULL;
    }
    *out = result;
    return status;
}

void tmb_quantize_result_close(tmb_quantize_result *result)
{
    if (!result) return;
    tmb_arena_free(&result->arena);
    free(result);
}
