/* summary.h - tombac.json: what was done, with checksums and errors.
 *
 * Every number that is not known beforehand has a fixed width, so the plan knows the file's length,
 * and nothing in it depends on time, place, threads or restarts. */
#ifndef TMB_QUANTIZE_SUMMARY_H
#define TMB_QUANTIZE_SUMMARY_H

#include "moe/quantize/plan.h"
#include "moe/quantize/quantize.h"

#define TMB_SUMMARY_NAME "tombac.json"

uint64_t tmb_summary_bytes(const tmb_plan *plan);

/* sha256: of each shard, then of each of plan->others but the last.  errors [n_rows]: by row, only
 * those of quantized rows are looked at.  The text is malloc'ed, the caller's. */
tmb_status tmb_summary_text(const tmb_plan *plan, const char (*sha256)[TMB_SHA256_HEX],
                            const tmb_group_error *errors, char **text, size_t *n,
                            tmb_err *err) TMB_CHECKED;

/* 10 log10(signal / noise); infinite without noise. */
double tmb_sqnr_db(double signal, double noise);

#endif
