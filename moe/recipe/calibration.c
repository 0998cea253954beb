/* calibration.c - the values of [calibration].
 *
 * Paths stand relative to the recipe, so that a folder with a recipe and its data can be moved. */
#include "config.h"
#include "moe/recipe/draft.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* MIN_TOKENS: a second-moment matrix of 16 channels has full rank from 16 rows on; four times that
 * is where its shape begins to mean something. */
enum { SAMPLES = 512, LENGTH = 2048, LENGTH_MAX = 1 << 20, MIN_TOKENS = 64 };
#define SAMPLES_MAX (1u << 24)
#define TOKENS_MAX  (UINT64_C(1) << 40)

void tmb_calibration_defaults(tmb_calibration *c)
{
    c->samples = SAMPLES;
    c->length = LENGTH;
    c->fit = TMB_FIT_PACK;
    c->min_tokens = MIN_TOKENS;
    c->moments = true;
}

static tmb_status number(tmb_draft *d, const char *key, const char *value, uint64_t low,
                         uint64_t high, uint64_t *out)
{
    uint64_t n = 0;
    const char *p = value;
    bool fits = true;
    for (; *p >= '0' && *p <= '9'; p++)
        fits = fits && tmb_mul(n, 10, &n) && tmb_add(n, (uint64_t)(*p - '0'), &n);
    if (!fits || *p || p == value || n < low || n > high)
        return tmb_draft_fail(d, d->line, "%s = %s is no number from %llu to %llu", key, value,
                              (unsigned long long)low, (unsigned long long)high);
    *out = n;
    return TMB_OK;
}

tmb_status tmb_draft_samples(tmb_draft *d, const char *value)
{
    return number(d, "samples", value, 1, SAMPLES_MAX, &d->recipe->calibration.samples);
}

tmb_status tmb_draft_length(tmb_draft *d, const char *value)
{
    uint64_t n = 0;
    TRY(number(d, "length", value, 2, LENGTH_MAX, &n));
    d->recipe->calibration.length = (uint32_t)n;
    return TMB_OK;
}

tmb_status tmb_draft_seed(tmb_draft *d, const char *value)
{
    return number(d, "seed", value, 0, UINT64_MAX, &d->recipe->calibration.seed);
}

tmb_status tmb_draft_max_samples(tmb_draft *d, const char *value)
{
    return number(d, "max_samples", value, 1, SAMPLES_MAX, &d->recipe->calibration.max_samples);
}

tmb_status tmb_draft_min_tokens(tmb_draft *d, const char *value)
{
    return number(d, "min_tokens", value, 0, TOKENS_MAX, &d->recipe->calibration.min_tokens);
}

/* words: up to a NULL; *out is the place of value among them. */
static tmb_status word(tmb_draft *d, const char *key, const char *value, const char *const *words,
                       int *out)
{
    char list[64] = "";
    for (*out = 0; words[*out]; ++*out) {
        if (strcmp(value, words[*out]) == 0) return TMB_OK;
        size_t n = strlen(list);
        snprintf(list + n, sizeof list - n, "%s%s", n ? ", " : "", words[*out]);
    }
    return tmb_draft_fail(d, d->line, "%s = %s is not known; use one of %s", key, value, list);
}

tmb_status tmb_draft_fit(tmb_draft *d, const char *value)
{
    static const char *const words[] = {"pack", "pad", NULL};
    int at;
    TRY(word(d, "fit", value, words, &at));
    d->recipe->calibration.fit = at ? TMB_FIT_PAD : TMB_FIT_PACK;
    return TMB_OK;
}

tmb_status tmb_draft_starved(tmb_draft *d, const char *value)
{
    static const char *const words[] = {"shadow", "peers", "fail", NULL};
    int at;
    TRY(word(d, "starved", value, words, &at));
    d->recipe->calibration.starved = (tmb_starved_policy)at;
    return TMB_OK;
}

