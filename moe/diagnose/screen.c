/* screen.c - comparing two models weight by weight. */
#include "config.h"
#include "moe/diagnose/screen.h"

#include "kernels/base/team.h"
#include "kernels/cpu/cpu.h"
#include "moe/diagnose/rounded.h"
#include "moe/tokens/random.h"

#include <stdlib.h>
#include <string.h>

/* What was found of one unit of the reference's model; summed in their order afterwards. */
typedef struct seen {
    double error2, norm2;
    bool stored, weight, input, inputs_of_other, dead;
    const tmb_format *looks_like;
} seen;

typedef struct work {
    const tmb_mixer *m;
    void *own; /* of a mixture whose base is the reference */
    seen *units;
    size_t next; /* atomic */
    int failed;  /* atomic */
    tmb_err *err;
} work;

/* ---- a Linear ---------------------------------------------------------------------------------
 */

static void compare_rows(seen *s, const float *a, const float *b, size_t n)
{
    double error = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)b[i] - (double)a[i];
        error += d * d;
        norm += (double)a[i] * (double)a[i];
    }
    s->error2 += error;
    s->norm2 += norm;
}

static tmb_status screen_linear(const work *w, tmb_reader *reader, uint32_t u, float *a, float *b,
                                seen *s, tmb_err *err)
{
    const tmb_unit *unit = &w->m->model[TMB_SIDE_REF]->units[u];
    double power = 0;
    for (uint64_t row = 0; row < unit->out; row += TMB_TILE_ROWS) {
        uint64_t left = unit->out - row;
        size_t rows = left < TMB_TILE_ROWS ? (size_t)left : TMB_TILE_ROWS, n = rows * unit->in;
        TRY(tmb_mix_rows(w->own, TMB_SIDE_REF, reader, unit, row, rows, a, err));
        TRY(tmb_mix_rows(w->own, TMB_SIDE_OTHER, reader, unit, row, rows, b, err));
        s->stored = s->stored || memcmp(a, b, n * sizeof *a) != 0;
        tmb_mix_take_norm(w->own, unit, rows, b);
        compare_rows(s, a, b, n);
        for (size_t i = 0; i < n; i++)
            power += (double)b[i] * (double)b[i];
    }
    s->weight = s->error2 > 0;
    s->dead = s->norm2 > 0 && power == 0;
    /* a format that is stored as such is known */
    const tmb_unit *twin = &w->m->model[TMB_SIDE_OTHER]->units[w->m->twin[TMB_SIDE_REF][u]];
    if (!s->weight || twin->stored.format || tmb_mix_hooks(w->own, TMB_SIDE_OTHER)->weight)
        return TMB_OK;
    return tmb_looks_rounded(w->own, reader, unit, &s->looks_like, err);
}

/* Whether the two sides make the same of some rows that enter a Linear. */
static tmb_status screen_input(const work *w, uint32_t u, const tmb_unit *unit, float *a, float *b,
                               seen *s, tmb_err *err)
{
    tmb_random random = tmb_random_open(1, u);
    size_t n = (size_t)unit->in;
    float *x = malloc((n + 1) * sizeof *x);
    if (!x) return tmb_fail_memory(err, n * 4, unit->name);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)((double)tmb_random_below(&random, 1u << 24) / (1 << 21) - 4.0);
    memcpy(a, x, n * sizeof *x);
    memcpy(b, x, n * sizeof *x);
    tmb_linear_seen entering = {.units = &u,
                                .n_units = 1,
                                .layer = unit->layer,
                                .expert = unit->expert,
                                .x = x,
                                .rows = 1,
                                .in = unit->in};
    bool mine = false, theirs = false;
    tmb_status status = tmb_mix_round(w->own, TMB_SIDE_REF, &entering, a, &mine, err);
    if (!status) status = tmb_mix_round(w->own, TMB_SIDE_OTHER, &entering, b, &theirs, err);
    s->input = !status && memcmp(a, b, n * sizeof *a) != 0;
    s->inputs_of_other = theirs;
    free(x);
    return status;
}

/* ---- what is no Linear ------------------------------------------------------------------------
 */

static tmb_status read_numbers(const tmb_model *m, const tmb_tensor *t, uint64_t at, size_t n,
                               float *to, uint8_t *raw, tmb_err *err)
{
    size_t size = tmb_dtype_bits((tmb_dtype)t->dtype) / 8;
    TRY(tmb_checkpoint_read(m->ckpt, t, at * size, raw, n * size, err));
    tmb_cpu_ops()->decode(to, raw, (tmb_dtype)t->dtype, n);
    return TMB_OK;
}

static bool is_plain(const tmb_tensor *t)
{
    return t->dtype == TMB_F32 || t->dtype == TMB_F16 || t->dtype == TMB_BF16;
}

static uint64_t numbers_of(const tmb_tensor *t)
{
    return t->bytes / (tmb_dtype_bits((tmb_dtype)t->dtype) / 8);
}

