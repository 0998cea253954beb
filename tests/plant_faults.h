/* plant_faults.h - the faults that can be planted in a checkpoint, by their words:
 *
 *   router LAYER FORMAT        the layer's router rounded, stored as it was
 *   attention LAYER FORMAT     the layer's attention Linears rounded
 *   scaled LAYER EXPERT TIMES  the expert's down projection times TIMES
 *   noise LAYER EXPERT SHARE   noise of that share of the rms on all its Linears
 *   dead LAYER EXPERT [IDS]    the expert's router row moved until nothing (of the uint16 ids in
 *                              IDS) chooses it
 *   ties LAYER A B             B's router row becomes A's
 *   rescaled-norm LAYER        channels of both norms times powers of two, what they feed divided
 * by them: the same function rescaled-experts LAYER     rows of up times, columns of down by powers
 * of two: the same function identical                  a copy
 */
#ifndef PLANT_FAULTS_H
#define PLANT_FAULTS_H

#include "tests/plant_dead.h"

/* Change the Linears that `wanted` takes by `change`; returns how many. */
typedef bool (*plant_wanted)(const tmb_unit *u, int layer, int expert);
typedef void (*plant_change)(float *x, const tmb_unit *u, const char *how);

static int plant_each(plant *p, plant_wanted wanted, int layer, int expert, plant_change change,
                      const char *how, tmb_err *err)
{
    int n = 0;
    for (uint32_t i = 0; i < p->model->n_units; i++) {
        const tmb_unit *u = &p->model->units[i];
        if (!u->linear || u->layer != layer || !wanted(u, layer, expert)) continue;
        float *x = plant_read(p, u, err);
        if (!x) return 0;
        change(x, u, how);
        if (!plant_write(p, u, x)) n = -1000000;
        free(x);
        n++;
    }
    return n;
}

static bool is_router(const tmb_unit *u, int layer, int expert)
{
    (void)layer, (void)expert;
    return u->role == TMB_ROLE_ROUTER;
}

static bool is_attention(const tmb_unit *u, int layer, int expert)
{
    (void)layer, (void)expert;
    return u->role == TMB_ROLE_ATTENTION;
}

static bool is_expert(const tmb_unit *u, int layer, int expert)
{
    (void)layer;
    return u->role == TMB_ROLE_EXPERT && u->expert == expert;
}

static bool is_down(const tmb_unit *u, int layer, int expert)
{
    return is_expert(u, layer, expert) && u->proj == TMB_PROJ_DOWN;
}

static bool is_up_or_down(const tmb_unit *u, int layer, int expert)
{
    (void)layer, (void)expert;
    return u->role == TMB_ROLE_EXPERT && (u->proj == TMB_PROJ_DOWN || u->proj == TMB_PROJ_UP);
}

/* What reads the output of the layer's first norm, of its second. */
static bool reads_first(const tmb_unit *u, int layer, int expert)
{
    static const char *const names[] = {"q_proj", "k_proj", "v_proj", "q_a_proj",
                                        "kv_a_proj_with_mqa"};
    (void)layer, (void)expert;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (plant_ends(u->name, names[i])) return true;
    return false;
}

static bool reads_second(const tmb_unit *u, int layer, int expert)
{
    (void)layer, (void)expert;
    bool mlp = u->role == TMB_ROLE_EXPERT || u->role == TMB_ROLE_SHARED_EXPERT ||
               u->role == TMB_ROLE_DENSE_MLP;
    return u->role == TMB_ROLE_ROUTER || u->role == TMB_ROLE_SHARED_GATE ||
           (mlp && (u->proj == TMB_PROJ_GATE || u->proj == TMB_PROJ_UP));
}

static float power_of(uint64_t channel)
{
    static const float powers[] = {4, 0.5f, 1, 0.25f, 2};
    return powers[channel % 5];
}

static void rounded(float *x, const tmb_unit *u, const char *how)
{
    if (!plant_round(x, u->out, u->in, how)) x[0] = NAN;
}

static void times(float *x, const tmb_unit *u, const char *how)
{
    for (uint64_t i = 0; i < u->out * u->in; i++)
        x[i] *= strtof(how, NULL);
}

static void noisy(float *x, const tmb_unit *u, const char *how)
{
    double sum = 0;
    for (uint64_t i = 0; i < u->out * u->in; i++)
        sum += (double)x[i] * x[i];
    float rms = (float)sqrt(sum / (double)(u->out * u->in)) * strtof(how, NULL);
    for (uint64_t i = 0; i < u->out * u->in; i++)
        x[i] += random_float() * 2.45f * rms; /* the triangle's rms is 1 / sqrt(6) */
}

static void columns_divided(float *x, const tmb_unit *u, const char *how)
{
    (void)how;
    for (uint64_t i = 0; i < u->out * u->in; i++)
        x[i] /= power_of(i % u->in);
}

