/* The forward pass against float32 references of transformers (tests/data/README.md): logits,
 * hidden states, router logits within 1e-4, the chosen experts and their weights; and that a
 * token's bytes do not depend on the batch, the threads, the instruction set or the room for
 * weights.
 *
 * Folders given as arguments are tried instead of tests/data. */
#include "config.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/topk.h"
#include "moe/infer/forward.h"
#include "tests/reference.h"
#include "tests/tap.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>

/* A model and what its reference holds. */
typedef struct subject {
    const char *name;
    tmb_checkpoint *ckpt;
    tmb_model *model;
    reference ref;
    int32_t *ids;
    size_t sequences, length, tokens;
} subject;

static double distance(const float *got, const float *want, size_t n)
{
    double d = 0, s = 1e-300;
    for (size_t i = 0; i < n; i++) {
        d += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        s += (double)want[i] * want[i];
    }
    return sqrt(d / s);
}

/* The largest distance of a row; rows of n. */
static double worst_row(const float *got, const float *want, size_t rows, size_t n)
{
    double worst = 0;
    for (size_t r = 0; r < rows; r++)
        worst = fmax(worst, distance(got + r * n, want + r * n, n));
    return worst;
}

static bool open_subject(subject *s, const char *folder, const char *ref, tmb_err *err)
{
    const tmb_tensor *t;
    *s = (subject){.name = strrchr(folder, '/') ? strrchr(folder, '/') + 1 : folder};
    if (tmb_checkpoint_open(&s->ckpt, folder, err) || tmb_model_open(&s->model, s->ckpt, err) ||
        reference_open(&s->ref, ref, err))
        return false;
    const int64_t *ids = reference_find(&s->ref, "input_ids", &t);
    if (!ids) return false;
    s->sequences = (size_t)t->shape[0];
    s->length = (size_t)t->shape[1];
    s->tokens = s->sequences * s->length;
    s->ids = malloc(s->tokens * sizeof *s->ids);
    for (size_t i = 0; i < s->tokens; i++)
        s->ids[i] = (int32_t)ids[i];
    return true;
}

static void close_subject(subject *s)
{
    free(s->ids);
    reference_close(&s->ref);
    tmb_model_close(s->model);
    tmb_checkpoint_close(s->ckpt);
}

/* What the routers of a run gave, and how far that is from the reference. */
typedef struct seen {
    const subject *s;
    double logits, weights;
    size_t wrong, ties, routers, indexers, other_keys;
} seen;

static tmb_status see_router(void *ctx, const tmb_router_seen *r, tmb_err *err)
{
    (void)err;
    seen *s = ctx;
    char name[64];
    snprintf(name, sizeof name, "router_logits.%d", r->layer);
    const float *logits = reference_find(&s->s->ref, name, NULL);
    snprintf(name, sizeof name, "router_topk.%d", r->layer);
    const int64_t *topk = reference_find(&s->s->ref, name, NULL);
    snprintf(name, sizeof name, "router_weight.%d", r->layer);
    const float *weight = reference_find(&s->s->ref, name, NULL);
    s->routers++;
    s->ties += r->ties;
    if (!logits || !topk || !weight) {
        s->wrong += 1000000;
        return TMB_OK;
    }
    s->logits = fmax(s->logits, worst_row(r->logits, logits, r->tokens, r->n_experts));
    s->weights = fmax(s->weights, worst_row(r->weight, weight, r->tokens, r->top_k));
    for (size_t i = 0; i < r->tokens * r->top_k; i++)
        s->wrong += r->chosen[i] != (uint64_t)topk[i];
    return TMB_OK;
}

