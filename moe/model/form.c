/* form.c - the table of stored forms (formats.md 0, 3, 4), and how a weight is matched to it. */
#include "config.h"
#include "moe/model/form.h"
#include "moe/format/formats.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

/* Types of scales. */
enum { FLOATS = 1, E8M0 = 2, E4M3 = 4 };

/* Shapes of scales of a weight [out, in]. */
typedef enum geometry {
    SCALAR,   /* [] */
    ONE,      /* [1] */
    ROW,      /* [out] */
    COLUMN,   /* [out, 1] */
    TILE,     /* [ceil(out/128), ceil(in/128)] */
    TILE_4D,  /* [ceil(out/128), 1, ceil(in/128), 1] */
    GROUP,    /* [out, in/group] */
    ANY_GROUP /* the same, the group being what the shape says */
} geometry;

typedef struct rule {
    tmb_kind main;
    tmb_dtype dtype;
    unsigned pack; /* values in one element */
    tmb_kind scale;
    unsigned scale_types;
    geometry geometry;
    uint32_t group;
    tmb_kind global; /* TMB_KINDS: none */
    const char *format;
    tmb_spelling spelling;
} rule;

#define W TMB_KIND_WEIGHT
#define S TMB_KIND_SCALE
#define NO TMB_KINDS
static const rule rules[] = {
    /* DeepSeek-V3, -V3.2 and their kin; -V4 */
    {W, TMB_F8_E4M3, 1, TMB_KIND_SCALE_INV, FLOATS | E8M0, TILE, 0, NO, "fp8-block",
     TMB_SPELL_NATIVE},
    {W, TMB_F8_E4M3, 1, TMB_KIND_SCALE_INV, FLOATS, SCALAR, 0, NO, "fp8", TMB_SPELL_NATIVE},
    {W, TMB_F8_E4M3, 1, TMB_KIND_SCALE_INV, FLOATS, ONE, 0, NO, "fp8", TMB_SPELL_NATIVE},
    {W, TMB_F8_E4M3, 1, TMB_KIND_SCALE_SHORT, FLOATS | E8M0, TILE, 0, NO, "fp8-block",
     TMB_SPELL_NATIVE},
    {W, TMB_F8_E4M3, 1, TMB_KIND_SCALE_SHORT, E8M0, GROUP, 32, NO, "mxfp8", TMB_SPELL_NATIVE},
    {W, TMB_I8, 2, TMB_KIND_SCALE_SHORT, E8M0, GROUP, 32, NO, "mxfp4", TMB_SPELL_NATIVE},
    {W, TMB_U8, 2, TMB_KIND_SCALE_SHORT, E8M0, GROUP, 32, NO, "mxfp4", TMB_SPELL_NATIVE},
    /* gpt-oss */
    {TMB_KIND_BLOCKS, TMB_U8, 2, TMB_KIND_SCALES, E8M0, GROUP, 32, NO, "mxfp4", TMB_SPELL_NATIVE},
    /* FP8 of ModelOpt and of compressed-tensors */
    {W, TMB_F8_E4M3, 1, S, FLOATS, SCALAR, 0, NO, "fp8", TMB_SPELL_MODELOPT},
    {W, TMB_F8_E4M3, 1, S, FLOATS, ONE, 0, NO, "fp8", TMB_SPELL_CT},
    {W, TMB_F8_E4M3, 1, S, FLOATS, ROW, 0, NO, "fp8-channel", TMB_SPELL_MODELOPT},
    {W, TMB_F8_E4M3, 1, S, FLOATS, COLUMN, 0, NO, "fp8-channel", TMB_SPELL_CT},
    {W, TMB_F8_E4M3, 1, S, FLOATS, TILE, 0, NO, "fp8-block", TMB_SPELL_CT},
    {W, TMB_F8_E4M3, 1, S, FLOATS, TILE_4D, 0, NO, "fp8-block", TMB_SPELL_MODELOPT},
    {W, TMB_F8_E4M3, 1, S, E8M0, GROUP, 32, NO, "mxfp8", TMB_SPELL_MODELOPT},
    /* four bits; NVFP4 in groups of 32 is no loader's, but what it holds can be told */
    {W, TMB_U8, 2, S, E4M3, GROUP, 16, TMB_KIND_SCALE_2, "nvfp4", TMB_SPELL_MODELOPT},
    {W, TMB_U8, 2, S, E4M3, GROUP, 32, TMB_KIND_SCALE_2, "nvfp4", TMB_SPELL_MODELOPT},
    {W, TMB_U8, 2, S, E8M0, GROUP, 32, NO, "mxfp4", TMB_SPELL_MODELOPT},
    {TMB_KIND_PACKED, TMB_U8, 2, S, E4M3, GROUP, 16, TMB_KIND_GLOBAL, "nvfp4", TMB_SPELL_CT},
    {TMB_KIND_PACKED, TMB_U8, 2, S, E4M3, GROUP, 32, TMB_KIND_GLOBAL, "nvfp4", TMB_SPELL_CT},
    {TMB_KIND_PACKED, TMB_U8, 2, S, E8M0, GROUP, 32, NO, "mxfp4", TMB_SPELL_CT},
    {TMB_KIND_PACKED, TMB_I32, 8, S, FLOATS, ANY_GROUP, 0, NO, "int4", TMB_SPELL_CT},
};
enum { RULES = sizeof rules / sizeof *rules };
#undef W
#undef S
#undef NO

