/* checkpoint.h - a Hugging Face folder, read-only.
 *
 * Either model.safetensors.index.json with its shards, or model.safetensors alone (any
 * *.safetensors when there is exactly one).  Refused: an index whose names and shards disagree,
 * a name in two shards, a shard that is no plain base name (path traversal), no regular file, or
 * a symbolic link out of the folder (a link inside a hub cache, ../../blobs/…, is taken); a shard
 * STEM-k-of-N.safetensors of the index's own STEM and N that the index does not name.  Any other
 * *.safetensors beside them is left alone and listed in unread_files.
 *
 * Files are opened once and read with pread, so a file that is replaced meanwhile does not mix
 * into the result; one that is truncated or rewritten is noticed by tmb_checkpoint_unchanged(). */
#ifndef TMB_IO_CHECKPOINT_H
#define TMB_IO_CHECKPOINT_H

#include "kernels/base/err.h"
#include "moe/io/json.h"
#include "moe/io/safetensors.h"

#include <stdbool.h>
#include <sys/stat.h>

typedef struct tmb_shard {
    const char *name; /* base name */
    int fd;
    uint64_t file_bytes;
    uint64_t data_begin; /* file offset of the data buffer */
    struct stat stat;    /* at open */
    tmb_header header;
} tmb_shard;

typedef struct tmb_checkpoint {
    const char *path; /* as the user gave it, without a final slash */
    int dirfd;
    tmb_shard *shards;
    size_t n_shards;
    tmb_tensor *tensors; /* all of them: shard after shard, by offset; indices are stable */
    size_t n_tensors;
    tmb_json *config;         /* config.json; NULL when the folder has none */
    const char **other_files; /* every other regular file, sorted, no sub-folders, no weights of
                                 other kinds (*.bin, *.pt, *.pth, *.gguf, *.h5, *.msgpack) */
    size_t n_other_files;
    const char **unread_files; /* what is neither read nor in other_files, sorted: weights of other
                                  kinds, *.safetensors that the index does not name, links out of
                                  the folder, what is no regular file (folders are not listed) */
    size_t n_unread_files;
    uint64_t total_bytes; /* of all tensors */
    struct tmb_checkpoint_private *priv;
} tmb_checkpoint;

tmb_status tmb_checkpoint_open(tmb_checkpoint **out, const char *path, tmb_err *err) TMB_CHECKED;
void tmb_checkpoint_close(tmb_checkpoint *ckpt);

/* A checkpoint without a folder, called "memory": one shard whose header is text [n], with a data
 * buffer of data_bytes, and config, which may be NULL.  text (malloc'ed) and config become the
 * checkpoint's, also on failure.  Its values cannot be read, and dirfd is -1: it is for programs
 * that have only the names and shapes of a model. */
tmb_status tmb_checkpoint_from_header(tmb_checkpoint **out, char *text, size_t n,
                                      uint64_t data_bytes, tmb_json *config,
                                      tmb_err *err) TMB_CHECKED;

/* NULL when there is no tensor of that name; O(1). */
const tmb_tensor *tmb_checkpoint_find(const tmb_checkpoint *ckpt, const char *name);
/* The same for name [n] bytes without NUL. */
const tmb_tensor *tmb_checkpoint_find_n(const tmb_checkpoint *ckpt, const char *name, size_t n);

/* buf [bytes] = bytes of the tensor from `offset`.  Safe from several threads. */
tmb_status tmb_checkpoint_read(const tmb_checkpoint *ckpt, const tmb_tensor *tensor,
                               uint64_t offset, void *buf, size_t bytes, tmb_err *err) TMB_CHECKED;
/* Tell the kernel that this range is wanted soon (true) or no more (false). */
void tmb_checkpoint_advise(const tmb_checkpoint *ckpt, const tmb_tensor *tensor, uint64_t offset,
                           uint64_t bytes, bool soon);
/* TMB_EDATA naming the first shard whose inode, size or time of change differ from those at open.
 */
tmb_status tmb_checkpoint_unchanged(const tmb_checkpoint *ckpt, tmb_err *err) TMB_CHECKED;

#endif
