/* complete.c - are the routed experts of a source all there, and do they fit each other?
 *
 * Engines do not ask: an expert that is missing becomes uninitialised memory.  What an architecture
 * of ours does not know about (models whose roles are guessed) is held against itself alone. */
#include "config.h"
#include "moe/model/model.h"

#include <stdio.h>
#include <string.h>

typedef struct checker {
    const tmb_model *m;
    const tmb_experts *group;
    tmb_err *err;
} checker;

static const tmb_unit *unit_at(const checker *c, uint32_t i)
{
    return &c->m->units[c->group->units[i]];
}

static const char *leaf_of(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot ? dot + 1 : name;
}

static tmb_status refuse(const checker *c, int expert, const char *what)
{
    const tmb_unit *first = unit_at(c, 0);
    const tmb_tensor *t = &c->m->ckpt->tensors[first->stored.part[TMB_PART_CODES]];
    return tmb_fail(c->err, TMB_EDATA,
                    "%s: %.300s: expert %d %s; download the checkpoint again, or ask who made it",
                    c->m->ckpt->shards[t->shard].name, c->group->name, expert, what);
}

static tmb_status refuse_leaf(const checker *c, int expert, const char *has, const char *leaf,
                              const char *but)
{
    char text[256];
    snprintf(text, sizeof text, "has %s %.100s%s", has, leaf, but);
    return refuse(c, expert, text);
}

/* The units [i, end) are one expert's, by projection; model [n] are those of the first. */
static tmb_status check_expert(const checker *c, uint32_t i, uint32_t end, uint32_t n)
{
    const tmb_unit *gate = NULL, *up = NULL, *down = NULL;
    int expert = unit_at(c, i)->expert;
    for (uint32_t k = i; k < end; k++) {
        const tmb_unit *u = unit_at(c, k);
        if (!u->out || !u->in) return refuse_leaf(c, expert, "an empty", leaf_of(u->name), "");
        if (k > i && u->proj != TMB_PROJ_OTHER && u->proj == unit_at(c, k - 1)->proj)
            return refuse_leaf(c, expert, "a second", leaf_of(u->name), "");
        if (u->proj == TMB_PROJ_GATE) gate = u;
        if (u->proj == TMB_PROJ_UP) up = u;
        if (u->proj == TMB_PROJ_DOWN) down = u;
    }
    for (uint32_t k = 0; k < n; k++) {
        const tmb_unit *want = unit_at(c, k), *have = i + k < end ? unit_at(c, i + k) : NULL;
        if (!have || have->proj != want->proj)
            return refuse_leaf(c, expert, "no", leaf_of(want->name),
                               " that is a matrix of numbers, as the first expert has");
        if (!c->m->guessed && (have->out != want->out || have->in != want->in))
            return refuse_leaf(c, expert, "a", leaf_of(want->name),
                               " of another shape than the first expert");
    }
    if (end - i > n) return refuse(c, expert, "has more parts than the first expert");
    if (gate && up && (gate->out != up->out || gate->in != up->in))
        return refuse(c, expert, "has gate and up of different shapes");
    if (up && down && down->in != up->out)
        return refuse_leaf(c, expert, "a", leaf_of(down->name),
                           " that does not take what up gives");
    if (!c->m->guessed && (!down || (!gate && !up)))
        return refuse_leaf(c, expert, "no", down ? "up projection" : "down projection", "");
    return TMB_OK;
}

static bool has_router(const checker *c)
{
    for (uint32_t i = 0; i < c->m->n_units; i++)
        if (c->m->units[i].role == TMB_ROLE_ROUTER && c->m->units[i].layer == c->group->layer)
            return true;
    return false;
}

static tmb_status check_group(const checker *c)
{
    uint32_t i = 0, end, n = 0;
    int next = 0;
    for (; i < c->group->n_units; i = end, next++) {
        int expert = unit_at(c, i)->expert;
        for (end = i; end < c->group->n_units && unit_at(c, end)->expert == expert;)
            end++;
        if (expert != next) return refuse(c, next, "is missing");
        if (!i) n = end;
        TRY(check_expert(c, i, end, n));
    }
    if (c->m->guessed) return TMB_OK;
    if (next < c->m->n_experts) return refuse(c, next, "is missing");
    return has_router(c) ? TMB_OK : refuse(c, 0, "has no router beside it");
}

/* The one block size that is read; of another the scales would be taken for those of other weights.
 */
static tmb_status check_blocks(const tmb_json *config, tmb_err *err)
{
    static const char *const keys[] = {"quantization_config.weight_block_size",
                                       "text_config.quantization_config.weight_block_size"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const tmb_json *size = tmb_json_path(config, keys[i]);
        int64_t rows, columns;
        if (!size || tmb_json_is_null(size)) continue;
        if (tmb_json_size(size) != 2 || !tmb_json_integer(tmb_json_at(size, 0), &rows) ||
            !tmb_json_integer(tmb_json_at(size, 1), &columns) || rows != 128 || columns != 128)
            return tmb_fail(
                err, TMB_EDATA,
                "config.json: \"%s\" is not [128, 128], the only blocks of FP8 that are "
                "read; fetch the file again, or start from another checkpoint",
                keys[i]);
    }
    return TMB_OK;
}

tmb_status tmb_model_complete(const tmb_model *m, tmb_err *err)
{
    TRY(check_blocks(m->ckpt->config, err));
    for (uint32_t g = 0; g < m->n_experts_groups; g++) {
        checker c = {m, &m->experts[g], err};
        if (c.group->n_units && unit_at(&c, 0)->role == TMB_ROLE_EXPERT) TRY(check_group(&c));
    }
    return TMB_OK;
}
