/* file_internal.h - what writing and reading of statistics files share. */
#ifndef TMB_CALIB_FILE_INTERNAL_H
#define TMB_CALIB_FILE_INTERNAL_H

#include "moe/calib/coverage.h"
#include "moe/calib/file.h"
#include "moe/calib/stats_internal.h"
#include "moe/io/store.h"

#define TMB_STATS_KIND "tombac statistics"
enum { TMB_LAYER_NAME = 32, TMB_GROUP_NAME = TMB_LAYER_NAME + TMB_SITE_NAME + 16 };

/* "layers/003", "layers/head". */
void tmb_layer_name(char out[TMB_LAYER_NAME], int32_t index);

/* An array of at most `most` texts, kept in the arena. */
tmb_status tmb_get_texts(tmb_store *store, tmb_arena *arena, const char *name, uint64_t most,
                         const char *const **out, uint64_t *n, tmb_err *err);

/* Place in an accumulator's sums of the k-th figure of a block: of 16 squares, or of the 136 of the
 * triangle. */
uint64_t tmb_sum_place(bool moments, bool triangle, uint64_t block, int k);

/* The arrays of a site, or of its shadow. */
typedef struct put_ctx {
    tmb_store *store;
    char group[TMB_GROUP_NAME];
    tmb_accum_shape shape;
    const tmb_accum **accums; /* [n] */
    uint64_t n;
} put_ctx;

#endif
