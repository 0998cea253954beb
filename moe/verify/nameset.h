/* nameset.h - a set of names made to be asked the questions engines ask of their lists.
 *
 * Sorted, so that "is one of them a substring of this name" costs its length times log n, not n:
 * exclusion lists name every Linear of a model. */
#ifndef TMB_VERIFY_NAMESET_H
#define TMB_VERIFY_NAMESET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct tmb_name {
    const char *text; /* borrowed */
    uint32_t value;
} tmb_name;

typedef struct tmb_nameset {
    tmb_name *items; /* malloc'ed */
    uint32_t n, room;
    bool sorted;
} tmb_nameset;

enum { TMB_NO_NAME = UINT32_MAX };

bool tmb_nameset_add(tmb_nameset *names, const char *text, uint32_t value); /* false: no memory */
/* Before the first question.  Of equal names the one added first stays. */
void tmb_nameset_sort(tmb_nameset *names);
void tmb_nameset_free(tmb_nameset *names);

/* The value, or TMB_NO_NAME. */
uint32_t tmb_nameset_find(const tmb_nameset *names, const char *text);
/* The item itself; NULL. */
const tmb_name *tmb_nameset_item(const tmb_nameset *names, const char *text, size_t n);
uint32_t tmb_nameset_find_n(const tmb_nameset *names, const char *text, size_t n);
/* Some name that occurs anywhere in text and is not text itself; NULL. */
const char *tmb_nameset_within(const tmb_nameset *names, const char *text);
/* Of the names that start with prefix followed by a dot, the one with the least value; NULL. */
const tmb_name *tmb_nameset_below(const tmb_nameset *names, const char *prefix);

#endif
