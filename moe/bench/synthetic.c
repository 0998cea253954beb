#include "config.h"
#include "moe/bench/synthetic.h"

#include "moe/bench/random.h"
#include "moe/io/direct.h"
#include "moe/io/files.h"
#include "moe/io/safetensors.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SHARD_BYTES UINT64_C(5000000000)
enum { TABLE = 8 << 20 /* numbers */, BUFFER_BYTES = 16 << 20 };

typedef struct maker {
    tmb_synthetic *facts;
    const char *folder;
    int dirfd;
    tmb_fill how;
    bool counting;
    const tmb_watch *watch;
    tmb_err *err;
    uint16_t *table; /* [TABLE] */
    uint8_t *buffer; /* [BUFFER_BYTES]: of the shard being written */
    uint64_t seed, total;
    uint32_t shards; /* how many there will be; 0 while counting */
    FILE *index;
    /* the shard that is filled */
    tmb_tensor *tensors;
    bool *routes; /* [room]: of each tensor */
    size_t n, room;
    uint64_t data;
    uint32_t shard;
} maker;

static void progress(const maker *m, uint64_t done)
{
    if (!m->watch->progress) return;
    tmb_progress p = {.phase = "synthetic",
                      .done_bytes = done,
                      .total_bytes = m->total,
                      .done_units = m->shard,
                      .total_units = m->shards};
    m->watch->progress(m->watch->ctx, &p);
}

/* A file that is written from its start to its end, past the cache. */
typedef struct stream {
    int fd, direct;
    const char *path;
    uint8_t *buffer;
    size_t n;
    uint64_t at; /* of buffer[0] */
} stream;

static tmb_status drain(stream *s, tmb_err *err)
{
    size_t n = s->n;
    if (!n) return TMB_OK;
    bool whole = n % TMB_DIRECT_ALIGN == 0 && s->direct >= 0;
    if (!whole || !tmb_direct_write(s->direct, s->buffer, n, s->at)) {
        TRY(tmb_file_pwrite(s->fd, s->buffer, n, s->at, s->path, err));
        tmb_cache_flush(s->fd, s->at, n, true);
        tmb_cache_drop(s->fd, s->at, n, 0);
    }
    s->at += n;
    s->n = 0;
    return TMB_OK;
}

static tmb_status put(stream *s, const void *data, size_t n, tmb_err *err)
{
    const uint8_t *from = data;
    while (n) {
        size_t room = BUFFER_BYTES - s->n, now = n < room ? n : room;
        memcpy(s->buffer + s->n, from, now);
        s->n += now;
        from += now;
        n -= now;
        if (s->n == BUFFER_BYTES) TRY(drain(s, err));
    }
    return TMB_OK;
}

/* Leave n bytes out. */
static tmb_status skip(stream *s, uint64_t n, tmb_err *err)
{
    if (n) TRY(drain(s, err));
    s->at += n;
    return TMB_OK;
}

static tmb_status put_ones(stream *s, uint64_t bytes, tmb_err *err)
{
    static const uint16_t one = 0x3f80; /* of BF16; two of them are nearly one as F32 */
    for (uint64_t i = 0; i < bytes; i += sizeof one)
        TRY(put(s, &one, sizeof one, err));
    return TMB_OK;
}

/* How many bytes of a tensor have data. */
static uint64_t filled(const maker *m, size_t i)
{
    const tmb_tensor *t = &m->tensors[i];
    if (m->how == TMB_FILL_ALL || t->rank == 1) return t->bytes;
    if (!m->routes[i]) return 0;
    return t->shape[0] > TMB_ROUTED_IDS ? t->bytes / t->shape[0] * TMB_ROUTED_IDS : t->bytes;
}

static tmb_status fill(maker *m, stream *s)
{
    uint64_t done = 0;
    for (size_t i = 0; i < m->n; i++) {
        uint64_t left = filled(m, i), holes = m->tensors[i].bytes - left;
        if (m->tensors[i].rank == 1) {
            TRY(put_ones(s, left, m->err));
            left = 0;
        }
        while (left) {
            size_t from = tmb_random(&m->seed) % (TABLE / 2), room = (TABLE - from) * 2;
            size_t now = left < room ? (size_t)left : room;
            TRY(put(s, m->table + from, now, m->err));
            left -= now;
        }
        TRY(skip(s, holes, m->err));
        done += m->tensors[i].bytes;
        if (m->watch->stop && *m->watch->stop)
            return tmb_fail(m->err, TMB_ESYSTEM, "bench: stopped");
        progress(m, m->facts->bytes + done);
    }
    return TMB_OK;
}

