/* shipped.c - the recipes that come with tombac, found by name in a list of folders. */
#include "config.h"
#include "moe/recipe/draft.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Bytes of a file name before ".ini"; 0 when it does not end so. */
static size_t stem(const char *file)
{
    size_t n = strlen(file);
    return n > 4 && strcmp(file + n - 4, ".ini") == 0 ? n - 4 : 0;
}

const char *tmb_recipe_find(const char *name, const char *const *folders, tmb_arena *arena)
{
    size_t n = stem(name) ? stem(name) : strlen(name);
    for (; folders && *folders; folders++) {
        struct stat st;
        char *path = tmb_arena_printf(arena, "%s/%.*s.ini", *folders, (int)n, name);
        if (path && stat(path, &st) == 0 && S_ISREG(st.st_mode)) return path;
    }
    return NULL;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

const char **tmb_recipe_shipped(const char *const *folders, tmb_arena *arena)
{
    const char **names = NULL;
    size_t n = 0, room = 0;
    for (; folders && *folders; folders++) {
        DIR *dir = opendir(*folders);
        if (!dir) continue;
        for (struct dirent *e; (e = readdir(dir));) {
            if (!stem(e->d_name)) continue;
            if (n == room) { /* the arena keeps the shorter list too; it is a handful of names */
                const char **more =
                    tmb_arena_alloc(arena, (room ? 2 * room : 16) * sizeof *more + sizeof *more);
                if (!more) break;
                if (n) memcpy(more, names, n * sizeof *more);
                names = more;
                room = room ? 2 * room : 16;
            }
            char *name = tmb_arena_text(arena, e->d_name, stem(e->d_name));
            if (name) names[n++] = name;
        }
        closedir(dir);
    }
    if (!n) return tmb_arena_alloc(arena, sizeof *names);

    qsort(names, n, sizeof *names, by_name);
    size_t kept = 1;
    for (size_t i = 1; i < n; i++) /* the same recipe in the source tree and installed */
        if (strcmp(names[i], names[kept - 1]) != 0) names[kept++] = names[i];
    names[kept] = NULL;
    return names;
}
