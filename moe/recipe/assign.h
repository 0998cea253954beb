/* assign.h - rules x inventory: which rule decides about each unit, and what is wrong with that.
 *
 * First match wins.  A glob is matched against the unit's name and, for stacked experts, also
 * against the name on disk.  A kept unit (protected role, MTP, vision, unknown, or flagged by
 * the architecture) is moved only by a rule that names its role; tensors that are no Linear are
 * always kept.  A format that cannot take a unit (in % 16) keeps it, with a note, when a glob
 * with '*' decided, and is an error when the rule names the unit exactly or by role.
 *
 * Errors (TMB_EUSAGE, with FILE:LINE and remedy): a glob that matches nothing, with the nearest
 * name; a rule that an earlier one shadows completely; fused Linears with different formats; the
 * experts of one layer with different formats. */
#ifndef TMB_RECIPE_ASSIGN_H
#define TMB_RECIPE_ASSIGN_H

#include "moe/model/model.h"
#include "moe/recipe/recipe.h"

typedef struct tmb_choice {
    const tmb_spec
        *spec;       /* spec->format NULL: keep as it is (or decode a quantized source to BF16) */
    int32_t rule;    /* index into recipe->rules; -1: none, kept by default */
    const char *why; /* when kept against a rule: the reason; else NULL */
} tmb_choice;

typedef struct tmb_assignment {
    tmb_choice *choices;   /* [model->n_units] */
    uint32_t *matched;     /* [recipe->n_rules]: units each rule decided */
    const char **warnings; /* one sentence each, with FILE:LINE where a rule is the cause */
    uint32_t n_warnings;
    tmb_arena arena;
} tmb_assignment;

tmb_status tmb_assign(tmb_assignment **out, const tmb_model *model, const tmb_recipe *recipe,
                      tmb_err *err) TMB_CHECKED;
void tmb_assignment_close(tmb_assignment *assignment);

/* The complete recipe that gives the same result on this model with every default written out.
 * malloc'ed, the caller's. */
tmb_status tmb_recipe_resolved(char **text, const tmb_recipe *recipe, const char *layout,
                               uint64_t shard_size, tmb_err *err) TMB_CHECKED;

#endif
