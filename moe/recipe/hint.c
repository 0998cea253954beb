/* hint.c - what a glob that matches nothing may have meant.
 *
 * Runs on the way to an error, so it may look at every name: the words of the glob that occur in
 * no module name are replaced by the nearest part of one; if the result matches, that is the
 * advice, else the name that shares most with the glob. */
#include "config.h"
#include "moe/io/match.h"
#include "moe/recipe/decide.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = 512, SET_SLOTS = 4096 };

/* A set of short texts: open addressing, full sets take no more (the advice stays good). */
typedef struct set {
    const char *slots[SET_SLOTS];
    const char **list; /* in order of arrival */
    size_t n;
    tmb_arena *arena;
} set;

static void set_add(set *s, const char *text, size_t n)
{
    uint64_t h = 1469598103934665603u; /* FNV-1a */
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)text[i]) * 1099511628211u;
    size_t at = (size_t)(h % SET_SLOTS);
    while (s->slots[at]) {
        if (strlen(s->slots[at]) == n && memcmp(s->slots[at], text, n) == 0) return;
        at = (at + 1) % SET_SLOTS;
    }
    if (s->n == SET_SLOTS / 2) return;
    const char *copy = tmb_arena_text(s->arena, text, n);
    if (!copy) return;
    s->slots[at] = copy;
    s->list[s->n++] = copy;
}

static bool word_char(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '-';
}

/* The name with every number that is a whole part written as '*'. */
static void shape_of(const char *name, char shape[NAME_BYTES])
{
    size_t n = 0;
    while (*name && n + 2 < NAME_BYTES) {
        size_t part = strcspn(name, ".");
        if (part && strspn(name, "0123456789") >= part) {
            shape[n++] = '*';
        } else {
            size_t take = part < NAME_BYTES - 2 - n ? part : NAME_BYTES - 2 - n;
            memcpy(shape + n, name, take);
            n += take;
        }
        name += part;
        if (*name == '.') shape[n++] = *name++;
    }
    shape[n] = 0;
}

static uint32_t count_matches(const tmb_model *m, const char *glob)
{
    tmb_rule rule = {.left = glob};
    tmb_left left = tmb_left_of(&rule);
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->n_units; i++)
        n += tmb_left_matches(&left, &m->units[i]);
    return n;
}

static bool occurs(const set *shapes, const char *word)
{
    for (size_t i = 0; i < shapes->n; i++)
        if (strstr(shapes->list[i], word)) return true;
    return false;
}

/* glob with every word that occurs nowhere replaced by the nearest part of a name. */
static void mend(const char *glob, const set *shapes, const set *parts, char out[NAME_BYTES])
{
    size_t n = 0;
    while (*glob && n + 1 < NAME_BYTES) {
        if (!word_char(*glob)) {
            out[n++] = *glob++;
            continue;
        }
        char word[NAME_BYTES];
        size_t len = 0;
        while (word_char(glob[len]) && len + 1 < NAME_BYTES)
            len++;
        memcpy(word, glob, len);
        word[len] = 0;
        glob += len;
        const char *use = word;
        if (!occurs(shapes, word)) {
            const char *near = tmb_nearest(word, parts->list, parts->n);
            if (near) use = near;
        }
        for (; *use && n + 1 < NAME_BYTES; use++)
            out[n++] = *use;
    }
    out[n] = 0;
}

/* The shape that holds most of the glob's words; among those the nearest in spelling. */
static const char *nearest_shape(const char *glob, const set *shapes)
{
    const char *best = NULL;
    long best_score = 0;
    for (size_t i = 0; i < shapes->n; i++) {
        long score = -(long)tmb_edit_distance(glob, shapes->list[i]);
        for (const char *p = glob; *p;) {
            char word[NAME_BYTES];
            size_t len = 0;
            while (word_char(p[len]) && len + 1 < NAME_BYTES)
                len++;
            memcpy(word, p, len);
            word[len] = 0;
            if (len && strstr(shapes->list[i], word)) score += 1000;
            p += len ? len : 1;
        }
        if (!best || score > best_score) {
            best = shapes->list[i];
            best_score = score;
        }
    }
    return best;
}

/* ".*" of regular expressions as the glob's "*". */
static void without_dots(const char *glob, char out[NAME_BYTES])
{
    size_t n = 0;
    for (; *glob && n + 1 < NAME_BYTES; glob++)
        if (!(glob[0] == '.' && glob[1] == '*')) out[n++] = *glob;
    out[n] = 0;
}

