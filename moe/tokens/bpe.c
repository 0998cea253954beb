/* bpe.c - a word to ids: the pair of the lowest rank merges first, the leftmost of equals.
 *
 * A short word is scanned for its best pair again and again; a long one has a heap, so that a
 * megabyte of one letter costs n log n.  Both give the same. */
#include "config.h"
#include "moe/tokens/internal.h"

#include "moe/tokens/utf8.h"

enum { SHORT_WORD = 48 };
#define WORD_MAX (16u << 20) /* symbols that take part in merges: 44 bytes each */

static tmb_status symbol_room(tmb_encoder *e, size_t n)
{
    if (n > WORD_MAX)
        return tmb_fail(e->err, TMB_EDATA,
                        "%s: %zu characters in a row that the tokenizer does not cut; give a text "
                        "that has words",
                        e->name, n);
    if (n <= e->symbol_room) return TMB_OK;
    size_t room = e->symbol_room ? e->symbol_room : 256;
    while (room < n)
        room *= 2;
    tmb_symbol *moved = realloc(e->symbols, room * sizeof *moved);
    if (!moved) return tmb_fail_memory(e->err, room * sizeof *moved, "a long word");
    e->symbols = moved;
    e->symbol_room = room;
    return TMB_OK;
}

/* --- symbols ------------------------------------------------------------------------------ */

/* A byte-level word: a symbol a byte.  Bytes that have no token are left out, as in the reference
 * without unk_token; with one, each becomes it (fused when the model says so). */
static size_t byte_symbols(const tmb_tokenizer *t, const uint8_t *word, size_t n, tmb_symbol *s)
{
    size_t w = 0;
    bool unk = false;
    for (size_t i = 0; i < n; i++) {
        uint32_t id = t->of_byte[word[i]];
        if (id == TMB_NO_ID) {
            if (!t->unk_token || (unk && t->fuse_unk)) continue;
            id = t->unk;
            unk = true;
        } else {
            unk = false;
        }
        s[w++].id = id;
    }
    return w;
}

static bool fallback(const tmb_tokenizer *t, const uint8_t *c, size_t n)
{
    if (!t->byte_fallback) return false;
    for (size_t i = 0; i < n; i++)
        if (t->of_byte[c[i]] == TMB_NO_ID) return false;
    return true;
}

/* A word of characters: a token each, else its bytes as <0xXX>, else unk_token.  NOTE: an unknown
 * character waits until the next known one, while bytes do not wait for it: so does the reference.
 */
static size_t char_symbols(const tmb_tokenizer *t, const uint8_t *word, size_t n, tmb_symbol *s)
{
    size_t w = 0, step;
    bool unk = false;
    for (size_t i = 0; i < n; i += step) {
        step = tmb_utf8_bytes(word[i]);
        uint32_t id = tmb_vocab_find(&t->vocab, word + i, step, false);
        if (id != TMB_NO_ID) {
            if (unk) s[w++].id = t->unk;
            unk = false;
            s[w++].id = id;
        } else if (fallback(t, word + i, step)) {
            for (size_t b = 0; b < step; b++)
                s[w++].id = t->of_byte[word[i + b]];
        } else if (t->unk_token) {
            if (unk && !t->fuse_unk) s[w++].id = t->unk;
            unk = true;
        }
    }
    if (unk) s[w++].id = t->unk;
    return w;
}

/* --- merging ------------------------------------------------------------------------------ */

static size_t merge_short(const tmb_vocab *v, tmb_symbol *s, size_t n)
{
    const tmb_merge *best[SHORT_WORD];
    for (size_t i = 0; i + 1 < n; i++)
        best[i] = tmb_vocab_merge(v, s[i].id, s[i + 1].id);
    while (n > 1) {
        size_t at = SIZE_MAX;
        for (size_t i = 0; i + 1 < n; i++)
            if (best[i] && (at == SIZE_MAX || best[i]->rank < best[at]->rank)) at = i;
        if (at == SIZE_MAX) break;
        s[at].id = best[at]->id;
        n--; /* and of the n - 1 pairs the one at `at` is gone */
        memmove(s + at + 1, s + at + 2, (n - at - 1) * sizeof *s);
        memmove(best + at, best + at + 1, (n - 1 - at) * sizeof *best);
        if (at > 0) best[at - 1] = tmb_vocab_merge(v, s[at - 1].id, s[at].id);
        if (at + 1 < n) best[at] = tmb_vocab_merge(v, s[at].id, s[at + 1].id);
    }
    return n;
}

static void sift_down(tmb_candidate *h, size_t n, size_t i)
{
    tmb_candidate c = h[i];
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && h[child + 1].order < h[child].order) child++;
        if (c.order <= h[child].order) break;
        h[i] = h[child];
    }
    h[i] = c;
}

static void sift_up(tmb_candidate *h, size_t i)
{
    tmb_candidate c = h[i];
    for (; i && h[(i - 1) / 2].order > c.order; i = (i - 1) / 2)
        h[i] = h[(i - 1) / 2];
    h[i] = c;
}

/* Put the pair at s[left] into the heap [*n] if it merges.  There is room: each merge takes one
 * candidate out and puts two in at most, and there are n - 1 merges. */
static void propose(const tmb_encoder *e, uint32_t left, size_t *n, bool sift)
{
    const tmb_symbol *s = e->symbols;
    const tmb_merge *m = tmb_vocab_merge(&e->t->vocab, s[left].id, s[s[left].next].id);
    if (!m) return;
    e->heap[*n] = (tmb_candidate){(uint64_t)m->rank << 32 | left, m->id};
    if (sift) sift_up(e->heap, *n);
    ++*n;
}