/* A bias, a norm, a table: the tensor of the same name on the other side. */
static tmb_status screen_table(const work *w, const tmb_unit *unit, float *a, float *b, size_t room,
                               seen *s, tmb_err *err)
{
    const tmb_model *ref = w->m->model[TMB_SIDE_REF], *other = w->m->model[TMB_SIDE_OTHER];
    uint32_t index = unit->stored.part[TMB_PART_CODES];
    const tmb_tensor *t = index == TMB_NO_TENSOR ? NULL : &ref->ckpt->tensors[index];
    const tmb_tensor *u = t ? tmb_checkpoint_find(other->ckpt, t->name) : NULL;
    if (!t || !u || !is_plain(t) || !is_plain(u) || numbers_of(t) != numbers_of(u)) return TMB_OK;
    uint8_t *raw = malloc(room * 4);
    tmb_status status = raw ? TMB_OK : tmb_fail_memory(err, room * 4, unit->name);
    for (uint64_t at = 0, all = numbers_of(t); !status && at < all;) {
        size_t n = all - at < room ? (size_t)(all - at) : room;
        status = read_numbers(ref, t, at, n, a, raw, err);
        if (!status) status = read_numbers(other, u, at, n, b, raw, err);
        if (!status) compare_rows(s, a, b, n);
        at += n;
    }
    free(raw);
    s->stored = s->weight = s->error2 > 0;
    return status;
}

/* ---- all of them ------------------------------------------------------------------------------
 */

static size_t widest(const tmb_model *m)
{
    size_t in = 64;
    for (uint32_t u = 0; u < m->n_units; u++)
        if (m->units[u].linear && m->units[u].in > in) in = (size_t)m->units[u].in;
    return in;
}

static tmb_status screen_unit(const work *w, tmb_reader *reader, uint32_t u, float *a, float *b,
                              size_t room, tmb_err *err)
{
    const tmb_unit *unit = &w->m->model[TMB_SIDE_REF]->units[u];
    seen *s = &w->units[u];
    if (w->m->part[TMB_SIDE_REF][u] == TMB_MIX_PARTS) return TMB_OK;
    if (!unit->linear) return w->m->same_model ? TMB_OK : screen_table(w, unit, a, b, room, s, err);
    if (w->m->twin[TMB_SIDE_REF][u] == TMB_NONE) return TMB_OK; /* a head that is tied there */
    return screen_linear(w, reader, u, a, b, s, err);
}

static void take_units(void *ctx)
{
    work *w = ctx;
    const tmb_model *m = w->m->model[TMB_SIDE_REF];
    size_t room = TMB_TILE_ROWS * widest(m);
    tmb_err err = {0};
    tmb_reader *reader = NULL;
    float *a = malloc(2 * room * sizeof *a);
    tmb_status status = a ? tmb_reader_open(&reader, m, tmb_cpu_ops(), &err)
                          : tmb_fail_memory(&err, room * 8, "two tiles of weights");
    while (!status && !__atomic_load_n(&w->failed, __ATOMIC_RELAXED)) {
        size_t u = __atomic_fetch_add(&w->next, 1, __ATOMIC_RELAXED);
        if (u >= m->n_units) break;
        status = screen_unit(w, reader, (uint32_t)u, a, a + room, room, &err);
    }
    if (status && !__atomic_exchange_n(&w->failed, 1, __ATOMIC_RELAXED)) {
        *w->err = err;
        w->err->status = status;
    }
    free(a);
    tmb_reader_close(reader);
}

/* Roundings have scratch of their own, so one thread asks. */
static tmb_status screen_inputs(const work *w, tmb_err *err)
{
    const tmb_model *m = w->m->model[TMB_SIDE_REF];
    size_t room = widest(m);
    float *a = malloc(2 * room * sizeof *a);
    tmb_status status = a ? TMB_OK : tmb_fail_memory(err, room * 8, "inputs");
    for (uint32_t u = 0; !status && u < m->n_units; u++)
        if (m->units[u].linear && w->m->part[TMB_SIDE_REF][u] != TMB_MIX_PARTS)
            status = screen_input(w, u, &m->units[u], a, a + room, &w->units[u], err);
    free(a);
    return status;
}

static tmb_status screen_cache(const work *w, tmb_screen *out, tmb_err *err)
{
    enum { WIDTH = 64 };
    for (int l = 0; l < out->layers; l++) {
        float kv[TMB_SIDES][2][WIDTH];
        for (int s = 0; s < TMB_SIDES; s++) {
            const tmb_hooks *h = tmb_mix_hooks(w->own, s);
            for (int i = 0; i < 2 * WIDTH; i++)
                kv[s][i / WIDTH][i % WIDTH] = (float)(i - WIDTH) * 0.037f;
            tmb_kv_seen at = {.layer = l,
                              .tokens = 1,
                              .k = kv[s][0],
                              .v = kv[s][1],
                              .k_width = WIDTH,
                              .v_width = WIDTH};
            if (h->kv) TRY(h->kv(h->ctx, &at, kv[s][0], kv[s][1], err));
        }
        tmb_screened *p = tmb_screen_at(out, l, TMB_MIX_KV);
        p->input = memcmp(kv[0], kv[1], sizeof kv[0]) != 0;
        p->inputs_of_other = p->input && kv[1][0][1] != (float)(1 - WIDTH) * 0.037f;
    }
    return TMB_OK;
}

