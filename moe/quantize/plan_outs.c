/* plan_outs.c - every output tensor, in the order of the source.
 *
 * A tensor of the source gives, in its place: itself (a kept one), the parts that the layout
 * spells (a quantized Linear), BF16 (a kept Linear of a quantized source), or nothing (a scale of
 * a source that is decoded).  A stack of experts gives the parts of one expert after the other,
 * or tensors that all of them share, when the layout says so. */
#include "config.h"
#include "moe/quantize/plan_internal.h"

#include "moe/quantize/slot.h"

#include <stdlib.h>
#include <string.h>

/* Shape, dtype, bytes; false when the size overflows. */
static bool measure(tmb_out *out)
{
    uint64_t bits = tmb_dtype_bits((tmb_dtype)out->dtype);
    for (int i = 0; i < out->rank; i++)
        if (!tmb_mul(bits, out->shape[i], &bits)) return false;
    out->bytes = bits / 8;
    return true;
}

static uint32_t find(const tmb_planner *p, const char *name)
{
    return tmb_names_find(&p->names, p->plan->outs, sizeof *p->plan->outs, name, strlen(name));
}

static tmb_status append(tmb_planner *p, const tmb_out *out, uint32_t *at, tmb_err *err)
{
    tmb_plan *plan = p->plan;
    uint32_t twin, again;
    if (plan->n_outs == p->room_outs) {
        uint64_t room = p->room_outs ? (uint64_t)p->room_outs * 2 : 1024;
        tmb_out *more = room < TMB_NONE ? realloc(plan->outs, room * sizeof *more) : NULL;
        if (!more) return tmb_fail_memory(err, room * sizeof *more, "outputs");
        plan->outs = more;
        p->room_outs = (uint32_t)room;
    }
    *at = plan->n_outs++;
    plan->outs[*at] = *out;
    if (!measure(&plan->outs[*at]))
        return tmb_fail(err, TMB_EDATA, "%s: its size overflows", out->name);
    TRY(tmb_names_add(&p->names, plan->outs, sizeof *plan->outs, *at, *at + 1, &twin, &again, err));
    if (twin == TMB_NAMES_NONE) return TMB_OK;
    return tmb_fail(err, TMB_EINTERNAL, "%s: two outputs have this name", out->name);
}

static tmb_status append_slot(tmb_planner *p, uint32_t u, const tmb_slot *slot, tmb_err *err)
{
    tmb_plan *plan = p->plan;
    if (p->all_slots == p->room_slots) {
        uint64_t room = p->room_slots ? (uint64_t)p->room_slots * 2 : 1024;
        tmb_slot *more = room < TMB_NONE ? realloc(plan->slots, room * sizeof *more) : NULL;
        if (!more) return tmb_fail_memory(err, room * sizeof *more, "outputs");
        plan->slots = more;
        p->room_slots = (uint32_t)room;
    }
    if (plan->n_slots[u]++ == 0) plan->slot_first[u] = p->all_slots;
    plan->slots[p->all_slots++] = *slot;
    return TMB_OK;
}

static tmb_status copy_tensor(tmb_planner *p, uint32_t t, tmb_err *err)
{
    const tmb_tensor *tensor = &p->ckpt->tensors[t];
    tmb_out out = {.name = tensor->name,
                   .shape = tensor->shape,
                   .source = t,
                   .dtype = tensor->dtype,
                   .rank = tensor->rank,
                   .kind = TMB_OUT_COPY};
    uint32_t at;
    return append(p, &out, &at, err);
}

/* The out that a spelled tensor names: a new one, or one that a unit of the same stack made. */
static tmb_status out_of(tmb_planner *p, uint32_t u, const tmb_spelled *sp, uint8_t kind,
                         bool joined, uint32_t *at, tmb_err *err)
{
    tmb_plan *plan = p->plan;
    const tmb_unit *unit = &p->model->units[u];
    *at = unit->stacked ? find(p, sp->name) : TMB_NAMES_NONE;
    if (*at != TMB_NAMES_NONE) {
        const tmb_out *old = &plan->outs[*at];
        bool same = old->kind == kind && old->dtype == sp->dtype && old->rank == sp->rank;
        for (int i = 0; same && i < sp->rank; i++)
            same = old->shape[i] == sp->shape[i];
        if (same) return TMB_OK;
        return tmb_fail(err, TMB_EINTERNAL, "%s: two outputs have this name", sp->name);
    }
    uint64_t *shape = NULL;
    if (sp->rank) {
        shape = tmb_arena_alloc(&plan->arena, (size_t)sp->rank * sizeof *shape);
        if (!shape) return tmb_fail_memory(err, (size_t)sp->rank * sizeof *shape, "a shape");
        memcpy(shape, sp->shape, (size_t)sp->rank * sizeof *shape);
    }
    tmb_out out = {.name = sp->name,
                   .shape = shape,
                   .source = u,
                   .dtype = (uint8_t)sp->dtype,
                   .rank = (uint8_t)sp->rank,
                   .kind = kind,
                   .joined = joined};
    return append(p, &out, at, err);
}

