/* header_model.h - a checkpoint made from a list of names: real header, zeros for values.
 *
 * Folders under tests/data/names hold a config.json and a header.json, which is a safetensors
 * header; the data behind it is a hole in the file. */
#ifndef TMB_TESTS_HEADER_MODEL_H
#define TMB_TESTS_HEADER_MODEL_H

#include "moe/model/model.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A new folder under TMPDIR; freed by the caller. */
static inline char *temp_folder(void)
{
    const char *tmp = getenv("TMPDIR");
    char *path = malloc(4096);
    snprintf(path, 4096, "%s/tombac-test-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(path)) {
        perror(path);
        exit(99);
    }
    return path;
}

/* Remove a folder of plain files, and free its name. */
static inline void remove_folder(char *path)
{
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            unlinkat(dirfd(d), e->d_name, 0);
    if (d) closedir(d);
    rmdir(path);
    free(path);
}

/* The whole file, NUL-terminated; NULL when it cannot be read. */
static inline char *load_text(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    fseek(f, 0, SEEK_END);
    long n = ftell(f);
    rewind(f);
    char *text = malloc((size_t)n + 1);
    size_t got = fread(text, 1, (size_t)n, f);
    fclose(f);
    text[got] = 0;
    return text;
}

static inline void save_text(const char *folder, const char *name, const char *text)
{
    char path[4352];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    if (!f || fputs(text, f) < 0 || fclose(f)) {
        perror(path);
        exit(99);
    }
}

/* folder/model.safetensors with this header and `bytes` of zeros. */
static inline void save_zeros(const char *folder, const char *header, uint64_t bytes)
{
    char path[4352];
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    size_t n = strlen(header);
    while (n && (header[n - 1] == '\n' || header[n - 1] == ' '))
        n--;
    uint8_t length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (uint8_t)((uint64_t)n >> 8 * i);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(length, 1, 8, f) != 8 || fwrite(header, 1, n, f) != n || fflush(f) ||
        ftruncate(fileno(f), (off_t)(8 + n + bytes)) || fclose(f)) {
        perror(path);
        exit(99);
    }
}

/* The end of the last tensor: headers here are in the order of their offsets. */
static inline uint64_t header_end(const char *header)
{
    const char *last = NULL;
    for (const char *at = header; (at = strstr(at, "\"data_offsets\":[")); at++)
        last = at;
    return last ? strtoull(strchr(last, ',') + 1, NULL, 10) : 0;
}

/* A checkpoint in `folder`, made when it is not there, with the names of tests/data/names/NAME.
 * model_type: what config.json says instead of its own, everywhere; NULL leaves it.  folder. */
static inline const char *header_model_in(const char *folder, const char *name,
                                          const char *model_type)
{
    char path[4096];
    const char *srcdir = getenv("srcdir");
    mkdir(folder, 0755);
    snprintf(path, sizeof path, "%s/tests/data/names/%s/header.json", srcdir ? srcdir : ".", name);
    char *header = load_text(path);
    snprintf(path, sizeof path, "%s/tests/data/names/%s/config.json", srcdir ? srcdir : ".", name);
    char *config = load_text(path);
    if (!header || !config) {
        fprintf(stderr, "%s: cannot read\n", path);
        exit(99);
    }
    save_zeros(folder, header, header_end(header));
    if (model_type) {
        char *changed = malloc(strlen(config) * 2 + 4096), *to = changed;
        const char *key = "\"model_type\": \"", *from = config, *at;
        while ((at = strstr(from, key))) {
            at += strlen(key);
            to = (char *)memcpy(to, from, (size_t)(at - from)) + (at - from);
            to += sprintf(to, "%s", model_type);
            from = strchr(at, '"');
        }
        strcpy(to, from);
        save_text(folder, "config.json", changed);
        free(changed);
    } else {
        save_text(folder, "config.json", config);
    }
    free(header);
    free(config);
    return folder;
}

/* The same in a temporary folder. */
static inline char *header_model(const char *name, const char *model_type)
{
    char *folder = temp_folder();
    header_model_in(folder, name, model_type);
    return folder;
}

/* A checkpoint written here: tensors as "NAME DTYPE d,d", one a line. */
static inline char *invent(const char *config, const char *tensors)
{
    char *folder = temp_folder(), *header = malloc(1 << 20), *to = header;
    char *copy = malloc(strlen(tensors) + 1), *save;
    strcpy(copy, tensors);
    uint64_t at = 0;
    to += sprintf(to, "{");
    for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char name[256], dtype[16], dims[64] = "";
        if (sscanf(line, "%255s %15s %63s", name, dtype, dims) < 2) continue;
        tmb_dtype type;
        tmb_dtype_find(dtype, strlen(dtype), &type);
        uint64_t bytes = tmb_dtype_bits(type) / 8;
        for (char *d = dims; *d; d += strcspn(d, ","), d += *d == ',')
            bytes *= strtoull(d, NULL, 10);
        to += sprintf(to,
                      "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%" PRIu64
                      ",%" PRIu64 "]}",
                      at ? "," : "", name, dtype, dims, at, at + bytes);
        at += bytes;
    }
    sprintf(to, "}");
    save_zeros(folder, header, at);
    save_text(folder, "config.json", config);
    free(copy);
    free(header);
    return folder;
}

typedef struct opened {
    char *folder;
    tmb_checkpoint *ckpt;
    tmb_model *model;
    tmb_err err;
} opened;

static inline bool open_folder(opened *o, char *folder)
{
    *o = (opened){.folder = folder};
    return tmb_checkpoint_open(&o->ckpt, folder, &o->err) == TMB_OK &&
           tmb_model_open(&o->model, o->ckpt, &o->err) == TMB_OK;
}

static inline void close_folder(opened *o)
{
    tmb_model_close(o->model);
    if (o->ckpt) tmb_checkpoint_close(o->ckpt);
    remove_folder(o->folder);
}

static inline bool noted(const tmb_model *m, const char *words)
{
    for (uint32_t i = 0; i < m->n_notes; i++)
        if (strstr(m->notes[i], words)) return true;
    return false;
}

/* Every tensor in exactly one unit, or in the units of one stack: *owner [n_tensors]. */
static inline bool owners(const opened *o, uint32_t *owner)
{
    bool fine = true;
    for (size_t i = 0; i < o->ckpt->n_tensors; i++)
        owner[i] = TMB_NONE;
    for (uint32_t u = 0; u < o->model->n_units; u++) {
        const tmb_unit *unit = &o->model->units[u];
        for (int p = 0; p < TMB_PARTS; p++) {
            uint32_t t = unit->stored.part[p];
            if (t == TMB_NO_TENSOR) continue;
            bool shared = owner[t] != TMB_NONE && unit->stacked &&
                          strcmp(o->model->units[owner[t]].disk, unit->disk) == 0;
            if (owner[t] != TMB_NONE && !shared) fine = false;
            owner[t] = u;
        }
        if (tmb_model_find(o->model, unit->name) != unit) fine = false;
    }
    for (size_t i = 0; i < o->ckpt->n_tensors; i++)
        fine &= owner[i] != TMB_NONE;
    return fine;
}

#endif
