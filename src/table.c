/* table.c - aligned columns that fit a terminal of 100. */
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
        if (*heads == '<' || *heads == '~') t->flexible = c;
        if (*heads == '~') t->prose = true;
        size_t mark = *heads && strchr("><~", *heads);
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

static void print_row(const tmb_table *t, const char **row, const size_t *width, int indent,
                      FILE *to)
{
    char line[4096];
    size_t o = 0, room = sizeof line - 1;
    for (int i = 0; i < indent && o < room; i++)
        line[o++] = ' ';
    for (int c = 0; c < t->columns; c++) {
        size_t columns = tmb_columns(row[c]), bytes = strlen(row[c]);
        size_t pad = width[c] > columns ? width[c] - columns : 0;
        if (o + pad + bytes + 2 > room) break;
        if (c) o += (size_t)sprintf(line + o, "  ");
        if (t->right[c]) o += (size_t)sprintf(line + o, "%*s", (int)pad, "");
        memcpy(line + o, row[c], bytes);
        o += bytes;
        if (!t->right[c]) o += (size_t)sprintf(line + o, "%*s", (int)pad, "");
    }
    while (o && line[o - 1] == ' ')
        o--;
    line[o] = 0;
    fprintf(to, "%s\n", line);
}

static void shorten(const tmb_table *t, char *cell, size_t columns)
{
    if (t->prose)
        tmb_cut(cell, columns);
    else
        tmb_shorten(cell, columns);
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
    if (total > TMB_TABLE_WIDTH && t->flexible >= 0) {
        size_t over = total - TMB_TABLE_WIDTH, *w = &width[t->flexible];
        size_t least = *w < 12 ? *w : 12;
        *w = *w > over + least ? *w - over : least;
        total = TMB_TABLE_WIDTH;
        for (size_t r = 0; r < t->n_rows; r++) /* cells but the heads are our own copies */
            if (t->rows[r][0] != rule_cell) shorten(t, (char *)t->rows[r][t->flexible], *w);
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