static tmb_status write_shard(maker *m, const char *name, const char *path)
{
    char *text = NULL;
    size_t bytes = 0;
    unsigned char length[8];
    TRY(tmb_header_format(&text, &bytes, m->tensors, m->n, name, m->err));
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)((uint64_t)bytes >> (8 * i));
    stream s = {.path = path, .buffer = m->buffer};
    s.fd = openat(m->dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    s.direct = s.fd >= 0 ? tmb_direct_open(s.fd, true) : -1;
    tmb_status status =
        s.fd < 0 ? tmb_fail_errno(m->err, TMB_ECREATE, "%s: cannot create", path) : TMB_OK;
    if (!status) status = put(&s, length, 8, m->err);
    if (!status) status = put(&s, text, bytes, m->err);
    if (!status && m->how != TMB_FILL_NOTHING) status = fill(m, &s);
    if (!status) status = drain(&s, m->err);
    if (!status && ftruncate(s.fd, (off_t)(8 + bytes + m->data)))
        status = tmb_fail_errno(m->err, TMB_ECREATE, "%s: cannot make it long enough", path);
    if (!status && m->how == TMB_FILL_ALL && fsync(s.fd))
        status = tmb_fail_errno(m->err, TMB_EIO, "%s: cannot flush to the disk", path);
    if (s.direct >= 0) close(s.direct);
    if (s.fd >= 0) close(s.fd);
    free(text);
    return status;
}

static tmb_status flush_shard(maker *m)
{
    char name[64], path[PATH_MAX];
    tmb_status status = TMB_OK;
    m->shard++;
    if (!m->counting && m->n) {
        snprintf(name, sizeof name, "model-%05u-of-%05u.safetensors", m->shard, m->shards);
        snprintf(path, sizeof path, "%s/%s", m->folder, name);
        status = write_shard(m, name, path);
        for (size_t i = 0; i < m->n; i++)
            fprintf(m->index, "%s\n    \"%s\": \"%s\"", m->facts->tensors++ ? "," : "",
                    m->tensors[i].name, name);
        m->facts->bytes += m->data;
        progress(m, m->facts->bytes);
    }
    for (size_t i = 0; i < m->n; i++) {
        free((void *)(uintptr_t)m->tensors[i].name);
        free((void *)(uintptr_t)m->tensors[i].shape);
    }
    m->n = 0;
    m->data = 0;
    return status;
}

static int add(void *ctx, const tmb_shape_tensor *t)
{
    maker *m = ctx;
    uint64_t bytes = (t->rows ? t->rows : 1) * t->cols * (t->f32 ? 4 : 2);
    if (m->n && m->data + bytes > SHARD_BYTES) TRY(flush_shard(m));
    if (m->n == m->room) {
        size_t room = m->room ? 2 * m->room : 1024;
        tmb_tensor *grown = realloc(m->tensors, room * sizeof *grown);
        if (!grown) return (int)tmb_fail_memory(m->err, room * sizeof *grown, "tensors");
        m->tensors = grown;
        bool *routes = realloc(m->routes, room * sizeof *routes);
        if (!routes) return (int)tmb_fail_memory(m->err, room, "tensors");
        m->routes = routes;
        m->room = room;
    }
    uint64_t *shape = malloc(2 * sizeof *shape);
    char *name = strdup(t->name);
    if (!shape || !name) {
        free(shape);
        free(name);
        return (int)tmb_fail_memory(m->err, 64, "a tensor");
    }
    shape[0] = t->rows ? t->rows : t->cols;
    shape[1] = t->cols;
    m->routes[m->n] = t->routes;
    m->tensors[m->n++] = (tmb_tensor){.name = name,
                                      .shape = shape,
                                      .begin = m->data,
                                      .bytes = bytes,
                                      .dtype = t->f32 ? TMB_F32 : TMB_BF16,
                                      .rank = t->rows ? 2 : 1};
    m->data += bytes;
    return 0;
}

static FILE *create(const maker *m, const char *name)
{
    int fd = openat(m->dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!f && fd >= 0) close(fd);
    return f;
}

