/* keys.h - reading keys of config.json: the first that does not hold what it must is kept as the
 * error, so that a list of them is asked without a check behind each.  For moe/infer/ alone. */
#ifndef TMB_INFER_KEYS_H
#define TMB_INFER_KEYS_H

#include "kernels/base/err.h"
#include "moe/io/json.h"
#include "moe/model/arch_forward.h"

#include <stddef.h>

typedef struct tmb_keys {
    const tmb_json *in; /* the object */
    const char *file;   /* for messages */
    tmb_err *err;
    tmb_status status;
} tmb_keys;

/* Set the error if there is none yet: "FILE: KEY: what". */
void tmb_keys_fail(tmb_keys *k, tmb_status status, const char *key, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The key's value, which must be an integer from low to high.  Missing or null: `otherwise`, or an
 * error when that is negative. */
int64_t tmb_key_integer(tmb_keys *k, const char *key, int64_t low, int64_t high, int64_t otherwise);
/* … a finite number from low to high.  Missing or null: `otherwise`; an error when that is NaN. */
double tmb_key_number(tmb_keys *k, const char *key, double low, double high, double otherwise);
/* … true or false (a number counts as true unless it is 0). */
bool tmb_key_bool(tmb_keys *k, const char *key, bool otherwise);
/* The same of a switch. */
bool tmb_key_switch(tmb_keys *k, const tmb_switch *s);
/* … a text; NULL when missing or null. */
const char *tmb_key_text(tmb_keys *k, const char *key);
/* … an array of at least n elements; NULL when missing, null or empty. */
const tmb_json *tmb_key_list(tmb_keys *k, const char *key, size_t n);

#endif
