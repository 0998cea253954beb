/* added.c - the tokens on top of the vocabulary: which id each has, and where one stands in a text.
 *
 * Ids are dealt as the reference deals them when it reads the file, which is not always what the
 * file says: a token that the vocabulary has keeps that id, any other gets the next free one. */
#include "config.h"
#include "moe/tokens/internal.h"

#include "moe/io/names.h"
#include "moe/io/scan.h"
#include "moe/tokens/ucd.h"
#include "moe/tokens/utf8.h"

enum { ADDED_BYTES_MAX = 4096 };

/* --- the tree ------------------------------------------------------------------------------- */

static tmb_status new_node(tmb_trie *t, uint32_t *at, uint8_t byte, tmb_err *err)
{
    tmb_trie_node *moved = tmb_grown(t->nodes, t->n, &t->room, sizeof *moved);
    if (!moved || t->n >= UINT32_MAX)
        return tmb_fail_memory(err, t->n * sizeof *moved, "added tokens");
    t->nodes = moved;
    t->nodes[t->n] = (tmb_trie_node){.byte = byte};
    *at = (uint32_t)t->n++;
    return TMB_OK;
}

static uint32_t child_of(const tmb_trie *t, uint32_t node, uint8_t byte)
{
    if (!node) return t->first[byte];
    for (uint32_t c = t->nodes[node].child; c; c = t->nodes[c].next)
        if (t->nodes[c].byte == byte) return c;
    return 0;
}

/* *twin: another token has this text already. */
static tmb_status insert(tmb_trie *t, const char *text, size_t n, uint32_t added, bool *twin,
                         tmb_err *err)
{
    uint32_t node = 0, made;
    if (!t->n) TRY(new_node(t, &made, 0, err)); /* the root */
    for (size_t i = 0; i < n; i++) {
        uint8_t byte = (uint8_t)text[i];
        uint32_t child = child_of(t, node, byte);
        if (!child) {
            TRY(new_node(t, &child, byte, err));
            if (!node) {
                t->first[byte] = child;
            } else {
                t->nodes[child].next = t->nodes[node].child;
                t->nodes[node].child = child;
            }
        }
        node = child;
    }
    *twin = t->nodes[node].added != 0;
    t->nodes[node].added = added + 1;
    return TMB_OK;
}

/* The longest token that text [n] begins with. */
static const tmb_added *longest(const tmb_tokenizer *t, const tmb_trie *trie, const uint8_t *text,
                                size_t n, size_t *bytes)
{
    uint32_t node = 0, added = 0;
    for (size_t i = 0; i < n; i++) {
        node = child_of(trie, node, text[i]);
        if (!node) break;
        if (!trie->nodes[node].added) continue;
        added = trie->nodes[node].added;
        *bytes = i + 1;
    }
    return added ? &t->added[added - 1] : NULL;
}

const tmb_added *tmb_added_next(const tmb_tokenizer *t, const tmb_trie *trie, const uint8_t *text,
                                size_t n, size_t from, size_t *begin, size_t *end)
{
    for (size_t i = from; i < n; i++) {
        if (!trie->first[text[i]]) continue;
        size_t bytes = 0;
        const tmb_added *a = longest(t, trie, text + i, n - i, &bytes);
        if (!a) continue;
        *begin = i;
        *end = i + bytes;
        return a;
    }
    return NULL;
}

/* --- reading -------------------------------------------------------------------------------- */

static tmb_status bad(const tmb_tokenizer *t, size_t i, const char *what, tmb_err *err)
{
    return tmb_fail(err, TMB_EDATA,
                    "%s: added_tokens: entry %zu %s; correct it or fetch the file again", t->name,
                    i + 1, what);
}

/* *ok: the flag is there, or has a fallback (the reference wants all). */
static bool flag(const tmb_json *entry, const char *key, bool *out)
{
    const tmb_json *value = tmb_json_get(entry, key);
    bool yes = tmb_json_bool(value, true);
    *out = yes;
    return tmb_json_bool(value, false) == yes;
}

static tmb_status read_entry(tmb_tokenizer *t, const tmb_json *entry, size_t i, tmb_added *a,
                             tmb_err *err)
{
    int64_t id;
    const char *text = tmb_json_string(tmb_json_get(entry, "content"));
    if (!tmb_json_is_object(entry)) return bad(t, i, "is no object", err);
    if (!text) return bad(t, i, "has no content", err);
    if (!tmb_json_integer(tmb_json_get(entry, "id"), &id) || id < 0 || id > UINT32_MAX)
        return bad(t, i, "has no id", err);
    if (!flag(entry, "single_word", &a->single_word) || !flag(entry, "lstrip", &a->lstrip) ||
        !flag(entry, "rstrip", &a->rstrip) || !flag(entry, "normalized", &a->normalized) ||
        !flag(entry, "special", &a->special))
        return bad(t, i, "has not all of single_word, lstrip, rstrip, normalized, special", err);
    a->text_n = strlen(text);
    if (a->text_n > ADDED_BYTES_MAX) return bad(t, i, "is longer than 4096 bytes", err);
    a->text = strdup(text);
    return a->text ? TMB_OK : tmb_fail_memory(err, a->text_n, "added tokens");
}

