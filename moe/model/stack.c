/* stack.c - 3-D tensors that hold all experts of a layer: which way they lie, and one unit for
 * each expert and projection.
 *
 * transformers saves some families the other way round than they were released, so the shapes
 * decide wherever they can, and the architecture's word only where they cannot. */
#include "config.h"
#include "moe/model/builder.h"

#include <string.h>

/* More than any model has; a hostile header must not make us build billions of units. */
enum { EXPERTS_MAX = 16384 };

typedef enum projection { GATE_UP, GATE, UP, DOWN, NO_PROJECTION } projection;

static const struct {
    const char *leaf;
    projection projection;
} leaves[] = {
    {"gate_up_proj", GATE_UP}, {"gate_proj", GATE}, {"up_proj", UP}, {"down_proj", DOWN},
    {"w13", GATE_UP},          {"w1", GATE},        {"w3", UP},      {"w2", DOWN},
    {"input_linear", GATE_UP}, {"gate_up", GATE_UP}, {"output_linear", DOWN},
    {"w_gate", GATE},          {"w_up", UP},        {"w_down", DOWN},
    {"gate", GATE},            {"up", UP},          {"down", DOWN},
    {"v1", UP},
};
enum { LEAVES = sizeof leaves / sizeof *leaves };

static projection projection_of(const char *leaf, size_t n)
{
    for (int i = 0; i < LEAVES; i++)
        if (strlen(leaves[i].leaf) == n && memcmp(leaves[i].leaf, leaf, n) == 0)
            return leaves[i].projection;
    return NO_PROJECTION;
}

/* Length of "a.b." of "a.b.c". */
static size_t parent_of(const char *name, size_t n)
{
    while (n && name[n - 1] != '.')
        n--;
    return n;
}

/* Whether the last part of name [n], which ends with a dot, speaks of routed experts. */
static bool is_experts(const char *name, size_t n)
{
    if (!n) return false;
    size_t from = parent_of(name, n - 1);
    bool found = false;
    for (size_t i = from; i + 6 < n; i++) {
        if (memcmp(name + i, "shared", 6) == 0) return false;
        if (memcmp(name + i, "expert", 6) == 0) found = true;
    }
    return found;
}

/* The stack beside this one that has one of these projections. */
static const tmb_tensor *sibling(const tmb_builder *b, const char *name, size_t parent,
                                 unsigned projections)
{
    char key[TMB_NAME_MAX + 32];
    memcpy(key, name, parent);
    for (int i = 0; i < LEAVES; i++) {
        if (!(projections & 1u << leaves[i].projection)) continue;
        size_t n = strlen(leaves[i].leaf);
        memcpy(key + parent, leaves[i].leaf, n);
        int64_t module = tmb_words_find(&b->modules.names, key, parent + n);
        if (module < 0) continue;
        tmb_parts parts;
        tmb_modules_parts(&b->modules, b->model->ckpt, (uint32_t)module, &parts);
        tmb_kind main = tmb_form_main(&parts);
        if (main != TMB_KINDS && parts.of[main]->rank == 3) return parts.of[main];
    }
    return NULL;
}

/* Votes of the shapes: 1 [E, in, out], 0 [E, out, in], -1 they do not tell. */
static int vote(bool oi, bool io)
{
    return oi == io ? -1 : io;
}

static int told_by_shapes(const tmb_builder *b, const char *name, size_t parent, projection p,
                          const uint64_t *d)
{
    uint64_t H = b->dims.hidden, I = b->dims.expert_width;
    /* gate_up [E, 2I, H] with down [E, H, I], or [E, H, 2I] with [E, I, H]: never both */
    if (p == GATE_UP || p == DOWN) {
        const tmb_tensor *other = sibling(b, name, parent, p == DOWN ? 1u << GATE_UP : 1u << DOWN);
        if (other) {
            const uint64_t *gate_up = p == DOWN ? other->shape + 1 : d;
            const uint64_t *down = p == DOWN ? d : other->shape + 1;
            int told = vote(gate_up[0] / 2 == down[1] && gate_up[1] == down[0],
                            gate_up[0] == down[1] && gate_up[1] / 2 == down[0]);
            if (told >= 0) return told;
        }
    }
    int told = p == DOWN ? vote(H && d[0] == H, H && d[1] == H) : vote(H && d[1] == H, H && d[0] == H);
    if (told >= 0) return told;
    uint64_t out = p == GATE_UP ? 2 * I : I;
    return p == DOWN ? vote(I && d[1] == I, I && d[0] == I)
                     : vote(I && d[0] == out, I && d[1] == out);
}

/* Of a packed stack the scales tell: they have `in` divided, the codes have it halved. */
static int told_by_scales(const tmb_parts *parts, const uint64_t *d)
{
    const tmb_tensor *scale = parts->of[TMB_KIND_SCALE];
    if (!scale || scale->rank != 3) return -1;
    const uint64_t *s = scale->shape + 1;
    return vote(s[0] == d[0] && s[1] < d[1], s[1] == d[1] && s[0] < d[0]);
}

