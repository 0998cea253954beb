/* data.c - several sources, one list of sequences. */
#include "config.h"
#include "moe/tokens/collect.h"

#include "kernels/base/mem.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tmb_data_private {
    int32_t *pool; /* n, source, ids[n] of each sequence: what is hashed */
    tmb_arena arena;
};

/* --- options
 * -------------------------------------------------------------------------------------- */

static tmb_status check_options(const tmb_data_options *o, tmb_err *err)
{
    uint64_t all;
    if (!o->n_sources)
        return tmb_fail(err, TMB_EUSAGE,
                        "no data; give --data FILE, or source.NAME = FILE under "
                        "[calibration]");
    if (o->n_sources > TMB_SOURCES_MAX)
        return tmb_fail(err, TMB_EUSAGE, "%zu sources, %d are possible; join some", o->n_sources,
                        TMB_SOURCES_MAX);
    if (!o->length && o->fit != TMB_FIT_WHOLE)
        return tmb_fail(err, TMB_EUSAGE, "no length for the sequences; give one");
    if (o->length > TMB_DATA_TOKENS_MAX || !tmb_mul(o->samples, o->length ? o->length : 1, &all) ||
        all > TMB_DATA_TOKENS_MAX)
        return tmb_fail(err, TMB_EUSAGE,
                        "%" PRIu64 " sequences of %" PRIu32 " tokens are over %u; ask for fewer or "
                        "shorter ones",
                        o->samples, o->length, TMB_DATA_TOKENS_MAX);
    for (size_t i = 0; i < o->n_sources; i++)
        for (size_t j = 0; j < i; j++)
            if (strcmp(o->sources[i].name, o->sources[j].name) == 0)
                return tmb_fail(err, TMB_EUSAGE,
                                "two sources are called '%s'; name them: NAME=%.200s",
                                o->sources[i].name, o->sources[i].path);
    return TMB_OK;
}

/* samples by weight: the whole parts, and what is left to the largest remainders. */
static tmb_status set_quotas(tmb_data *d, const tmb_data_options *o, tmb_err *err)
{
    double sum = 0;
    uint64_t given = 0;
    if (!o->samples) return TMB_OK;
    for (size_t i = 0; i < d->n_sources; i++)
        sum += d->sources[i].weight;
    for (size_t i = 0; i < d->n_sources; i++) {
        double share = (double)o->samples * (d->sources[i].weight / sum);
        d->sources[i].quota = share < (double)o->samples ? (uint64_t)share : o->samples;
        given += d->sources[i].quota;
    }
    for (; given < o->samples; given++) {
        size_t best = 0;
        double most = -INFINITY;
        for (size_t i = 0; i < d->n_sources; i++) {
            double rest =
                (double)o->samples * (d->sources[i].weight / sum) - (double)d->sources[i].quota;
            if (rest > most) {
                most = rest;
                best = i;
            }
        }
        d->sources[best].quota++;
    }
    for (size_t i = 0; i < d->n_sources; i++)
        if (!d->sources[i].quota)
            return tmb_fail(err, TMB_EUSAGE,
                            "source '%s': its weight gives it none of %" PRIu64 " samples; ask for "
                            "more samples, raise the weight or leave it out",
                            d->sources[i].name, o->samples);
    return TMB_OK;
}

/* --- the list
 * --------------------------------------------------------------------------------------- */

/* The source whose turn it is: with taken + 1/2 of its sequences it is the farthest behind. */
static size_t next_source(const tmb_collection *c, const size_t *taken, size_t n)
{
    size_t best = n;
    for (size_t i = 0; i < n; i++) {
        if (taken[i] == c[i].n) continue;
        if (best == n || (2 * taken[i] + 1) * c[best].n < (2 * taken[best] + 1) * c[i].n) best = i;
    }
    return best;
}

static tmb_status list(tmb_data *d, tmb_collection *c, bool sampled, tmb_err *err)
{
    size_t n = 0, tokens = 0, taken[TMB_SOURCES_MAX] = {0}, at = 0, source = 0;
    for (size_t i = 0; i < d->n_sources; i++) {
        n += c[i].n;
        tokens += c[i].ids.n;
    }
    size_t room = tokens + 2 * n;
    d->sequences = calloc(n, sizeof *d->sequences);
    d->priv->pool = malloc(room * sizeof *d->priv->pool);
    if (!d->sequences || !d->priv->pool)
        return tmb_fail_memory(err, room * sizeof *d->priv->pool, "token ids");
    for (size_t i = 0; i < n; i++) {
        if (sampled)
            source = next_source(c, taken, d->n_sources);
        else
            while (taken[source] == c[source].n)
                source++;
        const tmb_piece *p = &c[source].pieces[taken[source]++];
        int32_t *to = d->priv->pool + at;
        to[0] = (int32_t)p->n;
        to[1] = (int32_t)source;
        memcpy(to + 2, c[source].ids.ids + p->at, p->n * sizeof *to);
        d->sequences[i] = (tmb_sequence){to + 2, p->n, (uint32_t)source};
        at += 2 + p->n;
        if (p->n > d->longest) d->longest = p->n;
    }
    d->n_sequences = n;
    d->tokens = tokens;
    return tmb_sha256(d->priv->pool, at * sizeof *d->priv->pool, d->sha256, err);
}

