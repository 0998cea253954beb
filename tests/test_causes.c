/* test_causes.c - a planted fault is found and named with its layer and experts, on models of
 * several architectures; recipes are blamed line by line; nothing is found where nothing is.  make
 * check takes some of the faults, make check-long (TOMBAC_LONG=1) all. */
#include "config.h"

#include "moe/diagnose/cause.h"
#include "tests/job.h"
#include "tests/plant_faults.h"
#include "tests/random.h"
#include "tests/tap.h"

#include <unistd.h>

enum { WINDOWS = 4, LENGTH = 128 };

static char folder[] = "/tmp/tombac-test-XXXXXX";

/* ---- models and data --------------------------------------------------------------------------
 */

typedef struct side {
    tmb_checkpoint *ckpt;
    tmb_model *model;
} side;

static tmb_status open_side(side *s, const char *path, tmb_err *err)
{
    tmb_status status = tmb_checkpoint_open(&s->ckpt, path, err);
    return status ? status : tmb_model_open(&s->model, s->ckpt, err);
}

static void close_side(side *s)
{
    tmb_model_close(s->model);
    tmb_checkpoint_close(s->ckpt);
}

/* Text for tinymoe; random ids for models that have learned nothing. */
static tmb_status open_data(tmb_data **out, bool text, tmb_err *err)
{
    char path[1024];
    if (text)
        snprintf(path, sizeof path, "%s", data_path("tinymoe/heldout_math.bin"));
    else
        snprintf(path, sizeof path, "%s/ids.bin", folder);
    tmb_source source = {.name = "text", .path = path, .weight = 1};
    tmb_data_options o = {.sources = &source,
                          .n_sources = 1,
                          .length = LENGTH,
                          .samples = WINDOWS,
                          .fit = TMB_FIT_PACK};
    return tmb_data_open(out, &o, err);
}

static bool write_ids(void)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/ids.bin", folder);
    FILE *f = fopen(path, "wb");
    for (int i = 0; f && i < WINDOWS * LENGTH; i++) {
        uint16_t id = (uint16_t)(random_bits() % 90);
        fwrite(&id, sizeof id, 1, f);
    }
    return f && fclose(f) == 0;
}

/* ---- an inquest -------------------------------------------------------------------------------
 */

static tmb_diagnosis *inquire(const tmb_variant *ref, const tmb_variant *other, bool text,
                              const job *j, tmb_cause_depth depth, bool noise, tmb_err *err)
{
    tmb_data *data = NULL;
    tmb_diagnosis *d = NULL;
    tmb_diagnose_options o = {.run = {.ranks = 1}, .seed = TMB_BOOT_SEED, .no_noise = !noise};
    tmb_cause_options c = {.depth = depth, .tokens = 512, .run = {.ranks = 1}};
    if (j) {
        c.recipe = j->recipe;
        c.assignment = j->assignment;
    }
    c.seed = TMB_BOOT_SEED;
    tmb_status status = open_data(&data, text, err);
    if (!status) status = tmb_diagnose(&d, ref, other, data, &o, err);
    if (!status) status = tmb_causes_find(d, ref, other, data, &c, err);
    tmb_data_close(data);
    if (!status) return d;
    tmb_diagnosis_free(d);
    return NULL;
}

static void print(const tmb_diagnosis *d)
{
    for (size_t i = 0; d && i < d->verdict.n_lines; i++)
        printf("# %s\n", d->verdict.lines[i]);
}

static const tmb_cause *first(const tmb_diagnosis *d, tmb_scale scale)
{
    return d && d->verdict.scales[scale].n ? &d->verdict.scales[scale].list[0] : NULL;
}

static size_t n_causes(const tmb_diagnosis *d)
{
    return d->verdict.scales[0].n + d->verdict.scales[1].n;
}

/* ---- planted faults ---------------------------------------------------------------------------
 */

typedef struct fault {
    const char *source, *words; /* "router 3 nvfp4" */
    const char *cause;          /* NULL: nothing may be found */
    tmb_role role;
    int layer, experts[2], n_experts;
    bool always; /* else in check-long alone */
} fault;

static tmb_diagnosis *plant_and_inquire(const char *source, const char *words, tmb_err *err)
{
    char copy[128], out[256];
    const char *list[8];
    static int serial;
    int n = 0;
    snprintf(copy, sizeof copy, "%s", words);
    for (char *w = strtok(copy, " "); w && n < 8; w = strtok(NULL, " "))
        list[n++] = w;
    snprintf(out, sizeof out, "%s/planted-%d", folder, serial++);
    side ref = {0}, other = {0};
    tmb_diagnosis *d = NULL;
    char from[1024];
    snprintf(from, sizeof from, "%s", data_path(source));
    if (plant_fault(from, out, n, list, err) && !open_side(&ref, from, err) &&
        !open_side(&other, out, err)) {
        tmb_variant a = tmb_variant_stored("reference", ref.model),
                    b = tmb_variant_stored("planted", other.model);
        d = inquire(&a, &b, strstr(source, "tinymoe") != NULL, NULL, TMB_CAUSE_ROLES, true, err);
    }
    close_side(&other);
    close_side(&ref);
    return d;
}

