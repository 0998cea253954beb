/* compare.c - two reports, metric by metric. */
#include "config.h"
#include "moe/diagnose/report.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

tmb_status tmb_report_load(tmb_json **out, const char *path, tmb_err *err)
{
    int64_t version = 0;
    TRY(tmb_json_load(out, AT_FDCWD, path, TMB_REPORT_BYTES, false, err));
    const char *kind = tmb_json_string(tmb_json_get(*out, "kind"));
    bool known =
        tmb_json_integer(tmb_json_get(*out, "version"), &version) && version == TMB_REPORT_VERSION;
    if (kind && !strcmp(kind, TMB_REPORT_KIND) && known) return TMB_OK;
    bool ours = kind && !strcmp(kind, TMB_REPORT_KIND);
    tmb_json_free(*out);
    *out = NULL;
    if (ours)
        return tmb_fail(err, TMB_EDATA, "%s: version: is not %d; use the program that wrote it",
                        path, TMB_REPORT_VERSION);
    return tmb_fail(err, TMB_EDATA, "%s: is no report of tombac diagnose", path);
}

static double number(const tmb_json *o, const char *key)
{
    double v;
    return tmb_json_number(tmb_json_get(o, key), &v) ? v : (double)NAN;
}

static tmb_interval interval(const tmb_json *metrics, tmb_metric m)
{
    const tmb_json *o = tmb_json_get(metrics, tmb_metric_of(m)->name);
    return (tmb_interval){number(o, "value"), number(o, "lo"), number(o, "hi")};
}

static void compare(tmb_report_diff *d, const tmb_json *a, const tmb_json *b, int layer)
{
    for (int m = 0; m < TMB_METRICS; m++) {
        tmb_report_change c = {(tmb_metric)m, layer, interval(a, (tmb_metric)m),
                               interval(b, (tmb_metric)m), false};
        if (isnan(c.a.value) || isnan(c.b.value) || c.a.value == c.b.value) continue;
        c.apart = c.a.hi < c.b.lo || c.b.hi < c.a.lo;
        d->apart += c.apart;
        d->changes[d->n++] = c;
    }
}

static const char *text_at(const tmb_json *root, const char *path)
{
    const char *t = tmb_json_string(tmb_json_path(root, path));
    return t ? t : "?";
}

static bool same_text(const tmb_json *a, const tmb_json *b, const char *path)
{
    return strcmp(text_at(a, path), text_at(b, path)) == 0;
}

tmb_status tmb_report_compare(tmb_report_diff *out, const tmb_json *a, const tmb_json *b,
                              tmb_err *err)
{
    const tmb_json *la = tmb_json_get(a, "layers"), *lb = tmb_json_get(b, "layers");
    size_t layers = tmb_json_size(la) < tmb_json_size(lb) ? tmb_json_size(la) : tmb_json_size(lb);
    *out = (tmb_report_diff){.same_data = same_text(a, b, "manifest.data_sha256"),
                             .same_reference = same_text(a, b, "manifest.reference.fingerprint")};
    snprintf(out->other[0], sizeof out->other[0], "%s", text_at(a, "manifest.quantized.path"));
    snprintf(out->other[1], sizeof out->other[1], "%s", text_at(b, "manifest.quantized.path"));
    out->changes = calloc((layers + 1) * TMB_METRICS, sizeof *out->changes);
    if (!out->changes) return tmb_fail_memory(err, layers * sizeof *out->changes, "the comparison");
    compare(out, tmb_json_get(a, "overall"), tmb_json_get(b, "overall"), -1);
    for (size_t l = 0; l < layers; l++)
        compare(out, tmb_json_get(tmb_json_at(la, l), "metrics"),
                tmb_json_get(tmb_json_at(lb, l), "metrics"), (int)l);
    return TMB_OK;
}

void tmb_report_diff_free(tmb_report_diff *diff)
{
    free(diff->changes);
    *diff = (tmb_report_diff){0};
}
