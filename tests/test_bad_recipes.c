/* Every recipe under tests/malformed/recipes/ is refused with exactly the message and status that
 * stand in the file `expected` beside them:
 *
 *     STATUS MODEL FILE:LINE: message
 *
 * MODEL is "-" when the text alone is wrong, else the inventory the rules are held against. */
#include "config.h"
#include "moe/recipe/assign.h"
#include "tests/mini_model.h"
#include "tests/tap.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *name;
    mini_shape shape;
} models[] = {
    {"moe", {.layers = 2, .experts = 4, .hidden = 64, .width = 32, .shared = true}},
    {"dense", {.layers = 2, .hidden = 64, .width = 128}},
    {"odd", {.layers = 2, .experts = 4, .hidden = 64, .width = 40}}, /* 40 % 16 != 0 */
};

static tmb_status run(const char *file, const char *model, tmb_err *err)
{
    char *text = NULL;
    size_t n;
    TRY(tmb_file_load(&text, &n, AT_FDCWD, file, 1 << 20, err));
    tmb_recipe *recipe = NULL;
    tmb_status status = tmb_recipe_parse(&recipe, text, n, file, err);
    free(text);
    if (status || strcmp(model, "-") == 0) {
        tmb_recipe_close(recipe);
        return status;
    }
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        if (strcmp(models[i].name, model) != 0) continue;
        mini m;
        tmb_assignment *assignment = NULL;
        status = tmb_assign(&assignment, mini_open(&m, &models[i].shape), recipe, err);
        tmb_assignment_close(assignment);
        mini_close(&m);
        break;
    }
    tmb_recipe_close(recipe);
    return status;
}

/* One line of `expected`; marks its file as seen by returning its name's length. */
static void check(char *line)
{
    char model[16];
    int status, at;
    if (sscanf(line, "%d %15s %n", &status, model, &at) != 2) {
        ok(0, "a line of `expected` reads STATUS MODEL MESSAGE: %s", line);
        return;
    }
    const char *want = line + at;
    char file[256];
    snprintf(file, sizeof file, "%.*s", (int)strcspn(want, ":"), want);

    tmb_err err = {0};
    tmb_status got = run(file, model, &err);
    bool pass = (int)got == status && strcmp(err.message, want) == 0;
    ok(pass, "%s", file);
    if (!pass) printf("# want %d %s\n# got  %d %s\n", status, want, (int)got, err.message);
}

/* A case that nobody expects anything of would be a check that cannot fail. */
static void check_listed(const char *expected)
{
    DIR *dir = opendir(".");
    int missing = 0;
    for (struct dirent *e; dir && (e = readdir(dir));) {
        size_t n = strlen(e->d_name);
        if (n < 4 || strcmp(e->d_name + n - 4, ".ini") != 0) continue;
        char key[300];
        snprintf(key, sizeof key, " %s:", e->d_name);
        if (strstr(expected, key)) continue;
        missing++;
        printf("# %s is not in `expected`\n", e->d_name);
    }
    if (dir) closedir(dir);
    ok(dir && !missing, "every recipe of the folder stands in `expected`");
}

int main(void)
{
    const char *srcdir = getenv("srcdir");
    char folder[4096];
    snprintf(folder, sizeof folder, "%s/tests/malformed/recipes", srcdir ? srcdir : ".");
    char *expected = NULL;
    size_t n;
    tmb_err err;
    if (chdir(folder) || tmb_file_load(&expected, &n, AT_FDCWD, "expected", 1 << 20, &err)) {
        ok(0, "cannot read %s/expected", folder);
        return done();
    }
    check_listed(expected);
    for (char *line = strtok(expected, "\n"); line; line = strtok(NULL, "\n"))
        check(line);
    free(expected);
    return done();
}
