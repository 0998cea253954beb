/* match_rows.c - the pattern language of arch.h, and the memory of what it answered. */
#include "config.h"
#include "moe/model/match_rows.h"

#include <stdlib.h>
#include <string.h>

enum { PARTS_MAX = 48, NUMBER_DIGITS = 9 };

typedef struct part {
    const char *text;
    size_t n;
    bool number;
} part;

/* What is remembered of a kind of names: the positions are those of parts. */
struct tmb_kind_of_name {
    tmb_class answer;
    int8_t layer_part, expert_part;
};

static bool is_number(const char *text, size_t n)
{
    if (n == 0 || n > NUMBER_DIGITS) return false;
    for (size_t i = 0; i < n; i++)
        if (text[i] < '0' || text[i] > '9') return false;
    return true;
}

/* A name of more parts than anyone uses keeps its tail in the last one. */
static int split(const char *name, size_t n, part *parts)
{
    int count = 0;
    const char *end = name + n;
    for (const char *at = name; at <= end;) {
        const char *dot = count == PARTS_MAX - 1 ? NULL : memchr(at, '.', (size_t)(end - at));
        if (!dot) dot = end;
        parts[count++] = (part){at, (size_t)(dot - at), is_number(at, (size_t)(dot - at))};
        at = dot + 1;
    }
    return count;
}

/* '*' in one part: any run; one backtrack point is enough. */
static bool star_match(const char *p, size_t np, const char *s, size_t ns)
{
    size_t i = 0, j = 0, star = SIZE_MAX, mark = 0;
    while (j < ns) {
        if (i < np && p[i] == '*') {
            star = i++;
            mark = j;
        } else if (i < np && p[i] == s[j]) {
            i++;
            j++;
        } else if (star != SIZE_MAX) {
            i = star + 1;
            j = ++mark;
        } else {
            return false;
        }
    }
    while (i < np && p[i] == '*')
        i++;
    return i == np;
}

/* One part against alternatives a|b|c. */
static bool part_match(const char *p, size_t np, const part *at)
{
    for (const char *end = p + np; p <= end;) {
        const char *bar = memchr(p, '|', (size_t)(end - p));
        size_t n = (size_t)((bar ? bar : end) - p);
        if (n == 3 && p[0] == '{' && p[2] == '}') {
            if (at->number) return true;
        } else if (star_match(p, n, at->text, at->n)) {
            return true;
        }
        p += n + 1;
    }
    return false;
}

/* parts [n] from the i-th on.  *layer: the part that {L} matched. */
static bool match_from(const char *pattern, const part *parts, int n, int i, int *layer)
{
    size_t np = strcspn(pattern, ".");
    const char *rest = pattern[np] ? pattern + np + 1 : NULL;
    if (np == 2 && memcmp(pattern, "**", 2) == 0) {
        if (!rest) return true;
        for (; i <= n; i++)
            if (match_from(rest, parts, n, i, layer)) return true;
        return false;
    }
    if (i == n || !part_match(pattern, np, &parts[i])) return false;
    if (!(rest ? match_from(rest, parts, n, i + 1, layer) : i + 1 == n)) return false;
    if (np == 3 && pattern[1] == 'L' && pattern[0] == '{') *layer = i;
    return true;
}

bool tmb_pattern_match(const char *pattern, const char *name, size_t n)
{
    part parts[PARTS_MAX];
    int layer;
    return match_from(pattern, parts, split(name, n, parts), 0, &layer);
}

static bool contains(const part *p, const char *word)
{
    size_t n = strlen(word);
    for (size_t i = 0; i + n <= p->n; i++)
        if (memcmp(p->text + i, word, n) == 0) return true;
    return false;
}

static bool is(const part *p, const char *word)
{
    return strlen(word) == p->n && memcmp(p->text, word, p->n) == 0;
}

/* The first row that matches parts [n]; NULL when none does. */
static const tmb_arch_row *row_of(const tmb_arch *arch, const part *parts, int n, int *layer)
{
    for (const tmb_arch_row *row = arch->rows; row->pattern; row++) {
        *layer = -1;
        if (match_from(row->pattern, parts, n, 0, layer)) return row;
    }
    return NULL;
}

static int find_expert(const part *parts, int n)
{
    for (int i = 1; i < n; i++)
        if (parts[i].number && contains(&parts[i - 1], "expert") &&
            !contains(&parts[i - 1], "shared"))
            return i;
    return -1;
}

/* An MTP layer is named after a part "mtp" or "mtp_…": what follows, "0." or "layers.0.", is
 * written as "layers.0." so that the rows of ordinary layers tell what a tensor would be. */
