/* layer_cpu.c - the layer on this processor: experts stay in their parts and are decoded a tile of
 * rows at a time.  Sums run in 16 lanes, lane i taking columns i, i + 16, …, folded 8+8, 4+4, 2+2,
 * 1+1, one fused multiply-add each. */
#include "config.h"
#include "moe/infer/layer_internal.h"

#include "kernels/base/codec.h"
#include "kernels/base/team.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/route.h"
#include "moe/format/formats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { GATE, UP, DOWN, PARTS };

typedef struct weight {
    void *codes, *scales;
    float *bias; /* NULL: none */
    float global;
} weight;

typedef struct cpu_layer {
    const tmb_ops *ops;
    weight (*weights)[PARTS]; /* [slots] */
    int32_t *chosen, *row, *token, *offsets;
    float *scale;           /* [tokens, top_k]: the routing weights */
    uint16_t *inner, *rows; /* [tokens * top_k, inter], [.., hidden] */
} cpu_layer;

static const tmb_format *format_of(const tmb_layer *l, int expert, int part)
{
    return part == DOWN ? l->experts[expert].down : l->experts[expert].up;
}

static size_t out_of(const tmb_layer *l, int part)
{
    return (size_t)(part == DOWN ? l->shape.hidden : l->shape.inter);
}

static size_t in_of(const tmb_layer *l, int part)
{
    return (size_t)(part == DOWN ? l->shape.inter : l->shape.hidden);
}

static void cpu_close(tmb_layer *l)
{
    cpu_layer *c = l->here;
    if (!c) return;
    for (int s = 0; c->weights && s < l->slots; s++)
        for (int p = 0; p < PARTS; p++) {
            free(c->weights[s][p].codes);
            free(c->weights[s][p].scales);
            free(c->weights[s][p].bias);
        }
    free(c->weights);
    free(c->chosen);
    free(c->row);
    free(c->token);
    free(c->offsets);
    free(c->scale);
    free(c->inner);
    free(c->rows);
    free(c);
}

static void *room(tmb_layer *l, size_t bytes)
{
    l->bytes += bytes;
    return malloc(bytes ? bytes : 1);
}

static tmb_status cpu_open(tmb_layer *l, tmb_err *err)
{
    size_t n = (size_t)l->shape.max_tokens * (size_t)l->shape.router.top_k;
    cpu_layer *c = l->here = calloc(1, sizeof *c);
    if (!c) return tmb_fail_memory(err, sizeof *c, "a layer");
    c->ops = tmb_cpu_ops();
    c->weights = calloc((size_t)l->slots, sizeof *c->weights);
    c->chosen = room(l, n * 4);
    c->row = room(l, n * 4);
    c->token = room(l, n * 4);
    c->scale = room(l, n * 4);
    c->offsets = room(l, ((size_t)l->slots + 1) * 4);
    c->inner = room(l, n * (size_t)l->shape.inter * 2);
    c->rows = room(l, n * (size_t)l->shape.hidden * 2);
    if (!c->weights || !c->chosen || !c->row || !c->token || !c->scale || !c->offsets ||
        !c->inner || !c->rows)
        return tmb_fail_memory(err, l->bytes, "the buffers of a layer");
    return TMB_OK;
}

static tmb_status keep(tmb_layer *l, void **to, const void *from, uint64_t bytes, tmb_err *err)
{
    *to = room(l, bytes);
    if (!*to) return tmb_fail_memory(err, bytes, "an expert");
    memcpy(*to, from, bytes);
    return TMB_OK;
}

static tmb_status cpu_set(tmb_layer *l, int expert, const tmb_layer_linear *gate,
                          const tmb_layer_linear *up, const tmb_layer_linear *down, tmb_err *err)
{
    cpu_layer *c = l->here;
    const tmb_layer_linear *from[PARTS] = {gate, up, down};
    for (int p = 0; p < PARTS; p++) {
        const tmb_format *f = format_of(l, expert, p);
        size_t out = out_of(l, p), in = in_of(l, p);
        weight *w = &c->weights[l->slot[expert]][p];
        tmb_geometry codes = {.bytes = out * in * 2}, scales = {0};
        if (f) f->part(f, TMB_PART_CODES, out, in, &codes);
        bool scaled = f && f->part(f, TMB_PART_SCALE, out, in, &scales);
        w->global = from[p]->global;
        TRY(keep(l, &w->codes, from[p]->codes, codes.bytes, err));
        if (scaled) TRY(keep(l, &w->scales, from[p]->scales, scales.bytes, err));
        if (from[p]->bias) TRY(keep(l, (void **)&w->bias, from[p]->bias, out * 4, err));
    }
    return TMB_OK;
}

/* Rows first … first+n-1 (first a multiple of TMB_TILE_ROWS) of a weight, as float32. */
static void decode(const tmb_layer *l, int expert, int part, size_t first, size_t n, float *w,
                   float *work)
{
    const cpu_layer *c = l->here;
    const weight *from = &c->weights[l->slot[expert]][part];
    const tmb_format *f = format_of(l, expert, part);
    size_t out = out_of(l, part), in = in_of(l, part);
    if (!f) {
        c->ops->decode(w, (const uint16_t *)from->codes + first * in, TMB_BF16, n * in);
        return;
    }
    tmb_geometry codes, scales = {0};
    f->part(f, TMB_PART_CODES, out, in, &codes);
    const uint8_t *scale = from->scales;
    if (f->part(f, TMB_PART_SCALE, out, in, &scales))
        scale += tmb_format_row_offset(&scales, out, first);
    f->decode(f, c->ops, w, n, in,
              (const uint8_t *)from->codes + tmb_format_row_offset(&codes, out, first), scale,
              from->global, work);
}

