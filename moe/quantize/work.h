/* work.h - a plan cut into pieces that threads take one after the other.
 *
 * Pieces are in the order of the output: shard by shard, so that shards finish one after the
 * other, and reads follow the source.  Each piece belongs to one shard. */
#ifndef TMB_QUANTIZE_WORK_H
#define TMB_QUANTIZE_WORK_H

#include "moe/quantize/plan.h"

#define TMB_PIECE_BYTES (UINT64_C(8) << 20) /* of a large tensor that is copied */

typedef struct tmb_piece {
    uint32_t file;
    uint32_t out;          /* the first it writes there: the order within a shard */
    uint32_t bundle;       /* TMB_NONE: copies a range of `out` */
    uint64_t begin, bytes; /* of a copied out */
} tmb_piece;

typedef struct tmb_work {
    tmb_piece *pieces;
    size_t n_pieces;
    bool *done;          /* [n_pieces] */
    uint32_t *left;      /* [n_files]: pieces of each shard that are not done */
    uint64_t read_bytes; /* of the source, for progress */
} tmb_work;

/* What needs no work. */
typedef struct tmb_work_known {
    const bool *files;     /* [n_files]: whole shards */
    const uint64_t *bytes; /* [n_files]: of the beginning of a shard */
    const bool *units;     /* [n_units]: the error sums of these are known */
} tmb_work_known;

tmb_status tmb_work_list(tmb_work *work, const tmb_plan *plan, const tmb_work_known *known,
                         tmb_err *err) TMB_CHECKED;
/* The byte of its shard behind all that the piece writes. */
uint64_t tmb_piece_end(const tmb_plan *plan, const tmb_piece *piece);
/* Whether the error of unit u is measured where shard `file` is written. */
bool tmb_measured_in(const tmb_plan *plan, uint32_t u, uint32_t file);
void tmb_work_free(tmb_work *work);
/* What the list takes. */
uint64_t tmb_work_bytes(const tmb_plan *plan);

#endif
