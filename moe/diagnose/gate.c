/* gate.c - reading and checking conditions. */
#include "config.h"
#include "moe/diagnose/gate.h"

#include "moe/io/match.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool take(const char **text, const char *word)
{
    size_t n = strlen(word);
    if (strncmp(*text, word, n) != 0) return false;
    *text += n;
    return true;
}

static tmb_status bad_metric(const char *name, tmb_err *err)
{
    const char *names[TMB_METRICS];
    for (int m = 0; m < TMB_METRICS; m++)
        names[m] = tmb_metric_of((tmb_metric)m)->name;
    const char *near = tmb_nearest(name, names, TMB_METRICS);
    if (near)
        return tmb_fail(err, TMB_EUSAGE, "--gate: unknown metric '%.40s'; did you mean %s?", name,
                        near);
    return tmb_fail(
        err, TMB_EUSAGE,
        "--gate: unknown metric '%.40s'; diagnose's manual lists them, set_match and kl "
        "are two",
        name);
}

/* The figure: [min_layer_|max_layer_|layer_N_]METRIC[.lo|.hi]. */
static tmb_status parse_figure(tmb_gate *g, char *figure, tmb_err *err)
{
    const char *name = figure;
    char *dot = strrchr(figure, '.');
    g->layer = TMB_GATE_OVERALL;
    if (dot && (!strcmp(dot, ".lo") || !strcmp(dot, ".hi"))) {
        g->end = dot[1] == 'l' ? -1 : 1;
        *dot = 0;
    }
    if (take(&name, "min_layer_")) {
        g->layer = TMB_GATE_LEAST;
    } else if (take(&name, "max_layer_")) {
        g->layer = TMB_GATE_MOST;
    } else if (take(&name, "layer_") && isdigit((unsigned char)*name)) {
        char *end;
        long l = strtol(name, &end, 10);
        if (*end != '_' || l > 100000)
            return tmb_fail(err, TMB_EUSAGE, "--gate: '%s': write layer_3_set_match", figure);
        g->layer = (int)l;
        name = end + 1;
    }
    if (!tmb_metric_find(name, &g->metric)) return bad_metric(name, err);
    if (g->layer != TMB_GATE_OVERALL && g->metric >= (tmb_metric)TMB_M_OUTPUT)
        return tmb_fail(err, TMB_EUSAGE, "--gate: %s is of the whole model, not of a layer", name);
    return TMB_OK;
}

static tmb_status parse(tmb_gate *g, const char *text, size_t n, tmb_err *err)
{
    char figure[TMB_GATE_BYTES], *end = NULL;
    *g = (tmb_gate){0};
    if (n >= sizeof g->text)
        return tmb_fail(err, TMB_EUSAGE, "--gate: a condition of %zu characters is too long", n);
    memcpy(g->text, text, n);
    size_t at = strcspn(g->text, "<>="), equal = g->text[at] && g->text[at + 1] == '=';
    if (g->text[at] != '<' && g->text[at] != '>')
        return tmb_fail(err, TMB_EUSAGE,
                        "--gate: '%s' is no condition; write a metric, >=, <=, > or <, and a "
                        "number: set_match>=0.97",
                        g->text);
    g->op = g->text[at] == '>' ? (equal ? TMB_GATE_GE : TMB_GATE_GT)
                               : (equal ? TMB_GATE_LE : TMB_GATE_LT);
    memcpy(figure, g->text, at);
    while (at && isspace((unsigned char)figure[at - 1]))
        at--;
    figure[at] = 0;
    const char *number = g->text + strcspn(g->text, "<>=") + 1 + equal;
    g->limit = strtod(number, &end);
    while (isspace((unsigned char)*end))
        end++;
    if (end == number || *end || !isfinite(g->limit))
        return tmb_fail(err, TMB_EUSAGE, "--gate: '%s': '%s' is no number", g->text, number);
    return parse_figure(g, figure, err);
}

tmb_status tmb_gates_add(tmb_gates *gates, const char *expression, tmb_err *err)
{
    for (const char *at = expression;; at++) {
        while (isspace((unsigned char)*at))
            at++;
        size_t n = strcspn(at, ","), trimmed = n;
        while (trimmed && isspace((unsigned char)at[trimmed - 1]))
            trimmed--;
        if (gates->n == TMB_GATES)
            return tmb_fail(err, TMB_EUSAGE, "--gate: more than %d conditions", TMB_GATES);
        TRY(parse(&gates->list[gates->n], at, trimmed, err));
        gates->n++;
        at += n;
        if (!*at) return TMB_OK;
    }
}

static double end_of(const tmb_gate *g, const tmb_interval *i)
{
    return g->end < 0 ? i->lo : g->end > 0 ? i->hi : i->value;
}

static double find(const tmb_gate *g, const tmb_diagnosis *d)
{
    double found = (double)NAN;
    if (g->layer == TMB_GATE_OVERALL) return end_of(g, &d->overall[g->metric]);
    for (size_t l = 0; l < d->n_layers; l++) {
        double v = end_of(g, &d->layers[l].metrics[g->metric]);
        if (g->layer >= 0 && d->layers[l].layer == g->layer) return v;
        if (g->layer >= 0 || isnan(v)) continue;
        if (isnan(found) || (g->layer == TMB_GATE_LEAST ? v < found : v > found)) found = v;
    }
    return found;
}

bool tmb_gates_check(tmb_gates *gates, const tmb_diagnosis *d)
{
    bool all = true;
    for (size_t i = 0; i < gates->n; i++) {
        tmb_gate *g = &gates->list[i];
        g->found = find(g, d);
        g->met = g->op == TMB_GATE_GE   ? g->found >= g->limit
                 : g->op == TMB_GATE_LE ? g->found <= g->limit
                 : g->op == TMB_GATE_GT ? g->found > g->limit
                                        : g->found < g->limit;
        all = all && g->met;
    }
    return all;
}
