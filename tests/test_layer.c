/* One MoE layer: on the processor and, where there is one, on the GPU, against float64 over the
 * decoded weights, for every format, router and activation; rows by themselves; ranks that have
 * half of the experts; one graph for every routing. */
#include "config.h"
#include "kernels/base/codec.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/route.h"
#include "moe/format/formats.h"
#include "moe/infer/layer.h"
#include "tests/random.h"
#include "tests/tap.h"

#include <math.h>
#include <string.h>

static tmb_cuda *gpu;
static tmb_err err;

static void must(tmb_status status)
{
    if (!status) return;
    printf("Bail out! %s\n", err.message);
    exit(1);
}

static void *room(size_t bytes)
{
    void *p = malloc(bytes ? bytes : 1);
    if (!p) exit(1);
    return p;
}

/* ---- a layer's weights, stored and decoded ----------------------------------------------------
 */

enum { GATE, UP, DOWN, PARTS };

typedef struct matrix {
    size_t out, in;
    void *codes, *scales;
    float global, *bias;
    float *value; /* [out, in] what the parts say */
} matrix;

typedef struct setup {
    tmb_layer_shape shape;
    tmb_layer_expert experts[64];
    matrix weight[64][PARTS];
    float correction[64];
} setup;

static void quantize(matrix *m, const tmb_format *f, const float *x)
{
    const tmb_ops *ops = tmb_cpu_ops();
    float *work = room(tmb_format_work(m->in) * sizeof *work);
    tmb_geometry codes, scales = {0};
    f->part(f, TMB_PART_CODES, m->out, m->in, &codes);
    f->part(f, TMB_PART_SCALE, m->out, m->in, &scales);
    m->codes = room(codes.bytes);
    m->scales = room(scales.bytes);
    m->global = f->global_scale ? f->global_scale(ops->amax(x, m->out * m->in)) : 1.0f;
    for (size_t r = 0; r < m->out; r += TMB_TILE_ROWS) {
        size_t n = m->out - r < TMB_TILE_ROWS ? m->out - r : TMB_TILE_ROWS;
        uint8_t *code = (uint8_t *)m->codes + tmb_format_row_offset(&codes, m->out, r);
        uint8_t *scale = (uint8_t *)m->scales;
        if (scales.bytes) scale += tmb_format_row_offset(&scales, m->out, r);
        f->encode(f, ops, TMB_SCALE_MAX, x + r * m->in, n, m->in, m->global, code, scale, work);
        f->decode(f, ops, m->value + r * m->in, n, m->in, code, scale, m->global, work);
    }
    free(work);
}

static void make_matrix(matrix *m, const tmb_format *f, size_t out, size_t in, bool biased)
{
    *m = (matrix){.out = out, .in = in, .global = 1.0f};
    float *x = room(out * in * sizeof *x);
    m->value = room(out * in * sizeof *x);
    for (size_t i = 0; i < out * in; i++)
        x[i] = random_float() * 3.0f / sqrtf((float)in);
    if (f) {
        quantize(m, f, x);
    } else {
        uint16_t *half = m->codes = room(out * in * 2);
        for (size_t i = 0; i < out * in; i++) {
            half[i] = tmb_f32_to_bf16(x[i]);
            m->value[i] = tmb_bf16_to_f32(half[i]);
        }
    }
    if (biased) {
        m->bias = room(out * sizeof *m->bias);
        for (size_t i = 0; i < out; i++)
            m->bias[i] = random_float();
    }
    free(x);
}

/* up, down: names of formats, NULL for BF16; odd experts take odd_up and odd_down. */
static setup *make_setup(tmb_layer_shape shape, const char *const names[4], bool biased)
{
    setup *s = calloc(1, sizeof *s);
    if (!s) exit(1);
    s->shape = shape;
    for (int e = 0; e < shape.router.experts; e++) {
        const char *up = names[e % 2 * 2], *down = names[e % 2 * 2 + 1];
        s->experts[e] = (tmb_layer_expert){true, up ? tmb_format_find(up) : NULL,
                                           down ? tmb_format_find(down) : NULL};
        for (int p = 0; p < PARTS; p++)
            make_matrix(&s->weight[e][p], p == DOWN ? s->experts[e].down : s->experts[e].up,
                        (size_t)(p == DOWN ? shape.hidden : shape.inter),
                        (size_t)(p == DOWN ? shape.inter : shape.hidden), biased);
        s->correction[e] = random_float() * 0.2f;
    }
    if (shape.router.score == TMB_SCORE_SIGMOID) s->shape.router.correction = s->correction;
    return s;
}

