/* match.h - the three ways names are matched: our globs, Python's fnmatch, Python's re. */
#ifndef TMB_IO_MATCH_H
#define TMB_IO_MATCH_H

#include "kernels/base/err.h"

#include <stdbool.h>
#include <stddef.h>

/* Recipe glob: * any run of characters (dots too), ? one character, [abc] [a-z] [!abc] sets,
 * everything else itself; the whole name must match.  This is also Python's fnmatch.fnmatchcase.
 * Linear time in practice: one backtrack point. */
bool tmb_glob(const char *pattern, const char *name);

/* A Python regular expression, compiled by PCRE2 with match limits, so hostile patterns end. */
typedef struct tmb_regex tmb_regex;
tmb_status tmb_regex_open(tmb_regex **out, const char *pattern, tmb_err *err) TMB_CHECKED;
bool tmb_regex_match(const tmb_regex *re, const char *name);     /* re.match: from the start */
bool tmb_regex_fullmatch(const tmb_regex *re, const char *name); /* re.fullmatch */
void tmb_regex_close(tmb_regex *re);

/* Levenshtein distance, for "did you mean"; capped at 64 characters a side. */
unsigned tmb_edit_distance(const char *a, const char *b);
/* The nearest of n words, NULL when none is within a third of the word's length (at least 2). */
const char *tmb_nearest(const char *word, const char *const *words, size_t n);

#endif
