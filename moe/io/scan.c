/* scan.c - tokens.  The fast path is a string without escapes: eight bytes a step. */
#include "config.h"
#include "moe/io/scan.h"

#include <endian.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 64 };

tmb_status tmb_scan_fail(const tmb_scan *s, const char *at, const char *format, ...)
{
    char what[512];
    va_list ap;
    va_start(ap, format);
    vsnprintf(what, sizeof what, format, ap);
    va_end(ap);
    return tmb_fail(s->err, TMB_EDATA, "%s: byte %llu: %s; %s", s->file,
                    (unsigned long long)(s->base + (uint64_t)(at - s->begin)), what, s->remedy);
}

tmb_status tmb_scan_unexpected(const tmb_scan *s, const char *wanted)
{
    if (s->at == s->end) return tmb_scan_fail(s, s->at, "expected %s, found the end", wanted);
    unsigned char c = (unsigned char)*s->at;
    if (c < 0x20 || c >= 0x7f)
        return tmb_scan_fail(s, s->at, "expected %s, found byte 0x%02x", wanted, c);
    return tmb_scan_fail(s, s->at, "expected %s, found '%c'", wanted, c);
}

tmb_status tmb_scan_expect(tmb_scan *s, char c, const char *wanted)
{
    return tmb_scan_take(s, c) ? TMB_OK : tmb_scan_unexpected(s, wanted);
}

/* The length of the well-formed UTF-8 sequence at p, 0 when there is none. */
static size_t utf8_length(const unsigned char *p, size_t n)
{
    size_t length;
    unsigned char low = 0x80, high = 0xbf; /* bounds of the second byte */
    if (p[0] >= 0xc2 && p[0] <= 0xdf) {
        length = 2;
    } else if (p[0] >= 0xe0 && p[0] <= 0xef) {
        length = 3;
        if (p[0] == 0xe0) low = 0xa0;  /* overlong */
        if (p[0] == 0xed) high = 0x9f; /* surrogates */
    } else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        length = 4;
        if (p[0] == 0xf0) low = 0x90;  /* overlong */
        if (p[0] == 0xf4) high = 0x8f; /* past U+10FFFF */
    } else {
        return 0;
    }
    if (n < length || p[1] < low || p[1] > high) return 0;
    for (size_t i = 2; i < length; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    return length;
}

static char *utf8_put(char *w, uint32_t c)
{
    if (c < 0x80) {
        *w++ = (char)c;
    } else if (c < 0x800) {
        *w++ = (char)(0xc0 | c >> 6);
        *w++ = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *w++ = (char)(0xe0 | c >> 12);
        *w++ = (char)(0x80 | (c >> 6 & 0x3f));
        *w++ = (char)(0x80 | (c & 0x3f));
    } else {
        *w++ = (char)(0xf0 | c >> 18);
        *w++ = (char)(0x80 | (c >> 12 & 0x3f));
        *w++ = (char)(0x80 | (c >> 6 & 0x3f));
        *w++ = (char)(0x80 | (c & 0x3f));
    }
    return w;
}

/* Four hexadecimal digits at the cursor. */
static bool hex4(tmb_scan *s, uint32_t *out)
{
    if (s->end - s->at < 4) return false;
    uint32_t v = 0;
    for (int i = 0; i < 4; i++) {
        char c = s->at[i];
        uint32_t digit;
        if (c >= '0' && c <= '9')
            digit = (uint32_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            digit = (uint32_t)(c - 'a' + 10);
        else if (c >= 'A' && c <= 'F')
            digit = (uint32_t)(c - 'A' + 10);
        else
            return false;
        v = v << 4 | digit;
    }
    s->at += 4;
    *out = v;
    return true;
}

/* The cursor stands on a backslash; what it means goes to *w.  Never longer than what is read. */
static tmb_status escape(tmb_scan *s, char **w)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *start = s->at++;
    if (s->at == s->end) return tmb_scan_fail(s, start, "a string without an end");
    char c = *s->at++;
    if (c != 'u') {
        const char *p = c ? strchr(from, c) : NULL;
        if (!p) return tmb_scan_fail(s, start, "an escape that JSON does not have");
        *(*w)++ = to[p - from];
        return TMB_OK;
    }
    uint32_t v, low;
    if (!hex4(s, &v)) return tmb_scan_fail(s, start, "\\u needs four hexadecimal digits");
    if (v >= 0xd800 && v <= 0xdfff) {
        bool pair = v < 0xdc00 && s->end - s->at >= 6 && s->at[0] == '\\' && s->at[1] == 'u';
        if (pair) s->at += 2;
        if (!pair || !hex4(s, &low) || low < 0xdc00 || low > 0xdfff)
            return tmb_scan_fail(s, start, "half of a surrogate pair");
        v = 0x10000 + ((v - 0xd800) << 10) + (low - 0xdc00);
    }
    *w = utf8_put(*w, v);
    return TMB_OK;
}

