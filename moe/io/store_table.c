/* store_table.c - which arrays a store has, and the digest of them all. */
#include "config.h"
#include "moe/io/store_table.h"

#include "kernels/base/mem.h"
#include "moe/io/calls.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const type_names[] = {"u8", "i32", "u32", "i64", "u64", "f32", "f64", "text"};

uint32_t tmb_store_width(tmb_store_type type)
{
    static const uint32_t widths[] = {1, 4, 4, 8, 8, 4, 8, 0};
    return widths[type];
}

uint64_t tmb_store_row_bytes(const tmb_store_shape *shape)
{
    uint64_t n = shape->width;
    for (int d = 1; d < shape->rank; d++)
        n *= shape->dims[d];
    return n;
}

bool tmb_store_whole_bytes(const tmb_store_shape *shape, uint64_t *bytes)
{
    *bytes = shape->width;
    for (int d = 0; d < shape->rank; d++)
        if (!tmb_mul(*bytes, shape->dims[d], bytes)) return false;
    return *bytes < INT64_MAX;
}

tmb_status tmb_store_table_add(tmb_store_table *t, tmb_store_array **out, const char *path,
                               const char *name, const tmb_store_shape *shape, tmb_err *err)
{
    if (t->n == TMB_STORE_ARRAYS)
        return tmb_fail(err, TMB_EDATA, "%s: more than %d arrays", path, TMB_STORE_ARRAYS);
    if (t->n == t->capacity) {
        size_t more = t->capacity ? 2 * t->capacity : 64;
        tmb_store_array *a = realloc(t->arrays, more * sizeof *a);
        if (!a) return tmb_fail_memory(err, more * sizeof *a, "the names of arrays");
        t->arrays = a;
        t->capacity = more;
    }
    tmb_store_array *a = &t->arrays[t->n];
    *a = (tmb_store_array){.name = strdup(name), .shape = *shape};
    if (!a->name) return tmb_fail_memory(err, strlen(name), "the names of arrays");
    t->n++;
    *out = a;
    return TMB_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const tmb_store_array *)a)->name, ((const tmb_store_array *)b)->name);
}

void tmb_store_table_sort(tmb_store_table *t)
{
    if (t->n) qsort(t->arrays, t->n, sizeof *t->arrays, by_name);
}

tmb_store_array *tmb_store_table_find(const tmb_store_table *t, const char *name)
{
    tmb_store_array key = {.name = (char *)(uintptr_t)name};
    return t->n ? bsearch(&key, t->arrays, t->n, sizeof key, by_name) : NULL;
}

static bool in_manifest(const char *name)
{
    size_t n = strlen("manifest");
    return !strncmp(name, "manifest", n) && (!name[n] || name[n] == '/');
}

tmb_status tmb_store_table_digest(const tmb_store_table *t, char out[TMB_SHA256_HEX], tmb_err *err)
{
    char line[TMB_STORE_NAME + 256];
    tmb_sha256_stream *sum;
    TRY(tmb_sha256_open(&sum, err));
    tmb_status status = TMB_OK;
    for (size_t i = 0; i < t->n && !status; i++) {
        const tmb_store_array *a = &t->arrays[i];
        if (in_manifest(a->name)) continue;
        int n = snprintf(line, sizeof line, "%s %s ", a->name, type_names[a->shape.type]);
        for (int d = 0; d < a->shape.rank; d++)
            n += snprintf(line + n, sizeof line - (size_t)n, "%s%llu", d ? "x" : "",
                          (unsigned long long)a->shape.dims[d]);
        n += snprintf(line + n, sizeof line - (size_t)n, " %s\n", a->sha256);
        status = tmb_sha256_add(sum, line, (size_t)n, err);
    }
    if (!status) status = tmb_sha256_end(sum, out, err);
    tmb_sha256_close(sum);
    return status;
}

void tmb_store_table_free(tmb_store_table *t)
{
    for (size_t i = 0; i < t->n; i++)
        free(t->arrays[i].name);
    free(t->arrays);
    *t = (tmb_store_table){0};
}

tmb_status tmb_store_rename(const char *from, const char *to, bool *renamed, tmb_err *err)
{
    const char *slash = strrchr(to, '/');
    char *folder = slash ? strndup(to, (size_t)(slash - to) + 1) : strdup(".");
    int fd = tmb_openat(AT_FDCWD, from, O_RDONLY | O_CLOEXEC, 0);
    int dir = folder ? tmb_openat(AT_FDCWD, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0) : -1;
    tmb_status status = TMB_OK;
    *renamed = false;
    if (fd < 0 || dir < 0 || tmb_fsync(fd))
        status = tmb_fail_errno(err, TMB_EIO, "%s: cannot flush to the disk", to);
    else if (rename(from, to))
        status = tmb_fail_errno(err, TMB_ECREATE, "%s: cannot rename to this name", to);
    else {
        *renamed = true;
        if (tmb_fsync_folder(dir))
            status = tmb_fail_errno(err, TMB_EIO, "%s: cannot flush the folder", to);
    }
    if (fd >= 0) close(fd);
    if (dir >= 0) close(dir);
    free(folder);
    return status;
}
