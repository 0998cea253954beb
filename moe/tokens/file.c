/* file.c - reading a tokenizer.json.
 *
 * Vocabulary and merges, hundreds of thousands of strings, are read in one pass with moe/io/scan.h:
 * the strings stay in the text.  The small components go through moe/io/json.h. */
#include "config.h"
#include "moe/tokens/internal.h"

#include "moe/io/names.h"
#include "moe/io/scan.h"
#include "moe/tokens/ucd.h"
#include "moe/tokens/utf8.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX_BYTES (128u << 20)
#define FILE_NAME      "tokenizer.json"

/* The values that are small, by key. */
typedef enum part { ADDED, NORMALIZER, PRE_TOKENIZER, PROCESSOR, DECODER, PARTS } part;
static const char *const part_names[PARTS] = {"added_tokens", "normalizer", "pre_tokenizer",
                                              "post_processor", "decoder"};

typedef struct reader {
    tmb_tokenizer *t;
    tmb_scan s;
    tmb_err *err;
    tmb_json *parts[PARTS];
    tmb_raw_token *tokens;
    size_t n_tokens, token_room;
    tmb_raw_merge *merges;
    size_t n_merges, merge_room;
    bool has_model, has_vocab, has_merges;
} reader;

static bool is(const char *a, size_t n, const char *b)
{
    return strlen(b) == n && memcmp(a, b, n) == 0;
}

/* --- a value as jansson's -----------------------------------------------------------------------
 */

/* The end of the value at the cursor, judged by its brackets and quotes alone: what stands between
 * is for the parser to check. */
static char *value_end(const tmb_scan *s)
{
    char *p = s->at;
    int depth = 0;
    for (bool quoted = false; p < s->end; p++) {
        if (quoted) {
            if (*p == '\\' && p + 1 < s->end)
                p++;
            else
                quoted = *p != '"';
        } else if (*p == '"') {
            quoted = true;
        } else if (*p == '{' || *p == '[') {
            depth++;
        } else if (*p == '}' || *p == ']' || *p == ',') {
            if (depth == 0) break;
            depth -= *p != ',';
        }
    }
    return p;
}

static tmb_status read_part(reader *r, const char *key, tmb_json **out)
{
    char where[TMB_ERR_BYTES];
    tmb_scan_space(&r->s);
    char *end = value_end(&r->s);
    if (*out) return tmb_scan_fail(&r->s, r->s.at, "a key stands twice");
    snprintf(where, sizeof where, "%s: %s", r->t->name, tmb_show(key).text); /* its lines count */
    TRY(tmb_json_parse(out, r->s.at, (size_t)(end - r->s.at), where, false, r->err));
    r->s.at = end;
    return TMB_OK;
}

/* --- the model ----------------------------------------------------------------------------------
 */

static tmb_status read_vocab(reader *r)
{
    tmb_scan *s = &r->s;
    if (r->has_vocab) return tmb_scan_fail(s, s->at, "'vocab' stands twice");
    r->has_vocab = true;
    TRY(tmb_scan_expect(s, '{', "'{' of the vocabulary"));
    if (tmb_scan_take(s, '}')) return TMB_OK;
    do {
        char *text;
        size_t n;
        uint64_t id;
        TRY(tmb_scan_string(s, &text, &n, "a token in double quotes"));
        TRY(tmb_scan_expect(s, ':', "':' after a token"));
        TRY(tmb_scan_u64(s, &id, "a token's id"));
        if (id >= INT32_MAX) return tmb_scan_fail(s, s->at, "an id over 2^31");
        tmb_raw_token *moved = tmb_grown(r->tokens, r->n_tokens, &r->token_room, sizeof *moved);
        if (!moved) return tmb_fail_memory(r->err, r->token_room * sizeof *moved, "a vocabulary");
        r->tokens = moved;
        r->tokens[r->n_tokens++] = (tmb_raw_token){text, (uint32_t)n, (uint32_t)id};
    } while (tmb_scan_take(s, ','));
    return tmb_scan_expect(s, '}', "',' or '}'");
}

