/* page_load.c - who gets the tokens: the load of the experts before and after, layer by layer; what
 * it means for expert-parallel ranks; the experts that changed most. */
#include "config.h"
#include "moe/diagnose/page_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST_CHANGED = 12, SMALL_W = 108, SMALL_H = 58 };

typedef struct sorted {
    const tmb_diag_expert *e;
    size_t index;
} sorted;

static int by_load(const void *a, const void *b)
{
    const sorted *x = a, *y = b;
    if (x->e->ref != y->e->ref) return x->e->ref < y->e->ref ? 1 : -1;
    return x->index < y->index ? -1 : 1;
}

static void curve(tmb_html *h, const char *class, const double *y, size_t n, double most)
{
    tmb_html_put(h, "<path class=\"%s\" d=\"M", class);
    double w = (double)SMALL_W / (double)n, last = -1;
    for (size_t i = 0; i < n; i++) { /* a step an expert, drawn when it can be seen */
        double py = SMALL_H - y[i] / most * (SMALL_H - 2) - 1;
        if (i && fabs(py - last) < 0.4) continue;
        tmb_html_put(h, i ? "H%.1fV%.1f" : "%.1f %.1f", (double)i * w, py);
        last = py;
    }
    tmb_html_put(h, "H%d\"/>", SMALL_W);
}

/* Experts by their load in the reference, the fullest first, and in the same order the other's. */
static void small(tmb_html *h, const tmb_diag_layer *l, sorted *order, double *y)
{
    double mean = 0, most = 1.5;
    size_t n = l->n_experts;
    for (size_t i = 0; i < n; i++) {
        order[i] = (sorted){&l->experts[i], i};
        mean += (double)l->experts[i].ref / (double)n;
    }
    if (mean <= 0) mean = 1;
    qsort(order, n, sizeof *order, by_load);
    for (size_t i = 0; i < n; i++) {
        double a = (double)order[i].e->ref / mean, b = (double)order[i].e->other / mean;
        most = a > most ? a : most;
        most = b > most ? b : most;
    }
    tmb_html_put(h,
                 "<figure><svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"load of the experts "
                 "of layer %d\"><path class=\"gr\" d=\"M0 %dH%dM0 %.1fH%d\"/>",
                 SMALL_W, SMALL_H, l->layer, SMALL_H - 1, SMALL_W,
                 SMALL_H - 1 / most * (SMALL_H - 2) - 1, SMALL_W);
    for (size_t i = 0; i < n; i++)
        y[i] = (double)order[i].e->other / mean;
    curve(h, "ot", y, n, most);
    for (size_t i = 0; i < n; i++)
        y[i] = (double)order[i].e->ref / mean;
    curve(h, "rf", y, n, most);
    tmb_html_put(h, "</svg><figcaption>layer %d, top %s", l->layer, tmb_figure_times(most).text);
    uint64_t dead = 0, dead_ref = 0;
    for (size_t i = 0; i < n; i++) {
        dead += !l->experts[i].other;
        dead_ref += !l->experts[i].ref;
    }
    if (dead || dead_ref) tmb_html_put(h, "<br>dead %d → %d", (int)dead_ref, (int)dead);
    tmb_html_raw(h, "</figcaption></figure>\n");
}

static void multiples(tmb_html *h, const tmb_diagnosis *d, size_t experts)
{
    sorted *order = malloc(experts * sizeof *order);
    double *y = malloc(experts * sizeof *y);
    h->failed |= !order || !y;
    tmb_html_raw(h,
                 "<h3>Load of each expert</h3>\n<p class=\"note\">Experts from the fullest to the "
                 "emptiest of the reference (grey); the quantized model in the same order (blue). "
                 "The line inside is the mean load; \"top\" is the upper end, in means.</p>\n");
    tmb_html_raw(h, d->n_sparse > 12 ? "<div class=\"small\">\n" : "<div class=\"small few\">\n");
    for (size_t l = 0; order && y && l < d->n_layers; l++)
        if (d->layers[l].sparse && d->layers[l].n_experts) small(h, &d->layers[l], order, y);
    tmb_html_raw(h, "</div>\n");
    free(order);
    free(y);
}

static size_t series(const tmb_diagnosis *d, tmb_metric m, double *x, double *y)
{
    size_t n = 0;
    for (size_t l = 0; l < d->n_layers; l++) {
        if (!isfinite(d->layers[l].metrics[m].value)) continue;
        x[n] = d->layers[l].layer;
        y[n++] = d->layers[l].metrics[m].value;
    }
    return n;
}

