/* plan_bundles.c - which units are worked on together, and which ranges of an output have to be
 * put together in memory.
 *
 * Two units belong to one bundle when they share a global scale (they are fused, or an output has
 * one scale for both) or when they interleave in an output, as gate and up of a stacked expert do.
 * Bundles are the connected components. */
#include "config.h"
#include "moe/quantize/plan_internal.h"

#include "moe/quantize/slot.h"

#include <stdlib.h>

/* Union-find with path halving; the lowest unit of a set is its root. */
static uint32_t root_of(uint32_t *parent, uint32_t u)
{
    while (parent[u] != u)
        u = parent[u] = parent[parent[u]];
    return u;
}

static void join(uint32_t *parent, uint32_t a, uint32_t b)
{
    a = root_of(parent, a);
    b = root_of(parent, b);
    if (a < b)
        parent[b] = a;
    else
        parent[a] = b;
}

static void share_fused(const tmb_plan *plan, uint32_t *share)
{
    const tmb_model *model = plan->job.model;
    for (uint32_t f = 0; f < model->n_fuses; f++) {
        const tmb_fuse *fuse = &model->fuses[f];
        uint32_t first = TMB_NONE;
        for (uint32_t i = 0; i < fuse->n_units; i++) {
            uint32_t u = fuse->units[i];
            const tmb_format *format = tmb_plan_spec(plan, u)->format;
            if (!format || format->sharing == TMB_SHARE_NONE) continue;
            if (format->sharing == TMB_SHARE_OUTSIDE_EXPERTS && model->units[u].expert >= 0)
                continue;
            if (first == TMB_NONE)
                first = u;
            else
                join(share, first, u);
        }
    }
}

static int by_place(const void *va, const void *vb)
{
    const tmb_reach *a = va, *b = vb;
    if (a->out != b->out) return a->out < b->out ? -1 : 1;
    if (a->lo != b->lo) return a->lo < b->lo ? -1 : 1;
    return a->slot < b->slot ? -1 : a->slot > b->slot;
}

/* The slots of outs that more than one unit writes, by out and place. */
static tmb_status reaches(const tmb_planner *p, tmb_reach **out, uint32_t *n, tmb_err *err)
{
    const tmb_plan *plan = p->plan;
    tmb_reach *list = malloc((p->all_slots + 1) * sizeof *list);
    *out = list;
    *n = 0;
    if (!list) return tmb_fail_memory(err, (p->all_slots + 1) * sizeof *list, "bundles");
    for (uint32_t u = 0; u < p->model->n_units; u++)
        for (uint32_t s = plan->slot_first[u]; s < plan->slot_first[u] + plan->n_slots[u]; s++) {
            const tmb_slot *slot = &plan->slots[s];
            tmb_part_dims dims;
            if (!tmb_part_dims_of(&p->model->units[u], tmb_plan_spec(plan, u)->format, slot->part,
                                  &dims))
                return tmb_fail(err, TMB_EINTERNAL, "%s: lost a part", p->model->units[u].name);
            uint64_t elements = dims.rows * dims.cols;
            bool whole = elements * dims.element_bytes == plan->outs[slot->out].bytes;
            if (whole && !p->model->units[u].stacked && tmb_slot_contiguous(slot, &dims)) continue;
            list[(*n)++] = (tmb_reach){.out = slot->out,
                                       .slot = s,
                                       .unit = u,
                                       .lo = slot->base,
                                       .hi = slot->base + (dims.rows - 1) * slot->row_stride +
                                             (dims.cols - 1) * slot->col_stride,
                                       .elements = elements};
        }
    qsort(list, *n, sizeof *list, by_place);
    return TMB_OK;
}

/* list[begin..end) overlap each other: they share a scalar, or interleave. */
static void join_overlap(tmb_plan *plan, const tmb_reach *list, uint32_t begin, uint32_t end,
                         uint64_t hi, uint32_t *share, uint32_t *bundle)
{
    tmb_part part = plan->slots[list[begin].slot].part;
    bool slab = false;
    for (uint32_t i = begin; i < end; i++) {
        if (part != TMB_PART_CODES && part != TMB_PART_SCALE) {
            plan->slots[list[i].slot].repeated = i > begin;
            if (part == TMB_PART_GLOBAL) join(share, list[begin].unit, list[i].unit);
            continue;
        }
        if (i > begin) join(bundle, list[begin].unit, list[i].unit);
        slab = slab || list[i].elements != list[i].hi - list[i].lo + 1 ||
               plan->slots[list[i].slot].col_stride != 1;
    }
    for (uint32_t i = begin; slab && i < end; i++) {
        plan->slots[list[i].slot].slab_begin = list[begin].lo;
        plan->slots[list[i].slot].slab_elements = hi - list[begin].lo + 1;
    }
}

