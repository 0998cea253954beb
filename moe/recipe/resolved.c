/* resolved.c - the recipe with every default written out.
 *
 * Read again it gives the same choices and the same text.  What has no key (the roles that stay
 * as they are) stands in comments. */
#include "config.h"
#include "moe/recipe/assign.h"
#include "moe/recipe/draft.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* NAME = VALUE, tight where the blanks would make a line too long to be read again. */
static void pair(FILE *f, const char *name, const char *value)
{
    bool fits = strlen(name) + strlen(value) + 3 <= TMB_RECIPE_LINE_MAX;
    fprintf(f, "%s%s%s\n", name, fits ? " = " : "=", value);
}

static void write_rules(FILE *f, const tmb_recipe *r)
{
    fprintf(f, "\n[rules]\n; the first that matches decides; these stay as they are unless a rule "
               "names the role:\n;");
    for (int role = 0; role < TMB_ROLES; role++)
        if (tmb_role_protected((tmb_role)role)) fprintf(f, " @%s", tmb_role_name((tmb_role)role));
    fprintf(f, "\n");
    bool rest = false;
    for (int i = 0; i < r->n_rules; i++) {
        pair(f, r->rules[i].left, r->rules[i].spec->name);
        rest = rest || strcmp(r->rules[i].left, "*") == 0;
    }
    if (!rest) pair(f, "*", r->specs[0].name);
}

static void write_variants(FILE *f, const tmb_recipe *r)
{
    for (int i = 0; i < r->n_specs; i++) {
        const tmb_spec *s = &r->specs[i];
        if (!s->line) continue;
        fprintf(f, "\n[format %s]\nbase = %s\nscale = %s\n", s->name, s->format->name,
                tmb_scale_name((int)s->scale));
    }
}

/* As written: the text must not depend on the folder the recipe was in. */
static void write_calibration(FILE *f, const tmb_calibration *c)
{
    if (!c->line) return; /* no job of this recipe reads it */
    fprintf(f, "\n[calibration]\n");
    for (size_t i = 0; i < c->n_sources; i++) {
        char name[TMB_SOURCE_NAME_MAX + 8];
        snprintf(name, sizeof name, "source.%s", c->sources[i].name);
        pair(f, name, c->written[i]);
    }
    fprintf(f, "samples = %" PRIu64 "\nlength = %" PRIu32 "\nseed = %" PRIu64 "\nfit = %s\n",
            c->samples, c->length, c->seed, c->fit == TMB_FIT_PAD ? "pad" : "pack");
    if (c->max_samples) fprintf(f, "max_samples = %" PRIu64 "\n", c->max_samples);
    fprintf(f, "min_tokens = %" PRIu64 "\nstarved = %s\nhessian = %s\nact_scale = %s\n",
            c->min_tokens,
            c->starved == TMB_STARVED_SHADOW  ? "shadow"
            : c->starved == TMB_STARVED_PEERS ? "peers"
                                              : "fail",
            c->moments ? "block16" : "none", c->headroom ? "headroom" : "max");
}

tmb_status tmb_recipe_resolved(char **text, const tmb_recipe *recipe, const char *layout,
                               uint64_t shard_size, tmb_err *err)
{
    *text = NULL;
    char *out = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&out, &n);
    if (!f) return tmb_fail_memory(err, TMB_RECIPE_LINE_MAX, "the resolved recipe");

    fprintf(f, "; complete: every default is written out\n[recipe]\nversion = 1\n");
    if (*recipe->description) pair(f, "description", recipe->description);
    write_rules(f, recipe);
    write_variants(f, recipe);
    fprintf(f, "\n[kv_cache]\nformat = %s\n", recipe->kv_fp8 ? "fp8" : "none");
    fprintf(f, "\n[output]\nlayout = %s\n", layout ? layout : recipe->layout);
    if (!shard_size) shard_size = recipe->shard_size;
    if (shard_size) fprintf(f, "shard_size = %" PRIu64 "\n", shard_size);

    write_calibration(f, &recipe->calibration);

    bool failed = ferror(f);
    if (fclose(f) || failed) {
        free(out);
        return tmb_fail_memory(err, n, "the resolved recipe");
    }
    *text = out;
    return TMB_OK;
}
