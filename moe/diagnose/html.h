/* html.h - markup in memory, written so that no text from a file can become markup.
 *
 * What a format says literally is ours and goes out as it stands; what %s brings is a stranger's
 * and is escaped, always.  Numbers have a point whatever the locale says; one that is not finite is
 * a dash.  A failed allocation is remembered and reported by tmb_html_end(), so nothing here has to
 * be checked call by call. */
#ifndef TMB_DIAGNOSE_HTML_H
#define TMB_DIAGNOSE_HTML_H

#include "kernels/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct tmb_html {
    char *text; /* [n], NUL-terminated past its end */
    size_t n, room;
    unsigned ids; /* how many ids were given out */
    bool failed;
} tmb_html; /* zero-initialised is empty and ready */

/* Markup of ours, as it stands. */
void tmb_html_raw(tmb_html *h, const char *markup);
/* Markup with values: %s, %d, %u, %zu and %.0f … %.9f, no others.  %s is escaped (NULL: a dash); a
 * line end in it, UTF-8 that is none and characters that cannot be seen are shown as \xNN
 * (kernels/base/safe.h). */
void tmb_html_put(tmb_html *h, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Text of several lines, escaped, its line ends and tabs kept: for <pre>. */
void tmb_html_lines(tmb_html *h, const char *text);

/* The text [*n] is the caller's, to be freed; h is empty after it.  TMB_ESYSTEM without memory. */
tmb_status tmb_html_end(tmb_html *h, char **text, size_t *n, tmb_err *err) TMB_CHECKED;
void tmb_html_free(tmb_html *h);

/* --- numbers as people read them, into out ------------------------------------------------- */

enum { TMB_FIGURE = 48 };
typedef struct tmb_figure {
    char text[TMB_FIGURE];
} tmb_figure;

tmb_figure tmb_figure_share(double share);   /* 0.798 -> "79.8 %", 0.99996 -> "99.996 %" */
tmb_figure tmb_figure_small(double value);   /* three digits: "0.0213", "1.2e-05", "0" */
tmb_figure tmb_figure_times(double value);   /* "9.3×" */
tmb_figure tmb_figure_count(uint64_t value); /* "65 536", thin spaces between */
tmb_figure tmb_figure_fixed(double value, int digits);
/* "79.1 to 80.4 %" when share, "0.0201 to 0.0226" otherwise; empty when either is not finite,
 * or both are the same. */
tmb_figure tmb_figure_range(double lo, double hi, bool share);

#endif
