/* svg.c - frames, axes and marks. */
#include "config.h"
#include "moe/diagnose/svg.h"

#include <math.h>
#include <string.h>

tmb_axis tmb_axis_of(const double *values, size_t n, bool log)
{
    double lo = INFINITY, hi = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(values[i]) || (log && values[i] <= 0)) continue;
        lo = values[i] < lo ? values[i] : lo;
        hi = values[i] > hi ? values[i] : hi;
    }
    if (lo > hi) return log ? (tmb_axis){1e-3, 1, true} : (tmb_axis){0, 1, false};
    if (log) return (tmb_axis){lo, hi > lo ? hi : lo * 10, true};
    lo = lo > 0 ? 0 : lo;
    if (hi <= lo) hi = lo + 1;
    return (tmb_axis){lo, hi, false};
}

/* 1, 2 or 5 times a power of ten, so that `most` steps span the range. */
static double round_step(double range, size_t most)
{
    double raw = range / (double)most, unit = pow(10, floor(log10(raw)));
    double times = raw / unit;
    return (times <= 1 ? 1 : times <= 2 ? 2 : times <= 5 ? 5 : 10) * unit;
}

size_t tmb_axis_ticks(tmb_axis *s, size_t most, double ticks[TMB_TICKS])
{
    size_t n = 0;
    most = most < 2 ? 2 : most > TMB_TICKS - 1 ? TMB_TICKS - 1 : most;
    if (s->log) {
        double from = floor(log10(s->lo) + 1e-9), to = ceil(log10(s->hi) - 1e-9);
        if (to <= from) to = from + 1;
        double by = ceil((to - from) / (double)most);
        s->lo = pow(10, from);
        s->hi = pow(10, to);
        for (double e = from; e <= to + 1e-9 && n < TMB_TICKS; e += by)
            ticks[n++] = pow(10, e);
        return n;
    }
    double step = round_step(s->hi - s->lo, most);
    s->lo = floor(s->lo / step + 1e-9) * step;
    s->hi = ceil(s->hi / step - 1e-9) * step;
    for (size_t i = 0; i < TMB_TICKS && s->lo + (double)i * step <= s->hi + step * 1e-6; i++)
        ticks[n++] = s->lo + (double)i * step;
    return n;
}

static double within(const tmb_axis *s, double value)
{
    double lo = s->lo, hi = s->hi;
    if (s->log) {
        lo = log10(lo);
        hi = log10(hi);
        value = value > 0 ? log10(value) : lo;
    }
    double t = (value - lo) / (hi - lo);
    return !(t > 0) ? 0 : t > 1 ? 1 : t;
}

tmb_plot tmb_plot_make(tmb_html *h, double height, tmb_axis x, tmb_axis y)
{
    return (tmb_plot){.h = h,
                      .width = TMB_PLOT_WIDTH,
                      .height = height,
                      .left = 44,
                      .right = 10,
                      .top = 28,
                      .bottom = 34,
                      .x = x,
                      .y = y};
}

void tmb_plot_open(tmb_plot *p, const char *title, const char *desc)
{
    unsigned id = ++p->h->ids;
    tmb_html_put(p->h,
                 "<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-labelledby=\"t%u d%u\">\n"
                 "<title id=\"t%u\">%s</title><desc id=\"d%u\">%s</desc>\n",
                 p->width, p->height, id, id, id, title, id, desc);
}

void tmb_plot_close(tmb_plot *p)
{
    tmb_html_raw(p->h, "</svg>\n");
}

double tmb_plot_x(const tmb_plot *p, double value)
{
    return p->left + within(&p->x, value) * (p->width - p->left - p->right);
}

double tmb_plot_y(const tmb_plot *p, double value)
{
    return p->height - p->bottom - within(&p->y, value) * (p->height - p->top - p->bottom);
}

static void tick_text(tmb_html *h, double value, double step, tmb_tick_text how)
{
    tmb_figure f;
    double size = how == TMB_TICK_SHARE ? step * 100 : step;
    int digits = size >= 1 || size <= 0 ? 0 : (int)ceil(-log10(size) - 1e-9);
    if (how == TMB_TICK_SHARE)
        f = tmb_figure_fixed(value * 100, digits);
    else if (step == 0 && value != 0 && (value < 1e-3 || value >= 1e4)) {
        int power = (int)floor(log10(value) + 0.5);
        tmb_html_put(h, "10<tspan dy=\"-4\" class=\"up\">%s%d</tspan>", power < 0 ? "−" : "",
                     power < 0 ? -power : power);
        return;
    } else
        f = step == 0 ? tmb_figure_small(value) : tmb_figure_fixed(value, digits);
    if (step == 0 && value >= 1e-3 && value < 1e4)
        f = tmb_figure_fixed(value, value >= 1 ? 0 : (int)ceil(-log10(value) - 1e-9));
    tmb_html_put(h, "%s%s", f.text,
                 how == TMB_TICK_SHARE   ? " %"
                 : how == TMB_TICK_TIMES ? "×"
                                         : "");
}

void tmb_plot_axis_x(tmb_plot *p, const char *name, tmb_tick_text how, size_t most)
{
    double ticks[TMB_TICKS], y = p->height - p->bottom;
    size_t n = tmb_axis_ticks(&p->x, most, ticks);
    double step = p->x.log || n < 2 ? 0 : ticks[1] - ticks[0];
    tmb_html_put(p->h, "<path class=\"ax\" d=\"M%.1f %.1fH%.1f", p->left, y, p->width - p->right);
    for (size_t i = 0; i < n; i++)
        tmb_html_put(p->h, "M%.1f %.1fv4", tmb_plot_x(p, ticks[i]), y);
    tmb_html_raw(p->h, "\"/>\n");
    for (size_t i = 0; i < n; i++) {
        const char *class = i + 1 == n && tmb_plot_x(p, ticks[i]) > p->width - 24 ? "e" : "m";
        tmb_html_put(p->h, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\">", class,
                     tmb_plot_x(p, ticks[i]) + (*class == 'e' ? 8 : 0), y + 14);
        tick_text(p->h, ticks[i], step, how);
        tmb_html_raw(p->h, "</text>");
    }
    tmb_html_put(p->h, "\n<text class=\"e nm\" x=\"%.1f\" y=\"%.1f\">%s</text>\n",
                 p->width - p->right, p->height - 5, name);
}

void tmb_plot_axis_y(tmb_plot *p, const char *name, tmb_tick_text how, size_t most)
{
    double ticks[TMB_TICKS];
    size_t n = tmb_axis_ticks(&p->y, most, ticks);
    double step = p->y.log || n < 2 ? 0 : ticks[1] - ticks[0];
    tmb_html_raw(p->h, "<path class=\"gr\" d=\"");
    for (size_t i = 0; i < n; i++)
        tmb_html_put(p->h, "M%.1f %.1fH%.1f", p->left, tmb_plot_y(p, ticks[i]),
                     p->width - p->right);
    tmb_html_raw(p->h, "\"/>\n");
    for (size_t i = 0; i < n; i++) {
        tmb_html_put(p->h, "<text class=\"e\" x=\"%.1f\" y=\"%.1f\">", p->left - 5,
                     tmb_plot_y(p, ticks[i]) + 3.5);
        tick_text(p->h, ticks[i], step, how);
        tmb_html_raw(p->h, "</text>");
    }
    tmb_html_put(p->h, "\n<text class=\"nm\" x=\"2\" y=\"9\">%s</text>\n", name);
}
