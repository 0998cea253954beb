/* page_ranked.c - the section of causes: waterfalls, then what the verdict ranks, each with its
 * layers, its recipe line and its interval, and the differences that change nothing. */
#include "config.h"
#include "moe/diagnose/page_internal.h"

#include <math.h>

static void cause(tmb_html *h, const tmb_cause *c, bool share)
{
    char where[128], experts[96];
    tmb_html_put(h, "<li><b>%s</b> ",
                 share ? tmb_figure_share(c->effect).text : tmb_figure_small(c->effect).text);
    tmb_figure range = tmb_figure_range(c->ci95[0], c->ci95[1], share);
    if (*range.text) tmb_html_put(h, "<span class=\"note\">(%s)</span> ", range.text);
    tmb_html_put(h, "%s", c->text ? c->text : c->cause);
    tmb_page_list(where, sizeof where, "layer", "layers", c->layers, c->n_layers);
    tmb_page_list(experts, sizeof experts, "expert", "experts", c->experts, c->n_experts);
    tmb_html_raw(h, "<br><span class=\"note\">");
    tmb_html_put(h, "%s", c->cause);
    if (c->role < TMB_ROLES) tmb_html_put(h, " · @%s", tmb_role_name(c->role));
    if (*where) tmb_html_put(h, " · %s", where);
    if (*experts) tmb_html_put(h, " · %s", experts);
    if (c->recipe_line) {
        tmb_html_put(h, " · recipe");
        if (c->recipe_line_number) tmb_html_put(h, " line %d", c->recipe_line_number);
        tmb_html_put(h, ": <code>%s</code>", c->recipe_line);
    }
    if (isfinite(c->restored))
        tmb_html_put(h, " · restoring it alone wins %s",
                     share ? tmb_figure_share(c->restored).text
                           : tmb_figure_small(c->restored).text);
    if (c->level_with_previous) tmb_html_raw(h, " · level with the one above");
    tmb_html_raw(h, "</span></li>\n");
}

static void ranked(tmb_html *h, const tmb_causes *c, bool share)
{
    tmb_html_put(h, "<div><h3>%s</h3>\n",
                 share ? "Ranked on routing, expert sets changed"
                       : "Ranked on the output, KL in nats");
    if (!c->n)
        tmb_html_raw(h, "<p class=\"note\">No cause exceeds the noise floor.</p>\n");
    else
        tmb_html_raw(h, "<ol class=\"causes\">\n");
    for (size_t i = 0; i < c->n; i++)
        cause(h, &c->list[i], share);
    tmb_html_raw(h, c->n ? "</ol></div>\n" : "</div>\n");
}

void tmb_page_causes(tmb_html *h, const tmb_diagnosis *d)
{
    const tmb_causes *c = d->verdict.scales;
    bool ranks = c[TMB_SCALE_ROUTING].n || c[TMB_SCALE_OUTPUT].n;
    if (!ranks && !d->n_ablations && !d->n_harmless) return;
    tmb_html_raw(h, "<section><h2>Where it comes from</h2>\n");
    tmb_page_waterfalls(h, d);
    if (ranks || d->n_ablations) {
        tmb_html_raw(h, "<div class=\"pair\">\n");
        ranked(h, &c[TMB_SCALE_ROUTING], true);
        ranked(h, &c[TMB_SCALE_OUTPUT], false);
        tmb_html_raw(h, "</div>\n");
    }
    for (size_t i = 0; i < d->n_harmless; i++)
        tmb_html_put(h, "<p class=\"note\">Harmless: %s</p>\n",
                     d->harmless[i].text ? d->harmless[i].text : d->harmless[i].kind);
    tmb_html_raw(h, "</section>\n");
}
