/* block_index.h - choice of blocks of keys.  For moe/infer/ alone. */
#ifndef TMB_INFER_BLOCK_INDEX_H
#define TMB_INFER_BLOCK_INDEX_H

#include "moe/infer/attention.h"

/* A block's score for a query is the largest q . k of its keys that are not after the query.  The
 * query's own block and the local - 1 before it always count as best; `keep` blocks are kept. */
typedef struct tmb_block_index {
    const float *q; /* [tokens, heads, dim] */
    const float *k; /* [tokens, dim] */
    size_t heads, dim, block, keep, local;
    const size_t *begin; /* [sequences + 1] */
    size_t sequences;
    uint64_t *blocks, *seen; /* [tokens, heads, words]: the blocks, and their keys, bit by bit */
    size_t words;            /* of the keys of the longest sequence */
} tmb_block_index;
tmb_status tmb_block_index_run(const tmb_decoder *d, const tmb_block_index *x,
                               tmb_err *err) TMB_CHECKED;

struct tmb_binder;
tmb_status tmb_block_index_bind(struct tmb_binder *b) TMB_CHECKED;
/* s->seen from s->q_in, which entered the indexer's projections too: tmb_decoder_layer.own[0], [1].
 */
tmb_status tmb_block_index_choose(tmb_heads *s) TMB_CHECKED;
uint64_t tmb_block_index_bytes(const tmb_config *c, uint64_t tokens, uint64_t longest, int threads);

#endif
