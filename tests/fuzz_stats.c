/* fuzz_stats - statistics files behind HDF5: every array, its name, type, shape and figures.
 *
 * Input: changes to a sound file, eight bytes each: array, what to do, place (two bytes), value
 * (four).  What is taken is written again as it was understood, and that file is taken too and
 * written the same. */
#include "config.h"
#include "moe/calib/file.h"
#include "tests/fuzz_folder.h"
#include "tests/store_memory.h"

static const char checkpoint[] =
    "{\"model_type\":\"mixtral\",\"num_hidden_layers\":1,\"num_local_experts\":2,"
    "\"num_experts_per_tok\":1}\n---\n"
    "model.embed_tokens.weight BF16 8,32\n"
    "model.layers.0.self_attn.q_proj.weight BF16 32,32\n"
    "model.layers.0.self_attn.k_proj.weight BF16 32,32\n"
    "model.layers.0.self_attn.v_proj.weight BF16 32,32\n"
    "model.layers.0.block_sparse_moe.gate.weight BF16 2,32\n"
    "model.layers.0.block_sparse_moe.experts.0.w1.weight BF16 16,32\n"
    "model.layers.0.block_sparse_moe.experts.0.w2.weight BF16 32,16\n"
    "model.layers.0.block_sparse_moe.experts.0.w3.weight BF16 16,32\n"
    "model.layers.0.block_sparse_moe.experts.1.w1.weight BF16 16,32\n"
    "model.layers.0.block_sparse_moe.experts.1.w2.weight BF16 32,16\n"
    "model.layers.0.block_sparse_moe.experts.1.w3.weight BF16 16,32\n";

enum { CHANGE = 8, TOKENS = 4 };
static const char problems[] = "\n\033";

static void feed(tmb_stats_layer *l)
{
    static const float logits[TOKENS][2] = {{1, 2}, {3, -1}, {0, 0}, {2, 5}};
    static const uint32_t chosen[TOKENS] = {1, 0, 0, 1}, source[TOKENS] = {0, 1, 1, 0};
    static const float gate[TOKENS] = {0.7f, 0.9f, 0.5f, 0.8f};
    float x[TOKENS][32], kv[4] = {1, -2, 0.5f, 0};
    for (int i = 0; i < TOKENS * 32; i++)
        x[i / 32][i % 32] = (float)((i * 37) % 64 - 32) / (i % 5 ? 8 : 4096);
    MUST(!tmb_stats_feed_router(l, logits[0], NULL, chosen, source, TOKENS, NULL));
    tmb_stats_feed_kv(l, kv, 4, kv, 4);
    for (uint32_t s = 0; s < l->n_sites; s++) {
        const tmb_site *site = &l->sites[s];
        for (uint32_t e = 0; e < site->n; e++) /* two rows of each; the shadow of one sees all */
            MUST(!tmb_stats_feed(l, s, e, false, x[2 * e], site->expert ? 2 : TOKENS, 32,
                                 site->expert ? gate : NULL, NULL));
        if (site->expert) MUST(!tmb_stats_feed(l, s, 1, true, x[0], TOKENS, 32, NULL, NULL));
    }
}

/* The sound file. */
static const memory *prepare(void)
{
    static memory *base;
    static fuzz_folder f;
    tmb_model *model;
    tmb_stats_layer *layer;
    tmb_stats_writer *w;
    tmb_stats_options o = {.moments = true, .sources = 2, .threads = 1};
    const tmb_stats_source sources[2] = {{"code", 1, 2}, {"web", 1, 2}};
    const uint8_t sequences[2][TMB_SEQUENCE_BYTES] = {{1}, {2}};
    const tmb_stats_identity id = {.model_type = "mixtral",
                                   .model_sha256 = "00ff",
                                   .layers = 1,
                                   .moments = true,
                                   .min_tokens = 3,
                                   .sources = sources,
                                   .n_sources = 2,
                                   .sequences = sequences[0],
                                   .n_sequences = 2};
    if (base) return base;
    tmb_checkpoint *ckpt = folder_open(&f, (const uint8_t *)checkpoint, sizeof checkpoint - 1);
    MUST(ckpt && !tmb_model_open(&model, ckpt, NULL));
    MUST(!tmb_stats_layer_new(&layer, model, 0, &o, NULL));
    feed(layer);
    MUST(!tmb_stats_create(&w, "f", &id, NULL) && !tmb_stats_put(w, layer, NULL));
    MUST(!tmb_stats_publish(w, "{}", NULL));
    tmb_stats_writer_close(w);
    tmb_stats_layer_free(layer);
    tmb_model_close(model);
    folder_close(&f, ckpt);
    base = store_made;
    store_made = NULL;
    return base;
}

static memory *copy_of(const memory *from)
{
    memory *m = malloc(sizeof *m);
    MUST(m);
    memcpy(m, from, sizeof *m);
    for (size_t i = 0; i < m->n; i++) {
        MUST((m->arrays[i].data = malloc(m->arrays[i].bytes + !m->arrays[i].bytes)));
        memcpy(m->arrays[i].data, from->arrays[i].data, m->arrays[i].bytes);
    }
    return m;
}

