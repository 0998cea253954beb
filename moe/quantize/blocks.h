/* blocks.h - the output on its way to the disk.
 *
 * A shard is cut into blocks of one size.  Threads copy what they made into the block it belongs
 * to; a block that is full is written to the disk, in any order, and goes through SHA-256, in the
 * order of the file, while it is still in memory.  So the disk sees large aligned writes, nothing
 * is read back, and the checksum is ready with the last block.
 *
 * Memory is a fixed number of blocks for all shards.  When they are used up a thread that wants one
 * does whatever gives one back: writes a full one, hashes one whose turn it is, waits for another
 * thread that does so.  When all are partly filled, or wait for a block before them, one that is on
 * the disk is given up (it will be read back for the checksum), and as the last resort the bytes
 * are written where they belong without a block.  So a plan of any shape finishes in any memory. */
#ifndef TMB_QUANTIZE_BLOCKS_H
#define TMB_QUANTIZE_BLOCKS_H

#include "moe/io/files.h"
#include "moe/quantize/monitor.h"

#include <stddef.h>
#include <stdint.h>

typedef struct tmb_block {
    uint8_t *data;   /* NULL: not in memory */
    uint32_t filled; /* bytes that are in it, or on the disk where there was no memory */
    bool through;    /* written past memory, piece by piece */
    bool written;    /* all of it */
} tmb_block;

typedef struct tmb_blocks tmb_blocks;

/* One file made of blocks; its fields are those of blocks.c. */
typedef struct tmb_blocks_file {
    tmb_blocks *pool;
    int fd, direct; /* direct -1: through the cache */
    const char *path;
    uint64_t bytes; /* of the file */
    uint32_t n, n_written, next_hash;
    bool hashing;
    tmb_block *blocks; /* [n] */
    tmb_sha256_stream *sha256;
    struct tmb_blocks_file *next;
    /* A cut: so many blocks from the beginning are written and hashed, and the file may be gone on
     * with behind them once they are flushed. */
    uint64_t kept;     /* bytes at the beginning that an earlier run wrote */
    uint32_t stride;   /* blocks from one cut to the next */
    uint32_t cut;      /* blocks before the last one */
    bool cut_due;      /* nobody has taken it yet */
    bool cutting;      /* somebody makes it last */
    uint32_t in_a_row; /* blocks from the first on that are written */
    char cut_sha256[TMB_SHA256_HEX];
} tmb_blocks_file;

struct tmb_blocks {
    tmb_monitor *monitor;
    size_t bytes; /* of a block: a multiple of TMB_DIRECT_ALIGN */
    bool cached;  /* never past the cache */
    uint8_t *memory;
    size_t n, n_free, n_full; /* blocks in all; without a use; waiting to be written */
    uint8_t **free;           /* [n] */
    struct {
        tmb_blocks_file *file;
        uint32_t index;
    } * full;               /* [n] */
    unsigned busy;          /* jobs that threads are at */
    tmb_blocks_file *files; /* open ones */
};

/* Something that moves the output on. */
typedef struct tmb_blocks_job {
    tmb_blocks_file *file;
    uint32_t index;
    bool hash; /* else write */
} tmb_blocks_job;

tmb_status tmb_blocks_open(tmb_blocks *pool, tmb_monitor *monitor, size_t block_bytes, size_t n,
                           bool cached, tmb_err *err) TMB_CHECKED;
void tmb_blocks_close(tmb_blocks *pool);

/* What an earlier run left of a file: whole blocks at the beginning, and their checksum. */
typedef struct tmb_blocks_kept {
    int fd;         /* -1: nothing */
    uint64_t bytes; /* a multiple of the pool's */
    tmb_sha256_stream *sha256;
} tmb_blocks_kept;

/* fd, path: the caller's, until tmb_blocks_leave().  kept->sha256, unless NULL, becomes the file's
 * and is NULL then; puts into what was kept are ignored. */
tmb_status tmb_blocks_join(tmb_blocks_file *f, tmb_blocks *pool, int fd, uint64_t bytes,
                           const char *path, tmb_blocks_kept *kept, tmb_err *err) TMB_CHECKED;
void tmb_blocks_leave(tmb_blocks_file *f);

/* data [n] belongs at offset of the file.  Not inside the monitor; from several threads, each byte
 * once. */
tmb_status tmb_blocks_put(tmb_blocks_file *f, const void *data, size_t n, uint64_t offset,
                          tmb_err *err) TMB_CHECKED;

/* Inside the monitor: take a job. */
bool tmb_blocks_take_write(tmb_blocks *pool, tmb_blocks_job *job);
bool tmb_blocks_take_hash(tmb_blocks *pool, tmb_blocks_job *job);
/* Outside: do it. */
tmb_status tmb_blocks_do(tmb_blocks *pool, const tmb_blocks_job *job, tmb_err *err) TMB_CHECKED;
/* Inside: a file with a new cut, which stays as it is, and is not done, until tmb_blocks_was_cut().
 */
tmb_blocks_file *tmb_blocks_take_cut(tmb_blocks *pool);
void tmb_blocks_was_cut(tmb_blocks_file *f);
/* Inside: whether everything is on its way to the disk and in the checksum. */
bool tmb_blocks_done(const tmb_blocks_file *f);

#endif
