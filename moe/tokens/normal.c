/* normal.c - the normalizers, one after the other. */
#include "config.h"
#include "moe/tokens/internal.h"
#include "moe/tokens/nfc.h"

/* Every occurrence of from, left to right, by to. */
static tmb_status replace(const tmb_step *s, const uint8_t *text, size_t n, tmb_buf *out,
                          tmb_err *err)
{
    const uint8_t *p = text, *end = text + n;
    for (;;) {
        const uint8_t *found = memmem(p, (size_t)(end - p), s->from, s->from_n);
        TRY(tmb_buf_add(out, p, (size_t)((found ? found : end) - p), err));
        if (!found) return TMB_OK;
        TRY(tmb_buf_add(out, s->to, s->to_n, err));
        p = found + s->from_n;
    }
}

tmb_status tmb_normalize(const tmb_tokenizer *t, const uint8_t *text, size_t n, tmb_buf room[2],
                         const uint8_t **out, size_t *out_n, tmb_err *err)
{
    int free_room = 0; /* the one that does not hold the text */
    for (size_t i = 0; i < t->n_steps; i++) {
        const tmb_step *s = &t->steps[i];
        tmb_buf *to = &room[free_room];
        bool same = false;
        to->n = 0;
        if (s->kind == TMB_STEP_NFC) {
            TRY(tmb_nfc(t->ucd, text, n, to, &same, err));
        } else if (s->kind == TMB_STEP_PREPEND) {
            same = n == 0;
            if (!same) TRY(tmb_buf_add(to, s->to, s->to_n, err));
            if (!same) TRY(tmb_buf_add(to, text, n, err));
        } else {
            TRY(replace(s, text, n, to, err));
        }
        if (same) continue;
        text = to->p;
        n = to->n;
        free_room = !free_room;
    }
    *out = text;
    *out_n = n;
    return TMB_OK;
}
