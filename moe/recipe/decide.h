/* decide.h - rules x inventory while it is worked out; internal to moe/recipe.
 *
 * assign.c finds the rule of every unit, settle.c what that rule can do to it and what its fused
 * partners make of that, warn.c says what is odd about the result, hint.c what a glob that
 * matches nothing may have meant. */
#ifndef TMB_RECIPE_DECIDE_H
#define TMB_RECIPE_DECIDE_H

#include "moe/recipe/assign.h"

/* A rule's left side with the literal ends of its glob measured, so that most names need no
 * backtracking. */
typedef struct tmb_left {
    const char *glob;
    size_t n, prefix, suffix;
    const char *inner; /* of "*inner*" without further wildcards; else NULL */
    size_t inner_n;
    bool exact; /* no wildcard at all */
    bool any;   /* "*" */
    bool by_role;
    tmb_role role;
} tmb_left;

/* Why units stay as they are although a rule says otherwise, or are moved although they should
 * not be.  One row for each rule and reason. */
typedef enum tmb_reason {
    TMB_REASON_KEPT,     /* protected, MTP, vision …: what a glob leaves alone */
    TMB_REASON_COLUMNS,  /* the format wants another multiple of columns */
    TMB_REASON_ABSORBED, /* engines multiply kv_b_proj into others at load: no 4-bit format */
    TMB_REASON_PARTNER,  /* a Linear fused with it stays as it is */
    TMB_REASON_MOVED,    /* quantized by name though normally kept */
    TMB_REASONS
} tmb_reason;

typedef struct tmb_tally {
    uint32_t n, first; /* units, and the first of them */
} tmb_tally;

typedef struct tmb_decider {
    const tmb_model *model;
    const tmb_recipe *recipe;
    tmb_assignment *a;
    tmb_left *left;                  /* [n_rules] */
    tmb_tally (*tally)[TMB_REASONS]; /* [n_rules] */
    tmb_err *err;
} tmb_decider;

tmb_left tmb_left_of(const tmb_rule *rule);
bool tmb_left_matches(const tmb_left *left, const tmb_unit *unit);

void tmb_decider_count(tmb_decider *d, uint32_t unit, tmb_reason reason);
/* TMB_EUSAGE, "PATH:LINE: what; remedy". */
tmb_status tmb_decider_fail(tmb_decider *d, int32_t rule, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Every choice as it will be done.  Units of a rule that names them exactly, or by role, which
 * the format cannot take, and groups left with two formats, are errors. */
tmb_status tmb_settle(tmb_decider *d);
tmb_status tmb_warn(tmb_decider *d);
/* The error of a glob that matches no unit. */
tmb_status tmb_hint(tmb_decider *d, int32_t rule);

#endif
