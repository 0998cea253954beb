/* nfc.c - decompose, order, compose.
 *
 * Most text is in this form already.  A character is quiet when NFC neither changes it nor joins
 * it to what stands before; only from the quiet character before a noisy one up to the next quiet
 * one is there work. */
#include "config.h"
#include "moe/tokens/nfc.h"

#include "moe/tokens/ucd.h"
#include "moe/tokens/utf8.h"

typedef struct mark {
    uint32_t c;
    uint32_t ccc;
    size_t at; /* keeps the order of equals */
} mark;

typedef struct marks {
    mark *m; /* [n] */
    size_t n, room;
} marks;

static tmb_status take(marks *l, const uint8_t *table, uint32_t c, tmb_err *err)
{
    uint32_t parts[4];
    size_t n = tmb_ucd_apart(c, parts);
    if (l->room - l->n < n) {
        size_t room = l->room ? l->room * 2 : 64;
        mark *moved = room > SIZE_MAX / sizeof *moved ? NULL : realloc(l->m, room * sizeof *moved);
        if (!moved) return tmb_fail_memory(err, room * sizeof *moved, "combining characters");
        l->m = moved;
        l->room = room;
    }
    for (size_t i = 0; i < n; i++, l->n++)
        l->m[l->n] = (mark){parts[i], tmb_ucd_props[table[parts[i]]].ccc, l->n};
    return TMB_OK;
}

static int by_class(const void *a, const void *b)
{
    const mark *x = a, *y = b;
    if (x->ccc != y->ccc) return x->ccc < y->ccc ? -1 : 1;
    return x->at < y->at ? -1 : 1;
}

/* Runs of non-starters by combining class. */
static void order(marks *l)
{
    for (size_t i = 0; i < l->n;) {
        size_t end = i + 1;
        if (l->m[i].ccc)
            while (end < l->n && l->m[end].ccc)
                end++;
        if (end - i > 1) qsort(l->m + i, end - i, sizeof *l->m, by_class);
        i = end;
    }
}

/* In place: each character goes to the last starter it can reach, or stays. */
static void compose(marks *l)
{
    size_t w = 0, starter = SIZE_MAX;
    uint32_t last = 0; /* class of what was kept behind the starter */
    for (size_t i = 0; i < l->n; i++) {
        mark m = l->m[i];
        bool adjacent = starter != SIZE_MAX && starter + 1 == w;
        if (starter != SIZE_MAX && (adjacent || last < m.ccc)) {
            uint32_t both = tmb_ucd_compose(l->m[starter].c, m.c);
            if (both) {
                l->m[starter].c = both;
                continue;
            }
        }
        if (!m.ccc) starter = w;
        last = m.ccc;
        l->m[w++] = m;
    }
    l->n = w;
}

static tmb_status write(const marks *l, tmb_buf *out, tmb_err *err)
{
    TRY(tmb_buf_room(out, 4 * l->n, err));
    for (size_t i = 0; i < l->n; i++)
        out->n += tmb_utf8_put(out->p + out->n, l->m[i].c);
    return TMB_OK;
}

tmb_status tmb_nfc(const uint8_t *table, const uint8_t *text, size_t n, tmb_buf *out, bool *same,
                   tmb_err *err)
{
    const uint8_t *p = text, *end = text + n, *quiet = text, *copied = text;
    marks l = {0};
    tmb_status status = TMB_OK;
    while (p < end && !status) {
        const uint8_t *at = p;
        if (*p < 0xcc) { /* below U+0300 all is quiet */
            quiet = p;
            p += *p < 0x80 ? 1 : 2;
            continue;
        }
        if (!tmb_ucd_props[table[tmb_utf8_next(&p)]].noisy) {
            quiet = at;
            continue;
        }
        status = tmb_buf_add(out, copied, (size_t)(quiet - copied), err);
        l.n = 0;
        for (p = quiet; p < end && !status;) {
            const uint8_t *here = p;
            uint32_t c = tmb_utf8_next(&p);
            if (here > at && !tmb_ucd_props[table[c]].noisy) {
                p = here;
                break;
            }
            status = take(&l, table, c, err);
        }
        if (status) break;
        order(&l);
        compose(&l);
        status = write(&l, out, err);
        copied = quiet = p;
    }
    *same = copied == text;
    if (!status && !*same) status = tmb_buf_add(out, copied, (size_t)(end - copied), err);
    free(l.m);
    return status;
}
