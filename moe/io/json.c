/* json.c - jansson under our names; nobody else includes it. */
#include "config.h"
#include "moe/io/json.h"

#include "moe/io/files.h"
#include "moe/io/json_internal.h"

#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* jansson's own sentences change with its version; its codes do not. */
static tmb_status fail_parse(tmb_err *err, const char *name, const json_error_t *e)
{
    const char *what = "is no JSON";
    switch (json_error_code(e)) {
    case json_error_out_of_memory:
        return tmb_fail_memory(err, 0, name);
    case json_error_stack_overflow:
        what = "values are nested too deep";
        break;
    case json_error_invalid_utf8:
        what = "bad UTF-8";
        break;
    case json_error_premature_end_of_input:
        what = "ends in the middle";
        break;
    case json_error_end_of_input_expected:
        what = "text after the last value";
        break;
    case json_error_null_byte_in_key:
    case json_error_null_character:
        what = "a NUL in a string";
        break;
    case json_error_duplicate_key:
        what = "a key stands twice";
        break;
    case json_error_numeric_overflow:
        what = "a number too large";
        break;
    default:
        break;
    }
    const char *near = strstr(e->text, "near '");
    size_t shown = near ? strlen(near += 6) : 0; /* and its closing quote */
    if (shown > 40) shown = 40;
    if (shown > 1)
        return tmb_fail(err, TMB_EDATA,
                        "%s: line %d: %s, near '%.*s'; correct it or fetch it again", name, e->line,
                        what, (int)shown - 1, near);
    return tmb_fail(err, TMB_EDATA, "%s: line %d: %s; correct it or fetch it again", name, e->line,
                    what);
}

/* When its buffer cannot grow, jansson 2.14 drops a character of a string and goes on, or blames
 * the text.  So its memory comes through take(), which remembers, for this thread, that there was
 * none. */
static bool *refused(void)
{
    static _Thread_local bool flag;
    return &flag;
}

static void *take(size_t n)
{
    void *p = malloc(n);
    if (!p) *refused() = true;
    return p;
}

/* What a program around this library gave jansson for its memory stays. */
static void watch_once(void)
{
    json_malloc_t get;
    json_free_t give;
    json_get_alloc_funcs(&get, &give);
    if (get == malloc && give == free) json_set_alloc_funcs(take, free);
}

static void watch_memory(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_once);
}

tmb_status tmb_json_parse(tmb_json **out, const char *text, size_t n, const char *name,
                          bool lenient, tmb_err *err)
{
    char *quoted = NULL;
    size_t flags = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY;
    if (lenient) TRY(tmb_json_quote_bare(&quoted, &n, text, n, name, err));
    if (quoted) flags |= JSON_ALLOW_NUL;
    json_error_t e;
    watch_memory();
    *refused() = false;
    json_t *json = json_loadb(quoted ? quoted : text, n, flags, &e);
    free(quoted);
    if (*refused()) {
        json_decref(json);
        return tmb_fail_memory(err, n, name);
    }
    if (!json) return fail_parse(err, name, &e);
    *out = json;
    return TMB_OK;
}

tmb_status tmb_json_load(tmb_json **out, int dirfd, const char *path, size_t max_bytes,
                         bool lenient, tmb_err *err)
{
    char *text;
    size_t n;
    TRY(tmb_file_load(&text, &n, dirfd, path, max_bytes, err));
    tmb_status status = tmb_json_parse(out, text, n, path, lenient, err);
    free(text);
    return status;
}

void tmb_json_free(tmb_json *json)
{
    json_decref(json);
}

const tmb_json *tmb_json_get(const tmb_json *object, const char *key)
{
    return json_object_get(object, key);
}

const tmb_json *tmb_json_path(const tmb_json *object, const char *dotted)
{
    for (;;) {
        size_t n = strcspn(dotted, ".");
        char key[256];
        if (n >= sizeof key) return NULL;
        memcpy(key, dotted, n);
        key[n] = 0;
        object = json_object_get(object, key);
        if (!object || !dotted[n]) return object;
        dotted += n + 1;
    }
}

const tmb_json *tmb_json_at(const tmb_json *array, size_t i)
{
    return json_array_get(array, i);
}

size_t tmb_json_size(const tmb_json *json)
{
    return json_is_array(json) ? json_array_size(json) : json_object_size(json);
}

