/* recipe.h - a recipe as written: an INI file read with inih (recipe.c is its only user).
 *
 *   [recipe]      version, description
 *   [rules]       glob or @role = format, the first that matches decides
 *   [format NAME] base, scale = max|mse|hessian  a variant that rules can name
 *   [kv_cache]    format = fp8|none
 *   [output]      layout = modelopt|compressed-tensors, shard_size
 *   [calibration] source.NAME = path, weight; samples, max_samples, length, seed, fit = pack|pad;
 *                 min_tokens, starved = shadow|peers|fail, hessian = block16|none,
 *                 act_scale = max|headroom
 *
 * Unknown sections and keys, keys given twice, lines inih would cut: errors with FILE:LINE, the
 * nearest word, and the remedy.  Sections of later jobs ([search], [target]) are
 * refused by name until those jobs exist. */
#ifndef TMB_RECIPE_RECIPE_H
#define TMB_RECIPE_RECIPE_H

#include "kernels/base/err.h"
#include "kernels/base/mem.h"
#include "moe/format/format.h"
#include "moe/io/files.h"
#include "moe/model/role.h"
#include "moe/tokens/source.h"

#include <stdbool.h>
#include <stdint.h>

/* What a rule asks for: a built-in format or a variant of one.  format NULL: keep ("bf16"). */
typedef struct tmb_spec {
    const char *name; /* "nvfp4", or the variant's name */
    const tmb_format *format;
    tmb_scale_rule scale;
    int line;       /* where the variant was defined; 0 for a built-in */
    int scale_line; /* of its scale; 0: not said */
} tmb_spec;

typedef struct tmb_rule {
    const char *left; /* as written: "*experts*", "@router" */
    bool by_role;
    tmb_role role;
    const tmb_spec *spec;
    int line;
} tmb_rule;

/* What becomes of experts that saw fewer than min_tokens tokens. */
typedef enum tmb_starved_policy {
    TMB_STARVED_SHADOW, /* they are shown all tokens; then the ladder (moe/calib/coverage.h) */
    TMB_STARVED_PEERS,  /* the ladder alone */
    TMB_STARVED_FAIL,   /* calibrate ends with an error */
} tmb_starved_policy;

/* What to calibrate with: defaults where the recipe says nothing. */
typedef struct tmb_calibration {
    int line;             /* of [calibration], 0: not there */
    tmb_source *sources;  /* [n_sources], paths relative to the working directory */
    const char **written; /* [n_sources], "path, weight" as written */
    size_t n_sources;
    uint64_t samples;     /* sequences */
    uint64_t max_samples; /* that may be taken while experts are starved; samples unless said */
    uint32_t length;      /* tokens of each */
    tmb_fit fit;
    uint64_t seed;
    uint64_t min_tokens; /* that an expert should see; 0: no gate */
    tmb_starved_policy starved;
    bool moments;  /* hessian = block16 */
    bool headroom; /* act_scale: of NVFP4 inputs (moe/calib/scales.h) */
} tmb_calibration;

typedef struct tmb_recipe {
    const char *path; /* file, or the shipped recipe's path */
    const char *name; /* "nvfp4-experts": base name without .ini */
    const char *description;
    const char *text; /* the file, whole */
    char sha256[TMB_SHA256_HEX];
    tmb_rule *rules;
    int n_rules;
    tmb_spec *specs; /* built-ins and variants */
    int n_specs;
    bool kv_fp8;
    int kv_line;
    const char *layout;  /* "modelopt" unless said */
    int layout_line;     /* 0: the default */
    uint64_t shard_size; /* 0: not said */
    tmb_calibration calibration;
    tmb_arena arena;
} tmb_recipe;

/* where: a file, or the name of a shipped recipe, looked for in the NULL-terminated folders. */
tmb_status tmb_recipe_load(tmb_recipe **out, const char *where, const char *const *folders,
                           tmb_err *err) TMB_CHECKED;
/* From text [n] that messages call `path`. */
tmb_status tmb_recipe_parse(tmb_recipe **out, const char *text, size_t n, const char *path,
                            tmb_err *err) TMB_CHECKED;
void tmb_recipe_close(tmb_recipe *recipe);

/* Names of the shipped recipes, sorted, NULL-terminated, in the arena; NULL without memory. */
const char **tmb_recipe_shipped(const char *const *folders, tmb_arena *arena);

/* "5G", "512M", "16GiB", "1000000": powers of 1024. */
bool tmb_size_parse(const char *text, uint64_t *bytes);

#endif
