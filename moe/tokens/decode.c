/* decode.c - ids to text, as the decoder of the file says. */
#include "config.h"
#include "moe/tokens/internal.h"

#include "moe/tokens/utf8.h"

static const uint8_t meta[3] = {0xe2, 0x96, 0x81}, odd[3] = {0xef, 0xbf, 0xbd};

/* The added token with this id, NULL when it is one of the vocabulary. */
static const tmb_added *added_of(const tmb_tokenizer *t, uint32_t id)
{
    return id < t->n_owners && t->owner[id] ? &t->added[t->owner[id] - 1] : NULL;
}

/* Is a token of this text special?  The reference asks for the text, not the id. */
static bool special_text(const tmb_tokenizer *t, const uint8_t *text, size_t n)
{
    for (size_t i = 0; i < t->n_added; i++)
        if (t->added[i].special && t->added[i].text_n == n && !memcmp(t->added[i].text, text, n))
            return true;
    return false;
}

/* What a token adds to a byte-level text. */
static tmb_status add_bytes(const tmb_added *a, const uint8_t *text, size_t n, tmb_buf *out,
                            tmb_err *err)
{
    size_t from = out->n;
    TRY(tmb_buf_add(out, text, n, err));
    if (!a) return TMB_OK; /* the vocabulary holds bytes */
    size_t bytes = tmb_bytes_of(out->p + from, n);
    if (bytes != SIZE_MAX) out->n = from + bytes;
    return TMB_OK;
}

/* <0xXX> to its byte. */
static bool fallback_byte(const uint8_t *text, size_t n, uint8_t *byte)
{
    static const char digits[] = "0123456789abcdefABCDEF";
    if (n != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') return false;
    unsigned value = 0;
    for (int i = 3; i < 5; i++) {
        const char *d = text[i] ? strchr(digits, text[i]) : NULL;
        if (!d) return false;
        unsigned v = (unsigned)(d - digits);
        value = value << 4 | (v > 15 ? v - 6 : v);
    }
    *byte = (uint8_t)value;
    return true;
}

/* A run of fallback bytes: text when it is UTF-8, else a U+FFFD for each byte. */
static tmb_status flush(tmb_buf *run, tmb_buf *out, tmb_err *err)
{
    bool good = tmb_utf8_check(run->p, run->n) == run->n;
    if (good && run->n) TRY(tmb_buf_add(out, run->p, run->n, err));
    for (size_t i = 0; !good && i < run->n; i++)
        TRY(tmb_buf_add(out, odd, sizeof odd, err));
    run->n = 0;
    return TMB_OK;
}

/* text with U+2581 as a blank; drop: without it. */
static tmb_status add_spaced(const uint8_t *text, size_t n, bool blank, bool drop, tmb_buf *out,
                             tmb_err *err)
{
    for (size_t i = 0; i < n;) {
        if (blank && n - i >= 3 && memcmp(text + i, meta, 3) == 0) {
            if (!drop) TRY(tmb_buf_add(out, " ", 1, err));
            i += 3;
        } else {
            TRY(tmb_buf_add(out, text + i, 1, err));
            i++;
        }
    }
    return TMB_OK;
}

typedef struct decoding {
    const tmb_tokenizer *t;
    tmb_buf out, run;
    size_t n; /* tokens so far */
    bool skip_special;
    tmb_err *err;
} decoding;

static tmb_status add_token(decoding *d, uint32_t id)
{
    const tmb_tokenizer *t = d->t;
    const tmb_added *a = added_of(t, id);
    const tmb_token *token = id < t->vocab.n_ids ? &t->vocab.tokens[id] : NULL;
    if (!a && (!token || !token->given))
        return tmb_fail(d->err, TMB_EDATA,
                        "%s: there is no token %u; the ids are of another "
                        "tokenizer",
                        t->name, id);
    const uint8_t *text = a ? (const uint8_t *)a->match : t->vocab.pool.p + token->at;
    size_t n = a ? a->match_n : token->n;
    uint8_t byte;
    if (d->skip_special && a && special_text(t, text, n)) return TMB_OK;
    bool first = d->n++ == 0;
    if (t->decoder == TMB_DECODE_BYTES) return add_bytes(a, text, n, &d->out, d->err);
    if (t->decoder == TMB_DECODE_METASPACE)
        return add_spaced(text, n, true, first && t->decode_drop, &d->out, d->err);
    if (t->decode_fallback && fallback_byte(text, n, &byte))
        return tmb_buf_add(&d->run, &byte, 1, d->err);
    TRY(flush(&d->run, &d->out, d->err));
    return add_spaced(text, n, t->decode_space, false, &d->out, d->err);
}

/* What is no character becomes U+FFFD, one for each longest start of a character. */
static tmb_status mend(tmb_buf *b, tmb_err *err)
{
    tmb_buf out = {0};
    tmb_status status = TMB_OK;
    if (tmb_utf8_check(b->p, b->n) == b->n) return TMB_OK;
    for (size_t i = 0; i < b->n && !status;) {
        int whole;
        size_t step = tmb_utf8_subpart(b->p + i, b->n - i, &whole);
        status = tmb_buf_add(&out, whole ? b->p + i : odd, whole ? step : sizeof odd, err);
        i += step;
    }
    free(b->p);
    *b = out;
    return status;
}

tmb_status tmb_decode(const tmb_tokenizer *t, const int32_t *ids, size_t n, bool skip_special,
                      char **text, size_t *bytes, tmb_err *err)
{
    decoding d = {.t = t, .skip_special = skip_special, .err = err};
    *text = NULL;
    if (t->decoder == TMB_DECODE_UNKNOWN)
        return tmb_fail(err, TMB_EDATA, "%s: decoder \"%s\" is not known; decode elsewhere",
                        t->name, t->unknown_decoder);
    tmb_status status = TMB_OK;
    for (size_t i = 0; i < n && !status; i++)
        status = add_token(&d, (uint32_t)ids[i]);
    if (!status) status = flush(&d.run, &d.out, err);
    if (!status && t->decoder == TMB_DECODE_BYTES) status = mend(&d.out, err);
    size_t strip = 0;
    while (t->decoder == TMB_DECODE_PIECES && strip < t->strip && strip < d.out.n &&
           d.out.p[strip] == ' ')
        strip++;
    if (!status) status = tmb_buf_add(&d.out, "", 1, err);
    free(d.run.p);
    if (status) {
        free(d.out.p);
        return status;
    }
    memmove(d.out.p, d.out.p + strip, d.out.n - strip);
    *text = (char *)d.out.p;
    *bytes = d.out.n - strip - 1;
    return TMB_OK;
}
