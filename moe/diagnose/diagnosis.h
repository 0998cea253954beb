/* diagnosis.h - everything one diagnosis found: what run, cause, gate and diff fill in, and what
 * report.json, routing.h5, the terminal and the page are made from.
 *
 * Reference is the model of REF, other the one of QUANT (a checkpoint, or REF under a recipe on the
 * fly).  All arrays and texts are in the diagnosis' arena and given back with it.  Texts are UTF-8;
 * NULL where told.  Nothing in it depends on time, paths given relative or absolute, threads or
 * ranks, but manifest.ran, which report.json leaves out.
 *
 * A number that has no value is NaN: a metric of a layer without a router, an interval from one
 * sequence (value is there, lo and hi are NaN), a rerun that was not asked for. */
#ifndef TMB_DIAGNOSE_DIAGNOSIS_H
#define TMB_DIAGNOSE_DIAGNOSIS_H

#include "kernels/base/err.h"
#include "kernels/base/mem.h"
#include "moe/diagnose/metric.h"
#include "moe/model/role.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A number with its 95 % interval from a bootstrap over sequences. */
typedef struct tmb_interval {
    double value, lo, hi;
} tmb_interval;

/* --- what was run ----------------------------------------------------------------------------- */

typedef struct tmb_diag_model {
    const char *path;        /* last component of the path as given */
    const char *fingerprint; /* SHA-256, hex (moe/model/fingerprint.h) */
    const char *arch;        /* model_type */
    const char *formats; /* "nvfp4 96, fp8 24, bf16 6 Linears", as stored or as the recipe says */
} tmb_diag_model;

typedef struct tmb_diag_manifest {
    const char *version; /* of tombac */
    tmb_diag_model ref, other;
    const char *recipe_path; /* of --recipe; NULL: the other is a checkpoint */
    const char *recipe_text; /* whole; of a checkpoint the one kept in its tombac.json; NULL */
    const char *recipe_sha256;
    const char *stats_sha256; /* content digest of --stats; NULL */
    const char *data_sha256;  /* of the ids and their cutting (moe/tokens/data.h) */
    const char **sources;     /* [n_sources] "NAME=FILE" without folders */
    size_t n_sources;
    uint64_t sequences, tokens, scored; /* scored: all but each sequence's first */
    uint64_t seed;                      /* of the bootstrap */
    uint32_t replicates;                /* of the bootstrap */
    uint32_t ep_ranks;                  /* of the expert-parallel metrics */
    const char *ran; /* "2 ranks, 4 threads, avx2, 12.3 s": for the page alone; NULL */
} tmb_diag_manifest;

/* --- routing and values ------------------------------------------------------------------------
 */

/* Margins lie in bins of a quarter of an octave.  Bin 0: exactly 0.  Bin i of 1 …
 * TMB_MARGIN_BINS-1: margins from 2^((i - 1)/4 - 16) up to 2^(i/4 - 16); the first and last also
 * take what is below and above. */
enum { TMB_MARGIN_BINS = 98 };
/* Lower edge of a bin; 0 for bins 0 and 1. */
double tmb_margin_edge(size_t bin);
size_t tmb_margin_bin(double margin);

/* What margins are differences of. */
typedef enum tmb_margin_space {
    TMB_MARGIN_LOGIT,  /* router logits: softmax routers choose by them */
    TMB_MARGIN_CHOICE, /* sigmoid score plus correction, groups limited */
} tmb_margin_space;

typedef struct tmb_margins {
    uint64_t ref[TMB_MARGIN_BINS];      /* positions by the reference's margin */
    uint64_t other[TMB_MARGIN_BINS];    /* positions by the other's margin */
    uint64_t flips[TMB_MARGIN_BINS];    /* positions whose set differs, by the reference's margin */
    uint64_t local[TMB_MARGIN_BINS];    /* flips of local_router, by the reference's margin */
    uint64_t noise[TMB_MARGIN_BINS];    /* flips of the rerun, by the reference's margin */
    uint64_t noise_of[TMB_MARGIN_BINS]; /* positions that were rerun, by the reference's margin */
} tmb_margins;

typedef struct tmb_diag_expert {
    uint64_t ref, other;         /* tokens sent to it */
    uint64_t gained, lost;       /* tokens that only the other, only the reference sends; other =
                                    ref + gained - lost */
    double ref_mass, other_mass; /* sum of weights */
    double weight_error; /* ||W_other - W_ref|| / ||W_ref|| of gate, up and down together; NaN: not
                            measured (filled by the sensitivity table of causes) */
} tmb_diag_expert;

typedef struct tmb_diag_layer {
    int layer;
    bool sparse;                       /* has a router */
    tmb_interval metrics[TMB_METRICS]; /* NaN where it does not apply */
    tmb_margins *margins;              /* NULL unless sparse */
    tmb_diag_expert *experts;          /* [n_experts]; NULL unless sparse */
    size_t n_experts, top_k;
    tmb_margin_space space;
    double noise_margin; /* in margin space: 99 % of the margins moved less in the rerun; NaN */
} tmb_diag_layer;

/* How the noise floor was made. */
typedef struct tmb_diag_noise {
    const char *what;           /* a sentence: "every operation rounded to BF16, sums …" */
    uint64_t sequences, tokens; /* that were rerun: the first of the data; 0: none */
    tmb_interval set_match, kl; /* over all layers; also in overall */
} tmb_diag_noise;

/* --- causes (filled by moe/diagnose/cause*.c) ---------------------------------------------------
 */

