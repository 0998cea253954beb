/* residual.c - a token's row between two layers: its hidden state, and behind it what layers hand
 * on: bits that are no numbers, copied byte by byte. */
#include "config.h"
#include "moe/infer/decoder.h"

#include <string.h>

size_t tmb_state_floats(const tmb_config *c)
{
    return c->hidden;
}

size_t tmb_decoder_state(const tmb_decoder *d)
{
    return tmb_state_floats(&d->config);
}

size_t tmb_seen_words(const tmb_decoder *d)
{
    return d->config.hands_seen ? (d->longest + 63) / 64 : 0;
}

size_t tmb_decoder_reach(tmb_decoder *d, size_t longest)
{
    d->longest = longest;
    d->width = tmb_state_floats(&d->config) + tmb_seen_words(d) * 2;
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

void tmb_residual_read(tmb_run *run, const tmb_vector *norm)
{
    const tmb_config *c = &run->d->config;
    run->read = compact(run);
    tmb_norm_rows(run->d, run->h, run->read, norm, run->tokens, c->hidden, c->hidden, c->eps);
}

void tmb_residual_write(tmb_run *run, const float *out)
{
    const tmb_decoder *d = run->d;
    size_t n = d->config.hidden;
    for (size_t t = 0; t < run->tokens; t++)
        d->nn->add_scaled(run->batch->x + t * d->width, out + t * n, 1.0f, n);
}

void tmb_residual_last(const tmb_decoder *d, float *h, const float *x, size_t rows)
{
    const tmb_config *c = &d->config;
    for (size_t t = 0; t < rows; t++)
        d->nn->rms_norm(h + t * c->hidden, x + t * d->width, d->final_norm.values, c->hidden,
                        c->eps);
}
