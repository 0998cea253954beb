/* safetensors.c - reads one header.  The order of checks: the eight bytes, the grammar and each
 * tensor's own numbers in one pass over the text, then names, then how the tensors lie. */
#include "config.h"
#include "moe/io/safetensors.h"

#include "kernels/base/mem.h"
#include "moe/io/files.h"
#include "moe/io/gather.h"
#include "moe/io/scan.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#define REMEDY "fetch or write the file again"

typedef struct reader {
    tmb_scan s;
    tmb_header *out;
    tmb_gather *g;
    size_t n_dims, room_dims;
    const char *dtype_text; /* of the tensor before, which most often has the same */
    size_t dtype_n;
    tmb_dtype dtype;
    bool metadata;
} reader;

static tmb_status read_dtype(reader *r, tmb_tensor *t)
{
    char *text;
    size_t n;
    TRY(tmb_scan_string(&r->s, &text, &n, "a dtype in double quotes"));
    if (!r->dtype_text || n != r->dtype_n || memcmp(text, r->dtype_text, n) != 0) {
        if (!tmb_dtype_find(text, n, &r->dtype))
            return tmb_scan_fail(&r->s, text, "unknown dtype \"%s\" of tensor \"%s\"",
                                 tmb_show(text).text, tmb_show(t->name).text);
        r->dtype_text = text;
        r->dtype_n = n;
    }
    t->dtype = (uint8_t)r->dtype;
    return TMB_OK;
}

static tmb_status read_shape(reader *r, tmb_tensor *t)
{
    static const char wanted[] = "a dimension";
    TRY(tmb_scan_expect(&r->s, '[', "'[' of a shape"));
    if (tmb_scan_take(&r->s, ']')) return TMB_OK;
    do {
        uint64_t *dims = tmb_grown(r->out->dims, r->n_dims, &r->room_dims, sizeof *dims);
        if (!dims) return tmb_fail_memory(r->s.err, r->n_dims * sizeof *dims, "shapes");
        r->out->dims = dims;
        tmb_scan_space(&r->s);
        if (t->rank == TMB_RANK_MAX)
            return tmb_scan_fail(&r->s, r->s.at, "tensor \"%s\" has over %d dimensions",
                                 tmb_show(t->name).text, TMB_RANK_MAX);
        TRY(tmb_scan_u64(&r->s, &dims[r->n_dims++], wanted));
        t->rank++;
    } while (tmb_scan_take(&r->s, ','));
    return tmb_scan_expect(&r->s, ']', "',' or ']' in a shape");
}

static tmb_status read_offsets(reader *r, tmb_tensor *t)
{
    static const char wanted[] = "an offset";
    uint64_t end;
    TRY(tmb_scan_expect(&r->s, '[', "'[' of data_offsets"));
    TRY(tmb_scan_u64(&r->s, &t->begin, wanted));
    TRY(tmb_scan_expect(&r->s, ',', "',' between two offsets"));
    tmb_scan_space(&r->s);
    const char *at = r->s.at;
    TRY(tmb_scan_u64(&r->s, &end, wanted));
    TRY(tmb_scan_expect(&r->s, ']', "']' after two offsets"));
    if (end < t->begin)
        return tmb_scan_fail(&r->s, at, "tensor \"%s\" ends before it begins",
                             tmb_show(t->name).text);
    if (end > r->out->data_bytes)
        return tmb_scan_fail(&r->s, at, "tensor \"%s\" ends at data byte %llu, the file holds %llu",
                             tmb_show(t->name).text, (unsigned long long)end,
                             (unsigned long long)r->out->data_bytes);
    t->bytes = end - t->begin;
    return TMB_OK;
}

/* Shape times width must be the bytes that the offsets span. */
static tmb_status check_size(reader *r, const tmb_tensor *t, size_t first_dim)
{
    uint64_t bits = 1;
    bool fits = true;
    for (size_t i = 0; i < t->rank; i++)
        fits = fits && tmb_mul(bits, r->out->dims[first_dim + i], &bits);
    fits = fits && tmb_mul(bits, tmb_dtype_bits((tmb_dtype)t->dtype), &bits);
    const char *dtype = tmb_dtype_name((tmb_dtype)t->dtype);
    if (!fits)
        return tmb_scan_fail(&r->s, t->name, "the shape of tensor \"%s\" times %s overflows",
                             tmb_show(t->name).text, dtype);
    if (bits % 8 != 0)
        return tmb_scan_fail(&r->s, t->name, "tensor \"%s\" is %llu bits of %s, no whole bytes",
                             tmb_show(t->name).text, (unsigned long long)bits, dtype);
    if (bits / 8 != t->bytes)
        return tmb_scan_fail(&r->s, t->name,
                             "tensor \"%s\" spans %llu bytes, its shape of %s needs %llu",
                             tmb_show(t->name).text, (unsigned long long)t->bytes, dtype,
                             (unsigned long long)bits / 8);
    return TMB_OK;
}

