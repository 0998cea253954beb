/* reference.h - the tensors of a reference.safetensors, in memory. */
#ifndef REFERENCE_H
#define REFERENCE_H

#include "moe/io/files.h"
#include "moe/io/safetensors.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct reference {
    tmb_header header;
    char *data;
} reference;

static inline tmb_status reference_open(reference *r, const char *path, tmb_err *err)
{
    *r = (reference){.data = NULL};
    int fd = open(path, O_RDONLY);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) return tmb_fail_errno(err, TMB_ENOINPUT, "%s", path);
    tmb_status status = tmb_header_read(&r->header, fd, (uint64_t)st.st_size, path, err);
    if (!status) {
        r->data = malloc(r->header.data_bytes + 1);
        status = tmb_file_pread(fd, r->data, r->header.data_bytes, 8 + r->header.header_bytes, path,
                                err);
    }
    close(fd);
    return status;
}

static inline void reference_close(reference *r)
{
    free(r->data);
    tmb_header_free(&r->header);
}

/* NULL when there is none. */
static inline const void *reference_find(const reference *r, const char *name,
                                         const tmb_tensor **tensor)
{
    for (size_t i = 0; i < r->header.n_tensors; i++)
        if (!strcmp(r->header.tensors[i].name, name)) {
            if (tensor) *tensor = &r->header.tensors[i];
            return r->data + r->header.tensors[i].begin;
        }
    return NULL;
}

#endif