static tmb_status meant(tmb_decider *d, int32_t rule, const char *other, bool *known)
{
    const char *glob = d->recipe->rules[rule].left;
    uint32_t n = strcmp(other, glob) != 0 ? count_matches(d->model, other) : 0;
    *known = n > 0;
    if (!n) return TMB_OK;
    return tmb_decider_fail(d, rule,
                            "'%s' matches no module; did you mean '%s'? (%" PRIu32 " module%s)",
                            glob, other, n, n == 1 ? "" : "s");
}

static const tmb_unit *first_expert(const tmb_model *m)
{
    for (uint32_t u = 0; u < m->n_units; u++)
        if (m->units[u].role == TMB_ROLE_EXPERT) return &m->units[u];
    return NULL;
}

static tmb_status advise(tmb_decider *d, int32_t rule, const set *shapes, const set *parts)
{
    const tmb_model *m = d->model;
    const char *glob = d->recipe->rules[rule].left;
    char mended[NAME_BYTES], other[NAME_BYTES + 2];

    shape_of(glob, other); /* a layer or expert number out of range? */
    if (strcmp(other, glob) != 0 && count_matches(m, other))
        return tmb_decider_fail(d, rule,
                                "'%s' matches no module: a number in it is out of range (%d layers "
                                "of %d experts, counted from 0); '%s' would match",
                                glob, m->n_layers, m->n_experts, other);
    const tmb_unit *expert = first_expert(m);
    bool experts = strstr(glob, "expert") != NULL;
    if (experts && expert && m->n_experts_groups == 0)
        return tmb_decider_fail(d, rule,
                                "'%s' matches no module: the experts of this model lie in %s, in a "
                                "form that is not known, and stay as they are; remove the rule",
                                glob, expert->name);
    if (experts && m->n_experts_groups == 0)
        return tmb_decider_fail(d, rule,
                                "'%s' matches no module: this model has no routed experts; remove "
                                "the rule",
                                glob);

    bool known;
    tmb_status status;
    mend(glob, shapes, parts, mended);
    status = meant(d, rule, mended, &known);
    if (known) return status;
    without_dots(mended, other);
    status = meant(d, rule, other, &known);
    if (known) return status;
    snprintf(other, sizeof other, "*%s*", mended); /* a glob is anchored at both ends */
    status = meant(d, rule, other, &known);
    if (known) return status;

    if (experts && expert && !strstr(expert->name, "experts"))
        return tmb_decider_fail(d, rule,
                                "'%s' matches no module: the routed experts of this model are "
                                "called %s and so on; write @expert in its place",
                                glob, expert->name);

    const char *near = nearest_shape(glob, shapes);
    if (!near) return tmb_decider_fail(d, rule, "'%s' matches no module: there are none", glob);
    return tmb_decider_fail(d, rule,
                            "'%s' matches no module; names look like '%s', and * stands for any "
                            "run of characters",
                            glob, near);
}

tmb_status tmb_hint(tmb_decider *d, int32_t rule)
{
    tmb_arena scratch = {0};
    set *shapes = tmb_arena_alloc(&scratch, 2 * sizeof *shapes);
    tmb_status status;
    if (!shapes) return tmb_fail_memory(d->err, 2 * sizeof *shapes, "advice");
    set *parts = shapes + 1;
    shapes->arena = parts->arena = &scratch;
    shapes->list = tmb_arena_alloc(&scratch, SET_SLOTS * sizeof *shapes->list);
    parts->list = tmb_arena_alloc(&scratch, SET_SLOTS * sizeof *parts->list);
    if (!shapes->list || !parts->list) {
        status = tmb_fail_memory(d->err, SET_SLOTS * sizeof *shapes->list, "advice");
        goto out;
    }
    for (uint32_t i = 0; i < d->model->n_units; i++) {
        char shape[NAME_BYTES];
        shape_of(d->model->units[i].name, shape);
        set_add(shapes, shape, strlen(shape));
    }
    for (size_t i = 0; i < shapes->n; i++)
        for (const char *p = shapes->list[i]; *p;) {
            size_t n = strcspn(p, ".");
            if (n > 1) set_add(parts, p, n);
            p += n + (p[n] == '.');
        }
    status = advise(d, rule, shapes, parts);
out:
    tmb_arena_free(&scratch);
    return status;
}
