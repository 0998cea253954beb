/* layer.c - one layer of a calibration: all sequences of this rank through it, the figures of all
 * ranks added up and published. */
#include "config.h"
#include "moe/calib/rank.h"

#include "moe/calib/tap.h"

#include <stdlib.h>
#include <string.h>

static tmb_status stopped(const tmb_calib_rank *r, tmb_err *err)
{
    const volatile int *stop = r->job->options->watch.stop;
    if (!stop || !*stop) return TMB_OK;
    return tmb_fail(err, TMB_ESYSTEM, "stopped");
}

/* Rank 0 speaks for all: its share of its own tokens is taken for everybody's. */
static void tell(const tmb_calib_rank *r, int layer, uint64_t done)
{
    const tmb_calibrate_options *o = r->job->options;
    uint64_t layers = (uint64_t)tmb_decoder_layers(r->decoder), mine = 0;
    if (!r->leads || !o->watch.progress) return;
    for (size_t i = r->mine_first; i < r->mine_end; i++)
        mine += tmb_calib_sequence(r->job, i)->n;
    double share = mine ? (double)done / (double)mine : 1;
    tmb_progress p = {.phase = "calibrate",
                      .counted = "tokens",
                      .units = "layers",
                      .done_bytes = (uint64_t)layer * r->round_tokens +
                                    (uint64_t)(share * (double)r->round_tokens),
                      .total_bytes = layers * r->round_tokens,
                      .done_units = (uint32_t)layer,
                      .total_units = (uint32_t)layers};
    o->watch.progress(o->watch.ctx, &p);
}

size_t tmb_calib_batch(const tmb_calib_rank *r, size_t at, size_t end, size_t *tokens)
{
    size_t n = 0;
    *tokens = 0;
    while (at + n < end) {
        size_t more = tmb_calib_sequence(r->job, at + n)->n;
        if (n && *tokens + more > r->batch_tokens) break;
        *tokens += more;
        n++;
    }
    return n;
}

/* The batch of this rank's sequences from `at` on: begin, source. */
static size_t next_batch(tmb_calib_rank *r, size_t at, size_t *tokens)
{
    size_t n = tmb_calib_batch(r, at, r->mine_end, tokens), row = 0;
    for (size_t i = 0; i < n; i++) {
        const tmb_sequence *s = tmb_calib_sequence(r->job, at + i);
        r->begin[i] = row;
        for (uint32_t t = 0; t < s->n; t++)
            r->source[row++] = s->source;
    }
    r->begin[n] = row;
    return n;
}

tmb_status tmb_calib_embed(tmb_calib_rank *r, tmb_err *err)
{
    uint64_t row = r->mine_at;
    size_t n, tokens;
    for (size_t at = r->mine_first; at < r->mine_end; at += n, row += tokens) {
        n = next_batch(r, at, &tokens);
        TRY(stopped(r, err));
        for (size_t i = 0; i < n; i++) {
            const tmb_sequence *s = tmb_calib_sequence(r->job, at + i);
            memcpy(r->ids + r->begin[i], s->ids, s->n * sizeof *r->ids);
        }
        TRY(tmb_decoder_embed(r->decoder, r->ids, tokens, r->x, err));
        TRY(tmb_hidden_write(&r->hidden, 0, row, tokens, r->x, err));
    }
    return tmb_hidden_sync(&r->hidden, 0, err);
}

