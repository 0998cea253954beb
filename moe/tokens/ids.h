/* ids.h - a list of token ids that grows; internal to moe/tokens. */
#ifndef TMB_TOKENS_IDS_H
#define TMB_TOKENS_IDS_H

#include "moe/tokens/tokenizer.h"

#include <stdlib.h>

/* Room for `more` ids. */
static inline tmb_status tmb_ids_room(tmb_ids *l, size_t more, tmb_err *err)
{
    if (l->room - l->n >= more) return TMB_OK;
    size_t room = l->room ? l->room : 64;
    while (room - l->n < more)
        room *= 2;
    int32_t *moved = room > SIZE_MAX / sizeof *moved ? NULL : realloc(l->ids, room * sizeof *moved);
    if (!moved) return tmb_fail_memory(err, room * sizeof *moved, "token ids");
    l->ids = moved;
    l->room = room;
    return TMB_OK;
}

#endif
