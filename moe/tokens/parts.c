/* parts.c - the small components of a tokenizer.json: which are known, and what they say.
 *
 * Refusing is the point: a component that is not known is named, with what to do instead, and
 * nothing is ever guessed from one that looks alike. */
#include "config.h"
#include "moe/tokens/internal.h"

#include "moe/io/names.h"
#include "moe/tokens/patterns.h"

#include <stdio.h>

#define INSTEAD "give token ids in place of text (input_ids), made by the model's own tokenizer"

static tmb_status unknown(const tmb_tokenizer *t, const char *part, const char *what,
                          const char *name, tmb_err *err)
{
    return tmb_fail(err, TMB_EDATA, "%s: %s: %s \"%s\" is not known; " INSTEAD, t->name, part, what,
                    tmb_show(name ? name : "").text);
}

static tmb_status wrong(const tmb_tokenizer *t, const char *part, const char *what, tmb_err *err)
{
    return tmb_fail(err, TMB_EDATA, "%s: %s: %s; correct it or fetch the file again", t->name, part,
                    what);
}

static const char *type_of(const tmb_json *json)
{
    const char *type = tmb_json_string(tmb_json_get(json, "type"));
    return type ? type : "";
}

static bool is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

static bool absent(const tmb_json *json)
{
    return !json || tmb_json_is_null(json);
}

/* --- normalizers ------------------------------------------------------------------------------ */

static tmb_status keep(char **out, size_t *n, const char *text, tmb_err *err)
{
    *out = strdup(text);
    *n = strlen(text);
    return *out ? TMB_OK : tmb_fail_memory(err, *n, "a normalizer");
}

static tmb_status one_normalizer(tmb_tokenizer *t, const tmb_json *json, tmb_err *err)
{
    const char *type = type_of(json);
    if (t->n_steps == TMB_STEPS_MAX)
        return wrong(t, "normalizer", "more than 8 in a sequence", err);
    tmb_step *s = &t->steps[t->n_steps];
    if (is(type, "NFC")) {
        s->kind = TMB_STEP_NFC;
    } else if (is(type, "Prepend")) {
        const char *text = tmb_json_string(tmb_json_get(json, "prepend"));
        if (!text) return wrong(t, "normalizer", "Prepend without its text", err);
        s->kind = TMB_STEP_PREPEND;
        t->n_steps++;
        return keep(&s->to, &s->to_n, text, err);
    } else if (is(type, "Replace")) {
        const char *from = tmb_json_string(tmb_json_path(json, "pattern.String"));
        const char *to = tmb_json_string(tmb_json_get(json, "content"));
        const char *regex = tmb_json_string(tmb_json_path(json, "pattern.Regex"));
        if (regex) return unknown(t, "normalizer", "Replace with the pattern", regex, err);
        if (!from || !*from || !to)
            return wrong(t, "normalizer", "Replace without pattern or content", err);
        s->kind = TMB_STEP_REPLACE;
        t->n_steps++;
        TRY(keep(&s->from, &s->from_n, from, err));
        return keep(&s->to, &s->to_n, to, err);
    } else {
        return unknown(t, "normalizer", "the type", type, err);
    }
    t->n_steps++;
    return TMB_OK;
}

/* An element of a sequence may be a sequence: a file nests at most as deep as JSON is read. */
tmb_status tmb_parts_normalizer(tmb_tokenizer *t, const tmb_json *json, tmb_err *err)
{
    if (absent(json)) return TMB_OK;
    if (!is(type_of(json), "Sequence")) return one_normalizer(t, json, err);
    const tmb_json *list = tmb_json_get(json, "normalizers");
    if (!tmb_json_is_array(list))
        return wrong(t, "normalizer", "Sequence without normalizers", err);
    for (size_t i = 0; i < tmb_json_size(list); i++)
        TRY(tmb_parts_normalizer(t, tmb_json_at(list, i), err));
    return TMB_OK;
}

/* --- pre-tokenizers --------------------------------------------------------------------------- */

static tmb_status add_split(tmb_tokenizer *t, const char *regex, bool drop_gaps, tmb_err *err)
{
    char *pattern;
    if (t->n_splits == TMB_SPLITS_MAX)
        return wrong(t, "pre_tokenizer", "more than 8 splits in a sequence", err);
    TRY(tmb_pattern_translate(&pattern, regex, err));
    tmb_status status = tmb_search_open(&t->splits[t->n_splits], pattern, err);
    free(pattern);
    t->drop_gaps[t->n_splits] = drop_gaps;
    if (!status) t->n_splits++;
    return status;
}

