/* ple.h - what the last tokens' ids add to the residual streams in front of a layer (Qwen4).
 * For moe/infer/ alone. */
#ifndef TMB_INFER_PLE_H
#define TMB_INFER_PLE_H

#include "moe/infer/decoder.h"

enum { TMB_GRAM_MAX = 16 }; /* tokens of the longest n-gram */

/* Rows of the table for the token at `position` of ids [position + 1]: for n = 2 … size, of each of
 * the n-gram's heads.  An n-gram does not reach past an end-of-sequence id or the sequence's
 * beginning: such places hold that id.  rows [(size - 1) * heads]. */
typedef struct tmb_grams {
    size_t size, heads; /* heads of each n */
    int64_t eos;
    const int64_t *multiplier; /* [size] */
    const int64_t *vocab;      /* [(size - 1) * heads] */
    const int64_t *offset;     /* the same */
} tmb_grams;
void tmb_gram_rows(const tmb_grams *g, const int32_t *ids, size_t position, int64_t *rows);

struct tmb_binder;
tmb_status tmb_ple_bind(struct tmb_binder *b) TMB_CHECKED;
tmb_status tmb_ple_run(tmb_run *run) TMB_CHECKED;
uint64_t tmb_ple_bytes(const tmb_decoder *d, uint64_t tokens);
/* y = each stream of x [streams, hidden] normed by its own part of weight; y may be x. */
void tmb_norm_streams(const tmb_decoder *d, float *y, const float *x, const float *weight);

#endif