/* Non-zero in the lowest byte of the eight that is a quote, a backslash, a control character,
 * 0x7f, or not ASCII; bytes above the first such may be wrong.  (Sean Anderson, "Bit Twiddling
 * Hacks", "Determine if a word has a byte less than n".) */
static inline uint64_t special(uint64_t w)
{
    const uint64_t ones = 0x0101010101010101u, tops = 0x8080808080808080u;
    uint64_t quote = w ^ ones * '"', slash = w ^ ones * '\\', del = w ^ ones * 0x7f;
    return (w | (w - ones * 0x20) | ((quote - ones) & ~quote) | ((slash - ones) & ~slash) |
            ((del - ones) & ~del)) &
           tops;
}

/* *plain: what was read is ASCII and printable, without escapes. */
static tmb_status string(tmb_scan *s, char **out, size_t *n, bool *plain, const char *wanted)
{
    TRY(tmb_scan_expect(s, '"', wanted));
    const char *start = s->at - 1;
    char *text = s->at, *w = s->at;
    *plain = true;
    for (;;) {
        while (s->end - s->at >= 8) { /* copying begins with the first escape */
            uint64_t eight;
            memcpy(&eight, s->at, 8);
            uint64_t stop = special(le64toh(eight));
            size_t run = stop ? (size_t)__builtin_ctzll(stop) / 8 : 8;
            if (w != s->at) memmove(w, s->at, run);
            w += run;
            s->at += run;
            if (stop) break;
        }
        if (s->at == s->end) return tmb_scan_fail(s, start, "a string without an end");
        unsigned char c = (unsigned char)*s->at;
        if (c == '"') break;
        if (c < 0x20) return tmb_scan_fail(s, s->at, "control character 0x%02x in a string", c);
        *plain &= c < 0x7f && c != '\\';
        if (c == '\\') {
            TRY(escape(s, &w));
            continue;
        }
        size_t length =
            c < 0x80 ? 1 : utf8_length((unsigned char *)s->at, (size_t)(s->end - s->at));
        if (!length) return tmb_scan_fail(s, s->at, "bad UTF-8 (byte 0x%02x)", c);
        memmove(w, s->at, length);
        w += length;
        s->at += length;
    }
    s->at++;
    *w = 0;
    *out = text;
    *n = (size_t)(w - text);
    return TMB_OK;
}

tmb_status tmb_scan_string(tmb_scan *s, char **out, size_t *n, const char *wanted)
{
    bool plain;
    return string(s, out, n, &plain, wanted);
}

tmb_status tmb_scan_name(tmb_scan *s, char **out, size_t *n, size_t max, const char *wanted)
{
    bool plain;
    TRY(string(s, out, n, &plain, wanted));
    if (*n == 0) return tmb_scan_fail(s, *out, "an empty name");
    if (*n > max) return tmb_scan_fail(s, *out, "a name of %zu bytes, %zu are allowed", *n, max);
    for (size_t i = 0; !plain && i < *n; i++) {
        unsigned char c = (unsigned char)(*out)[i];
        if (c < 0x20 || c == 0x7f)
            return tmb_scan_fail(s, *out, "control character 0x%02x in a name", c);
    }
    return TMB_OK;
}

