/* table.h - aligned columns that fit a page of TMB_PAGE_COLUMNS. */
#ifndef TMB_SRC_TABLE_H
#define TMB_SRC_TABLE_H

#include "kernels/base/mem.h"

#include <stdbool.h>
#include <stdio.h>

enum { TMB_TABLE_COLUMNS = 12 };

typedef struct tmb_table {
    int columns;
    bool right[TMB_TABLE_COLUMNS];
    int flexible;       /* the last column, when it gives way; -1 none */
    const char ***rows; /* [n_rows][columns] */
    size_t n_rows, capacity;
    bool failed; /* out of memory on the way */
    tmb_arena arena;
} tmb_table;

/* heads: "role|format|>tensors|…": '>' aligns a column right; '<' marks the last one as
 * flexible: where a line grows too long its words wrap, and a single word loses its middle. */
void tmb_table_open(tmb_table *table, const char *heads);
/* printf, cells separated by '\t'; missing cells are empty.  Control characters are escaped. */
void tmb_table_row(tmb_table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A line of dashes at this place. */
void tmb_table_rule(tmb_table *table);
/* Print with `indent` spaces in front of each line and give everything back.  False: no memory. */
bool tmb_table_close(tmb_table *table, int indent, FILE *to);

#endif
