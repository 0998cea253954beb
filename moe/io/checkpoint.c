/* checkpoint.c - opens a folder: its index, every shard's header, and whether they agree.
 *
 * Peak memory is the header texts and 60 to 80 bytes a tensor; the index is given back as soon as
 * it has been compared. */
#include "config.h"
#include "moe/io/checkpoint.h"

#include "kernels/base/mem.h"
#include "moe/io/files.h"
#include "moe/io/folder.h"
#include "moe/io/gather.h"
#include "moe/io/index.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { CONFIG_MAX = 16 << 20 };

struct tmb_checkpoint_private {
    tmb_arena arena;
    tmb_folder folder;
    tmb_gather gather;
    tmb_index index; /* until it has been compared */
    const char **shard_names;
};

/* Every shard stays open; the soft limit of a login shell is 1024. */
static tmb_status allow_files(const tmb_checkpoint *c, tmb_err *err)
{
    enum { OTHERS = 256 };
    struct rlimit limit;
    rlim_t need = c->n_shards + OTHERS;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= need) return TMB_OK;
    rlim_t had = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max < need ? limit.rlim_max : need;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) limit.rlim_cur = had;
    if (limit.rlim_cur > c->n_shards + 16) return TMB_OK;
    return tmb_fail(err, TMB_ESYSTEM,
                    "%s: %zu shards, but this process may open %llu files; raise ulimit -n",
                    c->path, c->n_shards, (unsigned long long)limit.rlim_cur);
}

/* Which shards there are: by the index, or the one file. */
static tmb_status choose_shards(tmb_checkpoint *c, tmb_err *err)
{
    struct tmb_checkpoint_private *p = c->priv;
    const char *single = NULL, **names = &single;
    size_t n_shards = 1;
    if (tmb_folder_has(&p->folder, TMB_INDEX_NAME)) {
        char *text;
        size_t n;
        TRY(tmb_file_load(&text, &n, c->dirfd, TMB_INDEX_NAME, TMB_INDEX_MAX, err));
        TRY(tmb_index_parse(&p->index, text, n, TMB_INDEX_NAME, err));
        if (!p->index.n_shards)
            return tmb_fail(err, TMB_EDATA, TMB_INDEX_NAME ": names no tensor; fetch it again");
        names = p->index.shards;
        n_shards = p->index.n_shards;
    } else {
        TRY(tmb_folder_single(&p->folder, &single, err));
    }
    p->shard_names = tmb_arena_alloc(&p->arena, n_shards * sizeof *names);
    c->shards = tmb_arena_alloc(&p->arena, n_shards * sizeof *c->shards);
    if (!c->shards || !p->shard_names)
        return tmb_fail_memory(err, n_shards * sizeof *c->shards, "shards");
    for (size_t i = 0; i < n_shards; i++) {
        tmb_shard *s = &c->shards[c->n_shards++];
        s->fd = -1;
        s->name = tmb_arena_text(&p->arena, names[i], strlen(names[i]));
        if (!s->name) return tmb_fail_memory(err, strlen(names[i]), "a name");
        p->shard_names[i] = s->name;
    }
    return TMB_OK;
}

static tmb_status read_shard(tmb_checkpoint *c, size_t i, tmb_err *err)
{
    tmb_shard *s = &c->shards[i];
    tmb_gather *g = &c->priv->gather;
    char *text;
    size_t n;
    uint64_t data_bytes;
    TRY(tmb_file_open(&s->fd, &s->stat, c->dirfd, s->name, s->name, err));
    s->file_bytes = (uint64_t)s->stat.st_size;
    TRY(tmb_header_load(&text, &n, &data_bytes, s->fd, s->file_bytes, s->name, err));
    s->data_begin = 8 + n;
    g->shard = (uint32_t)i;
    g->files = c->priv->shard_names;
    TRY(tmb_header_gather(&s->header, g, text, n, data_bytes, err));
    if (!tmb_add(c->total_bytes, data_bytes, &c->total_bytes))
        return tmb_fail(err, TMB_EDATA, "%s: over 2^64 bytes of tensors", c->path);
    return TMB_OK;
}

