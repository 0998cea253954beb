/* pool_index.h - choice of keys by the means of their index keys (Qwen4).  For moe/infer/ alone. */
#ifndef TMB_INFER_POOL_INDEX_H
#define TMB_INFER_POOL_INDEX_H

#include "moe/infer/attention.h"

struct tmb_binder;
tmb_status tmb_pool_index_bind(struct tmb_binder *b) TMB_CHECKED;
/* s->seen from s->q_in, which entered the indexer's projection too: tmb_decoder_layer.own[0]. */
tmb_status tmb_pool_index_choose(tmb_heads *s) TMB_CHECKED;
uint64_t tmb_pool_index_bytes(const tmb_config *c, uint64_t tokens, uint64_t longest, int threads);

#endif