static bool names(const tmb_cause *c, const fault *f)
{
    bool good = c && !strcmp(c->cause, f->cause) && c->role == f->role && c->n_layers == 1 &&
                c->layers[0] == f->layer && c->n_experts == (size_t)f->n_experts;
    for (int i = 0; good && i < f->n_experts; i++)
        good = c->experts[i] == f->experts[i];
    return good;
}

/* One cause, on the one scale or on both, and it is this one. */
static void check_fault(const fault *f)
{
    tmb_err err = {0};
    tmb_diagnosis *d = plant_and_inquire(f->source, f->words, &err);
    const tmb_cause *routing = first(d, TMB_SCALE_ROUTING), *output = first(d, TMB_SCALE_OUTPUT);
    bool good = d && (routing || output) && (!routing || names(routing, f)) &&
                (!output || names(output, f)) && d->verdict.scales[0].n <= 1 &&
                d->verdict.scales[1].n <= 1;
    ok(good, "%s, %s: %s (%s)", f->source, f->words, f->cause, err.message);
    if (!good) print(d);
    tmb_diagnosis_free(d);
}

static void check_harmless(const char *source, const char *words, int layer)
{
    tmb_err err = {0};
    tmb_diagnosis *d = plant_and_inquire(source, words, &err);
    bool told = layer < 0;
    for (size_t i = 0; d && i < d->n_harmless; i++)
        told |= !strcmp(d->harmless[i].kind, "equal-function") && d->harmless[i].layer == layer;
    bool good = d && !n_causes(d) && told;
    ok(good, "%s, %s: no cause, %zu harmless differences (%s)", source, words,
       d ? d->n_harmless : 0, err.message);
    if (!good) print(d);
    tmb_diagnosis_free(d);
}

static void planted(void)
{
    static const char a[] = "tinymoe/a", mixtral[] = "arch/mixtral", gpt[] = "arch/gpt_oss",
                      minimax[] = "arch/minimax_m2";
    const fault faults[] = {
        {a, "router 3 nvfp4", "router-format", TMB_ROLE_ROUTER, 3, {0}, 0, false},
        {a, "attention 2 nvfp4", "attention-format", TMB_ROLE_ATTENTION, 2, {0}, 0, true},
        {a, "scaled 4 5 4", "poisoned-expert", TMB_ROLE_EXPERT, 4, {5}, 1, true},
        {a, "scaled 1 6 0", "dead-expert", TMB_ROLE_EXPERT, 1, {6}, 1, false},
        {a, "ties 1 3 9", "ties", TMB_ROLE_ROUTER, 1, {3, 9}, 2, false},
        {mixtral, "router 2 nvfp4", "router-format", TMB_ROLE_ROUTER, 2, {0}, 0, false},
        {mixtral, "noise 2 1 1", "poisoned-expert", TMB_ROLE_EXPERT, 2, {1}, 1, false},
        {gpt, "attention 2 nvfp4", "attention-format", TMB_ROLE_ATTENTION, 2, {0}, 0, false},
        {gpt, "ties 1 1 3", "ties", TMB_ROLE_ROUTER, 1, {1, 3}, 2, true},
        {minimax, "router 1 nvfp4", "router-format", TMB_ROLE_ROUTER, 1, {0}, 0, true},
    };
    bool all = getenv("TOMBAC_LONG") != NULL;
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        if (faults[i].always || all) check_fault(&faults[i]);
    char words[1200];
    snprintf(words, sizeof words, "dead 2 7 %s", data_path("tinymoe/heldout_math.bin"));
    const fault dead = {a, words, "dead-expert", TMB_ROLE_ROUTER, 2, {7}, 1, true};
    check_fault(&dead);
    check_harmless(a, "rescaled-experts 3", 3);
    if (all) check_harmless(a, "rescaled-norm 2", 2);
    if (all) check_harmless(minimax, "rescaled-norm 1", 1);
    check_harmless(a, "identical", -1);
}

/* Another tool's checkpoint, whose experts have other names. */
static void foreign(void)
{
    side ref = {0}, other = {0};
    tmb_err err = {0};
    tmb_diagnosis *d = NULL;
    if (!open_side(&ref, data_path("arch/mixtral"), &err) &&
        !open_side(&other, data_path("whole/mixtral_llmcompressor"), &err)) {
        tmb_variant a = tmb_variant_stored("reference", ref.model),
                    b = tmb_variant_stored("other", other.model);
        d = inquire(&a, &b, false, NULL, TMB_CAUSE_ROLES, true, &err);
    }
    const tmb_cause *c = first(d, TMB_SCALE_OUTPUT);
    ok(c && !strcmp(c->cause, "expert-format") && !c->n_layers && strstr(c->text, "nvfp4"),
       "llm-compressor's checkpoint: %s (%s)", c ? c->text : "", err.message);
    tmb_diagnosis_free(d);
    close_side(&other);
    close_side(&ref);
}

