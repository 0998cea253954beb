/* layer_cuda.c - the layer on a GPU: which buffers there are, and what a run launches.
 *
 * Experts are numbered in slots, so that those of one format follow one another: a GEMM is launched
 * for each run of slots with one format.  Runs of up and down differ where halves of experts do. */
#include "config.h"
#include "moe/infer/layer_internal.h"

#include "kernels/cuda/grouped.h"
#include "kernels/cuda/route.h"

#include <stdlib.h>
#include <string.h>

/* Slots first … first+count-1 have one format. */
typedef struct run {
    tmb_pack pack;
    int first, count;
    uint64_t each;    /* bytes of one expert's weight */
    uint8_t *weights; /* made when the first of them is set */
    bool borrowed;
    void *tiles;
} run;

typedef struct half {
    int out, in; /* packed rows, columns */
    run *runs;   /* at most one a slot */
    int n_runs;
    float *factor, *bias; /* device: [slots, 2], [slots, out]; bias NULL: no expert has one */
} half;

typedef struct gpu_layer {
    half up, down;
    bool biased; /* bias of up and down are there, zero where an expert has none */
    float *correction;
    int32_t *slot, *chosen, *offsets, *token, *row;
    float *weight;
    uint16_t *inner, *rows;
    void *sort, *work;
} gpu_layer;

static tmb_status pack_of(const tmb_format *f, tmb_pack *pack, tmb_err *err)
{
    static const struct {
        const char *name;
        tmb_pack pack;
    } known[] = {{"nvfp4", TMB_PACK_NVFP4},
                 {"nvfp4-w4a16", TMB_PACK_NVFP4},
                 {"mxfp4", TMB_PACK_MXFP4},
                 {"int4", TMB_PACK_INT4},
                 {"int4-g32", TMB_PACK_INT4}};
    *pack = TMB_PACK_BF16;
    if (!f) return TMB_OK;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        *pack = known[i].pack;
        if (strcmp(f->name, known[i].name) == 0) return TMB_OK;
    }
    return tmb_fail(
        err, TMB_EUNAVAILABLE,
        "layer: there is no GPU kernel for experts in %s; 4-bit formats and BF16 have one",
        f->name);
}

static tmb_status take(tmb_layer *l, void *out, uint64_t bytes, tmb_err *err)
{
    void *memory;
    TRY(tmb_cuda_alloc(l->device, &memory, bytes, err));
    memcpy(out, &memory, sizeof memory);
    l->bytes += bytes;
    return TMB_OK;
}

/* Number the experts that are here by the packs of their halves. */
static tmb_status number_slots(tmb_layer *l, tmb_err *err)
{
    int slot = 0;
    for (int kind = 0; kind < TMB_PACKS * TMB_PACKS; kind++) {
        for (int e = 0; e < l->shape.router.experts; e++) {
            tmb_pack up, down;
            if (!l->experts[e].here) continue;
            TRY(pack_of(l->experts[e].up, &up, err));
            TRY(pack_of(l->experts[e].down, &down, err));
            if ((int)up * TMB_PACKS + (int)down == kind) l->slot[e] = slot++;
        }
    }
    return TMB_OK;
}

static tmb_status find_runs(tmb_layer *l, half *h, bool down, tmb_err *err)
{
    h->runs = calloc((size_t)l->slots, sizeof *h->runs);
    if (!h->runs) return tmb_fail_memory(err, (size_t)l->slots * sizeof *h->runs, "a layer");
    for (int s = 0; s < l->slots; s++) {
        tmb_pack pack = TMB_PACK_BF16;
        for (int e = 0; e < l->shape.router.experts; e++)
            if (l->slot[e] == s)
                TRY(pack_of(down ? l->experts[e].down : l->experts[e].up, &pack, err));
        if (!h->n_runs || h->runs[h->n_runs - 1].pack != pack)
            h->runs[h->n_runs++] = (run){.pack = pack, .first = s};
        h->runs[h->n_runs - 1].count++;
    }
    return TMB_OK;
}

