/* formats.h - the list of formats, made from the words in moe/local.mk. */
#ifndef TMB_FORMAT_FORMATS_H
#define TMB_FORMAT_FORMATS_H

#include "moe/format/format.h"

const tmb_format *tmb_format_find(const char *name); /* NULL when there is none */
const tmb_format *tmb_format_at(int i);              /* NULL after the last */

/* Byte offset of row `row` (a multiple of TMB_TILE_ROWS, or 0) in a part of geometry g that
 * belongs to a weight of `out` rows.  fp8-block's scales have one row for 128 of the weight. */
uint64_t tmb_format_row_offset(const tmb_geometry *g, uint64_t out, uint64_t row);

#endif