static tmb_status read_shards(tmb_checkpoint *c, tmb_err *err)
{
    tmb_gather *g = &c->priv->gather;
    for (size_t i = 0; i < c->n_shards; i++)
        TRY(read_shard(c, i, err));
    c->tensors = g->tensors;
    c->n_tensors = g->n;
    size_t first = 0;
    for (size_t i = 0; i < c->n_shards; i++) {
        tmb_header *h = &c->shards[i].header;
        h->tensors = h->n_tensors ? &g->tensors[first] : NULL;
        first += h->n_tensors;
    }
    return TMB_OK;
}

/* Every entry of the index is a tensor of the shard it names, and every tensor is an entry. */
static tmb_status compare_index(tmb_checkpoint *c, tmb_err *err)
{
    const tmb_index *index = &c->priv->index;
    if (!index->text) return TMB_OK;
    unsigned char *seen = calloc(c->n_tensors + 1, 1);
    if (!seen) return tmb_fail_memory(err, c->n_tensors, "comparing the index");
    tmb_status status = TMB_OK;
    const tmb_tensor *next = NULL;
    for (size_t i = 0; !status && i < index->n_entries; i++) {
        const char *name = index->entries[i].name, *shard = index->shards[index->entries[i].shard];
        /* Writers list both in the same order: look at the next one before looking it up. */
        if (!next || next == c->tensors + c->n_tensors || strcmp(next->name, name) != 0)
            next = tmb_checkpoint_find(c, name);
        const tmb_tensor *t = next;
        if (next) next++;
        if (!t)
            status = tmb_fail(err, TMB_EDATA,
                              TMB_INDEX_NAME
                              ": tensor \"%s\" is said to be in %s, which does not have it; "
                              "fetch both again",
                              tmb_show(name).text, shard);
        else if (t->shard != index->entries[i].shard)
            status = tmb_fail(err, TMB_EDATA,
                              TMB_INDEX_NAME
                              ": tensor \"%s\" is said to be in %s, but is in %s; fetch the "
                              "index again",
                              tmb_show(name).text, shard, c->shards[t->shard].name);
        else
            seen[t - c->tensors] = 1;
    }
    for (size_t i = 0; !status && index->n_entries < c->n_tensors && i < c->n_tensors; i++) {
        if (!seen[i])
            status = tmb_fail(
                err, TMB_EDATA, "%s: tensor \"%s\" is not in " TMB_INDEX_NAME "; fetch both again",
                c->shards[c->tensors[i].shard].name, tmb_show(c->tensors[i].name).text);
    }
    free(seen);
    return status;
}

static bool is_shard(const tmb_checkpoint *c, const char *name)
{
    for (size_t i = 0; i < c->n_shards; i++)
        if (strcmp(c->shards[i].name, name) == 0) return true;
    return false;
}

typedef enum tmb_kept { KEPT_CARRIED, KEPT_UNREAD, KEPT_FOLDER } tmb_kept;

/* What becomes of `name`?  One that should be carried over and cannot be opened is an error: left
 * out without a word, it would be missed later. */
static tmb_status sort_one(int dirfd, const char *name, tmb_kept *kept, tmb_err *err)
{
    struct stat stat, target;
    tmb_err why;
    int fd;
    if (fstatat(dirfd, name, &stat, AT_SYMLINK_NOFOLLOW))
        return tmb_fail_errno(err, TMB_ENOINPUT, "%s: cannot look at it", name);
    *kept = S_ISDIR(stat.st_mode) ? KEPT_FOLDER : KEPT_UNREAD;
    if (*kept == KEPT_FOLDER || !tmb_is_carried(name)) return TMB_OK;
    tmb_status status = tmb_file_open(&fd, &target, dirfd, name, name, &why);
    if (!status) {
        close(fd);
        *kept = KEPT_CARRIED;
        return TMB_OK;
    }
    /* no regular file, a link out of the folder, a link to nothing */
    if (status == TMB_EDATA || (status == TMB_ENOINPUT && S_ISLNK(stat.st_mode))) return TMB_OK;
    if (err) *err = why;
    return status;
}

