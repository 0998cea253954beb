/* match.c - globs of our own, regular expressions by PCRE2 (included nowhere else), near misses. */
#include "config.h"
#include "moe/io/match.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* --- globs ------------------------------------------------------------------------------------ */

/* The character at *p, which moves behind it; a byte that is no UTF-8 is a character of its own. */
static uint32_t next_char(const char **p)
{
    const unsigned char *s = (const unsigned char *)*p;
    int more = s[0] >= 0xf0 ? 3 : s[0] >= 0xe0 ? 2 : s[0] >= 0xc0 ? 1 : 0;
    uint32_t c = more ? s[0] & (0x3fu >> more) : s[0];
    for (int i = 1; i <= more; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            (*p)++;
            return s[0];
        }
        c = c << 6 | (s[i] & 0x3f);
    }
    *p += more + 1;
    return c;
}

/* The ']' of the set that begins at p, behind its '['; NULL when it has none: then '[' is itself.
 */
static const char *set_end(const char *p)
{
    if (*p == '!') p++;
    if (*p == ']') p++;
    return strchr(p, ']');
}

static bool in_set(const char *p, const char *end, uint32_t c)
{
    bool negated = *p == '!', found = false;
    if (negated) p++;
    while (p < end) {
        uint32_t low = next_char(&p), high = low;
        if (*p == '-' && p + 1 < end) {
            p++;
            high = next_char(&p);
        }
        found |= low <= c && c <= high;
    }
    return found != negated;
}

/* One character of the name against one element of the pattern, which is no '*'. */
static bool match_one(const char **pattern, const char **name)
{
    const char *p = *pattern, *end;
    uint32_t c = next_char(name);
    bool same;
    if (*p == '?') {
        *pattern = p + 1;
        return true;
    }
    if (*p == '[' && (end = set_end(p + 1))) {
        *pattern = end + 1;
        return in_set(p + 1, end, c);
    }
    same = next_char(&p) == c;
    *pattern = p;
    return same;
}

bool tmb_glob(const char *pattern, const char *name)
{
    const char *star = NULL, *retry = NULL; /* behind the last '*', and what it has not yet eaten */
    while (*name) {
        if (*pattern == '*') {
            star = ++pattern;
            retry = name;
        } else if (!*pattern || !match_one(&pattern, &name)) {
            if (!star) return false;
            (void)next_char(&retry);
            pattern = star;
            name = retry;
        }
    }
    while (*pattern == '*')
        pattern++;
    return !*pattern;
}

/* --- regular expressions ---------------------------------------------------------------------- */

/* What a pattern may cost.  An honest one takes some hundred steps on a name; one that takes more
 * than STEPS_CHEAP may go on to STEPS_MAX on DEAR_MAX names, and one that is not done then is not
 * asked again: thousands of hostile patterns on thousands of names end all the same. */
enum {
    STEPS_CHEAP = 4000,
    STEPS_MAX = 100000,
    DEAR_MAX = 256,
    DEPTH_MAX = 10000,
    HEAP_KIB_MAX = 16384,
    PATTERN_MAX = 1 << 16
};

struct tmb_regex {
    pcre2_code *code;
    pcre2_match_context *cheap, *dear;
    int left; /* names on which it may still be dear; 0: given up.  Threads share it. */
};

static pcre2_match_context *limits(uint32_t steps)
{
    pcre2_match_context *c = pcre2_match_context_create(NULL);
    if (!c) return NULL;
    pcre2_set_match_limit(c, steps);
    pcre2_set_depth_limit(c, DEPTH_MAX);
    pcre2_set_heap_limit(c, HEAP_KIB_MAX);
    return c;
}

tmb_status tmb_regex_open(tmb_regex **out, const char *pattern, tmb_err *err)
{
    /* (*VERB) in front sets PCRE2's own options; to Python it is an error. */
    if (strncmp(pattern, "(*", 2) == 0)
        return tmb_fail(err, TMB_EDATA,
                        "regular expression \"%.200s\": nothing to repeat at character 1", pattern);
    size_t n = strlen(pattern);
    if (n > PATTERN_MAX)
        return tmb_fail(err, TMB_EDATA, "regular expression of %zu bytes, %d are allowed", n,
                        PATTERN_MAX);
    tmb_regex *re = calloc(1, sizeof *re);
    if (!re) return tmb_fail_memory(err, sizeof *re, "a regular expression");
    int code;
    PCRE2_SIZE at;
    re->code =
        pcre2_compile((PCRE2_SPTR)pattern, n,
                      PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF | PCRE2_NEVER_BACKSLASH_C,
                      &code, &at, NULL);
    if (!re->code) {
        char why[128] = "";
        (void)pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        tmb_regex_close(re);
        return tmb_fail(err, TMB_EDATA, "regular expression \"%.200s\": %s at character %zu",
                        pattern, why, (size_t)at + 1);
    }
    re->left = DEAR_MAX;
    re->cheap = limits(STEPS_CHEAP);
    re->dear = limits(STEPS_MAX);
    if (!re->cheap || !re->dear) {
        tmb_regex_close(re);
        return tmb_fail_memory(err, n, "a regular expression");
    }
    *out = re;
    return TMB_OK;
}

static bool over(int n)
{
    return n == PCRE2_ERROR_MATCHLIMIT || n == PCRE2_ERROR_DEPTHLIMIT || n == PCRE2_ERROR_HEAPLIMIT;
}

bool tmb_regex_endless(const tmb_regex *re)
{
    return __atomic_load_n(&re->left, __ATOMIC_RELAXED) <= 0;
}

