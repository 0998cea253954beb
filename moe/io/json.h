/* json.h - small JSON: config.json and what we write.  The only user of jansson is json.c.
 *
 * Values are reference-counted by jansson; here every tmb_json* returned by parse, load, copy or a
 * constructor is the caller's, to be given back with tmb_json_free() or given away to
 * _set/_append (which take ownership, also on failure).  What a getter returns is borrowed.
 *
 * Strict: duplicate keys, trailing text and bad UTF-8 are refused; numbers of hub configs that
 * are not JSON (Infinity, -Infinity, NaN as bare tokens) are accepted when `lenient`. */
#ifndef TMB_IO_JSON_H
#define TMB_IO_JSON_H

#include "kernels/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct json_t tmb_json;

/* name: what messages call the text (a path).  Text [n] bytes. */
tmb_status tmb_json_parse(tmb_json **out, const char *text, size_t n, const char *name,
                          bool lenient, tmb_err *err) TMB_CHECKED;
/* A file of at most max_bytes, path relative to dirfd (AT_FDCWD: the working directory). */
tmb_status tmb_json_load(tmb_json **out, int dirfd, const char *path, size_t max_bytes,
                         bool lenient, tmb_err *err) TMB_CHECKED;
void tmb_json_free(tmb_json *json); /* NULL is fine */

/* Getters: json may be NULL or of another type; then NULL, false or the default. */
const tmb_json *tmb_json_get(const tmb_json *object, const char *key);
const tmb_json *tmb_json_path(const tmb_json *object,
                              const char *dotted); /* "text_config.vocab_size" */
const tmb_json *tmb_json_at(const tmb_json *array, size_t i);
size_t tmb_json_size(const tmb_json *array_or_object);
const char *tmb_json_string(const tmb_json *json); /* NULL when it is no string */
bool tmb_json_is_null(const tmb_json *json);       /* present and null */
bool tmb_json_is_object(const tmb_json *json);
bool tmb_json_is_array(const tmb_json *json);
bool tmb_json_integer(const tmb_json *json, int64_t *out);
bool tmb_json_number(const tmb_json *json, double *out);
bool tmb_json_bool(const tmb_json *json, bool fallback);
int64_t tmb_json_int_or(const tmb_json *object, const char *key, int64_t fallback);
/* Walk an object: *it starts NULL; false at the end. */
bool tmb_json_next(const tmb_json *object, void **it, const char **key, const tmb_json **value);

/* Constructors; NULL only without memory. */
tmb_json *tmb_json_new_object(void);
tmb_json *tmb_json_new_array(void);
tmb_json *tmb_json_new_string(const char *text); /* bad UTF-8 bytes become U+FFFD */
tmb_json *tmb_json_new_integer(int64_t value);
tmb_json *tmb_json_new_number(double value); /* non-finite becomes null */
tmb_json *tmb_json_new_bool(bool value);
tmb_json *tmb_json_new_null(void);
tmb_json *tmb_json_copy(const tmb_json *json); /* deep */
bool tmb_json_set(tmb_json *object, const char *key, tmb_json *value);
bool tmb_json_append(tmb_json *array, tmb_json *value);
void tmb_json_remove(tmb_json *object, const char *key);

/* Text with 2-space indent and a final newline (indent 0: one line), keys in insertion order;
 * malloc'ed, the caller's.  NULL without memory.  Infinity and NaN parsed leniently are written
 * back as the same bare tokens. */
char *tmb_json_dump(const tmb_json *json, int indent);

#endif
