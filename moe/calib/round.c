/* round.c - rounds of a calibration: what each runs, when there is a further one, and the file made
 * of all of them. */
#include "config.h"
#include "moe/calib/rank.h"

#include "kernels/base/clock.h"

#include <stdlib.h>
#include <string.h>

/* --- which sequences are whose -------------------------------------------------------------- */

/* What a rank gets of the round: runs of sequences, so that every rank has about as many tokens.
 * *at: tokens before them. */
static void share(const tmb_calib_rank *r, uint64_t rank, size_t *first, size_t *end, uint64_t *at)
{
    const tmb_calib_job *job = r->job;
    uint64_t ranks = (uint64_t)tmb_comm_size(r->comm), before = 0;
    *first = *end = r->end;
    *at = 0;
    for (size_t i = r->first; i < r->end; i++) {
        uint64_t n = tmb_calib_sequence(job, i)->n, middle = before + n / 2;
        uint64_t owner = r->round_tokens ? middle * ranks / r->round_tokens : 0;
        if (owner >= ranks) owner = ranks - 1;
        if (owner == rank) {
            if (*first == r->end) {
                *first = i;
                *at = before;
            }
            *end = i + 1;
        }
        before += n;
    }
    if (*first == r->end) *end = *first;
}

static size_t count_batches(const tmb_calib_rank *r, size_t first, size_t end)
{
    size_t n = 0, tokens;
    for (size_t at = first; at < end; n++)
        at += tmb_calib_batch(r, at, end, &tokens);
    return n;
}

static void deal(tmb_calib_rank *r)
{
    const tmb_calib_job *job = r->job;
    r->first = (size_t)r->state.round * job->per_round;
    r->end = r->first + job->per_round < job->n_use ? r->first + job->per_round : job->n_use;
    r->round_tokens = 0;
    for (size_t i = r->first; i < r->end; i++)
        r->round_tokens += tmb_calib_sequence(job, i)->n;
    share(r, (uint64_t)tmb_comm_rank(r->comm), &r->mine_first, &r->mine_end, &r->mine_at);
    r->batches = count_batches(r, r->mine_first, r->mine_end);
    for (int other = 0; job->options->ways > 1 && other < tmb_comm_size(r->comm); other++) {
        size_t first, end;
        uint64_t at;
        share(r, (uint64_t)other, &first, &end, &at);
        size_t n = count_batches(r, first, end);
        r->batches = n > r->batches ? n : r->batches;
    }
}

/* --- files ---------------------------------------------------------------------------------- */

typedef struct parts {
    tmb_stats_file **files;
    uint32_t n;
} parts;

static void close_parts(parts *p)
{
    for (uint32_t i = 0; i < p->n; i++)
        tmb_stats_close(p->files[i]);
    free(p->files);
    *p = (parts){0};
}

/* layers: of the round; else all rounds before `round`. */
static tmb_status open_parts(const tmb_calib_rank *r, uint32_t round, bool layers, uint32_t n,
                             parts *p, tmb_err *err)
{
    *p = (parts){.files = calloc((size_t)n + 1, sizeof *p->files)};
    if (!p->files) return tmb_fail_memory(err, 0, "statistics");
    tmb_status status = TMB_OK;
    for (uint32_t i = 0; !status && i < n; i++) {
        char *path =
            layers ? tmb_calib_part(&r->folder, round, (int)i) : tmb_calib_part(&r->folder, i, -1);
        status = path ? tmb_stats_open(&p->files[i], path, err) : tmb_fail_memory(err, 0, "a path");
        if (!status) p->n = i + 1;
        free(path);
    }
    if (status) close_parts(p);
    return status;
}

/* Gate and up, and down, of an expert saw the same tokens. */
static void recount_shadow(const tmb_calib_rank *r, const tmb_stats_layer *l)
{
    for (uint32_t e = 0; e < r->experts; e++) {
        uint64_t most = 0;
        for (uint32_t s = 0; s < l->n_sites; s++)
            if (l->sites[s].shadow && e < l->sites[s].n && l->sites[s].shadow[e].tokens > most)
                most = l->sites[s].shadow[e].tokens;
        r->shadow[(size_t)l->index * r->experts + e] += most;
    }
}

/* Add what experts had seen in files to the counts: a run that goes on. */
static tmb_status recount(const tmb_calib_rank *r, const parts *p, tmb_err *err)
{
    size_t layers = (size_t)tmb_decoder_layers(r->decoder);
    for (uint32_t f = 0; f < p->n; f++)
        for (uint32_t i = 0; i < p->files[f]->n_layers; i++) {
            tmb_stats_layer *l = NULL;
            TRY(tmb_stats_read(p->files[f], i, false, &l, err));
            bool fits = l->router && l->index >= 0 && (size_t)l->index < layers &&
                        l->router->experts <= r->experts;
            for (uint32_t e = 0; fits && e < l->router->experts; e++)
                r->native[(size_t)l->index * r->experts + e] += l->router->load[e];
            if (fits) recount_shadow(r, l);
            tmb_stats_layer_free(l);
        }
    return TMB_OK;
}

