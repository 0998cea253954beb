/* page.c - the page as a whole: its head, its title, its sections. */
#include "config.h"
#include "moe/diagnose/page.h"
#include "moe/diagnose/page_internal.h"

static void head(tmb_html *h, const tmb_diagnosis *d)
{
    const tmb_diag_manifest *m = &d->manifest;
    tmb_html_put(h,
                 "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                 "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                 "<meta name=\"color-scheme\" content=\"light dark\">\n"
                 "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
                 "style-src 'unsafe-inline'\">\n"
                 "<title>Routing of %s %s %s</title>\n<style>\n",
                 m->recipe_path ? m->ref.path : m->other.path, m->recipe_path ? "under" : "against",
                 m->recipe_path ? m->recipe_path : m->ref.path);
    tmb_html_raw(h, tmb_page_style());
    tmb_html_raw(h, "</style>\n</head>\n<body>\n<main>\n<header>\n<h1>Routing diagnosis</h1>\n");
    if (m->recipe_path)
        tmb_html_put(h, "<p class=\"sub\"><b>%s</b> under <b>%s</b>", m->ref.path, m->recipe_path);
    else
        tmb_html_put(h, "<p class=\"sub\"><b>%s</b> against <b>%s</b>", m->other.path, m->ref.path);
    if (m->ref.arch && *m->ref.arch) tmb_html_put(h, ", %s", m->ref.arch);
    tmb_html_put(h, ", %zu layers", d->n_layers);
    if (d->n_sparse != d->n_layers) tmb_html_put(h, ", %zu with a router", d->n_sparse);
    for (size_t l = 0; l < d->n_layers; l++)
        if (d->layers[l].sparse) {
            tmb_html_put(h, ", %zu experts, top-%zu", d->layers[l].n_experts, d->layers[l].top_k);
            break;
        }
    tmb_html_put(h, "; %s tokens in %s sequences</p>\n</header>\n",
                 tmb_figure_count(m->tokens).text, tmb_figure_count(m->sequences).text);
}

tmb_status tmb_page(const tmb_diagnosis *d, char **text, size_t *n, tmb_err *err)
{
    static void (*const sections[])(tmb_html *, const tmb_diagnosis *) = {
        tmb_page_verdict,  tmb_page_advice,      tmb_page_causes,   tmb_page_layers,
        tmb_page_margins,  tmb_page_load,        tmb_page_replay,   tmb_page_split,
        tmb_page_ablation, tmb_page_sensitivity, tmb_page_manifest, tmb_page_glossary};
    tmb_html h = {0};
    head(&h, d);
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++)
        sections[i](&h, d);
    tmb_html_raw(&h, "</main>\n</body>\n</html>\n");
    return tmb_html_end(&h, text, n, err);
}