/* "left right" or ["left", "right"]. */
static tmb_status read_merge(reader *r, tmb_raw_merge *m, bool *comment)
{
    tmb_scan *s = &r->s;
    char *text, *other;
    size_t n, n_other;
    *comment = false;
    if (tmb_scan_take(s, '[')) {
        TRY(tmb_scan_string(s, &text, &n, "the left side of a merge"));
        TRY(tmb_scan_expect(s, ',', "',' in a merge"));
        TRY(tmb_scan_string(s, &other, &n_other, "the right side of a merge"));
        *m = (tmb_raw_merge){text, other, (uint32_t)n, (uint32_t)n_other};
        return tmb_scan_expect(s, ']', "']' behind a merge of two");
    }
    TRY(tmb_scan_string(s, &text, &n, "a merge"));
    *comment = n >= 8 && memcmp(text, "#version", 8) == 0;
    char *blank = memchr(text, ' ', n);
    if (*comment) return TMB_OK;
    if (!blank || memchr(blank + 1, ' ', n - (size_t)(blank + 1 - text)))
        return tmb_scan_fail(s, s->at, "a merge that is not two tokens with one blank between");
    *m = (tmb_raw_merge){text, blank + 1, (uint32_t)(blank - text),
                         (uint32_t)(n - (size_t)(blank + 1 - text))};
    return TMB_OK;
}

static tmb_status read_merges(reader *r)
{
    tmb_scan *s = &r->s;
    if (r->has_merges) return tmb_scan_fail(s, s->at, "'merges' stands twice");
    r->has_merges = true;
    TRY(tmb_scan_expect(s, '[', "'[' of the merges"));
    if (tmb_scan_take(s, ']')) return TMB_OK;
    do {
        bool comment;
        tmb_raw_merge *moved = tmb_grown(r->merges, r->n_merges, &r->merge_room, sizeof *moved);
        if (!moved) return tmb_fail_memory(r->err, r->merge_room * sizeof *moved, "merges");
        r->merges = moved;
        TRY(read_merge(r, &r->merges[r->n_merges], &comment));
        r->n_merges += !comment;
    } while (tmb_scan_take(s, ','));
    return tmb_scan_expect(s, ']', "',' or ']'");
}

static tmb_status no_model(const reader *r, const char *what, const char *name)
{
    return tmb_fail(r->err, TMB_EDATA,
                    "%s: model: %s%s%s%s; give token ids in place of text (input_ids), made by the "
                    "model's own tokenizer",
                    r->t->name, what, *name ? " \"" : "", name, *name ? "\"" : "");
}

/* A small value of the model. */
static tmb_status model_value(reader *r, const char *key, size_t n, const tmb_json *value)
{
    tmb_tokenizer *t = r->t;
    const char *text = tmb_json_string(value);
    double number;
    if (is(key, n, "type") && (!text || strcmp(text, "BPE") != 0))
        return no_model(r, text ? "only BPE is known, not" : "a type that is no text",
                        text ? text : "");
    if (is(key, n, "dropout") &&
        (!tmb_json_number(value, &number) ? !tmb_json_is_null(value) : number != 0))
        return no_model(r, "dropout makes the ids random", "");
    if (is(key, n, "continuing_subword_prefix") && text && *text)
        return no_model(r, "continuing_subword_prefix is not known:", text);
    if (is(key, n, "end_of_word_suffix") && text && *text)
        return no_model(r, "end_of_word_suffix is not known:", text);
    if (is(key, n, "fuse_unk")) t->fuse_unk = tmb_json_bool(value, false);
    if (is(key, n, "byte_fallback")) t->byte_fallback = tmb_json_bool(value, false);
    if (is(key, n, "ignore_merges")) t->ignore_merges = tmb_json_bool(value, false);
    if (is(key, n, "unk_token") && text) {
        free(t->unk_token);
        t->unk_token = strdup(text);
        if (!t->unk_token) return tmb_fail_memory(r->err, strlen(text), "a tokenizer");
    }
    return TMB_OK;
}

static tmb_status read_model(reader *r)
{
    tmb_scan *s = &r->s;
    if (r->has_model) return tmb_scan_fail(s, s->at, "'model' stands twice");
    r->has_model = true;
    TRY(tmb_scan_expect(s, '{', "'{' of the model"));
    if (tmb_scan_take(s, '}')) return TMB_OK;
    do {
        char *key;
        size_t n;
        tmb_json *value = NULL;
        TRY(tmb_scan_string(s, &key, &n, "a key in double quotes"));
        TRY(tmb_scan_expect(s, ':', "':' after a key"));
        tmb_scan_space(s);
        if (is(key, n, "vocab") && s->at < s->end && *s->at == '[')
            return no_model(r, "only BPE is known, not one whose vocabulary is a list", "");
        if (is(key, n, "vocab")) {
            TRY(read_vocab(r));
        } else if (is(key, n, "merges")) {
            TRY(read_merges(r));
        } else {
            TRY(read_part(r, key, &value));
            tmb_status status = model_value(r, key, n, value);
            tmb_json_free(value);
            TRY(status);
        }
    } while (tmb_scan_take(s, ','));
    return tmb_scan_expect(s, '}', "',' or '}'");
}