/* What text the token is looked for as. */
static tmb_status normalize(tmb_tokenizer *t, tmb_added *a, tmb_err *err)
{
    tmb_buf room[2] = {{0}, {0}};
    const uint8_t *text = (const uint8_t *)a->text;
    size_t n = a->text_n;
    tmb_status status = TMB_OK;
    if (a->normalized) status = tmb_normalize(t, text, n, room, &text, &n, err);
    if (!status) {
        a->match = malloc(n + 1);
        if (a->match) {
            if (n) memcpy(a->match, text, n);
            a->match[n] = 0;
            a->match_n = n;
        } else {
            status = tmb_fail_memory(err, n, "added tokens");
        }
    }
    free(room[0].p);
    free(room[1].p);
    return status;
}

/* One more added token.  An id that is dealt twice is the later one's, and the earlier one matches
 * nothing: so in the reference, whose table is by id. */
static void own(tmb_tokenizer *t)
{
    uint32_t *owner = &t->owner[t->added[t->n_added].id];
    if (*owner) t->added[*owner - 1].replaced = true;
    *owner = (uint32_t)++t->n_added;
}

static tmb_status deal_id(tmb_tokenizer *t, tmb_added *a, tmb_names *names, uint32_t *next,
                          tmb_err *err)
{
    tmb_buf room = {0};
    uint32_t twin, at,
        known = tmb_names_find(names, t->added, sizeof *t->added, a->text, a->text_n);
    if (known != TMB_NAMES_NONE) {
        a->id = t->added[known].id;
        own(t);
        return TMB_OK;
    }
    a->id = tmb_vocab_spelled(&t->vocab, a->text, a->text_n, t->byte_level, &room, err);
    free(room.p);
    if (a->id == TMB_NO_ID) a->id = (*next)++;
    TRY(tmb_names_add(names, t->added, sizeof *t->added, t->n_added, t->n_added + 1, &twin, &at,
                      err));
    own(t);
    return TMB_OK;
}

static tmb_status read_all(tmb_tokenizer *t, const tmb_json *json, tmb_names *names, tmb_err *err)
{
    size_t n = tmb_json_size(json);
    uint32_t next = t->vocab.n_tokens;
    t->added = calloc(n ? n : 1, sizeof *t->added);
    t->n_owners = t->vocab.n_ids + n;
    t->owner = calloc(t->n_owners, sizeof *t->owner);
    if (!t->added || !t->owner) return tmb_fail_memory(err, n * sizeof *t->added, "added tokens");
    for (size_t i = 0; i < n; i++) {
        tmb_added *a = &t->added[t->n_added];
        TRY(read_entry(t, tmb_json_at(json, i), i, a, err));
        if (!a->text_n) { /* the reference leaves it out */
            free(a->text);
            memset(a, 0, sizeof *a);
            continue;
        }
        TRY(deal_id(t, a, names, &next, err));
        TRY(normalize(t, a, err));
        if (!a->match_n) return bad(t, i, "is empty once normalized", err);
        if (a->id >= t->n_ids) t->n_ids = a->id + 1;
    }
    return TMB_OK;
}

tmb_status tmb_added_read(tmb_tokenizer *t, const tmb_json *json, tmb_err *err)
{
    tmb_names names = {0};
    if (!json || tmb_json_is_null(json)) return TMB_OK;
    if (!tmb_json_is_array(json))
        return tmb_fail(err, TMB_EDATA, "%s: added_tokens is no array; fetch the file again",
                        t->name);
    tmb_status status = read_all(t, json, &names, err);
    tmb_names_free(&names);
    for (size_t i = 0; i < t->n_added && !status; i++) {
        const tmb_added *a = &t->added[i];
        bool twin = false;
        if (a->replaced) continue;
        status = insert(a->normalized ? &t->normal : &t->raw, a->match, a->match_n, (uint32_t)i,
                        &twin, err);
        if (!status && twin)
            status = tmb_fail(err, TMB_EDATA,
                              "%s: added_tokens: two tokens look like \"%s\" once normalized; "
                              "correct it or fetch the file again",
                              t->name, tmb_show(a->match).text);
    }
    return status;
}

void tmb_added_free(tmb_tokenizer *t)
{
    for (size_t i = 0; t->added && i < t->n_added; i++) {
        free(t->added[i].text);
        free(t->added[i].match);
    }
    free(t->added);
    free(t->owner);
    free(t->raw.nodes);
    free(t->normal.nodes);
}