static tmb_status read_tensor(reader *r, const char *name)
{
    enum { DTYPE = 1, SHAPE = 2, OFFSETS = 4 };
    tmb_gather *g = r->g;
    tmb_tensor *tensors = tmb_grown(g->tensors, g->n, &g->room, sizeof *tensors);
    if (!tensors) return tmb_fail_memory(r->s.err, g->n * sizeof *tensors, "tensors");
    g->tensors = tensors;
    tmb_tensor *t = &tensors[g->n++];
    *t = (tmb_tensor){.name = name, .shard = g->shard};

    int seen = 0;
    size_t first_dim = r->n_dims;
    TRY(tmb_scan_expect(&r->s, '{', "'{' of a tensor"));
    do {
        char *key;
        size_t n;
        TRY(tmb_scan_string(&r->s, &key, &n, "\"dtype\", \"shape\" or \"data_offsets\""));
        int field = n == 5 && memcmp(key, "dtype", 5) == 0            ? DTYPE
                    : n == 5 && memcmp(key, "shape", 5) == 0          ? SHAPE
                    : n == 12 && memcmp(key, "data_offsets", 12) == 0 ? OFFSETS
                                                                      : 0;
        if (!field || (seen & field))
            return tmb_scan_fail(&r->s, key, "%s field \"%s\" of tensor \"%s\"",
                                 field ? "repeated" : "unknown", tmb_show(key).text,
                                 tmb_show(name).text);
        seen |= field;
        TRY(tmb_scan_expect(&r->s, ':', "':' after a key"));
        TRY(field == DTYPE   ? read_dtype(r, t)
            : field == SHAPE ? read_shape(r, t)
                             : read_offsets(r, t));
    } while (tmb_scan_take(&r->s, ','));
    TRY(tmb_scan_expect(&r->s, '}', "',' or '}' in a tensor"));
    if (seen != (DTYPE | SHAPE | OFFSETS))
        return tmb_scan_fail(&r->s, name, "tensor \"%s\" has no \"%s\"", tmb_show(name).text,
                             !(seen & DTYPE)   ? "dtype"
                             : !(seen & SHAPE) ? "shape"
                                               : "data_offsets");
    return check_size(r, t, first_dim);
}

/* {"key": "text", …}: what it says is of no interest here, that it is well-formed is. */
static tmb_status read_metadata(reader *r)
{
    const char **keys = NULL;
    size_t n_keys = 0, room = 0, n;
    tmb_names names = {0};
    tmb_status status = tmb_scan_expect(&r->s, '{', "'{' of \"__metadata__\"");
    if (status || tmb_scan_take(&r->s, '}')) return status;
    do {
        char *key, *value;
        status = tmb_scan_string(&r->s, &key, &n, "a metadata key in double quotes");
        if (status) goto out;
        if (strlen(key) != n) {
            status = tmb_scan_fail(&r->s, key, "a NUL in a metadata key");
            goto out;
        }
        const char **more = tmb_grown(keys, n_keys, &room, sizeof *keys);
        if (!more) {
            status = tmb_fail_memory(r->s.err, n_keys * sizeof *keys, "metadata");
            goto out;
        }
        keys = more;
        keys[n_keys++] = key;
        status = tmb_scan_expect(&r->s, ':', "':' after a key");
        if (!status)
            status = tmb_scan_string(&r->s, &value, &n, "a metadata string in double quotes");
        if (status) goto out;
    } while (tmb_scan_take(&r->s, ','));
    status = tmb_scan_expect(&r->s, '}', "',' or '}' in \"__metadata__\"");
    if (status) goto out;
    uint32_t twin, at;
    status = tmb_names_add(&names, keys, sizeof *keys, 0, n_keys, &twin, &at, r->s.err);
    if (!status && twin != TMB_NAMES_NONE)
        status = tmb_scan_fail(&r->s, keys[at], "metadata key \"%s\" stands twice",
                               tmb_show(keys[at]).text);
out:
    tmb_names_free(&names);
    free(keys);
    return status;
}

