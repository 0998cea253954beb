/* encode.h - rows of one unit in the format that its rule gave it, and what a loader reads there.
 *
 * The one place where values become codes: the job writes what comes out of it, and a recipe that
 * is applied on the fly (moe/fly/fly.h) decodes it again. */
#ifndef TMB_QUANTIZE_ENCODE_H
#define TMB_QUANTIZE_ENCODE_H

#include "moe/quantize/weighing.h"

typedef struct tmb_encoding {
    const tmb_unit *unit;         /* borrowed from the model, as spec is from the recipe */
    const tmb_spec *spec;         /* format NULL: decoded to BF16 */
    float global;                 /* TMB_PART_GLOBAL; 1 where the format has none */
    bool divides;                 /* the layout stores 1 / global, and loaders divide by that */
    const tmb_weigh_place *weigh; /* whose moments weigh the search of its scales; NULL: none */
    const float *lanes; /* their table (tmb_weighing_make), the caller's to set before encoding */
} tmb_encoding;

/* amax: the largest magnitude of all units that share the global scale; not asked for where
 * tmb_unit_scanned() is false. */
tmb_encoding tmb_encoding_of(const tmb_plan *plan, uint32_t unit, float amax);
/* Whether the unit's format has a global scale, for which every value is seen before the first is
 * encoded. */
bool tmb_unit_scanned(const tmb_plan *plan, uint32_t unit);

/* x [rows, unit->in] f32, finite: rows of a tile, which begins at a multiple of TMB_TILE_ROWS.
 * codes, scales: where these rows begin in the tile's; work: tmb_format_work(unit->in) floats. */
void tmb_encode_rows(const tmb_encoding *e, const tmb_ops *ops, const float *x, size_t rows,
                     void *codes, void *scales, float *work);

/* y [rows, unit->in] f32 = what moe/model/weight.h reads from the checkpoint that holds these codes
 * and scales, to the bit. */
void tmb_read_back(const tmb_encoding *e, const tmb_ops *ops, const void *codes, const void *scales,
                   size_t rows, float *y, float *work);

#endif