static tmb_status join_interleaved(tmb_planner *p, uint32_t *share, uint32_t *bundle, tmb_err *err)
{
    tmb_plan *plan = p->plan;
    tmb_reach *list = NULL;
    uint32_t n = 0;
    tmb_status status = reaches(p, &list, &n, err);
    for (uint32_t i = 0; !status && i < n;) {
        uint32_t out = list[i].out;
        uint64_t covered = 0;
        while (i < n && list[i].out == out) {
            uint32_t begin = i;
            uint64_t hi = list[i].hi, elements = 0;
            for (; i < n && list[i].out == out && list[i].lo <= hi; i++) {
                if (list[i].hi > hi) hi = list[i].hi;
                elements += list[i].elements;
            }
            join_overlap(plan, list, begin, i, hi, share, bundle);
            /* units that write the same scalar count once */
            tmb_part part = plan->slots[list[begin].slot].part;
            bool scalar =
                part == TMB_PART_GLOBAL || part == TMB_PART_INPUT || part == TMB_PART_SHAPE;
            covered += scalar ? list[begin].elements : elements;
        }
        uint64_t all = plan->outs[out].bytes * 8 / tmb_dtype_bits((tmb_dtype)plan->outs[out].dtype);
        if (covered != all)
            status = tmb_fail(err, TMB_EINTERNAL, "%s: %llu of %llu elements would be written",
                              plan->outs[out].name, (unsigned long long)covered,
                              (unsigned long long)all);
    }
    free(list);
    return status;
}

static int by_first_out(const void *va, const void *vb)
{
    const tmb_bundle *a = va, *b = vb;
    return a->out_first < b->out_first ? -1 : a->out_first > b->out_first;
}

static tmb_status collect(tmb_planner *p, uint32_t *bundle, tmb_err *err)
{
    tmb_plan *plan = p->plan;
    uint32_t n = p->model->n_units, working = 0;
    for (uint32_t u = 0; u < n; u++) {
        if (!plan->n_slots[u]) continue;
        working++;
        plan->n_bundles += root_of(bundle, u) == u;
    }
    uint32_t *units = tmb_arena_alloc(&plan->arena, (working + 1) * sizeof *units);
    uint32_t *index = calloc(n + 1, sizeof *index); /* root -> bundle */
    plan->bundles = tmb_arena_alloc(&plan->arena, (plan->n_bundles + 1) * sizeof *plan->bundles);
    if (!units || !index || !plan->bundles) {
        free(index);
        return tmb_fail_memory(err, (uint64_t)n * 12, "bundles");
    }
    /* roots are the lowest of their sets, so they come first */
    uint32_t next = 0;
    for (uint32_t u = 0; u < n; u++) {
        if (!plan->n_slots[u]) continue;
        uint32_t root = root_of(bundle, u);
        if (root == u) index[u] = next++;
        plan->bundles[index[root]].n_units++;
    }
    uint32_t at = 0;
    for (uint32_t b = 0; b < plan->n_bundles; b++) {
        plan->bundles[b].units = units + at;
        at += plan->bundles[b].n_units;
        plan->bundles[b].n_units = 0;
        plan->bundles[b].out_first = TMB_NONE;
    }
    for (uint32_t u = 0; u < n; u++) {
        if (!plan->n_slots[u]) continue;
        tmb_bundle *b = &plan->bundles[index[root_of(bundle, u)]];
        units[(size_t)(b->units - units) + b->n_units++] = u;
        for (uint32_t s = plan->slot_first[u]; s < plan->slot_first[u] + plan->n_slots[u]; s++)
            if (plan->slots[s].out < b->out_first) b->out_first = plan->slots[s].out;
    }
    free(index);
    qsort(plan->bundles, plan->n_bundles, sizeof *plan->bundles, by_first_out);
    return TMB_OK;
}

tmb_status tmb_plan_bundles(tmb_planner *p, tmb_err *err)
{
    tmb_plan *plan = p->plan;
    uint32_t n = p->model->n_units;
    uint32_t *share = tmb_arena_alloc(&plan->arena, (n + 1) * sizeof *share);
    uint32_t *bundle = malloc((n + 1) * sizeof *bundle);
    if (!share || !bundle) {
        free(bundle);
        return tmb_fail_memory(err, (uint64_t)n * 8, "bundles");
    }
    plan->share = share;
    for (uint32_t u = 0; u < n; u++)
        share[u] = bundle[u] = u;
    share_fused(plan, share);
    tmb_status status = join_interleaved(p, share, bundle, err);
    for (uint32_t u = 0; !status && u < n; u++) {
        share[u] = root_of(share, u);
        if (plan->n_slots[u]) join(bundle, share[u], u);
    }
    if (!status) status = collect(p, bundle, err);
    free(bundle);
    return status;
}