/* A tensor without its expert dimension, and with [in, out] turned round. */
typedef struct view {
    tmb_dtype dtype;
    int rank; /* -1: it does not have one matrix for each expert */
    uint64_t d[TMB_RANK_MAX];
} view;

static view view_of(const tmb_tensor *t, uint32_t n_experts, bool transposed)
{
    view v = {(tmb_dtype)t->dtype, 0, {0}};
    int skip = n_experts && t->rank > 0 && t->shape[0] == n_experts;
    if (n_experts && !skip && !(t->rank == 0 || (t->rank == 1 && t->shape[0] == 1))) v.rank = -1;
    for (int i = skip; v.rank >= 0 && i < t->rank; i++)
        v.d[v.rank++] = t->shape[i];
    if (skip && v.rank > 0 && v.d[v.rank - 1] == 1) { /* [E, 1], [E, 1, 1]: one number each */
        bool one = true;
        for (int i = 0; i < v.rank; i++)
            one &= v.d[i] == 1;
        if (one) v.rank = 0;
    }
    if (transposed && v.rank >= 2) {
        uint64_t in = v.d[v.rank - 2];
        v.d[v.rank - 2] = v.d[v.rank - 1];
        v.d[v.rank - 1] = in;
    }
    return v;
}

static unsigned scale_type(tmb_dtype dtype)
{
    switch (dtype) {
    case TMB_F32:
    case TMB_F16:
    case TMB_BF16: return FLOATS;
    case TMB_U8:
    case TMB_F8_E8M0: return E8M0;
    case TMB_F8_E4M3: return E4M3;
    default: return 0;
    }
}

static bool is_plain(tmb_dtype dtype)
{
    return dtype == TMB_F32 || dtype == TMB_F16 || dtype == TMB_BF16;
}