static int most_rows(const tmb_layer *l)
{
    return l->shape.max_tokens * l->shape.router.top_k;
}

static tmb_grouped gemm_of(const tmb_layer *l, const half *h, const run *r, int tokens)
{
    const gpu_layer *g = l->here;
    const bool up = h == &g->up;
    return (tmb_grouped){
        .pack = r->pack,
        .weights = r->weights,
        .factor = h->factor + 2 * r->first,
        .bias = h->bias ? h->bias + (size_t)r->first * (size_t)h->out : NULL,
        .offsets = g->offsets + r->first,
        .tiles = r->tiles,
        .experts = r->count,
        .cols = h->in,
        .out_rows = h->out,
        .rows = tokens * l->shape.router.top_k,
        .most = tokens,
        .gate = !up                                      ? TMB_GATE_NONE
                : l->shape.activation == TMB_GLU_CLAMPED ? TMB_GATE_CLAMPED
                                                         : TMB_GATE_SWIGLU,
        .alpha = l->shape.alpha,
        .limit = l->shape.limit,
    };
}

static tmb_status make_half(tmb_layer *l, half *h, bool down, tmb_err *err)
{
    TRY(find_runs(l, h, down, err));
    TRY(take(l, &h->factor, (uint64_t)l->slots * 8, err));
    for (int i = 0; i < h->n_runs; i++) {
        run *r = &h->runs[i];
        r->each = tmb_pack_bytes(r->pack, (uint64_t)h->out, (uint64_t)h->in);
        TRY(take(l, &r->tiles, tmb_tiles_bytes(r->count, most_rows(l)), err));
    }
    return TMB_OK;
}

static tmb_status make_buffers(tmb_layer *l, tmb_err *err)
{
    gpu_layer *g = l->here;
    uint64_t n = (uint64_t)most_rows(l), work = 0;
    const half *halves[2] = {&g->up, &g->down};
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < halves[i]->n_runs; j++) {
            tmb_grouped gemm = gemm_of(l, halves[i], &halves[i]->runs[j], l->shape.max_tokens);
            uint64_t wants = tmb_grouped_workspace(&gemm);
            work = wants > work ? wants : work;
        }
    TRY(take(l, &g->chosen, n * 4, err));
    TRY(take(l, &g->weight, n * 4, err));
    TRY(take(l, &g->token, n * 4, err));
    TRY(take(l, &g->row, n * 4, err));
    TRY(take(l, &g->offsets, ((uint64_t)l->slots + 1) * 4, err));
    TRY(take(l, &g->inner, n * (uint64_t)l->shape.inter * 2, err));
    TRY(take(l, &g->rows, n * (uint64_t)l->shape.hidden * 2, err));
    TRY(take(l, &g->sort, tmb_cuda_plan_bytes(l->shape.max_tokens, l->shape.router.top_k, l->slots),
             err));
    TRY(take(l, &g->work, work, err));
    uint64_t experts = (uint64_t)l->shape.router.experts;
    TRY(take(l, &g->slot, experts * 4, err));
    TRY(tmb_cuda_upload(l->device, g->slot, l->slot, experts * 4, err));
    if (!l->shape.router.correction) return TMB_OK;
    TRY(take(l, &g->correction, experts * 4, err));
    return tmb_cuda_upload(l->device, g->correction, l->correction, experts * 4, err);
}

static tmb_status gpu_open(tmb_layer *l, tmb_err *err)
{
    const tmb_cuda_info *about = tmb_cuda_about(l->device);
    if (about->major != 9)
        return tmb_fail(err, TMB_EUNAVAILABLE,
                        "layer: %s has capability %d.%d; the kernels are for 9.0", about->name,
                        about->major, about->minor);
    gpu_layer *g = l->here = calloc(1, sizeof *g);
    if (!g) return tmb_fail_memory(err, sizeof *g, "a layer");
    g->up = (half){.out = 2 * l->shape.inter, .in = l->shape.hidden};
    g->down = (half){.out = l->shape.hidden, .in = l->shape.inter};
    TRY(number_slots(l, err));
    TRY(make_half(l, &g->up, false, err));
    TRY(make_half(l, &g->down, true, err));
    return make_buffers(l, err);
}

