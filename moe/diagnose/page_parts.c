/* page_parts.c - values, cells and strips that several sections share. */
#include "config.h"
#include "moe/diagnose/page_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

tmb_figure tmb_page_value(tmb_metric m, double value)
{
    const char *unit = tmb_metric_of(m)->unit;
    if (strcmp(unit, "share") == 0) return tmb_figure_share(value);
    if (m == TMB_M_DRIFT && isinf(value)) return (tmb_figure){.text = "no noise"};
    if (m == TMB_M_DRIFT || strcmp(unit, "times") == 0) return tmb_figure_times(value);
    if (tmb_metric_of(m)->over == TMB_OVER_SUM) return tmb_figure_small(value);
    return tmb_figure_small(value);
}

tmb_figure tmb_page_range(tmb_metric m, tmb_interval v)
{
    return tmb_figure_range(v.lo, v.hi, strcmp(tmb_metric_of(m)->unit, "share") == 0);
}

void tmb_page_cell(tmb_html *h, tmb_metric m, tmb_interval v)
{
    tmb_html_put(h, "<td>%s", tmb_page_value(m, v.value).text);
    tmb_figure range = tmb_page_range(m, v);
    if (*range.text) tmb_html_put(h, " <small>%s</small>", range.text);
    tmb_html_raw(h, "</td>");
}

int tmb_page_shade(double bad, double most)
{
    if (!(bad > 0) || !(most > 0)) return 0;
    return bad >= most ? 8 : (int)(bad / most * 8.999);
}

void tmb_page_strip(tmb_html *h, const tmb_strip *s,
                    void (*said)(void *ctx, size_t i, char *text, size_t size), void *ctx)
{
    double most = s->least;
    for (size_t i = 0; i < s->n; i++)
        if (isfinite(s->bad[i]) && s->bad[i] > most) most = s->bad[i];
    tmb_html_raw(h, "<tr><th scope=\"row\"");
    if (s->about) tmb_html_put(h, " title=\"%s\"", s->about);
    tmb_html_put(h,
                 ">%s</th><td><svg class=\"strip%s\" viewBox=\"0 0 %zu 1\" "
                 "preserveAspectRatio=\"none\" role=\"img\" aria-label=\"%s by layer\">",
                 s->name, s->n > 24 ? " many" : "", s->n, s->name);
    for (size_t i = 0; i < s->n; i++) {
        char text[160] = "";
        said(ctx, i, text, sizeof text);
        tmb_html_put(h, "<rect class=\"%s", isnan(s->bad[i]) ? "hn" : "h");
        if (!isnan(s->bad[i])) tmb_html_put(h, "%d", tmb_page_shade(s->bad[i], most));
        tmb_html_put(h, "\" x=\"%zu\" width=\"1\" height=\"1\"><title>%s</title></rect>", i, text);
    }
    tmb_html_put(h, "</svg></td><td class=\"n\">%s</td></tr>\n", s->overall ? s->overall : "");
}

void tmb_page_strip_axis(tmb_html *h, size_t n)
{
    size_t step = 1;
    while (n / step > 10)
        step = step == 1 ? 5 : step * 2;
    tmb_html_raw(h, "<tr aria-hidden=\"true\"><th>layer</th><td><div class=\"ticks\">");
    for (size_t i = 0; i < n; i += step)
        tmb_html_put(h, "<span style=\"left:%.2f%%\">%zu</span>",
                     ((double)i + 0.5) * 100 / (double)n, i);
    tmb_html_raw(h, "</div></td><td></td></tr>\n");
}

void tmb_page_list(char *text, size_t size, const char *one, const char *many, const int *of,
                   size_t n)
{
    size_t at = 0, shown = n > 5 ? 4 : n;
    if (size) *text = 0;
    for (size_t i = 0; i < shown; i++) {
        const char *before = i == 0 ? "" : i + 1 == n ? " and " : ", ";
        int k = snprintf(text + at, size - at, "%s%s%d",
                         i        ? before
                         : n == 1 ? one
                                  : many,
                         i ? "" : " ", of[i]);
        if (k < 0 || (size_t)k >= size - at) return;
        at += (size_t)k;
    }
    if (shown < n) snprintf(text + at, size - at, " and %zu more", n - shown);
}
