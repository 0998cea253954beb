/* fuse.c - Linears that engines run as one GEMM. */
#include "config.h"
#include "moe/model/arch_rows.h"
#include "moe/model/builder.h"

#include <stdlib.h>
#include <string.h>

enum { LEAVES_MAX = sizeof((tmb_arch_fuse *)0)->leaves / sizeof(char *), ALIASES_MAX = 3 };

/* Of every architecture. */
static const tmb_arch_fuse common[] = {
    {{"q_proj", "k_proj", "v_proj"}, {"qkv_proj"}},
    {{"gate_proj", "up_proj"}, {"gate_up_proj"}},
    {{"w1", "w3"}, {"gate_up_proj"}},
    {{"w_gate", "w_up"}, {NULL}},
    TMB_FUSES_END,
};

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* The Linears of rule f that hang under the parent of `name`. */
static uint32_t gather(const tmb_model *m, const tmb_arch_fuse *f, const char *name, size_t parent,
                       uint32_t found[LEAVES_MAX])
{
    char key[TMB_NAME_MAX + 64];
    uint32_t n = 0;
    memcpy(key, name, parent);
    for (int i = 0; i < LEAVES_MAX && f->leaves[i]; i++) {
        strcpy(key + parent, f->leaves[i]);
        const tmb_unit *u = tmb_model_find(m, key);
        if (u && u->linear && u->fuse == TMB_NONE) found[n++] = (uint32_t)(u - m->units);
    }
    qsort(found, n, sizeof *found, by_number);
    return n;
}

static bool has_leaf(const tmb_arch_fuse *f, const char *leaf)
{
    for (int i = 0; i < LEAVES_MAX && f->leaves[i]; i++)
        if (strcmp(f->leaves[i], leaf) == 0) return true;
    return false;
}

/* Put unit `at` and its siblings into *fuse; false when no rule joins it to another. */
static bool join(tmb_model *m, uint32_t at, tmb_fuse *fuse, tmb_status *status, tmb_err *err)
{
    const tmb_arch_fuse *tables[] = {m->arch->fuses, common};
    const char *name = m->units[at].name, *dot = strrchr(name, '.');
    const char *leaf = dot ? dot + 1 : name;
    size_t parent = (size_t)(leaf - name);
    for (int t = 0; t < 2; t++) {
        for (const tmb_arch_fuse *f = tables[t]; f && f->leaves[0]; f++) {
            uint32_t found[LEAVES_MAX];
            if (!has_leaf(f, leaf)) continue;
            uint32_t n = gather(m, f, name, parent, found);
            if (n < 2) continue;
            uint32_t *units = tmb_arena_alloc(&m->arena, n * sizeof *units);
            if (!units) goto no_memory;
            memcpy(units, found, n * sizeof *units);
            *fuse = (tmb_fuse){.units = units, .n_units = n};
            /* engines speak of routed experts as a whole, never of one expert's fused layer */
            for (int i = 0; i < ALIASES_MAX && f->aliases[i] && m->units[at].expert < 0; i++) {
                fuse->alias[i] =
                    tmb_arena_printf(&m->arena, "%.*s%s", (int)parent, name, f->aliases[i]);
                if (!fuse->alias[i]) goto no_memory;
            }
            return true;
        }
    }
    return false;
no_memory:
    *status = tmb_fail_memory(err, sizeof *fuse, "the inventory");
    return false;
}

tmb_status tmb_group_fuses(tmb_builder *b, tmb_err *err)
{
    tmb_model *m = b->model;
    uint32_t capacity = 0;
    tmb_fuse *fuses = NULL;
    tmb_status status = TMB_OK;
    for (uint32_t i = 0; i < m->n_units; i++) {
        tmb_fuse fuse;
        if (!m->units[i].linear || m->units[i].fuse != TMB_NONE) continue;
        if (!join(m, i, &fuse, &status, err)) {
            if (status) goto out;
            continue;
        }
        if (m->n_fuses == capacity) {
            capacity = capacity ? 2 * capacity : 256;
            tmb_fuse *grown = realloc(fuses, capacity * sizeof *fuses);
            if (!grown) {
                status = tmb_fail_memory(err, capacity * sizeof *fuses, "the inventory");
                goto out;
            }
            fuses = grown;
        }
        for (uint32_t k = 0; k < fuse.n_units; k++)
            m->units[fuse.units[k]].fuse = m->n_fuses;
        fuses[m->n_fuses++] = fuse;
    }
    m->fuses = tmb_arena_alloc(&m->arena, (m->n_fuses + 1) * sizeof *fuses);
    if (m->fuses && m->n_fuses)
        memcpy(m->fuses, fuses, m->n_fuses * sizeof *fuses);
    else if (!m->fuses)
        status = tmb_fail_memory(err, m->n_fuses * sizeof *fuses, "the inventory");
out:
    free(fuses);
    return status;
}
