/* lines.h - a file line by line, and what a line of a .jsonl says; internal to the program. */
#ifndef TMB_TOKENS_LINES_H
#define TMB_TOKENS_LINES_H

#include "moe/tokens/buf.h"
#include "moe/tokens/tokenizer.h"

#include <stdbool.h>

#define TMB_LINE_MAX (512u << 20) /* bytes of a line */

typedef struct tmb_lines {
    int fd; /* borrowed; read from where it stands, so a pipe will do */
    const char *name;
    tmb_buf buf;
    size_t at;       /* of the next line in buf */
    uint64_t line;   /* number of the line given last, from 1 */
    uint64_t offset; /* in the file, of the line given last */
    uint64_t next;   /* in the file, of the next one */
    bool end;
} tmb_lines;

void tmb_lines_open(tmb_lines *l, int fd, const char *name);
void tmb_lines_close(tmb_lines *l);
/* The next line, without its LF, writable, valid until the next call; *text NULL at the end. */
tmb_status tmb_lines_next(tmb_lines *l, char **text, size_t *n, tmb_err *err) TMB_CHECKED;

/* Is there nothing but blanks in line [n]? */
bool tmb_line_blank(const char *line, size_t n);

/* A line {"text": "…"} or {"input_ids": […]}; other keys are checked and left alone.  The line is
 * changed in place.  *text is NULL when the line has no text; ids are appended to *ids when it has
 * them, *has_ids says so.  TMB_EDATA "NAME: line N: …" also when it has neither. */
tmb_status tmb_line_parse(char *line, size_t n, const char *name, uint64_t number, char **text,
                          size_t *text_n, tmb_ids *ids, bool *has_ids, tmb_err *err) TMB_CHECKED;

#endif