static tmb_status recall(tmb_calib_rank *r, tmb_err *err)
{
    size_t bytes = (size_t)tmb_decoder_layers(r->decoder) * r->experts * sizeof *r->native;
    parts p = {0};
    if (r->leads) {
        tmb_status status = open_parts(r, 0, false, r->state.round, &p, err);
        if (!status) status = recount(r, &p, err);
        close_parts(&p);
        if (!status) status = open_parts(r, r->state.round, true, r->state.layers, &p, err);
        if (!status) status = recount(r, &p, err);
        close_parts(&p);
        TRY(status);
    }
    TRY(tmb_comm_broadcast(r->comm, r->native, bytes, 0, err));
    return tmb_comm_broadcast(r->comm, r->shadow, bytes, 0, err);
}

/* The round's layers become one file. */
static tmb_status assemble(const tmb_calib_rank *r, const char *path, tmb_err *err)
{
    parts p = {0};
    char *manifest = tmb_calib_manifest(r);
    tmb_status status = manifest ? open_parts(r, r->state.round, true, r->state.layers, &p, err)
                                 : tmb_fail_memory(err, 0, "a manifest");
    if (!status) status = tmb_stats_assemble(path, p.files, p.n, manifest, err);
    close_parts(&p);
    free(manifest);
    return status;
}

static tmb_status merge(const tmb_calib_rank *r, tmb_err *err)
{
    parts p = {0};
    char *manifest = tmb_calib_manifest(r);
    tmb_status status = manifest ? open_parts(r, 0, false, r->state.round + 1, &p, err)
                                 : tmb_fail_memory(err, 0, "a manifest");
    if (!status) status = tmb_stats_merge(r->job->options->out, p.files, p.n, manifest, err);
    close_parts(&p);
    free(manifest);
    return status;
}

/* --- coverage ------------------------------------------------------------------------------- */

static size_t starved(const tmb_calib_rank *r, int layer, uint64_t *least)
{
    return tmb_starved(r->native + (size_t)layer * r->experts, r->experts,
                       r->job->options->min_tokens, least);
}

static bool want_more(const tmb_calib_rank *r)
{
    size_t all = 0;
    if (!r->job->options->min_tokens || r->end >= r->job->n_use) return false;
    for (int l = 0; l < tmb_decoder_layers(r->decoder); l++)
        if (tmb_decoder_is_sparse(r->decoder, l)) all += starved(r, l, NULL);
    return all > 0;
}

/* The gate, for recipes that allow nothing to stand in. */
static tmb_status gate(const tmb_calib_rank *r, tmb_err *err)
{
    const tmb_calibrate_options *o = r->job->options;
    size_t most = 0, all = 0;
    uint64_t least = 0, least_there = 0;
    int where = 0;
    if (o->starved != TMB_STARVED_FAIL) return TMB_OK;
    for (int l = 0; l < tmb_decoder_layers(r->decoder); l++) {
        if (!tmb_decoder_is_sparse(r->decoder, l)) continue;
        size_t n = starved(r, l, &least);
        all += n;
        if (n <= most) continue;
        most = n;
        where = l;
        least_there = least;
    }
    if (!all) return TMB_OK;
    return tmb_fail(err, TMB_EDATA,
                    "%zu experts saw fewer than min_tokens = %llu tokens; layer %d has most of "
                    "them, %zu, the least saw %llu; give more data (max_samples), lower "
                    "min_tokens, or let starved = shadow stand in",
                    all, (unsigned long long)o->min_tokens, where, most,
                    (unsigned long long)least_there);
}

