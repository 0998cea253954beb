/* collect.h - the sequences of one source; internal to moe/tokens. */
#ifndef TMB_TOKENS_COLLECT_H
#define TMB_TOKENS_COLLECT_H

#include "moe/tokens/docs.h"
#include "moe/tokens/ids.h"
#include "moe/tokens/random.h"

#define TMB_DATA_TOKENS_MAX (1u << 28)

typedef struct tmb_piece {
    size_t at;  /* in ids */
    uint32_t n; /* tokens */
} tmb_piece;

typedef struct tmb_collection {
    tmb_ids ids;
    tmb_piece *pieces; /* [n] */
    size_t n, room;
} tmb_collection;

/* As data.h says: `quota` sequences of source number `stream`, or all when it is 0.  s gets the
 * counts; *all, the ids of other sources so far, keeps the sum below TMB_DATA_TOKENS_MAX. */
tmb_status tmb_collect(tmb_collection *c, tmb_docs *docs, const tmb_data_options *o,
                       uint64_t stream, uint64_t quota, tmb_data_source *s, uint64_t all,
                       tmb_err *err) TMB_CHECKED;

#endif