static bool geometry_fits(const rule *r, const view *s, uint64_t out, uint64_t in, uint32_t *group)
{
    uint64_t tile_rows = tmb_ceil_div(out, 128), tile_cols = tmb_ceil_div(in, 128);
    *group = r->group;
    switch (r->geometry) {
    case SCALAR: return s->rank == 0;
    case ONE: return s->rank == 1 && s->d[0] == 1;
    case ROW: return s->rank == 1 && s->d[0] == out;
    case COLUMN: return s->rank == 2 && s->d[0] == out && s->d[1] == 1;
    case TILE: return s->rank == 2 && s->d[0] == tile_rows && s->d[1] == tile_cols;
    case TILE_4D:
        return s->rank == 4 && s->d[0] == tile_rows && s->d[1] == 1 && s->d[2] == tile_cols &&
               s->d[3] == 1;
    case GROUP:
        return s->rank == 2 && s->d[0] == out && in % r->group == 0 && s->d[1] == in / r->group;
    case ANY_GROUP:
        if (s->rank != 2 || s->d[0] != out || s->d[1] == 0 || in % s->d[1] != 0) return false;
        if (in / s->d[1] > UINT32_MAX || in / s->d[1] % 2) return false;
        *group = (uint32_t)(in / s->d[1]);
        return true;
    }
    return false;
}

tmb_kind tmb_form_main(const tmb_parts *parts)
{
    static const tmb_kind order[] = {TMB_KIND_WEIGHT, TMB_KIND_PACKED, TMB_KIND_BLOCKS,
                                     TMB_KIND_FOREIGN, TMB_KIND_BARE};
    for (size_t i = 0; i < sizeof order / sizeof *order; i++)
        if (parts->of[order[i]]) return order[i];
    return TMB_KINDS;
}

static bool has_rank(const tmb_parts *parts, tmb_kind main, int rank)
{
    const tmb_tensor *t = parts->of[main];
    if (t->rank != rank + (main == TMB_KIND_BLOCKS)) return false;
    for (int i = 0; i < t->rank; i++)
        if (t->shape[i] == 0) return false;
    return true;
}

/* Types that weights come in: floats, and bytes that hold codes. */
static bool is_weight_type(const tmb_tensor *t, tmb_kind main)
{
    switch ((tmb_dtype)t->dtype) {
    case TMB_BOOL:
    case TMB_I16:
    case TMB_U16:
    case TMB_U32:
    case TMB_C64:
    case TMB_F64:
    case TMB_I64:
    case TMB_U64: return false;
    case TMB_I32: return main == TMB_KIND_PACKED || main == TMB_KIND_FOREIGN;
    default: return true;
    }
}

bool tmb_form_is_matrix(const tmb_parts *parts, tmb_kind main)
{
    return main != TMB_KIND_BARE && is_weight_type(parts->of[main], main) &&
           has_rank(parts, main, 2);
}

bool tmb_form_is_stack(const tmb_parts *parts, tmb_kind main)
{
    return main != TMB_KIND_FOREIGN && is_weight_type(parts->of[main], main) &&
           has_rank(parts, main, 3);
}

static const char *last_part(const tmb_tensor *t)
{
    const char *dot = strrchr(t->name, '.');
    return dot ? dot + 1 : t->name;
}

/* "weight F8_E4M3 [128, 64]" */
static void describe(char *out, size_t n, const tmb_parts *parts, tmb_kind kind)
{
    const tmb_tensor *t = parts->of[kind];
    size_t at = (size_t)snprintf(out, n, "%s %s [", last_part(t),
                                 tmb_dtype_name((tmb_dtype)t->dtype));
    for (int i = 0; i < t->rank && at < n; i++)
        at += (size_t)snprintf(out + at, n - at, "%s%" PRIu64, i ? ", " : "", t->shape[i]);
    if (at < n) snprintf(out + at, n - at, "]");
}

/* Why no rule fits; `near` is one that fails for its global scale alone. */
static const char *complaint(const tmb_parts *parts, tmb_kind main, const rule *near,
                             tmb_arena *arena)
{
    char weight[256], scale[256];
    describe(weight, sizeof weight, parts, main);
    if (main == TMB_KIND_FOREIGN)
        return tmb_arena_printf(arena, "%s is packed by AutoAWQ or GPTQ, which is not read", weight);
    if (near)
        return tmb_arena_printf(arena, "%s looks like %s but has no %s of one number", weight,
                                near->format, tmb_kind_ending(near->global));
    static const tmb_kind scales[] = {TMB_KIND_SCALE, TMB_KIND_SCALE_INV, TMB_KIND_SCALE_SHORT,
                                      TMB_KIND_SCALES};
    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++) {
        if (!parts->of[scales[i]]) continue;
        describe(scale, sizeof scale, parts, scales[i]);
        return tmb_arena_printf(arena, "%s with %s: no known format stores a weight so", weight,
                                scale);
    }
    return tmb_arena_printf(arena, "%s has no scale", weight);
}

