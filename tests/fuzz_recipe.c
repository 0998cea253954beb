/* fuzz_recipe - a recipe, and its rules against a small model.  What is taken can be written out
 * resolved, and that text is taken, means the same, and is written the same again. */
#include "config.h"
#include "moe/recipe/assign.h"
#include "tests/fuzz.h"
#include "tests/mini_model.h"

static const mini *model(void)
{
    static mini m;
    static int made;
    if (!made++)
        mini_open(&m, &(mini_shape){
                          .layers = 1, .experts = 2, .hidden = 64, .width = 40, .shared = true});
    return &m;
}

static void refused(tmb_status status, const tmb_err *err)
{
    MUST(status == TMB_EUSAGE || status == TMB_EDATA);
    MUST(strncmp(err->message, "f:", 2) == 0 && !strpbrk(err->message, "\n\033"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tmb_recipe *first, *second;
    tmb_assignment *a = NULL, *b = NULL;
    tmb_err err = {0};
    char *text, *again;
    const tmb_model *m = &model()->model;
    tmb_status status = tmb_recipe_parse(&first, (const char *)data, size, "f", &err);
    if (status) {
        refused(status, &err);
        return 0;
    }
    status = tmb_assign(&a, m, first, &err);
    if (status) refused(status, &err);
    const char *layout = first->layout;
    MUST(!tmb_recipe_resolved(&text, first, layout, first->shard_size, &err));
    MUST(!tmb_recipe_parse(&second, text, strlen(text), "f", &err));
    MUST(!tmb_recipe_resolved(&again, second, layout, second->shard_size, &err));
    MUST(strcmp(text, again) == 0 && second->n_rules >= first->n_rules &&
         second->kv_fp8 == first->kv_fp8);
    MUST(!a == !!tmb_assign(&b, m, second, &err));
    for (uint32_t i = 0; a && i < m->n_units; i++)
        MUST(a->choices[i].spec->format == b->choices[i].spec->format &&
             a->choices[i].spec->scale == b->choices[i].spec->scale);
    free(text);
    free(again);
    tmb_assignment_close(a);
    tmb_assignment_close(b);
    tmb_recipe_close(first);
    tmb_recipe_close(second);
    return 0;
}