/* What the tables show: "byte-level BPE, pattern llama-3". */
static tmb_status tell(tmb_tokenizer *t, const char *pattern, tmb_err *err)
{
    size_t n = strlen(pattern) + (t->about ? strlen(t->about) : 0) + 4;
    char *about = malloc(n);
    if (!about) return tmb_fail_memory(err, n, "a name");
    snprintf(about, n, "%s%s%s", t->about ? t->about : "", t->about ? ", " : "", pattern);
    free(t->about);
    t->about = about;
    return TMB_OK;
}

static tmb_status split(tmb_tokenizer *t, const tmb_json *json, tmb_err *err)
{
    const char *regex = tmb_json_string(tmb_json_path(json, "pattern.Regex"));
    const char *text = tmb_json_string(tmb_json_path(json, "pattern.String"));
    const char *behavior = tmb_json_string(tmb_json_get(json, "behavior"));
    bool invert = tmb_json_bool(tmb_json_get(json, "invert"), false);
    if (!regex && !text) return wrong(t, "pre_tokenizer", "Split without a pattern", err);
    if (!regex) return unknown(t, "pre_tokenizer", "Split at the text", text, err);
    if (!tmb_pattern_name(regex))
        return unknown(t, "pre_tokenizer", "Split with the pattern", regex, err);
    bool isolated = behavior && is(behavior, "Isolated") && !invert;
    bool removed = behavior && is(behavior, "Removed") && invert;
    if (!isolated && !removed)
        return unknown(t, "pre_tokenizer",
                       invert ? "inverted Split with the behavior" : "Split with the behavior",
                       behavior, err);
    TRY(tell(t, tmb_pattern_name(regex), err));
    return add_split(t, regex, removed, err);
}

static tmb_status digits(tmb_tokenizer *t, const tmb_json *json, tmb_err *err)
{
    bool each = tmb_json_bool(tmb_json_get(json, "individual_digits"), false);
    TRY(tell(t, each ? "digits" : "numbers", err));
    return add_split(t, each ? "\\p{N}" : "\\p{N}+", false, err);
}

static tmb_status byte_level(tmb_tokenizer *t, const tmb_json *json, tmb_err *err)
{
    const char *regex = NULL;
    t->byte_level = true;
    t->add_prefix_space = tmb_json_bool(tmb_json_get(json, "add_prefix_space"), true);
    if (t->add_prefix_space && t->n_splits)
        return unknown(t, "pre_tokenizer", "ByteLevel behind a Split with", "add_prefix_space",
                       err);
    if (!tmb_json_bool(tmb_json_get(json, "use_regex"), true)) return TMB_OK;
    const char *name = tmb_pattern_at(0, &regex); /* GPT-2's */
    TRY(tell(t, name, err));
    return add_split(t, regex, false, err);
}

static tmb_status metaspace(tmb_tokenizer *t, const tmb_json *json, tmb_err *err)
{
    const char *sign = tmb_json_string(tmb_json_get(json, "replacement"));
    const char *scheme = tmb_json_string(tmb_json_get(json, "prepend_scheme"));
    const tmb_json *space = tmb_json_get(json, "add_prefix_space");
    if (!sign || !is(sign, "\u2581"))
        return unknown(t, "pre_tokenizer", "Metaspace with the replacement", sign, err);
    if (!scheme) scheme = "always";
    if (!is(scheme, "always") && !is(scheme, "first") && !is(scheme, "never"))
        return unknown(t, "pre_tokenizer", "Metaspace with the prepend_scheme", scheme, err);
    t->metaspace = true;
    t->metaspace_split = tmb_json_bool(tmb_json_get(json, "split"), true);
    t->prefix = is(scheme, "always")  ? TMB_PREFIX_ALWAYS
                : is(scheme, "first") ? TMB_PREFIX_FIRST
                                      : TMB_PREFIX_NEVER;
    if (!tmb_json_bool(space, true) && t->prefix != TMB_PREFIX_NEVER)
        return wrong(t, "pre_tokenizer",
                     "add_prefix_space and prepend_scheme contradict each other", err);
    return tell(t, "metaspace", err);
}

