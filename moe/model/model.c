/* model.c - the inventory: tensors to modules, modules to units, units to groups.
 *
 * Nothing is read but names, types and shapes.  parts.c groups tensors, form.c tells how a
 * weight is stored, match_rows.c what it is for, stack.c expands stacked experts, group.c finds
 * what belongs together. */
#include "config.h"
#include "moe/model/model.h"
#include "moe/model/archs.h"
#include "moe/model/builder.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

tmb_status tmb_note(tmb_builder *b, tmb_err *err, const char *format, ...)
{
    tmb_model *m = b->model;
    if (m->n_notes == b->n_note_slots) {
        uint32_t n = b->n_note_slots ? 2 * b->n_note_slots : 8;
        const char **grown = realloc(m->notes, n * sizeof *grown);
        if (!grown) return tmb_fail_memory(err, n * sizeof *grown, "the inventory");
        m->notes = grown;
        b->n_note_slots = n;
    }
    char text[1024];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    const char *kept = tmb_arena_text(&m->arena, text, strlen(text));
    if (!kept) return tmb_fail_memory(err, sizeof text, "the inventory");
    m->notes[m->n_notes++] = kept;
    return TMB_OK;
}

void tmb_unit_start(const tmb_builder *b, tmb_unit *unit, const tmb_class *class, bool linear)
{
    tmb_role role = class->role, inner = class->inner;
    if (role != TMB_ROLE_VISION && class->layer >= b->mtp_from) role = TMB_ROLE_MTP;
    if (role == TMB_ROLE_EMBEDDING || role == TMB_ROLE_NORM || class->flags & TMB_ARCH_TABLE)
        linear = false;
    if (role == TMB_ROLE_MTP && tmb_role_protected(inner)) linear = false;

    *unit = (tmb_unit){.role = role,
                       .layer = class->layer,
                       .expert = class->expert,
                       .linear = linear,
                       .fuse = TMB_NONE,
                       .experts = TMB_NONE};
    for (int i = 0; i < TMB_PARTS; i++)
        unit->stored.part[i] = TMB_NO_TENSOR;
    unit->stored.step = 1;
    const char *why = tmb_role_kept(role);
    if (!why && class->flags & TMB_ARCH_KEEP)
        why = "released checkpoints of this architecture leave it in high precision";
    if (!why && !linear) why = "not a Linear";
    unit->keep = why != NULL;
    unit->keep_why = why;
}

tmb_status tmb_unit_add(tmb_builder *b, const tmb_unit *unit, tmb_err *err)
{
    tmb_model *m = b->model;
    if (m->n_units == b->capacity) {
        uint32_t n = b->capacity ? b->capacity + b->capacity / 2 : 1024;
        tmb_unit *grown = n < TMB_NONE / 2 ? realloc(m->units, n * sizeof *grown) : NULL;
        if (!grown) return tmb_fail_memory(err, n * sizeof *grown, "the inventory");
        m->units = grown;
        b->capacity = n;
    }
    bool is_new;
    int64_t at = tmb_words_add(m->names, unit->name, strlen(unit->name), &is_new);
    if (at < 0) return tmb_fail_memory(err, strlen(unit->name), "the inventory");
    if (!is_new)
        return tmb_fail(err, TMB_EDATA,
                        "%s: tensor \"%s\": another tensor already stands for module \"%s\"",
                        m->ckpt->path, m->ckpt->tensors[unit->stored.part[TMB_PART_CODES]].name,
                        unit->name);
    m->units[m->n_units++] = *unit;
    return TMB_OK;
}

static bool has_word(const char *text, size_t n, const char *const *words)
{
    for (; *words; words++)
        for (size_t i = 0, k = strlen(*words); i + k <= n; i++)
            if (memcmp(text + i, *words, k) == 0) return true;
    return false;
}

/* A 2-D weight that is looked up all the same, where no row says so: "pos_embed",
 * "ngram_embedding.shard_0"; but not "fc_embedding" or "patch_embedding.linear". */
static bool is_table(const char *name, size_t n)
{
    static const char *const tables[] = {"emb", NULL}, *const products[] = {"fc", "proj", "linear",
                                                                            "dense", NULL};
    size_t leaf = n, parent;
    while (leaf && name[leaf - 1] != '.')
        leaf--;
    for (parent = leaf ? leaf - 1 : 0; parent && name[parent - 1] != '.';)
        parent--;
    return has_word(name + parent, n - parent, tables) &&
           !has_word(name + leaf, n - leaf, products);
}