/* Run sequences first … end-1; x [their tokens, hidden], logits may be NULL, worst: of hidden.i. */
static tmb_status run(const subject *s, const tmb_decoder_options *options, size_t first,
                      size_t end, const tmb_observer *observer, float **x, float **logits,
                      double *worst, tmb_err *err)
{
    tmb_decoder *d;
    TRY(tmb_decoder_open(&d, s->model, options, err));
    size_t width = tmb_decoder_reach(d, s->length), state = tmb_decoder_state(d);
    size_t vocab = tmb_decoder_config(d)->vocab;
    size_t n = (end - first) * s->length, begin[64];
    for (size_t i = 0; i <= end - first; i++)
        begin[i] = i * s->length;
    *x = malloc(n * width * sizeof **x);
    tmb_status status = tmb_decoder_embed(d, s->ids + first * s->length, n, *x, err);
    for (int l = 0; !status && l < tmb_decoder_layers(d); l++) {
        tmb_batch batch = {.x = *x, .begin = begin, .sequences = end - first, .observer = observer};
        status = tmb_decoder_load(d, l, err);
        if (!status) status = tmb_decoder_run(d, &batch, err);
        char name[32];
        snprintf(name, sizeof name, "hidden.%d", l);
        const float *want = reference_find(&s->ref, name, NULL);
        if (worst && want)
            for (size_t i = 0; i < n; i++)
                *worst = fmax(*worst, distance(*x + i * width,
                                               want + (first * s->length + i) * state, state));
    }
    if (!status && logits) {
        *logits = malloc(n * vocab * sizeof **logits);
        status = tmb_decoder_head(d, *x, n, *logits, NULL, err);
    }
    tmb_decoder_close(d);
    return status;
}

/* How many of the chosen numbers of one row are not the wanted ones; -1 and what lies behind the
 * query's own position are no choice. */
static size_t other_keys(const uint64_t *bits, size_t bits_of, size_t position, const int64_t *want,
                         size_t k)
{
    size_t chosen = 0, there = 0, other = 0;
    for (size_t j = 0; j < k; j++) {
        if (want[j] < 0 || (size_t)want[j] > position) continue;
        chosen++;
        other += !tmb_bit_at(bits, (size_t)want[j]);
    }
    for (size_t j = 0; j <= position && j < bits_of; j++)
        there += tmb_bit_at(bits, j);
    return other + (there != chosen);
}

/* Bits against index_mask [B, T, T] U8. */
static void see_mask(seen *s, const tmb_index_seen *x, const uint8_t *mask)
{
    size_t length = s->s->length;
    s->indexers++;
    for (size_t i = 0; i < x->tokens; i++)
        for (size_t k = 0; k <= i % length; k++)
            s->other_keys += tmb_bit_at(x->seen + i * x->words, k) != (mask[i * length + k] != 0);
}

/* Bits against index_topk [B, T, k], of key heads [B, heads, T, k]. */
static tmb_status see_index(void *ctx, const tmb_index_seen *x, tmb_err *err)
{
    (void)err;
    seen *s = ctx;
    const tmb_tensor *t = NULL;
    char name[64];
    snprintf(name, sizeof name, "index_topk.%d", x->layer);
    const int64_t *topk = reference_find(&s->s->ref, name, &t);
    s->indexers += topk != NULL;
    snprintf(name, sizeof name, "index_mask.%d", x->layer);
    const uint8_t *mask = reference_find(&s->s->ref, name, NULL);
    if (mask) see_mask(s, x, mask);
    for (size_t i = 0; topk && i < x->tokens; i++)
        for (size_t h = 0; h < x->masks; h++) {
            size_t length = s->s->length, k = (size_t)t->shape[t->rank - 1];
            size_t row = (i / length * x->masks + h) * length + i % length;
            s->other_keys += other_keys(x->seen + (i * x->masks + h) * x->words, 64 * x->words,
                                        i % length, topk + row * k, k);
        }
    return TMB_OK;
}

static void check_reference(const subject *s)
{
    tmb_err err = {0};
    seen got = {.s = s};
    tmb_observer observer = {.router = see_router, .index = see_index, .ctx = &got};
    tmb_decoder_options options = {.threads = 2};
    float *x = NULL, *logits = NULL;
    double hidden = 0, out = INFINITY;
    tmb_status status = run(s, &options, 0, s->sequences, &observer, &x, &logits, &hidden, &err);
    const tmb_tensor *t;
    const float *want = reference_find(&s->ref, "logits", &t);
    if (!status && want) out = worst_row(logits, want, s->tokens, (size_t)t->shape[2]);
    ok(!status && out < 1e-4 && hidden < 1e-4, "%s: logits %.1e, hidden %.1e %s", s->name, out,
       hidden, err.message);
    ok(!status && got.logits < 1e-4 && got.weights < 1e-4 && got.wrong == 0 && got.routers > 0,
       "%s: %zu routers: logits %.1e, weights %.1e, %zu other choices, %zu ties", s->name,
       got.routers, got.logits, got.weights, got.wrong, got.ties);
    const tmb_tensor *index = NULL;
    for (int i = 0; i < 8 && !index; i++) {
        char name[32];
        snprintf(name, sizeof name, "index_topk.%d", i);
        reference_find(&s->ref, name, &index);
        snprintf(name, sizeof name, "index_mask.%d", i);
        reference_find(&s->ref, name, &index);
    }
    if (index)
        ok(got.indexers > 0 && !got.other_keys, "%s: %zu indexers: %zu other choices", s->name,
           got.indexers, got.other_keys);
    free(x);
    free(logits);
}