/* Kinds that mean quantization wherever they stand. */
static const unsigned telling = 1u << TMB_KIND_PACKED | 1u << TMB_KIND_SCALE |
                                1u << TMB_KIND_SCALE_INV | 1u << TMB_KIND_SCALE_2 |
                                1u << TMB_KIND_GLOBAL | 1u << TMB_KIND_INPUT |
                                1u << TMB_KIND_INPUT_GLOBAL | 1u << TMB_KIND_SHAPE |
                                1u << TMB_KIND_ZERO;

/* A tensor of quantization that the form has no use for; TMB_KINDS when there is none. */
static tmb_kind leftover(const tmb_parts *parts, unsigned used)
{
    for (int k = 0; k < TMB_KINDS; k++)
        if (parts->of[k] && (telling & ~used & 1u << k)) return (tmb_kind)k;
    return TMB_KINDS;
}

static const char *leftover_text(const tmb_parts *parts, tmb_kind main, tmb_kind extra,
                                 tmb_arena *arena)
{
    char weight[256];
    describe(weight, sizeof weight, parts, main);
    return tmb_arena_printf(arena, "%s has a %s that does not belong to it", weight,
                            last_part(parts->of[extra]));
}

static bool one_number(const tmb_parts *parts, tmb_kind kind, uint32_t n_experts)
{
    if (!parts->of[kind]) return false;
    view v = view_of(parts->of[kind], n_experts, false);
    return scale_type(v.dtype) == FLOATS && (v.rank == 0 || (v.rank == 1 && v.d[0] == 1));
}

/* Fill the form from the rule that fits. */
static void apply(tmb_form *f, const tmb_parts *parts, const rule *r, tmb_kind main,
                  uint32_t group, uint32_t n_experts)
{
    tmb_kind inputs[] = {TMB_KIND_INPUT, TMB_KIND_INPUT_GLOBAL};
    tmb_kind input = inputs[r->global == TMB_KIND_GLOBAL];
    uint32_t *part = f->stored.part;
    bool input_ok = one_number(parts, input, n_experts);
    const char *name = r->format;
    if (r->global != TMB_KINDS && !input_ok) name = "nvfp4-w4a16";

    f->stored.spelling = r->spelling;
    f->stored.format = tmb_format_find(name);
    f->stored.group = r->geometry == ANY_GROUP || (group == 32 && r->global != TMB_KINDS) ? group : 0;
    f->used = 1u << main | 1u << r->scale;
    part[r->geometry <= ONE ? TMB_PART_GLOBAL : TMB_PART_SCALE] = parts->index[r->scale];
    if (r->global != TMB_KINDS) {
        part[TMB_PART_GLOBAL] = parts->index[r->global];
        f->used |= 1u << r->global;
    }
    if (input_ok) {
        part[TMB_PART_INPUT] = parts->index[input];
        f->used |= 1u << input;
    }
    const tmb_tensor *shape = parts->of[TMB_KIND_SHAPE];
    if (r->geometry == ANY_GROUP && shape && shape->rank == 1 && shape->shape[0] == 2 &&
        (shape->dtype == TMB_I64 || shape->dtype == TMB_I32)) {
        part[TMB_PART_SHAPE] = parts->index[TMB_KIND_SHAPE];
        f->used |= 1u << TMB_KIND_SHAPE;
    }
}

