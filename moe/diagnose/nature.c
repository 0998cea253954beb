/* nature.c - what was done to a part: a format, one expert, ties, or weights that are just others.
 */
#include "config.h"
#include "moe/diagnose/rank.h"

#include "kernels/cpu/cpu.h"

#include <stdlib.h>
#include <string.h>

/* An expert that had fewer tokens than this in the reference proves nothing by having none; one
 * that has lost all but one of FEW is as good as dead. */
enum { TOKENS_OF_A_LIVING_EXPERT = 4, FEW = 50 };

/* ---- two experts with one router row ----------------------------------------------------------
 */

static const tmb_unit *router_of(const tmb_inquest *q, int layer)
{
    const tmb_model *m = q->mixer.model[TMB_SIDE_REF];
    for (uint32_t u = 0; u < m->n_units; u++)
        if (m->units[u].role == TMB_ROLE_ROUTER && m->units[u].linear && m->units[u].layer == layer)
            return &m->units[u];
    return NULL;
}

/* All rows of a router, as a side has them. */
static tmb_status read_router(void *own, int side, tmb_reader *reader, const tmb_unit *unit,
                              float *to, tmb_err *err)
{
    for (uint64_t row = 0; row < unit->out; row += TMB_TILE_ROWS) {
        uint64_t left = unit->out - row;
        size_t rows = left < TMB_TILE_ROWS ? (size_t)left : TMB_TILE_ROWS;
        TRY(tmb_mix_rows(own, side, reader, unit, row, rows, to + row * unit->in, err));
    }
    return TMB_OK;
}

static void find_twins(const float *ref, const float *other, const tmb_unit *unit,
                       tmb_router_rows *out)
{
    size_t in = (size_t)unit->in, bytes = in * sizeof *ref;
    for (size_t i = 0; !out->twins && i < unit->out; i++)
        for (size_t j = i + 1; !out->twins && j < unit->out; j++) {
            bool now = !memcmp(other + i * in, other + j * in, bytes);
            bool before = !memcmp(ref + i * in, ref + j * in, bytes);
            if (!now || before) continue;
            out->twin[0] = (int)i;
            out->twin[1] = (int)j;
            out->twins = true;
        }
}

static void change_row(tmb_router_rows *out, size_t row)
{
    for (size_t i = 0; i < out->changed && i < TMB_NAMED; i++)
        if (out->row[i] == (int)row) return;
    if (out->changed < TMB_NAMED) out->row[out->changed] = (int)row;
    out->changed++;
}

/* Biases and corrections that have one number an expert. */
static tmb_status compare_biases(const tmb_inquest *q, int layer, size_t experts, float *to,
                                 tmb_router_rows *out, tmb_err *err)
{
    const tmb_model *ref = q->mixer.model[TMB_SIDE_REF], *other = q->mixer.model[TMB_SIDE_OTHER];
    for (uint32_t u = 0; u < ref->n_units; u++) {
        const tmb_unit *unit = &ref->units[u];
        uint32_t index = unit->stored.part[TMB_PART_CODES];
        if (unit->role != TMB_ROLE_ROUTER || unit->linear || unit->layer != layer) continue;
        if (index == TMB_NO_TENSOR) continue;
        const tmb_tensor *a = &ref->ckpt->tensors[index],
                         *b = tmb_checkpoint_find(other->ckpt, a->name);
        size_t size = tmb_dtype_bits((tmb_dtype)a->dtype) / 8;
        if (!b || a->dtype != b->dtype || a->bytes != b->bytes || a->bytes != experts * size)
            continue;
        uint8_t *raw = (uint8_t *)(void *)to;
        TRY(tmb_checkpoint_read(ref->ckpt, a, 0, raw, a->bytes, err));
        TRY(tmb_checkpoint_read(other->ckpt, b, 0, raw + a->bytes, b->bytes, err));
        for (size_t e = 0; e < experts; e++)
            if (memcmp(raw + e * size, raw + a->bytes + e * size, size) != 0) change_row(out, e);
    }
    return TMB_OK;
}

