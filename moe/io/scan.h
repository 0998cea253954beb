/* scan.h - the ground of our two JSON readers, safetensors.c and index.c.
 *
 * A cursor over text in memory.  Nothing is built: strings are unescaped where they stand and
 * ended by a NUL (which takes the place of the closing quote at the latest), so a million names
 * cost no allocation.  RFC 8259 to the letter; in addition a \u escape must be no half of a
 * surrogate pair, and UTF-8 must be well-formed (Unicode 15, table 3-7). */
#ifndef TMB_IO_SCAN_H
#define TMB_IO_SCAN_H

#include "kernels/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct tmb_scan {
    char *begin, *at, *end;
    uint64_t base;      /* file offset of *begin: messages count bytes of the file */
    const char *file;   /* what messages call it */
    const char *remedy; /* ends every message */
    tmb_err *err;
} tmb_scan;

/* TMB_EDATA "FILE: byte N: what; remedy" for the byte at `at`. */
tmb_status tmb_scan_fail(const tmb_scan *s, const char *at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same for whatever stands at the cursor: "expected WANTED, found 'x'". */
tmb_status tmb_scan_unexpected(const tmb_scan *s, const char *wanted);

static inline void tmb_scan_space(tmb_scan *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\t' || *s->at == '\r'))
        s->at++;
}
/* Take byte c if it comes next after white space. */
static inline bool tmb_scan_take(tmb_scan *s, char c)
{
    tmb_scan_space(s);
    if (s->at == s->end || *s->at != c) return false;
    s->at++;
    return true;
}

/* Take c, or fail saying `wanted`. */
tmb_status tmb_scan_expect(tmb_scan *s, char c, const char *wanted) TMB_CHECKED;
/* A string; *out is in the text, NUL-terminated, *n bytes.  It may hold NULs of its own. */
tmb_status tmb_scan_string(tmb_scan *s, char **out, size_t *n, const char *wanted) TMB_CHECKED;
/* A string fit to be a name: not empty, at most max bytes, no control character. */
tmb_status tmb_scan_name(tmb_scan *s, char **out, size_t *n, size_t max,
                         const char *wanted) TMB_CHECKED;
/* An integer 0 … 2^64-1: digits alone, no leading zero. */
tmb_status tmb_scan_u64(tmb_scan *s, uint64_t *out, const char *wanted) TMB_CHECKED;
/* Any value, checked and dropped; at most 64 deep. */
tmb_status tmb_scan_skip(tmb_scan *s) TMB_CHECKED;
/* After the last value: nothing but white space. */
tmb_status tmb_scan_finish(tmb_scan *s) TMB_CHECKED;

/* An array that grows while a text is read: items moved to where n + 1 of them have room, or NULL
 * without memory, when the old ones are still the caller's. */
void *tmb_grown(void *items, size_t n, size_t *room, size_t size);

#endif
