/* report.c - report.json: manifest, metrics, margins, experts. */
#include "config.h"
#include "moe/diagnose/report_internal.h"

/* --- writing -------------------------------------------------------------------------------- */

void tmb_write(tmb_writer *w, tmb_json *object, const char *key, tmb_json *value)
{
    if (!object || !tmb_json_set(object, key, value)) w->failed = true;
}

void tmb_write_text(tmb_writer *w, tmb_json *object, const char *key, const char *text)
{
    tmb_write(w, object, key, text ? tmb_json_new_string(text) : tmb_json_new_null());
}

void tmb_write_number(tmb_writer *w, tmb_json *object, const char *key, double value)
{
    tmb_write(w, object, key, tmb_json_new_number(value));
}

void tmb_write_count(tmb_writer *w, tmb_json *object, const char *key, uint64_t value)
{
    tmb_write(w, object, key, tmb_json_new_integer((int64_t)value));
}

void tmb_append(tmb_writer *w, tmb_json *array, tmb_json *value)
{
    if (!array || !tmb_json_append(array, value)) w->failed = true;
}

tmb_json *tmb_write_object(tmb_writer *w, tmb_json *object, const char *key)
{
    tmb_json *o = tmb_json_new_object();
    tmb_write(w, object, key, o);
    return w->failed ? NULL : o;
}

tmb_json *tmb_write_array(tmb_writer *w, tmb_json *object, const char *key)
{
    tmb_json *a = tmb_json_new_array();
    tmb_write(w, object, key, a);
    return w->failed ? NULL : a;
}

tmb_json *tmb_append_object(tmb_writer *w, tmb_json *array)
{
    tmb_json *o = tmb_json_new_object();
    tmb_append(w, array, o);
    return w->failed ? NULL : o;
}

void tmb_write_interval(tmb_writer *w, tmb_json *object, const char *key, tmb_interval i)
{
    tmb_json *o = tmb_write_object(w, object, key);
    tmb_write_number(w, o, "value", i.value);
    tmb_write_number(w, o, "lo", i.lo);
    tmb_write_number(w, o, "hi", i.hi);
}

static void counts(tmb_writer *w, tmb_json *object, const char *key, const uint64_t *n, size_t len,
                   size_t step)
{
    tmb_json *a = tmb_write_array(w, object, key);
    for (size_t i = 0; a && i < len; i++)
        tmb_append(w, a, tmb_json_new_integer((int64_t)n[i * step]));
}

/* --- manifest ------------------------------------------------------------------------------- */

static void model(tmb_writer *w, tmb_json *object, const char *key, const tmb_diag_model *m)
{
    tmb_json *o = tmb_write_object(w, object, key);
    tmb_write_text(w, o, "path", m->path);
    tmb_write_text(w, o, "fingerprint", m->fingerprint);
    tmb_write_text(w, o, "arch", m->arch);
    tmb_write_text(w, o, "formats", m->formats);
}

static void manifest(tmb_writer *w, tmb_json *root, const tmb_diagnosis *d)
{
    const tmb_diag_manifest *m = &d->manifest;
    tmb_json *o = tmb_write_object(w, root, "manifest");
    tmb_write_text(w, o, "tombac", m->version);
    model(w, o, "reference", &m->ref);
    model(w, o, "quantized", &m->other);
    tmb_write_text(w, o, "recipe", m->recipe_path);
    tmb_write_text(w, o, "recipe_sha256", m->recipe_sha256);
    tmb_write_text(w, o, "recipe_text", m->recipe_text);
    tmb_write_text(w, o, "stats_sha256", m->stats_sha256);
    tmb_write_text(w, o, "data_sha256", m->data_sha256);
    tmb_json *sources = tmb_write_array(w, o, "sources");
    for (size_t i = 0; i < m->n_sources; i++)
        tmb_append(w, sources, tmb_json_new_string(m->sources[i]));
    tmb_write_count(w, o, "sequences", m->sequences);
    tmb_write_count(w, o, "tokens", m->tokens);
    tmb_write_count(w, o, "scored", m->scored);
    tmb_write_count(w, o, "seed", m->seed);
    tmb_write_count(w, o, "replicates", m->replicates);
    tmb_write_count(w, o, "ep_ranks", m->ep_ranks);
}

/* --- figures -------------------------------------------------------------------------------- */

static void metrics(tmb_writer *w, tmb_json *o, const tmb_interval *of, int first, int end)
{
    for (int m = first; m < end; m++)
        if (of[m].value == of[m].value || of[m].lo == of[m].lo)
            tmb_write_interval(w, o, tmb_metric_of((tmb_metric)m)->name, of[m]);
        else
            tmb_write(w, o, tmb_metric_of((tmb_metric)m)->name, tmb_json_new_null());
}

