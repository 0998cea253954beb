/* html.c - markup in memory: escaping, and printf whose %s cannot be escaped from. */
#include "config.h"
#include "moe/diagnose/html.h"
#include "kernels/base/safe.h"

#include <assert.h>
#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void add(tmb_html *h, const char *text, size_t n)
{
    if (h->failed) return;
    if (h->room - h->n <= n) { /* one byte stays free for the final NUL */
        size_t want = h->n + n + 1, room = h->room ? h->room : 1 << 14;
        while (room < want && room < SIZE_MAX / 2)
            room *= 2;
        char *moved = room >= want ? realloc(h->text, room) : NULL;
        if (!moved) {
            h->failed = true;
            return;
        }
        h->text = moved;
        h->room = room;
    }
    memcpy(h->text + h->n, text, n);
    h->n += n;
    h->text[h->n] = 0;
}

void tmb_html_raw(tmb_html *h, const char *markup)
{
    add(h, markup, strlen(markup));
}

static void escaped(tmb_html *h, const char *s, bool lines)
{
    while (*s) {
        uint32_t c = 0;
        int n = tmb_utf8(s, &c);
        const char *entity = c == '&'    ? "&amp;"
                             : c == '<'  ? "&lt;"
                             : c == '>'  ? "&gt;"
                             : c == '"'  ? "&quot;"
                             : c == '\'' ? "&#39;"
                                         : NULL;
        if (n && entity) {
            tmb_html_raw(h, entity);
        } else if (n && (tmb_printable(c) || (lines && (c == '\n' || c == '\t')))) {
            add(h, s, (size_t)n);
        } else {
            for (int i = 0; i < (n ? n : 1); i++) {
                char hex[8];
                snprintf(hex, sizeof hex, "\\x%02x", (unsigned char)s[i]);
                tmb_html_raw(h, hex);
            }
        }
        s += n ? n : 1;
    }
}

void tmb_html_lines(tmb_html *h, const char *text)
{
    escaped(h, text ? text : "–", true);
}

/* %.*f with a point instead of what the locale writes. */
static void put_real(tmb_html *h, double value, int digits)
{
    char text[400]; /* the largest double has 309 digits before its point */
    if (!isfinite(value)) {
        tmb_html_raw(h, "–");
        return;
    }
    bool zero = fabs(value) < 0.5 * pow(10, -digits); /* no -0.0 */
    size_t n = (size_t)snprintf(text, sizeof text, "%.*f", digits, zero ? 0.0 : value);
    const char *point = localeconv()->decimal_point;
    char *at = strcmp(point, ".") != 0 ? strstr(text, point) : NULL;
    if (at) {
        *at = '.';
        memmove(at + 1, at + strlen(point), strlen(at + strlen(point)) + 1);
        n -= strlen(point) - 1;
    }
    add(h, text, n);
}

static void put_whole(tmb_html *h, unsigned long long value, bool negative)
{
    char text[32];
    size_t n = (size_t)snprintf(text, sizeof text, "%s%llu", negative ? "-" : "", value);
    add(h, text, n);
}

/* One conversion, p behind its %; returns what follows it. */
static const char *convert(tmb_html *h, const char *p, va_list *ap)
{
    if (*p == 's') {
        const char *text = va_arg(*ap, const char *);
        escaped(h, text ? text : "–", false);
    } else if (*p == 'd') {
        int value = va_arg(*ap, int);
        put_whole(h, value < 0 ? 0ULL - (unsigned long long)value : (unsigned long long)value,
                  value < 0);
    } else if (*p == 'u') {
        put_whole(h, va_arg(*ap, unsigned), false);
    } else if (p[0] == 'z' && p[1] == 'u') {
        put_whole(h, va_arg(*ap, size_t), false);
        p++;
    } else if (p[0] == '.' && p[1] >= '0' && p[1] <= '9' && p[2] == 'f') {
        put_real(h, va_arg(*ap, double), p[1] - '0');
        p += 2;
    } else if (*p == '%') {
        tmb_html_raw(h, "%");
    } else {
        assert(!"a conversion that html.h does not list");
        return p;
    }
    return p + 1;
}

void tmb_html_put(tmb_html *h, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    for (const char *p = format; *p;) {
        size_t plain = strcspn(p, "%");
        add(h, p, plain);
        p += plain;
        if (*p) p = convert(h, p + 1, &ap);
    }
    va_end(ap);
}

tmb_status tmb_html_end(tmb_html *h, char **text, size_t *n, tmb_err *err)
{
    tmb_html_raw(h, "");
    if (h->failed) {
        tmb_html_free(h);
        return tmb_fail_memory(err, 0, "the page of the report");
    }
    *text = h->text;
    *n = h->n;
    *h = (tmb_html){0};
    return TMB_OK;
}

void tmb_html_free(tmb_html *h)
{
    free(h->text);
    *h = (tmb_html){0};
}
