#include "config.h"
#include "moe/quantize/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool reserve(tmb_text *t, size_t more)
{
    if (t->failed) return false;
    if (t->room - t->n > more) return true;
    size_t room = t->room + t->room / 2;
    if (room < t->n + more + 1) room = t->n + more + 1;
    if (room < 4096) room = 4096;
    char *data = room > more ? realloc(t->data, room) : NULL;
    if (!data) {
        t->failed = true;
        return false;
    }
    t->data = data;
    t->room = room;
    return true;
}

void tmb_text_add(tmb_text *t, const char *s, size_t n)
{
    if (t->measure) {
        t->n += n;
        return;
    }
    if (!reserve(t, n)) return;
    memcpy(t->data + t->n, s, n);
    t->n += n;
    t->data[t->n] = '\0';
}

void tmb_text_puts(tmb_text *t, const char *s)
{
    tmb_text_add(t, s, strlen(s));
}

void tmb_text_printf(tmb_text *t, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0) {
        t->failed = true;
    } else if (t->measure) {
        t->n += (size_t)n;
    } else if (reserve(t, (size_t)n)) {
        vsnprintf(t->data + t->n, (size_t)n + 1, format, again);
        t->n += (size_t)n;
    }
    va_end(again);
}

void tmb_text_json(tmb_text *t, const char *s)
{
    if (!s) {
        tmb_text_puts(t, "null");
        return;
    }
    tmb_text_add(t, "\"", 1);
    const char *run = s;
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        tmb_text_add(t, run, (size_t)(s - run));
        run = s + 1;
        if (c == '"' || c == '\\')
            tmb_text_printf(t, "\\%c", c);
        else if (c == '\n')
            tmb_text_puts(t, "\\n");
        else if (c == '\t')
            tmb_text_puts(t, "\\t");
        else
            tmb_text_printf(t, "\\u%04x", c);
    }
    tmb_text_add(t, run, (size_t)(s - run));
    tmb_text_add(t, "\"", 1);
}

void tmb_text_spaces(tmb_text *t, size_t n)
{
    static const char blank[] = "                                ";
    while (n) {
        size_t now = n < sizeof blank - 1 ? n : sizeof blank - 1;
        tmb_text_add(t, blank, now);
        n -= now;
    }
}

tmb_status tmb_text_take(tmb_text *t, char **out, size_t *n, const char *what, tmb_err *err)
{
    if (!t->data && !t->failed) reserve(t, 1);
    if (t->failed) {
        tmb_status status = tmb_fail_memory(err, t->n, what);
        tmb_text_free(t);
        return status;
    }
    t->data[t->n] = '\0';
    *out = t->data;
    if (n) *n = t->n;
    *t = (tmb_text){0};
    return TMB_OK;
}

void tmb_text_free(tmb_text *t)
{
    free(t->data);
    *t = (tmb_text){0};
}