static void free_setup(setup *s)
{
    for (int e = 0; e < s->shape.router.experts; e++)
        for (int p = 0; p < PARTS; p++) {
            free(s->weight[e][p].codes);
            free(s->weight[e][p].scales);
            free(s->weight[e][p].bias);
            free(s->weight[e][p].value);
        }
    free(s);
}

static tmb_layer *open_layer(const setup *s, tmb_cuda *device)
{
    tmb_layer *layer;
    must(tmb_layer_open(&layer, &s->shape, s->experts, device, &err));
    for (int e = s->shape.router.experts - 1; e >= 0; e--) {
        tmb_layer_linear part[PARTS];
        for (int p = 0; p < PARTS; p++) {
            const matrix *m = &s->weight[e][p];
            part[p] = (tmb_layer_linear){m->codes, m->scales, m->global, m->bias};
        }
        if (s->experts[e].here)
            must(tmb_layer_set(layer, e, &part[GATE], &part[UP], &part[DOWN], &err));
    }
    return layer;
}

/* ---- tokens -----------------------------------------------------------------------------------
 */

typedef struct tokens {
    size_t n, hidden, experts;
    uint16_t *x, *shared, *y;
    float *logits, *gate;
} tokens;

static tokens make_tokens(const setup *s, size_t n)
{
    tokens t = {
        .n = n, .hidden = (size_t)s->shape.hidden, .experts = (size_t)s->shape.router.experts};
    t.x = room(n * t.hidden * 2);
    t.shared = room(n * t.hidden * 2);
    t.y = room(n * t.hidden * 2);
    t.logits = room(n * t.experts * 4);
    t.gate = room(n * 4);
    for (size_t i = 0; i < n * t.hidden; i++) {
        t.x[i] = tmb_f32_to_bf16(random_float());
        t.shared[i] = tmb_f32_to_bf16(random_float() * 0.1f);
    }
    for (size_t i = 0; i < n * t.experts; i++)
        t.logits[i] = random_float() * 3.0f;
    for (size_t i = 0; i < n; i++)
        t.gate[i] = random_float();
    return t;
}

static void free_tokens(tokens *t)
{
    free(t->x);
    free(t->shared);
    free(t->y);
    free(t->logits);
    free(t->gate);
}

static tmb_layer_batch batch_of(const tokens *t, int shared)
{
    return (tmb_layer_batch){.tokens = (int)t->n,
                             .x = t->x,
                             .logits = t->logits,
                             .shared = shared ? t->shared : NULL,
                             .shared_gate = shared > 1 ? t->gate : NULL,
                             .y = t->y};
}

static void *upload(const void *from, size_t bytes)
{
    void *p;
    must(tmb_cuda_alloc(gpu, &p, bytes + 16, &err));
    must(tmb_cuda_upload(gpu, p, from, bytes, &err));
    return p;
}

/* Run on the device that the layer was opened for; y poisoned before. */
static void run(tmb_layer *layer, const tokens *t, int shared, bool device)
{
    tmb_layer_batch b = batch_of(t, shared);
    size_t bytes = t->n * t->hidden * 2;
    memset(t->y, 0xff, bytes);
    if (!device) {
        must(tmb_layer_run(layer, &b, &err));
        return;
    }
    void *used[] = {upload(t->x, bytes), upload(t->logits, t->n * t->experts * 4),
                    upload(t->shared, bytes), upload(t->gate, t->n * 4), upload(t->y, bytes)};
    b.x = used[0];
    b.logits = used[1];
    b.shared = shared ? used[2] : NULL;
    b.shared_gate = shared > 1 ? used[3] : NULL;
    b.y = used[4];
    must(tmb_layer_run(layer, &b, &err));
    must(tmb_cuda_download(gpu, t->y, used[4], bytes, &err));
    for (int i = 0; i < 5; i++)
        tmb_cuda_free(gpu, used[i]);
}

