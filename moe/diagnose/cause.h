/* cause.h - why a model drifted: what differs, what each part of it does alone and when it alone is
 * restored, and what that says in words and in recipe lines.
 *
 * Steps, each in a file of its own: compare weights and roundings (screen.h); run mixtures of the
 * two sides over some of the sequences (ablate.c); split the change of router logits (split.c);
 * rank causes on both scales (rank.c); say it (words.c) and change the recipe (advice.c).  What the
 * words mean and how a cause earns its place: doc/diagnose.md. */
#ifndef TMB_DIAGNOSE_CAUSE_H
#define TMB_DIAGNOSE_CAUSE_H

#include "moe/diagnose/run.h"
#include "moe/recipe/assign.h"

/* How much is run. */
typedef enum tmb_cause_depth {
    TMB_CAUSE_NONE,   /* nothing: weights are compared, and what the diagnosis measured is read */
    TMB_CAUSE_ROLES,  /* each part that differs alone, and each restored; routes replayed */
    TMB_CAUSE_LAYERS, /* also each part that matters, layer by layer */
} tmb_cause_depth;

typedef struct tmb_cause_options {
    tmb_cause_depth depth;
    uint64_t tokens; /* of the data that mixtures run over, in whole sequences drawn from all; at
                        least one; 0: 8192 */
    tmb_run_options run;
    uint64_t seed;       /* of the bootstrap */
    uint32_t replicates; /* 0: TMB_BOOT_REPLICATES */
    /* The recipe that made the other, on the reference's model; NULL, NULL: none is known. */
    const tmb_recipe *recipe;
    const tmb_assignment *assignment;
} tmb_cause_options;

/* Fill verdict, ablations, replay, sensitivities, harmless and the experts' weight_error of
 * a diagnosis of the same two.  Collective as tmb_score(); where d is NULL (not rank 0) the runs
 * are taken part in and nothing is kept. */
tmb_status tmb_causes_find(tmb_diagnosis *d, const tmb_variant *ref, const tmb_variant *other,
                           const tmb_data *data, const tmb_cause_options *options,
                           tmb_err *err) TMB_CHECKED;

/* Run verdict.advice over all of the data and fill the advised_ figures; nothing without advice.  d
 * and its manifest's seed and replicates are filled.  like: layout and statistics of the plan;
 * NULL: as the recipe says, and inputs cast.  run: of this process alone. */
tmb_status tmb_causes_apply(tmb_diagnosis *d, const tmb_variant *ref, const tmb_data *data,
                            const tmb_plan_options *like, const tmb_run_options *run,
                            tmb_err *err) TMB_CHECKED;

#endif
