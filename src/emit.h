/* emit.h - building the JSON of --json without an if on every line.
 *
 * A failed allocation is remembered; tmb_emit_print() then reports it once. */
#ifndef TMB_SRC_EMIT_H
#define TMB_SRC_EMIT_H

#include "kernels/base/err.h"
#include "moe/io/json.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct tmb_emit {
    tmb_json *root;
    bool failed;
} tmb_emit;

void tmb_emit_open(tmb_emit *e);
void tmb_emit_text(tmb_emit *e, tmb_json *object, const char *key,
                   const char *text); /* NULL: null */
void tmb_emit_int(tmb_emit *e, tmb_json *object, const char *key, uint64_t value);
void tmb_emit_num(tmb_emit *e, tmb_json *object, const char *key, double value);
void tmb_emit_bool(tmb_emit *e, tmb_json *object, const char *key, bool value);
/* The new member is borrowed; NULL without memory, which all functions here accept. */
tmb_json *tmb_emit_object(tmb_emit *e, tmb_json *object, const char *key);
tmb_json *tmb_emit_array(tmb_emit *e, tmb_json *object, const char *key);
tmb_json *tmb_emit_item(tmb_emit *e, tmb_json *array); /* a new object at its end */
void tmb_emit_append(tmb_emit *e, tmb_json *array, const char *const *texts, size_t n);
/* Print to standard output and give everything back. */
tmb_status tmb_emit_print(tmb_emit *e, tmb_err *err) TMB_CHECKED;

#endif
