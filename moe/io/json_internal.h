/* json_internal.h - between json.c, json_bare.c and json_dump.c.
 *
 * What JSON cannot say (NaN, Infinity, an integer over 64 bits) is parsed leniently as a "bare
 * token": inside the tree a string that begins with a NUL, which no string of a file can hold,
 * followed by the token as it was written. */
#ifndef TMB_IO_JSON_INTERNAL_H
#define TMB_IO_JSON_INTERNAL_H

#include "moe/io/json.h"

/* text [n] with every bare token outside of strings replaced by "\u0000TOKEN".  *out is NULL when
 * there is none; else malloc'ed, *out_n bytes.  Leaves what is no JSON for the parser to find. */
tmb_status tmb_json_quote_bare(char **out, size_t *out_n, const char *text, size_t n,
                               const char *name, tmb_err *err) TMB_CHECKED;

/* The token of a bare value, NULL for every other. */
const char *tmb_json_bare(const tmb_json *json);
/* The bytes of a string value, which may hold NULs; NULL for every other. */
const char *tmb_json_bytes(const tmb_json *json, size_t *n);
bool tmb_json_real(const tmb_json *json, double *out);
bool tmb_json_is_true(const tmb_json *json);
bool tmb_json_is_false(const tmb_json *json);

#endif
