/* watch.c - what is seen of routers while models run: the reference's is kept, the others' are
 * compared with it, sequence by sequence, in all threads. */
#include "config.h"
#include "moe/diagnose/lockstep.h"

#include "kernels/base/team.h"

#include <stdlib.h>
#include <string.h>

/* Row of the reference's arrays where sequence i of the batch begins, and its tokens. */
static size_t reference_row(const tmb_lock_rank *r, size_t i, size_t *tokens)
{
    size_t s = r->set->sequence[r->at + i];
    *tokens = r->all.begin[s + 1] - r->all.begin[s];
    return r->all.begin[s];
}

static size_t batch_row(const tmb_lock_rank *r, size_t i)
{
    return r->set->begin[r->at + i] - r->row;
}

static tmb_routed reference(const tmb_lock_rank *r, size_t row)
{
    const tmb_router_shape *s = &r->shape;
    return (tmb_routed){r->logits + row * s->n_experts, r->choice + row * s->n_experts,
                        r->ref.chosen + row * s->top_k, r->ref.weight + row * s->top_k};
}

static tmb_routed routed(const tmb_router_seen *seen)
{
    return (tmb_routed){seen->logits, seen->choice, seen->chosen, seen->weight};
}

static bool is_router(const tmb_lock_rank *r, const tmb_linear_seen *seen)
{
    const tmb_model *m = r->model->variant->model;
    return !seen->shadow && seen->n_units == 1 && m->units[seen->units[0]].role == TMB_ROLE_ROUTER;
}

/* --- the reference -------------------------------------------------------------------------- */

static tmb_status keep_h(void *ctx, const tmb_linear_seen *seen, tmb_err *err)
{
    tmb_lock_rank *r = ctx;
    (void)err;
    if (!r->h || !is_router(r, seen)) return TMB_OK;
    memcpy(r->h + r->row * r->job->hidden, seen->x, r->rows * r->job->hidden * sizeof *seen->x);
    r->has_h = true;
    return TMB_OK;
}

static void keep_routes(const tmb_lock_rank *r, const tmb_lock_model *m,
                        const tmb_router_seen *seen)
{
    size_t k = seen->top_k;
    if (!m->chosen) return;
    memcpy(m->chosen + r->row * k, seen->chosen, r->rows * k * sizeof *seen->chosen);
    memcpy(m->weight + r->row * k, seen->weight, r->rows * k * sizeof *seen->weight);
}

static tmb_status keep_router(void *ctx, const tmb_router_seen *seen, tmb_err *err)
{
    tmb_lock_rank *r = ctx;
    size_t n = seen->n_experts, bytes = r->rows * n * sizeof *seen->logits;
    (void)err;
    if (r->logits) memcpy(r->logits + r->row * n, seen->logits, bytes);
    if (r->choice) memcpy(r->choice + r->row * n, seen->choice, bytes);
    keep_routes(r, &r->ref, seen);
    return TMB_OK;
}

tmb_observer tmb_lock_watch_reference(tmb_lock_rank *r)
{
    return (tmb_observer){.linear = keep_h, .router = keep_router, .ctx = r};
}

/* --- comparisons ---------------------------------------------------------------------------- */

/* One batch's routing against the reference's, shared by threads. */
typedef struct comparison {
    tmb_lock_rank *r;
    tmb_routed seen;
    void (*one)(const struct comparison *c, const tmb_tally *t, size_t ref_row, size_t row);
    uint64_t *moved; /* of the rerun */
} comparison;

static void add_counts(uint64_t *to, const uint64_t *from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (from[i]) __atomic_fetch_add(&to[i], from[i], __ATOMIC_RELAXED);
}

/* Integers of a sequence go to those of the rank; the order does not matter. */
static void merge(tmb_lock_rank *r, const tmb_margins *margins, const tmb_expert_counts *experts)
{
    add_counts((uint64_t *)&r->margins, (const uint64_t *)margins, sizeof *margins / 8);
    add_counts((uint64_t *)r->experts, (const uint64_t *)experts,
               r->shape.n_experts * sizeof *experts / 8);
}

