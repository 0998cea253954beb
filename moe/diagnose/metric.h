/* metric.h - the list of everything diagnose measures: names, units, definitions.
 *
 * One list serves report.json, the gate, diff, the terminal and the page; doc/diagnose.md has the
 * same definitions with their formulas.  Reference is the model of REF, other the one of QUANT; a
 * position is one token of one sequence in one layer.  Sets are of the top-k experts.
 *
 * A value is a mean over positions (or what "about" says) and its interval the 2.5 and 97.5 per
 * cent points of a bootstrap over sequences.  "Overall" of a metric of layers is the mean over the
 * sparse layers (TMB_OVER_MEAN), that of the last decoder layer (TMB_OVER_LAST), or the sum
 * (TMB_OVER_SUM); metrics of the output have no layers. */
#ifndef TMB_DIAGNOSE_METRIC_H
#define TMB_DIAGNOSE_METRIC_H

#include <stdbool.h>

typedef enum tmb_metric {
    /* --- routing, per sparse layer --- */
    TMB_M_SET_MATCH,  /* share: the same k experts */
    TMB_M_JACCARD,    /* mean |A n B| / |A u B| */
    TMB_M_TOP1_MATCH, /* share: the same expert has the largest weight (level ones: first index) */
    TMB_M_ORDER_CHANGE, /* share: same set, another order of weights */
    TMB_M_CHANGED,      /* experts: mean of k - |A n B|, gained and lost alike */
    TMB_M_GATE_TV,     /* sum |g - h| / sum (g + h), g and h the weights of all experts, 0 where not
                          chosen: total variation when both sum to the same */
    TMB_M_GATE_LOST,   /* share of the reference's weight on experts the other did not choose */
    TMB_M_ROUTER_KL,   /* nats: KL of softmax(reference logits) from softmax(other's) */
    TMB_M_ROUTER_COS,  /* cosine of the two logit vectors */
    TMB_M_TOPK_MSE,    /* logits^2: mean of (other - reference)^2 over the reference's k experts
                          (QESC, arXiv 2508.01625) */
    TMB_M_LOGIT_ERROR, /* ||other - reference|| / ||reference|| of logits, each centred over
                          experts, sums over positions */
    TMB_M_COMMON_MODE, /* share of the squared change of the logits that is the same for all experts
                        */
    TMB_M_GROUP_MATCH, /* share: the same groups allowed; NaN where the router has no groups */
    TMB_M_MARGIN_REF,  /* mean margin at the boundary, in what is compared (tmb_margin_space) */
    TMB_M_MARGIN_OTHER, /* of the other */
    TMB_M_TIES,         /* share: reference margin under one bf16 step of what is compared */
    TMB_M_EXACT_TIES,   /* share: reference margin exactly 0 */
    TMB_M_TIE_FLIPS,    /* share: the set differs, and the margin was under one bf16 step */
    TMB_M_NOISE_FLIPS,  /* share: differs at a margin above that, yet under the noise's
                           (noise_margin) */
    TMB_M_REAL_FLIPS,   /* share: the rest of 1 - set_match */
    TMB_M_NOISE_MATCH,  /* set match of the reference with its own rerun (tmb_diag_noise) */
    TMB_M_DRIFT,        /* (1 - set_match) / (1 - noise_match), times; inf when only noise is 0, 0
                           when both are */
    TMB_M_LOCAL_ROUTER, /* set match: the other's router on the reference's exact router input */
    TMB_M_LOCAL_LAYER,  /* set match: the other's layer (attention and router) on the reference's
                           exact layer input */
    /* --- load, per sparse layer --- */
    TMB_M_LOAD_KL,     /* nats: KL of the reference's load from the other's, each with 1/2 added a
                          expert */
    TMB_M_LOAD_CV_REF, /* standard deviation / mean of tokens an expert */
    TMB_M_LOAD_CV,     /* of the other */
    TMB_M_GINI_REF,    /* Gini coefficient of tokens an expert, 0 … 1 */
    TMB_M_GINI,
    TMB_M_MAXVIO_REF, /* largest load / mean - 1 */
    TMB_M_MAXVIO,
    TMB_M_DEAD_REF, /* experts: without a single token; overall the sum */
    TMB_M_DEAD,
    TMB_M_OVERLOADED_REF, /* experts: more than twice the mean; overall the sum */
    TMB_M_OVERLOADED,
    TMB_M_EP_REF, /* largest / mean load of ep_ranks equal runs of experts; 1 is level */
    TMB_M_EP,
    /* --- values, per decoder layer, dense ones too --- */
    TMB_M_HIDDEN_ERROR, /* ||other - reference|| / ||reference|| of hidden states behind the layer,
                           sums over positions; overall that of the last layer */
    TMB_M_LOCAL_ERROR,  /* the same, with the reference's input given to the other's layer; overall
                           the mean */
    /* --- output, no layers --- */
    TMB_M_KL,        /* nats a scored position: mean KL of the reference's next-token distribution
                        from the other's */
    TMB_M_SAME_TOP1, /* share: both name the same id first */
    TMB_M_PPL_REF,   /* perplexity = exp(mean -ln p of the next id) */
    TMB_M_PPL,
    TMB_M_BITS_REF, /* mean -log2 p of the next id */
    TMB_M_BITS,
    TMB_M_NOISE_KL, /* as kl, of the reference's rerun */
    TMB_METRICS
} tmb_metric;

/* First metrics of each kind; the last has TMB_METRICS behind it. */
enum {
    TMB_M_LOAD = TMB_M_LOAD_KL,
    TMB_M_VALUES = TMB_M_HIDDEN_ERROR,
    TMB_M_OUTPUT = TMB_M_KL,
};

typedef enum tmb_metric_over {
    TMB_OVER_MEAN,
    TMB_OVER_LAST,
    TMB_OVER_SUM,
    TMB_OVER_NONE
} tmb_metric_over;

/* Which way is worse: for colours, for diff. */
typedef enum tmb_metric_worse { TMB_WORSE_LOW, TMB_WORSE_HIGH, TMB_WORSE_NEITHER } tmb_metric_worse;

typedef struct tmb_metric_info {
    const char *name;  /* "set_match": in report.json, --gate and routing.h5 */
    const char *title; /* "set match": for people */
    const char *unit;  /* "share", "nats", "experts", "", … */
    const char *about; /* one sentence */
    tmb_metric_over over;
    tmb_metric_worse worse;
    bool counts_all; /* also measured in layers without a router */
} tmb_metric_info;

const tmb_metric_info *tmb_metric_of(tmb_metric m);
/* By name; false when there is none. */
bool tmb_metric_find(const char *name, tmb_metric *out);

#endif