/* A tensor alone; broken says what is wrong with it, NULL nothing. */
static tmb_status add_single(tmb_builder *b, uint32_t tensor, const char *broken, tmb_err *err)
{
    const char *name = b->model->ckpt->tensors[tensor].name;
    tmb_class class;
    tmb_unit unit;
    TRY(tmb_classify(&b->matcher, name, strlen(name), &class, err));
    tmb_unit_start(b, &unit, &class, false);
    unit.name = unit.disk = name;
    unit.stored.part[TMB_PART_CODES] = tensor;
    unit.broken = broken;
    if (broken) unit.stored.spelling = TMB_SPELL_BROKEN;
    return tmb_unit_add(b, &unit, err);
}

/* Endings that only quantized weights have. */
static const char *orphan(tmb_kind kind)
{
    switch (kind) {
    case TMB_KIND_SCALE:
    case TMB_KIND_SCALE_INV:
    case TMB_KIND_SCALE_2:
    case TMB_KIND_GLOBAL:
    case TMB_KIND_INPUT:
    case TMB_KIND_INPUT_GLOBAL:
    case TMB_KIND_SHAPE:
    case TMB_KIND_ZERO: return "a part of a quantized weight that is not there";
    default: return NULL;
    }
}

/* The tensors of a module that its weight does not use, each as a unit of its own. */
static tmb_status add_others(tmb_builder *b, uint32_t module, unsigned used, const char *broken,
                             bool has_main, tmb_err *err)
{
    const tmb_modules *m = &b->modules;
    for (uint32_t i = m->first[module]; i != TMB_NO_TENSOR; i = m->next[i]) {
        tmb_kind kind = (tmb_kind)m->kinds[i];
        if (used & 1u << kind) {
            used &= ~(1u << kind);
            continue;
        }
        const char *why = orphan(kind);
        TRY(add_single(b, i, has_main ? (why ? broken : NULL) : why, err));
    }
    return TMB_OK;
}

static tmb_status add_module(tmb_builder *b, uint32_t module, tmb_err *err)
{
    tmb_model *model = b->model;
    const char *name = b->modules.names.names[module].text;
    size_t n = b->modules.names.names[module].length;
    tmb_parts parts;
    tmb_class class;
    tmb_modules_parts(&b->modules, model->ckpt, module, &parts);
    tmb_kind main = tmb_form_main(&parts);
    if (main == TMB_KINDS) return add_others(b, module, 0, NULL, false, err);
    TRY(tmb_classify(&b->matcher, name, n, &class, err));

    bool taken;
    unsigned used = 0;
    TRY(tmb_stack_expand(b, module, &parts, &class, &taken, &used, err));
    if (taken) return add_others(b, module, used, NULL, true, err);

    tmb_unit unit;
    bool matrix = tmb_form_is_matrix(&parts, main) && !is_table(name, n);
    tmb_unit_start(b, &unit, &class, matrix);
    if (!unit.linear && main != TMB_KIND_WEIGHT && main != TMB_KIND_BARE)
        return add_others(b, module, 0, NULL, false, err);

    bool bare = main == TMB_KIND_BARE;
    unit.name = bare ? parts.of[main]->name : tmb_arena_text(&model->arena, name, n);
    if (!unit.name) return tmb_fail_memory(err, n, "the inventory");
    unit.disk = unit.name;
    unit.stored.part[TMB_PART_CODES] = parts.index[main];
    used = 1u << main;
    if (unit.linear) {
        tmb_form form;
        TRY(tmb_form_read(&form, &parts, 0, false, &model->arena, err));
        unit.stored = form.stored;
        unit.out = form.out;
        unit.in = form.in;
        unit.broken = form.broken;
        used = form.used;
        const char *leaf = name + n;
        while (leaf > name && leaf[-1] != '.')
            leaf--;
        unit.proj = tmb_proj_of(leaf, (size_t)(name + n - leaf));
    }
    TRY(tmb_unit_add(b, &unit, err));
    return parts.n == 1 ? TMB_OK : add_others(b, module, used, unit.broken, true, err);
}

/* Where MTP layers begin: past the config's layers; without a config, at the first layer that
 * joins embedding and hidden state (eh_proj).  Layers are counted when the config is silent. */