static void compare_sequence(void *ctx, size_t i)
{
    const comparison *c = ctx;
    tmb_lock_rank *r = c->r;
    size_t n = r->shape.n_experts, s = r->set->sequence[r->at + i], tokens;
    size_t ref_row = reference_row(r, i, &tokens), row = batch_row(r, i);
    tmb_margins *margins = calloc(1, sizeof *margins);
    tmb_expert_counts *experts = calloc(n, sizeof *experts);
    if (margins && experts) {
        tmb_tally t = {.sums = r->sums + s * TMB_TALLY,
                       .ref = r->load + s * 2 * n,
                       .other = r->load + s * 2 * n + n,
                       .experts = experts,
                       .margins = margins};
        for (size_t p = 0; p < tokens; p++)
            c->one(c, &t, ref_row + p, row + p);
        merge(r, margins, experts);
    } else {
        __atomic_store_n(&r->failed, TMB_ESYSTEM, __ATOMIC_RELAXED);
    }
    free(experts);
    free(margins);
}

static tmb_status compare(comparison *c, tmb_err *err)
{
    tmb_team_each(c->r->threads, c->r->count, 1, compare_sequence, c);
    return c->r->failed ? tmb_fail_memory(err, sizeof(tmb_margins), "a comparison") : TMB_OK;
}

/* --- the rerun ------------------------------------------------------------------------------ */

static void one_rerun(const comparison *c, const tmb_tally *t, size_t ref_row, size_t row)
{
    tmb_routed a = reference(c->r, ref_row), b = tmb_routed_at(&c->seen, &c->r->shape, row);
    uint64_t moved[TMB_MARGIN_BINS] = {0};
    tmb_tally_noise(t, &c->r->shape, &a, &b, moved);
    add_counts(c->moved, moved, TMB_MARGIN_BINS);
}

static tmb_status see_rerun(void *ctx, const tmb_router_seen *seen, tmb_err *err)
{
    tmb_lock_rank *r = ctx;
    comparison c = {.r = r, .seen = routed(seen), .one = one_rerun, .moved = r->moved};
    return compare(&c, err);
}

tmb_observer tmb_lock_watch_rerun(tmb_lock_rank *r)
{
    return (tmb_observer){.router = see_rerun, .ctx = r};
}

/* --- a variant ------------------------------------------------------------------------------ */

static void one_variant(const comparison *c, const tmb_tally *t, size_t ref_row, size_t row)
{
    tmb_routed a = reference(c->r, ref_row), b = tmb_routed_at(&c->seen, &c->r->shape, row);
    tmb_tally_position(t, &c->r->shape, &a, &b, c->r->noise_margin);
}

/* Positions of each sequence of the batch with the reference's set, into same [.., layers]. */
static void count_same(const tmb_lock_rank *r, const tmb_router_seen *seen, uint32_t *same)
{
    size_t layers = r->job->layers, k = seen->top_k, tokens;
    for (size_t i = 0; i < r->count; i++) {
        size_t ref_row = reference_row(r, i, &tokens), row = batch_row(r, i);
        uint32_t n = 0;
        for (size_t p = 0; p < tokens; p++)
            n += tmb_same_route(&r->shape, r->ref.chosen + (ref_row + p) * k,
                                seen->chosen + (row + p) * k);
        same[r->set->sequence[r->at + i] * layers + (size_t)r->layer] = n;
    }
}

static uint32_t *scores_of(const tmb_lock_rank *r, uint32_t *all)
{
    return all + (size_t)r->variant * r->all.n * r->job->layers;
}

static tmb_status see_variant_h(void *ctx, const tmb_linear_seen *seen, tmb_err *err)
{
    tmb_lock_rank *r = ctx;
    (void)err;
    if (r->batch_h && is_router(r, seen))
        memcpy(r->batch_h, seen->x, r->rows * r->job->hidden * sizeof *seen->x);
    return TMB_OK;
}

