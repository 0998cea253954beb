/* mix_hooks.c - the hooks of a mixture: whose weight, rounding, bias and routes a layer takes. */
#include "config.h"
#include "moe/diagnose/mix.h"

#include "kernels/cpu/cpu.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* A mixture at work, of one rank. */
typedef struct mixture {
    const tmb_mix *mix;
    const tmb_mixer *m;
    int base, guest; /* sides */
    tmb_hooks hooks[TMB_SIDES];
    void *own[TMB_SIDES];
    tmb_variant_batch batch; /* the one that runs; routes NULL: none yet */
    /* readers of the guest's model that nobody uses now, when it is another one */
    pthread_mutex_t lock;
    tmb_reader *idle[256];
    size_t n_idle;
} mixture;

static bool is_guest(const mixture *x, tmb_mix_part part, int layer, int expert)
{
    bool here = x->mix->layer < 0 || x->mix->layer == layer;
    if (part == TMB_MIX_EXPERT && x->mix->expert >= 0 && x->mix->expert != expert) return false;
    return here && part < TMB_MIX_PARTS && (x->mix->guest >> part & 1u);
}

const tmb_hooks *tmb_mix_hooks(const void *own, int side)
{
    return &((const mixture *)own)->hooks[side];
}

/* ---- weights ----------------------------------------------------------------------------------
 */

static tmb_status side_rows(const mixture *x, int side, tmb_reader *reader, const tmb_unit *unit,
                            uint64_t row, size_t rows, float *y, tmb_err *err)
{
    const tmb_hooks *h = &x->hooks[side];
    return h->weight ? h->weight(h->ctx, reader, unit, row, rows, y, err)
                     : tmb_reader_rows(reader, unit, row, rows, y, err);
}

static tmb_status borrow(mixture *x, tmb_reader **out, tmb_err *err)
{
    pthread_mutex_lock(&x->lock);
    *out = x->n_idle ? x->idle[--x->n_idle] : NULL;
    pthread_mutex_unlock(&x->lock);
    return *out ? TMB_OK : tmb_reader_open(out, x->m->model[x->guest], tmb_cpu_ops(), err);
}

static void give_back(mixture *x, tmb_reader *reader)
{
    pthread_mutex_lock(&x->lock);
    bool room = x->n_idle < sizeof x->idle / sizeof *x->idle;
    if (room) x->idle[x->n_idle++] = reader;
    pthread_mutex_unlock(&x->lock);
    if (!room) tmb_reader_close(reader);
}

void tmb_mix_take_norm(const void *own, const tmb_unit *unit, size_t rows, float *y)
{
    const mixture *x = own;
    uint32_t u = (uint32_t)(unit - x->m->model[x->base]->units);
    int half = x->m->behind[x->base][u], at = 2 * unit->layer + half - 1;
    size_t in = (size_t)unit->in;
    if (!half || unit->layer >= x->m->layers || in != x->m->hidden || !x->m->scaled[at]) return;
    const float *to = x->m->norm[x->base][at], *from = x->m->norm[x->guest][at];
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < in; c++)
            if (to[c] != 0) y[r * in + c] *= from[c] / to[c];
}

tmb_status tmb_mix_rows(void *own, int side, tmb_reader *reader, const tmb_unit *unit, uint64_t row,
                        size_t rows, float *y, tmb_err *err)
{
    mixture *x = own;
    uint32_t u = (uint32_t)(unit - x->m->model[x->base]->units);
    if (side == x->base || x->m->same_model)
        return side_rows(x, side, reader, unit, row, rows, y, err);
    uint32_t twin = x->m->twin[x->base][u];
    if (twin == TMB_NONE) return tmb_fail(err, TMB_EINTERNAL, "%s has no twin", unit->name);
    tmb_reader *theirs = NULL;
    TRY(borrow(x, &theirs, err));
    tmb_status status =
        side_rows(x, side, theirs, &x->m->model[side]->units[twin], row, rows, y, err);
    give_back(x, theirs);
    return status;
}

static tmb_status on_weight(void *ctx, tmb_reader *reader, const tmb_unit *unit, uint64_t row,
                            size_t rows, float *y, tmb_err *err)
{
    mixture *x = ctx;
    uint32_t u = (uint32_t)(unit - x->m->model[x->base]->units);
    bool guest = is_guest(x, x->m->part[x->base][u], unit->layer, unit->expert);
    TRY(tmb_mix_rows(x, guest ? x->guest : x->base, reader, unit, row, rows, y, err));
    if (guest) tmb_mix_take_norm(x, unit, rows, y);
    return TMB_OK;
}

/* ---- inputs and cache -------------------------------------------------------------------------
 */

tmb_status tmb_mix_round(void *own, int side, const tmb_linear_seen *seen, float *y, bool *changed,
                         tmb_err *err)
{
    enum { UNITS = 8 };
    mixture *x = own;
    uint32_t units[UNITS];
    const tmb_hooks *h = &x->hooks[side];
    tmb_linear_seen theirs = *seen;
    if (!h->activation) return TMB_OK;
    if (side != x->base && !x->m->same_model) {
        theirs.n_units = 0;
        for (uint32_t i = 0; i < seen->n_units && i < UNITS; i++) {
            uint32_t twin = x->m->twin[x->base][seen->units[i]];
            if (twin != TMB_NONE) units[theirs.n_units++] = twin;
        }
        theirs.units = units;
    }
    return h->activation(h->ctx, &theirs, y, changed, err);
}

static tmb_status on_activation(void *ctx, const tmb_linear_seen *seen, float *y, bool *changed,
                                tmb_err *err)
{
    mixture *x = ctx;
    tmb_mix_part part = x->m->part[x->base][seen->units[0]];
    bool guest = is_guest(x, part, seen->layer, seen->expert);
    return tmb_mix_round(x, guest ? x->guest : x->base, seen, y, changed, err);
}

