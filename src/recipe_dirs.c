/* recipe_dirs.c - where shipped recipes are looked for. */
#include "config.h"
#include "src/recipe_dirs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void add(tmb_recipe_dirs *dirs, const char *path, size_t n)
{
    int i = 0;
    while (dirs->at[i])
        i++;
    if (!n || n >= TMB_RECIPE_DIR_BYTES || i == TMB_RECIPE_DIRS) return;
    memcpy(dirs->text[i], path, n);
    dirs->text[i][n] = 0;
    struct stat st;
    if (!stat(dirs->text[i], &st) && S_ISDIR(st.st_mode)) dirs->at[i] = dirs->text[i];
}

/* The build writes where its sources are into a file beside the program it builds. */
static void add_source_tree(tmb_recipe_dirs *dirs, const char *folder)
{
    char path[TMB_RECIPE_DIR_BYTES + 32], line[TMB_RECIPE_DIR_BYTES];
    snprintf(path, sizeof path, "%s/src/recipes.dir", folder);
    FILE *f = fopen(path, "r");
    if (!f) return;
    if (fgets(line, sizeof line, f)) add(dirs, line, strcspn(line, "\n"));
    fclose(f);
}

void tmb_recipe_dirs_find(tmb_recipe_dirs *dirs)
{
    memset(dirs, 0, sizeof *dirs);
    const char *list = getenv("TOMBAC_RECIPES");
    while (list && *list) {
        size_t n = strcspn(list, ":");
        add(dirs, list, n);
        list += n + (list[n] == ':');
    }
    char exe[TMB_RECIPE_DIR_BYTES], shared[TMB_RECIPE_DIR_BYTES + 32];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n > 0) {
        exe[n] = 0;
        char *slash = strrchr(exe, '/');
        if (slash) *slash = 0;
        add_source_tree(dirs, exe);
        snprintf(shared, sizeof shared, "%s/../share/" PACKAGE, exe);
        add(dirs, shared, strlen(shared));
    }
    add(dirs, TMB_PKGDATADIR, strlen(TMB_PKGDATADIR));
}
