/* page_margins.c - margins at the boundary between chosen and not: how they are distributed in both
 * models, and at which of them the choice changed. */
#include "config.h"
#include "moe/diagnose/page_internal.h"

#include <math.h>
#include <stdio.h>

enum {
    FEW = 20,    /* a share of fewer positions is not drawn, */
    POINTS = 200 /* nor one of fewer than this part of them all */
};

static uint64_t sum_of(const uint64_t bins[TMB_MARGIN_BINS])
{
    uint64_t sum = 0;
    for (int i = 0; i < TMB_MARGIN_BINS; i++)
        sum += bins[i];
    return sum;
}

/* The margin below which this share of the positions lies, inside a bin by its logarithm. */
static double quantile(const uint64_t bins[TMB_MARGIN_BINS], double share)
{
    double want = share * (double)sum_of(bins), below = 0;
    for (int i = 0; i < TMB_MARGIN_BINS; i++) {
        double n = (double)bins[i];
        if (n > 0 && below + n >= want) {
            double from = i < 1 ? tmb_margin_edge(1) : exp2((i - 1) / 4.0 - 16);
            return from * exp2(0.25 * (i ? (want - below) / n : 0));
        }
        below += n;
    }
    return (double)NAN;
}

/* Left and right end of what is drawn: all but a thousandth on either side. */
static tmb_axis span(const tmb_margins *m)
{
    double lo = quantile(m->ref, 0.001), hi = quantile(m->ref, 0.9995);
    double lo2 = quantile(m->other, 0.001), hi2 = quantile(m->other, 0.9995);
    lo = lo2 < lo ? lo2 : lo;
    hi = hi2 > hi ? hi2 : hi;
    if (!(lo > 1e-4)) lo = 1e-4;
    if (!(hi > lo * 10)) hi = lo * 10;
    return (tmb_axis){lo, hi, true};
}

static void cumulative(tmb_plot *p, const char *class, const uint64_t bins[TMB_MARGIN_BINS])
{
    double x[TMB_MARGIN_BINS], y[TMB_MARGIN_BINS], below = 0, all = (double)sum_of(bins);
    size_t n = 0;
    if (all <= 0) return;
    for (int i = 0; i < TMB_MARGIN_BINS; i++) {
        below += (double)bins[i];
        double edge = exp2(i / 4.0 - 16); /* upper edge of bin i; bin 0 is drawn at the left end */
        if (edge * 1.19 < p->x.lo || edge > p->x.hi * 1.19) continue;
        x[n] = edge;
        y[n++] = below / all;
    }
    tmb_plot_line(p, class, x, y, n, false);
}

static void key(tmb_html *h, const char *class, const char *name)
{
    tmb_html_put(h,
                 "<span class=\"key\"><svg viewBox=\"0 0 26 9\" aria-hidden=\"true\"><path "
                 "class=\"%s\" d=\"M0 4.5H26\"/></svg>%s</span>",
                 class, name);
}

/* The margin that stands for one step of bf16: as many positions lie below it as are ties. */
static double step_of(const tmb_diagnosis *d)
{
    double ties = d->overall[TMB_M_TIES].value;
    return ties > 0 && ties < 1 ? quantile(d->margins.ref, ties) : (double)NAN;
}

static double noise_of(const tmb_diagnosis *d)
{
    double sum = 0;
    size_t n = 0;
    for (size_t l = 0; l < d->n_layers; l++)
        if (isfinite(d->layers[l].noise_margin) && d->layers[l].noise_margin > 0) {
            sum += log(d->layers[l].noise_margin);
            n++;
        }
    return n ? exp(sum / (double)n) : (double)NAN;
}

static void marks(tmb_plot *p, double step, double noise)
{
    bool near = fabs(log(noise / step)) < 1.2;
    if (step > p->x.lo && step < p->x.hi)
        tmb_plot_mark(p, "mk", step, "bf16 step", near && step < noise);
    if (noise > p->x.lo && noise < p->x.hi)
        tmb_plot_mark(p, "mk", noise, "noise", near && noise <= step);
}

static void distribution(tmb_html *h, const tmb_diagnosis *d, tmb_axis x, const char *unit)
{
    tmb_plot p = tmb_plot_make(h, 216, x, (tmb_axis){0, 1, false});
    char name[64];
    snprintf(name, sizeof name, "margin, %s", unit);
    tmb_html_raw(h, "<figure><h3>How near the choices are</h3>\n");
    tmb_axis round = p.x; /* marks are placed in the rounded scale */
    double ticks[TMB_TICKS];
    tmb_axis_ticks(&round, 6, ticks);
    p.x = round;
    tmb_plot_open(&p, "Distribution of margins",
                  "Share of positions with a margin below the one on the axis, in both models; the "
                  "numbers are in the table below.");
    tmb_plot_axis_y(&p, "positions below", TMB_TICK_SHARE, 5);
    tmb_plot_axis_x(&p, name, TMB_TICK_NUMBER, 6);
    marks(&p, step_of(d), noise_of(d));
    cumulative(&p, "rf", d->margins.ref);
    cumulative(&p, "ot", d->margins.other);
    tmb_plot_close(&p);
    tmb_html_raw(h, "<figcaption>");
    key(h, "rf", "reference");
    key(h, "ot", "quantized");
    tmb_html_raw(h, "</figcaption></figure>\n");
}

static size_t shares(double *x, double *y, const uint64_t *part, const uint64_t *of, double least)
{
    size_t n = 0;
    uint64_t a = 0, b = 0, few = sum_of(of) / POINTS;
    double from = -1, to = 0; /* neighbours are put together until there are enough */
    for (int i = 0; i < TMB_MARGIN_BINS; i++) {
        a += part[i];
        b += of[i];
        if (of[i] && from < 0) from = i;
        if (of[i]) to = i;
        if (b < FEW || b < few) continue;
        x[n] = exp2(((from + to) / 2 - 0.5) / 4 - 16);
        y[n] = (double)a / (double)b;
        n += x[n] >= least;
        a = b = 0;
        from = -1;
    }
    return n;
}