static int find_mtp(const part *parts, int n, part *inner, int *n_inner)
{
    for (int i = 0; i < n; i++) {
        if (!is(&parts[i], "mtp") && !(parts[i].n > 4 && memcmp(parts[i].text, "mtp_", 4) == 0))
            continue;
        int from = i + 1, count = 0;
        if (from + 1 < n && is(&parts[from], "layers") && parts[from + 1].number) from++;
        if (from < n && parts[from].number) {
            inner[count++] = (part){"layers", 6, false};
            inner[count++] = parts[from++];
        }
        while (from < n && count < PARTS_MAX)
            inner[count++] = parts[from++];
        *n_inner = count;
        return i;
    }
    return -1;
}

/* Parts of the prefix, when the name begins with it. */
static int prefix_parts(const char *prefix, const part *parts, int n)
{
    int k = 0;
    for (const char *p = prefix; *p; p++)
        k += *p == '.';
    size_t length = strlen(prefix);
    const part *last = &parts[n - 1];
    size_t have = (size_t)(last->text + last->n - parts[0].text);
    return k < n && have > length && memcmp(parts[0].text, prefix, length) == 0 ? k : 0;
}

static struct tmb_kind_of_name answer(const tmb_matcher *m, const part *parts, int n)
{
    struct tmb_kind_of_name a = {.layer_part = -1, .expert_part = (int8_t)find_expert(parts, n)};
    part inner[PARTS_MAX + 1];
    int n_inner, layer = -1;
    tmb_class *c = &a.answer;
    if (find_mtp(parts, n, inner, &n_inner) >= 0) {
        const tmb_arch_row *row = n_inner ? row_of(m->arch, inner, n_inner, &layer) : NULL;
        c->role = TMB_ROLE_MTP;
        c->inner = row ? row->role : TMB_ROLE_OTHER;
        c->flags = row ? row->flags : 0;
        c->known = true;
        return a;
    }
    int skip = prefix_parts(m->prefix, parts, n);
    const tmb_arch_row *row = row_of(m->arch, parts + skip, n - skip, &layer);
    c->role = c->inner = row ? row->role : TMB_ROLE_OTHER;
    c->flags = row ? row->flags : 0;
    c->known = row != NULL;
    if (c->role == TMB_ROLE_VISION) return a;
    bool under = skip > 0 || !*m->prefix;
    if (layer >= 0)
        a.layer_part = (int8_t)(skip + layer);
    else if (under && n - skip > 2 && parts[skip + 1].number)
        a.layer_part = (int8_t)(skip + 1);
    return a;
}

static int32_t number_of(const part *p)
{
    int32_t value = 0;
    for (size_t i = 0; i < p->n; i++)
        value = value * 10 + (p->text[i] - '0');
    return value;
}

tmb_status tmb_classify(tmb_matcher *m, const char *name, size_t n, tmb_class *out, tmb_err *err)
{
    part parts[PARTS_MAX];
    int count = split(name, n, parts);
    char kind[TMB_NAME_MAX + 1];
    size_t length = 0;
    for (int i = 0; i < count; i++) {
        if (i) kind[length++] = '.';
        if (parts[i].number)
            kind[length++] = '\1'; /* no name holds a control character */
        else
            memcpy(kind + length, parts[i].text, parts[i].n), length += parts[i].n;
    }

    int64_t at = tmb_words_find(&m->kinds, kind, length);
    if (at < 0) {
        bool is_new;
        const char *kept = tmb_arena_text(m->arena, kind, length);
        if (kept) at = tmb_words_add(&m->kinds, kept, length, &is_new);
        if (at >= 0 && (uint32_t)at >= m->capacity) {
            uint32_t capacity = m->kinds.capacity;
            void *grown = realloc(m->answers, capacity * sizeof *m->answers);
            if (grown) {
                m->answers = grown;
                m->capacity = capacity;
            } else {
                at = -1;
            }
        }
        if (at < 0) return tmb_fail_memory(err, length, "names of the inventory");
        m->answers[at] = answer(m, parts, count);
    }
    const struct tmb_kind_of_name *a = &m->answers[at];
    *out = a->answer;
    out->layer = a->layer_part < 0 ? -1 : number_of(&parts[a->layer_part]);
    out->expert = a->expert_part < 0 ? -1 : number_of(&parts[a->expert_part]);
    return TMB_OK;
}

void tmb_matcher_close(tmb_matcher *m)
{
    tmb_words_free(&m->kinds);
    free(m->answers);
}
