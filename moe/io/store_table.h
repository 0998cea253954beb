/* store_table.h - which arrays a store has: names, shapes, digests.  Knows nothing of HDF5. */
#ifndef TMB_IO_STORE_TABLE_H
#define TMB_IO_STORE_TABLE_H

#include "moe/io/store.h"

typedef struct tmb_store_array {
    char *name;
    tmb_store_shape shape;
    char sha256[TMB_SHA256_HEX];
} tmb_store_array;

typedef struct tmb_store_table {
    tmb_store_array *arrays;
    size_t n, capacity;
} tmb_store_table;

/* A new array at the end; the pointer is good until the next one.  path is for messages. */
tmb_status tmb_store_table_add(tmb_store_table *t, tmb_store_array **out, const char *path,
                               const char *name, const tmb_store_shape *shape, tmb_err *err);
void tmb_store_table_sort(tmb_store_table *t);
/* In a sorted table; NULL when there is none. */
tmb_store_array *tmb_store_table_find(const tmb_store_table *t, const char *name);
/* The digest of the content (store.h) of a sorted table. */
tmb_status tmb_store_table_digest(const tmb_store_table *t, char out[TMB_SHA256_HEX], tmb_err *err);
void tmb_store_table_free(tmb_store_table *t);

/* Bytes of an element; 0 for texts. */
uint32_t tmb_store_width(tmb_store_type type);
/* Bytes of a row, of a shape whose whole was found to fit. */
uint64_t tmb_store_row_bytes(const tmb_store_shape *shape);
/* Bytes of the whole; false when they do not fit a file. */
bool tmb_store_whole_bytes(const tmb_store_shape *shape, uint64_t *bytes);

/* Flush the file to the disk, give it its name, flush the folder.  *renamed: the old name is gone.
 */
tmb_status tmb_store_rename(const char *from, const char *to, bool *renamed, tmb_err *err);

#endif
