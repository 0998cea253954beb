/* page_manifest.c - what was run, by hashes, and what the words mean. */
#include "config.h"
#include "moe/diagnose/page_internal.h"

#include <math.h>

static void fact(tmb_html *h, const char *name, const char *value)
{
    if (value && *value) tmb_html_put(h, "<dt>%s</dt><dd>%s</dd>\n", name, value);
}

static void hash(tmb_html *h, const char *name, const char *value)
{
    if (value && *value) tmb_html_put(h, "<dt>%s</dt><dd><code>%s</code></dd>\n", name, value);
}

static void model(tmb_html *h, const char *name, const tmb_diag_model *m)
{
    tmb_html_put(h, "<dt>%s</dt><dd>%s%s%s<br><code>%s</code></dd>\n", name, m->path,
                 m->formats && *m->formats ? ": " : "", m->formats ? m->formats : "",
                 m->fingerprint);
}

void tmb_page_manifest(tmb_html *h, const tmb_diagnosis *d)
{
    const tmb_diag_manifest *m = &d->manifest;
    tmb_html_raw(h, "<section><h2>What was run</h2>\n<dl class=\"facts\">\n");
    fact(h, "tombac", m->version);
    model(h, "reference", &m->ref);
    model(h, "quantized", &m->other);
    fact(h, "recipe", m->recipe_path);
    hash(h, "recipe SHA-256", m->recipe_sha256);
    hash(h, "statistics", m->stats_sha256);
    for (size_t i = 0; i < m->n_sources; i++)
        fact(h, i ? "" : "data", m->sources[i]);
    hash(h, "data SHA-256", m->data_sha256);
    tmb_html_put(h, "<dt>text</dt><dd>%s sequences, ", tmb_figure_count(m->sequences).text);
    tmb_html_put(h, "%s tokens, ", tmb_figure_count(m->tokens).text);
    tmb_html_put(h, "%s scored</dd>\n", tmb_figure_count(m->scored).text);
    if (d->noise.tokens) {
        tmb_html_put(h, "<dt>noise floor</dt><dd>%s; %s sequences, ", d->noise.what,
                     tmb_figure_count(d->noise.sequences).text);
        tmb_html_put(h, "%s tokens: ", tmb_figure_count(d->noise.tokens).text);
        tmb_html_put(h, "%s of the sets unchanged, KL %s</dd>\n",
                     tmb_figure_share(d->noise.set_match.value).text,
                     tmb_figure_small(d->noise.kl.value).text);
    }
    tmb_html_put(
        h, "<dt>intervals</dt><dd>95 %%, bootstrap over sequences, %u replicates, seed %s</dd>\n",
        m->replicates, tmb_figure_count(m->seed).text);
    tmb_html_raw(h, "</dl>\n");
    if (m->recipe_text) {
        tmb_html_raw(h, "<details><summary>The recipe</summary><pre>");
        tmb_html_lines(h, m->recipe_text);
        tmb_html_raw(h, "</pre></details>\n");
    }
    tmb_html_raw(h, "</section>\n");
}

void tmb_page_glossary(tmb_html *h, const tmb_diagnosis *d)
{
    static const char *const words[][2] = {
        {"position", "one token in one layer with a router"},
        {"set", "the k experts a router chooses for a token"},
        {"margin", "distance between the last expert chosen and the best not chosen, in what the "
                   "router compares"},
        {"flip", "a position whose set is another one"},
        {"tie", "a margin below one step of bf16, so that rounding alone may decide"},
        {"noise floor",
         "what changes when the reference itself is run with another legal rounding"},
        {"local", "measured with the reference's exact inputs, so without what earlier layers did"},
        {"gate mass", "the weights by which the chosen experts' outputs are multiplied"},
    };
    tmb_html_raw(h, "<section><h2>Words</h2>\n<dl class=\"facts words\">\n");
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        fact(h, words[i][0], words[i][1]);
    for (int k = 0; k < TMB_METRICS; k++) {
        tmb_metric m = (tmb_metric)k;
        bool used = !isnan(d->overall[m].value);
        for (size_t l = 0; l < d->n_layers && !used; l++)
            used = !isnan(d->layers[l].metrics[m].value);
        if (used) fact(h, tmb_metric_of(m)->title, tmb_metric_of(m)->about);
    }
    tmb_html_raw(h, "</dl>\n</section>\n");
}
