/* report.h - report.json, and the comparison of two of them. */
#ifndef TMB_DIAGNOSE_REPORT_H
#define TMB_DIAGNOSE_REPORT_H

#include "moe/diagnose/diagnosis.h"
#include "moe/io/json.h"

enum { TMB_REPORT_VERSION = 1, TMB_REPORT_BYTES = 1 << 28 };
#define TMB_REPORT_KIND "tombac-diagnosis"

/* The whole diagnosis; NULL without memory.  A number without a value is null.  Depends on the
 * diagnosis but for manifest.ran, and on nothing else. */
tmb_json *tmb_report_json(const tmb_diagnosis *d);

/* One metric of two reports. */
typedef struct tmb_report_change {
    tmb_metric metric;
    int layer; /* -1: overall */
    tmb_interval a, b;
    bool apart; /* the intervals do not overlap */
} tmb_report_change;

typedef struct tmb_report_diff {
    tmb_report_change *changes; /* [n] overall ones first, then layer by layer; only metrics that
                                   have a value in both and differ */
    size_t n, apart;
    bool same_data, same_reference;
    char other[2][128]; /* path of QUANT in each, as the report has it */
} tmb_report_diff;

/* Read a report: TMB_EDATA when the file is none, or of a later version. */
tmb_status tmb_report_load(tmb_json **out, const char *path, tmb_err *err) TMB_CHECKED;
tmb_status tmb_report_compare(tmb_report_diff *out, const tmb_json *a, const tmb_json *b,
                              tmb_err *err) TMB_CHECKED;
void tmb_report_diff_free(tmb_report_diff *diff);

#endif
