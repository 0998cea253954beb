/* manifest.c - which models a diagnosis is about: fingerprints, formats, recipe. */
#include "config.h"
#include "moe/diagnose/manifest.h"

#include "moe/io/json.h"
#include "moe/model/fingerprint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FORMATS = 32, SUMMARY_BYTES = 1 << 28 };

static const char *keep(tmb_arena *arena, const char *text)
{
    return text ? tmb_arena_text(arena, text, strlen(text)) : NULL;
}

/* Last component of a path, trailing slashes aside. */
static const char *base_name(tmb_arena *arena, const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    size_t from = n;
    while (from && path[from - 1] != '/')
        from--;
    return tmb_arena_text(arena, path + from, n - from);
}

/* The format that unit u is computed with: "bf16" when it is plain. */
static const char *format_of(const tmb_model *m, const tmb_plan *plan, uint32_t u)
{
    const tmb_format *stored = m->units[u].stored.format;
    const tmb_spec *spec = plan ? plan->job.assignment->choices[u].spec : NULL;
    if (spec && spec->format) return spec->name;
    return stored && !(spec && !spec->format) ? stored->name : "bf16";
}

/* "nvfp4 288, fp8 24, bf16 7 Linears", the most frequent first. */
static const char *formats(tmb_arena *arena, const tmb_model *m, const tmb_plan *plan)
{
    const char *names[FORMATS];
    size_t counts[FORMATS] = {0}, n = 0, o = 0;
    char text[1024] = "";
    for (uint32_t u = 0; u < m->n_units; u++) {
        if (!m->units[u].linear || m->units[u].broken) continue;
        const char *name = format_of(m, plan, u);
        size_t i = 0;
        while (i < n && strcmp(names[i], name) != 0)
            i++;
        if (i == FORMATS) continue;
        if (i == n) names[n++] = name;
        counts[i]++;
    }
    for (size_t shown = 0; shown < n; shown++) {
        size_t best = 0;
        for (size_t i = 1; i < n; i++)
            if (counts[i] > counts[best]) best = i;
        if (o < sizeof text)
            o += (size_t)snprintf(text + o, sizeof text - o, "%s%s %zu", shown ? ", " : "",
                                  names[best], counts[best]);
        counts[best] = 0;
    }
    if (n && o < sizeof text) snprintf(text + o, sizeof text - o, " Linears");
    return keep(arena, text);
}

static tmb_status name_model(tmb_diag_model *out, tmb_arena *arena, const tmb_model *m,
                             const tmb_plan *plan, tmb_err *err)
{
    char hex[TMB_SHA256_HEX];
    TRY(tmb_fingerprint(hex, m->ckpt, err));
    out->path = base_name(arena, m->ckpt->path);
    out->fingerprint = keep(arena, hex);
    out->arch = keep(arena, m->model_type);
    out->formats = formats(arena, m, plan);
    return out->path && out->fingerprint && out->arch && out->formats
               ? TMB_OK
               : tmb_fail_memory(err, 0, "the manifest");
}

static void recipe_of_plan(tmb_diag_manifest *m, tmb_arena *arena, const tmb_plan *plan)
{
    const tmb_recipe *r = plan->job.recipe;
    m->recipe_path = base_name(arena, r->path);
    m->recipe_text = keep(arena, r->text);
    m->recipe_sha256 = keep(arena, r->sha256);
    m->stats_sha256 = plan->job.measured ? keep(arena, plan->job.measured->content) : NULL;
}

/* Of a checkpoint of ours; what cannot be read is left out. */
static void recipe_of_summary(tmb_diag_manifest *m, tmb_arena *arena, const tmb_model *other)
{
    tmb_json *summary = NULL;
    tmb_err ignored;
    if (other->ckpt->dirfd < 0 ||
        tmb_json_load(&summary, other->ckpt->dirfd, "tombac.json", SUMMARY_BYTES, false, &ignored))
        return;
    m->recipe_text = keep(arena, tmb_json_string(tmb_json_path(summary, "recipe.text")));
    m->recipe_sha256 = keep(arena, tmb_json_string(tmb_json_path(summary, "recipe.sha256")));
    tmb_json_free(summary);
}

tmb_status tmb_diagnosis_name(tmb_diagnosis *d, const tmb_model *ref, const tmb_model *other,
                              const tmb_plan *plan, tmb_err *err)
{
    TRY(name_model(&d->manifest.ref, &d->arena, ref, NULL, err));
    TRY(name_model(&d->manifest.other, &d->arena, other, plan, err));
    if (plan)
        recipe_of_plan(&d->manifest, &d->arena, plan);
    else
        recipe_of_summary(&d->manifest, &d->arena, other);
    return TMB_OK;
}
