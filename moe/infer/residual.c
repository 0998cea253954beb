/* residual.c - a token's row between two layers: its hidden state, one stream or several, and
 * behind it what layers hand on: bits that are no numbers, copied byte by byte. */
#include "config.h"
#include "moe/infer/decoder.h"

#include <string.h>

extern const tmb_streaming tmb_streaming_hyper, tmb_streaming_manifold;

static const tmb_streaming *const streamings[] = {
    [TMB_STREAMS_ONE] = NULL,
    [TMB_STREAMS_HYPER] = &tmb_streaming_hyper,
    [TMB_STREAMS_MANIFOLD] = &tmb_streaming_manifold,
};

const tmb_streaming *tmb_streaming_of(const tmb_config *c)
{
    return streamings[c->rules->streams];
}

size_t tmb_state_floats(const tmb_config *c)
{
    return c->streams * c->hidden;
}

size_t tmb_decoder_state(const tmb_decoder *d)
{
    return tmb_state_floats(&d->config);
}

size_t tmb_seen_words(const tmb_decoder *d)
{
    return d->config.hands_seen ? (d->longest + 63) / 64 : 0;
}

/* The state, the id, the keys. */
size_t tmb_decoder_reach(tmb_decoder *d, size_t longest)
{
    d->longest = longest;
    d->width = tmb_state_floats(&d->config) + d->config.hands_id + tmb_seen_words(d) * 2;
    return d->width;
}

void tmb_hand_seen(const tmb_decoder *d, float *x, const uint64_t *seen, size_t tokens)
{
    size_t words = tmb_seen_words(d), at = d->width - 2 * words;
    for (size_t t = 0; t < tokens; t++)
        memcpy(x + t * d->width + at, seen + t * words, words * sizeof *seen);
}

void tmb_handed_seen(const tmb_decoder *d, const float *x, uint64_t *seen, size_t tokens)
{
    size_t words = tmb_seen_words(d), at = d->width - 2 * words;
    for (size_t t = 0; t < tokens; t++)
        memcpy(seen + t * words, x + t * d->width + at, words * sizeof *seen);
}

void tmb_hand_id(const tmb_decoder *d, float *row, int32_t id)
{
    _Static_assert(sizeof id == sizeof *row, "an id takes the room of a float");
    if (d->config.hands_id) memcpy(row + tmb_state_floats(&d->config), &id, sizeof id);
}

int32_t tmb_handed_id(const tmb_decoder *d, const float *row)
{
    int32_t id;
    memcpy(&id, row + tmb_state_floats(&d->config), sizeof id);
    return id;
}

/* What a half reads, without what layers hand on. */
static const float *compact(tmb_run *run)
{
    const tmb_decoder *d = run->d;
    size_t n = d->config.hidden;
    if (d->width == n) return run->batch->x;
    for (size_t t = 0; t < run->tokens; t++)
        memcpy(run->copy + t * n, run->batch->x + t * d->width, n * sizeof *run->copy);
    return run->copy;
}

void tmb_residual_begin(const tmb_decoder *d, float *x, size_t rows)
{
    size_t n = d->config.hidden;
    for (size_t t = 0; t < rows; t++)
        for (size_t s = 1; s < d->config.streams; s++)
            memcpy(x + t * d->width + s * n, x + t * d->width, n * sizeof *x);
}

tmb_status tmb_residual_read(tmb_run *run, int half, const tmb_vector *norm)
{
    const tmb_config *c = &run->d->config;
    const tmb_streaming *s = tmb_streaming_of(c);
    if (!half && s && s->enter && run->tokens) TRY(s->enter(run));
    if (s && run->tokens)
        TRY(s->read(run->d, &run->layer->mixing[half], run->batch->x, run->tokens, run->copy,
                    run->mix, run->err));
    run->read = s ? run->copy : compact(run);
    if (!norm->tensor) { /* what is read is normed already */
        memcpy(run->h, run->read, run->tokens * c->hidden * sizeof *run->h);
        return TMB_OK;
    }
    tmb_norm_rows(run->d, run->h, run->read, norm, run->tokens, c->hidden, c->hidden, c->eps);
    return TMB_OK;
}

tmb_status tmb_residual_write(tmb_run *run, int half, const float *out)
{
    const tmb_decoder *d = run->d;
    const tmb_streaming *s = tmb_streaming_of(&d->config);
    size_t n = d->config.hidden;
    (void)half;
    if (s && run->tokens)
        return s->write(run->d, run->batch->x, out, run->mix, run->tokens, run->err);
    for (size_t t = 0; t < run->tokens; t++)
        d->nn->add_scaled(run->batch->x + t * d->width, out + t * n, 1.0f, n);
    return TMB_OK;
}

tmb_status tmb_residual_last(tmb_decoder *d, float *h, const float *x, size_t rows, tmb_err *err)
{
    const tmb_config *c = &d->config;
    const tmb_streaming *s = tmb_streaming_of(c);
    if (s) return s->last(d, h, x, rows, err);
    for (size_t t = 0; t < rows; t++)
        d->nn->rms_norm(h + t * c->hidden, x + t * d->width, d->final_norm.values, c->hidden,
                        c->eps);
    return TMB_OK;
}

size_t tmb_mix_floats(const tmb_config *c)
{
    const tmb_streaming *s = tmb_streaming_of(c);
    return s ? s->mix_floats(c) : 0;
}

uint64_t tmb_residual_bytes(const tmb_decoder *d, uint64_t tokens)
{
    const tmb_streaming *s = tmb_streaming_of(&d->config);
    return s ? s->bytes(d, tokens) : 0;
}