tmb_status tmb_scan_u64(tmb_scan *s, uint64_t *out, const char *wanted)
{
    tmb_scan_space(s);
    const char *start = s->at;
    uint64_t v = 0;
    for (; s->at < s->end && *s->at >= '0' && *s->at <= '9'; s->at++) {
        if (s->at > start && *start == '0')
            return tmb_scan_fail(s, start, "an integer with a leading zero");
        if (__builtin_mul_overflow(v, 10u, &v) ||
            __builtin_add_overflow(v, (uint64_t)(*s->at - '0'), &v))
            return tmb_scan_fail(s, start, "an integer over 2^64-1");
    }
    if (s->at == start) return tmb_scan_unexpected(s, wanted);
    if (s->at < s->end && (*s->at == '.' || *s->at == 'e' || *s->at == 'E'))
        return tmb_scan_fail(s, start, "expected %s without fraction or exponent", wanted);
    *out = v;
    return TMB_OK;
}

static bool digits(tmb_scan *s)
{
    const char *start = s->at;
    while (s->at < s->end && *s->at >= '0' && *s->at <= '9')
        s->at++;
    return s->at > start;
}

static tmb_status skip_number(tmb_scan *s)
{
    const char *start = s->at;
    if (*s->at == '-') s->at++;
    const char *first = s->at;
    bool good = digits(s) && !(*first == '0' && s->at - first > 1);
    if (good && s->at < s->end && *s->at == '.') {
        s->at++;
        good = digits(s);
    }
    if (good && s->at < s->end && (*s->at == 'e' || *s->at == 'E')) {
        s->at++;
        if (s->at < s->end && (*s->at == '+' || *s->at == '-')) s->at++;
        good = digits(s);
    }
    return good ? TMB_OK : tmb_scan_fail(s, start, "a number that JSON does not have");
}

static tmb_status skip_value(tmb_scan *s, int depth);

static tmb_status skip_container(tmb_scan *s, int depth)
{
    char *text;
    size_t n;
    bool object = *s->at == '{';
    char close = object ? '}' : ']';
    if (depth == DEPTH_MAX) return tmb_scan_fail(s, s->at, "values nested over %d deep", DEPTH_MAX);
    s->at++;
    if (tmb_scan_take(s, close)) return TMB_OK;
    do {
        if (object) {
            TRY(tmb_scan_string(s, &text, &n, "a key in double quotes"));
            TRY(tmb_scan_expect(s, ':', "':' after a key"));
        }
        TRY(skip_value(s, depth + 1));
    } while (tmb_scan_take(s, ','));
    return tmb_scan_expect(s, close, object ? "',' or '}'" : "',' or ']'");
}

static tmb_status skip_value(tmb_scan *s, int depth)
{
    static const char *const words[] = {"true", "false", "null"};
    char *text;
    size_t n;
    tmb_scan_space(s);
    if (s->at == s->end) return tmb_scan_unexpected(s, "a value");
    if (*s->at == '"') return tmb_scan_string(s, &text, &n, "a string");
    if (*s->at == '{' || *s->at == '[') return skip_container(s, depth);
    if (*s->at == '-' || (*s->at >= '0' && *s->at <= '9')) return skip_number(s);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        n = strlen(words[i]);
        if ((size_t)(s->end - s->at) >= n && memcmp(s->at, words[i], n) == 0) {
            s->at += n;
            return TMB_OK;
        }
    }
    return tmb_scan_unexpected(s, "a value");
}

tmb_status tmb_scan_skip(tmb_scan *s)
{
    return skip_value(s, 0);
}

tmb_status tmb_scan_finish(tmb_scan *s)
{
    tmb_scan_space(s);
    return s->at == s->end ? TMB_OK : tmb_scan_unexpected(s, "nothing after the closing '}'");
}

void *tmb_grown(void *items, size_t n, size_t *room, size_t size)
{
    if (n < *room) return items;
    size_t more = *room ? *room * 2 : 64;
    if (more > SIZE_MAX / size) return NULL;
    void *moved = realloc(items, more * size);
    if (moved) *room = more;
    return moved;
}