static void sum_up(const work *w, tmb_screen *out)
{
    const tmb_model *m = w->m->model[TMB_SIDE_REF];
    for (uint32_t u = 0; u < m->n_units; u++) {
        const tmb_unit *unit = &m->units[u];
        const seen *s = &w->units[u];
        int layer = unit->layer < out->layers ? unit->layer : -1;
        tmb_mix_part part = w->m->part[TMB_SIDE_REF][u];
        if (part == TMB_MIX_PARTS) continue;
        tmb_screened *p = tmb_screen_at(out, layer, part);
        bool first = !p->weight;
        p->own = p->own || s->stored;
        p->stored = p->own;
        p->weight = p->weight || s->weight;
        p->input = p->input || s->input;
        p->inputs_of_other = p->inputs_of_other || s->inputs_of_other;
        if (s->weight && (first || p->looks_like != s->looks_like))
            p->looks_like = first ? s->looks_like : NULL;
        if (!unit->linear) continue; /* a bias is no share of a weight's norm */
        p->error2 += s->error2;
        p->norm2 += s->norm2;
        if (unit->expert < 0 || layer < 0 || (size_t)unit->expert >= out->n_experts) continue;
        tmb_screened_expert *e =
            &out->experts[(size_t)layer * out->n_experts + (size_t)unit->expert];
        e->error2 += s->error2;
        e->norm2 += s->norm2;
        e->dead = e->dead || (unit->proj == TMB_PROJ_DOWN && s->dead);
    }
}

/* A norm in front of a half that is stored otherwise: what it feeds is. */
static void note_norms(const tmb_mixer *m, tmb_screen *out)
{
    static const tmb_mix_part fed[2][4] = {
        {TMB_MIX_ATTENTION, TMB_MIX_ATTENTION, TMB_MIX_ATTENTION, TMB_MIX_ATTENTION},
        {TMB_MIX_ROUTER, TMB_MIX_EXPERT, TMB_MIX_SHARED, TMB_MIX_DENSE}};
    for (int i = 0; i < 2 * m->layers; i++)
        for (int p = 0; m->scaled[i] && p < 4; p++) {
            tmb_screened *s = tmb_screen_at(out, i / 2, fed[i % 2][p]);
            s->stored = s->stored || s->norm2 > 0;
        }
}

static tmb_status make(tmb_screen *s, const tmb_mixer *m, tmb_err *err)
{
    const tmb_model *model = m->model[TMB_SIDE_REF];
    *s = (tmb_screen){.layers = m->layers};
    s->n_experts = model->n_experts > 0 ? (size_t)model->n_experts : 0;
    size_t parts = ((size_t)s->layers + 1) * TMB_MIX_PARTS,
           experts = (size_t)s->layers * s->n_experts;
    s->memory = calloc(1, parts * sizeof *s->parts + (experts + 1) * sizeof *s->experts);
    if (!s->memory) return tmb_fail_memory(err, experts * sizeof *s->experts, "differences");
    s->parts = s->memory;
    s->experts = (tmb_screened_expert *)(void *)(s->parts + parts);
    return TMB_OK;
}

tmb_status tmb_screen_run(tmb_screen *out, const tmb_mixer *m, int threads, tmb_err *err)
{
    tmb_mix mix = {.mixer = m,
                   .base = TMB_SIDE_REF,
                   .guest = ~0u,
                   .layer = -1,
                   .expert = -1,
                   .routes = TMB_MIX_OWN_ROUTES};
    tmb_variant v = tmb_mix_variant("screen", &mix);
    tmb_hooks hooks;
    tmb_err own_err = {0};
    work w = {.m = m, .err = &own_err};
    TRY(make(out, m, err));
    tmb_status status = v.open(&v, &hooks, &w.own, err);
    w.units = calloc((size_t)m->model[TMB_SIDE_REF]->n_units + 1, sizeof *w.units);
    if (!status && !w.units) status = tmb_fail_memory(err, sizeof *w.units, "differences");
    if (!status) {
        tmb_team_run(threads > 0 ? threads : tmb_team_size(), take_units, &w);
        if (w.failed) {
            status = own_err.status;
            if (err) *err = own_err;
        }
    }
    if (!status) status = screen_inputs(&w, err);
    if (!status) sum_up(&w, out);
    if (!status) status = screen_cache(&w, out, err);
    if (!status) note_norms(m, out);
    free(w.units);
    v.close(w.own);
    if (status) tmb_screen_free(out);
    return status;
}

void tmb_screen_free(tmb_screen *s)
{
    free(s->memory);
    *s = (tmb_screen){0};
}
