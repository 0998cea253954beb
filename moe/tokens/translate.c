/* translate.c - from a pattern over characters to one over kinds.
 *
 * What a known pattern is made of: literals, \r \n \t and escaped signs, \s \S \p{X}, classes with
 * ranges, negation and one intersection, groups, (?i:…), (?!…), alternatives and quantifiers.
 * Anything else is a pattern that does not belong on the list: TMB_EINTERNAL. */
#include "config.h"
#include "moe/tokens/patterns.h"

#include "moe/tokens/ucd.h"
#include "moe/tokens/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct set {
    bool has[256];
} set;

typedef struct translator {
    const char *p; /* what is left of the pattern */
    FILE *out;
    int folding; /* depth of parentheses since (?i: began, 0 outside */
    bool bad;
} translator;

static void add_property(set *s, const char *name, size_t n, bool negated)
{
    for (unsigned k = 0; k < tmb_ucd_kinds(); k++)
        if (tmb_ucd_has(k, name, n) != negated) s->has[k] = true;
}

static uint32_t next_literal(translator *t)
{
    const uint8_t *p = (const uint8_t *)t->p;
    uint32_t c = tmb_utf8_next(&p);
    t->p = (const char *)p;
    return c;
}

/* What a backslash means; a literal is added too. */
static void escape(translator *t, set *s)
{
    char c = *++t->p;
    if (c) t->p++;
    if (c == 's' || c == 'S') {
        add_property(s, "s", 1, c == 'S');
    } else if (c == 'p' && *t->p == '{') {
        size_t n = strcspn(++t->p, "}");
        add_property(s, t->p, n, false);
        t->p += n + (t->p[n] == '}');
    } else if (c == 'r' || c == 'n' || c == 't') {
        s->has[c == 'r' ? '\r' : c == 'n' ? '\n' : '\t'] = true;
    } else if (c && !strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", c)) {
        s->has[(unsigned char)c] = true;
    } else {
        t->bad = true;
    }
}

/* A character of a class, or a range.  Characters that are no ASCII come in the ranges that the
 * kinds know as listed, and there alone. */
static void literal(translator *t, set *s)
{
    uint32_t low = next_literal(t), high = low;
    if (*t->p == '-' && t->p[1] && t->p[1] != ']') {
        t->p++;
        high = next_literal(t);
    }
    if (low >= 0x80) add_property(s, "listed", 6, false);
    for (uint32_t c = low; c <= high && c < 0x80; c++)
        s->has[c] = true;
}

/* A class; t->p stands on its '['. */
static set class_of(translator *t)
{
    set s = {{false}};
    bool negated = *++t->p == '^';
    t->p += negated;
    while (*t->p && *t->p != ']') {
        if (strncmp(t->p, "&&[", 3) == 0) {
            t->p += 2;
            set other = class_of(t);
            for (unsigned k = 0; k < 256; k++)
                s.has[k] &= other.has[k];
        } else if (*t->p == '\\') {
            escape(t, &s);
        } else {
            literal(t, &s);
        }
    }
    t->bad |= *t->p != ']';
    t->p += *t->p == ']';
    for (unsigned k = 0; negated && k < tmb_ucd_kinds(); k++)
        s.has[k] = !s.has[k];
    return s;
}

static void write_set(translator *t, const set *s)
{
    bool any = false;
    fputc('[', t->out);
    for (unsigned k = 0; k < 256; k++) {
        if (!s->has[k]) continue;
        unsigned end = k;
        while (end < 255 && s->has[end + 1])
            end++;
        fprintf(t->out, end > k ? "\\x%02x-\\x%02x" : "\\x%02x", k, end);
        k = end;
        any = true;
    }
    fputc(']', t->out);
    t->bad |= !any;
}

/* A letter where case does not count: U+017F folds to s too. */
static void write_folded(translator *t, char c)
{
    set s = {{false}};
    s.has[(unsigned char)c] = s.has[(unsigned char)(c & ~0x20)] = true;
    if (c == 's') add_property(&s, "long s", 6, false);
    write_set(t, &s);
}

static void step(translator *t)
{
    set s = {{false}};
    char c = *t->p;
    if (c == '[') {
        s = class_of(t);
        write_set(t, &s);
    } else if (c == '\\') {
        escape(t, &s);
        write_set(t, &s);
    } else if (strncmp(t->p, "(?i:", 4) == 0) {
        t->p += 4;
        t->folding = 1;
        fputs("(?:", t->out);
    } else if (strncmp(t->p, "(?!", 3) == 0) {
        t->p += 3;
        fputs("(?!", t->out);
    } else if (t->folding && c >= 'a' && c <= 'z') {
        t->p++;
        write_folded(t, c);
    } else {
        t->bad |= (unsigned char)c >= 0x80 || c == '(' || c == '.' || c == '^' || c == '$';
        if (c == ')') t->folding = 0;
        fputc(c, t->out);
        t->p++;
    }
}

tmb_status tmb_pattern_translate(char **out, const char *regex, tmb_err *err)
{
    size_t n;
    *out = NULL;
    translator t = {.p = regex, .out = open_memstream(out, &n)};
    if (!t.out) return tmb_fail_memory(err, strlen(regex), "a pattern");
    while (*t.p && !t.bad)
        step(&t);
    bool failed = ferror(t.out);
    if (fclose(t.out) || failed) {
        free(*out);
        return tmb_fail_memory(err, strlen(regex), "a pattern");
    }
    if (!t.bad) return TMB_OK;
    free(*out);
    return tmb_fail(err, TMB_EINTERNAL, "pattern \"%.200s\" cannot be translated at byte %zu",
                    regex, (size_t)(t.p - regex));
}