/* The form of one that fits no rule: what can be told of it, so that it can be looked at. */
static void salvage(tmb_form *f, const tmb_parts *parts, tmb_kind main)
{
    static const struct {
        tmb_kind kind;
        tmb_part part;
    } to[] = {{TMB_KIND_SCALE, TMB_PART_SCALE},   {TMB_KIND_SCALE_INV, TMB_PART_SCALE},
              {TMB_KIND_SCALES, TMB_PART_SCALE},  {TMB_KIND_SCALE_2, TMB_PART_GLOBAL},
              {TMB_KIND_GLOBAL, TMB_PART_GLOBAL}, {TMB_KIND_INPUT, TMB_PART_INPUT},
              {TMB_KIND_INPUT_GLOBAL, TMB_PART_INPUT}, {TMB_KIND_SHAPE, TMB_PART_SHAPE}};
    f->used = 1u << main;
    for (int i = 0; i < TMB_PARTS; i++)
        if (i != TMB_PART_CODES) f->stored.part[i] = TMB_NO_TENSOR;
    for (size_t i = 0; i < sizeof to / sizeof *to; i++) {
        if (!parts->of[to[i].kind] || f->stored.part[to[i].part] != TMB_NO_TENSOR) continue;
        f->stored.part[to[i].part] = parts->index[to[i].kind];
        f->used |= 1u << to[i].kind;
    }
    f->stored.spelling = TMB_SPELL_BROKEN;
    f->stored.format = NULL;
}

tmb_status tmb_form_read(tmb_form *out, const tmb_parts *parts, uint32_t n_experts,
                         bool transposed, tmb_arena *arena, tmb_err *err)
{
    tmb_kind main = tmb_form_main(parts);
    tmb_form f = {.used = 1u << main};
    for (int i = 0; i < TMB_PARTS; i++)
        f.stored.part[i] = TMB_NO_TENSOR;
    f.stored.part[TMB_PART_CODES] = parts->index[main];
    f.stored.n_experts = n_experts;
    f.stored.step = 1;
    f.stored.transposed = transposed;

    view w = view_of(parts->of[main], n_experts, transposed);
    if (main == TMB_KIND_BLOCKS && w.rank == 3) { /* [out, in/32, 16] */
        w.d[1] *= w.d[2]; /* no overflow: the tensor's bytes were checked */
        w.rank = 2;
    }
    f.out = w.d[0];
    f.in = w.d[1];

    const rule *fits = NULL, *near = NULL;
    uint32_t group = 0;
    for (int i = 0; i < RULES && w.rank == 2 && !fits; i++) {
        const rule *r = &rules[i];
        uint64_t in;
        if ((r->main == TMB_KIND_WEIGHT ? main != TMB_KIND_WEIGHT && main != TMB_KIND_BARE
                                        : main != r->main) ||
            w.dtype != r->dtype || !parts->of[r->scale] || !tmb_mul(w.d[1], r->pack, &in))
            continue;
        view s = view_of(parts->of[r->scale], n_experts, transposed);
        if (!(scale_type(s.dtype) & r->scale_types) || !geometry_fits(r, &s, w.d[0], in, &group))
            continue;
        f.in = in;
        if (r->global != TMB_KINDS && !one_number(parts, r->global, n_experts))
            near = r;
        else
            fits = r;
    }
    bool broken = !fits && (w.rank != 2 || !is_plain(w.dtype));
    if (fits) apply(&f, parts, fits, main, group, n_experts);
    if (f.out > INT32_MAX || f.in > INT32_MAX) {
        broken = true;
        f.broken = "a weight of more than 2^31 rows or columns is not read";
    } else if (broken) {
        f.broken = complaint(parts, main, near, arena);
    } else {
        tmb_kind extra = leftover(parts, f.used);
        broken = extra != TMB_KINDS;
        if (broken) f.broken = leftover_text(parts, main, extra, arena);
    }
    if (broken && !f.broken) return tmb_fail_memory(err, 1, "the inventory");
    if (broken) salvage(&f, parts, main);
    *out = f;
    return TMB_OK;
}
