/* recipe.c - open, read and close a recipe.  The only file that includes inih.
 *
 * inih reads through next_line(), which hands it one checked line at a time (lines.c) and so
 * also knows the line number that the packaged inih does not tell its handler. */
#include "config.h"
#include "moe/recipe/draft.h"

#include <ini.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { RECIPE_BYTES_MAX = 1 << 20 };

typedef struct source {
    const char *at, *end;
    tmb_draft draft;
} source;

/* inih's reader: the next line without indentation, or an empty one for what inih need not see. */
static char *next_line(char *buffer, int size, void *stream)
{
    source *s = stream;
    if (s->draft.status || s->at == s->end) return NULL;

    const char *line = s->at;
    const char *stop = memchr(line, '\n', (size_t)(s->end - line));
    s->at = stop ? stop + 1 : s->end;
    if (!stop) stop = s->end;
    while (line < stop && (*line == ' ' || *line == '\t'))
        line++;
    while (stop > line && (stop[-1] == ' ' || stop[-1] == '\t' || stop[-1] == '\r'))
        stop--;
    size_t n = (size_t)(stop - line);
    s->draft.line++;

    const char *name = NULL;
    size_t name_n = 0;
    switch (tmb_recipe_line(&s->draft, line, n, &name, &name_n)) {
    case TMB_LINE_BAD:
        return NULL;
    case TMB_LINE_SECTION: /* inih would not tell of a section without keys */
        if (tmb_draft_section(&s->draft, name, name_n)) return NULL;
        n = 0;
        break;
    case TMB_LINE_BLANK:
        n = 0;
        break;
    case TMB_LINE_PAIR:
        break;
    }
    if (n + 2 > (size_t)size) { /* an inih built for shorter lines than TMB_RECIPE_LINE_MAX */
        tmb_draft_fail(&s->draft, s->draft.line,
                       "line of %zu bytes, this inih takes %d; shorten it", n, size - 2);
        return NULL;
    }
    memcpy(buffer, line, n);
    memcpy(buffer + n, "\n", 2);
    return buffer;
}

static int on_value(void *user, const char *section, const char *name, const char *value)
{
    source *s = user;
    (void)section; /* sections.c was told by next_line() */
    return tmb_draft_value(&s->draft, name, value) == TMB_OK;
}

static const char *base_name(tmb_arena *arena, const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *base = slash ? slash + 1 : path;
    size_t n = strlen(base);
    if (n > 4 && strcmp(base + n - 4, ".ini") == 0) n -= 4;
    return tmb_arena_text(arena, base, n);
}

tmb_status tmb_recipe_parse(tmb_recipe **out, const char *text, size_t n, const char *path,
                            tmb_err *err)
{
    *out = NULL;
    size_t start;
    TRY(tmb_recipe_text(text, n, path, &start, err));

    tmb_recipe *r = calloc(1, sizeof *r);
    if (!r) return tmb_fail_memory(err, sizeof *r, "a recipe");
    tmb_calibration_defaults(&r->calibration);
    r->path = tmb_arena_text(&r->arena, path, strlen(path));
    r->name = base_name(&r->arena, path);
    r->text = tmb_arena_text(&r->arena, text, n);
    tmb_status status;
    if (!r->path || !r->name || !r->text) {
        status = tmb_fail_memory(err, n, "a recipe");
        goto out;
    }
    status = tmb_sha256(text, n, r->sha256, err);
    if (status) goto out;

    source s = {.at = r->text + start,
                .end = r->text + n,
                .draft = {.recipe = r, .section = TMB_SECTION_NONE, .err = err}};
    s.draft.rules_end = &s.draft.rules;
    s.draft.variants_end = &s.draft.variants;
    int bad_line = ini_parse_stream(next_line, &s, on_value, &s);
    status = s.draft.status;
    if (!status && bad_line)
        status = tmb_draft_fail(&s.draft, bad_line > 0 ? bad_line : s.draft.line,
                                "inih cannot read this line; write NAME = VALUE");
    if (!status) status = tmb_draft_finish(&s.draft);
out:
    if (status) {
        tmb_recipe_close(r);
        return status;
    }
    *out = r;
    return TMB_OK;
}

static tmb_status load_file(tmb_recipe **out, const char *path, tmb_err *err)
{
    char *text = NULL;
    size_t n;
    TRY(tmb_file_load(&text, &n, AT_FDCWD, path, RECIPE_BYTES_MAX, err));
    tmb_status status = tmb_recipe_parse(out, text, n, path, err);
    free(text);
    return status;
}

/* A name without a slash is first a file, then a shipped recipe: a file at hand is what was meant.
 */
tmb_status tmb_recipe_load(tmb_recipe **out, const char *where, const char *const *folders,
                           tmb_err *err)
{
    *out = NULL;
    struct stat st;
    int gone = stat(where, &st) ? errno : 0;
    if (!gone && !S_ISDIR(st.st_mode)) return load_file(out, where, err);
    if (strchr(where, '/')) {
        if (gone)
            return tmb_fail(err, TMB_ENOINPUT,
                            "%s: no such recipe file; give a path, or the name of a shipped recipe",
                            where);
        return tmb_fail(err, TMB_ENOINPUT, "%s: a folder; give the recipe file in it", where);
    }

    tmb_arena arena = {0};
    const char *shipped = tmb_recipe_find(where, folders, &arena);
    tmb_status status;
    if (shipped) {
        status = load_file(out, shipped, err);
    } else {
        const char **names = tmb_recipe_shipped(folders, &arena);
        size_t n = 0;
        while (names && names[n])
            n++;
        char meant[TMB_ERR_BYTES];
        status = tmb_fail(err, TMB_ENOINPUT, "%s: neither a file nor a shipped recipe; %s", where,
                          n ? tmb_recipe_meant(meant, sizeof meant, where, names, n)
                            : "give the path of a recipe file");
    }
    tmb_arena_free(&arena);
    return status;
}

void tmb_recipe_close(tmb_recipe *recipe)
{
    if (!recipe) return;
    tmb_arena_free(&recipe->arena);
    free(recipe);
}
