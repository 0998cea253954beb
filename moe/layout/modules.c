/* modules.c - the modules engines build for a job.  See modules.h. */
#include "config.h"
#include "moe/layout/modules.h"

#include "moe/format/formats.h"

#include <stdlib.h>
#include <string.h>

typedef struct builder {
    tmb_engine_modules *modules;
    const tmb_job_view *job;
    size_t capacity;
    bool keeps_stacks, renames, no_memory;
} builder;

static void add_one(builder *b, const char *name, const tmb_format *format, uint32_t unit,
                    tmb_engine_module_kind kind)
{
    tmb_engine_modules *m = b->modules;
    if (m->n == b->capacity) {
        size_t capacity = b->capacity ? 2 * b->capacity : 1024;
        tmb_engine_module *grown = realloc(m->list, capacity * sizeof *grown);
        if (!grown) {
            b->no_memory = true;
            return;
        }
        m->list = grown;
        b->capacity = capacity;
    }
    m->list[m->n++] = (tmb_engine_module){name, format, unit, kind};
}

static const char *part_renamed(const tmb_arch_rename *renames, const char *part, size_t n)
{
    for (const tmb_arch_rename *r = renames; r->from; r++)
        if (strlen(r->from) == n && memcmp(r->from, part, n) == 0) return r->to;
    return NULL;
}

/* The name in an engine's words; NULL without memory. */
static const char *renamed(const tmb_arch_rename *renames, const char *name, tmb_arena *arena)
{
    const char *out = "";
    for (const char *part = name; out && part;) {
        const char *dot = strchrnul(part, '.'),
                   *to = part_renamed(renames, part, (size_t)(dot - part));
        out = to ? tmb_arena_printf(arena, "%s%s%s", out, part == name ? "" : ".", to)
                 : tmb_arena_printf(arena, "%s%s%.*s", out, part == name ? "" : ".",
                                    (int)(dot - part), part);
        part = *dot ? dot + 1 : NULL;
    }
    return out;
}

static void add(builder *b, const char *name, const tmb_format *format, uint32_t unit,
                tmb_engine_module_kind kind)
{
    add_one(b, name, format, unit, kind);
    if (!b->renames) return;
    const char *other = renamed(b->job->model->arch->renames, name, &b->modules->names);
    if (!other) b->no_memory = true;
    if (other && strcmp(other, name) != 0) add_one(b, other, format, unit, kind);
}

const char *tmb_leaf(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot ? dot + 1 : name;
}

static const tmb_format *format_of(const tmb_job_view *job, uint32_t unit)
{
    return job->assignment->choices[unit].spec->format;
}

/* 2-D tensors that no rule may move are Linears to engines all the same: routers of an MTP layer,
 * heads.  Tables and norms are not, but a table is only as sure as what tells it. */
static bool looks_linear(const tmb_model *model, const tmb_unit *unit)
{
    uint32_t t = unit->stored.part[TMB_PART_CODES];
    if (unit->linear || t == TMB_NO_TENSOR) return unit->linear;
    const tmb_tensor *tensor = &model->ckpt->tensors[t];
    const char *leaf = tmb_leaf(unit->name);
    size_t n = strlen(tensor->name);
    return (tensor->rank == 2 || tensor->rank == 3) && n > 7 &&
           strcmp(tensor->name + n - 7, ".weight") == 0 &&
           (unit->role != TMB_ROLE_EMBEDDING || model->guessed) && unit->role != TMB_ROLE_NORM &&
           !strstr(leaf, "embed") && !strstr(leaf, "norm") && !strstr(leaf, "conv");
}

static void add_units(builder *b)
{
    const tmb_model *model = b->job->model;
    const char *last_disk = "";
    for (uint32_t u = 0; u < model->n_units; u++) {
        const tmb_unit *unit = &model->units[u];
        if (!looks_linear(model, unit)) continue;
        const tmb_format *format = unit->linear ? format_of(b->job, u) : NULL;
        if (unit->stacked && (!format || (b->keeps_stacks && tmb_stays_stacked(b->job, unit)))) {
            if (strcmp(unit->disk, last_disk) != 0) add(b, unit->disk, format, u, TMB_MODULE_STACK);
            last_disk = unit->disk;
        } else {
            bool expert = unit->experts != TMB_NONE;
            add(b, unit->name, format, u, expert ? TMB_MODULE_EXPERT : TMB_MODULE_LINEAR);
        }
    }
}

/* Whether every Linear of attention stays in high precision. */
static bool attention_kept(const tmb_job_view *job)
{
    for (uint32_t u = 0; u < job->model->n_units; u++)
        if (job->model->units[u].role == TMB_ROLE_ATTENTION && format_of(job, u)) return false;
    return true;
}