static void margins(tmb_writer *w, tmb_json *object, const tmb_margins *m)
{
    tmb_json *o = tmb_write_object(w, object, "margins");
    counts(w, o, "reference", m->ref, TMB_MARGIN_BINS, 1);
    counts(w, o, "quantized", m->other, TMB_MARGIN_BINS, 1);
    counts(w, o, "flips", m->flips, TMB_MARGIN_BINS, 1);
    counts(w, o, "local_flips", m->local, TMB_MARGIN_BINS, 1);
    counts(w, o, "noise_flips", m->noise, TMB_MARGIN_BINS, 1);
    counts(w, o, "noise_positions", m->noise_of, TMB_MARGIN_BINS, 1);
}

static void experts(tmb_writer *w, tmb_json *object, const tmb_diag_layer *l)
{
    enum { STEP = sizeof *l->experts / sizeof(uint64_t) };
    _Static_assert(sizeof *l->experts % sizeof(uint64_t) == 0, "counts lie on a grid");
    tmb_json *o = tmb_write_object(w, object, "experts");
    counts(w, o, "reference", &l->experts->ref, l->n_experts, STEP);
    counts(w, o, "quantized", &l->experts->other, l->n_experts, STEP);
    counts(w, o, "gained", &l->experts->gained, l->n_experts, STEP);
    counts(w, o, "lost", &l->experts->lost, l->n_experts, STEP);
    tmb_json *ref = tmb_write_array(w, o, "reference_weight"),
             *other = tmb_write_array(w, o, "quantized_weight");
    for (size_t e = 0; e < l->n_experts; e++) {
        tmb_append(w, ref, tmb_json_new_number(l->experts[e].ref_mass));
        tmb_append(w, other, tmb_json_new_number(l->experts[e].other_mass));
    }
}

static void layer(tmb_writer *w, tmb_json *list, const tmb_diag_layer *l)
{
    tmb_json *o = tmb_append_object(w, list);
    tmb_write_count(w, o, "layer", (uint64_t)l->layer);
    tmb_write(w, o, "sparse", tmb_json_new_bool(l->sparse));
    tmb_json *m = tmb_write_object(w, o, "metrics");
    metrics(w, m, l->metrics, l->sparse ? 0 : TMB_M_VALUES, TMB_M_OUTPUT);
    if (!l->sparse) return;
    tmb_write_count(w, o, "top_k", l->top_k);
    tmb_write_text(w, o, "margin_space", l->space == TMB_MARGIN_LOGIT ? "logit" : "choice");
    tmb_write_number(w, o, "noise_margin", l->noise_margin);
    margins(w, o, l->margins);
    experts(w, o, l);
}

static void noise(tmb_writer *w, tmb_json *root, const tmb_diagnosis *d)
{
    tmb_json *o = tmb_write_object(w, root, "noise");
    tmb_write_text(w, o, "what", d->noise.what);
    tmb_write_count(w, o, "sequences", d->noise.sequences);
    tmb_write_count(w, o, "tokens", d->noise.tokens);
    tmb_write_interval(w, o, "set_match", d->noise.set_match);
    tmb_write_interval(w, o, "kl", d->noise.kl);
}

tmb_json *tmb_report_json(const tmb_diagnosis *d)
{
    tmb_writer w = {false};
    tmb_json *root = tmb_json_new_object();
    if (!root) return NULL;
    tmb_write_text(&w, root, "kind", TMB_REPORT_KIND);
    tmb_write_count(&w, root, "version", TMB_REPORT_VERSION);
    tmb_write(&w, root, "identical", tmb_json_new_bool(d->identical));
    tmb_report_verdict(&w, root, d);
    tmb_json *overall = tmb_write_object(&w, root, "overall");
    metrics(&w, overall, d->overall, 0, TMB_METRICS);
    noise(&w, root, d);
    tmb_report_tables(&w, root, d);
    tmb_json *edges = tmb_write_array(&w, root, "margin_edges");
    for (size_t i = 0; i < TMB_MARGIN_BINS; i++)
        tmb_append(&w, edges, tmb_json_new_number(tmb_margin_edge(i)));
    margins(&w, root, &d->margins);
    tmb_json *layers = tmb_write_array(&w, root, "layers");
    for (size_t l = 0; l < d->n_layers; l++)
        layer(&w, layers, &d->layers[l]);
    manifest(&w, root, d);
    if (!w.failed) return root;
    tmb_json_free(root);
    return NULL;
}