typedef enum tmb_scale { TMB_SCALE_ROUTING, TMB_SCALE_OUTPUT, TMB_SCALES } tmb_scale;

/* A cause, ranked by effect on its scale.  Only what exceeds the noise floor is listed. */
typedef struct tmb_cause {
    const char
        *cause;        /* a stable word: "router-format", "attention-format", "expert-format",
                          "kv-cache", "poisoned-expert", "dead-expert", "ties", … (doc/diagnose.md) */
    tmb_role role;     /* TMB_ROLES: none in particular */
    const int *layers; /* [n_layers] where it is, most affected first; n 0: all alike */
    size_t n_layers;
    const int *experts; /* [n_experts] of layers[0]; n 0: none stands out */
    size_t n_experts;
    const char *recipe_line; /* "router = nvfp4", as written, that decides; NULL: none does */
    int recipe_line_number;  /* 0: none */
    double effect, ci95[2];  /* routing: share of expert sets changed; output: nats of final KL; of
                                this cause alone */
    double restored,
        restored_ci95[2];     /* the same scale: what is won when it alone is restored; NaN */
    const char *text;         /* a plain sentence for people */
    bool level_with_previous; /* the interval overlaps that of the cause above it: no order */
} tmb_cause;

typedef struct tmb_causes {
    tmb_cause *list; /* [n], the largest effect first */
    size_t n;
} tmb_causes;

/* One component quantized alone (alone true), or all but it (false: it is restored). */
typedef struct tmb_ablation {
    const char *component; /* "router", "attention", "kv_cache", "shared_expert", "expert",
                              "dense_mlp", "lm_head", "all" */
    tmb_role role;         /* TMB_ROLES for kv_cache and all */
    bool alone;
    int layer; /* -1: in all layers */
    tmb_interval set_match, kl, hidden_error;
    double *layer_set_match; /* [n_layers] NaN for dense layers; NULL: not kept */
} tmb_ablation;

/* Weights of the row, routes of the column (EAC-MoE, arXiv 2508.01625): final KL against
 * reference/reference. */
typedef struct tmb_replay {
    bool there;
    tmb_interval kl[2][2];                      /* [weights: ref, other][routes: ref, other] */
    tmb_interval value, selection, interaction; /* kl[1][0]; kl[0][1]; kl[1][1] - both */
} tmb_replay;

/* One layer's change of router logits: (W+dW)(x+dx) - Wx = W dx + dW x + dW dx; shares of the
 * squared change of centred logits, so that they and the cross term sum to 1. */
typedef struct tmb_split {
    int layer;
    double input, weight, both, cross; /* ||W dx||^2, ||dW x||^2, ||dW dx||^2, the rest / total */
    double total;                      /* mean square of the change, logits^2 */
} tmb_split;

/* What a part of one layer does on exact inputs. */
typedef struct tmb_sensitivity {
    int layer, expert; /* expert -1: the whole part */
    const char *component;
    tmb_interval set_match; /* of this layer's router */
    double error;           /* relative error of the layer's output */
    bool stands_out;        /* far from its peers (doc/diagnose.md) */
} tmb_sensitivity;

/* A difference that changes nothing, told apart from damage. */
typedef struct tmb_harmless {
    const char *kind; /* "equal-function", "common-mode", "exact-ties" */
    int layer;        /* -1: all */
    double share;     /* of the layer's change, or of its flips */
    const char *text;
} tmb_harmless;

typedef struct tmb_verdict {
    const char **lines; /* [n_lines] plain sentences, the most important first */
    size_t n_lines;
    tmb_causes scales[TMB_SCALES];
    const char *advice;      /* text of a changed recipe; NULL: nothing to advise */
    const char *advice_line; /* the line in it that changed most: "@router = bf16" */
    /* --apply-advice: the same figures under the advised recipe; NaN when it was not run. */
    tmb_interval advised_set_match, advised_kl;
} tmb_verdict;

/* --- all of it ---------------------------------------------------------------------------------
 */

typedef struct tmb_diagnosis {
    tmb_diag_manifest manifest;
    tmb_diag_layer *layers; /* [n_layers] every decoder layer */
    size_t n_layers, n_sparse;
    tmb_interval overall[TMB_METRICS];
    tmb_margins margins; /* of all sparse layers together */
    tmb_diag_noise noise;
    bool identical; /* every hidden state, route and logit was equal to the bit */

    tmb_verdict verdict;
    tmb_ablation *ablations; /* [n_ablations] */
    size_t n_ablations;
    tmb_replay replay;
    tmb_split *splits; /* [n_splits] sparse layers */
    size_t n_splits;
    tmb_sensitivity *sensitivities;
    size_t n_sensitivities;
    tmb_harmless *harmless;
    size_t n_harmless;

    tmb_arena arena;
} tmb_diagnosis;

/* Zeroed, every interval NaN, `layers` layers without routers.  NULL without memory. */
tmb_diagnosis *tmb_diagnosis_new(size_t layers);
/* Make layer l sparse. TMB_ESYSTEM without memory. */
tmb_status tmb_diagnosis_sparse(tmb_diagnosis *d, size_t l, size_t n_experts, size_t top_k,
                                tmb_err *err) TMB_CHECKED;
void tmb_diagnosis_free(tmb_diagnosis *d);

static inline tmb_interval tmb_interval_none(void)
{
    return (tmb_interval){__builtin_nan(""), __builtin_nan(""), __builtin_nan("")};
}

#endif
