/* shard_writer.h - one output shard, from temporary name to published file.
 *
 * The file has its final size and header from the start; threads write where their bytes belong.
 * What is published is complete: every byte was written once, the data is on the disk, then comes
 * the name. */
#ifndef TMB_QUANTIZE_SHARD_WRITER_H
#define TMB_QUANTIZE_SHARD_WRITER_H

#include "moe/quantize/blocks.h"
#include "moe/quantize/plan.h"

#include <limits.h>

#define TMB_TEMPORARY ".tmp-" /* what names of unfinished files begin with */

/* The temporary name of an output file. */
typedef struct tmb_temporary {
    char name[NAME_MAX + 1];
} tmb_temporary;
tmb_temporary tmb_temporary_of(const char *name);

typedef struct tmb_shard_writer {
    const tmb_plan *plan;
    const tmb_out_file *file;
    const char *folder; /* for messages */
    int dirfd, fd;
    tmb_temporary temporary; /* "" when there is none */
    char *path;              /* of the final name, for messages */
    bool stays;              /* what is in the temporary file is in the journal */
    tmb_blocks_file blocks;
} tmb_shard_writer;

/* Make the temporary file, or go on with the one that was kept, which is taken; reserve its space
 * on the disk, write the header.  TMB_ECREATE when there is no space. */
tmb_status tmb_shard_create(tmb_shard_writer *w, const tmb_plan *plan, uint32_t file, int dirfd,
                            const char *folder, tmb_blocks *blocks, tmb_blocks_kept *kept,
                            tmb_err *err) TMB_CHECKED;
/* data [n] at `offset` of the data buffer.  Safe from several threads for ranges that do not
 * overlap; a range is written once. */
tmb_status tmb_shard_write(tmb_shard_writer *w, const void *data, size_t n, uint64_t offset,
                           tmb_err *err) TMB_CHECKED;
/* The constants of the layout, once all else was written. */
tmb_status tmb_shard_constants(tmb_shard_writer *w, tmb_err *err) TMB_CHECKED;
/* When all blocks are done: the checksum, fsync, rename, fsync of the folder. */
tmb_status tmb_shard_publish(tmb_shard_writer *w, char sha256[TMB_SHA256_HEX],
                             tmb_err *err) TMB_CHECKED;
/* Give everything back; a temporary file that was not published is removed,
 * unless it stays.  */
void tmb_shard_discard(tmb_shard_writer *w);

#endif
