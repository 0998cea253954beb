/* match.h - the three ways names are matched: our globs, Python's fnmatch, Python's re.  And a
 * fourth that cuts long texts: searches over bytes. */
#ifndef TMB_IO_MATCH_H
#define TMB_IO_MATCH_H

#include "kernels/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Recipe glob: * any run of characters (dots too), ? one character, [abc] [a-z] [!abc] sets,
 * everything else itself; the whole name must match.  This is also Python's fnmatch.fnmatchcase.
 * Linear time in practice: one backtrack point. */
bool tmb_glob(const char *pattern, const char *name);

/* A Python regular expression, compiled by PCRE2 with match limits, so hostile patterns end. */
typedef struct tmb_regex tmb_regex;
tmb_status tmb_regex_open(tmb_regex **out, const char *pattern, tmb_err *err) TMB_CHECKED;
bool tmb_regex_match(tmb_regex *re, const char *name);     /* re.match: from the start */
bool tmb_regex_fullmatch(tmb_regex *re, const char *name); /* re.fullmatch */
/* It was given up: on some name it did not end in time, and matches nothing from then on. */
bool tmb_regex_endless(const tmb_regex *re);
void tmb_regex_close(tmb_regex *re);

/* A pattern of ours over bytes (no UTF-8, no locale), searched for in texts of any length, by
 * PCRE2's JIT where this machine has it.  No limit on steps: only for patterns that are known to be
 * harmless.  A search serves many threads; each brings a room of its own. */
typedef struct tmb_search tmb_search;
typedef struct tmb_search_room tmb_search_room;
tmb_status tmb_search_open(tmb_search **out, const char *pattern, tmb_err *err) TMB_CHECKED;
void tmb_search_close(tmb_search *search);
tmb_status tmb_search_room_open(tmb_search_room **out, tmb_err *err) TMB_CHECKED;
void tmb_search_room_close(tmb_search_room *room);
/* The first match in text [n] that begins at `from` or later, to *begin and *end.  1 found, 0 none,
 * -1 without memory. */
int tmb_search_next(const tmb_search *search, tmb_search_room *room, const uint8_t *text, size_t n,
                    size_t from, size_t *begin, size_t *end);

/* Levenshtein distance, for "did you mean"; capped at 64 characters a side. */
unsigned tmb_edit_distance(const char *a, const char *b);
/* The nearest of n words, NULL when none is within a third of the word's length (at least 2). */
const char *tmb_nearest(const char *word, const char *const *words, size_t n);

#endif
