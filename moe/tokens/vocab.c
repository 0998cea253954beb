/* vocab.c - the two tables of a BPE model. */
#include "config.h"
#include "moe/tokens/vocab.h"

#include "moe/io/names.h"
#include "moe/tokens/utf8.h"

#include <sys/random.h>

/* An id may be this far over the number of tokens: files leave gaps, hostile ones leave oceans. */
enum { GAPS = 8, GAPS_MORE = 1 << 16 };

size_t tmb_bytes_of(uint8_t *text, size_t n)
{
    const uint8_t *end = text + n;
    for (const uint8_t *p = text; p < end;) {
        uint32_t c = tmb_utf8_next(&p);
        if (c <= ' ' || (c >= 0x7f && c <= 0xa0) || c == 0xad || c > 0x143) return SIZE_MAX;
    }
    uint8_t *w = text;
    for (const uint8_t *p = text; p < end;) {
        uint32_t c = tmb_utf8_next(&p);
        if (c >= 0x100) { /* the bytes that are no printable Latin-1, in their order */
            c -= 0x100;
            c = c <= ' ' ? c : c < 67 ? 0x7f + c - 33 : 0xad;
        }
        *w++ = (uint8_t)c;
    }
    return (size_t)(w - text);
}

static size_t room_for(size_t n)
{
    size_t room = 64;
    while (room < 2 * n)
        room *= 2;
    return room;
}

/* The slot of text, or the free one where it would go. */
static uint32_t *slot_of(const tmb_vocab *v, const uint8_t *text, size_t n, bool alien)
{
    size_t i = (size_t)tmb_hash(text, n, v->key);
    for (;; i++) {
        uint32_t *slot = &v->slots[i & (v->room - 1)];
        if (!*slot) return slot;
        const tmb_token *t = &v->tokens[*slot - 1];
        if (t->n == n && t->alien == alien && memcmp(v->pool.p + t->at, text, n) == 0) return slot;
    }
}

uint32_t tmb_vocab_find(const tmb_vocab *v, const void *text, size_t n, bool alien)
{
    return v->room ? *slot_of(v, text, n, alien) - 1u : TMB_NO_ID;
}

uint32_t tmb_vocab_spelled(const tmb_vocab *v, const char *text, size_t n, bool byte_level,
                           tmb_buf *room, tmb_err *err)
{
    if (!byte_level) return tmb_vocab_find(v, text, n, false);
    room->n = 0;
    if (tmb_buf_room(room, n + 1, err) || tmb_buf_add(room, text, n, err)) return TMB_NO_ID;
    size_t bytes = tmb_bytes_of(room->p, n);
    return bytes == SIZE_MAX ? tmb_vocab_find(v, text, n, true)
                             : tmb_vocab_find(v, room->p, bytes, false);
}

tmb_status tmb_vocab_build(tmb_vocab *v, tmb_raw_token *raw, size_t n, bool byte_level,
                           const char *file, tmb_err *err)
{
    size_t limit = n * GAPS + GAPS_MORE, bytes = 0;
    if (getrandom(&v->key, sizeof v->key, 0) != sizeof v->key) v->key = 0x243f6a8885a308d3u;
    for (size_t i = 0; i < n; i++) {
        if (raw[i].id >= limit)
            return tmb_fail(err, TMB_EDATA,
                            "%s: token \"%s\" has id %u among %zu tokens; correct it or fetch the "
                            "file again",
                            file, tmb_show(raw[i].text).text, raw[i].id, n);
        if (raw[i].id >= v->n_ids) v->n_ids = raw[i].id + 1;
        bytes += raw[i].n;
    }
    v->n_tokens = (uint32_t)n;
    v->room = room_for(n);
    v->tokens = calloc(v->n_ids + 1u, sizeof *v->tokens);
    v->slots = calloc(v->room, sizeof *v->slots);
    if (!v->tokens || !v->slots)
        return tmb_fail_memory(err, v->n_ids * sizeof *v->tokens, "a vocabulary");
    TRY(tmb_buf_room(&v->pool, bytes + 1, err)); /* it is somewhere also when all are empty */
    for (size_t i = 0; i < n; i++) {
        size_t length = byte_level ? tmb_bytes_of((uint8_t *)raw[i].text, raw[i].n) : raw[i].n;
        bool alien = length == SIZE_MAX;
        if (alien) length = raw[i].n;
        tmb_token *t = &v->tokens[raw[i].id];
        const char *again =
            t->given ? "two tokens have id" : "a token stands twice, the second with id";
        uint32_t *slot = slot_of(v, (uint8_t *)raw[i].text, length, alien);
        if (t->given || *slot)
            return tmb_fail(err, TMB_EDATA,
                            "%s: model.vocab: %s %u; correct it or fetch the file again", file,
                            again, raw[i].id);
        *t = (tmb_token){(uint32_t)v->pool.n, (uint32_t)length & 0x3fffffffu, alien, true};
        memcpy(v->pool.p + v->pool.n, raw[i].text, length);
        v->pool.n += length;
        *slot = raw[i].id + 1;
    }
    return TMB_OK;
}

