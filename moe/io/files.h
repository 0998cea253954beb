/* files.h - files that are complete or not there. */
#ifndef TMB_IO_FILES_H
#define TMB_IO_FILES_H

#include "kernels/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

/* The name of one thing in a folder: not empty, no '/', neither "." nor "..", and no longer than a
 * name can be. */
bool tmb_is_base_name(const char *name);

/* Open the regular file `name`, a plain base name, in the folder dirfd for reading.  A symbolic
 * link is followed only to a file in the same folder, or inside a hub cache
 * (snapshots/REVISION/NAME -> ../../blobs/HASH); never a second link.  `shown` is for messages.
 * TMB_ENOINPUT when there is no such file, TMB_EDATA when it is no regular file or such a link. */
tmb_status tmb_file_open(int *fd, struct stat *stat, int dirfd, const char *name, const char *shown,
                         tmb_err *err) TMB_CHECKED;

/* Is there anything of that name, a link too, in the folder dirfd?  (-1, a checkpoint in
 * memory, holds nothing.)  An error when the system cannot tell. */
tmb_status tmb_file_exists(bool *there, int dirfd, const char *name, tmb_err *err) TMB_CHECKED;

/* A whole regular file of at most max_bytes, NUL-terminated past its end, malloc'ed, the caller's.
 * path is relative to the working directory when dirfd is AT_FDCWD, and its links are followed;
 * else it is a base name in the folder dirfd, opened as tmb_file_open() does. */
tmb_status tmb_file_load(char **out, size_t *n, int dirfd, const char *path, size_t max_bytes,
                         tmb_err *err) TMB_CHECKED;

/* Write data [n] to dirfd/name, folder being dirfd's path for messages: temporary name, write,
 * fsync, rename, fsync of the folder. */
tmb_status tmb_file_publish(int dirfd, const char *folder, const char *name, const void *data,
                            size_t n, tmb_err *err) TMB_CHECKED;
/* Copy from_dirfd/name to to_dirfd/name the same way; `*sha256` (65 bytes, may be NULL) gets the
 * hex digest, *bytes (may be NULL) the size. */
tmb_status tmb_file_copy(int from_dirfd, int to_dirfd, const char *folder, const char *name,
                         char *sha256, uint64_t *bytes, tmb_err *err) TMB_CHECKED;

/* pwrite/pread until all n bytes are done; EINTR and short counts are handled.  path is for the
 * message.  TMB_EIO; TMB_ECREATE when the disk or quota is full, naming the folder. */
tmb_status tmb_file_pwrite(int fd, const void *data, size_t n, uint64_t offset, const char *path,
                           tmb_err *err) TMB_CHECKED;
tmb_status tmb_file_pread(int fd, void *data, size_t n, uint64_t offset, const char *path,
                          tmb_err *err) TMB_CHECKED;

/* Bytes free for an unprivileged user on the file system of dirfd. */
tmb_status tmb_disk_free(int dirfd, const char *path, uint64_t *bytes, tmb_err *err) TMB_CHECKED;

/* SHA-256 (FIPS 180-4), hex in out[65]. */
enum { TMB_SHA256_HEX = 65 };
tmb_status tmb_sha256(const void *data, size_t n, char out[TMB_SHA256_HEX],
                      tmb_err *err) TMB_CHECKED;
/* The same in parts, in their order. */
typedef struct tmb_sha256_stream tmb_sha256_stream;
tmb_status tmb_sha256_open(tmb_sha256_stream **out, tmb_err *err) TMB_CHECKED;
tmb_status tmb_sha256_add(tmb_sha256_stream *s, const void *data, size_t n,
                          tmb_err *err) TMB_CHECKED;
tmb_status tmb_sha256_end(tmb_sha256_stream *s, char out[TMB_SHA256_HEX], tmb_err *err) TMB_CHECKED;
/* Of what was added so far; more may be added after it. */
tmb_status tmb_sha256_peek(const tmb_sha256_stream *s, char out[TMB_SHA256_HEX],
                           tmb_err *err) TMB_CHECKED;
void tmb_sha256_close(tmb_sha256_stream *s); /* NULL is fine */
/* Of the whole open file, read with pread from 0. */
tmb_status tmb_sha256_file(int fd, const char *path, char out[TMB_SHA256_HEX],
                           tmb_err *err) TMB_CHECKED;

#endif
