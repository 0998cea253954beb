/* spec.c - the words of a recipe that name something: formats, variants of them, roles, globs. */
#include "config.h"
#include "moe/format/formats.h"
#include "moe/io/match.h"
#include "moe/recipe/draft.h"

#include <stdio.h>
#include <string.h>

#define KEEP "bf16" /* the format that leaves a tensor as it is */

const char *tmb_recipe_meant(char *buffer, size_t size, const char *word, const char *const *words,
                             size_t n)
{
    const char *nearest = tmb_nearest(word, words, n);
    size_t at = nearest ? (size_t)snprintf(buffer, size, "did you mean '%s'? (", nearest)
                        : (size_t)snprintf(buffer, size, "use one of ");
    for (size_t i = 0; i < n && at < size; i++)
        at += (size_t)snprintf(buffer + at, size - at, "%s%s", i ? ", " : "", words[i]);
    if (nearest && at < size) snprintf(buffer + at, size - at, ")");
    return buffer;
}

/* --- formats ------------------------------------------------------------------------------ */

static const tmb_spec *find_spec(const tmb_recipe *r, const char *name)
{
    for (int i = 0; i < r->n_specs; i++)
        if (strcmp(r->specs[i].name, name) == 0) return &r->specs[i];
    return NULL;
}

/* What people call a format elsewhere, where the nearest spelling would mislead. */
static const char *other_name(const char *word)
{
    static const struct {
        const char *word, *advice;
    } table[] = {
        {"keep", KEEP},
        {"none", KEEP},
        {"skip", KEEP},
        {"ignore", KEEP},
        {"fp16", KEEP},
        {"bfloat16", KEEP},
        {"float16", KEEP},
        {"f16", KEEP},
        {"original", KEEP},
        {"fp32", KEEP},
        {"fp4", "nvfp4' or 'mxfp4"},
        {"w4a4", "nvfp4"},
        {"e2m1", "nvfp4' or 'mxfp4"},
        {"w4a16", "int4' or 'nvfp4-w4a16"},
        {"awq", "int4"},
        {"gptq", "int4"},
        {"w8a8", "fp8"},
        {"int8", "fp8"},
        {"e4m3", "fp8"},
        {"float8", "fp8"},
        {"fp8-dynamic", "fp8-channel"},
        {"nvfp4a16", "nvfp4-w4a16"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i].word, word) == 0) return table[i].advice;
    return NULL;
}

static tmb_status unknown_format(tmb_draft *d, int line, const char *word, int n_specs)
{
    char lower[64];
    size_t n = strlen(word) < sizeof lower ? strlen(word) : sizeof lower - 1;
    for (size_t i = 0; i < n; i++) {
        char c = word[i];
        lower[i] = c == '_' ? '-' : c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
    }
    lower[n] = 0;
    const tmb_spec *same = find_spec(d->recipe, lower);
    const char *advice = same ? same->name : other_name(lower);
    if (advice)
        return tmb_draft_fail(d, line, "unknown format '%s'; did you mean '%s'?", word, advice);

    const char *words[64];
    size_t n_words = 0;
    for (int i = 0; i < n_specs && n_words < 64; i++)
        words[n_words++] = d->recipe->specs[i].name;
    char meant[TMB_ERR_BYTES];
    return tmb_draft_fail(d, line, "unknown format '%s'; %s", word,
                          tmb_recipe_meant(meant, sizeof meant, lower, words, n_words));
}

/* "nvfp4, nvfp4-w4a16": the formats that have a rule. */
static const char *with_scale(char *buffer, size_t size, tmb_scale_rule rule)
{
    size_t at = 0;
    for (int i = 0; tmb_format_at(i) && at < size; i++)
        if (tmb_format_scales(tmb_format_at(i), rule))
            at += (size_t)snprintf(buffer + at, size - at, "%s%s", at ? ", " : "",
                                   tmb_format_at(i)->name);
    return buffer;
}

static tmb_status set_scale(tmb_draft *d, const tmb_word *scale, tmb_spec *spec)
{
    if (!scale->text) return TMB_OK;
    int rule = TMB_SCALE_MAX;
    while (rule <= TMB_SCALE_HESSIAN && strcmp(scale->text, tmb_scale_name(rule)) != 0)
        rule++;
    if (rule > TMB_SCALE_HESSIAN)
        return tmb_draft_fail(d, scale->line,
                              "scale = %s is not known; use one of max, mse, hessian", scale->text);
    char list[TMB_ERR_BYTES];
    if (!tmb_format_scales(spec->format, (tmb_scale_rule)rule))
        return tmb_draft_fail(d, scale->line, "%s has no scale = %s (%s have); use scale = max",
                              spec->format->name, scale->text,
                              with_scale(list, sizeof list, (tmb_scale_rule)rule));
    spec->scale = (tmb_scale_rule)rule;
    spec->scale_line = scale->line;
    return TMB_OK;
}

