/* buf.h - bytes that grow; internal to moe/tokens. */
#ifndef TMB_TOKENS_BUF_H
#define TMB_TOKENS_BUF_H

#include "kernels/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct tmb_buf {
    uint8_t *p; /* [n] */
    size_t n, room;
} tmb_buf; /* zero-initialised is empty and ready; free(p) gives it back */

/* Room for `more` bytes behind the n there are; what is there already stays. */
static inline tmb_status tmb_buf_room(tmb_buf *b, size_t more, tmb_err *err)
{
    if (b->room - b->n >= more) return TMB_OK;
    size_t want = b->n + more, room = b->room ? b->room : 256;
    if (want < more || want > SIZE_MAX / 2) return tmb_fail_memory(err, more, "text");
    while (room < want)
        room *= 2;
    uint8_t *moved = realloc(b->p, room);
    if (!moved) return tmb_fail_memory(err, room, "text");
    b->p = moved;
    b->room = room;
    return TMB_OK;
}

static inline tmb_status tmb_buf_add(tmb_buf *b, const void *p, size_t n, tmb_err *err)
{
    TRY(tmb_buf_room(b, n, err));
    if (n) memcpy(b->p + b->n, p, n);
    b->n += n;
    return TMB_OK;
}

#endif
