/* fly.c - weights quantized when they are loaded.  See fly.h. */
#include "config.h"
#include "moe/fly/internal.h"

#include "moe/quantize/encode.h"
#include "moe/quantize/slot.h"

#include <pthread.h>
#include <stdlib.h>

/* What is known of the largest value of those that share a scale. */
enum { UNKNOWN, LOOKED_AT, KNOWN };

struct tmb_fly {
    const tmb_plan *plan;
    const tmb_ops *ops;
    tmb_weighing *weighing; /* NULL: no search is weighted */
    tmb_acts *acts;
    tmb_hooks round;     /* of acts */
    uint32_t *bundle_of; /* [n_units] */
    /* of plan->share[u]: under the lock */
    pthread_mutex_t lock;
    pthread_cond_t change;
    uint8_t *state;
    float *amax;
};

tmb_status tmb_fly_open(tmb_fly **out, const tmb_plan *plan, const tmb_ops *ops, tmb_err *err)
{
    uint32_t n = plan->job.model->n_units;
    tmb_fly *f = calloc(1, sizeof *f);
    *out = NULL;
    if (!f) return tmb_fail_memory(err, sizeof *f, "a recipe on the fly");
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->change, NULL);
    f->plan = plan;
    f->ops = ops;
    f->bundle_of = calloc((size_t)n + 1, sizeof *f->bundle_of);
    f->state = calloc((size_t)n + 1, 1);
    f->amax = calloc((size_t)n + 1, sizeof *f->amax);
    tmb_status status = f->bundle_of && f->state && f->amax
                            ? tmb_fly_acts(&f->acts, plan, ops, err)
                            : tmb_fail_memory(err, (uint64_t)n * 9, "a recipe on the fly");
    if (!status) status = tmb_weighing_open(&f->weighing, plan, err);
    if (status) {
        tmb_fly_close(f);
        return status;
    }
    f->round = tmb_acts_hooks(f->acts);
    for (uint32_t b = 0; b < plan->n_bundles; b++)
        for (uint32_t i = 0; i < plan->bundles[b].n_units; i++)
            f->bundle_of[plan->bundles[b].units[i]] = b;
    *out = f;
    return TMB_OK;
}

void tmb_fly_close(tmb_fly *f)
{
    if (!f) return;
    tmb_acts_close(f->acts);
    tmb_weighing_close(f->weighing);
    pthread_cond_destroy(&f->change);
    pthread_mutex_destroy(&f->lock);
    free(f->bundle_of);
    free(f->state);
    free(f->amax);
    free(f);
}

/* ---- the joint scale --------------------------------------------------------------------------
 */

/* The largest value of all units that share a scale with u. */
static tmb_status look(const tmb_fly *f, tmb_reader *reader, uint32_t u, float *amax, tmb_err *err)
{
    const tmb_model *model = f->plan->job.model;
    const tmb_bundle *bundle = &f->plan->bundles[f->bundle_of[u]];
    tmb_status status = TMB_OK;
    *amax = 0;
    for (uint32_t i = 0; !status && i < bundle->n_units; i++) {
        const tmb_unit *other = &model->units[bundle->units[i]];
        if (f->plan->share[bundle->units[i]] != f->plan->share[u]) continue;
        float own = 0, *work = malloc(TMB_TILE_ROWS * (size_t)other->in * sizeof *work);
        if (!work) return tmb_fail_memory(err, TMB_TILE_ROWS * other->in * 4, other->name);
        status = tmb_reader_amax(reader, other, work, &own, err);
        if (own > *amax) *amax = own;
        free(work);
    }
    return status;
}

/* One thread looks, others who share wait for it; who waits for a look that fails looks itself and
 * meets the same error. */
static tmb_status joint_amax(tmb_fly *f, tmb_reader *reader, uint32_t u, float *amax, tmb_err *err)
{
    uint32_t root = f->plan->share[u];
    tmb_status status = TMB_OK;
    pthread_mutex_lock(&f->lock);
    while (f->state[root] == LOOKED_AT)
        pthread_cond_wait(&f->change, &f->lock);
    if (f->state[root] == UNKNOWN) {
        float most = 0;
        f->state[root] = LOOKED_AT;
        pthread_mutex_unlock(&f->lock);
        status = look(f, reader, u, &most, err);
        pthread_mutex_lock(&f->lock);
        f->state[root] = status ? UNKNOWN : KNOWN;
        f->amax[root] = most;
        pthread_cond_broadcast(&f->change);
    }
    *amax = f->amax[root];
    pthread_mutex_unlock(&f->lock);
    return status;
}

/* ---- hooks ------------------------------------------------------------------------------------
 */

static tmb_status on_weight(void *ctx, tmb_reader *reader, const tmb_unit *unit, uint64_t row,
                            size_t rows, float *y, tmb_err *err)
{
    tmb_fly *f = ctx;
    uint32_t u = (uint32_t)(unit - f->plan->job.model->units);
    float amax = 0;
    if (!f->plan->n_slots[u]) return tmb_reader_rows(reader, unit, row, rows, y, err);
    if (tmb_unit_scanned(f->plan, u)) TRY(joint_amax(f, reader, u, &amax, err));
    TRY(tmb_reader_rows(reader, unit, row, rows, y, err));
    tmb_encoding e = tmb_encoding_of(f->plan, u, amax);
    const tmb_format *format = e.spec->format;
    uint64_t codes = tmb_part_tile_bytes(unit, format, TMB_PART_CODES),
             scales = tmb_part_tile_bytes(unit, format, TMB_PART_SCALE),
             floats = tmb_format_work(unit->in), lanes = e.weigh ? f->plan->weigh->table_floats : 0;
    codes = (codes + 63) / 64 * 64;
    scales = (scales + 63) / 64 * 64;
    uint8_t *room = malloc(codes + scales + (floats + lanes) * sizeof(float));
    if (!room) return tmb_fail_memory(err, codes + scales + (floats + lanes) * 4, unit->name);
    float *work = (float *)(void *)(room + codes + scales);
    tmb_status status = TMB_OK;
    if (e.weigh) status = tmb_weighing_make(f->weighing, e.weigh, work + floats, err);
    e.lanes = work + floats;
    if (!status) {
        tmb_encode_rows(&e, f->ops, y, rows, room, room + codes, work);
        tmb_read_back(&e, f->ops, room, room + codes, rows, y, work);
    }
    free(room);
    return status;
}

static tmb_status on_activation(void *ctx, const tmb_linear_seen *seen, float *y, bool *changed,
                                tmb_err *err)
{
    tmb_fly *f = ctx;
    return f->round.activation(f->round.ctx, seen, y, changed, err);
}

static tmb_status on_kv(void *ctx, const tmb_kv_seen *seen, float *k, float *v, tmb_err *err)
{
    tmb_fly *f = ctx;
    return f->round.kv(f->round.ctx, seen, k, v, err);
}

tmb_hooks tmb_fly_weights(tmb_fly *fly)
{
    return (tmb_hooks){.weight = on_weight, .ctx = fly};
}

tmb_hooks tmb_fly_hooks(tmb_fly *fly)
{
    tmb_hooks hooks = tmb_fly_weights(fly);
    if (!tmb_acts_any(fly->acts)) return hooks;
    hooks.activation = on_activation;
    hooks.kv = on_kv;
    return hooks;
}
