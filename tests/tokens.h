/* tokens.h - reading the reference cases of tests/data/tokenizers. */
#ifndef TEST_TOKENS_H
#define TEST_TOKENS_H

#include "moe/io/scan.h"
#include "moe/tokens/internal.h"
#include "moe/tokens/lines.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline const char *tokenizers_folder(void)
{
    static char folder[1024];
    const char *srcdir = getenv("srcdir");
    snprintf(folder, sizeof folder, "%s/tests/data/tokenizers", srcdir ? srcdir : ".");
    return folder;
}

/* One line: two lists of ids and two texts, whichever it has. */
typedef struct token_case {
    char *text, *text_skip;
    size_t text_n, skip_n;
    tmb_ids ids, plain; /* "ids", "ids_no_special" */
} token_case;

static inline tmb_status case_ids(tmb_scan *s, tmb_ids *l)
{
    l->n = 0;
    TRY(tmb_scan_expect(s, '[', "["));
    if (tmb_scan_take(s, ']')) return TMB_OK;
    do {
        uint64_t id;
        TRY(tmb_scan_u64(s, &id, "an id"));
        TRY(tmb_ids_room(l, 1, s->err));
        l->ids[l->n++] = (int32_t)id;
    } while (tmb_scan_take(s, ','));
    return tmb_scan_expect(s, ']', "]");
}

static inline tmb_status case_parse(token_case *c, char *line, size_t n, tmb_err *err)
{
    tmb_scan s = {
        .begin = line, .at = line, .end = line + n, .file = "case", .remedy = "", .err = err};
    TRY(tmb_scan_expect(&s, '{', "{"));
    do {
        char *key;
        size_t key_n;
        TRY(tmb_scan_string(&s, &key, &key_n, "a key"));
        TRY(tmb_scan_expect(&s, ':', ":"));
        if (!strcmp(key, "text"))
            TRY(tmb_scan_string(&s, &c->text, &c->text_n, "text"));
        else if (!strcmp(key, "text_skip_special"))
            TRY(tmb_scan_string(&s, &c->text_skip, &c->skip_n, "text"));
        else
            TRY(case_ids(&s, strcmp(key, "ids") ? &c->plain : &c->ids));
    } while (tmb_scan_take(&s, ','));
    return tmb_scan_expect(&s, '}', "}");
}

static inline int same_ids(const tmb_ids *a, const tmb_ids *b)
{
    return a->n == b->n && (!a->n || memcmp(a->ids, b->ids, a->n * sizeof *a->ids) == 0);
}

#endif