static tmb_status spell_unit(tmb_planner *p, uint32_t u, const tmb_spelled *spelled, int n,
                             const tmb_format *format, tmb_err *err)
{
    const tmb_unit *unit = &p->model->units[u];
    for (int i = 0; i < n; i++) {
        const tmb_spelled *sp = &spelled[i];
        tmb_part_dims dims;
        if (!sp->name) return tmb_fail_memory(err, TMB_NAME_MAX, "output names");
        if (!tmb_part_dims_of(unit, format, sp->part, &dims) ||
            tmb_dtype_bits(sp->dtype) != tmb_dtype_bits(dims.dtype))
            return tmb_fail(err, TMB_EINTERNAL,
                            "%s: the layout spells a part that %s does not have", sp->name,
                            format ? format->name : "bf16");
        uint32_t at;
        TRY(out_of(p, u, sp, format ? TMB_OUT_PART : TMB_OUT_DECODE, i > 0, &at, err));
        uint64_t down, right, last;
        if (!tmb_mul(dims.rows - 1, sp->row_stride, &down) ||
            !tmb_mul(dims.cols - 1, sp->col_stride, &right) || !tmb_add(down, right, &last) ||
            !tmb_add(last, sp->base, &last) || last >= p->plan->outs[at].bytes / dims.element_bytes)
            return tmb_fail(err, TMB_EINTERNAL, "%s: %s does not fit into it", sp->name,
                            unit->name);
        tmb_slot slot = {.out = at,
                         .part = sp->part,
                         .reciprocal = sp->reciprocal,
                         .base = sp->base,
                         .row_stride = sp->row_stride,
                         .col_stride = sp->col_stride};
        TRY(append_slot(p, u, &slot, err));
    }
    return TMB_OK;
}

/* A kept Linear of a quantized source becomes what an unquantized checkpoint of this architecture
 * holds: NAME.weight, or BF16 experts stacked the way arch->stack says. */
static tmb_status decode_unit(tmb_planner *p, uint32_t u, tmb_err *err)
{
    const tmb_unit *unit = &p->model->units[u];
    tmb_spelled sp = {.part = TMB_PART_CODES,
                      .dtype = TMB_BF16,
                      .rank = 2,
                      .shape = {unit->out, unit->in},
                      .row_stride = unit->in,
                      .col_stride = 1};
    if (!unit->stored.n_experts) {
        sp.name = tmb_arena_printf(&p->plan->arena, "%s.weight", unit->name);
        return spell_unit(p, u, &sp, 1, NULL, err);
    }
    uint32_t codes = unit->stored.part[TMB_PART_CODES];
    uint64_t views = p->view_first[codes + 1] - p->view_first[codes];
    uint64_t wide = views / unit->stored.n_experts * unit->out; /* gate and up side by side */
    uint64_t first = unit->stored.first, step = unit->stored.step ? unit->stored.step : 1;
    bool in_first =
        p->model->arch->stack == TMB_STACK_IO || p->model->arch->stack == TMB_STACK_IO_INTERLEAVED;
    sp.name = unit->disk;
    sp.rank = 3;
    sp.shape[0] = unit->stored.n_experts;
    sp.shape[1] = in_first ? unit->in : wide;
    sp.shape[2] = in_first ? wide : unit->in;
    sp.base = unit->stored.index * wide * unit->in + first * (in_first ? 1 : unit->in);
    sp.row_stride = step * (in_first ? 1 : unit->in);
    sp.col_stride = in_first ? wide : 1;
    return spell_unit(p, u, &sp, 1, NULL, err);
}

static tmb_status quantize_unit(tmb_planner *p, uint32_t u, const tmb_spec *spec, tmb_err *err)
{
    tmb_plan *plan = p->plan;
    tmb_spelled spelled[TMB_PARTS] = {0};
    int n = plan->layout->spell(&plan->job, &p->model->units[u], spec, &plan->arena, spelled);
    if (n < 1 || n > TMB_PARTS)
        return tmb_fail(err, TMB_EINTERNAL, "%s: the layout spells %d parts",
                        p->model->units[u].name, n);
    return spell_unit(p, u, spelled, n, spec->format, err);
}

