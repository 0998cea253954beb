/* weight.h - the values of a Linear as float32, however they are stored.
 *
 * Every stored form decodes to the float32 the format's own definition gives, one rounding per
 * operation: BF16 and F16 are exact; FP8 q * scale; MXFP4 e2m1 * 2^(e-127); NVFP4
 * e2m1 * (s * ws2), of compressed-tensors e2m1 * (s / global); INT4 (q-8) * s. */
#ifndef TMB_MODEL_WEIGHT_H
#define TMB_MODEL_WEIGHT_H

#include "kernels/base/ops.h"
#include "moe/io/staged.h"
#include "moe/model/model.h"

/* Reads one unit at a time; keeps buffers between calls and, of a stack stored [in, out], the last
 * expert's slab, so that gate and up do not read it twice.  One a thread. */
typedef struct tmb_reader tmb_reader;
tmb_status tmb_reader_open(tmb_reader **out, const tmb_model *model, const tmb_ops *ops,
                           tmb_err *err) TMB_CHECKED;
void tmb_reader_close(tmb_reader *reader);

/* y [rows, unit->in] f32 = rows row .. row+rows-1 of the unit's weight [out, in].
 * row is a multiple of TMB_TILE_ROWS; rows <= TMB_TILE_ROWS.  unit->linear and not broken.
 * TMB_EDATA when a value is NaN or infinite, naming tensor and row. */
tmb_status tmb_reader_rows(tmb_reader *reader, const tmb_unit *unit, uint64_t row, size_t rows,
                           float *y, tmb_err *err) TMB_CHECKED;

/* Host bytes a reader holds at most for this unit (tile of raw bytes, or a stack's slab);
 * part of the memory formula in moe/quantize/plan.h. */
uint64_t tmb_reader_bytes(const tmb_model *model, const tmb_unit *unit);

/* The largest magnitude of the whole weight.  TMB_EDATA when it holds a NaN or an infinity,
 * naming tensor and row.  work: TMB_TILE_ROWS * unit->in floats. */
tmb_status tmb_reader_amax(tmb_reader *reader, const tmb_unit *unit, float *work, float *amax,
                           tmb_err *err) TMB_CHECKED;

/* ---- with the bytes in memory: for those who read ahead -------------------------------------- */

/* What these rows are read from goes to the list.  row as above, any number of rows. */
tmb_status tmb_reader_stage(tmb_staged *staged, const tmb_model *model, const tmb_unit *unit,
                            uint64_t row, uint64_t rows, tmb_err *err) TMB_CHECKED;
/* An upper bound of what it takes in memory, whatever the offsets in the file. */
uint64_t tmb_reader_span(const tmb_model *model, const tmb_unit *unit, uint64_t rows);
/* From now on take bytes from there when they are there; NULL: from the files only.  Borrowed. */
void tmb_reader_use(tmb_reader *reader, const tmb_staged *staged);
/* Host bytes a reader holds for tiles of this many rows when everything is staged. */
uint64_t tmb_reader_staged_bytes(const tmb_model *model, const tmb_unit *unit, uint64_t rows);

/* tmb_reader_rows() that also gives their largest magnitude; any row is good. */
tmb_status tmb_reader_rows_amax(tmb_reader *reader, const tmb_unit *unit, uint64_t row, size_t rows,
                                float *y, float *amax, tmb_err *err) TMB_CHECKED;
/* tmb_reader_rows() for rows that were read before: not looked at for NaN again. */
tmb_status tmb_reader_rows_again(tmb_reader *reader, const tmb_unit *unit, uint64_t row,
                                 size_t rows, float *y, tmb_err *err) TMB_CHECKED;
/* Where rows `row` .. lie in memory as plain BF16 or float32: *stride bytes apart, unit->in elements
 * each.  false: they are coded, turned, of another type, or not staged. */
bool tmb_reader_plain(const tmb_reader *reader, const tmb_unit *unit, uint64_t row, uint64_t rows,
                      const void **data, tmb_dtype *dtype, uint64_t *stride);

#endif
