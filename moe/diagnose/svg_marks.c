/* svg_marks.c - what is drawn into a frame. */
#include "config.h"
#include "moe/diagnose/svg.h"

#include <math.h>

void tmb_plot_line(tmb_plot *p, const char *class, const double *x, const double *y, size_t n,
                   bool step)
{
    bool begun = false;
    double last = 0;
    tmb_html_put(p->h, "<path class=\"%s\" d=\"", class);
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i]) || !isfinite(y[i])) continue;
        double px = tmb_plot_x(p, x[i]), py = tmb_plot_y(p, y[i]);
        if (begun && step && py != last) tmb_html_put(p->h, "H%.1f", px);
        if (begun && step && py == last && i + 1 < n) continue; /* nothing to see */
        tmb_html_put(p->h, "%s%.1f %.1f", begun ? "L" : "M", px, py);
        begun = true;
        last = py;
    }
    tmb_html_raw(p->h, "\"/>\n");
}

void tmb_plot_box(tmb_plot *p, const char *class, double x0, double x1, double y0, double y1,
                  const char *said)
{
    double left = tmb_plot_x(p, x0 < x1 ? x0 : x1), right = tmb_plot_x(p, x0 < x1 ? x1 : x0);
    double top = tmb_plot_y(p, y0 < y1 ? y1 : y0), bottom = tmb_plot_y(p, y0 < y1 ? y0 : y1);
    tmb_html_put(p->h, "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"",
                 class, left, top, right - left, bottom - top);
    if (said)
        tmb_html_put(p->h, "><title>%s</title></rect>\n", said);
    else
        tmb_html_raw(p->h, "/>\n");
}

void tmb_plot_mark(tmb_plot *p, const char *class, double x, const char *label, bool left)
{
    double at = tmb_plot_x(p, x);
    tmb_html_put(p->h, "<path class=\"%s\" d=\"M%.1f %.1fV%.1f\"/>", class, at, p->top,
                 p->height - p->bottom);
    tmb_html_put(p->h, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\">%s</text>\n", left ? "e" : "s",
                 at + (left ? -3 : 3), p->top - 3, label);
}

void tmb_plot_dot(tmb_plot *p, const char *class, double x, double y)
{
    if (!isfinite(x) || !isfinite(y)) return;
    tmb_html_put(p->h, "<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"2\"/>", class,
                 tmb_plot_x(p, x), tmb_plot_y(p, y));
}
