/* rounded.h - whether a weight is another one rounded to a format, whatever it is stored as now. */
#ifndef TMB_DIAGNOSE_ROUNDED_H
#define TMB_DIAGNOSE_ROUNDED_H

#include "moe/diagnose/mix.h"

/* *format = the coarsest format whose rounding of the reference's unit gives the other's, but for
 * one value of a hundred, and both rounded to BF16; NULL: none.  Its first TMB_TILE_ROWS rows are
 * looked at, under the scale that the unit alone would have.  own, reader, unit: as tmb_mix_rows(),
 * of a mixture whose base is the reference. */
tmb_status tmb_looks_rounded(void *own, tmb_reader *reader, const tmb_unit *unit,
                             const tmb_format **format, tmb_err *err) TMB_CHECKED;

#endif