static tmb_status sort_others(tmb_checkpoint *c, tmb_err *err)
{
    const tmb_folder *f = &c->priv->folder;
    c->other_files = tmb_arena_alloc(&c->priv->arena, (f->n_names + 1) * sizeof *c->other_files);
    c->unread_files = tmb_arena_alloc(&c->priv->arena, (f->n_names + 1) * sizeof *c->unread_files);
    if (!c->other_files || !c->unread_files)
        return tmb_fail_memory(err, f->n_names * sizeof *c->other_files, "the names of a folder");
    for (size_t i = 0; i < f->n_names; i++) {
        const char *name = f->names[i];
        tmb_kept kept;
        if (strcmp(name, "config.json") == 0 || strcmp(name, TMB_INDEX_NAME) == 0 ||
            is_shard(c, name))
            continue;
        for (size_t k = 0; k < c->n_shards; k++)
            if (tmb_same_set(name, c->shards[k].name))
                return tmb_fail(err, TMB_EDATA,
                                "%s: a shard that " TMB_INDEX_NAME
                                " does not name; fetch the index again, "
                                "or move the shard away",
                                name);
        TRY(sort_one(c->dirfd, name, &kept, err));
        if (kept == KEPT_CARRIED)
            c->other_files[c->n_other_files++] = name;
        else if (kept == KEPT_UNREAD)
            c->unread_files[c->n_unread_files++] = name;
    }
    return TMB_OK;
}

static tmb_status read_config(tmb_checkpoint *c, tmb_err *err)
{
    if (!tmb_folder_has(&c->priv->folder, "config.json")) return TMB_OK;
    TRY(tmb_json_load(&c->config, c->dirfd, "config.json", CONFIG_MAX, true, err));
    if (tmb_json_is_object(c->config)) return TMB_OK;
    return tmb_fail(err, TMB_EDATA, "config.json: is no JSON object; fetch it again");
}

static tmb_status open_all(tmb_checkpoint *c, const char *path, tmb_err *err)
{
    tmb_folder *folder = &c->priv->folder;
    tmb_status status = tmb_folder_open(folder, path, &c->priv->arena, err);
    c->path = folder->path;
    c->dirfd = folder->dirfd;
    TRY(status);
    TRY(choose_shards(c, err));
    TRY(read_config(c, err));
    TRY(allow_files(c, err));
    TRY(read_shards(c, err));
    TRY(compare_index(c, err));
    tmb_index_free(&c->priv->index);
    return sort_others(c, err);
}

static tmb_checkpoint *new_checkpoint(tmb_err *err)
{
    tmb_checkpoint *c = calloc(1, sizeof *c);
    struct tmb_checkpoint_private *p = calloc(1, sizeof *p);
    if (!c || !p) {
        free(c);
        free(p);
        (void)tmb_fail_memory(err, sizeof *c + sizeof *p, "a checkpoint");
        return NULL;
    }
    c->priv = p;
    c->dirfd = -1;
    return c;
}

tmb_status tmb_checkpoint_open(tmb_checkpoint **out, const char *path, tmb_err *err)
{
    tmb_checkpoint *c = new_checkpoint(err);
    if (!c) return TMB_ESYSTEM;
    tmb_status status = open_all(c, path, err);
    if (status) {
        tmb_checkpoint_close(c);
        return status;
    }
    *out = c;
    return TMB_OK;
}

static tmb_status take_header(tmb_checkpoint *c, char *text, size_t n, uint64_t data_bytes,
                              tmb_err *err)
{
    struct tmb_checkpoint_private *p = c->priv;
    c->path = "memory";
    c->shards = tmb_arena_alloc(&p->arena, sizeof *c->shards);
    p->shard_names = tmb_arena_alloc(&p->arena, sizeof *p->shard_names);
    if (!c->shards || !p->shard_names) {
        free(text);
        return tmb_fail_memory(err, sizeof *c->shards, "shards");
    }
    c->n_shards = 1;
    c->total_bytes = data_bytes;
    *c->shards = (tmb_shard){.name = "model.safetensors", .fd = -1, .data_begin = 8 + n};
    if (!tmb_add(8 + n, data_bytes, &c->shards->file_bytes)) c->shards->file_bytes = UINT64_MAX;
    *p->shard_names = c->shards->name;
    p->gather.files = p->shard_names;
    TRY(tmb_header_gather(&c->shards->header, &p->gather, text, n, data_bytes, err));
    c->tensors = c->shards->header.tensors = p->gather.tensors;
    c->n_tensors = p->gather.n;
    return TMB_OK;
}

