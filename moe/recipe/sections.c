/* sections.c - what may stand in a recipe: the sections, their keys, what each value must be.
 *
 * The two tables below are the grammar.  Values of [rules] and names of formats are only
 * collected here, since a [format NAME] may stand behind the rule that uses it. */
#include "config.h"
#include "moe/recipe/draft.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { RECIPE_VERSION = 1, VARIANT_NAME_BYTES = 40 };

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const char *const section_names[TMB_SECTIONS] = {
    [TMB_SECTION_RECIPE] = "recipe", [TMB_SECTION_RULES] = "rules",
    [TMB_SECTION_FORMAT] = "format", [TMB_SECTION_KV_CACHE] = "kv_cache",
    [TMB_SECTION_OUTPUT] = "output", [TMB_SECTION_CALIBRATION] = "calibration",
};

/* Sections that jobs of later versions will read. */
static const char *const later_sections[] = {"search", "target"};

/* --- failing ----------------------------------------------------------------------------- */

tmb_status tmb_draft_fail(tmb_draft *d, int line, const char *format, ...)
{
    char what[TMB_ERR_BYTES];
    va_list ap;
    va_start(ap, format);
    vsnprintf(what, sizeof what, format, ap);
    va_end(ap);
    d->status = line ? tmb_fail(d->err, TMB_EUSAGE, "%s:%d: %s", d->recipe->path, line, what)
                     : tmb_fail(d->err, TMB_EUSAGE, "%s: %s", d->recipe->path, what);
    return d->status;
}

tmb_status tmb_draft_memory(tmb_draft *d)
{
    return d->status = tmb_fail_memory(d->err, d->recipe->arena.bytes, "a recipe");
}

/* A word of the file that outlives the line; text NULL when there is no memory. */
static tmb_word keep(tmb_draft *d, const char *text, size_t n)
{
    return (tmb_word){tmb_arena_text(&d->recipe->arena, text, n), d->line};
}

/* --- sections ---------------------------------------------------------------------------- */

bool tmb_section_known(const char *name, size_t n)
{
    for (int i = 0; i < TMB_SECTIONS; i++)
        if (strlen(section_names[i]) == n && memcmp(section_names[i], name, n) == 0) return true;
    return n > 7 && memcmp(name, "format ", 7) == 0;
}

static tmb_status unknown_section(tmb_draft *d, const char *name)
{
    for (size_t i = 0; i < COUNT(later_sections); i++)
        if (strcmp(name, later_sections[i]) == 0)
            return tmb_draft_fail(
                d, d->line, "[%s] is for a later version of tombac; remove the section", name);
    if (!*name) return tmb_draft_fail(d, d->line, "a section without a name; write [rules]");
    char meant[TMB_ERR_BYTES];
    return tmb_draft_fail(d, d->line, "unknown section [%s]; %s", name,
                          tmb_recipe_meant(meant, sizeof meant, name, section_names, TMB_SECTIONS));
}

/* [format NAME]: a new name of letters, digits, '-', '_' and '.'. */
static tmb_status open_variant(tmb_draft *d, const char *name)
{
    while (*name == ' ' || *name == '\t')
        name++;
    if (!*name)
        return tmb_draft_fail(d, d->line, "[format] without a name; write [format my-nvfp4]");
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.");
    if (name[n])
        return tmb_draft_fail(d, d->line,
                              "format name '%s' holds '%c'; letters, digits, '-', '_' and '.' are "
                              "possible",
                              name, name[n]);
    if (n > VARIANT_NAME_BYTES)
        return tmb_draft_fail(d, d->line, "format name of %zu bytes, at most %d are possible", n,
                              VARIANT_NAME_BYTES);
    for (tmb_variant *v = d->variants; v; v = v->next)
        if (strcmp(v->name.text, name) == 0)
            return tmb_draft_fail(d, d->line,
                                  "[format %s] was already given in line %d; give each a name of "
                                  "its own",
                                  name, v->name.line);

    tmb_variant *v = tmb_arena_alloc(&d->recipe->arena, sizeof *v);
    if (!v) return tmb_draft_memory(d);
    v->name = keep(d, name, n);
    if (!v->name.text) return tmb_draft_memory(d);
    *d->variants_end = v;
    d->variants_end = &v->next;
    d->variant = v;
    return TMB_OK;
}

tmb_status tmb_draft_section(tmb_draft *d, const char *text, size_t n)
{
    const char *name = tmb_arena_text(&d->recipe->arena, text, n);
    if (!name) return tmb_draft_memory(d);
    memset(d->given, 0, sizeof d->given);

    bool variant = strcspn(name, " \t") == 6 && memcmp(name, "format", 6) == 0;
    tmb_section at = 0;
    while (at < TMB_SECTIONS && strcmp(name, section_names[at]) != 0)
        at++;
    if (variant || at == TMB_SECTION_FORMAT) {
        d->section = TMB_SECTION_FORMAT;
        return open_variant(d, name + 6);
    }
    if (at == TMB_SECTIONS) return unknown_section(d, name);
    if (d->opened[at])
        return tmb_draft_fail(d, d->line,
                              "[%s] was already opened in line %d; put its lines together", name,
                              d->opened[at]);
    d->opened[at] = d->line;
    d->section = at;
    if (at == TMB_SECTION_CALIBRATION) d->recipe->calibration.line = d->line;
    return TMB_OK;
}