static tmb_status read_file(reader *r)
{
    static const char pointer[] = "version https://git-lfs";
    tmb_scan *s = &r->s;
    if ((size_t)(s->end - s->at) >= strlen(pointer) && !memcmp(s->at, pointer, strlen(pointer)))
        return tmb_fail(r->err, TMB_EDATA,
                        "%s: a Git LFS pointer, not the file itself; fetch it with git lfs pull",
                        r->t->name);
    TRY(tmb_scan_expect(s, '{', "'{'"));
    if (!tmb_scan_take(s, '}')) {
        do {
            char *key;
            size_t n;
            TRY(tmb_scan_string(s, &key, &n, "a key in double quotes"));
            TRY(tmb_scan_expect(s, ':', "':' after a key"));
            int p = 0;
            while (p < PARTS && !is(key, n, part_names[p]))
                p++;
            if (is(key, n, "model"))
                TRY(read_model(r));
            else if (p < PARTS)
                TRY(read_part(r, key, &r->parts[p]));
            else
                TRY(tmb_scan_skip(s)); /* version; truncation and padding are the caller's */
        } while (tmb_scan_take(s, ','));
        TRY(tmb_scan_expect(s, '}', "',' or '}'"));
    }
    return tmb_scan_finish(s);
}

/* --- putting it together
 * -------------------------------------------------------------------------- */

/* The token of each byte: itself, or <0xXX>. */
static void find_bytes(tmb_tokenizer *t)
{
    bool all = true;
    for (unsigned b = 0; b < 256; b++) {
        char name[8];
        uint8_t byte = (uint8_t)b;
        snprintf(name, sizeof name, "<0x%02X>", b);
        t->of_byte[b] = t->byte_level ? tmb_vocab_find(&t->vocab, &byte, 1, false)
                                      : tmb_vocab_find(&t->vocab, name, 6, false);
        all &= t->of_byte[b] != TMB_NO_ID;
    }
    t->plain_bytes = all && t->byte_level && !t->vocab.merge_room && !t->ignore_merges;
}

/* May words be cut in front of U+2581?  Not when a merge makes a token that holds it behind another
 * character, when it could be unknown itself, or when unknown characters vanish, so that what
 * stands at both sides of them meets. */
static bool cuts_at_space(const tmb_tokenizer *t)
{
    static const char sign[] = "\xe2\x96\x81";
    bool kept = t->unk_token != NULL;
    for (int b = 0; t->byte_fallback && !kept; b++)
        if (b == 256)
            kept = true;
        else if (t->of_byte[b] == TMB_NO_ID)
            break;
    if (!kept) return false;
    if (t->ignore_merges || tmb_vocab_find(&t->vocab, sign, 3, false) == TMB_NO_ID) return false;
    for (size_t i = 0; i < t->vocab.merge_room; i++) {
        const tmb_merge *m = &t->vocab.merges[i];
        if (m->pair == UINT64_MAX) continue;
        const tmb_token *token = &t->vocab.tokens[m->id];
        const uint8_t *p = t->vocab.pool.p + token->at, *end = p + token->n;
        while (end - p >= 3 && memcmp(p, sign, 3) == 0)
            p += 3;
        if (memmem(p, (size_t)(end - p), sign, 3)) return false;
    }
    return true;
}

static tmb_status finish_about(tmb_tokenizer *t, tmb_err *err)
{
    const char *parts = t->about ? t->about : "no pattern";
    size_t n = strlen(parts) + 64;
    char *about = malloc(n);
    if (!about) return tmb_fail_memory(err, n, "a name");
    snprintf(about, n, "%s BPE, %s, %u ids", t->byte_level ? "byte-level" : "SentencePiece-style",
             parts, t->n_ids);
    free(t->about);
    t->about = about;
    return TMB_OK;
}

static tmb_status around_known(const tmb_tokenizer *t, tmb_err *err)
{
    for (size_t i = 0; i < t->n_before + t->n_behind; i++) {
        uint32_t id = i < t->n_before ? t->before[i] : t->behind[i - t->n_before];
        if (id >= t->n_ids)
            return tmb_fail(
                err, TMB_EDATA,
                "%s: post_processor: special token %u is over the highest id %u; correct "
                "it or fetch the file again",
                t->name, id, t->n_ids - 1);
    }
    return TMB_OK;
}

