/* lines.c - JSON lines. */
#include "config.h"
#include "moe/tokens/lines.h"

#include "moe/io/calls.h"
#include "moe/io/scan.h"
#include "moe/tokens/internal.h"

#include <stdio.h>

enum { CHUNK = 1 << 18 };

void tmb_lines_open(tmb_lines *l, int fd, const char *name)
{
    *l = (tmb_lines){.fd = fd, .name = name};
}

void tmb_lines_close(tmb_lines *l)
{
    free(l->buf.p);
}

static tmb_status fill(tmb_lines *l, tmb_err *err)
{
    if (l->at) { /* what is read is given */
        memmove(l->buf.p, l->buf.p + l->at, l->buf.n - l->at);
        l->buf.n -= l->at;
        l->at = 0;
    }
    if (l->buf.n > TMB_LINE_MAX)
        return tmb_fail(err, TMB_EDATA,
                        "%s: line %llu has over %u bytes; cut the text into several", l->name,
                        (unsigned long long)l->line + 1, TMB_LINE_MAX);
    TRY(tmb_buf_room(&l->buf, CHUNK + 1, err)); /* and a NUL */
    ssize_t got;
    TMB_AGAIN(got, read(l->fd, l->buf.p + l->buf.n, CHUNK));
    if (got < 0) return tmb_fail_errno(err, TMB_EIO, "%s: cannot read", l->name);
    l->buf.n += (size_t)got;
    l->end = got == 0;
    return TMB_OK;
}

tmb_status tmb_lines_next(tmb_lines *l, char **text, size_t *n, tmb_err *err)
{
    size_t seen = 0;
    uint8_t *end = NULL;
    *text = NULL;
    *n = 0;
    for (;;) {
        size_t left = l->buf.n - l->at;
        end = left > seen ? memchr(l->buf.p + l->at + seen, '\n', left - seen) : NULL;
        if (end) break;
        seen = left;
        if (l->end) break;
        TRY(fill(l, err));
    }
    size_t bytes = end ? (size_t)(end - (l->buf.p + l->at)) : seen;
    if (!end && !bytes) return TMB_OK;
    if (!end) TRY(tmb_buf_room(&l->buf, 1, err));
    *text = (char *)l->buf.p + l->at;
    *n = bytes;
    (*text)[bytes] = 0;
    l->line++;
    l->offset = l->next;
    l->next += bytes + (end != NULL);
    l->at += bytes + (end != NULL);
    return TMB_OK;
}

bool tmb_line_blank(const char *line, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r') return false;
    return true;
}

static tmb_status read_ids(tmb_scan *s, tmb_ids *ids)
{
    TRY(tmb_scan_expect(s, '[', "'[' of the ids"));
    if (tmb_scan_take(s, ']')) return TMB_OK;
    do {
        uint64_t id;
        tmb_scan_space(s);
        const char *at = s->at;
        TRY(tmb_scan_u64(s, &id, "a token id"));
        if (id > INT32_MAX) return tmb_scan_fail(s, at, "a token id over 2^31");
        TRY(tmb_ids_room(ids, 1, s->err));
        ids->ids[ids->n++] = (int32_t)id;
    } while (tmb_scan_take(s, ','));
    return tmb_scan_expect(s, ']', "',' or ']'");
}

tmb_status tmb_line_parse(char *line, size_t n, const char *name, uint64_t number, char **text,
                          size_t *text_n, tmb_ids *ids, bool *has_ids, tmb_err *err)
{
    char where[TMB_ERR_BYTES];
    snprintf(where, sizeof where, "%s: line %llu", name, (unsigned long long)number);
    tmb_scan s = {.begin = line,
                  .at = line,
                  .end = line + n,
                  .file = where,
                  .remedy = "a line is {\"text\": \"...\"} or {\"input_ids\": [...]}",
                  .err = err};
    *text = NULL;
    *has_ids = false;
    TRY(tmb_scan_expect(&s, '{', "'{'"));
    if (!tmb_scan_take(&s, '}')) {
        do {
            char *key;
            size_t key_n;
            TRY(tmb_scan_string(&s, &key, &key_n, "a key in double quotes"));
            TRY(tmb_scan_expect(&s, ':', "':' after a key"));
            bool is_text = key_n == 4 && memcmp(key, "text", 4) == 0;
            bool is_ids = key_n == 9 && memcmp(key, "input_ids", 9) == 0;
            if ((is_text && *text) || (is_ids && *has_ids))
                return tmb_scan_fail(&s, key, "a key stands twice");
            if (is_text)
                TRY(tmb_scan_string(&s, text, text_n, "a text in double quotes"));
            else if (is_ids)
                TRY(read_ids(&s, ids));
            else
                TRY(tmb_scan_skip(&s));
            *has_ids |= is_ids;
        } while (tmb_scan_take(&s, ','));
        TRY(tmb_scan_expect(&s, '}', "',' or '}'"));
    }
    TRY(tmb_scan_finish(&s));
    if (!*text && !*has_ids) return tmb_scan_fail(&s, line, "neither text nor input_ids");
    return TMB_OK;
}