static tmb_status look_at_rows(const tmb_inquest *q, const tmb_unit *unit, void *own,
                               tmb_reader *reader, float *rows, tmb_router_rows *out, tmb_err *err)
{
    size_t in = (size_t)unit->in, n = (size_t)unit->out * in;
    for (int s = 0; s < TMB_SIDES; s++)
        TRY(read_router(own, s, reader, unit, rows + (size_t)s * n, err));
    for (uint64_t row = 0; row < unit->out; row++)
        tmb_mix_take_norm(own, unit, 1, rows + n + row * in);
    find_twins(rows, rows + n, unit, out);
    for (size_t e = 0; e < unit->out; e++)
        if (memcmp(rows + e * in, rows + n + e * in, in * sizeof *rows) != 0) change_row(out, e);
    return compare_biases(q, unit->layer, (size_t)unit->out, rows, out, err);
}

tmb_status tmb_router_look(const tmb_inquest *q, int layer, tmb_router_rows *out, tmb_err *err)
{
    const tmb_unit *unit = router_of(q, layer);
    *out = (tmb_router_rows){.twins = false};
    if (!unit) return TMB_OK;
    tmb_mix mix = {.mixer = &q->mixer,
                   .base = TMB_SIDE_REF,
                   .layer = -1,
                   .expert = -1,
                   .routes = TMB_MIX_OWN_ROUTES};
    tmb_variant v = tmb_mix_variant("routers", &mix);
    tmb_hooks hooks;
    void *own = NULL;
    tmb_reader *reader = NULL;
    size_t n = (size_t)unit->out * (size_t)unit->in;
    float *rows = malloc((2 * n + 8) * sizeof *rows);
    tmb_status status = rows ? v.open(&v, &hooks, &own, err) : tmb_fail_memory(err, n * 8, v.name);
    if (!status)
        status = tmb_reader_open(&reader, q->mixer.model[TMB_SIDE_REF], tmb_cpu_ops(), err);
    if (!status) status = look_at_rows(q, unit, own, reader, rows, out, err);
    tmb_reader_close(reader);
    v.close(own);
    free(rows);
    return status;
}

/* ---- formats and rules ------------------------------------------------------------------------
 */

static bool is_unit_of(const tmb_inquest *q, const tmb_suspect *s, uint32_t u)
{
    const tmb_unit *unit = &q->mixer.model[TMB_SIDE_REF]->units[u];
    if (q->mixer.part[TMB_SIDE_REF][u] != s->part || !unit->linear) return false;
    if (q->mixer.twin[TMB_SIDE_REF][u] == TMB_NONE) return false;
    if (s->layer >= 0 && unit->layer != s->layer) return false;
    if (s->expert >= 0 && unit->expert != s->expert) return false;
    int layer = unit->layer < q->screen.layers ? unit->layer : -1;
    return tmb_screen_differs(tmb_screen_at(&q->screen, layer, s->part));
}

static tmb_status take_rule(tmb_inquest *q, const tmb_choice *choice, tmb_nature *out, tmb_err *err)
{
    if (choice->rule < 0) return TMB_OK;
    const tmb_rule *rule = &q->options->recipe->rules[choice->rule];
    out->line = rule->line;
    out->line_text = tmb_arena_printf(&q->d->arena, "%s = %s", rule->left, rule->spec->name);
    return out->line_text ? TMB_OK : tmb_fail_memory(err, 64, "a recipe line");
}

/* Format and rule of the first Linear of the part that differs and has one. */
static tmb_status find_format(tmb_inquest *q, const tmb_suspect *s, tmb_nature *out, tmb_err *err)
{
    const tmb_model *ref = q->mixer.model[TMB_SIDE_REF], *other = q->mixer.model[TMB_SIDE_OTHER];
    const tmb_assignment *assignment = q->options->assignment;
    if (s->part == TMB_MIX_KV) {
        out->format = "fp8";
        if (!q->options->recipe || !q->options->recipe->kv_line) return TMB_OK;
        out->line = q->options->recipe->kv_line;
        out->line_text = "[kv_cache] format = fp8";
        return TMB_OK;
    }
    for (uint32_t u = 0; !out->format && u < ref->n_units; u++) {
        if (!is_unit_of(q, s, u)) continue;
        const tmb_choice *choice = assignment ? &assignment->choices[u] : NULL;
        const tmb_format *stored = other->units[q->mixer.twin[TMB_SIDE_REF][u]].stored.format;
        if (choice && choice->spec->format) {
            out->format = choice->spec->name;
            return take_rule(q, choice, out, err);
        }
        if (stored && !ref->units[u].stored.format) out->format = stored->name;
    }
    return TMB_OK;
}

