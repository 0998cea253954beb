/* json_dump.c - JSON text as Python's json.dumps(indent=2, ensure_ascii=False) lays it out, real
 * numbers with the fewest digits that read back as the same value (1e-06,
 * not 9.9999999999999995e-07).  Only what must not reach a terminal is escaped besides: JSON is
 * printed too. */
#include "config.h"
#include "kernels/base/safe.h"
#include "moe/io/json_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct buffer {
    char *text;
    size_t n, room;
    int indent;
    bool failed;
} buffer;

static void put(buffer *b, const char *text, size_t n)
{
    if (b->failed) return;
    if (b->room - b->n <= n) { /* one byte stays free for the final NUL */
        size_t room = b->room + n < b->room ? 0 : (b->room + n + 64) * 2;
        char *moved = room ? realloc(b->text, room) : NULL;
        if (!moved) {
            b->failed = true;
            return;
        }
        b->text = moved;
        b->room = room;
    }
    memcpy(b->text + b->n, text, n);
    b->n += n;
}

static void put_text(buffer *b, const char *text)
{
    put(b, text, strlen(text));
}

static void put_line(buffer *b, int depth)
{
    if (!b->indent) return;
    put(b, "\n", 1);
    for (int i = 0; i < depth * b->indent; i++)
        put(b, " ", 1);
}

static void put_string(buffer *b, const char *text, size_t n)
{
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    size_t start = 0;
    put(b, "\"", 1);
    for (size_t i = 0; i < n; i++) {
        uint32_t c = (unsigned char)text[i];
        int length = c < 0x80 ? 1 : tmb_utf8(text + i, &c);
        if (tmb_printable(c) && c != '"' && c != '\\') {
            i += length > 1 ? (size_t)length - 1 : 0;
            continue;
        }
        put(b, text + start, i - start);
        i += length > 1 ? (size_t)length - 1 : 0;
        start = i + 1;
        const char *p = c && c < 0x80 ? strchr(from, (int)c) : NULL;
        char escape[8];
        if (p)
            snprintf(escape, sizeof escape, "\\%c", to[p - from]);
        else
            snprintf(escape, sizeof escape, "\\u%04x", c);
        put_text(b, escape);
    }
    put(b, text + start, n - start);
    put(b, "\"", 1);
}

/* Python's repr(): plain from 1e-4 up to 1e16, else with an exponent of at least two digits. */
static void put_real(buffer *b, double value)
{
    char text[40], digits[24], out[48];
    for (int precision = 0; precision <= 16; precision++) {
        snprintf(text, sizeof text, "%.*e", precision, value);
        if (strtod(text, NULL) == value) break;
    }
    /* text is [-]d[.ddd]e±xx; the point is whatever the locale has, so only digits are taken. */
    const char *p = text;
    char *w = out;
    int n = 0;
    if (*p == '-') *w++ = *p++;
    for (; *p && *p != 'e'; p++)
        if (*p >= '0' && *p <= '9') digits[n++] = *p;
    int exponent = *p ? atoi(p + 1) : 0;
    digits[n] = 0;
    if (exponent < -4 || exponent >= 16) {
        w += sprintf(w, n > 1 ? "%c.%s" : "%c%s", digits[0], digits + 1);
        sprintf(w, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
    } else if (exponent < 0) {
        sprintf(w, "0.%.*s%s", -exponent - 1, "000", digits);
    } else {
        for (int i = 0; i <= exponent || i < n; i++) {
            if (i == exponent + 1) *w++ = '.';
            *w++ = i < n ? digits[i] : '0';
        }
        strcpy(w, exponent + 1 < n ? "" : ".0");
    }
    put_text(b, out);
}

static void put_value(buffer *b, const tmb_json *json, int depth);

static void put_container(buffer *b, const tmb_json *json, int depth)
{
    bool object = tmb_json_is_object(json);
    size_t n = tmb_json_size(json);
    put(b, object ? "{" : "[", 1);
    void *it = NULL;
    for (size_t i = 0; i < n && !b->failed; i++) {
        const char *key;
        const tmb_json *value = object ? NULL : tmb_json_at(json, i);
        if (i > 0) put_text(b, b->indent ? "," : ", ");
        put_line(b, depth + 1);
        if (object && tmb_json_next(json, &it, &key, &value)) {
            put_string(b, key, strlen(key));
            put(b, ": ", 2);
        }
        put_value(b, value, depth + 1);
    }
    if (n > 0) put_line(b, depth);
    put(b, object ? "}" : "]", 1);
}

static void put_value(buffer *b, const tmb_json *json, int depth)
{
    size_t n;
    int64_t integer;
    double real;
    char digits[32];
    const char *bare = tmb_json_bare(json);
    const char *text = tmb_json_bytes(json, &n);
    if (bare) {
        put_text(b, bare);
    } else if (text) {
        put_string(b, text, n);
    } else if (tmb_json_is_object(json) || tmb_json_is_array(json)) {
        put_container(b, json, depth);
    } else if (tmb_json_integer(json, &integer)) {
        snprintf(digits, sizeof digits, "%lld", (long long)integer);
        put_text(b, digits);
    } else if (tmb_json_real(json, &real)) {
        put_real(b, real);
    } else {
        put_text(b, tmb_json_is_true(json) ? "true" : tmb_json_is_false(json) ? "false" : "null");
    }
}

char *tmb_json_dump(const tmb_json *json, int indent)
{
    buffer b = {.indent = indent};
    put_value(&b, json, 0);
    if (indent) put(&b, "\n", 1);
    if (b.failed) {
        free(b.text);
        return NULL;
    }
    b.text[b.n] = 0;
    return b.text;
}