static tmb_status place_tensor(tmb_planner *p, uint32_t t, tmb_err *err)
{
    const tmb_tensor *tensor = &p->ckpt->tensors[t];
    const char *shard = p->ckpt->shards[tensor->shard].name;
    uint32_t kept = 0, begin = p->view_first[t], end = p->view_first[t + 1];
    if (!p->owned[t])
        return tmb_fail(err, TMB_EINTERNAL, "%s: %s: belongs to no unit", shard, tensor->name);
    for (uint32_t i = begin; i < end; i++) {
        uint32_t u = p->views[i];
        const tmb_spec *spec = tmb_plan_spec(p->plan, u);
        if (spec->format)
            TRY(quantize_unit(p, u, spec, err));
        else if (p->model->units[u].linear && p->model->units[u].stored.format)
            TRY(decode_unit(p, u, err));
        else
            kept++;
    }
    if (!kept) return TMB_OK;
    if (kept < end - begin)
        return tmb_fail(err, TMB_EUSAGE,
                        "%s: %s holds experts of which the recipe keeps some and quantizes others; "
                        "give all of them one format",
                        shard, tensor->name);
    return copy_tensor(p, t, err);
}

/* Side tensors of a Linear that is copied are copied with it; others go with their decoding. */
static tmb_status keep_sides(tmb_planner *p, uint8_t *sides, tmb_err *err)
{
    for (uint32_t u = 0; u < p->model->n_units; u++) {
        const tmb_stored *stored = &p->model->units[u].stored;
        bool copied =
            !tmb_plan_spec(p->plan, u)->format && !(p->model->units[u].linear && stored->format);
        for (int i = 0; i < TMB_PARTS; i++)
            if (copied && i != TMB_PART_CODES && stored->part[i] != TMB_NO_TENSOR)
                sides[stored->part[i]] = 1;
    }
    for (uint32_t t = 0; t < p->ckpt->n_tensors; t++) {
        if (sides[t] && p->view_first[t] == p->view_first[t + 1])
            TRY(copy_tensor(p, t, err));
        else
            TRY(place_tensor(p, t, err));
    }
    return TMB_OK;
}

/* What the layout adds.  A number that the source already has under that name was measured by
 * somebody, so it stays. */
static tmb_status constants(tmb_planner *p, tmb_err *err)
{
    static const uint64_t one = 1;
    tmb_extra *extras = NULL;
    size_t n = 0;
    if (!p->plan->layout->extras) return TMB_OK;
    TRY(p->plan->layout->extras(&p->plan->job, &p->plan->arena, &extras, &n, err));
    for (size_t i = 0; i < n; i++) {
        tmb_out out = {.name = extras[i].name,
                       .shape = extras[i].rank ? &one : NULL,
                       .value = extras[i].value,
                       .dtype = TMB_F32,
                       .rank = extras[i].rank != 0,
                       .kind = TMB_OUT_CONST,
                       .source = TMB_NONE};
        uint32_t at = find(p, out.name);
        if (at != TMB_NAMES_NONE && p->plan->outs[at].kind == TMB_OUT_COPY) continue;
        TRY(append(p, &out, &at, err));
    }
    return TMB_OK;
}

tmb_status tmb_plan_outs(tmb_planner *p, tmb_err *err)
{
    tmb_plan *plan = p->plan;
    uint32_t n = p->model->n_units;
    if (p->ckpt->n_tensors >= TMB_NONE / 8 || n >= TMB_NONE / 8)
        return tmb_fail(err, TMB_EDATA, "%s: too many tensors", p->ckpt->path);
    plan->slot_first = tmb_arena_alloc(&plan->arena, (n + 1) * sizeof *plan->slot_first);
    plan->n_slots = tmb_arena_alloc(&plan->arena, n + 1);
    uint8_t *sides = calloc(p->ckpt->n_tensors + 1, 1);
    if (!plan->slot_first || !plan->n_slots || !sides) {
        free(sides);
        return tmb_fail_memory(err, (uint64_t)n * 5 + p->ckpt->n_tensors, "outputs");
    }
    tmb_status status = keep_sides(p, sides, err);
    free(sides);
    if (status) return status;
    return constants(p, err);
}
