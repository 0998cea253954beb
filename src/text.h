/* text.h - numbers and names for people: sizes, rates, times, and lines that fit a terminal. */
#ifndef TMB_SRC_TEXT_H
#define TMB_SRC_TEXT_H

#include "kernels/base/safe.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { TMB_HUMAN_BYTES = 24, TMB_PAGE_COLUMNS = 100 };

/* "512 B", "1.50 MiB", "379.2 GiB": three or four digits, powers of 1024. */
const char *tmb_human_bytes(char out[TMB_HUMAN_BYTES], uint64_t bytes);
/* "950", "2.74 M", "671 B": powers of 1000, for parameters. */
const char *tmb_human_count(char out[TMB_HUMAN_BYTES], uint64_t count);
/* "0:07", "12:34", "3:05:00". */
const char *tmb_human_seconds(char out[TMB_HUMAN_BYTES], double seconds);
/* "369,122". */
const char *tmb_human_integer(char out[TMB_HUMAN_BYTES], uint64_t value);

/* Columns that text takes on a terminal: one for each UTF-8 character. */
size_t tmb_columns(const char *text);
/* Shorten text in place to at most `columns`, the middle replaced by "..". */
void tmb_shorten(char *text, size_t columns);
/* Bytes of text that go on a line of `columns`: up to the last blank that fits, or the whole first
 * word when none does. */
size_t tmb_line_bytes(const char *text, size_t columns);
/* Print text, which starts at column `at`, and a newline; lines end at TMB_PAGE_COLUMNS and the
 * following ones are indented to `at`. */
void tmb_print_wrapped(FILE *to, size_t at, const char *text);

#endif