static bool one_format(const tmb_job_view *job, const uint32_t *units, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++)
        if (format_of(job, units[i]) != format_of(job, units[0])) return false;
    return true;
}

static void add_groups(builder *b)
{
    const tmb_model *model = b->job->model;
    for (uint32_t g = 0; g < model->n_experts_groups; g++) {
        const tmb_experts *e = &model->experts[g];
        bool one = one_format(b->job, e->units, e->n_units);
        add(b, e->name, one ? format_of(b->job, e->units[0]) : NULL, e->units[0],
            TMB_MODULE_EXPERTS);
    }
    for (uint32_t f = 0; f < model->n_fuses; f++) {
        const tmb_fuse *fuse = &model->fuses[f];
        const tmb_format *format = format_of(b->job, fuse->units[0]);
        /* halves of different precision: a common name would hide from engines that they differ */
        if (!one_format(b->job, fuse->units, fuse->n_units)) continue;
        for (size_t a = 0; a < sizeof fuse->alias / sizeof *fuse->alias && fuse->alias[a]; a++)
            add(b, fuse->alias[a], format, fuse->units[0], TMB_MODULE_FUSED);
    }
}

static int by_name(const void *a, const void *b)
{
    const tmb_engine_module *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : (int)x->kind - (int)y->kind;
}

tmb_status tmb_engine_modules_open(tmb_engine_modules *modules, const tmb_job_view *job,
                                   bool keeps_stacks, tmb_err *err)
{
    builder b = {.modules = modules, .job = job, .keeps_stacks = keeps_stacks};
    *modules = (tmb_engine_modules){0};
    b.renames = job->model->arch->renames && attention_kept(job);
    add_units(&b);
    add_groups(&b);
    if (b.no_memory) {
        tmb_engine_modules_free(modules);
        return tmb_fail_memory(err, b.capacity * sizeof *modules->list, "the list of modules");
    }
    if (modules->n) qsort(modules->list, modules->n, sizeof *modules->list, by_name);
    size_t n = 0;
    for (size_t i = 0; i < modules->n; i++)
        if (!n || strcmp(modules->list[n - 1].name, modules->list[i].name) != 0)
            modules->list[n++] = modules->list[i];
    modules->n = n;
    for (int f = 0; tmb_format_at(f) && modules->n_formats < 16; f++) {
        bool used = false;
        for (size_t i = 0; i < n && !used; i++)
            used = modules->list[i].format == tmb_format_at(f);
        if (used) modules->formats[modules->n_formats++] = tmb_format_at(f);
    }
    return TMB_OK;
}

void tmb_engine_modules_free(tmb_engine_modules *modules)
{
    free(modules->list);
    tmb_arena_free(&modules->names);
    *modules = (tmb_engine_modules){0};
}

bool tmb_stays_stacked(const tmb_job_view *job, const tmb_unit *unit)
{
    const tmb_format *format = job->assignment->choices[unit - job->model->units].spec->format;
    tmb_geometry g;
    if (!unit->stacked || !(job->model->arch->quirks & TMB_QUIRK_STACKED_OUTPUT)) return false;
    /* scales of more than one row do not stack: gate and up of an expert share such a row */
    return !format || !format->part(format, TMB_PART_SCALE, unit->out, unit->in, &g) ||
           g.shape[0] == unit->out;
}

bool tmb_kv_fp8(const tmb_job_view *job)
{
    const unsigned breaks = TMB_QUIRK_NO_KV_FP8 | TMB_QUIRK_NO_KV_SCALES;
    return job->recipe->kv_fp8 && !(job->model->arch->quirks & breaks);
}

bool tmb_takes_kv_scales(const tmb_unit *unit)
{
    return unit->role == TMB_ROLE_ATTENTION && unit->linear &&
           strcmp(tmb_leaf(unit->name), "k_proj") == 0;
}

/* 1 without calibration: values are cast. */
static float kv_scale(const tmb_job_view *job, int layer, char which)
{
    const tmb_measured *m = job->measured;
    if (!m || layer < 0 || layer >= m->layers) return 1.0f;
    float scale = which == 'k' ? m->k[layer] : m->v[layer];
    return scale > 0 ? scale : 1.0f;
}