tmb_status tmb_parts_pre_tokenizer(tmb_tokenizer *t, const tmb_json *json, tmb_err *err)
{
    if (absent(json)) return TMB_OK;
    const char *type = type_of(json);
    if (is(type, "Sequence")) {
        const tmb_json *list = tmb_json_get(json, "pretokenizers");
        if (!tmb_json_is_array(list))
            return wrong(t, "pre_tokenizer", "Sequence without pretokenizers", err);
        for (size_t i = 0; i < tmb_json_size(list); i++)
            TRY(tmb_parts_pre_tokenizer(t, tmb_json_at(list, i), err));
        return TMB_OK;
    }
    if (t->byte_level || t->metaspace)
        return unknown(t, "pre_tokenizer",
                       t->byte_level ? "behind ByteLevel the type" : "behind Metaspace the type",
                       type, err);
    if (is(type, "Split")) return split(t, json, err);
    if (is(type, "Digits")) return digits(t, json, err);
    if (is(type, "ByteLevel")) return byte_level(t, json, err);
    if (is(type, "Metaspace") && !t->n_splits) return metaspace(t, json, err);
    return unknown(t, "pre_tokenizer", "the type", type, err);
}

/* --- what stands around a text ------------------------------------------------------------------
 */

static tmb_status around(tmb_tokenizer *t, uint32_t *list, size_t *n, const tmb_json *id,
                         tmb_err *err)
{
    int64_t value;
    if (!tmb_json_integer(id, &value) || value < 0 || value >= INT32_MAX)
        return wrong(t, "post_processor", "a special token without an id", err);
    if (*n == TMB_AROUND_MAX)
        return wrong(t, "post_processor", "more than 16 special tokens at one side", err);
    list[(*n)++] = (uint32_t)value;
    return TMB_OK;
}

/* One element of a template's "single". */
static tmb_status template_piece(tmb_tokenizer *t, const tmb_json *json, const tmb_json *piece,
                                 uint32_t front[], size_t *n_front, uint32_t back[], size_t *n_back,
                                 bool *seen, tmb_err *err)
{
    const char *name = tmb_json_string(tmb_json_path(piece, "SpecialToken.id"));
    if (!name) {
        const char *which = tmb_json_string(tmb_json_path(piece, "Sequence.id"));
        if (!which || !is(which, "A") || *seen)
            return wrong(t, "post_processor", "a template that does not hold the text once", err);
        *seen = true;
        return TMB_OK;
    }
    const tmb_json *token = tmb_json_get(tmb_json_get(json, "special_tokens"), name);
    const tmb_json *ids = tmb_json_get(token, "ids");
    if (!tmb_json_is_array(ids))
        return wrong(t, "post_processor", "a template with a special token that it does not list",
                     err);
    for (size_t i = 0; i < tmb_json_size(ids); i++)
        TRY(around(t, *seen ? back : front, *seen ? n_back : n_front, tmb_json_at(ids, i), err));
    return TMB_OK;
}

/* A processor stands around those before it. */
static tmb_status surround(tmb_tokenizer *t, const uint32_t *front, size_t n_front,
                           const uint32_t *back, size_t n_back, tmb_err *err)
{
    if (t->n_before + n_front > TMB_AROUND_MAX || t->n_behind + n_back > TMB_AROUND_MAX)
        return wrong(t, "post_processor", "more than 16 special tokens at one side", err);
    memmove(t->before + n_front, t->before, t->n_before * sizeof *front);
    memcpy(t->before, front, n_front * sizeof *front);
    memcpy(t->behind + t->n_behind, back, n_back * sizeof *back);
    t->n_before += n_front;
    t->n_behind += n_back;
    return TMB_OK;
}

static tmb_status template(tmb_tokenizer *t, const tmb_json *json, tmb_err *err)
{
    uint32_t front[TMB_AROUND_MAX] = {0}, back[TMB_AROUND_MAX] = {0};
    size_t n_front = 0, n_back = 0;
    bool seen = false;
    const tmb_json *single = tmb_json_get(json, "single");
    if (!tmb_json_is_array(single))
        return wrong(t, "post_processor", "a template without 'single'", err);
    for (size_t i = 0; i < tmb_json_size(single); i++)
        TRY(template_piece(t, json, tmb_json_at(single, i), front, &n_front, back, &n_back, &seen,
                           err));
    if (!seen)
        return wrong(t, "post_processor", "a template that does not hold the text once", err);
    t->has_template = true;
    return surround(t, front, n_front, back, n_back, err);
}