static tmb_status read_all(reader *r)
{
    if (r->s.at == r->s.end || *r->s.at != '{')
        return tmb_scan_unexpected(&r->s, "a header that begins with '{'");
    r->s.at++;
    if (tmb_scan_take(&r->s, '}')) return tmb_scan_finish(&r->s);
    do {
        char *name;
        size_t n;
        TRY(tmb_scan_name(&r->s, &name, &n, TMB_NAME_MAX, "a tensor name in double quotes"));
        TRY(tmb_scan_expect(&r->s, ':', "':' after a name"));
        if (n == 12 && memcmp(name, "__metadata__", 12) == 0) {
            if (r->metadata) return tmb_scan_fail(&r->s, name, "\"__metadata__\" stands twice");
            r->metadata = true;
            TRY(read_metadata(r));
        } else {
            TRY(read_tensor(r, name));
        }
    } while (tmb_scan_take(&r->s, ','));
    TRY(tmb_scan_expect(&r->s, '}', "',' or '}' after a tensor"));
    return tmb_scan_finish(&r->s);
}

typedef struct place {
    uint64_t key; /* begin * 2, + 1 when there are bytes: an empty tensor goes before what begins
                     there */
    uint32_t i;
} place;

static int by_key(const void *a, const void *b)
{
    const place *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return x->i < y->i ? -1 : 1;
}

static uint64_t key_of(const tmb_tensor *t)
{
    return t->begin << 1 | (t->bytes > 0); /* begin is at most the size of a file, below 2^63 */
}

/* Writers nearly always list tensors by offset; then this costs one look at each. */
static tmb_status sort_by_offset(tmb_tensor *t, size_t n, tmb_err *err)
{
    size_t i = 1;
    while (i < n && key_of(&t[i - 1]) <= key_of(&t[i]))
        i++;
    if (i >= n) return TMB_OK;
    place *order = malloc(n * sizeof *order);
    if (!order) return tmb_fail_memory(err, n * sizeof *order, "the order of tensors");
    for (i = 0; i < n; i++)
        order[i] = (place){key_of(&t[i]), (uint32_t)i};
    qsort(order, n, sizeof *order, by_key);
    for (i = 0; i < n; i++) { /* follow each cycle once; a place that is done holds its own index */
        if (order[i].i == i) continue;
        tmb_tensor kept = t[i];
        size_t to = i;
        for (size_t from = order[i].i; from != i; from = order[to].i) {
            t[to] = t[from];
            order[to].i = (uint32_t)to;
            to = from;
        }
        t[to] = kept;
        order[to].i = (uint32_t)to;
    }
    free(order);
    return TMB_OK;
}

static tmb_status check_names(reader *r, size_t first)
{
    tmb_gather *g = r->g;
    uint32_t twin, at;
    TRY(tmb_names_add(&g->names, g->tensors, sizeof *g->tensors, first, g->n, &twin, &at,
                      r->s.err));
    if (twin == TMB_NAMES_NONE) return TMB_OK;
    const char *name = g->tensors[at].name;
    if (twin < first)
        return tmb_scan_fail(&r->s, name, "tensor \"%s\" is in %s too", tmb_show(name).text,
                             g->files[g->tensors[twin].shard]);
    if (g->tensors[twin].name > name) name = g->tensors[twin].name;
    return tmb_scan_fail(&r->s, name, "tensor \"%s\" stands twice", tmb_show(name).text);
}

/* One behind the other from the first data byte to the last. */
static tmb_status check_layout(reader *r, size_t first)
{
    uint64_t end = 0;
    for (size_t i = first; i < r->g->n; i++) {
        const tmb_tensor *t = &r->g->tensors[i];
        if (t->begin != end)
            return tmb_scan_fail(&r->s, t->name,
                                 "tensor \"%s\" begins at data byte %llu, %s byte %llu",
                                 tmb_show(t->name).text, (unsigned long long)t->begin,
                                 t->begin > end ? "a hole from" : "overlapping what ends at",
                                 (unsigned long long)end);
        end += t->bytes; /* at most data_bytes, checked when it was read */
    }
    if (end != r->out->data_bytes)
        return tmb_fail(r->s.err, TMB_EDATA,
                        "%s: the tensors end at data byte %llu, the file at %llu; " REMEDY,
                        r->s.file, (unsigned long long)end, (unsigned long long)r->out->data_bytes);
    return TMB_OK;
}

