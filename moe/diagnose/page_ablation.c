/* page_ablation.c - tables: components one at a time, and what single layers and experts do on
 * exact inputs. */
#include "config.h"
#include "moe/diagnose/page_internal.h"

#include <math.h>
#include <string.h>

static void changed(tmb_html *h, tmb_interval match)
{
    tmb_page_cell(h, TMB_M_SET_MATCH, (tmb_interval){1 - match.value, 1 - match.hi, 1 - match.lo});
}

static const tmb_ablation *partner(const tmb_diagnosis *d, const tmb_ablation *a)
{
    for (size_t i = 0; i < d->n_ablations; i++) {
        const tmb_ablation *b = &d->ablations[i];
        if (b->alone != a->alone && b->layer == a->layer && !strcmp(a->component, b->component))
            return b;
    }
    return NULL;
}

void tmb_page_ablation(tmb_html *h, const tmb_diagnosis *d)
{
    if (!d->n_ablations) return;
    tmb_html_raw(h, "<section><h2>One component at a time</h2>\n<p>Left, the component alone "
                    "quantized. Right, everything quantized but the component.</p>\n"
                    "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"Ablations\">"
                    "<table><thead><tr><th scope=\"col\" rowspan=\"2\">component</th>"
                    "<th scope=\"colgroup\" colspan=\"3\">alone</th>"
                    "<th scope=\"colgroup\" colspan=\"2\">restored</th></tr><tr>"
                    "<th scope=\"col\">sets changed</th><th scope=\"col\">KL, nats</th>"
                    "<th scope=\"col\">hidden error</th><th scope=\"col\">sets changed</th>"
                    "<th scope=\"col\">KL, nats</th></tr></thead>\n<tbody>\n");
    for (size_t i = 0; i < d->n_ablations; i++) {
        const tmb_ablation *a = &d->ablations[i], *b = partner(d, a);
        tmb_interval none = tmb_interval_none();
        if (!a->alone && b) continue;
        tmb_html_put(h, "<tr><th scope=\"row\">%s", a->component);
        if (a->layer >= 0) tmb_html_put(h, ", layer %d", a->layer);
        tmb_html_raw(h, "</th>");
        changed(h, a->alone ? a->set_match : none);
        tmb_page_cell(h, TMB_M_KL, a->alone ? a->kl : none);
        tmb_page_cell(h, TMB_M_HIDDEN_ERROR, a->alone ? a->hidden_error : none);
        b = a->alone ? b : a;
        changed(h, b ? b->set_match : none);
        tmb_page_cell(h, TMB_M_KL, b ? b->kl : none);
        tmb_html_raw(h, "</tr>\n");
    }
    tmb_html_raw(h, "</tbody></table></div></section>\n");
}

static void sensitivity(tmb_html *h, const tmb_sensitivity *s)
{
    tmb_html_put(h, "<tr><td>%d</td><td class=\"l\">%s", s->layer, s->component);
    if (s->expert >= 0) tmb_html_put(h, " %d", s->expert);
    tmb_html_raw(h, "</td>");
    changed(h, s->set_match);
    tmb_html_put(h, "<td>%s</td><td class=\"l\">%s</td></tr>\n", tmb_figure_share(s->error).text,
                 s->stands_out ? "stands out" : "");
}

static void sensitivities(tmb_html *h, const tmb_diagnosis *d, bool out)
{
    tmb_html_raw(h, "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"Sensitivity\">"
                    "<table><thead><tr><th scope=\"col\">layer</th><th scope=\"col\" class=\"l\">"
                    "part</th><th scope=\"col\">sets changed</th>"
                    "<th scope=\"col\">error of the layer's output</th><th scope=\"col\"></th></tr>"
                    "</thead>\n<tbody>\n");
    for (size_t i = 0; i < d->n_sensitivities; i++)
        if (d->sensitivities[i].stands_out || !out) sensitivity(h, &d->sensitivities[i]);
    tmb_html_raw(h, "</tbody></table></div>\n");
}

void tmb_page_sensitivity(tmb_html *h, const tmb_diagnosis *d)
{
    size_t out = 0;
    for (size_t i = 0; i < d->n_sensitivities; i++)
        out += d->sensitivities[i].stands_out;
    if (!d->n_sensitivities) return;
    tmb_html_raw(h, "<section><h2>On exact inputs</h2>\n<p>What a part of one layer does when the "
                    "layer is given the reference's input. ");
    if (!out) tmb_html_raw(h, "None stands out from its peers.");
    tmb_html_raw(h, "</p>\n");
    if (out) sensitivities(h, d, true);
    if (out < d->n_sensitivities) {
        tmb_html_put(h, "<details><summary>All %zu</summary>\n", d->n_sensitivities);
        sensitivities(h, d, false);
        tmb_html_raw(h, "</details>\n");
    }
    tmb_html_raw(h, "</section>\n");
}
