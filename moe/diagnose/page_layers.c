/* page_layers.c - layer by layer: a heat map, a strip a metric, and all numbers in a table. */
#include "config.h"
#include "moe/diagnose/page_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the heat map shows; what is left out stands in the table. */
static const tmb_metric shown[] = {
    TMB_M_SET_MATCH,   TMB_M_TOP1_MATCH, TMB_M_GATE_TV,      TMB_M_GATE_LOST,    TMB_M_ROUTER_KL,
    TMB_M_LOGIT_ERROR, TMB_M_REAL_FLIPS, TMB_M_DRIFT,        TMB_M_LOCAL_ROUTER, TMB_M_LOCAL_LAYER,
    TMB_M_GROUP_MATCH, TMB_M_LOAD_KL,    TMB_M_HIDDEN_ERROR, TMB_M_LOCAL_ERROR,
};

typedef struct row {
    const tmb_diagnosis *d;
    tmb_metric m;
} row;

static void said(void *ctx, size_t i, char *text, size_t size)
{
    const row *r = ctx;
    const tmb_diag_layer *l = &r->d->layers[i];
    tmb_interval v = l->metrics[r->m];
    tmb_figure range = tmb_page_range(r->m, v);
    if (isnan(v.value))
        snprintf(text, size, "layer %d: %s", l->layer, l->sparse ? "not measured" : "no router");
    else
        snprintf(text, size, "layer %d: %s %s%s%s%s", l->layer, tmb_metric_of(r->m)->title,
                 tmb_page_value(r->m, v.value).text, *range.text ? " (" : "", range.text,
                 *range.text ? ")" : "");
}

/* How bad: 0 is no difference. */
static double badness(tmb_metric m, double value)
{
    double bad = tmb_metric_of(m)->worse == TMB_WORSE_LOW ? 1 - value : value;
    if (isnan(value)) return value;
    if (isinf(bad)) return 1e9; /* drift where noise changes nothing */
    return bad < 1e-12 ? 0 : bad;
}

/* The darkest colour is kept for what matters: a twentieth of the positions, and the like. */
static double least_of(tmb_metric m)
{
    const char *unit = tmb_metric_of(m)->unit;
    if (m == TMB_M_DRIFT) return 5;
    return strcmp(unit, "nats") == 0 ? 0.01 : 0.05;
}

static bool has(const tmb_diagnosis *d, tmb_metric m)
{
    for (size_t l = 0; l < d->n_layers; l++)
        if (!isnan(d->layers[l].metrics[m].value)) return true;
    return false;
}

static void strips(tmb_html *h, const tmb_diagnosis *d, double *bad)
{
    tmb_html_raw(h, "<table class=\"heat\"><tbody>\n");
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++) {
        tmb_metric m = shown[i];
        if (!has(d, m)) continue;
        for (size_t l = 0; l < d->n_layers; l++)
            bad[l] = badness(m, d->layers[l].metrics[m].value);
        tmb_figure overall = tmb_page_value(m, d->overall[m].value);
        tmb_strip s = {tmb_metric_of(m)->title,
                       tmb_metric_of(m)->about,
                       bad,
                       d->n_layers,
                       least_of(m),
                       overall.text};
        row r = {d, m};
        tmb_page_strip(h, &s, said, &r);
    }
    tmb_page_strip_axis(h, d->n_layers);
    tmb_html_raw(h, "</tbody></table>\n");
}

static void numbers(tmb_html *h, const tmb_diagnosis *d, bool *use, double *most)
{
    tmb_html_put(h,
                 "<details%s><summary>All numbers, layer by layer</summary>\n<div class=\"wide\" "
                 "tabindex=\"0\" role=\"region\" aria-label=\"All numbers\"><table "
                 "class=\"cells\"><thead><tr><th scope=\"col\">layer</th>",
                 "");
    for (int m = 0; m < TMB_M_OUTPUT; m++)
        if (use[m])
            tmb_html_put(h, "<th scope=\"col\" title=\"%s\">%s</th>",
                         tmb_metric_of((tmb_metric)m)->about, tmb_metric_of((tmb_metric)m)->title);
    tmb_html_raw(h, "</tr></thead>\n<tbody>\n");
    for (size_t l = 0; l < d->n_layers; l++) {
        tmb_html_put(h, "<tr><th scope=\"row\">%d</th>", d->layers[l].layer);
        for (int k = 0; k < TMB_M_OUTPUT; k++) {
            tmb_metric m = (tmb_metric)k;
            double value = d->layers[l].metrics[m].value;
            if (!use[m]) continue;
            if (isnan(value))
                tmb_html_raw(h, "<td>–</td>");
            else if (tmb_metric_of(m)->worse == TMB_WORSE_NEITHER)
                tmb_html_put(h, "<td>%s</td>", tmb_page_value(m, value).text);
            else
                tmb_html_put(h, "<td class=\"h%d\">%s</td>",
                             tmb_page_shade(badness(m, value), most[m]),
                             tmb_page_value(m, value).text);
        }
        tmb_html_raw(h, "</tr>\n");
    }
    tmb_html_raw(h, "</tbody><tfoot><tr><th scope=\"row\">overall</th>");
    for (int m = 0; m < TMB_M_OUTPUT; m++)
        if (use[m]) {
            tmb_html_put(h, "<td>%s</td>", tmb_page_value((tmb_metric)m, d->overall[m].value).text);
        }
    tmb_html_raw(h, "</tr></tfoot></table></div></details>\n");
}

void tmb_page_layers(tmb_html *h, const tmb_diagnosis *d)
{
    bool use[TMB_METRICS];
    double most[TMB_METRICS], *bad = malloc((d->n_layers + 1) * sizeof *bad);
    if (!bad) {
        h->failed = true;
        return;
    }
    for (int m = 0; m < TMB_METRICS; m++) {
        use[m] = has(d, (tmb_metric)m);
        most[m] = least_of((tmb_metric)m);
        for (size_t l = 0; l < d->n_layers; l++) {
            double b = badness((tmb_metric)m, d->layers[l].metrics[m].value);
            if (b > most[m] && b < 1e9) most[m] = b;
        }
    }
    tmb_html_raw(
        h,
        "<section><h2>Layer by layer</h2>\n<p class=\"note\">From no difference to the row's own "
        "worst layer:<span class=\"ramp\" aria-hidden=\"true\">");
    for (int i = 0; i < 9; i++)
        tmb_html_put(h, "<i class=\"h%d\"></i>", i);
    tmb_html_raw(h, "</span><br>The figure behind a row is over all layers; pointing at a cell "
                    "shows its own.</p>\n");
    strips(h, d, bad);
    numbers(h, d, use, most);
    tmb_html_raw(h, "</section>\n");
    free(bad);
}
