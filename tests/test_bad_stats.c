/* test_bad_stats.c - statistics files whose arrays are sound and whose figures are not: each is
 * refused by name, with the file, the array and what is wrong. */
#include "config.h"
#include "moe/io/store.h"
#include "tests/stats_feed.h"
#include "tests/tap.h"

#define GATE "layers/000/mlp.experts.gate_proj+up_proj"

typedef struct bad {
    const char *array;
    int64_t at;    /* element; -1: the array is left out */
    int64_t value; /* stored there in the array's type (floats by their bits) */
    const char *says;
    int read; /* 0: opening fails, 1: reading layer 0 with moments does */
} bad;

static const bad cases[] = {
    {"model/type", -1, 0, "model/type: is missing", 0},
    {"manifest", -1, 0, "manifest: is missing", 0},
    {"settings/hessian", 0, 'x', "settings/hessian: neither block16 nor none", 0},
    {"data/sources", 0, 'z', "data/sources: not in the order of names", 0},
    {"data/source_sequences", 0, 77, "data/source_sequences: do not add up", 0},
    {"data/sequences", 0, 255, "data/sequences: not sorted", 0},
    {"model/layers", 0, 0, "no layer of the model", 0},
    {"layers/000/sites", 0, '/', "a name is empty, too long, or has a slash", 1},
    {"layers/000/sites", -1, 0, "layers: there are none", 0},
    {"layers/000/kv_amax", 0, 0x7f800000, "kv_amax: negative or not finite", 1},
    {GATE "/linears", -1, 0, "linears: is missing", 1},
    {GATE "/channels", 0, 127, "values: does not add up", 1},
    {GATE "/channels", 0, 0, "channels: no Linear", 1},
    {GATE "/experts", 0, 99999, "or more than 2^24 channels or 4096 experts", 1},
    {GATE "/experts", 0, 15, "has another type or shape", 1},
    {GATE "/tokens", 1, INT64_MAX, "tokens: more than 2^40", 1},
    {GATE "/tokens", 1, 7, "values: does not add up to tokens times channels", 1},
    {GATE "/amax", 0, 0x7fc00000, "amax: negative, not finite", 1},
    {GATE "/amax", 0, 0x47000000, "amax: lies in a bin without counts", 1},
    {GATE "/exponent", 0, 3, "exponent: none that a sum can have", 1},
    {GATE "/exponent", 0, 0, "exponent: none that a sum can have", 1},
    {GATE "/values_first", 0, 2047, "values: bins outside 0 to 2047", 1},
    {GATE "/values", 3, 1 << 20, "values: does not add up", 1},
    {GATE "/blocks", 3, 1 << 20, "blocks: does not add up to tokens times blocks", 1},
    {GATE "/sum_of_squares", 0, 12345, "is not the diagonal of second_moment", 1},
    {GATE "/second_moment", 0, INT64_MAX, "is not within 48 bits", 1},
    {GATE "/second_moment", -1, 0, "second_moment: is missing", 1},
    {GATE "/rung", 3, 0, "rung: not what the tokens say", 1},
    {GATE "/shadow/expert", 0, 16, "expert: not ascending, or no such expert", 1},
    {GATE "/shadow/tokens", 0, 0, "amax: negative, not finite, or without tokens", 1},
    {"layers/000/router/load", 2, 1, "does not add up to load", 1},
    {"layers/000/router/pairs", 0, 1, "pairs: its diagonal is not load", 1},
    {"layers/000/router/top_k", 0, 17, "top_k: not within the experts", 1},
    {"layers/000/router/top_k", 0, 3, "load: does not add up to tokens times top_k", 1},
    {"layers/000/router/by_source", -1, 0, "by_source: is missing", 1},
    {"layers/000/router/logits_positive", 0, 99999, "logits do not add up", 1},
    {"layers/000/router/margin", 0, 99999, "margin: does not add up to the tokens", 1},
    {"layers/000/router/ties", 0, 99999, "margin: does not add up", 1},
};

static void put_value(char *data, const tmb_store_shape *shape, int64_t at, int64_t value)
{
    uint32_t width = shape->type == TMB_STORE_TEXT ? 1 : shape->width;
    memcpy(data + (size_t)at * width, &value, width); /* little-endian */
}

