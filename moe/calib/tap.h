/* tap.h - an observer of the forward pass that feeds a layer's statistics. */
#ifndef TMB_CALIB_TAP_H
#define TMB_CALIB_TAP_H

#include "moe/calib/stats.h"
#include "moe/infer/observe.h"

typedef struct tmb_tap {
    tmb_stats_layer *layer; /* of the layer that runs; other layers' callbacks are an error */
    const uint32_t *source; /* [tokens of the batch] source of data; NULL: 0 */
    const uint8_t *counted; /* [tokens of the batch] 0: padding, seen by nothing; NULL: all count */
    float *rows;            /* scratch of the tap, from malloc; tmb_tap_close() */
    size_t rows_floats;
} tmb_tap;

/* An observer whose ctx is the tap, which must outlive it. */
tmb_observer tmb_tap_observer(tmb_tap *tap);
void tmb_tap_close(tmb_tap *tap);

#endif
