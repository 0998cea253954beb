/* compress.h - one entry for every window of tokens (DeepSeek-V4).  For moe/infer/ alone. */
#ifndef TMB_INFER_COMPRESS_H
#define TMB_INFER_COMPRESS_H

#include "moe/infer/decoder.h"

/* Entry w of a sequence is, channel by channel, the mean of its window's values by the softmax of
 * its gates + ape.  When windows overlap, value, gate and ape have twice the channels: the second
 * half counts for the token's own window, the first for the next one, so that entry w is made of
 * the first halves of window w - 1 and the second ones of w. */
typedef struct tmb_compress {
    const float *value, *gate; /* [tokens, channels or 2 channels] */
    const float *ape;          /* [ratio, channels or 2 channels] */
    size_t channels, ratio;
    bool overlap;
    const size_t *begin,
        *entry_begin; /* [sequences (+ 1)]: tokens, and entries, before a sequence */
    size_t sequences;
    float *entries; /* [entries, channels] */
} tmb_compress;
tmb_status tmb_compress_run(const tmb_decoder *d, const tmb_compress *c, tmb_err *err) TMB_CHECKED;

#endif