static tmb_status find_layers(tmb_builder *b, tmb_err *err)
{
    int32_t highest = -1, joined = INT32_MAX;
    b->mtp_from = INT32_MAX;
    for (uint32_t i = 0; i < b->modules.names.n && !b->dims.layers; i++) {
        const char *name = b->modules.names.names[i].text;
        size_t n = b->modules.names.names[i].length;
        tmb_class class;
        TRY(tmb_classify(&b->matcher, name, n, &class, err));
        if (class.layer > highest) highest = class.layer;
        if (n > 8 && memcmp(name + n - 8, ".eh_proj", 8) == 0 && class.layer >= 0 &&
            class.layer < joined)
            joined = class.layer;
    }
    if (b->dims.layers) joined = b->dims.layers;
    b->mtp_from = joined;
    b->model->n_layers = joined < INT32_MAX ? joined : highest + 1;
    return TMB_OK;
}

/* Rough sizes for reports: the text model alone; of routed experts top_k of n count as active. */
static void count_parameters(tmb_model *m)
{
    double all = 0, active = 0;
    for (uint32_t i = 0; i < m->n_units; i++) {
        const tmb_unit *u = &m->units[i];
        if (u->role == TMB_ROLE_VISION || u->role == TMB_ROLE_MTP) continue;
        double n = 1;
        if (u->linear) {
            n = (double)u->out * (double)u->in;
        } else {
            const tmb_tensor *t = &m->ckpt->tensors[u->stored.part[TMB_PART_CODES]];
            for (int k = 0; k < t->rank; k++)
                n *= (double)t->shape[k];
        }
        all += n;
        bool routed = u->expert >= 0 && m->top_k > 0 && m->n_experts > m->top_k;
        active += routed ? n * m->top_k / m->n_experts : n;
    }
    m->parameters = all < 1e18 ? (uint64_t)all : 0;
    m->active_parameters = active < 1e18 ? (uint64_t)active : 0;
}

static tmb_status build(tmb_builder *b, tmb_err *err)
{
    tmb_model *m = b->model;
    const tmb_checkpoint *ckpt = m->ckpt;
    if (ckpt->n_tensors >= TMB_NO_TENSOR)
        return tmb_fail(err, TMB_EDATA, "%s: too many tensors", ckpt->path);
    m->names = calloc(1, sizeof *m->names);
    if (!m->names) return tmb_fail_memory(err, sizeof *m->names, "the inventory");
    TRY(tmb_dims_read(&b->dims, ckpt->config, err));
    m->model_type = b->dims.model_type;
    m->guessed = b->dims.arch == NULL;
    m->arch = m->guessed ? tmb_arch_unknown() : b->dims.arch;
    m->n_experts = b->dims.experts;
    m->top_k = b->dims.top_k;
    TRY(tmb_prefix_find(&m->prefix, m->arch, ckpt, &m->arena, err));
    b->matcher = (tmb_matcher){.arch = m->arch, .prefix = m->prefix, .arena = &m->arena};
    TRY(tmb_modules_group(&b->modules, ckpt, err));
    TRY(find_layers(b, err));
    for (uint32_t i = 0; i < b->modules.names.n; i++)
        TRY(add_module(b, i, err));
    TRY(tmb_group_experts(b, err));
    if (m->guessed) TRY(tmb_guess_routers(b, err));
    TRY(tmb_group_fuses(b, err));
    count_parameters(m);
    return tmb_note_all(b, err);
}

tmb_status tmb_model_open(tmb_model **out, const tmb_checkpoint *ckpt, tmb_err *err)
{
    tmb_model *m = calloc(1, sizeof *m);
    if (!m) return tmb_fail_memory(err, sizeof *m, "the inventory");
    m->ckpt = ckpt;
    tmb_builder b = {.model = m};
    tmb_status status = build(&b, err);
    tmb_matcher_close(&b.matcher);
    tmb_modules_free(&b.modules);
    if (status) {
        tmb_model_close(m);
        return status;
    }
    tmb_unit *fitted = realloc(m->units, (m->n_units + 1) * sizeof *fitted);
    if (fitted) m->units = fitted;
    *out = m;
    return TMB_OK;
}

void tmb_model_close(tmb_model *model)
{
    if (!model) return;
    if (model->names) tmb_words_free(model->names);
    free(model->names);
    free(model->units);
    free(model->notes);
    tmb_arena_free(&model->arena);
    free(model);
}

const tmb_unit *tmb_model_find(const tmb_model *model, const char *name)
{
    int64_t at = tmb_words_find(model->names, name, strlen(name));
    return at < 0 ? NULL : &model->units[at];
}
