/* ct_targets.c - the regular expressions by which compressed-tensors' loaders find a module's
 * group.
 *
 * Engines ask by their own names: the text model may stand under another prefix, Linears under
 * their fused name, experts as "….experts.0.gate_proj" or ".w1" whatever the checkpoint says.  So a
 * target starts with ".*", names the block inside the layer, and ends with "$"; the layers are
 * listed only where a module of that name is treated differently in others; a word of the prefix
 * is put in front only where something else would match (a vision tower, an MTP layer). */
#include "config.h"
#include "moe/layout/ct.h"

#include "moe/io/match.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* Any: gate_proj, w1, and what vLLM asks for where experts have no gate ("….experts.0.None"). */
#define EXPERT_LEAVES "\\w*"

/* One name in its layer: what is left of a module when the layer and expert numbers go. */
typedef struct entry {
    const char *prefix; /* before "layers.N."; NULL outside the layers */
    const char *parent; /* pattern between layer and leaf, with its final \. */
    const char *leaf;   /* pattern */
    const char *name;   /* the module's, for the check */
    int group;          /* -1: unquantized */
    long layer;         /* -1 */
    const char *layers; /* pattern, once known */
} entry;

typedef struct builder {
    const tmb_job_view *job;
    tmb_arena *arena;
    entry *list;
    size_t n, capacity;
    bool no_memory;
} builder;

bool tmb_ct_in_group(const tmb_ct_group *group, const tmb_engine_module *module)
{
    bool expert = module->kind == TMB_MODULE_EXPERT || module->kind == TMB_MODULE_EXPERTS ||
                  module->kind == TMB_MODULE_STACK;
    return module->format == group->format && (expert ? group->experts : group->others);
}

static bool is_number(const char *part, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isdigit((unsigned char)part[i])) return false;
    return n > 0;
}

/* text [n] with dots escaped and numbers as \d+. */
static const char *pattern_of(builder *b, const char *text, size_t n)
{
    char *out = tmb_arena_alloc(b->arena, 4 * n + 1), *to = out;
    for (const char *at = text, *end = text + n; out && at < end;) {
        size_t part = 0;
        while (at + part < end && at[part] != '.')
            part++;
        if (is_number(at, part)) {
            memcpy(to, "\\d+", 3);
            to += 3;
        } else {
            for (size_t i = 0; i < part; i++) {
                if (!isalnum((unsigned char)at[i]) && at[i] != '_') *to++ = '\\';
                *to++ = at[i];
            }
        }
        at += part;
        if (at < end) {
            *to++ = '\\';
            *to++ = *at++;
        }
    }
    if (!out) b->no_memory = true;
    return out;
}

/* The part after "layers.N."; NULL outside the layers. */
static const char *in_layer(const char *name, long *layer)
{
    for (const char *at = name; (at = strstr(at, "layers.")) != NULL; at++) {
        if (at != name && at[-1] != '.') continue;
        char *end;
        *layer = strtol(at + 7, &end, 10);
        if (end != at + 7 && *end == '.') return end + 1;
    }
    return NULL;
}

/* "mlp.experts", "mlp.experts.3.w1": what engines look for in a layer. */
static bool usual_experts(const char *rest)
{
    const char *dot = strchr(rest, '.');
    return dot && strncmp(dot, ".experts", 8) == 0 && (dot[8] == '.' || !dot[8]);
}

/* Experts of a block that is no "layers.N" ("mtp.0.ffn.experts.3.w1"), or that are called otherwise
 * ("moe.local_experts.3.fc1"), keep their own parents. */
static const char *own_experts(builder *b, const tmb_engine_module *m, const char *rest)
{
    bool one = m->kind == TMB_MODULE_EXPERT;
    size_t n = one ? (size_t)(tmb_leaf(rest) - rest) : strlen(rest);
    const char *own = pattern_of(b, rest, n);
    return one || !own ? own : tmb_arena_printf(b->arena, "%s\\.\\d+\\.", own);
}