/* All of this rank's tokens through the layer.  shadow: what they become is thrown away. */
static tmb_status pass(tmb_calib_rank *r, int layer, tmb_tap *tap, const tmb_observer *observer,
                       const uint8_t *shadow, tmb_err *err)
{
    int side = layer % 2, last = tmb_decoder_layers(r->decoder);
    uint64_t row = r->mine_at, done = 0;
    size_t n, tokens, at = r->mine_first;
    for (size_t b = 0; b < r->batches; b++, at += n, row += tokens) {
        n = next_batch(r, at, &tokens);
        tmb_batch batch = {
            .x = r->x, .begin = r->begin, .sequences = n, .observer = observer, .shadow = shadow};
        tap->source = r->source;
        TRY(stopped(r, err));
        double began = tmb_seconds();
        TRY(tmb_hidden_read(&r->hidden, side, row, tokens, r->x, err));
        tmb_calib_spend(&r->spent.hidden, began);
        if (layer == last) {
            TRY(tmb_decoder_head(r->decoder, r->x, tokens, NULL, observer, err));
        } else {
            TRY(tmb_decoder_run(r->decoder, &batch, err));
            began = tmb_seconds();
            if (!shadow) TRY(tmb_hidden_write(&r->hidden, !side, row, tokens, r->x, err));
            tmb_calib_spend(&r->spent.hidden, began);
        }
        done += tokens;
        if (!shadow) tell(r, layer, done);
    }
    return TMB_OK;
}

/* --- starved experts ------------------------------------------------------------------------ */

/* Only what starved experts are shown. */
static tmb_status shadow_linear(void *ctx, const tmb_linear_seen *seen, tmb_err *err)
{
    tmb_tap *tap = ctx;
    tmb_observer all = tmb_tap_observer(tap);
    return seen->shadow ? all.linear(all.ctx, seen, err) : TMB_OK;
}

static void count(const tmb_calib_rank *r, int layer, const tmb_stats_layer *stats)
{
    for (size_t e = 0; stats->router && e < stats->router->experts; e++)
        r->native[(size_t)layer * r->experts + e] += stats->router->load[e];
}

/* Show all tokens to the experts that have too few, and add what they were like. */
static tmb_status run_shadow(tmb_calib_rank *r, int layer, tmb_stats_layer *stats,
                             const tmb_stats_options *options, tmb_err *err)
{
    const tmb_calibrate_options *o = r->job->options;
    const uint64_t *native = r->native + (size_t)layer * r->experts;
    uint64_t *shadowed = r->shadow + (size_t)layer * r->experts;
    uint8_t *mask = NULL;
    bool any = false;
    if (!stats->router || !o->min_tokens || o->starved != TMB_STARVED_SHADOW) return TMB_OK;
    mask = calloc(r->experts, 1);
    if (!mask) return tmb_fail_memory(err, r->experts, "starved experts");
    for (size_t e = 0; e < stats->router->experts; e++)
        any = (mask[e] = native[e] < o->min_tokens) || any;
    tmb_stats_layer *extra = NULL;
    tmb_status status = TMB_OK;
    if (any) {
        tmb_tap tap = {0};
        tmb_observer only = {.linear = shadow_linear, .ctx = &tap};
        status = tmb_stats_layer_new(&extra, r->job->model, layer, options, err);
        tap.layer = extra;
        if (!status) status = pass(r, layer, &tap, &only, mask, err);
        tmb_tap_close(&tap);
        if (!status) status = tmb_stats_layer_reduce(extra, r->comm, err);
        if (!status) status = tmb_stats_layer_add(stats, extra, err);
        for (size_t e = 0; e < stats->router->experts; e++)
            if (mask[e]) shadowed[e] += r->round_tokens;
    }
    tmb_stats_layer_free(extra);
    free(mask);
    return status;
}

/* --- publishing ----------------------------------------------------------------------------- */

