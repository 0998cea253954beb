/* split.c - a piece of text to words, as the pre-tokenizer says. */
#include "config.h"
#include "moe/tokens/internal.h"

#include "moe/tokens/ucd.h"
#include "moe/tokens/utf8.h"

static const uint8_t meta[3] = {0xe2, 0x96, 0x81}; /* U+2581 */

/* --- byte-level: patterns over kinds --------------------------------------------------------- */

typedef struct walk {
    tmb_encoder *e;
    const uint8_t *text; /* of the next character */
    bool ascii;          /* a character is a byte */
} walk;

/* The kinds of all characters, one byte each; how many there are. */
static tmb_status kinds_of(tmb_encoder *e, const uint8_t *text, size_t n, size_t *chars)
{
    const uint8_t *ucd = e->t->ucd, *p = text, *end = text + n;
    e->kinds.n = 0;
    TRY(tmb_buf_room(&e->kinds, n, e->err));
    uint8_t *w = e->kinds.p;
    while (p < end) {
        if (*p < 0x80)
            *w++ = *p++;
        else
            *w++ = tmb_ucd_props[ucd[tmb_utf8_next(&p)]].kind;
    }
    *chars = (size_t)(w - e->kinds.p);
    return TMB_OK;
}

/* The next `chars` characters are a word, or are left out. */
static tmb_status word(walk *w, size_t chars, bool drop)
{
    const uint8_t *from = w->text;
    if (w->ascii)
        w->text += chars;
    else
        for (size_t i = 0; i < chars; i++)
            w->text += tmb_utf8_bytes(*w->text);
    return drop ? TMB_OK : tmb_bpe(w->e, from, (size_t)(w->text - from));
}

/* Characters [from, to) of the kinds through split `level` and those behind it. */
static tmb_status split_at(walk *w, size_t level, size_t from, size_t to)
{
    const tmb_tokenizer *t = w->e->t;
    if (from == to) return TMB_OK;
    if (level == t->n_splits) return word(w, to - from, false);
    const uint8_t *kinds = w->e->kinds.p + from;
    size_t n = to - from, at = 0;
    while (at < n) {
        size_t begin, end;
        int found = tmb_search_next(t->splits[level], w->e->room, kinds, n, at, &begin, &end);
        if (found < 0) return tmb_fail_memory(w->e->err, n, "a search");
        if (!found) begin = end = n;
        if (begin > at && t->drop_gaps[level])
            TRY(word(w, begin - at, true));
        else if (begin > at)
            TRY(split_at(w, level + 1, from + at, from + begin));
        TRY(split_at(w, level + 1, from + begin, from + end));
        at = end;
    }
    return TMB_OK;
}

static tmb_status split_bytes(tmb_encoder *e, const uint8_t *text, size_t n)
{
    size_t chars;
    if (e->t->add_prefix_space && *text != ' ') {
        e->piece.n = 0;
        TRY(tmb_buf_add(&e->piece, " ", 1, e->err));
        TRY(tmb_buf_add(&e->piece, text, n, e->err));
        text = e->piece.p;
        n = e->piece.n;
    }
    if (!e->t->n_splits) return tmb_bpe(e, text, n);
    TRY(kinds_of(e, text, n, &chars));
    walk w = {e, text, chars == n};
    return split_at(&w, 0, 0, chars);
}

/* --- SentencePiece style ---------------------------------------------------------------------- */

/* The next U+2581 from p on, or end. */
static const uint8_t *next_meta(const uint8_t *p, const uint8_t *end)
{
    const uint8_t *found = memmem(p, (size_t)(end - p), meta, sizeof meta);
    return found ? found : end;
}

/* Where no token holds U+2581 behind another character, no merge crosses such a place, and the
 * words on both sides can be merged alone: the same ids, and the cache of words works. */
static tmb_status split_words(tmb_encoder *e, const uint8_t *text, size_t n, bool each)
{
    const uint8_t *p = text, *end = text + n;
    while (p < end) {
        const uint8_t *q = p;
        if (each) {
            if (end - q >= 3 && memcmp(q, meta, 3) == 0) q += 3;
        } else {
            while (end - q >= 3 && memcmp(q, meta, 3) == 0)
                q += 3;
        }
        q = next_meta(q, end);
        TRY(tmb_bpe(e, p, (size_t)(q - p)));
        p = q;
    }
    return TMB_OK;
}

/* Metaspace: blanks to U+2581, one in front where the scheme wants it. */
static tmb_status metaspace(tmb_encoder *e, const uint8_t **text, size_t *n, bool first)
{
    const tmb_tokenizer *t = e->t;
    const uint8_t *p = *text, *end = p + *n;
    bool begins = *p == ' ' || (*n >= 3 && memcmp(p, meta, 3) == 0);
    e->piece.n = 0;
    if (!begins && (t->prefix == TMB_PREFIX_ALWAYS || (t->prefix == TMB_PREFIX_FIRST && first)))
        TRY(tmb_buf_add(&e->piece, meta, sizeof meta, e->err));
    while (p < end) {
        const uint8_t *blank = memchr(p, ' ', (size_t)(end - p));
        if (!blank) blank = end;
        TRY(tmb_buf_add(&e->piece, p, (size_t)(blank - p), e->err));
        if (blank < end) TRY(tmb_buf_add(&e->piece, meta, sizeof meta, e->err));
        p = blank + (blank < end);
    }
    *text = e->piece.p;
    *n = e->piece.n;
    return TMB_OK;
}

tmb_status tmb_split(tmb_encoder *e, const uint8_t *text, size_t n, bool first)
{
    const tmb_tokenizer *t = e->t;
    if (!n) return TMB_OK;
    if (t->byte_level) return split_bytes(e, text, n);
    if (t->metaspace) TRY(metaspace(e, &text, &n, first));
    if (t->metaspace && t->metaspace_split) return split_words(e, text, n, true);
    return t->cut_at_space ? split_words(e, text, n, false) : tmb_bpe(e, text, n);
}
