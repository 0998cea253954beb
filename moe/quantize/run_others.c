/* run_others.c - what makes a folder of shards a checkpoint: the files that loaders look for first
 * are written last. */
#include "config.h"
#include "moe/quantize/run_internal.h"

#include "moe/quantize/summary.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static tmb_status carry(tmb_run *run, const tmb_other_file *file, char sha256[TMB_SHA256_HEX],
                        tmb_err *err)
{
    uint64_t bytes = 0;
    const tmb_checkpoint *ckpt = run->plan->job.model->ckpt;
    TRY(tmb_file_copy(ckpt->dirfd, run->output.dirfd, run->output.folder, file->name, sha256,
                      &bytes, err));
    if (bytes == file->bytes) return TMB_OK;
    return tmb_fail(
        err, TMB_EDATA,
        "%s/%s: changed while the job ran, from %llu to %llu bytes; run the same command "
        "again",
        ckpt->path, file->name, (unsigned long long)file->bytes, (unsigned long long)bytes);
}

static tmb_status publish(tmb_run *run, const tmb_other_file *file, const char *text, size_t n,
                          char sha256[TMB_SHA256_HEX], tmb_err *err)
{
    if (n != file->bytes)
        return tmb_fail(err, TMB_EINTERNAL, "%s: has %zu bytes, planned %llu", file->name, n,
                        (unsigned long long)file->bytes);
    if (sha256) TRY(tmb_sha256(text, n, sha256, err));
    return tmb_file_publish(run->output.dirfd, run->output.folder, file->name, text, n, err);
}

static tmb_status write_other(tmb_run *run, uint32_t i, const tmb_group_error *errors, tmb_err *err)
{
    const tmb_plan *plan = run->plan;
    const tmb_other_file *file = &plan->others[i];
    char *sha256 = run->sha256[plan->n_files + i], *text = NULL;
    size_t n = 0;
    tmb_status status;
    switch (file->kind) {
    case TMB_OTHER_CARRIED:
        return carry(run, file, sha256, err);
    case TMB_OTHER_CONFIG:
        return publish(run, file, plan->config_text, strlen(plan->config_text), sha256, err);
    case TMB_OTHER_QUANT:
        return publish(run, file, plan->file_text, strlen(plan->file_text), sha256, err);
    case TMB_OTHER_INDEX:
        TRY(tmb_plan_index_text(plan, &text, &n, err));
        break;
    case TMB_OTHER_SUMMARY: /* cannot hold its own checksum */
        sha256 = NULL;
        TRY(tmb_summary_text(plan, (const char(*)[TMB_SHA256_HEX])run->sha256, errors, &text, &n,
                             err));
        break;
    }
    status = publish(run, file, text, n, sha256, err);
    free(text);
    return status;
}

tmb_status tmb_run_others(tmb_run *run, const tmb_group_error *errors, tmb_err *err)
{
    for (uint32_t i = 0; i < run->plan->n_others; i++) {
        char text[300];
        /* before a loader could take what is there: the weights are those of one source */
        TRY(tmb_checkpoint_unchanged(run->plan->job.model->ckpt, err));
        snprintf(text, sizeof text, "file %s", run->plan->others[i].name);
        TRY(tmb_journal_add(&run->output.journal, text, err));
        TRY(write_other(run, i, errors, err));
        run->written += run->plan->others[i].bytes;
    }
    return TMB_OK;
}