tmb_status tmb_checkpoint_from_header(tmb_checkpoint **out, char *text, size_t n,
                                      uint64_t data_bytes, tmb_json *config, tmb_err *err)
{
    tmb_checkpoint *c = new_checkpoint(err);
    if (!c) {
        free(text);
        tmb_json_free(config);
        return TMB_ESYSTEM;
    }
    c->config = config;
    tmb_status status = take_header(c, text, n, data_bytes, err);
    if (status) {
        tmb_checkpoint_close(c);
        return status;
    }
    *out = c;
    return TMB_OK;
}

void tmb_checkpoint_close(tmb_checkpoint *c)
{
    if (!c) return;
    for (size_t i = 0; i < c->n_shards; i++) {
        c->shards[i].header.tensors = NULL; /* a part of the one array */
        tmb_header_free(&c->shards[i].header);
        if (c->shards[i].fd >= 0) close(c->shards[i].fd);
    }
    tmb_gather_free(&c->priv->gather);
    tmb_index_free(&c->priv->index);
    tmb_json_free(c->config);
    tmb_arena_free(&c->priv->arena);
    if (c->dirfd >= 0) close(c->dirfd);
    free(c->priv);
    free(c);
}

const tmb_tensor *tmb_checkpoint_find_n(const tmb_checkpoint *c, const char *name, size_t n)
{
    uint32_t i = tmb_names_find(&c->priv->gather.names, c->tensors, sizeof *c->tensors, name, n);
    return i == TMB_NAMES_NONE ? NULL : &c->tensors[i];
}

const tmb_tensor *tmb_checkpoint_find(const tmb_checkpoint *c, const char *name)
{
    return tmb_checkpoint_find_n(c, name, strlen(name));
}

tmb_status tmb_checkpoint_read(const tmb_checkpoint *c, const tmb_tensor *t, uint64_t offset,
                               void *buf, size_t bytes, tmb_err *err)
{
    const tmb_shard *s = &c->shards[t->shard];
    if (offset > t->bytes || bytes > t->bytes - offset)
        return tmb_fail(err, TMB_EINTERNAL, "%s: read past the end of tensor \"%s\"", s->name,
                        tmb_show(t->name).text);
    return tmb_file_pread(s->fd, buf, bytes, s->data_begin + t->begin + offset, s->name, err);
}

void tmb_checkpoint_advise(const tmb_checkpoint *c, const tmb_tensor *t, uint64_t offset,
                           uint64_t bytes, bool soon)
{
    const tmb_shard *s = &c->shards[t->shard];
    if (offset > t->bytes) return;
    if (bytes > t->bytes - offset) bytes = t->bytes - offset;
    if (!bytes) return; /* 0 would mean to the end of the file */
    (void)posix_fadvise(s->fd, (off_t)(s->data_begin + t->begin + offset), (off_t)bytes,
                        soon ? POSIX_FADV_WILLNEED : POSIX_FADV_DONTNEED);
}

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

tmb_status tmb_checkpoint_unchanged(const tmb_checkpoint *c, tmb_err *err)
{
    for (size_t i = 0; i < c->n_shards; i++) {
        const tmb_shard *s = &c->shards[i];
        struct stat now;
        int rc = fstatat(c->dirfd, s->name, &now, 0);
        if (rc && errno != ENOENT)
            return tmb_fail_errno(err, TMB_EIO, "%s/%s: cannot look at it again", c->path, s->name);
        if (!rc && now.st_dev == s->stat.st_dev && now.st_ino == s->stat.st_ino &&
            now.st_size == s->stat.st_size && same_time(now.st_mtim, s->stat.st_mtim) &&
            same_time(now.st_ctim, s->stat.st_ctim))
            continue;
        return tmb_fail(
            err, TMB_EDATA,
            "%s/%s: was changed while it was being read; run again when nothing writes there",
            c->path, s->name);
    }
    return TMB_OK;
}
