/* test_tap.c - statistics of a real forward pass: however its tokens are put into batches, and in
 * whatever order, the layer's file has the same content; padding leaves no trace. */
#include "config.h"
#include "moe/calib/file.h"
#include "moe/calib/tap.h"
#include "moe/infer/forward.h"
#include "tests/job.h"
#include "tests/tap.h"

#include <unistd.h>

enum { SEQUENCES = 6, LONGEST = 12 };

typedef struct subject {
    tmb_checkpoint *ckpt;
    tmb_model *model;
    tmb_decoder *decoder;
    size_t hidden;
} subject;

/* How the tokens are shown. */
typedef struct way {
    const char *name;
    uint32_t at_once; /* sequences in a batch */
    bool backwards, padding;
    int threads;
} way;

static uint32_t length_of(uint32_t s)
{
    return 5 + s * 5 % 8;
}

static int32_t id_of(uint32_t s, uint32_t t)
{
    return (int32_t)((s * 31 + t * 17 + s * t) % 200);
}

/* One batch of sequences [n] through layers 0 … last, the statistics of `last` taken on the way. */
static tmb_status run_batch(subject *s, tmb_stats_layer *l, const uint32_t *which, uint32_t n,
                            bool padding, tmb_err *err)
{
    size_t begin[SEQUENCES + 1] = {0};
    int32_t ids[SEQUENCES * (LONGEST + 3)];
    uint8_t counted[SEQUENCES * (LONGEST + 3)];
    uint32_t source[SEQUENCES * (LONGEST + 3)];
    size_t k = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t real = length_of(which[i]), all = real + (padding ? 3 : 0);
        for (uint32_t t = 0; t < all; t++) {
            ids[k] = t < real ? id_of(which[i], t) : 1;
            source[k] = which[i] % 2;
            counted[k++] = t < real;
        }
        begin[i + 1] = k;
    }
    float *x = malloc(k * s->hidden * sizeof *x);
    tmb_tap tap = {.layer = l, .source = source, .counted = padding ? counted : NULL};
    tmb_observer observer = tmb_tap_observer(&tap);
    tmb_status status = tmb_decoder_embed(s->decoder, ids, k, x, err);
    for (int32_t i = 0; i <= l->index && !status; i++) {
        tmb_batch batch = {
            .x = x, .begin = begin, .sequences = n, .observer = i == l->index ? &observer : NULL};
        status = tmb_decoder_load(s->decoder, i, err);
        if (!status) status = tmb_decoder_run(s->decoder, &batch, err);
    }
    tmb_tap_close(&tap);
    free(x);
    return status;
}

static tmb_status digest_of(subject *s, const way *w, const char *dir, int32_t layer,
                            tmb_stats_layer **out, char digest[TMB_SHA256_HEX], tmb_err *err)
{
    char path[128];
    tmb_stats_options o = {.moments = true, .sources = 2, .threads = w->threads};
    tmb_stats_source sources[2] = {{.name = "a"}, {.name = "b"}};
    tmb_stats_identity id = {.model_type = s->model->model_type,
                             .model_sha256 = "0",
                             .moments = true,
                             .layers = (uint32_t)tmb_decoder_layers(s->decoder),
                             .sources = sources,
                             .n_sources = 2};
    tmb_stats_writer *writer = NULL;
    TRY(tmb_stats_layer_new(out, s->model, layer, &o, err));
    tmb_status status = TMB_OK;
    for (uint32_t at = 0; at < SEQUENCES && !status; at += w->at_once) {
        uint32_t which[SEQUENCES], n = 0;
        for (; n < w->at_once && at + n < SEQUENCES; n++)
            which[n] = w->backwards ? SEQUENCES - 1 - at - n : at + n;
        status = run_batch(s, *out, which, n, w->padding, err);
    }
    snprintf(path, sizeof path, "%s/stats.h5", dir);
    if (!status) status = tmb_stats_create(&writer, path, &id, err);
    if (!status) status = tmb_stats_put(writer, *out, err);
    if (!status) status = tmb_stats_publish(writer, "{}", err);
    if (!status) strcpy(digest, tmb_stats_writer_digest(writer));
    tmb_stats_writer_close(writer);
    return status;
}

/* Every Linear that a forward pass multiplies by has been seen by all tokens, experts by theirs. */
static bool all_seen(const tmb_stats_layer *l, uint64_t tokens)
{
    bool fine = l->has_kv;
    for (uint32_t s = 0; s < l->n_sites; s++) {
        const tmb_site *site = &l->sites[s];
        uint64_t sum = 0;
        for (uint32_t e = 0; e < site->n; e++)
            sum += site->native[e].tokens;
        bool good = site->expert ? l->router && sum == tokens * l->router->top_k : sum == tokens;
        /* A router may be shown by its logits alone. */
        if (!good && !(sum == 0 && strstr(site->linears[0], "gate") &&
                       !strstr(site->linears[0], "gate_proj"))) {
            printf("# %s: %llu rows of %llu tokens\n", site->name, (unsigned long long)sum,
                   (unsigned long long)tokens);
            fine = false;
        }
        for (uint32_t e = 0; site->expert && e < site->n; e++)
            if (site->native[e].tokens != l->router->load[e]) fine = false;
    }
    return fine;
}

static void look_at(const char *name, int32_t layer, const char *dir)
{
    static const way ways[] = {{"one batch", SEQUENCES, false, false, 1},
                               {"one by one", 1, false, false, 2},
                               {"backwards by fours", 4, true, false, 1},
                               {"with padding", 3, false, true, 1}};
    subject s = {0};
    tmb_err err = {0};
    char first[TMB_SHA256_HEX] = "", digest[TMB_SHA256_HEX] = "?";
    uint64_t tokens = 0;
    tmb_decoder_options o = {.threads = 1};
    tmb_status status = tmb_checkpoint_open(&s.ckpt, data_path(name), &err);
    if (!status) status = tmb_model_open(&s.model, s.ckpt, &err);
    if (!status) status = tmb_decoder_open(&s.decoder, s.model, &o, &err);
    if (!status) s.hidden = tmb_decoder_config(s.decoder)->hidden;
    for (uint32_t i = 0; i < SEQUENCES; i++)
        tokens += length_of(i);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        tmb_stats_layer *l = NULL;
        if (!status) status = digest_of(&s, &ways[i], dir, layer, &l, digest, &err);
        if (!i) {
            ok(!status && all_seen(l, tokens), "%s: every input is measured%s%s", name,
               status ? ": " : "", err.message);
            strcpy(first, digest);
        } else
            ok(!status && !strcmp(first, digest), "%s: %s, the same content", name, ways[i].name);
        tmb_stats_layer_free(l);
    }
    tmb_decoder_close(s.decoder);
    if (s.model) tmb_model_close(s.model);
    if (s.ckpt) tmb_checkpoint_close(s.ckpt);
}

int main(void)
{
    char dir[] = "/tmp/test_tap-XXXXXX", command[64];
    if (!mkdtemp(dir)) return 1;
    look_at("tinymoe/a", 1, dir);
    look_at("arch/mixtral", 1, dir);
    look_at("arch/gpt_oss", 1, dir);
    look_at("arch/deepseek_v3_fp8", 1, dir);
    look_at("arch/qwen3_moe", 0, dir);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command) ? 1 : done();
}
