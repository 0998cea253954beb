/* page_causes.c - where the damage comes from: waterfalls of components on both scales.
 *
 * A bar is what its component does when it alone is quantized.  Bars are laid end to end; what they
 * have in common, or add to each other, is the dashed step to the last bar, all of them together.
 */
#include "config.h"
#include "moe/diagnose/page_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { COMPONENTS = 16, ROW = 21, LABELS = 98, FIGURES = 66, TOP = 6 };

typedef struct bar {
    const char *name;
    tmb_interval v; /* the effect */
} bar;

static tmb_interval effect_of(const tmb_ablation *a, tmb_scale scale)
{
    tmb_interval v = scale == TMB_SCALE_ROUTING ? a->set_match : a->kl;
    if (scale == TMB_SCALE_ROUTING) v = (tmb_interval){1 - v.value, 1 - v.hi, 1 - v.lo};
    return v;
}

static int by_effect(const void *a, const void *b)
{
    double x = ((const bar *)a)->v.value, y = ((const bar *)b)->v.value;
    return x < y ? 1 : x > y ? -1 : strcmp(((const bar *)a)->name, ((const bar *)b)->name);
}

/* Components alone, the largest first; *all: everything together.  Returns how many. */
static size_t collect(const tmb_diagnosis *d, tmb_scale scale, bar bars[COMPONENTS], bar *all)
{
    size_t n = 0;
    *all = (bar){"together", tmb_interval_none()};
    for (size_t i = 0; i < d->n_ablations; i++) {
        const tmb_ablation *a = &d->ablations[i];
        tmb_interval v = effect_of(a, scale);
        if (!a->alone || a->layer >= 0 || !isfinite(v.value)) continue;
        if (strcmp(a->component, "all") == 0)
            all->v = v;
        else if (n < COMPONENTS)
            bars[n++] = (bar){a->component, v};
    }
    qsort(bars, n, sizeof *bars, by_effect);
    if (!isfinite(all->v.value)) {
        tmb_metric m = scale == TMB_SCALE_ROUTING ? TMB_M_SET_MATCH : TMB_M_KL;
        tmb_interval v = d->overall[m];
        all->v = m == TMB_M_KL ? v : (tmb_interval){1 - v.value, 1 - v.hi, 1 - v.lo};
    }
    return n;
}

static const char *component_name(const char *c)
{
    return strcmp(c, "expert") == 0          ? "routed experts"
           : strcmp(c, "shared_expert") == 0 ? "shared experts"
           : strcmp(c, "dense_mlp") == 0     ? "dense MLP"
           : strcmp(c, "kv_cache") == 0      ? "KV cache"
           : strcmp(c, "lm_head") == 0       ? "head"
                                             : c;
}

static double across(const tmb_axis *x, double value)
{
    double t = (value - x->lo) / (x->hi - x->lo);
    t = t < 0 ? 0 : t > 1 ? 1 : t;
    return LABELS + t * (TMB_PLOT_WIDTH - LABELS - FIGURES);
}

static void put_bar(tmb_html *h, const tmb_axis *x, size_t row, const bar *b, const char *class,
                    double from, bool share)
{
    double y = TOP + (double)row * ROW, to = from + b->v.value;
    double left = across(x, from < to ? from : to), right = across(x, from < to ? to : from);
    tmb_figure f = share ? tmb_figure_share(b->v.value) : tmb_figure_small(b->v.value);
    tmb_figure range = tmb_figure_range(b->v.lo, b->v.hi, share);
    tmb_html_put(h, "<text class=\"e\" x=\"%d\" y=\"%.1f\">%s</text>", LABELS - 6, y + 13.5,
                 component_name(b->name));
    tmb_html_put(h,
                 "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\"><title>%s: "
                 "%s (%s)</title></rect>",
                 class, left, y + 3, right - left < 0.8 ? 0.8 : right - left, ROW - 6, b->name,
                 f.text, *range.text ? range.text : "no interval");
    if (isfinite(b->v.lo) && isfinite(b->v.hi)) {
        double lo = across(x, from + b->v.lo), hi = across(x, from + b->v.hi), mid = y + ROW / 2.0;
        tmb_html_put(h, "<path class=\"wh\" d=\"M%.1f %.1fH%.1fM%.1f %.1fv6M%.1f %.1fv6\"/>", lo,
                     mid, hi, lo, mid - 3, hi, mid - 3);
    }
    tmb_html_put(h, "<text class=\"e\" x=\"%d\" y=\"%.1f\">%s</text>\n", TMB_PLOT_WIDTH - 1,
                 y + 13.5, f.text);
}