/* Engines rename the projections of a dense block or a shared expert. */
static const char *both_spellings(const char *leaf)
{
    static const char *const pairs[][2] = {
        {"w1", "w1|gate_proj"}, {"w2", "w2|down_proj"}, {"w3", "w3|up_proj"}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (strcmp(pairs[i][0], leaf) == 0) return pairs[i][1];
    return NULL;
}

static void add(builder *b, const tmb_engine_module *m, int group)
{
    if (b->n == b->capacity) {
        size_t capacity = b->capacity ? 2 * b->capacity : 512;
        entry *grown = realloc(b->list, capacity * sizeof *grown);
        if (!grown) {
            b->no_memory = true;
            return;
        }
        b->list = grown;
        b->capacity = capacity;
    }
    entry e = {.name = m->name, .group = group, .layer = -1};
    const char *rest = in_layer(m->name, &e.layer), *leaf = tmb_leaf(m->name);
    if (rest) {
        size_t before = strlen("layers.");
        for (long l = e.layer; l >= 10; l /= 10)
            before++;
        e.prefix = tmb_arena_text(b->arena, m->name, (size_t)(rest - m->name) - before - 2);
    } else {
        rest = m->name;
    }
    if (m->kind == TMB_MODULE_EXPERT || m->kind == TMB_MODULE_EXPERTS) {
        e.parent = e.layer >= 0 && usual_experts(rest) ? "\\w+\\.experts\\.\\d+\\."
                                                       : own_experts(b, m, rest);
        e.leaf = EXPERT_LEAVES;
    } else {
        e.parent = pattern_of(b, rest, (size_t)(leaf - rest));
        e.leaf = both_spellings(leaf);
        if (!e.leaf) e.leaf = pattern_of(b, leaf, strlen(leaf));
    }
    /* the block has the other name in some engines */
    static const char block[] = "block_sparse_moe\\.";
    if (e.parent && strncmp(e.parent, block, strlen(block)) == 0)
        e.parent =
            tmb_arena_printf(b->arena, "(block_sparse_moe|mlp)\\.%s", e.parent + strlen(block));
    if (!e.parent || !e.leaf || (e.layer >= 0 && !e.prefix)) b->no_memory = true;
    b->list[b->n++] = e;
}

/* One expert stands for all of its layer: their targets end in \d+. */
static bool speaks(const builder *b, const tmb_engine_module *m)
{
    const tmb_model *model = b->job->model;
    if (m->kind == TMB_MODULE_EXPERTS) return !m->format; /* kept stacks have no other speaker */
    if (m->kind == TMB_MODULE_STACK) return false;
    if (m->kind != TMB_MODULE_EXPERT) return true;
    const tmb_unit *unit = &model->units[m->unit];
    return unit->expert == model->units[model->experts[unit->experts].units[0]].expert;
}

static int compare_text(const char *a, const char *b)
{
    return a == b ? 0 : !a ? -1 : !b ? 1 : strcmp(a, b);
}

static int by_place(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    int order = compare_text(x->prefix, y->prefix);
    if (!order) order = strcmp(x->parent, y->parent);
    if (!order) order = strcmp(x->leaf, y->leaf);
    if (!order) order = x->group - y->group;
    if (!order) order = (x->layer > y->layer) - (x->layer < y->layer);
    return order ? order : strcmp(x->name, y->name);
}

static int by_layers(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    int order = x->group - y->group;
    if (!order) order = compare_text(x->prefix, y->prefix);
    if (!order) order = strcmp(x->parent, y->parent);
    if (!order) order = compare_text(x->layers, y->layers);
    return order ? order : strcmp(x->leaf, y->leaf);
}

static bool same_place(const entry *a, const entry *b)
{
    return compare_text(a->prefix, b->prefix) == 0 && strcmp(a->parent, b->parent) == 0 &&
           strcmp(a->leaf, b->leaf) == 0;
}

/* "(0|1|5)" of list [n], ascending with repeats. */
static const char *layer_list(builder *b, const entry *list, size_t n)
{
    char *out = tmb_arena_alloc(b->arena, 8 * n + 3), *to = out;
    if (!out) {
        b->no_memory = true;
        return "";
    }
    *to++ = '(';
    for (size_t i = 0; i < n; i++) {
        if (i && list[i].layer == list[i - 1].layer) continue;
        const char *one =
            tmb_arena_printf(b->arena, "%s%ld", to > out + 1 ? "|" : "", list[i].layer);
        size_t length = one ? strlen(one) : 0;
        if (length) memcpy(to, one, length);
        to += length;
    }
    *to++ = ')';
    return out;
}

/* Which layers each (place, group) has, as a pattern; entries of one place and group become one. */
static void settle_layers(builder *b)
{
    size_t kept = 0;
    if (b->n) qsort(b->list, b->n, sizeof *b->list, by_place);
    for (size_t i = 0, place_end = 0; i < b->n;) {
        if (i >= place_end) {
            place_end = i;
            while (place_end < b->n && same_place(&b->list[i], &b->list[place_end]))
                place_end++;
        }
        size_t end = i;
        while (end < place_end && b->list[end].group == b->list[i].group)
            end++;
        bool alone = end == place_end && (i == 0 || !same_place(&b->list[i - 1], &b->list[i]));
        const char *layers = b->list[i].layer < 0 ? NULL
                             : alone              ? "\\d+"
                                                  : layer_list(b, &b->list[i], end - i);
        for (size_t j = i; j < end; j++)
            b->list[j].layers = layers;
        i = end;
    }
    /* outside the layers full names do, but for experts, which engines ask for by other names */
    for (size_t i = 0; i < b->n; i++)
        if (b->list[i].group >= 0 || b->list[i].layers ||
            strcmp(b->list[i].leaf, EXPERT_LEAVES) == 0)
            b->list[kept++] = b->list[i];
    b->n = kept;
    if (b->n) qsort(b->list, b->n, sizeof *b->list, by_layers);
}

/* ---- one target -------------------------------------------------------------------------------
 */

/* Whether the pattern takes a module of another group or an unquantized one; of the ignored
 * (group->format NULL), a quantized one. */
static bool collides(tmb_regex *re, const tmb_engine_modules *modules, const builder *b,
                     const tmb_ct_group *group)
{
    for (size_t i = 0; i < modules->n; i++) {
        const tmb_engine_module *m = &modules->list[i];
        bool own = group->format ? tmb_ct_in_group(group, m) : !m->format;
        if (speaks(b, m) && !own && tmb_regex_match(re, m->name)) return true;
    }
    return false;
}

/* Whether "a|b|c" has the alternative. */
static bool has_alternative(const char *words, const char *one)
{
    size_t n = strlen(one);
    for (const char *at = words; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL)
        if (strncmp(at, one, n) == 0 && (at[n] == '|' || !at[n])) return true;
    return false;
}

static bool has_word(const char *text, const char *word, size_t n)
{
    for (const char *at = text; at; at = strchr(at, '.') ? strchr(at, '.') + 1 : NULL)
        if (strncmp(at, word, n) == 0 && (at[n] == '.' || !at[n])) return true;
    return false;
}

/* "(?!(.*\.)?(mtp|visual)\.)": not under the first word that sets each unquantized stranger
 * apart.  Engines rename the text model's prefix more often than those.  NULL: no such words. */
static const char *keep_out(builder *b, const entry *e, tmb_regex *re,
                            const tmb_engine_modules *modules)
{
    const char *words = NULL;
    for (size_t i = 0; i < modules->n && e->prefix; i++) {
        const tmb_engine_module *m = &modules->list[i];
        if (m->format || !speaks(b, m) || !tmb_regex_match(re, m->name)) continue;
        const char *word = m->name, *dot;
        while ((dot = strchr(word, '.')) && has_word(e->prefix, word, (size_t)(dot - word)))
            word = dot + 1;
        if (!dot) return NULL;
        const char *one = pattern_of(b, word, (size_t)(dot - word));
        if (one && words && has_alternative(words, one)) continue;
        words = !one ? NULL : words ? tmb_arena_printf(b->arena, "%s|%s", words, one) : one;
        if (!words) return NULL;
    }
    return words ? tmb_arena_printf(b->arena, "(?!(.*\\.)?(%s)\\.)", words) : NULL;
}

/* The shortest beginning that keeps strangers out: nothing, else their words, else one of ours. */
static tmb_status choose_target(builder *b, const entry *e, const char *leaves,
                                const tmb_engine_modules *modules, const tmb_ct_group *group,
                                const char **target, bool *clean, tmb_err *err)
{
    const char *tail =
        e->layers ? tmb_arena_printf(b->arena, "layers\\.%s\\.%s%s$", e->layers, e->parent, leaves)
                  : tmb_arena_printf(b->arena, "%s%s$", e->parent, leaves);
    const char *word = e->prefix ? e->prefix + strlen(e->prefix) : "";
    for (bool first = true;; first = false) {
        size_t n = 0;
        if (!first) { /* the next word to the left */
            if (!e->prefix || word <= e->prefix) break;
            const char *end = word[-1] == '.' ? word - 1 : word;
            for (word = end; word > e->prefix && word[-1] != '.'; word--)
                n++;
        }
        const char *text = !tail ? NULL
                           : first
                               ? tmb_arena_printf(b->arena, "re:.*%s", tail)
                               : tmb_arena_printf(b->arena, "re:.*%.*s\\..*%s", (int)n, word, tail);
        tmb_regex *re = NULL;
        if (!text) return tmb_fail_memory(err, 256, "a target");
        TRY(tmb_regex_open(&re, text + 3, err));
        bool bad = collides(re, modules, b, group);
        const char *fence = bad && first && group->format ? keep_out(b, e, re, modules) : NULL;
        tmb_regex_close(re);
        if (fence) {
            text = tmb_arena_printf(b->arena, "re:%s.*%s", fence, tail);
            if (!text) return tmb_fail_memory(err, 256, "a target");
            TRY(tmb_regex_open(&re, text + 3, err));
            bad = collides(re, modules, b, group);
            tmb_regex_close(re);
        }
        *target = text;
        *clean = !bad;
        if (!bad) return TMB_OK;
    }
    return TMB_OK; /* what it takes too much is in `ignore`, which wins; the check below decides */
}

static tmb_status write_targets(builder *b, tmb_ct_group *groups, tmb_ct_group *ignored,
                                const tmb_engine_modules *modules, tmb_err *err)
{
    for (size_t i = 0, end; i < b->n; i = end) {
        const entry *e = &b->list[i];
        size_t length = 3, used = 1, different = 0;
        for (end = i; end < b->n && b->list[end].group == e->group &&
                      compare_text(b->list[end].prefix, e->prefix) == 0 &&
                      strcmp(b->list[end].parent, e->parent) == 0 &&
                      compare_text(b->list[end].layers, e->layers) == 0;
             end++)
            length += strlen(b->list[end].leaf) + 1;
        char *leaves = tmb_arena_alloc(b->arena, length);
        if (!leaves) return tmb_fail_memory(err, length, "a target");
        leaves[0] = '(';
        for (size_t j = i; j < end; j++) {
            if (j > i && strcmp(b->list[j].leaf, b->list[j - 1].leaf) == 0) continue;
            if (different++) leaves[used++] = '|';
            memcpy(leaves + used, b->list[j].leaf, strlen(b->list[j].leaf));
            used += strlen(b->list[j].leaf);
        }
        leaves[used] = ')';
        tmb_ct_group *group = e->group < 0 ? ignored : &groups[e->group];
        bool bare = different == 1 && !strchr(e->leaf, '|'), clean = false;
        TRY(choose_target(b, e, bare ? e->leaf : leaves, modules, group,
                          &group->targets[group->n_targets], &clean, err));
        if (clean || group != ignored) group->n_targets++; /* ignoring too much would be silent */
    }
    return TMB_OK;
}

/* ---- the proof --------------------------------------------------------------------------------
 */

/* The loaders' rule: of the expressions that match, the first by spelling decides. */
static tmb_status prove(const tmb_ct_group *groups, int n_groups, const tmb_engine_modules *modules,
                        const builder *b, tmb_err *err)
{
    tmb_status status = TMB_OK;
    size_t n = 0, at = 0;
    for (int g = 0; g < n_groups; g++)
        n += groups[g].n_targets;
    tmb_regex **compiled = calloc(n + 1, sizeof(tmb_regex *));
    if (!compiled) return tmb_fail_memory(err, n * sizeof *compiled, "targets");
    for (int g = 0; g < n_groups && !status; g++)
        for (size_t t = 0; t < groups[g].n_targets && !status; t++)
            status = tmb_regex_open(&compiled[at++], groups[g].targets[t] + 3, err);
    for (size_t i = 0; i < modules->n && !status; i++) {
        const tmb_engine_module *m = &modules->list[i];
        const char *best = NULL;
        int found = -1;
        if (!m->format || !speaks(b, m)) continue;
        at = 0;
        for (int g = 0; g < n_groups; g++) {
            for (size_t t = 0; t < groups[g].n_targets; t++, at++) {
                if ((best && strcmp(groups[g].targets[t], best) >= 0) ||
                    !tmb_regex_match(compiled[at], m->name))
                    continue;
                best = groups[g].targets[t];
                found = g;
            }
        }
        if (found < 0 || !tmb_ct_in_group(&groups[found], m))
            status = tmb_fail(err, TMB_EINTERNAL,
                              "%s: no target of the compressed-tensors configuration "
                              "gives it %s; please report this recipe",
                              m->name, m->format->name);
    }
    for (size_t t = 0; t < n; t++)
        if (compiled[t]) tmb_regex_close(compiled[t]);
    free(compiled);
    return status;
}

static void make_room(builder *b, tmb_ct_group *group)
{
    group->n_targets = 0;
    group->targets = tmb_arena_alloc(b->arena, (b->n + 1) * sizeof(const char *));
    if (!group->targets) b->no_memory = true;
}

tmb_status tmb_ct_targets(tmb_ct_group *groups, int n_groups, tmb_ct_group *ignored,
                          const tmb_engine_modules *modules, const tmb_job_view *job,
                          tmb_arena *arena, tmb_err *err)
{
    builder b = {.job = job, .arena = arena};
    for (size_t i = 0; i < modules->n; i++) {
        const tmb_engine_module *m = &modules->list[i];
        int group = -1;
        if (!speaks(&b, m)) continue;
        for (int g = 0; g < n_groups; g++)
            if (m->format && tmb_ct_in_group(&groups[g], m)) group = g;
        add(&b, m, group);
    }
    settle_layers(&b);
    for (int g = 0; g < n_groups; g++)
        make_room(&b, &groups[g]);
    make_room(&b, ignored);
    tmb_status status =
        b.no_memory ? tmb_fail_memory(err, b.n * sizeof *b.list, "targets") : TMB_OK;
    if (!status) status = write_targets(&b, groups, ignored, modules, err);
    if (!status) status = prove(groups, n_groups, modules, &b, err);
    free(b.list);
    return status;
}
