/* lines.c - look at every line before inih does.
 *
 * inih is lenient where a recipe must not be: it cuts long lines and section names in silence,
 * joins an indented line to the value above, takes ':' for '=', and drops whatever follows the
 * ']' of a section.  Here such a line is refused with its reason, or made harmless (indentation
 * and carriage returns are taken off before inih sees them). */
#include "config.h"
#include "moe/recipe/draft.h"

#include <string.h>

static bool blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Length of the UTF-8 sequence at p (RFC 3629: no overlong forms, no surrogates), 0 when bad. */
static size_t utf8(const unsigned char *p, size_t n)
{
    if (p[0] < 0x80) return 1;
    size_t want = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || want > n) return 0;
    for (size_t i = 1; i < want; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    if (p[0] == 0xe0 && p[1] < 0xa0) return 0;
    if (p[0] == 0xed && p[1] > 0x9f) return 0;
    if (p[0] == 0xf0 && p[1] < 0x90) return 0;
    if (p[0] == 0xf4 && p[1] > 0x8f) return 0;
    return want;
}

tmb_status tmb_recipe_text(const char *text, size_t n, const char *path, size_t *start,
                           tmb_err *err)
{
    const unsigned char *p = (const unsigned char *)text;
    *start = 0;
    if (n >= 2 && ((p[0] == 0xff && p[1] == 0xfe) || (p[0] == 0xfe && p[1] == 0xff)))
        return tmb_fail(err, TMB_EDATA, "%s: UTF-16 text; save the recipe as UTF-8", path);
    if (n >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0) *start = 3;

    int line = 1;
    for (size_t i = *start; i < n;) {
        if (p[i] == '\n') line++;
        if (p[i] == 0)
            return tmb_fail(err, TMB_EDATA,
                            "%s:%d: a NUL byte at offset %zu; a recipe is a text file", path, line,
                            i);
        size_t step = utf8(p + i, n - i);
        if (!step)
            return tmb_fail(err, TMB_EDATA,
                            "%s:%d: byte 0x%02x at offset %zu is not UTF-8; save the recipe as "
                            "UTF-8",
                            path, line, p[i], i);
        i += step;
    }
    return TMB_OK;
}

static tmb_line_kind bad(tmb_status status)
{
    (void)status; /* already in the draft */
    return TMB_LINE_BAD;
}

static tmb_line_kind section_line(tmb_draft *d, const char *line, size_t n, const char **name,
                                  size_t *name_n)
{
    const char *close = memchr(line, ']', n);
    if (!close) return bad(tmb_draft_fail(d, d->line, "'[' without ']'; write [rules]"));

    const char *from = line + 1, *to = close;
    while (from < to && blank(*from))
        from++;
    while (to > from && blank(to[-1]))
        to--;
    *name = from;
    *name_n = (size_t)(to - from);

    const char *rest = close + 1, *end = line + n;
    while (rest < end && blank(*rest))
        rest++;
    if (rest < end && *rest != ';' && *rest != '#') {
        if (tmb_section_known(*name, *name_n))
            return bad(tmb_draft_fail(d, d->line, "text after [%.*s]; put it on a line of its own",
                                      (int)*name_n, *name));
        return bad(tmb_draft_fail(
            d, d->line, "a line that starts with '[' is a section; write the rule as *%.*s",
            (int)strcspn(line, " \t="), line));
    }
    return TMB_LINE_SECTION;
}

static tmb_line_kind pair_line(tmb_draft *d, const char *line, size_t n)
{
    /* what inih will take for a comment: ';' behind a blank */
    size_t end = 1;
    while (end < n && !(line[end] == ';' && blank(line[end - 1])))
        end++;

    const char *equals = memchr(line, '=', end);
    const char *colon = memchr(line, ':', end);
    const char *semicolon = memchr(line, ';', end);
    size_t left = equals ? (size_t)(equals - line) : end;
    while (left && blank(line[left - 1]))
        left--;

    if (left >= 3 && memcmp(line, "re:", 3) == 0)
        return bad(tmb_draft_fail(d, d->line,
                                  "a rule is a glob, not a regular expression; write * for any run "
                                  "of characters, like *experts*"));
    if (colon && (!equals || colon < equals))
        return bad(tmb_draft_fail(d, d->line, "':' where '=' is wanted; write NAME = VALUE"));
    if (!equals && memchr(line, '=', n))
        return bad(tmb_draft_fail(d, d->line,
                                  "';' behind a blank starts a comment, so the '=' is lost; write "
                                  "NAME = VALUE ; comment"));
    if (!equals)
        return bad(
            tmb_draft_fail(d, d->line, "'%.*s' is not NAME = VALUE%s", (int)left, line,
                           d->section == TMB_SECTION_RULES ? "; a rule is GLOB = FORMAT" : ""));
    if (left == 0) return bad(tmb_draft_fail(d, d->line, "nothing before '='; write NAME = VALUE"));
    if (semicolon && semicolon < equals)
        return bad(tmb_draft_fail(d, d->line, "';' before '='; it starts a comment"));
    if (equals + 1 < line + n && equals[1] == ';') /* to inih a value, to everyone a comment */
        return bad(tmb_draft_fail(d, d->line,
                                  "';' right behind '='; write a blank in front of a comment"));

    if (left == strlen("description") && memcmp(line, "description", left) == 0)
        return TMB_LINE_PAIR; /* prose may hold any letter */
    for (size_t i = 0; i < end; i++)
        if ((unsigned char)line[i] >= 0x80)
            return bad(tmb_draft_fail(d, d->line,
                                      "a character that is not ASCII in column %zu (a no-break "
                                      "space, a typographic quote or dash?); type it again",
                                      i + 1));
    return TMB_LINE_PAIR;
}

tmb_line_kind tmb_recipe_line(tmb_draft *d, const char *line, size_t n, const char **name,
                              size_t *name_n)
{
    if (n == 0 || *line == ';' || *line == '#') return TMB_LINE_BLANK;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)line[i];
        if (c == '\r')
            return bad(tmb_draft_fail(d, d->line,
                                      "a carriage return inside the line; end lines with LF or "
                                      "CR LF"));
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return bad(tmb_draft_fail(
                d, d->line, "control character 0x%02x in column %zu; delete it", c, i + 1));
    }
    if (n > TMB_RECIPE_LINE_MAX)
        return bad(tmb_draft_fail(d, d->line,
                                  "line of %zu bytes, at most %d are possible; shorten it", n,
                                  TMB_RECIPE_LINE_MAX));
    return *line == '[' ? section_line(d, line, n, name, name_n) : pair_line(d, line, n);
}
