/* page_effects.c - what the experiments gave: route replay, the split of logits. */
#include "config.h"
#include "moe/diagnose/page_internal.h"

#include <math.h>

static void corner(tmb_html *h, tmb_interval v, double most)
{
    tmb_figure range = {""};
    if (v.value != 0) range = tmb_page_range(TMB_M_KL, v);
    tmb_html_put(h, "<td class=\"h%d\">%s", tmb_page_shade(v.value, most),
                 tmb_figure_small(v.value).text);
    if (*range.text) tmb_html_put(h, "<small>%s</small>", range.text);
    tmb_html_raw(h, "</td>");
}

static void term(tmb_html *h, const char *name, const char *about, tmb_interval v)
{
    tmb_html_put(h, "<tr><th scope=\"row\">%s<small>%s</small></th>", name, about);
    tmb_page_cell(h, TMB_M_KL, v);
    tmb_html_raw(h, "</tr>\n");
}

void tmb_page_replay(tmb_html *h, const tmb_diagnosis *d)
{
    const tmb_replay *r = &d->replay;
    double most = 1e-3;
    if (!r->there) return;
    for (int i = 0; i < 4; i++)
        if (r->kl[i / 2][i % 2].value > most) most = r->kl[i / 2][i % 2].value;
    tmb_html_raw(h,
                 "<section><h2>Values or routes</h2>\n<p>Each model's weights with each model's "
                 "routes: how much of the output's KL comes from the values the experts give, how "
                 "much from other experts being chosen.</p>\n<div class=\"pair\">\n"
                 "<table class=\"two\"><caption>KL against the reference, nats</caption><thead>"
                 "<tr><th scope=\"col\"></th><th scope=\"col\">reference's routes</th>"
                 "<th scope=\"col\">quantized routes</th></tr></thead>\n<tbody>"
                 "<tr><th scope=\"row\">reference's weights</th>");
    corner(h, r->kl[0][0], most);
    corner(h, r->kl[0][1], most);
    tmb_html_raw(h, "</tr>\n<tr><th scope=\"row\">quantized weights</th>");
    corner(h, r->kl[1][0], most);
    corner(h, r->kl[1][1], most);
    tmb_html_raw(h,
                 "</tr></tbody></table>\n<table><caption>What that makes, nats</caption><tbody>\n");
    term(h, "values", "quantized weights, routes kept", r->value);
    term(h, "selection", "exact weights, routes changed", r->selection);
    term(h, "interaction", "both, less the sum of the two", r->interaction);
    tmb_html_raw(h, "</tbody></table>\n</div></section>\n");
}

static void split_bars(tmb_html *h, const tmb_diagnosis *d)
{
    double last = 1, top = 1;
    for (size_t i = 0; i < d->n_splits; i++) {
        const tmb_split *s = &d->splits[i];
        double sum = s->input + s->weight + s->both;
        last = s->layer > last ? s->layer : last;
        top = sum > top ? sum : top;
    }
    tmb_plot p =
        tmb_plot_make(h, 190, (tmb_axis){-0.5, last + 0.5, false}, (tmb_axis){0, top, false});
    tmb_plot_open(&p, "Origin of the change of router logits",
                  "By layer, shares of the squared change: from other inputs, from other router "
                  "weights, from both; the numbers are in the table beside.");
    tmb_plot_axis_y(&p, "share of the change", TMB_TICK_SHARE, 4);
    for (size_t i = 0; i < d->n_splits; i++) {
        const tmb_split *s = &d->splits[i];
        const double part[] = {s->input, s->weight, s->both};
        static const char *const class[] = {"s1", "s2", "s3"};
        double at = 0;
        for (int k = 0; k < 3; at += part[k], k++)
            if (part[k] > 0)
                tmb_plot_box(&p, class[k], s -> layer - 0.4, s -> layer + 0.4, at, at + part[k],
                             NULL);
    }
    p.x.lo = 0, p.x.hi = last;
    double gap = 0.5 / (last + 1) * (p.width - p.left - p.right);
    p.left += gap, p.right += gap; /* whole layers under the middle of their bars */
    tmb_plot_axis_x(&p, "layer", TMB_TICK_NUMBER, last < 7 ? (size_t)last : 6);
    tmb_plot_close(&p);
}

static void square(tmb_html *h, const char *class, const char *name)
{
    tmb_html_put(h,
                 "<span class=\"key\"><svg viewBox=\"0 0 26 9\" aria-hidden=\"true\"><rect "
                 "class=\"%s\" width=\"26\" height=\"9\"/></svg>%s</span>",
                 class, name);
}

void tmb_page_split(tmb_html *h, const tmb_diagnosis *d)
{
    if (!d->n_splits) return;
    tmb_html_raw(h,
                 "<section><h2>What moved the router's logits</h2>\n<p>With W the router's weight "
                 "and x its input, the change is W·dx (other inputs), dW·x (the router itself) "
                 "and dW·dx. Where parts cancel each other, their "
                 "shares add up to more than 100 %.</p>\n<div class=\"pair\">\n<figure>");
    split_bars(h, d);
    tmb_html_raw(h, "<figcaption>");
    square(h, "s1", "W·dx, inputs");
    square(h, "s2", "dW·x, router");
    square(h, "s3", "dW·dx");
    tmb_html_put(h,
                 "</figcaption></figure>\n<details%s><summary>As numbers</summary><table>"
                 "<thead><tr><th scope=\"col\">layer</th><th scope=\"col\">W·dx</th>"
                 "<th scope=\"col\">dW·x</th><th scope=\"col\">dW·dx</th>"
                 "<th scope=\"col\">cross</th><th scope=\"col\">rms change</th></tr></thead>"
                 "\n<tbody>\n",
                 "");
    for (size_t i = 0; i < d->n_splits; i++) {
        const tmb_split *s = &d->splits[i];
        tmb_html_put(
            h, "<tr><td>%d</td><td>%s</td><td>%s</td><td>%s</td><td>%s</td><td>%s</td></tr>\n",
            s->layer, tmb_figure_share(s->input).text, tmb_figure_share(s->weight).text,
            tmb_figure_share(s->both).text, tmb_figure_share(s->cross).text,
            tmb_figure_small(sqrt(s->total)).text);
    }
    tmb_html_raw(h, "</tbody></table></details></div></section>\n");
}
