/* safe.h - text of strangers made safe to print: no character in it can move the cursor, change
 * colours, reorder the line or hide its own end. */
#ifndef TMB_BASE_SAFE_H
#define TMB_BASE_SAFE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the UTF-8 character at s (NUL-terminated), 0 when it is none; *code gets its value. */
int tmb_utf8(const char *s, uint32_t *code);
/* May this character reach a terminal as it is? */
bool tmb_printable(uint32_t code);

/* out [size] = text with control characters (C0, DEL, C1), broken UTF-8, line and paragraph
 * separators, and what reorders a line or cannot be seen (U+00AD, 061C, 200B..200F, 202A..202E,
 * 2060..2069, FEFF) shown as \xNN, byte by byte, cut to fit.  What comes out is valid UTF-8.  Returns out. */
const char *tmb_safe(char *out, size_t size, const char *text);

#endif
