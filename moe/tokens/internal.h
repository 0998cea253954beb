/* internal.h - what an open tokenizer is; internal to moe/tokens.
 *
 * The way of a text (encode.c): cut at the added tokens that match text as it stands (added.c);
 * each piece between them through the normalizers (normal.c); cut at the added tokens that match
 * normalized text; each piece between them through the pre-tokenizer to words (split.c); each word
 * through the model to ids (bpe.c). */
#ifndef TMB_TOKENS_INTERNAL_H
#define TMB_TOKENS_INTERNAL_H

#include "moe/io/files.h"
#include "moe/io/json.h"
#include "moe/io/match.h"
#include "moe/tokens/buf.h"
#include "moe/tokens/ids.h"
#include "moe/tokens/tokenizer.h"
#include "moe/tokens/vocab.h"

enum { TMB_STEPS_MAX = 8, TMB_SPLITS_MAX = 8, TMB_AROUND_MAX = 16 };
#define TMB_TEXT_MAX (256u << 20) /* bytes of one text */

typedef enum tmb_step_kind { TMB_STEP_NFC, TMB_STEP_PREPEND, TMB_STEP_REPLACE } tmb_step_kind;

/* One normalizer. */
typedef struct tmb_step {
    tmb_step_kind kind;
    char *from; /* what is replaced */
    char *to;   /* what replaces it, or is put in front */
    size_t from_n, to_n;
} tmb_step;

typedef enum tmb_prefix { TMB_PREFIX_NEVER, TMB_PREFIX_FIRST, TMB_PREFIX_ALWAYS } tmb_prefix;

/* One token on top of the vocabulary. */
typedef struct tmb_added {
    char *text;  /* as the file has it */
    char *match; /* normalized; equal to text when it is not normalized */
    size_t text_n, match_n;
    uint32_t id;
    bool single_word, lstrip, rstrip, normalized, special;
    bool replaced; /* a later entry has the same id: this one matches nothing */
} tmb_added;

/* A tree over bytes; children of a node are a list. */
typedef struct tmb_trie_node {
    uint32_t child, next; /* 0: none */
    uint32_t added;       /* index + 1 of the token that ends here, 0: none */
    uint8_t byte;
} tmb_trie_node;
typedef struct tmb_trie {
    tmb_trie_node *nodes; /* [n], the root first */
    size_t n, room;
    uint32_t first[256]; /* child of the root, 0: none */
} tmb_trie;

typedef enum tmb_decoder {
    TMB_DECODE_BYTES,     /* ByteLevel */
    TMB_DECODE_PIECES,    /* Replace, ByteFallback, Fuse, Strip */
    TMB_DECODE_METASPACE, /* Metaspace */
    TMB_DECODE_UNKNOWN,   /* unknown_decoder says which */
} tmb_decoder;

struct tmb_tokenizer {
    char *name; /* what messages call it */
    char *about;
    char sha256[TMB_SHA256_HEX];
    tmb_vocab vocab;
    uint8_t *ucd; /* ucd.h */
    uint32_t n_ids;

    /* the model */
    bool byte_level, byte_fallback, fuse_unk, ignore_merges;
    char *unk_token;       /* NULL: none */
    uint32_t unk;          /* TMB_NO_ID when unk_token is not in the vocabulary */
    uint32_t of_byte[256]; /* byte-level: the token of a byte; else of <0xXX>; TMB_NO_ID */
    bool plain_bytes;      /* byte-level, every byte has a token, and nothing merges */
    bool cut_at_space;     /* no token holds U+2581 behind another character */

    /* added tokens */
    tmb_added *added;
    size_t n_added;
    uint32_t *owner; /* [n_owners] by id: index + 1 of the added token that has it, 0: none */
    size_t n_owners;
    tmb_trie raw, normal; /* over text as it stands, and normalized */