/* ---- float64 ----------------------------------------------------------------------------------
 */

static double dot64(const matrix *m, size_t row, const double *x)
{
    double sum = m->bias ? (double)m->bias[row] : 0;
    for (size_t k = 0; k < m->in; k++)
        sum += (double)m->value[row * m->in + k] * x[k];
    return sum;
}

static double act64(const tmb_layer_shape *s, double g, double u)
{
    if (s->activation == TMB_GLU_SWIGLU) return g / (1 + exp(-g)) * u;
    g = fmin(g, (double)s->limit);
    u = fmin(fmax(u, -(double)s->limit), (double)s->limit);
    return (u + 1) * g / (1 + exp(-(double)s->alpha * g));
}

static void expert64(const setup *s, int e, const double *x, double weight, double *y)
{
    const matrix *m = s->weight[e];
    double *inner = room(m[GATE].out * sizeof *inner);
    for (size_t i = 0; i < m[GATE].out; i++)
        inner[i] = act64(&s->shape, dot64(&m[GATE], i, x), dot64(&m[UP], i, x));
    for (size_t i = 0; i < m[DOWN].out; i++)
        y[i] += weight * dot64(&m[DOWN], i, inner);
    free(inner);
}

/* Relative error of t->y; NaN when something was not written.  Takes the routing from the library:
 * test_route is about that. */
static double error_of(const setup *s, const tokens *t, int shared)
{
    const tmb_router *r = &s->shape.router;
    double noise = 0, signal = 1e-30, *y = room(t->hidden * sizeof *y),
           *x = room(t->hidden * sizeof *x);
    int32_t chosen[TMB_ROUTE_TOP_K];
    float weight[TMB_ROUTE_TOP_K];
    for (size_t i = 0; i < t->n; i++) {
        tmb_cpu_route(r, t->logits + i * t->experts, 1, chosen, weight);
        for (size_t h = 0; h < t->hidden; h++) {
            x[h] = (double)tmb_bf16_to_f32(t->x[i * t->hidden + h]);
            y[h] = shared ? (double)tmb_bf16_to_f32(t->shared[i * t->hidden + h]) *
                                (shared > 1 ? (double)t->gate[i] : 1)
                          : 0;
        }
        for (int k = 0; k < r->top_k; k++)
            if (s->experts[chosen[k]].here) expert64(s, chosen[k], x, (double)weight[k], y);
        for (size_t h = 0; h < t->hidden; h++) {
            double d = (double)tmb_bf16_to_f32(t->y[i * t->hidden + h]) - y[h];
            noise += d * d;
            signal += y[h] * y[h];
        }
    }
    free(y);
    free(x);
    return sqrt(noise / signal);
}

/* ---- cases ------------------------------------------------------------------------------------
 */

static const tmb_router few = {8, 2, 1, 1, TMB_SCORE_SOFTMAX, TMB_GROUP_BEST, true, 1, NULL};
static const tmb_router grouped = {16,   3,    4,   2, TMB_SCORE_SIGMOID, TMB_GROUP_TOP_2,
                                   true, 2.5f, NULL};

static tmb_layer_shape shape_of(tmb_router router, int hidden, int inter, bool clamped)
{
    return (tmb_layer_shape){.router = router,
                             .hidden = hidden,
                             .inter = inter,
                             .activation = clamped ? TMB_GLU_CLAMPED : TMB_GLU_SWIGLU,
                             .alpha = 1.702f,
                             .limit = 7.0f,
                             .max_tokens = 300,
                             .threads = 2};
}

