/* Attention of long sequences against plain loops in double precision: windows, chunks, sinks,
 * grouped heads, keys in two parts; and the same rows whatever follows them. */
#include "config.h"
#include "kernels/cpu/cpu.h"
#include "moe/infer/decoder.h"
#include "tests/tap.h"

#include <math.h>
#include <string.h>

enum {
    HEADS = 4,
    KV = 2,
    DIM = 12,
    TAIL = 8,
    V = 20,
    LONG = 700,
    SHORT = 30,
    TOKENS = LONG + SHORT
};

static uint64_t seed = 1;

static float *numbers(size_t n)
{
    float *x = malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        x[i] = (float)((int32_t)(seed >> 32)) * 0x1p-30f;
    }
    return x;
}

static bool sees(const tmb_attend *a, size_t row, size_t kv, size_t query, size_t key)
{
    if (key > query) return false;
    if (a->seen) {
        const uint64_t *mask = a->seen + (row * a->masks + kv % a->masks) * a->mask_words;
        if (!(mask[key / 64] >> key % 64 & 1)) return false;
    }
    if (a->view == TMB_VIEW_WINDOW) return query - key < a->reach;
    if (a->view == TMB_VIEW_CHUNK) return query / a->reach == key / a->reach;
    return true;
}

/* out [v_dim] of one query and head, by the definition. */
static void by_definition(const tmb_attend *a, size_t begin, size_t query, size_t head, double *out)
{
    size_t keys = query + 1 + (a->ratio ? (query + 1) / a->ratio : 0);
    size_t base = a->ratio && begin ? a->key_begin[1] : begin;
    size_t kv = head / (a->heads / a->kv_heads);
    const float *q = a->q + ((begin + query) * a->heads + head) * a->head_dim;
    double sum = a->sinks ? exp(a->sinks[head]) : 0;
    memset(out, 0, a->v_dim * sizeof *out);
    for (size_t j = 0; j < keys; j++) {
        double s = 0;
        if (!a->ratio && !sees(a, begin + query, kv, query, j)) continue;
        for (size_t i = 0; i < a->k_dim; i++)
            s += (double)q[i] * a->k[(base + j) * a->k_stride + kv * a->k_step + i];
        for (size_t i = 0; i < a->tail_dim; i++)
            s += (double)q[a->k_dim + i] * a->k_tail[(base + j) * a->tail_stride + i];
        double w = exp(s * a->scale);
        sum += w;
        for (size_t i = 0; i < a->v_dim; i++)
            out[i] += w * a->v[(base + j) * a->v_stride + kv * a->v_step + i];
    }
    for (size_t i = 0; i < a->v_dim; i++)
        out[i] /= sum;
}

static double worst(const tmb_attend *a)
{
    double off = 0, want[V];
    for (size_t s = 0; s < a->sequences; s++)
        for (size_t t = 0; t < a->begin[s + 1] - a->begin[s]; t += t < 5 ? 1 : 7)
            for (size_t h = 0; h < a->heads; h++) {
                double d = 0, n = 1e-300;
                const float *got = a->out + ((a->begin[s] + t) * a->heads + h) * a->v_dim;
                by_definition(a, a->begin[s], t, h, want);
                for (size_t i = 0; i < a->v_dim; i++) {
                    d += (got[i] - want[i]) * (got[i] - want[i]);
                    n += want[i] * want[i];
                }
                off = fmax(off, sqrt(d / n));
            }
    return off;
}

/* Half of the keys, and the query's own. */
static uint64_t *some_seen(size_t masks, size_t words)
{
    uint64_t *seen = malloc(TOKENS * masks * words * sizeof *seen);
    for (size_t i = 0; i < TOKENS * masks * words; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        seen[i] = seed ^ seed >> 29;
    }
    for (size_t i = 0; i < TOKENS * masks; i++) {
        size_t own = i / masks < LONG ? i / masks : i / masks - LONG;
        seen[i * words + own / 64] |= (uint64_t)1 << own % 64;
    }
    return seen;
}

