/* vocab.h - tokens by id and by text, and which pairs of them merge; internal to moe/tokens. */
#ifndef TMB_TOKENS_VOCAB_H
#define TMB_TOKENS_VOCAB_H

#include "kernels/base/err.h"
#include "moe/tokens/buf.h"

#define TMB_NO_ID UINT32_MAX

/* A token's text.  In a byte-level vocabulary it is the bytes that the token stands for; a token
 * whose spelling has characters outside of the byte alphabet cannot come from bytes: it is alien,
 * and keeps its spelling. */
typedef struct tmb_token {
    uint32_t at; /* in the pool */
    uint32_t n : 30;
    uint32_t alien : 1;
    uint32_t given : 1; /* 0: no token has this id */
} tmb_token;

typedef struct tmb_merge {
    uint64_t pair; /* left id << 32 | right id; UINT64_MAX: free */
    uint32_t rank, id;
} tmb_merge;

typedef struct tmb_vocab {
    tmb_buf pool;
    tmb_token *tokens; /* [n_ids] */
    uint32_t n_ids;    /* the highest id + 1 */
    uint32_t n_tokens;
    uint32_t *slots; /* id + 1, 0 is free; [room] */
    size_t room;     /* a power of two */
    tmb_merge *merges;
    size_t merge_room; /* a power of two; 0: none */
    uint64_t key;      /* random: no result depends on it */
} tmb_vocab;

/* What a file says, before it is checked. */
typedef struct tmb_raw_token {
    char *text;
    uint32_t n, id;
} tmb_raw_token;
typedef struct tmb_raw_merge {
    char *left, *right;
    uint32_t left_n, right_n;
} tmb_raw_merge;

/* From raw [n], whose texts are changed in place when byte_level.  TMB_EDATA: a text or an id
 * twice, an id out of all proportion. */
tmb_status tmb_vocab_build(tmb_vocab *v, tmb_raw_token *raw, size_t n, bool byte_level,
                           const char *file, tmb_err *err) TMB_CHECKED;
/* After the tokens.  A pair given twice has the later rank, as in the reference. */
tmb_status tmb_vocab_merges(tmb_vocab *v, tmb_raw_merge *raw, size_t n, bool byte_level,
                            const char *file, tmb_err *err) TMB_CHECKED;
void tmb_vocab_free(tmb_vocab *v);

/* The id of text [n], TMB_NO_ID when there is none. */
uint32_t tmb_vocab_find(const tmb_vocab *v, const void *text, size_t n, bool alien);
/* The same by the spelling in the file. */
uint32_t tmb_vocab_spelled(const tmb_vocab *v, const char *text, size_t n, bool byte_level,
                           tmb_buf *room, tmb_err *err);

/* Spelling to bytes in place, by GPT-2's alphabet; the new length, SIZE_MAX and nothing changed
 * when a character is not in the alphabet. */
size_t tmb_bytes_of(uint8_t *text, size_t n);

static inline uint64_t tmb_mix(uint64_t a, uint64_t b)
{
    __extension__ typedef unsigned __int128 wide;
    wide m = (wide)a * b;
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static inline uint64_t tmb_hash(const uint8_t *p, size_t n, uint64_t key)
{
    uint64_t h = key ^ n, w;
    for (; n >= 8; p += 8, n -= 8) {
        memcpy(&w, p, 8);
        h = tmb_mix(h ^ w, 0x9e3779b97f4a7c15u);
    }
    w = 0;
    memcpy(&w, p, n);
    return tmb_mix(h ^ w, key | 1);
}

/* NULL: the pair does not merge. */
static inline const tmb_merge *tmb_vocab_merge(const tmb_vocab *v, uint32_t left, uint32_t right)
{
    if (!v->merge_room) return NULL;
    uint64_t pair = (uint64_t)left << 32 | right;
    size_t i = (size_t)tmb_mix(pair ^ v->key, 0x9e3779b97f4a7c15u);
    for (;; i++) {
        const tmb_merge *m = &v->merges[i & (v->merge_room - 1)];
        if (m->pair == pair) return m;
        if (m->pair == UINT64_MAX) return NULL;
    }
}

#endif
