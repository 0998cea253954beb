/* table.c - aligned columns that fit a page of TMB_PAGE_COLUMNS. */
#include "config.h"
#include "src/table.h"

#include "src/text.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* The row of dashes is a row whose first cell is this very pointer. */
static const char rule_cell[] = "-";

static const char **new_row(tmb_table *t)
{
    if (t->n_rows == t->capacity) {
        size_t capacity = t->capacity ? 2 * t->capacity : 32;
        const char ***rows = realloc(t->rows, capacity * sizeof *rows);
        if (!rows) {
            t->failed = true;
            return NULL;
        }
        t->rows = rows;
        t->capacity = capacity;
    }
    const char **row = tmb_arena_alloc(&t->arena, (size_t)t->columns * sizeof *row);
    if (!row) {
        t->failed = true;
        return NULL;
    }
    for (int c = 0; c < t->columns; c++)
        row[c] = "";
    t->rows[t->n_rows++] = row;
    return row;
}

void tmb_table_open(tmb_table *t, const char *heads)
{
    memset(t, 0, sizeof *t);
    t->flexible = -1;
    t->columns = 1;
    for (const char *s = heads; *s; s++)
        t->columns += *s == '|';
    const char **row = new_row(t);
    for (int c = 0; row && c < t->columns; c++) {
        size_t n = strcspn(heads, "|");
        if (*heads == '>') t->right[c] = true;
        if (*heads == '<') t->flexible = c;
        size_t mark = *heads == '>' || *heads == '<';
        row[c] = tmb_arena_text(&t->arena, heads + mark, n - mark);
        if (!row[c]) t->failed = true;
        heads += n + (heads[n] == '|');
    }
}

void tmb_table_row(tmb_table *t, const char *format, ...)
{
    const char **row = new_row(t);
    if (!row) return;
    char *line = NULL;
    va_list ap;
    va_start(ap, format);
    int n = vasprintf(&line, format, ap);
    va_end(ap);
    if (n < 0) {
        t->failed = true;
        return;
    }
    char *cell = line;
    for (int c = 0; c < t->columns && cell; c++) {
        char *tab = strchr(cell, '\t');
        if (tab) *tab = 0;
        size_t size = 4 * strlen(cell) + 1;
        char *safe = tmb_arena_alloc(&t->arena, size);
        if (safe)
            row[c] = tmb_safe(safe, size, cell);
        else
            t->failed = true;
        cell = tab ? tab + 1 : NULL;
    }
    free(line);
}

void tmb_table_rule(tmb_table *t)
{
    const char **row = new_row(t);
    if (row) row[0] = rule_cell;
}

/* A cell padded to its column; the part of a flexible cell that fits, and the rest of it. */
static const char *print_cell(const tmb_table *t, int c, const char *text, size_t width, FILE *to)
{
    char piece[1024];
    size_t n = c == t->flexible ? tmb_line_bytes(text, width) : strlen(text);
    snprintf(piece, sizeof piece, "%.*s", (int)n, text);
    if (c == t->flexible) tmb_shorten(piece, width);
    size_t columns = tmb_columns(piece);
    int pad = width > columns ? (int)(width - columns) : 0;
    bool last = c == t->columns - 1;
    fprintf(to, "%*s%s%*s", t->right[c] ? pad : 0, "", piece, t->right[c] || last ? 0 : pad, "");
    return text + n + strspn(text + n, " ");
}

/* Columns behind the last that says something, so that no line ends in blanks. */
static int used_columns(const tmb_table *t, const char **row)
{
    int n = t->columns;
    while (n > 1 && !*row[n - 1])
        n--;
    return n;
}

static void print_row(const tmb_table *t, const char **row, const size_t *width, int indent,
                      FILE *to)
{
    const char *rest = "";
    size_t at = (size_t)indent;
    int used = used_columns(t, row);
    fprintf(to, "%*s", indent, "");
    for (int c = 0; c < used; c++) {
        if (c) fputs("  ", to);
        if (c == t->flexible)
            rest = print_cell(t, c, row[c], width[c], to);
        else
            print_cell(t, c, row[c], c == used - 1 && !t->right[c] ? 0 : width[c], to);
        if (c != t->flexible) at += width[c] + 2;
    }
    fputs("\n", to);
    while (*rest) {
        fprintf(to, "%*s", (int)at, "");
        rest = print_cell(t, t->flexible, rest, width[t->flexible], to);
        fputs("\n", to);
    }
}

bool tmb_table_close(tmb_table *t, int indent, FILE *to)
{
    size_t width[TMB_TABLE_COLUMNS] = {0}, total = (size_t)indent;
    for (size_t r = 0; r < t->n_rows; r++)
        for (int c = 0; c < t->columns && t->rows[r][0] != rule_cell; c++) {
            size_t n = tmb_columns(t->rows[r][c]);
            if (n > width[c]) width[c] = n;
        }
    for (int c = 0; c < t->columns; c++)
        total += width[c] + (c ? 2 : 0);
    if (total > TMB_PAGE_COLUMNS && t->flexible >= 0) {
        size_t over = total - TMB_PAGE_COLUMNS, *w = &width[t->flexible];
        size_t least = *w < 12 ? *w : 12;
        *w = *w > over + least ? *w - over : least;
        total = TMB_PAGE_COLUMNS;
    }
    for (size_t r = 0; r < t->n_rows && !t->failed; r++) {
        if (t->rows[r][0] != rule_cell) {
            print_row(t, t->rows[r], width, indent, to);
            continue;
        }
        fprintf(to, "%*s", indent, "");
        for (size_t i = (size_t)indent; i < total; i++)
            fputc('-', to);
        fputc('\n', to);
    }
    bool fine = !t->failed;
    free(t->rows);
    tmb_arena_free(&t->arena);
    memset(t, 0, sizeof *t);
    return fine;
}