static bool match(tmb_regex *re, const char *name, uint32_t options)
{
    if (tmb_regex_endless(re)) return false;
    pcre2_match_data *data =
        pcre2_match_data_create(1, NULL); /* own: a regex serves many threads */
    if (!data) return false;
    size_t length = strlen(name);
    int n = pcre2_match(re->code, (PCRE2_SPTR)name, length, 0, options, data, re->cheap);
    if (over(n)) {
        __atomic_sub_fetch(&re->left, 1, __ATOMIC_RELAXED);
        n = pcre2_match(re->code, (PCRE2_SPTR)name, length, 0, options, data, re->dear);
        if (over(n)) __atomic_store_n(&re->left, 0, __ATOMIC_RELAXED);
    }
    pcre2_match_data_free(data);
    return n >= 0;
}

bool tmb_regex_match(tmb_regex *re, const char *name)
{
    return match(re, name, PCRE2_ANCHORED);
}

bool tmb_regex_fullmatch(tmb_regex *re, const char *name)
{
    return match(re, name, PCRE2_ANCHORED | PCRE2_ENDANCHORED);
}

void tmb_regex_close(tmb_regex *re)
{
    if (!re) return;
    pcre2_match_context_free(re->cheap);
    pcre2_match_context_free(re->dear);
    pcre2_code_free(re->code);
    free(re);
}

/* --- searches --------------------------------------------------------------------------------- */

enum { SEARCH_STACK = 32 << 10, SEARCH_STACK_MAX = 64 << 20 }; /* of the JIT, bytes */

struct tmb_search {
    pcre2_code *code;
};

struct tmb_search_room {
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

tmb_status tmb_search_open(tmb_search **out, const char *pattern, tmb_err *err)
{
    int code;
    PCRE2_SIZE at;
    tmb_search *s = calloc(1, sizeof *s);
    if (!s) return tmb_fail_memory(err, sizeof *s, "a pattern");
    s->code =
        pcre2_compile((PCRE2_SPTR)pattern, strlen(pattern), PCRE2_NEVER_UTF, &code, &at, NULL);
    if (!s->code) {
        char why[128] = "";
        (void)pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        tmb_search_close(s);
        return tmb_fail(err, TMB_EINTERNAL, "pattern \"%.200s\": %s at byte %zu", pattern, why,
                        (size_t)at);
    }
    (void)pcre2_jit_compile(s->code, PCRE2_JIT_COMPLETE); /* else pcre2_match() interprets */
    *out = s;
    return TMB_OK;
}

void tmb_search_close(tmb_search *s)
{
    if (!s) return;
    pcre2_code_free(s->code);
    free(s);
}

tmb_status tmb_search_room_open(tmb_search_room **out, tmb_err *err)
{
    tmb_search_room *r = calloc(1, sizeof *r);
    if (!r) return tmb_fail_memory(err, sizeof *r, "a search");
    r->data = pcre2_match_data_create(1, NULL);
    r->context = pcre2_match_context_create(NULL);
    r->stack = pcre2_jit_stack_create(SEARCH_STACK, SEARCH_STACK_MAX, NULL); /* NULL: no JIT */
    if (!r->data || !r->context) {
        tmb_search_room_close(r);
        return tmb_fail_memory(err, SEARCH_STACK, "a search");
    }
    if (r->stack) pcre2_jit_stack_assign(r->context, NULL, r->stack);
    pcre2_set_match_limit(r->context, UINT32_MAX);
    *out = r;
    return TMB_OK;
}

void tmb_search_room_close(tmb_search_room *r)
{
    if (!r) return;
    pcre2_jit_stack_free(r->stack);
    pcre2_match_context_free(r->context);
    pcre2_match_data_free(r->data);
    free(r);
}

int tmb_search_next(const tmb_search *s, tmb_search_room *r, const uint8_t *text, size_t n,
                    size_t from, size_t *begin, size_t *end)
{
    int found = pcre2_match(s->code, text, n, from, 0, r->data, r->context);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter takes its room from the heap */
        found = pcre2_match(s->code, text, n, from, PCRE2_NO_JIT, r->data, r->context);
    if (found < 0) return found == PCRE2_ERROR_NOMATCH ? 0 : -1;
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(r->data);
    *begin = at[0];
    *end = at[1];
    return 1;
}

/* --- near misses ------------------------------------------------------------------------------ */

unsigned tmb_edit_distance(const char *a, const char *b)
{
    enum { LONGEST = 64 };
    size_t na = strnlen(a, LONGEST), nb = strnlen(b, LONGEST);
    unsigned row[LONGEST + 1]; /* of the prefix of a done so far, against each prefix of b */
    for (size_t j = 0; j <= nb; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; i <= na; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= nb; j++) {
            unsigned change = diagonal + (a[i - 1] != b[j - 1]);
            unsigned step = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            diagonal = row[j];
            row[j] = change < step ? change : step;
        }
    }
    return row[nb];
}

const char *tmb_nearest(const char *word, const char *const *words, size_t n)
{
    size_t length = strlen(word);
    unsigned best = length / 3 > 2 ? (unsigned)(length / 3) : 2;
    const char *nearest = NULL;
    if (best >= length)
        best = length ? (unsigned)length - 1 : 0; /* something must be left in common */
    for (size_t i = 0; i < n; i++) {
        unsigned d = tmb_edit_distance(word, words[i]);
        if (d > best || (nearest && d == best)) continue;
        best = d;
        nearest = words[i];
    }
    return nearest;
}
