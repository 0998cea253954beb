/* layer.c - what a layer is asked is checked here, whichever backend runs it. */
#include "config.h"
#include "moe/infer/layer_internal.h"

#include "kernels/cpu/route.h"

#include <stdlib.h>
#include <string.h>

static tmb_status check_format(int expert, const tmb_format *f, int in, tmb_err *err)
{
    if (f && (unsigned)in % f->col_multiple)
        return tmb_fail(err, TMB_EDATA,
                        "layer: expert %d: %s wants columns in multiples of %u, not %d", expert,
                        f->name, f->col_multiple, in);
    return TMB_OK;
}

static tmb_status check_shape(const tmb_layer_shape *s, const tmb_layer_expert *experts,
                              tmb_err *err)
{
    TRY(tmb_router_check(&s->router, err));
    if (s->hidden < 16 || s->hidden % 16 || s->inter < 16 || s->inter % 16 || s->hidden > 1 << 20 ||
        s->inter > 1 << 20)
        return tmb_fail(err, TMB_EDATA,
                        "layer: widths %d and %d; both must be multiples of 16, at most 2^20",
                        s->hidden, s->inter);
    if (s->max_tokens < 1 || (int64_t)s->max_tokens * s->router.top_k > 1 << 24)
        return tmb_fail(err, TMB_EUSAGE, "layer: %d tokens at once; 1 to %d", s->max_tokens,
                        (1 << 24) / s->router.top_k);
    for (int e = 0; e < s->router.experts; e++) {
        if (!experts[e].here) continue;
        TRY(check_format(e, experts[e].up, s->hidden, err));
        TRY(check_format(e, experts[e].down, s->inter, err));
    }
    return TMB_OK;
}

static tmb_status copy_shape(tmb_layer *l, const tmb_layer_shape *shape,
                             const tmb_layer_expert *experts, tmb_err *err)
{
    size_t n = (size_t)shape->router.experts;
    l->shape = *shape;
    l->experts = malloc(n * sizeof *l->experts);
    l->set = calloc(n, sizeof *l->set);
    l->slot = malloc(n * sizeof *l->slot);
    l->correction = malloc(n * sizeof *l->correction);
    if (!l->experts || !l->set || !l->slot || !l->correction)
        return tmb_fail_memory(err, n * sizeof *l->experts, "a layer");
    memcpy(l->experts, experts, n * sizeof *experts);
    if (shape->router.correction)
        memcpy(l->correction, shape->router.correction, n * sizeof *l->correction);
    l->shape.router.correction = shape->router.correction ? l->correction : NULL;
    for (size_t e = 0; e < n; e++)
        l->slot[e] = experts[e].here ? l->slots++ : -1;
    l->unset = l->slots;
    return l->slots ? TMB_OK : tmb_fail(err, TMB_EUSAGE, "layer: no expert is here");
}

tmb_status tmb_layer_open(tmb_layer **out, const tmb_layer_shape *shape,
                          const tmb_layer_expert *experts, tmb_cuda *device, tmb_err *err)
{
    *out = NULL;
    TRY(check_shape(shape, experts, err));
    tmb_layer *l = calloc(1, sizeof *l);
    if (!l) return tmb_fail_memory(err, sizeof *l, "a layer");
    l->device = device;
    tmb_status status = copy_shape(l, shape, experts, err);
    if (!status) {
        l->backend = device ? &tmb_layer_gpu : &tmb_layer_cpu;
        status = l->backend->open(l, err);
    }
    if (status) {
        tmb_layer_close(l);
        return status;
    }
    *out = l;
    return TMB_OK;
}

void tmb_layer_close(tmb_layer *l)
{
    if (!l) return;
    if (l->backend) l->backend->close(l);
    free(l->experts);
    free(l->set);
    free(l->slot);
    free(l->correction);
    free(l);
}

tmb_status tmb_layer_set(tmb_layer *l, int expert, const tmb_layer_linear *gate,
                         const tmb_layer_linear *up, const tmb_layer_linear *down, tmb_err *err)
{
    if (expert < 0 || expert >= l->shape.router.experts || !l->experts[expert].here)
        return tmb_fail(err, TMB_EUSAGE, "layer: expert %d is not here", expert);
    if (l->set[expert]) return tmb_fail(err, TMB_EUSAGE, "layer: expert %d was set before", expert);
    TRY(l->backend->set(l, expert, gate, up, down, err));
    l->set[expert] = true;
    l->unset--;
    return TMB_OK;
}

tmb_status tmb_layer_run(tmb_layer *l, const tmb_layer_batch *b, tmb_err *err)
{
    if (l->unset)
        return tmb_fail(err, TMB_EUSAGE, "layer: %d experts have no weights yet", l->unset);
    if (b->tokens < 0 || b->tokens > l->shape.max_tokens)
        return tmb_fail(err, TMB_EUSAGE, "layer: %d tokens; it was opened for %d", b->tokens,
                        l->shape.max_tokens);
    if (!b->logits && (!b->chosen || !b->weight))
        return tmb_fail(err, TMB_EUSAGE, "layer: neither logits nor a choice");
    return b->tokens ? l->backend->run(l, b, err) : TMB_OK;
}

uint64_t tmb_layer_bytes(const tmb_layer *l)
{
    return l->bytes;
}