    /* normalizers and pre-tokenizer */
    tmb_step steps[TMB_STEPS_MAX];
    size_t n_steps;
    tmb_search *splits[TMB_SPLITS_MAX]; /* in turn, each on the pieces of the one before */
    size_t n_splits;
    bool drop_gaps[TMB_SPLITS_MAX]; /* what a split does not match is no piece */
    bool add_prefix_space;          /* of ByteLevel */
    bool metaspace, metaspace_split;
    tmb_prefix prefix;

    /* what goes around a text */
    uint32_t before[TMB_AROUND_MAX], behind[TMB_AROUND_MAX];
    size_t n_before, n_behind;
    bool has_template; /* TemplateProcessing was read */

    /* back to text */
    tmb_decoder decoder;
    char *unknown_decoder;
    bool decode_drop;                   /* Metaspace: no blank from the first token's sign */
    bool decode_space, decode_fallback; /* Replace U+2581 by ' '; ByteFallback */
    size_t strip;                       /* blanks taken off the front */
};

/* parts.c: normalizer, pre_tokenizer, post_processor, decoder, from their JSON (NULL: not given).
 * What is not known is refused by name. */
tmb_status tmb_parts_normalizer(tmb_tokenizer *t, const tmb_json *json, tmb_err *err) TMB_CHECKED;
tmb_status tmb_parts_pre_tokenizer(tmb_tokenizer *t, const tmb_json *json,
                                   tmb_err *err) TMB_CHECKED;
tmb_status tmb_parts_processor(tmb_tokenizer *t, const tmb_json *json, tmb_err *err) TMB_CHECKED;
tmb_status tmb_parts_decoder(tmb_tokenizer *t, const tmb_json *json, tmb_err *err) TMB_CHECKED;

/* added.c */
tmb_status tmb_added_read(tmb_tokenizer *t, const tmb_json *json, tmb_err *err) TMB_CHECKED;
void tmb_added_free(tmb_tokenizer *t);
/* The first added token in text [n] from `from` on: leftmost, of these the longest.  NULL: none. */
const tmb_added *tmb_added_next(const tmb_tokenizer *t, const tmb_trie *trie, const uint8_t *text,
                                size_t n, size_t from, size_t *begin, size_t *end);

/* normal.c: text [n] through the normalizers; *out is text itself, or in one of the two buffers. */
tmb_status tmb_normalize(const tmb_tokenizer *t, const uint8_t *text, size_t n, tmb_buf room[2],
                         const uint8_t **out, size_t *out_n, tmb_err *err) TMB_CHECKED;

/* --- the scratch space of a thread --- */

enum { TMB_CACHE_WORDS = 1 << 15, TMB_CACHE_TEXT = 30, TMB_CACHE_IDS = 6 };
typedef struct tmb_cached {
    uint64_t hash;
    uint8_t length, n;
    uint8_t text[TMB_CACHE_TEXT];
    int32_t ids[TMB_CACHE_IDS];
} tmb_cached;

typedef struct tmb_symbol {
    uint32_t id, prev, next; /* UINT32_MAX: none; an id of TMB_NO_ID: merged away */
} tmb_symbol;
typedef struct tmb_candidate {
    uint64_t order; /* rank << 32 | position */
    uint32_t id;
} tmb_candidate;

struct tmb_encoder {
    const tmb_tokenizer *t;
    tmb_search_room *room;
    tmb_cached *cache; /* [TMB_CACHE_WORDS] */
    tmb_buf normal[2], piece, kinds;
    tmb_symbol *symbols;
    size_t symbol_room;
    tmb_candidate *heap;
    size_t heap_room;
    const char *name; /* of the text at hand, for messages */
    tmb_ids *out;
    tmb_err *err;
};

/* split.c: a piece without added tokens to words, these to ids.  first: it begins the text. */
tmb_status tmb_split(tmb_encoder *e, const uint8_t *text, size_t n, bool first) TMB_CHECKED;
/* bpe.c: the ids of one word, appended. */
tmb_status tmb_bpe(tmb_encoder *e, const uint8_t *word, size_t n) TMB_CHECKED;

#endif
