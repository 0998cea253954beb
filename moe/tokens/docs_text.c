/* docs_text.c - documents that stand in lines (.jsonl) or are the whole file (.txt).
 *
 * Of a .jsonl the first pass keeps where each line begins; a document is then read and tokenized
 * when it is asked for.  One document is in memory at a time. */
#include "config.h"
#include "moe/tokens/docs.h"
#include "moe/tokens/lines.h"

#include "moe/io/scan.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DOCUMENTS_MAX (1u << 25)

typedef struct place {
    uint64_t offset;
    uint32_t line, bytes;
} place;

typedef struct text_docs {
    place *places; /* [n] of .jsonl */
    size_t room;
    tmb_buf buf; /* the line, or the text, at hand */
    tmb_ids ids; /* the document at hand */
    uint64_t doc;
} text_docs;

static void close_text(tmb_docs *d)
{
    text_docs *t = d->own;
    free(t->places);
    free(t->buf.p);
    free(t->ids.ids);
    free(t);
}

static tmb_status read_text(tmb_docs *d, uint64_t from, size_t count, int32_t *out, tmb_err *err)
{
    text_docs *t = d->own;
    if (count) memcpy(out, t->ids.ids + from, count * sizeof *out);
    return tmb_docs_check(d, t->doc, from, out, count, err);
}

static tmb_status encode(tmb_docs *d, const char *text, size_t n, const char *where, tmb_err *err)
{
    text_docs *t = d->own;
    TRY(tmb_docs_encoder(d, err));
    return tmb_encode(d->context->encoder, text, n, !d->context->o->no_special, where, &t->ids,
                      err);
}

/* --- lines ------------------------------------------------------------------------------------ */

static tmb_status open_line(tmb_docs *d, uint64_t i, uint64_t *tokens, tmb_err *err)
{
    text_docs *t = d->own;
    place p = t->places[i];
    char *text, where[TMB_ERR_BYTES];
    size_t n;
    bool has_ids;
    t->doc = i;
    t->ids.n = t->buf.n = 0;
    TRY(tmb_buf_room(&t->buf, (size_t)p.bytes + 1, err));
    TRY(tmb_file_pread(d->fd, t->buf.p, p.bytes, p.offset, d->path, err));
    t->buf.p[p.bytes] = 0;
    TRY(tmb_line_parse((char *)t->buf.p, p.bytes, d->path, p.line, &text, &n, &t->ids, &has_ids,
                       err));
    snprintf(where, sizeof where, "%s: line %" PRIu32, d->path, p.line);
    if (!has_ids) TRY(encode(d, text, n, where, err));
    *tokens = t->ids.n;
    return TMB_OK;
}

static tmb_status index_lines(tmb_docs *d, tmb_err *err)
{
    text_docs *t = d->own;
    tmb_lines lines;
    tmb_status status;
    tmb_lines_open(&lines, d->fd, d->path);
    for (;;) {
        char *line;
        size_t n;
        status = tmb_lines_next(&lines, &line, &n, err);
        if (status || !line) break;
        if (tmb_line_blank(line, n)) continue;
        if (d->n == DOCUMENTS_MAX || lines.line > UINT32_MAX) {
            status = tmb_fail(err, TMB_EDATA, "%s: over %u documents; cut the file into several",
                              d->path, DOCUMENTS_MAX);
            break;
        }
        place *moved = tmb_grown(t->places, (size_t)d->n, &t->room, sizeof *moved);
        if (!moved) {
            status = tmb_fail_memory(err, t->room * 2 * sizeof *moved, "documents");
            break;
        }
        t->places = moved;
        t->places[d->n++] = (place){lines.offset, (uint32_t)lines.line, (uint32_t)n};
    }
    tmb_lines_close(&lines);
    if (!status && !d->n)
        status = tmb_fail(err, TMB_EDATA, "%s: no document; give a file with data", d->path);
    return status;
}

static tmb_status start(tmb_docs *d, tmb_err *err)
{
    d->own = calloc(1, sizeof(text_docs));
    if (!d->own) return tmb_fail_memory(err, sizeof(text_docs), "a source");
    d->close = close_text;
    d->read = read_text;
    return TMB_OK;
}

tmb_status tmb_docs_jsonl(tmb_docs *d, tmb_err *err)
{
    TRY(start(d, err));
    d->open_doc = open_line;
    return index_lines(d, err);
}

/* --- a text -------------------------------------------------------------------------------------
 */

static tmb_status open_txt(tmb_docs *d, uint64_t i, uint64_t *tokens, tmb_err *err)
{
    text_docs *t = d->own;
    char *text;
    size_t n;
    t->doc = i;
    t->ids.n = 0;
    TRY(tmb_file_load(&text, &n, AT_FDCWD, d->path, TMB_LINE_MAX, err));
    tmb_status status = encode(d, text, n, d->path, err);
    free(text);
    *tokens = t->ids.n;
    return status;
}

tmb_status tmb_docs_txt(tmb_docs *d, tmb_err *err)
{
    TRY(start(d, err));
    d->open_doc = open_txt;
    d->n = 1;
    return TMB_OK;
}
