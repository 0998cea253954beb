/* docs_array.c - documents that are rows of an array: .npy, .bin, .safetensors.
 *
 * Nothing but the header is read before a piece of a row is wanted. */
#include "config.h"
#include "moe/tokens/docs.h"

#include "kernels/base/dtype.h"
#include "kernels/base/mem.h"
#include "moe/io/safetensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 4096, NPY_HEADER_MAX = 1 << 16 };

typedef struct rows {
    uint64_t begin;  /* of the first element in the file */
    uint64_t length; /* of a row */
    uint8_t bytes;   /* of an element: 1, 2, 4, 8 */
    bool is_signed;
    uint32_t *low, *high; /* [n]: where the tokens of a row begin and end; NULL: everywhere */
    uint64_t doc;         /* at hand */
} rows;

static void close_rows(tmb_docs *d)
{
    rows *r = d->own;
    free(r->low);
    free(r->high);
    free(r);
}

static tmb_status open_row(tmb_docs *d, uint64_t i, uint64_t *tokens, tmb_err *err)
{
    rows *r = d->own;
    (void)err;
    r->doc = i;
    *tokens = r->low ? r->high[i] - r->low[i] : r->length;
    return TMB_OK;
}

/* Element at p as a number; one that is no int32 becomes -1, which no vocabulary has. */
static int32_t element(const rows *r, const uint8_t *p)
{
    uint64_t v = 0;
    for (int b = r->bytes - 1; b >= 0; b--)
        v = v << 8 | p[b];
    unsigned bits = 8u * r->bytes;
    if (r->is_signed && v >> (bits - 1)) return -1;
    return v > INT32_MAX ? -1 : (int32_t)v;
}

static tmb_status fetch(const tmb_docs *d, const rows *r, uint64_t at, size_t count, int32_t *out,
                        tmb_err *err)
{
    uint8_t raw[CHUNK * 8];
    for (size_t done = 0; done < count;) {
        size_t n = count - done < CHUNK ? count - done : CHUNK;
        TRY(tmb_file_pread(d->fd, raw, n * r->bytes, r->begin + (at + done) * r->bytes, d->path,
                           err));
        for (size_t i = 0; i < n; i++)
            out[done + i] = element(r, raw + i * r->bytes);
        done += n;
    }
    return TMB_OK;
}

static tmb_status read_row(tmb_docs *d, uint64_t from, size_t count, int32_t *out, tmb_err *err)
{
    const rows *r = d->own;
    uint64_t first = from + (r->low ? r->low[r->doc] : 0);
    TRY(fetch(d, r, r->doc * r->length + first, count, out, err));
    return tmb_docs_check(d, r->doc, first, out, count, err);
}

static tmb_status start(tmb_docs *d, tmb_err *err)
{
    d->own = calloc(1, sizeof(rows));
    if (!d->own) return tmb_fail_memory(err, sizeof(rows), "a source");
    d->close = close_rows;
    d->read = read_row;
    d->open_doc = open_row;
    return TMB_OK;
}

/* The shape [rank], rank 1 or 2, over file_bytes from r->begin on. */
static tmb_status set_shape(tmb_docs *d, const uint64_t *shape, int rank, tmb_err *err)
{
    rows *r = d->own;
    uint64_t n, bytes;
    if (rank != 1 && rank != 2)
        return tmb_fail(err, TMB_EDATA, "%s: ids of rank %d; give [n] or [n, length]", d->path,
                        rank);
    d->n = rank == 2 ? shape[0] : 1;
    r->length = shape[rank - 1];
    if (!d->n || !r->length)
        return tmb_fail(err, TMB_EDATA, "%s: no ids; give a file with data", d->path);
    if (!tmb_mul(d->n, r->length, &n) || !tmb_mul(n, r->bytes, &bytes) ||
        !tmb_add(bytes, r->begin, &bytes) || bytes > d->file_bytes || r->length > UINT32_MAX ||
        d->n > UINT32_MAX)
        return tmb_fail(err, TMB_EDATA,
                        "%s: %" PRIu64 " rows of %" PRIu64 " ids do not fit into %" PRIu64
                        " bytes; fetch it again",
                        d->path, d->n, r->length, d->file_bytes);
    return TMB_OK;
}

/* --- .bin ---------------------------------------------------------------------------------------
 */

