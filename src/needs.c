/* needs.c - what a calibration will take. */
#include "config.h"
#include "src/needs.h"

#include "src/emit.h"
#include "src/text.h"

#include <inttypes.h>
#include <stdlib.h>

/* The head is measured when the recipe quantizes it: no other statistics need its input. */
static bool wants_head(const tmb_job *job)
{
    for (uint32_t i = 0; i < job->model->n_units; i++)
        if (job->model->units[i].role == TMB_ROLE_LM_HEAD && job->model->units[i].linear &&
            job->assignment->choices[i].spec->format)
            return true;
    return false;
}

tmb_calibrate_options tmb_calibrate_wanted(const tmb_job *job, int threads, uint64_t max_ram)
{
    const tmb_calibration *c = &job->recipe->calibration;
    return (tmb_calibrate_options){.ranks = 1,
                                   .threads = threads,
                                   .max_ram = max_ram,
                                   .samples = c->samples,
                                   .min_tokens = c->min_tokens,
                                   .starved = c->starved,
                                   .moments = c->moments,
                                   .head = wants_head(job)};
}

void tmb_needs_print(const tmb_calibrate_needs *n, int ranks, const char *out, FILE *to)
{
    char tokens[TMB_HUMAN_BYTES], peak[TMB_HUMAN_BYTES], disk[TMB_HUMAN_BYTES];
    char safe[TMB_ERR_BYTES], rank[TMB_HUMAN_BYTES], each[TMB_HUMAN_BYTES + 32] = "";
    if (ranks > 1) snprintf(each, sizeof each, ", %s a rank", tmb_human_bytes(rank, n->rank_bytes));
    fprintf(to,
            "%" PRIu64 " sequences, %s tokens; up to %s of memory%s%s, %s of disk in %s.partial\n",
            n->sequences, tmb_human_count(tokens, n->tokens), tmb_human_bytes(peak, n->peak_bytes),
            each, n->layer_bytes ? " (experts are read a group at a time)" : "",
            tmb_human_bytes(disk, n->disk_bytes), tmb_safe(safe, sizeof safe, out));
}

/* Sequences without ids: as many and as long as the recipe says. */
static tmb_status assume(const tmb_calibration *c, tmb_calibrate_needs *needs,
                         const tmb_model *model, const tmb_calibrate_options *want, tmb_err *err)
{
    tmb_data data = {.n_sequences = (size_t)c->samples, .n_sources = 1, .longest = c->length};
    data.sequences = calloc(data.n_sequences, sizeof *data.sequences);
    if (!data.sequences) return tmb_fail_memory(err, c->samples * 16, "sequences");
    for (size_t i = 0; i < data.n_sequences; i++)
        data.sequences[i].n = c->length;
    data.tokens = c->samples * c->length;
    tmb_status status = tmb_calibrate_plan(needs, model, &data, want, err);
    free(data.sequences);
    return status;
}

tmb_status tmb_needs_plan(const tmb_job *job, const tmb_texts *texts, const tmb_common *common,
                          const tmb_needs_wanted *wanted, tmb_err *err)
{
    const tmb_calibration *c = &job->recipe->calibration;
    tmb_calibrate_options want = tmb_calibrate_wanted(job, common->threads, wanted->max_ram);
    tmb_calibrate_needs needs;
    want.ranks = wanted->ranks ? wanted->ranks : 1;
    want.ways = wanted->ways;
    tmb_data *data = NULL;
    if (texts->n || c->n_sources) {
        TRY(tmb_calibration_data(&data, job, texts, NULL, err));
        tmb_status status = tmb_calibrate_plan(&needs, job->model, data, &want, err);
        tmb_data_close(data);
        TRY(status);
    } else {
        TRY(assume(c, &needs, job->model, &want, err));
    }
    if (!common->json) {
        if (!common->quiet) tmb_needs_print(&needs, want.ranks, "STATS.h5", stdout);
        return TMB_OK;
    }
    tmb_emit e;
    tmb_emit_open(&e);
    tmb_emit_int(&e, e.root, "sequences", needs.sequences);
    tmb_emit_int(&e, e.root, "tokens", needs.tokens);
    tmb_emit_int(&e, e.root, "batch_tokens", needs.batch_tokens);
    tmb_emit_int(&e, e.root, "layer_bytes", needs.layer_bytes);
    tmb_emit_int(&e, e.root, "peak_bytes", needs.peak_bytes);
    tmb_emit_int(&e, e.root, "rank_bytes", needs.rank_bytes);
    tmb_emit_int(&e, e.root, "disk_bytes", needs.disk_bytes);
    return tmb_emit_print(&e, err);
}
