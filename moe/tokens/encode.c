/* encode.c - a text to ids: added tokens, normalizers, and what stands around it. */
#include "config.h"
#include "moe/tokens/internal.h"

#include "moe/tokens/ucd.h"
#include "moe/tokens/utf8.h"

tmb_status tmb_encoder_open(tmb_encoder **out, const tmb_tokenizer *tokenizer, tmb_err *err)
{
    tmb_encoder *e = calloc(1, sizeof *e);
    *out = NULL;
    if (!e) return tmb_fail_memory(err, sizeof *e, "an encoder");
    e->t = tokenizer;
    e->cache = calloc(TMB_CACHE_WORDS, sizeof *e->cache);
    tmb_status status =
        e->cache ? tmb_search_room_open(&e->room, err)
                 : tmb_fail_memory(err, TMB_CACHE_WORDS * sizeof *e->cache, "the cache of words");
    if (status)
        tmb_encoder_close(e);
    else
        *out = e;
    return status;
}

void tmb_encoder_close(tmb_encoder *e)
{
    if (!e) return;
    tmb_search_room_close(e->room);
    free(e->cache);
    free(e->normal[0].p);
    free(e->normal[1].p);
    free(e->piece.p);
    free(e->kinds.p);
    free(e->symbols);
    free(e->heap);
    free(e);
}

/* --- the edges of an added token ------------------------------------------------------------- */

static bool is_word(const tmb_tokenizer *t, uint32_t c)
{
    return tmb_ucd_props[t->ucd[c]].word;
}

/* Does the token at [begin, end) stand alone?  Only asked of a single_word one. */
static bool stands_alone(const tmb_tokenizer *t, const uint8_t *text, size_t n, size_t begin,
                         size_t end)
{
    const uint8_t *p;
    if (begin > 0) {
        p = tmb_utf8_before(text + begin);
        if (is_word(t, tmb_utf8_next(&p))) return false;
    }
    if (end < n) {
        p = text + end;
        if (is_word(t, tmb_utf8_next(&p))) return false;
    }
    return true;
}

/* The white space before text + at begins here. */
static size_t space_before(const tmb_tokenizer *t, const uint8_t *text, size_t at)
{
    while (at > 0) {
        const uint8_t *p = tmb_utf8_before(text + at), *q = p;
        if (!tmb_ucd_space(t->ucd, tmb_utf8_next(&q))) break;
        at = (size_t)(p - text);
    }
    return at;
}

/* The white space from text + at on ends here. */
static size_t space_behind(const tmb_tokenizer *t, const uint8_t *text, size_t n, size_t at)
{
    while (at < n) {
        const uint8_t *p = text + at;
        if (!tmb_ucd_space(t->ucd, tmb_utf8_next(&p))) break;
        at = (size_t)(p - text);
    }
    return at;
}

/* --- cutting at added tokens ------------------------------------------------------------------ */

typedef tmb_status (*piece_fn)(tmb_encoder *e, const uint8_t *text, size_t n, bool first);

static tmb_status put(tmb_encoder *e, uint32_t id)
{
    TRY(tmb_ids_room(e->out, 1, e->err));
    e->out->ids[e->out->n++] = (int32_t)id;
    return TMB_OK;
}

/* NOTE: the search goes on behind the token itself even where rstrip took blanks behind it, so a
 * token made of blanks is found in them once more: so does the reference. */
static tmb_status cut(tmb_encoder *e, const tmb_trie *trie, const uint8_t *text, size_t n,
                      bool first, piece_fn piece)
{
    const tmb_tokenizer *t = e->t;
    size_t done = 0, from = 0, begin, end;
    const tmb_added *a;
    while (trie->n && (a = tmb_added_next(t, trie, text, n, from, &begin, &end))) {
        from = end;
        if (a->single_word && !stands_alone(t, text, n, begin, end)) continue;
        if (a->lstrip) {
            begin = space_before(t, text, begin);
            if (begin < done) begin = done;
        }
        if (a->rstrip) end = space_behind(t, text, n, end);
        if (done < begin) TRY(piece(e, text + done, begin - done, first && done == 0));
        if (begin < end)
            TRY(put(e, a->id)); /* lstrip may have nothing left: so does the reference */
        done = end;
    }
    return done < n ? piece(e, text + done, n - done, first && done == 0) : TMB_OK;
}

static tmb_status raw_piece(tmb_encoder *e, const uint8_t *text, size_t n, bool first)
{
    TRY(tmb_normalize(e->t, text, n, e->normal, &text, &n, e->err));
    return cut(e, &e->t->normal, text, n, first, tmb_split);
}

tmb_status tmb_encode(tmb_encoder *e, const char *text, size_t n, bool special, const char *name,
                      tmb_ids *out, tmb_err *err)
{
    const tmb_tokenizer *t = e->t;
    const uint8_t *p = (const uint8_t *)text;
    if (n > TMB_TEXT_MAX)
        return tmb_fail(err, TMB_EDATA,
                        "%s: a text of %zu bytes, %u are possible; cut it into documents, one in a "
                        "line of a .jsonl file",
                        name, n, TMB_TEXT_MAX);
    size_t good = tmb_utf8_check(p, n);
    if (good < n)
        return tmb_fail(err, TMB_EDATA,
                        "%s: byte %zu (0x%02x) is not UTF-8; save the text as UTF-8", name, good,
                        p[good]);
    e->name = name;
    e->out = out;
    e->err = err;
    for (size_t i = 0; special && i < t->n_before; i++)
        TRY(put(e, t->before[i]));
    TRY(cut(e, &t->raw, p, n, true, raw_piece));
    for (size_t i = 0; special && i < t->n_behind; i++)
        TRY(put(e, t->behind[i]));
    return TMB_OK;
}