static tmb_status orientation(tmb_builder *b, const char *name, size_t parent,
                              const tmb_parts *parts, tmb_kind main, projection p,
                              bool *transposed, tmb_err *err)
{
    const tmb_tensor *t = parts->of[main];
    const uint64_t *d = t->shape + 1;
    *transposed = false;
    if (main == TMB_KIND_BLOCKS || main == TMB_KIND_PACKED) return TMB_OK;

    tmb_stack word = b->model->arch->stack;
    bool word_io = word == TMB_STACK_IO || word == TMB_STACK_IO_INTERLEAVED;
    bool bytes = t->dtype == TMB_U8 || t->dtype == TMB_I8;
    int told = bytes ? told_by_scales(parts, d) : told_by_shapes(b, name, parent, p, d);
    *transposed = told < 0 ? word_io : told;
    if (b->orientation_noted) return TMB_OK;
    if (told >= 0 && word != TMB_STACK_NONE && *transposed != word_io) {
        b->orientation_noted = true;
        return tmb_note(b, err,
                        "stacked experts lie [expert, %s] here, not as %s checkpoints are released; "
                        "the shapes decide",
                        told ? "in, out" : "out, in", b->model->arch->name);
    }
    if (told < 0 && word == TMB_STACK_NONE) {
        b->orientation_noted = true;
        return tmb_note(b, err,
                        "%.*s: the shapes do not tell which way stacked experts lie; taken as "
                        "[expert, out, in]",
                        (int)parent - 1, name);
    }
    return TMB_OK;
}

/* One unit of the stack. */
static tmb_status add(tmb_builder *b, const tmb_unit *like, const char *name, size_t parent,
                      const char *leaf, size_t n_leaf, uint32_t expert, tmb_err *err)
{
    tmb_unit unit = *like;
    const char *between = is_experts(name, parent) ? "" : "experts.";
    unit.name = tmb_arena_printf(&b->model->arena, "%.*s%s%u.%.*s", (int)parent, name, between,
                                 expert, (int)n_leaf, leaf);
    if (!unit.name) return tmb_fail_memory(err, parent, "the inventory");
    unit.proj = tmb_proj_of(leaf, n_leaf);
    unit.expert = (int32_t)expert;
    unit.stored.index = expert;
    return tmb_unit_add(b, &unit, err);
}

tmb_status tmb_stack_expand(tmb_builder *b, uint32_t module, const tmb_parts *parts,
                            const tmb_class *class, bool *taken, unsigned *used, tmb_err *err)
{
    const char *name = b->modules.names.names[module].text;
    size_t n = b->modules.names.names[module].length, parent = parent_of(name, n);
    projection p = projection_of(name + parent, n - parent);
    tmb_kind main = tmb_form_main(parts);
    *taken = false;
    if (p == NO_PROJECTION || main == TMB_KINDS || !tmb_form_is_stack(parts, main)) return TMB_OK;
    if (class->expert >= 0 || parts->of[main]->shape[0] > EXPERTS_MAX) return TMB_OK;
    /* an unknown architecture may keep them right under "moe." */
    bool counted = b->model->guessed && b->dims.experts > 1 &&
                   parts->of[main]->shape[0] == (uint64_t)b->dims.experts &&
                   class->role != TMB_ROLE_VISION;
    if (!is_experts(name, parent) && !(class->flags & TMB_ARCH_STACKED) && !counted) return TMB_OK;

    bool transposed;
    uint32_t experts = (uint32_t)parts->of[main]->shape[0];
    TRY(orientation(b, name, parent, parts, main, p, &transposed, err));
    tmb_form form;
    TRY(tmb_form_read(&form, parts, experts, transposed, &b->model->arena, err));
    *taken = true;
    *used = form.used;

    tmb_unit unit;
    tmb_class as = *class;
    if (as.role == TMB_ROLE_DENSE_MLP || as.role == TMB_ROLE_OTHER) as.role = TMB_ROLE_EXPERT;
    tmb_unit_start(b, &unit, &as, true);
    unit.disk = tmb_arena_text(&b->model->arena, name, n);
    if (!unit.disk) return tmb_fail_memory(err, n, "the inventory");
    unit.stacked = true;
    unit.out = form.out;
    unit.in = form.in;
    unit.stored = form.stored;
    unit.broken = form.broken;
    if (p == GATE_UP && form.out % 2) {
        unit.stored.spelling = TMB_SPELL_BROKEN;
        unit.broken = "an odd number of rows cannot be gate and up";
    }
    bool interleaved = main == TMB_KIND_BLOCKS || b->model->arch->stack == TMB_STACK_IO_INTERLEAVED;
    if (p == GATE_UP && b->model->guessed && !b->halves_noted) {
        b->halves_noted = true;
        TRY(tmb_note(b, err, "%s: gate and up are taken to %s", unit.disk,
                     interleaved ? "alternate row by row" : "be its two halves, gate first"));
    }
    for (uint32_t e = 0; e < experts; e++) {
        if (p != GATE_UP) {
            bool renamed = p == DOWN && name[parent] == 'o';
            TRY(add(b, &unit, name, parent, renamed ? "down_proj" : name + parent,
                    renamed ? 9 : n - parent, e, err));
            continue;
        }
        tmb_unit half = unit;
        half.out = unit.out / 2;
        half.stored.step = interleaved ? 2 : 1;
        TRY(add(b, &half, name, parent, "gate_proj", 9, e, err));
        half.stored.first = interleaved ? 1 : (uint32_t)half.out;
        TRY(add(b, &half, name, parent, "up_proj", 7, e, err));
    }
    return TMB_OK;
}