/* --- values ------------------------------------------------------------------------------ */

static tmb_status set_version(tmb_draft *d, const char *value)
{
    d->version = keep(d, value, strlen(value));
    return d->version.text ? TMB_OK : tmb_draft_memory(d);
}

static tmb_status set_description(tmb_draft *d, const char *value)
{
    d->recipe->description = keep(d, value, strlen(value)).text;
    return d->recipe->description ? TMB_OK : tmb_draft_memory(d);
}

static tmb_status set_base(tmb_draft *d, const char *value)
{
    d->variant->base = keep(d, value, strlen(value));
    return d->variant->base.text ? TMB_OK : tmb_draft_memory(d);
}

static tmb_status set_scale(tmb_draft *d, const char *value)
{
    d->variant->scale = keep(d, value, strlen(value));
    return d->variant->scale.text ? TMB_OK : tmb_draft_memory(d);
}

/* value must be one of the words; its place, or -1 with the failure in the draft. */
static int choice(tmb_draft *d, const char *key, const char *value, const char *const *words,
                  size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(value, words[i]) == 0) return (int)i;
    char meant[TMB_ERR_BYTES];
    tmb_draft_fail(d, d->line, "%s = %s is not known; %s", key, value,
                   tmb_recipe_meant(meant, sizeof meant, value, words, n));
    return -1;
}

static tmb_status set_kv_format(tmb_draft *d, const char *value)
{
    static const char *const words[] = {"fp8", "none"};
    d->recipe->kv_fp8 = choice(d, "format", value, words, COUNT(words)) == 0;
    d->recipe->kv_line = d->line;
    return d->status;
}

static tmb_status set_layout(tmb_draft *d, const char *value)
{
#define X(name) #name,
    static const char *const files[] = {
#include "moe/recipe/layout_names.inc"
    };
#undef X
    char spelled[COUNT(files)][40]; /* a layout is called as its file, with '-' for '_' */
    const char *words[COUNT(files)];
    for (size_t i = 0; i < COUNT(files); i++) {
        snprintf(spelled[i], sizeof spelled[i], "%s", files[i]);
        for (char *p = spelled[i]; *p; p++)
            if (*p == '_') *p = '-';
        words[i] = spelled[i];
    }
    int i = choice(d, "layout", value, words, COUNT(words));
    if (i < 0) return d->status;
    d->recipe->layout = keep(d, words[i], strlen(words[i])).text;
    d->recipe->layout_line = d->line;
    return d->recipe->layout ? TMB_OK : tmb_draft_memory(d);
}

static tmb_status set_shard_size(tmb_draft *d, const char *value)
{
    if (!tmb_size_parse(value, &d->recipe->shard_size) || d->recipe->shard_size == 0)
        return tmb_draft_fail(
            d, d->line, "shard_size = %s is no size; write 5G, 512M or a number of bytes", value);
    return TMB_OK;
}

static const struct {
    tmb_section section;
    const char *key;
    tmb_status (*set)(tmb_draft *d, const char *value);
} keys[] = {
    {TMB_SECTION_RECIPE, "version", set_version},
    {TMB_SECTION_RECIPE, "description", set_description},
    {TMB_SECTION_FORMAT, "base", set_base},
    {TMB_SECTION_FORMAT, "scale", set_scale},
    {TMB_SECTION_KV_CACHE, "format", set_kv_format},
    {TMB_SECTION_OUTPUT, "layout", set_layout},
    {TMB_SECTION_OUTPUT, "shard_size", set_shard_size},
    {TMB_SECTION_CALIBRATION, "samples", tmb_draft_samples},
    {TMB_SECTION_CALIBRATION, "length", tmb_draft_length},
    {TMB_SECTION_CALIBRATION, "seed", tmb_draft_seed},
    {TMB_SECTION_CALIBRATION, "fit", tmb_draft_fit},
    {TMB_SECTION_CALIBRATION, "max_samples", tmb_draft_max_samples},
    {TMB_SECTION_CALIBRATION, "min_tokens", tmb_draft_min_tokens},
    {TMB_SECTION_CALIBRATION, "starved", tmb_draft_starved},
    {TMB_SECTION_CALIBRATION, "hessian", tmb_draft_hessian},
    {TMB_SECTION_CALIBRATION, "act_scale", tmb_draft_act_scale},
};
_Static_assert(COUNT(keys) <= COUNT(((tmb_draft *)0)->given), "a line for each key");

