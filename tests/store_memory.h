/* store_memory.h - stores (moe/io/store.h) in memory, for a program that links no moe/io/store.c:
 * what stands behind HDF5 is reached a thousand times as often as through it.
 *
 * A store is opened by what store_given points to, whatever the path; what is published goes to
 * store_made.  Shapes are held against what moe/io/store.c lets through: a whole of at most
 * STORE_BYTES, the size of the file. */
#ifndef STORE_MEMORY_H
#define STORE_MEMORY_H

#include "moe/io/store_table.h"
#include "tests/fuzz.h"

#include <string.h>

enum { STORE_ARRAYS = 256, STORE_BYTES = 1 << 16 };

typedef struct memory_array {
    char name[TMB_STORE_NAME];
    tmb_store_shape shape;
    uint64_t bytes;
    uint8_t *data; /* [bytes] */
} memory_array;

typedef struct memory {
    memory_array arrays[STORE_ARRAYS]; /* in the order of names once it is published or given */
    size_t n;
} memory;

struct tmb_store {
    memory *m;
    memory_array *now;
    uint64_t at;  /* bytes moved */
    bool writing; /* owns m until it is published */
};

static const memory *store_given;
static memory *store_made;

static inline void memory_free(memory *m)
{
    for (size_t i = 0; m && i < m->n; i++)
        free(m->arrays[i].data);
    free(m);
}

static inline int memory_order(const void *a, const void *b)
{
    return strcmp(((const memory_array *)a)->name, ((const memory_array *)b)->name);
}

static inline memory_array *memory_find(const memory *m, const char *name)
{
    for (size_t i = 0; i < m->n; i++)
        if (strcmp(m->arrays[i].name, name) == 0) return (memory_array *)(uintptr_t)&m->arrays[i];
    return NULL;
}

static inline tmb_status memory_bad(const char *name, const char *what, tmb_err *err)
{
    return tmb_fail(err, TMB_EDATA, "f: %s: %s", name, what);
}

/* ---- writing */

tmb_status tmb_store_create(tmb_store **out, const char *path, const char *kind, uint32_t version,
                            tmb_err *err)
{
    (void)path, (void)kind, (void)version, (void)err;
    MUST((*out = calloc(1, sizeof **out)) && ((*out)->m = calloc(1, sizeof *(*out)->m)));
    (*out)->writing = true;
    return TMB_OK;
}

static inline void memory_begin(tmb_store *s, const char *name, tmb_store_shape shape)
{
    MUST(s->m->n < STORE_ARRAYS && strlen(name) < TMB_STORE_NAME && !memory_find(s->m, name));
    s->now = &s->m->arrays[s->m->n++];
    strcpy(s->now->name, name);
    s->now->shape = shape;
    s->at = 0;
    MUST(tmb_store_whole_bytes(&shape, &s->now->bytes));
    MUST((s->now->data = malloc(s->now->bytes ? s->now->bytes : 1)));
}

tmb_status tmb_store_begin(tmb_store *s, const char *name, tmb_store_type type, int rank,
                           const uint64_t *dims, tmb_err *err)
{
    tmb_store_shape shape = {.type = type, .rank = rank, .width = tmb_store_width(type)};
    (void)err;
    memcpy(shape.dims, dims, (size_t)rank * sizeof *dims);
    memory_begin(s, name, shape);
    return TMB_OK;
}

tmb_status tmb_store_more(tmb_store *s, const void *rows, uint64_t n, tmb_err *err)
{
    uint64_t bytes = tmb_store_row_bytes(&s->now->shape) * n;
    (void)err;
    MUST(bytes <= s->now->bytes - s->at);
    if (bytes) memcpy(s->now->data + s->at, rows, bytes);
    s->at += bytes;
    return TMB_OK;
}

tmb_status tmb_store_end(tmb_store *s, tmb_err *err)
{
    (void)err;
    MUST(s->at == s->now->bytes);
    return TMB_OK;
}

tmb_status tmb_store_put(tmb_store *s, const char *name, tmb_store_type type, int rank,
                         const uint64_t *dims, const void *data, tmb_err *err)
{
    TRY(tmb_store_begin(s, name, type, rank, dims, err));
    TRY(tmb_store_more(s, data, dims[0], err));
    return tmb_store_end(s, err);
}

