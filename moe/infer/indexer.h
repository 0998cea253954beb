/* indexer.h - which keys sparse attention looks at: those that a small attention of its own scores
 * highest (DeepSeek-V3.2 and its heirs).  For moe/infer/ alone. */
#ifndef TMB_INFER_INDEXER_H
#define TMB_INFER_INDEXER_H

#include "moe/infer/decoder.h"

/* score(t, s) = sum over heads of weights[t][h] * max(0, q[t][h] . k[s]); the query at position t
 * of a sequence keeps the `keep` best of its first (t + 1) / ratio keys. */
typedef struct tmb_index {
    const float *q;       /* [tokens, heads, dim] */
    const float *k;       /* [keys, dim]: those of sequence s begin at key_begin[s] */
    const float *weights; /* [tokens, heads], rows weights_stride apart (0: one row for all) */
    size_t heads, dim, weights_stride, ratio, keep;
    const size_t *begin;     /* [sequences + 1] */
    const size_t *key_begin; /* [sequences] */
    size_t sequences;
    uint64_t *seen; /* [tokens, words]: bit s of a row: key s of the sequence is kept */
    size_t words;
} tmb_index;
tmb_status tmb_index_run(const tmb_decoder *d, const tmb_index *i, tmb_err *err) TMB_CHECKED;
/* Bytes of one thread's scratch for sequences of `longest` tokens. */
uint64_t tmb_index_bytes(size_t dim, size_t longest);

/* x [rows, n] = (x - mean) / sqrt(variance + eps) * weight + bias, each row. */
void tmb_layer_norm(float *x, size_t rows, size_t n, const float *weight, const float *bias,
                    float eps);

#endif