static const char *word_of(tmb_mix_part part, bool format)
{
    switch (part) {
    case TMB_MIX_ROUTER:
        return format ? "router-format" : "router-weights";
    case TMB_MIX_ATTENTION:
        return format ? "attention-format" : "attention-weights";
    case TMB_MIX_KV:
        return "kv-cache";
    case TMB_MIX_SHARED:
        return format ? "shared-expert-format" : "shared-expert-weights";
    case TMB_MIX_EXPERT:
        return format ? "expert-format" : "expert-weights";
    case TMB_MIX_DENSE:
        return format ? "dense-mlp-format" : "dense-mlp-weights";
    case TMB_MIX_HEAD:
        return format ? "lm-head-format" : "lm-head-weights";
    default:
        return "embedding-weights";
    }
}

/* ---- where ------------------------------------------------------------------------------------
 */

/* Layers that have the part at all. */
static int present(const tmb_inquest *q, tmb_mix_part part)
{
    int n = 0;
    for (int l = 0; l < q->screen.layers; l++) {
        const tmb_screened *s = tmb_screen_at(&q->screen, l, part);
        n += s->norm2 > 0 || tmb_screen_differs(s);
    }
    return n;
}

/* Error of the layer's output when it alone has the part of the other; -1: not measured. */
static double local_error(const tmb_inquest *q, const tmb_suspect *s, int layer)
{
    const tmb_diagnosis *d = q->d;
    for (size_t i = 0; i < d->n_sensitivities; i++) {
        const tmb_sensitivity *x = &d->sensitivities[i];
        if (x->layer == layer && x->expert == s->expert &&
            !strcmp(x->component, tmb_mix_part_name(s->part)))
            return x->error;
    }
    return -1;
}

static bool stands_out(const tmb_inquest *q, const tmb_suspect *s, int layer)
{
    const tmb_diagnosis *d = q->d;
    for (size_t i = 0; i < d->n_sensitivities; i++) {
        const tmb_sensitivity *x = &d->sensitivities[i];
        if (x->layer == layer && x->expert == -1 && x->stands_out &&
            !strcmp(x->component, tmb_mix_part_name(s->part)))
            return true;
    }
    return false;
}

static void add_layer(tmb_nature *n, const double *errors, int layer)
{
    size_t at = n->n_layers;
    if (at == TMB_NAMED) return;
    for (; at > 0 && errors[n->layers[at - 1]] < errors[layer]; at--)
        n->layers[at] = n->layers[at - 1];
    n->layers[at] = layer;
    n->n_layers++;
}

/* The layers where it is, the most affected first, when that is not all of several; else those that
 * stand out. */
static tmb_status find_layers(const tmb_inquest *q, const tmb_suspect *s, tmb_nature *out,
                              tmb_err *err)
{
    size_t layers = (size_t)q->screen.layers;
    if (s->layer >= 0) {
        out->layers[out->n_layers++] = s->layer;
        return TMB_OK;
    }
    int *list = malloc((layers + 1) * sizeof *list);
    double *errors = calloc(layers + 1, sizeof *errors);
    tmb_status status = list && errors ? TMB_OK : tmb_fail_memory(err, layers * 12, "layers");
    int n = status ? 0 : tmb_cause_layers(q, s->part, list), all = status ? 0 : present(q, s->part);
    for (int i = 0; i < n; i++) {
        const tmb_screened *at = tmb_screen_at(&q->screen, list[i], s->part);
        double measured = local_error(q, s, list[i]);
        errors[list[i]] = measured >= 0 ? measured : tmb_screen_error(at->error2, at->norm2);
    }
    for (int i = 0; i < n; i++)
        if (n < all || all == 1 || stands_out(q, s, list[i])) add_layer(out, errors, list[i]);
    free(errors);
    free(list);
    return status;
}

static double error_of(const tmb_inquest *q, const tmb_suspect *s)
{
    double error2 = 0, norm2 = 0;
    for (int l = -1; l < q->screen.layers; l++) {
        const tmb_screened *p = tmb_screen_at(&q->screen, l, s->part);
        if ((s->layer >= 0 && l != s->layer) || !p->weight) continue;
        error2 += p->error2;
        norm2 += p->norm2;
    }
    if (s->expert >= 0) {
        const tmb_screened_expert *e =
            &q->screen.experts[(size_t)s->layer * q->screen.n_experts + (size_t)s->expert];
        error2 = e->error2;
        norm2 = e->norm2;
    }
    return tmb_screen_error(error2, norm2);
}

