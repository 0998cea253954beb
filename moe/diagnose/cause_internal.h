/* cause_internal.h - the steps of finding causes, in the order tmb_causes_find() takes them. */
#ifndef TMB_DIAGNOSE_CAUSE_INTERNAL_H
#define TMB_DIAGNOSE_CAUSE_INTERNAL_H

#include "moe/diagnose/cause.h"
#include "moe/diagnose/screen.h"

/* Something that is run alone, and perhaps restored: a part in all layers, in one, or one expert.
 */
typedef struct tmb_suspect {
    tmb_mix_part part;
    int layer, expert;   /* -1: all */
    bool outlier;        /* of a layer or an expert: far from its peers */
    bool whole;          /* everything that differs is this: alone is the other, restored the
                            reference */
    int alone, restored; /* index into runs; -1: not run */
} tmb_suspect;

/* What a mixture did. */
typedef struct tmb_cause_run {
    tmb_mix mix;
    char name[48];
    bool local;        /* also layer by layer on the reference's input */
    tmb_scores scores; /* memory NULL: not run */
} tmb_cause_run;

enum { TMB_VERDICT_LINES = 16, TMB_SUSPECTS = 64, TMB_CAUSE_RUNS = 2 * TMB_SUSPECTS + 4 };

typedef struct tmb_inquest {
    tmb_diagnosis *d; /* NULL: somebody else keeps it */
    const tmb_cause_options *options;
    tmb_data some; /* a view of the data: the sequences that are run */
    tmb_boot boot; /* of them */
    tmb_mixer mixer;
    tmb_screen screen;
    tmb_suspect suspects[TMB_SUSPECTS];
    size_t n_suspects;
    tmb_cause_run *runs; /* [n_runs] runs[0] is the other itself */
    size_t n_runs;
    int replay[2]; /* runs of reference weights and other routes, of the reverse; -1 */
} tmb_inquest;

/* suspects.c: from the screen, what to run. */
tmb_status tmb_cause_suspect(tmb_inquest *q, tmb_err *err) TMB_CHECKED;
/* ablate.c: run it; fill ablations, replay and sensitivities. */
tmb_status tmb_cause_ablate(tmb_inquest *q, tmb_err *err) TMB_CHECKED;
/* rank.c: fill verdict.scales and harmless. */
tmb_status tmb_cause_rank(tmb_inquest *q, tmb_err *err) TMB_CHECKED;
/* words.c, advice.c: the texts of causes, verdict.lines, advice. */
tmb_status tmb_cause_words(tmb_inquest *q, tmb_err *err) TMB_CHECKED;
tmb_status tmb_cause_advise(tmb_inquest *q, tmb_err *err) TMB_CHECKED;
/* What the advised figures are, behind the other lines. */
tmb_status tmb_cause_say_advised(tmb_diagnosis *d, tmb_err *err) TMB_CHECKED;

/* Layers in which a part differs in its effect, ascending, into list [layers]; returns how many.
 * Of parts outside of layers 0. */
int tmb_cause_layers(const tmb_inquest *q, tmb_mix_part part, int *list);

#endif
