/* collect.c - which documents are read, and how they become sequences. */
#include "config.h"
#include "moe/tokens/collect.h"

#include "moe/io/scan.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct collector {
    tmb_collection *c;
    tmb_docs *docs;
    const tmb_data_options *o;
    tmb_data_source *s;
    tmb_random random;
    uint64_t quota; /* UINT64_MAX: all */
    uint64_t all;   /* ids of other sources */
    tmb_ids rest;   /* TMB_FIT_PACK: what earlier documents left, shorter than a sequence */
    tmb_err *err;
} collector;

/* --- one sequence
 * --------------------------------------------------------------------------------- */

/* Tokens [from, from + n) of what `rest` and the document at hand are together. */
static tmb_status take(collector *k, uint64_t from, uint32_t n)
{
    tmb_collection *c = k->c;
    if (k->all + c->ids.n + n > TMB_DATA_TOKENS_MAX)
        return tmb_fail(k->err, TMB_EDATA,
                        "%s: over %u token ids in all; ask for fewer samples or shorter ones",
                        k->docs->path, TMB_DATA_TOKENS_MAX);
    tmb_piece *moved = tmb_grown(c->pieces, c->n, &c->room, sizeof *moved);
    if (!moved) return tmb_fail_memory(k->err, c->room * 2 * sizeof *moved, "sequences");
    c->pieces = moved;
    TRY(tmb_ids_room(&c->ids, n, k->err));
    int32_t *out = c->ids.ids + c->ids.n;
    uint32_t left = from < k->rest.n ? (uint32_t)(k->rest.n - from) : 0;
    if (left > n) left = n;
    if (left) memcpy(out, k->rest.ids + from, left * sizeof *out);
    if (left < n)
        TRY(k->docs->read(k->docs, from + left - k->rest.n, n - left, out + left, k->err));
    c->pieces[c->n++] = (tmb_piece){c->ids.n, n};
    c->ids.n += n;
    k->s->tokens += n;
    return TMB_OK;
}

/* --- one document
 * --------------------------------------------------------------------------------- */

/* How many sequences n tokens are, and how long the last of them is. */
static uint64_t pieces_of(const collector *k, uint64_t n, uint32_t *last)
{
    uint32_t length = k->o->length;
    *last = length;
    if (!n) return 0;
    if (k->o->fit == TMB_FIT_PACK) return n / length;
    if (k->o->fit == TMB_FIT_WHOLE) {
        *last = length && n > length ? length : (uint32_t)n;
        return 1;
    }
    if (n % length) *last = (uint32_t)(n % length);
    return n / length + (n % length != 0);
}

/* What a packed document leaves behind the sequences it filled. */
static tmb_status keep_rest(collector *k, uint64_t n, uint64_t used)
{
    size_t old = k->rest.n, left = (size_t)(n - used);
    TRY(tmb_ids_room(&k->rest, left, k->err));
    if (used >= old) {
        k->rest.n = left;
        return k->docs->read(k->docs, used - old, left, k->rest.ids, k->err);
    }
    k->rest.n += (size_t)(n - old); /* too short to fill one: all of it waits */
    return k->docs->read(k->docs, 0, (size_t)(n - old), k->rest.ids + old, k->err);
}

/* Each of the pieces is taken with the chance that leaves exactly `wanted` taken (Knuth, The Art of
 * Computer Programming 2, algorithm 3.4.2S). */
static tmb_status take_some(collector *k, uint64_t pieces, uint32_t last, uint64_t wanted)
{
    bool whole = k->o->fit == TMB_FIT_WHOLE;
    for (uint64_t p = 0; p < pieces && wanted; p++) {
        if (wanted < pieces - p && tmb_random_below(&k->random, pieces - p) >= wanted) continue;
        wanted--;
        TRY(take(k, whole ? 0 : p * k->o->length, p + 1 == pieces ? last : k->o->length));
    }
    return TMB_OK;
}