/* RoBERTa's and BERT's: cls and sep as ["TOKEN", id]. */
static tmb_status cls_sep(tmb_tokenizer *t, const tmb_json *json, tmb_err *err)
{
    uint32_t front[TMB_AROUND_MAX], back[TMB_AROUND_MAX];
    size_t n_front = 0, n_back = 0;
    TRY(around(t, front, &n_front, tmb_json_at(tmb_json_get(json, "cls"), 1), err));
    TRY(around(t, back, &n_back, tmb_json_at(tmb_json_get(json, "sep"), 1), err));
    return surround(t, front, n_front, back, n_back, err);
}

tmb_status tmb_parts_processor(tmb_tokenizer *t, const tmb_json *json, tmb_err *err)
{
    if (absent(json)) return TMB_OK;
    const char *type = type_of(json);
    if (is(type, "ByteLevel")) return TMB_OK;     /* offsets alone */
    if (t->has_template && !is(type, "Sequence")) /* there the reference wraps each part of it */
        return unknown(t, "post_processor", "behind TemplateProcessing the type", type, err);
    if (is(type, "TemplateProcessing")) return template(t, json, err);
    if (is(type, "RobertaProcessing") || is(type, "BertProcessing")) return cls_sep(t, json, err);
    if (!is(type, "Sequence")) return unknown(t, "post_processor", "the type", type, err);
    const tmb_json *list = tmb_json_get(json, "processors");
    if (!tmb_json_is_array(list))
        return wrong(t, "post_processor", "Sequence without processors", err);
    for (size_t i = 0; i < tmb_json_size(list); i++)
        TRY(tmb_parts_processor(t, tmb_json_at(list, i), err));
    return TMB_OK;
}

/* --- back to text: what is not known is only an error once it is wanted
 * --------------------------- */

static bool piece_decoder(tmb_tokenizer *t, const tmb_json *json)
{
    const char *type = type_of(json);
    int64_t start, stop;
    if (is(type, "Replace")) {
        const char *from = tmb_json_string(tmb_json_path(json, "pattern.String"));
        const char *to = tmb_json_string(tmb_json_get(json, "content"));
        t->decode_space = from && to && is(from, "\u2581") && is(to, " ");
        return t->decode_space;
    }
    if (is(type, "ByteFallback")) return t->decode_fallback = true;
    if (is(type, "Fuse")) return true;
    if (!is(type, "Strip")) return false;
    const char *sign = tmb_json_string(tmb_json_get(json, "content"));
    if (!sign || !is(sign, " ") || !tmb_json_integer(tmb_json_get(json, "start"), &start) ||
        !tmb_json_integer(tmb_json_get(json, "stop"), &stop) || start < 0 || stop)
        return false;
    t->strip = (size_t)start;
    return true;
}

tmb_status tmb_parts_decoder(tmb_tokenizer *t, const tmb_json *json, tmb_err *err)
{
    static const char *const order[] = {"Replace", "ByteFallback", "Fuse", "Strip"};
    const char *type = type_of(json);
    t->decoder = TMB_DECODE_UNKNOWN;
    if (is(type, "ByteLevel")) t->decoder = TMB_DECODE_BYTES;
    if (is(type, "Metaspace")) {
        const char *sign = tmb_json_string(tmb_json_get(json, "replacement"));
        const char *scheme = tmb_json_string(tmb_json_get(json, "prepend_scheme"));
        if (sign && is(sign, "\u2581")) t->decoder = TMB_DECODE_METASPACE;
        t->decode_drop = (!scheme || !is(scheme, "never")) &&
                         tmb_json_bool(tmb_json_get(json, "add_prefix_space"), true);
    }
    const tmb_json *list = tmb_json_get(json, "decoders");
    size_t at = 0, i = 0;
    for (; is(type, "Sequence") && i < tmb_json_size(list); i++) {
        const char *name = type_of(tmb_json_at(list, i));
        while (at < 4 && !is(name, order[at]))
            at++;
        if (at++ >= 4 || !piece_decoder(t, tmb_json_at(list, i))) break;
    }
    if (i && i == tmb_json_size(list)) t->decoder = TMB_DECODE_PIECES;
    t->unknown_decoder = strdup(absent(json) ? "none" : type);
    return t->unknown_decoder ? TMB_OK : tmb_fail_memory(err, strlen(type), "a name");
}