/* The widest that is drawn: any end of a bar or an interval. */
static tmb_axis axis_of(const bar *bars, size_t n, const bar *all)
{
    double lo = 0, hi = 0, at = 0;
    for (size_t i = 0; i <= n; i++) {
        const tmb_interval *v = i < n ? &bars[i].v : &all->v;
        double from = i < n ? at : 0;
        double ends[] = {from + v->value, from + v->lo, from + v->hi};
        for (int k = 0; k < 3; k++) {
            lo = isfinite(ends[k]) && ends[k] < lo ? ends[k] : lo;
            hi = isfinite(ends[k]) && ends[k] > hi ? ends[k] : hi;
        }
        at += v->value;
    }
    return (tmb_axis){lo, hi > lo ? hi : lo + 1, false};
}

static void waterfall(tmb_html *h, const tmb_diagnosis *d, tmb_scale scale)
{
    bar bars[COMPONENTS], all;
    bool share = scale == TMB_SCALE_ROUTING;
    size_t n = collect(d, scale, bars, &all);
    tmb_axis x = axis_of(bars, n, &all);
    double height = TOP + (double)(n + 2) * ROW + 4, sum = 0;
    unsigned id = ++h->ids;
    tmb_html_put(h, "<figure><h3>%s</h3>\n",
                 share ? "Routing: expert sets changed" : "Output: KL, nats");
    tmb_html_put(
        h,
        "<svg viewBox=\"0 0 %d %.0f\" role=\"img\" aria-labelledby=\"t%u d%u\">"
        "<title id=\"t%u\">%s by component</title><desc id=\"d%u\">One bar a component "
        "quantized alone, laid end to end, then what they share, then all together; "
        "whiskers are 95 %% intervals. The numbers are in the table of ablations.</desc>\n",
        TMB_PLOT_WIDTH, height, id, id, id, share ? "Changed expert sets" : "Output KL", id);
    tmb_html_put(h, "<path class=\"ax\" d=\"M%.1f %dV%.1f\"/>\n", across(&x, 0), TOP - 4,
                 height - 2);
    for (size_t i = 0; i < n; i++) {
        put_bar(h, &x, i, &bars[i], "br", sum, share);
        sum += bars[i].v.value;
    }
    bar common = {all.v.value < sum ? "overlap" : "beyond the sum",
                  {all.v.value - sum, (double)NAN, (double)NAN}};
    put_bar(h, &x, n, &common, "bo", sum, share);
    put_bar(h, &x, n + 1, &all, "bt", 0, share);
    tmb_html_raw(h, "</svg></figure>\n");
}

void tmb_page_waterfalls(tmb_html *h, const tmb_diagnosis *d)
{
    bar bars[COMPONENTS], all;
    if (!collect(d, TMB_SCALE_ROUTING, bars, &all)) return;
    tmb_html_raw(h, "<p>Each component quantized alone, everything else exact. What changes the "
                    "routing most need not be what costs the output most.</p>\n"
                    "<div class=\"pair\">\n");
    waterfall(h, d, TMB_SCALE_ROUTING);
    waterfall(h, d, TMB_SCALE_OUTPUT);
    tmb_html_raw(h, "</div>\n");
}