tmb_status tmb_kv_scales(const tmb_job_view *job, bool by_projection, int rank, tmb_arena *arena,
                         tmb_extra **out, size_t *n, tmb_err *err)
{
    const tmb_model *model = job->model;
    *out = NULL;
    *n = 0;
    if (!tmb_kv_fp8(job) || (model->arch->quirks & TMB_QUIRK_MLA)) return TMB_OK;
    size_t layers = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t u = 0; u < model->n_units; u++) {
            const tmb_unit *unit = &model->units[u];
            const char *leaf = tmb_leaf(unit->name);
            if (!tmb_takes_kv_scales(unit)) continue;
            if (!pass) {
                layers++;
                continue;
            }
            for (const char *c = "kv"; *c; c++) {
                int parent = (int)(leaf - unit->name);
                const char *name =
                    by_projection ? tmb_arena_printf(arena, "%.*s%c_proj.%c_scale", parent,
                                                     unit->name, *c, *c)
                                  : tmb_arena_printf(arena, "%.*s%c_scale", parent, unit->name, *c);
                if (!name) return tmb_fail_memory(err, 2 * layers * sizeof **out, "KV scales");
                (*out)[(*n)++] = (tmb_extra){name, rank, kv_scale(job, unit->layer, *c)};
            }
        }
        if (!layers) return TMB_OK;
        if (!pass) *out = tmb_arena_alloc(arena, 2 * layers * sizeof **out);
        if (!*out) return tmb_fail_memory(err, 2 * layers * sizeof **out, "KV scales");
    }
    return TMB_OK;
}

void tmb_spell_plain(tmb_spelled *spelled, tmb_part part, const tmb_geometry *g, const char *name)
{
    *spelled = (tmb_spelled){.part = part, .name = name, .dtype = g->dtype, .rank = g->rank};
    if (g->rank == 0) return;
    spelled->shape[0] = g->shape[0];
    spelled->shape[1] = g->shape[1];
    spelled->row_stride = g->shape[1];
    spelled->col_stride = 1;
}

static bool has_word(const char *words, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = words; (at = strstr(at, word)); at += n)
        if ((at == words || at[-1] == ' ') && (at[n] == ' ' || !at[n])) return true;
    return false;
}

static bool applies(const tmb_arch_caution *c, const tmb_job_view *job, const char *layout)
{
    const tmb_model *model = job->model;
    if (c->layout && strcmp(c->layout, layout) != 0) return false;
    for (uint32_t u = 0; u < model->n_units; u++) {
        const tmb_unit *unit = &model->units[u];
        const tmb_format *format = format_of(job, u);
        if (format && unit->role == c->role &&
            (!c->leaf || strcmp(tmb_leaf(unit->name), c->leaf) == 0) &&
            (!c->formats || has_word(c->formats, tmb_format_family(format))))
            return true;
    }
    return false;
}

void tmb_common_notes(const tmb_job_view *job, const char *layout, const char **list, size_t *n)
{
    const tmb_model *model = job->model;
    unsigned quirks = model->arch->quirks;
    if (job->recipe->kv_fp8 && (quirks & TMB_QUIRK_NO_KV_FP8))
        list[(*n)++] = "vLLM refuses an FP8 KV cache for this architecture: none is declared";
    if (job->recipe->kv_fp8 && (quirks & TMB_QUIRK_NO_KV_SCALES))
        list[(*n)++] =
            "SGLang crashes on this architecture's KV scales: no FP8 KV cache is declared";
    if (job->recipe->kv_fp8 && (quirks & TMB_QUIRK_MLA))
        list[(*n)++] =
            "latent attention has no KV scales: engines store the FP8 cache with scale 1.0";
    bool stacked = false;
    for (uint32_t u = 0; u < model->n_units && !stacked; u++)
        stacked = model->units[u].stacked && format_of(job, u);
    if (stacked && !(quirks & TMB_QUIRK_STACKED_OUTPUT))
        list[(*n)++] = "the stacked experts are written one by one, as vLLM and SGLang read them; "
                       "TensorRT-LLM may want them stacked";
    for (const tmb_arch_caution *c = model->arch->cautions; c && c->text && *n + 4 < TMB_NOTES_MAX;
         c++)
        if (applies(c, job, layout)) list[(*n)++] = c->text;
    if (model->guessed)
        list[(*n)++] = "an architecture that no loader was tried with: check with `tombac verify`, "
                       "and load it once before you delete the source";
}

void tmb_put(tmb_json *object, const char *name, tmb_json *value, bool *good)
{
    if (!object || !value) {
        tmb_json_free(value);
        *good = false;
    } else if (!tmb_json_set(object, name, value)) {
        *good = false;
    }
}

void tmb_push(tmb_json *array, tmb_json *value, bool *good)
{
    if (!array || !value) {
        tmb_json_free(value);
        *good = false;
    } else if (!tmb_json_append(array, value)) {
        *good = false;
    }
}