static void free_half(tmb_layer *l, half *h)
{
    for (int i = 0; h->runs && i < h->n_runs; i++) {
        if (h->runs[i].weights && !h->runs[i].borrowed)
            tmb_cuda_free(l->device, h->runs[i].weights);
        if (h->runs[i].tiles) tmb_cuda_free(l->device, h->runs[i].tiles);
    }
    free(h->runs);
    if (h->factor) tmb_cuda_free(l->device, h->factor);
    if (h->bias) tmb_cuda_free(l->device, h->bias);
}

static void gpu_close(tmb_layer *l)
{
    gpu_layer *g = l->here;
    if (!g) return;
    void *buffers[] = {g->correction, g->slot,  g->chosen, g->offsets, g->token, g->row,
                       g->weight,     g->inner, g->rows,   g->sort,    g->work};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        if (buffers[i]) tmb_cuda_free(l->device, buffers[i]);
    free_half(l, &g->up);
    free_half(l, &g->down);
    free(g);
}

static run *run_of(half *h, int slot)
{
    run *r = h->runs;
    while (slot >= r->first + r->count)
        r++;
    return r;
}

static tmb_matrix matrix_of(const tmb_layer_linear *from, const tmb_format *f)
{
    return (tmb_matrix){.codes = from->codes,
                        .scales = from->scales,
                        .global = f && f->global_scale ? from->global : 1.0f,
                        .group = f ? f->group : 0};
}

/* The first bias of any expert makes room for all. */
static tmb_status set_bias(tmb_layer *l, half *h, int slot, const float *bias, const float *up,
                           tmb_err *err)
{
    uint64_t out = (uint64_t)h->out, bytes = (uint64_t)l->slots * out * 4;
    bool pairs = h == &((gpu_layer *)l->here)->up;
    if (!h->bias) {
        TRY(take(l, &h->bias, bytes, err));
        TRY(tmb_cuda_fill(l->device, h->bias, 0, bytes, err));
    }
    float *packed = calloc(out, sizeof *packed);
    if (!packed) return tmb_fail_memory(err, out * sizeof *packed, "biases");
    for (uint64_t i = 0; i < (pairs ? out / 2 : out); i++) {
        if (bias) packed[tmb_packed_row(i, pairs, false)] = bias[i];
        if (up) packed[tmb_packed_row(i, pairs, true)] = up[i];
    }
    tmb_status status =
        tmb_cuda_upload(l->device, h->bias + (uint64_t)slot * out, packed, out * 4, err);
    free(packed);
    return status;
}

static tmb_status set_half(tmb_layer *l, half *h, int slot, const tmb_matrix *m,
                           const tmb_matrix *up, tmb_err *err)
{
    run *r = run_of(h, slot);
    float factor[2];
    if (!r->weights) TRY(take(l, &r->weights, r->each * (uint64_t)r->count, err));
    void *packed = malloc(r->each);
    if (!packed) return tmb_fail_memory(err, r->each, "a packed expert");
    tmb_status status = tmb_pack_weight(r->pack, packed, factor, m, up,
                                        (uint64_t)(up ? h->out / 2 : h->out), (uint64_t)h->in, err);
    if (!status)
        status = tmb_cuda_upload(l->device, r->weights + r->each * (uint64_t)(slot - r->first),
                                 packed, r->each, err);
    if (!status)
        status = tmb_cuda_upload(l->device, h->factor + 2 * slot, factor, sizeof factor, err);
    free(packed);
    return status;
}