static void check(const char *name, tmb_attend a)
{
    static const size_t begin[] = {0, LONG, TOKENS}, alone[] = {0, 300};
    float *q = numbers((size_t)TOKENS * HEADS * (DIM + TAIL)),
          *k = numbers((size_t)2 * TOKENS * KV * DIM);
    float *tail = numbers((size_t)TOKENS * TAIL), *v = numbers((size_t)2 * TOKENS * KV * V);
    float *out = malloc((size_t)TOKENS * HEADS * V * sizeof *out),
          *ref = malloc((size_t)TOKENS * HEADS * V * sizeof *ref);
    a.q = q, a.k = k, a.v = v, a.out = out, a.begin = begin, a.sequences = 2;
    a.heads = HEADS, a.kv_heads = KV, a.v_dim = V, a.k_dim = DIM, a.head_dim = DIM + a.tail_dim;
    a.k_step = DIM, a.k_stride = KV * DIM, a.v_step = V, a.v_stride = KV * V;
    a.k_tail = a.tail_dim ? tail : NULL, a.tail_stride = TAIL, a.scale = 0.3f;
    const size_t key_begin[] = {0, LONG + (a.ratio ? LONG / a.ratio : 0)};
    a.key_begin = key_begin;
    a.mask_words = LONG / 64 + 1;
    uint64_t *seen = a.masks ? some_seen(a.masks, a.mask_words) : NULL;
    a.seen = seen;
    const tmb_nn *nn;
    for (int i = 0; (nn = tmb_cpu_nn_at(i)); i++) {
        tmb_decoder d = {.nn = nn, .threads = 2};
        tmb_err err = {0};
        tmb_status status = tmb_attend_run(&d, &a, &err);
        double off = worst(&a);
        ok(!status && off < 1e-5, "%s, %s: %.1e from the definition", nn->name, name, off);
        if (i)
            ok(!memcmp(out, ref, (size_t)TOKENS * HEADS * V * sizeof *out),
               "%s, %s: the reference's bytes", nn->name, name);
        memcpy(ref, out, (size_t)TOKENS * HEADS * V * sizeof *out);
        tmb_attend part = a;
        part.begin = alone, part.sequences = 1;
        status = tmb_attend_run(&d, &part, &err);
        ok(!status && !memcmp(out, ref, (size_t)alone[1] * HEADS * V * sizeof *out),
           "%s, %s: tokens that follow change nothing", nn->name, name);
    }
    free(q), free(k), free(tail), free(v), free(out), free(ref), free(seen);
}

int main(void)
{
    static const float sinks[HEADS] = {-1, 0, 2, 5};
    check("causal", (tmb_attend){.view = TMB_VIEW_FULL});
    check("window of 5", (tmb_attend){.view = TMB_VIEW_WINDOW, .reach = 5});
    check("window of 300", (tmb_attend){.view = TMB_VIEW_WINDOW, .reach = 300, .sinks = sinks});
    check("chunks of 64", (tmb_attend){.view = TMB_VIEW_CHUNK, .reach = 64});
    check("chunks of 333", (tmb_attend){.view = TMB_VIEW_CHUNK, .reach = 333});
    check("sinks", (tmb_attend){.view = TMB_VIEW_FULL, .sinks = sinks});
    check("chosen keys", (tmb_attend){.view = TMB_VIEW_FULL, .masks = 1});
    check("chosen by key head", (tmb_attend){.view = TMB_VIEW_FULL, .masks = KV, .sinks = sinks});
    check("a key more behind every 7 tokens", (tmb_attend){.view = TMB_VIEW_FULL, .ratio = 7});
    check("keys in two parts", (tmb_attend){.view = TMB_VIEW_FULL, .tail_dim = TAIL});
    return done();
}
