/* page_verdict.c - what stands on top: the verdict in words, and four figures. */
#include "config.h"
#include "moe/diagnose/page_internal.h"

#include <math.h>
#include <string.h>

static void glance(tmb_html *h, const char *name, const char *value, const char *more)
{
    tmb_html_put(h, "<div><dt>%s</dt><dd>%s</dd><dd>%s</dd></div>\n", name, value, more);
}

static const char *with_range(char *text, size_t size, const char *about, tmb_metric m,
                              tmb_interval v)
{
    tmb_figure range = tmb_page_range(m, v);
    *text = 0;
    if (*range.text) strncat(text, range.text, size - 1);
    if (*range.text && *about) strncat(text, "; ", size - strlen(text) - 1);
    strncat(text, about, size - strlen(text) - 1);
    return text;
}

static void figures(tmb_html *h, const tmb_diagnosis *d)
{
    char more[192];
    const tmb_interval *o = d->overall;
    tmb_html_raw(h, "<dl class=\"glance\">\n");
    if (d->n_sparse)
        glance(
            h, "Expert sets unchanged", tmb_figure_share(o[TMB_M_SET_MATCH].value).text,
            with_range(more, sizeof more, "mean over layers", TMB_M_SET_MATCH, o[TMB_M_SET_MATCH]));
    if (d->n_sparse)
        glance(
            h, "Routing drift",
            isfinite(o[TMB_M_DRIFT].value) ? tmb_figure_times(o[TMB_M_DRIFT].value).text
                                           : tmb_page_value(TMB_M_DRIFT, o[TMB_M_DRIFT].value).text,
            d->noise.tokens ? "times the sets that rounding noise changes" : "no rerun was made");
    glance(h, "KL of the output, nats", tmb_figure_small(o[TMB_M_KL].value).text,
           with_range(more, sizeof more, "", TMB_M_KL, o[TMB_M_KL]));
    char text[128] = "";
    if (isfinite(o[TMB_M_PPL_REF].value))
        strcat(strcat(strcpy(text, "perplexity "), tmb_figure_small(o[TMB_M_PPL_REF].value).text),
               " → ");
    if (*text) strcat(text, tmb_figure_small(o[TMB_M_PPL].value).text);
    glance(h, "Same first choice of token", tmb_figure_share(o[TMB_M_SAME_TOP1].value).text, text);
    tmb_html_raw(h, "</dl>\n");
}

void tmb_page_verdict(tmb_html *h, const tmb_diagnosis *d)
{
    const tmb_verdict *v = &d->verdict;
    tmb_html_raw(h, "<section aria-label=\"Verdict\">\n");
    if (v->n_lines) tmb_html_put(h, "<p class=\"lead\">%s</p>\n", v->lines[0]);
    if (!v->n_lines && d->identical)
        tmb_html_raw(h, "<p class=\"lead\">Both models are equal to the bit on this text.</p>\n");
    figures(h, d);
    for (size_t i = 1; i < v->n_lines; i++)
        tmb_html_put(h, "<p class=\"more\">%s</p>\n", v->lines[i]);
    tmb_html_raw(h, "</section>\n");
}
