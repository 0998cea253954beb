/* groups.c - the report's table: one row for each role and format, and the ten worst tensors. */
#include "config.h"
#include "moe/verify/verify_internal.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *format_of(tmb_verifier *v, const tmb_unit *u)
{
    if (u->broken) return "broken";
    if (u->stored.format) return u->stored.format->name;
    uint32_t t = u->stored.part[TMB_PART_CODES];
    if (t == TMB_NO_TENSOR) return "none";
    const char *dtype = tmb_dtype_name((tmb_dtype)v->ckpt->tensors[t].dtype);
    char *lower = tmb_arena_text(&v->report->arena, dtype, strlen(dtype));
    for (char *c = lower; c && *c; c++)
        *c = (char)tolower((unsigned char)*c);
    return lower ? lower : dtype;
}

/* The row of (role, format); rows are few. */
static tmb_verify_group *row_of(tmb_verifier *v, tmb_role role, const char *format, uint32_t room)
{
    tmb_verify_report *r = v->report;
    for (uint32_t i = 0; i < r->n_groups; i++)
        if (r->groups[i].role == role && strcmp(r->groups[i].format, format) == 0)
            return &r->groups[i];
    if (r->n_groups == room) return NULL;
    r->groups[r->n_groups] =
        (tmb_verify_group){.role = role, .format = format, .sqnr_db = NAN, .cosine = NAN};
    return &r->groups[r->n_groups++];
}

static int by_role(const void *a, const void *b)
{
    const tmb_verify_group *x = a, *y = b;
    return x->role != y->role ? (x->role > y->role) - (x->role < y->role)
                              : strcmp(x->format, y->format);
}

tmb_status tmb_count_groups(tmb_verifier *v, const tmb_sums *sums, tmb_err *err)
{
    enum { ROOM = TMB_ROLES * 16 };
    tmb_verify_report *r = v->report;
    r->groups = tmb_arena_alloc(&r->arena, ROOM * sizeof *r->groups);
    if (!r->groups) return tmb_fail_memory(err, ROOM * sizeof *r->groups, "the report");
    for (uint32_t i = 0; i < v->model->n_units; i++) {
        const tmb_unit *u = &v->model->units[i];
        if (tmb_is_kv_scale(u->name)) continue;
        tmb_verify_group *g = row_of(v, u->role, format_of(v, u), ROOM);
        if (!g) continue;
        g->units++;
        if (!sums) continue;
        g->sums.signal += sums[i].signal;
        g->sums.noise += sums[i].noise;
        g->sums.dot += sums[i].dot;
        g->sums.power += sums[i].power;
        if (sums[i].max_error > g->sums.max_error) g->sums.max_error = sums[i].max_error;
    }
    for (uint32_t i = 0; sums && i < r->n_groups; i++) {
        r->groups[i].sqnr_db = tmb_decibel(&r->groups[i].sums);
        r->groups[i].cosine = tmb_cosine(&r->groups[i].sums);
    }
    qsort(r->groups, r->n_groups, sizeof *r->groups, by_role);
    return TMB_OK;
}

bool tmb_is_kv_scale(const char *name)
{
    size_t n = strlen(name);
    return n > 8 &&
           (strcmp(name + n - 8, ".k_scale") == 0 || strcmp(name + n - 8, ".v_scale") == 0);
}

double tmb_decibel(const tmb_sums *s)
{
    if (s->noise > 0) return s->signal > 0 ? 10 * log10(s->signal / s->noise) : -INFINITY;
    return INFINITY;
}

double tmb_cosine(const tmb_sums *s)
{
    double norm = sqrt(s->signal) * sqrt(s->power);
    return norm > 0 ? s->dot / norm : 1;
}

/* Keep the ten with the least SQNR; of equals the first in the model's order. */
void tmb_count_worst(tmb_verifier *v, const tmb_sums *sums)
{
    enum { WORST = 10 };
    tmb_verify_report *r = v->report;
    for (uint32_t i = 0; i < v->model->n_units; i++) {
        double db = tmb_decibel(&sums[i]);
        if (!(sums[i].noise > 0)) continue;
        uint32_t at = r->n_worst;
        while (at > 0 && r->worst[at - 1].sqnr_db > db)
            at--;
        if (at == WORST) continue;
        uint32_t last = r->n_worst < WORST ? r->n_worst : WORST - 1;
        for (uint32_t k = last; k > at; k--)
            r->worst[k] = r->worst[k - 1];
        const char *name = v->model->units[i].name;
        r->worst[at] = (tmb_verify_worst){.name = tmb_arena_text(&r->arena, name, strlen(name)),
                                          .sqnr_db = db,
                                          .cosine = tmb_cosine(&sums[i]),
                                          .max_error = sums[i].max_error};
        if (!r->worst[at].name) v->no_memory = true;
        if (r->n_worst < WORST) r->n_worst++;
    }
}
