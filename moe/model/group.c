/* group.c - what belongs together: the experts of a layer, the Linears that engines fuse; and
 * what can only be said once everything is known. */
#include "config.h"
#include "moe/model/builder.h"

#include <stdlib.h>
#include <string.h>

typedef struct member {
    uint32_t group;
    int32_t expert, proj;
    uint32_t unit;
} member;

static int by_group(const void *a, const void *b)
{
    const member *x = a, *y = b;
    if (x->group != y->group) return x->group < y->group ? -1 : 1;
    if (x->expert != y->expert) return x->expert < y->expert ? -1 : 1;
    if (x->proj != y->proj) return x->proj < y->proj ? -1 : 1;
    return x->unit < y->unit ? -1 : x->unit > y->unit;
}

/* Length of "a.experts" of "a.experts.3.up_proj"; 0 when there is no such part. */
static size_t experts_length(const char *name, int32_t expert)
{
    char *end;
    for (const char *dot = strchr(name, '.'); dot; dot = strchr(dot + 1, '.')) {
        if (dot[1] < '0' || dot[1] > '9') continue;
        if (strtol(dot + 1, &end, 10) == expert && *end == '.' && dot - name >= 6) {
            const char *from = dot;
            while (from > name && from[-1] != '.')
                from--;
            for (const char *at = from; at + 6 <= dot; at++)
                if (memcmp(at, "expert", 6) == 0) return (size_t)(dot - name);
        }
    }
    return 0;
}

/* Sorted members to groups. */
static tmb_status fill_groups(tmb_model *m, const tmb_words *names, const member *members,
                              uint32_t n, tmb_err *err)
{
    m->experts = tmb_arena_alloc(&m->arena, (names->n + 1) * sizeof *m->experts);
    uint32_t *units = tmb_arena_alloc(&m->arena, (n + 1) * sizeof *units);
    if (!m->experts || !units) return tmb_fail_memory(err, n * sizeof *units, "the inventory");
    m->n_experts_groups = names->n;
    for (uint32_t i = 0; i < n; i++) {
        tmb_experts *g = &m->experts[members[i].group];
        tmb_unit *u = &m->units[members[i].unit];
        units[i] = members[i].unit;
        if (!g->name) {
            const struct tmb_word *name = &names->names[members[i].group];
            g->name = tmb_arena_text(&m->arena, name->text, name->length);
            if (!g->name) return tmb_fail_memory(err, name->length, "the inventory");
            g->units = units + i;
            g->layer = u->layer;
        }
        if (!g->n_units || members[i - 1].expert != members[i].expert) g->n_experts++;
        g->n_units++;
        u->experts = members[i].group;
        if (u->role == TMB_ROLE_EXPERT && (int)g->n_experts > m->n_experts)
            m->n_experts = (int)g->n_experts;
    }
    return TMB_OK;
}

tmb_status tmb_group_experts(tmb_builder *b, tmb_err *err)
{
    tmb_model *m = b->model;
    tmb_words names = {0};
    uint32_t n = 0;
    tmb_status status = TMB_OK;
    member *members = malloc((m->n_units + 1) * sizeof *members);
    if (!members) return tmb_fail_memory(err, m->n_units * sizeof *members, "the inventory");
    for (uint32_t i = 0; i < m->n_units; i++) {
        const tmb_unit *u = &m->units[i];
        size_t length = u->expert >= 0 && u->linear ? experts_length(u->name, u->expert) : 0;
        if (!length || (u->role != TMB_ROLE_EXPERT && u->role != TMB_ROLE_MTP)) continue;
        bool is_new;
        int64_t group = tmb_words_add(&names, u->name, length, &is_new);
        if (group < 0) {
            status = tmb_fail_memory(err, length, "the inventory");
            goto out;
        }
        members[n++] = (member){(uint32_t)group, u->expert, (int32_t)u->proj, i};
    }
    qsort(members, n, sizeof *members, by_group);
    status = fill_groups(m, &names, members, n, err);
out:
    free(members);
    tmb_words_free(&names);
    return status;
}

static size_t parent_length(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot ? (size_t)(dot + 1 - name) : 0;
}

/* Whether a group of experts hangs under the same parent: "a.mlp." of "a.mlp.experts". */
static bool beside_experts(const tmb_model *m, const tmb_unit *u)
{
    size_t n = parent_length(u->name);
    for (uint32_t g = 0; g < m->n_experts_groups; g++)
        if (n && n == parent_length(m->experts[g].name) &&
            memcmp(u->name, m->experts[g].name, n) == 0)
            return true;
    return false;
}