static tmb_status no_token(const char *file, size_t i, const char *what, tmb_err *err)
{
    return tmb_fail(
        err, TMB_EDATA,
        "%s: model.merges: %s of merge %zu is not in the vocabulary; correct it or fetch "
        "the file again",
        file, what, i + 1);
}

/* Both sides to bytes; false when one has no bytes: such a merge never happens. */
static bool to_bytes(tmb_raw_merge *m)
{
    size_t left = tmb_bytes_of((uint8_t *)m->left, m->left_n);
    size_t right = left == SIZE_MAX ? left : tmb_bytes_of((uint8_t *)m->right, m->right_n);
    if (right == SIZE_MAX) return false;
    m->left_n = (uint32_t)left;
    m->right_n = (uint32_t)right;
    return true;
}

static void insert(tmb_vocab *v, uint64_t pair, uint32_t rank, uint32_t id)
{
    size_t i = (size_t)tmb_mix(pair ^ v->key, 0x9e3779b97f4a7c15u);
    while (v->merges[i & (v->merge_room - 1)].pair != UINT64_MAX &&
           v->merges[i & (v->merge_room - 1)].pair != pair)
        i++;
    v->merges[i & (v->merge_room - 1)] = (tmb_merge){pair, rank, id};
}

tmb_status tmb_vocab_merges(tmb_vocab *v, tmb_raw_merge *raw, size_t n, bool byte_level,
                            const char *file, tmb_err *err)
{
    tmb_buf both = {0};
    tmb_status status = TMB_OK;
    if (!n) return TMB_OK;
    v->merge_room = room_for(n);
    v->merges = malloc(v->merge_room * sizeof *v->merges);
    if (!v->merges) return tmb_fail_memory(err, v->merge_room * sizeof *v->merges, "merges");
    memset(v->merges, 0xff, v->merge_room * sizeof *v->merges);
    for (size_t i = 0; i < n && !status; i++) {
        tmb_raw_merge *m = &raw[i];
        if (byte_level && !to_bytes(m)) continue;
        uint32_t left = tmb_vocab_find(v, m->left, m->left_n, false);
        uint32_t right = tmb_vocab_find(v, m->right, m->right_n, false);
        both.n = 0;
        status = tmb_buf_add(&both, m->left, m->left_n, err);
        if (!status) status = tmb_buf_add(&both, m->right, m->right_n, err);
        if (status) break;
        uint32_t id = tmb_vocab_find(v, both.p, both.n, false);
        if (!m->left_n || !m->right_n || left == TMB_NO_ID)
            status = no_token(file, i, "the left side", err);
        else if (right == TMB_NO_ID)
            status = no_token(file, i, "the right side", err);
        else if (id == TMB_NO_ID)
            status = no_token(file, i, "the result", err);
        else
            insert(v, (uint64_t)left << 32 | right, (uint32_t)i, id);
    }
    free(both.p);
    return status;
}

void tmb_vocab_free(tmb_vocab *v)
{
    free(v->pool.p);
    free(v->tokens);
    free(v->slots);
    free(v->merges);
    memset(v, 0, sizeof *v);
}