static void test_case(const char *what, setup *s, size_t n, int shared, bool device)
{
    tmb_layer *layer = open_layer(s, device ? gpu : NULL);
    tokens t = make_tokens(s, n);
    run(layer, &t, shared, device);
    double error = error_of(s, &t, shared);
    size_t bytes = n * t.hidden * 2;
    uint16_t *first = room(bytes);
    memcpy(first, t.y, bytes);
    run(layer, &t, shared, device);
    ok(error < 8e-3 && memcmp(first, t.y, bytes) == 0,
       "%s: %s, %zu tokens: relative error %.1e, twice the same", device ? "GPU" : "CPU", what, n,
       error);
    free(first);
    free_tokens(&t);
    tmb_layer_close(layer);
}

/* The last token by itself, and the two halves of the experts by themselves. */
static void test_parts(bool device)
{
    const char *const names[4] = {"nvfp4", "nvfp4", "nvfp4", "mxfp4"};
    setup *s = make_setup(shape_of(grouped, 128, 96, false), names, false);
    tmb_layer *layer = open_layer(s, device ? gpu : NULL);
    tokens t = make_tokens(s, 150), one = t;
    run(layer, &t, 1, device);
    one.n = 1;
    one.x += 149 * t.hidden;
    one.shared += 149 * t.hidden;
    one.logits += 149 * t.experts;
    one.y = room(t.hidden * 2);
    run(layer, &one, 1, device);
    ok(memcmp(one.y, t.y + 149 * t.hidden, t.hidden * 2) == 0,
       "%s: a token alone has the bits it has among 150", device ? "GPU" : "CPU");
    tmb_layer_close(layer);
    for (int half = 0; half < 2; half++) {
        for (int e = 0; e < 16; e++)
            s->experts[e].here = e / 8 == half;
        layer = open_layer(s, device ? gpu : NULL);
        run(layer, &t, 0, device);
        double error = error_of(s, &t, 0);
        ok(error < 8e-3, "%s: half %d of the experts: %.1e", device ? "GPU" : "CPU", half, error);
        tmb_layer_close(layer);
    }
    free(one.y);
    free_tokens(&t);
    free_setup(s);
}

static void test_all(bool device)
{
    static const char *const formats[] = {"nvfp4",     "nvfp4-w4a16", "mxfp4", "int4",
                                          "int4-g32",  NULL,          "fp8",   "fp8-channel",
                                          "fp8-block", "mxfp8"};
    char what[80];
    for (int i = 0; i < (device ? 6 : 10); i++) {
        const char *f = formats[i], *names[4] = {f, f, f, f};
        setup *s =
            make_setup(shape_of(i % 2 ? grouped : few, 128, 256, i % 3 == 1), names, i % 3 == 1);
        snprintf(what, sizeof what, "%s, %s", f ? f : "bf16", i % 3 == 1 ? "clamped" : "swiglu");
        test_case(what, s, 1, i % 3, device);
        test_case(what, s, 37, (i + 1) % 3, device);
        if (device) test_case(what, s, 300, (i + 2) % 3, device);
        free_setup(s);
    }
    const char *const mixed[4] = {"nvfp4", NULL, "int4", "mxfp4"};
    setup *s = make_setup(shape_of(grouped, 256, 128, true), mixed, true);
    test_case("four formats in one layer", s, 40, 2, device);
    test_case("four formats in one layer", s, 2, 0, device);
    free_setup(s);
    test_parts(device);
}

