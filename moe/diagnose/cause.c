/* cause.c - the order of finding causes. */
#include "config.h"
#include "moe/diagnose/cause_internal.h"

#include "moe/tokens/random.h"

#include <stdlib.h>

enum { TOKENS = 8192 };

/* So many sequences as have the tokens wanted, drawn from all: every one is taken with the chance
 * that brings just as many, in their order (Knuth, Seminumerical Algorithms, 3.4.2, algorithm S). */
static void draw(tmb_inquest *q, const tmb_data *data, size_t most)
{
    tmb_random random = tmb_random_open(q->options->seed, 1);
    for (size_t i = 0; i < data->n_sequences && q->some.n_sequences < most; i++) {
        const tmb_sequence *s = &data->sequences[i];
        uint64_t left = data->n_sequences - i, wanted = most - q->some.n_sequences;
        if (tmb_random_below(&random, left) >= wanted) continue;
        q->some.sequences[q->some.n_sequences++] = *s;
        q->some.tokens += s->n;
        if (s->n > q->some.longest) q->some.longest = s->n;
    }
}

static tmb_status choose(tmb_inquest *q, const tmb_data *data, tmb_err *err)
{
    uint64_t wanted = q->options->tokens ? q->options->tokens : TOKENS;
    size_t n = data->n_sequences, most = n;
    if (data->tokens > wanted) {
        double mean = (double)data->tokens / (double)n;
        most = (size_t)((double)wanted / mean);
        most = most < 1 ? 1 : most > n ? n : most;
    }
    q->some = *data;
    q->some.sequences = calloc(most + 1, sizeof *q->some.sequences);
    if (!q->some.sequences) return tmb_fail_memory(err, most * 16, "sequences");
    q->some.n_sequences = 0;
    q->some.tokens = 0;
    q->some.longest = 0;
    draw(q, data, most);
    return tmb_boot_open(&q->boot, most, q->options->replicates, q->options->seed, err);
}

/* How far each routed expert's weights are changed. */
static void fill_experts(tmb_inquest *q)
{
    tmb_diagnosis *d = q->d;
    for (size_t l = 0; l < d->n_layers && (int)l < q->screen.layers; l++)
        for (size_t e = 0; d->layers[l].experts && e < d->layers[l].n_experts; e++) {
            if (e >= q->screen.n_experts) break;
            const tmb_screened_expert *s = &q->screen.experts[l * q->screen.n_experts + e];
            d->layers[l].experts[e].weight_error = tmb_screen_error(s->error2, s->norm2);
        }
}

tmb_status tmb_causes_find(tmb_diagnosis *d, const tmb_variant *ref, const tmb_variant *other,
                           const tmb_data *data, const tmb_cause_options *options, tmb_err *err)
{
    tmb_inquest q = {.d = d, .options = options};
    tmb_status status = choose(&q, data, err);
    if (!status) status = tmb_mixer_open(&q.mixer, ref, other, err);
    if (!status) status = tmb_screen_run(&q.screen, &q.mixer, options->run.threads, err);
    if (!status && d) fill_experts(&q);
    if (!status) status = tmb_cause_suspect(&q, err);
    if (!status) status = tmb_cause_ablate(&q, err);
    if (!status) status = tmb_cause_rank(&q, err);
    if (!status) status = tmb_cause_advise(&q, err);
    if (!status) status = tmb_cause_words(&q, err);
    for (size_t i = 0; i < q.n_runs; i++)
        tmb_scores_free(&q.runs[i].scores, 1);
    free(q.runs);
    tmb_screen_free(&q.screen);
    tmb_mixer_close(&q.mixer);
    tmb_boot_close(&q.boot);
    free(q.some.sequences);
    return status;
}