tmb_status tmb_docs_bin(tmb_docs *d, tmb_err *err)
{
    TRY(start(d, err));
    rows *r = d->own;
    r->bytes = d->context->o->ids_type == TMB_IDS_U16 ? 2 : 4;
    if (d->file_bytes % r->bytes)
        return tmb_fail(err, TMB_EDATA,
                        "%s: %" PRIu64 " bytes are no whole number of uint%d; say the other "
                        "--ids-type",
                        d->path, d->file_bytes, 8 * r->bytes);
    uint64_t n = d->file_bytes / r->bytes;
    return set_shape(d, &n, 1, err);
}

/* --- .npy (NumPy, "NPY format", versions 1.0 to 3.0)
 * ---------------------------------------------- */

static tmb_status bad_npy(const tmb_docs *d, const char *what, tmb_err *err)
{
    return tmb_fail(err, TMB_EDATA,
                    "%s: %s; save it with numpy.save as integers [n] or [n, length]", d->path,
                    what);
}

/* The text behind 'KEY': in the header. */
static const char *npy_value(const char *header, const char *key)
{
    const char *p = strstr(header, key);
    if (!p) return NULL;
    p += strlen(key);
    while (*p == ' ' || *p == ':')
        p++;
    return p;
}

static tmb_status npy_shape(tmb_docs *d, const char *p, tmb_err *err)
{
    uint64_t shape[2] = {0};
    int rank = 0;
    if (!p || *p != '(') return bad_npy(d, "no shape in the header", err);
    for (p++; *p && *p != ')';) {
        char *end;
        p += strspn(p, " ");
        if (*p < '0' || *p > '9') return bad_npy(d, "a shape that is none", err);
        unsigned long long v = strtoull(p, &end, 10);
        if (rank == 2) return bad_npy(d, "an array of more than two dimensions", err);
        shape[rank++] = v;
        p = end + strspn(end, " ");
        if (*p == ',') p++;
        p += strspn(p, " ");
    }
    return set_shape(d, shape, rank, err);
}

tmb_status tmb_docs_npy(tmb_docs *d, tmb_err *err)
{
    TRY(start(d, err));
    rows *r = d->own;
    uint8_t head[12];
    if (d->file_bytes < sizeof head) return bad_npy(d, "too short for a .npy file", err);
    TRY(tmb_file_pread(d->fd, head, sizeof head, 0, d->path, err));
    if (memcmp(head, "\x93NUMPY", 6) != 0 || head[6] < 1 || head[6] > 3)
        return bad_npy(d, "no .npy file", err);
    size_t at = head[6] == 1 ? 10 : 12;
    uint64_t n = (uint64_t)head[8] | (uint64_t)head[9] << 8;
    if (head[6] > 1) n |= (uint64_t)head[10] << 16 | (uint64_t)head[11] << 24;
    if (n > NPY_HEADER_MAX || at + n > d->file_bytes)
        return bad_npy(d, "a header that is longer than the file", err);
    char *header = calloc(1, (size_t)n + 1);
    if (!header) return tmb_fail_memory(err, n, "a header");
    tmb_status status = tmb_file_pread(d->fd, header, (size_t)n, at, d->path, err);
    const char *type = npy_value(header, "'descr'"), *order = npy_value(header, "'fortran_order'");
    r->begin = at + n;
    if (!status &&
        (!type || type[0] != '\'' || !type[1] || !strchr("<|=", type[1]) || !type[2] ||
         !strchr("iu", type[2]) || !type[3] || !strchr("1248", type[3]) || type[4] != '\''))
        status = bad_npy(d, "elements that are no little-endian integers", err);
    if (!status && (!order || strncmp(order, "False", 5) != 0))
        status = bad_npy(d, "an array in Fortran order", err);
    if (!status) {
        r->is_signed = type[2] == 'i';
        r->bytes = (uint8_t)(type[3] - '0');
        status = npy_shape(d, npy_value(header, "'shape'"), err);
    }
    free(header);
    return status;
}

/* --- .safetensors
 * --------------------------------------------------------------------------------- */

static const tmb_tensor *find(const tmb_header *h, const char *name)
{
    for (size_t i = 0; i < h->n_tensors; i++)
        if (strcmp(h->tensors[i].name, name) == 0) return &h->tensors[i];
    return NULL;
}

