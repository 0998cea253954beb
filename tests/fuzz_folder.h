/* fuzz_folder.h - a checkpoint in memory from one fuzz input, so that no run touches a disk:
 *
 *   config.json, up to a line that is "---"; then one tensor a line: NAME DTYPE d,d
 *
 * Offsets are made, so that what is fuzzed is what stands on a sound header.  Values come from one
 * small pattern, for targets that read them. */
#ifndef FUZZ_FOLDER_H
#define FUZZ_FOLDER_H

#include "kernels/base/mem.h"
#include "moe/model/model.h"
#include "tests/fuzz.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { FOLDER_TENSORS = 64, FOLDER_BYTES = 1 << 20 };

typedef struct fuzz_folder {
    char *text;
    uint64_t dims[FOLDER_TENSORS][4];
    tmb_tensor tensors[FOLDER_TENSORS];
    size_t n_tensors;
    uint64_t bytes;
} fuzz_folder;

/* " DTYPE d,d" behind a name. */
static inline int folder_type(fuzz_folder *f, tmb_tensor *t, uint64_t *dims, char *dtype)
{
    char *shape = strchr(dtype, ' ');
    tmb_dtype type;
    size_t n = shape ? (size_t)(shape - dtype) : strlen(dtype);
    if (!tmb_dtype_find(dtype, n, &type)) return 0;
    uint64_t bits = tmb_dtype_bits(type);
    for (char *at = shape ? shape + 1 : NULL; at && *at && t->rank < 4;) {
        uint64_t d = strtoull(at, &at, 10);
        if (!tmb_mul(bits, d, &bits)) return 0;
        dims[t->rank++] = d;
        at = *at == ',' ? at + 1 : NULL;
    }
    t->bytes = bits / 8;
    t->dtype = (uint8_t)type;
    t->shape = dims;
    t->begin = f->bytes;
    return bits % 8 == 0 && tmb_add(f->bytes, t->bytes, &f->bytes) && f->bytes < 1ull << 62;
}

/* tensors of the lines; others are skipped */
static inline void folder_tensors(fuzz_folder *f, char *lines)
{
    for (char *line = lines, *next; line && f->n_tensors < FOLDER_TENSORS; line = next) {
        tmb_tensor *t = &f->tensors[f->n_tensors];
        uint64_t before = f->bytes;
        next = strchr(line, '\n');
        if (next) *next++ = 0;
        char *space = strchr(line, ' ');
        if (!space || space == line) continue;
        *space = 0;
        *t = (tmb_tensor){.name = line};
        if (folder_type(f, t, f->dims[f->n_tensors], space + 1))
            f->n_tensors++;
        else
            f->bytes = before;
    }
}

/* NULL when the input makes no checkpoint: a name twice, a config that is no object. */
static inline tmb_checkpoint *folder_open(fuzz_folder *f, const uint8_t *data, size_t size)
{
    tmb_err err = {0};
    tmb_json *config = NULL;
    tmb_checkpoint *ckpt = NULL;
    char *header = NULL;
    size_t n;
    f->n_tensors = 0;
    f->bytes = 0;
    f->text = malloc(size + 1);
    if (!f->text) return NULL;
    memcpy(f->text, data, size);
    f->text[size] = 0;
    char *cut = strstr(f->text, "\n---\n");
    size_t length = cut ? (size_t)(cut - f->text) : strlen(f->text);
    if (cut) folder_tensors(f, cut + 5);
    if (tmb_json_parse(&config, f->text, length, "config.json", true, &err)) return NULL;
    if (!tmb_json_is_object(config) ||
        tmb_header_format(&header, &n, f->tensors, f->n_tensors, "f", &err)) {
        tmb_json_free(config);
        return NULL;
    }
    if (tmb_checkpoint_from_header(&ckpt, header, n, f->bytes, config, &err)) return NULL;
    return ckpt;
}

/* Let values be read: the same pattern at every place, holes beyond. */
static inline void folder_values(const tmb_checkpoint *ckpt)
{
    static int fd = -1;
    if (fd < 0) {
        static uint8_t pattern[FOLDER_BYTES];
        uint32_t x = 1;
        fd = memfd_create("values", MFD_CLOEXEC);
        for (size_t i = 0; i < sizeof pattern; i++)
            pattern[i] = (uint8_t)((x = x * 1664525u + 1013904223u) >> 24);
        MUST(fd >= 0 && write(fd, pattern, sizeof pattern) == sizeof pattern);
    }
    ckpt->shards[0].fd = fd;
}

static inline void folder_close(fuzz_folder *f, tmb_checkpoint *ckpt)
{
    if (ckpt) ckpt->shards[0].fd = -1; /* the pattern stays */
    tmb_checkpoint_close(ckpt);
    free(f->text);
}

#endif
