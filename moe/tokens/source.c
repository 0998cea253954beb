/* source.c - NAME=PATH:WEIGHT. */
#include "config.h"
#include "moe/tokens/source.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool tmb_weight_parse(const char *text, double *weight)
{
    char *end;
    if (!isdigit((unsigned char)*text) && *text != '.') return false;
    if (text[strspn(text, "0123456789.eE+-")]) return false; /* no hexadecimals, no inf */
    errno = 0;
    double value = strtod(text, &end);
    if (*end || end == text || errno || !isfinite(value) || value <= 0) return false;
    *weight = value;
    return true;
}

bool tmb_source_name(const char *text, size_t n)
{
    if (!n || n > TMB_SOURCE_NAME_MAX) return false;
    for (size_t i = 0; i < n; i++)
        if (!text[i] || (!isalnum((unsigned char)text[i]) && !strchr("-_.", text[i]))) return false;
    return true;
}

/* "calib" of "data/calib.jsonl"; what cannot stand in a name becomes '-'. */
static const char *base_name(const char *path, tmb_arena *arena)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    const char *dot = strrchr(base, '.');
    size_t n = dot && dot > base ? (size_t)(dot - base) : strlen(base);
    char *name = tmb_arena_text(arena, base, n > TMB_SOURCE_NAME_MAX ? TMB_SOURCE_NAME_MAX : n);
    for (char *p = name; p && *p; p++)
        if (!tmb_source_name(p, 1)) *p = '-';
    return name;
}

tmb_status tmb_source_parse(tmb_source *out, const char *text, tmb_arena *arena, tmb_err *err)
{
    const char *equals = strchr(text, '='), *path = text;
    tmb_source s = {.weight = 1};
    if (equals && tmb_source_name(text, (size_t)(equals - text))) {
        s.name = tmb_arena_text(arena, text, (size_t)(equals - text));
        path = equals + 1;
        if (!s.name) return tmb_fail_memory(err, 0, "a source");
    }
    const char *colon = strrchr(path, ':');
    size_t n = strlen(path);
    if (colon && tmb_weight_parse(colon + 1, &s.weight)) {
        n = (size_t)(colon - path);
    } else if (colon && colon[1] && !colon[1 + strspn(colon + 1, "0123456789.eE+-")]) {
        return tmb_fail(err, TMB_EUSAGE,
                        "--data %.200s: '%.40s' is no weight; write a number over 0, like :0.5",
                        text, colon + 1);
    }
    if (!n)
        return tmb_fail(err, TMB_EUSAGE, "--data %.200s: no file; write NAME=PATH[:WEIGHT]", text);
    s.path = tmb_arena_text(arena, path, n);
    if (s.path && !s.name) s.name = base_name(s.path, arena);
    if (!s.path || !s.name) return tmb_fail_memory(err, n, "a source");
    if (!*s.name)
        return tmb_fail(err, TMB_EUSAGE, "--data %.200s: no name; write NAME=PATH[:WEIGHT]", text);
    *out = s;
    return TMB_OK;
}