/* A value that is a word, not prose: what people add to it by habit is named. */
static tmb_status check_word(tmb_draft *d, const char *name, const char *value)
{
    if (!*value || *value == ';')
        return tmb_draft_fail(d, d->line, "nothing after '%s ='; %s", name,
                              d->section == TMB_SECTION_RULES ? "write a format, like nvfp4"
                                                              : "give a value or remove the line");
    size_t n = strcspn(value, " \t");
    if (strchr(value, '#'))
        return tmb_draft_fail(d, d->line,
                              "'#' in a value; a comment behind a value starts with ' ;'");
    if (strchr(value, ';'))
        return tmb_draft_fail(d, d->line, "';' in a value; put a blank before the comment");
    if (strchr(value, '='))
        return tmb_draft_fail(d, d->line, "a second '=' in the line; one NAME = VALUE a line");
    if (*value == '"' || *value == '\'')
        return tmb_draft_fail(d, d->line, "quotes around the value; write it without them");
    if (value[n])
        return tmb_draft_fail(d, d->line, "'%s' is more than one word; give one value", value);
    return TMB_OK;
}

static tmb_status add_rule(tmb_draft *d, const char *left, const char *format)
{
    for (tmb_raw_rule *r = d->rules; r; r = r->next)
        if (strcmp(r->left.text, left) == 0)
            return tmb_draft_fail(d, d->line,
                                  "'%s' has a rule in line %d already, and the first that matches "
                                  "decides; remove one",
                                  left, r->left.line);
    tmb_raw_rule *r = tmb_arena_alloc(&d->recipe->arena, sizeof *r);
    if (!r) return tmb_draft_memory(d);
    r->left = keep(d, left, strlen(left));
    r->format = keep(d, format, strlen(format));
    if (!r->left.text || !r->format.text) return tmb_draft_memory(d);
    *d->rules_end = r;
    d->rules_end = &r->next;
    d->recipe->n_rules++;
    return TMB_OK;
}

static tmb_status unknown_key(tmb_draft *d, const char *name)
{
    const char *words[COUNT(keys) + 1];
    size_t n = 0;
    if (d->section == TMB_SECTION_CALIBRATION) words[n++] = "source.NAME";
    for (size_t i = 0; i < COUNT(keys); i++) {
        if (keys[i].section == d->section)
            words[n++] = keys[i].key;
        else if (strcmp(keys[i].key, name) == 0)
            return tmb_draft_fail(d, d->line, "'%s' does not belong in [%s]; move it to [%s]", name,
                                  section_names[d->section], section_names[keys[i].section]);
    }
    if (strchr(name, '*') || *name == '@')
        return tmb_draft_fail(d, d->line, "'%s' looks like a rule; move it to [rules]", name);
    char meant[TMB_ERR_BYTES];
    return tmb_draft_fail(d, d->line, "unknown key '%s' in [%s]; %s", name,
                          section_names[d->section],
                          tmb_recipe_meant(meant, sizeof meant, name, words, n));
}

tmb_status tmb_draft_value(tmb_draft *d, const char *name, const char *value)
{
    if (d->section == TMB_SECTION_NONE)
        return tmb_draft_fail(d, d->line, "'%s' stands before any section; begin with [recipe]",
                              name);
    if (d->section == TMB_SECTION_RULES) {
        if (check_word(d, name, value)) return d->status;
        return add_rule(d, name, value);
    }
    if (d->section == TMB_SECTION_CALIBRATION && strncmp(name, "source.", 7) == 0)
        return tmb_draft_source(d, name + 7, value);
    for (size_t i = 0; i < COUNT(keys); i++) {
        if (keys[i].section != d->section || strcmp(keys[i].key, name) != 0) continue;
        if (d->given[i])
            return tmb_draft_fail(d, d->line, "'%s' was already given in line %d; remove one", name,
                                  d->given[i]);
        d->given[i] = d->line;
        if (keys[i].set != set_description && check_word(d, name, value)) return d->status;
        return keys[i].set(d, value);
    }
    return unknown_key(d, name);
}

/* --- the end of the file ------------------------------------------------------------------ */

static tmb_status check_version(tmb_draft *d)
{
    const char *v = d->version.text;
    if (!v)
        return tmb_draft_fail(d, d->opened[TMB_SECTION_RECIPE],
                              "no recipe version; write 'version = %d' under [recipe]",
                              RECIPE_VERSION);
    size_t digits = strspn(v, "0123456789");
    if (v[digits] || !digits || *v == '0')
        return tmb_draft_fail(d, d->version.line, "version = %s is no version; write version = %d",
                              v, RECIPE_VERSION);
    if (digits > 1 || *v != '0' + RECIPE_VERSION)
        return tmb_draft_fail(d, d->version.line,
                              "recipe version %s is newer than this tombac, which reads version "
                              "%d; take a newer tombac",
                              v, RECIPE_VERSION);
    return TMB_OK;
}

tmb_status tmb_draft_finish(tmb_draft *d)
{
    TRY(check_version(d));
    if (!d->opened[TMB_SECTION_RULES])
        return tmb_draft_fail(d, 0,
                              "no [rules]; add the section with a rule like *experts* = nvfp4");
    if (!d->rules)
        return tmb_draft_fail(d, d->opened[TMB_SECTION_RULES],
                              "[rules] is empty; add a rule like *experts* = nvfp4");
    if (!d->recipe->layout) d->recipe->layout = "modelopt";
    if (!d->recipe->description) d->recipe->description = "";
    TRY(tmb_draft_specs(d));
    return tmb_draft_rules(d);
}