tmb_status tmb_store_put_texts(tmb_store *s, const char *name, const char *const *texts, uint64_t n,
                               tmb_err *err)
{
    tmb_store_shape shape = {.type = TMB_STORE_TEXT, .rank = 1, .dims = {n}, .width = 1};
    (void)err;
    for (uint64_t i = 0; i < n; i++)
        if (strlen(texts[i]) > shape.width) shape.width = (uint32_t)strlen(texts[i]);
    memory_begin(s, name, shape);
    memset(s->now->data, 0, s->now->bytes);
    for (uint64_t i = 0; i < n; i++)
        memcpy(s->now->data + i * shape.width, texts[i], strlen(texts[i]));
    return TMB_OK;
}

tmb_status tmb_store_publish(tmb_store *s, tmb_err *err)
{
    (void)err;
    qsort(s->m->arrays, s->m->n, sizeof *s->m->arrays, memory_order);
    memory_free(store_made);
    store_made = s->m;
    s->m = NULL;
    return TMB_OK;
}

/* ---- reading */

tmb_status tmb_store_open(tmb_store **out, const char *path, const char *kind, uint32_t version,
                          tmb_err *err)
{
    (void)path, (void)kind, (void)version;
    *out = NULL;
    for (size_t i = 0; i < store_given->n; i++) {
        const memory_array *a = &store_given->arrays[i];
        uint64_t bytes;
        if (!tmb_store_whole_bytes(&a->shape, &bytes) || bytes > STORE_BYTES)
            return memory_bad(a->name, "it says it has more bytes than the file", err);
        MUST(bytes == a->bytes);
        if (i && strcmp(a[-1].name, a->name) == 0) return memory_bad(a->name, "twice", err);
    }
    MUST((*out = calloc(1, sizeof **out)));
    (*out)->m = (memory *)(uintptr_t)store_given;
    return TMB_OK;
}

bool tmb_store_find(const tmb_store *s, const char *name, tmb_store_shape *shape)
{
    const memory_array *a = memory_find(s->m, name);
    if (a && shape) *shape = a->shape;
    return a != NULL;
}

const char *tmb_store_at(const tmb_store *s, size_t i)
{
    return i < s->m->n ? s->m->arrays[i].name : NULL;
}

tmb_status tmb_store_missing(const tmb_store *s, const char *name, tmb_err *err)
{
    (void)s;
    return memory_bad(name, "is missing", err);
}

tmb_status tmb_store_get_begin(tmb_store *s, const char *name, tmb_store_type type, int rank,
                               const uint64_t *dims, tmb_err *err)
{
    if (!(s->now = memory_find(s->m, name))) return tmb_store_missing(s, name, err);
    bool fits = s->now->shape.type == type && s->now->shape.rank == rank;
    for (int d = 0; d < rank && fits; d++)
        fits = dims[d] == UINT64_MAX || dims[d] == s->now->shape.dims[d];
    s->at = 0;
    return fits ? TMB_OK : memory_bad(name, "has another type or shape than it must", err);
}

tmb_status tmb_store_get_more(tmb_store *s, void *rows, uint64_t n, tmb_err *err)
{
    uint64_t bytes = tmb_store_row_bytes(&s->now->shape) * n;
    (void)err;
    MUST(bytes <= s->now->bytes - s->at);
    if (bytes) memcpy(rows, s->now->data + s->at, bytes);
    s->at += bytes;
    return TMB_OK;
}

tmb_status tmb_store_get_end(tmb_store *s, tmb_err *err)
{
    (void)err;
    MUST(s->at == s->now->bytes);
    return TMB_OK;
}

tmb_status tmb_store_get(tmb_store *s, const char *name, tmb_store_type type, int rank,
                         const uint64_t *dims, void *out, tmb_err *err)
{
    TRY(tmb_store_get_begin(s, name, type, rank, dims, err));
    TRY(tmb_store_get_more(s, out, s->now->shape.dims[0], err));
    return tmb_store_get_end(s, err);
}

const char *tmb_store_digest(const tmb_store *s)
{
    (void)s;
    return "";
}

const char *tmb_store_path(const tmb_store *s)
{
    (void)s;
    return "f";
}

uint32_t tmb_store_version(const tmb_store *s)
{
    (void)s;
    return 1;
}

void tmb_store_close(tmb_store *s)
{
    if (s && s->writing) memory_free(s->m);
    free(s);
}

#endif
