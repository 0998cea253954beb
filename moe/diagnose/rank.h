/* rank.h - candidates for the two lists of causes, between rank.c, nature.c and words.c. */
#ifndef TMB_DIAGNOSE_RANK_H
#define TMB_DIAGNOSE_RANK_H

#include "moe/diagnose/cause_internal.h"

enum { TMB_NAMED = 8 }; /* layers, experts that a cause names at most */

/* What was done to a part, as far as it can be told. */
typedef struct tmb_nature {
    const char *word;      /* "router-format", "dead-expert", … */
    const char *format;    /* the other's: "nvfp4"; NULL: none is known */
    bool disguised;        /* rounded to it, but stored as the reference stores it */
    bool norm;             /* its own numbers are the same; the norm in front of it is another */
    bool inputs_alone;     /* weights are the same, inputs are rounded */
    int layers[TMB_NAMED]; /* where it is, when not everywhere the part is */
    size_t n_layers;
    int experts[TMB_NAMED]; /* of layers[0] */
    size_t n_experts;
    double weight_error;   /* of the weights that differ */
    int line;              /* of the recipe; 0: none */
    const char *line_text; /* "@router = nvfp4"; NULL */
} tmb_nature;

tmb_status tmb_cause_nature(tmb_inquest *q, const tmb_suspect *s, tmb_nature *out,
                            tmb_err *err) TMB_CHECKED;

/* Effect of a suspect alone, or of everything but it, on a scale: share of sets changed, nats. */
tmb_interval tmb_cause_effect(const tmb_inquest *q, const tmb_suspect *s, tmb_scale scale);
tmb_interval tmb_cause_restored(const tmb_inquest *q, const tmb_suspect *s, tmb_scale scale);
/* Whether it is more than the reference's own rerun shows: overall, or in some layer. */
bool tmb_cause_exceeds(const tmb_inquest *q, const tmb_suspect *s, tmb_scale scale);

/* A router's rows, an expert each. */
typedef struct tmb_router_rows {
    bool twins; /* two are the same numbers in the other and not in the reference: */
    int twin[2];
    size_t changed;     /* that differ, biases and corrections included */
    int row[TMB_NAMED]; /* the first of them */
} tmb_router_rows;
tmb_status tmb_router_look(const tmb_inquest *q, int layer, tmb_router_rows *out,
                           tmb_err *err) TMB_CHECKED;

/* Whether the interval of the i-th cause of a list reaches that of the first. */
bool tmb_cause_level(const tmb_causes *causes, size_t i);

/* The sentence of a difference whose effect stays below the noise on both scales. */
const char *tmb_cause_quiet(tmb_inquest *q, const tmb_suspect *s, const tmb_nature *n);
/* The sentence of a cause. */
const char *tmb_cause_sentence(tmb_inquest *q, const tmb_suspect *s, const tmb_nature *n,
                               tmb_scale scale, tmb_interval effect, tmb_interval restored);

#endif
