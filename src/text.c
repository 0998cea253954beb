/* text.c - numbers and names for people. */
#include "config.h"
#include "src/text.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const char *scaled(char out[TMB_HUMAN_BYTES], double value, double step,
                          const char *const *units)
{
    int u = 0;
    while (value >= step && units[u + 1]) {
        value /= step;
        u++;
    }
    int digits = u == 0 || value >= 1000 ? 0 : value >= 100 ? 1 : 2;
    snprintf(out, TMB_HUMAN_BYTES, "%.*f%s%s", digits, value, *units[u] ? " " : "", units[u]);
    return out;
}

const char *tmb_human_bytes(char out[TMB_HUMAN_BYTES], uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", NULL};
    return scaled(out, (double)bytes, 1024, units);
}

const char *tmb_human_count(char out[TMB_HUMAN_BYTES], uint64_t count)
{
    static const char *const units[] = {"", "K", "M", "B", "T", NULL};
    return scaled(out, (double)count, 1000, units);
}

const char *tmb_human_seconds(char out[TMB_HUMAN_BYTES], double seconds)
{
    if (!(seconds >= 0) || seconds > 3.6e9) seconds = 0;
    unsigned long long s = (unsigned long long)(seconds + 0.5);
    if (s >= 3600)
        snprintf(out, TMB_HUMAN_BYTES, "%llu:%02llu:%02llu", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(out, TMB_HUMAN_BYTES, "%llu:%02llu", s / 60, s % 60);
    return out;
}

const char *tmb_human_integer(char out[TMB_HUMAN_BYTES], uint64_t value)
{
    char digits[TMB_HUMAN_BYTES];
    int n = snprintf(digits, sizeof digits, "%llu", (unsigned long long)value);
    /* 2^64 has 20 digits and 6 commas: one column more than the buffer, and no such number is
     * ever printed; group only what fits. */
    bool group = n + (n - 1) / 3 < TMB_HUMAN_BYTES;
    size_t o = 0;
    for (int i = 0; i < n; i++) {
        if (group && i && (n - i) % 3 == 0) out[o++] = ',';
        out[o++] = digits[i];
    }
    out[o] = 0;
    return out;
}

size_t tmb_columns(const char *text)
{
    size_t n = 0;
    for (const unsigned char *s = (const unsigned char *)text; *s; s++)
        n += (*s & 0xc0) != 0x80;
    return n;
}

static char *forward(char *s, size_t columns)
{
    while (*s && columns) {
        s++;
        while (((unsigned char)*s & 0xc0) == 0x80)
            s++;
        columns--;
    }
    return s;
}

void tmb_shorten(char *text, size_t columns)
{
    size_t have = tmb_columns(text);
    if (have <= columns) return;
    if (columns < 8) {
        *forward(text, columns) = 0;
        return;
    }
    /* The end of a module name tells more than its start. */
    size_t head = (columns - 2) / 2, tail = columns - 2 - head;
    char *cut = forward(text, head), *rest = forward(text, have - tail);
    memmove(cut + 2, rest, strlen(rest) + 1);
    memcpy(cut, "..", 2);
}

size_t tmb_line_bytes(const char *text, size_t columns)
{
    size_t n = 0, fits = 0, used = 0;
    for (; text[n]; n++) {
        if (text[n] == ' ' && text[n + 1] != '%') { /* "98 %" stays together */
            if (used > columns) return fits ? fits : n;
            fits = n;
        }
        used += ((unsigned char)text[n] & 0xc0) != 0x80;
    }
    return used <= columns || !fits ? n : fits;
}

void tmb_print_wrapped(FILE *to, size_t at, const char *text)
{
    for (;;) {
        size_t n = tmb_line_bytes(text, TMB_PAGE_COLUMNS - at);
        fprintf(to, "%.*s\n", (int)n, text);
        text += n + strspn(text + n, " ");
        if (!*text) return;
        fprintf(to, "%*s", (int)at, "");
    }
}
