/* staged.h - parts of a checkpoint's files that were read into memory ahead of their use.
 *
 * Ranges are added in any order and may overlap; tmb_staged_settle() merges what is close, so that
 * the disk is asked once, and then every extent is a run of one file. */
#ifndef TMB_IO_STAGED_H
#define TMB_IO_STAGED_H

#include "moe/io/checkpoint.h"

typedef struct tmb_extent {
    uint32_t shard;
    uint64_t begin, end; /* of the file */
    uint8_t *data;       /* of byte `begin`; NULL: not read yet */
} tmb_extent;

/* Zero-initialised it is empty. */
typedef struct tmb_staged {
    tmb_extent *extents; /* settled: by shard and begin, apart from each other */
    uint32_t n, room;
} tmb_staged;

/* `bytes` of the tensor from offset will be wanted; they lie inside it. */
tmb_status tmb_staged_add(tmb_staged *s, const tmb_checkpoint *ckpt, const tmb_tensor *tensor,
                          uint64_t offset, uint64_t bytes, tmb_err *err) TMB_CHECKED;
void tmb_staged_settle(tmb_staged *s);
/* Memory for tmb_staged_place(): each extent with its whole TMB_DIRECT_ALIGN blocks. */
uint64_t tmb_staged_bytes(const tmb_staged *s);
/* Give each extent its place in memory [tmb_staged_bytes()], a multiple of TMB_DIRECT_ALIGN, such
 * that offsets in the file and addresses are alike in their lowest bits. */
void tmb_staged_place(tmb_staged *s, uint8_t *memory);

/* Where these bytes are; NULL when they are not staged, or s is NULL. */
const uint8_t *tmb_staged_find(const tmb_staged *s, const tmb_checkpoint *ckpt,
                               const tmb_tensor *tensor, uint64_t offset, uint64_t bytes);
void tmb_staged_clear(tmb_staged *s); /* keeps its room */
void tmb_staged_free(tmb_staged *s);

#endif
