/* mix.c - whether two models fit together, and what of one stands for what of the other. */
#include "config.h"
#include "moe/diagnose/mix.h"

#include "kernels/cpu/cpu.h"

#include <stdlib.h>
#include <string.h>

/* How a unit is fed: q, k and v by the norm in front of attention, router, gate and up by the
 * other.
 */
static int half_before(const tmb_unit *u)
{
    static const char *const attention[] = {"q_proj", "k_proj", "v_proj", "q_a_proj",
                                            "kv_a_proj_with_mqa"};
    const char *dot = strrchr(u->name, '.'), *leaf = dot ? dot + 1 : u->name;
    if (!u->linear || u->layer < 0) return 0;
    switch (u->role) {
    case TMB_ROLE_ROUTER:
    case TMB_ROLE_SHARED_GATE:
        return 2;
    case TMB_ROLE_EXPERT:
    case TMB_ROLE_SHARED_EXPERT:
    case TMB_ROLE_DENSE_MLP:
        return u->proj == TMB_PROJ_DOWN ? 0 : 2;
    case TMB_ROLE_LINEAR_ATTENTION:
        return strncmp(leaf, "in_proj", 7) == 0;
    case TMB_ROLE_ATTENTION:
        for (size_t i = 0; i < sizeof attention / sizeof *attention; i++)
            if (strcmp(leaf, attention[i]) == 0) return 1;
        return 0;
    default:
        return 0;
    }
}

static tmb_status read_norm(tmb_mixer *m, int side, const tmb_tensor *t, bool from_one, float **out,
                            tmb_err *err)
{
    size_t size = tmb_dtype_bits((tmb_dtype)t->dtype) / 8;
    *out = tmb_arena_alloc(&m->arena, m->hidden * sizeof **out);
    void *raw = malloc(m->hidden * size + 1);
    tmb_status status =
        *out && raw ? tmb_checkpoint_read(m->model[side]->ckpt, t, 0, raw, m->hidden * size, err)
                    : tmb_fail_memory(err, m->hidden * 4, "norms");
    if (!status) tmb_cpu_ops()->decode(*out, raw, (tmb_dtype)t->dtype, m->hidden);
    for (size_t i = 0; !status && from_one && i < m->hidden; i++)
        (*out)[i] += 1.0f;
    free(raw);
    return status;
}

/* Norms in front of the halves of all layers; is_norm [n_units] marks them. */
static tmb_status find_norms(tmb_mixer *m, int side, uint8_t *is_norm, tmb_err *err)
{
    tmb_decoder *d = NULL;
    tmb_decoder_options options = {.threads = 1};
    const tmb_model *model = m->model[side];
    TRY(tmb_decoder_open(&d, model, &options, err));
    int layers = tmb_decoder_layers(d);
    size_t hidden = tmb_decoder_config(d)->hidden;
    bool from_one = tmb_decoder_config(d)->norms_from_one;
    tmb_status status = TMB_OK;
    if (side == TMB_SIDE_REF) {
        m->layers = layers;
        m->hidden = hidden;
    } else if (layers != m->layers || hidden != m->hidden) {
        status =
            tmb_fail(err, TMB_EUSAGE,
                     "%s has %d layers of width %zu, the reference %d of %zu; they are no pair",
                     model->ckpt->path, layers, hidden, m->layers, m->hidden);
    }
    m->norm[side] = tmb_arena_alloc(&m->arena, (2 * (size_t)layers + 1) * sizeof(float *));
    if (!status && !m->norm[side]) status = tmb_fail_memory(err, (uint64_t)layers * 16, "norms");
    for (int i = 0; !status && i < 2 * layers; i++) {
        const tmb_tensor *t = tmb_decoder_norm(d, i / 2, i % 2);
        if (!t) continue;
        for (uint32_t u = 0; u < model->n_units; u++) {
            uint32_t codes = model->units[u].stored.part[TMB_PART_CODES];
            if (codes != TMB_NO_TENSOR && &model->ckpt->tensors[codes] == t) is_norm[u] = 1;
        }
        status = read_norm(m, side, t, from_one, &m->norm[side][i], err);
    }
    tmb_decoder_close(d);
    return status;
}

/* ---- twins ------------------------------------------------------------------------------------
 */

/* Where a Linear is, whatever it is called: some tools spell w1 as gate_proj. */
typedef struct place {
    int role, layer, expert, proj;
    uint32_t unit;
} place;

static int by_place(const void *va, const void *vb)
{
    const place *a = va, *b = vb;
    if (a->role != b->role) return a->role < b->role ? -1 : 1;
    if (a->layer != b->layer) return a->layer < b->layer ? -1 : 1;
    if (a->expert != b->expert) return a->expert < b->expert ? -1 : 1;
    return a->proj < b->proj ? -1 : a->proj > b->proj;
}