static bool has_sibling(const tmb_model *m, const tmb_unit *u, const char *leaf)
{
    char key[TMB_NAME_MAX + 32];
    size_t n = parent_length(u->name);
    memcpy(key, u->name, n);
    strcpy(key + n, leaf);
    return tmb_model_find(m, key) != NULL;
}

/* A stack of something for each expert whose projection nobody can tell. */
static bool unknown_stack(const tmb_model *m, const tmb_unit *u)
{
    uint32_t t = u->stored.part[TMB_PART_CODES];
    if (u->linear || t == TMB_NO_TENSOR || !strstr(u->name, "expert")) return false;
    const tmb_tensor *tensor = &m->ckpt->tensors[t];
    return tensor->rank == 3 && m->n_experts > 1 && tensor->shape[0] == (uint64_t)m->n_experts;
}

tmb_status tmb_guess_routers(tmb_builder *b, tmb_err *err)
{
    tmb_model *m = b->model;
    unsigned noted = 0;
    for (uint32_t i = 0; i < m->n_units; i++) {
        tmb_unit *u = &m->units[i];
        if (unknown_stack(m, u) && u->role != TMB_ROLE_MTP && u->role != TMB_ROLE_VISION) {
            u->role = TMB_ROLE_EXPERT;
            u->keep_why = NULL;
            u->keep = false;
        }
        if (!u->linear || u->expert >= 0) continue;
        const char *leaf = u->name + parent_length(u->name);
        bool like_router = m->n_experts > 1 && u->out == (uint64_t)m->n_experts;
        tmb_role role = u->role;
        if ((role == TMB_ROLE_OTHER || role == TMB_ROLE_DENSE_MLP) && like_router &&
            beside_experts(m, u)) {
            role = TMB_ROLE_ROUTER;
            if (!noted++)
                TRY(tmb_note(b, err, "%s and its like: taken for routers, with one row an expert",
                             u->name));
        } else if (role == TMB_ROLE_ROUTER && !like_router && strcmp(leaf, "gate") == 0 &&
                   (has_sibling(m, u, "up") || has_sibling(m, u, "down"))) {
            role = TMB_ROLE_DENSE_MLP; /* gate, up, down of an ordinary MLP */
        } else if ((role == TMB_ROLE_OTHER || role == TMB_ROLE_DENSE_MLP) && u->out == 1 &&
                   strstr(leaf, "gate")) {
            role = TMB_ROLE_SHARED_GATE; /* one number a token: how much of a block to add */
        }
        if (role == u->role) continue;
        u->role = role;
        u->keep_why = tmb_role_kept(role);
        u->keep = u->keep_why != NULL;
    }
    return TMB_OK;
}

/* The first names of a role, and how many there are. */
typedef struct census {
    uint32_t n;
    const char *first;
} census;

tmb_status tmb_note_all(tmb_builder *b, tmb_err *err)
{
    tmb_model *m = b->model;
    census vision = {0}, mtp = {0}, unknown = {0}, broken = {0};
    const char *why = NULL;
    for (uint32_t i = 0; i < m->n_units; i++) {
        const tmb_unit *u = &m->units[i];
        tmb_class class;
        TRY(tmb_classify(&b->matcher, u->name, strlen(u->name), &class, err));
        census *c = u->broken                                        ? &broken
                    : u->role == TMB_ROLE_VISION                     ? &vision
                    : u->role == TMB_ROLE_MTP                        ? &mtp
                    : u->role == TMB_ROLE_OTHER && !class.known      ? &unknown
                                                                     : NULL;
        if (!c) continue;
        if (!c->n++) {
            c->first = u->name;
            if (u->broken) why = u->broken;
        }
    }
    if (m->guessed)
        TRY(tmb_note(b, err,
                     "model_type \"%s\" is not known: roles are guessed from names, layers are under "
                     "\"%s\"; look at them with `tombac inspect`",
                     m->model_type, m->prefix));
    if (mtp.n)
        TRY(tmb_note(b, err, "%u tensors of multi-token-prediction layers (%s …) stay as they are",
                     mtp.n, mtp.first));
    if (vision.n)
        TRY(tmb_note(b, err, "%u tensors of vision towers (%s …) stay as they are", vision.n,
                     vision.first));
    if (unknown.n)
        TRY(tmb_note(b, err, "%u tensors of unknown purpose (%s …) stay as they are", unknown.n,
                     unknown.first));
    if (broken.n)
        TRY(tmb_note(b, err, "%u tensors of damaged weights, the first: %s: %s", broken.n, broken.first, why));
    return TMB_OK;
}
