/* store.h - named arrays in one HDF5 file: complete or not there, and checked when read.
 *
 * A store is a tree of groups and arrays ("layers/003/router/load").  Every array carries the
 * SHA-256 of its content (little-endian, row-major), and the file that of all of them:
 *     SHA-256 of the lines "NAME TYPE D0xD1 SHA256\n", sorted by bytes, of all arrays but those
 *     below "manifest", which may differ between runs that learnt the same
 * so two stores have the same content exactly when their digests agree.  Equal calls write equal
 * bytes: no times, fixed format bounds (HDF5 1.10).
 *
 * Reading trusts nothing: links other than hard ones, types other than those below, filters other
 * than Fletcher32, external or virtual storage, more bytes than the file has, deep nests and a
 * digest that does not agree are refused.  The HDF5 library itself has had memory-safety bugs: read
 * only files of your own (SECURITY.md).
 *
 * HDF5 keeps state of its own, so one thread of a process uses stores at a time. */
#ifndef TMB_IO_STORE_H
#define TMB_IO_STORE_H

#include "kernels/base/err.h"
#include "moe/io/files.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct tmb_store tmb_store;

typedef enum tmb_store_type {
    TMB_STORE_U8,
    TMB_STORE_I32,
    TMB_STORE_U32,
    TMB_STORE_I64,
    TMB_STORE_U64,
    TMB_STORE_F32,
    TMB_STORE_F64,
    TMB_STORE_TEXT, /* UTF-8 of fixed width, padded with NUL */
    TMB_STORE_TYPES
} tmb_store_type;

enum {
    TMB_STORE_RANK = 4,
    TMB_STORE_DEPTH = 8,
    TMB_STORE_ARRAYS = 1 << 20,
    TMB_STORE_NAME = 256,     /* bytes of a whole name */
    TMB_STORE_WIDTH = 1 << 20 /* bytes of a text */
};

typedef struct tmb_store_shape {
    tmb_store_type type;
    int rank; /* 1 … TMB_STORE_RANK */
    uint64_t dims[TMB_STORE_RANK];
    uint32_t width; /* bytes of an element */
} tmb_store_shape;

/* ---- writing */

/* Start a file that will be `path`; kind and version say what it is.  TMB_ECREATE. */
tmb_status tmb_store_create(tmb_store **out, const char *path, const char *kind, uint32_t version,
                            tmb_err *err) TMB_CHECKED;
/* A whole array: data [dims[0]] … [dims[rank - 1]] in row-major order. */
tmb_status tmb_store_put(tmb_store *store, const char *name, tmb_store_type type, int rank,
                         const uint64_t *dims, const void *data, tmb_err *err) TMB_CHECKED;
/* Texts [n], as wide as the longest. */
tmb_status tmb_store_put_texts(tmb_store *store, const char *name, const char *const *texts,
                               uint64_t n, tmb_err *err) TMB_CHECKED;
/* The same in pieces of rows (of the first dimension): begin, more …, end. */
tmb_status tmb_store_begin(tmb_store *store, const char *name, tmb_store_type type, int rank,
                           const uint64_t *dims, tmb_err *err) TMB_CHECKED;
tmb_status tmb_store_more(tmb_store *store, const void *rows, uint64_t n, tmb_err *err) TMB_CHECKED;
tmb_status tmb_store_end(tmb_store *store, tmb_err *err) TMB_CHECKED;
/* Close, flush to the disk, rename to its name, flush the folder. */
tmb_status tmb_store_publish(tmb_store *store, tmb_err *err) TMB_CHECKED;

/* ---- reading */

/* Open, and check everything but the arrays' bytes.  TMB_ENOINPUT, TMB_EDATA. */
tmb_status tmb_store_open(tmb_store **out, const char *path, const char *kind, uint32_t version,
                          tmb_err *err) TMB_CHECKED;
/* False when there is no such array. */
bool tmb_store_find(const tmb_store *store, const char *name, tmb_store_shape *shape);
/* The i-th array's name, in the order of bytes; NULL past the last. */
const char *tmb_store_at(const tmb_store *store, size_t i);
/* The array's bytes into out, which has room for all of them.  It must have this type and shape;
 * dims[i] = UINT64_MAX takes any.  The digest is checked. */
tmb_status tmb_store_get(tmb_store *store, const char *name, tmb_store_type type, int rank,
                         const uint64_t *dims, void *out, tmb_err *err) TMB_CHECKED;
/* The same in pieces: begin as above, then rows until all were taken, then end, which checks. */
tmb_status tmb_store_get_begin(tmb_store *store, const char *name, tmb_store_type type, int rank,
                               const uint64_t *dims, tmb_err *err) TMB_CHECKED;
tmb_status tmb_store_get_more(tmb_store *store, void *rows, uint64_t n, tmb_err *err) TMB_CHECKED;
tmb_status tmb_store_get_end(tmb_store *store, tmb_err *err) TMB_CHECKED;
/* "NAME: an array that must be there is missing" with the file. */
tmb_status tmb_store_missing(const tmb_store *store, const char *name, tmb_err *err);

/* Of the content, hex; known after open and after publish. */
const char *tmb_store_digest(const tmb_store *store);
const char *tmb_store_path(const tmb_store *store);
uint32_t tmb_store_version(const tmb_store *store);

/* Gives everything back; what was not published is removed.  NULL is fine. */
void tmb_store_close(tmb_store *store);

#endif
