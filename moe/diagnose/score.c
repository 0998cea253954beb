/* score.c - several variants against one reference. */
#include "config.h"
#include "moe/diagnose/lockstep.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One block of memory for a variant's arrays. */
static tmb_status make(tmb_scores *s, size_t sequences, size_t layers, tmb_err *err)
{
    size_t each = sequences * layers;
    *s = (tmb_scores){.sequences = sequences, .layers = layers};
    double *d = s->memory =
        calloc(3 * each + sequences + (2 * sequences + 2 * each) / 2 + layers + 1, sizeof *d);
    if (!d) return tmb_fail_memory(err, each * 32, "scores");
    s->error = d;
    s->norm = d + each;
    s->local_error = d + 2 * each;
    s->kl = d + 3 * each;
    s->positions = (uint32_t *)(s->kl + sequences);
    s->scored = s->positions + sequences;
    s->same = s->scored + sequences;
    s->local = s->same + each;
    s->sparse = (const bool *)(s->local + each);
    return TMB_OK;
}

void tmb_scores_free(tmb_scores *scores, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(scores[i].memory);
        scores[i] = (tmb_scores){0};
    }
}

static tmb_status gather_one(const tmb_lock_rank *r, tmb_scores *to, size_t v, double *kl,
                             tmb_err *err)
{
    size_t layers = r->job->layers, own = v * r->all.n * layers, width = TMB_P_KL + r->job->n;
    const tmb_data *data = r->job->data;
    bool *sparse = (bool *)(to->local + to->sequences * layers);
    TRY(tmb_lock_gather(r, to->same, r->same + own, layers * sizeof *r->same, err));
    TRY(tmb_lock_gather(r, to->local, r->local_same + own, layers * sizeof *r->same, err));
    TRY(tmb_lock_gather(r, to->error, r->error + own, layers * sizeof *r->error, err));
    TRY(tmb_lock_gather(r, to->local_error, r->local_error + own, layers * sizeof *r->error, err));
    TRY(tmb_lock_gather(r, to->norm, r->norm, layers * sizeof *r->norm, err));
    for (size_t s = 0; s < r->all.n; s++)
        kl[s] = r->predicted[s * width + TMB_P_KL + v];
    TRY(tmb_lock_gather(r, to->kl, kl, sizeof *kl, err));
    for (size_t s = 0; s < to->sequences; s++) {
        to->positions[s] = data->sequences[s].n;
        to->scored[s] = data->sequences[s].n - 1;
    }
    for (size_t l = 0; l < layers; l++)
        sparse[l] = tmb_decoder_is_sparse(r->ref.decoder, (int)l);
    return TMB_OK;
}

tmb_status tmb_lock_scores(tmb_lock_rank *r, tmb_err *err)
{
    const tmb_lock_job *job = r->job;
    /* Of the ranks of one process the first fills the result, the others a copy to throw away. */
    bool fills = r->leads || strcmp(tmb_comm_name(r->comm), "threads") != 0;
    double *kl = calloc(r->all.n + 1, sizeof *kl);
    tmb_status status = kl ? TMB_OK : tmb_fail_memory(err, r->all.n * 8, "scores");
    for (size_t v = 0; !status && v < job->n; v++) {
        tmb_scores mine;
        status = make(&mine, job->data->n_sequences, job->layers, err);
        if (!status) status = gather_one(r, &mine, v, kl, err);
        if (!status && fills)
            job->scores[v] = mine;
        else
            free(mine.memory);
    }
    free(kl);
    return status;
}

tmb_status tmb_score(const tmb_variant *ref, const tmb_variant *variants, size_t n,
                     const tmb_data *data, const tmb_score_options *options, tmb_scores *out,
                     tmb_err *err)
{
    tmb_lock_job job = {.ref = ref,
                        .variants = variants,
                        .n = n,
                        .data = data,
                        .options = &options->run,
                        .local = options->local,
                        .head = !options->no_head,
                        .scores = out};
    memset(out, 0, n * sizeof *out);
    tmb_status status = tmb_lock_run(&job, err);
    if (status) tmb_scores_free(out, n);
    return status;
}

/* --- intervals ------------------------------------------------------------------------------ */

/* Of sum(num) / sum(den) over sequences and the layers that count; [sequences, layers] both. */
static tmb_interval ratio(const tmb_scores *s, const tmb_boot *boot, const uint32_t *same,
                          const double *error, int layer, bool root)
{
    double *num = calloc(2 * s->sequences + 1, sizeof *num), *den = num + s->sequences;
    if (!num) return tmb_interval_none();
    for (size_t i = 0; i < s->sequences; i++)
        for (size_t l = 0; l < s->layers; l++) {
            if (layer >= 0 && l != (size_t)layer) continue;
            if (same && !s->sparse[l]) continue;
            num[i] += same ? (double)same[i * s->layers + l] : error[i * s->layers + l];
            den[i] += same ? (double)s->positions[i] : s->norm[i * s->layers + l];
        }
    tmb_interval r = tmb_boot_ratio(boot, num, den, 1);
    free(num);
    return root ? (tmb_interval){sqrt(r.value), sqrt(r.lo), sqrt(r.hi)} : r;
}

tmb_interval tmb_scores_set_match(const tmb_scores *s, int layer, const tmb_boot *boot)
{
    return ratio(s, boot, s->same, NULL, layer, false);
}

tmb_interval tmb_scores_local_match(const tmb_scores *s, int layer, const tmb_boot *boot)
{
    return ratio(s, boot, s->local, NULL, layer, false);
}

tmb_interval tmb_scores_hidden_error(const tmb_scores *s, int layer, const tmb_boot *boot)
{
    return ratio(s, boot, NULL, s->error, layer < 0 ? (int)s->layers - 1 : layer, true);
}

tmb_interval tmb_scores_local_error(const tmb_scores *s, int layer, const tmb_boot *boot)
{
    return ratio(s, boot, NULL, s->local_error, layer < 0 ? (int)s->layers - 1 : layer, true);
}

tmb_interval tmb_scores_kl(const tmb_scores *s, const tmb_boot *boot)
{
    double *den = calloc(s->sequences + 1, sizeof *den);
    if (!den) return tmb_interval_none();
    for (size_t i = 0; i < s->sequences; i++)
        den[i] = (double)s->scored[i];
    tmb_interval r = tmb_boot_ratio(boot, s->kl, den, 1);
    free(den);
    return r;
}