/* ---- recipes ----------------------------------------------------------------------------------
 */

static tmb_diagnosis *under_recipe(job *j, const char *rules, tmb_cause_depth depth, bool noise,
                                   tmb_err *err)
{
    tmb_plan_options plan = {.threads = 2};
    if (job_open(j, data_path("tinymoe/a"), rules, &plan)) {
        *err = j->err;
        return NULL;
    }
    tmb_variant ref = tmb_variant_stored("reference", j->model),
                other = tmb_variant_planned("recipe", j->plan);
    return inquire(&ref, &other, true, j, depth, noise, err);
}

static void router_line(void)
{
    static const char rules[] =
        "@router = nvfp4 ; a mistake\n*experts* = nvfp4\n* = fp8\n[kv_cache]\nformat = fp8\n";
    job j;
    tmb_err err = {0};
    tmb_diagnosis *d = under_recipe(&j, rules, TMB_CAUSE_ROLES, true, &err);
    const tmb_cause *c = first(d, TMB_SCALE_ROUTING), *o = first(d, TMB_SCALE_OUTPUT);
    ok(c && !strcmp(c->cause, "router-format") && c->role == TMB_ROLE_ROUTER &&
           c->recipe_line_number == 4 && !strcmp(c->recipe_line, "@router = nvfp4") &&
           c->effect > 0.15 && c->ci95[0] < c->effect && c->effect < c->ci95[1],
       "an NVFP4 router is first on the routing scale, with its line (%s)", err.message);
    ok(o && o->role == TMB_ROLE_EXPERT && o->recipe_line_number == 5,
       "the experts are first on the output scale");
    const char *advice = d ? d->verdict.advice : NULL;
    ok(advice && strstr(advice, "@router = bf16 ; a mistake\n*experts* = nvfp4\n"),
       "the advice changes that line and no other");
    bool filled = d && d->replay.there && d->replay.value.value > 0 &&
                  d->replay.selection.value > 0 && d->n_splits == 6 && d->n_sensitivities > 0;
    ok(filled && d->n_ablations == 9, "routes are replayed, parts ablated: %zu",
       d ? d->n_ablations : 0);
    if (d) {
        tmb_data *data = NULL;
        tmb_run_options run = {.ranks = 1};
        tmb_variant ref = tmb_variant_stored("reference", j.model);
        tmb_status status = open_data(&data, true, &err);
        d->manifest.seed = TMB_BOOT_SEED;
        if (!status)
            status = tmb_causes_apply(d, &ref, data, &(tmb_plan_options){.threads = 2}, &run, &err);
        ok(!status && d->verdict.advised_set_match.value > d->overall[TMB_M_SET_MATCH].value + 0.05,
           "applied, it wins %.3f to %.3f of the sets (%s)", d->overall[TMB_M_SET_MATCH].value,
           d->verdict.advised_set_match.value, err.message);
        tmb_data_close(data);
    }
    if (tap_bad) print(d);
    tmb_diagnosis_free(d);
    job_close(&j);
}

static void both_named(void)
{
    job j;
    tmb_err err = {0};
    tmb_diagnosis *d = under_recipe(&j, "@router = nvfp4\n@lm_head = nvfp4\n* = nvfp4\n",
                                    TMB_CAUSE_ROLES, true, &err);
    bool router = false, attention = false;
    for (size_t i = 0; d && i < d->verdict.scales[TMB_SCALE_ROUTING].n; i++) {
        const tmb_cause *c = &d->verdict.scales[TMB_SCALE_ROUTING].list[i];
        router |= c->role == TMB_ROLE_ROUTER;
        attention |= c->role == TMB_ROLE_ATTENTION;
    }
    ok(router && attention, "everything in NVFP4: router and attention are both named (%s)",
       err.message);
    const char *advice = d ? d->verdict.advice : NULL;
    ok(advice && strstr(advice, "@router = bf16"), "advice: %s", d ? d->verdict.advice_line : "");
    tmb_diagnosis_free(d);
    job_close(&j);
}

/* One rule is all that was done: nothing needs to be run to know it. */
static void without_runs(void)
{
    job j;
    tmb_err err = {0};
    tmb_diagnosis *d = under_recipe(&j, "@router = nvfp4\n* = bf16\n", TMB_CAUSE_NONE, false, &err);
    const tmb_cause *c = first(d, TMB_SCALE_ROUTING);
    ok(c && c->role == TMB_ROLE_ROUTER && !d->n_ablations && !d->replay.there,
       "--ablate none: the one part that differs is named (%s)", err.message);
    tmb_diagnosis_free(d);
    job_close(&j);
}

int main(void)
{
    if (!mkdtemp(folder) || !write_ids()) return 99;
    planted();
    foreign();
    router_line();
    if (getenv("TOMBAC_LONG")) both_named();
    without_runs();
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command) ? 99 : done();
}