tmb_status tmb_draft_hessian(tmb_draft *d, const char *value)
{
    static const char *const words[] = {"block16", "none", NULL};
    int at;
    TRY(word(d, "hessian", value, words, &at));
    d->recipe->calibration.moments = at == 0;
    return TMB_OK;
}

tmb_status tmb_draft_act_scale(tmb_draft *d, const char *value)
{
    static const char *const words[] = {"max", "headroom", NULL};
    int at;
    TRY(word(d, "act_scale", value, words, &at));
    d->recipe->calibration.headroom = at == 1;
    return TMB_OK;
}

/* path beside the recipe's own. */
static const char *beside(tmb_draft *d, const char *path)
{
    const char *recipe = d->recipe->path, *slash = strrchr(recipe, '/');
    if (*path == '/' || !slash) return path;
    return tmb_arena_printf(&d->recipe->arena, "%.*s/%s", (int)(slash - recipe), recipe, path);
}

/* One more in both lists; false without memory. */
static bool append(tmb_draft *d, const tmb_source *source, const char *written)
{
    tmb_calibration *c = &d->recipe->calibration;
    size_t n = c->n_sources;
    if (n % 16 == 0) { /* arenas do not give back: at most 16 copies of a short list */
        tmb_source *sources = tmb_arena_alloc(&d->recipe->arena, (n + 16) * sizeof *sources);
        const char **texts = tmb_arena_alloc(&d->recipe->arena, (n + 16) * sizeof *texts);
        if (!sources || !texts) return false;
        if (n) memcpy(sources, c->sources, n * sizeof *sources);
        if (n) memcpy(texts, c->written, n * sizeof *texts);
        c->sources = sources;
        c->written = texts;
    }
    c->sources[n] = *source;
    c->written[n] = written;
    c->n_sources++;
    return true;
}

tmb_status tmb_draft_source(tmb_draft *d, const char *name, const char *value)
{
    tmb_calibration *c = &d->recipe->calibration;
    tmb_source s = {.weight = 1, .line = d->line};
    if (!tmb_source_name(name, strlen(name)))
        return tmb_draft_fail(d, d->line,
                              "'source.%s' is no name for a source; letters, digits, '-', '_' and "
                              "'.' are possible, at most %d",
                              name, TMB_SOURCE_NAME_MAX);
    for (size_t i = 0; i < c->n_sources; i++)
        if (strcmp(c->sources[i].name, name) == 0)
            return tmb_draft_fail(d, d->line,
                                  "'source.%s' was already given in line %d; remove one", name,
                                  c->sources[i].line);
    if (c->n_sources == TMB_SOURCES_MAX)
        return tmb_draft_fail(d, d->line, "over %d sources; join some", TMB_SOURCES_MAX);

    const char *comma = strrchr(value, ',');
    size_t n = comma ? (size_t)(comma - value) : strlen(value);
    while (n && (value[n - 1] == ' ' || value[n - 1] == '\t'))
        n--;
    if (!n || *value == ';')
        return tmb_draft_fail(d, d->line, "source.%s: no file; write source.%s = PATH, WEIGHT",
                              name, name);
    if (comma) {
        const char *weight = comma + 1 + strspn(comma + 1, " \t");
        if (!tmb_weight_parse(weight, &s.weight))
            return tmb_draft_fail(d, d->line,
                                  "source.%s: '%s' is no weight; write a number over 0 behind the "
                                  "comma, or no comma",
                                  name, weight);
    }
    s.name = tmb_arena_text(&d->recipe->arena, name, strlen(name));
    const char *written = tmb_arena_text(&d->recipe->arena, value, strlen(value));
    const char *path = tmb_arena_text(&d->recipe->arena, value, n);
    s.path = path ? beside(d, path) : NULL;
    return s.name && s.path && written && append(d, &s, written) ? TMB_OK : tmb_draft_memory(d);
}