static tmb_status add_document(collector *k, uint64_t i)
{
    uint64_t n, wanted = k->quota - k->c->n;
    uint32_t last, shortest = k->o->shortest ? k->o->shortest : 1;
    TRY(k->docs->open_doc(k->docs, i, &n, k->err));
    k->s->visited++;
    if (n > UINT32_MAX && k->o->fit == TMB_FIT_WHOLE && !k->o->length)
        return tmb_fail(k->err, TMB_EDATA, "%s: a document of %" PRIu64 " ids; cut it into several",
                        k->docs->path, n);
    n += k->rest.n;
    uint64_t pieces = pieces_of(k, n, &last);
    uint64_t used = pieces * k->o->length;
    if (pieces && last < shortest) pieces--, k->s->dropped++, last = k->o->length;
    if (!n) k->s->dropped++;
    TRY(take_some(k, pieces, last, wanted < pieces ? wanted : pieces));
    return k->o->fit == TMB_FIT_PACK && k->c->n < k->quota ? keep_rest(k, n, used) : TMB_OK;
}

/* --- a source
 * ------------------------------------------------------------------------------------- */

/* The order in which documents are visited: NULL for that of the file. */
static tmb_status visiting_order(collector *k, uint32_t **order)
{
    uint64_t n = k->docs->n;
    *order = NULL;
    if (k->quota == UINT64_MAX || n == 1) return TMB_OK;
    *order = malloc(n * sizeof **order);
    if (!*order) return tmb_fail_memory(k->err, n * sizeof **order, "the order of documents");
    for (uint64_t i = 0; i < n; i++)
        (*order)[i] = (uint32_t)i;
    for (uint64_t i = n - 1; i > 0; i--) {
        uint64_t j = tmb_random_below(&k->random, i + 1);
        uint32_t swap = (*order)[i];
        (*order)[i] = (*order)[j];
        (*order)[j] = swap;
    }
    return TMB_OK;
}

static void shuffle(collector *k)
{
    for (size_t i = k->c->n; i-- > 1;) {
        size_t j = (size_t)tmb_random_below(&k->random, i + 1);
        tmb_piece swap = k->c->pieces[i];
        k->c->pieces[i] = k->c->pieces[j];
        k->c->pieces[j] = swap;
    }
}

/* Nothing at all came of it: what to do about it. */
static tmb_status nothing(const collector *k)
{
    const tmb_data_options *o = k->o;
    uint64_t tokens = k->rest.n;
    if (o->fit == TMB_FIT_PACK && tokens)
        return tmb_fail(k->err, TMB_EDATA,
                        "%s: too short: %" PRIu64 " tokens in all, and a sequence has %" PRIu32
                        "; lower the length or give more text",
                        k->docs->path, tokens, o->length);
    return tmb_fail(k->err, TMB_EDATA,
                    "%s: no sequence of %" PRIu32 " tokens or more in %" PRIu64
                    " documents; give longer texts",
                    k->docs->path, o->shortest ? o->shortest : 1, k->docs->n);
}

tmb_status tmb_collect(tmb_collection *c, tmb_docs *docs, const tmb_data_options *o,
                       uint64_t stream, uint64_t quota, tmb_data_source *s, uint64_t all,
                       tmb_err *err)
{
    uint32_t *order;
    collector k = {.c = c,
                   .docs = docs,
                   .o = o,
                   .s = s,
                   .all = all,
                   .err = err,
                   .random = tmb_random_open(o->seed, stream),
                   .quota = quota ? quota : UINT64_MAX};
    s->documents = docs->n;
    tmb_status status = visiting_order(&k, &order);
    for (uint64_t i = 0; i < docs->n && c->n < k.quota && !status; i++)
        status = add_document(&k, order ? order[i] : i);
    if (!status && !c->n) status = nothing(&k);
    if (!status && quota) shuffle(&k);
    if (k.rest.n && c->n < k.quota) s->dropped++;
    s->sequences = c->n;
    free(order);
    free(k.rest.ids);
    return status;
}
