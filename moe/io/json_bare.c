/* json_bare.c - the tokens that Python's json writes and JSON does not have.
 *
 * A pass over the text before it is parsed.  It only has to know where strings begin and end;
 * whether the rest is JSON, the parser says afterwards. */
#include "config.h"
#include "moe/io/json_internal.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char opening[] = "\"\\u0000";
enum { ADDED_BYTES = sizeof opening - 1 + 1 }; /* and the closing quote */

/* The length of the bare token that begins at text [n], 0 when there is none. */
static size_t bare_length(const char *text, size_t n)
{
    static const char *const words[] = {"NaN", "Infinity", "-Infinity"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t length = strlen(words[i]);
        if (n >= length && memcmp(text, words[i], length) == 0 &&
            (n == length || !(isalnum((unsigned char)text[length]) || text[length] == '_')))
            return length;
    }
    size_t sign = text[0] == '-', length = sign;
    while (length < n && isdigit((unsigned char)text[length]))
        length++;
    char digits[1 + 19 + 1];
    if (length - sign < 19 || text[sign] == '0') return 0;
    if (length < n && strchr(".eE", text[length])) return 0;
    if (length - sign > 19) return length;
    memcpy(digits, text, length);
    digits[length] = 0;
    errno = 0;
    (void)strtoll(digits, NULL, 10);
    return errno == ERANGE ? length : 0;
}

/* The end of the string that begins at text [n] with a quote. */
static size_t string_length(const char *text, size_t n)
{
    size_t i = 1;
    while (i < n && text[i] != '"')
        i += text[i] == '\\' ? 2 : 1;
    return i < n ? i + 1 : n;
}

static bool holds_nul(const char *text, size_t n)
{
    for (size_t i = 0; i + 6 <= n; i++) {
        if (text[i] != '\\') continue;
        if (memcmp(text + i, "\\u0000", 6) == 0) return true;
        i++;
    }
    return false;
}

/* Count first, write second: w is NULL the first time. */
static size_t rewrite(char *w, const char *text, size_t n, bool *nul)
{
    size_t tokens = 0;
    for (size_t i = 0; i < n;) {
        size_t length = 1;
        bool bare = false;
        if (text[i] == '"') {
            length = string_length(text + i, n - i);
            *nul |= holds_nul(text + i, length);
        } else if (text[i] == '-' || isalnum((unsigned char)text[i])) {
            size_t token = bare_length(text + i, n - i);
            bare = token > 0;
            if (bare)
                length = token;
            else
                while (i + length < n && (isalnum((unsigned char)text[i + length]) ||
                                          strchr("+-._", text[i + length])))
                    length++;
        }
        tokens += bare;
        if (w) {
            if (bare) w = (char *)memcpy(w, opening, sizeof opening - 1) + sizeof opening - 1;
            memcpy(w, text + i, length);
            w += length;
            if (bare) *w++ = '"';
        }
        i += length;
    }
    return tokens;
}

tmb_status tmb_json_quote_bare(char **out, size_t *out_n, const char *text, size_t n,
                               const char *name, tmb_err *err)
{
    bool nul = false;
    *out = NULL;
    size_t tokens = rewrite(NULL, text, n, &nul);
    if (!tokens) return TMB_OK; /* a NUL is then refused by the parser */
    if (nul)
        return tmb_fail(err, TMB_EDATA, "%s: a NUL in a string; correct it or fetch it again",
                        name);
    size_t bytes = n + tokens * ADDED_BYTES; /* tokens have bytes of their own: at most 7 n */
    char *quoted = malloc(bytes);
    if (!quoted) return tmb_fail_memory(err, bytes, name);
    rewrite(quoted, text, n, &nul);
    *out = quoted;
    *out_n = bytes;
    return TMB_OK;
}