/* What the statistics of this round are of.  sources: [n_sources], the caller's. */
static tmb_status identify(const tmb_calib_rank *r, tmb_stats_identity *id,
                           tmb_stats_source *sources, tmb_err *err)
{
    const tmb_calib_job *job = r->job;
    for (size_t i = 0; i < job->data->n_sources; i++)
        sources[i] = (tmb_stats_source){.name = job->data->sources[i].name};
    for (size_t i = r->first; i < r->end; i++) {
        const tmb_sequence *s = tmb_calib_sequence(job, i);
        if (s->source >= job->data->n_sources)
            return tmb_fail(err, TMB_EINTERNAL, "a sequence of no source");
        sources[s->source].sequences++;
        sources[s->source].tokens += s->n;
    }
    *id = (tmb_stats_identity){.model_type = job->model->model_type,
                               .model_sha256 = job->fingerprint,
                               .layers = (uint32_t)tmb_decoder_layers(r->decoder),
                               .moments = job->options->moments,
                               .min_tokens = job->options->min_tokens,
                               .sources = sources,
                               .n_sources = (uint32_t)job->data->n_sources,
                               .sequences = job->digests + r->first * TMB_SEQUENCE_BYTES,
                               .n_sequences = r->end - r->first};
    return TMB_OK;
}

static tmb_status publish(const tmb_calib_rank *r, int layer, const tmb_stats_layer *stats,
                          tmb_err *err)
{
    tmb_stats_identity id;
    tmb_stats_writer *w = NULL;
    tmb_stats_source *sources = calloc(r->job->data->n_sources, sizeof *sources);
    char *path = tmb_calib_part(&r->folder, r->state.round, layer),
         *manifest = tmb_calib_manifest(r);
    tmb_status status = TMB_OK;
    if (!sources || !path || !manifest) status = tmb_fail_memory(err, 0, "statistics");
    if (!status) status = identify(r, &id, sources, err);
    if (!status) status = tmb_stats_create(&w, path, &id, err);
    if (!status) status = tmb_stats_put(w, stats, err);
    if (!status) status = tmb_stats_publish(w, manifest, err);
    tmb_stats_writer_close(w);
    free(sources);
    free(path);
    free(manifest);
    return status;
}

/* A layer counts as done once its statistics and every rank's hidden states are on the disk; only
 * then may the next layer write over this one's input. */
static tmb_status commit(tmb_calib_rank *r, int layer, const tmb_stats_layer *stats, tmb_err *err)
{
    double began = tmb_seconds();
    if (layer < tmb_decoder_layers(r->decoder))
        TRY(tmb_hidden_sync(&r->hidden, (layer + 1) % 2, err));
    began = tmb_calib_spend(&r->spent.hidden, began);
    TRY(tmb_comm_barrier(r->comm, err));
    began = tmb_calib_spend(&r->spent.adding, began);
    r->state.layers = (uint32_t)layer + 1;
    if (r->leads) {
        TRY(publish(r, layer, stats, err));
        TRY(tmb_calib_folder_save(&r->folder, &r->job->identity, &r->state, err));
    }
    tmb_calib_spend(&r->spent.publishing, began);
    return tmb_comm_barrier(r->comm, err);
}

tmb_status tmb_calib_layer(tmb_calib_rank *r, int layer, tmb_err *err)
{
    bool head = layer == tmb_decoder_layers(r->decoder);
    tmb_stats_options options = {.moments = r->job->options->moments,
                                 .sources = (uint32_t)r->job->data->n_sources,
                                 .threads = r->threads};
    tmb_tap tap = {0};
    tmb_observer observer = tmb_tap_observer(&tap);
    tmb_stats_layer *stats = NULL;
    tmb_status status =
        tmb_stats_layer_new(&stats, r->job->model, head ? TMB_STATS_HEAD : layer, &options, err);
    tap.layer = stats;
    if (!status && !head) status = tmb_decoder_load(r->decoder, layer, err);
    if (!status) status = pass(r, layer, &tap, &observer, NULL, err);
    double began = tmb_seconds();
    if (!status) status = tmb_stats_layer_reduce(stats, r->comm, err);
    tmb_calib_spend(&r->spent.adding, began);
    if (!status && !head) count(r, layer, stats);
    if (!status && !head) status = run_shadow(r, layer, stats, &options, err);
    if (!status) status = commit(r, layer, stats, err);
    tmb_tap_close(&tap);
    tmb_stats_layer_free(stats);
    return status;
}