tmb_status tmb_header_gather(tmb_header *out, tmb_gather *g, char *text, size_t n,
                             uint64_t data_bytes, tmb_err *err)
{
    *out = (tmb_header){.text = text, .header_bytes = n, .data_bytes = data_bytes};
    reader r = {.s = {.begin = text,
                      .at = text,
                      .end = text + n,
                      .base = 8,
                      .file = g->files[g->shard],
                      .remedy = REMEDY,
                      .err = err},
                .out = out,
                .g = g};
    size_t first = g->n;
    TRY(read_all(&r));
    out->n_tensors = g->n - first;
    size_t dim = 0; /* the pool no longer moves */
    for (size_t i = first; i < g->n; i++) {
        if (g->tensors[i].rank) g->tensors[i].shape = &out->dims[dim];
        dim += g->tensors[i].rank;
    }
    if (out->n_tensors > 1) TRY(sort_by_offset(&g->tensors[first], out->n_tensors, err));
    TRY(check_names(&r, first));
    return check_layout(&r, first);
}

void tmb_gather_free(tmb_gather *g)
{
    tmb_names_free(&g->names);
    free(g->tensors);
    *g = (tmb_gather){0};
}

tmb_status tmb_header_load(char **text, size_t *n, uint64_t *data_bytes, int fd,
                           uint64_t file_bytes, const char *name, tmb_err *err)
{
    char head[16] = {0};
    size_t peek = file_bytes < sizeof head ? (size_t)file_bytes : sizeof head;
    TRY(tmb_file_pread(fd, head, peek, 0, name, err));
    if (memcmp(head, "version https://", 16) == 0)
        return tmb_fail(err, TMB_EDATA,
                        "%s: a Git LFS pointer in place of the weights; run git lfs pull", name);
    if (file_bytes < 8)
        return tmb_fail(err, TMB_EDATA,
                        "%s: has %llu bytes, fewer than the 8 of its header's length; " REMEDY,
                        name, (unsigned long long)file_bytes);
    uint64_t size;
    memcpy(&size, head, 8);
    size = le64toh(size);
    if (size > TMB_HEADER_MAX)
        return tmb_fail(
            err, TMB_EDATA,
            "%s: byte 0: a header of %llu bytes, %u are allowed; is this safetensors? " REMEDY,
            name, (unsigned long long)size, TMB_HEADER_MAX);
    if (size > file_bytes - 8)
        return tmb_fail(err, TMB_EDATA,
                        "%s: byte 0: a header of %llu bytes in a file of %llu; " REMEDY, name,
                        (unsigned long long)size, (unsigned long long)file_bytes);
    char *bytes = malloc((size_t)size + 1);
    if (!bytes) return tmb_fail_memory(err, size + 1, "a header");
    tmb_status status = tmb_file_pread(fd, bytes, (size_t)size, 8, name, err);
    if (status) {
        free(bytes);
        return status;
    }
    *text = bytes;
    *n = (size_t)size;
    *data_bytes = file_bytes - 8 - size;
    return TMB_OK;
}

tmb_status tmb_header_parse(tmb_header *out, char *text, size_t n, uint64_t data_bytes,
                            const char *name, tmb_err *err)
{
    tmb_gather g = {.files = &name};
    tmb_status status = tmb_header_gather(out, &g, text, n, data_bytes, err);
    out->tensors = g.tensors;
    g.tensors = NULL;
    tmb_gather_free(&g);
    if (status) tmb_header_free(out);
    return status;
}

tmb_status tmb_header_read(tmb_header *out, int fd, uint64_t file_bytes, const char *name,
                           tmb_err *err)
{
    char *text;
    size_t n;
    uint64_t data_bytes;
    TRY(tmb_header_load(&text, &n, &data_bytes, fd, file_bytes, name, err));
    return tmb_header_parse(out, text, n, data_bytes, name, err);
}

void tmb_header_free(tmb_header *header)
{
    free(header->tensors);
    free(header->dims);
    free(header->text);
    *header = (tmb_header){0};
}
