/* emit.c - building the JSON of --json. */
#include "config.h"
#include "src/emit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void tmb_emit_open(tmb_emit *e)
{
    *e = (tmb_emit){.root = tmb_json_new_object()};
    e->failed = !e->root;
}

static void set(tmb_emit *e, tmb_json *object, const char *key, tmb_json *value)
{
    if (!object || !value) {
        tmb_json_free(value);
        e->failed = true;
    } else if (!tmb_json_set(object, key, value)) {
        e->failed = true;
    }
}

void tmb_emit_text(tmb_emit *e, tmb_json *object, const char *key, const char *text)
{
    set(e, object, key, text ? tmb_json_new_string(text) : tmb_json_new_null());
}

void tmb_emit_int(tmb_emit *e, tmb_json *object, const char *key, uint64_t value)
{
    set(e, object, key, tmb_json_new_integer((int64_t)value));
}

void tmb_emit_num(tmb_emit *e, tmb_json *object, const char *key, double value)
{
    set(e, object, key, tmb_json_new_number(value));
}

void tmb_emit_bool(tmb_emit *e, tmb_json *object, const char *key, bool value)
{
    set(e, object, key, tmb_json_new_bool(value));
}

/* tmb_json_set takes the value over, so a pointer kept from before it stays good. */
tmb_json *tmb_emit_object(tmb_emit *e, tmb_json *object, const char *key)
{
    tmb_json *value = tmb_json_new_object();
    set(e, object, key, value);
    return e->failed ? NULL : value;
}

tmb_json *tmb_emit_array(tmb_emit *e, tmb_json *object, const char *key)
{
    tmb_json *value = tmb_json_new_array();
    set(e, object, key, value);
    return e->failed ? NULL : value;
}

static void append(tmb_emit *e, tmb_json *array, tmb_json *value)
{
    if (!array || !value) {
        tmb_json_free(value);
        e->failed = true;
    } else if (!tmb_json_append(array, value)) {
        e->failed = true;
    }
}

tmb_json *tmb_emit_item(tmb_emit *e, tmb_json *array)
{
    tmb_json *value = tmb_json_new_object();
    append(e, array, value);
    return e->failed ? NULL : value;
}

void tmb_emit_append(tmb_emit *e, tmb_json *array, const char *const *texts, size_t n)
{
    for (size_t i = 0; i < n; i++)
        append(e, array, tmb_json_new_string(texts[i]));
}

tmb_status tmb_emit_print(tmb_emit *e, tmb_err *err)
{
    char *text = e->failed ? NULL : tmb_json_dump(e->root, 2);
    tmb_json_free(e->root);
    e->root = NULL;
    if (!text) return tmb_fail_memory(err, 0, "the JSON result");
    fputs(text, stdout);
    free(text);
    return TMB_OK;
}