/* Floats of a row. */
static size_t alone_width(const subject *s, tmb_err *err)
{
    tmb_decoder *d;
    if (tmb_decoder_open(&d, s->model, &(tmb_decoder_options){.threads = 1}, err)) return 0;
    size_t width = tmb_decoder_reach(d, s->length);
    tmb_decoder_close(d);
    return width;
}

/* The same bytes from each sequence alone, one thread, little room, and every table. */
static void check_same(const subject *s)
{
    tmb_err err = {0};
    float *all = NULL, *x = NULL;
    tmb_decoder_options options = {.threads = 2};
    if (run(s, &options, 0, s->sequences, NULL, &all, NULL, NULL, &err)) {
        ok(0, "%s: %s", s->name, err.message);
        return;
    }
    bool same = true;
    size_t width = 0;
    for (size_t i = 0; i < s->sequences; i++) {
        tmb_decoder_options alone = {.threads = 1, .layer_bytes = 1};
        same &= !run(s, &alone, i, i + 1, NULL, &x, NULL, NULL, &err);
        width = alone_width(s, &err) * s->length;
        same &= x && !memcmp(x, all + i * width, width * sizeof *x);
        free(x);
    }
    ok(same, "%s: a sequence alone, one thread, one expert at a time: the same bytes", s->name);
    const tmb_nn *nn;
    for (int i = 0; (nn = tmb_cpu_nn_at(i)); i++) {
        tmb_decoder_options other = {.threads = 3, .nn = nn, .layer_bytes = 100000};
        bool good =
            !run(s, &other, 0, 1, NULL, &x, NULL, NULL, &err) && !memcmp(x, all, width * sizeof *x);
        ok(good, "%s: %s: the same bytes %s", s->name, nn->name, err.message);
        free(x);
    }
    free(all);
}

static void check(const char *folder, const char *ref)
{
    subject s;
    tmb_err err = {0};
    if (open_subject(&s, folder, ref, &err)) {
        check_reference(&s);
        check_same(&s);
    } else {
        ok(0, "%s: %s", folder, err.message);
    }
    close_subject(&s);
}

int main(int argc, char **argv)
{
    static const char *const shipped[] = {
        "mixtral",      "qwen3_moe",         "deepseek_v3_fp8", "gpt_oss",      "gpt_oss_mxfp4",
        "llama4_mm",    "minimax_m2",        "kimi_k25_int4",   "qwen3_vl_moe", "qwen3_5_moe",
        "ernie4_5_moe", "nemotron_h_latent", "minimax_m3",      "deepseek_v4"};
    static const char *const own[] = {
        "qwen2_moe",    "olmoe",       "deepseek_v2",      "deepseek_v3", "kimi_k2",
        "glm4_moe",     "llama4_text", "qwen3_moe_window", "qwen3_next",  "glm_moe_dsa",
        "deepseek_v32", "nemotron_h",  "deepseek_v4",      "qwen4_exp"};
    const char *srcdir = getenv("srcdir");
    char folder[4096], ref[4200];
    for (int i = 1; i < argc; i++) {
        snprintf(ref, sizeof ref, "%s/reference.safetensors", argv[i]);
        check(argv[i], ref);
    }
    if (argc > 1) return done();
    if (!srcdir) srcdir = ".";
    for (size_t i = 0; i < sizeof shipped / sizeof *shipped; i++) {
        snprintf(folder, sizeof folder, "%s/tests/data/arch/%s", srcdir, shipped[i]);
        snprintf(ref, sizeof ref, "%s/tests/data/forward/%s.safetensors", srcdir, shipped[i]);
        check(folder, ref);
    }
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        snprintf(folder, sizeof folder, "%s/tests/data/forward/%s", srcdir, own[i]);
        snprintf(ref, sizeof ref, "%s/reference.safetensors", folder);
        check(folder, ref);
    }
    return done();
}