static tmb_status assemble(reader *r)
{
    tmb_tokenizer *t = r->t;
    tmb_err *err = r->err;
    if (!r->has_model || !r->has_vocab || !r->has_merges)
        return no_model(r,
                        r->has_model ? "only BPE is known, and this has no vocabulary with merges"
                                     : "there is none",
                        "");
    if (!r->n_tokens)
        return tmb_fail(err, TMB_EDATA, "%s: model.vocab is empty; fetch the file again", t->name);
    TRY(tmb_parts_normalizer(t, r->parts[NORMALIZER], err));
    TRY(tmb_parts_pre_tokenizer(t, r->parts[PRE_TOKENIZER], err));
    if (t->n_splits && !t->byte_level)
        return no_model(r, "a Split is known before ByteLevel alone", "");
    TRY(tmb_vocab_build(&t->vocab, r->tokens, r->n_tokens, t->byte_level, t->name, err));
    TRY(tmb_vocab_merges(&t->vocab, r->merges, r->n_merges, t->byte_level, t->name, err));
    t->n_ids = t->vocab.n_ids;
    find_bytes(t);
    for (int b = 0; t->byte_level && t->byte_fallback && b < 256; b++)
        if (t->of_byte[b] == TMB_NO_ID)
            return no_model(r, "byte_fallback is not known with ByteLevel", "");
    t->cut_at_space = !t->byte_level && cuts_at_space(t);
    if (t->unk_token) {
        tmb_buf room = {0};
        t->unk = tmb_vocab_spelled(&t->vocab, t->unk_token, strlen(t->unk_token), t->byte_level,
                                   &room, err);
        free(room.p);
    }
    TRY(tmb_added_read(t, r->parts[ADDED], err));
    TRY(tmb_parts_processor(t, r->parts[PROCESSOR], err));
    TRY(around_known(t, err));
    TRY(tmb_parts_decoder(t, r->parts[DECODER], err));
    return finish_about(t, err);
}

tmb_status tmb_tokenizer_parse(tmb_tokenizer **out, char *text, size_t n, const char *name,
                               tmb_err *err)
{
    tmb_tokenizer *t = calloc(1, sizeof *t);
    tmb_status status = TMB_OK;
    *out = NULL;
    if (t) {
        t->name = strdup(name);
        t->ucd = tmb_ucd_table();
        t->unk = TMB_NO_ID;
    }
    if (!t || !t->name || !t->ucd) status = tmb_fail_memory(err, n, "a tokenizer");
    if (!status) status = tmb_sha256(text, n, t->sha256, err);
    if (!status) {
        reader r = {.t = t, .err = err};
        r.s = (tmb_scan){.begin = text,
                         .at = text,
                         .end = text + n,
                         .file = t->name,
                         .remedy = "correct it or fetch the file again",
                         .err = err};
        status = read_file(&r);
        if (!status) status = assemble(&r);
        for (int p = 0; p < PARTS; p++)
            tmb_json_free(r.parts[p]);
        free(r.tokens);
        free(r.merges);
    }
    free(text);
    if (status)
        tmb_tokenizer_close(t);
    else
        *out = t;
    return status;
}

tmb_status tmb_tokenizer_load(tmb_tokenizer **out, const char *path, tmb_err *err)
{
    char *text, *inside = NULL;
    size_t n, room = strlen(path) + sizeof FILE_NAME + 2;
    struct stat st;
    *out = NULL;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        inside = malloc(room);
        if (!inside) return tmb_fail_memory(err, room, "a path");
        size_t length = strlen(path);
        snprintf(inside, room, "%s%s%s", path, length && path[length - 1] == '/' ? "" : "/",
                 FILE_NAME);
        if (access(inside, F_OK) != 0) {
            tmb_status status = tmb_fail(err, TMB_ENOINPUT,
                                         "%s: the folder has no " FILE_NAME
                                         "; give the file of the model, or token "
                                         "ids in place of text (input_ids)",
                                         path);
            free(inside);
            return status;
        }
        path = inside;
    }
    tmb_status status = tmb_file_load(&text, &n, AT_FDCWD, path, FILE_MAX_BYTES, err);
    if (!status) status = tmb_tokenizer_parse(out, text, n, path, err);
    free(inside);
    return status;
}

void tmb_tokenizer_close(tmb_tokenizer *t)
{
    if (!t) return;
    tmb_added_free(t);
    tmb_vocab_free(&t->vocab);
    for (size_t i = 0; i < t->n_steps; i++) {
        free(t->steps[i].from);
        free(t->steps[i].to);
    }
    for (size_t i = 0; i < t->n_splits; i++)
        tmb_search_close(t->splits[i]);
    free(t->unknown_decoder);
    free(t->unk_token);
    free(t->about);
    free(t->name);
    free(t->ucd);
    free(t);
}

uint32_t tmb_tokenizer_ids(const tmb_tokenizer *t)
{
    return t->n_ids;
}

uint32_t tmb_tokenizer_model_ids(const tmb_tokenizer *t)
{
    return t->vocab.n_ids;
}

const char *tmb_tokenizer_about(const tmb_tokenizer *t)
{
    return t->about;
}

const char *tmb_tokenizer_sha256(const tmb_tokenizer *t)
{
    return t->sha256;
}