static place place_of(const tmb_model *m, uint32_t u)
{
    const tmb_unit *x = &m->units[u];
    return (place){(int)x->role, x->layer, x->expert, (int)x->proj, u};
}

/* All Linears of a model by place. */
static tmb_status list_places(const tmb_model *m, place **out, size_t *n, tmb_err *err)
{
    *n = 0;
    *out = malloc(((size_t)m->n_units + 1) * sizeof **out);
    if (!*out) return tmb_fail_memory(err, m->n_units * sizeof **out, "the parts of a model");
    for (uint32_t u = 0; u < m->n_units; u++)
        if (m->units[u].linear) (*out)[(*n)++] = place_of(m, u);
    qsort(*out, *n, sizeof **out, by_place);
    return TMB_OK;
}

/* The one Linear at that place; TMB_NONE when there are several or none. */
static uint32_t find_place(const place *list, size_t n, const place *at)
{
    const place *x = bsearch(at, list, n, sizeof *list, by_place);
    if (!x) return TMB_NONE;
    bool alone =
        (x == list || by_place(x - 1, x) != 0) && (x + 1 == list + n || by_place(x, x + 1) != 0);
    return alone ? x->unit : TMB_NONE;
}

static uint32_t find_twin(const tmb_mixer *m, int side, uint32_t u, const place *list, size_t n)
{
    const tmb_unit *unit = &m->model[side]->units[u];
    const tmb_unit *same = tmb_model_find(m->model[!side], unit->name);
    if (same) return (uint32_t)(same - m->model[!side]->units);
    place at = place_of(m->model[side], u);
    return unit->linear ? find_place(list, n, &at) : TMB_NONE;
}

static tmb_status sort_units(tmb_mixer *m, int side, tmb_err *err)
{
    const tmb_model *model = m->model[side], *other = m->model[!side];
    size_t n = model->n_units;
    uint8_t *is_norm = calloc(n + 1, 1);
    m->part[side] = tmb_arena_alloc(&m->arena, n + 1);
    m->behind[side] = tmb_arena_alloc(&m->arena, n + 1);
    m->twin[side] = tmb_arena_alloc(&m->arena, (n + 1) * sizeof **m->twin);
    place *places = NULL;
    size_t n_places = 0;
    tmb_status status = is_norm && m->part[side] && m->behind[side] && m->twin[side]
                            ? find_norms(m, side, is_norm, err)
                            : tmb_fail_memory(err, n * 7, "the parts of a model");
    if (!status) status = list_places(other, &places, &n_places, err);
    for (uint32_t u = 0; !status && u < n; u++) {
        const tmb_unit *unit = &model->units[u];
        uint32_t at = find_twin(m, side, u, places, n_places);
        const tmb_unit *twin = at == TMB_NONE ? NULL : &other->units[at];
        m->part[side][u] = (uint8_t)tmb_mix_part_of(unit, is_norm[u]);
        m->behind[side][u] = (uint8_t)half_before(unit);
        m->twin[side][u] = at;
        if (!unit->linear || m->part[side][u] == TMB_MIX_PARTS) continue;
        if (!twin && m->part[side][u] == TMB_MIX_HEAD) { /* tied on the other side */
            m->part[side][u] = TMB_MIX_BASE;
            continue;
        }
        if (!twin || !twin->linear || twin->out != unit->out || twin->in != unit->in)
            status = tmb_fail(err, TMB_EUSAGE,
                              "%s: %s is not in %s, or has another shape there; they are no pair",
                              model->ckpt->path, unit->name, other->ckpt->path);
    }
    free(places);
    free(is_norm);
    return status;
}

tmb_status tmb_mixer_open(tmb_mixer *m, const tmb_variant *ref, const tmb_variant *other,
                          tmb_err *err)
{
    *m = (tmb_mixer){.side = {ref, other}, .model = {ref->model, other->model}};
    m->same_model = ref->model == other->model;
    tmb_status status = sort_units(m, TMB_SIDE_REF, err);
    if (!status) status = sort_units(m, TMB_SIDE_OTHER, err);
    if (!status) m->scaled = tmb_arena_alloc(&m->arena, 2 * (size_t)m->layers + 1);
    if (!status && !m->scaled) status = tmb_fail_memory(err, (uint64_t)m->layers * 2, "norms");
    for (int i = 0; !status && i < 2 * m->layers; i++) {
        const float *a = m->norm[TMB_SIDE_REF][i], *b = m->norm[TMB_SIDE_OTHER][i];
        m->scaled[i] = a && b && memcmp(a, b, m->hidden * sizeof *a) != 0;
    }
    if (status) tmb_mixer_close(m);
    return status;
}

void tmb_mixer_close(tmb_mixer *m)
{
    tmb_arena_free(&m->arena);
    *m = (tmb_mixer){0};
}
