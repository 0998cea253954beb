/* direct.h - reading and writing past the page cache.
 *
 * A job that reads every byte once and writes every byte once gains nothing from the cache: filling
 * it costs a copy and fresh pages, and pushes out what other programs keep there.  Direct transfers
 * need offsets, sizes and addresses that are multiples of TMB_DIRECT_ALIGN, and memory in large
 * pages, so that one request is one run of addresses.  Not every file system has them: then these
 * say so, and the caller goes through the cache and drops behind. */
#ifndef TMB_IO_DIRECT_H
#define TMB_IO_DIRECT_H

#include "kernels/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TMB_DIRECT_ALIGN = 4096, TMB_DIRECT_REQUEST = 16 << 20 };

/* A second descriptor of the same open file (the same inode, whatever its name means by now) for
 * direct transfers, to read, or to write too; -1 when this file has none. */
int tmb_direct_open(int fd, bool write);

/* Zeroed memory at a multiple of TMB_DIRECT_ALIGN, in large pages where the system gives them;
 * NULL when there is none.  bytes > 0. */
void *tmb_pages_map(size_t bytes);
void tmb_pages_unmap(void *pages, size_t bytes);

/* data [n] = the bytes of the file from offset; all three are multiples of TMB_DIRECT_ALIGN.  The
 * file may end behind `least` bytes.  *refused: direct transfers are not possible here, or the file
 * ends before that: read it through the cache, which also finds the words for what is wrong. */
tmb_status tmb_direct_read(int fd, void *data, size_t n, uint64_t offset, size_t least,
                           const char *path, bool *refused, tmb_err *err) TMB_CHECKED;
/* The same way out.  false: it could not, or not all of it; write the range through the cache,
 * which also finds the words for what is wrong. */
bool tmb_direct_write(int fd, const void *data, size_t n, uint64_t offset);

/* Whether nearly all of the range is in the page cache, as far as the system tells. */
bool tmb_cache_holds(int fd, uint64_t offset, uint64_t n);
/* What was read is wanted no more, what was written should go to the disk now: `n` bytes from
 * offset, and `behind` bytes before it, because the cache keeps what is named in parts only. */
void tmb_cache_drop(int fd, uint64_t offset, uint64_t n, uint64_t behind);
void tmb_cache_flush(int fd, uint64_t offset, uint64_t n, bool wait);

#endif