static tmb_status gpu_set(tmb_layer *l, int expert, const tmb_layer_linear *gate,
                          const tmb_layer_linear *up, const tmb_layer_linear *down, tmb_err *err)
{
    gpu_layer *g = l->here;
    const int slot = l->slot[expert];
    const tmb_format *first = l->experts[expert].up, *second = l->experts[expert].down;
    const tmb_matrix gate_m = matrix_of(gate, first), up_m = matrix_of(up, first),
                     down_m = matrix_of(down, second);
    TRY(set_half(l, &g->up, slot, &gate_m, &up_m, err));
    TRY(set_half(l, &g->down, slot, &down_m, NULL, err));
    if (gate->bias || up->bias) TRY(set_bias(l, &g->up, slot, gate->bias, up->bias, err));
    if (down->bias) TRY(set_bias(l, &g->down, slot, down->bias, NULL, err));
    return TMB_OK;
}

/* Runs of both halves that are the same slots share their tiles. */
static const void *same_tiles(const half *up, const run *r)
{
    for (int i = 0; i < up->n_runs; i++)
        if (up->runs[i].first == r->first && up->runs[i].count == r->count)
            return up->runs[i].tiles;
    return NULL;
}

static tmb_status run_half(tmb_layer *l, half *h, const tmb_layer_batch *b, tmb_err *err)
{
    gpu_layer *g = l->here;
    void *stream = tmb_cuda_stream(l->device);
    for (int i = 0; i < h->n_runs; i++) {
        run *r = &h->runs[i];
        tmb_grouped gemm = gemm_of(l, h, r, b->tokens);
        const void *made = h == &g->down ? same_tiles(&g->up, r) : NULL;
        if (made)
            gemm.tiles = made;
        else
            TRY(tmb_tiles_make(r->tiles, gemm.offsets, r->count, gemm.rows, stream, err));
        gemm.x = h == &g->up ? b->x : g->inner;
        gemm.gather = h == &g->up ? g->token : NULL;
        gemm.y = h == &g->up ? g->inner : g->rows;
        TRY(tmb_grouped_run(&gemm, g->work, stream, err));
    }
    return TMB_OK;
}

static tmb_status gpu_run(tmb_layer *l, const tmb_layer_batch *b, tmb_err *err)
{
    gpu_layer *g = l->here;
    void *stream = tmb_cuda_stream(l->device);
    tmb_router router = l->shape.router;
    router.correction = g->correction;
    const int32_t *chosen = b->logits ? g->chosen : b->chosen;
    const float *weight = b->logits ? g->weight : b->weight;
    if (b->logits)
        TRY(tmb_cuda_route(&router, b->logits, b->tokens, g->chosen, g->weight, stream, err));
    const tmb_route_plan plan = {g->offsets, g->token, g->row};
    TRY(tmb_cuda_plan(&plan, chosen, g->slot, b->tokens, router.top_k, l->slots, g->sort, stream,
                      err));
    TRY(run_half(l, &g->up, b, err));
    TRY(run_half(l, &g->down, b, err));
    return tmb_cuda_combine(b->y, g->rows, g->row, weight, b->shared, b->shared_gate, b->tokens,
                            router.top_k, l->shape.hidden, stream, err);
}

void tmb_layer_gpu_borrow(tmb_layer *l, void *up, void *down)
{
    gpu_layer *g = l->here;
    g->up.runs[0].weights = up;
    g->down.runs[0].weights = down;
    g->up.runs[0].borrowed = g->down.runs[0].borrowed = true;
    l->unset = 0;
}

tmb_status tmb_layer_gpu_factor(tmb_layer *l, float factor, tmb_err *err)
{
    gpu_layer *g = l->here;
    float all[2 * TMB_ROUTE_EXPERTS];
    for (int i = 0; i < 2 * l->slots; i++)
        all[i] = factor;
    TRY(tmb_cuda_upload(l->device, g->up.factor, all, (uint64_t)l->slots * 8, err));
    return tmb_cuda_upload(l->device, g->down.factor, all, (uint64_t)l->slots * 8, err);
}

const tmb_layer_backend tmb_layer_gpu = {
    .open = gpu_open,
    .close = gpu_close,
    .set = gpu_set,
    .run = gpu_run,
};
