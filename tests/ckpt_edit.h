/* ckpt_edit.h - a small checkpoint in memory, to be changed and written again: what damage tests
 * need. */
#ifndef CKPT_EDIT_H
#define CKPT_EDIT_H

#include "moe/io/checkpoint.h"
#include "moe/io/files.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct {
    char *name;
    tmb_dtype dtype;
    int rank;
    uint64_t shape[4];
    size_t bytes;
    uint8_t *data;
} edit_tensor;

typedef struct {
    edit_tensor t[2048];
    size_t n;
    tmb_json *config, *hf;
    const char *error; /* of the damage itself: a name it wanted is not there */
} edit;

static inline edit_tensor *edit_find(edit *e, const char *name)
{
    for (size_t i = 0; i < e->n; i++)
        if (strcmp(e->t[i].name, name) == 0) return &e->t[i];
    static edit_tensor nothing;
    static uint8_t nowhere[64];
    nothing = (edit_tensor){.name = nothing.name, .data = nowhere};
    e->error = name;
    return &nothing;
}

static inline bool edit_has(const edit *e, const char *name)
{
    for (size_t i = 0; i < e->n; i++)
        if (strcmp(e->t[i].name, name) == 0) return true;
    return false;
}

static inline edit_tensor *edit_add(edit *e, const char *name, tmb_dtype dtype, int rank,
                                    uint64_t a, uint64_t b, uint64_t c)
{
    edit_tensor *t = &e->t[e->n++];
    *t = (edit_tensor){.name = strdup(name), .dtype = dtype, .rank = rank, .shape = {a, b, c}};
    t->bytes = tmb_dtype_bits(dtype) / 8;
    for (int i = 0; i < rank; i++)
        t->bytes *= t->shape[i];
    t->data = calloc(t->bytes + 1, 1);
    return t;
}

static inline void edit_drop(edit *e, const char *name)
{
    for (size_t i = 0; i < e->n; i++) {
        if (strcmp(e->t[i].name, name) != 0) continue;
        free(e->t[i].name);
        free(e->t[i].data);
        memmove(&e->t[i], &e->t[i + 1], (e->n - i - 1) * sizeof *e->t);
        e->n--;
        return;
    }
    e->error = "a tensor to drop";
}

/* All whose name starts with prefix. */
static inline void edit_drop_all(edit *e, const char *prefix)
{
    for (size_t i = e->n; i-- > 0;)
        if (strncmp(e->t[i].name, prefix, strlen(prefix)) == 0) edit_drop(e, e->t[i].name);
}

/* Another dtype and shape under the same name; zeros. */
static inline edit_tensor *edit_recast(edit *e, const char *name, tmb_dtype dtype, int rank,
                                       uint64_t a, uint64_t b)
{
    edit_find(e, name);
    edit_drop(e, name);
    return edit_add(e, name, dtype, rank, a, b, 0);
}

static inline bool edit_load(edit *e, const char *path)
{
    tmb_err err = {0};
    tmb_checkpoint *c = NULL;
    e->n = 0;
    e->error = NULL;
    e->config = e->hf = NULL;
    if (tmb_checkpoint_open(&c, path, &err)) return false;
    bool good = true;
    for (size_t i = 0; i < c->n_tensors && good; i++) {
        const tmb_tensor *t = &c->tensors[i];
        uint64_t s[3] = {0};
        for (int k = 0; k < t->rank && k < 3; k++)
            s[k] = t->shape[k];
        edit_tensor *mine = edit_add(e, t->name, (tmb_dtype)t->dtype, t->rank, s[0], s[1], s[2]);
        good = tmb_checkpoint_read(c, t, 0, mine->data, mine->bytes, &err) == TMB_OK;
    }
    e->config = tmb_json_copy(c->config);
    if (faccessat(c->dirfd, "hf_quant_config.json", F_OK, 0) == 0)
        good &=
            tmb_json_load(&e->hf, c->dirfd, "hf_quant_config.json", 1 << 20, false, &err) == TMB_OK;
    tmb_checkpoint_close(c);
    return good;
}

static inline void edit_free(edit *e)
{
    for (size_t i = 0; i < e->n; i++) {
        free(e->t[i].name);
        free(e->t[i].data);
    }
    tmb_json_free(e->config);
    tmb_json_free(e->hf);
    e->n = 0;
}

static inline bool edit_write_text(const char *dir, const char *name, const void *text, size_t n,
                                   const char *mode)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, mode);
    bool good = f && fwrite(text, 1, n, f) == n;
    return f && fclose(f) == 0 && good;
}

static inline bool edit_write_json(const char *dir, const char *name, const tmb_json *json)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    unlink(path);
    if (!json) return true;
    char *text = tmb_json_dump(json, 1);
    bool good = text && edit_write_text(dir, name, text, strlen(text), "w");
    free(text);
    return good;
}

/* tombac.json of these files, sealed as `quantize` seals it: the last member is the SHA-256 of
 * every byte before it. */
static inline bool edit_write_summary(const char *dir, const tmb_json *summary)
{
    char *text = tmb_json_dump(summary, 2), hex[TMB_SHA256_HEX], tail[128];
    size_t n = text ? strlen(text) - 3 : 0; /* without "\n}\n" */
    if (!n) return false;
    memcpy(text + n, ",\n", 3);
    n += 2;
    bool good = tmb_sha256(text, n, hex, NULL) == TMB_OK;
    int k = snprintf(tail, sizeof tail, "  \"sha256\": \"%s\"\n}\n", hex);
    good = good && edit_write_text(dir, "tombac.json", text, n, "w") &&
           edit_write_text(dir, "tombac.json", tail, (size_t)k, "a");
    free(text);
    return good;
}

/* As a folder that any loader would open. */
static inline bool edit_write(const edit *e, const char *dir)
{
    tmb_tensor *list = calloc(e->n + 1, sizeof *list);
    uint64_t at = 0;
    for (size_t i = 0; i < e->n; at += e->t[i].bytes, i++)
        list[i] = (tmb_tensor){.name = e->t[i].name,
                               .shape = e->t[i].shape,
                               .begin = at,
                               .bytes = e->t[i].bytes,
                               .dtype = (uint8_t)e->t[i].dtype,
                               .rank = (uint8_t)e->t[i].rank};
    char *head = NULL;
    size_t n = 0;
    tmb_err err = {0};
    bool good = tmb_header_format(&head, &n, list, e->n, "test", &err) == TMB_OK;
    uint64_t length = n;
    good = good && edit_write_text(dir, "model.safetensors", &length, 8, "w") &&
           edit_write_text(dir, "model.safetensors", head, n, "a");
    for (size_t i = 0; i < e->n && good; i++)
        good = edit_write_text(dir, "model.safetensors", e->t[i].data, e->t[i].bytes, "a");
    free(head);
    free(list);
    return good && edit_write_json(dir, "config.json", e->config) &&
           edit_write_json(dir, "hf_quant_config.json", e->hf);
}

static inline void edit_remove_dir(const char *dir)
{
    DIR *d = opendir(dir);
    for (struct dirent *f; d && (f = readdir(d));)
        if (f->d_name[0] != '.') unlinkat(dirfd(d), f->d_name, 0);
    if (d) closedir(d);
    rmdir(dir);
}

#endif