static tmb_status see_variant(void *ctx, const tmb_router_seen *seen, tmb_err *err)
{
    tmb_lock_rank *r = ctx;
    keep_routes(r, r->model, seen);
    if (!r->job->full) {
        count_same(r, seen, scores_of(r, r->same));
        return TMB_OK;
    }
    size_t n = r->rows * seen->n_experts;
    memcpy(r->other_logits + (r->job->traces ? r->row * seen->n_experts : 0), seen->logits,
           n * sizeof *seen->logits);
    comparison c = {.r = r, .seen = routed(seen), .one = one_variant};
    return compare(&c, err);
}

tmb_observer tmb_lock_watch_variant(tmb_lock_rank *r)
{
    return (tmb_observer){.linear = see_variant_h, .router = see_variant, .ctx = r};
}

/* --- a variant's layer on the reference's input --------------------------------------------- */

static void one_local_layer(const comparison *c, const tmb_tally *t, size_t ref_row, size_t row)
{
    size_t k = c->r->shape.top_k;
    t->sums[TMB_T_LOCAL_LAYER] +=
        tmb_same_route(&c->r->shape, c->r->ref.chosen + ref_row * k, c->seen.chosen + row * k);
}

static tmb_status see_local(void *ctx, const tmb_router_seen *seen, tmb_err *err)
{
    tmb_lock_rank *r = ctx;
    if (!r->job->full) {
        count_same(r, seen, scores_of(r, r->local_same));
        return TMB_OK;
    }
    comparison c = {.r = r, .seen = routed(seen), .one = one_local_layer};
    return compare(&c, err);
}

tmb_observer tmb_lock_watch_local(tmb_lock_rank *r)
{
    return (tmb_observer){.router = see_local, .ctx = r};
}

/* --- its router on the reference's input, and the reference's on its input ------------------- */

static void one_router(const comparison *c, const tmb_tally *t, size_t ref_row, size_t row)
{
    const tmb_lock_rank *r = c->r;
    size_t n = r->shape.n_experts, at = r->job->traces ? r->row + row : row;
    tmb_routed a = reference(r, ref_row), local = tmb_routed_at(&c->seen, &r->shape, row);
    tmb_routed b = {.logits = r->other_logits + at * n};
    tmb_tally_local(t, &r->shape, &a, &b, &local, r->crossed + row * n);
}

static tmb_status see_crossed(void *ctx, const tmb_router_seen *seen, tmb_err *err)
{
    tmb_lock_rank *r = ctx;
    (void)err;
    memcpy(r->crossed, seen->logits, r->rows * seen->n_experts * sizeof *seen->logits);
    return TMB_OK;
}

static tmb_status see_router(void *ctx, const tmb_router_seen *seen, tmb_err *err)
{
    tmb_lock_rank *r = ctx;
    comparison c = {.r = r, .seen = routed(seen), .one = one_router};
    return compare(&c, err);
}

/* A table of token ids sends them to the same experts whatever reaches the router. */
static void one_hashed(const comparison *c, const tmb_tally *t, size_t ref_row, size_t row)
{
    (void)c, (void)ref_row, (void)row;
    t->sums[TMB_T_LOCAL_POSITIONS]++;
    t->sums[TMB_T_LOCAL_ROUTER]++;
}

tmb_status tmb_lock_routers(tmb_lock_rank *r, tmb_err *err)
{
    if (tmb_decoder_config(r->ref.decoder)->layer[r->layer].hashed) {
        comparison c = {.r = r, .one = one_hashed};
        return compare(&c, err);
    }
    tmb_observer crossed = {.router = see_crossed, .ctx = r},
                 local = {.router = see_router, .ctx = r};
    if (!r->has_h) return TMB_OK;
    TRY(tmb_decoder_route(r->ref.decoder, r->batch_h, r->rows, &crossed, err));
    return tmb_decoder_route(r->model->decoder, r->h + r->row * r->job->hidden, r->rows, &local,
                             err);
}
