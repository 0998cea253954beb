/* hidden.h - what every token of the calibration set looks like between two layers.
 *
 * Two files of float32 [tokens, width] that take turns: a layer reads one and writes the other, so
 * that a job which is killed in the middle of a layer still has that layer's input.  All ranks open
 * the same two files and keep to rows of their own; ranks on several hosts need a folder that they
 * share. */
#ifndef TMB_CALIB_HIDDEN_H
#define TMB_CALIB_HIDDEN_H

#include "kernels/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct tmb_hidden {
    int fd[2];
    char *path[2]; /* for messages */
    uint64_t tokens;
    size_t width;
} tmb_hidden;

/* Bytes of both files. */
uint64_t tmb_hidden_bytes(uint64_t tokens, size_t width);

/* Make both files in the folder dirfd, called `folder`, with room for all rows: TMB_ECREATE when
 * the disk has less.  Files of that size that are there already are kept as they are. */
tmb_status tmb_hidden_make(int dirfd, const char *folder, uint64_t tokens, size_t width,
                           tmb_err *err) TMB_CHECKED;
/* Open what was made.  TMB_EDATA when a file has another size.  h is zeroed by the caller, and
 * given back with tmb_hidden_close() also after a failure. */
tmb_status tmb_hidden_open(tmb_hidden *h, int dirfd, const char *folder, uint64_t tokens,
                           size_t width, tmb_err *err) TMB_CHECKED;
void tmb_hidden_close(tmb_hidden *h);
/* Forget them; it is fine when there are none. */
void tmb_hidden_remove(int dirfd);

/* Rows first … first+n-1 of file `side` (0, 1): x [n, width]. */
tmb_status tmb_hidden_read(const tmb_hidden *h, int side, uint64_t first, size_t n, float *x,
                           tmb_err *err) TMB_CHECKED;
tmb_status tmb_hidden_write(const tmb_hidden *h, int side, uint64_t first, size_t n, const float *x,
                            tmb_err *err) TMB_CHECKED;
/* To the disk. */
tmb_status tmb_hidden_sync(const tmb_hidden *h, int side, tmb_err *err) TMB_CHECKED;

#endif