static tmb_status note(tmb_data *d, const tmb_data_source *s, tmb_err *err)
{
    d->notes[d->n_notes] = tmb_arena_printf(
        &d->priv->arena,
        "source '%s' has %" PRIu64 " sequences where %" PRIu64
        " are wanted; all are taken, and its share is smaller than its weight says",
        s->name, s->sequences, s->quota);
    return d->notes[d->n_notes++] ? TMB_OK : tmb_fail_memory(err, 0, "a note");
}

/* A tokenizer of another model cannot be told for sure; one that leaves most of the rows without a
 * token can be suspected. */
static tmb_status suspect(tmb_data *d, const tmb_data_options *o, const tmb_tokenizer *tokenizer,
                          tmb_err *err)
{
    uint64_t ids = tmb_tokenizer_ids(tokenizer);
    if (ids >= o->vocab / 2) return TMB_OK;
    d->notes[d->n_notes] =
        tmb_arena_printf(&d->priv->arena,
                         "the tokenizer has %" PRIu64 " ids and the embedding %" PRIu64
                         " rows; make sure that it is the model's own",
                         ids, o->vocab);
    return d->notes[d->n_notes++] ? TMB_OK : tmb_fail_memory(err, 0, "a note");
}

static tmb_status fill(tmb_data *d, const tmb_data_options *o, tmb_collection *c, tmb_err *err)
{
    tmb_docs_context context = {.o = o};
    tmb_status status = TMB_OK;
    uint64_t all = 0;
    for (size_t i = 0; i < d->n_sources && !status; i++) {
        tmb_docs docs;
        tmb_data_source *s = &d->sources[i];
        status = tmb_docs_open(&docs, s->path, &context, err);
        if (!status) status = tmb_collect(&c[i], &docs, o, i, s->quota, s, all, err);
        all += c[i].ids.n;
        tmb_docs_close(&docs);
        if (!status && s->sequences < s->quota) status = note(d, s, err);
    }
    if (context.tokenizer && !status) status = suspect(d, o, context.tokenizer, err);
    if (context.tokenizer)
        memcpy(d->tokenizer_sha256, tmb_tokenizer_sha256(context.tokenizer), TMB_SHA256_HEX);
    tmb_encoder_close(context.encoder);
    tmb_tokenizer_close(context.tokenizer);
    return status ? status : list(d, c, o->samples != 0, err);
}

tmb_status tmb_data_open(tmb_data **out, const tmb_data_options *o, tmb_err *err)
{
    *out = NULL;
    TRY(check_options(o, err));
    tmb_data *d = calloc(1, sizeof *d);
    tmb_collection *c = calloc(o->n_sources, sizeof *c);
    tmb_status status = TMB_OK;
    if (d) {
        d->priv = calloc(1, sizeof *d->priv);
        d->sources = calloc(o->n_sources, sizeof *d->sources);
        d->notes = calloc(o->n_sources + 1, sizeof *d->notes);
        d->n_sources = o->n_sources;
    }
    if (!d || !c || !d->priv || !d->sources || !d->notes)
        status = tmb_fail_memory(err, o->n_sources * sizeof *d->sources, "sources");
    for (size_t i = 0; i < o->n_sources && !status; i++) {
        const tmb_source *s = &o->sources[i];
        char *name = tmb_arena_text(&d->priv->arena, s->name, strlen(s->name));
        char *path = tmb_arena_text(&d->priv->arena, s->path, strlen(s->path));
        if (!name || !path) status = tmb_fail_memory(err, 0, "sources");
        d->sources[i] = (tmb_data_source){.name = name, .path = path, .weight = s->weight};
    }
    if (!status) status = set_quotas(d, o, err);
    if (!status) status = fill(d, o, c, err);
    for (size_t i = 0; c && i < o->n_sources; i++) {
        free(c[i].ids.ids);
        free(c[i].pieces);
    }
    free(c);
    if (status)
        tmb_data_close(d);
    else
        *out = d;
    return status;
}

void tmb_data_close(tmb_data *d)
{
    if (!d) return;
    if (d->priv) {
        free(d->priv->pool);
        tmb_arena_free(&d->priv->arena);
    }
    free(d->priv);
    free(d->notes);
    free(d->sources);
    free(d->sequences);
    free(d);
}

void tmb_data_block(const tmb_data *d, size_t first, size_t count, uint32_t width, int32_t pad,
                    int32_t *ids, uint8_t *mask)
{
    for (size_t i = 0; i < count; i++) {
        const tmb_sequence *s = &d->sequences[first + i];
        for (uint32_t k = 0; k < width; k++) {
            if (ids) ids[i * width + k] = k < s->n ? s->ids[k] : pad;
            if (mask) mask[i * width + k] = k < s->n;
        }
    }
}