static tmb_status merge_long(tmb_encoder *e, size_t *count)
{
    size_t n = *count, heap = 0;
    tmb_symbol *s = e->symbols;
    if (2 * n > e->heap_room) {
        tmb_candidate *moved = realloc(e->heap, 2 * n * sizeof *moved);
        if (!moved) return tmb_fail_memory(e->err, 2 * n * sizeof *moved, "a long word");
        e->heap = moved;
        e->heap_room = 2 * n;
    }
    for (size_t i = 0; i < n; i++) {
        s[i].prev = i ? (uint32_t)i - 1 : UINT32_MAX;
        s[i].next = i + 1 < n ? (uint32_t)i + 1 : UINT32_MAX;
    }
    for (size_t i = 0; i + 1 < n; i++)
        propose(e, (uint32_t)i, &heap, false);
    for (size_t i = heap / 2; i-- > 0;)
        sift_down(e->heap, heap, i);
    while (heap) {
        tmb_candidate top = e->heap[0];
        e->heap[0] = e->heap[--heap];
        if (heap) sift_down(e->heap, heap, 0);
        uint32_t at = (uint32_t)top.order, right = s[at].next;
        if (s[at].id == TMB_NO_ID || right == UINT32_MAX) continue;
        const tmb_merge *m = tmb_vocab_merge(&e->t->vocab, s[at].id, s[right].id);
        if (!m || m->id != top.id) continue; /* one of the two has merged meanwhile */
        s[at].id = m->id;
        s[at].next = s[right].next;
        s[right].id = TMB_NO_ID;
        if (s[at].next != UINT32_MAX) s[s[at].next].prev = at;
        if (s[at].prev != UINT32_MAX) propose(e, s[at].prev, &heap, true);
        if (s[at].next != UINT32_MAX) propose(e, at, &heap, true);
    }
    size_t w = 0;
    for (size_t i = 0; i < n; i++)
        if (s[i].id != TMB_NO_ID) s[w++].id = s[i].id;
    *count = w;
    return TMB_OK;
}

/* --- a word --------------------------------------------------------------------------------- */

static tmb_status no_unk(const tmb_encoder *e)
{
    return tmb_fail(e->err, TMB_EDATA,
                    "%s: unk_token \"%.40s\" is wanted for a character of %s and is not in the "
                    "vocabulary; fetch the tokenizer again",
                    e->t->name, e->t->unk_token, e->name);
}

static tmb_status compute(tmb_encoder *e, const uint8_t *word, size_t n)
{
    const tmb_tokenizer *t = e->t;
    if (t->ignore_merges) {
        uint32_t whole = tmb_vocab_find(&t->vocab, word, n, false);
        if (whole != TMB_NO_ID) {
            TRY(tmb_ids_room(e->out, 1, e->err));
            e->out->ids[e->out->n++] = (int32_t)whole;
            return TMB_OK;
        }
    }
    TRY(symbol_room(e, n));
    size_t count =
        t->byte_level ? byte_symbols(t, word, n, e->symbols) : char_symbols(t, word, n, e->symbols);
    if (t->unk_token && t->unk == TMB_NO_ID)
        for (size_t i = 0; i < count; i++)
            if (e->symbols[i].id == TMB_NO_ID) return no_unk(e);
    if (t->vocab.merge_room) {
        if (count <= SHORT_WORD)
            count = merge_short(&t->vocab, e->symbols, count);
        else
            TRY(merge_long(e, &count));
    }
    TRY(tmb_ids_room(e->out, count, e->err));
    for (size_t i = 0; i < count; i++)
        e->out->ids[e->out->n++] = (int32_t)e->symbols[i].id;
    return TMB_OK;
}

/* Where nothing merges a byte is a token, however long the text. */
static tmb_status plain_bytes(tmb_encoder *e, const uint8_t *word, size_t n)
{
    TRY(tmb_ids_room(e->out, n, e->err));
    for (size_t i = 0; i < n; i++)
        e->out->ids[e->out->n++] = (int32_t)e->t->of_byte[word[i]];
    return TMB_OK;
}

tmb_status tmb_bpe(tmb_encoder *e, const uint8_t *word, size_t n)
{
    if (e->t->plain_bytes) return plain_bytes(e, word, n);
    if (n > TMB_CACHE_TEXT) return compute(e, word, n);
    uint64_t hash = tmb_hash(word, n, e->t->vocab.key);
    tmb_cached *c = &e->cache[hash % TMB_CACHE_WORDS];
    if (c->hash != hash || c->length != n || memcmp(c->text, word, n) != 0) {
        size_t from = e->out->n;
        TRY(compute(e, word, n));
        size_t count = e->out->n - from;
        if (count > TMB_CACHE_IDS) return TMB_OK;
        c->hash = hash;
        c->length = (uint8_t)n;
        c->n = (uint8_t)count;
        memcpy(c->text, word, n);
        if (count) memcpy(c->ids, e->out->ids + from, count * sizeof *c->ids);
        return TMB_OK;
    }
    TRY(tmb_ids_room(e->out, TMB_CACHE_IDS, e->err));
    memcpy(e->out->ids + e->out->n, c->ids, sizeof c->ids);
    e->out->n += c->n;
    return TMB_OK;
}