const char *tmb_json_bytes(const tmb_json *json, size_t *n)
{
    *n = json_string_length(json);
    return json_string_value(json);
}

const char *tmb_json_bare(const tmb_json *json)
{
    size_t n = json_string_length(json);
    const char *text = json_string_value(json);
    return n > 1 && text[0] == 0 ? text + 1 : NULL;
}

const char *tmb_json_string(const tmb_json *json)
{
    return tmb_json_bare(json) ? NULL : json_string_value(json);
}

bool tmb_json_is_null(const tmb_json *json)
{
    return json_is_null(json);
}

bool tmb_json_is_object(const tmb_json *json)
{
    return json_is_object(json);
}

bool tmb_json_is_array(const tmb_json *json)
{
    return json_is_array(json);
}

bool tmb_json_integer(const tmb_json *json, int64_t *out)
{
    if (!json_is_integer(json)) return false;
    *out = json_integer_value(json);
    return true;
}

bool tmb_json_real(const tmb_json *json, double *out)
{
    if (!json_is_real(json)) return false;
    *out = json_real_value(json);
    return true;
}

bool tmb_json_number(const tmb_json *json, double *out)
{
    const char *bare = tmb_json_bare(json);
    if (!bare && !json_is_number(json)) return false;
    *out = bare ? strtod(bare, NULL) : json_number_value(json);
    return true;
}

bool tmb_json_is_true(const tmb_json *json)
{
    return json_is_true(json);
}

bool tmb_json_is_false(const tmb_json *json)
{
    return json_is_false(json);
}

bool tmb_json_bool(const tmb_json *json, bool fallback)
{
    return json_is_boolean(json) ? json_is_true(json) : fallback;
}

int64_t tmb_json_int_or(const tmb_json *object, const char *key, int64_t fallback)
{
    int64_t value = fallback;
    (void)tmb_json_integer(tmb_json_get(object, key), &value);
    return value;
}

bool tmb_json_next(const tmb_json *object, void **it, const char **key, const tmb_json **value)
{
    json_t *walked = (json_t *)(uintptr_t)object; /* jansson's iterators are not const-correct */
    if (!json_is_object(object)) return false;
    *it = *it ? json_object_iter_next(walked, *it) : json_object_iter(walked);
    if (!*it) return false;
    *key = json_object_iter_key(*it);
    *value = json_object_iter_value(*it);
    return true;
}

tmb_json *tmb_json_new_object(void)
{
    return json_object();
}

tmb_json *tmb_json_new_array(void)
{
    return json_array();
}

/* Byte by byte: the few strings that reach this are short. */
static json_t *repaired(const char *text)
{
    static const char replacement[] = "\xef\xbf\xbd";
    size_t n = strlen(text), w = 0;
    if (n > (SIZE_MAX - 1) / 3) return NULL;
    char *good = malloc(3 * n + 1);
    if (!good) return NULL;
    for (size_t i = 0; i < n;) {
        size_t length = 4;
        json_t *one = NULL;
        while (length > 0 && !one) {
            if (length <= n - i) one = json_stringn(text + i, length);
            if (!one) length--;
        }
        /* The longest prefix of up to four bytes that is whole characters. */
        memcpy(good + w, one ? text + i : replacement, one ? length : 3);
        w += one ? length : 3;
        i += one ? length : 1;
        json_decref(one);
    }
    json_t *json = json_stringn(good, w);
    free(good);
    return json;
}

tmb_json *tmb_json_new_string(const char *text)
{
    json_t *json = json_string(text);
    return json ? json : repaired(text);
}

tmb_json *tmb_json_new_integer(int64_t value)
{
    return json_integer(value);
}

tmb_json *tmb_json_new_number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

tmb_json *tmb_json_new_bool(bool value)
{
    return json_boolean(value);
}

tmb_json *tmb_json_new_null(void)
{
    return json_null();
}

tmb_json *tmb_json_copy(const tmb_json *json)
{
    return json_deep_copy(json);
}

bool tmb_json_set(tmb_json *object, const char *key, tmb_json *value)
{
    return json_object_set_new(object, key, value) == 0;
}

bool tmb_json_append(tmb_json *array, tmb_json *value)
{
    return json_array_append_new(array, value) == 0;
}

void tmb_json_remove(tmb_json *object, const char *key)
{
    json_object_del(object, key);
}