static void test_refusals(void)
{
    const char *const names[4] = {"fp8", "fp8", "fp8", "fp8"};
    setup *s = make_setup(shape_of(few, 64, 64, false), names, false);
    tmb_layer *layer;
    must(tmb_layer_open(&layer, &s->shape, s->experts, NULL, &err));
    tokens t = make_tokens(s, 3);
    tmb_layer_batch b = batch_of(&t, 0);
    ok(tmb_layer_run(layer, &b, &err) == TMB_EUSAGE, "no run before all experts are set: %s",
       err.message);
    tmb_layer_close(layer);
    layer = open_layer(s, NULL);
    const matrix *m = s->weight[0];
    tmb_layer_linear again = {m[0].codes, m[0].scales, 1, NULL};
    ok(tmb_layer_set(layer, 0, &again, &again, &again, &err) == TMB_EUSAGE, "%s", err.message);
    ok(tmb_layer_set(layer, 8, &again, &again, &again, &err) == TMB_EUSAGE, "%s", err.message);
    b.tokens = 301;
    ok(tmb_layer_run(layer, &b, &err) == TMB_EUSAGE, "%s", err.message);
    b.tokens = 1;
    b.logits = NULL;
    ok(tmb_layer_run(layer, &b, &err) == TMB_EUSAGE, "%s", err.message);
    b.tokens = 0;
    b.logits = t.logits;
    ok(tmb_layer_run(layer, &b, &err) == TMB_OK, "no tokens are no work");
    tmb_layer_close(layer);
    s->shape.hidden = 72;
    ok(tmb_layer_open(&layer, &s->shape, s->experts, NULL, &err) == TMB_EDATA, "%s", err.message);
    s->shape.hidden = 64;
    s->experts[3].up = tmb_format_find("int4");
    ok(tmb_layer_open(&layer, &s->shape, s->experts, NULL, &err) == TMB_EDATA, "%s", err.message);
    if (gpu) {
        s->experts[3].up = tmb_format_find("fp8");
        ok(tmb_layer_open(&layer, &s->shape, s->experts, gpu, &err) == TMB_EUNAVAILABLE, "%s",
           err.message);
    }
    free_tokens(&t);
    free_setup(s);
}

/* One captured graph, other tokens and another routing: what a run without the graph gives. */
static void test_graph(void)
{
    const char *const names[4] = {"nvfp4", "nvfp4", "nvfp4", "nvfp4"};
    setup *s = make_setup(shape_of(grouped, 128, 128, false), names, false);
    tmb_layer *layer = open_layer(s, gpu);
    int same = 1;
    static const size_t sizes[] = {2, 40, 257};
    for (int i = 0; i < 3; i++) {
        tokens t = make_tokens(s, sizes[i]);
        size_t bytes = t.n * t.hidden * 2;
        tmb_layer_batch b = batch_of(&t, 0);
        uint16_t *x = upload(t.x, bytes), *y = upload(t.y, bytes), *got = room(bytes);
        float us, *logits = upload(t.logits, t.n * t.experts * 4);
        b.x = x;
        b.y = y;
        b.logits = logits;
        must(tmb_cuda_graph_begin(gpu, &err));
        must(tmb_layer_run(layer, &b, &err));
        must(tmb_cuda_graph_end(gpu, &err));
        for (int turn = 0; turn < 5; turn++) {
            for (size_t j = 0; j < t.n * t.experts; j++) /* from even to one expert for all */
                t.logits[j] = random_float() * 3.0f + (j % t.experts == 5 ? (float)turn * 2 : 0.0f);
            must(tmb_cuda_upload(gpu, logits, t.logits, t.n * t.experts * 4, &err));
            must(tmb_cuda_fill(gpu, y, 0xff, bytes, &err));
            must(tmb_cuda_graph_time(gpu, &us, 1, &err));
            must(tmb_cuda_download(gpu, got, y, bytes, &err));
            run(layer, &t, 0, true);
            same &= memcmp(got, t.y, bytes) == 0;
        }
        free(got);
        tmb_cuda_free(gpu, x);
        tmb_cuda_free(gpu, y);
        tmb_cuda_free(gpu, logits);
        free_tokens(&t);
    }
    ok(same, "GPU: one graph serves every routing");
    tmb_layer_close(layer);
    free_setup(s);
}

int main(void)
{
    test_all(false);
    if (tmb_cuda_open(&gpu, 0, &err)) {
        ok(1, "results on the device # SKIP %s", err.message);
    } else if (tmb_cuda_about(gpu)->major != 9) {
        ok(1, "results on the device # SKIP capability %d", tmb_cuda_about(gpu)->major);
    } else {
        test_all(true);
        test_graph();
    }
    test_refusals();
    tmb_cuda_close(gpu);
    return done();
}