static void expert_rescaled(float *x, const tmb_unit *u, const char *how)
{
    (void)how;
    for (uint64_t i = 0; i < u->out * u->in; i++)
        x[i] = u->proj == TMB_PROJ_UP ? x[i] * power_of(i / u->in) : x[i] / power_of(i % u->in);
}

/* The norm named `leaf` of a layer, times the powers. */
static bool norm_times(plant *p, int layer, const char *leaf)
{
    for (uint32_t i = 0; i < p->model->n_units; i++) {
        const tmb_unit *u = &p->model->units[i];
        if (u->role != TMB_ROLE_NORM || u->layer != layer || !plant_ends(u->name, leaf)) continue;
        edit_tensor *t = plant_tensor(p, u);
        for (uint64_t k = 0; k < t->shape[0]; k++)
            if (!plant_store(t, k, plant_value(t, k) * power_of(k))) return false;
        return true;
    }
    return false;
}

static bool rescale_norms(plant *p, int layer, tmb_err *err)
{
    return norm_times(p, layer, "input_layernorm") &&
           norm_times(p, layer, "post_attention_layernorm") &&
           plant_each(p, reads_first, layer, -1, columns_divided, NULL, err) > 0 &&
           plant_each(p, reads_second, layer, -1, columns_divided, NULL, err) > 0;
}

static bool tie(plant *p, int layer, uint64_t a, uint64_t b, tmb_err *err)
{
    const tmb_unit *u = plant_router(p, layer);
    float *x = u && a < u->out && b < u->out ? plant_read(p, u, err) : NULL;
    if (!x) return false;
    memcpy(x + b * u->in, x + a * u->in, u->in * sizeof *x);
    bool good = plant_write(p, u, x);
    free(x);
    return good;
}

/* ids: a file of uint16, or random ones below 100. */
static size_t read_ids(int32_t *ids, size_t room, const char *path)
{
    uint16_t id;
    size_t n = 0;
    FILE *f = path ? fopen(path, "rb") : NULL;
    if (path && !f) return 0;
    for (; n < room && (!f || fread(&id, 2, 1, f) == 1); n++)
        ids[n] = f ? id : (int32_t)(random_bits() % 100);
    if (f) fclose(f);
    return n;
}

static bool kill_expert(plant *p, int layer, uint64_t expert, const char *path, tmb_err *err)
{
    static int32_t ids[16384];
    const tmb_unit *u = plant_router(p, layer);
    if (!u || expert >= u->out) return false;
    size_t n = read_ids(ids, 16384, path), length = n < 256 ? n : 256;
    plant_seen s = {0};
    float *x = plant_read(p, u, err);
    bool good = x && n && plant_look(&s, p, layer, ids, n, length, err);
    size_t left = good ? plant_push(&s, x + expert * u->in, expert, 1) : 0;
    if (left) fprintf(stderr, "plant: %zu tokens still come near the expert\n", left);
    good = good && plant_write(p, u, x);
    free(x);
    free(s.x);
    free(s.choice);
    return good;
}

/* a [n]: the words.  false: cannot be planted here. */
static bool plant_apply(plant *p, int n, const char *const *a, tmb_err *err)
{
    const char *fault = a[0];
    int layer = n > 1 ? atoi(a[1]) : 0;
    if (!strcmp(fault, "router") && n == 3)
        return plant_each(p, is_router, layer, -1, rounded, a[2], err) > 0;
    if (!strcmp(fault, "attention") && n == 3)
        return plant_each(p, is_attention, layer, -1, rounded, a[2], err) > 0;
    if (!strcmp(fault, "scaled") && n == 4)
        return plant_each(p, is_down, layer, atoi(a[2]), times, a[3], err) > 0;
    if (!strcmp(fault, "noise") && n == 4)
        return plant_each(p, is_expert, layer, atoi(a[2]), noisy, a[3], err) > 0;
    if (!strcmp(fault, "dead") && n >= 3)
        return kill_expert(p, layer, (uint64_t)atoi(a[2]), n > 3 ? a[3] : NULL, err);
    if (!strcmp(fault, "ties") && n == 4)
        return tie(p, layer, (uint64_t)atoi(a[2]), (uint64_t)atoi(a[3]), err);
    if (!strcmp(fault, "rescaled-norm") && n == 2) return rescale_norms(p, layer, err);
    if (!strcmp(fault, "rescaled-experts") && n == 2)
        return plant_each(p, is_up_or_down, layer, -1, expert_rescaled, NULL, err) > 0;
    return !strcmp(fault, "identical") && n == 1;
}

/* The checkpoint in `source` with the fault of words a [n], in the folder out. */
static bool plant_fault(const char *source, const char *out, int n, const char *const *a,
                        tmb_err *err)
{
    plant p;
    bool good = plant_open(&p, source, err) && plant_apply(&p, n, a, err) && !p.e->error &&
                (!mkdir(out, 0777) || !access(out, W_OK)) && edit_write(p.e, out);
    plant_close(&p);
    return good;
}

#endif