/* Two metrics over the layers: of the reference, of the other. */
static void pair(tmb_html *h, const tmb_diagnosis *d, const char *title, tmb_metric ref,
                 tmb_metric other, tmb_tick_text how, double *x, double *y)
{
    size_t n = series(d, ref, x, y), k = series(d, other, x, y + n);
    tmb_axis layers = {0, d->n_layers > 1 ? (double)d->n_layers - 1 : 1, false};
    tmb_axis values = tmb_axis_of(y, n + k, false);
    if (how == TMB_TICK_TIMES) values.lo = 1;
    if (values.hi <= values.lo) values.hi = values.lo + 0.1;
    if (!k) return;
    tmb_plot p = tmb_plot_make(h, 170, layers, values);
    tmb_html_put(h, "<figure><h3>%s</h3>\n", title);
    tmb_plot_open(&p, title, tmb_metric_of(ref)->about);
    tmb_plot_axis_y(&p, tmb_metric_of(other)->title, how, 4);
    double end = p.x.hi;
    tmb_plot_axis_x(&p, "layer", TMB_TICK_NUMBER, end < 7 ? (size_t)end + 1 : 6);
    n = series(d, ref, x, y);
    tmb_plot_line(&p, "rf", x, y, n, false);
    k = series(d, other, x, y);
    tmb_plot_line(&p, "ot", x, y, k, false);
    for (size_t i = 0; i < k && k <= 24; i++)
        tmb_plot_dot(&p, "bt", x[i], y[i]);
    tmb_plot_close(&p);
    tmb_html_raw(h, "</figure>\n");
}

typedef struct change {
    const tmb_diag_layer *layer;
    size_t expert;
    double size; /* tokens gained and lost, of the mean load */
} change;

static void changed(tmb_html *h, const tmb_diagnosis *d)
{
    change top[MOST_CHANGED + 1];
    size_t n = 0;
    for (size_t l = 0; l < d->n_layers; l++) {
        const tmb_diag_layer *y = &d->layers[l];
        double mean = 0;
        for (size_t e = 0; y->sparse && e < y->n_experts; e++)
            mean += (double)y->experts[e].ref / (double)y->n_experts;
        for (size_t e = 0; mean > 0 && e < y->n_experts; e++) {
            double size = (double)(y->experts[e].gained + y->experts[e].lost) / mean;
            size_t at = n;
            if (size <= 0 || (n == MOST_CHANGED && size <= top[n - 1].size)) continue;
            for (; at > 0 && top[at - 1].size < size; at--)
                top[at] = top[at - 1];
            top[at] = (change){y, e, size};
            n += n < MOST_CHANGED;
        }
    }
    if (!n) return;
    tmb_html_raw(h, "<details><summary>Experts that changed most</summary>\n<div class=\"wide\" "
                    "tabindex=\"0\" role=\"region\" aria-label=\"Experts\"><table><thead><tr>"
                    "<th scope=\"col\">layer</th><th scope=\"col\">expert</th>"
                    "<th scope=\"col\">tokens before</th><th scope=\"col\">after</th>"
                    "<th scope=\"col\">gained</th><th scope=\"col\">lost</th>"
                    "<th scope=\"col\">gate mass before</th><th scope=\"col\">after</th>"
                    "<th scope=\"col\">weight error</th></tr></thead>\n<tbody>\n");
    for (size_t i = 0; i < n; i++) {
        const tmb_diag_expert *e = &top[i].layer->experts[top[i].expert];
        tmb_html_put(h,
                     "<tr><td>%d</td><td style=\"text-align:right\">%zu</td><td>%s</td><td>%s</td>"
                     "<td>%s</td><td>%s</td><td>%.1f</td><td>%.1f</td><td>%s</td></tr>\n",
                     top[i].layer->layer, top[i].expert, tmb_figure_count(e->ref).text,
                     tmb_figure_count(e->other).text, tmb_figure_count(e->gained).text,
                     tmb_figure_count(e->lost).text, e->ref_mass, e->other_mass,
                     tmb_figure_share(e->weight_error).text);
    }
    tmb_html_raw(h, "</tbody></table></div></details>\n");
}

void tmb_page_load(tmb_html *h, const tmb_diagnosis *d)
{
    size_t experts = 0;
    double *x = malloc((2 * d->n_layers + 1) * sizeof *x);
    double *y = malloc((2 * d->n_layers + 1) * sizeof *y);
    h->failed |= !x || !y;
    for (size_t l = 0; l < d->n_layers; l++)
        if (d->layers[l].sparse && d->layers[l].n_experts > experts)
            experts = d->layers[l].n_experts;
    if (experts && x && y) {
        char title[96];
        tmb_html_raw(h, "<section><h2>Load of the experts</h2>\n<div class=\"pair\">\n");
        snprintf(title, sizeof title, "Balance over %u expert-parallel ranks",
                 d->manifest.ep_ranks);
        pair(h, d, title, TMB_M_EP_REF, TMB_M_EP, TMB_TICK_TIMES, x, y);
        pair(h, d, "Fullest expert", TMB_M_MAXVIO_REF, TMB_M_MAXVIO, TMB_TICK_NUMBER, x, y);
        tmb_html_raw(h, "</div>\n");
        multiples(h, d, experts);
        changed(h, d);
        tmb_html_raw(h, "</section>\n");
    }
    free(x);
    free(y);
}