/* Its shape has changed: so many bytes, what is new being zero; none when that is too many. */
static void resize(memory_array *a)
{
    uint64_t bytes;
    if (!tmb_store_whole_bytes(&a->shape, &bytes) || bytes > STORE_BYTES) bytes = 0;
    uint8_t *data = calloc(1, bytes + !bytes);
    MUST(data);
    memcpy(data, a->data, bytes < a->bytes ? bytes : a->bytes);
    free(a->data);
    a->data = data;
    a->bytes = bytes;
}

static void set_element(memory_array *a, unsigned at, int64_t value, bool add)
{
    uint32_t width = a->shape.type == TMB_STORE_TEXT ? 1 : a->shape.width;
    int64_t old = 0;
    if (a->bytes < width) return;
    uint8_t *p = a->data + at % (a->bytes / width) * width;
    memcpy(&old, p, width); /* little-endian */
    if (add) value = (int64_t)((uint64_t)old + (uint64_t)value);
    memcpy(p, &value, width);
}

static void change(memory *m, const uint8_t *c)
{
    memory_array *a = &m->arrays[c[0] % m->n];
    unsigned at = c[2] | (unsigned)c[3] << 8;
    int32_t value;
    memcpy(&value, c + 4, sizeof value);
    switch (c[1] % 9) {
    case 0:
    case 1:
        set_element(a, at, value, c[1] % 9 == 1);
        break;
    case 2:
        set_element(a, at, (int64_t)((uint64_t)value << 32), false);
        break;
    case 3: /* is not there */
        if (m->n == 1) break;
        free(a->data);
        *a = m->arrays[--m->n];
        break;
    case 4:
        a->shape.dims[at % (unsigned)a->shape.rank] = (uint32_t)value;
        resize(a);
        break;
    case 5:
        a->shape.dims[at % (unsigned)a->shape.rank] = (uint64_t)(uint32_t)value << 32;
        resize(a);
        break;
    case 6:
        a->shape.rank = 1 + (int)(at % TMB_STORE_RANK);
        for (int d = 0; d < TMB_STORE_RANK; d++)
            if (d >= a->shape.rank || !a->shape.dims[d]) a->shape.dims[d] = d < a->shape.rank;
        resize(a);
        break;
    case 7:
        a->shape.type = (tmb_store_type)(at % TMB_STORE_TYPES);
        a->shape.width = tmb_store_width(a->shape.type);
        if (!a->shape.width) a->shape.width = 1 + (uint32_t)value % 300;
        resize(a);
        break;
    case 8:
        if (value & 0xff) a->name[at % strlen(a->name)] = (char)value;
        break;
    }
}

/* Read all of it and, when `write`, write what was understood; NULL when it is refused. */
static memory *again(const memory *m, bool write)
{
    tmb_err err = {0};
    tmb_stats_file *f;
    tmb_stats_writer *w = NULL;
    store_given = m;
    tmb_status status = tmb_stats_open(&f, "f", &err);
    if (!status && write) status = tmb_stats_create(&w, "f", &f->identity, &err);
    for (uint32_t i = 0; !status && i < f->n_layers; i++) {
        tmb_stats_layer *few = NULL, *all = NULL;
        status = tmb_stats_read(f, i, true, &all, &err);
        if (!status && write) MUST(!tmb_stats_read(f, i, false, &few, &err));
        if (!status && write) status = tmb_stats_put(w, all, &err);
        tmb_stats_layer_free(few);
        tmb_stats_layer_free(all);
    }
    if (!status && write) status = tmb_stats_publish(w, f->manifest, &err);
    if (status)
        MUST(status == TMB_EDATA && strncmp(err.message, "f: ", 3) == 0 &&
             !strpbrk(err.message, problems));
    tmb_stats_writer_close(w);
    tmb_stats_close(f);
    memory *made = status || !write ? NULL : store_made;
    if (made) store_made = NULL;
    return made;
}

static void must_equal(const memory *a, const memory *b)
{
    MUST(a->n == b->n);
    for (size_t i = 0; i < a->n; i++) {
        const memory_array *x = &a->arrays[i], *y = &b->arrays[i];
        MUST(strcmp(x->name, y->name) == 0 && x->bytes == y->bytes);
        MUST(memcmp(x->data, y->data, x->bytes) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    memory *m = copy_of(prepare());
    for (size_t i = 0; i + CHANGE <= size; i += CHANGE)
        change(m, data + i);
    qsort(m->arrays, m->n, sizeof *m->arrays, memory_order);
    bool write = !size || data[size - 1] % 8 == 0; /* an eighth: writing makes it slow */
    memory *first = again(m, write), *second = first ? again(first, true) : NULL;
    if (first) {
        MUST(second);
        must_equal(first, second);
    }
    memory_free(m);
    memory_free(first);
    memory_free(second);
    return 0;
}
