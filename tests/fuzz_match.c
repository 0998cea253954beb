/* fuzz_match - globs, Python patterns and "did you mean".  Input: a pattern, a newline, a name.
 * A glob must agree with a plain recursive definition of it; a regular expression must end. */
#include "config.h"
#include "moe/io/match.h"
#include "tests/fuzz.h"

#include <string.h>

enum { PATTERN_MAX = 64, NAME_BYTES = 128 };

/* A set, from behind its '['; *after gets its end, or NULL: the '[' stands for itself. */
static int in_set(const char *p, char c, const char **after)
{
    int negated = *p == '!', in = 0;
    const char *start = p + negated, *end = start;
    if (*end == ']') end++;
    while (*end && *end != ']')
        end++;
    *after = *end ? end + 1 : NULL;
    for (const char *s = start; *end && s < end; s++) {
        if (s + 2 < end && s[1] == '-') {
            in |=
                (unsigned char)s[0] <= (unsigned char)c && (unsigned char)c <= (unsigned char)s[2];
            s += 2;
        } else {
            in |= *s == c;
        }
    }
    return in != negated;
}

/* fnmatch of ASCII text by its definition; `left` bounds the work. */
static int plain(const char *p, const char *s, int *left)
{
    if (--*left < 0) return -1;
    if (!*p) return !*s;
    if (*p == '*') {
        do {
            int r = plain(p + 1, s, left);
            if (r) return r;
        } while (*s++);
        return 0;
    }
    if (!*s) return 0;
    if (*p == '[') {
        const char *after;
        int in = in_set(p + 1, *s, &after);
        if (after) return in ? plain(after, s + 1, left) : 0;
    }
    return *p == '?' || *p == *s ? plain(p + 1, s + 1, left) : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *cut = memchr(data, '\n', size);
    char pattern[PATTERN_MAX + 1] = "", name[NAME_BYTES + 1] = "";
    if (!cut || cut - data > PATTERN_MAX) return 0;
    memcpy(pattern, data, (size_t)(cut - data));
    size_t rest = size - (size_t)(cut + 1 - data);
    memcpy(name, cut + 1, rest < NAME_BYTES ? rest : NAME_BYTES);

    bool ascii = true, have = tmb_glob(pattern, name);
    for (size_t i = 0; i < size; i++)
        ascii &= data[i] < 0x80;
    int left = 20000, want = ascii ? plain(pattern, name, &left) : -1;
    MUST(want < 0 || want == have);

    tmb_regex *re;
    tmb_err err = {0};
    tmb_status status = tmb_regex_open(&re, pattern, &err);
    if (status) {
        MUST(status == TMB_EDATA && *err.message && !strpbrk(err.message, "\n\033"));
    } else {
        bool whole = tmb_regex_fullmatch(re, name);
        MUST(!whole || tmb_regex_match(re, name));
        tmb_regex_close(re);
    }
    const char *words[] = {name, "quantize", pattern};
    unsigned d = tmb_edit_distance(pattern, name);
    MUST(d == tmb_edit_distance(name, pattern) && (d == 0) <= (strncmp(pattern, name, 64) == 0));
    const char *near = tmb_nearest(pattern, words, 3);
    MUST(!near || near == words[0] || near == words[1] || near == words[2]);
    return 0;
}