static void flips(tmb_html *h, const tmb_diagnosis *d, tmb_axis x, const char *unit)
{
    const tmb_margins *m = &d->margins;
    double px[TMB_MARGIN_BINS], py[TMB_MARGIN_BINS], ticks[TMB_TICKS];
    char name[64];
    tmb_plot p = tmb_plot_make(h, 216, x, (tmb_axis){0, 1, false});
    snprintf(name, sizeof name, "margin in the reference, %s", unit);
    tmb_axis_ticks(&p.x, 6, ticks);
    tmb_html_raw(h, "<figure><h3>Which choices change</h3>\n");
    tmb_plot_open(&p, "Changed sets by margin",
                  "Share of positions whose expert set changed, by their margin in the reference: "
                  "with all that is quantized, with the router alone on exact inputs, and in the "
                  "rerun that measures noise.");
    tmb_plot_axis_y(&p, "sets changed", TMB_TICK_SHARE, 5);
    tmb_plot_axis_x(&p, name, TMB_TICK_NUMBER, 6);
    marks(&p, step_of(d), noise_of(d));
    bool local = sum_of(m->local) > 0, noise = sum_of(m->noise_of) > 0;
    if (noise)
        tmb_plot_line(&p, "no", px, py, shares(px, py, m->noise, m->noise_of, p.x.lo), false);
    if (local) tmb_plot_line(&p, "lo", px, py, shares(px, py, m->local, m->ref, p.x.lo), false);
    tmb_plot_line(&p, "ot", px, py, shares(px, py, m->flips, m->ref, p.x.lo), false);
    tmb_plot_close(&p);
    tmb_html_raw(h, "<figcaption>");
    key(h, "ot", "quantized");
    if (local) key(h, "lo", "router alone, exact input");
    if (noise) key(h, "no", "noise");
    tmb_html_raw(h, "</figcaption></figure>\n");
}

static void cell_share(tmb_html *h, uint64_t part, uint64_t of)
{
    tmb_html_put(h, "<td>%s</td>", of ? tmb_figure_share((double)part / (double)of).text : "–");
}

/* A row an octave. */
static void numbers(tmb_html *h, const tmb_margins *m)
{
    tmb_html_raw(h, "<details><summary>Margins and flips as numbers</summary>\n<div class=\"wide\" "
                    "tabindex=\"0\" role=\"region\" aria-label=\"Margins\"><table><thead><tr>"
                    "<th scope=\"col\">margin from</th><th scope=\"col\">to</th>"
                    "<th scope=\"col\">positions, reference</th>"
                    "<th scope=\"col\">quantized</th><th scope=\"col\">sets changed</th>"
                    "<th scope=\"col\">by the router alone</th><th scope=\"col\">by noise</th></tr>"
                    "</thead>\n<tbody>\n");
    for (int i = 0; i < TMB_MARGIN_BINS;) {
        int end = i == 0 ? 1 : i + 4;
        uint64_t s[6] = {0};
        const uint64_t *of[] = {m->ref, m->other, m->flips, m->local, m->noise, m->noise_of};
        for (int k = i; k < end && k < TMB_MARGIN_BINS; k++)
            for (int j = 0; j < 6; j++)
                s[j] += of[j][k];
        if (s[0] || s[1]) {
            tmb_html_put(h, "<tr><td>%s</td><td>%s</td><td>%s</td><td>%s</td>",
                         i ? tmb_figure_small(exp2((i - 1) / 4.0 - 16)).text : "0",
                         i ? tmb_figure_small(exp2((end - 1) / 4.0 - 16)).text : "0",
                         tmb_figure_count(s[0]).text, tmb_figure_count(s[1]).text);
            cell_share(h, s[2], s[0]);
            cell_share(h, s[3], s[0]);
            cell_share(h, s[4], s[5]);
            tmb_html_raw(h, "</tr>\n");
        }
        i = end;
    }
    tmb_html_raw(h, "</tbody></table></div></details>\n");
}

void tmb_page_margins(tmb_html *h, const tmb_diagnosis *d)
{
    if (!sum_of(d->margins.ref)) return;
    bool choice = false;
    for (size_t l = 0; l < d->n_layers; l++)
        choice |= d->layers[l].sparse && d->layers[l].space == TMB_MARGIN_CHOICE;
    tmb_axis x = span(&d->margins);
    tmb_html_raw(h,
                 "<section><h2>Margins and flips</h2>\n<p>A margin is the distance between the "
                 "last expert that is chosen and the best that is not. A change at a margin under "
                 "one step of bf16 is a tie that rounding decides; one that the rerun changes too "
                 "is noise; the rest is real.</p>\n");
    const tmb_interval *o = d->overall;
    tmb_html_put(h, "<p>Of all positions %s changed their set:",
                 tmb_figure_share(1 - o[TMB_M_SET_MATCH].value).text);
    tmb_html_put(h, " %s at a tie, %s within the noise, %s for real.</p>\n<div class=\"pair\">\n",
                 tmb_figure_share(o[TMB_M_TIE_FLIPS].value).text,
                 tmb_figure_share(o[TMB_M_NOISE_FLIPS].value).text,
                 tmb_figure_share(o[TMB_M_REAL_FLIPS].value).text);
    distribution(h, d, x, choice ? "score" : "logits");
    flips(h, d, x, choice ? "score" : "logits");
    tmb_html_raw(h, "</div>\n");
    numbers(h, &d->margins);
    tmb_html_raw(h, "</section>\n");
}