static tmb_status report(const tmb_calib_rank *r, tmb_err *err)
{
    tmb_calibrate_result *out = r->job->result;
    int layers = tmb_decoder_layers(r->decoder);
    tmb_rung *rungs = calloc(r->experts + 1, sizeof *rungs);
    out->coverage = calloc((size_t)layers + 1, sizeof *out->coverage);
    if (!rungs || !out->coverage) {
        free(rungs);
        return tmb_fail_memory(err, 0, "the coverage");
    }
    for (int l = 0; l < layers; l++) {
        if (!tmb_decoder_is_sparse(r->decoder, l)) continue;
        const uint64_t *native = r->native + (size_t)l * r->experts;
        tmb_coverage *c = &out->coverage[out->n_coverage++];
        uint64_t sum = 0;
        *c = (tmb_coverage){.layer = l, .experts = (uint32_t)r->experts};
        c->starved = starved(r, l, &c->least);
        for (size_t e = 0; e < r->experts; e++)
            sum += native[e];
        c->mean = r->experts ? sum / r->experts : 0;
        tmb_ladder(rungs, native, r->shadow + (size_t)l * r->experts, r->experts,
                   r->job->options->min_tokens, c->rungs);
    }
    free(rungs);
    out->rounds = r->state.round + 1;
    out->sequences = r->end;
    for (size_t i = 0; i < r->end; i++)
        out->tokens += tmb_calib_sequence(r->job, i)->n;
    out->seconds = tmb_seconds() - r->job->began;
    tmb_spent forward = tmb_decoder_spent(r->decoder);
    out->spent = r->spent;
    out->spent.read = forward.read;
    out->spent.attention = forward.attention;
    out->spent.mlp = forward.mlp;
    out->spent.counting = forward.shown;
    out->resumed = r->folder.resumed;
    return TMB_OK;
}

static tmb_status finish(tmb_calib_rank *r, tmb_err *err)
{
    const char *out = r->job->options->out;
    tmb_stats_file *file = NULL;
    double began = tmb_seconds();
    if (!r->leads) return TMB_OK;
    TRY(gate(r, err));
    if (r->state.round == 0) {
        TRY(assemble(r, out, err));
    } else {
        char *path = tmb_calib_part(&r->folder, r->state.round, -1);
        tmb_status status = path ? assemble(r, path, err) : tmb_fail_memory(err, 0, "a path");
        free(path);
        if (!status) status = merge(r, err);
        TRY(status);
    }
    TRY(tmb_stats_open(&file, out, err));
    memcpy(r->job->result->digest, file->digest, TMB_SHA256_HEX);
    tmb_stats_close(file);
    tmb_calib_folder_remove(&r->folder);
    tmb_calib_spend(&r->spent.publishing, began);
    return report(r, err);
}

/* --- a round -------------------------------------------------------------------------------- */

static tmb_status run_round(tmb_calib_rank *r, tmb_err *err)
{
    int layers = tmb_decoder_layers(r->decoder) + (r->job->options->head ? 1 : 0);
    deal(r);
    if (r->leads && !r->state.embedded)
        TRY(tmb_hidden_make(r->folder.dirfd, r->folder.path, r->round_tokens, r->width, err));
    TRY(tmb_comm_barrier(r->comm, err));
    TRY(tmb_hidden_open(&r->hidden, r->folder.dirfd, r->folder.path, r->round_tokens, r->width,
                        err));
    if (!r->state.embedded) {
        TRY(tmb_calib_embed(r, err));
        TRY(tmb_comm_barrier(r->comm, err));
        r->state.embedded = true;
        if (r->leads) TRY(tmb_calib_folder_save(&r->folder, &r->job->identity, &r->state, err));
    }
    for (int l = (int)r->state.layers; l < layers; l++)
        TRY(tmb_calib_layer(r, l, err));
    return TMB_OK;
}

/* Put the round away and begin the next one. */
static tmb_status next_round(tmb_calib_rank *r, tmb_err *err)
{
    tmb_status status = TMB_OK;
    tmb_hidden_close(&r->hidden);
    if (r->leads) {
        char *path = tmb_calib_part(&r->folder, r->state.round, -1);
        status = path ? assemble(r, path, err) : tmb_fail_memory(err, 0, "a path");
        free(path);
    }
    if (status) return status;
    r->state = (tmb_calib_state){.round = r->state.round + 1};
    if (r->leads) TRY(tmb_calib_folder_save(&r->folder, &r->job->identity, &r->state, err));
    return tmb_comm_barrier(r->comm, err);
}

tmb_status tmb_calib_rounds(tmb_calib_rank *r, tmb_err *err)
{
    uint32_t layers = (uint32_t)tmb_decoder_layers(r->decoder) + (r->job->options->head ? 1 : 0);
    size_t rounds = (r->job->n_use + r->job->per_round - 1) / r->job->per_round;
    if (r->state.layers > layers || r->state.round >= rounds ||
        (r->state.layers && !r->state.embedded))
        return tmb_fail(err, TMB_EDATA,
                        "%s/state.json: says round %u, layer %u, which this run does not have; "
                        "add --restart to begin again",
                        r->folder.path, r->state.round, r->state.layers);
    TRY(recall(r, err));
    for (;;) {
        TRY(run_round(r, err));
        if (!want_more(r)) break;
        TRY(next_round(r, err));
    }
    return finish(r, err);
}
