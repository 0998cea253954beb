/* text.h - text that grows, or is only measured.
 *
 * The same function that writes a file is run once with `measure` to learn how long the file will
 * be, so a prediction and what is written cannot drift apart.  Zero-initialised is empty and
 * ready; failures are kept until tmb_text_take(). */
#ifndef TMB_QUANTIZE_TEXT_H
#define TMB_QUANTIZE_TEXT_H

#include "kernels/base/err.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct tmb_text {
    char *data; /* [n], NUL-terminated when n > 0 */
    size_t n, room;
    bool measure; /* count only */
    bool failed;  /* memory ran out */
} tmb_text;

void tmb_text_add(tmb_text *t, const char *s, size_t n);
void tmb_text_puts(tmb_text *t, const char *s);
void tmb_text_printf(tmb_text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* s as a JSON string, quotes included; NULL becomes null. */
void tmb_text_json(tmb_text *t, const char *s);
void tmb_text_spaces(tmb_text *t, size_t n);
/* *out becomes the caller's (malloc'ed); TMB_ESYSTEM when memory ran out on the way. */
tmb_status tmb_text_take(tmb_text *t, char **out, size_t *n, const char *what,
                         tmb_err *err) TMB_CHECKED;
void tmb_text_free(tmb_text *t);

#endif
