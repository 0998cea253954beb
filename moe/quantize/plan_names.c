/* plan_names.c - finds an output by its name, so that no name is given twice. */
#include "config.h"
#include "moe/quantize/plan_internal.h"

#include <stdlib.h>
#include <string.h>

/* FNV-1a, folded: names are not chosen against us, since the source had to be unique too. */
static uint32_t hash(const char *s)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (; *s; s++) h = (h ^ (unsigned char)*s) * UINT64_C(0x100000001b3);
    return (uint32_t)(h ^ (h >> 32));
}

static uint32_t *place(const tmb_planner *p, const char *name)
{
    const tmb_plan_names *names = &p->names;
    for (uint32_t i = hash(name) & (names->room - 1);; i = (i + 1) & (names->room - 1)) {
        uint32_t at = names->table[i];
        if (at == TMB_NONE || strcmp(p->plan->outs[at].name, name) == 0) return &names->table[i];
    }
}

static tmb_status grow(tmb_planner *p, tmb_err *err)
{
    tmb_plan_names *names = &p->names;
    uint32_t room = names->room ? names->room * 2 : 1u << 12;
    uint32_t *table = malloc(room * sizeof *table);
    if (!table) return tmb_fail_memory(err, room * sizeof *table, "output names");
    memset(table, 0xff, room * sizeof *table);
    free(names->table);
    names->table = table;
    names->room = room;
    for (uint32_t i = 0; i < names->used; i++) *place(p, p->plan->outs[i].name) = i;
    return TMB_OK;
}

tmb_status tmb_plan_find_name(tmb_planner *p, const char *name, uint32_t *at, tmb_err *err)
{
    if (p->names.room < 2 * (p->names.used + 1)) TRY(grow(p, err));
    *at = *place(p, name);
    return TMB_OK;
}

void tmb_plan_put_name(tmb_planner *p, uint32_t out)
{
    *place(p, p->plan->outs[out].name) = out;
    p->names.used++;
}

void tmb_plan_free_names(tmb_plan_names *names)
{
    free(names->table);
    *names = (tmb_plan_names){0};
}