static tmb_status write_config(const maker *m, const tmb_shape *s)
{
    FILE *f = create(m, "config.json");
    if (!f) return tmb_fail_errno(m->err, TMB_ECREATE, "%s/config.json: cannot create", m->folder);
    fprintf(
        f,
        "{\"architectures\": [\"%s\"], \"model_type\": \"%s\", \"hidden_size\": %u,\n"
        " \"intermediate_size\": %u, \"moe_intermediate_size\": %u, \"num_hidden_layers\": %u,\n"
        " \"num_experts\": %u, \"num_local_experts\": %u, \"n_routed_experts\": %u,\n"
        " \"n_shared_experts\": %u, \"num_experts_per_tok\": %u, \"first_k_dense_replace\": %u,\n"
        " \"num_attention_heads\": %u, \"num_key_value_heads\": %u, \"head_dim\": %u,\n"
        " \"q_lora_rank\": %u, \"kv_lora_rank\": %u, \"qk_rope_head_dim\": %u,\n"
        " \"qk_nope_head_dim\": %u, \"v_head_dim\": %u, \"vocab_size\": %u,\n"
        " \"torch_dtype\": \"bfloat16\"}\n",
        s->class_name, s->model_type, s->hidden, s->inter, s->moe_inter, s->layers, s->experts,
        s->experts, s->experts, s->shared, s->top_k, s->dense, s->heads, s->kv_heads, s->head_dim,
        s->q_rank, s->kv_rank, s->rope_dim, s->head_dim, s->value_dim, s->vocab);
    bool fine = !ferror(f);
    if (fclose(f) || !fine)
        return tmb_fail_errno(m->err, TMB_EIO, "%s/config.json: cannot write", m->folder);
    return TMB_OK;
}

static tmb_status make(maker *m, const tmb_shape *shape)
{
    m->counting = true;
    TRY((tmb_status)tmb_shape_walk(shape, add, m));
    TRY(flush_shard(m));
    m->facts->shards = m->shards = m->shard;
    m->shard = 0;
    m->counting = false;
    m->index = create(m, "model.safetensors.index.json");
    if (!m->index)
        return tmb_fail_errno(m->err, TMB_ECREATE, "%s: cannot create an index", m->folder);
    fprintf(m->index, "{\n  \"metadata\": {\"total_size\": %llu},\n  \"weight_map\": {",
            (unsigned long long)m->total);
    tmb_status status = (tmb_status)tmb_shape_walk(shape, add, m);
    if (!status) status = flush_shard(m);
    fprintf(m->index, "\n  }\n}\n");
    bool fine = !ferror(m->index);
    if ((fclose(m->index) || !fine) && !status)
        status = tmb_fail_errno(m->err, TMB_EIO, "%s: cannot write the index", m->folder);
    return status ? status : write_config(m, shape);
}

tmb_status tmb_synthetic_make(tmb_synthetic *out, const char *folder, const tmb_shape *shape,
                              tmb_fill how, const tmb_watch *watch, tmb_err *err)
{
    *out = (tmb_synthetic){0};
    maker m = {.facts = out,
               .folder = folder,
               .how = how,
               .watch = watch,
               .err = err,
               .seed = 1,
               .total = tmb_shape_bytes(shape)};
    tmb_status status = TMB_OK;
    m.dirfd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    m.buffer = tmb_pages_map(BUFFER_BYTES);
    m.table = malloc(TABLE * sizeof *m.table);
    if (m.dirfd < 0)
        status = tmb_fail_errno(err, TMB_ECREATE, "%s: cannot open", folder);
    else if (!m.buffer || !m.table)
        status = tmb_fail_memory(err, BUFFER_BYTES + 2 * TABLE, "a synthetic checkpoint");
    if (!status && how != TMB_FILL_NOTHING) tmb_random_bf16(m.table, TABLE, 1, 0.02f);
    if (!status) status = make(&m, shape);
    if (m.n) {
        m.counting = true;
        (void)!flush_shard(&m);
    }
    free(m.tensors);
    free(m.routes);
    free(m.table);
    tmb_pages_unmap(m.buffer, BUFFER_BYTES);
    if (m.dirfd >= 0) close(m.dirfd);
    return status;
}

void tmb_synthetic_remove(const char *folder)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir && fd >= 0) close(fd);
    for (struct dirent *e; dir && (e = readdir(dir));)
        if (e->d_name[0] != '.' || strncmp(e->d_name, ".tmp-", 5) == 0)
            unlinkat(dirfd(dir), e->d_name, 0);
    if (dir) closedir(dir);
    rmdir(folder);
}
