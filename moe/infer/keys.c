/* keys.c - checked keys of config.json. */
#include "config.h"
#include "moe/infer/keys.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

void tmb_keys_fail(tmb_keys *k, tmb_status status, const char *key, const char *format, ...)
{
    if (k->status) return;
    char what[512];
    va_list ap;
    va_start(ap, format);
    vsnprintf(what, sizeof what, format, ap);
    va_end(ap);
    k->status = tmb_fail(k->err, status, "%s: %s: %s", k->file, key, what);
}

/* NULL when it is not there. */
static const tmb_json *value(const tmb_keys *k, const char *key)
{
    const tmb_json *v = tmb_json_get(k->in, key);
    return tmb_json_is_null(v) ? NULL : v;
}

int64_t tmb_key_integer(tmb_keys *k, const char *key, int64_t low, int64_t high, int64_t otherwise)
{
    const tmb_json *v = value(k, key);
    int64_t n = otherwise < 0 ? low : otherwise;
    double d;
    if (!v && otherwise < 0) tmb_keys_fail(k, TMB_EDATA, key, "missing; the forward pass needs it");
    if (!v) return n;
    if (tmb_json_integer(v, &n) && n >= low && n <= high) return n;
    /* 4096.0 is an integer to Python's readers. */
    if (tmb_json_number(v, &d) && d == floor(d) && d >= (double)low && d <= (double)high)
        return (int64_t)d;
    tmb_keys_fail(k, TMB_EDATA, key, "must be an integer from %" PRId64 " to %" PRId64, low, high);
    return low;
}

double tmb_key_number(tmb_keys *k, const char *key, double low, double high, double otherwise)
{
    const tmb_json *v = value(k, key);
    double d = isnan(otherwise) ? low : otherwise;
    if (!v && isnan(otherwise))
        tmb_keys_fail(k, TMB_EDATA, key, "missing; the forward pass needs it");
    if (!v) return d;
    if (tmb_json_number(v, &d) && d >= low && d <= high) return d;
    tmb_keys_fail(k, TMB_EDATA, key, "must be a number from %g to %g", low, high);
    return low;
}

bool tmb_key_bool(tmb_keys *k, const char *key, bool otherwise)
{
    const tmb_json *v = value(k, key);
    double d;
    if (!v) return otherwise;
    if (tmb_json_number(v, &d)) return d != 0;
    bool yes = tmb_json_bool(v, false);
    if (yes == tmb_json_bool(v, true)) return yes;
    tmb_keys_fail(k, TMB_EDATA, key, "must be true or false");
    return otherwise;
}

bool tmb_key_switch(tmb_keys *k, const tmb_switch *s)
{
    return s->key ? tmb_key_bool(k, s->key, s->otherwise) : s->otherwise;
}

const char *tmb_key_text(tmb_keys *k, const char *key)
{
    const tmb_json *v = value(k, key);
    const char *text = tmb_json_string(v);
    if (v && !text) tmb_keys_fail(k, TMB_EDATA, key, "must be a text");
    return text;
}

const tmb_json *tmb_key_list(tmb_keys *k, const char *key, size_t n)
{
    const tmb_json *v = value(k, key);
    if (!v || (tmb_json_is_array(v) && !tmb_json_size(v))) return NULL;
    if (tmb_json_is_array(v) && tmb_json_size(v) >= n) return v;
    tmb_keys_fail(k, TMB_EDATA, key, "must be a list of %zu", n);
    return NULL;
}