static tmb_status set_variant(tmb_draft *d, const tmb_variant *v, tmb_spec *spec)
{
    const tmb_spec *taken = find_spec(d->recipe, v->name.text);
    if (taken && !taken->line)
        return tmb_draft_fail(d, v->name.line,
                              "'%s' is a built-in format; give the variant a name of its own, like "
                              "my-%s",
                              v->name.text, v->name.text);
    if (!v->base.text)
        return tmb_draft_fail(d, v->name.line, "[format %s] has no base; write base = nvfp4",
                              v->name.text);
    const tmb_format *base = tmb_format_find(v->base.text);
    if (!base) {
        for (const tmb_variant *o = d->variants; o; o = o->next)
            if (strcmp(o->name.text, v->base.text) == 0)
                return tmb_draft_fail(d, v->base.line,
                                      "base = %s is a variant itself; name a built-in format",
                                      v->base.text);
        if (strcmp(v->base.text, KEEP) == 0)
            return tmb_draft_fail(d, v->base.line,
                                  "base = " KEEP " leaves tensors as they are, so there is nothing "
                                  "to vary; name another format");
        return unknown_format(d, v->base.line, v->base.text, d->recipe->n_specs);
    }

    *spec = (tmb_spec){.name = v->name.text, .format = base, .line = v->name.line};
    return set_scale(d, &v->scale, spec);
}

tmb_status tmb_draft_specs(tmb_draft *d)
{
    tmb_recipe *r = d->recipe;
    int n = 1;
    while (tmb_format_at(n - 1))
        n++;
    for (const tmb_variant *v = d->variants; v; v = v->next)
        n++;
    r->specs = tmb_arena_alloc(&r->arena, (size_t)n * sizeof *r->specs);
    if (!r->specs) return tmb_draft_memory(d);

    r->specs[r->n_specs++] = (tmb_spec){.name = KEEP};
    for (int i = 0; tmb_format_at(i); i++)
        r->specs[r->n_specs++] =
            (tmb_spec){.name = tmb_format_at(i)->name, .format = tmb_format_at(i)};
    for (const tmb_variant *v = d->variants; v; v = v->next) {
        TRY(set_variant(d, v, &r->specs[r->n_specs]));
        r->n_specs++;
    }
    return TMB_OK;
}

/* --- left sides --------------------------------------------------------------------------- */

static tmb_status set_role(tmb_draft *d, const tmb_word *left, tmb_rule *rule)
{
    rule->by_role = true;
    if (tmb_role_find(left->text + 1, &rule->role)) return TMB_OK;
    char names[TMB_ROLES][40];
    const char *words[TMB_ROLES];
    for (int i = 0; i < TMB_ROLES; i++) {
        snprintf(names[i], sizeof names[i], "@%s", tmb_role_name((tmb_role)i));
        words[i] = names[i];
    }
    char meant[TMB_ERR_BYTES];
    return tmb_draft_fail(d, left->line, "unknown role '%s'; %s", left->text,
                          tmb_recipe_meant(meant, sizeof meant, left->text, words, TMB_ROLES));
}

/* What can only be a mistake in a glob over module names. */
static tmb_status check_glob(tmb_draft *d, const tmb_word *left)
{
    const char *glob = left->text;
    size_t n = strlen(glob);
    static const char *const tails[] = {".weight", ".bias", ".weight_scale"};
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
        size_t t = strlen(tails[i]);
        if (n > t && strcmp(glob + n - t, tails[i]) == 0)
            return tmb_draft_fail(d, left->line,
                                  "'%s' names a tensor, but rules name modules; write '%.*s'", glob,
                                  (int)(n - t), glob);
    }
    if (strpbrk(glob, "\\^$()|+"))
        return tmb_draft_fail(d, left->line,
                              "'%s' looks like a regular expression; a rule is a glob: * any run "
                              "of characters, ? one, [abc] one of a set",
                              glob);
    if (strpbrk(glob, "{},"))
        return tmb_draft_fail(d, left->line, "'%s' holds a list; write one rule for each", glob);
    if (strpbrk(glob, " \t\"'"))
        return tmb_draft_fail(d, left->line,
                              "'%s' holds a blank or a quote; module names have none", glob);
    const char *open = strchr(glob, '[');
    if (open && !strchr(open + 1 + (open[1] == '!'), ']'))
        return tmb_draft_fail(d, left->line, "'%s' has '[' without ']'; close the set", glob);
    return TMB_OK;
}

tmb_status tmb_draft_rules(tmb_draft *d)
{
    tmb_recipe *r = d->recipe;
    r->rules = tmb_arena_alloc(&r->arena, (size_t)r->n_rules * sizeof *r->rules);
    if (!r->rules) return tmb_draft_memory(d);
    tmb_rule *rule = r->rules;
    for (const tmb_raw_rule *raw = d->rules; raw; raw = raw->next, rule++) {
        *rule = (tmb_rule){.left = raw->left.text, .line = raw->left.line};
        if (*rule->left == '@')
            TRY(set_role(d, &raw->left, rule));
        else
            TRY(check_glob(d, &raw->left));
        rule->spec = find_spec(r, raw->format.text);
        if (!rule->spec) return unknown_format(d, raw->format.line, raw->format.text, r->n_specs);
    }
    for (int i = 0; i < r->n_specs; i++) {
        bool used = r->specs[i].line == 0;
        for (int k = 0; k < r->n_rules; k++)
            used = used || r->rules[k].spec == &r->specs[i];
        if (!used)
            return tmb_draft_fail(d, r->specs[i].line,
                                  "[format %s] is used by no rule; name it in [rules] or remove it",
                                  r->specs[i].name);
    }
    return TMB_OK;
}
