/* draft.h - a recipe while it is being read; internal to moe/recipe.
 *
 * The way of a line: lines.c looks at it before inih does and refuses what inih would cut,
 * join or misread; inih splits NAME = VALUE and drops comments; sections.c says what the name
 * means; when the file is at its end, spec.c turns format names into specs. */
#ifndef TMB_RECIPE_DRAFT_H
#define TMB_RECIPE_DRAFT_H

#include "moe/recipe/recipe.h"

/* inih keeps 200 bytes of a line, its newline and the final NUL among them. */
enum { TMB_RECIPE_LINE_MAX = 198 };

/* The order of the table in sections.c. */
typedef enum tmb_section {
    TMB_SECTION_RECIPE,
    TMB_SECTION_RULES,
    TMB_SECTION_FORMAT,
    TMB_SECTION_KV_CACHE,
    TMB_SECTION_OUTPUT,
    TMB_SECTION_CALIBRATION,
    TMB_SECTIONS,
    TMB_SECTION_NONE = TMB_SECTIONS
} tmb_section;

/* A word of the file and where it stands. */
typedef struct tmb_word {
    const char *text; /* NULL: not given */
    int line;
} tmb_word;

/* [format NAME] before its base is known to exist. */
typedef struct tmb_variant {
    tmb_word name, base, scale;
    struct tmb_variant *next;
} tmb_variant;

/* A rule before its format is known to exist. */
typedef struct tmb_raw_rule {
    tmb_word left, format;
    struct tmb_raw_rule *next;
} tmb_raw_rule;

typedef struct tmb_draft {
    tmb_recipe *recipe;
    int line; /* being read, from 1 */
    tmb_section section;
    int opened[TMB_SECTIONS]; /* line of the section's header, 0: not there */
    int given[24];            /* line of each key of the open section, by its place in the table */
    tmb_word version;
    tmb_raw_rule *rules, **rules_end;
    tmb_variant *variants, **variants_end;
    tmb_variant *variant; /* the open one */
    tmb_status status;    /* of the first failure; nothing is read after it */
    tmb_err *err;
} tmb_draft;

/* What a line is; *name and *n: the section's name. */
typedef enum tmb_line_kind {
    TMB_LINE_BLANK, /* or a comment */
    TMB_LINE_SECTION,
    TMB_LINE_PAIR,
    TMB_LINE_BAD, /* draft->status says why */
} tmb_line_kind;
tmb_line_kind tmb_recipe_line(tmb_draft *draft, const char *line, size_t n, const char **name,
                              size_t *name_n);

/* The whole file is text: UTF-8 without NUL.  *start: behind a byte order mark. */
tmb_status tmb_recipe_text(const char *text, size_t n, const char *path, size_t *start,
                           tmb_err *err) TMB_CHECKED;

tmb_status tmb_draft_section(tmb_draft *draft, const char *name, size_t n);
tmb_status tmb_draft_value(tmb_draft *draft, const char *name, const char *value);
tmb_status tmb_draft_finish(tmb_draft *draft);
bool tmb_section_known(const char *name, size_t n);

/* [calibration]: what stands when nothing is said, and each key.  name: behind "source.". */
void tmb_calibration_defaults(tmb_calibration *calibration);
tmb_status tmb_draft_samples(tmb_draft *draft, const char *value);
tmb_status tmb_draft_length(tmb_draft *draft, const char *value);
tmb_status tmb_draft_seed(tmb_draft *draft, const char *value);
tmb_status tmb_draft_fit(tmb_draft *draft, const char *value);
tmb_status tmb_draft_max_samples(tmb_draft *draft, const char *value);
tmb_status tmb_draft_min_tokens(tmb_draft *draft, const char *value);
tmb_status tmb_draft_starved(tmb_draft *draft, const char *value);
tmb_status tmb_draft_hessian(tmb_draft *draft, const char *value);
tmb_status tmb_draft_act_scale(tmb_draft *draft, const char *value);
tmb_status tmb_draft_source(tmb_draft *draft, const char *name, const char *value);

/* recipe->specs and the specs of recipe->rules, from the draft. */
tmb_status tmb_draft_specs(tmb_draft *draft);
tmb_status tmb_draft_rules(tmb_draft *draft);

/* draft->status = TMB_EUSAGE and "PATH:LINE: what; remedy". */
tmb_status tmb_draft_fail(tmb_draft *draft, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
tmb_status tmb_draft_memory(tmb_draft *draft);

/* "did you mean 'fp8'? (bf16, fp8, nvfp4)", or "use one of bf16, fp8"; in buffer, returned. */
const char *tmb_recipe_meant(char *buffer, size_t size, const char *word, const char *const *words,
                             size_t n);

/* Path of the shipped recipe `name` (with or without .ini) in the arena; NULL when there is none.
 */
const char *tmb_recipe_find(const char *name, const char *const *folders, tmb_arena *arena);

#endif