/* r's element type by a tensor's; false when it is no integer. */
static bool set_type(rows *r, const tmb_tensor *t)
{
    const char *name = tmb_dtype_name((tmb_dtype)t->dtype);
    unsigned bits = tmb_dtype_bits((tmb_dtype)t->dtype);
    bool boolean = t->dtype == TMB_BOOL;
    if (!boolean && ((*name != 'I' && *name != 'U') || bits < 8)) return false;
    r->is_signed = *name == 'I';
    r->bytes = (uint8_t)(boolean ? 1 : bits / 8);
    return true;
}

/* The run of ones in a row of attention_mask. */
static tmb_status mask_row(tmb_docs *d, rows *ids, uint64_t i, const int32_t *row, tmb_err *err)
{
    uint64_t n = ids->length, low = 0, high = n;
    while (low < n && !row[low])
        low++;
    while (high > low && !row[high - 1])
        high--;
    for (uint64_t k = low; k < high; k++)
        if (row[k] != 1)
            return tmb_fail(err, TMB_EDATA,
                            "%s: attention_mask, row %" PRIu64 ": not one run of ones; padding "
                            "stands at either end alone",
                            d->path, i + 1);
    ids->low[i] = (uint32_t)low;
    ids->high[i] = (uint32_t)high;
    return TMB_OK;
}

/* low and high of each row by `attention_mask` or `lengths`, read through the same code as ids. */
static tmb_status read_ends(tmb_docs *d, const tmb_header *h, uint64_t data, tmb_err *err)
{
    rows *ids = d->own, other = {0};
    const tmb_tensor *mask = find(h, "attention_mask"), *t = mask ? mask : find(h, "lengths");
    if (!t) return TMB_OK;
    bool fits = mask ? t->rank == 2 && t->shape[0] == d->n && t->shape[1] == ids->length
                     : t->rank == 1 && t->shape[0] == d->n;
    if (!fits || !set_type(&other, t))
        return tmb_fail(err, TMB_EDATA, "%s: %s does not fit to input_ids; give integers %s",
                        d->path, t->name, mask ? "[n, length]" : "[n]");
    other.begin = data + t->begin;
    other.length = mask ? ids->length : 1;
    ids->low = calloc(d->n, sizeof *ids->low);
    ids->high = calloc(d->n, sizeof *ids->high);
    int32_t *row = malloc(other.length * sizeof *row);
    tmb_status status = TMB_OK;
    if (!ids->low || !ids->high || !row) status = tmb_fail_memory(err, d->n * 8, "rows");
    for (uint64_t i = 0; i < d->n && !status; i++) {
        status = fetch(d, &other, i * other.length, (size_t)other.length, row, err);
        if (status) break;
        if (mask)
            status = mask_row(d, ids, i, row, err);
        else if (row[0] < 0 || (uint64_t)row[0] > ids->length)
            status =
                tmb_fail(err, TMB_EDATA,
                         "%s: lengths, row %" PRIu64 ": %d is not in 0 to %" PRIu64 "; correct it",
                         d->path, i + 1, row[0], ids->length);
        else
            ids->high[i] = (uint32_t)row[0];
    }
    free(row);
    return status;
}

tmb_status tmb_docs_safetensors(tmb_docs *d, tmb_err *err)
{
    tmb_header h;
    TRY(start(d, err));
    rows *r = d->own;
    TRY(tmb_header_read(&h, d->fd, d->file_bytes, d->path, err));
    const tmb_tensor *t = find(&h, "input_ids");
    uint64_t data = 8 + h.header_bytes;
    tmb_status status = TMB_OK;
    if (!t)
        status = tmb_fail(err, TMB_EDATA, "%s: no tensor input_ids; give one, integers [n, length]",
                          d->path);
    else if (!set_type(r, t) || t->dtype == TMB_BOOL)
        status = tmb_fail(err, TMB_EDATA, "%s: input_ids is %s; give integers", d->path,
                          tmb_dtype_name((tmb_dtype)t->dtype));
    if (!status) {
        r->begin = data + t->begin;
        status = set_shape(d, t->shape, t->rank, err);
    }
    if (!status) status = read_ends(d, &h, data, err);
    tmb_header_free(&h);
    return status;
}