static tmb_status on_kv(void *ctx, const tmb_kv_seen *seen, float *k, float *v, tmb_err *err)
{
    mixture *x = ctx;
    const tmb_hooks *h = &x->hooks[is_guest(x, TMB_MIX_KV, seen->layer, -1) ? x->guest : x->base];
    return h->kv ? h->kv(h->ctx, seen, k, v, err) : TMB_OK;
}

/* ---- biases, corrections, inner norms ---------------------------------------------------------
 */

/* The unit that a tensor of the base is; NULL when it is a part of a Linear. */
static const tmb_unit *unit_of(const tmb_model *m, const char *name)
{
    static const char weight[] = ".weight";
    size_t n = strlen(name), tail = sizeof weight - 1;
    const tmb_unit *u = tmb_model_find(m, name);
    char buffer[TMB_NAME_MAX];
    if (u || n <= tail || n - tail >= sizeof buffer || strcmp(name + n - tail, weight) != 0)
        return u;
    memcpy(buffer, name, n - tail);
    buffer[n - tail] = '\0';
    return tmb_model_find(m, buffer);
}

static tmb_status on_vector(void *ctx, const tmb_tensor *tensor, uint64_t first, uint64_t step,
                            size_t n, float *values, tmb_err *err)
{
    mixture *x = ctx;
    const tmb_unit *unit = unit_of(x->m->model[x->base], tensor->name);
    const tmb_checkpoint *ckpt = x->m->model[x->guest]->ckpt;
    const tmb_tensor *t = tmb_checkpoint_find(ckpt, tensor->name);
    if (!unit || !t) return TMB_OK;
    uint32_t u = (uint32_t)(unit - x->m->model[x->base]->units);
    if (!is_guest(x, x->m->part[x->base][u], unit->layer, unit->expert)) return TMB_OK;
    size_t size = tmb_dtype_bits((tmb_dtype)t->dtype) / 8, span = (n - 1) * (size_t)step + 1;
    if (!n || (first + span) * size > t->bytes || (size != 2 && size != 4)) return TMB_OK;
    float *all = malloc(span * sizeof *all);
    void *raw = malloc(span * size);
    tmb_status status = all && raw
                            ? tmb_checkpoint_read(ckpt, t, first * size, raw, span * size, err)
                            : tmb_fail_memory(err, span * 8, t->name);
    if (!status) {
        tmb_cpu_ops()->decode(all, raw, (tmb_dtype)t->dtype, span);
        for (size_t i = 0; i < n; i++)
            values[i] = all[i * step];
    }
    free(raw);
    free(all);
    return status;
}

/* ---- routes -----------------------------------------------------------------------------------
 */

static tmb_status on_batch(void *own, const tmb_variant_batch *batch, tmb_err *err)
{
    mixture *x = own;
    (void)err;
    x->batch = *batch;
    return TMB_OK;
}

static tmb_status on_route(void *ctx, const tmb_router_seen *seen, uint32_t *chosen, bool *changed,
                           tmb_err *err)
{
    mixture *x = ctx;
    if (x->mix->routes == TMB_MIX_OWN_ROUTES || !x->batch.routes) return TMB_OK;
    const tmb_routes *routes = &x->batch.routes[x->mix->routes];
    if (!routes->chosen || x->batch.tokens != seen->tokens)
        return tmb_fail(err, TMB_EINTERNAL, "layer %d: routes to replay were not kept",
                        seen->layer);
    memcpy(chosen, routes->chosen, seen->tokens * seen->top_k * sizeof *chosen);
    *changed = true;
    return TMB_OK;
}

/* ---- life -------------------------------------------------------------------------------------
 */

static void close_mixture(void *own)
{
    mixture *x = own;
    if (!x) return;
    for (size_t i = 0; i < x->n_idle; i++)
        tmb_reader_close(x->idle[i]);
    for (int s = 0; s < TMB_SIDES; s++)
        if (x->m->side[s]->close && x->own[s]) x->m->side[s]->close(x->own[s]);
    pthread_mutex_destroy(&x->lock);
    free(x);
}

static tmb_status open_mixture(const tmb_variant *self, tmb_hooks *hooks, void **own, tmb_err *err)
{
    mixture *x = calloc(1, sizeof *x);
    tmb_status status = TMB_OK;
    *own = NULL;
    if (!x) return tmb_fail_memory(err, sizeof *x, "a mixture");
    x->mix = self->ctx;
    x->m = x->mix->mixer;
    x->base = x->mix->base;
    x->guest = !x->base;
    pthread_mutex_init(&x->lock, NULL);
    for (int s = 0; !status && s < TMB_SIDES; s++)
        if (x->m->side[s]->open)
            status = x->m->side[s]->open(x->m->side[s], &x->hooks[s], &x->own[s], err);
    if (status) {
        close_mixture(x);
        return status;
    }
    *hooks = (tmb_hooks){.activation = on_activation, .kv = on_kv, .route = on_route, .ctx = x};
    if (x->mix->guest || x->hooks[x->base].weight) hooks->weight = on_weight;
    if (!x->m->same_model && x->mix->guest) hooks->vector = on_vector;
    if (x->mix->routes == TMB_MIX_OWN_ROUTES) hooks->route = NULL;
    *own = x;
    return TMB_OK;
}

tmb_variant tmb_mix_variant(const char *name, const tmb_mix *mix)
{
    return (tmb_variant){.name = name,
                         .model = mix->mixer->model[mix->base],
                         .open = open_mixture,
                         .close = close_mixture,
                         .batch = on_batch,
                         .ctx = (void *)(uintptr_t)mix};
}
