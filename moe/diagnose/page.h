/* page.h - the page: one self-contained HTML file that shows a diagnosis to people.
 *
 * Nothing in it is fetched and nothing runs: styles and figures are inline, there are no scripts
 * and no links out.  It follows the light or dark theme of whoever looks, and prints light.  Each
 * figure has its numbers in a table beside it.  All texts of the diagnosis are escaped.  The same
 * diagnosis gives the same bytes. */
#ifndef TMB_DIAGNOSE_PAGE_H
#define TMB_DIAGNOSE_PAGE_H

#include "moe/diagnose/diagnosis.h"

/* *text [*n], NUL-terminated past its end, is the caller's, to be freed.  TMB_ESYSTEM without
 * memory. */
tmb_status tmb_page(const tmb_diagnosis *d, char **text, size_t *n, tmb_err *err) TMB_CHECKED;

#endif