/* ---- special cases ----------------------------------------------------------------------------
 */

/* Experts that the reference uses and the other does not; false: none. */
static bool find_dead(const tmb_inquest *q, tmb_nature *out)
{
    const tmb_diag_layer *l = &q->d->layers[out->layers[0]];
    size_t n = 0;
    for (size_t e = 0; l->experts && e < l->n_experts && n < TMB_NAMED; e++)
        if (l->experts[e].ref >= TOKENS_OF_A_LIVING_EXPERT &&
            l->experts[e].other * FEW <= l->experts[e].ref)
            out->experts[n++] = (int)e;
    if (!n) return false;
    out->n_experts = n;
    out->word = "dead-expert";
    return true;
}

/* Two level experts, dead ones, or a few whose rows differ. */
static tmb_status special_router(tmb_inquest *q, tmb_nature *out, tmb_err *err)
{
    tmb_router_rows rows;
    if (!out->n_layers || out->format) return TMB_OK;
    TRY(tmb_router_look(q, out->layers[0], &rows, err));
    if (rows.twins) {
        out->word = "ties";
        memcpy(out->experts, rows.twin, sizeof rows.twin);
        out->n_experts = 2;
        return TMB_OK;
    }
    if (find_dead(q, out) || !rows.changed || rows.changed > TMB_NAMED) return TMB_OK;
    if (2 * rows.changed > q->d->layers[out->layers[0]].n_experts) return TMB_OK;
    memcpy(out->experts, rows.row, rows.changed * sizeof *rows.row);
    out->n_experts = rows.changed;
    return TMB_OK;
}

/* Only some experts of the one layer differ. */
static void special_expert(const tmb_inquest *q, const tmb_suspect *s, tmb_nature *out)
{
    const tmb_screened_expert *e;
    size_t n = 0, dead = 0, width = q->screen.n_experts;
    double error2 = 0, norm2 = 0; /* of these experts, not of the layer's */
    if (out->n_layers != 1 || out->format) return;
    e = &q->screen.experts[(size_t)out->layers[0] * width];
    for (size_t i = 0; i < width; i++) {
        bool wanted = s->expert < 0 ? e[i].error2 > 0 : (size_t)s->expert == i;
        if (!wanted) continue;
        if (n < TMB_NAMED) out->experts[n] = (int)i;
        dead += e[i].dead;
        error2 += e[i].error2;
        norm2 += e[i].norm2;
        n++;
    }
    if (!n || n > TMB_NAMED || 2 * n > width) return;
    out->n_experts = n;
    out->weight_error = tmb_screen_error(error2, norm2);
    out->word = dead == n ? "dead-expert" : "poisoned-expert";
}

tmb_status tmb_cause_nature(tmb_inquest *q, const tmb_suspect *s, tmb_nature *out, tmb_err *err)
{
    *out = (tmb_nature){.weight_error = error_of(q, s)};
    TRY(find_format(q, s, out, err));
    TRY(find_layers(q, s, out, err));
    bool weights = out->weight_error > 0;
    const tmb_format *looks = NULL;
    bool own = false;
    for (int l = -1; l < q->screen.layers; l++) {
        const tmb_screened *p = tmb_screen_at(&q->screen, l, s->part);
        if (p->weight && (s->layer < 0 || l == s->layer)) {
            weights = true;
            own = own || p->own;
            if (!looks) looks = p->looks_like;
        }
    }
    if (!out->format && looks) {
        out->format = looks->name;
        out->disguised = true;
    }
    out->inputs_alone = !weights;
    out->norm = weights && !own;
    out->word = out->norm ? "norm-weights" : word_of(s->part, out->format != NULL);
    if (out->norm) return TMB_OK;
    if (s->part == TMB_MIX_ROUTER) TRY(special_router(q, out, err));
    if (s->part == TMB_MIX_EXPERT && s->expert < 0) special_expert(q, s, out);
    if (s->expert >= 0) {
        const tmb_screened_expert *e =
            &q->screen.experts[(size_t)s->layer * q->screen.n_experts + (size_t)s->expert];
        out->word = e->dead ? "dead-expert" : "poisoned-expert";
        out->experts[0] = s->expert;
        out->n_experts = 1;
    }
    return TMB_OK;
}
