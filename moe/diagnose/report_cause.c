/* report_cause.c - report.json: the verdict, and the tables it rests on. */
#include "config.h"
#include "moe/diagnose/report_internal.h"

static void numbers(tmb_writer *w, tmb_json *o, const char *key, const int *of, size_t n)
{
    tmb_json *a = tmb_write_array(w, o, key);
    for (size_t i = 0; i < n; i++)
        tmb_append(w, a, tmb_json_new_integer(of[i]));
}

static void pair(tmb_writer *w, tmb_json *o, const char *key, const double *of)
{
    tmb_json *a = tmb_write_array(w, o, key);
    for (int i = 0; i < 2; i++)
        tmb_append(w, a, tmb_json_new_number(of[i]));
}

static const char *role_name(tmb_role role)
{
    return role < TMB_ROLES ? tmb_role_name(role) : NULL;
}

static void causes(tmb_writer *w, tmb_json *verdict, const char *key, const tmb_causes *list)
{
    tmb_json *a = tmb_write_array(w, verdict, key);
    for (size_t i = 0; i < list->n; i++) {
        const tmb_cause *c = &list->list[i];
        tmb_json *o = tmb_append_object(w, a);
        tmb_write_text(w, o, "cause", c->cause);
        tmb_write_text(w, o, "role", role_name(c->role));
        numbers(w, o, "layers", c->layers, c->n_layers);
        numbers(w, o, "experts", c->experts, c->n_experts);
        tmb_write_text(w, o, "recipe_line", c->recipe_line);
        if (c->recipe_line_number)
            tmb_write_count(w, o, "recipe_line_number", (uint64_t)c->recipe_line_number);
        tmb_write_number(w, o, "effect", c->effect);
        pair(w, o, "ci95", c->ci95);
        tmb_write_number(w, o, "restored", c->restored);
        pair(w, o, "restored_ci95", c->restored_ci95);
        tmb_write(w, o, "level_with_previous", tmb_json_new_bool(c->level_with_previous));
        tmb_write_text(w, o, "text", c->text);
    }
}

void tmb_report_verdict(tmb_writer *w, tmb_json *root, const tmb_diagnosis *d)
{
    const tmb_verdict *v = &d->verdict;
    tmb_json *o = tmb_write_object(w, root, "verdict"), *lines = tmb_write_array(w, o, "lines");
    for (size_t i = 0; i < v->n_lines; i++)
        tmb_append(w, lines, tmb_json_new_string(v->lines[i]));
    causes(w, o, "routing", &v->scales[TMB_SCALE_ROUTING]);
    causes(w, o, "output", &v->scales[TMB_SCALE_OUTPUT]);
    tmb_write_text(w, o, "advice", v->advice);
    tmb_write_text(w, o, "advice_line", v->advice_line);
    tmb_write_interval(w, o, "advised_set_match", v->advised_set_match);
    tmb_write_interval(w, o, "advised_kl", v->advised_kl);
}

static void ablations(tmb_writer *w, tmb_json *root, const tmb_diagnosis *d)
{
    tmb_json *list = tmb_write_array(w, root, "ablation");
    for (size_t i = 0; i < d->n_ablations; i++) {
        const tmb_ablation *a = &d->ablations[i];
        tmb_json *o = tmb_append_object(w, list);
        tmb_write_text(w, o, "component", a->component);
        tmb_write_text(w, o, "role", role_name(a->role));
        tmb_write_text(w, o, "quantized", a->alone ? "alone" : "all but it");
        tmb_write(w, o, "layer", tmb_json_new_integer(a->layer));
        tmb_write_interval(w, o, "set_match", a->set_match);
        tmb_write_interval(w, o, "kl", a->kl);
        tmb_write_interval(w, o, "hidden_error", a->hidden_error);
        if (!a->layer_set_match) continue;
        tmb_json *by = tmb_write_array(w, o, "layer_set_match");
        for (size_t l = 0; l < d->n_layers; l++)
            tmb_append(w, by, tmb_json_new_number(a->layer_set_match[l]));
    }
}

static void replay(tmb_writer *w, tmb_json *root, const tmb_replay *r)
{
    static const char *const names[2][2] = {
        {"reference_weights_reference_routes", "reference_weights_quantized_routes"},
        {"quantized_weights_reference_routes", "quantized_weights_quantized_routes"}};
    if (!r->there) {
        tmb_write(w, root, "route_replay", tmb_json_new_null());
        return;
    }
    tmb_json *o = tmb_write_object(w, root, "route_replay");
    for (int i = 0; i < 4; i++)
        tmb_write_interval(w, o, names[i / 2][i % 2], r->kl[i / 2][i % 2]);
    tmb_write_interval(w, o, "value_error", r->value);
    tmb_write_interval(w, o, "selection_error", r->selection);
    tmb_write_interval(w, o, "interaction", r->interaction);
}

static void splits(tmb_writer *w, tmb_json *root, const tmb_diagnosis *d)
{
    tmb_json *list = tmb_write_array(w, root, "logit_split");
    for (size_t i = 0; i < d->n_splits; i++) {
        const tmb_split *s = &d->splits[i];
        tmb_json *o = tmb_append_object(w, list);
        tmb_write_count(w, o, "layer", (uint64_t)s->layer);
        tmb_write_number(w, o, "W_dx", s->input);
        tmb_write_number(w, o, "dW_x", s->weight);
        tmb_write_number(w, o, "dW_dx", s->both);
        tmb_write_number(w, o, "cross", s->cross);
        tmb_write_number(w, o, "mean_square", s->total);
    }
}

static void sensitivities(tmb_writer *w, tmb_json *root, const tmb_diagnosis *d)
{
    tmb_json *list = tmb_write_array(w, root, "sensitivity");
    for (size_t i = 0; i < d->n_sensitivities; i++) {
        const tmb_sensitivity *s = &d->sensitivities[i];
        tmb_json *o = tmb_append_object(w, list);
        tmb_write_count(w, o, "layer", (uint64_t)s->layer);
        if (s->expert >= 0) tmb_write_count(w, o, "expert", (uint64_t)s->expert);
        tmb_write_text(w, o, "component", s->component);
        tmb_write_interval(w, o, "set_match", s->set_match);
        tmb_write_number(w, o, "error", s->error);
        tmb_write(w, o, "stands_out", tmb_json_new_bool(s->stands_out));
    }
}

static void harmless(tmb_writer *w, tmb_json *root, const tmb_diagnosis *d)
{
    tmb_json *list = tmb_write_array(w, root, "harmless");
    for (size_t i = 0; i < d->n_harmless; i++) {
        const tmb_harmless *h = &d->harmless[i];
        tmb_json *o = tmb_append_object(w, list);
        tmb_write_text(w, o, "kind", h->kind);
        tmb_write(w, o, "layer", tmb_json_new_integer(h->layer));
        tmb_write_number(w, o, "share", h->share);
        tmb_write_text(w, o, "text", h->text);
    }
}

void tmb_report_tables(tmb_writer *w, tmb_json *root, const tmb_diagnosis *d)
{
    ablations(w, root, d);
    replay(w, root, &d->replay);
    splits(w, root, d);
    sensitivities(w, root, d);
    harmless(w, root, d);
}