static float dot(const float *w, const float *x, size_t n)
{
    float lane[16] = {0};
    for (size_t i = 0; i < n; i += 16)
        for (size_t j = 0; j < 16; j++)
            lane[j] = fmaf(w[i + j], x[i + j], lane[j]);
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++)
            lane[i] += lane[i + half];
    return lane[0];
}

static float activate(const tmb_layer_shape *s, float gate, float up)
{
    if (s->activation == TMB_GLU_CLAMPED) {
        gate = fminf(gate, s->limit);
        up = fminf(fmaxf(up, -s->limit), s->limit);
        return (up + 1.0f) * gate * tmb_route_sigmoid(s->alpha * gate);
    }
    return gate * tmb_route_sigmoid(gate) * up;
}

/* A tile of output rows of one expert, for all of the expert's tokens. */
typedef struct tile_job {
    tmb_layer *layer;
    const tmb_layer_batch *batch;
    bool down;
    size_t tiles;   /* of one expert */
    int *expert_of; /* [slots] */
    int failed;     /* some thread had no memory */
} tile_job;

static void run_tile(void *ctx, size_t i)
{
    tile_job *j = ctx;
    const tmb_layer *l = j->layer;
    const cpu_layer *c = l->here;
    const int slot = (int)(i / j->tiles), part = j->down ? DOWN : GATE, expert = j->expert_of[slot];
    const size_t first = i % j->tiles * TMB_TILE_ROWS, out = out_of(l, part), in = in_of(l, part);
    const size_t n = out - first < TMB_TILE_ROWS ? out - first : TMB_TILE_ROWS;
    const int32_t begin = c->offsets[slot], end = c->offsets[slot + 1];
    if (begin == end) return;
    float *w = malloc((2 * n * in + in + tmb_format_work(in)) * sizeof *w);
    if (!w) {
        __atomic_store_n(&j->failed, 1, __ATOMIC_RELAXED);
        return;
    }
    float *up = w + n * in, *x = up + n * in, *work = x + in;
    const weight *own = c->weights[slot];
    decode(l, expert, part, first, n, w, work);
    if (!j->down) decode(l, expert, UP, first, n, up, work);
    for (int32_t r = begin; r < end; r++) {
        const uint16_t *from =
            j->down ? c->inner + (size_t)r * in : j->batch->x + (size_t)c->token[r] * in;
        uint16_t *to = (j->down ? c->rows : c->inner) + (size_t)r * out + first;
        c->ops->decode(x, from, TMB_BF16, in);
        for (size_t o = 0; o < n; o++) {
            float v = dot(w + o * in, x, in) + (own[part].bias ? own[part].bias[first + o] : 0.0f);
            if (!j->down)
                v = activate(&l->shape, v,
                             dot(up + o * in, x, in) +
                                 (own[UP].bias ? own[UP].bias[first + o] : 0.0f));
            to[o] = tmb_f32_to_bf16(v);
        }
    }
    free(w);
}

static tmb_status cpu_run(tmb_layer *l, const tmb_layer_batch *b, tmb_err *err)
{
    cpu_layer *c = l->here;
    const tmb_router *r = &l->shape.router;
    const size_t tokens = (size_t)b->tokens;
    const int threads = l->shape.threads ? l->shape.threads : tmb_team_size();
    const int32_t *chosen = b->logits ? c->chosen : b->chosen;
    const float *scale = b->logits ? c->scale : b->weight;
    if (b->logits) tmb_cpu_route(r, b->logits, tokens, c->chosen, c->scale);
    const tmb_route_plan plan = {c->offsets, c->token, c->row};
    tmb_cpu_plan(&plan, chosen, l->slot, tokens, r->top_k, l->slots);
    int expert_of[TMB_ROUTE_EXPERTS];
    for (int e = 0; e < r->experts; e++)
        if (l->slot[e] >= 0) expert_of[l->slot[e]] = e;
    for (int down = 0; down < 2; down++) {
        size_t out = out_of(l, down ? DOWN : GATE);
        tile_job j = {l, b, down, (out + TMB_TILE_ROWS - 1) / TMB_TILE_ROWS, expert_of, 0};
        tmb_team_each(threads, j.tiles * (size_t)l->slots, 1, run_tile, &j);
        if (j.failed) return tmb_fail_memory(err, out * in_of(l, down ? DOWN : GATE), "a tile");
    }
    tmb_cpu_combine(b->y, c->rows, c->row, scale, b->shared, b->shared_gate, tokens, r->top_k,
                    (size_t)l->shape.hidden);
    return TMB_OK;
}

const tmb_layer_backend tmb_layer_cpu = {
    .open = cpu_open,
    .close = cpu_close,
    .set = cpu_set,
    .run = cpu_run,
};
