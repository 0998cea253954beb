/* report_internal.h - building a report without an if on every line: functions take a NULL object
 * and remember nothing; a failed allocation shows as a member that is missing, so `failed` counts.
 * For report*.c alone. */
#ifndef TMB_DIAGNOSE_REPORT_INTERNAL_H
#define TMB_DIAGNOSE_REPORT_INTERNAL_H

#include "moe/diagnose/report.h"

typedef struct tmb_writer {
    bool failed;
} tmb_writer;

void tmb_write(tmb_writer *w, tmb_json *object, const char *key, tmb_json *value);
void tmb_write_text(tmb_writer *w, tmb_json *object, const char *key, const char *text);
void tmb_write_number(tmb_writer *w, tmb_json *object, const char *key, double value);
void tmb_write_count(tmb_writer *w, tmb_json *object, const char *key, uint64_t value);
void tmb_write_interval(tmb_writer *w, tmb_json *object, const char *key, tmb_interval i);
void tmb_append(tmb_writer *w, tmb_json *array, tmb_json *value);
/* New members, borrowed. */
tmb_json *tmb_write_object(tmb_writer *w, tmb_json *object, const char *key);
tmb_json *tmb_write_array(tmb_writer *w, tmb_json *object, const char *key);
tmb_json *tmb_append_object(tmb_writer *w, tmb_json *array);

/* report_cause.c: "verdict" and the tables behind it. */
void tmb_report_verdict(tmb_writer *w, tmb_json *root, const tmb_diagnosis *d);
void tmb_report_tables(tmb_writer *w, tmb_json *root, const tmb_diagnosis *d);

#endif
