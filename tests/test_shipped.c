/* Every shipped recipe on every architecture of the test data: it works, moves nothing protected,
 * leaves what engines fuse in one format, and its resolved form chooses the same. */
#include "config.h"
#include "moe/recipe/assign.h"
#include "tests/tap.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

static tmb_err err;

static bool one_format(const tmb_assignment *a, const uint32_t *units, uint32_t n)
{
    for (uint32_t k = 1; k < n; k++)
        if (a->choices[units[k]].spec->format != a->choices[units[0]].spec->format) return false;
    return true;
}

static const char *wrong(const tmb_model *m, const tmb_assignment *a)
{
    uint32_t quantized = 0;
    for (uint32_t i = 0; i < m->n_units; i++) {
        const tmb_unit *u = &m->units[i];
        const tmb_format *f = a->choices[i].spec->format;
        if (!f) continue;
        quantized++;
        if (!u->linear || u->keep || tmb_role_protected(u->role)) return u->name;
        if (f->col_multiple && u->in % f->col_multiple) return u->name;
    }
    for (uint32_t g = 0; g < m->n_fuses; g++)
        if (!one_format(a, m->fuses[g].units, m->fuses[g].n_units)) return "a fused layer";
    for (uint32_t g = 0; g < m->n_experts_groups; g++)
        if (!one_format(a, m->experts[g].units, m->experts[g].n_units)) return m->experts[g].name;
    bool said = false;
    for (uint32_t i = 0; i < a->n_warnings; i++)
        said = said || strstr(a->warnings[i], "no module would be quantized");
    if (quantized == 0 && !said) return "nothing is quantized in silence";
    return NULL;
}

/* The choices of the resolved recipe are those of the recipe. */
static bool resolved_same(const tmb_model *m, const tmb_recipe *recipe, const tmb_assignment *a)
{
    char *text = NULL;
    tmb_recipe *again = NULL;
    tmb_assignment *b = NULL;
    bool same = !tmb_recipe_resolved(&text, recipe, NULL, 0, &err) &&
                !tmb_recipe_parse(&again, text, strlen(text), "resolved", &err) &&
                !tmb_assign(&b, m, again, &err);
    for (uint32_t i = 0; same && i < m->n_units; i++) {
        const tmb_spec *x = a->choices[i].spec, *y = b->choices[i].spec;
        same = strcmp(x->name, y->name) == 0 && x->format == y->format && x->scale == y->scale;
    }
    tmb_assignment_close(b);
    tmb_recipe_close(again);
    free(text);
    return same;
}

static void check(const char *name, const tmb_model *m, const char **recipes,
                  const char *const *folders)
{
    for (; *recipes; recipes++) {
        tmb_recipe *recipe = NULL;
        tmb_assignment *a = NULL;
        tmb_status status = tmb_recipe_load(&recipe, *recipes, folders, &err);
        if (!status) status = tmb_assign(&a, m, recipe, &err);
        /* a recipe may not fit a model's widths; that is said, and nothing is written */
        bool misfit = status == TMB_EUSAGE && strstr(err.message, "no module would be quantized");
        const char *bad = misfit ? NULL : status ? err.message : wrong(m, a);
        ok(!bad, "%s by %s%s%s", name, *recipes, bad ? ": " : "", bad ? bad : "");
        if (!status) ok(resolved_same(m, recipe, a), "%s by %s resolved", name, *recipes);
        for (uint32_t i = 0; a && i < a->n_warnings; i++)
            printf("# %s\n", a->warnings[i]);
        tmb_assignment_close(a);
        tmb_recipe_close(recipe);
    }
}

int main(void)
{
    const char *srcdir = getenv("srcdir");
    if (!srcdir) srcdir = ".";
    tmb_arena arena = {0};
    const char *const folders[] = {tmb_arena_printf(&arena, "%s/recipes", srcdir), NULL};
    const char **recipes = tmb_recipe_shipped(folders, &arena);
    const char *data = tmb_arena_printf(&arena, "%s/tests/data/arch", srcdir);

    DIR *dir = opendir(data);
    int models = 0;
    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (*e->d_name == '.') continue;
        tmb_checkpoint *ckpt = NULL;
        tmb_model *model = NULL;
        tmb_status status =
            tmb_checkpoint_open(&ckpt, tmb_arena_printf(&arena, "%s/%s", data, e->d_name), &err);
        if (!status) status = tmb_model_open(&model, ckpt, &err);
        if (status)
            ok(0, "%s: %s", e->d_name, err.message);
        else
            check(e->d_name, model, recipes, folders);
        models++;
        tmb_model_close(model);
        tmb_checkpoint_close(ckpt);
    }
    if (dir) closedir(dir);
    ok(models >= 14 && *recipes, "%d models", models);
    tmb_arena_free(&arena);
    return done();
}
