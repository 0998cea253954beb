/* memory.c - what a decoder holds at most, as a formula: the loaded weights, what reading them
 * takes, and the larger of the two halves of a layer.  The terms are the allocations of load.c,
 * the blocks, attend.c, router.c, dispatch.c, experts.c and multiply.c, in their order. */
#include "config.h"
#include "moe/infer/dispatch.h"

uint64_t tmb_bytes_add(uint64_t a, uint64_t b)
{
    uint64_t r;
    return tmb_add(a, b, &r) ? r : UINT64_MAX;
}

uint64_t tmb_bytes_floats(uint64_t n, uint64_t width)
{
    uint64_t r;
    return tmb_mul(n, width, &r) && tmb_mul(r, sizeof(float), &r) ? r : UINT64_MAX;
}

static uint64_t most(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* A reader and a tile, for the widest of some weights. */
static uint64_t reading(const tmb_decoder *d, const tmb_weight *w, size_t n)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < n; i++)
        if (w[i].out)
            bytes =
                most(bytes, tmb_bytes_add(tmb_bytes_floats(TMB_TILE_ROWS, w[i].in),
                                          w[i].unit ? tmb_reader_bytes(d->model, w[i].unit)
                                                    : tmb_bytes_floats(TMB_TILE_ROWS, w[i].in)));
    return bytes;
}

/* gate, up and what a hook copies. */
static uint64_t mlp(const tmb_decoder *d, const tmb_weight *w, uint64_t rows)
{
    uint64_t bytes = tmb_bytes_floats(rows, 2 * (uint64_t)w[TMB_GATE].out);
    return d->hooks.activation
               ? tmb_bytes_add(bytes, tmb_bytes_floats(rows, most(w[TMB_GATE].out, w[TMB_GATE].in)))
               : bytes;
}

static uint64_t sparse(const tmb_decoder *d, const tmb_decoder_layer *l, uint64_t tokens)
{
    const tmb_config *c = &d->config;
    /* A shadow may send every token to every expert. */
    uint64_t pairs = tokens * c->n_experts * (uint64_t)d->ways,
             rows = pairs < TMB_STEP_ROWS ? pairs : TMB_STEP_ROWS;
    uint64_t bytes = tmb_bytes_add(tmb_bytes_floats(tokens, 2 * c->n_experts + 4 * c->top_k),
                                   tmb_bytes_floats(d->threads, 2 * c->n_experts));
    uint64_t step = 0, packed = 0,
             shared = l->mlp[TMB_GATE].out ? tmb_bytes_floats(tokens, c->hidden) : 0;
    for (size_t e = 0; e < c->n_experts; e++) {
        const tmb_weight *w = &l->experts[e * TMB_MLP];
        step = most(step, tmb_bytes_add(tmb_flow_bytes(d, rows), mlp(d, w, rows)));
        packed =
            most(packed, tmb_bytes_floats(rows + c->n_experts * TMB_NN_ROWS, most(w->in, w->out)));
    }
    size_t latent = d->hooks.activation ? c->hidden + 3 * c->latent : 2 * c->latent;
    if (c->latent) shared = tmb_bytes_add(shared, tmb_bytes_floats(tokens, latent));
    return tmb_bytes_add(tmb_bytes_add(bytes, shared),
                         tmb_bytes_add(packed, most(step, mlp(d, l->mlp, tokens))));
}

/* The experts of the rank that has most of them. */
static uint64_t share(const tmb_decoder *d, const tmb_decoder_layer *l)
{
    uint64_t largest = 0;
    for (size_t m = 0; m < (size_t)d->ways; m++) {
        uint64_t bytes = 0;
        for (size_t e = m; e < d->config.n_experts; e += (size_t)d->ways)
            bytes = tmb_bytes_add(bytes, tmb_expert_bytes(d, l, e));
        largest = most(largest, bytes);
    }
    return largest;
}

uint64_t tmb_decoder_bytes(const tmb_decoder *d, size_t tokens, size_t longest)
{
    const tmb_config *c = &d->config;
    uint64_t weights = 0, read = reading(d, &d->head, 1), halves = 0, packed = 0;
    for (int i = 0; i < c->layers; i++) {
        const tmb_decoder_layer *l = &d->layers[i];
        const tmb_weight *base[11 + TMB_OWN_WEIGHTS] = {
            &l->q_a,           &l->q,     &l->k,        &l->v, &l->kv_a, &l->kv_b, &l->o, l->mlp,
            &l->mlp[TMB_DOWN], l->latent, &l->latent[1]};
        for (int w = 0; w < TMB_OWN_WEIGHTS; w++)
            base[11 + w] = &l->own[w];
        uint64_t held = tmb_decoder_layer_base_bytes(l), group = 0;
        for (size_t b = 0; b < sizeof base / sizeof *base; b++) {
            read = most(read, reading(d, base[b], 1));
            packed = most(packed, tmb_multiply_bytes(tokens, base[b]->in));
        }
        if (l->sparse) group = share(d, l);
        if (l->sparse) {
            read = most(read, reading(d, l->experts, TMB_MLP));
            uint64_t one = tmb_expert_bytes(d, l, 0);
            if (d->layer_bytes && tmb_bytes_add(held, group) > d->layer_bytes)
                group = most(one, d->layer_bytes > held ? d->layer_bytes - held : 0);
        }
        weights = most(weights, tmb_bytes_add(held, group));
        if (l->block) halves = most(halves, l->block->bytes(d, l, tokens, longest));
        halves = most(halves, l->sparse ? sparse(d, l, tokens) : mlp(d, l->mlp, tokens));
    }
    uint64_t rows = tmb_bytes_floats(tokens, (d->width != c->hidden ? 3 : 2) * c->hidden);
    rows = tmb_bytes_add(rows, tmb_bytes_floats(tokens, tmb_mix_floats(c)));
    halves = most(halves, tmb_residual_bytes(d, tokens));
    uint64_t run = tmb_bytes_add(tmb_bytes_add(weights, halves), rows);
    uint64_t head = tmb_bytes_add(tmb_bytes_floats(tokens, c->hidden),
                                  tmb_bytes_floats(TMB_HEAD_PANELS * TMB_NN_PANEL, c->hidden));
    uint64_t bytes =
        tmb_bytes_add(most(run, head), tmb_bytes_add(packed, (uint64_t)d->threads * read));
    return tmb_bytes_add(bytes,
                         tmb_bytes_floats(longest, 3 * (c->rope.dims + c->second_rope.dims) / 2));
}