/* A copy of the file with one thing changed. */
static tmb_status alter(const char *from, const char *to, const bad *b, bool *found, tmb_err *err)
{
    tmb_store *in = NULL, *out = NULL;
    const char *name;
    *found = false;
    tmb_status status = tmb_store_open(&in, from, "tombac statistics", 1, err);
    if (!status) status = tmb_store_create(&out, to, "tombac statistics", 1, err);
    for (size_t i = 0; !status && (name = tmb_store_at(in, i)); i++) {
        tmb_store_shape shape;
        uint64_t bytes;
        bool this = !strcmp(name, b->array);
        *found |= this;
        if (this && b->at < 0) continue;
        tmb_store_find(in, name, &shape);
        bytes = shape.width;
        for (int d = 0; d < shape.rank; d++)
            bytes *= shape.dims[d];
        char *data = calloc(1, bytes + 8);
        status = tmb_store_get(in, name, shape.type, shape.rank, shape.dims, data, err);
        if (this) put_value(data, &shape, b->at, b->value);
        if (!status && shape.type == TMB_STORE_TEXT) {
            const char *texts[64];
            char *copies = calloc(64, shape.width + 1);
            for (uint64_t t = 0; t < shape.dims[0]; t++) {
                texts[t] = copies + t * (shape.width + 1);
                memcpy(copies + t * (shape.width + 1), data + t * shape.width, shape.width);
            }
            status = tmb_store_put_texts(out, name, texts, shape.dims[0], err);
            free(copies);
        } else if (!status)
            status = tmb_store_put(out, name, shape.type, shape.rank, shape.dims, data, err);
        free(data);
    }
    if (!status) status = tmb_store_publish(out, err);
    tmb_store_close(out);
    tmb_store_close(in);
    return status;
}

static tmb_status read_back(const char *path, int *stage, tmb_err *err)
{
    tmb_stats_file *f = NULL;
    tmb_stats_layer *l = NULL;
    *stage = 0;
    tmb_status status = tmb_stats_open(&f, path, err);
    for (uint32_t i = 0; !status && i < f->n_layers; i++) {
        *stage = 1;
        status = tmb_stats_read(f, i, true, &l, err);
        tmb_stats_layer_free(l);
        l = NULL;
    }
    tmb_stats_close(f);
    return status;
}

static tmb_status write_good(const char *path, const tmb_model *model, tmb_err *err)
{
    feed_plan p = {.model = model,
                   .end = 12,
                   .step = 1,
                   .batch = 32,
                   .threads = 1,
                   .moments = true,
                   .shadow = 3};
    feed_identity f;
    tmb_stats_writer *w = NULL;
    feed_identify(&f, 0, p.end, true);
    tmb_status status = tmb_stats_create(&w, path, &f.id, err);
    tmb_stats_layer *layer = NULL;
    if (!status) status = feed_layer(&p, 0, &layer, err);
    if (!status) status = tmb_stats_put(w, layer, err);
    tmb_stats_layer_free(layer);
    if (!status) status = tmb_stats_publish(w, "{}", err);
    tmb_stats_writer_close(w);
    return status;
}

int main(void)
{
    char dir[] = "/tmp/test_bad_stats-XXXXXX", good[64], path[64], command[64];
    tmb_checkpoint *ckpt = NULL;
    tmb_model *model = NULL;
    tmb_err err = {0};
    int stage;
    if (tmb_checkpoint_open(&ckpt, data_path("tinymoe/a"), &err) ||
        tmb_model_open(&model, ckpt, &err) || !mkdtemp(dir)) {
        printf("Bail out! %s\n", err.message);
        return 1;
    }
    snprintf(good, sizeof good, "%s/good.h5", dir);
    snprintf(path, sizeof path, "%s/bad.h5", dir);
    tmb_status status = write_good(good, model, &err);
    if (!status) status = read_back(good, &stage, &err);
    ok(!status, "a good file is read %s", err.message);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const bad *b = &cases[i];
        bool found;
        status = alter(good, path, b, &found, &err);
        if (status || !found) {
            ok(0, "%s: cannot be changed %s", b->array, err.message);
            continue;
        }
        err = (tmb_err){0};
        status = read_back(path, &stage, &err);
        bool fine = status == TMB_EDATA && strstr(err.message, b->says) &&
                    strstr(err.message, "bad.h5") && stage == b->read;
        ok(fine, "%s%s: %s", b->array, b->at < 0 ? " left out" : "", fine ? b->says : err.message);
    }
    tmb_model_close(model);
    tmb_checkpoint_close(ckpt);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command) ? 1 : done();
}
